//! Histograms with fixed bounds, and what can be read from them.

/// The bounds of a histogram's buckets. A value is in the first bucket whose bound is greater; the last
/// bucket has no bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    below: &'static [u64],
    /// Every how many bounds one is shown, where not all are.
    shown: &'static [u64],
    /// Where each bound but the first is twice the one before, and all are one more than that: the exponent of the
    /// first, so that nobody has to search for a bucket.
    doubling: Option<u32>,
    /// The buckets of small values, which most are, where they are searched for.
    small: [u8; SMALL as usize],
}

/// Values below this are small.
const SMALL: u64 = 64;

/// The buckets of small values.
const fn small(below: &[u64]) -> [u8; SMALL as usize] {
    let (mut all, mut value, mut bucket) = ([0; SMALL as usize], 0, 0);
    let (mut places, mut bounds): (&mut [u8], _) = (&mut all, below);
    while let [place, others @ ..] = places {
        while let [bound, rest @ ..] = bounds {
            if *bound > value {
                break;
            }
            (bounds, bucket) = (rest, bucket + 1);
        }
        *place = bucket;
        (places, value) = (others, value + 1);
    }
    all
}

/// Of times in milliseconds. nginx's clock has this resolution: where it says 0, less than one has passed, so
/// the first bucket is what takes less than 1 ms, and no bucket holds what may have taken longer.
pub static TIMES: Bounds = Bounds {
    below: BELOW,
    shown: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000],
    doubling: None,
    small: small(BELOW),
};

const BELOW: &[u64] = &[
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000,
    3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 60_000,
];

/// Of bytes of vars, which are 65,535 at most. A bound is the least that is too much.
pub static SIZES: Bounds = Bounds {
    below: &[257, 513, 1_025, 2_049, 4_097, 8_193, 16_385, 32_769, 65_537],
    shown: &[257, 513, 1_025, 2_049, 4_097, 8_193, 16_385, 32_769, 65_537],
    doubling: Some(8),
    small: [0; SMALL as usize],
};

impl Bounds {
    /// How many buckets there are.
    pub const fn buckets(&self) -> usize {
        self.below.len() + 1
    }

    /// The bucket of a value.
    #[inline(always)]
    pub fn bucket(&self, value: u64) -> usize {
        if let Some(exponent) = self.doubling {
            let bits = u64::BITS - (value.saturating_sub(1) >> exponent).leading_zeros();
            return (bits as usize).min(self.below.len());
        }
        match usize::try_from(value).ok().and_then(|value| self.small.get(value)) {
            Some(bucket) => usize::from(*bucket),
            None => self.find(value),
        }
    }

    /// The bucket of a value that is not small.
    #[inline(never)]
    fn find(&self, value: u64) -> usize {
        self.below.partition_point(|bound| *bound <= value)
    }
}

/// A histogram, as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    pub(super) bounds: &'static Bounds,
    pub(super) counts: &'a [u64],
    /// The sum of all values.
    pub sum: u64,
}

impl<'a> Histogram<'a> {
    /// One of these counts, by bucket.
    pub fn of(bounds: &'static Bounds, counts: &'a [u64], sum: u64) -> Self {
        Histogram { bounds, counts, sum }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean. None where there are no values.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum as f64 / count as f64)
    }

    /// How many values are below each of the bounds that are shown.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut buckets = self.bounds.below.iter().zip(self.counts);
        let mut sum = 0;
        self.bounds.shown.iter().map(move |shown| {
            for (bound, count) in buckets.by_ref() {
                sum += count;
                if bound == shown {
                    break;
                }
            }
            (*shown, sum)
        })
    }

    /// Below which value this part of all values is, 0 to 1, taken as evenly spread within a bucket. None
    /// where there are none. What is in the last bucket counts as its lower bound.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = part * count as f64;
        let (mut before, mut lower) = (0, 0);
        for (index, in_bucket) in self.counts.iter().enumerate() {
            let Some(upper) = self.bounds.below.get(index) else { break };
            if *in_bucket > 0 && (before + in_bucket) as f64 >= rank {
                let inside = (rank - before as f64) / *in_bucket as f64;
                return Some(lower as f64 + (upper - lower) as f64 * inside.clamp(0.0, 1.0));
            }
            (before, lower) = (before + in_bucket, *upper);
        }
        Some(lower as f64)
    }
}
