//! The last ten minutes of a server, second by second: a ring in the words that all workers share. Whoever
//! comes first in a new second writes down what was before it. Nobody waits for anybody: who writes has
//! taken the second by one exchange, and if it is killed meanwhile, one second of a plot is wrong.

use super::histogram::{self, Histogram};
use super::Measure;
use crate::pure::zone::{SlotId, Word, Zone};

/// How many seconds are kept.
pub const SECONDS: usize = 600;

/// Words of a second.
const WORDS: usize = 2;
const BUCKETS: usize = histogram::TIMES.buckets();

// The shared words of a server.
/// The second that is running, as far as is known.
const SECOND: usize = 0;
/// The most requests that ever waited at once.
const MOST_WAITING: usize = 1;
/// … that waited at once in this second.
const MOST_NOW: usize = 2;
/// 1: the last attempt to connect failed.
const UNAVAILABLE: usize = 3;
/// What the counters were when the last second ended.
const ENDED: usize = 8;
const FAILED: usize = 9;
const RESPONSE: usize = 10;
const QUEUED: usize = RESPONSE + BUCKETS;
const RING: usize = (QUEUED + BUCKETS).next_multiple_of(8);

/// How many words a server has.
pub const SHARED: usize = RING + SECONDS * WORDS;

/// One second of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Requests that ended.
    pub requests: u32,
    /// Failures, and responses of 5xx.
    pub errors: u32,
    /// The most that waited.
    pub waiting: u32,
    /// Requests in flight at its end.
    pub in_flight: u32,
    /// Quantiles of the response time, in milliseconds; None where there was no response.
    pub response: [Option<f32>; 3],
    /// That below which 95 % of the times in the queue were.
    pub queue: Option<f32>,
}

/// The quantiles of response times that are kept.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// A number in 16 bits: exact up to 2048, and within 0.05 % above.
fn pack(value: u64) -> u64 {
    let bits = u64::from(64 - value.leading_zeros());
    let shift = bits.saturating_sub(11);
    // the sixteen bits end at 2047 << 31
    match shift {
        0..=31 => shift << 11 | value >> shift,
        _ => 0xffff,
    }
}

fn unpack(packed: u64) -> u64 {
    (packed & 0x7ff) << (packed >> 11 & 0x1f)
}

/// Times are kept in tenths of a millisecond; 0 is none.
fn pack_time(time: Option<f64>) -> u64 {
    time.map_or(0, |time| pack(((time * 10.0).round() as u64).max(1)))
}

fn unpack_time(packed: u64) -> Option<f32> {
    (packed > 0).then(|| unpack(packed) as f32 / 10.0)
}

impl Second {
    fn words(&self) -> [u64; WORDS] {
        let [p50, p95, p99] = self.response.map(|time| pack_time(time.map(f64::from)));
        let queue = pack_time(self.queue.map(f64::from));
        let numbers = [self.requests, self.errors, self.waiting, self.in_flight];
        let [a, b, c, d] = numbers.map(|number| pack(number.into()));
        [a | b << 16 | c << 32 | d << 48, p50 | p95 << 16 | p99 << 32 | queue << 48]
    }

    /// Adds what another slot of the same server had in this second. Of quantiles, the larger ones remain.
    pub fn merge(&mut self, other: &Second) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        let max = |own: Option<f32>, other: Option<f32>| match (own, other) {
            (Some(own), Some(other)) => Some(own.max(other)),
            (own, other) => own.or(other),
        };
        for (own, other) in self.response.iter_mut().zip(other.response) {
            *own = max(*own, other);
        }
        self.queue = max(self.queue, other.queue);
    }

    fn of([numbers, times]: [u64; WORDS]) -> Second {
        let number = |at: u32| unpack(numbers >> at & 0xffff) as u32;
        let time = |at: u32| unpack_time(times >> at & 0xffff);
        Second {
            requests: number(0),
            errors: number(16),
            waiting: number(32),
            in_flight: number(48),
            response: [time(0), time(16), time(32)],
            queue: time(48),
        }
    }
}

/// The history of a server.
#[derive(Clone, Copy, Debug)]
pub struct History<'z, 'm, A> {
    zone: &'z Zone<'m, A>,
    of: SlotId,
    words: &'m [A],
}

impl<'z, 'm, A: Word> History<'z, 'm, A> {
    /// That of this server.
    #[inline]
    pub fn of(zone: &'z Zone<'m, A>, of: SlotId) -> Self {
        History { zone, of, words: zone.shared(of) }
    }

    #[inline]
    fn word(&self, at: usize) -> Option<&'m A> {
        self.words.get(at)
    }

    fn get(&self, at: usize) -> u64 {
        self.word(at).map_or(0, Word::get_relaxed)
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.set_relaxed(value);
        }
    }

    /// To be called before something is counted, at the time `now`, in milliseconds of a clock that all
    /// workers have: what was counted before belongs to the seconds before.
    #[inline]
    pub fn tick(&self, now: u64) {
        // a division costs more
        let next = self.get(SECOND).wrapping_add(1).wrapping_mul(1000);
        if now >= next {
            // by values: a reference would keep the history in memory for every request
            Self::begin_second(self.zone, self.of, now / 1000);
        }
    }

    #[cold]
    fn begin_second(zone: &'z Zone<'m, A>, of: SlotId, second: u64) {
        History::of(zone, of).write_down(second);
    }

    fn write_down(&self, second: u64) {
        let Some(word) = self.word(SECOND) else { return };
        let last = word.get();
        if last >= second || !word.replace(last, second) {
            return;
        }
        let gauges = self.zone.gauges(self.of);
        let waiting = self.word(MOST_NOW).map_or(0, |word| word.swap(gauges.waiting));
        let requests = self.difference(ENDED, super::REQUESTS);
        let errors = self.difference(FAILED, super::ERRORS);
        let response = self.differences(RESPONSE, Measure::Response);
        let queue = self.differences(QUEUED, Measure::Queue);
        if last == 0 {
            return;
        }
        let [response, queue] =
            [&response, &queue].map(|counts| Histogram::of(&histogram::TIMES, counts, 0));
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let still = Second {
            waiting: number(gauges.waiting),
            in_flight: number(gauges.in_flight()),
            ..Second::default()
        };
        let written = Second {
            requests: number(requests),
            errors: number(errors),
            waiting: number(waiting),
            response: QUANTILES.map(|part| response.quantile(part).map(|time| time as f32)),
            queue: queue.quantile(0.95).map(|time| time as f32),
            ..still
        };
        self.put(last, &written);
        // nothing was counted in those between, and what was there at their beginning is there still
        let first = (last + 1).max(second.saturating_sub(SECONDS as u64));
        (first..second).for_each(|second| self.put(second, &still));
    }

    /// How much a sum of counters has grown since the last time.
    fn difference(&self, kept: usize, counters: &[usize]) -> u64 {
        let now: u64 = counters.iter().map(|counter| self.zone.read(self.of, *counter)).sum();
        let before = self.get(kept);
        self.set(kept, now);
        now.saturating_sub(before)
    }

    fn differences(&self, kept: usize, of: Measure) -> [u64; BUCKETS] {
        let mut counts = [0_u64; BUCKETS];
        // Row by row: a server that is asked less than once a second has this done for each request.
        for row in self.zone.rows(self.of) {
            let buckets = row.get(of.place()..).unwrap_or_default();
            for (count, bucket) in counts.iter_mut().zip(buckets) {
                *count = count.wrapping_add(bucket.get_relaxed());
            }
        }
        let before = self.words.get(kept..).unwrap_or_default();
        for (count, before) in counts.iter_mut().zip(before) {
            let (now, last) = (*count, before.get_relaxed());
            *count = now.saturating_sub(last);
            if now != last {
                before.set_relaxed(now);
            }
        }
        counts
    }

    fn put(&self, second: u64, what: &Second) {
        let place = RING + (second % SECONDS as u64) as usize * WORDS;
        let [numbers, times] = what.words();
        self.set(place, numbers);
        self.set(place + 1, times);
    }

    /// The last seconds that are over at the time `now`, `count` at most, the oldest first.
    pub fn read(&self, now: u64, count: usize) -> Vec<Second> {
        self.tick(now);
        let end = self.get(SECOND);
        let first = end.saturating_sub(count.min(SECONDS) as u64);
        (first..end)
            .map(|second| {
                let place = RING + (second % SECONDS as u64) as usize * WORDS;
                Second::of([self.get(place), self.get(place + 1)])
            })
            .collect()
    }

    /// So many wait now.
    pub fn see_waiting(&self, waiting: u64) {
        for at in [MOST_WAITING, MOST_NOW] {
            if let Some(word) = self.word(at) {
                word.raise(waiting);
            }
        }
    }

    /// The most that ever waited at once.
    pub fn most_waiting(&self) -> u64 {
        self.get(MOST_WAITING)
    }

    /// Did the last attempt to connect fail?
    pub fn is_unavailable(&self) -> bool {
        self.get(UNAVAILABLE) != 0
    }

    /// An attempt to connect has failed, or not. Did this change what was known?
    #[inline]
    pub fn set_unavailable(&self, is: bool) -> bool {
        let Some(word) = self.word(UNAVAILABLE) else { return false };
        let is = u64::from(is);
        // every request comes by here
        word.get_relaxed() != is && word.swap(is) != is
    }
}
