//! Places: the connections that a server may have. They are
//! counted in the zone that all workers share ([`crate::pure::zone`]), and by each worker for itself
//! ([`crate::pure::queue`]) where there is no zone, or no room in it for this server.

use super::limit;
use super::observe::{observe, Event};
use super::queue::{self, Parked};
use crate::conf::connections::KeyedBy;
use crate::module::{Peer, Servers, State};
use crate::nginx::connection::Lost;
use crate::nginx::log::Log;
use crate::nginx::{self, zone};
use crate::pure::queue::LastAttempt;
use crate::pure::zone::{Acquire, Generation, Park, Rank, SlotId, Worker, Zone};

/// The rank of a request that does not wait: it has its turn where nobody does.
pub const LAST: Rank = Rank::MAX;

/// How often a worker looks for others that are gone, in milliseconds, while requests wait here.
pub const SWEEP: usize = 1000;

/// A configuration is in force: the slots of its servers are made before a request asks for them, and what
/// is in those that there are is kept. Those of connections with TLS are made when a request tells their keys.
pub fn keep_slots(servers: &Servers, zone: &Zone<'_>, generation: Generation) {
    if servers.keyed_by == KeyedBy::Address || servers.settings.health.is_some() {
        for target in servers.targets() {
            // where there is no room the workers say so
            let _ = servers.slot(zone, generation, target.address, target.name);
        }
    }
}

/// Finds the slot of the server of this try.
#[inline]
pub fn find_slot(peer: Peer<'_>) -> Option<SlotId> {
    let known = peer.servers().slots.borrow().find(peer.state().attempt().key.get());
    known.or_else(|| make_slot(peer))
}

/// The same where this worker does not know it yet.
#[cold]
#[inline(never)]
fn make_slot(peer: Peer<'_>) -> Option<SlotId> {
    let (servers, key) = (peer.servers(), peer.state().attempt().key.get());
    let slot = slot_of(servers, key, peer.name())?;
    servers.slots.borrow_mut().insert(key, slot);
    Some(slot)
}

/// The slot of the server with this key, in the zone. `name`: the server's in the log, which is told where there
/// is no room.
pub fn slot_of(servers: &Servers, key: &[u8], name: &[u8]) -> Option<SlotId> {
    let (worker, generation) = zone::this_worker()?;
    let slot = servers.slot(worker.zone(), generation, key, name);
    if slot.is_err() {
        observe(servers, None, Log::of_worker(), Event::ZoneFull { name });
    }
    slot.ok()
}

#[inline]
pub(super) fn in_zone(state: &State<'_>) -> Option<zone::InZone> {
    zone::at(state.attempt().slot.get())
}

/// Is nobody before a request of this rank?
#[inline(always)]
fn has_turn(peer: Peer<'_>, rank: Rank) -> bool {
    match in_zone(peer.state()) {
        Some((worker, slot)) => worker.has_turn(slot, rank),
        None => has_turn_here(peer, rank),
    }
}

/// The same of a request that may take an idle connection, whose place is at this slot.
#[inline(always)]
pub fn has_turn_at(peer: Peer<'_>, slot: Option<SlotId>, rank: Rank) -> bool {
    match zone::at(slot) {
        Some((worker, slot)) => worker.has_turn(slot, rank),
        None => has_turn_without(peer, rank),
    }
}

/// There was no room in the zone for the server when the connection was made, but there may be now.
#[cold]
#[inline(never)]
fn has_turn_without(peer: Peer<'_>, rank: Rank) -> bool {
    match zone::at(find_slot(peer)) {
        Some((worker, slot)) => worker.has_turn(slot, rank),
        None => has_turn_here(peer, rank),
    }
}

#[cold]
#[inline(never)]
fn has_turn_here(peer: Peer<'_>, rank: Rank) -> bool {
    rank != LAST || !peer.servers().queue.is_waiting(peer.state().attempt().key.get())
}

/// Takes a place for one more connection, which the try has until [`give_back`]. False where there is none,
/// or others are before the request; who waits is told when that changes.
pub fn take(peer: Peer<'_>, rank: Rank) -> bool {
    peer.state().attempt().counted.get() || has_turn(peer, rank) && take_in_turn(peer, rank)
}

/// The same for a request whose turn it is ([`has_turn`]).
fn take_in_turn(peer: Peer<'_>, rank: Rank) -> bool {
    let (state, servers) = (peer.state(), peer.servers());
    let (attempt, limit) = (state.attempt(), limit::of(peer));
    let taken = match in_zone(state) {
        Some((worker, slot)) => match worker.acquire_in_turn(slot, limit, rank) {
            Acquire::Full if close_unfit(peer) => {
                worker.acquire(slot, limit, rank) == Acquire::Place
            }
            Acquire::Gone => {
                servers.slots.borrow_mut().remove(slot);
                attempt.slot.set(find_slot(peer));
                return match attempt.slot.get() {
                    Some(again) if again == slot => false,
                    _ => take(peer, rank),
                };
            }
            acquired => acquired == Acquire::Place,
        },
        None if limit == 0 => return true,
        None => {
            let has_room = || has_room_here(servers, attempt.key.get(), limit);
            let taken = has_room() || close_unfit(peer) && has_room();
            if taken {
                servers.queue.queues.borrow_mut().begin(attempt.key.get());
            }
            taken
        }
    };
    attempt.counted.set(taken);
    taken
}

/// A connection of the pool takes its place with it, which is in the zone where it was when the connection was
/// made: there may have been no room for the server then, or there is none now.
#[inline(always)]
pub fn take_idle(peer: Peer<'_>, slot: Option<SlotId>) {
    let attempt = peer.state().attempt();
    if attempt.counted.get() {
        give_back_other(peer);
    }
    attempt.slot.set(slot);
    match zone::at(slot) {
        Some((worker, slot)) => {
            worker.take_idle(slot);
            attempt.counted.set(true);
        }
        None => take_idle_here(peer),
    }
}

/// There are two: the one of the connection, and one that was had for a new one.
#[cold]
fn give_back_other(peer: Peer<'_>) {
    give_back(peer.servers(), peer.state());
}

/// The same where each worker counts for itself.
#[cold]
fn take_idle_here(peer: Peer<'_>) {
    if limit::of(peer) > 0 {
        let attempt = peer.state().attempt();
        peer.servers().queue.queues.borrow_mut().begin(attempt.key.get());
        attempt.counted.set(true);
    }
}

/// What becomes of a connection that another request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// It goes to the pool.
    Pool,
    /// It is closed: a request of another worker waits for its place.
    Close,
}

/// A connection is about to be parked. Where it is, its place is the pool's from now on, if the try has one, at this
/// slot.
#[inline(always)]
pub fn park(peer: Peer<'_>, slot: Option<SlotId>) -> Parking {
    let Some((worker, slot)) = zone::at(slot) else { return Parking::Pool };
    match worker.park(slot) {
        Park::Idle => {}
        Park::Own => keep_idle(peer, worker, slot),
        Park::Close => return Parking::Close,
    }
    peer.state().attempt().counted.set(false);
    Parking::Pool
}

/// The connection is for a request of this worker, which waits.
#[cold]
fn keep_idle(peer: Peer<'_>, worker: &Worker<'_>, slot: SlotId) {
    worker.keep_idle(slot);
    queue::wake(peer.servers(), peer.state().attempt().key.get());
}

/// Closes a connection that is not in the pool any more: its place is free.
pub fn close(servers: &Servers, parked: Parked, why: Lost) {
    let Parked { idle, slot } = parked;
    observe(servers, slot, Log::of_worker(), Event::Lost { idle: &idle, why });
    drop(idle);
    let Some((worker, slot)) = zone::at(slot) else { return };
    if worker.close_idle(slot, limit::agreed(servers, Some(slot))) {
        queue::wake_all(servers);
    }
}

/// A try is over. Its place, which nothing else gives up, and its connection may be another's: those who
/// wait have their turn.
#[inline(always)]
pub fn give_back(servers: &Servers, state: &State<'_>) {
    let had_one = state.attempt().counted.take();
    if had_one || servers.queue.queues.borrow().waiting() > 0 {
        pass_on(servers, state, had_one);
    }
}

/// The same where it had a place or somebody waits.
#[inline(never)]
fn pass_on(servers: &Servers, state: &State<'_>, had_one: bool) {
    if had_one {
        free(servers, state);
    }
    // also those that are not in the zone's line, which had no room for their server
    queue::wake(servers, state.attempt().key.get());
}

/// Gives a place back that turned out to be of no use, and would be of none for who is next either.
pub fn put_back(peer: Peer<'_>) {
    let (state, servers) = (peer.state(), peer.servers());
    if state.attempt().counted.take() {
        free(servers, state);
    }
}

/// The place of a try is free. Another worker whose turn it is has been woken; whether it is this one's is not asked.
fn free(servers: &Servers, state: &State<'_>) {
    match in_zone(state) {
        Some((worker, slot)) => drop(worker.release(slot, limit::agreed(servers, Some(slot)))),
        None => servers.queue.queues.borrow_mut().end(state.attempt().key.get()),
    }
}

/// How many requests wait for the server.
pub fn waiting_for(peer: Peer<'_>) -> usize {
    match in_zone(peer.state()) {
        Some((worker, slot)) => worker.zone().waiting(slot) as usize,
        None => peer.servers().queue.queues.borrow().waiting_for(peer.state().attempt().key.get()),
    }
}

/// Are all connections in use that the server may have?
pub fn is_full(peer: Peer<'_>) -> bool {
    let limit = limit::of(peer);
    limit > 0
        && match in_zone(peer.state()) {
            Some((worker, slot)) => worker.zone().in_use(slot) >= limit,
            None => !has_room_here(peer.servers(), peer.state().attempt().key.get(), limit),
        }
}

/// May this worker open one more connection to the server, where each counts its own?
fn has_room_here(servers: &Servers, key: &[u8], limit: u64) -> bool {
    ((servers.queue.queues.borrow().in_use(key) + servers.idle.borrow().len_of(key)) as u64) < limit
}

/// Makes room for one more connection: one that is idle here, and does not suit the request that is next,
/// is closed for it. False where there is none.
fn close_unfit(peer: Peer<'_>) -> bool {
    close_one(peer.servers(), peer.state().attempt().key.get())
}

fn close_one(servers: &Servers, key: &[u8]) -> bool {
    let count = servers.idle.borrow().len_of(key);
    let unfit = count.checked_sub(1).and_then(|most| servers.idle.borrow_mut().excess(key, most));
    let Some(unfit) = unfit else { return false };
    close(servers, unfit, Lost::Excess);
    true
}

/// Other workers ask for idle connections.
pub fn give_up_idle(servers: &Servers) {
    let Some((worker, _)) = zone::this_worker() else { return };
    let is_asked = |parked: &Parked| parked.slot.is_some_and(|slot| worker.asked(slot));
    let asked = servers.idle.borrow().servers_with(is_asked);
    for key in asked {
        close_one(servers, &key);
    }
}

/// Looks for workers that are gone, whose places are free then, where it is time.
pub fn sweep(servers: &Servers) {
    let (Some((worker, _)), now) = (zone::this_worker(), nginx::now()) else { return };
    let queue = &servers.queue;
    if now.wrapping_sub(queue.swept_at.get()) >= SWEEP {
        queue.swept_at.set(now);
        // who is at it wakes this worker, where it finds one
        let _ = worker.zone().sweep();
    }
}

/// The pause before the next attempt to connect of those who wait for a full listen queue, in milliseconds:
/// one for all workers.
pub fn next_attempt(servers: &Servers, slot: Option<SlotId>, last: LastAttempt) -> usize {
    match zone::at(slot) {
        Some((worker, slot)) => {
            let now = nginx::now() as u64;
            let succeeded = last == LastAttempt::Succeeded;
            worker.pause(slot, now, succeeded).at.saturating_sub(now).max(1) as usize
        }
        None => servers.queue.next_attempt(last),
    }
}
