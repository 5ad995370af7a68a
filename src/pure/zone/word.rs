//! A word of the zone, as the zone uses it. The tests have words of their own, which stop at every
//! access and let another worker go on.

use std::sync::atomic::{AtomicU64, Ordering};

/// A word of memory that all workers share.
///
/// What decides about places, turns and slots is in one order for everybody ([`Ordering::SeqCst`]): the
/// rules are of the kind "write mine, then read theirs", which nothing weaker keeps.
pub trait Word {
    /// Reads it, in the order that all agree on.
    fn get(&self) -> u64;
    /// Writes it, in the order that all agree on: costs as much as an atomic addition.
    fn set(&self, value: u64);
    /// Reads it in no particular order.
    fn get_relaxed(&self) -> u64;
    /// Writes it in no particular order: costs as much as an ordinary store.
    fn set_relaxed(&self, value: u64);
    /// Writes `new` where there is `old`. Did it?
    fn replace(&self, old: u64, new: u64) -> bool;
    /// Writes it, and returns what it was.
    fn swap(&self, value: u64) -> u64;
    /// Sets these bits, and returns what it was.
    fn add_bits(&self, bits: u64) -> u64;
    /// Clears these bits.
    fn clear_bits(&self, bits: u64);
    /// Raises it to at least this.
    fn raise(&self, least: u64);
}

impl Word for AtomicU64 {
    #[inline]
    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    #[inline]
    fn set(&self, value: u64) {
        self.store(value, Ordering::SeqCst);
    }

    #[inline]
    fn get_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_relaxed(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[inline]
    fn swap(&self, value: u64) -> u64 {
        AtomicU64::swap(self, value, Ordering::SeqCst)
    }

    #[inline]
    fn add_bits(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::SeqCst)
    }

    #[inline]
    fn clear_bits(&self, bits: u64) {
        self.fetch_and(!bits, Ordering::SeqCst);
    }

    #[inline]
    fn raise(&self, least: u64) {
        self.fetch_max(least, Ordering::SeqCst);
    }
}
