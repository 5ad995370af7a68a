//! The server that was chosen for a try: `ngx_peer_connection_t`.

use core::ptr::{self, NonNull};

use super::balancer::PeerData;
use super::connection::{Connection, Idle, Peek};
use super::servers::Servers;
use super::sys::{ngx_event_t, ngx_msec_t, ngx_peer_connection_t, sockaddr};
use super::wait::{on_connection, on_waiter};
use super::{slice_of, Brand, Request};
use crate::handler::{Context, UpstreamHandler};

/// The server that was chosen for a request.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    pub(super) ptr: NonNull<ngx_peer_connection_t>,
    data: &'a PeerData<'a>,
    pub(super) hooks: &'static Hooks,
    _life: Brand<'a>,
}

/// What depends on the handler.
pub(super) struct Hooks {
    keep: fn(Connection<'_>, &Servers, ngx_msec_t) -> Result<Idle, Peek>,
    pub(super) on_waiter: unsafe extern "C" fn(*mut ngx_event_t),
    pub(super) on_connection: unsafe extern "C" fn(*mut ngx_event_t),
}

struct HooksOf<H>(core::marker::PhantomData<H>);

impl<H: UpstreamHandler> HooksOf<H> {
    const HOOKS: &'static Hooks = &Hooks {
        // SAFETY: `detach` is for connections of tries that are over, and the servers last as long as
        // the configuration, which waits for its connections.
        keep: |connection, servers, timeout| unsafe {
            Idle::from_request::<H>(connection, servers, timeout)
        },
        on_waiter: on_waiter::<H>,
        on_connection: on_connection::<H>,
    };
}

impl<'a> Peer<'a> {
    /// The server that the balancer has chosen.
    pub(super) fn of<H: UpstreamHandler>(
        pc: *mut ngx_peer_connection_t,
        data: &'a PeerData<'a>,
    ) -> Option<Peer<'a>> {
        let (ptr, hooks) = (NonNull::new(pc)?, HooksOf::<H>::HOOKS);
        Some(Peer { ptr, data, hooks, _life: Brand::NEW })
    }

    /// The upstream that it is one of.
    pub fn servers(self) -> &'a Servers {
        self.data.servers
    }

    /// The state of the request's upstream, and of the try.
    pub fn context(self) -> &'a Context<'a> {
        self.data.context
    }

    /// The connection to it.
    pub fn connection(self) -> Option<Connection<'a>> {
        let c = NonNull::new(field!(self, connection))?;
        // SAFETY: nginx's connection of this try, open until nginx or `detach` ends the try.
        Some(unsafe { Connection::from_ptr(c) })
    }

    /// What tells this server's connections from all others of the upstream: its address, and with
    /// TLS what is verified and shown. None where connections must not be shared: their own address
    /// is chosen for each request.
    pub fn pool_key(self, r: Request<'a>) -> Option<&'a [u8]> {
        let u = self.context().upstream;
        if u.local_address_varies() {
            return None;
        }
        let address = self.address();
        let local = field!(self, local);
        // SAFETY: null, or an address of nginx's, as long as the request.
        let local = unsafe { local.as_ref() }
            .map_or(&[][..], |local| address_of(local.sockaddr, local.socklen as usize));
        let identity = u.tls_identity(r)?;
        if local.is_empty() && identity.is_empty() {
            return Some(address);
        }
        let size = [address.len().to_ne_bytes(), local.len().to_ne_bytes()].concat();
        r.pool().concat([&size, address, local, identity]).ok().map(|key| &*key)
    }

    /// The address of the server.
    pub fn address(self) -> &'a [u8] {
        address_of(field!(self, sockaddr), field!(self, socklen) as usize)
    }

    /// Gives the try a connection of the pool. `again`: if it turns out to be dead, nginx tries once
    /// more.
    pub fn attach(self, idle: Idle, again: bool) {
        let c = idle.into_ptr(field!(self, log));
        field!(self, connection = c);
        flag_of!(self, cached = again.into());
    }

    /// Takes the connection away from a try that is over. `timeout`, in milliseconds: how long it
    /// may be idle.
    ///
    /// # Errors
    ///
    /// Where it has none that is idle; what it has remains nginx's to close.
    pub fn detach(self, timeout: ngx_msec_t) -> Result<Idle, Peek> {
        let connection = self.connection().ok_or(Peek::Closed)?;
        let idle = (self.hooks.keep)(connection, self.servers(), timeout)?;
        field!(self, connection = ptr::null_mut());
        Ok(idle)
    }
}

/// The bytes of an address; a unix socket's end with its path, not with the room for one.
fn address_of<'a>(address: *const sockaddr, length: usize) -> &'a [u8] {
    // SAFETY: the balancer's address, which lasts longer than the try.
    unsafe { slice_of(address.cast::<u8>(), length) }
}
