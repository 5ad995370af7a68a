//! Connections that their server closes before it has answered: the request may be at fault, and is
//! answered then, where nginx would blame the server and ask the next one.
//!
//! What is sent first decides whether a connection is watched; what is read first ends it.

use super::callbacks::{with_step, Next};
use super::connection::is_tls;
use super::module::Handler;
use super::request::go_on;
use super::status::{AGAIN, ERROR, INTERNAL_SERVER_ERROR};
use super::sys::{
    ngx_chain_t, ngx_connection_error,
    ngx_connection_log_error_e_NGX_ERROR_IGNORE_ECONNRESET as IGNORE_ECONNRESET, ngx_connection_t,
    ngx_http_request_t, ngx_http_upstream_t, ngx_io, ngx_post_event, ngx_posted_events,
};
use crate::pure::uwsgi::packet::HEADER_SIZE;
use crate::pure::vars_limit::{Cut, BUFFER_SIZE};

/// Is it the beginning of a request whose server may find its vars too large? The packet is the first
/// buffer of a request.
///
/// # Safety
///
/// `c` must be an open connection, and `chain` null or what is sent on it.
#[inline(always)]
pub(super) unsafe fn is_large(c: *const ngx_connection_t, chain: *const ngx_chain_t) -> bool {
    // SAFETY: the caller's promise; a chain has buffers.
    unsafe {
        (*c).sent == 0
            && chain.as_ref().is_some_and(|first| {
                let size = ((*first.buf).last as usize).wrapping_sub((*first.buf).pos as usize);
                size > BUFFER_SIZE + HEADER_SIZE
            })
    }
}

/// Looks at what is read first.
///
/// # Safety
///
/// `c` must be the open connection of a request to its server, on which nothing was sent of it.
#[cold]
pub(super) unsafe fn watch<H: Handler>(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise. What OpenSSL reads is no socket's.
    unsafe {
        if !is_tls(c) {
            (*c).recv = Some(recv::<H>);
        }
    }
}

/// The server has closed the connection while the request is sent: posts the event that answers it, where it
/// is to be answered for that. False where it is not.
///
/// # Safety
///
/// `c` must be the open connection of a request of this module to its server.
#[cold]
pub(super) unsafe fn answer_cut<H: Handler>(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller's promise: its data are the request.
    unsafe {
        let r = (*c).data.cast::<ngx_http_request_t>();
        if is_tls(c)
            || !with_step::<H, _>(r, "connection_cut", false, |r| H::connection_cut(r, Cut::Reset))
        {
            return false;
        }
        let u: *mut ngx_http_upstream_t = (*r).upstream;
        (*c).recv = Some(nothing);
        flag!((*c).read, error = 1);
        (*u).read_event_handler = Some(answer::<H>);
        ngx_post_event((*c).read, &raw mut ngx_posted_events);
        true
    }
}

/// `c->recv`, until something is read.
unsafe extern "C" fn recv<H: Handler>(
    c: *mut ngx_connection_t,
    buffer: *mut u8,
    size: usize,
) -> isize {
    // SAFETY: nginx's own function, which was set when it started, called as nginx calls us, on the
    // connection of a request.
    unsafe {
        let log_error = flag!(c, log_error);
        flag!(c, log_error = IGNORE_ECONNRESET);
        let count = ngx_io.recv.map_or(ERROR, |recv| recv(c, buffer, size));
        flag!(c, log_error = log_error);
        if count == AGAIN {
            return count;
        }
        (*c).recv = ngx_io.recv;
        // a reset that is ignored makes 0 as well, but no `eof`
        let is_reset = count == 0 && flag!((*c).read, eof) == 0;
        if !is_reset {
            return count;
        }
        if answer_cut::<H>(c) {
            return AGAIN;
        }
        flag!((*c).read, error = 1);
        // as nginx does where nobody looks
        ngx_connection_error(c, libc::ECONNRESET, c"recv() failed".as_ptr().cast_mut());
        ERROR
    }
}

/// `c->recv` of a connection whose request is answered next.
unsafe extern "C" fn nothing(_: *mut ngx_connection_t, _: *mut u8, _: usize) -> isize {
    AGAIN
}

/// `u->read_event_handler`: nginx is done with what it did when the connection ended.
unsafe extern "C" fn answer<H: Handler>(r: *mut ngx_http_request_t, _: *mut ngx_http_upstream_t) {
    // nothing else would end it: its connection is read no more
    let failed = Next::Refuse { status: INTERNAL_SERVER_ERROR, retry_after: None };
    let next = with_step::<H, _>(r, "answer_cut", failed, H::answer_cut);
    // SAFETY: nginx's request, and the last thing that is done with it here.
    unsafe { go_on(r, next) };
}
