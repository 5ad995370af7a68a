//! The request: four header bytes and the vars, written in one pass into one growing buffer.
//!
//! Mirrors nginx's `ngx_http_uwsgi_create_request`, with one difference in method: nginx runs over
//! everything twice, first for the length. Here lengths are patched in after what they measure,
//! and the buffer stays from request to request. The layout is the uwsgi protocol's:
//!
//! ```text
//! u8 modifier1 | u16 LE size of the vars | u8 modifier2 | vars
//! var: u16 LE name length, name, u16 LE value length, value
//! ```

use bytes::BytesMut;

use super::names;
use super::quick::SLACK;
pub use super::quick::{Quick, VarName};
use super::vars::Vars;

/// Bytes before the vars.
pub const HEADER_SIZE: usize = 4;
/// The most bytes of vars that a packet can carry; also the most bytes of one name or one value.
pub const MAX_VARS: usize = 65_535;

/// Room for the vars of an ordinary request, so that most buffers never grow.
const FIRST_CAPACITY: usize = 4096;
/// A buffer beyond this has held a request that was refused, and is not kept for the next one.
const KEPT_CAPACITY: usize = 2 * (HEADER_SIZE + MAX_VARS + 1);

/// A packet being written. Any bytes may be written in any amount; what does not fit shows in
/// [`Packet::finish`], never as a corrupt packet.
#[derive(Debug)]
pub struct Packet {
    /// All of its bytes may be written: those behind the packet are left from earlier ones, so that
    /// room for a var costs a comparison, and is not filled with zeros first.
    buf: BytesMut,
    /// The bytes of the packet so far.
    len: usize,
    /// Vars with a name or value beyond what a length field holds, in the order in which they
    /// ended. Any entry makes the vars larger than [`MAX_VARS`].
    overlong: Vec<Overlong>,
}

/// A var whose value is being written in pieces, from [`Packet::begin_var`] to
/// [`Packet::end_var`] or [`Packet::cancel_var`].
#[derive(Debug)]
#[must_use = "a var that is not ended has no length"]
pub struct Mark {
    /// Offset of the var.
    start: usize,
    /// Offset of its value.
    value: usize,
}

/// Where an overlong var lies; its length fields say less than there is.
#[derive(Debug)]
struct Overlong {
    start: usize,
    value: usize,
    end: usize,
}

impl Default for Packet {
    fn default() -> Packet {
        Packet::new()
    }
}

impl Packet {
    /// A packet without vars.
    pub fn new() -> Packet {
        let mut packet = Packet { buf: BytesMut::new(), len: 0, overlong: Vec::new() };
        packet.clear();
        packet
    }

    /// Back to a packet without vars; the buffer is kept for the next request.
    pub fn clear(&mut self) {
        if self.buf.capacity() > KEPT_CAPACITY {
            self.buf = BytesMut::new();
        }
        if self.buf.len() < FIRST_CAPACITY {
            self.buf.resize(FIRST_CAPACITY, 0);
        }
        self.len = HEADER_SIZE;
        self.overlong.clear();
    }

    /// Writes vars in a few steps each, one after the other: the buffer is looked up once for all of them.
    #[inline(always)]
    pub fn quickly<T>(&mut self, write: impl FnOnce(&mut Quick<'_>) -> T) -> T {
        let mut quick = Quick::new(self.buf.get_mut(self.len..).unwrap_or_default());
        let before = quick.left();
        let result = write(&mut quick);
        self.len += before - quick.left();
        result
    }

    /// Writes a var whose name was made ready.
    #[inline]
    pub fn param(&mut self, name: &VarName, value: &[u8]) {
        if !self.quickly(|quick| quick.param(name, value)) {
            self.var(&name.name, value);
        }
    }

    /// Writes a var.
    pub fn var(&mut self, name: &[u8], value: &[u8]) {
        let mark = self.begin_var(name);
        self.append(value);
        self.end_var(mark);
    }

    /// Begins a var whose value comes by [`Packet::append`].
    pub fn begin_var(&mut self, name: &[u8]) -> Mark {
        let start = self.len;
        self.append(&length_field(name.len()));
        self.append(name);
        self.append(&length_field(0));
        Mark { start, value: self.len }
    }

    /// Appends to the value of the var begun last.
    pub fn append(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        if end + SLACK > self.buf.len() {
            // Room for the next var, too, so that it goes the quick way.
            self.grow(end + SLACK);
        }
        if let Some(room) = self.buf.get_mut(self.len..end) {
            room.copy_from_slice(piece);
        }
        self.len = end;
    }

    /// How many bytes the var has for a value so far.
    pub fn value_len(&self, mark: &Mark) -> usize {
        self.len.saturating_sub(mark.value)
    }

    /// Ends a var: its length is written where it belongs.
    pub fn end_var(&mut self, mark: Mark) {
        let length = self.value_len(&mark);
        let field = self.buf.get_mut(..mark.value).and_then(<[u8]>::last_chunk_mut);
        if let Some(field) = field {
            *field = length_field(length);
        }
        // MAX_VARS is all ones, so the union exceeds it exactly if one of the two does.
        if (mark.name_len() | length) > MAX_VARS {
            self.note_overlong(mark);
        }
    }

    /// Takes a begun var back as if it had never been, for `if_not_empty`.
    pub fn cancel_var(&mut self, mark: Mark) {
        self.rewind(mark.start);
    }

    /// Takes back all vars behind this offset, which [`Packet::end`] gave.
    pub fn rewind(&mut self, end: usize) {
        self.len = self.len.min(end);
        self.overlong.retain(|var| var.end <= end);
    }

    /// Where the vars written so far end.
    pub fn end(&self) -> usize {
        self.len
    }

    /// Writes a client's header under its name as a var: [`names::HTTP_PREFIX`] and
    /// the name through [`names::upcase`].
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        if !self.quickly(|quick| quick.header(name, value)) {
            let mark = self.begin_header(name);
            self.append(value);
            self.end_var(mark);
        }
    }

    /// Writes a client's repeated header as one var, its values joined by [`names::separator`].
    /// No values, no var.
    pub fn header_joined<'a>(&mut self, name: &[u8], values: impl IntoIterator<Item = &'a [u8]>) {
        let mut values = values.into_iter();
        let Some(first) = values.next() else { return };
        let separator = names::separator(name);
        let mark = self.begin_header(name);
        self.append(first);
        for value in values {
            self.append(separator);
            self.append(value);
        }
        self.end_var(mark);
    }

    /// Appends bytes as they are (`rs_uwsgi_string`); that they are vars is the caller's word.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    /// How many bytes of vars there are, without the packet's header.
    pub fn vars_size(&self) -> usize {
        self.len.saturating_sub(HEADER_SIZE)
    }

    /// The vars written so far, read back. Behind a name or value beyond [`MAX_VARS`] this is
    /// noise.
    pub fn vars(&self) -> Vars<'_> {
        self.vars_in(HEADER_SIZE, self.len)
    }

    /// The name of the largest var, and how many bytes its name and value have together; of equals
    /// the first. For error messages: it reads everything.
    pub fn largest_var(&self) -> Option<(&[u8], usize)> {
        let mut largest: Option<(&[u8], usize)> = None;
        let mut offer = |name, size| {
            if largest.is_none_or(|(_, known)| size > known) {
                largest = Some((name, size));
            }
        };
        let mut start = HEADER_SIZE;
        for var in &self.overlong {
            for (name, value) in self.vars_in(start, var.start).map_while(Result::ok) {
                offer(name, name.len() + value.len());
            }
            let name = self.buf.get(var.start + 2..var.value - 2).unwrap_or_default();
            offer(name, var.end - var.start - 4);
            start = var.end;
        }
        for (name, value) in self.vars_in(start, self.len).map_while(Result::ok) {
            offer(name, name.len() + value.len());
        }
        largest
    }

    /// Fills in the header; the whole packet, ready to be sent.
    ///
    /// # Errors
    /// [`TooLarge`] if there are more than `max_vars` bytes of vars, or more than [`MAX_VARS`].
    pub fn finish(
        &mut self,
        modifier1: u8,
        modifier2: u8,
        max_vars: usize,
    ) -> Result<&[u8], TooLarge> {
        let size = self.vars_size();
        if size > max_vars.min(MAX_VARS) {
            return Err(self.too_large());
        }
        let [low, high] = length_field(size);
        if let Some(header) = self.buf.first_chunk_mut::<HEADER_SIZE>() {
            *header = [modifier1, low, high, modifier2];
        }
        Ok(self.buf.get(..self.len).unwrap_or_default())
    }

    fn begin_header(&mut self, name: &[u8]) -> Mark {
        let start = self.len;
        self.append(&length_field(names::HTTP_PREFIX.len() + name.len()));
        self.append(names::HTTP_PREFIX);
        let name_start = self.len;
        self.append(name);
        if let Some(room) = self.buf.get_mut(name_start..self.len) {
            names::upcase_first(room, name.len());
        }
        self.append(&length_field(0));
        Mark { start, value: self.len }
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        self.buf.resize(size.max(2 * self.buf.len()), 0);
    }

    /// The vars between two offsets.
    fn vars_in(&self, start: usize, end: usize) -> Vars<'_> {
        Vars::new(self.buf.get(start..end).unwrap_or_default())
    }

    #[cold]
    fn note_overlong(&mut self, mark: Mark) {
        let Mark { start, value } = mark;
        self.overlong.push(Overlong { start, value, end: self.len });
    }

    #[cold]
    fn too_large(&self) -> TooLarge {
        let (name, largest_size) = self.largest_var().unwrap_or_default();
        TooLarge { size: self.vars_size(), largest_name: name.to_vec(), largest_size }
    }
}

impl Mark {
    fn name_len(&self) -> usize {
        // Between the two length fields.
        self.value - self.start - 4
    }
}

/// A length as the protocol writes it. One that does not fit is written as the most that does: the
/// packet is too large then, and never sent.
fn length_field(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

/// The vars do not fit into a packet, or into what the configuration allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{size} bytes of vars, the largest is \"{}\" with {largest_size} bytes",
    largest_name.escape_ascii()
)]
pub struct TooLarge {
    /// Bytes of vars.
    pub size: usize,
    /// The name of the largest var, whole.
    pub largest_name: Vec<u8>,
    /// Bytes of that var's name and value.
    pub largest_size: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_buffer_is_kept_and_a_huge_one_is_not() {
        let mut packet = Packet::new();
        packet.var(b"NAME", &[b'v'; MAX_VARS]);
        let (before, place) = (packet.buf.capacity(), packet.buf.as_ptr());
        packet.clear();
        assert_eq!((packet.buf.capacity(), packet.buf.as_ptr()), (before, place));
        packet.raw(&[b'r'; 16 * MAX_VARS]);
        packet.clear();
        assert!(packet.buf.capacity() <= KEPT_CAPACITY);
        assert_eq!(packet.vars_size(), 0);
    }
}
