//! Connections in the pool: taken, parked, lost.

use std::cell::Cell;

use super::observe::{observe, Event};
use super::places::{self, Parking};
use super::queue::Parked;
use super::retry::Risk;
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers};
use crate::nginx::connection::{Idle, Lost, Peek};
use crate::nginx::peer::IfDead;
use crate::nginx::{self, Request};
use crate::pure::pool::policy::{self, LastUse, Refusal};
use crate::pure::zone::Rank;
use crate::state::ConnectionOrigin;

/// Takes a connection from the pool, if one fits, and nobody is before a request of this rank. Beside it: what
/// becomes of the request if it turns out to be dead.
#[inline(always)]
pub fn take(r: Request<'_>, peer: Peer<'_>, rank: Rank) -> Option<(Idle, IfDead)> {
    let state = peer.state();
    let attempt = state.attempt();
    if !attempt.shared.get() || state.needs_new_connection.get() {
        return None;
    }
    let (found, if_dead) = match Risk::of(r, state) {
        Risk::None => (find_last(r, peer, rank)?, IfDead::TryAgain),
        Risk::Loss => (find_fresh(r, peer, rank)?, IfDead::Fail),
        Risk::Repetition => return None,
    };
    places::take_idle(peer, found.slot);
    attempt.connection.set(Some(ConnectionOrigin::Reused));
    Some((found.idle, if_dead))
}

/// The connection of this server that was used last, and is alive.
#[inline(always)]
fn find_last(r: Request<'_>, peer: Peer<'_>, rank: Rank) -> Option<Parked> {
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    loop {
        // one server's connections have one slot, so that this one answers for all
        let has_turn = |parked: &Parked| places::has_turn_at(peer, parked.slot, rank);
        let taken = servers.idle.borrow_mut().take_last(attempt.key.get(), has_turn);
        let (parked, last_use, place) = taken?;
        if let Some(parked) = look(r, servers, parked, last_use) {
            attempt.place.set(Some(place));
            return Some(parked);
        }
    }
}

/// The same for a request that would be lost with a connection that its server closes: one that was used a moment ago,
/// and so that the server need not close it.
#[inline(never)]
fn find_fresh(r: Request<'_>, peer: Peer<'_>, rank: Rank) -> Option<Parked> {
    let (servers, key) = (peer.servers(), peer.state().attempt().key.get());
    let turn = Cell::new(None);
    let has_turn = |parked: &Parked| {
        let known = turn.get().unwrap_or_else(|| places::has_turn_at(peer, parked.slot, rank));
        turn.set(Some(known));
        known
    };
    // A server may close a connection that has been idle for long at this very moment.
    let now = nginx::now_exactly();
    let fit = |parked: &Parked, last_use: LastUse| has_turn(parked) && last_use.is_fresh(now);
    loop {
        let (parked, last_use) = servers.idle.borrow_mut().take(key, fit)?;
        if let Some(parked) = look(r, servers, parked, last_use) {
            return Some(parked);
        }
    }
}

/// The connection, if it is alive; else it is closed.
#[inline(always)]
fn look(r: Request<'_>, servers: &Servers, parked: Parked, last_use: LastUse) -> Option<Parked> {
    let why = match parked.idle.peek() {
        Peek::Idle => {
            let taken = Event::Taken { idle: &parked.idle, started_at: last_use.started_at };
            observe(servers, parked.slot, r.log(), taken);
            return Some(parked);
        }
        Peek::Closed => Lost::Closed,
        Peek::Data => Lost::Data,
    };
    close(servers, parked, why);
    None
}

#[cold]
fn close(servers: &Servers, parked: Parked, why: Lost) {
    places::close(servers, parked, why);
}

/// Puts the connection of a finished request into the pool.
///
/// # Errors
///
/// Where it turns out not to be idle.
pub fn park<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    last_use: LastUse,
    settings: &EffectiveSettings,
) -> Result<(), Refusal> {
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    let idle = peer.detach(settings.timeout).map_err(|peek| match peek {
        Peek::Data => Refusal::Surplus,
        Peek::Idle | Peek::Closed => Refusal::Failed,
    })?;
    let slot = attempt.slot.get().filter(|_| attempt.counted.get());
    if places::park(peer, slot) == Parking::Close {
        return Err(Refusal::PlaceNeeded);
    }
    observe(servers, slot, r.log(), Event::Parked { idle: &idle });
    let (place, key) = (attempt.place.get(), attempt.key.get());
    let number = number(idle.descriptor());
    let parked = Parked { idle, slot };
    let count = servers.idle.borrow_mut().park_at(place, key, number, parked, last_use);
    if count > settings.idle || Idle::count() > nginx::most_idle_connections() {
        close_excess(r, servers, key, settings.idle);
    }
    Ok(())
}

/// Closes the connections that are too many: of this server, and of all.
#[cold]
fn close_excess(r: Request<'_>, servers: &Servers, key: &[u8], most: usize) {
    let excess = || servers.idle.borrow_mut().excess(key, most);
    while let Some(parked) = excess() {
        places::close(servers, parked, Lost::Excess);
    }
    while Idle::count() > nginx::most_idle_connections() {
        let Some((of, parked)) = take_oldest(r, servers) else { break };
        places::close(of, parked, Lost::Excess);
    }
}

/// The connection of all upstreams that has been idle longest.
fn take_oldest<'a>(r: Request<'a>, of: &Servers) -> Option<(&'a Servers, Parked)> {
    let oldest = of.idle.borrow().oldest_of_worker()?;
    let servers = Servers::by_id(r, oldest)?;
    let parked = servers.idle.borrow_mut().take_oldest()?;
    Some((servers, parked))
}

/// A connection's number in the pool.
fn number(descriptor: i32) -> u32 {
    descriptor.unsigned_abs()
}

/// Something has ended a connection in the pool.
pub fn lose(servers: &Servers, descriptor: i32, why: Lost) {
    let number = number(descriptor);
    let parked = match why {
        Lost::Closed => servers.idle.borrow_mut().closed(nginx::now(), number),
        _ => servers.idle.borrow_mut().remove(number),
    };
    if let Some(parked) = parked {
        places::close(servers, parked, why);
    }
}

/// The worker leaves. For how long it keeps a connection in the pool, in milliseconds; None: it closes it
/// now.
pub fn patience(servers: &Servers, descriptor: i32) -> Option<usize> {
    let time_left = servers.idle.borrow().time_left(nginx::now(), number(descriptor));
    time_left.and_then(policy::patience)
}
