//! The response head against a byte-at-a-time model of the rules of nginx's
//! `ngx_http_parse_status_line` and `ngx_http_parse_header_line`.

use ngx_http_rs_uwsgi_module::uwsgi::head::{self, Header, InvalidHeader, Line, Parsed};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::mutated::mutated;
use crate::plain::{check_plain, known_names};
use crate::Bytes;

/// What one line came to, in owned bytes.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Status { code: u16, line: Bytes },
    NotAStatusLine,
    Header { name: Bytes, value: Bytes, hash: usize },
    Ignored,
    End,
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

fn status_outcome(bytes: &[u8]) -> Option<(Outcome, usize)> {
    match head::status_line(bytes) {
        Ok(Parsed::Complete(status, taken)) => {
            let line = status.line.to_vec();
            Some((Outcome::Status { code: status.code, line }, taken))
        }
        Ok(Parsed::Partial) => None,
        Err(head::NotAStatusLine) => Some((Outcome::NotAStatusLine, 0)),
    }
}

fn header_outcome(bytes: &[u8]) -> Option<(Outcome, usize)> {
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

/// Both parsers against their models, at every prefix of every line of the head: so a decision
/// comes with the byte that decides it, and stays.
fn check_head(bytes: &[u8]) {
    let check = |line: &[u8], ours: Option<(Outcome, usize)>, model: Option<(Outcome, usize)>| {
        let line = line.escape_ascii();
        match (&ours, &model) {
            // An error takes nothing.
            (Some((ours, 0)), Some((model, _))) => assert_eq!(ours, model, "{line}"),
            _ => assert_eq!(ours, model, "{line}"),
        }
    };
    for end in 0..=bytes.len() {
        let prefix = &bytes[..end];
        check(prefix, status_outcome(prefix), model::<StatusModel>(prefix));
    }
    let mut rest = match status_outcome(bytes) {
        Some((_, taken)) => &bytes[taken..],
        None => bytes,
    };
    let names = known_names();
    loop {
        for end in 0..=rest.len() {
            let prefix = &rest[..end];
            check(prefix, header_outcome(prefix), model::<HeaderModel>(prefix));
            check_plain(prefix, &names);
        }
        match header_outcome(rest) {
            Some((Outcome::Header { .. } | Outcome::Ignored, taken)) => rest = &rest[taken..],
            _ => return,
        }
    }
}

const HEADS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n",
    "HTTP/2.0 404 Not Found\nSet-Cookie: a=1; b\nSet-Cookie:c=2\n\n<html>",
    "HTTP/1.0 403.1 Forbidden\r\nHTTP/1.1 403 Forbidden\r\nX: y \r\n\r\n",
    "Status: 302 Found\r\nLocation: /here  there \r\r\n\r\n",
    "HTTP/1.1  2 0 0\r\nno colon\r\n",
    "HTTP/12.034 999\nX-Odd!(name): \t value\t\r\n: \n",
    "HTTP/1.1 200 OK\rX\r\n",
    "Odd\r\nEmpty:\r\nBlank:   \r\nNul: \0\r\n",
];

/// Bytes that mean something somewhere in a head, more often than any others.
fn head_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        6 => proptest::sample::select(&b"\r\n\r\n :: /.HTP019-_aZ\t\0\x7f\x80\xff!@[`{"[..]),
        1 => any::<u8>(),
    ]
}

/// A head that is right, or nearly.
fn known_head() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(HEADS).prop_map(Bytes::from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_heads_are_read_as_by_the_model(head in mutated(known_head(), head_byte())) {
        check_head(&head);
    }

    #[test]
    fn random_heads_are_read_as_by_the_model(head in vec(head_byte(), 0..60)) {
        check_head(&head);
    }
}

#[test]
fn a_cgi_status_is_its_first_three_digits() {
    for (value, code) in [("200", 200), ("404 Not Found", 404), ("000", 0), ("99999", 999)] {
        assert_eq!(head::cgi_status(value.as_bytes()), Some(code), "{value:?}");
    }
    for value in ["", "2", "20", "20 ", " 200", "2x0", "-20", "+200", "2\0 0", "OK", "/00", ":00"] {
        assert_eq!(head::cgi_status(value.as_bytes()), None, "{value:?}");
    }
}

#[test]
fn known_heads_are_read_as_by_the_model() {
    HEADS.iter().for_each(|head| check_head(head.as_bytes()));
}

/// The rules in plain words, so that the model cannot be wrong along with the parser.
#[test]
fn lines_mean_what_nginx_takes_them_for() {
    let header = |name: &str, value: &str| {
        let hash = name.bytes().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        let hash = hash.fold(0_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.to_ascii_lowercase().into())
        });
        Outcome::Header { name: name.into(), value: value.into(), hash }
    };
    let status = |code, line: &str| Outcome::Status { code, line: line.into() };
    let invalid = |end, byte| Outcome::Invalid { end, byte };
    let headers = [
        ("Content-Type: text/html\r\n", header("Content-Type", "text/html")),
        ("A:  b c  \n", header("A", "b c")),
        ("A:\tb\t\n", header("A", "\tb\t")),
        ("A: b\r\r\r\n", header("A", "b")),
        ("Lonely\r\n", header("Lonely", "")),
        ("We(ird: x\r\n", header("We(ird", "x")),
        ("HTTP/1.1 200 OK\r\n", Outcome::Ignored),
        ("http/1.1: x\n", header("http/1.1", "x")),
        ("\r\n", Outcome::End),
        ("\n", Outcome::End),
        ("\rA", invalid(0, b'\r')),
        (":", invalid(0, b':')),
        (" ", invalid(0, b' ')),
        ("A b", invalid(1, b' ')),
        ("A\x7f", invalid(1, 0x7f)),
        ("A: b\0", invalid(4, 0)),
        ("A: b\rc", invalid(4, b'\r')),
        ("A: b  \rc", invalid(4, b' ')),
    ];
    for (line, expected) in headers {
        assert_eq!(header_outcome(line.as_bytes()).unwrap().0, expected, "{line:?}");
    }
    let statuses = [
        ("HTTP/1.1 200 OK\r\n", status(200, "200 OK")),
        ("HTTP/2.0 204\n", status(204, "204")),
        ("HTTP/1.0   403.14 No\r\n", status(403, "403.14 No")),
        ("HTTP/1.1 200OK", Outcome::NotAStatusLine),
        ("HTTP/1 200 OK", Outcome::NotAStatusLine),
        ("HTTP/0", Outcome::NotAStatusLine),
        ("HTTP/1.1 20x", Outcome::NotAStatusLine),
        ("http", Outcome::NotAStatusLine),
    ];
    for (line, expected) in statuses {
        assert_eq!(status_outcome(line.as_bytes()).unwrap().0, expected, "{line:?}");
    }
}
