//! Lines of heads that were read before. Most responses of an application have most of their headers in common,
//! values and all: a line that is the same, byte for byte, is the same header, and costs a third of the
//! instructions that [`super::plain`] needs.
//!
//! A line has its place by its first 16 bytes, so that lines of one name which differ early, as those of several
//! applications do, do not take it from one another. One line in four that is read anew takes its place, so that
//! what never comes again costs little.

use super::plain::{Field, Name, FACTOR, NO_NAME};

const PLACES: usize = 64;
/// The longest line that is kept, with its end, bytes. The shortest that is compared is a chunk.
const LONGEST: usize = 4 * CHUNK;
const CHUNK: usize = 16;

/// The lines that were read before.
#[derive(Debug)]
pub(super) struct SeenLines {
    places: Box<[SeenLine; PLACES]>,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct SeenLine {
    bytes: [u8; LONGEST],
    /// How many of them have to be the same; 0 where there is no line.
    compared: u8,
    colon: u8,
    value: u8,
    end: u8,
    size: u8,
    /// The number of its name; one that none has where it is not known.
    known: u8,
    hash: usize,
}

const NONE: SeenLine = SeenLine {
    bytes: [0; LONGEST],
    compared: 0,
    colon: 0,
    value: 0,
    end: 0,
    size: 0,
    known: NO_NAME,
    hash: 0,
};

impl SeenLines {
    pub(super) fn new() -> Self {
        SeenLines { places: Box::new([NONE; PLACES]), random: FACTOR }
    }

    /// The header at the beginning of `buf`, where its line was read before.
    #[inline(always)]
    pub(super) fn find<'n, T>(&self, buf: &[u8], names: &'n [Name<T>]) -> Option<Field<'n, T>> {
        let first = buf.first_chunk()?;
        let line = self.places.get(place(first))?;
        line.is_at(first, buf).then(|| Field {
            colon: line.colon.into(),
            value: line.value.into(),
            end: line.end.into(),
            size: line.size.into(),
            hash: line.hash,
            known: names.get(usize::from(line.known)),
        })
    }

    /// Keeps the line at the beginning of `buf`, in which a header was read, or does not.
    pub(super) fn keep<T>(&mut self, buf: &[u8], field: &Field<'_, T>, known: Option<u8>) {
        self.random = self.random.wrapping_mul(FACTOR).wrapping_add(1);
        let (Some(bytes), Some(first)) = (buf.first_chunk(), buf.first_chunk()) else { return };
        if self.random >> 62 != 0 || field.size > LONGEST {
            return;
        }
        let Some(line) = self.places.get_mut(place(first)) else { return };
        let short = |offset: usize| offset as u8;
        *line = SeenLine {
            bytes: *bytes,
            compared: short(field.size.max(CHUNK)),
            colon: short(field.colon),
            value: short(field.value),
            end: short(field.end),
            size: short(field.size),
            known: known.unwrap_or(NO_NAME),
            hash: field.hash,
        };
    }
}

impl SeenLine {
    /// Is it the line at the beginning of `buf`, whose first bytes are these? A chunk after the other, the last
    /// one counted from the line's end.
    #[inline(always)]
    fn is_at(&self, first: &[u8; CHUNK], buf: &[u8]) -> bool {
        let compared = usize::from(self.compared);
        let (Some(own), Some(other)) = (self.bytes.get(..compared), buf.get(..compared)) else {
            return false;
        };
        let chunk = |at: usize| {
            let chunks = (own.get(at..at + CHUNK), other.get(at..at + CHUNK));
            matches!(chunks, (Some(own), Some(other)) if own == other)
        };
        own.first_chunk() == Some(first)
            && own.last_chunk::<CHUNK>() == other.last_chunk::<CHUNK>()
            && (compared <= 2 * CHUNK || chunk(CHUNK))
            && (compared <= 3 * CHUNK || chunk(2 * CHUNK))
    }
}

/// The place of a line that begins with these bytes.
#[inline(always)]
fn place(first: &[u8; CHUNK]) -> usize {
    let both = u128::from_le_bytes(*first);
    let mixed = (both as u64) ^ ((both >> 64) as u64).rotate_left(29);
    (mixed.wrapping_mul(FACTOR) >> 58) as usize
}
