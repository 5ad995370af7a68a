//! 103 responses passed on to clients, where nginx can (1.29.0 and later) and `early_hints` allows it.
//! Every other interim response is consumed (`interim`), these as well where it is not configured.

use crate::prelude::*;

const HINTS: &str = "HTTP/1.1 100 Continue\r\nX-Of: 100\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 3\r\n\
    Connection: x\r\nTransfer-Encoding: chunked\r\nX-Accel-Redirect: /elsewhere\r\n\
    X-Accel-Expires: 60\r\nCache-Control: no-store\r\nX-Of: 103\r\n\r\n\
    HTTP/1.1 102 Processing\r\nX-Of: 102\r\n\r\n\
    HTTP/1.1 103\r\nLink: </b.js>\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nX-Of: final\r\nContent-Length: 5\r\n\r\nhello";

/// What a client gets of [`HINTS`]: no framing, nothing for nginx, nothing of other responses.
const FIRST: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
    Cache-Control: no-store\r\nX-Of: 103\r\n\r\n";
const SECOND: &str = "HTTP/1.1 103 Early Hints\r\nLink: </b.js>\r\n\r\n";

fn has_early_hints() -> bool {
    nginx_version() >= 1_029_000
}

/// An nginx that asks for hints with `?hints=1`, where it can.
fn site(backend: &Backend, listen: &str, server: &str, location: &str) -> Nginx {
    let early_hints = if has_early_hints() { "early_hints $arg_hints;" } else { "" };
    Nginx::start(&format!(
        "rs_uwsgi_cache_path @dir@/cache keys_zone=zone:1m;
        server {{ listen 127.0.0.1:@port@{listen}; {early_hints} {server}
            location / {{ rs_uwsgi_pass {}; {location} }} }}",
        backend.address()
    ))
}

/// Sends the bytes in pieces of `size`.
fn backend(bytes: String, size: usize) -> Backend {
    Backend::tcp(move |peer| {
        peer.read_request()?;
        bytes.as_bytes().chunks(size).try_for_each(|piece| peer.write(piece))
    })
}

fn answer(nginx: &Nginx, path: &str) -> Response {
    let mut client = Client::connect(nginx.address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    client.response(false).unwrap()
}

/// The heads before the final one.
fn interim(response: &Response) -> String {
    let head = String::from_utf8(response.head.clone()).unwrap();
    head.split_once("HTTP/1.1 200 OK").expect(&head).0.to_string()
}

#[test]
fn passed_on_where_nginx_can() {
    if !has_early_hints() {
        let said = Nginx::builder().http("early_hints 1;").check().stderr;
        assert!(said.contains("unknown directive \"early_hints\""), "{said}");
    }
    for server in ["", "rs_uwsgi_buffering off;", "rs_uwsgi_buffer_size 1k;"] {
        for size in [usize::MAX, 11, 1] {
            let backend = backend([HINTS, FINAL].concat(), size);
            let nginx = site(&backend, "", server, "");
            for (path, expected) in [("/?hints=1", [FIRST, SECOND].concat()), ("/", String::new())]
            {
                let name = format!("{server} {path} in pieces of {size}");
                let response = answer(&nginx, path);
                let expected = if has_early_hints() { expected } else { String::new() };
                assert_eq!(interim(&response), expected, "{name}");
                assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{name}");
                assert_eq!(response.header("X-Of"), Some("final"), "{name}");
                assert_eq!(response.header("Link"), None, "{name}");
                assert_eq!(response.header("Cache-Control"), None, "{name}");
            }
        }
    }
}

/// The hints are with the client before there is a final response.
#[test]
fn passed_on_at_once() {
    if !has_early_hints() {
        return;
    }
    let backend = Backend::tcp(|peer| {
        peer.read_request()?;
        peer.write(HINTS.as_bytes())?;
        peer.wait_closed()
    });
    let nginx = site(&backend, "", "", "");
    let mut client = Client::connect(nginx.address());
    client.send(b"GET /?hints=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(String::from_utf8(client.read_head().unwrap()).unwrap(), FIRST);
    assert_eq!(String::from_utf8(client.read_head().unwrap()).unwrap(), SECOND);
}

#[test]
fn over_http2() {
    let backend = backend([HINTS, FINAL].concat(), usize::MAX);
    let nginx = site(&backend, " http2", "", "");
    let answer = curl::http2(nginx.address(), "/?hints=1", &[]);
    assert_eq!(answer.body, b"hello");
    let (last, before): (Vec<_>, _) = {
        let at = answer.head.iter().position(|line| line.starts_with("HTTP/2 200")).unwrap();
        (answer.head[at..].to_vec(), answer.head[..at].to_vec())
    };
    assert!(last.iter().any(|line| line == "x-of: final"), "{last:?}");
    let expected: &[&str] = match has_early_hints() {
        true => &[
            "HTTP/2 103",
            "link: </a.css>; rel=preload",
            "cache-control: no-store",
            "x-of: 103",
            "HTTP/2 103",
            "link: </b.js>",
        ],
        false => &[],
    };
    let before: Vec<_> = before.iter().map(|line| line.trim_end()).collect();
    assert_eq!(before, expected);
}

/// A client of HTTP/1.0 knows no interim responses.
#[test]
fn not_over_http10() {
    let backend = backend([HINTS, FINAL].concat(), usize::MAX);
    let nginx = site(&backend, "", "", "");
    let mut client = Client::connect(nginx.address());
    client.send(b"GET /?hints=1 HTTP/1.0\r\nHost: h\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!((interim(&response).as_str(), response.text().as_str()), ("", "hello"));
}

/// What is cached is the final response; the hints of the first are not repeated.
#[test]
fn cached_without_them() {
    let backend = backend([HINTS, FINAL].concat(), usize::MAX);
    let cache = "rs_uwsgi_cache zone; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid 10m;
        add_header X-Cache $upstream_cache_status;";
    let nginx = site(&backend, "", "", cache);
    let expected = if has_early_hints() { [FIRST, SECOND].concat() } else { String::new() };
    for (status, hints) in [("MISS", expected.as_str()), ("HIT", "")] {
        let response = answer(&nginx, "/?hints=1");
        assert_eq!(response.header("X-Cache"), Some(status));
        assert_eq!(interim(&response), hints, "{status}");
        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{status}");
        assert_eq!(response.header("X-Of"), Some("final"), "{status}");
    }
    assert_eq!(backend.connection_count(), 1);
    // one that is kept while nobody may have the hints has them in its file
    for status in ["MISS", "HIT"] {
        let response = answer(&nginx, "/other");
        assert_eq!(response.header("X-Cache"), Some(status));
        assert_eq!(interim(&response), "", "{status}");
    }
    assert_eq!(interim(&answer(&nginx, "/other?hints=1")), "");
}

/// Responses with hints leave the connection in order.
#[test]
fn connections_are_used_again() {
    let backend = Backend::tcp(|peer| loop {
        peer.read_request()?;
        peer.write(HINTS.as_bytes())?;
        peer.write(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")?;
    });
    let nginx = site(&backend, "", "", "");
    for _ in 0..5 {
        assert_eq!(answer(&nginx, "/?hints=1").text(), "hello");
    }
    assert_eq!(backend.connection_count(), 1);
}

/// As many bytes of hints as a head may have are passed on, as many again are read.
#[test]
fn a_flood() {
    let backend = Backend::tcp(|peer| {
        peer.read_request()?;
        while peer.write(SECOND.as_bytes()).is_ok() {}
        peer.close();
        Ok(())
    });
    let nginx = site(&backend, "", "rs_uwsgi_buffer_size 4k;", "");
    let mut client = Client::connect(nginx.address());
    client.send(b"GET /?hints=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.response(false).unwrap();
    assert_eq!(response.status, 502);
    let hints = String::from_utf8(response.head).unwrap().matches(SECOND).count();
    let most = if has_early_hints() { 4096 / SECOND.len() } else { 0 };
    assert!(hints <= most && (hints > 0) == (most > 0), "{hints} of {most}");
    nginx.wait_logged("upstream sent too big header while reading response header");
}

/// The next server's response follows the hints of one that failed.
#[test]
fn next_upstream_after_them() {
    let other = backend([SECOND, FINAL].concat(), usize::MAX);
    let first = backend(FIRST.to_string(), usize::MAX);
    let early_hints = if has_early_hints() { "early_hints 1;" } else { "" };
    let nginx = Nginx::start(&format!(
        "upstream app {{ server {} max_fails=0; server {} backup; }}
        server {{ listen 127.0.0.1:@port@; {early_hints}
            location / {{ rs_uwsgi_pass app; }} }}",
        first.address(),
        other.address()
    ));
    let response = answer(&nginx, "/");
    let expected = if has_early_hints() { [FIRST, SECOND].concat() } else { String::new() };
    assert_eq!((interim(&response), response.text()), (expected, "hello".to_string()));
}
