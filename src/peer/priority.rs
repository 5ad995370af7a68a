//! Which of those who wait matter more: `rs_uwsgi_priority`.

use super::observe::{observe, Event};
use crate::conf::priority::{parse, Priority};
use crate::module::Peer;
use crate::nginx::Request;
use crate::pure::line::DEFAULT_PRIORITY;

/// The priority of a request, 0 to 9.
pub fn of(r: Request<'_>, peer: Peer<'_>) -> u8 {
    let value = match peer.state().conf.priority {
        None => return DEFAULT_PRIORITY,
        Some(Priority::Fixed(priority)) => return priority,
        Some(Priority::Variable(value)) => value.evaluate(r).unwrap_or_default(),
    };
    if value.is_empty() {
        return DEFAULT_PRIORITY;
    }
    parse(value).unwrap_or_else(|| {
        observe(
            peer.servers(),
            peer.state().attempt().slot.get(),
            r.log(),
            Event::NoPriority { value },
        );
        DEFAULT_PRIORITY
    })
}
