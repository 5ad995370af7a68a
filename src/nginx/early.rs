//! Early answers: a server that has no use for the rest of a request answers and closes. nginx then
//! fails to send, or finds a reset behind the answer, while the answer lies in the socket (RFC 9112,
//! 9.6, tells why): here it is read and passed on.
//!
//! A failed send shows for ever in `c->write->error`, which therefore is all the state there is.

use core::ffi::c_void;
use core::ptr;

use super::connection::{self, is_tls, Peek};
use super::cut;
use super::module::Handler;
use super::state::State;
use super::status::{AGAIN, ERROR, OK};
use super::sys::{
    ngx_buf_t, ngx_chain_t, ngx_chain_writer, ngx_chain_writer_ctx_t, ngx_connection_error,
    ngx_connection_log_error_e_NGX_ERROR_IGNORE_ECONNRESET as IGNORE_ECONNRESET,
    ngx_connection_log_error_e_NGX_ERROR_INFO as INFO, ngx_connection_t, ngx_http_request_t,
    ngx_int_t, ngx_io, ngx_socket_errno, off_t, NGX_LOG_INFO, NGX_LOG_NOTICE,
};

/// `u->output.output_filter`, with our state of the upstream for its context: `ngx_chain_writer`, which nginx
/// would put there. Where the server has closed its end and left an answer, what remains of the
/// request counts as sent, so that nginx goes on with reading; with nothing to read it is the error
/// that it is in nginx.
pub(super) unsafe extern "C" fn send<H: Handler>(
    data: *mut c_void,
    chain: *mut ngx_chain_t,
) -> ngx_int_t {
    // SAFETY: nginx calls with the context that `Upstream::wire` set, while the upstream has a
    // connection, and with buffers that are its own or the request's.
    unsafe {
        let u = (*data.cast::<State<'_, H>>()).upstream.as_ptr();
        let writer = &raw mut (*u).writer;
        let c = (*writer).connection;
        if flag!((*c).write, error) != 0 {
            discard(chain);
            return OK;
        }
        if cut::is_large(c, chain) {
            cut::watch::<H>(c);
        }
        let status = match is_tls(c) {
            // what it has to say of a failure would be lost
            true => send_chain(writer, chain),
            false => silently(c, || send_chain(writer, chain)),
        };
        if status != ERROR || flag!((*c).write, error) == 0 {
            return status;
        }
        let error = ngx_socket_errno();
        let closed = error == libc::EPIPE || error == libc::ECONNRESET;
        // when its head has gone to the client, the answer may have been read to its end
        let answered = closed && (flag!(u, header_sent) != 0 || connection::peek(c) == Peek::Data);
        let refused = closed && !answered && cut::answer_cut::<H>(c);
        if !is_tls(c) {
            let log_error = flag!(c, log_error);
            if answered || refused {
                flag!(c, log_error = INFO);
            }
            ngx_connection_error(c, error, c"writev() failed".as_ptr().cast_mut());
            flag!(c, log_error = log_error);
        }
        if !answered && !refused {
            return ERROR;
        }
        // in the writer's list or, where it was sent without, not
        discard(chain);
        discard((*writer).out);
        // else nginx would read a body that is in a file to its end
        (*u).output.in_ = ptr::null_mut();
        OK
    }
}

/// As `ngx_chain_writer`, which keeps a list of its own of what is to be sent. A request without a body
/// is one buffer and goes at once as a rule: that is tried first, and costs 100 instructions less.
///
/// # Safety
///
/// As for [`send`].
unsafe fn send_chain(
    writer: *mut ngx_chain_writer_ctx_t,
    mut chain: *mut ngx_chain_t,
) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        let c = (*writer).connection;
        let is_first = (*writer).out.is_null() && flag!(c, buffered) == 0;
        let is_single = chain.as_ref().is_some_and(|link| {
            link.next.is_null()
                && flag!(link.buf, temporary) != 0
                && (*link.buf).pos < (*link.buf).last
        });
        if let (true, true, Some(send)) = (is_first, is_single, (*c).send_chain) {
            chain = send(c, chain, (*writer).limit);
            if chain.is_null() {
                return if flag!(c, buffered) == 0 { OK } else { AGAIN };
            }
            // NGX_CHAIN_ERROR
            if chain.addr() == usize::MAX {
                return ERROR;
            }
        }
        ngx_chain_writer(writer.cast(), chain)
    }
}

/// Runs `write` while a connection that is reset or closed is nothing to log but for debugging: what it
/// means is known only after.
///
/// # Safety
///
/// `c` must be an open connection with a log.
unsafe fn silently(c: *mut ngx_connection_t, write: impl FnOnce() -> ngx_int_t) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        let (log_error, level) = (flag!(c, log_error), (*(*c).log).log_level);
        flag!(c, log_error = INFO);
        if level == NGX_LOG_INFO as usize {
            (*(*c).log).log_level = NGX_LOG_NOTICE as usize;
        }
        let status = write();
        flag!(c, log_error = log_error);
        (*(*c).log).log_level = level;
        status
    }
}

/// Makes nginx take buffers for sent, and use their memory again.
///
/// # Safety
///
/// `chain` must be null or valid, and nobody may be sending it.
unsafe fn discard(mut chain: *mut ngx_chain_t) {
    // SAFETY: the caller's promise.
    unsafe {
        while let Some(link) = chain.as_ref() {
            let b: *mut ngx_buf_t = link.buf;
            (*b).pos = (*b).last;
            (*b).file_pos = (*b).file_last;
            chain = link.next;
        }
    }
}

/// Watches for a reset while the rest of a response is read. `ENDS`: it is an end like any other, after
/// which the response may turn out to be incomplete; else it is an error, also where nginx would not
/// notice because the failed send has taken it from the socket.
///
/// # Safety
///
/// `c` must be the open connection of a request to its server; no other request may have it before
/// [`unwatch`].
pub(super) unsafe fn watch<const ENDS: bool>(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        // the end of a TLS connection is announced
        if !is_tls(c) {
            (*c).recv = Some(recv::<ENDS>);
            (*c).recv_chain = Some(recv_chain::<ENDS>);
        }
    }
}

/// Ends what [`watch`] began.
///
/// # Safety
///
/// `c` must be an open connection.
pub(super) unsafe fn unwatch(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise; nginx's own functions, which were set when it started.
    unsafe {
        if !is_tls(c) {
            (*c).recv = ngx_io.recv;
            (*c).recv_chain = ngx_io.recv_chain;
        }
    }
}

/// `c->recv`.
unsafe extern "C" fn recv<const ENDS: bool>(
    c: *mut ngx_connection_t,
    buffer: *mut u8,
    size: usize,
) -> isize {
    // SAFETY: nginx's own function, called as nginx calls us, on a connection that `watch` was
    // given; it was set when nginx started.
    unsafe { read::<ENDS>(c, || ngx_io.recv.map_or(ERROR, |recv| recv(c, buffer, size))) }
}

/// `c->recv_chain`.
unsafe extern "C" fn recv_chain<const ENDS: bool>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> isize {
    // SAFETY: as above.
    unsafe { read::<ENDS>(c, || ngx_io.recv_chain.map_or(ERROR, |recv| recv(c, chain, limit))) }
}

/// # Safety
///
/// `c` must be a connection that [`watch`] was given.
unsafe fn read<const ENDS: bool>(c: *mut ngx_connection_t, read: impl FnOnce() -> isize) -> isize {
    let failed = |error| {
        // SAFETY: an open connection.
        unsafe { ngx_connection_error(c, error, c"recv() failed".as_ptr().cast_mut()) }
    };
    // SAFETY: an open connection, whose data are the request.
    unsafe {
        let log_error = flag!(c, log_error);
        flag!(c, log_error = IGNORE_ECONNRESET);
        let count = read();
        flag!(c, log_error = log_error);
        let (read, write) = ((*c).read, (*c).write);
        match count {
            ERROR => failed(ngx_socket_errno()),
            // a reset that is ignored makes 0 as well, but no `eof`
            0 if flag!(read, eof) == 0 || flag!(write, error) != 0 => {
                flag!(read, eof = ENDS.into());
                if ENDS {
                    // who knows whether all of it has come
                    flag!((*(*c).data.cast::<ngx_http_request_t>()).upstream, cacheable = 0);
                    return 0;
                }
                flag!(read, error = 1);
                failed(libc::ECONNRESET)
            }
            _ => count,
        }
    }
}
