//! Places: connections to a server, in use or idle, of which there may be so many in all workers.

use super::layout::cell;
use super::line::{Rank, LOWER, TRIES};
use super::{SlotId, Word, Worker, Zone};

/// What came of the wish to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// It may be opened, and counts from now on.
    Place,
    /// Others are before it.
    Turn,
    /// There are as many as there may be. If the request waits ([`Worker::join`]), it is told when there is
    /// a place.
    Full,
    /// The slot is another server's, or nobody's: look the server up again.
    Gone,
}

/// What becomes of a connection that another request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// It is idle.
    Idle,
    /// The first of this worker's own line may have it, with its place ([`Worker::left`]).
    Own,
    /// Another worker's request is the first: it is closed, and [`Worker::release`] follows.
    Close,
}

impl<A: Word> Zone<'_, A> {
    /// How many connections to this server are open, in use or idle, in all workers. Those who try to
    /// have one, and do not get it, are in it for a moment.
    pub fn in_use(&self, of: SlotId) -> u64 {
        self.sum(of, cell::IN_USE)
    }
}

impl<'m, A: Word> Worker<'m, A> {
    /// A request wants to open a connection. `limit`: how many there may be in all workers, 0: as
    /// many as you like; there are never more. `rank`: the request's, for one that waits the rank that was
    /// said for it.
    #[inline]
    #[must_use]
    pub fn acquire(&self, of: SlotId, limit: u64, rank: Rank) -> Acquire {
        match self.has_turn(of, rank) {
            true => self.acquire_in_turn(of, limit, rank),
            false => Acquire::Turn,
        }
    }

    /// As [`Self::acquire`], by one who has seen that it has its turn ([`Self::has_turn`]). Whoever begins to
    /// wait in between comes as if a moment later.
    #[inline]
    #[must_use]
    pub fn acquire_in_turn(&self, of: SlotId, limit: u64, rank: Rank) -> Acquire {
        if limit > 0 {
            return self.acquire_one_of(of, limit, rank);
        }
        self.add(of, cell::IN_USE, 1);
        if self.may_use(of) {
            return Acquire::Place;
        }
        self.subtract(of, cell::IN_USE);
        Acquire::Gone
    }

    /// The same where there is a limit, by one whose turn it is.
    #[inline(never)]
    fn acquire_one_of(&self, of: SlotId, limit: u64, rank: Rank) -> Acquire {
        let waits = rank == LOWER || self.own(of, cell::FIRST).get_relaxed() == rank.get();
        for _ in 0..TRIES {
            if self.zone.in_use(of) >= limit {
                if waits {
                    self.ask_for_idle(of);
                }
                return Acquire::Full;
            }
            self.add(of, cell::IN_USE, 1);
            let is_ready = self.may_use(of);
            if is_ready && self.zone.in_use(of) <= limit {
                return Acquire::Place;
            }
            // somebody may have failed because of it
            let is_own = self.release(of, limit);
            if !is_ready {
                return Acquire::Gone;
            }
            // One that does not wait yet tries once. So the first of those who wait meets each of them
            // once, and not for ever.
            if !waits || !is_own {
                return Acquire::Full;
            }
        }
        // many have come at this moment: from the event loop, then
        self.ring_own();
        Acquire::Full
    }

    /// A connection is closed that was in use, or was not made at all. True: the first of this worker's own
    /// line has its turn.
    #[inline]
    #[must_use]
    pub fn release(&self, of: SlotId, limit: u64) -> bool {
        self.subtract(of, cell::IN_USE);
        self.pass_on(of, limit)
    }

    /// A request is done with its connection, which another may have.
    #[inline]
    #[must_use]
    pub fn park(&self, of: SlotId) -> Park {
        self.add(of, cell::IDLE, 1);
        let Some((first, _)) = self.zone.first(of) else { return Park::Idle };
        self.take_idle(of);
        if first == self.id {
            Park::Own
        } else {
            Park::Close
        }
    }

    /// A connection that [`Self::park`] has said [`Park::Own`] of is idle until the event loop comes to that
    /// request.
    pub fn keep_idle(&self, of: SlotId) {
        self.add(of, cell::IDLE, 1);
    }

    /// An idle connection has found a request ([`Self::has_turn`] before), or is about to be closed.
    #[inline]
    pub fn take_idle(&self, of: SlotId) {
        let idle = self.own(of, cell::IDLE);
        idle.set_relaxed(idle.get_relaxed().saturating_sub(1));
    }

    /// An idle connection is closed. As [`Self::release`].
    #[must_use]
    pub fn close_idle(&self, of: SlotId, limit: u64) -> bool {
        self.take_idle(of);
        self.release(of, limit)
    }

    /// Is the slot the server's, after this worker has added itself to those who use it? Where it was one
    /// of them before, the slot cannot be freed, but may be marked for a moment.
    #[inline]
    pub(super) fn may_use(&self, of: SlotId) -> bool {
        self.zone.is_ready(of) || self.has_used(of)
    }

    #[inline(never)]
    fn has_used(&self, of: SlotId) -> bool {
        let uses = [cell::IN_USE, cell::WAITING].map(|at| self.own(of, at).get_relaxed());
        uses.iter().sum::<u64>() > 1 && self.zone.is_known(of)
    }

    #[inline]
    pub(super) fn own(&self, of: SlotId, at: usize) -> &'m A {
        self.zone.word(self.own_base(of) + at)
    }

    /// Where this worker's cell begins.
    #[inline]
    pub(super) fn own_base(&self, of: SlotId) -> usize {
        self.row + of.index() * self.zone.layout.cell_size
    }

    /// Adds to a word of this worker's own cell.
    #[inline]
    pub(super) fn add(&self, of: SlotId, at: usize, number: u64) {
        let word = self.own(of, at);
        word.set(word.get_relaxed().wrapping_add(number));
    }

    #[inline]
    pub(super) fn subtract(&self, of: SlotId, at: usize) {
        let word = self.own(of, at);
        word.set(word.get_relaxed().saturating_sub(1));
    }
}
