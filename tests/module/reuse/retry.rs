//! A connection from the pool that turns out to be dead: what may be sent again is, once, on a new
//! one; what may not was never put on a connection that the server may be about to close.

use super::{Answers, Site, GET, KEPT, PARKED};
use crate::prelude::*;
use crate::support::backend::Request;

const HEAD: &str = "a response to HEAD may have a body";
const FAILED: &str = "it failed or was closed";

const UNBUFFERED: &str = "rs_uwsgi_request_buffering off;";

fn request(method: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The server closes after the first request that comes on a used connection.
fn dies_when_used_again(site: &Site) {
    let used = Mutex::new(std::collections::HashSet::new());
    site.answers.set(move |peer, _| {
        if used.lock().unwrap().insert(peer.number) {
            return peer.write(KEPT);
        }
        peer.close();
        Ok(())
    });
}

/// Sends the last byte only when the server has the head: a body that has come with its head is
/// buffered whatever was configured.
fn exchange_in_two(site: &Site, request: &[u8]) -> Response {
    let received = || {
        let connections = site.backend.connections();
        connections.iter().map(|connection| connection.received.len()).sum::<usize>()
    };
    let before = received();
    let mut client = Client::connect(site.address());
    let (begin, end) = request.split_at(request.len() - 1);
    client.send(begin);
    wait_for("the head at the server", || (received() > before).then_some(()));
    client.send(end);
    client.response(false).unwrap()
}

/// Where the request has to be sent so.
fn exchange_for(site: &Site, extra: &str, request: &[u8]) -> Response {
    if extra == UNBUFFERED {
        exchange_in_two(site, request)
    } else {
        exchange(site.address(), request)
    }
}

fn connections(requests: &[Request]) -> Vec<usize> {
    requests.iter().map(|request| request.connection).collect()
}

#[test]
fn an_idempotent_request_is_sent_once_more_on_a_new_connection() {
    for extra in ["", "rs_uwsgi_buffering off;", "rs_uwsgi_next_upstream error non_idempotent;"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let site = Site::new(extra);
            dies_when_used_again(&site);
            // two idle connections: the second try must not be on the other one
            let [mut one, mut two] = [(); 2].map(|()| {
                let mut client = Client::connect(site.address());
                client.send(b"GET /slow HTTP/1.0\r\n\r\n");
                client
            });
            for client in [&mut one, &mut two] {
                assert_eq!(client.response(false).unwrap().text(), "ok");
            }
            site.wait_verdict(1);
            let before = site.backend.requests().len();
            let response = exchange(site.address(), &request(method, ""));
            assert_eq!(response.status, 200, "{method}");
            let connections = connections(&site.backend.requests()[before..]);
            assert_eq!(connections.len(), 2, "{method}: {connections:?}");
            assert_eq!(connections[1], site.backend.connection_count() - 1, "{method}: a new one");
            assert_ne!(connections[0], connections[1]);
            // the verdict on the last connection is what the variable has
            let failed = "http rs_uwsgi close connection, fd:";
            assert_eq!(site.wait_verdict(2), if method == "HEAD" { HEAD } else { PARKED });
            let closed = site.nginx.logged(failed);
            assert!(closed[0].text.ends_with(FAILED), "{closed:?}");
            let log = site.log();
            assert_eq!(log.len(), 1, "{log:?}");
            assert!(log[0].starts_with("[error] upstream prematurely closed"), "{log:?}");
        }
    }
}

#[test]
fn the_same_server_is_asked_again_and_not_marked_failed() {
    let answers = Answers::new();
    let script = answers.script();
    let backup = Backend::tcp(move |peer| script(peer));
    let backup = format!("server {} backup;", backup.address());
    for other in ["", "server 127.0.0.1:1 down;", "server 127.0.0.1:1 max_fails=0;", &backup] {
        let site = Site::builder()
            .visits()
            .http(&format!("upstream u {{ server @pass@; {other} }}"))
            .server("location / { rs_uwsgi_pass u; }")
            .tcp(true)
            .start();
        dies_when_used_again(&site);
        for number in 1..7 {
            assert_eq!(exchange(site.address(), GET).text(), "ok", "{other} {number}");
            site.nginx.wait_requests(number);
        }
        // every second request comes on a used connection, and once more
        assert_eq!(connections(&site.backend.requests()), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
        let log = site.log();
        assert!(!log.iter().any(|line| line.contains("no live upstreams")), "{log:?}");
        assert!(site.nginx.logged("temporarily disabled").is_empty());
    }
}

#[test]
fn a_request_is_tried_no_more_than_once_again() {
    let site = Site::new("");
    assert_eq!(site.visit(GET).verdict, PARKED);
    site.answers.set(|peer, _| {
        peer.close();
        Ok(())
    });
    assert_eq!(exchange(site.address(), GET).status, 502);
    assert_eq!(connections(&site.backend.requests()), [0, 0, 1]);
}

#[test]
fn no_second_try_once_the_server_has_begun_to_answer() {
    let site = Site::new("");
    for part in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 E\r\n\r\n"] {
        site.answers.set_bytes(KEPT);
        let first = site.visit(GET);
        assert_eq!(first.verdict, PARKED);
        site.answers.set(move |peer, _| {
            peer.write(part.as_bytes())?;
            std::thread::sleep(crate::support::nginx::PAUSE);
            peer.half_close()
        });
        let second = site.visit(GET);
        assert_eq!(second.connection, first.connection);
        assert_eq!((second.response.status, second.verdict.as_str()), (502, FAILED), "{part:?}");
    }
}

#[test]
fn what_must_not_run_twice_is_never_sent_twice() {
    for (extra, request) in [
        ("", request("POST", "x")),
        ("", request("PATCH", "")),
        ("", request("LOCK", "")),
        ("rs_uwsgi_next_upstream off;", request("GET", "")),
        ("rs_uwsgi_next_upstream timeout;", request("GET", "")),
        (UNBUFFERED, request("PUT", "xy")),
    ] {
        let name = format!("{extra} {}", String::from_utf8_lossy(&request));
        // The server closes a connection that has just been used, by a fault of its own.
        let died = wait_for(&format!("a connection fresh enough for {name}"), || {
            let site = Site::new(extra);
            dies_when_used_again(&site);
            let first = site.visit(GET).connection;
            let response = exchange_for(&site, extra, &request);
            let requests = site.backend.requests();
            assert_eq!(requests.len(), 2, "{name}");
            match requests[1].connection == first {
                true => Some(response.status),
                // on a slow machine the connection was not fresh any more
                false => None,
            }
        });
        assert_eq!(died, 502, "{name}");
    }
}

#[test]
fn what_must_not_run_twice_needs_a_fresh_connection() {
    const FRESH: Duration = Duration::from_millis(500);
    for (extra, method, always) in [
        ("", "GET", true),
        ("", "PUT", true),
        ("", "POST", false),
        ("", "PATCH", false),
        ("", "LOCK", false),
        ("", "FOO", false),
        ("rs_uwsgi_next_upstream off;", "GET", false),
        (UNBUFFERED, "PUT", false),
    ] {
        let site = Site::new(extra);
        let name = format!("{method} {extra}");
        let first = site.visit(GET);
        assert_eq!(first.verdict, PARKED);
        let since = Instant::now();
        while since.elapsed() <= FRESH {
            std::thread::sleep(Duration::from_millis(10));
        }
        let visit = site.visit_with(|_| exchange_for(&site, extra, &request(method, "xy")));
        assert_eq!(visit.connection == first.connection, always, "{name}");
        // the old one is there still, for others
        let verdicts: Vec<_> = site.verdicts();
        assert_eq!(verdicts, [PARKED, PARKED], "{name}");
        assert!(site.idle_closed().is_empty(), "{name}");
    }
}

#[test]
fn what_nginx_would_repeat_never_gets_a_used_connection() {
    // nginx sends unknown methods, and what a POST asks for beside itself, to the next server
    let asking = String::from_utf8(request("POST", "x")).unwrap().replace(" / ", " /asking/x ");
    for request in [request("FOO", ""), asking.into_bytes()] {
        let site = Site::serve(
            "log_subrequest on;
            location / { rs_uwsgi_pass @pass@; }
            location /asking { auth_request /asked; }
            location = /asked { internal; rs_uwsgi_pass @pass@; rs_uwsgi_pass_request_body off; }",
        );
        let first = site.visit(GET);
        dies_when_used_again(&site);
        let second = site.visit(&request);
        assert_ne!(second.connection, first.connection, "{second:?}");
    }
}

#[test]
fn what_must_not_run_twice_does_not_follow_a_large_body() {
    let site = Site::new("client_body_buffer_size 64k;");
    let body = |length: usize| "x".repeat(length);
    let mut fresh = false;
    // the body as it may be, and one byte more
    for (length, fit) in [(32 * 1024, true), (32 * 1024 + 1, false)] {
        wait_for("a fresh connection", || {
            let first = site.visit(&request("PUT", &body(length)));
            assert_eq!(first.verdict, PARKED);
            let second = site.visit(&request("POST", "x"));
            fresh = second.connection == first.connection;
            (fresh == fit).then_some(())
        });
        // GET may
        let first = site.visit(&request("PUT", &body(length)));
        assert_eq!(site.visit(GET).connection, first.connection);
    }
    // never, however often it is tried
    for _ in 0..5 {
        let first = site.visit(&request("PUT", &body(32 * 1024 + 1)));
        assert_ne!(site.visit(&request("POST", "x")).connection, first.connection);
    }
}
