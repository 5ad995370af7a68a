//! A server over TCP whose listen queue is full, of which nothing tells: its kernel drops the attempt to connect, and
//! this one's makes another after a second. So one that has had no answer for much longer than the others take is
//! taken for dropped ([`Silent::patience`]), as long as the server answers others ([`Silent::is_alive`]). Nothing has
//! been sent on it.
//!
//! As many as were in flight when it was begun are what the server has room for, so that the limit is a few less
//! ([`Silent::dropped`]). Which of them the server has read, TCP does not tell: the limit is not what the server works on
//! at once, but that and its listen queue. When many have been answered while others wait, it is tried whether one
//! more has room ([`Silent::answered`]).
//!
//! The state is in words that all workers read and write, as in [`super::overload`].
#![forbid(unsafe_code)]

use std::ops::Range;

use super::limit;
use super::words::Words;
use super::zone::Word;

/// How many words there are of a server.
pub const WORDS: usize = 4;
/// Where these are among the words that all workers have of a server.
pub const AT: Range<usize> = limit::AT.start - WORDS..limit::AT.start;

/// The mean time of connecting, in 1/64 ms, and 1; 0: not known.
const MEAN: usize = 0;
/// When an attempt was last taken for dropped, in milliseconds; 0: never.
const DROPPED_AT: usize = 1;
/// Answers since the limit was last set.
const ANSWERS: usize = 2;
/// When it last took a connection or answered, in milliseconds; 0: never.
const ALIVE_AT: usize = 3;

/// Nothing is taken for dropped sooner, in milliseconds, nor than after so many of the mean times of connecting.
const LEAST: u64 = 100;
const TIMES: u64 = 4;
/// Where it is not known how long connecting takes: two more attempts of the kernel's own have had no answer either.
const UNKNOWN: u64 = 2500;
/// After each of a request's attempts that was taken for dropped, it waits twice as long; up to so many times.
const MOST_DOUBLED: u32 = 6;
/// One may have been lost on the way. Two, no further apart than so many milliseconds, are the server's word.
const TOGETHER: u64 = 1000;
/// One that has taken no connection and answered nothing for so many milliseconds may be gone, or stand still.
const GONE: u64 = 2000;
/// After so many answers for each that may be in flight, it is tried whether there is room for more.
const ANSWERS_EACH: u64 = 16;

/// What all workers know of how a server over TCP takes connections. `words`: [`WORDS`] of them.
#[derive(Clone, Copy, Debug)]
pub struct Silent<'m, A> {
    words: Words<'m, A>,
}

/// What a limit leaves free: places of the server's that are in use for a moment longer than nginx knows.
fn slack(limit: u64) -> u64 {
    1 + limit / 16
}

impl<'m, A: Word> Silent<'m, A> {
    /// Where there are too few words, nothing is ever known.
    pub fn new(words: &'m [A]) -> Self {
        Silent { words: Words(words) }
    }

    /// The server has answered a request.
    #[inline]
    pub fn alive(&self, now: u64) {
        self.words.set(ALIVE_AT, now.max(1));
    }

    /// Has it taken a connection, or answered, a moment ago?
    pub fn is_alive(&self, now: u64) -> bool {
        let alive_at = self.words.get(ALIVE_AT);
        alive_at != 0 && now.saturating_sub(alive_at) <= GONE
    }

    /// Connecting has taken so many milliseconds.
    pub fn connected(&self, time: u64, now: u64) {
        self.alive(now);
        let time = time.min(1 << 20) * 64;
        let mean = match self.words.get(MEAN) {
            0 => time,
            mean => (mean - 1) - (mean - 1) / 8 + time / 8,
        };
        self.words.set(MEAN, mean + 1);
    }

    /// After how many milliseconds without an answer an attempt to connect is taken for dropped, of a request of which
    /// `before` were so already.
    pub fn patience(&self, before: u32) -> u64 {
        let patience = match self.words.get(MEAN) {
            0 => UNKNOWN,
            mean => LEAST.max((mean - 1) * TIMES / 64),
        };
        patience << before.min(MOST_DOUBLED)
    }

    /// An attempt is taken for dropped that was made when so many others were in flight. Returns the limit, where it
    /// says one.
    #[must_use]
    pub fn dropped(&self, others: u64, now: u64) -> Option<u64> {
        let before = self.words.get(DROPPED_AT);
        self.words.set(DROPPED_AT, now.max(1));
        if before == 0 || now.saturating_sub(before) > TOGETHER {
            return None;
        }
        self.words.set(ANSWERS, 0);
        Some(others.saturating_sub(slack(others)).max(1))
    }

    /// A request was answered while others wait because of this limit. Returns the one that is to be tried next.
    #[must_use]
    pub fn answered(&self, limit: u64) -> Option<u64> {
        let answers = self.words.get(ANSWERS) + 1;
        let is_enough = answers >= ANSWERS_EACH.saturating_mul(limit);
        self.words.set(ANSWERS, if is_enough { 0 } else { answers });
        is_enough.then(|| limit.saturating_add(slack(limit)))
    }
}
