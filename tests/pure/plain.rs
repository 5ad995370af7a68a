//! The parser of plain headers against the one of any line.

use ngx_http_rs_uwsgi_module::uwsgi::head::plain::{self, Names};
use ngx_http_rs_uwsgi_module::uwsgi::head::{self, Line, Parsed};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::Bytes;

/// The headers of responses that nginx acts on, in lower case.
const KNOWN: [&str; 27] = [
    "status",
    "content-type",
    "content-length",
    "date",
    "last-modified",
    "etag",
    "server",
    "www-authenticate",
    "location",
    "refresh",
    "set-cookie",
    "content-disposition",
    "cache-control",
    "expires",
    "accept-ranges",
    "content-range",
    "connection",
    "keep-alive",
    "vary",
    "link",
    "x-accel-expires",
    "x-accel-redirect",
    "x-accel-limit-rate",
    "x-accel-buffering",
    "x-accel-charset",
    "transfer-encoding",
    "content-encoding",
];

/// All of them, each with its place.
pub fn known_names() -> Names<usize> {
    Names::new(KNOWN.iter().enumerate().map(|(place, name)| (name.as_bytes(), place))).unwrap()
}

/// Is there a line at the beginning that the parser of plain headers must not leave out?
fn is_plain(bytes: &[u8]) -> bool {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let line = lines.next().and_then(|line| line.strip_suffix(b"\n"));
    let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let parts = line.and_then(|line| {
        line.iter().position(|byte| *byte == b':').map(|colon| (&line[..colon], &line[colon + 1..]))
    });
    let Some((name, value)) = parts else { return false };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    (1..64).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && value.iter().all(|byte| (b' '..0x80).contains(byte))
        && value.trim_ascii() == value
}

/// A plain header against what is read of any line: the same, or it is no plain header.
pub fn check_plain(bytes: &[u8], names: &Names<usize>) {
    let shown = bytes.escape_ascii();
    let Some(field) = plain::read(bytes, names) else {
        assert!(!is_plain(bytes), "left out: {shown}");
        return;
    };
    let Ok(Parsed::Complete(Line::Header(header), taken)) = head::header_line(bytes) else {
        panic!("taken for a header: {shown}");
    };
    assert_eq!(field.name_in(bytes), header.name, "{shown}");
    assert_eq!(field.value_in(bytes), header.value, "{shown}");
    assert_eq!((field.size, field.hash), (taken, header.hash), "{shown}");
    assert!(field.colon < field.value && field.end < taken, "{shown}");
    let name = String::from_utf8(header.name.to_ascii_lowercase()).unwrap();
    assert_eq!(
        field.known.map(|name| (name.lowered(), *name.stands_for())),
        KNOWN.iter().position(|known| *known == name).map(|place| (name.as_bytes(), place)),
        "{shown}"
    );
}

/// A header that is plain, or nearly: a name that nginx knows or another one, in any case.
fn nearly_plain_header() -> impl Strategy<Value = Bytes> {
    let name = prop_oneof![
        proptest::sample::select(&KNOWN[..]).prop_map(String::from),
        "[A-Za-z0-9-]{1,30}",
        "[A-Za-z0-9_-]{60,70}",
    ];
    let value = prop_oneof![4 => "[ -~]{0,40}", 1 => "[ \\t-~\u{80}-\u{ff}]{0,20}"];
    let colon = proptest::sample::select(&[":", ": ", ": ", ": ", ":  "][..]);
    let end = proptest::sample::select(&["\r\n", "\r\n", "\r\n", "\n", "\r\r\n"][..]);
    let change = prop_oneof![
        3 => Just(None),
        1 => (any::<proptest::sample::Index>(), any::<u8>()).prop_map(Some),
    ];
    (name, any::<u64>(), colon, value, end, change).prop_map(
        |(name, capitals, colon, value, end, change)| {
            let mut name = name.into_bytes();
            for (at, byte) in name.iter_mut().enumerate() {
                if capitals >> (at % 64) & 1 == 1 {
                    byte.make_ascii_uppercase();
                }
            }
            let mut line = [&name[..], colon.as_bytes(), value.as_bytes(), end.as_bytes()].concat();
            if let Some((index, byte)) = change {
                let at = index.index(line.len());
                line[at] = byte;
            }
            line
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn plain_headers_are_those_of_the_line_parser(
        headers in vec(nearly_plain_header(), 0..20),
        after in vec(any::<u8>(), 0..20),
    ) {
        let names = known_names();
        let mut head = headers.concat();
        head.extend(b"\r\n");
        head.extend(after);
        let mut rest = &head[..];
        for header in &headers {
            check_plain(rest, &names);
            rest = &rest[header.len()..];
        }
        check_plain(rest, &names);
        // the last bytes are read in another way, and what is not there yet must not count
        for end in head.len().saturating_sub(70)..head.len() {
            check_plain(&head[..end], &names);
        }
    }
}

/// Every name that nginx knows, and a longer one, with every byte in place of each of its own.
#[test]
fn names_with_another_byte_are_read_as_by_the_line_parser() {
    let names = known_names();
    for name in KNOWN.into_iter().chain(["cross-origin-opener-policy"]) {
        for at in 0..name.len() {
            for byte in 0..=u8::MAX {
                let mut line = format!("{name}: value\r\n\r\n").into_bytes();
                line[at] = byte;
                check_plain(&line, &names);
            }
        }
    }
}

#[test]
fn names_that_cannot_be_told_apart_make_no_table() {
    let names =
        |names: &[&str]| Names::new(names.iter().map(|name| (name.as_bytes(), ()))).is_some();
    assert!(names(&[]));
    assert!(names(&["a", "b", "content-length", "abcdefghijklmnopqrstuvwx"]));
    for odd in ["", "Date", "a_b", "a b", "h\u{e9}", "abcdefghijklmnopqrstuvwxy"] {
        assert!(!names(&["a", odd]), "{odd:?}");
    }
    assert!(!names(&["vary", "vary"]));
}
