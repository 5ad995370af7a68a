//! The balancer that chooses a server of an upstream, and stands behind ours: `peer.get` and
//! `peer.free` of this module's requests.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::callbacks::with_request;
use super::peer::Peer;
use super::servers::Servers;
use super::stock_keepalive::give_back;
use super::sys::{
    ngx_event_free_peer_pt, ngx_event_get_peer_pt, ngx_event_notify_peer_pt, ngx_int_t,
    ngx_peer_connection_t, ngx_str_t, ngx_uint_t, sockaddr, NGX_AGAIN, NGX_BUSY, NGX_DECLINED,
    NGX_DONE, NGX_ERROR, NGX_OK, NGX_PEER_FAILED, NGX_PEER_NEXT,
};
#[cfg(ngx_feature = "http_ssl")]
use super::sys::{ngx_event_save_peer_session_pt, ngx_event_set_peer_session_pt};
use super::Request;
use crate::handler::{Context, UpstreamHandler};

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
const BUSY: ngx_int_t = NGX_BUSY as ngx_int_t;
const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;

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
    Stale,
    /// The server has not answered, and may be being restarted: as [`Self::Stale`], on a connection that
    /// was new.
    Restarting,
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
            Outcome::Next | Outcome::Refused | Outcome::Stale | Outcome::Restarting => {
                NGX_PEER_NEXT as ngx_uint_t
            }
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

/// What stands behind our callbacks: the balancer's own, and the state of the upstream that they choose
/// a server for. A try begins and ends here, whatever has become of the request meanwhile.
pub(super) struct PeerData<'a> {
    pub(super) r: Request<'a>,
    pub(super) context: &'a Context<'a>,
    pub(super) servers: &'a Servers,
    pub(super) balancer: Cell<Balancer>,
    /// Has the balancer been told already that its server is free ([`give_back`])?
    pub(super) released: Cell<bool>,
    round: Cell<Round>,
}

/// How far the choice of a server has come. Servers that have no room now are passed over while there are
/// others. If these turn out to have failed, the choice begins anew, and the request waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    First,
    /// The first, in which servers were passed over.
    PassedOver,
    Second,
}

/// Who chooses the server.
#[derive(Clone, Copy)]
pub(super) struct Balancer {
    data: *mut c_void,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    notify: ngx_event_notify_peer_pt,
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
                notify: (*pc).notify,
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
    pub(super) unsafe fn release(self, pc: *mut ngx_peer_connection_t, state: ngx_uint_t) {
        if let Some(free) = self.free {
            // SAFETY: the balancer's own callback with its own data.
            unsafe { free(pc, self.data, state) };
        }
    }
}

/// A server that the next try is with ([`Outcome::Stale`]), as the balancer has described it.
pub struct Held<'a> {
    pc: NonNull<ngx_peer_connection_t>,
    data: &'a PeerData<'a>,
    sockaddr: *mut sockaddr,
    socklen: u32,
    name: *mut ngx_str_t,
    #[cfg(peer_sid)]
    sid: *mut ngx_str_t,
}

impl<'a> Held<'a> {
    /// The server of a try that ends now. None where memory runs out.
    fn server_of(pc: *mut ngx_peer_connection_t, data: &'a PeerData<'a>) -> Option<&'a Held<'a>> {
        let pc = NonNull::new(pc)?;
        // SAFETY: nginx's peer, whose server it forgets next.
        let peer = unsafe { pc.as_ref() };
        let (sockaddr, socklen, name) = (peer.sockaddr, peer.socklen, peer.name);
        let held = Held {
            pc,
            data,
            sockaddr,
            socklen,
            name,
            #[cfg(peer_sid)]
            sid: peer.sid,
        };
        let held = data.r.pool().place(held).ok()?;
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
            #[cfg(peer_sid)]
            {
                (*pc).sid = self.sid;
            }
        }
    }

    /// Tells the balancer that the server is free: there will be no next try.
    pub fn let_go(&self) {
        if self.data.released.get() {
            return;
        }
        // SAFETY: nginx's peer, for which the balancer had chosen a server.
        unsafe { self.data.balancer.get().release(self.pc.as_ptr(), Outcome::Stale.state()) };
    }
}

/// # Safety
///
/// The balancer has just set up the request's peer.
pub(super) unsafe fn wrap<'a, H: UpstreamHandler>(
    r: Request<'a>,
    context: &'a Context<'a>,
    servers: &'a Servers,
) -> ngx_int_t {
    let pc = context.upstream.peer();
    // SAFETY: the upstream's peer, whose callbacks the balancer has set.
    let balancer = Cell::new(unsafe { Balancer::of(pc) });
    let (released, round) = (Cell::new(false), Cell::new(Round::First));
    let data = PeerData { r, context, servers, balancer, released, round };
    let Ok(data) = r.pool().share(data) else { return FAILED };
    // SAFETY: as above; our callbacks find their data, which live as long as the request.
    unsafe { intercept::<H>(pc, ptr::from_ref(data).cast_mut().cast()) };
    OK
}

/// Puts our callbacks in the place of the balancer's.
///
/// # Safety
///
/// `pc` must be a request's peer, and `data` a [`PeerData`] of the same request.
unsafe fn intercept<H: UpstreamHandler>(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        (*pc).data = data;
        (*pc).get = Some(get::<H>);
        (*pc).free = Some(free::<H>);
        // most balancers have none, and nginx asks
        if (*pc).notify.is_some() {
            (*pc).notify = Some(notify);
        }
        #[cfg(ngx_feature = "http_ssl")]
        {
            (*pc).set_session = Some(set_session);
            (*pc).save_session = Some(save_session);
        }
    }
}

/// `peer.get`: chooses a server, and a connection to it where there is one.
unsafe extern "C" fn get<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_>>() };
    let context = data.context;
    let mut passed_over = 0;
    loop {
        if context.begin_try(data.r).is_err() {
            return FAILED;
        }
        // SAFETY: the request's peer.
        match unsafe { choose(pc, data, context.held.take()) } {
            OK => {}
            BUSY if data.round.get() == Round::PassedOver => {
                data.round.set(Round::Second);
                // SAFETY: as above.
                match unsafe { begin_anew::<H>(pc, data) } {
                    OK => continue,
                    other => return other,
                }
            }
            other => return other,
        }
        // SAFETY: as above. Not every balancer remembers which servers it has chosen.
        let passes_over = data.round.get() != Round::Second && passed_over < unsafe { (*pc).tries };
        let chosen = with_request(data.r.as_ptr(), Chosen::Failed, |_| {
            Peer::of::<H>(pc, data)
                .map_or(Chosen::Failed, |peer| H::choose_connection(data.r, peer, passes_over))
        });
        match chosen {
            Chosen::New => return OK,
            Chosen::Ready => return DONE,
            Chosen::Waiting => return AGAIN,
            Chosen::Unreachable => return DECLINED,
            Chosen::Failed => return FAILED,
            // SAFETY: the request's peer, for which the balancer has chosen a server.
            Chosen::Full => unsafe {
                // it was not tried
                let tries = (*pc).tries;
                if !data.released.get() {
                    data.balancer.get().release(pc, Outcome::Next.state());
                }
                (*pc).tries = tries;
                (*pc).sockaddr = ptr::null_mut();
                #[cfg(peer_sid)]
                {
                    (*pc).sid = ptr::null_mut();
                }
                passed_over += 1;
                data.round.set(Round::PassedOver);
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
    data: &PeerData<'_>,
    held: Option<&Held<'_>>,
) -> ngx_int_t {
    if let Some(held) = held {
        held.choose();
    } else {
        data.released.set(false);
        // SAFETY: the caller's promise.
        match unsafe { data.balancer.get().choose(pc) } {
            OK => {}
            // SAFETY: stock `keepalive` has given us a connection that another module used.
            DONE => match unsafe { give_back(pc, data) } {
                Ok(()) => {}
                Err(_) => return FAILED,
            },
            other => return other,
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*pc).connection = ptr::null_mut();
        flag!(pc, cached = 0);
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
    data: &PeerData<'_>,
) -> ngx_int_t {
    let Some(init) = data.servers.init else { return FAILED };
    // SAFETY: the upstream's own callback, with what nginx would give it; our callbacks go back to
    // their places.
    unsafe {
        let (own, tries) = ((*pc).data, (*pc).tries);
        ((*pc).data, (*pc).notify) = (ptr::null_mut(), None);
        let status = init(data.r.as_ptr(), data.servers.address().as_ptr());
        if status == OK {
            data.balancer.set(Balancer::of(pc));
        }
        if data.context.conf.upstream.next_upstream_tries != 0 {
            (*pc).tries = tries.max(1);
        }
        intercept::<H>(pc, own);
        status
    }
}

/// `peer.free`: the try is over.
unsafe extern "C" fn free<H: UpstreamHandler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_>>() };
    let outcome = Outcome::from_state(state);
    let told = with_request(data.r.as_ptr(), outcome, |_| {
        Peer::of::<H>(pc, data).map_or(outcome, |peer| H::release_connection(data.r, peer, outcome))
    });
    // also where that has failed
    with_request(data.r.as_ptr(), (), |_| {
        if let Some(peer) = Peer::of::<H>(pc, data) {
            H::end_try(peer);
        }
    });
    if matches!(told, Outcome::Stale | Outcome::Restarting) {
        if let Some(held) = Held::server_of(pc, data) {
            data.context.held.set(Some(held));
            if told == Outcome::Stale {
                // SAFETY: as above. nginx allows one try more after one on a used connection.
                unsafe { (*pc).tries = (*pc).tries.saturating_sub(1) };
            }
            return;
        }
    }
    // what we have nothing to say about goes on as it came
    let state = if told == outcome { state } else { told.state() };
    // SAFETY: nginx's peer, for which the balancer has chosen a server.
    unsafe {
        match data.released.get() {
            false => data.balancer.get().release(pc, state),
            true => (*pc).tries = (*pc).tries.saturating_sub(1),
        }
        if told == Outcome::Refused {
            (*pc).tries = 0;
        }
    }
}

/// `peer.notify`, called since nginx 1.29.6: the head of a response has come.
unsafe extern "C" fn notify(pc: *mut ngx_peer_connection_t, data: *mut c_void, kind: ngx_uint_t) {
    // SAFETY: `wrap` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_>>() };
    let balancer = data.balancer.get();
    if let (Some(original), false) = (balancer.notify, data.released.get()) {
        // SAFETY: the balancer's own callback with its own data, while its server is chosen.
        unsafe { original(pc, balancer.data, kind) };
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn set_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `wrap` put it there; the balancer's own callback with its own data.
    unsafe {
        let data = &*data.cast::<PeerData<'_>>();
        if data.released.get() {
            return OK;
        }
        let balancer = data.balancer.get();
        balancer.set_session.map_or(OK, |original| original(pc, balancer.data))
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn save_session(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let data = &*data.cast::<PeerData<'_>>();
        if data.released.get() {
            return;
        }
        let balancer = data.balancer.get();
        if let Some(original) = balancer.save_session {
            original(pc, balancer.data);
        }
    }
}
