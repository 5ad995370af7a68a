//! The processes: whose cells are whose, who has the lock, and what becomes of those that are gone.

use std::fmt;

use super::layout::{cell, header, slot, worker};
use super::{Word, Zone};

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process(u64);

impl Process {
    /// `started`: when, in whatever unit; its lower 31 bits count. In the clock ticks of
    /// /proc/PID/stat (field 22) these are 248 days.
    pub fn new(pid: u32, started: u64) -> Process {
        Process(u64::from(pid) << 32 | (started & 0x7fff_ffff) << 1 | 1)
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// When it was started, as far as it counts.
    pub fn started(self) -> u64 {
        (self.0 & 0xffff_ffff) >> 1
    }

    fn of(word: u64) -> Option<Process> {
        (word != 0).then_some(Process(word))
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({}, {})", self.pid(), self.started())
    }
}

/// A worker's number in the zone, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(super) u16);

impl WorkerId {
    /// The number, less than [`Shape::workers`](super::Shape::workers).
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Another process changes the slots or sweeps, which takes microseconds: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The zone in the hands of a worker that has cells.
#[derive(Debug)]
pub struct Worker<'m, A = std::sync::atomic::AtomicU64> {
    pub(super) zone: Zone<'m, A>,
    pub(super) id: WorkerId,
    /// Where its cells begin.
    pub(super) row: usize,
}

impl<A> Clone for Worker<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Worker<'_, A> {}

/// The lock, until it is dropped.
pub(super) struct Locked<'m, A: Word>(&'m A);

impl<A: Word> Drop for Locked<'_, A> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

impl<'m, A: Word> Zone<'m, A> {
    /// Takes the lock, which may be a dead process's.
    pub(super) fn lock(&self) -> Result<Locked<'m, A>, Busy> {
        let lock = self.word(header::LOCK);
        let has = lock.get();
        let is_free = match Process::of(has) {
            // what a panic has left
            Some(process) => process == self.host.me || !(self.host.is_alive)(process),
            None => true,
        };
        match is_free && lock.replace(has, self.host.me.0) {
            true => Ok(Locked(lock)),
            false => Err(Busy),
        }
    }

    /// Gives this process cells. None where there are none left: [`Self::sweep`] may free some.
    pub fn enter(self) -> Option<Worker<'m, A>> {
        let index = (0..self.layout.shape.workers)
            .find(|index| self.owner(*index).replace(0, self.host.me.0))?;
        // before the first use of a cell: who adds up must not miss it
        self.word(header::HIGH).raise(index as u64 + 1);
        self.bell(index).set(0);
        let (id, row) = (WorkerId(index as u16), self.layout.cell(index, 0));
        Some(Worker { zone: self, id, row })
    }

    /// The workers that have cells.
    pub fn workers(self) -> impl Iterator<Item = (WorkerId, Process)> + 'm
    where
        A: 'm,
    {
        (0..self.layout.shape.workers).filter_map(move |index| {
            Some((WorkerId(index as u16), Process::of(self.owner(index).get())?))
        })
    }

    /// Frees the cells of workers that are gone, and slots that are not wanted any more. Returns how many
    /// workers were gone. If there were any, all others are woken: whatever a dead one should have told
    /// them is in the zone.
    ///
    /// # Errors
    ///
    /// [`Busy`]: another process may be at it.
    pub fn sweep(&self) -> Result<usize, Busy> {
        let is_gone = |process: Process| process != self.host.me && !(self.host.is_alive)(process);
        let _locked = self.lock()?;
        let workers = self.workers();
        let gone: Vec<_> = workers.filter(|(_, process)| is_gone(*process)).collect();
        gone.iter().for_each(|(id, _)| self.clear_worker(*id));
        if !gone.is_empty() {
            self.ring_all();
        }
        // whoever is killed before this has it done again, with everything that comes before
        gone.iter().for_each(|(id, _)| self.owner(id.index()).set(0));
        self.free_unwanted();
        Ok(gone.len())
    }

    /// Wakes every worker, whether or not its bell says that this is done: who had to do it may
    /// have been killed before.
    pub fn ring_all(&self) {
        for (id, _) in self.workers() {
            self.bell(id.index()).add_bits(worker::TURN | worker::ASKED);
            (self.host.ring)(id);
        }
    }

    /// Takes everything that is there for now, and no counters, out of a worker's cells.
    fn clear_worker(&self, id: WorkerId) {
        for index in 0..self.layout.shape.servers {
            let state = self.word(self.layout.slot(index) + slot::STATE);
            if state.get() == 0 {
                continue;
            }
            self.line_word(index, id).clear_bits(id.bit());
            let base = self.layout.cell(id.index(), index);
            for at in [cell::FIRST, cell::WAITING, cell::IDLE, cell::ASKED, cell::IN_USE] {
                self.word(base + at).set(0);
            }
        }
    }

    pub(super) fn owner(&self, index: usize) -> &'m A {
        self.word(self.layout.worker(index) + worker::OWNER)
    }

    pub(super) fn bell(&self, index: usize) -> &'m A {
        self.word(self.layout.worker(index) + worker::BELL)
    }
}

impl WorkerId {
    /// Its bit in the word of a slot's line that is its.
    pub(super) fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

impl<'m, A: Word> Worker<'m, A> {
    /// Its number, by which others wake it.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The zone.
    #[inline]
    pub fn zone(&self) -> &Zone<'m, A> {
        &self.zone
    }

    /// The worker ends: its cells are another's. Places that it has not given back come free.
    pub fn leave(self) {
        self.zone.clear_worker(self.id);
        self.zone.ring_all();
        // last: whoever is killed before is swept
        self.zone.owner(self.id.index()).set(0);
    }
}
