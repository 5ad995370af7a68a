//! What is counted of a server, of all workers together, as it is shown.

use super::codes::Codes;
use super::histogram::Histogram;
use super::{
    CacheStatus, Cells, Closed, Count, Failure, Measure, QueueEnd, CACHE, CLASSES, CLOSED, CODES,
    COUNTERS, FAILURES, LAST_USED, QUEUE,
};
use crate::pure::zone::Word;

/// The counters of a server, of all workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals(Vec<u64>);

impl Default for Totals {
    fn default() -> Self {
        Totals(vec![0; COUNTERS])
    }
}

impl Totals {
    /// Adds a worker's counters.
    pub fn add<A: Word>(&mut self, cells: &Cells<A>) {
        for (place, (sum, word)) in self.0.iter_mut().zip(cells).enumerate() {
            let value = word.get_relaxed();
            *sum = if place == LAST_USED { value.max(*sum) } else { sum.wrapping_add(value) };
        }
    }

    /// Adds those of another server.
    pub fn merge(&mut self, other: &Totals) {
        for (place, (sum, value)) in self.0.iter_mut().zip(&other.0).enumerate() {
            *sum = if place == LAST_USED { (*value).max(*sum) } else { sum.wrapping_add(*value) };
        }
    }

    fn at(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    /// What is counted without a reason.
    pub fn count(&self, what: Count) -> u64 {
        self.at(what as usize)
    }

    /// Failures of a kind.
    pub fn failures(&self, kind: Failure) -> u64 {
        self.at(FAILURES + kind as usize)
    }

    /// Connections closed for a reason.
    pub fn closed(&self, why: Closed) -> u64 {
        self.at(CLOSED + why as usize)
    }

    /// Requests that left the queue in a way.
    pub fn queued(&self, end: QueueEnd) -> u64 {
        self.at(QUEUE + end as usize)
    }

    /// Responses from a cache, or past it.
    pub fn cached(&self, status: CacheStatus) -> u64 {
        self.at(CACHE + status as usize)
    }

    /// Responses of a class, 1 to 5.
    pub fn class(&self, class: u16) -> u64 {
        match class {
            1..=5 => self.at(CLASSES + usize::from(class) - 1),
            _ => 0,
        }
    }

    /// Responses of 4xx and 5xx by status, those that there were.
    pub fn codes(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        Codes::all()
            .enumerate()
            .map(|(place, code)| (code, self.at(CODES + place)))
            .filter(|(_, number)| *number > 0)
    }

    /// When the server was last tried, in milliseconds of the workers' clock. None: never.
    pub fn last_used(&self) -> Option<u64> {
        Some(self.at(LAST_USED)).filter(|time| *time > 0)
    }

    /// A histogram.
    pub fn histogram(&self, of: Measure) -> Histogram<'_> {
        let (bounds, place) = (of.bounds(), of.place());
        let counts = self.0.get(place..place + bounds.buckets()).unwrap_or_default();
        Histogram { bounds, counts, sum: self.at(place + bounds.buckets()) }
    }
}
