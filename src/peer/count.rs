//! What has happened, counted: in this worker's cells of the zone, for the server that it concerns
//! ([`crate::pure::stats`]).

use std::sync::atomic::AtomicU64;

use super::event::Event;
use crate::nginx::connection::Lost;
use crate::nginx::{self, zone};
use crate::pure::pool::policy::Refusal;
use crate::pure::stats::history::History;
use crate::pure::stats::{self, Cells, Closed, Count, Failure, Try};
use crate::pure::zone::SlotId;

/// A server's counters, and its history.
type Counted = (&'static Cells, History<'static, 'static, AtomicU64>);

/// Counts a try that is over. Without a zone, or a place in it for the server, nothing is.
#[inline(always)]
pub fn tried(slot: Option<SlotId>, tried: &Try) {
    let Some((cells, history)) = of(slot, tried.now) else { return };
    tried.count(cells);
    let has_reached = tried.sent || tried.connect.is_some();
    if history.is_unavailable() || !has_reached {
        reached(cells, slot, has_reached, tried.failure);
    }
}

/// Counts a connection that is closed after its request.
#[inline(always)]
pub fn closed(slot: Option<SlotId>, refusal: Refusal) {
    if let Some((cells, _)) = of(slot, nginx::now() as u64) {
        stats::count_closed(cells, refusal.into());
    }
}

/// Counts another event.
pub fn rare(slot: Option<SlotId>, event: &Event<'_>) {
    if let (Event::ZoneFull { .. }, Some((worker, _))) = (event, zone::this_worker()) {
        worker.zone().count_full();
    }
    let Some((cells, history)) = of(slot, nginx::now() as u64) else { return };
    match event {
        Event::Lost { why, .. } => stats::count_closed(cells, in_pool(*why)),
        Event::Queued { before, .. } => history.see_waiting(*before as u64 + 1),
        Event::Waited { end, time } => stats::count_queued(cells, *end, *time as u64),
        Event::ListenQueueFull => stats::count(cells, Count::ListenQueueFull),
        Event::WorkedInVain { .. } => stats::count(cells, Count::WorkedInVain),
        Event::VarsRefused { .. } | Event::KnownTooLarge { .. } => {
            stats::count(cells, Count::VarsRefused);
        }
        Event::Refused { .. } => reached(cells, slot, false, Some(Failure::Refused)),
        _ => {}
    }
}

fn in_pool(why: Lost) -> Closed {
    match why {
        Lost::Closed => Closed::IdleClosed,
        Lost::Data => Closed::IdleData,
        Lost::Timeout => Closed::IdleTimeout,
        Lost::Excess => Closed::IdleExcess,
        Lost::Gone => Closed::IdleGone,
        Lost::Leaving => Closed::IdleExiting,
    }
}

/// The server was reached, or a try to do so has failed.
#[cold]
fn reached(cells: &Cells, slot: Option<SlotId>, has: bool, failure: Option<Failure>) {
    let Some((worker, slot)) = zone::at(slot) else { return };
    let history = History::of(worker.zone(), slot);
    if has {
        history.set_unavailable(false);
    } else if failure.is_some_and(Failure::is_of_connecting) && history.set_unavailable(true) {
        stats::count(cells, Count::Unavailable);
    }
}

/// Where to count, once what was counted before has its place in the history.
#[inline(always)]
fn of(slot: Option<SlotId>, now: u64) -> Option<Counted> {
    let (worker, slot) = zone::at(slot)?;
    let history = History::of(worker.zone(), slot);
    history.tick(now);
    Some((worker.cells(slot)?, history))
}
