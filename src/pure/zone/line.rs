//! Who waits, whose turn it is, and how a worker is woken.

use std::num::NonZeroU64;

use super::layout::{cell, slot, worker};
use super::workers::WorkerId;
use super::{SlotId, Word, Worker, Zone};
use crate::pure::line::{class_of, AHEAD};

/// The place of a request in the line: the lowest of all is the first. For the order of arrival, the
/// moment of it in nanoseconds of CLOCK_MONOTONIC, which is one for all processes. Of equal ones of
/// two workers the lower worker's is before.
pub type Rank = NonZeroU64;

/// The rank of a request whose turn is one of those that go to lower classes: before all others.
pub const LOWER: Rank = Rank::MIN;

/// One turn in so many goes to another class than the first: lower classes take no more than a tenth from
/// the higher ones, and with so many lower ones waiting in so many workers, each of these is served once in
/// ten turns for each of them.
pub const LOWER_TURNS: u64 = 10;

/// What came of the wish to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The request waits; [`Worker::acquire`] comes next.
    Waits {
        /// How many wait for this server, in all workers, with this one.
        waiting: u64,
    },
    /// As many wait as may.
    Overflow,
    /// The slot is another server's, or nobody's: look the server up again.
    Gone,
}

/// Why a worker was woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rung {
    /// A request of this worker may have its turn: for each server that requests wait for here,
    /// [`Worker::acquire`].
    pub turn: bool,
    /// An idle connection is asked for: for each server with idle connections here, [`Worker::asked`].
    pub asked: bool,
}

/// How often it is tried again at once where others are found trying at the same time.
pub(super) const TRIES: usize = 8;

impl<'m, A: Word> Zone<'m, A> {
    /// Whose request is the first of those that wait for this server. With the rank [`LOWER`], it is the turn of
    /// the class there that was served the longest time ago.
    #[inline]
    pub fn first(&self, of: SlotId) -> Option<(WorkerId, Rank)> {
        let bits = self.slot_word(of.index(), slot::LINE_OF).get();
        if bits == 0 && self.layout.line_size == 1 {
            return None;
        }
        self.first_of(of, bits)
    }

    /// The same, with the first word of the line.
    #[inline(never)]
    fn first_of(&self, of: SlotId, mut bits: u64) -> Option<(WorkerId, Rank)> {
        let mut first = None;
        let is_lower =
            self.slot_word(of.index(), slot::TURNS).get() % LOWER_TURNS == LOWER_TURNS - 1;
        for part in 0..self.layout.line_size {
            if part > 0 {
                bits = self.slot_word(of.index(), slot::LINE_OF + part).get();
            }
            while bits != 0 {
                let id = WorkerId((part * 64) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
                let rank = NonZeroU64::new(self.cell_word(id, of, cell::FIRST).get());
                let Some(rank) = rank else { continue };
                if first.is_none_or(|(first, lowest)| (rank, id) < (lowest, first)) {
                    first = Some((id, rank));
                }
            }
        }
        if is_lower && first.is_some_and(|(_, rank)| class_of(rank) != AHEAD) {
            first = first.map(|first| self.lower(of, first.1).map_or(first, |id| (id, LOWER)));
        }
        first
    }

    /// Who has the class, other than that of the first, that was served the longest time ago.
    fn lower(&self, of: SlotId, first: Rank) -> Option<WorkerId> {
        let mut lower: Option<(u64, WorkerId)> = None;
        for index in 0..self.high() {
            let id = WorkerId(index as u16);
            let waits = self.line_word(of.index(), id).get() & id.bit() != 0;
            let word = self.cell_word(id, of, cell::LOWER).get();
            if waits && word != 0 && (word & 0xf) as u8 != class_of(first) {
                lower = Some(lower.map_or((word, id), |lowest| lowest.min((word, id))));
            }
        }
        lower.map(|(_, id)| id)
    }

    /// How many requests wait for this server, in all workers.
    pub fn waiting(&self, of: SlotId) -> u64 {
        self.sum(of, cell::WAITING)
    }

    /// Wakes a worker, unless it has been woken and has not answered yet.
    fn ring(&self, id: WorkerId, why: u64) {
        if self.bell(id.index()).add_bits(why) == 0 {
            (self.host.ring)(id);
        }
    }

    pub(super) fn line_word(&self, index: usize, id: WorkerId) -> &'m A {
        self.slot_word(index, slot::LINE_OF + id.index() / 64)
    }

    #[inline]
    pub(super) fn cell_word(&self, id: WorkerId, of: SlotId, at: usize) -> &'m A {
        self.word(self.layout.cell(id.index(), of.index()) + at)
    }

    pub(super) fn sum(&self, of: SlotId, at: usize) -> u64 {
        let (mut at, mut sum) = (self.layout.cell(0, of.index()) + at, 0_u64);
        for _ in 0..self.high() {
            sum = sum.wrapping_add(self.word(at).get());
            at += self.layout.row_size;
        }
        sum
    }
}

impl<A: Word> Worker<'_, A> {
    /// Does nobody wait who is before a request of this rank? It may take an idle connection of this worker
    /// then.
    #[inline]
    pub fn has_turn(&self, of: SlotId, rank: Rank) -> bool {
        self.zone.first(of).is_none_or(|(id, first)| (rank, self.id) <= (first, id))
    }

    /// A request begins to wait, in this worker's own line for the server. `first`: the rank of the first
    /// in that line, which may be this one. `most`: how many may wait in all workers; never more do.
    ///
    /// What was free while the request was not in the line rings for nobody: [`Self::acquire`] for the
    /// first of this worker's line must follow.
    #[must_use]
    pub fn join(&self, of: SlotId, most: u64, first: Rank) -> Join {
        for _ in 0..TRIES {
            if self.zone.waiting(of) >= most {
                return Join::Overflow;
            }
            self.add(of, cell::WAITING, 1);
            if !self.may_use(of) {
                self.subtract(of, cell::WAITING);
                return Join::Gone;
            }
            let waiting = self.zone.waiting(of);
            if waiting <= most {
                self.publish(of, Some(first));
                return Join::Waits { waiting };
            }
            // two who came for the last place at once
            self.subtract(of, cell::WAITING);
        }
        Join::Overflow
    }

    /// A request waits no longer: it has a place, or gives up. `first`: the rank of the one that is the
    /// first of this worker's line now. True: that one has its turn, as far as is known.
    #[must_use]
    pub fn left(&self, of: SlotId, limit: u64, first: Option<Rank>) -> bool {
        self.publish(of, first);
        // last: a slot that nobody waits for may be freed
        self.subtract(of, cell::WAITING);
        self.pass_on(of, limit)
    }

    /// Another request is the first of this worker's line than before.
    #[must_use]
    pub fn reorder(&self, of: SlotId, limit: u64, first: Rank) -> bool {
        self.publish(of, Some(first));
        self.pass_on(of, limit)
    }

    /// What is to be known of this worker's line beside its first, before that is told:
    /// [`crate::pure::line::Line::lower`].
    pub fn set_lower(&self, of: SlotId, lower: u64) {
        let word = self.own(of, cell::LOWER);
        if word.get_relaxed() != lower {
            word.set(lower);
        }
    }

    /// One of those who waited has a connection.
    pub fn count_turn(&self, of: SlotId) {
        let turns = self.zone.slot_word(of.index(), slot::TURNS);
        let before = turns.get();
        // where others count at the same moment, one of them does
        turns.replace(before, before.wrapping_add(1));
    }

    /// The order has changed: all who have requests in the line look at it again.
    pub fn ring_line(&self, of: SlotId) {
        for index in 0..self.zone.high() {
            let id = WorkerId(index as u16);
            if self.zone.line_word(of.index(), id).get() & id.bit() != 0 {
                self.zone.ring(id, worker::TURN);
            }
        }
    }

    fn publish(&self, of: SlotId, first: Option<Rank>) {
        let bits = self.zone.line_word(of.index(), self.id);
        let rank = self.zone.cell_word(self.id, of, cell::FIRST);
        match first {
            Some(first) => {
                rank.set(first.get());
                if bits.get_relaxed() & self.id.bit() == 0 {
                    bits.add_bits(self.id.bit());
                }
            }
            None => {
                bits.clear_bits(self.id.bit());
                rank.set(0);
            }
        }
    }

    /// Something has changed for those who wait: wakes the worker whose turn it is if there is room, and
    /// else one with an idle connection. True: it is this worker's own turn. `limit`: 0 for none.
    #[inline]
    #[must_use]
    pub fn pass_on(&self, of: SlotId, limit: u64) -> bool {
        let Some((first, _)) = self.zone.first(of) else { return false };
        self.pass_on_to(first, of, limit)
    }

    #[inline(never)]
    fn pass_on_to(&self, first: WorkerId, of: SlotId, limit: u64) -> bool {
        let has_room = limit == 0 || self.zone.in_use(of) < limit;
        if has_room || self.zone.cell_word(first, of, cell::IDLE).get() > 0 {
            if first == self.id {
                return true;
            }
            self.zone.ring(first, worker::TURN);
        } else {
            self.ask_for_idle(of);
        }
        false
    }

    /// Asks another worker to give an idle connection to this server up, if one has any.
    pub fn ask_for_idle(&self, of: SlotId) {
        let mut asked = None;
        for index in 0..self.zone.high() {
            let id = WorkerId(index as u16);
            if self.zone.cell_word(id, of, cell::IDLE).get() > 0 {
                let is_new = self.zone.cell_word(id, of, cell::ASKED).get() == 0;
                asked = Some(id);
                if is_new {
                    break;
                }
            }
        }
        if let Some(id) = asked {
            self.zone.cell_word(id, of, cell::ASKED).set(1);
            self.zone.ring(id, worker::ASKED);
        }
    }

    /// Must an idle connection to this server be given up? It is closed then, and
    /// [`Self::close_idle`] follows.
    #[must_use]
    pub fn asked(&self, of: SlotId) -> bool {
        let is_asked = self.zone.cell_word(self.id, of, cell::ASKED).swap(0) != 0;
        is_asked
            && self.own(of, cell::IDLE).get_relaxed() > 0
            && self.zone.first(of).is_some_and(|(first, _)| first != self.id)
    }

    /// The worker has been woken, and may be woken again from now on: before it looks at anything.
    #[must_use]
    pub fn answer(&self) -> Rung {
        let why = self.zone.bell(self.id.index()).swap(0);
        Rung { turn: why & worker::TURN != 0, asked: why & worker::ASKED != 0 }
    }

    /// Wakes this worker's own event loop.
    pub(super) fn ring_own(&self) {
        self.zone.ring(self.id, worker::TURN);
    }
}
