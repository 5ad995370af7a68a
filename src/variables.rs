//! The module's variables. `$upstream_…` are nginx's own.

use crate::nginx::conf::{Conf, Error};
use crate::nginx::variables::{self, Getter};
use crate::nginx::Request;
use crate::peer::health::state_of;
use crate::state::{ConnectionOrigin, RequestState, Verdict};

/// Name and value of each.
const VARIABLES: &[(&str, &Getter)] = &[
    ("rs_uwsgi_vars_size", &(vars_size as Getter)),
    ("rs_uwsgi_connection", &(connection as Getter)),
    ("rs_uwsgi_queue_time", &(queue_time as Getter)),
    ("rs_uwsgi_verdict", &(verdict as Getter)),
    ("rs_uwsgi_health", &(health as Getter)),
    ("rs_uwsgi_tries", &(tries as Getter)),
    ("rs_uwsgi_queue_position", &(queue_position as Getter)),
    (IN_FLIGHT, &(in_flight as Getter)),
];
const IN_FLIGHT: &str = "rs_uwsgi_in_flight";

/// Defines the variables.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn add(cf: Conf<'_>) -> Result<(), Error> {
    VARIABLES.iter().try_for_each(|(name, getter)| variables::add(cf, name, getter))
}

/// Does anybody want to know how many requests are in flight when one comes? Finding out costs each request
/// something.
pub fn shows_in_flight(cf: Conf<'_>) -> bool {
    variables::is_used(cf, IN_FLIGHT)
}

/// `$rs_uwsgi_vars_size`: the bytes of the vars that were sent, or that were too large for it. None where
/// none were.
fn vars_size(r: Request<'_>) -> Option<String> {
    let state = RequestState::of(r)?;
    let refused = state.refused_size.get().map(|size| size as usize);
    let sent = || sent(r).map(|_| state.vars_size());
    Some(refused.or_else(sent)?.to_string())
}

/// The connection that something of the request was sent on last. None where nothing was.
fn sent(r: Request<'_>) -> Option<ConnectionOrigin> {
    let state = RequestState::of(r)?;
    match state.upstream.is_request_begun() {
        // hosts that a resolver has looked up have no pool
        true => state.attempt().connection.get().or(Some(ConnectionOrigin::New)),
        false => state.sent.get(),
    }
}

/// `$rs_uwsgi_connection`: `new` or `reused`, the connection that the request was sent on last. None
/// where it was not sent.
fn connection(r: Request<'_>) -> Option<String> {
    Some(match sent(r)? {
        ConnectionOrigin::New => "new".into(),
        ConnectionOrigin::Reused => "reused".into(),
    })
}

/// `$rs_uwsgi_queue_time`: the seconds, with milliseconds, for which the request has waited for
/// connections to servers. None where no server was asked.
fn queue_time(r: Request<'_>) -> Option<String> {
    let state = RequestState::of(r)?;
    state.attempt().connection.get()?;
    let waits = state.waiter.get().map_or(0, |waiter| waiter.time());
    let waited = state.waited.get() + waits;
    Some(format!("{}.{:03}", waited / 1000, waited % 1000))
}

/// `$rs_uwsgi_verdict`: what became of the connection that the request was sent on last: `kept`, or why it
/// was closed. None where there was none.
fn verdict(r: Request<'_>) -> Option<String> {
    Some(match RequestState::of(r)?.verdict.get()? {
        Verdict::Kept => "kept".into(),
        Verdict::Closed(refusal) => refusal.to_string(),
    })
}

/// `$rs_uwsgi_health`: `checking`, `up` or `down`, what is known now of the server that was asked last. None
/// where it is not checked.
fn health(r: Request<'_>) -> Option<String> {
    let peer = RequestState::of(r)?.attempt().peer.get()?;
    Some(state_of(peer)?.name().into())
}

/// `$rs_uwsgi_tries`: how many times a server was chosen for the request. None where none was.
fn tries(r: Request<'_>) -> Option<String> {
    let tries = RequestState::of(r)?.tries.get();
    (tries > 0).then(|| tries.to_string())
}

/// `$rs_uwsgi_queue_position`: the place in the queue that the request got when it began to wait last, from 1
/// on; 0 where it did not wait. None where no server was asked.
fn queue_position(r: Request<'_>) -> Option<String> {
    let state = RequestState::of(r)?;
    (state.tries.get() > 0).then(|| state.queue_position.get().to_string())
}

/// `$rs_uwsgi_in_flight`: how many other requests the server that was asked last worked on when it was chosen.
/// None where none was, or nothing is counted.
fn in_flight(r: Request<'_>) -> Option<String> {
    Some(RequestState::of(r)?.attempt().in_flight.get()?.to_string())
}
