//! Backends that fail: absent, refusing, closing, sending garbage, stalling. The client gets the
//! same status as through stock, the error log the same one line, and the next request is served
//! by the same worker.

use crate::prelude::*;
use crate::support::nginx::free_port;

const GET: &[u8] = b"GET /p?q HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &[u8] = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";

/// `expected` is the status, and whether the log shows one line (an error) or none.
struct Expected {
    status: u16,
    end: Option<End>,
    log: usize,
}

const BAD_GATEWAY: Expected = Expected { status: 502, end: None, log: 1 };

/// Both sides behave the same and as expected, and the worker serves the next request.
fn check(
    pair: &Pair,
    name: &str,
    request: &[u8],
    expected: &Expected,
    script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
) {
    let stock = pair.assert_same(name, request, script);
    let response = stock.response.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(response.status, expected.status, "{name}");
    assert!(expected.end.is_none_or(|end| end == response.end), "{name}: {:?}", response.end);
    assert_eq!(stock.log.len(), expected.log, "{name}: {:?}", stock.log);
    pair.backend.set_script(|peer| peer.answer(OK));
    for side in [Side::Stock, Side::Ours] {
        assert_eq!(get(pair.address(side), "/next").text(), "ok", "after {name}, {side:?}");
    }
    // the master logs it when the worker may already be serving
    pair.nginx.wait_logged("start worker process ");
    let started = pair.nginx.logged("start worker process ").len();
    assert_eq!(started, 1, "{name}: a worker was replaced");
}

#[test]
fn absent_and_refusing() {
    let port = free_port();
    for address in ["unix:@dir@/none.sock".to_string(), format!("127.0.0.1:{port}")] {
        let server = format!("{STANDARD_PARAMS} location / {{ uwsgi_pass {address}; }}");
        let pair = Pair::builder(&server).start();
        pair.nginx.expects("none.sock failed (2: No such file or directory)");
        for request in [GET, POST] {
            let (stock, ours) = pair.both(request);
            let [stock_status, status] =
                [&stock, &ours].map(|o| o.response.as_ref().unwrap().status);
            assert_eq!((stock_status, status), (502, 502), "{address}");
            assert_eq!(stock.log, ours.log, "{address}");
            assert_eq!(ours.log.len(), 1, "{address}: {:?}", ours.log);
            assert!(ours.log[0].contains("while connecting to upstream"), "{:?}", ours.log);
        }
    }
}

#[test]
fn closing_early() {
    let pair = everything("");
    for request in [GET, POST] {
        check(&pair, "closes after the request", request, &BAD_GATEWAY, |peer| {
            peer.read_request()?;
            peer.close();
            Ok(())
        });
        check(&pair, "half of a status line", request, &BAD_GATEWAY, |peer| {
            peer.answer(b"HTTP/1.1 20")
        });
        check(&pair, "half of a header", request, &BAD_GATEWAY, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Le")
        });
        check(&pair, "no empty line", request, &BAD_GATEWAY, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n")
        });
        check(&pair, "only CR LF", request, &BAD_GATEWAY, |peer| peer.answer(b"\r"));
    }
}

#[test]
fn closing_at_once() {
    // Whether nginx meets the close in writing or in reading is a matter of timing, so the text
    // of the line is not compared.
    let pair = everything("");
    pair.backend.set_script(|peer| {
        peer.close();
        Ok(())
    });
    for side in [Side::Stock, Side::Ours] {
        let (_, outcome) = pair.exchange(side, crate::pair::any_port(), GET);
        assert_eq!(outcome.response.unwrap().status, 502, "{side:?}");
        assert_eq!(outcome.log.len(), 1, "{side:?}: {:?}", outcome.log);
        assert!(outcome.log[0].starts_with("[error] "), "{side:?}: {:?}", outcome.log);
    }
}

#[test]
fn resetting() {
    let server = format!("{STANDARD_PARAMS} location / {{ uwsgi_pass @pass@; }}");
    let pair = Pair::builder(&server).tcp(true).start();
    check(&pair, "resets after the request", GET, &BAD_GATEWAY, |peer| {
        peer.read_request()?;
        peer.reset()
    });
    let cut = Expected { status: 200, end: Some(End::Cut), log: 1 };
    check(&pair, "resets in the body", GET, &cut, |peer| {
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        std::thread::sleep(crate::support::nginx::PAUSE);
        peer.reset()
    });
}

#[test]
fn garbage() {
    let pair = everything("");
    let rows: &[(&str, &[u8], &Expected)] = &[
        ("control bytes", b"\x01\x02\x03\x04\r\n\r\n", &BAD_GATEWAY),
        ("a NUL in a name", b"HTTP/1.1 200 OK\r\nX-\0A: b\r\n\r\n", &BAD_GATEWAY),
        ("a NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n", &BAD_GATEWAY),
        ("a NUL first", b"\0HTTP/1.1 200 OK\r\n\r\n", &BAD_GATEWAY),
        ("NULs only", &[0; 300], &BAD_GATEWAY),
        ("a uwsgi packet", b"\xff\x04\0\0\x01\0A\x01\0", &BAD_GATEWAY),
        ("Status that is no number", b"Status: fine\r\n\r\n", &BAD_GATEWAY),
        ("Status empty", b"Status:\r\n\r\n", &BAD_GATEWAY),
        ("Status of one digit", b"Status: 2\r\n\r\n", &BAD_GATEWAY),
        ("a CR without LF", b"HTTP/1.1 200 OK\r\nX-A: b\r\n\rx", &BAD_GATEWAY),
        ("a blank first", b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &BAD_GATEWAY),
    ];
    for (name, bytes, expected) in rows {
        let bytes = bytes.to_vec();
        check(&pair, name, GET, expected, move |peer| peer.answer(&bytes));
    }
}

#[test]
fn heads_too_large() {
    let pair = everything("");
    check(&pair, "a head above the buffer", GET, &BAD_GATEWAY, |peer| {
        let lines = "X-Filler: 0123456789\r\n".repeat(300);
        peer.answer(format!("HTTP/1.1 200 OK\r\n{lines}\r\nbody").as_bytes())
    });
    check(&pair, "an endless header", GET, &BAD_GATEWAY, |peer| {
        peer.read_request()?;
        peer.write(b"HTTP/1.1 200 OK\r\nX-A: ")?;
        // Ends with an error once nginx has given up.
        while peer.write(&[b'a'; 1000]).is_ok() {}
        peer.close();
        Ok(())
    });
    check(&pair, "an endless status line", GET, &BAD_GATEWAY, |peer| {
        peer.read_request()?;
        peer.write(b"HTTP/1.1 200 ")?;
        while peer.write(&[b'a'; 1000]).is_ok() {}
        peer.close();
        Ok(())
    });
    // The largest head that fits: the buffer is a page.
    for (size, expected) in
        [(4096, Expected { status: 200, end: None, log: 0 }), (4097, BAD_GATEWAY)]
    {
        check(&pair, &format!("a head of {size} bytes"), GET, &expected, move |peer| {
            let frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: \r\n\r\n";
            let filler = "f".repeat(size - frame.len());
            peer.answer(frame.replace("X-A: ", &format!("X-A: {filler}")).as_bytes())
        });
    }
}

#[test]
fn wrong_lengths() {
    for extra in ["", "uwsgi_buffering off;"] {
        let pair = everything(extra);
        let whole = Expected { status: 200, end: Some(End::Length), log: 1 };
        check(&pair, "more body than announced", GET, &whole, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello")
        });
        let cut = Expected { status: 200, end: Some(End::Cut), log: 1 };
        check(&pair, "less body than announced", GET, &cut, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        });
        check(&pair, "no body of the one announced", GET, &cut, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        });
    }
}

#[test]
fn stalling() {
    for extra in ["", "uwsgi_buffering off;"] {
        let pair = everything(&format!("{extra} uwsgi_read_timeout 100ms;"));
        let timeout = Expected { status: 504, end: None, log: 1 };
        check(&pair, "stalls before the head", GET, &timeout, |peer| {
            peer.read_request()?;
            peer.stall()
        });
        check(&pair, "stalls in the head", GET, &timeout, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nConte")?;
            peer.stall()
        });
        let cut = Expected { status: 200, end: Some(End::Cut), log: 1 };
        check(&pair, "stalls in the body", GET, &cut, |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
            peer.stall()
        });
    }
}

#[test]
fn reading_nothing() {
    // More than any socket buffer holds, so that writing stalls.
    let pair = everything(
        "uwsgi_send_timeout 100ms; client_max_body_size 0; uwsgi_request_buffering off;",
    );
    let body = vec![b'x'; 16 << 20];
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let timeout = Expected { status: 504, end: None, log: 1 };
    check(&pair, "reads nothing", &[head.as_bytes(), &body].concat(), &timeout, |peer| {
        peer.wait_hangup()?;
        peer.close();
        Ok(())
    });
}

#[test]
fn all_servers_of_an_upstream_failing() {
    let port = free_port();
    // Two blocks: failures of one side must not mark the servers of the other.
    let servers = format!("server unix:@dir@/none; server 127.0.0.1:{port};");
    let ours = translated("location / { uwsgi_pass ours; }");
    let nginx = Nginx::start(&format!(
        "upstream stock {{ {servers} }} upstream ours {{ {servers} }}
        server {{ listen 127.0.0.1:@port@; location / {{ uwsgi_pass stock; }} }}
        server {{ listen 127.0.0.2:@port@; {ours} }}"
    ));
    nginx.expects("none failed (2: No such file or directory)");
    let logged = [1, 2].map(|host| {
        let before = nginx.error_log().len();
        let response = get(nginx.address_of(0, [127, 0, 0, host]), "/");
        assert_eq!(response.status, 502);
        nginx.wait_requests(usize::from(host));
        let lines = nginx
            .error_log()
            .into_iter()
            .skip(before)
            .filter(|line| line.connection.is_some() && line.level != "info");
        lines
            .map(|line| line.text.split(", client:").next().unwrap().to_string())
            .collect::<Vec<_>>()
    });
    assert_eq!(logged[0], logged[1], "left stock, right ours");
    assert_eq!(logged[0].len(), 4, "{logged:?}");
}
