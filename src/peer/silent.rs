//! Servers over TCP, of which nothing tells that their listen queue is full ([`crate::pure::silent`]).

use std::sync::atomic::AtomicU64;

use super::limit;
use super::queue::settings_of;
use crate::module::{Peer, Waiter};
use crate::nginx::{self, zone};
use crate::pure::limit::MaxConnections;
use crate::pure::silent::{Silent, AT};
use crate::pure::zone::SlotId;
use crate::state::Connecting;

/// With no more than so many requests in flight the listen queue of a server is not looked after, and nginx makes the
/// connection: no server's is so short.
const FEW: u64 = 8;
/// An attempt to connect to a server that may be gone is looked after again in so many milliseconds.
const RECHECK: u64 = 50;

fn known(slot: Option<SlotId>) -> Silent<'static, AtomicU64> {
    let words = zone::at(slot);
    Silent::new(words.map_or(&[][..], |(worker, slot)| worker.zone().shared_words(slot, AT)))
}

/// Is an attempt to connect to be looked after, which is made now?
#[inline]
pub fn is_watched(peer: Peer<'_>) -> bool {
    !peer.is_unix() && has_many(peer)
}

/// Is there more with the server than its listen queue is sure to hold?
#[inline(never)]
fn has_many(peer: Peer<'_>) -> bool {
    let slot = peer.state().attempt().slot.get();
    let Some((worker, own)) = zone::at(slot) else { return false };
    worker.zone().gauges(own).in_flight() > FEW || limit::is_overloaded(slot)
}

/// An attempt to connect has begun, whose outcome is not known yet.
pub fn begin(peer: Peer<'_>, waiter: &Waiter<'_>) {
    let attempt = peer.state().attempt();
    let Some((worker, slot)) = zone::at(attempt.slot.get()) else { return };
    if !is_watched(peer) {
        return;
    }
    let others = worker.zone().gauges(slot).in_flight().saturating_sub(1);
    attempt.connecting.set(Some(Connecting { since: nginx::now(), others }));
    look_in(peer, waiter);
}

fn look_in(peer: Peer<'_>, waiter: &Waiter<'_>) {
    let attempt = peer.state().attempt();
    waiter.look_in(known(attempt.slot.get()).patience(attempt.dropped.get()) as usize);
}

/// The server has taken the connection.
pub fn connected(peer: Peer<'_>) {
    let attempt = peer.state().attempt();
    if let Some(Connecting { since, .. }) = attempt.connecting.take() {
        let time = nginx::now().wrapping_sub(since) as u64;
        known(attempt.slot.get()).connected(time, nginx::now() as u64);
    }
}

/// The server has taken a connection while it was being asked for.
pub fn connected_at_once(peer: Peer<'_>) {
    known(peer.state().attempt().slot.get()).connected(0, nginx::now() as u64);
}

/// The attempt to connect has had no answer for long. Is it to be taken for dropped? Else it goes on.
pub fn is_dropped(peer: Peer<'_>, waiter: &Waiter<'_>) -> bool {
    let attempt = peer.state().attempt();
    let Some(Connecting { since, others }) = attempt.connecting.get() else { return false };
    let (slot, now) = (attempt.slot.get(), nginx::now());
    let known = known(slot);
    // how long it takes may have become known meanwhile
    let waited = now.wrapping_sub(since) as u64;
    let patience = known.patience(attempt.dropped.get());
    if waited < patience || !known.is_alive(now as u64) {
        waiter.look_in(patience.saturating_sub(waited).max(RECHECK) as usize);
        return false;
    }
    attempt.connecting.set(None);
    attempt.dropped.set(attempt.dropped.get().saturating_add(1));
    if let Some(limit) = known.dropped(others, now as u64) {
        limit::lower(peer, limit);
    }
    true
}

/// The try is over. Where the server has answered while others wait, there may be room for more.
#[inline]
pub fn look(peer: Peer<'_>) {
    if !peer.is_unix() && peer.state().attempt().response.head().is_some() {
        answered(peer);
    }
}

/// The server has answered.
#[inline(never)]
fn answered(peer: Peer<'_>) {
    let attempt = peer.state().attempt();
    let Some((worker, slot)) = zone::at(attempt.slot.get()) else { return };
    let known = known(Some(slot));
    known.alive(nginx::now() as u64);
    if matches!(settings_of(peer).max_connections, MaxConnections::Number(_)) {
        return;
    }
    let max = limit::of(peer);
    if max > 0 && worker.zone().waiting(slot) > 0 {
        limit::overflow(Some(slot));
        if let Some(max) = known.answered(max) {
            limit::raise(peer, max);
        }
    }
}
