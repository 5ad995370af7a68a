//! May a request be sent again? nginx asks after an error; here it is asked before a connection of the pool
//! is taken, and when a server may be being restarted.

use super::queue::settings_of;
use crate::module::{Peer, State};
use crate::nginx::Request;
use crate::pure::vars_limit::Cut;

/// What becomes of a request whose connection turns out to be dead after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Risk {
    /// It is sent again.
    None,
    /// It is not sent again: the connection must not be one that the server may be about to close.
    Loss,
    /// It must not be sent again, but nginx would do so, to another server: it takes all but POST,
    /// PATCH and LOCK for idempotent.
    Repetition,
}

impl Risk {
    /// What it is for this request.
    pub fn of(r: Request<'_>, state: &State<'_>) -> Risk {
        let is_tried_again = !r.is_body_unbuffered() && state.conf.tries_again_on_error();
        match (is_tried_again, r.is_idempotent()) {
            (true, true) => Risk::None,
            (true, false) if !r.is_held_back() => Risk::Repetition,
            _ => Risk::Loss,
        }
    }
}

/// If the server has ended the connection before an answer, is the request sent again to the one that
/// takes its place? `rs_uwsgi_connect_retry` bridges restarts, for what may be repeated.
pub fn bridges_restart(r: Request<'_>, peer: Peer<'_>, end: Cut) -> bool {
    let state = peer.state();
    settings_of(peer).connect_retry > 0
        && !state.attempt().response.has_begun()
        && !peer.has_others()
        && state.bridged.get().may_follow(end, state.vars_size(), state.body_length(r) > 0)
        && Risk::of(r, state) == Risk::None
}
