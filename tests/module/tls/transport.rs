//! Requests and responses over TLS: bodies of any size, servers that fail in the handshake, and the
//! next one in the block.

use super::{pki, request, TlsPair, OK, VERIFY};
use crate::prelude::*;

#[test]
fn bodies() {
    let unbuffered = "uwsgi_buffering off; uwsgi_request_buffering off;";
    let site = TlsPair::locations("client_max_body_size 0;", ["", unbuffered]);
    let body = Random::new(31).bytes(700_000);
    let answer = Random::new(32).bytes(900_000);
    for (path, size) in [("/0", body.len()), ("/1", body.len()), ("/0", 1), ("/1", 0)] {
        for framed in [true, false] {
            let answer_to_send = answer.clone();
            site.pair.backend.set_script(move |peer| {
                peer.start_tls(&pki().app.server())?;
                peer.read_request()?;
                peer.write(b"HTTP/1.1 200 OK\r\n")?;
                if framed {
                    peer.write(format!("Content-Length: {}\r\n", answer_to_send.len()).as_bytes())?;
                }
                peer.write(b"\r\n")?;
                peer.write(&answer_to_send)
            });
            let before = site.pair.backend.requests().len();
            for side in SIDES {
                let response = post(site.pair.address(side), path, &body[..size]);
                assert_eq!(response.status, 200, "{side:?}");
                assert!(response.body == answer, "{side:?} {path} {size} {framed}");
            }
            for index in [before, before + 1] {
                assert!(site.pair.backend.wait_request(index).body == body[..size], "{path}");
            }
        }
    }
}

/// Over a unix socket the name to verify is stock's as well.
#[test]
fn unix_socket() {
    let server = format!(
        "{STANDARD_PARAMS} location / {{ {} uwsgi_pass suwsgi://@pass@; }}
        location /named {{ {VERIFY} uwsgi_pass suwsgi://@pass@; }}",
        VERIFY.replace("uwsgi_ssl_name app.test;", "")
    );
    let pair = Pair::builder(&server).nginx(super::builder()).start();
    for (path, served) in [("/", false), ("/named", true)] {
        let stock = pair.assert_same(path, &request(path), |peer| {
            peer.start_tls(&pki().app.server())?;
            peer.answer(OK)
        });
        assert_eq!(stock.response.unwrap().status, if served { 200 } else { 502 }, "{path}");
        let mismatch = stock.log.iter().any(|line| line.contains("does not match \""));
        assert_eq!(mismatch, !served, "{:?}", stock.log);
    }
}

/// The handshake belongs to the connect timeout.
#[test]
fn handshakes_that_fail() {
    let site = TlsPair::locations("uwsgi_connect_timeout 300ms;", [""]);
    let stalled = site.visit_with("/0", |peer, _| peer.stall());
    assert_eq!(stalled.status, 504);
    assert!(stalled.log.contains("timed out"), "{}", stalled.log);
    assert!(stalled.log.contains("while SSL handshaking to upstream"), "{}", stalled.log);

    let closed = site.visit_with("/0", |peer, _| {
        peer.read_exact(5)?;
        peer.half_close()?;
        peer.read_to_end()
    });
    closed.refused("peer closed connection in SSL handshake");

    let plain = site.visit_with("/0", |peer, _| {
        peer.read_exact(5)?;
        peer.write(OK)?;
        peer.half_close()?;
        peer.read_to_end()
    });
    plain.refused("wrong version number");
}

/// A connection that ends without close_notify cuts a body off whose length is not known.
#[test]
fn ends_without_a_word() {
    let site = TlsPair::locations("", [""]);
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"] {
        let cut = site.visit_with("/0", move |peer, accept| {
            accept(peer, &pki().app.server())?;
            peer.answer(head.as_bytes())?;
            peer.write(b"half")?;
            peer.close();
            Ok(())
        });
        assert_eq!(cut.status, 200);
    }
}

/// A server that is not to be believed is an error like any other for `next_upstream`.
#[test]
fn next_upstream() {
    let site = TlsPair::with_http(
        "upstream uwsgi_two { server @pass@ max_fails=0; server @pass@ max_fails=0 backup; }",
        &format!(
            "{VERIFY} location / {{ uwsgi_pass suwsgi://uwsgi_two; }}
            location /off {{ uwsgi_next_upstream off; uwsgi_pass suwsgi://uwsgi_two; }}"
        ),
    );
    let visit = |path| {
        site.visit_with(path, |peer, accept| {
            let first = peer.number % 2 == 0;
            let identity = if first { &pki().strange } else { &pki().app };
            accept(peer, &identity.server())?;
            peer.answer(OK)
        })
    };
    let second = visit("/");
    assert_eq!((second.status, second.handshakes.len()), (200, 2), "{}", second.log);
    assert!(second.log.contains("verify error"), "{}", second.log);

    site.visit("/off", &pki().strange.server()).refused("verify error");
    assert_eq!(site.visit("/off", &pki().strange.server()).handshakes.len(), 1);
}
