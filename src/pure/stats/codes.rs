//! The statuses that have a counter of their own: those of 4xx and 5xx that are registered or nginx's own. Any
//! other is counted in its class.

use std::ops::RangeInclusive;

/// The table of statuses.
#[derive(Clone, Copy, Debug)]
pub struct Codes;

/// Ranges of statuses, in order.
const RANGES: [RangeInclusive<u16>; 6] =
    [400..=431, 444..=444, 451..=451, 494..=499, 500..=511, 520..=530];

impl Codes {
    /// How many there are.
    pub const COUNT: usize = {
        let (mut count, mut ranges): (usize, &[RangeInclusive<u16>]) = (0, &RANGES);
        while let [range, others @ ..] = ranges {
            count += (*range.end() - *range.start() + 1) as usize;
            ranges = others;
        }
        count
    };

    /// The place of a status in the table. None for one without.
    #[inline]
    pub fn place(status: u16) -> Option<usize> {
        if status < *RANGES[0].start() {
            return None;
        }
        let mut before = 0;
        for range in &RANGES {
            if range.contains(&status) {
                return Some(before + usize::from(status - range.start()));
            }
            before += usize::from(range.end() - range.start()) + 1;
        }
        None
    }

    /// All statuses, in the table's order.
    pub fn all() -> impl Iterator<Item = u16> {
        RANGES.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::Codes;

    #[test]
    fn each_status_has_its_own_place() {
        let all: Vec<u16> = Codes::all().collect();
        assert_eq!(all.len(), Codes::COUNT);
        for (place, status) in all.iter().enumerate() {
            assert_eq!(Codes::place(*status), Some(place), "{status}");
        }
        for status in (0..=999).filter(|status| !all.contains(status)) {
            assert_eq!(Codes::place(status), None, "{status}");
        }
        for status in [404, 429, 431, 499, 500, 502, 503, 504] {
            assert!(all.contains(&status));
        }
    }
}
