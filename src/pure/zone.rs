//! The state that all workers share: places of servers that have a limit, the line of those who wait
//! for one, counters. A piece of memory, seen as words; with no nginx in sight, no pointer in the memory,
//! and nothing allocated in it.
//!
//! # What a killed worker leaves
//!
//! A worker may be killed between any two steps, and nothing that others need may be lost with it. So there
//! is no sum in the zone that everybody adds to. Each worker has a cell of its own for each server, which it
//! alone writes; who wants a sum adds up. What a dead worker had is zeroed by whoever finds that it is
//! gone ([`Zone::sweep`]). Its counters stay where they are, and the next worker in this cell counts on from
//! there: nothing has to be moved, so nothing can be counted twice.
//!
//! # Layout
//!
//! Words of 8 bytes, lines of 8 words. Who writes: the worker whose cell it is ("own"), any ("all"), or the
//! one with the lock ("lock").
//!
//! | part | words | what | who writes |
//! |---|---|---|---|
//! | header, line 0 | 8 | magic, version, workers, servers, counters, shared words, seed and check of the hash | `format` |
//! | line 1 | 1 | the lock: the process that has it | all |
//! | line 2 | 4 | generation begun, generation ended, cells ever used, when it was made | lock, lock, all, `format` |
//! | line 3 | 1 | a word for offsets that are none | nobody |
//! | workers: a line for each | 1 | the process whose cells these are; 0: nobody's | own, lock |
//! | | 1 | the bell: 1 its turn, 2 asked for an idle connection | all |
//! | slots: 7 lines for each server | 1 | state (8 bits: empty, ready, being freed, free) and epoch | lock |
//! | | 1 | the generation that wants it | lock |
//! | | 2 | hash of the key | lock |
//! | line 1 of it | 4 | the line: a bit for each worker with requests that wait | own bit |
//! | | 1 | backoff: when the listen queue is tried again (56 bits, ms) and the pause (8 bits, ms) | all |
//! | | 1 | turns: how many of those who waited have been served | all |
//! | lines 2 to 5 | 1 + 31 | label: lengths of upstream and server, and their bytes | lock |
//! | line 6 | 8 | health: state, lease, counts ([`super::health`]) | all |
//! | shared: for each server | shape's | words for what all workers know of a server: state, history | all |
//! | cells: for each worker, for each server, a line | 1 | connections open, in use or idle | own |
//! | | 1 | those of them that are idle | own |
//! | | 1 | requests that wait | own |
//! | | 1 | the rank of the first of them | own |
//! | | 1 | asked: an idle connection should be given up | all |
//! | | 1 | of the class of them that was served the longest time ago: when (60 bits), and the class | own |
//! | | shape's | counters, histograms' buckets | own |
//!
//! All of a worker's cells are together, so that those which were never used take no memory: nobody
//! reads them either (cells ever used). Rings of seconds for plots belong into the shared words, a
//! region of its own for the same reason.
//!
//! # Places
//!
//! A worker adds itself first and then the sum up; where this is more than the limit, it takes its place back
//! ([`Worker::acquire`]). All writes and reads of it are in one order: the last who added itself has seen
//! all the others, so there are never more than the limit. Two may fail although one could have had the
//! place. Both then wait, and the rule for those decides.
//!
//! # The line
//!
//! Who waits says so first, and then tries once more. Who gives a place back, or leaves the line, or comes
//! out of it with a place, does so first and then looks who is the next, and rings for that worker if there is
//! room. One of the two sees the other. Requests of one worker are in a line of its own; the zone knows the
//! rank of its first, and the lowest rank of all has the turn. Ranks are stamps of arrival, or whatever
//! else is an order ([`crate::pure::line`]). Who changes the order tells all that wait ([`Worker::ring_line`]).
//!
//! The four highest bits of a rank are its class, and a class of others has to wait. That it does not wait
//! for ever, one turn in [`LOWER_TURNS`] goes to another class than that of the first: the one that was
//! served the longest time ago, in whichever worker. Its rank is [`LOWER`] then.
//!
//! An idle connection takes a place as well. Who parks one says so first, and then looks whether somebody
//! waits; who waits says so first, and then looks whether there is an idle one, and asks for it.
//!
//! # What a worker calls
//!
//! | when | what |
//! |---|---|
//! | a request comes | [`Worker::has_turn`] and [`Worker::take_idle`] where it has an idle connection, else [`Worker::acquire`] |
//! | it has to wait | [`Worker::join`], and then, for the first of its own line, what follows |
//! | its own first may have its turn: a method said so, or [`Worker::answer`] | the same two, and with a connection [`Worker::left`]; again for the next while that says so |
//! | an idle connection does not suit the request whose turn it is | [`Worker::close_idle`], then [`Worker::acquire`] |
//! | the listen queue is full | [`Worker::release`], whose answer does not matter, [`Worker::ask_for_idle`], [`Worker::pause`] and a timer for that moment |
//! | a request that waits is given up | [`Worker::left`] |
//! | before each of these that tells a rank | [`Worker::set_lower`] |
//! | one that waited has its connection | [`Worker::count_turn`], and then [`Worker::left`] |
//! | a request is done, and its connection may have another | [`Worker::park`] |
//! | a connection is closed | [`Worker::release`], [`Worker::close_idle`] |
//! | its eventfd was written to | [`Worker::answer`]; where connections are asked for, [`Worker::asked`] for servers with idle ones |
//! | a process has ended | [`Zone::sweep`] |
//!
//! # Slots
//!
//! Are found by hash without a lock. Whoever makes or frees one, or sweeps, has the lock; it is not
//! waited for ([`Busy`]), and taken from a process that is gone. Each of these steps is either invisible until
//! its last write, or done again by the next who has the lock. A slot is freed as a place is had: it is
//! marked, and then looked at; whoever begins to use it says so, and then looks at the mark.
#![forbid(unsafe_code)]

mod cells;
mod layout;
mod line;
mod places;
mod slots;
mod word;
mod workers;

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::AtomicU64;

pub use cells::{Counters, Gauges, Retry};
pub use layout::{Layout, Shape};
pub use line::{Join, Rank, Rung, LOWER, LOWER_TURNS};
pub use places::{Acquire, Park};
pub use slots::{Generation, Label, NoSlot, SlotId, PROBES};
pub use word::Word;
pub use workers::{Busy, Process, Worker, WorkerId};

use layout::header;

/// The process that uses the zone, and what it can do outside of it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// This process.
    pub me: Process,
    /// Is this process there? One that has ended, and is not yet waited for, is not.
    pub is_alive: fn(Process) -> bool,
    /// Wakes a worker, which [answers](Worker::answer): writes to its eventfd.
    pub ring: fn(WorkerId),
}

/// The zone, in the hands of one process. A process has one thread that uses it.
#[derive(Debug)]
pub struct Zone<'m, A = AtomicU64> {
    words: &'m [A],
    nowhere: &'m A,
    layout: Layout,
    host: Host,
}

impl<A> Clone for Zone<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Zone<'_, A> {}

/// "rsuwsgiz".
const MAGIC: u64 = u64::from_be_bytes(*b"rsuwsgiz");
/// Of the layout.
const VERSION: u64 = 2;

impl<'m, A: Word> Zone<'m, A> {
    /// Makes a zone of memory that is all zeros, which is not yet shared. `seed`: any number that clients do
    /// not know. None where the memory is too small.
    pub fn format(words: &'m [A], layout: Layout, seed: u64, host: Host) -> Option<Self> {
        if words.len() < layout.words() {
            return None;
        }
        let zone = Zone { words, nowhere: words.get(header::NOWHERE)?, layout, host };
        for (at, number) in [
            (header::WORKERS, layout.shape.workers),
            (header::SERVERS, layout.shape.servers),
            (header::COUNTERS, layout.shape.counters),
            (header::SHARED, layout.shape.shared),
        ] {
            zone.word(at).set(number as u64);
        }
        zone.word(header::SEED).set(seed);
        zone.word(header::HASH).set(hash(seed, 0, b""));
        zone.word(header::VERSION).set(VERSION);
        zone.word(header::GENERATION).set(1);
        zone.word(header::MAGIC).set(MAGIC);
        Some(zone)
    }

    /// A zone that is there already. None where the memory holds none, or one of another version of this
    /// module.
    pub fn open(words: &'m [A], host: Host) -> Option<Self> {
        let number = |at: usize| Some(words.get(at)?.get());
        let size = |at: usize| usize::try_from(number(at)?).ok();
        if number(header::MAGIC)? != MAGIC || number(header::VERSION)? != VERSION {
            return None;
        }
        let layout = Layout::new(Shape {
            workers: size(header::WORKERS)?,
            servers: size(header::SERVERS)?,
            counters: size(header::COUNTERS)?,
            shared: size(header::SHARED)?,
        })?;
        let is_same_hash = hash(number(header::SEED)?, 0, b"") == number(header::HASH)?;
        if words.len() < layout.words() || !is_same_hash {
            return None;
        }
        Some(Zone { words, nowhere: words.get(header::NOWHERE)?, layout, host })
    }

    /// Notes when it was made, in whatever unit.
    pub fn set_since(&self, time: u64) {
        self.word(header::SINCE).set(time);
    }

    /// When it was made.
    pub fn since(&self) -> u64 {
        self.word(header::SINCE).get()
    }

    /// There was no room for a server.
    pub fn count_full(&self) {
        let word = self.word(header::FULL);
        let add = || {
            let before = word.get();
            word.replace(before, before.wrapping_add(1))
        };
        while !add() {}
    }

    /// How often there was none.
    pub fn full(&self) -> u64 {
        self.word(header::FULL).get()
    }

    /// The same zone in the hands of another process, after a fork.
    pub fn on(self, host: Host) -> Self {
        Zone { host, ..self }
    }

    /// Where everything is, and how much there is of it.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// All offsets come from the layout, which fits; ids of another zone may not.
    #[inline]
    fn word(&self, at: usize) -> &'m A {
        self.words.get(at).unwrap_or(self.nowhere)
    }

    /// How many cells have ever been used: no other has anything in it.
    #[inline]
    fn high(&self) -> usize {
        (self.word(header::HIGH).get() as usize).min(self.layout.shape.workers)
    }
}

/// Of bytes, with a seed; `part` 0 to 1: two of them make one of 128 bits. SipHash: who does not know the
/// seed finds no two keys with the same. Another version of Rust may have another, which the
/// header tells.
fn hash(seed: u64, part: u8, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u8(part);
    hasher.write(bytes);
    hasher.finish()
}
