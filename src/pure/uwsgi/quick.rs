//! Vars in a few steps: as they are in almost every request, and as long as there is room for them. What they
//! do not fit into goes the way of [`Packet`](super::packet::Packet), which can do all.

use super::names;

/// Bytes behind a var that may be written, too.
pub(super) const SLACK: usize = 32;
/// The most bytes of room. So what fits has a length that the protocol can say, and one comparison finds
/// all that is too long.
const MOST: usize = u16::MAX as usize;

/// A name that many packets have, made ready once.
#[derive(Clone, Debug)]
pub struct VarName {
    /// Without a length.
    pub(super) name: Box<[u8]>,
    /// The length field and the name: copying these bytes, always as many, is four instructions, and
    /// copying as many as a name has is a call.
    head: [u8; SLACK],
    /// How many of these are the length field and the name; where they do not fit, more than there is
    /// ever room for.
    head_len: u32,
}

impl VarName {
    /// A name, of any length.
    pub fn new(name: &[u8]) -> VarName {
        let mut head = [0; SLACK];
        let field = u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
        head.iter_mut().zip(field.iter().chain(name)).for_each(|(to, from)| *to = *from);
        let head_len = field.len() + name.len();
        let head_len = if head_len <= head.len() { head_len } else { MOST };
        VarName { name: name.into(), head, head_len: head_len as u32 }
    }
}

/// The room behind the vars of a packet, which its vars are written into one after the other.
#[derive(Debug)]
pub struct Quick<'a> {
    room: &'a mut [u8],
}

impl<'a> Quick<'a> {
    /// Into this room; of more than [`MOST`] bytes the first.
    #[inline(always)]
    pub(super) fn new(room: &'a mut [u8]) -> Quick<'a> {
        let most = room.len().min(MOST);
        Quick { room: room.get_mut(..most).unwrap_or_default() }
    }

    /// How many bytes of room are left.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.room.len()
    }

    /// Writes a var whose name was made ready; false where it does not fit, and then nothing is written.
    #[inline(always)]
    #[must_use]
    pub fn param(&mut self, name: &VarName, value: &[u8]) -> bool {
        self.write_param(name, value).is_some()
    }

    /// Writes a client's header as a var; false where it does not fit, and then nothing is written.
    #[inline(always)]
    #[must_use]
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.write_header(name, value).is_some()
    }

    /// That there is no room is found at the beginning. None after it is never.
    #[inline(always)]
    fn write_param(&mut self, name: &VarName, value: &[u8]) -> Option<()> {
        let start = name.head_len as usize;
        let size = start + 2 + value.len();
        if size + SLACK > self.room.len() {
            return None;
        }
        let room = &mut *self.room;
        *room.first_chunk_mut()? = name.head;
        let (field, rest) = room.get_mut(start..)?.split_first_chunk_mut()?;
        *field = (value.len() as u16).to_le_bytes();
        copy(rest, value)?;
        self.advance(size)
    }

    /// The same for a header.
    #[inline(always)]
    fn write_header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        // One after the other: two lengths and more may be too much for a number.
        let left = self.room.len().checked_sub(NAME + name.len() + 2 + SLACK)?;
        left.checked_sub(value.len())?;
        // The length of the name goes into the first two of the eight bytes, of which the last belongs to
        // the name.
        let room = &mut *self.room;
        *room.first_chunk_mut()? = (PREFIX + name.len() as u64).to_le_bytes();
        let room = room.get_mut(NAME..)?;
        copy(room, name)?;
        // What stands behind the name comes after this.
        names::upcase_first(room, name.len());
        let (field, rest) = room.get_mut(name.len()..)?.split_first_chunk_mut()?;
        *field = (value.len() as u16).to_le_bytes();
        copy(rest, value)?;
        self.advance(NAME + name.len() + 2 + value.len())
    }

    #[inline(always)]
    fn advance(&mut self, size: usize) -> Option<()> {
        self.room = core::mem::take(&mut self.room).get_mut(size..)?;
        Some(())
    }
}

/// Where the name of a header begins in its var: behind the length field and the prefix.
const NAME: usize = 2 + names::HTTP_PREFIX.len();
/// The length field of a header without a name, and the prefix; one byte more.
const PREFIX: u64 = u64::from_le_bytes([5, 0, b'H', b'T', b'T', b'P', b'_', 0]);

/// Copies bytes to the beginning of `to`; None where they do not fit.
///
/// Names and values are short: for them, two copies of a fixed length that may overlap cost some ten
/// instructions, and a call of memcpy 25 with what has to be kept for the time after it.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) -> Option<()> {
    let to = to.get_mut(..from.len())?;
    // In an order that asks little about the shortest.
    let length = from.len();
    if length <= 8 {
        if length >= 4 {
            copy_ends::<4>(to, from)
        } else if length >= 2 {
            copy_ends::<2>(to, from)
        } else if length == 1 {
            copy_ends::<1>(to, from)
        } else {
            Some(())
        }
    } else if length <= 16 {
        copy_ends::<8>(to, from)
    } else if length <= 32 {
        copy_ends::<16>(to, from)
    } else if length <= 64 {
        copy_ends::<32>(to, from)
    } else if length <= 128 {
        copy_ends::<64>(to, from)
    } else {
        copy_long(to, from);
        Some(())
    }
}

/// Called cold, so that nothing is kept for the time after it in the others' way.
#[cold]
fn copy_long(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// Copies the first and the last N bytes, which are all if there are up to 2 N. None where there are
/// fewer than N.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
    *to.first_chunk_mut::<N>()? = *from.first_chunk()?;
    *to.last_chunk_mut::<N>()? = *from.last_chunk()?;
    Some(())
}
