//! Connections that stock `keepalive` keeps in the same "upstream" block, for `proxy_pass` and others.

use core::ptr::{self, NonNull};

use super::balancer::PeerData;
use super::connection::close;
use super::module::Module;
use super::sys::ngx_peer_connection_t;
use super::{bytes_of, str_of, Error, Pool};

/// A connection of stock `keepalive` was used by `proxy_pass` or another module, by rules other than
/// ours and perhaps for another protocol. It goes back to where it came from.
///
/// Stock's callback then tells the balancer that its server is free, so that for this try the server
/// does not count the connection (`max_conns`) and does not hear of its failure. Nor does it keep what
/// describes the server any longer: where names are looked up again (`resolve`), one that is gone from
/// them is freed, in memory that all workers share. So the try has a description of its own, and does
/// not ask for the server's TLS session (`peer.set_session` and `peer.save_session`).
///
/// # Errors
///
/// [`Error::Failed`] when memory runs out.
///
/// # Safety
///
/// `pc` must be what the balancer's `get` has just answered NGX_DONE for.
pub(super) unsafe fn give_back<H: Module>(
    pc: *mut ngx_peer_connection_t,
    data: &PeerData<'_, H>,
) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let described = unsafe { describe_in(data.r.pool(), pc) };
    // SAFETY: the caller's promise.
    data.state.upstream.as_finished(|| unsafe {
        let tries = (*pc).tries;
        data.balancer.get().release(pc, 0);
        (*pc).tries = tries;
    });
    data.released.set(true);
    // SAFETY: the request's peer; a connection that stock would not take back is closed.
    unsafe {
        if let Some(c) = NonNull::new((*pc).connection) {
            (*pc).connection = ptr::null_mut();
            close(c.as_ptr());
        }
    }
    if described.is_err() {
        // SAFETY: the request's peer: no server is chosen.
        unsafe { (*pc).sockaddr = ptr::null_mut() };
    }
    described
}

/// Copies what describes the chosen server.
///
/// # Errors
///
/// [`Error::Failed`] when memory runs out.
///
/// # Safety
///
/// `pc` must be the request's peer, with a server that the balancer has chosen and still keeps.
unsafe fn describe_in(pool: Pool<'_>, pc: *mut ngx_peer_connection_t) -> Result<(), Error> {
    // SAFETY: the caller's promise. An address needs the alignment that `place` gives; it is as long as
    // its family's, and none is longer than a `sockaddr_storage`.
    unsafe {
        let size = ((*pc).socklen as usize).min(size_of::<libc::sockaddr_storage>());
        let address = pool.place(core::mem::zeroed::<libc::sockaddr_storage>())?.as_ptr();
        ptr::copy_nonoverlapping((*pc).sockaddr.cast::<u8>(), address.cast::<u8>(), size);
        let name = (*pc).name.as_ref().map_or(&[][..], |name| bytes_of(*name));
        let name = pool.place(str_of(pool.copy(name)?))?;
        ((*pc).sockaddr, (*pc).name) = (address.cast(), name.as_ptr());
    }
    Ok(())
}
