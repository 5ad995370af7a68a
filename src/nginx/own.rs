//! Connections of the worker's own, which are no request's: made, written and read.

use core::ffi::c_int;
use core::ptr::NonNull;

use super::connect::{family, Errno};
use super::connection::is_tls;
use super::status::AGAIN;
use super::sys::{ngx_connection_t, ngx_get_connection, ngx_io, ngx_log_t, ngx_socket_errno};

/// A socket for this address, in a connection that is no request's: its events are the caller's. None where this
/// worker has no connection to spare, of which nginx has told the log.
///
/// # Errors
///
/// What socket(2) failed with.
///
/// # Safety
///
/// `log` must last longer than the connection.
pub(super) unsafe fn connection_of_its_own(
    address: &[u8],
    log: *mut ngx_log_t,
) -> Result<Option<NonNull<ngx_connection_t>>, Errno> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: makes a socket, which becomes the connection's, or is closed. The rest is the caller's promise.
    unsafe {
        let fd = libc::socket(family(address), kind, 0);
        if fd == -1 {
            return Err(Errno(ngx_socket_errno()));
        }
        let Some(c) = NonNull::new(ngx_get_connection(fd, log)) else {
            libc::close(fd);
            return Ok(None);
        };
        let fields = c.as_ptr();
        (*fields).type_ = libc::SOCK_STREAM;
        (*fields).recv = ngx_io.recv;
        (*fields).send = ngx_io.send;
        (*fields).log = log;
        (*(*fields).read).log = log;
        (*(*fields).write).log = log;
        Ok(Some(c))
    }
}

/// What a connection was written or read with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes; 0 read ones are the end.
    Bytes(usize),
    /// Nothing can be at the moment.
    Not,
    /// A number of errno(3).
    Failed(c_int),
}

/// Sends what there is room for.
///
/// # Safety
///
/// `c` must be an open connection.
pub(super) unsafe fn send(c: *mut ngx_connection_t, bytes: &[u8]) -> Moved {
    // SAFETY: an open connection, and so many bytes, which nobody writes to.
    unsafe {
        if let Some(send) = (*c).send.filter(|_| is_tls(c)) {
            return moved_by_nginx(send(c, bytes.as_ptr().cast_mut(), bytes.len()));
        }
        let fd = (*c).fd;
        moved(|| libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL))
    }
}

/// Reads what there is.
///
/// # Safety
///
/// `c` must be an open connection.
pub(super) unsafe fn receive(c: *mut ngx_connection_t, room: &mut [u8]) -> Moved {
    // SAFETY: an open connection, and room for so many bytes.
    unsafe {
        if let Some(recv) = (*c).recv.filter(|_| is_tls(c)) {
            return moved_by_nginx(recv(c, room.as_mut_ptr(), room.len()));
        }
        let fd = (*c).fd;
        moved(|| libc::recv(fd, room.as_mut_ptr().cast(), room.len(), 0))
    }
}

fn moved(mut call: impl FnMut() -> isize) -> Moved {
    loop {
        match (usize::try_from(call()), ngx_socket_errno()) {
            (Ok(count), _) => return Moved::Bytes(count),
            (_, libc::EINTR) => {}
            (_, libc::EAGAIN) => return Moved::Not,
            (_, errno) => return Moved::Failed(errno),
        }
    }
}

/// With TLS nginx has asked OpenSSL, and told the log what that said.
fn moved_by_nginx(status: isize) -> Moved {
    match usize::try_from(status) {
        Ok(count) => Moved::Bytes(count),
        Err(_) if status == AGAIN => Moved::Not,
        Err(_) => Moved::Failed(libc::EPROTO),
    }
}
