//! How many connections a server may have: what is configured, or what was found out
//! ([`crate::pure::limit`]).

use std::sync::atomic::AtomicU64;

use super::observe::{observe, Event};
use super::queue::settings_of;
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers};
use crate::nginx::connection::is_unread;
use crate::nginx::log::Log;
use crate::nginx::{self, zone, Request};
use crate::pure::limit::{Bounds, Limit, Look, MaxConnections, News, AT, OVERLOADED_UNTIL_AT};
use crate::pure::zone::{SlotId, Word};

/// What was found out of the server with this slot. Without a zone, or a place in it, nothing is.
pub fn learned(slot: Option<SlotId>) -> Limit<'static, AtomicU64> {
    let words = zone::at(slot);
    Limit::new(words.map_or(&[][..], |(worker, slot)| worker.zone().shared_words(slot, AT)))
}

/// Is the server with this slot overloaded, by its own word ([`Limit::is_overloaded`])? Every request comes by here.
#[inline(always)]
pub fn is_overloaded(slot: Option<SlotId>) -> bool {
    zone::at(slot).is_some_and(|(worker, slot)| {
        let until = worker.zone().shared_word(slot, OVERLOADED_UNTIL_AT);
        until.is_some_and(|until| (nginx::now() as u64) < until.get_relaxed())
    })
}

/// Between which numbers the limit of the server with this slot is to be found, where it is to be found out now.
#[inline(always)]
pub fn bounds_of(max: MaxConnections, slot: Option<SlotId>) -> Option<Bounds> {
    match max {
        MaxConnections::Number(_) => None,
        MaxConnections::Auto(bounds) => Some(bounds),
        MaxConnections::Unsaid => is_overloaded(slot).then_some(Bounds::ANY),
    }
}

/// How many connections a server may have; 0: as many as you like.
#[inline(always)]
fn in_force(max: MaxConnections, slot: Option<SlotId>) -> u64 {
    match max {
        MaxConnections::Number(number) => number,
        _ => bounds_of(max, slot).map_or(0, |bounds| known(slot, bounds)),
    }
}

/// The limit that has been found out.
#[inline(never)]
fn known(slot: Option<SlotId>, bounds: Bounds) -> u64 {
    learned(slot).known(bounds).unwrap_or(0)
}

/// The same for the server of this try.
#[inline(always)]
pub fn of(peer: Peer<'_>) -> u64 {
    in_force(settings_of(peer).max_connections, peer.state().attempt().slot.get())
}

/// May the server of this try have a limit?
#[inline(always)]
pub fn may_be(peer: Peer<'_>) -> bool {
    let is_unsaid = matches!(settings_of(peer).max_connections, MaxConnections::Unsaid);
    !is_unsaid || is_overloaded(peer.state().attempt().slot.get())
}

/// What all who pass to the upstream have agreed on, for the server with this slot.
#[inline(always)]
pub fn agreed(servers: &Servers, slot: Option<SlotId>) -> u64 {
    in_force(configured(servers), slot)
}

/// `rs_uwsgi_max_connections`, as all who pass to the upstream have agreed.
#[inline]
pub fn configured(servers: &Servers) -> MaxConnections {
    let max = servers.settings.max_connections.value();
    max.unwrap_or(EffectiveSettings::DEFAULT.max_connections)
}

/// The try has a connection, on which its request is sent next. One with a body may lie unread although the
/// server works on it, and says nothing.
///
/// Also while the server is not overloaded, which costs 50 instructions: when its listen queue runs full, those that lie
/// in it are the ones to be looked at, and with the later ones alone nothing would seem to be read.
#[inline(always)]
pub fn begin(r: Request<'_>, peer: Peer<'_>) {
    if !matches!(settings_of(peer).max_connections, MaxConnections::Number(_)) {
        let (state, attempt) = (peer.state(), peer.state().attempt());
        let (Some(slot), Some(connection)) = (attempt.slot.get(), peer.connection()) else {
            return;
        };
        if peer.is_unix() && state.body_length(r) == 0 && attempt.entry.get().is_none() {
            let mut in_flight = peer.servers().in_flight.borrow_mut();
            attempt.entry.set(Some(in_flight.begin(slot, connection.descriptor())));
        }
    }
}

/// The try is over, and its connection not closed or another's yet.
#[inline(always)]
pub fn end(peer: Peer<'_>) {
    let attempt = peer.state().attempt();
    if let Some(number) = attempt.entry.take() {
        peer.servers().in_flight.borrow_mut().end(number);
    }
}

/// The server's listen queue is full.
pub fn overflow(slot: Option<SlotId>) {
    learned(slot).set_overloaded(nginx::now() as u64);
}

/// The server has shown that it has no room for more than so many: where its limit is to be found out, it is no more.
pub fn lower(peer: Peer<'_>, limit: u64) {
    let slot = peer.state().attempt().slot.get();
    overflow(slot);
    if let Some(bounds) = bounds(peer) {
        tell(peer, learned(slot).lower(limit, bounds));
    }
}

/// Whether there is room for so many is tried, because others wait.
pub fn raise(peer: Peer<'_>, limit: u64) {
    if let Some(bounds) = bounds(peer) {
        let learned = learned(peer.state().attempt().slot.get());
        tell(peer, learned.set(limit, bounds));
    }
}

fn tell(peer: Peer<'_>, news: Option<News>) {
    if let Some(news) = news {
        let (servers, slot) = (peer.servers(), peer.state().attempt().slot.get());
        let found = Event::LimitFound { name: peer.name(), news };
        observe(servers, slot, Log::of_worker(), found);
    }
}

/// [`bounds_of`] the server of this try.
fn bounds(peer: Peer<'_>) -> Option<Bounds> {
    bounds_of(settings_of(peer).max_connections, peer.state().attempt().slot.get())
}

/// The try is over. Where the server has answered, the others are looked at; also where the client has left the
/// server that is overloaded, because in the end all of them do so before they have an answer.
pub fn look(peer: Peer<'_>) {
    let Some(bounds) = bounds(peer) else { return };
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    let Some((worker, slot)) = zone::at(attempt.slot.get()) else { return };
    let limit = learned(Some(slot));
    let ends_a_request = attempt.response.head().is_some()
        || peer.state().upstream.is_request_begun() && limit.is_overloaded(nginx::now() as u64);
    if !ends_a_request || !peer.is_unix() {
        return;
    }
    let mut in_flight = servers.in_flight.borrow_mut();
    if !in_flight.is_due() {
        return;
    }
    let (looked, unread) = in_flight.look(slot, is_unread);
    drop(in_flight);
    let gauges = worker.zone().gauges(slot);
    let others = gauges.in_flight().saturating_sub(attempt.counted.get().into());
    let look = Look { in_flight: others, looked, unread, waits: gauges.waiting > 0 };
    if look.waits {
        overflow(Some(slot));
    }
    tell(peer, limit.look(look, bounds));
}
