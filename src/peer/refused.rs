//! Requests that a server has refused for what they are: they say nothing of the server, and nobody
//! else is asked ([`crate::pure::vars_limit`] has the rules).

use super::observe::{observe, Event};
use super::retry::bridges_restart;
use crate::module::Peer;
use crate::nginx::callbacks::Next;
use crate::nginx::connection::Connection;
use crate::nginx::status::REQUEST_HEADER_FIELDS_TOO_LARGE;
use crate::nginx::{self, Request};
use crate::pure::uwsgi::vars::Vars;
use crate::pure::vars_limit::{Cut, Fault, Limit, Sent, BUFFER_SIZE};
use crate::state::{ConnectionOrigin, RequestState};

const TOO_LARGE: Next = Next::Refuse { status: REQUEST_HEADER_FIELDS_TOO_LARGE, retry_after: None };

/// Would the server refuse the request, as far as is known?
pub fn is_known_too_large(peer: Peer<'_>) -> bool {
    let (size, now) = (peer.state().vars_size(), nginx::now());
    if size <= BUFFER_SIZE {
        return false;
    }
    peer.servers().vars_limits.borrow().of(peer.address()).refuses(size, now)
}

/// A request goes to the server that may be larger than it takes. It counts as the one that tries.
#[inline(always)]
pub fn begin(peer: Peer<'_>) {
    if_large(peer, |limit, size| limit.begin(size, nginx::now()));
}

/// The server has answered.
#[inline(always)]
pub fn answered(peer: Peer<'_>) {
    if_large(peer, Limit::took);
}

/// Changes what is known of the server, where a request is larger than any server's default.
#[inline(always)]
fn if_large(peer: Peer<'_>, change: impl FnOnce(&mut Limit, usize)) {
    let size = peer.state().vars_size();
    if size > BUFFER_SIZE {
        change_limit(peer, |limit| change(limit, size));
    }
}

#[cold]
fn change_limit(peer: Peer<'_>, change: impl FnOnce(&mut Limit)) {
    peer.servers().vars_limits.borrow_mut().change(peer.address(), change);
}

/// The server has closed the connection before it answered. Is the request to be answered with 431
/// ([`answer`]), whatever nginx would do?
pub fn is_refused_by_cut(r: Request<'_>, cut: Cut) -> bool {
    let Some(state) = RequestState::of(r) else { return false };
    let attempt = state.attempt();
    // on one of the pool it says nothing
    let is_new = attempt.connection.get() == Some(ConnectionOrigin::New);
    let (false, true, Some(peer)) = (attempt.response.has_begun(), is_new, attempt.peer.get())
    else {
        return false;
    };
    // as may happen while the server is started anew
    if bridges_restart(r, peer, cut) {
        return false;
    }
    // nginx sends it
    !r.has_stale_response_for_error() && fault(r, peer, cut) == Fault::TooLarge
}

/// Answers a request that [`is_refused_by_cut`] said so of.
pub fn answer(r: Request<'_>) -> Next {
    if let Some(peer) = tried(r) {
        let sent = sent(r, peer);
        change_limit(peer, |limit| limit.ended(&sent, Cut::Reset, nginx::now()));
        let refused = Event::VarsRefused { name: peer.name(), size: sent.size };
        observe(peer.servers(), peer.state().attempt().slot.get(), r.log(), refused);
    }
    TOO_LARGE
}

/// Answers a request that is known to be too large for the server ([`is_known_too_large`]).
pub fn answer_at_once(r: Request<'_>) -> Next {
    if let Some(peer) = tried(r) {
        let size = peer.state().vars_size();
        peer.state().refused_size.set(u32::try_from(size).ok());
        let refused = Event::KnownTooLarge { name: peer.name(), size };
        observe(peer.servers(), peer.state().attempt().slot.get(), r.log(), refused);
    }
    TOO_LARGE
}

/// The server of this try.
fn tried<'a>(r: Request<'a>) -> Option<Peer<'a>> {
    RequestState::of(r)?.attempt().peer.get()
}

/// The end of a try that failed before an answer: whose fault it is, which teaches what the server
/// takes.
pub fn ended(r: Request<'_>, peer: Peer<'_>) -> Fault {
    let cut = peer.connection().and_then(Connection::cut);
    let Some(cut) = cut else { return Fault::Server };
    let (sent, fault) = (sent(r, peer), fault(r, peer, cut));
    change_limit(peer, |limit| limit.ended(&sent, cut, nginx::now()));
    if fault == Fault::Request {
        let at_fault =
            Event::RequestAtFault { name: peer.name(), vars: sent.vars, size: sent.size };
        observe(peer.servers(), peer.state().attempt().slot.get(), r.log(), at_fault);
    }
    fault
}

fn fault(r: Request<'_>, peer: Peer<'_>, cut: Cut) -> Fault {
    let limits = peer.servers().vars_limits.borrow();
    limits.of(peer.address()).fault(&sent(r, peer), cut, nginx::now())
}

fn sent(r: Request<'_>, peer: Peer<'_>) -> Sent {
    let state = peer.state();
    let vars = state.vars();
    Sent { size: vars.len(), vars: Vars::new(vars).count(), has_body: state.body_length(r) > 0 }
}
