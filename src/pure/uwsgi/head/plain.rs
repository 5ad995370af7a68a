//! The headers that need no care: `Name: value`, CR LF or LF, the name of letters,
//! digits and hyphens, the value without control bytes and without spaces to trim. That is almost
//! every header. Any other line, right or wrong, complete or not, is left to [`super::header_line`].
//!
//! Eight bytes are looked at in one step, which costs half of what byte after byte does, and a name
//! that nginx knows is recognised by its words, without hashing it. nginx tells the names when it starts, and
//! phf makes its tables when it is compiled; besides, it takes 238 instructions to find `content-length`,
//! where 125 find the colon, the name, and the end of its line here.

use std::cell::{RefCell, RefMut};

use super::seen::SeenLines;

/// The longest name that is looked for a colon behind, bytes.
const LONGEST: usize = 64;

/// The longest name that [`Names`] can know, bytes: three words.
const LONGEST_KNOWN: usize = 3 * WORD;

const SLOTS: usize = 256;
/// The place of no name.
pub(super) const NO_NAME: u8 = u8::MAX;
/// Bits as good as random, and odd: 2^64 over the golden ratio.
pub(super) const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

const WORD: usize = size_of::<u64>();
const ONES: u64 = u64::from_ne_bytes([1; WORD]);
const COLONS: u64 = b':' as u64 * ONES;
const HIGHS: u64 = 0x80 * ONES;
/// Turns letters into lower case, and leaves digits and hyphens as they are.
const LOWER: u64 = 0x20 * ONES;

/// A header at the beginning of bytes, by offsets into them, and what is known of its name.
#[derive(Debug)]
pub struct Field<'n, T> {
    /// Where its name ends, which begins at 0.
    pub colon: usize,
    /// Where its value begins.
    pub value: usize,
    /// Where its value ends.
    pub end: usize,
    /// Where its line ends.
    pub size: usize,
    /// `ngx_hash` of its name in lower case.
    pub hash: usize,
    /// Its name, where [`Names`] has it.
    pub known: Option<&'n Name<T>>,
}

impl<T> Field<'_, T> {
    /// Its name, as it came, in the bytes that were read.
    #[inline]
    pub fn name_in<'a>(&self, read: &'a [u8]) -> &'a [u8] {
        read.get(..self.colon).unwrap_or_default()
    }

    /// Its value in the bytes that were read.
    #[inline]
    pub fn value_in<'a>(&self, read: &'a [u8]) -> &'a [u8] {
        read.get(self.value..self.end).unwrap_or_default()
    }
}

/// Names to be recognised, each with what it stands for, in a table without collisions.
#[derive(Debug)]
pub struct Names<T> {
    names: Vec<Name<T>>,
    /// For each slot the place of its name, or one where none is.
    slots: [u8; SLOTS],
    /// By which the slot of a name is found.
    factor: u64,
    /// What was read before with these names.
    seen: RefCell<SeenLines>,
}

/// Reads headers, and remembers their lines ([`super::seen`]).
#[derive(Debug)]
pub struct Reader<'n, T> {
    names: &'n Names<T>,
    seen: RefMut<'n, SeenLines>,
}

/// A name as two or three words, which overlap: the first eight bytes, those from the eighth on where
/// it has more than 16, the last eight. One word, twice, where it is shorter than that.
#[derive(Debug)]
pub struct Name<T> {
    length: usize,
    words: [Word; 3],
    hash: usize,
    lowered: Box<[u8]>,
    value: T,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    lowered: u64,
    /// The bits that make its letters lower case.
    case: u64,
}

impl Word {
    /// How another word differs, in any case; zero where it does not.
    fn differs(self, word: u64) -> u64 {
        (word | self.case) ^ self.lowered
    }
}

impl<T> Names<T> {
    /// Of names in lower case. None where one of them could not stand in a plain header, or is there
    /// twice, or where they are too many.
    pub fn new<'a>(names: impl IntoIterator<Item = (&'a [u8], T)>) -> Option<Self> {
        let names = names.into_iter().map(|(name, value)| Name::new(name, value));
        let names = names.collect::<Option<Vec<_>>>()?;
        // one factor in four will do for nginx's 27 names, one in ten for 35
        let factors = (0..4096_u64).map(|number| (2 * number + 1).wrapping_mul(FACTOR));
        let (slots, factor) = factors
            .into_iter()
            .find_map(|factor| slots(&names, factor).map(|slots| (slots, factor)))?;
        Some(Names { names, slots, factor, seen: RefCell::new(SeenLines::new()) })
    }

    /// Reads headers, and remembers their lines. None while another reader does.
    pub fn reader(&self) -> Option<Reader<'_, T>> {
        Some(Reader { names: self, seen: self.seen.try_borrow_mut().ok()? })
    }

    /// A name, in any case. `first` are its first eight bytes, and what follows them where it is
    /// shorter.
    #[inline(always)]
    fn find(&self, name: &[u8], first: u64) -> Option<(u8, &Name<T>)> {
        let (first, middle, last) = words(name, first);
        let place = *self.slots.get(slot(name.len(), last, self.factor))?;
        let known = self.names.get(usize::from(place))?;
        let [first_word, middle_word, last_word] = known.words;
        let differs = first_word.differs(first)
            | middle_word.differs(middle)
            | last_word.differs(last)
            | (known.length ^ name.len()) as u64;
        (differs == 0).then_some((place, known))
    }
}

impl<'n, T> Reader<'n, T> {
    /// As [`read`].
    #[inline(always)]
    pub fn read(&mut self, buf: &[u8]) -> Option<Field<'n, T>> {
        match self.seen.find(buf, &self.names.names) {
            Some(field) => Some(field),
            None => self.read_anew(buf),
        }
    }

    #[inline(never)]
    fn read_anew(&mut self, buf: &[u8]) -> Option<Field<'n, T>> {
        let (field, place) = read_with_place(buf, self.names)?;
        self.seen.keep(buf, &field, place);
        Some(field)
    }
}

impl<T> Name<T> {
    fn new(lowered: &[u8], value: T) -> Option<Self> {
        let first = word(lowered, 0);
        let has_capital = lowered.iter().any(u8::is_ascii_uppercase);
        if lowered.is_empty() || lowered.len() > LONGEST_KNOWN || has_capital {
            return None;
        }
        let hash = hash(lowered, first)?;
        let words = <[u64; 3]>::from(words(lowered, first)).map(|lowered| {
            let case = lowered.to_le_bytes().map(|byte| byte.to_ascii_uppercase() ^ byte);
            Word { lowered, case: u64::from_le_bytes(case) }
        });
        Some(Name { length: lowered.len(), words, hash, lowered: lowered.into(), value })
    }

    /// The name itself, in lower case.
    pub fn lowered(&self) -> &[u8] {
        &self.lowered
    }

    /// What it stands for.
    pub fn value(&self) -> &T {
        &self.value
    }
}

/// The three words of a name (see [`Name`]).
#[inline(always)]
fn words(name: &[u8], first: u64) -> (u64, u64, u64) {
    let Some(last) = name.last_chunk::<WORD>() else {
        let only = first & !(u64::MAX << (8 * name.len()));
        return (only, 0, only);
    };
    let middle = if name.len() > 2 * WORD { word(name, WORD) } else { 0 };
    (first, middle, u64::from_le_bytes(*last))
}

/// Few names end alike and are of the same length.
#[inline(always)]
fn slot(length: usize, last: u64, factor: u64) -> usize {
    ((last | LOWER).wrapping_add(length as u64).wrapping_mul(factor) >> 56) as usize
}

/// The places of the names by their slots; None where two have the same one.
fn slots<T>(names: &[Name<T>], factor: u64) -> Option<[u8; SLOTS]> {
    let mut slots = [NO_NAME; SLOTS];
    for (place, name) in names.iter().enumerate() {
        let [.., last] = name.words;
        let slot = slots.get_mut(slot(name.length, last.lowered, factor))?;
        if *slot != NO_NAME {
            return None;
        }
        *slot = u8::try_from(place).ok().filter(|place| *place != NO_NAME)?;
    }
    Some(slots)
}

/// The header at the beginning of `buf`; None where no plain header is there. What is found depends on nothing
/// behind its line.
#[inline]
pub fn read<'n, T>(buf: &[u8], names: &'n Names<T>) -> Option<Field<'n, T>> {
    read_with_place(buf, names).map(|(field, _)| field)
}

/// As [`read`], with the place of a known name among the others.
#[inline(always)]
fn read_with_place<'n, T>(buf: &[u8], names: &'n Names<T>) -> Option<(Field<'n, T>, Option<u8>)> {
    let first = word(buf, 0);
    if first as u8 <= b' ' {
        return None;
    }
    let longest = buf.get(..LONGEST).unwrap_or(buf);
    let (name, rest) = buf.split_at_checked(find(longest, |word| zeros(word ^ COLONS)))?;
    let (skipped, rest) = match rest {
        [b':', b' ', rest @ ..] => (2, rest),
        [b':', rest @ ..] => (1, rest),
        _ => return None,
    };
    if name.is_empty() {
        return None;
    }
    let (place, known) = names.find(name, first).unzip();
    let hash = match known {
        Some(name) => name.hash,
        None => hash(name, first)?,
    };
    let (text, rest) = rest.split_at_checked(control(rest))?;
    if let [b' ', ..] | [.., b' '] = text {
        return None;
    }
    let line_end = match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => return None,
    };
    let (colon, value) = (name.len(), name.len() + skipped);
    let end = value + text.len();
    Some((Field { colon, value, end, size: end + line_end, hash, known }, place))
}

/// Where the end of the line is, or another control byte, or the end of what was read.
#[inline(always)]
pub(super) fn control(buf: &[u8]) -> usize {
    find(buf, |word| below(word, b' '))
}

/// Where the first byte is that `marks` marks by its highest bit; without any, the end of `buf`, or
/// beyond it.
#[inline(always)]
fn find(buf: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let (words, rest) = in_words(buf);
    let mut at = 0;
    for word in words {
        let marked = marks(word);
        if marked != 0 {
            return at + first_of(marked);
        }
        at += WORD;
    }
    at + first_of(marks(short_word(rest)))
}

/// The words of a buffer, and the bytes after the last of them. (`as_chunks` is Rust 1.88's.)
#[inline(always)]
fn in_words(buf: &[u8]) -> (impl Iterator<Item = u64> + '_, &[u8]) {
    let chunks = buf.chunks_exact(WORD);
    let rest = chunks.remainder();
    let word = |chunk: &[u8]| chunk.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    (chunks.map(word), rest)
}

#[inline(always)]
fn first_of(marked: u64) -> usize {
    marked.trailing_zeros() as usize / 8
}

/// Eight bytes from `at` on, the first of them lowest; zeros where there are none.
#[inline]
fn word(buf: &[u8], at: usize) -> u64 {
    let rest = buf.get(at..).unwrap_or_default();
    rest.first_chunk().map_or_else(|| short_word(rest), |chunk| u64::from_le_bytes(*chunk))
}

#[cold]
fn short_word(buf: &[u8]) -> u64 {
    buf.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Marks bytes that are zero, or more than 128; above the lowest of them, others as well.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & HIGHS
}

/// Marks bytes that are less than `limit`, or 128 and `limit` at least; above the lowest of them,
/// others as well.
#[inline(always)]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(u64::from(limit) * ONES) & HIGHS
}

/// Are all eight bytes letters, digits or hyphens?
#[inline]
fn is_name(word: u64) -> bool {
    /// Marks bytes from `least` to `most`; all of them below 128.
    fn within(word: u64, least: u8, most: u8) -> u64 {
        let above = word + u64::from(0x7f - most) * ONES;
        above ^ (word + u64::from(0x80 - least) * ONES)
    }
    let low = word & !HIGHS;
    let letters = within(low | LOWER, b'a', b'z');
    (letters | within(low, b'0', b'9') | within(low, b'-', b'-')) & !word & HIGHS == HIGHS
}

/// `ngx_hash` of a name in lower case; None where other bytes than letters, digits and hyphens are in
/// it. `first` as in [`Names::find`].
#[inline]
fn hash(name: &[u8], first: u64) -> Option<usize> {
    let (words, rest) = in_words(name);
    let mut hash = 0_u64;
    for word in words {
        if !is_name(word) {
            return None;
        }
        hash = hash.wrapping_mul(POWERS[WORD]).wrapping_add(hash_of_word(word | LOWER));
    }
    if !rest.is_empty() {
        // the last bytes, behind zeros, which do not count
        let bits = 8 * (WORD - rest.len());
        let (checked, counted) = match name.last_chunk() {
            Some(last) => (u64::from_le_bytes(*last), u64::from_le_bytes(*last) >> bits << bits),
            None => (first << bits | (ONES * 0x61) >> (64 - bits), first << bits),
        };
        if !is_name(checked) {
            return None;
        }
        let lowered = (counted | LOWER) >> bits << bits;
        let power = POWERS.get(rest.len()).copied().unwrap_or_default();
        hash = hash.wrapping_mul(power).wrapping_add(hash_of_word(lowered));
    }
    Some(hash as usize)
}

/// 31 to the power of 0 to 8.
const POWERS: [u64; WORD + 1] = [
    1,
    31,
    31_u64.pow(2),
    31_u64.pow(3),
    31_u64.pow(4),
    31_u64.pow(5),
    31_u64.pow(6),
    31_u64.pow(7),
    31_u64.pow(8),
];

/// `ngx_hash` of eight bytes, the first of them lowest: of two at once, then of four, then of all.
#[inline]
fn hash_of_word(word: u64) -> u64 {
    const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    const PAIRS: u64 = 0x0000_ffff_0000_ffff;
    let pairs = (word & BYTES) * POWERS[1] + (word >> 8 & BYTES);
    let fours = (pairs & PAIRS) * POWERS[2] + (pairs >> 16 & PAIRS);
    (fours & 0xffff_ffff) * POWERS[4] + (fours >> 32)
}
