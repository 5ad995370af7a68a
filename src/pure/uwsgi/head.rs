//! The response head, line by line: a status line or none, headers, an empty line.
//!
//! Accepts and refuses what nginx's `ngx_http_parse_status_line` and `ngx_http_parse_header_line`
//! (underscores allowed, as for every upstream) do, the same in 1.22.1 and 1.28.3, and refuses as
//! early: at the first byte that cannot be. Where nginx is lenient beyond RFC 9112, so is this,
//! and a comment says where.
//!
//! nginx keeps a state from byte to byte. Here a line that is not complete is looked at again from
//! its beginning when more has come, so there is no state, and line ends are found by `memchr`.
//! Sizes and offsets are bytes.
//!
//! Almost all lines are read by [`plain`] or as the usual status line, in half of the instructions and
//! to the same result; this is for the others.

pub mod plain;
mod seen;

use std::ops::Range;

/// What a parser makes of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole line and how many bytes it took, its end included.
    Complete(T, usize),
    /// Right so far, but the line has not ended.
    Partial,
}

/// The first line of an HTTP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine<'a> {
    /// Three digits: 0 to 999.
    pub code: u16,
    /// From the code to the end of the line: `200 OK`.
    pub line: &'a [u8],
}

/// The bytes are not the beginning of a status line: the response is CGI style, or no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a status line")]
pub struct NotAStatusLine;

/// One line of the head after the status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A header.
    Header(Header<'a>),
    /// The empty line: what follows is the body.
    End,
    /// A line that does not count: IIS repeats the status line.
    Ignored,
}

/// A header of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// As it came.
    pub name: &'a [u8],
    /// Without the spaces around it; empty if the line has no colon.
    pub value: &'a [u8],
    /// `ngx_hash` over the name in lower case, for `umcf->headers_in_hash`; bytes other than
    /// letters, digits, `-` and `_` are left out.
    pub hash: usize,
}

/// A line that cannot be a header: what nginx puts into its log as `"<line>\x<byte>..."`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid byte \\x{byte:02x} in a header line, at {end}")]
pub struct InvalidHeader {
    /// The line was right up to this offset from its beginning.
    pub end: usize,
    /// The byte there. After a CR that no LF follows, the CR or the space before it.
    pub byte: u8,
}

/// The line that most responses begin with, and what [`StatusLine`] would have of it.
pub const MOST: (&[u8], StatusLine<'static>) =
    (b"HTTP/1.1 200 OK\r\n", StatusLine { code: 200, line: b"200 OK" });

/// Parses a status line at the beginning of `buf`.
///
/// More lenient than RFC 9112: any HTTP version from 1.0 to 999.999, spaces before and between the
/// digits of the code, a dot and more after it (IIS sends `403.1`), no text, any bytes in the text,
/// LF alone for a line end.
///
/// # Errors
/// [`NotAStatusLine`] at the first byte that cannot stand where it stands.
pub fn status_line(buf: &[u8]) -> Result<Parsed<StatusLine<'_>>, NotAStatusLine> {
    if let Some((line, consumed)) = usual_status_line(buf) {
        return Ok(Parsed::Complete(line, consumed));
    }
    match whole_status_line(&mut Cursor { buf, at: 0 }) {
        Ok((line, consumed)) => Ok(Parsed::Complete(line, consumed)),
        Err(Stop::Partial) => Ok(Parsed::Partial),
        Err(Stop::Impossible) => Err(NotAStatusLine),
    }
}

/// Parses one line after the status line at the beginning of `buf`.
///
/// More lenient than RFC 9112: a line without a colon is a header with an empty value, most bytes
/// beyond tokens may stand in a name, all but NUL, CR and LF in a value, LF alone or several CRs
/// and an LF end a line. Only spaces are trimmed from a value, tabs are part of it.
///
/// # Errors
/// [`InvalidHeader`] as soon as the offending byte is there, the line complete or not: a control
/// byte, space or DEL in a name, an empty name, a NUL, a CR without its LF.
pub fn header_line(buf: &[u8]) -> Result<Parsed<Line<'_>>, InvalidHeader> {
    let mut hash = 0_usize;
    for (at, byte) in buf.iter().copied().enumerate() {
        match name_byte(byte) {
            NameByte::Hashed(lowered) => {
                hash = hash.wrapping_mul(31).wrapping_add(lowered.into());
            }
            NameByte::Unhashed => {}
            NameByte::Special => match byte {
                b'/' if at == 4 && buf.starts_with(b"HTTP") => return Ok(ignored(buf)),
                b'/' => {}
                b'\n' if at == 0 => return Ok(Parsed::Complete(Line::End, 1)),
                b'\r' if at == 0 => return end_of_head(buf),
                b'\r' | b'\n' => return end_of_header(buf, hash, at, at..at, at),
                b':' if at > 0 => return value(buf, hash, at),
                _ => return Err(InvalidHeader { end: at, byte }),
            },
        }
    }
    Ok(Parsed::Partial)
}

/// May a header of a 103 response be passed on? Not what says where messages end, or what is for one
/// connection (RFC 8297, 2; RFC 9110, 7.6.1).
pub fn may_be_hinted(name: &[u8]) -> bool {
    const NEVER: [&str; 8] = [
        "Connection",
        "Content-Length",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ];
    NEVER.iter().all(|never| !name.eq_ignore_ascii_case(never.as_bytes()))
}

/// The code that a `Status` header begins with: `404 Not Found` → 404. None if its first three
/// bytes are not digits; what follows them is not looked at, as in nginx.
pub fn cgi_status(value: &[u8]) -> Option<u16> {
    value.first_chunk::<3>()?.iter().try_fold(0, |code, byte| add_digit(code, *byte))
}

/// Why there is no status line.
enum Stop {
    Partial,
    Impossible,
}

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.buf.get(self.at).copied().ok_or(Stop::Partial)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), Stop> {
        if self.next()? == expected {
            Ok(())
        } else {
            Err(Stop::Impossible)
        }
    }

    /// A part of the version up to the byte that ends it. nginx stops counting at three digits,
    /// leading zeros aside.
    fn version_part(&mut self, end: u8) -> Result<u16, Stop> {
        let mut number = add_digit(0, self.next()?).ok_or(Stop::Impossible)?;
        loop {
            match self.next()? {
                byte if byte == end => return Ok(number),
                _ if number > 99 => return Err(Stop::Impossible),
                byte => number = add_digit(number, byte).ok_or(Stop::Impossible)?,
            }
        }
    }

    /// The code, and where the line begins by nginx's reckoning: two bytes before the third digit,
    /// which is the first digit unless there are spaces between them.
    fn code(&mut self) -> Result<(u16, usize), Stop> {
        let mut code = 0;
        let mut digits = 0;
        while digits < 3 {
            let byte = self.next()?;
            if byte != b' ' {
                code = add_digit(code, byte).ok_or(Stop::Impossible)?;
                digits += 1;
            }
        }
        Ok((code, self.at - 3))
    }

    /// Any text up to the line's end; where that end begins.
    fn text(&mut self) -> Result<usize, Stop> {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr2(b'\r', b'\n', rest).ok_or(Stop::Partial)?;
        let end = self.at;
        if self.next()? == b'\r' {
            self.expect(b'\n')?;
        }
        Ok(end)
    }
}

/// The status lines that almost every server sends, in a tenth of the instructions. uWSGI answers with the version
/// of the request.
fn usual_status_line(buf: &[u8]) -> Option<(StatusLine<'_>, usize)> {
    const VERSION: usize = b"HTTP/1.1 ".len();
    let (b"HTTP/1.1 " | b"HTTP/1.0 " | b"HTTP/2.0 " | b"HTTP/3.0 ", [a, b, c, b' ', ..]) =
        buf.split_first_chunk::<VERSION>()?
    else {
        return None;
    };
    let code = [a, b, c].into_iter().try_fold(0, |code, digit| add_digit(code, *digit))?;
    let rest = buf.get(VERSION..)?;
    let (line, rest) = rest.split_at_checked(plain::control(rest))?;
    rest.starts_with(b"\r\n").then_some((StatusLine { code, line }, VERSION + line.len() + 2))
}

fn whole_status_line<'a>(line: &mut Cursor<'a>) -> Result<(StatusLine<'a>, usize), Stop> {
    for byte in b"HTTP/" {
        line.expect(*byte)?;
    }
    // A zero cannot begin the major version, and must not wait for what follows it.
    if line.buf.get(line.at) == Some(&b'0') {
        return Err(Stop::Impossible);
    }
    line.version_part(b'.')?;
    line.version_part(b' ')?;
    let (code, start) = line.code()?;
    match line.next()? {
        b' ' | b'.' => {}
        b'\r' | b'\n' => line.at -= 1,
        _ => return Err(Stop::Impossible),
    }
    let end = line.text()?;
    let text = line.buf.get(start..end).unwrap_or_default();
    Ok((StatusLine { code, line: text }, line.at))
}

/// `number` with one more decimal digit; None if `byte` is none. Never called with more than three
/// digits, so it cannot overflow.
fn add_digit(number: u16, byte: u8) -> Option<u16> {
    byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0'))
}

/// What a byte does in a header's name.
enum NameByte {
    /// Goes into the hash, in lower case.
    Hashed(u8),
    /// Is part of the name, but nginx leaves it out of the hash.
    Unhashed,
    /// May end the name, or the whole matter.
    Special,
}

fn name_byte(byte: u8) -> NameByte {
    match byte {
        b'a'..=b'z' | b'-' | b'_' | b'0'..=b'9' => NameByte::Hashed(byte),
        b'A'..=b'Z' => NameByte::Hashed(byte | 0x20),
        0..=b' ' | b':' | b'/' | 0x7f => NameByte::Special,
        _ => NameByte::Unhashed,
    }
}

/// The header whose name ends with the colon at `colon`.
fn value(buf: &[u8], hash: usize, colon: usize) -> Result<Parsed<Line<'_>>, InvalidHeader> {
    let rest = buf.get(colon + 1..).unwrap_or_default();
    let Some(spaces) = rest.iter().position(|byte| *byte != b' ') else {
        return Ok(Parsed::Partial);
    };
    let start = colon + 1 + spaces;
    let rest = rest.get(spaces..).unwrap_or_default();
    let Some(length) = memchr::memchr3(b'\0', b'\r', b'\n', rest) else {
        return Ok(Parsed::Partial);
    };
    let (text, rest) = rest.split_at_checked(length).unwrap_or_default();
    if rest.starts_with(b"\0") {
        return Err(InvalidHeader { end: start + length, byte: b'\0' });
    }
    let trimmed = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    end_of_header(buf, hash, colon, start..start + trimmed, start + length)
}

/// A header whose name ends at `name_end`, with the value at `value`: is its line complete? `stop`
/// is where the LF is, or the first of any number of CRs before it, which nginx lets stand.
fn end_of_header(
    buf: &[u8],
    hash: usize,
    name_end: usize,
    value: Range<usize>,
    stop: usize,
) -> Result<Parsed<Line<'_>>, InvalidHeader> {
    let rest = buf.get(stop..).unwrap_or_default();
    let Some(crs) = rest.iter().position(|byte| *byte != b'\r') else {
        return Ok(Parsed::Partial);
    };
    if rest.get(crs) != Some(&b'\n') {
        let byte = buf.get(value.end).copied().unwrap_or_default();
        return Err(InvalidHeader { end: value.end, byte });
    }
    let name = buf.get(..name_end).unwrap_or_default();
    let value = buf.get(value).unwrap_or_default();
    Ok(Parsed::Complete(Line::Header(Header { name, value, hash }), stop + crs + 1))
}

/// A CR that begins a line: an LF must follow.
fn end_of_head(buf: &[u8]) -> Result<Parsed<Line<'_>>, InvalidHeader> {
    match buf.get(1) {
        None => Ok(Parsed::Partial),
        Some(b'\n') => Ok(Parsed::Complete(Line::End, 2)),
        Some(_) => Err(InvalidHeader { end: 0, byte: b'\r' }),
    }
}

/// A line that begins with `HTTP/`, up to its LF.
fn ignored(buf: &[u8]) -> Parsed<Line<'_>> {
    match memchr::memchr(b'\n', buf) {
        Some(end) => Parsed::Complete(Line::Ignored, end + 1),
        None => Parsed::Partial,
    }
}
