//! The server that was chosen for a try: `ngx_peer_connection_t`.

use core::ptr::{self, NonNull};

use super::balancer::PeerData;
use super::connection::{Connection, Idle, Peek};
use super::module::{Handler, Module};
use super::servers::Servers;
use super::state::State;
use super::sys::{ngx_msec_t, ngx_peer_connection_t, sockaddr};
use super::{slice_of, Brand, Error, Request};

/// What a module does with the choice of a server: `peer.get` and `peer.free` of its requests.
pub trait PeerHandler: Module {
    /// A server, or the same one again, will be asked: nothing is left of the try before.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    fn begin_try<'a>(r: Request<'a>, state: &'a State<'a, Self>) -> Result<(), Error>;
    /// nginx has chosen a server. Does the request take it?
    fn choice(peer: Peer<'_, Self>) -> Choice;
    /// nginx has chosen a server. Finds a connection to it, or lets the request wait for one.
    fn choose_connection<'a>(r: Request<'a>, peer: Peer<'a, Self>, if_full: IfFull) -> Chosen;
    /// The server and its connection are no longer needed. Returns what the balancer is told.
    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a, Self>, outcome: Outcome) -> Outcome;
    /// The try with the server is over, even if [`Self::release_connection`] has failed.
    fn end_try(peer: Peer<'_, Self>);
}

/// What becomes of a request whose server has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfFull {
    /// Others are asked ([`Chosen::TryNextPeer`]).
    TryNextPeer,
    /// It waits.
    Wait,
}

/// What becomes of a server that the balancer has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The request takes it.
    Take,
    /// It is not well, and others are: another is chosen.
    PassOver,
    /// No server is well, and the request has to fail at once.
    NoneIsUp,
}

/// What nginx does where a connection of the pool turns out to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfDead {
    /// It sends the request again.
    TryAgain,
    /// It fails the request.
    Fail,
}

/// What a module has found for a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// nginx makes a connection.
    New,
    /// There is a connection.
    Ready,
    /// The request waits for one.
    Waiting,
    /// The server has no room now, and others can be asked.
    TryNextPeer,
    /// The server cannot be connected to.
    Unreachable,
    /// The request cannot go on.
    Failed,
}

/// How a try with a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a response.
    Done,
    /// Another server is asked, and this one is not to blame (`NGX_PEER_NEXT`).
    Next,
    /// The server failed (`NGX_PEER_FAILED`).
    Failed,
    /// The request is to blame for the end of its connection: no other server is asked, and this one is
    /// not to blame.
    Refused,
    /// The connection was dead before it was used, which says nothing of the server: the next try is
    /// with the same one, and the balancer hears nothing of this one.
    RetrySamePeer,
    /// The server has not answered, and may be being restarted: as [`Self::RetrySamePeer`], on a
    /// connection that was new.
    Restarting,
}

/// The server that was chosen for a request.
pub struct Peer<'a, H: Module> {
    pub(super) ptr: NonNull<ngx_peer_connection_t>,
    data: &'a PeerData<'a, H>,
    _life: Brand<'a>,
}

impl<H: Module> Clone for Peer<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Module> Copy for Peer<'_, H> {}

impl<'a, H: Module> Peer<'a, H> {
    /// The server that the balancer has chosen.
    pub(super) fn of(
        pc: *mut ngx_peer_connection_t,
        data: &'a PeerData<'a, H>,
    ) -> Option<Peer<'a, H>> {
        Some(Peer { ptr: NonNull::new(pc)?, data, _life: Brand::NEW })
    }

    /// The upstream that it is one of.
    pub fn servers(self) -> &'a Servers<H> {
        self.data.servers
    }

    /// The state of the request's upstream, and of the try.
    pub fn state(self) -> &'a State<'a, H> {
        self.data.state
    }

    /// The connection to it.
    pub fn connection(self) -> Option<Connection<'a>> {
        let c = NonNull::new(field!(self, connection))?;
        // SAFETY: nginx's connection of this try, open until nginx or `detach` ends the try.
        Some(unsafe { Connection::from_ptr(c) })
    }

    /// What tells this server's connections from all others of the upstream: its address, and with
    /// TLS what is verified and shown. It begins with the address. None where connections must not be shared: their own address
    /// is chosen for each request.
    pub fn pool_key(self, r: Request<'a>) -> Option<&'a [u8]> {
        let u = self.state().upstream;
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
        // no address has such numbers in it, so that one which is longer makes another key
        let size = [address.len().to_ne_bytes(), local.len().to_ne_bytes()].concat();
        r.pool().concat([address, &size, local, identity]).ok().map(|key| &*key)
    }

    /// The address of the server.
    pub fn address(self) -> &'a [u8] {
        address_of(field!(self, sockaddr), field!(self, socklen) as usize)
    }

    /// Gives the try a connection of the pool.
    pub fn attach(self, idle: Idle, if_dead: IfDead) {
        let c = idle.into_ptr(field!(self, log));
        field!(self, connection = c);
        flag_of!(self, cached = (if_dead == IfDead::TryAgain).into());
    }

    /// Takes the connection away from a try that is over. `timeout`, in milliseconds: how long it
    /// may be idle.
    ///
    /// # Errors
    ///
    /// Where it has none that is idle; what it has remains nginx's to close.
    pub fn detach(self, timeout: ngx_msec_t) -> Result<Idle, Peek>
    where
        H: Handler,
    {
        let connection = self.connection().ok_or(Peek::Closed)?;
        // SAFETY: the try is over, and the servers last as long as the configuration, which waits for its
        // connections.
        let idle = unsafe { Idle::from_request::<H>(connection, self.servers(), timeout) }?;
        field!(self, connection = ptr::null_mut());
        Ok(idle)
    }
}

/// The bytes of an address; a unix socket's end with its path, not with the room for one.
pub(super) fn address_of<'a>(address: *const sockaddr, length: usize) -> &'a [u8] {
    // SAFETY: the balancer's address, which lasts longer than the try.
    unsafe { slice_of(address.cast::<u8>(), length) }
}
