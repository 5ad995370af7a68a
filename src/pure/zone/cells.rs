//! What is counted, and when a full listen queue is tried again.

use super::layout::{cell, slot};
use super::workers::WorkerId;
use super::{SlotId, Word, Worker, Zone};
use crate::pure::queue::Backoff;

/// What there is of a server now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections, in use or idle.
    pub in_use: u64,
    /// Those of them that are idle.
    pub idle: u64,
    /// Requests that wait.
    pub waiting: u64,
}

impl Gauges {
    /// Connections that have a request, or are being made for one.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.in_use.saturating_sub(self.idle)
    }
}

/// When somebody tries to connect again, of all those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The moment, in milliseconds, as they were passed to [`Worker::pause`].
    pub at: u64,
    /// The pause before it, in milliseconds.
    pub pause: u64,
}

impl Retry {
    fn of(word: u64) -> Retry {
        Retry { at: word >> 8, pause: word & 0xff }
    }

    fn word(self) -> u64 {
        self.at << 8 | self.pause
    }
}

/// A worker's own counters for a server.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'m, A>(&'m [A]);

impl<A: Word> Counters<'_, A> {
    /// Adds to one; to none where there are not so many.
    #[inline]
    pub fn add(&self, index: usize, number: u64) {
        if let Some(word) = self.0.get(index) {
            word.set_relaxed(word.get_relaxed().wrapping_add(number));
        }
    }
}

impl<'m, A: Word> Zone<'m, A> {
    /// What there is of a server, in all workers.
    pub fn gauges(&self, of: SlotId) -> Gauges {
        let sum = |at| self.sum(of, at);
        Gauges { in_use: sum(cell::IN_USE), idle: sum(cell::IDLE), waiting: sum(cell::WAITING) }
    }

    /// The same of one worker.
    pub fn gauges_of(&self, id: WorkerId, of: SlotId) -> Gauges {
        let get = |at| self.cell_word(id, of, at).get();
        Gauges { in_use: get(cell::IN_USE), idle: get(cell::IDLE), waiting: get(cell::WAITING) }
    }

    /// A counter of a server: all that workers have counted, those that are gone included.
    pub fn read(&self, of: SlotId, index: usize) -> u64 {
        match index < self.layout.shape.counters {
            true => self.sum(of, cell::COUNTERS + index),
            false => 0,
        }
    }

    /// All counters of a server, as far as there is room for them in `sums`: faster than one by one.
    pub fn read_all(&self, of: SlotId, sums: &mut [u64]) {
        sums.fill(0);
        for worker in 0..self.high() {
            let counters = self.counters(worker, of);
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum = sum.wrapping_add(counter.get_relaxed());
            }
        }
    }

    /// The counters of a server, of each worker that there ever was.
    pub fn rows(self, of: SlotId) -> impl Iterator<Item = &'m [A]> {
        (0..self.high()).map(move |worker| self.counters(worker, of))
    }

    /// When a full listen queue of this server is tried again.
    pub fn retry(&self, of: SlotId) -> Retry {
        Retry::of(self.slot_word(of.index(), slot::RETRY).get())
    }

    #[inline]
    fn counters(&self, worker: usize, of: SlotId) -> &'m [A] {
        let base = self.layout.cell(worker, of.index()) + cell::COUNTERS;
        self.words.get(base..base + self.layout.shape.counters).unwrap_or(&[])
    }
}

impl<'m, A: Word> Worker<'m, A> {
    /// This worker's counters for a server. While a request of this worker waits or has a place, the slot
    /// stays the server's; what is counted later may be another's.
    #[inline]
    pub fn counters(&self, of: SlotId) -> Counters<'m, A> {
        Counters(self.zone.counters(self.id.index(), of))
    }

    /// The first of them, where there are so many.
    #[inline]
    pub fn cells<const N: usize>(&self, of: SlotId) -> Option<&'m [A; N]> {
        let begin = self.own_base(of) + cell::COUNTERS;
        let is_there = N <= self.zone.layout.shape.counters;
        is_there.then(|| self.zone.words.get(begin..)?.first_chunk()).flatten()
    }

    /// The listen queue is full. Returns when the first of those who wait tries again: as
    /// [`Backoff`] has it, for all workers. `now`: in milliseconds of a clock that all have.
    /// `progress`: a connection could be had last time.
    pub fn pause(&self, of: SlotId, now: u64, progress: bool) -> Retry {
        let word = self.zone.slot_word(of.index(), slot::RETRY);
        let before = word.get();
        let pause = match progress {
            true => 1,
            false => (Retry::of(before).pause * 2).clamp(1, Backoff::LONGEST as u64),
        };
        let retry = Retry { at: now + pause, pause };
        match word.replace(before, retry.word()) {
            true => retry,
            // somebody else has tried as well
            false => Retry::of(word.get()),
        }
    }
}
