//! The parser of plain headers against the one of any line.

use ngx_http_rs_uwsgi_module::pure::uwsgi::head::plain::Names;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::plain::{check_known, KNOWN};
use crate::Bytes;

/// A header that is plain, or nearly: a name that nginx knows or another one, in any case.
fn nearly_plain_header() -> impl Strategy<Value = Bytes> {
    let name = prop_oneof![
        proptest::sample::select(&KNOWN[..]).prop_map(Bytes::from),
        "[A-Za-z0-9-]{1,30}".prop_map(Bytes::from),
        "[A-Za-z0-9_-]{60,70}".prop_map(Bytes::from),
    ];
    let value = prop_oneof![4 => "[ -~]{0,40}", 1 => "[ \\t-~\u{80}-\u{ff}]{0,20}"];
    let colon = proptest::sample::select(&[":", ": ", ": ", ": ", ":  "][..]);
    let end = proptest::sample::select(&["\r\n", "\r\n", "\r\n", "\n", "\r\r\n"][..]);
    let change = prop_oneof![
        3 => Just(None),
        1 => (any::<proptest::sample::Index>(), any::<u8>()).prop_map(Some),
    ];
    (name, any::<u64>(), colon, value, end, change).prop_map(
        |(mut name, capitals, colon, value, end, change)| {
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
        let mut head = headers.concat();
        head.extend(b"\r\n");
        head.extend(after);
        let mut rest = &head[..];
        for header in &headers {
            check_known(rest);
            rest = &rest[header.len()..];
        }
        check_known(rest);
        // the last bytes are read in another way, and what is not there yet must not count
        for end in head.len().saturating_sub(70)..head.len() {
            check_known(&head[..end]);
        }
    }
}

/// Every name that nginx knows, and a longer one, with every byte in place of each of its own.
#[test]
fn names_with_another_byte_are_read_as_by_the_line_parser() {
    for name in KNOWN.into_iter().chain([&b"cross-origin-opener-policy"[..]]) {
        for at in 0..name.len() {
            for byte in 0..=u8::MAX {
                let mut line = [name, b": value\r\n\r\n"].concat();
                line[at] = byte;
                check_known(&line);
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

/// A line that differs from one that was read before, in any byte or in where it ends, is read as what it is.
#[test]
fn lines_that_differ_from_those_before() {
    for length in [1, 2, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 55, 56, 57, 80] {
        let line = [&b"Vary: "[..], &vec![b'v'; length], b"\r\n"].concat();
        let head = [&line[..], b"Date: now\r\n\r\n", &[b'x'; 80]].concat();
        for at in 0..line.len() {
            for byte in [b'w', b':', b' ', b'\0', b'\r', b'\n'] {
                (0..9).for_each(|_| check_known(&head));
                let mut other = head.clone();
                other[at] = byte;
                check_known(&other);
            }
        }
        for end in 0..head.len() {
            (0..9).for_each(|_| check_known(&head));
            check_known(&head[..end]);
        }
    }
}
