//! What is answered where: paths, methods, headers.

use super::{answering_server, STATUS};
use crate::prelude::*;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn site() -> Site {
    answering_server(&format!("location / {{ rs_uwsgi_pass @pass@; }} {STATUS}"))
}

#[test]
fn what_is_answered_where() {
    let site = site();
    let of = |path: &str, accept: &str| {
        let response = get_with(site.nginx.address(), path, &format!("Accept: {accept}\r\n"));
        (response.status, response.header("content-type").unwrap_or_default().to_owned())
    };
    for (path, accept, expected) in [
        ("/status/", "", HTML),
        ("/status/", "*/*", HTML),
        ("/status/", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        ("/status/", JSON, JSON),
        ("/status/json", "text/html", JSON),
        ("/status/json?history=5", "", JSON),
        ("/status/metrics", "*/*", TEXT),
        ("/status/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPEN),
    ] {
        assert_eq!(of(path, accept), (200, expected.to_owned()), "{path} {accept}");
    }
    for (path, status) in [
        ("/status/other", 404),
        ("/status/json/", 404),
        ("/status/JSON", 404),
        ("/status/json%2f", 404),
        ("/status/metrics%0a", 404),
        ("/status/%3Cscript%3E", 404),
        // nginx's own answer
        ("/status/metrics%00", 400),
        // elsewhere
        ("/status/%2e%2e/json", 200),
    ] {
        assert_eq!(of(path, "*/*").0, status, "{path}");
    }
    // as every location with a handler that ends in a slash
    assert_eq!(get(site.nginx.address(), "/status").status, 301);
    let page = get(site.nginx.address(), "/status/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let again = get(site.nginx.address(), "/status/");
    assert_ne!(again.header("content-security-policy"), Some(policy));
}

/// GET and HEAD, and nothing else; what the request brings along is not in the way.
#[test]
fn methods_and_bodies() {
    let site = site();
    let to = site.nginx.address();
    for path in ["/status/", "/status/json", "/status/metrics"] {
        let mut client = Client::connect(to);
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let head = client.response(true).unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        // and the connection goes on
        client.send(
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").as_bytes(),
        );
        assert_eq!(client.response(false).unwrap().status, 200, "{path}");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(client.response(false).unwrap().status, 200, "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
            let response = exchange(to, request.as_bytes());
            assert_eq!(response.status, 405, "{method}");
            assert_eq!(response.header("allow"), Some("GET, HEAD"), "{method}");
        }
        let old = exchange(to, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(old.status, 200, "{path}");
    }
    assert_eq!(site.backend.connection_count(), 0);
}
