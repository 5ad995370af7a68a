//! The limit that finds itself: how many connections a server has use for, `rs_uwsgi_max_connections auto`.
//!
//! Who knows is the kernel. What was sent to a unix socket and not read by the server lies there, and can be asked
//! for: such a request waits in the server's listen queue, or in that of its threads, and all others are
//! worked on. So nothing is guessed from times, which say little where some requests take 5 ms and others 2 s.
//!
//! Each time that a server has answered, those that the worker has in flight besides are looked at, and after some
//! of these looks the limit is set, so that a few requests are always there for the server to take at once
//! ([`spare`]), and all others wait in nginx: where they have an order, and nobody works for them when their
//! clients have left. A server that stands still answers nothing, so nothing is learned from it.
//!
//! Where nothing is said of a limit, there is none, until the server says itself that it has more than it can take:
//! its listen queue is full. From then on one is found out, until that has not been for a while, and nobody waits.
//!
//! The state is in words that all workers read and write, as in [`super::overload`]: a look that two take at the
//! same moment may be one.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::overload;
use super::words::Words;
use super::zone::Word;

/// How many words there are of a server.
pub const WORDS: usize = 5;
/// Where these are among the words that all workers have of a server.
pub const AT: Range<usize> = overload::AT.end - WORDS..overload::AT.end;

/// The limit; 0: none is known.
const LIMIT: usize = 0;
/// The looks since it was last set: how many (12 bits), requests looked at (26 bits), unread ones (26 bits).
const LOOKS: usize = 1;
/// The sum of the requests in flight at these looks.
const IN_FLIGHT: usize = 2;
/// The limit of which the log was told.
const SAID: usize = 3;
/// Until when the server is overloaded, by its own word, in milliseconds of a clock that all workers have; 0: it has
/// never said it.
const OVERLOADED_UNTIL: usize = 4;
/// Where the last of them is.
pub const OVERLOADED_UNTIL_AT: usize = AT.start + OVERLOADED_UNTIL;

/// A server is overloaded for so long after its listen queue was full, or a request had to wait for it, in
/// milliseconds: a pause in a load that goes on is shorter.
pub const OVERLOADED: u64 = 5000;

/// The limit is set after so many looks at least: one may have fallen between two requests.
const LEAST_LOOKS: u64 = 8;
/// And after so many requests were looked at for each that is in flight, the answered one among them: a worker
/// sees its own only, of which it may have few. From so many on, fewer for each.
const LEAST_LOOKED_EACH: u64 = 12;
const MOST_LOOKED: u64 = 64;
const MOST_LOOKED_EACH: u64 = 4;
/// Where there are none besides, after so many looks.
const MOST_LOOKS: u64 = 32;

/// Between which numbers the limit is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest, 1 or more.
    pub least: u64,
    /// The highest.
    pub most: u64,
}

impl Bounds {
    /// `auto`.
    pub const ANY: Bounds = Bounds { least: 1, most: u64::MAX };
}

/// `rs_uwsgi_max_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxConnections {
    /// Nothing is said: what is found out while the server is overloaded, else as many as you like.
    Unsaid,
    /// So many; 0: as many as you like.
    Number(u64),
    /// `auto`: what is found out.
    Auto(Bounds),
}

impl MaxConnections {
    /// `auto`, or `auto:` with two numbers, of which the first is not 0 and not more than the other.
    pub fn parse(value: &[u8], number: impl Fn(&[u8]) -> Option<u64>) -> Option<MaxConnections> {
        let Some(rest) = value.strip_prefix(b"auto") else {
            return number(value).map(MaxConnections::Number);
        };
        if rest.is_empty() {
            return Some(MaxConnections::Auto(Bounds::ANY));
        }
        let rest = rest.strip_prefix(b":")?;
        let (least, most) = rest.split_at(rest.iter().position(|byte| *byte == b'-')?);
        let (least, most) = (number(least)?, number(most.get(1..)?)?);
        let is_range = (1..=most).contains(&least);
        is_range.then_some(MaxConnections::Auto(Bounds { least, most }))
    }
}

/// What was seen when the server had answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Requests in flight in all workers, without the one that was answered.
    pub in_flight: u64,
    /// Those of them that this worker has looked at.
    pub looked: u64,
    /// Those of these that the server has not read yet.
    pub unread: u64,
    /// Do requests wait in nginx?
    pub waits: bool,
}

/// A limit that differs much from the one that the log was last told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The one that it knows; None: that there was none.
    pub before: Option<u64>,
    /// The one now.
    pub now: u64,
}

/// What all workers know of a server's limit. `words`: [`WORDS`] of them.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'m, A> {
    words: Words<'m, A>,
}

/// How many requests are to lie in the server's listen queue while more wait in nginx, where it works on
/// `busy` at a time: one for the next of its processes to take at once, and one more for each sixteen, which may
/// be done in the same moment.
fn spare(busy: f64) -> f64 {
    1.0 + busy / 16.0
}

impl<'m, A: Word> Limit<'m, A> {
    /// Where there are too few words, nothing is ever known.
    pub fn new(words: &'m [A]) -> Self {
        Limit { words: Words(words) }
    }

    /// The limit, if one is known: until requests are seen that the server does not read, it takes all.
    #[inline]
    pub fn known(&self, bounds: Bounds) -> Option<u64> {
        match self.words.get(LIMIT) {
            0 => Some(bounds.most).filter(|most| *most != u64::MAX),
            limit => Some(limit.clamp(bounds.least, bounds.most)),
        }
    }

    /// Has it been found out?
    pub fn is_learned(&self) -> bool {
        self.words.get(LIMIT) != 0
    }

    /// The server's listen queue is full, or a request waits because it was: it is overloaded, from now on and for
    /// [`OVERLOADED`].
    pub fn set_overloaded(&self, now: u64) {
        self.words.set(OVERLOADED_UNTIL, now + OVERLOADED);
    }

    /// Is the server overloaded, by its own word?
    #[inline]
    pub fn is_overloaded(&self, now: u64) -> bool {
        now < self.words.get(OVERLOADED_UNTIL)
    }

    /// The server has answered a request. Returns what is new to the log.
    pub fn look(&self, look: Look, bounds: Bounds) -> Option<News> {
        // others may have some in flight that this worker cannot look at
        if look.looked == 0 && look.in_flight > 0 {
            return None;
        }
        let word = self.words.0.get(LOOKS)?;
        let before = word.get_relaxed();
        let (count, looked, unread) = unpack(before);
        let (count, looked) = (count + 1, looked + look.looked);
        let unread = unread + look.unread.min(look.looked);
        if !word.replace(before, pack(count, looked, unread)) {
            return None;
        }
        let in_flight = self.words.get(IN_FLIGHT) + look.in_flight;
        self.words.set(IN_FLIGHT, in_flight);
        let in_flight = in_flight as f64 / count as f64;
        let in_work = in_flight as u64 + 1;
        let enough = (LEAST_LOOKED_EACH * in_work).min(MOST_LOOKED + MOST_LOOKED_EACH * in_work);
        let is_alone = looked == 0 && count >= MOST_LOOKS;
        if count < LEAST_LOOKS || looked < enough && !is_alone {
            return None;
        }
        word.set_relaxed(0);
        self.words.set(IN_FLIGHT, 0);
        let unread = in_flight * unread as f64 / looked.max(1) as f64;
        self.learn(in_flight, unread, look.waits, bounds)
    }

    /// Sets the limit: so many were in flight on the average, besides the one that was answered, and so many of
    /// them not read.
    fn learn(&self, in_flight: f64, unread: f64, waits: bool, bounds: Bounds) -> Option<News> {
        let known = self.known(bounds);
        // with the one in whose place the next request comes
        let busy = in_flight - unread + 1.0;
        let spare = spare(busy);
        let limit = if unread > spare + 1.0 {
            let enough = (busy + spare).round() as u64;
            known.map_or(enough, |known| known.min(enough))
        } else if unread < spare / 2.0 && waits {
            // where there is none, nobody waits for it
            known.map(|known| known.saturating_add((known / 8).max(1)))?
        } else {
            return None;
        };
        self.set(limit, bounds)
    }

    /// The server is known to have no room for more than so many.
    #[must_use]
    pub fn lower(&self, limit: u64, bounds: Bounds) -> Option<News> {
        let is_lower = self.known(bounds).is_none_or(|known| limit < known);
        is_lower.then(|| self.set(limit, bounds)).flatten()
    }

    /// Sets the limit. Returns what is new to the log.
    #[must_use]
    pub fn set(&self, limit: u64, bounds: Bounds) -> Option<News> {
        let limit = limit.clamp(bounds.least, bounds.most);
        self.words.set(LIMIT, limit);
        let said = self.words.get(SAID);
        let is_news = said == 0 || limit * 2 >= said * 3 || limit * 3 <= said * 2;
        is_news.then(|| {
            self.words.set(SAID, limit);
            News { before: Some(said).filter(|said| *said != 0), now: limit }
        })
    }
}

fn pack(count: u64, looked: u64, unread: u64) -> u64 {
    const MOST: u64 = (1 << 26) - 1;
    count.min(0xfff) << 52 | looked.min(MOST) << 26 | unread.min(MOST)
}

fn unpack(looks: u64) -> (u64, u64, u64) {
    const MOST: u64 = (1 << 26) - 1;
    (looks >> 52, looks >> 26 & MOST, looks & MOST)
}
