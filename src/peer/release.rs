//! The end of a try: what becomes of its connection, and what the balancer is told of the server.

use super::observe::{observe, Event};
use super::queue::settings_of;
use super::retry::bridges_restart;
use super::tally::{self, response_end};
use super::{advise, health, idle, limit, line, places, refused, silent, wait};
use crate::module::Peer;
use crate::nginx::connection::Connection;
use crate::nginx::peer::Outcome;
use crate::nginx::status::{CLIENT_CLOSED_REQUEST, ERROR};
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{self, Request};
use crate::pure::pool::policy::{self, Known, LastUse, Limits, Refusal, Reuse};
use crate::pure::stats::Failure;
use crate::pure::uwsgi::framing::{End, Said};
use crate::pure::vars_limit::Fault;
use crate::state::{Answer, ConnectionOrigin, RequestState, Verdict};

/// Parks the connection or leaves it to nginx, which closes it. Returns what the balancer is told.
pub fn release<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
    let reported = settle(r, peer, outcome);
    if reported == Outcome::Failed && !peer.state().attempt().response.has_begun() {
        health::request_failed(peer);
    }
    reported
}

fn settle<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
    let state = peer.state();
    if let Some(waiter) = state.waiter.get() {
        // given up: the client has left
        wait::give_up(r, waiter);
        return outcome;
    }
    if state.upstream.is_request_begun() {
        state.sent.set(state.attempt().connection.get());
    }
    // where it could not be made, there is none
    let Some(connection) = peer.connection() else {
        tally::count(r, peer, None, outcome);
        return outcome;
    };
    let status = state.attempt().response.head().map(|head| head.status);
    if status.is_none() && outcome == Outcome::Done {
        look_for_client(r, peer);
    }
    let reported = report_to_balancer(r, peer, connection, outcome);
    let failed = outcome == Outcome::Failed || connection.has_failed();
    let facts = Facts { r, peer, connection, status, failed };
    match (reported == Outcome::Done && !failed, status) {
        (true, Some(status)) => tally::count_done(r, peer, connection, status),
        _ => tally::count(r, peer, Some(connection), reported),
    }
    if reported == outcome || reported == Outcome::Next {
        advise::learn(r, peer, outcome, status);
    }
    judge(&facts);
    reported
}

/// Has the client left while the server worked on its request?
#[cold]
fn look_for_client<'a>(r: Request<'a>, peer: Peer<'a>) {
    let state = peer.state();
    if !state.upstream.is_request_begun() || !r.has_lost_client() {
        return;
    }
    let slot = state.attempt().slot.get();
    observe(peer.servers(), slot, r.log(), Event::WorkedInVain { name: peer.name() });
    // who had waited before has left because of that, as have those who leave the line
    let waited = state.waited.get();
    if waited > 0 {
        line::left_in_vain(peer, slot, waited, false);
    }
}

/// nginx ends the upstream's part with this status: has the client left?
pub fn note_end(r: Request<'_>, rc: ngx_int_t) {
    if let Some(state) = RequestState::of(r) {
        state.client_gone.set(rc == CLIENT_CLOSED_REQUEST || r.has_lost_client());
        let is_invalid = state.attempt().failure.get() == Some(Failure::InvalidBody);
        if rc == ERROR && !is_invalid && !r.has_lost_client() && state.upstream.is_given_up() {
            r.log().error(format_args!(
                "response is cut short: nginx could not keep what its client has not read yet"
            ));
            r.end_by_reset();
        }
    }
}

/// The try is over, whatever has become of it: its place is free, and whoever waits for one has its turn.
pub fn end_try(peer: Peer<'_>) {
    let (state, servers) = (peer.state(), peer.servers());
    limit::end(peer);
    health::end(peer);
    // where `release` has failed
    if let Some(waiter) = state.waiter.take() {
        wait::forget(waiter);
    }
    if limit::may_be(peer) {
        end_with_limit(peer);
    }
    silent::look(peer);
    places::give_back(servers, state);
}

/// The same where the server may have a limit.
#[inline(never)]
fn end_with_limit(peer: Peer<'_>) {
    // nginx would close it after this, when another worker may have opened one in its place
    if peer.state().attempt().counted.get() && limit::of(peer) > 0 {
        peer.discard();
    }
    limit::look(peer);
}

/// The verdict on the connection: it is parked, or nginx closes it.
#[inline(always)]
fn judge(facts: &Facts<'_>) {
    let &Facts { r, peer, .. } = facts;
    let (state, settings) = (peer.state(), settings_of(peer));
    let parked = policy::verdict(facts).and_then(|()| {
        let last_use = LastUse {
            started_at: state.attempt().started_at.get(),
            body: state.body_length(r),
            since: (settings.reuse == Reuse::Auto).then(nginx::now),
        };
        idle::park(r, peer, last_use, settings)
    });
    let verdict = match parked {
        Ok(()) => Verdict::Kept,
        Err(refusal) => {
            note_close(r, peer, facts.connection, refusal);
            Verdict::Closed(refusal)
        }
    };
    state.verdict.set(Some(verdict));
}

/// nginx closes the connection.
#[inline(never)]
fn note_close<'a>(r: Request<'a>, peer: Peer<'a>, connection: Connection<'_>, refusal: Refusal) {
    let state = peer.state();
    let attempt = state.attempt();
    // what comes while the body is read is logged there
    let is_news = refusal == Refusal::Surplus
        && (!matches!(attempt.response.answer.get(), Answer::Body(..))
            || response_end(state) == End::Clean);
    let closed = Event::Closed { descriptor: connection.descriptor(), refusal, is_news };
    observe(peer.servers(), attempt.slot.get(), r.log(), closed);
}

/// A connection from the pool that the server had closed says nothing of the server: the same request
/// goes to it again on a new connection, where it may be repeated.
///
/// Neither does one that the request itself has ended, nor a head too large for nginx's buffer: a client
/// that repeats such a request must not take the server from all others.
fn report_to_balancer<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    connection: Connection<'_>,
    outcome: Outcome,
) -> Outcome {
    if outcome != Outcome::Failed || connection.has_timed_out() {
        return outcome;
    }
    let state = peer.state();
    let (u, attempt) = (state.upstream, state.attempt());
    if attempt.response.has_begun() {
        let is_too_big = attempt.response.head().is_none() && u.is_head_too_big();
        return if is_too_big { Outcome::Next } else { outcome };
    }
    if attempt.connection.get() == Some(ConnectionOrigin::Reused) {
        state.needs_new_connection.set(true);
        return Outcome::RetrySamePeer;
    }
    if !u.is_request_begun() {
        return outcome;
    }
    if let Some(end) = connection.cut().filter(|end| bridges_restart(r, peer, *end)) {
        state.bridged.set(state.bridged.get().with(end));
        state.needs_new_connection.set(true);
        return Outcome::Restarting;
    }
    match refused::ended(r, peer) {
        Fault::Server => outcome,
        Fault::Unclear => Outcome::Next,
        Fault::Request | Fault::TooLarge => Outcome::Refused,
    }
}

/// What is known of a connection whose try is over.
struct Facts<'a> {
    r: Request<'a>,
    peer: Peer<'a>,
    connection: Connection<'a>,
    status: Option<u16>,
    failed: bool,
}

impl Known for Facts<'_> {
    fn reuse(&self) -> Reuse {
        settings_of(self.peer).reuse
    }

    fn limits(&self) -> Limits {
        settings_of(self.peer).limits()
    }

    fn shared(&self) -> bool {
        self.peer.state().attempt().shared.get()
    }

    fn exiting(&self) -> bool {
        nginx::is_exiting()
    }

    fn failed(&self) -> bool {
        self.failed
    }

    fn request_written(&self) -> bool {
        self.peer.state().upstream.is_request_written()
    }

    fn length_is_ours(&self) -> bool {
        self.peer.state().conf.string_has_no_length
    }

    fn head(&self) -> bool {
        self.r.is_head()
    }

    fn status(&self) -> Option<u16> {
        self.status
    }

    fn said(&self) -> Said {
        self.peer.state().attempt().response.fields.get().said()
    }

    #[inline(always)]
    fn end(&self) -> End {
        response_end(self.peer.state())
    }

    fn requests(&self) -> usize {
        self.connection.requests()
    }

    fn age(&self) -> usize {
        self.connection.age()
    }
}
