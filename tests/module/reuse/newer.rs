//! What later versions of nginx brought around upstreams, beside the pool: a client that belongs to a
//! server gets it, on a connection that was kept. What `sticky learn` and `least_time` need is in
//! `balancers`.

use super::balancers::{another, has};
use super::{Site, GET, PARKED};
use crate::prelude::*;
use std::net::Ipv4Addr;

const SHOWN: &str = "add_header X-Connection $rs_uwsgi_connection always;";

/// The backend of the site is server "a", the other one is "b"; `block` is what the upstream has beside.
fn site(other: &Backend, block: &str, a: &str, b: &str) -> Site {
    let http = format!(
        "upstream u {{ zone u 1m; {block} server @pass@ {a}; server {} {b}; }}",
        other.address()
    );
    let location = format!("{SHOWN} location / {{ rs_uwsgi_pass u; }}");
    Site::builder().visits().http(&http).server(&location).tcp(true).start()
}

fn counts(site: &Site, other: &Backend) -> [usize; 2] {
    [site.backend.requests().len(), other.requests().len()]
}

#[test]
fn sticky_cookies() {
    if !has("sticky") {
        return;
    }
    let (_answers, other) = another();
    let site = site(&other, "sticky cookie srv;", "", "");
    let first = get(site.address(), "/");
    let cookie = first.header("Set-Cookie").expect("no cookie").split(';').next().unwrap();
    let before = counts(&site, &other);
    let is_first = before == [1, 0];
    for _ in 0..6 {
        let response = get_with(site.address(), "/", &format!("Cookie: {cookie}\r\n"));
        assert_eq!(response.header("X-Connection"), Some("reused"));
    }
    assert_eq!(counts(&site, &other), if is_first { [7, 0] } else { [0, 7] });
    assert_eq!(site.log(), [""; 0]);
}

#[test]
fn sticky_routes_and_servers_that_drain() {
    if !has("sticky") {
        return;
    }
    let (_answers, other) = another();
    let site = site(&other, "sticky route $arg_r;", "route=a", "route=b drain");
    for (path, expected) in [("/?r=b", [0, 6]), ("/?r=a", [6, 0]), ("/", [6, 0])] {
        let before = counts(&site, &other);
        for _ in 0..6 {
            assert_eq!(get(site.address(), path).status, 200, "{path}");
        }
        let after = counts(&site, &other);
        assert_eq!([after[0] - before[0], after[1] - before[1]], expected, "{path}");
    }
    assert_eq!(other.connection_count(), 1);
    assert_eq!(site.backend.connection_count(), 1);
    assert_eq!(site.log(), [""; 0]);
}

/// Names are looked up again and again; the connections to their addresses are kept all the same.
#[test]
fn servers_that_are_resolved() {
    if !has("resolver") {
        return;
    }
    let (_answers, backend) = another();
    let port = port_of(&backend);
    let dns = Dns::start(&[("app.test", Ipv4Addr::LOCALHOST)]);
    let nginx = Nginx::start(&format!(
        "upstream u {{ zone u 1m; resolver {} ipv6=off valid=1s; server app.test:{port} resolve; }}
        server {{ listen 127.0.0.1:@port@; {SHOWN}
            location / {{ rs_uwsgi_pass u; }} }}",
        dns.address()
    ));
    // until the name is known there is no server
    crate::support::wait_for("the name", || {
        (get(nginx.address(), "/").status == 200).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(get(nginx.address(), "/").header("X-Connection"), Some("reused"));
    }
    assert_eq!(backend.connection_count(), 1);
    assert!(dns.asked().iter().all(|name| name == "app.test"), "{:?}", dns.asked());
}

/// The port of a server comes out of an SRV record. When the record names another, requests go there, and
/// each server's connections are its own.
#[test]
fn servers_that_a_service_names() {
    if !has("resolver") {
        return;
    }
    let (_answers, first) = another();
    let (_answers, second) = another();
    let dns = Dns::start(&[("one.test", Ipv4Addr::LOCALHOST), ("two.test", Ipv4Addr::LOCALHOST)]);
    dns.set_service("_uwsgi._tcp.app.test", port_of(&first), "one.test");
    let nginx = Nginx::start(&format!(
        "upstream u {{ zone u 1m; resolver {} ipv6=off valid=1s;
            server app.test service=uwsgi resolve; }}
        server {{ listen 127.0.0.1:@port@; {SHOWN}
            location / {{ rs_uwsgi_pass u; }} }}",
        dns.address()
    ));
    crate::support::wait_for("the service", || {
        (get(nginx.address(), "/").status == 200).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(get(nginx.address(), "/").header("X-Connection"), Some("reused"));
    }
    assert_eq!((first.connection_count(), second.connection_count()), (1, 0));

    dns.set_service("_uwsgi._tcp.app.test", port_of(&second), "two.test");
    // requests all the while would be more than one connection may carry
    let is_asked = || dns.asked().iter().any(|name| name == "two.test").then_some(());
    crate::support::wait_for("the service to be asked for again", is_asked);
    crate::support::wait_for("the other server", || {
        assert_eq!(get(nginx.address(), "/").status, 200);
        (second.connection_count() > 0).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(get(nginx.address(), "/").header("X-Connection"), Some("reused"));
    }
    assert_eq!((first.connection_count(), second.connection_count()), (1, 1));
}

fn port_of(backend: &Backend) -> u16 {
    let address = backend.address().to_string();
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// nginx's own cache of connections, on by default from 1.29.7 on, and ours: ours is asked first, and its
/// connections are no others'.
#[test]
fn beside_nginxs_keepalive() {
    let is_new = nginx_version() >= 1_029_007;
    for block in ["", "keepalive 4;", "keepalive 4 local;"] {
        if block.contains("local") && !is_new {
            let said = Nginx::builder()
                .http("upstream u { server 127.0.0.1:1; keepalive 4 local; }")
                .check()
                .stderr;
            assert!(said.contains("invalid number of arguments in \"keepalive\""), "{said}");
            continue;
        }
        let (_answers, other) = another();
        let site = site(&other, block, "", "backup");
        assert_eq!(get(site.address(), "/").header("X-Connection"), Some("new"), "{block}");
        for _ in 0..4 {
            assert_eq!(get(site.address(), "/").header("X-Connection"), Some("reused"), "{block}");
        }
        assert_eq!(site.backend.connection_count(), 1, "{block}");
        assert_eq!(site.log(), [""; 0], "{block}");
    }
}

#[test]
fn headers_that_are_inherited() {
    if !has("add_header_inherit") {
        return;
    }
    let site = Site::serve(
        "add_header X-Outer 1; add_header_inherit merge;
        location / { add_header X-Inner $rs_uwsgi_connection; rs_uwsgi_pass @pass@; }",
    );
    for connection in ["new", "reused"] {
        let response = site.visit(GET).response;
        assert_eq!(response.header("X-Outer"), Some("1"));
        assert_eq!(response.header("X-Inner"), Some(connection));
    }
}

/// nginx reads the body before the handler runs: it is passed on as ever, its length with it, on the
/// connections that it would have gone on anyway.
#[test]
fn bodies_that_are_read_early() {
    if !has("client_body_early_read") {
        return;
    }
    const EARLY: &str = "client_body_early_read $request_method;";
    const UNBUFFERED: &str = "rs_uwsgi_request_buffering off;";
    for (early, extra) in [("", ""), ("", UNBUFFERED), (EARLY, ""), (EARLY, UNBUFFERED)] {
        let site = Site::serve(&format!("{early} {extra} location / {{ rs_uwsgi_pass @pass@; }}"));
        let visit = |head: &str, body: &[u8]| {
            let request = [head.as_bytes(), b"\r\n\r\n", body].concat();
            let visit = site.visit_with(|address| {
                let mut client = Client::connect(address);
                client.send(&request);
                client.response(false).unwrap()
            });
            assert_eq!((visit.response.text().as_str(), visit.verdict.as_str()), ("ok", PARKED));
            let request = site.backend.requests().pop().unwrap();
            (visit.connection, request.body, request.packet.get("CONTENT_LENGTH").unwrap())
        };
        let send = |method: &str, body: &[u8]| {
            let size = body.len();
            let head = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}");
            let (connection, received, length) = visit(&head, body);
            assert!(received == body, "{early} {extra} {size}");
            assert_eq!(length, size.to_string(), "{early} {extra}");
            connection
        };
        let large = vec![b'x'; 100_000];
        send("POST", b"");
        send("POST", b"hello");
        let after_large = send("POST", &large);

        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked";
        let (connection, received, length) = visit(head, b"3\r\nabc\r\n0\r\n\r\n");
        assert_eq!((&received[..], length.as_str()), (&b"abc"[..], "3"), "{early} {extra}");
        // What must not be sent twice goes on no connection that carried a large body last, whenever that
        // was read: a server that has left much of it unread closes.
        assert_ne!(connection, after_large, "{early} {extra}");

        // What may be sent twice does, where nginx has the whole of it: read early, it has.
        if !early.is_empty() || extra.is_empty() {
            assert_eq!(send("PUT", &large), connection, "{early} {extra}");
            assert_eq!(send("PUT", &large), connection, "{early} {extra}");
        }
    }
}
