//! 1xx responses before the final one. Ours consumes them, an intended difference: stock takes the
//! first of them for the final response.

use super::{everything, pair, same, GET, OK};
use crate::prelude::*;

const FINAL: &str = "HTTP/1.1 200 OK\r\nX-Of: final\r\nContent-Length: 5\r\n\r\nhello";

/// A row: what comes first, the final head and body, and the status, body and header X-Of that the
/// client must get.
type Row<'a> = (&'a str, &'a str, u16, &'a str, Option<&'a str>);

const ROWS: &[Row] = &[
    ("HTTP/1.1 100 Continue\r\n\r\n", FINAL, 200, "hello", Some("final")),
    ("HTTP/1.1 102 Processing\r\nX-Of: 102\r\n\r\n", FINAL, 200, "hello", Some("final")),
    ("HTTP/1.1 199 Odd\r\nX-A: b\r\n\r\n", FINAL, 200, "hello", Some("final")),
    ("HTTP/1.1 103\r\n\r\n", FINAL, 200, "hello", Some("final")),
    ("HTTP/1.0 103 Early Hints\n\n", FINAL, 200, "hello", Some("final")),
    // What an interim head says is not said of the final response.
    (
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\n\
        X-Accel-Redirect: /elsewhere\r\nX-Accel-Buffering: no\r\nX-Accel-Limit-Rate: 1\r\n\
        X-Accel-Expires: 5\r\nX-Accel-Charset: x\r\nLocation: /e\r\nETag: \"e\"\r\nVary: *\r\n\
        Transfer-Encoding: chunked\r\nContent-Type: a/b\r\nServer: s\r\nDate: d\r\n\
        Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\nWWW-Authenticate: x\r\n\
        Content-Encoding: gzip\r\nCache-Control: no-store\r\nExpires: 0\r\n\r\n",
        FINAL,
        200,
        "hello",
        Some("final"),
    ),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 A\r\nX-Of: 1\r\n\r\nHTTP/1.1 103 B\r\nX-Of: 2\r\n\r\nHTTP/1.1 102 C\r\n\r\n", FINAL, 200, "hello", Some("final")),
    // Final responses without a status line.
    ("HTTP/1.1 103 A\r\nX-Of: 1\r\n\r\n", "Status: 404 Gone\r\nX-Of: 2\r\nContent-Length: 2\r\n\r\nno", 404, "no", Some("2")),
    ("HTTP/1.1 103 A\r\nStatus: 500 No\r\n\r\n", "Location: /e\r\nContent-Length: 0\r\n\r\n", 302, "", None),
    ("HTTP/1.1 103 A\r\nLocation: /e\r\n\r\n", "X-Of: 3\r\nContent-Length: 1\r\n\r\nx", 200, "x", Some("3")),
    ("HTTP/1.1 103 A\r\n\r\n", "HTTP/1.1 204 No Content\r\nX-Of: 4\r\n\r\n", 204, "", Some("4")),
    ("HTTP/1.1 103 A\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end", None),
    ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad", 500, "bad", None),
];

/// What one side answers when the server sends `first` and `last` in pieces of `size` bytes.
fn answer(pair: &Pair, side: Side, first: &str, last: &str, size: usize) -> Response {
    let bytes = format!("{first}{last}").into_bytes();
    pair.backend.set_script(move |peer| {
        peer.read_request()?;
        bytes.chunks(size).try_for_each(|piece| peer.write(piece))
    });
    exchange(pair.address(side), GET)
}

#[test]
fn consumed_by_ours() {
    for extra in ["", "uwsgi_buffering off;"] {
        let pair = everything(extra);
        for (first, last, status, body, of) in ROWS {
            // The whole, halves of lines, and byte by byte.
            for size in [usize::MAX, 11, 1] {
                let name = format!("{extra} {first:?} in pieces of {size}");
                let response = answer(&pair, Side::Ours, first, last, size);
                assert_eq!((response.status, response.text().as_str()), (*status, *body), "{name}");
                assert_eq!(response.header("X-Of"), *of, "{name}");
                // Nothing else than without the interim responses, through stock too.
                let plain = answer(&pair, Side::Stock, "", last, usize::MAX);
                assert_eq!(response.undated(), plain.undated(), "{name}");
            }
        }
        let log = pair.nginx.error_log();
        let bad: Vec<_> = log.iter().filter(|line| line.level == "error").collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

/// The difference itself: were it gone from stock, this table would no longer be one of
/// differences.
#[test]
fn taken_for_the_final_response_by_stock() {
    let pair = everything("");
    for (first, status) in [
        ("HTTP/1.1 103 Early Hints\r\nX-Of: 103\r\n\r\n", 103),
        ("HTTP/1.1 100 Continue\r\n\r\n", 100),
    ] {
        let text = format!("{first}{FINAL}");
        pair.backend.set_script(move |peer| peer.answer(text.as_bytes()));
        let mut client = Client::connect(pair.address(Side::Stock));
        client.send(GET);
        let head = String::from_utf8(client.read_head().unwrap()).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let mut client = Client::connect(pair.address(Side::Ours));
        client.send(GET);
        let head = String::from_utf8(client.read_head().unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    }
}

/// The buffer for heads bounds all of them together.
#[test]
fn a_flood() {
    let pair = everything("uwsgi_buffer_size 4k;");
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    let fitting = hint.repeat(4096 / hint.len() - 2);
    let response = answer(&pair, Side::Ours, &fitting, FINAL, usize::MAX);
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    let response =
        answer(&pair, Side::Ours, &hint.repeat(4096 / hint.len() + 1), FINAL, usize::MAX);
    assert_eq!(response.status, 502);
    pair.nginx.wait_logged("upstream sent too big header while reading response header");
    // One that never ends: ended by nginx, and the worker serves the next.
    pair.backend.set_script(move |peer| {
        peer.read_request()?;
        while peer.write(hint.as_bytes()).is_ok() {}
        peer.close();
        Ok(())
    });
    let before = pair.nginx.access_log().len();
    assert_eq!(exchange(pair.address(Side::Ours), GET).status, 502);
    pair.nginx.wait_requests(before + 1);
    assert_eq!(pair.nginx.logged("upstream sent too big header").len(), 2);
    assert_eq!(answer(&pair, Side::Ours, "", FINAL, usize::MAX).status, 200);
    // the master logs it when the worker may already be serving
    pair.nginx.wait_logged("start worker process ");
    assert_eq!(pair.nginx.logged("start worker process ").len(), 1, "a worker was replaced");
}

/// What follows an interim response fails as it does alone.
#[test]
fn failures_after_one() {
    let pair = pair("uwsgi_read_timeout 100ms; location / { uwsgi_pass @pass@; }");
    type Script = fn(&mut crate::support::backend::Peer) -> io::Result<()>;
    let rows: [(&str, Script, u16, &str); 4] = [
        ("closes", |_| Ok(()), 502, "upstream prematurely closed connection"),
        ("stalls", |peer| peer.stall(), 504, "upstream timed out"),
        ("garbage", |peer| peer.write(b"\x01\r\n\r\n"), 502, "upstream sent invalid header"),
        ("half a head", |peer| peer.write(b"HTTP/1.1 2"), 502, "upstream prematurely closed"),
    ];
    for (name, script, status, line) in rows {
        pair.backend.set_script(move |peer| {
            peer.answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
            script(peer)
        });
        let (_, outcome) = pair.exchange(Side::Ours, any_port(), GET);
        assert_eq!(outcome.response.unwrap().status, status, "{name}");
        assert_eq!(outcome.log.len(), 1, "{name}: {:?}", outcome.log);
        assert!(outcome.log[0].contains(line), "{name}: {:?}", outcome.log);
    }
}

/// The next server is tried after an interim response as after none, and begins anew.
#[test]
fn next_upstream_after_one() {
    let other = crate::support::backend::Backend::tcp(|peer| peer.answer(OK));
    // Sends only interim responses, then fails in the way of the path.
    let first = crate::support::backend::Backend::tcp(|peer| {
        let path = peer.read_request()?.packet.get("PATH_INFO").unwrap();
        peer.write(b"HTTP/1.1 103 Early Hints\r\nX-Of: first\r\n\r\n")?;
        peer.write(if path == "/status" { b"HTTP/1.1 503 No\r\nX-A: b\r\n\r\n" } else { b"" })
    });
    let nginx = crate::support::nginx::Nginx::start(&format!(
        "upstream app {{ server {} max_fails=0; server {} backup; }}
        server {{ listen 127.0.0.1:@port@;
            rs_uwsgi_next_upstream error http_503;
            add_header X-Status $upstream_status always;
            location / {{ rs_uwsgi_pass app; }} }}",
        first.address(),
        other.address()
    ));
    for (path, statuses) in [("/close", "502, 200"), ("/status", "503, 200")] {
        let response = crate::support::client::get(nginx.address(), path);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{path}");
        assert_eq!(response.header("X-Of"), None, "{path}");
        assert_eq!(response.header("X-Status"), Some(statuses), "{path}");
    }
}

#[test]
fn over_http2() {
    let pair =
        Pair::builder("uwsgi_param A b; location / { uwsgi_pass @pass@; }").listen("http2").start();
    pair.backend.set_script(|peer| {
        peer.answer(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{FINAL}").as_bytes())
    });
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")];
    let answer = h2::exchange(any_port(), pair.address(Side::Ours), &fields, None).unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.error), (Some(200), &b"hello"[..], None));
}

/// 101 is a final response. Where the client asked for no upgrade, it opens no tunnel.
#[test]
fn switching_protocols_unasked() {
    let pair = everything("");
    let response =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes";
    pair.backend.set_script(move |peer| peer.answer(response.as_bytes()));
    let (plain, _) = same(&pair, "101 unasked", GET);
    assert_eq!(plain.status, 101);
    // What a client sends after it is a request of its own, for nginx and not for the server.
    for side in SIDES {
        let first = pair.backend.connection_count();
        let mut client = Client::connect(pair.address(side));
        client.send(&[GET, b"tunnelled?"].concat());
        client.read_head().unwrap();
        let received = pair.backend.take_ended(first, 1).remove(0);
        let leaked = received.windows(10).any(|window| window == b"tunnelled?");
        assert!(!leaked, "{side:?}");
    }
    // And after an interim response it is one as well, asked for or not.
    pair.backend.set_script(move |peer| {
        peer.answer(
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{response}").as_bytes(),
        )?;
        let mut bytes = [0; 100];
        match peer.read_some(&mut bytes)? {
            0 => Ok(()),
            count => peer.write(&bytes[..count]),
        }
    });
    let mut client = Client::connect(pair.address(Side::Ours));
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    let head = String::from_utf8(client.read_head().unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Link"), "{head}");
    assert_eq!(client.read_exact(5).unwrap(), b"bytes");
    client.send(b"echo");
    assert_eq!(client.read_exact(4).unwrap(), b"echo");
}
