//! How many connections a server may have: what is configured, or what was found out
//! ([`crate::pure::limit`]).

use std::sync::atomic::AtomicU64;

use super::observe::{observe, Event};
use super::queue::settings_of;
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers};
use crate::nginx::connection::is_unread;
use crate::nginx::log::Log;
use crate::nginx::{zone, Request};
use crate::pure::limit::{Limit, Look, MaxConnections, AT};
use crate::pure::zone::SlotId;

/// What was found out of the server with this slot. Without a zone, or a place in it, nothing is.
pub fn learned(slot: Option<SlotId>) -> Limit<'static, AtomicU64> {
    let words = zone::at(slot);
    Limit::new(words.map_or(&[][..], |(worker, slot)| worker.zone().shared_words(slot, AT)))
}

/// How many connections a server may have; 0: as many as you like.
#[inline]
fn in_force(max: MaxConnections, slot: Option<SlotId>) -> u64 {
    match max {
        MaxConnections::Number(number) => number,
        MaxConnections::Auto(bounds) => learned(slot).known(bounds).unwrap_or(0),
    }
}

/// The same for the server of this try.
#[inline]
pub fn of(peer: Peer<'_>) -> u64 {
    in_force(settings_of(peer).max_connections, peer.state().attempt().slot.get())
}

/// What all who pass to the upstream have agreed on, for the server with this slot.
#[inline]
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
pub fn begin(r: Request<'_>, peer: Peer<'_>) {
    if let MaxConnections::Auto(_) = settings_of(peer).max_connections {
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
pub fn end(peer: Peer<'_>) {
    let attempt = peer.state().attempt();
    if let Some(number) = attempt.entry.take() {
        peer.servers().in_flight.borrow_mut().end(number);
    }
}

/// The try is over. Where the server has answered, the others are looked at.
pub fn look(peer: Peer<'_>) {
    let MaxConnections::Auto(bounds) = settings_of(peer).max_connections else { return };
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    let Some((worker, slot)) = zone::at(attempt.slot.get()) else { return };
    if attempt.response.head().is_none() || !peer.is_unix() {
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
    if let Some(news) = learned(Some(slot)).look(look, bounds) {
        let found = Event::LimitFound { name: peer.name(), news };
        observe(servers, Some(slot), Log::of_worker(), found);
    }
}
