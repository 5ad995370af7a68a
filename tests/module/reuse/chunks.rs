//! Chunked responses: decoded, and followed by another request on the connection where they ended.

use super::framing::{
    check, each_buffering, kept, Row, FAILED, SAID_CLOSE, SILENT, SURPLUS, UNCERTAIN,
};
use super::{Site, GET, PARKED};
use crate::prelude::*;

const CHUNKED: &[Row] = &[
    ("chunks", kept!("Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), PARKED, 200, "ok"),
    ("no data", kept!("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), PARKED, 200, ""),
    (
        "extensions and trailers",
        kept!("Transfer-Encoding: chunked\r\n\r\n0002;a=\"b\"\r\nok\r\n000;c\r\nX-A: b\r\nX-B: c\r\n\r\n"),
        PARKED,
        200,
        "ok",
    ),
    ("capitals", kept!("transfer-encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"), PARKED, 200, "0123456789"),
    (
        "surplus",
        kept!("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx"),
        SURPLUS,
        200,
        "ok",
    ),
    (
        "said nothing",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        SILENT,
        200,
        "ok",
    ),
    (
        "said close",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        SAID_CLOSE,
        200,
        "ok",
    ),
];

#[test]
fn chunked_responses() {
    each_buffering(|site, buffering| {
        for row in CHUNKED {
            check(site, buffering, row);
        }
    });
}

#[test]
fn a_length_beside_the_chunks() {
    let rows: [&[u8]; 2] = [
        kept!("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        kept!("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ];
    each_buffering(|site, buffering| {
        for answer in rows {
            site.answers.set_bytes(answer);
            let visit = site.visit(GET);
            // nginx from 1.23 on refuses them, in stock's locations as well
            let stock = exchange(site.nginx.address_of(0, [127, 0, 0, 2]), GET);
            assert_eq!(visit.response.status, stock.status, "{buffering}");
            let refused = visit.response.status == 502;
            assert!(refused || visit.response.text() == "ok", "{buffering}: {visit:#?}");
            let verdict = if refused { FAILED } else { UNCERTAIN };
            assert_eq!(visit.verdict, verdict, "{buffering}");
            assert_ne!(site.next_connection(), visit.connection, "{buffering}");
        }
    });
}

const NOT_ENDED: &str = "the response was not read to its end";

const CHUNKED_HEAD: &[u8] = kept!("Transfer-Encoding: chunked\r\n\r\n");

/// What is no chunked body.
const MALFORMED: &[(&str, &[u8])] = &[
    ("no digit", b"x\r\nok\r\n0\r\n\r\n"),
    ("no size", b"\r\nok\r\n0\r\n\r\n"),
    ("negative", b"-2\r\nok\r\n0\r\n\r\n"),
    ("a sign", b"+2\r\nok\r\n0\r\n\r\n"),
    ("a prefix", b"0x2\r\nok\r\n0\r\n\r\n"),
    ("a space first", b" 2\r\nok\r\n0\r\n\r\n"),
    ("2^63", b"8000000000000000\r\nok"),
    ("2^64 + 2", b"10000000000000002\r\nok\r\n0\r\n\r\n"),
    ("many digits", b"ffffffffffffffffffffffffffffffff\r\nok"),
    ("longer than it says", b"1\r\nok\r\n0\r\n\r\n"),
    ("shorter than it says", b"3\r\nok\r\n0\r\n\r\n"),
    ("LF alone", b"2\nok\n0\n\n"),
    ("LF alone in trailers", b"2\r\nok\r\n0\r\nX-A: b\n\r\n\r\n"),
    ("CR alone", b"2\rxok\r\n0\r\n\r\n"),
    ("no end of the last chunk", b"2\r\nok\r\n0\r\n\rx"),
];

#[test]
fn malformed_chunks() {
    each_buffering(|site, buffering| {
        let endless = |start: &[u8]| [start, &[b'x'; 20_000]].concat();
        let rows = MALFORMED.iter().map(|(name, bytes)| (*name, bytes.to_vec())).chain([
            ("an endless extension", endless(b"2;")),
            ("endless zeros", vec![b'0'; 20_000]),
            ("an endless trailer", endless(b"2\r\nok\r\n0\r\nX-A: ")),
            ("endless trailers", [b"0\r\n".as_slice(), &b"X-A: b\r\n".repeat(3000)].concat()),
        ]);
        for (name, body) in rows {
            site.answers.set(move |peer, _| {
                peer.write(CHUNKED_HEAD)?;
                std::thread::sleep(PAUSE);
                // fails where nginx has closed at the first byte that cannot be
                peer.write(&body)
            });
            let before = site.verdicts().len();
            let logged = site.log().len();
            let mut client = Client::connect(site.address());
            client.send(GET);
            let response = client.response(false);
            // the client can tell: no last chunk comes
            let complete = response.as_ref().is_ok_and(|response| response.end != End::Cut);
            assert!(!complete, "{name}, {buffering}: {response:#?}");
            assert_eq!(site.wait_verdict(before), NOT_ENDED, "{name}, {buffering}");
            let log = site.log().split_off(logged);
            assert_eq!(log.len(), 1, "{name}, {buffering}: {log:?}");
            assert!(log[0].starts_with("[error] upstream sent invalid chunked"), "{name}: {log:?}");
            let requests = site.backend.requests();
            let next = site.next_connection();
            assert_ne!(next, requests.last().unwrap().connection, "{name}, {buffering}");
        }
    });
}

#[test]
fn chunks_in_every_piece() {
    const WHOLE: &[u8] =
        b"3;a=b\r\nabc\r\n00a\r\n0123456789\r\n1\r\n-\r\n0\r\nX-Trailer: b\r\n\r\n";
    each_buffering(|site, buffering| {
        for size in [1, 2, 3, 5, 7] {
            site.answers.set(move |peer, _| {
                peer.write(CHUNKED_HEAD)?;
                peer.write_pieces(WHOLE, size, Duration::from_millis(1))
            });
            let visit = site.visit(GET);
            assert_eq!(visit.response.text(), "abc0123456789-", "{size}, {buffering}");
            assert_eq!(visit.response.end, End::Chunked, "{size}, {buffering}");
            assert_eq!(visit.verdict, PARKED, "{size}, {buffering}");
            assert_eq!(site.next_connection(), visit.connection, "{size}, {buffering}");
        }
    });
}

#[test]
fn many_chunks_of_megabytes() {
    // 3 MB in chunks of 1 to 40,000 bytes: more than all buffers, so that files are written
    let sizes = (0..150_usize).map(|i| 1 + i * 7919 % 40_000);
    let (mut framed, mut data) = (CHUNKED_HEAD.to_vec(), Vec::new());
    for (i, size) in sizes.enumerate() {
        let chunk: Vec<u8> = (0..size).map(|at| (at * 31 + i) as u8).collect();
        framed.extend(format!("{size:x}\r\n").as_bytes());
        framed.extend(&chunk);
        framed.extend(b"\r\n");
        data.extend(chunk);
    }
    framed.extend(b"0\r\n\r\n");
    each_buffering(|site, buffering| {
        site.answers.set_bytes(&framed);
        for _ in 0..3 {
            let visit = site.visit(GET);
            assert!(
                visit.response.body == data,
                "{buffering}: {} bytes",
                visit.response.body.len()
            );
            assert_eq!((visit.verdict.as_str(), visit.connection), (PARKED, 0), "{buffering}");
        }
    });
}

/// A response that the server does not finish.
const CUT: &[(&str, &[u8])] = &[
    ("a length", kept!("Content-Length: 10\r\n\r\nhello")),
    ("a length, no body", kept!("Content-Length: 10\r\n\r\n")),
    ("in a chunk", kept!("Transfer-Encoding: chunked\r\n\r\na\r\nhello")),
    ("after a chunk", kept!("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")),
    ("no last line", kept!("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")),
    ("no chunk", kept!("Transfer-Encoding: chunked\r\n\r\n")),
];

#[test]
fn responses_cut_short() {
    for settings in ["", "rs_uwsgi_buffering off;", "rs_uwsgi_cache z; rs_uwsgi_cache_key k;"] {
        let site = Site::builder()
            .visits()
            .http("rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;")
            .server(&format!(
                "{settings} rs_uwsgi_cache_valid 1h; location / {{ rs_uwsgi_pass @pass@; }}"
            ))
            .start();
        for (name, answer) in CUT {
            let about = format!("{name}, {settings:?}");
            site.answers.set(move |peer, _| {
                peer.write(answer)?;
                std::thread::sleep(PAUSE);
                peer.half_close()
            });
            let visit = site.visit(GET);
            assert_eq!((visit.response.status, visit.response.end), (200, End::Cut), "{about}");
            assert_eq!(visit.log.len(), 1, "{about}: {:?}", visit.log);
            assert!(
                visit.log[0].starts_with("[error] upstream prematurely closed connection"),
                "{about}: {:?}",
                visit.log
            );
            assert_eq!(visit.verdict, FAILED, "{about}");
            // had it been stored, this would not come to the server
            site.answers.set_bytes(kept!("Cache-Control: no-store\r\nContent-Length: 2\r\n\r\nok"));
            let next = site.visit(GET);
            assert_eq!(next.response.text(), "ok", "{about}");
            assert_ne!(next.connection, visit.connection, "{about}");
        }
    }
}
