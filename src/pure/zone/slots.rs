//! The table of servers: found by the hash of their key, made, wanted by configurations, freed.

use std::num::NonZeroU32;
use std::ops::Range;

use super::layout::{cell, header, slot};
use super::workers::{Busy, Locked};
use super::{hash, Word, Zone};
use crate::pure::health;

/// A server's slot. When it is freed and becomes another's, this is the number of none
/// ([`Acquire::Gone`](super::Acquire::Gone)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    /// From 1 on, so that an Option of it needs no more memory.
    number: NonZeroU32,
    epoch: u32,
}

impl SlotId {
    /// Its place in the table, less than [`Shape::servers`](super::Shape::servers).
    #[inline]
    pub fn index(self) -> usize {
        self.number.get() as usize - 1
    }
}

/// The number of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// From 1 on: how many configurations the zone has seen.
    pub fn number(self) -> u64 {
        // the zone is made with the first
        self.0.saturating_sub(1)
    }
}

/// What status pages call a server. What is too long is cut off, the server's name first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name of the upstream.
    pub upstream: &'a [u8],
    /// The name of the server.
    pub server: &'a [u8],
}

impl<'a> Label<'a> {
    /// How many bytes the two may have together.
    pub const MOST: usize = slot::MOST_LABEL;

    /// What is kept of the two.
    pub fn shown(&self) -> (&'a [u8], &'a [u8]) {
        let upstream = self.upstream.get(..Self::MOST).unwrap_or(self.upstream);
        let room = Self::MOST - upstream.len();
        (upstream, self.server.get(..room).unwrap_or(self.server))
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// All are taken that this key may have ([`PROBES`]): the server is known to this worker alone.
    Full,
    /// See [`Busy`].
    Busy,
}

impl From<Busy> for NoSlot {
    fn from(_: Busy) -> NoSlot {
        NoSlot::Busy
    }
}

/// The state of a slot: what is below [`EPOCH`] of its word.
const EMPTY: u64 = 0;
const READY: u64 = 1;
/// Whoever begins to use it now does not; whoever has the lock next finishes it, if it is left so.
const FREEING: u64 = 2;
/// As `EMPTY`, but others may have been put behind it when it was taken.
const FREE: u64 = 3;
const EPOCH: u64 = 1 << 8;

/// A key is in one of so many slots. Where there is no room for a server, each request to it looks at them all.
pub const PROBES: usize = 256;

/// Where a key is, or would be.
enum Found {
    At(SlotId),
    Not { vacant: Option<usize> },
}

impl<'m, A: Word> Zone<'m, A> {
    /// The slot of the server with this key, which is made where there is none. `generation`: of the
    /// configuration that the process runs, which wants it.
    ///
    /// # Errors
    ///
    /// [`NoSlot`].
    pub fn slot(
        &self,
        key: &[u8],
        label: Label<'_>,
        generation: Generation,
    ) -> Result<SlotId, NoSlot> {
        let seed = self.word(header::SEED).get_relaxed();
        let hash = [hash(seed, 1, key), hash(seed, 2, key)];
        match self.find(hash, None) {
            Found::At(id) if self.slot_word(id.index(), slot::WANTED).get() >= generation.0 => {
                return Ok(id);
            }
            // there is no need to lock others out for that
            Found::Not { vacant: None } if !self.probes(hash).any(|at| self.is_unwanted(at)) => {
                return Err(NoSlot::Full);
            }
            _ => {}
        }
        let locked = self.lock()?;
        let vacant = match self.find(hash, Some(&locked)) {
            Found::At(id) => {
                let wanted = self.slot_word(id.index(), slot::WANTED);
                wanted.set(wanted.get().max(generation.0));
                return Ok(id);
            }
            Found::Not { vacant } => vacant.or_else(|| self.find_unwanted(hash, &locked)),
        };
        let index = vacant.ok_or(NoSlot::Full)?;
        Ok(self.make(index, hash, label, generation))
    }

    /// The slot of this key, if there is one.
    pub fn known(&self, key: &[u8]) -> Option<SlotId> {
        let seed = self.word(header::SEED).get_relaxed();
        match self.find([hash(seed, 1, key), hash(seed, 2, key)], None) {
            Found::At(id) => Some(id),
            Found::Not { .. } => None,
        }
    }

    /// Looks a key up. Without the lock, one that is being freed is not found.
    fn find(&self, hash: [u64; 2], locked: Option<&Locked<'m, A>>) -> Found {
        let mut vacant = None;
        for index in self.probes(hash) {
            let mut state = self.slot_word(index, slot::STATE).get();
            if state % EPOCH == FREEING && locked.is_some() {
                state = self.free(index);
            }
            match state % EPOCH {
                READY => {
                    let has = [0, 1].map(|part| self.slot_word(index, slot::HASH + part).get());
                    if has == hash && self.slot_word(index, slot::STATE).get() == state {
                        return Found::At(id(index, state));
                    }
                }
                FREEING => {}
                EMPTY => return Found::Not { vacant: vacant.or(Some(index)) },
                _ => vacant = vacant.or(Some(index)),
            }
        }
        Found::Not { vacant }
    }

    /// Where a key may be, in this order.
    fn probes(&self, hash: [u64; 2]) -> impl Iterator<Item = usize> {
        let servers = self.layout.shape.servers;
        let begin = (hash[0] % servers as u64) as usize;
        (begin..servers).chain(0..begin).take(PROBES)
    }

    /// Makes a slot of one that is free. Nobody sees anything of it before the last step.
    fn make(
        &self,
        index: usize,
        hash: [u64; 2],
        label: Label<'_>,
        generation: Generation,
    ) -> SlotId {
        let at = |at| self.slot_word(index, at);
        for (part, hash) in hash.into_iter().enumerate() {
            at(slot::HASH + part).set_relaxed(hash);
        }
        at(slot::WANTED).set_relaxed(generation.0);
        at(slot::RETRY).set_relaxed(0);
        at(slot::TURNS).set_relaxed(0);
        let (upstream, server) = label.shown();
        at(slot::LABEL).set_relaxed((upstream.len() << 32 | server.len()) as u64);
        let mut bytes = upstream.iter().chain(server).copied().peekable();
        for word in slot::LABEL_BYTES..slot::HEALTH {
            if bytes.peek().is_none() {
                break;
            }
            at(word).set_relaxed(u64::from_le_bytes([(); 8].map(|()| bytes.next().unwrap_or(0))));
        }
        for word in slot::HEALTH..slot::SIZE {
            at(word).set_relaxed(0);
        }
        for shared in 0..self.layout.shared_size {
            self.word(self.layout.shared(index) + shared).set_relaxed(0);
        }
        // Of connections and those who wait there is nothing, or it would not be free; what a worker adds
        // with the number that the slot had, and takes back at once, is its own matter.
        for worker in 0..self.high() {
            let base = self.layout.cell(worker, index);
            for counter in cell::ASKED..self.layout.cell_size {
                self.word(base + counter).set_relaxed(0);
            }
        }
        let state = at(slot::STATE).get() / EPOCH * EPOCH + READY;
        at(slot::STATE).set(state);
        id(index, state)
    }

    /// Frees a slot, if nobody uses it, and returns the state that it has then. With the lock.
    fn free(&self, index: usize) -> u64 {
        let word = self.slot_word(index, slot::STATE);
        let state = word.get();
        let epoch = state / EPOCH * EPOCH;
        if !matches!(state % EPOCH, READY | FREEING) {
            return state;
        }
        word.set(epoch + FREEING);
        let is_used = (0..self.high()).any(|worker| {
            let base = self.layout.cell(worker, index);
            [cell::IN_USE, cell::WAITING].iter().any(|at| self.word(base + at).get() != 0)
        });
        // the epoch has 32 bits
        let next = if is_used { epoch + READY } else { ((epoch + EPOCH) % (EPOCH << 32)) + FREE };
        word.set(next);
        next
    }

    /// Frees those that no configuration wants and nobody uses. With the lock.
    pub(super) fn free_unwanted(&self) {
        for index in 0..self.layout.shape.servers {
            if self.is_unwanted(index) {
                self.free(index);
            }
        }
    }

    fn find_unwanted(&self, hash: [u64; 2], _: &Locked<'m, A>) -> Option<usize> {
        self.probes(hash)
            .find(|index| self.is_unwanted(*index) && self.free(*index) % EPOCH == FREE)
    }

    /// Has no configuration a use for it, as far as is known? One that is left half freed looks so.
    fn is_unwanted(&self, index: usize) -> bool {
        // generations begin with 1: what was given up has 0
        let ended = self.word(header::ENDED).get().max(1);
        match self.slot_word(index, slot::STATE).get() % EPOCH {
            READY => self.slot_word(index, slot::WANTED).get() < ended,
            FREEING => true,
            _ => false,
        }
    }

    /// Begins to read a configuration: returns its number, for [`Self::slot`]. Where it fails, nothing
    /// has to be done: the one before is still in effect.
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn begin_generation(&self) -> Result<Generation, Busy> {
        let _locked = self.lock()?;
        let generation = self.word(header::GENERATION);
        let next = generation.get() + 1;
        generation.set(next);
        Ok(Generation(next))
    }

    /// The configuration was read: what it does not want is freed, at once or when nobody uses it any
    /// more ([`Self::sweep`], or when there is no other for a new server).
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn end_generation(&self, generation: Generation) -> Result<(), Busy> {
        let _locked = self.lock()?;
        self.word(header::ENDED).raise(generation.0);
        self.free_unwanted();
        Ok(())
    }

    /// The configuration in effect, or being read.
    pub fn generation(&self) -> Generation {
        Generation(self.word(header::GENERATION).get())
    }

    /// A configuration wants those that `is_wanted` says so of, by upstream and server: nothing that is
    /// counted of them is lost when it is read ([`Self::end_generation`]).
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn want(
        &self,
        generation: Generation,
        is_wanted: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<(), Busy> {
        let _locked = self.lock()?;
        for slot in self.slots() {
            let label = self.label(slot);
            if label.is_some_and(|(upstream, server)| is_wanted(&upstream, &server)) {
                self.slot_word(slot.index(), slot::WANTED).raise(generation.0);
            }
        }
        Ok(())
    }

    /// A server is no longer one of its upstream: its slot is freed when nobody uses it.
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn give_up(&self, id: SlotId) -> Result<(), Busy> {
        let _locked = self.lock()?;
        if self.is_ready(id) {
            self.slot_word(id.index(), slot::WANTED).set(0);
            self.free(id.index());
        }
        Ok(())
    }

    /// The slots of all servers that there are.
    pub fn slots(self) -> impl Iterator<Item = SlotId> + 'm
    where
        A: 'm,
    {
        (0..self.layout.shape.servers).filter_map(move |index| {
            let state = self.slot_word(index, slot::STATE).get();
            (state % EPOCH == READY).then_some(id(index, state))
        })
    }

    /// Is it still the slot that it was?
    #[inline]
    pub fn is_ready(&self, of: SlotId) -> bool {
        self.slot_word(of.index(), slot::STATE).get() == u64::from(of.epoch) * EPOCH + READY
    }

    /// Is it still the slot that it was, be it looked at whether it can be freed?
    pub(super) fn is_known(&self, of: SlotId) -> bool {
        let state = self.slot_word(of.index(), slot::STATE).get();
        state / EPOCH == u64::from(of.epoch) && matches!(state % EPOCH, READY | FREEING)
    }

    /// What to call it: upstream and server. None where it is gone.
    pub fn label(&self, of: SlotId) -> Option<(Vec<u8>, Vec<u8>)> {
        let lengths = self.slot_word(of.index(), slot::LABEL).get() as usize;
        let mut upstream: Vec<u8> = (slot::LABEL_BYTES..slot::HEALTH)
            .flat_map(|at| self.slot_word(of.index(), at).get().to_le_bytes())
            .take((lengths >> 32) + (lengths & 0xffff_ffff))
            .collect();
        let server = upstream.split_off(upstream.len().min(lengths >> 32));
        self.is_ready(of).then_some((upstream, server))
    }

    /// The words that all workers have of a server; zeros when its slot is made.
    #[inline]
    pub fn shared(&self, of: SlotId) -> &'m [A] {
        let (base, count) = (self.layout.shared(of.index()), self.layout.shape.shared);
        match self.words.get(base..).and_then(|words| words.get(..count)) {
            Some(words) => words,
            None => none(),
        }
    }

    /// The words of a server's health ([`crate::pure::health`]); zeros when its slot is made.
    #[inline]
    pub fn health(&self, of: SlotId) -> &'m [A] {
        let base = self.layout.slot(of.index()) + slot::HEALTH;
        self.words.get(base..base + health::WORDS).unwrap_or_default()
    }

    /// Such words, as many as there are of those looked for.
    #[inline]
    pub fn shared_words(&self, of: SlotId, words: Range<usize>) -> &'m [A] {
        let (base, most) = (self.layout.shared(of.index()), self.layout.shape.shared);
        self.words.get(base + words.start.min(most)..base + words.end.min(most)).unwrap_or(&[])
    }

    /// One of them. None where there are not so many.
    #[inline]
    pub fn shared_word(&self, of: SlotId, at: usize) -> Option<&'m A> {
        let is_there = at < self.layout.shape.shared;
        is_there.then(|| self.words.get(self.layout.shared(of.index()) + at)).flatten()
    }

    #[inline]
    pub(super) fn slot_word(&self, index: usize, at: usize) -> &'m A {
        self.word(self.layout.slot(index) + at)
    }
}

/// No words. Out of line, so that nobody chooses between two pointers and two lengths every time.
#[cold]
#[inline(never)]
fn none<'m, A>() -> &'m [A] {
    &[]
}

fn id(index: usize, state: u64) -> SlotId {
    let number = NonZeroU32::MIN.saturating_add(index as u32);
    SlotId { number, epoch: (state / EPOCH) as u32 }
}
