//! Is a server well? What all workers know of it, in words that they share: its state, which of them
//! probes it, and how probes have ended.
//!
//! | word | what | who writes |
//! |---|---|---|
//! | 0 | state (8 bits: checking, up, down), failures in a row (24 bits), passes in a row (24 bits) | all |
//! | 1 | when this state began, in milliseconds | who changed it |
//! | 2 | the lease: until when (48 bits, ms), and which worker has it (16 bits; 0: none) | all |
//! | 3 | probes that have ended | who has the lease |
//! | 4 | those of them that failed | who has the lease |
//! | 5 | the last result: when (56 bits, ms), and a [`Failure::code`] (8 bits; 0: it passed) | who has the lease |
//! | 6 | when its share began to grow (`rs_uwsgi_slow_start`), in milliseconds; 0: it has all of it | who changed the state |
//! | 7 | how often it became down | all |
//!
//! Zeros are a server that nobody has probed. Milliseconds are those of one clock that all workers have.
//!
//! A worker that wants to probe takes the [lease](Server::hold) until the probe has ended, and then until the next
//! one. When it is gone, the lease runs out, and the first to see that has it.
#![forbid(unsafe_code)]

pub mod answer;
pub mod check;
pub mod request;

use super::zone::Word;

pub use answer::{Failure, Phase, Reading, TlsFault};
pub use check::{Check, Kind};

/// How many words there are of a server.
pub const WORDS: usize = 8;

mod word {
    pub const STATE: usize = 0;
    pub const SINCE: usize = 1;
    pub const LEASE: usize = 2;
    pub const PROBES: usize = 3;
    pub const FAILED: usize = 4;
    pub const LAST: usize = 5;
    pub const SLOW: usize = 6;
    pub const DOWNS: usize = 7;
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known: it gets requests.
    Checking,
    /// It gets requests.
    Up,
    /// It gets none while another gets some.
    Down,
}

impl State {
    /// What it is called in logs and on status pages.
    pub fn name(self) -> &'static str {
        match self {
            State::Checking => "checking",
            State::Up => "up",
            State::Down => "down",
        }
    }
}

/// How many results in a row change a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures until a server is down; 1 at least.
    pub fails: u32,
    /// Passes until one that was down is up; 1 at least. One that nobody knew is up after the first.
    pub passes: u32,
}

/// A state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// For how long, in milliseconds; None where it is the first that is known.
    pub lasted: Option<u64>,
    /// What it is now.
    pub to: State,
    /// After so many results in a row.
    pub run: u32,
}

/// What is known of a server, for status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its state.
    pub state: State,
    /// Since when, in milliseconds; 0: always.
    pub since: u64,
    /// Probes that have ended.
    pub probes: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How often it became down.
    pub downs: u64,
    /// When the last one ended, in milliseconds, and the [`Failure::code`] of its end.
    pub last: Option<(u64, u8)>,
}

/// The word of states, taken apart.
#[derive(Clone, Copy)]
struct Runs {
    state: State,
    fails: u32,
    passes: u32,
}

/// The most results in a row that are counted.
const MOST_RUN: u32 = (1 << 24) - 1;

impl Runs {
    fn of(word: u64) -> Runs {
        let state = match word & 0xff {
            1 => State::Up,
            2 => State::Down,
            _ => State::Checking,
        };
        let run = |shift: u32| (word >> shift) as u32 & MOST_RUN;
        Runs { state, fails: run(8), passes: run(32) }
    }

    fn word(self) -> u64 {
        let state = match self.state {
            State::Checking => 0,
            State::Up => 1,
            State::Down => 2,
        };
        state | u64::from(self.fails) << 8 | u64::from(self.passes) << 32
    }

    /// After one more result.
    fn after(self, passed: bool, rules: Rules) -> Runs {
        let (fails, passes) = match passed {
            true => (0, (self.passes + 1).min(MOST_RUN)),
            false => ((self.fails + 1).min(MOST_RUN), 0),
        };
        let state = match (self.state, passed) {
            (State::Checking, true) => State::Up,
            (State::Down, true) if passes >= rules.passes => State::Up,
            (State::Checking | State::Up, false) if fails >= rules.fails => State::Down,
            (state, _) => state,
        };
        Runs { state, fails, passes }
    }
}

/// Who may probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This worker, until the moment that it asked for.
    Held,
    /// Another, for so many milliseconds more; 1 at least.
    Wait(u64),
}

/// A server, in the hands of one worker. `words`: [`WORDS`] of them; where there are none, nothing is known
/// and nothing remembered.
#[derive(Debug)]
pub struct Server<'m, A>(&'m [A]);

impl<A> Clone for Server<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Server<'_, A> {}

impl<'m, A: Word> Server<'m, A> {
    /// The server that has these words.
    pub fn new(words: &'m [A]) -> Self {
        Server(words)
    }

    #[inline]
    fn get(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, A::get)
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.0.get(at) {
            word.set(value);
        }
    }

    /// Its state.
    #[inline]
    pub fn state(&self) -> State {
        Runs::of(self.get(word::STATE)).state
    }

    /// What is known of it.
    pub fn report(&self) -> Report {
        let last = self.get(word::LAST);
        Report {
            state: self.state(),
            since: self.get(word::SINCE),
            probes: self.get(word::PROBES),
            failed: self.get(word::FAILED),
            downs: self.get(word::DOWNS),
            last: (last != 0).then_some((last >> 8, last as u8)),
        }
    }

    /// Is it down, and has the last probe had no answer in time? One that is gone ends its connections by itself.
    pub fn hangs(&self) -> bool {
        self.state() == State::Down && self.get(word::LAST) as u8 == Failure::TIMED_OUT
    }

    /// A probe has ended: with `failed` where it did not pass, a [`Failure::code`]. `now` in milliseconds.
    /// Returns the change of state that it made.
    pub fn record(&self, failed: Option<u8>, rules: Rules, now: u64) -> Option<Change> {
        self.set(word::PROBES, self.get(word::PROBES).wrapping_add(1));
        if failed.is_some() {
            self.set(word::FAILED, self.get(word::FAILED).wrapping_add(1));
        }
        self.set(word::LAST, now << 8 | u64::from(failed.unwrap_or(0)));
        self.count(failed.is_none(), rules, now)
    }

    /// A request has failed to reach it: as a probe that failed, but for what is told of probes.
    pub fn failed(&self, rules: Rules, now: u64) -> Option<Change> {
        self.count(false, rules, now)
    }

    fn count(&self, passed: bool, rules: Rules, now: u64) -> Option<Change> {
        let state = self.0.get(word::STATE)?;
        let (before, after) = loop {
            let was = state.get();
            let (before, after) = (Runs::of(was), Runs::of(was).after(passed, rules));
            if state.replace(was, after.word()) {
                break (before, after);
            }
        };
        if before.state == after.state {
            return None;
        }
        if after.state == State::Down {
            self.add_down();
        }
        let is_back = before.state == State::Down && after.state == State::Up;
        self.set(word::SLOW, if is_back { now } else { 0 });
        let since = self.0.get(word::SINCE)?.swap(now);
        Some(Change {
            from: before.state,
            lasted: (before.state != State::Checking).then(|| now.saturating_sub(since)),
            to: after.state,
            run: if passed { after.passes } else { after.fails },
        })
    }

    fn add_down(&self) {
        let Some(downs) = self.0.get(word::DOWNS) else { return };
        loop {
            let before = downs.get();
            if downs.replace(before, before.wrapping_add(1)) {
                return;
            }
        }
    }

    /// Takes the lease until `until`, or keeps it. `worker`: its number, from 0 on.
    pub fn hold(&self, worker: usize, now: u64, until: u64) -> Lease {
        let Some(lease) = self.0.get(word::LEASE) else { return Lease::Held };
        let me = worker as u64 % 0xffff + 1;
        let has = lease.get();
        let (holder, end) = (has & 0xffff, has >> 16);
        let is_free = holder == 0 || holder == me || end <= now;
        match is_free && lease.replace(has, until << 16 | me) {
            true => Lease::Held,
            // who was faster has it for as long as this one would have
            false => Lease::Wait(if is_free { until } else { end }.saturating_sub(now).max(1)),
        }
    }

    /// Gives the lease up, where this worker has it.
    pub fn let_go(&self, worker: usize) {
        let Some(lease) = self.0.get(word::LEASE) else { return };
        let has = lease.get();
        if has & 0xffff == worker as u64 % 0xffff + 1 {
            // who has taken it meanwhile keeps it
            lease.replace(has, 0);
        }
    }

    /// Its share of requests, in thousandths: less than all for `slow_start` milliseconds after it was down,
    /// and then growing with the time.
    #[inline]
    pub fn share(&self, slow_start: u64, now: u64) -> u64 {
        let began = self.get(word::SLOW);
        if began == 0 || slow_start == 0 {
            return FULL;
        }
        let since = now.saturating_sub(began);
        match since < slow_start {
            true => since * FULL / slow_start,
            false => FULL,
        }
    }
}

/// All of a share.
pub const FULL: u64 = 1000;

/// Does the request with this number, of those that count from 0 on, belong to a share? Of any so many in
/// a row, as many do as the share says, but for one or two.
pub fn is_in_share(number: u64, share: u64) -> bool {
    // the golden ratio spreads the numbers evenly
    let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (place * FULL) >> 32 < share
}

/// The time until the next probe, in milliseconds: at least `interval`, and up to `jitter` more by a
/// random number.
pub fn pause(interval: u64, jitter: u64, random: u64) -> u64 {
    interval + random % (jitter + 1)
}
