//! The ways in which a response is passed on that leave its connection fit for another request, and
//! what makes it unfit, apart from the response's framing.

use super::{Site, GET, KEPT, PARKED};
use crate::prelude::*;

const NOT_ENDED: &str = "the response was not read to its end";
const LENGTH_NOT_OURS: &str = "\"rs_uwsgi_string\" may hold a CONTENT_LENGTH";
const HEAD: &str = "a response to HEAD may have a body";
const FAILED: &str = "it failed or was closed";
const OFF: &str = "reuse is off";

fn kept(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn post(length: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'b'; length]].concat()
}

/// The request leaves a connection that the next one comes on.
fn is_reused(site: &Site, about: &str, request: &[u8]) -> Response {
    let visit = site.visit(request);
    assert_eq!(visit.verdict, PARKED, "{about}: {visit:#?}");
    assert!(visit.log.is_empty(), "{about}: {:?}", visit.log);
    assert_eq!(site.next_connection(), visit.connection, "{about}");
    visit.response
}

/// The request leaves none, for this reason.
fn is_refused(site: &Site, about: &str, request: &[u8], reason: &str) -> Response {
    let visit = site.visit(request);
    assert_eq!(visit.verdict, reason, "{about}: {visit:#?}");
    assert_ne!(site.next_connection(), visit.connection, "{about}");
    visit.response
}

#[test]
fn methods_and_bodies() {
    let site = Site::new("client_body_buffer_size 8k; client_max_body_size 1m;");
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH", "PROPFIND", "LOCK", "FOO"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        is_reused(&site, method, request.as_bytes());
    }
    // the last of them is in a file
    for length in [1, 5000, 500_000] {
        is_reused(&site, &format!("a body of {length}"), &post(length));
        assert_eq!(site.backend.requests().iter().rev().nth(1).unwrap().body.len(), length);
    }
    let chunked =
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    is_reused(&site, "a chunked body", chunked);
    let old = is_reused(&site, "HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.text().as_str(), old.end), ("ok", End::Length));
}

#[test]
fn a_body_that_is_not_buffered() {
    let site = Site::new("rs_uwsgi_request_buffering off; client_max_body_size 1m;");
    for length in [0, 1, 5000, 500_000] {
        is_reused(&site, &format!("a body of {length}"), &post(length));
    }
}

#[test]
fn a_body_that_is_not_passed_on() {
    let site = Site::new("rs_uwsgi_pass_request_body off;");
    is_reused(&site, "no body", &post(5));
    let requests = site.backend.requests();
    assert_eq!(requests[0].body, b"", "the next packet would begin in it");
}

#[test]
fn http2_clients() {
    let server = "listen 127.0.0.3:@port@ http2; location / { rs_uwsgi_pass @pass@; }";
    let site = Site::serve(server);
    let to = site.nginx.address_of(0, [127, 0, 0, 3]);
    let fields: &[(&[u8], &[u8])] =
        &[(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")];
    for _ in 0..3 {
        let answer = h2::exchange(SocketAddr::from(([127, 0, 0, 1], 0)), to, fields, None).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (Some(200), b"ok".as_slice()));
        site.wait_verdict(site.backend.requests().len() - 1);
    }
    assert_eq!(
        (site.verdicts(), site.backend.connection_count()),
        (vec![PARKED.to_string(); 3], 1)
    );
}

#[test]
fn large_responses() {
    let body: Vec<u8> = (0..3_000_000).map(|at: usize| (at / 3) as u8).collect();
    for extra in [
        "",
        "rs_uwsgi_buffering off;",
        "rs_uwsgi_max_temp_file_size 0;",
        "rs_uwsgi_limit_rate 20m;",
        "rs_uwsgi_buffering off; rs_uwsgi_limit_rate 20m;",
        "limit_rate 20m;",
        "rs_uwsgi_store @dir@/html/stored;",
        "rs_uwsgi_force_ranges on;",
    ] {
        let site = Site::new(extra);
        site.answers.set_bytes(&kept("", &body));
        let response = is_reused(&site, extra, GET);
        assert!(response.body == body, "{extra}: {} bytes", response.body.len());
    }
}

#[test]
fn a_connection_is_free_before_a_slow_client_has_everything() {
    let site = Site::serve("location / { rs_uwsgi_pass @pass@; sendfile on; }");
    site.answers.set_bytes(&kept("", &vec![b'x'; 20 << 20]));
    let mut slow = Client::connect(site.address());
    slow.send(GET);
    // the request has not ended: only the log tells
    site.nginx.wait_logged("http rs_uwsgi park connection");
    assert!(site.nginx.access_log().is_empty(), "the client cannot have it all");
    assert_eq!(site.next_connection(), 0);
    assert_eq!(slow.response(false).unwrap().body.len(), 20 << 20);
}

#[test]
fn cached_responses() {
    let site = Site::builder()
        .visits()
        .http("rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;")
        .server(
            "rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_revalidate on;
         location / { rs_uwsgi_pass @pass@; add_header X-C $upstream_cache_status; }
         location /plain { rs_uwsgi_pass @pass@; rs_uwsgi_cache off; }",
        )
        .start();
    let old = "Last-Modified: Mon, 28 Sep 1970 06:00:00 GMT\r\nCache-Control: max-age=1\r\n";
    site.answers.set_bytes(&kept(old, b"cached"));
    let plain = b"GET /plain HTTP/1.0\r\n\r\n";
    let miss = site.visit(GET);
    assert_eq!((miss.verdict.as_str(), miss.response.header("X-C")), (PARKED, Some("MISS")));

    let hit = exchange(site.address(), GET);
    assert_eq!((hit.text().as_str(), hit.header("X-C")), ("cached", Some("HIT")));
    assert_eq!((site.verdicts().len(), site.backend.requests().len()), (1, 1));
    site.nginx.wait_requests(2);

    // Until the second is over, a request is a hit and does not reach the server.
    site.answers.set(move |peer, request| {
        let since = request.packet.get("HTTP_IF_MODIFIED_SINCE");
        assert!(since.is_some_and(|since| since.starts_with("Mon, 28 Sep 1970")));
        peer.write(b"HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n")
    });
    let validated = wait_for("the response to be stale", || {
        let response = exchange(site.address(), GET);
        assert_eq!(response.text(), "cached");
        (response.header("X-C") == Some("REVALIDATED")).then_some(response)
    });
    assert_eq!(validated.status, 200);
    assert_eq!(site.wait_verdict(1), PARKED);
    site.answers.set_bytes(KEPT);
    let visit = site.visit(plain);
    assert_eq!((visit.verdict.as_str(), visit.connection), (PARKED, 0));
    assert!(site.backend.requests().iter().all(|request| request.connection == 0));
}

#[test]
fn internal_redirects_and_intercepted_errors() {
    let site = Site::serve(
        "rs_uwsgi_intercept_errors on; error_page 404 /missing.html;
         location / { rs_uwsgi_pass @pass@; }
         location = /missing.html { return 200 missing; }",
    );
    let redirect = "X-Accel-Redirect: /missing.html\r\n";
    for (body, verdict) in [(b"".as_slice(), PARKED), (b"a body that came with the head", PARKED)] {
        site.answers.set_bytes(&kept(redirect, body));
        let visit = site.visit(GET);
        assert_eq!(visit.response.text(), "missing");
        assert_eq!(visit.verdict, verdict, "{visit:#?}");
        assert_eq!(site.next_connection(), visit.connection);
    }
    let missing = "HTTP/1.1 404 No\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n";
    site.answers.set_bytes(&[missing.as_bytes(), b"gone"].concat());
    assert_eq!(is_reused(&site, "404", GET).text(), "missing");

    // A body that nobody reads: the connection cannot be used again. Its surplus is not delivered.
    site.answers.set(move |peer, _| {
        peer.write(missing.as_bytes())?;
        peer.wait_hangup()
    });
    let response = is_refused(&site, "404 without its body", GET, NOT_ENDED);
    assert_eq!(response.text(), "missing");
    site.answers.set_bytes(&[missing.as_bytes(), b"gone!"].concat());
    let visit = site.visit(GET);
    assert_eq!(visit.verdict, "bytes came after the response");
    assert_eq!(visit.log, ["[warn] upstream sent data after its response"]);
    assert_ne!(site.next_connection(), visit.connection);
}

#[test]
fn subrequests() {
    let site = Site::serve(
        "log_subrequest on;
         location / { rs_uwsgi_pass @pass@; ssi on; }
         location /auth { auth_request /check; rs_uwsgi_pass @pass@; }",
    );
    site.answers.set(|peer, request| {
        let page = br#"<!--#include virtual="/a" -->,<!--#include virtual="/b" -->"#;
        match request.packet.get("PATH_INFO").as_deref() {
            Some("/page") => peer.write(&kept("Content-Type: text/html\r\n", page)),
            _ => peer.write(KEPT),
        }
    });
    for (path, body, requests) in [("/page", "ok,ok", 3), ("/auth", "ok", 2), ("/page", "ok,ok", 3)]
    {
        let before = site.verdicts().len();
        assert_eq!(get(site.address(), path).text(), body);
        site.wait_verdict(before + requests - 1);
    }
    assert!(site.verdicts().iter().all(|verdict| verdict == PARKED), "{:?}", site.verdicts());
    // two at a time at most
    assert!(site.backend.connection_count() <= 3, "{}", site.backend.connection_count());
}

#[test]
fn head() {
    for buffering in ["on", "off"] {
        let site = Site::new(&format!("rs_uwsgi_buffering {buffering};"));
        let request = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
        for body in ["", "ok", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"] {
            let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n";
            site.answers.set_bytes((head.to_string() + body).as_bytes());
            let response = is_refused(&site, body, request, HEAD);
            assert_eq!((response.status, response.header("Content-Length")), (200, Some("2")));
        }
    }
}

#[test]
fn upgraded_connections() {
    let site = Site::new("");
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    for request in [request.as_slice(), GET] {
        site.answers.set(|peer, _| {
            peer.write(b"HTTP/1.1 101 Switching\r\nConnection: keep-alive\r\nUpgrade: x\r\n\r\n")?;
            std::thread::sleep(PAUSE);
            peer.half_close()
        });
        let visit = site.visit(request);
        assert_eq!(visit.response.status, 101);
        assert_ne!(visit.verdict, PARKED);
        assert_ne!(site.next_connection(), visit.connection);
    }
}

#[test]
fn strings_that_may_hold_a_length() {
    // Vars: u16 LE length and bytes, for name and value. What is no var may be read as anything.
    for (string, verdict) in [
        ("\u{3}\0A_B\u{1}\0c", PARKED),
        ("\u{e}\0CONTENT_LENGTH\0\0", LENGTH_NOT_OURS),
        ("\u{3}\0A_B\u{1}\0c\u{e}\0CONTENT_LENGTH\u{1}\x000", LENGTH_NOT_OURS),
        ("garbage", LENGTH_NOT_OURS),
    ] {
        let site = Site::new(&format!("rs_uwsgi_string \"{string}\";"));
        // a script that does not look at the vars
        site.backend.set_script(|peer| {
            while let Ok(header) = peer.read_exact(4) {
                let size = usize::from(u16::from_le_bytes([header[1], header[2]]));
                peer.read_exact(size)?;
                peer.write(KEPT)?;
            }
            Ok(())
        });
        for number in 0..2 {
            assert_eq!(exchange(site.address(), GET).text(), "ok");
            assert_eq!(site.wait_verdict(number), verdict, "{string:?}");
        }
        let connections = if verdict == PARKED { 1 } else { 2 };
        assert_eq!(site.backend.connection_count(), connections, "{string:?}");
    }
}

#[test]
fn switched_off() {
    for extra in ["rs_uwsgi_reuse off;", "rs_uwsgi_keepalive 0;"] {
        let site = Site::new(extra);
        is_refused(&site, extra, GET, OFF);
    }
}

#[test]
fn vouched_for() {
    let site = Site::new("rs_uwsgi_reuse on;");
    site.answers.set_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    is_reused(&site, "says nothing", GET);
    site.answers.set_bytes(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    is_refused(&site, "says close", GET, "the server said close");
    site.answers.set(|peer, _| {
        peer.write(b"HTTP/1.1 200 OK\r\n\r\nok")?;
        peer.half_close()
    });
    is_refused(&site, "says no length", GET, FAILED);
}
