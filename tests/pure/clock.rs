//! The time of simulations: what will happen, in its order, with nobody waiting for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds.
pub type Time = u64;
pub const SECOND: Time = 1_000_000;

/// What will happen, and what time it is.
pub struct Clock<E> {
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, E)>>,
    /// Of events so far: those of one time happen in the order in which they were made.
    number: u64,
}

impl<E: Ord> Clock<E> {
    pub fn new(now: Time) -> Clock<E> {
        Clock { now, events: BinaryHeap::new(), number: 0 }
    }

    pub fn now(&self) -> Time {
        self.now
    }

    pub fn milliseconds(&self) -> u64 {
        self.now / 1000
    }

    /// Lets something happen so much later.
    pub fn after(&mut self, time: Time, event: E) {
        self.number += 1;
        self.events.push(Reverse((self.now + time, self.number, event)));
    }

    /// What happens next, up to `end`; None, and it is `end`, where nothing is left.
    pub fn next(&mut self, end: Time) -> Option<E> {
        let is_due = self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end);
        let Some(Reverse((at, _, event))) = is_due.then(|| self.events.pop()).flatten() else {
            self.now = end;
            return None;
        };
        self.now = at;
        Some(event)
    }
}
