//! The end of a try: what becomes of its connection, and what the balancer is told of the server.

use super::observe::{observe, Event};
use super::queue::settings_of;
use super::retry::bridges_restart;
use super::tally::{self, response_end};
use super::{advise, health, idle, limit, line, places, refused, silent, wait};
use crate::conf::connections::EffectiveSettings;
use crate::module::Peer;
use crate::nginx::connection::Connection;
use crate::nginx::peer::Outcome;
use crate::nginx::status::{CLIENT_CLOSED_REQUEST, ERROR};
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{self, Request};
use crate::pure::pool::policy::{self, Facts, LastUse, Reuse};
use crate::pure::stats::Failure;
use crate::pure::uwsgi::framing::End;
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
    let in_vain = outcome == Outcome::Done
        && state.attempt().response.head().is_none()
        && state.upstream.is_request_begun()
        && r.has_lost_client();
    if in_vain {
        observe(
            peer.servers(),
            state.attempt().slot.get(),
            r.log(),
            Event::WorkedInVain { name: peer.name() },
        );
        // who had waited before has left because of that, as have those who leave the line
        let waited = state.waited.get();
        if waited > 0 {
            line::left_in_vain(peer, state.attempt().slot.get(), waited, false);
        }
    }
    let reported = report_to_balancer(r, peer, connection, outcome);
    tally::count(r, peer, Some(connection), reported);
    if reported == outcome || reported == Outcome::Next {
        advise::learn(r, peer, outcome);
    }
    judge(r, peer, connection, outcome);
    reported
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
    // nginx would close it after this, when another worker may have opened one in its place
    if state.attempt().counted.get() && limit::of(peer) > 0 {
        peer.discard();
    }
    limit::look(peer);
    silent::look(peer);
    places::give_back(servers, state);
}

/// The verdict on the connection: it is parked, or nginx closes it.
fn judge<'a>(r: Request<'a>, peer: Peer<'a>, connection: Connection<'a>, outcome: Outcome) {
    let (state, settings) = (peer.state(), settings_of(peer));
    let attempt = state.attempt();
    let facts = facts(r, peer, settings, connection, outcome);
    let descriptor = connection.descriptor();
    let parked = policy::verdict(&facts).and_then(|()| {
        let last_use = LastUse {
            started_at: attempt.started_at.get(),
            body: state.body_length(r),
            since: (settings.reuse == Reuse::Auto).then(nginx::now),
        };
        idle::park(r, peer, last_use, settings)
    });
    state.verdict.set(Some(match parked {
        Ok(()) => Verdict::Kept,
        Err(refusal) => {
            // what comes while the body is read is logged there
            let is_read = matches!(attempt.response.answer.get(), Answer::Body(..));
            let is_news = facts.end == End::Clean || !is_read;
            let closed = Event::Closed { descriptor, refusal, is_news };
            observe(peer.servers(), attempt.slot.get(), r.log(), closed);
            Verdict::Closed(refusal)
        }
    }));
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

fn facts<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    settings: &EffectiveSettings,
    connection: Connection<'_>,
    outcome: Outcome,
) -> Facts {
    let state = peer.state();
    let (u, attempt) = (state.upstream, state.attempt());
    Facts {
        reuse: settings.reuse,
        limits: settings.limits(),
        shared: attempt.shared.get(),
        exiting: nginx::is_exiting(),
        failed: outcome == Outcome::Failed || connection.has_failed(),
        request_written: u.is_request_written(),
        length_is_ours: state.conf.string_has_no_length,
        head: r.is_head(),
        status: attempt.response.head().map(|head| head.status),
        said: attempt.response.fields.get().said(),
        end: response_end(state),
        requests: connection.requests(),
        age: connection.age(),
    }
}
