//! Where a response ends, and what it says about its connection: what the headers Connection,
//! Content-Length and Transfer-Encoding have to tell (RFC 9112, 6 and 9).
//!
//! Nothing here decides what the client gets. It decides whether the end of the response is known
//! for certain, so that the connection may carry another request; where anything is doubtful, it is
//! not.

/// What the response says about its connection (RFC 9112, 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// `Connection: keep-alive`.
    KeepAlive,
    /// `Connection: close`, whatever else it says.
    Close,
}

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none: 204 and 304 that announce none.
    NoBody,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
    /// The headers contradict each other, or a length is not one.
    Uncertain,
}

/// How far a response had come when nginx was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended by its own framing, and nothing came after it.
    Clean,
    /// It had not ended, or nobody read it.
    Open,
    /// It ended, and more bytes came.
    Surplus,
    /// Only the end of the connection ends it.
    ByClose,
    /// It cannot be known ([`Framing::Uncertain`]).
    Uncertain,
}

/// The state of a chunked body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunks {
    /// The last chunk has not come.
    #[default]
    Open,
    /// The last chunk and the trailers have come.
    Ended,
    /// Bytes came after them.
    Surplus,
}

/// The headers that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingHeader {
    /// Connection.
    Connection,
    /// Content-Length.
    Length,
    /// Transfer-Encoding.
    Coding,
}

impl FramingHeader {
    /// The one of this name, which must be in lower case.
    pub fn of(name: &[u8]) -> Option<FramingHeader> {
        match name {
            b"connection" => Some(FramingHeader::Connection),
            b"content-length" => Some(FramingHeader::Length),
            b"transfer-encoding" => Some(FramingHeader::Coding),
            _ => None,
        }
    }
}

/// What the headers say, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    said: Said,
    length: Length,
    coding: Coding,
}

#[derive(Clone, Copy, Debug, Default)]
enum Length {
    #[default]
    None,
    Bytes(u64),
    Doubtful,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Doubtful,
}

impl Fields {
    /// Takes note of a header of the final response.
    pub fn see(&mut self, name: &[u8], value: &[u8]) {
        // one look at the length rules almost every header out
        if let 10 | 14 | 17 = name.len() {
            if let Some(framing) = FramingHeader::of(&name.to_ascii_lowercase()) {
                self.see_of(framing, value);
            }
        }
    }

    /// As [`Self::see`], of a header that is known.
    #[inline]
    pub fn see_of(&mut self, framing: FramingHeader, value: &[u8]) {
        match framing {
            FramingHeader::Connection => self.connection(value),
            FramingHeader::Length => self.length(value),
            FramingHeader::Coding => self.coding(value),
        }
    }

    fn length(&mut self, value: &[u8]) {
        self.length = match (self.length, decimal(value)) {
            (Length::None, Some(bytes)) => Length::Bytes(bytes),
            _ => Length::Doubtful,
        };
    }

    fn coding(&mut self, value: &[u8]) {
        let chunked = value.eq_ignore_ascii_case(b"chunked");
        self.coding = match self.coding {
            Coding::None if chunked => Coding::Chunked,
            _ => Coding::Doubtful,
        };
    }

    fn connection(&mut self, value: &[u8]) {
        // spelt like this by almost every server
        if value == b"keep-alive" && self.said == Said::Nothing {
            self.said = Said::KeepAlive;
            return;
        }
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.said = Said::Close;
            } else if option.eq_ignore_ascii_case(b"keep-alive") && self.said == Said::Nothing {
                self.said = Said::KeepAlive;
            }
        }
    }

    /// What the response says about its connection.
    pub fn said(self) -> Said {
        self.said
    }

    /// How a body of this response ends; `status` is the response's.
    pub fn framing(self, status: u16) -> Framing {
        match (status, self.coding, self.length) {
            (204 | 304, Coding::None, Length::None | Length::Bytes(0)) => Framing::NoBody,
            // a 304 may say the length of what it does not send (RFC 9110, 8.6), but a server may
            // send it all the same
            (204 | 304, ..) => Framing::Uncertain,
            (_, Coding::None, Length::None) => Framing::Close,
            (_, Coding::None, Length::Bytes(bytes)) => Framing::Length(bytes),
            (_, Coding::Chunked, Length::None) => Framing::Chunked,
            _ => Framing::Uncertain,
        }
    }
}

impl Framing {
    /// Has the response ended? `received` are the bytes that came after its head, `chunks` is what
    /// the decoder of a chunked body knows.
    pub fn end(self, received: u64, chunks: Chunks) -> End {
        let length = match self {
            Framing::NoBody => 0,
            Framing::Length(length) => length,
            Framing::Chunked => {
                return match chunks {
                    Chunks::Open => End::Open,
                    Chunks::Ended => End::Clean,
                    Chunks::Surplus => End::Surplus,
                }
            }
            Framing::Close => return End::ByClose,
            Framing::Uncertain => return End::Uncertain,
        };
        match received.cmp(&length) {
            std::cmp::Ordering::Less => End::Open,
            std::cmp::Ordering::Equal => End::Clean,
            std::cmp::Ordering::Greater => End::Surplus,
        }
    }
}

/// A number in plain digits that an `i64` can hold, as nginx's `off_t` must.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let number = value.iter().try_fold(0_i64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    u64::try_from(number).ok()
}
