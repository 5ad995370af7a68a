//! Chunked response bodies (RFC 9112, 7.1): where the data is, and where the response ends.
//!
//! Accepts what nginx's `ngx_http_parse_chunked` accepts, the same in 1.22.1 and 1.28.3, with two
//! exceptions:
//!
//! - Lines end in CR LF. Both versions of nginx also take LF alone; from 1.29.4 on it does not, and
//!   neither does the RFC, which allows it for the head only. A server that passes on chunks written
//!   by another can hold an LF for part of an extension or a trailer, and would then see the response
//!   end elsewhere: on a connection that is reused, the rest would answer the next request.
//! - Framing that goes on and on is refused: [`MAX_SIZE_LINE`], [`MAX_TRAILERS`].
//!
//! More lenient than the RFC, as nginx is: after spaces, tabs or `;` behind a size, and in trailers,
//! any bytes may stand but CR and LF. None of them can be taken for a line's end. What they say is
//! not looked at here ([`super::trailers`]).
//!
//! Nothing is copied: the decoder points into the bytes it is given, and keeps 16 bytes of state
//! between them.

/// The largest chunk, bytes: as in nginx, so that sums with it fit its `off_t`.
pub const MAX_SIZE: u64 = i64::MAX as u64 / 16;

/// The longest line with a chunk's size, bytes: leading zeros, extensions and the line's end
/// included.
pub const MAX_SIZE_LINE: u16 = 4096;

/// What may follow the last chunk's line, bytes: all trailers and the empty line.
pub const MAX_TRAILERS: u16 = 16384;

/// What follows the data of a chunk at the least, bytes: its line end, the last chunk, the empty
/// line.
const AFTER_DATA: u64 = b"\r\n0\r\n\r\n".len() as u64;

/// Bytes that are not a chunked body. Where the response ends is unknown, so its connection must be
/// closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked response")]
pub struct Malformed;

/// What follows the framing that [`Decoder::next`] skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of data, at least 1, all of them there.
    Data(usize),
    /// Nothing: the response ended with the bytes skipped.
    End,
    /// Nothing yet: all bytes were framing, and more must come.
    Again,
}

/// The state of one response's body between two reads. The default is its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// The chunk: its size as far as it is read, then what is to come of its data, bytes.
    size: u64,
    /// How long the line with the size is so far, or all trailers, bytes.
    framing: u16,
    state: State,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    Chunk,
    /// Another digit, or what ends the size.
    Size,
    /// What stands between the size and the line's end.
    Extension,
    /// The LF of that line.
    SizeLf,
    /// Data, at least one byte.
    Data,
    /// The CR after data.
    DataCr,
    /// The LF after data.
    DataLf,
    /// The first byte of a trailer, or the CR of the empty line.
    Trailers,
    /// A trailer.
    Trailer,
    /// The LF of a trailer.
    TrailerLf,
    /// The LF of the empty line.
    EndLf,
    /// The next response, if anything.
    Ended,
    /// Nothing that could be made sense of.
    Malformed,
}

impl Decoder {
    /// Looks at `bytes`, the next ones of the body: how many bytes of framing to skip at their
    /// beginning, and what comes after these. The bytes skipped and the data are done with: the next
    /// call takes what follows them.
    ///
    /// After [`Piece::End`] it skips nothing and says so again. What follows the end is not part of
    /// the response.
    ///
    /// # Errors
    /// [`Malformed`] at the first byte that cannot stand where it stands, for a chunk beyond
    /// [`MAX_SIZE`], for framing beyond its limits, and at every call after that.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Piece), Malformed> {
        let mut rest = bytes.iter();
        loop {
            let skipped = bytes.len() - rest.len();
            match self.state {
                State::Ended => return Ok((skipped, Piece::End)),
                State::Data if rest.len() > 0 => return Ok((skipped, self.data(rest.len()))),
                _ => {}
            }
            let Some(byte) = rest.next() else {
                return Ok((skipped, Piece::Again));
            };
            self.state = self.framing(*byte).unwrap_or(State::Malformed);
            if self.state == State::Malformed {
                return Err(Malformed);
            }
        }
    }

    /// The least number of bytes that must still come before the response can end: never more than
    /// what comes. 0 only after [`Piece::End`]; after an error it means nothing.
    pub fn at_least(&self) -> u64 {
        match self.state {
            State::Chunk => 5,
            // No chunk has no data, but for the last one.
            State::Size | State::Extension if self.size == 0 => 4,
            State::Size | State::Extension => 2 + self.size + AFTER_DATA,
            State::SizeLf if self.size == 0 => 3,
            State::SizeLf => 1 + self.size + AFTER_DATA,
            State::Data => self.size + AFTER_DATA,
            State::DataCr => AFTER_DATA,
            State::DataLf => AFTER_DATA - 1,
            State::Trailers => 2,
            State::Trailer => 4,
            State::TrailerLf => 3,
            State::EndLf | State::Malformed => 1,
            State::Ended => 0,
        }
    }

    /// Has the response ended?
    pub fn is_done(&self) -> bool {
        self.state == State::Ended
    }

    /// How many bytes of trailers have come, the empty line that ends them included: the last of those that
    /// were skipped.
    pub fn trailers(&self) -> usize {
        match self.state {
            State::Trailers | State::Trailer | State::TrailerLf | State::EndLf | State::Ended => {
                self.framing.into()
            }
            _ => 0,
        }
    }

    /// Takes data, as much as there is of the chunk.
    fn data(&mut self, available: usize) -> Piece {
        let taken = usize::try_from(self.size).map_or(available, |size| size.min(available));
        self.size -= taken as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        Piece::Data(taken)
    }

    /// Takes one byte of framing; the state after it, None if it cannot stand there.
    fn framing(&mut self, byte: u8) -> Option<State> {
        let next = match (self.state, byte) {
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Chunk | State::Size, _) => self.digit(byte)?,
            (State::SizeLf, b'\n') if self.size == 0 => State::Trailers,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Chunk,
            (State::Trailers, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailers,
            (State::EndLf, b'\n') => State::Ended,
            (_, b'\n') => return None,
            (State::Extension, _) => State::Extension,
            (State::Trailers | State::Trailer, _) => State::Trailer,
            _ => return None,
        };
        let limit = match self.state {
            State::Trailers | State::Trailer | State::TrailerLf | State::EndLf => MAX_TRAILERS,
            _ => MAX_SIZE_LINE,
        };
        if self.framing == limit {
            return None;
        }
        // The line with a size begins after data, trailers begin after that line.
        let ends = matches!(self.state, State::SizeLf | State::DataLf);
        self.framing = if ends { 0 } else { self.framing + 1 };
        Some(next)
    }

    /// Adds a hexadecimal digit to the size, which is 0 before the first.
    fn digit(&mut self, byte: u8) -> Option<State> {
        let digit = char::from(byte).to_digit(16)?;
        // MAX_SIZE leaves four bits free.
        self.size = self.size * 16 + u64::from(digit);
        (self.size <= MAX_SIZE).then_some(State::Size)
    }
}
