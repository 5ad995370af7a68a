//! Where a response ends: what lets a connection carry another request, and what does not. The
//! client gets what it gets from stock, but for chunks, which stock does not decode.

use super::{Site, Visit, GET, KEPT, PARKED};
use crate::prelude::*;

pub const SURPLUS: &str = "bytes came after the response";
pub const UNCERTAIN: &str = "the end of the response is uncertain";
pub const SILENT: &str = "the server did not say keep-alive";
pub const SAID_CLOSE: &str = "the server said close";
pub const FAILED: &str = "it failed or was closed";

/// A response of the server, what becomes of its connection, status and body for the client.
pub type Row = (&'static str, &'static [u8], &'static str, u16, &'static str);

/// A `200 OK` that says keep-alive, with these header lines and body.
macro_rules! kept {
    ($rest:literal) => {
        concat!("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", $rest).as_bytes()
    };
}
pub(super) use kept;

const WHOLE: &[Row] = &[
    ("Content-Length", KEPT, PARKED, 200, "ok"),
    ("Content-Length 0", kept!("Content-Length: 0\r\n\r\n"), PARKED, 200, ""),
    ("leading zeros", kept!("Content-Length: 0002\r\n\r\nok"), PARKED, 200, "ok"),
    ("204", b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n", PARKED, 204, ""),
    ("304", b"HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n", PARKED, 304, ""),
    (
        "CGI",
        b"Status: 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
    ("no status", b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok", PARKED, 200, "ok"),
    (
        "404",
        b"HTTP/1.1 404 No\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nno",
        PARKED,
        404,
        "no",
    ),
    (
        "500",
        b"HTTP/1.1 500 No\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nno",
        PARKED,
        500,
        "no",
    ),
    (
        "capitals, and among other words",
        b"HTTP/1.1 200 OK\r\nCONNECTION: x , Keep-Alive\r\ncontent-length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
    (
        "HTTP/2.0, which uWSGI echoes",
        b"HTTP/2.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
    (
        "HTTP/1.0 that says keep-alive",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
];

/// The interim ones are consumed; stock takes the first for the final one.
const INTERIM: &[Row] = &[
    (
        "103 first",
        b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
    (
        "100 that says close, and 103",
        b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\nHTTP/1.1 103 E\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        PARKED,
        200,
        "ok",
    ),
    (
        "100 that says keep-alive for the final one",
        b"HTTP/1.1 100 Continue\r\nConnection: keep-alive\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        SILENT,
        200,
        "ok",
    ),
];

/// Complete responses whose connection must not be used again.
const CLOSED: &[Row] = &[
    ("said nothing", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SILENT, 200, "ok"),
    ("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", SILENT, 200, "ok"),
    ("other words", b"HTTP/1.1 200 OK\r\nConnection: keep-alives\r\nContent-Length: 2\r\n\r\nok", SILENT, 200, "ok"),
    ("close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", SAID_CLOSE, 200, "ok"),
    (
        "both",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok",
        SAID_CLOSE,
        200,
        "ok",
    ),
    (
        "both, the other way round",
        b"HTTP/1.1 200 OK\r\nConnection: close, keep-alive\r\nContent-Length: 2\r\n\r\nok",
        SAID_CLOSE,
        200,
        "ok",
    ),
    (
        "both, in two headers",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok",
        SAID_CLOSE,
        200,
        "ok",
    ),
    ("204 that says close", b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", SAID_CLOSE, 204, ""),
    ("surplus", kept!("Content-Length: 2\r\n\r\nokx"), SURPLUS, 200, "ok"),
    ("surplus after nothing", kept!("Content-Length: 0\r\n\r\nx"), SURPLUS, 200, ""),
    (
        "a second response",
        kept!("Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        SURPLUS,
        200,
        "ok",
    ),
    ("204 with a body", b"HTTP/1.1 204 No\r\nConnection: keep-alive\r\n\r\nbody", SURPLUS, 204, ""),
    (
        "304 with the length of what it did not send",
        b"HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
        UNCERTAIN,
        304,
        "",
    ),
    (
        "204 with a body that has a length",
        b"HTTP/1.1 204 No\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
        UNCERTAIN,
        204,
        "",
    ),
    ("304 with a body", b"HTTP/1.1 304 No\r\nConnection: keep-alive\r\n\r\nbody", SURPLUS, 304, ""),
    (
        "304 with a body that has a length",
        b"HTTP/1.1 304 No\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
        UNCERTAIN,
        304,
        "",
    ),
];

/// Headers that are no length, or contradict each other. What the client gets differs between
/// versions of nginx, and is what stock gives it.
const DOUBTFUL: &[(&str, &[u8])] = &[
    ("twice the same", kept!("Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")),
    ("disagreeing", kept!("Content-Length: 2\r\nContent-Length: 3\r\n\r\nok")),
    ("disagreeing, the larger first", kept!("Content-Length: 3\r\nContent-Length: 2\r\n\r\nok")),
    ("a list", kept!("Content-Length: 2, 2\r\n\r\nok")),
    ("huge", kept!("Content-Length: 99999999999999999999\r\n\r\nok")),
    ("2^64 + 2", kept!("Content-Length: 18446744073709551618\r\n\r\nok")),
    ("negative", kept!("Content-Length: -2\r\n\r\nok")),
    ("a sign", kept!("Content-Length: +2\r\n\r\nok")),
    ("a space inside", kept!("Content-Length: 2 2\r\n\r\nok")),
    ("hexadecimal", kept!("Content-Length: 0x2\r\n\r\nok")),
    ("a word", kept!("Content-Length: two\r\n\r\nok")),
    ("empty", kept!("Content-Length:\r\n\r\nok")),
    ("a tab", kept!("Content-Length: 2\t\r\n\r\nok")),
    ("gzip", kept!("Transfer-Encoding: gzip\r\n\r\nok")),
    ("gzip and a length", kept!("Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok")),
    ("identity and a length", kept!("Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok")),
    ("gzip, chunked", kept!("Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
    ("no length", kept!("X-A: b\r\n\r\nok")),
];

pub fn check(site: &Site, buffering: &str, row: &Row) -> Visit {
    let (name, bytes, verdict, status, body) = *row;
    site.answers.set_bytes(bytes);
    let visit = site.visit(GET);
    let about = format!("{name}, {buffering}: {visit:#?}");
    assert_eq!((visit.response.status, visit.response.text().as_str()), (status, body), "{about}");
    assert_ne!(visit.response.end, End::Cut, "{about}");
    assert_eq!(visit.verdict, verdict, "{about}");
    // a body where none may be is one of the doubts, and there may be a line about it
    let warnings =
        usize::from(verdict == SURPLUS)..=usize::from([SURPLUS, UNCERTAIN].contains(&verdict));
    assert!(warnings.contains(&visit.log.len()), "{about}");
    assert!(visit.log.iter().all(|line| line.starts_with("[warn] ")), "{about}");
    let next = site.next_connection();
    assert_eq!(next == visit.connection, verdict == PARKED, "{about}, then on connection {next}");
    visit
}

fn same_as_stock(site: &Site, name: &str, visit: &Visit, answer: &[u8]) {
    site.answers.set_bytes(answer);
    let stock = exchange(site.nginx.address_of(0, [127, 0, 0, 2]), GET);
    let parts = |response: &Response| (response.undated(), response.text(), response.end);
    assert_eq!(parts(&stock), parts(&visit.response), "{name} (left stock, right ours)");
}

pub fn each_buffering(run: impl Fn(&Site, &str)) {
    for buffering in ["on", "off"] {
        run(&Site::new(&format!("rs_uwsgi_buffering {buffering};")), buffering);
    }
}

#[test]
fn responses_that_end() {
    each_buffering(|site, buffering| {
        for row in WHOLE {
            let visit = check(site, buffering, row);
            same_as_stock(site, row.0, &visit, row.1);
        }
        for row in INTERIM {
            check(site, buffering, row);
        }
    });
}

#[test]
fn responses_after_which_nothing_follows() {
    each_buffering(|site, buffering| {
        for row in CLOSED {
            let visit = check(site, buffering, row);
            same_as_stock(site, row.0, &visit, row.1);
        }
    });
}

#[test]
fn headers_that_leave_the_end_in_doubt() {
    each_buffering(|site, buffering| {
        for (name, bytes) in DOUBTFUL {
            // the server closes: many of these end by that alone
            let answer = bytes.to_vec();
            site.answers.set(move |peer, _| {
                peer.write(&answer)?;
                peer.half_close()
            });
            let visit = site.visit(GET);
            assert_ne!(visit.verdict, PARKED, "{name}, {buffering}: {visit:#?}");
            let next = site.next_connection();
            assert_ne!(next, visit.connection, "{name}, {buffering}");

            let answer = bytes.to_vec();
            site.answers.set(move |peer, _| {
                peer.write(&answer)?;
                peer.half_close()
            });
            let stock = exchange(site.nginx.address_of(0, [127, 0, 0, 2]), GET);
            let ours = &visit.response;
            if *name != "gzip, chunked" {
                assert_eq!(
                    (stock.undated(), stock.text(), stock.end),
                    (ours.undated(), ours.text(), ours.end),
                    "{name}, {buffering} (left stock, right ours)"
                );
            }
        }
    });
}

#[test]
fn nothing_but_the_doubt_refuses() {
    // nginx takes a length from each, and the server does not close.
    let rows: &[(&str, &[u8])] = &[
        ("twice the same", kept!("Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")),
        ("identity", kept!("Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok")),
        ("gzip", kept!("Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok")),
    ];
    each_buffering(|site, buffering| {
        for (name, bytes) in rows {
            site.answers.set_bytes(bytes);
            let visit = site.visit(GET);
            // nginx from 1.23 on refuses the first with 502
            let expected = if visit.response.status == 502 { FAILED } else { UNCERTAIN };
            assert_eq!(visit.verdict, expected, "{name}, {buffering}: {visit:#?}");
            assert_ne!(site.next_connection(), visit.connection, "{name}, {buffering}");
        }
    });
}
