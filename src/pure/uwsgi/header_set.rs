//! Sets of header names, in which two are the same if they are one var to the application.

/// One byte of a header name in the form in which names are compared: `A-Z` become `a-z`, `-`
/// becomes `_`.
const fn lowcase(byte: u8) -> u8 {
    match byte {
        b'-' => b'_',
        _ => byte.to_ascii_lowercase(),
    }
}

/// [`lowcase`] on the eight bytes of a number at once: the uppermost bit of each byte is free to hold
/// what is known of its other seven.
const fn lowcase_word(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let low = word & !HIGH;
    let letters = (low + (0x80 - b'A' as u64) * EACH) ^ (low + (0x7f - b'Z' as u64) * EACH);
    let others = (low ^ (b'-' as u64 * EACH)) + 0x7f * EACH;
    let case = (letters & !word & HIGH) >> 2;
    let dash = (!(others | word) & HIGH) >> 7;
    word ^ case ^ (dash * (b'-' ^ b'_') as u64)
}

/// The first and the last eight bytes of a name, or all of a shorter one, through [`lowcase_word`].
#[inline(always)]
fn ends(name: &[u8]) -> [u64; 2] {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => {
            [first, last].map(|end| lowcase_word(u64::from_le_bytes(*end)))
        }
        _ => [lowcase_word(name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))), 0],
    }
}

/// What is between the [`ends`] of a long name.
fn middle(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let bytes = name.get(8..name.len().saturating_sub(8)).unwrap_or_default();
    bytes.iter().map(|byte| lowcase(*byte))
}

/// A header name (or what follows `HTTP_` in a parameter) in the form in which nginx compares the
/// two: `X-Real-IP`, `x_real_ip` and `X_REAL_IP` are one var to the application.
pub fn lowcase_var(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| lowcase(*byte)).collect()
}

/// Do these two names of headers become one var?
pub fn is_same_var(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| lowcase(*one) == lowcase(*other))
}

/// A set of header names, blind to case and to the difference of `-` and `_`, as the names of vars
/// are. Built when the configuration is read; asked for every header of every request, and most
/// answers are no.
#[derive(Clone, Debug, Default)]
pub struct HeaderSet {
    /// By length ([`HeaderSet::place`]), which first bytes names in the set have: where the bit is
    /// clear, a name is not in it.
    filter: [u32; 32],
    /// By length and first letter ([`HeaderSet::usual_place`]), a name as it is usually spelled.
    usual: [Usual; 32],
    /// In the order in which they came.
    names: Vec<Known>,
    /// Numbers of names, from 1, each at the place of its hash or behind it; 0 where there is none. A
    /// hundred names may look alike to the filter.
    slots: Vec<u32>,
}

/// A name in a set.
#[derive(Clone, Debug)]
struct Known {
    ends: [u64; 2],
    /// By [`lowcase_var`].
    name: Vec<u8>,
}

/// The first and the last eight bytes of a name of eight to sixteen, as in `Keep-Alive`; zeros where there is
/// none.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    ends: [u64; 2],
    length: usize,
}

impl HeaderSet {
    /// An empty set.
    pub fn new() -> HeaderSet {
        HeaderSet::default()
    }

    /// Adds a name; false if it was there already, in whatever spelling.
    pub fn insert(&mut self, name: &[u8]) -> bool {
        if self.contains(name) {
            return false;
        }
        let first = name.first().copied();
        // these two are one to the set, and two to the filter
        let dashes = [Some(b'-'), Some(b'_')];
        let firsts = if dashes.contains(&first) { dashes } else { [first; 2] };
        for (length, bit) in firsts.map(|first| Self::place(name.len(), first)) {
            if let Some(bits) = self.filter.get_mut(length) {
                *bits |= bit;
            }
        }
        self.note_usual(name);
        self.names.push(Known { ends: ends(name), name: lowcase_var(name) });
        self.fill_slots();
        true
    }

    /// Makes the table anew, of twice as many slots as there are names or more.
    fn fill_slots(&mut self) {
        let size = (2 * self.names.len()).next_power_of_two();
        self.slots = vec![0; size];
        for (number, name) in (1..).zip(&self.names) {
            let mut place = Self::hash(name.ends, &name.name);
            while let Some(slot) = self.slots.get_mut(place & (size - 1)) {
                if *slot == 0 {
                    *slot = number;
                    break;
                }
                place += 1;
            }
        }
    }

    /// Is this name in the set, in whatever spelling?
    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.contains_by(name.first().copied().unwrap_or(0), name)
    }

    /// The same for who knows the first byte of the name; 0 where it is empty.
    #[inline(always)]
    pub fn contains_by(&self, first: u8, name: &[u8]) -> bool {
        let (length, bit) = Self::place(name.len(), Some(first));
        let may_hold = self.filter.get(length).is_some_and(|bits| bits & bit != 0);
        may_hold && (self.is_usual(name, first) || self.holds(name))
    }

    /// Is it one that is spelled as usual? Then nothing has to be lowered.
    #[inline(always)]
    fn is_usual(&self, name: &[u8], first: u8) -> bool {
        let (Some(start), Some(end)) = (name.first_chunk(), name.last_chunk()) else {
            return false;
        };
        let usual = self.usual.get(Self::usual_place(name.len(), first));
        usual.is_some_and(|usual| {
            usual.length == name.len()
                && usual.ends == [start, end].map(|end| u64::from_le_bytes(*end))
        })
    }

    fn note_usual(&mut self, name: &[u8]) {
        let mut spelled = lowcase_var(name);
        for word in spelled.split_mut(|byte| *byte == b'_') {
            if let Some(first) = word.first_mut() {
                first.make_ascii_uppercase();
            }
        }
        spelled.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        let (Some(start), Some(end), Some(first)) =
            (spelled.first_chunk(), spelled.last_chunk(), spelled.first())
        else {
            return;
        };
        let ends = [start, end].map(|end| u64::from_le_bytes(*end));
        if let (Some(usual), 8..=16) =
            (self.usual.get_mut(Self::usual_place(name.len(), *first)), name.len())
        {
            *usual = Usual { ends, length: name.len() };
        }
    }

    /// Called cold: most names are told before it.
    #[cold]
    fn holds(&self, name: &[u8]) -> bool {
        let ends = ends(name);
        let mut place = Self::hash(ends, name);
        loop {
            let slot = self.slots.get(place & self.slots.len().wrapping_sub(1)).copied();
            let number = slot.unwrap_or(0) as usize;
            let Some(known) = number.checked_sub(1).and_then(|n| self.names.get(n)) else {
                return false;
            };
            // The ends of most names are all of them.
            if known.ends == ends
                && known.name.len() == name.len()
                && (name.len() <= 16 || middle(name).eq(middle(&known.name)))
            {
                return true;
            }
            place += 1;
        }
    }

    fn hash(ends: [u64; 2], name: &[u8]) -> usize {
        let mix =
            |hash: u64, part: u64| (hash.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [first, last] = ends;
        let hash = middle(name).map(u64::from).fold(first, mix);
        (mix(hash, last) >> 40) as usize
    }

    /// Has nothing been inserted?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The names by [`lowcase_var`], in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|known| known.name.as_slice())
    }

    fn usual_place(length: usize, first: u8) -> usize {
        (length + usize::from(first)) % 32
    }

    /// Index and bit for names of a length with a first byte. Letters that differ in case differ in
    /// nothing but a bit that is not looked at.
    fn place(length: usize, first: Option<u8>) -> (usize, u32) {
        (length % 32, 1 << (first.unwrap_or(0) % 32))
    }
}

impl<N: AsRef<[u8]>> FromIterator<N> for HeaderSet {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> HeaderSet {
        let mut set = HeaderSet::new();
        for name in names {
            set.insert(name.as_ref());
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::DEFAULT_DROP_HEADERS;
    use super::*;

    #[test]
    fn every_byte_of_a_word_is_lowcased_for_itself() {
        for (place, byte) in (0..8).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
            for around in [0, b'-', b'@', b'Z', b'_', 0x7f, 0x80, 0xff] {
                let mut word = [around; 8];
                word[place] = byte;
                let lowcased = lowcase_word(u64::from_le_bytes(word)).to_le_bytes();
                assert_eq!(lowcased, word.map(lowcase), "{word:x?}");
            }
        }
    }

    #[test]
    fn a_name_is_told_from_those_that_differ_in_one_byte() {
        for length in 1..40 {
            let name = vec![b'n'; length];
            let usual = [&b"N"[..], &name[1..]].concat();
            let set = HeaderSet::from_iter([&name]);
            assert!(set.contains(&name) && set.contains(&name.to_ascii_uppercase()));
            assert!(set.contains(&usual));
            for (place, name) in (0..length).flat_map(|place| [(place, &name), (place, &usual)]) {
                let mut other = name.clone();
                other[place] = b'm';
                assert!(!set.contains(&other), "byte {place} of {length}");
            }
            assert!(!set.contains(&name[1..]) && !set.contains(&[&name[..], b"n"].concat()));
        }
    }

    #[test]
    fn default_drops_are_found_in_any_spelling() {
        let drops: HeaderSet = DEFAULT_DROP_HEADERS.iter().collect();
        assert_eq!(drops.len(), DEFAULT_DROP_HEADERS.len());
        for name in ["te", "TE", "keep-alive", "KEEP_ALIVE", "Transfer_Encoding", "proxy"] {
            assert!(drops.contains(name.as_bytes()), "{name}");
        }
        assert!(DEFAULT_DROP_HEADERS.iter().all(|name| drops.contains(name.as_bytes())));
        assert!(drops.is_usual(b"Connection", b'C') && drops.is_usual(b"Proxy-Connection", b'P'));
        for name in ["", "T", "Host", "Cookie", "Upgrade", "Accept", "Prox", "Proxyy", "TF"] {
            assert!(!drops.contains(name.as_bytes()), "{name}");
        }
    }
}
