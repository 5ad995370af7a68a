//! The choice of a server: `ngx_peer_connection_t`, and `peer.init` of every upstream, which is
//! wrapped so that this module's requests may use a connection again.
//!
//! Dynamic modules are initialised after nginx's own, so the balancer, and stock `keepalive` where it
//! is configured, are in place and are wrapped as they are. Requests of other modules pass through.

use core::cell::{Cell, RefCell};
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::callbacks::with_request;
use super::conf::Block;
use super::connection::{Connection, Idle, Peek};
use super::sys::{
    ngx_event_free_peer_pt, ngx_event_get_peer_pt, ngx_http_request_t,
    ngx_http_upstream_init_peer_pt, ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_msec_t,
    ngx_peer_connection_t, ngx_str_t, ngx_uint_t, sockaddr, NGX_DONE, NGX_ERROR, NGX_OK,
    NGX_PEER_FAILED, NGX_PEER_NEXT,
};
#[cfg(ngx_feature = "http_ssl")]
use super::sys::{ngx_event_save_peer_session_pt, ngx_event_set_peer_session_pt};
use super::{module, slice_of, Brand, Request, Upstream};
use crate::conf::reuse::Settings;
use crate::handler::UpstreamHandler;
use crate::pool::Pool;

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;

/// The servers of one upstream, and the idle connections to them.
pub struct Servers {
    block: Block,
    init: ngx_http_upstream_init_peer_pt,
    /// The name of the upstream, or its address.
    pub name: Vec<u8>,
    /// What its users agreed on.
    pub settings: Settings,
    /// The idle connections.
    pub idle: RefCell<Pool<Idle>>,
}

impl Servers {
    /// An upstream of addresses that variables yield, which nginx has no callback for.
    pub(super) fn of_addresses(block: Block) {
        // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
        unsafe { (*block.0.as_ptr()).peer.init = Some(init_address) };
    }

    /// Puts our callback in the place of the upstream's own.
    pub(super) fn hook<H: UpstreamHandler>(block: Block, settings: Settings) -> Servers {
        // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
        let init = unsafe {
            let peer = &raw mut (*block.0.as_ptr()).peer;
            (*peer).init.replace(init::<H>)
        };
        let (name, idle) = (block.name().to_vec(), RefCell::default());
        Servers { block, init, name, settings, idle }
    }

    /// The port in an address; 0 for a block and for a socket.
    pub(super) fn port(&self) -> u16 {
        // SAFETY: the upstream lives as long as the configuration, which we are a part of.
        unsafe { (*self.block.0.as_ptr()).port }
    }

    /// Those of all upstreams, of the configuration that a request runs under.
    pub fn all(r: Request<'_>) -> impl Iterator<Item = &Servers> {
        module::main_conf(r).upstreams.iter().map(|servers| &**servers)
    }

    pub(super) fn address(&self) -> NonNull<ngx_http_upstream_srv_conf_t> {
        self.block.0
    }

    /// The servers of an upstream, of the configuration that a request runs under.
    pub(super) fn find(
        r: Request<'_>,
        upstream: *mut ngx_http_upstream_srv_conf_t,
    ) -> Option<&Servers> {
        let all = &module::main_conf(r).upstreams;
        let upstream = NonNull::new(upstream)?;
        let place = all.binary_search_by_key(&upstream, |servers| servers.address()).ok()?;
        all.get(place).map(|servers| &**servers)
    }
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
    /// The connection was dead before it was used, which says nothing of the server: the next try is
    /// with the same one, and the balancer hears nothing of this one.
    Stale,
}

impl Outcome {
    fn from_state(state: ngx_uint_t) -> Outcome {
        if state & NGX_PEER_FAILED as ngx_uint_t != 0 {
            Outcome::Failed
        } else if state & NGX_PEER_NEXT as ngx_uint_t != 0 {
            Outcome::Next
        } else {
            Outcome::Done
        }
    }

    fn state(self) -> ngx_uint_t {
        match self {
            Outcome::Done => 0,
            Outcome::Next | Outcome::Stale => NGX_PEER_NEXT as ngx_uint_t,
            Outcome::Failed => NGX_PEER_FAILED as ngx_uint_t,
        }
    }
}

/// The balancer's own callbacks and data, behind ours.
struct Wrapped<'a> {
    r: Request<'a>,
    servers: &'a Servers,
    data: *mut c_void,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    #[cfg(ngx_feature = "http_ssl")]
    set_session: ngx_event_set_peer_session_pt,
    #[cfg(ngx_feature = "http_ssl")]
    save_session: ngx_event_save_peer_session_pt,
    /// Has the balancer been told already that its server is free ([`give_back`])?
    released: Cell<bool>,
}

/// A server that the next try is with ([`Outcome::Stale`]), as the balancer has described it.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    pc: NonNull<ngx_peer_connection_t>,
    wrapped: &'a Wrapped<'a>,
    sockaddr: *mut sockaddr,
    socklen: u32,
    name: *mut ngx_str_t,
}

impl Held<'_> {
    /// Gives the server to the next try.
    fn choose(self) {
        // SAFETY: the request's peer; the balancer has not been told that the server is free, and
        // keeps what describes it.
        unsafe {
            let pc = self.pc.as_ptr();
            ((*pc).sockaddr, (*pc).socklen, (*pc).name) = (self.sockaddr, self.socklen, self.name);
        }
    }

    /// Tells the balancer that the server is free: there will be no next try.
    pub fn let_go(self) {
        let Some(original) = self.wrapped.free.filter(|_| !self.wrapped.released.get()) else {
            return;
        };
        // SAFETY: the balancer's own callback with its own data; nginx's peer.
        unsafe { original(self.pc.as_ptr(), self.wrapped.data, Outcome::Stale.state()) };
    }
}

/// The server that was chosen for a request.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    ptr: NonNull<ngx_peer_connection_t>,
    servers: &'a Servers,
    keep: fn(Connection<'_>, &Servers, ngx_msec_t) -> Result<Idle, Peek>,
    _life: Brand<'a>,
}

impl<'a> Peer<'a> {
    /// The upstream that it is one of.
    pub fn servers(self) -> &'a Servers {
        self.servers
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
        let u = r.upstream()?;
        if u.local_address_varies() {
            return None;
        }
        let address = address_of(field!(self, sockaddr), field!(self, socklen) as usize);
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

    /// Gives the try a connection of the pool. `again`: if it turns out to be dead, nginx tries once
    /// more.
    pub fn attach(self, idle: Idle, again: bool) {
        let c = idle.into_ptr(field!(self, log));
        field!(self, connection = c);
        field!(self, set_cached(again.into()));
    }

    /// Takes the connection away from a try that is over. `timeout`, in milliseconds: how long it
    /// may be idle.
    ///
    /// # Errors
    ///
    /// Where it has none that is idle; what it has remains nginx's to close.
    pub fn detach(self, timeout: ngx_msec_t) -> Result<Idle, Peek> {
        let connection = self.connection().ok_or(Peek::Closed)?;
        let idle = (self.keep)(connection, self.servers, timeout)?;
        field!(self, connection = ptr::null_mut());
        Ok(idle)
    }
}

/// The bytes of an address; a unix socket's end with its path, not with the room for one.
fn address_of<'a>(address: *const sockaddr, length: usize) -> &'a [u8] {
    // SAFETY: the balancer's address, which lasts longer than the try.
    unsafe { slice_of(address.cast::<u8>(), length) }
}

/// `peer.init` of every upstream.
unsafe extern "C" fn init<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    let found = with_request(r, None, |r| {
        Servers::find(r, upstream).map(|servers| (ptr::from_ref(servers), servers.init))
    });
    let Some((servers, Some(original))) = found else { return FAILED };
    // SAFETY: the upstream's own callback, with what nginx gave us.
    let status = unsafe { original(r, upstream) };
    if status != OK {
        return status;
    }
    with_request(r, FAILED, |r| {
        let Some(u) = r.upstream() else { return FAILED };
        if !u.is_of_this_module() {
            return OK;
        }
        // SAFETY: found above, in the configuration that the request runs under.
        unsafe { wrap::<H>(r, u, &*servers) }
    })
}

/// `peer.init` of the upstream of addresses: there is one server, the address that variables yielded.
unsafe extern "C" fn init_address(
    r: *mut ngx_http_request_t,
    _: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    with_request(r, FAILED, |r| {
        let (Some(u), Some(context)) = (r.upstream(), r.context()) else { return FAILED };
        let chosen = context.address.get().map(|address| u.choose_from(r, address));
        if matches!(chosen, Some(Ok(()))) {
            OK
        } else {
            FAILED
        }
    })
}

/// # Safety
///
/// The balancer has just set up the request's peer.
unsafe fn wrap<'a, H: UpstreamHandler>(
    r: Request<'a>,
    u: Upstream<'a>,
    servers: &'a Servers,
) -> ngx_int_t {
    let pc = u.peer();
    // SAFETY: the upstream's peer, whose callbacks the balancer has set.
    let wrapped = unsafe {
        Wrapped {
            r,
            servers,
            data: (*pc).data,
            get: (*pc).get,
            free: (*pc).free,
            #[cfg(ngx_feature = "http_ssl")]
            set_session: (*pc).set_session,
            #[cfg(ngx_feature = "http_ssl")]
            save_session: (*pc).save_session,
            released: Cell::new(false),
        }
    };
    let Ok(wrapped) = r.pool().place(wrapped) else { return FAILED };
    // SAFETY: as above; our callbacks find their data, which live as long as the request.
    unsafe {
        (*pc).data = wrapped.as_ptr().cast();
        (*pc).get = Some(get::<H>);
        (*pc).free = Some(free::<H>);
        #[cfg(ngx_feature = "http_ssl")]
        {
            (*pc).set_session = Some(set_session);
            (*pc).save_session = Some(save_session);
        }
    }
    OK
}

fn peer<'a, H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    wrapped: &Wrapped<'a>,
) -> Option<Peer<'a>> {
    // SAFETY: `detach` is for connections of tries that are over, and the servers last as long as
    // the configuration, which waits for its connections.
    let keep = |connection: Connection<'_>, servers: &Servers, timeout| unsafe {
        Idle::from_request::<H>(connection, servers, timeout)
    };
    Some(Peer { ptr: NonNull::new(pc)?, servers: wrapped.servers, keep, _life: Brand::NEW })
}

/// `peer.get`: chooses a server, and a connection to it where there is one.
unsafe extern "C" fn get<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let wrapped = unsafe { &*data.cast::<Wrapped<'_>>() };
    let Some(original) = wrapped.get else { return FAILED };
    let Some(context) = wrapped.r.context() else { return FAILED };
    context.begin_try();
    if let Some(held) = context.held.take() {
        held.choose();
    } else {
        wrapped.released.set(false);
        // SAFETY: the balancer's own callback with its own data.
        match unsafe { original(pc, wrapped.data) } {
            OK => {}
            // SAFETY: stock `keepalive` has given us a connection that another module used.
            DONE => unsafe { give_back(pc, wrapped) },
            other => return other,
        }
    }
    // SAFETY: the request's peer.
    unsafe {
        (*pc).connection = ptr::null_mut();
        (*pc).set_cached(0);
    }
    let taken = with_request(wrapped.r.as_ptr(), false, |_| {
        peer::<H>(pc, wrapped).is_some_and(|peer| H::take_connection(wrapped.r, peer))
    });
    if taken {
        DONE
    } else {
        OK
    }
}

/// A connection of stock `keepalive` was used by `proxy_pass` or another module, by rules other than
/// ours and perhaps for another protocol. It goes back to where it came from.
///
/// Stock's callback then tells the balancer that its server is free, so that for this try the server
/// does not count the connection (`max_conns`) and does not hear of its failure.
///
/// # Safety
///
/// `pc` must be what the wrapped `get` has just answered NGX_DONE for.
unsafe fn give_back(pc: *mut ngx_peer_connection_t, wrapped: &Wrapped<'_>) {
    let (Some(free), Some(u)) = (wrapped.free, wrapped.r.upstream()) else { return };
    // SAFETY: the callback of the same module, with its own data.
    u.as_finished(|| unsafe {
        let tries = (*pc).tries;
        free(pc, wrapped.data, 0);
        (*pc).tries = tries;
    });
    wrapped.released.set(true);
    // SAFETY: the request's peer; a connection that stock would not take back is closed.
    unsafe {
        if let Some(c) = NonNull::new((*pc).connection) {
            (*pc).connection = ptr::null_mut();
            Idle::discard(c);
        }
    }
}

/// `peer.free`: the try is over.
unsafe extern "C" fn free<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let wrapped = unsafe { &*data.cast::<Wrapped<'_>>() };
    let outcome = Outcome::from_state(state);
    let told = with_request(wrapped.r.as_ptr(), outcome, |_| match peer::<H>(pc, wrapped) {
        Some(peer) => H::release_connection(wrapped.r, peer, outcome),
        None => outcome,
    });
    if let (Outcome::Stale, Some(context)) = (told, wrapped.r.context()) {
        let held = NonNull::new(pc).map(|pc| {
            // SAFETY: nginx's peer, whose server it forgets now.
            let peer = unsafe { pc.as_ref() };
            let (sockaddr, socklen, name) = (peer.sockaddr, peer.socklen, peer.name);
            Held { pc, wrapped, sockaddr, socklen, name }
        });
        context.held.set(held);
        // SAFETY: as above. nginx allows one try more after one on a used connection.
        unsafe { (*pc).tries = (*pc).tries.saturating_sub(1) };
        return;
    }
    // what we have nothing to say about goes on as it came
    let state = if told == outcome { state } else { told.state() };
    // SAFETY: the balancer's own callback with its own data; nginx's peer.
    unsafe {
        match wrapped.free {
            Some(original) if !wrapped.released.get() => original(pc, wrapped.data, state),
            _ => (*pc).tries = (*pc).tries.saturating_sub(1),
        }
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `wrap` put it there; the balancer's own callback with its own data.
    unsafe {
        let wrapped = &*data.cast::<Wrapped<'_>>();
        wrapped.set_session.map_or(OK, |original| original(pc, wrapped.data))
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let wrapped = &*data.cast::<Wrapped<'_>>();
        if let Some(original) = wrapped.save_session {
            original(pc, wrapped.data);
        }
    }
}
