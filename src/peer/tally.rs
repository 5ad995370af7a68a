//! What is counted of a try, when it is over.

use super::observe::{observe, Event};
use super::retry::Risk;
use crate::module::{Peer, State};
use crate::nginx::connection::Connection;
use crate::nginx::peer::Outcome;
use crate::nginx::{self, Request};
use crate::pure::stats::{Failure, QueueEnd, Try};
use crate::pure::uwsgi::framing::{Chunks, End};
use crate::state::{Answer, Before, ConnectionOrigin, Wait};

/// Counts a try whose connection has not failed, with an answer of this status, as [`count`] does.
#[inline(always)]
pub fn count_done<'a>(r: Request<'a>, peer: Peer<'a>, connection: Connection<'_>, status: u16) {
    let state = peer.state();
    let (u, attempt) = (state.upstream, state.attempt());
    let is_plain = u.is_request_begun()
        && u.is_request_written()
        && !state.client_gone.get()
        && attempt.after.get() == Before::Nothing
        && attempt.failure.get().is_none()
        && attempt.response.interim.get() == 0;
    if !is_plain {
        return count(r, peer, Some(connection), Outcome::Done);
    }
    // apart from the others, as with what is known here half of the counters are out of the question
    let measured = u.measured();
    let tried = Try {
        sent: true,
        reused: attempt.connection.get() == Some(ConnectionOrigin::Reused),
        status: Some(status),
        vars_size: state.vars_size() as u64,
        bytes: (measured.sent, measured.received),
        connect: measured.connect,
        header: measured.header,
        response: measured.time,
        now: nginx::now() as u64,
        ..Try::default()
    };
    observe(peer.servers(), attempt.slot.get(), r.log(), Event::Over { tried: &tried });
}

/// Counts a try that has ended with this outcome. `connection`: none where there could be none.
#[inline(never)]
pub fn count<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    connection: Option<Connection<'_>>,
    outcome: Outcome,
) {
    let state = peer.state();
    let (u, attempt) = (state.upstream, state.attempt());
    let (measured, response) = (u.measured(), &attempt.response);
    let client_gone = state.client_gone.get();
    let status = response.head().map(|head| head.status);
    let has_failed = connection.is_none_or(Connection::has_failed);
    let failure = match outcome == Outcome::Done && !has_failed && attempt.failure.get().is_none() {
        true => None,
        false => failure(r, state, connection, outcome),
    };
    // nginx notes the time before it looks at what came of it
    let is_connected = !failure.is_some_and(Failure::is_of_connecting);
    let tried = Try {
        sent: u.is_request_begun(),
        reused: attempt.connection.get() == Some(ConnectionOrigin::Reused),
        is_next: attempt.after.get() == Before::Other,
        repeated: attempt.after.get() == Before::Same,
        early: status.is_some() && (!u.is_request_written() || has_failed && u.is_request_cut()),
        client_gone,
        interim: response.interim.get(),
        status,
        failure,
        vars_size: state.vars_size() as u64,
        bytes: (measured.sent, measured.received),
        connect: measured.connect.filter(|_| is_connected),
        header: measured.header,
        response: measured.time,
        now: nginx::now() as u64,
    };
    observe(peer.servers(), attempt.slot.get(), r.log(), Event::Over { tried: &tried });
    match outcome {
        Outcome::Done => {}
        _ if is_repeated(outcome) => state.before.set(Before::Same),
        _ => state.before.set(Before::Other),
    }
}

/// How a try has failed, if it has.
#[cold]
fn failure<'a>(
    r: Request<'a>,
    state: &State<'a>,
    connection: Option<Connection<'_>>,
    outcome: Outcome,
) -> Option<Failure> {
    // what is sent again has not failed yet
    let is_sent_again = is_repeated(outcome) && Risk::of(r, state) == Risk::None;
    match state.client_gone.get() || is_sent_again {
        true => None,
        false => classify(state, connection, outcome),
    }
}

/// Does the request go to the same server again?
fn is_repeated(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::RetrySamePeer | Outcome::Restarting)
}

fn classify(
    state: &State<'_>,
    connection: Option<Connection<'_>>,
    outcome: Outcome,
) -> Option<Failure> {
    let (u, attempt) = (state.upstream, state.attempt());
    if let Some(known) = attempt.failure.get() {
        return Some(known);
    }
    // what it waited for was not the server's doing
    if matches!(attempt.wait.get(), Wait::Over(end) if end != QueueEnd::Served) {
        return None;
    }
    let Some(connection) = connection else { return Some(Failure::ConnectError) };
    let timed_out = connection.has_timed_out();
    if timed_out && u.measured().connect.is_none() {
        return Some(Failure::ConnectTimeout);
    }
    if timed_out && connection.has_timed_out_sending() {
        return Some(Failure::SendTimeout);
    }
    if timed_out {
        return Some(Failure::ReadTimeout);
    }
    if attempt.response.head().is_some() {
        let is_cut = match response_end(state) {
            End::Open | End::Uncertain => connection.has_failed(),
            End::ByClose => connection.was_reset() && !u.is_request_cut(),
            End::Clean | End::Surplus => false,
        };
        return is_cut.then_some(Failure::CutShort);
    }
    if outcome == Outcome::Done {
        // ended by nginx or the client
        return None;
    }
    if !u.is_request_begun() {
        return Some(Failure::ConnectError);
    }
    let has_begun = attempt.response.has_begun();
    Some(match connection.has_failed() {
        true if connection.was_reset() => Failure::Reset,
        true => Failure::ClosedEarly,
        false if has_begun && u.is_head_too_big() => Failure::HeadTooBig,
        false if has_begun => Failure::InvalidHead,
        false => Failure::Other,
    })
}

/// How far the response of a try has come.
#[inline(always)]
pub fn response_end(state: &State<'_>) -> End {
    let response = &state.attempt().response;
    let (head, received, chunks) = match response.answer.get() {
        Answer::None | Answer::Begun | Answer::Page => return End::Open,
        // what nginx did not read may have come all the same
        Answer::Head(head) => (head, head.after.into(), Chunks::Open),
        Answer::Body(head, body) => (head, state.upstream.body_received(), body.chunks),
    };
    response.fields.get().framing(head.status).end(received, chunks)
}
