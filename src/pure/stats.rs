//! What is counted of each server: which number of its counters in the zone is what, and what they are called
//! wherever they are shown. A worker adds to its own cell ([`crate::pure::zone`]), and who shows them adds up
//! over all of them ([`Totals`]).
//!
//! Most of it is counted once, when a try is over ([`Try::count`]), so that a request pays for it in one place.
#![forbid(unsafe_code)]

pub mod codes;
pub mod histogram;
pub mod history;
mod kinds;
mod totals;

use std::sync::atomic::AtomicU64;

pub use kinds::{CacheStatus, Closed, Count, Failure, Measure, QueueEnd};
pub use totals::Totals;

use crate::pure::zone::Word;
use codes::Codes;
use histogram::Bounds;

impl Measure {
    /// The limits of its histogram's buckets.
    pub const fn bounds(self) -> &'static Bounds {
        match self {
            Measure::VarsSize => &histogram::SIZES,
            _ => &histogram::TIMES,
        }
    }

    /// Where its buckets begin; behind them is the sum.
    const fn place(self) -> usize {
        match self {
            Measure::VarsSize => VARS_SIZE,
            measure => TIMES + measure as usize * (histogram::TIMES.buckets() + 1),
        }
    }
}

// Where everything is.
const FAILURES: usize = Count::ALL.len();
const CLOSED: usize = FAILURES + Failure::ALL.len();
const QUEUE: usize = CLOSED + Closed::ALL.len();
const CACHE: usize = QUEUE + QueueEnd::ALL.len();
const CLASSES: usize = CACHE + CacheStatus::ALL.len();
const CODES: usize = CLASSES + 5;
const TIMES: usize = CODES + Codes::COUNT;
const VARS_SIZE: usize = TIMES + 4 * (histogram::TIMES.buckets() + 1);
/// When the server was last tried, in milliseconds of a clock that all workers have. The latest counts.
const LAST_USED: usize = VARS_SIZE + histogram::SIZES.buckets() + 1;

/// Those that a history adds up as requests, and as errors.
const REQUESTS: &[usize] = &[Count::Requests as usize];
const ERRORS: &[usize] = &[Count::Fails as usize, CLASSES + 4];

/// How many counters a worker has for each server.
pub const COUNTERS: usize = LAST_USED + 1;

/// A worker's own counters for a server.
pub type Cells<A = AtomicU64> = [A; COUNTERS];

#[inline(always)]
fn add<A: Word>(cells: &Cells<A>, place: usize, number: u64) {
    if let Some(word) = cells.get(place) {
        word.set_relaxed(word.get_relaxed().wrapping_add(number));
    }
}

/// Counts one thing.
#[inline]
pub fn count<A: Word>(cells: &Cells<A>, what: Count) {
    add(cells, what as usize, 1);
}

/// Counts a connection that was closed.
#[inline]
pub fn count_closed<A: Word>(cells: &Cells<A>, why: Closed) {
    add(cells, CLOSED + why as usize, 1);
}

/// Counts where a response came from.
#[inline]
pub fn count_cache<A: Word>(cells: &Cells<A>, status: CacheStatus) {
    add(cells, CACHE + status as usize, 1);
}

/// Counts a request that has left the queue, after `time` milliseconds. One that found no room did not wait.
pub fn count_queued<A: Word>(cells: &Cells<A>, end: QueueEnd, time: u64) {
    add(cells, QUEUE + end as usize, 1);
    if end != QueueEnd::Overflow {
        measure(cells, Measure::Queue, time);
    }
}

/// Counts a response by its status.
#[inline(always)]
pub fn count_status<A: Word>(cells: &Cells<A>, status: u16) {
    match status {
        200..=299 => add(cells, CLASSES + 1, 1),
        100..=599 => {
            add(cells, CLASSES + usize::from(status / 100) - 1, 1);
            if let Some(place) = Codes::place(status) {
                add(cells, CODES + place, 1);
            }
        }
        // no status of HTTP's
        _ => {}
    }
    add(cells, Count::Responses as usize, 1);
}

/// Counts a client's request that is over.
pub fn count_client<A: Word>(cells: &Cells<A>, status: u16, received: u64, sent: u64) {
    add(cells, Count::Requests as usize, 1);
    add(cells, Count::Received as usize, received);
    add(cells, Count::Sent as usize, sent);
    match status {
        // nginx's own, of a client that has left
        0 | 499 => add(cells, Count::ClientGone as usize, 1),
        _ => count_status(cells, status),
    }
}

#[inline(always)]
fn measure<A: Word>(cells: &Cells<A>, what: Measure, value: u64) {
    let (bounds, place) = (what.bounds(), what.place());
    add(cells, place + bounds.bucket(value), 1);
    add(cells, place + bounds.buckets(), value);
}

/// A try that is over: what is counted of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// Was anything of the request sent?
    pub sent: bool,
    /// On a connection of the pool?
    pub reused: bool,
    /// After another server was asked, or passed over?
    pub is_next: bool,
    /// Was the request sent to the same server before?
    pub repeated: bool,
    /// Did the answer come before all of the request was sent?
    pub early: bool,
    /// Has the client left?
    pub client_gone: bool,
    /// Interim responses.
    pub interim: u32,
    /// The status of the response, once its head was read.
    pub status: Option<u16>,
    /// How the try failed.
    pub failure: Option<Failure>,
    /// The bytes of the vars.
    pub vars_size: u64,
    /// Bytes sent and received.
    pub bytes: (u64, u64),
    /// Milliseconds until there was a connection, where there was one.
    pub connect: Option<u64>,
    /// Milliseconds until the head was read, where one was.
    pub header: Option<u64>,
    /// Milliseconds until the try was over.
    pub response: u64,
    /// When it was over, in milliseconds of a clock that all workers have.
    pub now: u64,
}

impl Try {
    /// Counts it.
    #[inline(always)]
    pub fn count<A: Word>(&self, cells: &Cells<A>) {
        if self.sent {
            add(cells, Count::Requests as usize, 1);
            add(cells, Count::Sent as usize, self.bytes.0);
            add(cells, Count::Received as usize, self.bytes.1);
            measure(cells, Measure::VarsSize, self.vars_size);
        }
        match (self.reused, self.connect) {
            (true, _) => add(cells, Count::Reused as usize, 1),
            (false, Some(time)) => {
                add(cells, Count::Opened as usize, 1);
                measure(cells, Measure::Connect, time);
            }
            (false, None) => {}
        }
        if let Some(status) = self.status {
            count_status(cells, status);
            measure(cells, Measure::Header, self.header.unwrap_or(self.response));
            measure(cells, Measure::Response, self.response);
        }
        if let Some(word) = cells.get(LAST_USED) {
            word.set_relaxed(self.now);
        }
        let &Try { is_next, repeated, early, client_gone, interim, failure, .. } = self;
        if is_next | repeated | early | client_gone || interim > 0 || failure.is_some() {
            // by values: a reference would keep all of it in memory for every request
            count_rare(cells, (is_next, repeated), (early, client_gone), interim, failure);
        }
    }
}

#[cold]
fn count_rare<A: Word>(
    cells: &Cells<A>,
    (is_next, repeated): (bool, bool),
    (early, client_gone): (bool, bool),
    interim: u32,
    failure: Option<Failure>,
) {
    for (is, what) in [
        (is_next, Count::NextTries),
        (repeated, Count::Repeated),
        (early, Count::EarlyAnswers),
        (client_gone, Count::ClientGone),
    ] {
        add(cells, what as usize, is.into());
    }
    add(cells, Count::Interim as usize, interim.into());
    if let Some(failure) = failure {
        add(cells, FAILURES + failure as usize, 1);
        add(cells, Count::Fails as usize, 1);
    }
}
