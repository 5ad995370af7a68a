//! The balancer that chooses a server of an upstream, and stands behind ours: `peer.get` and
//! `peer.free` of this module's requests.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::balancer_callbacks::Balancer;
use super::callbacks::{with_request, with_step};
use super::module::{Handler, Module};
use super::peer::{Choice, Chosen, IfFull, Outcome, Peer};
use super::servers::Servers;
use super::spare;
use super::state::State;
use super::status::{AGAIN, BUSY, DECLINED, DONE, ERROR, OK};
use super::stock_keepalive::give_back;
use super::sys::{
    ngx_int_t, ngx_peer_connection_t, ngx_str_t, ngx_uint_t, sockaddr, NGX_PEER_FAILED,
    NGX_PEER_NEXT,
};
use super::version::Sid;
use super::Request;

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
            Outcome::Next | Outcome::Refused | Outcome::RetrySamePeer | Outcome::Restarting => {
                NGX_PEER_NEXT as ngx_uint_t
            }
            Outcome::Failed => NGX_PEER_FAILED as ngx_uint_t,
        }
    }
}

/// What stands behind our callbacks: the balancer's own, and the state of the upstream that they choose
/// a server for. A try begins and ends here, whatever has become of the request meanwhile.
pub(super) struct PeerData<'a, H: Module> {
    pub(super) r: Request<'a>,
    pub(super) state: &'a State<'a, H>,
    pub(super) servers: &'a Servers<H>,
    pub(super) balancer: Cell<Balancer>,
    /// Has the balancer been told already that its server is free ([`give_back`])?
    pub(super) released: Cell<bool>,
    round: Cell<Round>,
    health: Cell<Health>,
}

/// What becomes of servers that are not well while a server is chosen for the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// They are passed over.
    Minded,
    /// Some were.
    PassedOver,
    /// As if they were: the balancer has none of the others.
    Ignored,
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

/// A server that the next try is with ([`Outcome::RetrySamePeer`]), as the balancer has described it.
pub struct PinnedPeer<'a, H: Module> {
    pc: NonNull<ngx_peer_connection_t>,
    data: &'a PeerData<'a, H>,
    sockaddr: *mut sockaddr,
    socklen: u32,
    name: *mut ngx_str_t,
    sid: Sid,
}

impl<'a, H: Module> PinnedPeer<'a, H> {
    /// The server of a try that ends now. None where memory runs out.
    fn server_of(
        pc: *mut ngx_peer_connection_t,
        data: &'a PeerData<'a, H>,
    ) -> Option<&'a PinnedPeer<'a, H>> {
        let pc = NonNull::new(pc)?;
        // SAFETY: nginx's peer, whose server it forgets next.
        let peer = unsafe { pc.as_ref() };
        let (sockaddr, socklen, name) = (peer.sockaddr, peer.socklen, peer.name);
        let pinned = PinnedPeer { pc, data, sockaddr, socklen, name, sid: Sid::of(peer) };
        let pinned = data.r.pool().place(pinned).ok()?;
        // SAFETY: new in the request's memory, and only ever shared.
        Some(unsafe { pinned.as_ref() })
    }

    /// Gives the server to the next try.
    fn choose(&self) {
        // SAFETY: the request's peer; the balancer has not been told that the server is free, and
        // keeps what describes it.
        unsafe {
            let pc = self.pc.as_ptr();
            ((*pc).sockaddr, (*pc).socklen, (*pc).name) = (self.sockaddr, self.socklen, self.name);
            self.sid.give(pc);
        }
    }

    /// Tells the balancer that the server is free: there will be no next try.
    pub(super) fn let_go(&self) {
        if self.data.released.get() {
            return;
        }
        // SAFETY: nginx's peer, for which the balancer had chosen a server.
        unsafe {
            self.data.balancer.get().release(self.pc.as_ptr(), Outcome::RetrySamePeer.state())
        };
    }
}

/// # Safety
///
/// The balancer has just set up the request's peer.
pub(super) unsafe fn install<'a, H: Handler>(
    r: Request<'a>,
    state: &'a State<'a, H>,
    servers: &'a Servers<H>,
) -> ngx_int_t {
    let pc = state.upstream.peer();
    // SAFETY: the upstream's peer, whose callbacks the balancer has set.
    let balancer = Cell::new(unsafe { Balancer::of(pc) });
    let (released, round) = (Cell::new(false), Cell::new(Round::First));
    let health = Cell::new(Health::Minded);
    let data = PeerData { r, state, servers, balancer, released, round, health };
    let Ok(data) = r.pool().share(data) else { return ERROR };
    // SAFETY: as above; our callbacks find their data, which live as long as the request.
    unsafe { install_callbacks::<H>(pc, ptr::from_ref(data).cast_mut().cast()) };
    OK
}

/// Puts our callbacks in the place of the balancer's.
///
/// # Safety
///
/// `pc` must be a request's peer, and `data` a [`PeerData`] of the same request.
unsafe fn install_callbacks<H: Handler>(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        (*pc).data = data;
        (*pc).get = Some(get::<H>);
        (*pc).free = Some(free::<H>);
        // most balancers have none, and nginx asks
        if (*pc).notify.is_some() {
            (*pc).notify = Some(notify::<H>);
        }
        #[cfg(ngx_feature = "http_ssl")]
        {
            (*pc).set_session = Some(set_session::<H>);
            (*pc).save_session = Some(save_session::<H>);
        }
    }
}

/// `peer.get`: chooses a server, and a connection to it where there is one.
unsafe extern "C" fn get<H: Handler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `install` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_, H>>() };
    let (mut passed_over, mut unwell) = (0, 0);
    loop {
        let begun =
            with_request(data.r.as_ptr(), false, |_| H::begin_try(data.r, data.state).is_ok());
        if !begun {
            return ERROR;
        }
        // SAFETY: the request's peer.
        let pinned = data.state.pinned.take();
        let is_pinned = pinned.is_some();
        // SAFETY: as above.
        match unsafe { choose(pc, data, pinned) } {
            OK => {}
            BUSY if data.begins_anew() => {
                // SAFETY: as above.
                match unsafe { begin_second_pass::<H>(pc, data) } {
                    OK => continue,
                    other => return other,
                }
            }
            other => return other,
        }
        if !is_pinned && data.health.get() != Health::Ignored {
            let choice = with_request(data.r.as_ptr(), Choice::Take, |_| {
                Peer::of(pc, data).map_or(Choice::Take, H::choice)
            });
            match choice {
                Choice::Take => {}
                Choice::PassOver if unwell < MOST_UNWELL => {
                    unwell += 1;
                    data.health.set(Health::PassedOver);
                    // SAFETY: the request's peer, for which the balancer has chosen a server.
                    unsafe { pass_over(pc, data) };
                    continue;
                }
                // a balancer that does not remember which servers it has chosen
                Choice::PassOver => data.health.set(Health::Ignored),
                Choice::NoneIsUp => {
                    // SAFETY: as above.
                    unsafe { pass_over(pc, data) };
                    return BUSY;
                }
            }
        }
        // SAFETY: as above. Not every balancer remembers which servers it has chosen.
        let passes_over = data.round.get() != Round::Second && passed_over < unsafe { (*pc).tries };
        let if_full = if passes_over { IfFull::TryNextPeer } else { IfFull::Wait };
        let chosen =
            with_step::<H, _>(data.r.as_ptr(), "choose_connection", Chosen::Failed, |_| {
                Peer::of(pc, data)
                    .map_or(Chosen::Failed, |peer| H::choose_connection(data.r, peer, if_full))
            });
        match chosen {
            Chosen::New => return OK,
            Chosen::Ready => return DONE,
            Chosen::Waiting => return AGAIN,
            Chosen::Unreachable => return DECLINED,
            Chosen::Failed => return ERROR,
            // SAFETY: the request's peer, for which the balancer has chosen a server.
            Chosen::TryNextPeer => unsafe {
                pass_over(pc, data);
                passed_over += 1;
                data.round.set(Round::PassedOver);
            },
        }
    }
}

/// So many servers that are not well are passed over, and no more. A balancer that remembers which it has
/// chosen chooses each once.
const MOST_UNWELL: usize = 2000;

impl<H: Module> PeerData<'_, H> {
    /// There is no other server. Does the choice begin anew: with those that had no room, or else with those
    /// that are not well?
    fn begins_anew(&self) -> bool {
        if self.round.get() == Round::PassedOver {
            self.round.set(Round::Second);
            return true;
        }
        if self.health.get() == Health::PassedOver {
            self.health.set(Health::Ignored);
            return true;
        }
        false
    }
}

/// Lets the balancer choose another server: the one that it has chosen was not tried.
///
/// # Safety
///
/// `pc` must be the request's peer, with a server that the balancer has chosen.
unsafe fn pass_over<H: Module>(pc: *mut ngx_peer_connection_t, data: &PeerData<'_, H>) {
    // SAFETY: the caller's promise.
    unsafe {
        let tries = (*pc).tries;
        if !data.released.get() {
            data.balancer.get().release(pc, Outcome::Next.state());
        }
        (*pc).tries = tries;
        (*pc).sockaddr = ptr::null_mut();
        Sid::NONE.give(pc);
    }
}

/// Chooses a server, the one that is `pinned` if there is one.
///
/// # Safety
///
/// `pc` must be the request's peer.
unsafe fn choose<H: Module>(
    pc: *mut ngx_peer_connection_t,
    data: &PeerData<'_, H>,
    pinned: Option<&PinnedPeer<'_, H>>,
) -> ngx_int_t {
    if let Some(pinned) = pinned {
        pinned.choose();
    } else {
        data.released.set(false);
        // SAFETY: the caller's promise.
        match unsafe { data.balancer.get().choose(pc) } {
            OK => {}
            // SAFETY: stock `keepalive` has given us a connection that another module used.
            DONE => match unsafe { give_back(pc, data) } {
                Ok(()) => {}
                Err(_) => return ERROR,
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
unsafe fn begin_second_pass<H: Handler>(
    pc: *mut ngx_peer_connection_t,
    data: &PeerData<'_, H>,
) -> ngx_int_t {
    let Some(init) = data.servers.init else { return ERROR };
    // SAFETY: the upstream's own callback, with what nginx would give it; our callbacks go back to
    // their places.
    unsafe {
        let (own, tries) = ((*pc).data, (*pc).tries);
        ((*pc).data, (*pc).notify) = (ptr::null_mut(), None);
        let status = init(data.r.as_ptr(), data.servers.address().as_ptr());
        if status == OK {
            data.balancer.set(Balancer::of(pc));
        }
        if data.state.upstream.bounds_tries() {
            (*pc).tries = tries.max(1);
        }
        install_callbacks::<H>(pc, own);
        status
    }
}

/// `peer.free`: the try is over.
unsafe extern "C" fn free<H: Handler>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    // SAFETY: `install` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_, H>>() };
    let outcome = Outcome::from_state(state);
    let reported = with_step::<H, _>(data.r.as_ptr(), "release_connection", outcome, |_| {
        Peer::of(pc, data).map_or(outcome, |peer| H::release_connection(data.r, peer, outcome))
    });
    // also where that has failed
    with_request(data.r.as_ptr(), (), |_| {
        if let Some(peer) = Peer::of(pc, data) {
            H::end_try(peer);
        }
    });
    if matches!(reported, Outcome::RetrySamePeer | Outcome::Restarting) {
        if let Some(pinned) = PinnedPeer::server_of(pc, data) {
            data.state.pinned.set(Some(pinned));
            if reported == Outcome::RetrySamePeer {
                // SAFETY: as above. nginx allows one try more after one on a used connection.
                unsafe { (*pc).tries = (*pc).tries.saturating_sub(1) };
            }
            return;
        }
    }
    // what we have nothing to say about goes on as it came
    let state = if reported == outcome { state } else { reported.state() };
    // SAFETY: nginx's peer, for which the balancer has chosen a server.
    unsafe {
        match data.released.get() {
            false => data.balancer.get().release(pc, state),
            true => (*pc).tries = (*pc).tries.saturating_sub(1),
        }
        if reported == Outcome::Refused {
            (*pc).tries = 0;
        }
        // what nobody has taken, nginx closes next
        if let Some(c) = NonNull::new((*pc).connection) {
            spare::keep(c.as_ptr());
        }
    }
}

/// `peer.notify`, called since nginx 1.29.6: the head of a response has come.
unsafe extern "C" fn notify<H: Module>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    kind: ngx_uint_t,
) {
    // SAFETY: `install` put it there; it is only ever shared.
    let data = unsafe { &*data.cast::<PeerData<'_, H>>() };
    let balancer = data.balancer.get();
    if let (Some(original), false) = (balancer.notify, data.released.get()) {
        // SAFETY: the balancer's own callback with its own data, while its server is chosen.
        unsafe { original(pc, balancer.data, kind) };
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn set_session<H: Module>(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `install` put it there; the balancer's own callback with its own data.
    unsafe {
        let data = &*data.cast::<PeerData<'_, H>>();
        if data.released.get() {
            return OK;
        }
        let balancer = data.balancer.get();
        balancer.set_session.map_or(OK, |original| original(pc, balancer.data))
    }
}

#[cfg(ngx_feature = "http_ssl")]
unsafe extern "C" fn save_session<H: Module>(pc: *mut ngx_peer_connection_t, data: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        let data = &*data.cast::<PeerData<'_, H>>();
        if data.released.get() {
            return;
        }
        let balancer = data.balancer.get();
        if let Some(original) = balancer.save_session {
            original(pc, balancer.data);
        }
    }
}
