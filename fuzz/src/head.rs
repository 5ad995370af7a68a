//! The response head against a byte-at-a-time model of the rules of nginx's
//! `ngx_http_parse_status_line` and `ngx_http_parse_header_line`.

use ngx_http_rs_uwsgi_module::pure::uwsgi::head::{self, Header, InvalidHeader, Line, Parsed};

use super::Bytes;

/// A whole head, against httparse: what that takes for a response is the same response here, and ends
/// where it ends there. nginx is more lenient, so nothing follows from what it refuses.
pub fn fuzz(bytes: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut theirs = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(size)) = theirs.parse(bytes) else { return };
    // it skips empty lines before the response
    if bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return;
    }
    let shown = bytes.escape_ascii();
    let Ok(Parsed::Complete(status, taken)) = head::status_line(bytes) else {
        panic!("no status line: {shown}");
    };
    assert_eq!(Some(status.code), theirs.code, "{shown}");
    let (mut headers, mut at) = (theirs.headers.iter(), taken);
    loop {
        let Ok(Parsed::Complete(line, taken)) = head::header_line(&bytes[at..]) else {
            panic!("no header at {at}: {shown}");
        };
        at += taken;
        match line {
            Line::Header(ours) => {
                let header = headers.next().unwrap();
                assert_eq!(ours.name, header.name.as_bytes(), "{shown}");
                // tabs are trimmed there, too
                assert_eq!(ours.value.trim_ascii(), header.value.trim_ascii(), "{shown}");
            }
            Line::End => break,
            Line::Ignored => panic!("ignored at {at}: {shown}"),
        }
    }
    assert_eq!((at, headers.next()), (size, None), "{shown}");
}

/// A status line that may be cut off: the first byte says where.
pub fn fuzz_status_line(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    check_status_line(&bytes[..usize::from(*cut).min(bytes.len())]);
    check_status_line(bytes);
}

/// ServerQueues of a head up to one that is no header; what is left from the beginning of each may be cut
/// off: the first byte says where.
pub fn fuzz_header_lines(input: &[u8]) {
    let Some((cut, mut rest)) = input.split_first() else { return };
    loop {
        check_header_line(&rest[..usize::from(*cut).min(rest.len())]);
        check_header_line(rest);
        match header_outcome(rest) {
            Some((Outcome::Header { .. } | Outcome::Ignored, taken)) => rest = &rest[taken..],
            _ => return,
        }
    }
}

/// What is read of a status line against its model.
pub fn check_status_line(bytes: &[u8]) {
    check(bytes, status_outcome(bytes), model::<StatusModel>(bytes));
}

/// What is read of one line after it against its model.
pub fn check_header_line(bytes: &[u8]) {
    check(bytes, header_outcome(bytes), model::<HeaderModel>(bytes));
}

fn check(line: &[u8], ours: Option<(Outcome, usize)>, model: Option<(Outcome, usize)>) {
    let line = line.escape_ascii();
    match (&ours, &model) {
        // An error takes nothing.
        (Some((ours, 0)), Some((model, _))) => assert_eq!(ours, model, "{line}"),
        _ => assert_eq!(ours, model, "{line}"),
    }
}

/// What one line came to, in owned bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A status line: its code, and its text from the code on.
    Status { code: u16, line: Bytes },
    /// No status line.
    NotAStatusLine,
    /// A header.
    Header { name: Bytes, value: Bytes, hash: usize },
    /// A line that does not count.
    Ignored,
    /// The empty line.
    End,
    /// No header: how far it was right, and the byte there.
    Invalid { end: usize, byte: u8 },
}

/// A line parser that is fed one byte at a time and says when it has made up its mind.
trait Model: Default {
    fn feed(&mut self, at: usize, byte: u8) -> Option<Outcome>;
}

/// The outcome of a line and the bytes it took; None if they are too few to tell.
fn model<M: Model>(bytes: &[u8]) -> Option<(Outcome, usize)> {
    let mut model = M::default();
    let mut feed = |(at, byte): (usize, &u8)| model.feed(at, *byte).map(|out| (out, at + 1));
    bytes.iter().enumerate().find_map(&mut feed)
}

/// `HTTP/<1 to 3 digits>.<digits> <code> <text>`: counts what it has seen of each part.
#[derive(Default)]
struct StatusModel {
    part: usize,
    number: usize,
    digits: Bytes,
    code: u16,
    last: [u8; 2],
    line: Bytes,
}

impl Model for StatusModel {
    fn feed(&mut self, at: usize, byte: u8) -> Option<Outcome> {
        const MAGIC: &[u8] = b"HTTP/";
        const CODE: usize = 2;
        const AFTER_CODE: usize = 3;
        const TEXT: usize = 4;
        const CR: usize = 5;
        if at < MAGIC.len() {
            return (byte != MAGIC[at]).then_some(Outcome::NotAStatusLine);
        }
        let digit = byte.is_ascii_digit();
        let right = match (self.part, byte) {
            // The two parts of the version; only the second may begin with 0.
            (0, b'.') | (1, b' ') if !self.digits.is_empty() => {
                self.part += 1;
                (self.digits, self.number) = (Vec::new(), 0);
                true
            }
            (part @ (0 | 1), _) => {
                let leading_zero = part == 0 && self.digits.is_empty() && byte == b'0';
                let room = self.number < 100;
                self.number = self.number * 10 + usize::from(byte.wrapping_sub(b'0'));
                self.digits.push(byte);
                digit && room && !leading_zero
            }
            (CODE, b' ') => true,
            (CODE, _) => {
                self.digits.push(byte);
                if digit {
                    self.code = self.code * 10 + u16::from(byte - b'0');
                }
                if self.digits.len() == 3 {
                    self.line = [self.last[0], self.last[1], byte].to_vec();
                    self.part = AFTER_CODE;
                }
                digit
            }
            (AFTER_CODE | TEXT, b'\r') => {
                self.part = CR;
                true
            }
            (_, b'\n') => {
                return Some(Outcome::Status { code: self.code, line: self.line.clone() });
            }
            (AFTER_CODE, b' ' | b'.') | (TEXT, _) => {
                self.line.push(byte);
                self.part = TEXT;
                true
            }
            _ => false,
        };
        self.last = [self.last[1], byte];
        (!right).then_some(Outcome::NotAStatusLine)
    }
}

#[derive(Default)]
enum Place {
    #[default]
    Name,
    Value,
    Cr,
    EmptyCr,
    Ignored,
}

/// A line after the status line: collects the name and the value, and holds spaces back until
/// something follows them.
#[derive(Default)]
struct HeaderModel {
    place: Place,
    name: Bytes,
    value: Bytes,
    spaces: usize,
    hash: usize,
    /// Where the value ends, and the byte there: what the log shows if the line goes wrong later.
    end: (usize, u8),
}

impl HeaderModel {
    fn header(&self) -> Option<Outcome> {
        let (name, value) = (self.name.clone(), self.value.clone());
        Some(Outcome::Header { name, value, hash: self.hash })
    }

    fn cr(&mut self, at: usize) -> Option<Outcome> {
        if self.spaces == 0 || self.value.is_empty() {
            self.end = (at, b'\r');
        }
        self.place = Place::Cr;
        None
    }
}

impl Model for HeaderModel {
    fn feed(&mut self, at: usize, byte: u8) -> Option<Outcome> {
        let invalid = Some(Outcome::Invalid { end: at, byte });
        match (&self.place, byte) {
            (Place::Ignored, b'\n') => return Some(Outcome::Ignored),
            (Place::Ignored, _) => {}
            (Place::EmptyCr, b'\n') => return Some(Outcome::End),
            (Place::EmptyCr, _) => return Some(Outcome::Invalid { end: 0, byte: b'\r' }),
            (Place::Cr, b'\r') => {}
            (Place::Cr | Place::Value, b'\n') => return self.header(),
            (Place::Cr, _) => {
                let (end, byte) = self.end;
                return Some(Outcome::Invalid { end, byte });
            }
            (Place::Value, b'\0') => return invalid,
            (Place::Value, b'\r') => return self.cr(at),
            (Place::Value, b' ') => {
                if self.spaces == 0 {
                    self.end = (at, b' ');
                }
                self.spaces += 1;
            }
            (Place::Value, _) => {
                let held = if self.value.is_empty() { 0 } else { self.spaces };
                self.value.extend(vec![b' '; held]);
                self.value.push(byte);
                self.spaces = 0;
            }
            (Place::Name, b'\n') if at == 0 => return Some(Outcome::End),
            (Place::Name, b'\r') if at == 0 => self.place = Place::EmptyCr,
            (Place::Name, b':') if at == 0 => return invalid,
            (Place::Name, b'\n') => return self.header(),
            (Place::Name, b'\r') => return self.cr(at),
            (Place::Name, b':') => self.place = Place::Value,
            (Place::Name, b'/') if self.name == b"HTTP" => self.place = Place::Ignored,
            (Place::Name, b'\0'..=b' ' | 0x7f) => return invalid,
            (Place::Name, _) => {
                self.name.push(byte);
                if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                    let lowered = usize::from(byte.to_ascii_lowercase());
                    self.hash = self.hash.wrapping_mul(31).wrapping_add(lowered);
                }
            }
        }
        None
    }
}

/// What the module reads, and how many bytes of it; None if they are too few to tell.
pub fn status_outcome(bytes: &[u8]) -> Option<(Outcome, usize)> {
    match head::status_line(bytes) {
        Ok(Parsed::Complete(status, taken)) => {
            let line = status.line.to_vec();
            Some((Outcome::Status { code: status.code, line }, taken))
        }
        Ok(Parsed::Partial) => None,
        Err(head::NotAStatusLine) => Some((Outcome::NotAStatusLine, 0)),
    }
}

/// The same for one line after the status line.
pub fn header_outcome(bytes: &[u8]) -> Option<(Outcome, usize)> {
    match head::header_line(bytes) {
        Ok(Parsed::Complete(line, taken)) => {
            let outcome = match line {
                Line::Header(Header { name, value, hash }) => {
                    Outcome::Header { name: name.to_vec(), value: value.to_vec(), hash }
                }
                Line::End => Outcome::End,
                Line::Ignored => Outcome::Ignored,
            };
            Some((outcome, taken))
        }
        Ok(Parsed::Partial) => None,
        Err(InvalidHeader { end, byte }) => Some((Outcome::Invalid { end, byte }, 0)),
    }
}
