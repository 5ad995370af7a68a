//! What all workers know of the requests that wait for a server: do clients leave because they wait too
//! long, and how long will one wait that comes now? In words that all of them read and write; what two
//! write at the same moment may be one of the two, and no more depends on it.
//!
//! Times are in milliseconds of a clock that all workers have.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::line::{Direction, Order};
use super::stats::history;
use super::words::Words;
use super::zone::Word;

/// How many words there are of a server.
pub const WORDS: usize = 24;
/// Where these are among the words that all workers have of a server.
pub const AT: Range<usize> = history::SHARED..history::SHARED + WORDS;
/// How many words there are of a server in all: these, and its history.
pub const SHARED: usize = AT.end;

/// Until when the newest are served first; 0: they are not.
const NEWEST_UNTIL: usize = 0;
/// When a client last left that had waited too long.
const LEFT_AT: usize = 1;
/// How long the one had waited that was served last in the order of arrival.
const WAIT: usize = 2;
/// When one that waited was last served.
const SERVED_AT: usize = 3;
/// The beginning of the time in which is counted how many are (48 bits), and the count (16 bits).
const WINDOW: usize = 4;
/// The mean times from one to the next in the times that were counted last, in microseconds, the last one
/// first; 0: not known.
const INTERVALS: Range<usize> = 5..8;

/// Nobody has waited too long who has waited less: who closes a tab, or types the next letter of a search,
/// leaves sooner.
pub const IMPATIENCE: u64 = 200;
/// For so long the newest are served first after a client has left that had waited too long. Clients that
/// are served last leave one by one while too many come; with the second that a worker may take to look at
/// it, the order is that of arrival again within two seconds.
pub const HOLD: u64 = 1500;
/// Those that are served are counted for at least so long, and so many.
const WINDOW_TIME: u64 = 1000;
const WINDOW_COUNT: u64 = 8;
/// A pause as long as so many of the usual is a server that stands still, and says nothing of its speed.
const STILL: u64 = 10;
/// What was measured so long ago is forgotten.
const OLD: u64 = 60_000;

/// What all workers know of those who wait for one server. `words`: [`WORDS`] of them.
#[derive(Clone, Copy, Debug)]
pub struct Overload<'m, A> {
    words: Words<'m, A>,
}

/// What a new request would have to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// How many wait before it.
    pub before: u64,
    /// How many are served in 100 seconds.
    pub rate: u64,
    /// How long it would wait, in milliseconds.
    pub wait: u64,
}

impl<'m, A: Word> Overload<'m, A> {
    /// Where there are too few words, nothing is ever known.
    pub fn new(words: &'m [A]) -> Self {
        Overload { words: Words(words) }
    }

    /// In which direction the line is to be served.
    pub fn direction(&self, order: Order, now: u64) -> Direction {
        match order {
            Order::Arrival => Direction::Oldest,
            Order::Newest => Direction::Newest,
            Order::Fair if self.newest_until().is_some_and(|until| now < until) => {
                Direction::Newest
            }
            Order::Fair => Direction::Oldest,
        }
    }

    /// Until when the newest are served first, as far as is known now.
    pub fn newest_until(&self) -> Option<u64> {
        Some(self.words.get(NEWEST_UNTIL)).filter(|until| *until != 0)
    }

    /// A request has waited for so long in vain: the client has gone, or its time was up (`timed_out`). True: from
    /// now on the newest are served first.
    ///
    /// The client may have gone while its request was in the line, or with the server after it had waited there:
    /// where a few more come than can be served, the line gets just so long that those who are next leave while they
    /// are served, and nobody leaves the line.
    ///
    /// A client that leaves says that it has waited too long, if it has waited for at least half as long as
    /// those who are served do, and longer than [`IMPATIENCE`]. One may have left for any reason: it takes
    /// two.
    #[must_use]
    pub fn left(&self, waited: u64, timed_out: bool, now: u64) -> bool {
        let is_long = timed_out || waited >= IMPATIENCE.max(self.words.get(WAIT) / 2);
        if !is_long {
            return false;
        }
        let before = self.words.get(LEFT_AT);
        self.words.set(LEFT_AT, now);
        let is_newest = self.newest_until().is_some_and(|until| now < until);
        if !is_newest && (before == 0 || now.saturating_sub(before) > HOLD) {
            return false;
        }
        self.words.set(NEWEST_UNTIL, now + HOLD);
        !is_newest
    }

    /// The time of serving the newest first is over, as one of the workers is the first to see.
    #[must_use]
    pub fn take_end(&self, now: u64) -> bool {
        match (self.newest_until(), self.words.0.get(NEWEST_UNTIL)) {
            (Some(until), Some(word)) if until <= now => word.replace(until, 0),
            _ => false,
        }
    }

    /// The first begins to wait, for whom nobody was before.
    pub fn begin(&self, now: u64) {
        if now.saturating_sub(self.words.get(SERVED_AT)) > OLD {
            INTERVALS.for_each(|at| self.words.set(at, 0));
            self.words.set(WAIT, 0);
        }
        self.words.set(SERVED_AT, now);
        self.words.set(WINDOW, now << 16);
    }

    /// One that had waited for so long has been served.
    pub fn served(&self, waited: u64, direction: Direction, now: u64) {
        if direction == Direction::Oldest {
            self.words.set(WAIT, waited);
        }
        let (window, interval) = (self.words.get(WINDOW), self.words.get(INTERVALS.start));
        let pause = now.saturating_sub(self.words.get(SERVED_AT));
        self.words.set(SERVED_AT, now);
        if interval != 0 && pause > WINDOW_TIME.max(STILL * interval / 1000) {
            // it stood still; if that is what it does now, it is soon believed
            self.set_interval(interval * 2);
            return self.words.set(WINDOW, now << 16);
        }
        let (begin, count) = (window >> 16, (window & 0xffff) + 1);
        let time = now.saturating_sub(begin);
        if time < WINDOW_TIME || count < WINDOW_COUNT {
            return self.words.set(WINDOW, begin << 16 | count.min(0xffff));
        }
        self.set_interval((time * 1000 / count).max(1));
        self.words.set(WINDOW, now << 16);
    }

    fn set_interval(&self, interval: u64) {
        for at in INTERVALS.skip(1).rev() {
            self.words.set(at, self.words.get(at - 1));
        }
        self.words.set(INTERVALS.start, interval);
    }

    /// What a request would have to expect that has so many before it. None where that is not known.
    ///
    /// The shortest of the last intervals counts: to refuse a request that would have been served is worse than
    /// to let one wait in vain, and while very many clients come at once the workers have no time to serve.
    pub fn expected(&self, before: u64) -> Option<Expected> {
        let interval =
            INTERVALS.map(|at| self.words.get(at)).min().filter(|interval| *interval != 0)?;
        let wait = before.saturating_mul(interval) / 1000;
        Some(Expected { before, rate: 100_000_000 / interval, wait })
    }
}
