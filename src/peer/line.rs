//! The line of those who wait for a server: who joins it, who is next, who leaves it. It is one for all
//! workers ([`crate::pure::zone`]), each of which has its own part of it ([`crate::pure::line`]); where
//! there is no zone, or no room in it for this server, each worker has a line of its own.

use std::sync::atomic::AtomicU64;

use super::limit;
use super::observe::{observe, Event};
use super::places::in_zone;
use super::queue::{self, Queued};
use crate::module::{Peer, Servers, Waiter, Waiting};
use crate::nginx::log::Log;
use crate::nginx::{self, zone};
use crate::pure::line::{Direction, Order, Place};
use crate::pure::overload::{Expected, Overload, AT};
use crate::pure::queue::Turn;
use crate::pure::zone::{Join, Rank, SlotId, LOWER};

/// What is known of those who wait for the server with this slot.
pub fn overload(servers: &Servers, slot: Option<SlotId>) -> Overload<'_, AtomicU64> {
    Overload::new(match zone::at(slot) {
        Some((worker, slot)) => worker.zone().shared_words(slot, AT),
        None => &servers.overload,
    })
}

/// A request begins to wait. Returns how many wait for the server before it; None where these are as many
/// as may. With `most` none, there is room for one more, whoever waits.
pub fn join(
    peer: Peer<'_>,
    waiter: &Waiter<'_>,
    most: Option<usize>,
    place: Place,
) -> Option<usize> {
    let (state, servers) = (peer.state(), peer.servers());
    let attempt = state.attempt();
    let (key, queues) = (attempt.key.get(), &servers.queue.queues);
    let queued = |slot| Queued { waiting: Waiting::of(waiter), slot };
    let Some((worker, slot)) = in_zone(state) else {
        let before = queues.borrow().waiting_for(key);
        if most.is_some_and(|most| before >= most) {
            return None;
        }
        queues.borrow_mut().push(key, place, queued(None));
        turn(servers, key, None);
        begin(servers, None, before);
        return Some(before);
    };
    let most = most.map_or(u64::MAX, |most| most as u64);
    queues.borrow_mut().push(key, place, queued(Some(slot)));
    if turn(servers, key, Some(slot)) {
        queue::wake(servers, key);
    }
    let (first, lower) = known_of(servers, key);
    worker.set_lower(slot, lower);
    match worker.join(slot, most, first.unwrap_or(Rank::MAX)) {
        Join::Waits { waiting } => {
            let before = (waiting as usize).saturating_sub(1);
            begin(servers, Some(slot), before);
            Some(before)
        }
        Join::Overflow => {
            servers.queue.remove(waiter);
            worker.set_lower(slot, known_of(servers, key).1);
            None
        }
        // a slot that somebody waits for here stays: nobody does, and this one looks for another
        Join::Gone => {
            servers.queue.remove(waiter);
            servers.slots.borrow_mut().remove(slot);
            let again = super::places::find_slot(peer).filter(|again| *again != slot);
            attempt.slot.set(again);
            join(peer, waiter, Some(most as usize), place)
        }
    }
}

fn begin(servers: &Servers, slot: Option<SlotId>, before: usize) {
    if before == 0 {
        overload(servers, slot).begin(nginx::now() as u64);
    }
}

/// Takes the request out whose turn it is here, with its place and its rank. None where it is another worker's.
pub fn pop(servers: &Servers, key: &[u8]) -> Option<(Place, Rank, Queued)> {
    let queues = &servers.queue.queues;
    let slot = queues.borrow().line(key)?.first()?.1.slot;
    look(servers, key, slot);
    let is_lower = match zone::at(slot) {
        Some((worker, slot)) => match worker.zone().first(slot) {
            Some((id, _)) if id != worker.id() => return None,
            first => first.is_some_and(|(_, rank)| rank == LOWER),
        },
        None => queues.borrow().line(key)?.is_lower_turn(),
    };
    let turn = if is_lower { Turn::Lower } else { Turn::First };
    let direction = queues.borrow().line(key)?.direction();
    let (place, queued) = queues.borrow_mut().pop(key, turn)?;
    let rank = if is_lower { LOWER } else { place.rank(direction) };
    Some((place, rank, queued))
}

/// A request that was taken out of the line does not come back.
pub fn leave(servers: &Servers, key: &[u8], slot: Option<SlotId>) {
    let Some((worker, slot)) = zone::at(slot) else { return };
    let (first, lower) = known_of(servers, key);
    worker.set_lower(slot, lower);
    if worker.left(slot, limit::agreed(servers, Some(slot)), first) {
        queue::wake(servers, key);
    }
}

/// As [`leave`], with a connection, for which it had waited for so many milliseconds.
pub fn served(servers: &Servers, key: &[u8], slot: Option<SlotId>, place: Place, waited: usize) {
    let mut queues = servers.queue.queues.borrow_mut();
    let direction = queues.line(key).map_or(Direction::Oldest, |line| line.direction());
    queues.served(key, place, nginx::monotonic_nanoseconds());
    drop(queues);
    overload(servers, slot).served(waited as u64, direction, nginx::now() as u64);
    if let Some((worker, slot)) = zone::at(slot) {
        worker.count_turn(slot);
    }
    leave(servers, key, slot);
}

/// A request has waited in vain for a connection for so many milliseconds: its client has gone, in the line or
/// soon after, or its time was up.
pub fn left_in_vain(peer: Peer<'_>, slot: Option<SlotId>, waited: usize, timed_out: bool) {
    let servers = peer.servers();
    if order_of(servers) != Order::Fair {
        return;
    }
    if overload(servers, slot).left(waited as u64, timed_out, nginx::now() as u64) {
        observe(servers, slot, Log::of_worker(), Event::NewestFirst { name: peer.name(), waited });
        ring(slot);
        look(servers, peer.state().attempt().key.get(), slot);
    }
}

/// Has this worker's part of the line in the order that is in force now, where it was in another.
fn look(servers: &Servers, key: &[u8], slot: Option<SlotId>) {
    if order_of(servers) == Order::Fair && overload(servers, slot).take_end(nginx::now() as u64) {
        ring(slot);
    }
    if !turn(servers, key, slot) {
        return;
    }
    let Some((worker, slot)) = zone::at(slot) else { return };
    let (first, lower) = known_of(servers, key);
    worker.set_lower(slot, lower);
    if first.is_some_and(|first| worker.reorder(slot, limit::agreed(servers, Some(slot)), first)) {
        queue::wake(servers, key);
    }
}

/// All workers look at their parts of the line again.
fn ring(slot: Option<SlotId>) {
    if let Some((worker, slot)) = zone::at(slot) {
        worker.ring_line(slot);
    }
}

/// Turns this worker's part of the line to the direction that is in force now. Was it another?
fn turn(servers: &Servers, key: &[u8], slot: Option<SlotId>) -> bool {
    let direction = overload(servers, slot).direction(order_of(servers), nginx::now() as u64);
    let mut queues = servers.queue.queues.borrow_mut();
    queues.line_mut(key).is_some_and(|line| line.turn(direction))
}

/// How many milliseconds it is until the order of those who wait for the server with this key may change again by
/// itself.
pub fn next_look(servers: &Servers, key: &[u8]) -> Option<usize> {
    let slot = servers.queue.queues.borrow().line(key)?.first()?.1.slot;
    let until = overload(servers, slot).newest_until()?;
    Some(until.saturating_sub(nginx::now() as u64).max(1) as usize)
}

/// What a request of this place would have to expect that came now, if it is known. Not where the newest are
/// served first, who do not wait.
pub fn expected(peer: Peer<'_>, place: Place) -> Option<Expected> {
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    let overload = overload(servers, attempt.slot.get());
    let direction = overload.direction(order_of(servers), nginx::now() as u64);
    if direction == Direction::Newest {
        return None;
    }
    let queues = servers.queue.queues.borrow();
    let line = queues.line(attempt.key.get()).filter(|line| !line.is_empty())?;
    let all = super::places::waiting_for(peer) as u64;
    // those of other workers are of the classes that those of this one are
    overload.expected(all * line.before(place) as u64 / line.len() as u64)
}

/// What the zone is to know of this worker's part of the line: the rank of the first, and
/// [`crate::pure::line::Line::lower`].
fn known_of(servers: &Servers, key: &[u8]) -> (Option<Rank>, u64) {
    let queues = servers.queue.queues.borrow();
    let Some(line) = queues.line(key) else { return (None, 0) };
    (line.first().map(|(place, _)| place.rank(line.direction())), line.lower())
}

/// What all who pass to the upstream have agreed on.
fn order_of(servers: &Servers) -> Order {
    servers.settings.order.value().unwrap_or(Order::Fair)
}
