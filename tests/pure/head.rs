//! The response head against a byte-at-a-time model of the rules of nginx's
//! `ngx_http_parse_status_line` and `ngx_http_parse_header_line`.

use ngx_http_rs_uwsgi_module::pure::uwsgi::head;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::head::{
    check_header_line, check_status_line, header_outcome, status_outcome, Outcome,
};
use crate::fuzz::plain::check_known;
use crate::mutated::mutated;
use crate::Bytes;

/// Both parsers against their models, at every prefix of every line of the head: so a decision
/// comes with the byte that decides it, and stays.
fn check_head(bytes: &[u8]) {
    (0..=bytes.len()).for_each(|end| check_status_line(&bytes[..end]));
    let mut rest = match status_outcome(bytes) {
        Some((_, taken)) => &bytes[taken..],
        None => bytes,
    };
    loop {
        for end in 0..=rest.len() {
            check_header_line(&rest[..end]);
            check_known(&rest[..end]);
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
