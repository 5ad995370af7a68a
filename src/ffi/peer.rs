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
use super::connect::{on_connection, on_waiter, Wake};
use super::connection::{Connection, Idle, Peek};
use super::sys::{
    ngx_event_free_peer_pt, ngx_event_get_peer_pt, ngx_event_t, ngx_http_request_t,
    ngx_http_upstream_init_peer_pt, ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_msec_t,
    ngx_peer_connection_t, ngx_str_t, ngx_uint_t, sockaddr, NGX_AGAIN, NGX_BUSY, NGX_DECLINED,
    NGX_DONE, NGX_ERROR, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT,
};
#[cfg(ngx_feature = "http_ssl")]
use super::sys::{ngx_event_save_peer_session_pt, ngx_event_set_peer_session_pt};
use super::{module, slice_of, Brand, Request, Upstream};
use crate::conf::reuse::Settings;
use crate::handler::UpstreamHandler;
use crate::peer::connect::Queue;
use crate::pool::Pool;

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
const BUSY: ngx_int_t = NGX_BUSY as ngx_int_t;
const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;

/// The servers of one upstream, the idle connections to them, and the requests that wait for one.
pub struct Servers {
    block: Block,
    init: ngx_http_upstream_init_peer_pt,
    /// The name of the upstream, or its address.
    pub name: Vec<u8>,
    /// What its users agreed on.
    pub settings: Settings,
    /// The idle connections.
    pub idle: RefCell<Pool<Idle>>,
    /// The requests that wait for a connection.
    pub queue: Queue,
    pub(super) wake: Wake,
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
        let (name, idle, queue) = (block.name().to_vec(), RefCell::default(), Queue::default());
        Servers { block, init, name, settings, idle, queue, wake: Wake::new::<H>() }
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

/// What the safe code has found for a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// nginx makes a connection.
    New,
    /// There is a connection.
    Ready,
    /// The request waits for one.
    Waiting,
    /// The server has no room now, and others can be asked.
    Full,
    /// The server cannot be connected to.
    Unreachable,
    /// The request cannot go on.
    Failed,
}

/// The balancer's own callbacks and data, behind ours.
struct Wrapped<'a> {
    r: Request<'a>,
    servers: &'a Servers,
    balancer: Cell<Balancer>,
    /// Has the balancer been told already that its server is free ([`give_back`])?
    released: Cell<bool>,
}

/// Who chooses the server.
#[derive(Clone, Copy)]
struct Balancer {
    data: *mut c_void,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    #[cfg(ngx_feature = "http_ssl")]
    set_session: ngx_event_set_peer_session_pt,
    #[cfg(ngx_feature = "http_ssl")]
    save_session: ngx_event_save_peer_session_pt,
}

impl Balancer {
    /// # Safety
    ///
    /// The balancer has just set up the request's peer.
    unsafe fn of(pc: *mut ngx_peer_connection_t) -> Balancer {
        // SAFETY: the caller's promise.
        unsafe {
            Balancer {
                data: (*pc).data,
                get: (*pc).get,
                free: (*pc).free,
                #[cfg(ngx_feature = "http_ssl")]
                set_session: (*pc).set_session,
                #[cfg(ngx_feature = "http_ssl")]
                save_session: (*pc).save_session,
            }
        }
    }

    /// Chooses a server.
    ///
    /// # Safety
    ///
    /// The peer must be the one that the balancer has set up.
    unsafe fn choose(self, pc: *mut ngx_peer_connection_t) -> ngx_int_t {
        let Some(get) = self.get else { return FAILED };
        // SAFETY: the balancer's own callback with its own data.
        unsafe { get(pc, self.data) }
    }

    /// Tells the balancer that its server is free.
    ///
    /// # Safety
    ///
    /// As `choose`, and a server was chosen.
    unsafe fn release(self, pc: *mut ngx_peer_connection_t, state: ngx_uint_t) {
        if let Some(free) = self.free {
            // SAFETY: the balancer's own callback with its own data.
            unsafe { free(pc, self.data, state) };
        }
    }
}

/// A server that the next try is with ([`Outcome::Stale`]), as the balancer has described it.
pub struct Held<'a> {
    pc: NonNull<ngx_peer_connection_t>,
    wrapped: &'a Wrapped<'a>,
    sockaddr: *mut sockaddr,
    socklen: u32,
    name: *mut ngx_str_t,
}

impl<'a> Held<'a> {
    /// The server of a try that ends now. None where memory runs out.
    fn server_of(pc: *mut ngx_peer_connection_t, wrapped: &'a Wrapped<'a>) -> Option<&'a Held<'a>> {
        let pc = NonNull::new(pc)?;
        // SAFETY: nginx's peer, whose server it forgets next.
        let peer = unsafe { pc.as_ref() };
        let (sockaddr, socklen, name) = (peer.sockaddr, peer.socklen, peer.name);
        let held = Held { pc, wrapped, sockaddr, socklen, name };
        let held = wrapped.r.pool().place(held).ok()?;
        // SAFETY: new in the request's memory, and only ever shared.
        Some(unsafe { held.as_ref() })
    }

    /// Gives the server to the next try.
    fn choose(&self) {
        // SAFETY: the request's peer; the balancer has not been told that the server is free, and
        // keeps what describes it.
        unsafe {
            let pc = self.pc.as_ptr();
            ((*pc).sockaddr, (*pc).socklen, (*pc).name) = (self.sockaddr, self.socklen, self.name);
        }
    }

    /// Tells the balancer that the server is free: there will be no next try.
    pub fn let_go(&self) {
        if self.wrapped.released.get() {
            return;
        }
        // SAFETY: nginx's peer, for which the balancer had chosen a server.
        unsafe { self.wrapped.balancer.get().release(self.pc.as_ptr(), Outcome::Stale.state()) };
    }
}

/// The server that was chosen for a request.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    pub(super) ptr: NonNull<ngx_peer_connection_t>,
    servers: &'a Servers,
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
        let idle = (self.hooks.keep)(connection, self.servers, timeout)?;
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
    let balancer = Cell::new(unsafe { Balancer::of(pc) });
    let wrapped = Wrapped { r, servers, balancer, released: Cell::new(false) };
    let Ok(wrapped) = r.pool().place(wrapped) else { return FAILED };
    // SAFETY: as above; our callbacks find their data, which live as long as the request.
    unsafe { intercept::<H>(pc, wrapped.as_ptr().cast()) };
    OK
}

/// Puts our callbacks in the place of the balancer's.
///
/// # Safety
///
/// `pc` must be a request's peer, and `wrapped` a [`Wrapped`] of the same request.
unsafe fn intercept<H: UpstreamHandler>(pc: *mut ngx_peer_connection_t, wrapped: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        (*pc).data = wrapped;
        (*pc).get = Some(get::<H>);
        (*pc).free = Some(free::<H>);
        #[cfg(ngx_feature = "http_ssl")]
        {
            (*pc).set_session = Some(set_session);
            (*pc).save_session = Some(save_session);
        }
    }
}

fn peer<'a, H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    wrapped: &Wrapped<'a>,
) -> Option<Peer<'a>> {
    let (servers, hooks) = (wrapped.servers, HooksOf::<H>::HOOKS);
    Some(Peer { ptr: NonNull::new(pc)?, servers, hooks, _life: Brand::NEW })
}

/// `peer.get`: chooses a server, and a connection to it where there is one.
unsafe extern "C" fn get<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let wrapped = unsafe { &*data.cast::<Wrapped<'_>>() };
    let Some(context) = wrapped.r.context() else { return FAILED };
    // Servers that have no room now are passed over while there are others. If these turn out to
    // have failed, the choice begins anew, and the request waits.
    let (mut passed_over, mut anew) = (false, false);
    loop {
        context.begin_try();
        // SAFETY: the request's peer.
        match unsafe { choose(pc, wrapped, context.held.take()) } {
            OK => {}
            BUSY if passed_over && !anew => {
                anew = true;
                // SAFETY: as above.
                match unsafe { begin_anew::<H>(pc, wrapped) } {
                    OK => continue,
                    other => return other,
                }
            }
            other => return other,
        }
        let chosen = with_request(wrapped.r.as_ptr(), Chosen::Failed, |_| {
            peer::<H>(pc, wrapped)
                .map_or(Chosen::Failed, |peer| H::choose_connection(wrapped.r, peer, !anew))
        });
        match chosen {
            Chosen::New => return OK,
            Chosen::Ready => return DONE,
            Chosen::Waiting => return AGAIN,
            Chosen::Unreachable => return DECLINED,
            Chosen::Failed => return FAILED,
            // SAFETY: the request's peer, for which the balancer has chosen a server.
            Chosen::Full => unsafe {
                if !wrapped.released.get() {
                    wrapped.balancer.get().release(pc, Outcome::Next.state());
                }
                (*pc).sockaddr = ptr::null_mut();
                passed_over = true;
            },
        }
    }
}

/// Chooses a server, the one that is `held` if there is one.
///
/// # Safety
///
/// `pc` must be the request's peer.
unsafe fn choose(
    pc: *mut ngx_peer_connection_t,
    wrapped: &Wrapped<'_>,
    held: Option<&Held<'_>>,
) -> ngx_int_t {
    if let Some(held) = held {
        held.choose();
    } else {
        wrapped.released.set(false);
        // SAFETY: the caller's promise.
        match unsafe { wrapped.balancer.get().choose(pc) } {
            OK => {}
            // SAFETY: stock `keepalive` has given us a connection that another module used.
            DONE => unsafe { give_back(pc, wrapped) },
            other => return other,
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*pc).connection = ptr::null_mut();
        (*pc).set_cached(0);
    }
    OK
}

/// Lets the balancer forget which servers it has chosen for the request.
///
/// # Safety
///
/// `pc` must be the request's peer, and no server chosen.
unsafe fn begin_anew<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    wrapped: &Wrapped<'_>,
) -> ngx_int_t {
    let Some(init) = wrapped.servers.init else { return FAILED };
    // SAFETY: the upstream's own callback, with what nginx would give it; our callbacks go back to
    // their places.
    unsafe {
        let (data, tries) = ((*pc).data, (*pc).tries);
        (*pc).data = ptr::null_mut();
        let status = init(wrapped.r.as_ptr(), wrapped.servers.block.0.as_ptr());
        if status == OK {
            wrapped.balancer.set(Balancer::of(pc));
        }
        (*pc).tries = tries.max(1);
        intercept::<H>(pc, data);
        status
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
    let Some(u) = wrapped.r.upstream() else { return };
    // SAFETY: the caller's promise.
    u.as_finished(|| unsafe {
        let tries = (*pc).tries;
        wrapped.balancer.get().release(pc, 0);
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
    if told == Outcome::Stale {
        if let (Some(context), Some(held)) = (wrapped.r.context(), Held::server_of(pc, wrapped)) {
            context.held.set(Some(held));
            // SAFETY: as above. nginx allows one try more after one on a used connection.
            unsafe { (*pc).tries = (*pc).tries.saturating_sub(1) };
            return;
        }
    }
    // what we have nothing to say about goes on as it came
    let state = if told == outcome { state } else { told.state() };
    // SAFETY: nginx's peer, for which the balancer has chosen a server.
    unsafe {
        match wrapped.released.get() {
            false => wrapped.balancer.get().release(pc, state),
            true => (*pc).tries = (*pc).tries.saturating_sub(1),
        }
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `wrap` put it there; the balancer's own callback with its own data.
    unsafe {
        let balancer = (*data.cast::<Wrapped<'_>>()).balancer.get();
        balancer.set_session.map_or(OK, |original| original(pc, balancer.data))
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let balancer = (*data.cast::<Wrapped<'_>>()).balancer.get();
        if let Some(original) = balancer.save_session {
            original(pc, balancer.data);
        }
    }
}
