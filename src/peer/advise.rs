//! What may be wrong with a server that gives no answer, or none that is its own.

use super::observe::{observe, Event};
use super::refused;
use crate::module::Peer;
use crate::nginx::connection::Connection;
use crate::nginx::peer::Outcome;
use crate::nginx::Request;
use crate::state::Answer;

/// What an HTTP server answers to a packet of uwsgi, if anything.
const BAD_REQUEST: u16 = 400;

/// A try is over that may say something of the server: learns from it, and advises. `status`: that of the response.
#[inline(always)]
pub fn learn<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome, status: Option<u16>) {
    match status {
        // the rule
        Some(status) if status != BAD_REQUEST => understood(peer),
        _ => learn_of_failure(r, peer, outcome),
    }
}

/// The server has answered as it should.
#[inline(always)]
fn understood(peer: Peer<'_>) {
    refused::answered(peer);
    peer.servers().queue.hints.set_understood();
}

#[cold]
fn learn_of_failure<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) {
    let (state, hints) = (peer.state(), &peer.servers().queue.hints);
    let response = &state.attempt().response;
    match response.head().map(|head| head.status) {
        Some(BAD_REQUEST) if !hints.is_understood() => {}
        Some(_) => return understood(peer),
        None if outcome == Outcome::Failed && state.upstream.is_request_begun() => {}
        None => return,
    }
    // An HTTP server looks for the end of a line: without one it waits, until one of the two gives up,
    // with one it complains.
    let is_strange = match response.answer.get() {
        Answer::Page | Answer::Head(_) | Answer::Body(..) => true,
        Answer::Begun => false,
        Answer::None => {
            let connection = peer.connection();
            let timed_out = connection.is_some_and(Connection::has_timed_out);
            if timed_out || connection.is_some_and(|connection| connection.cut().is_some()) {
                hints.count_unanswered();
            }
            hints.is_mute()
        }
    };
    if is_strange && !hints.is_understood() {
        let slot = state.attempt().slot.get();
        observe(peer.servers(), slot, r.log(), Event::NotUnderstood { name: peer.name() });
    }
}
