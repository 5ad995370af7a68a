//! `text/event-stream` is passed on at once, unless buffering is asked for by name.

use crate::prelude::*;
use std::sync::mpsc::Receiver;

/// `http` and `server` around `location /`, with `location` in it.
fn site(http: &str, server: &str, location: &str) -> Site {
    site_on("listen 127.0.0.1:@port@;", http, server, location)
}

/// As `site`, with a `listen` directive of its own.
fn site_on(listen: &str, http: &str, server: &str, location: &str) -> Site {
    Site::builder()
        .script(|peer| peer.stall())
        .http("rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;")
        .http(http)
        .http(&format!(
            "server {{ {listen} {server}
                location / {{ {location} rs_uwsgi_pass @pass@; }} }}"
        ))
        .start()
}

const FIRST: &str = "data: first\n\n";
const LAST: &str = "data: last\n\n";

/// Sends the head and the first event, and the last one when told to, or when the sender is gone.
fn stream(site: &Site, head: &str, go: Receiver<()>) {
    let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{FIRST}");
    let go = Arc::new(Mutex::new(go));
    site.backend.set_script(move |peer| {
        peer.answer(head.as_bytes())?;
        let _ = go.lock().unwrap().recv();
        peer.write(LAST.as_bytes())
    });
}

const GET: &str = "GET / HTTP/1.0\r\nHost: h\r\n\r\n";
const STREAM: &str = "Content-Type: text/event-stream";

/// Does the first event arrive before the last one is made?
fn arrives_at_once(site: &Site, head: &str) -> bool {
    let (go, wait) = channel();
    stream(site, head, wait);
    let mut client = Client::connect(site.nginx.address());
    client.send(GET.as_bytes());
    let reader = std::thread::spawn(move || {
        client.read_head().unwrap();
        let first = client.read_exact(FIRST.len()).unwrap();
        assert_eq!(first, FIRST.as_bytes());
        client
    });
    let until = std::time::Instant::now() + PATIENCE;
    while !reader.is_finished() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let at_once = reader.is_finished();
    drop(go);
    let mut client = reader.join().unwrap();
    assert_eq!(client.read_to_end(), LAST.as_bytes(), "{head}");
    at_once
}

/// How long a first event is waited for that should not come.
const PATIENCE: Duration = Duration::from_millis(700);

/// Waits for the first event as long as it takes.
fn must_arrive(site: &Site, request: &str, head: &str) -> Client {
    let (go, wait) = channel();
    stream(site, head, wait);
    let mut client = Client::connect(site.nginx.address());
    client.send(request.as_bytes());
    client.read_head().unwrap();
    assert_eq!(client.read_exact(FIRST.len()).unwrap(), FIRST.as_bytes(), "{head}");
    go.send(()).unwrap();
    client
}

#[test]
fn passed_on_at_once() {
    let site = site("", "", "");
    for kind in [
        "Content-Type: text/event-stream",
        "content-type: text/event-stream; charset=utf-8",
        "Content-Type: Text/Event-Stream;charset=UTF-8",
        "Content-Type: TEXT/EVENT-STREAM ; x",
        "Content-Type: text/event-stream\r\nX-Accel-Buffering: no",
        "Content-Type: text/event-stream\r\nX-Accel-Buffering: perhaps",
        "Content-Type: text/event-stream\r\nX-Accel-Buffering: yes\r\nX-Accel-Buffering: no",
        "Content-Type: text/plain\r\nX-Accel-Buffering: no",
    ] {
        let mut client = must_arrive(&site, GET, kind);
        assert_eq!(client.read_to_end(), LAST.as_bytes(), "{kind}");
    }
}

#[test]
fn buffered_where_the_response_asks_for_it_or_is_none() {
    let site = site("", "", "");
    for kind in [
        "Content-Type: text/event-stream\r\nX-Accel-Buffering: yes",
        "X-Accel-Buffering: YES\r\nContent-Type: text/event-stream",
        "Content-Type: text/event-streams",
        "Content-Type: text/event",
        "Content-Type: text/plain",
        "Content-Type: application/json",
        "X-Content-Type: text/event-stream",
    ] {
        assert!(!arrives_at_once(&site, kind), "{kind}");
    }
}

#[test]
fn what_is_configured_counts_at_every_level() {
    for (http, server, location, at_once) in [
        ("", "", "", true),
        ("", "", "rs_uwsgi_buffering on;", false),
        ("", "rs_uwsgi_buffering on;", "", false),
        ("rs_uwsgi_buffering on;", "", "", false),
        (
            "rs_uwsgi_buffering on;",
            "rs_uwsgi_read_timeout 50s;",
            "rs_uwsgi_send_timeout 9s;",
            false,
        ),
        ("rs_uwsgi_buffering on;", "", "rs_uwsgi_buffering off;", true),
        ("rs_uwsgi_buffering off;", "", "rs_uwsgi_buffering on;", false),
        (
            "rs_uwsgi_read_timeout 50s;",
            "rs_uwsgi_send_timeout 9s;",
            "rs_uwsgi_limit_rate 1m;",
            true,
        ),
        ("", "", "if ($arg_x = '') { rs_uwsgi_pass @pass@; }", true),
        ("", "rs_uwsgi_buffering on;", "if ($arg_x = '') { rs_uwsgi_pass @pass@; }", false),
        ("", "", "rs_uwsgi_ignore_headers X-Accel-Buffering;", true),
    ] {
        // the address is known when the backend is
        let location = location.replace("if ($arg_x = '') { rs_uwsgi_pass @pass@; }", IF);
        let site = site(http, server, &location);
        let kind = match location.contains("ignore_headers") {
            true => "Content-Type: text/event-stream\r\nX-Accel-Buffering: yes",
            false => STREAM,
        };
        match at_once {
            true => drop(must_arrive(&site, GET, kind)),
            false => assert!(!arrives_at_once(&site, kind), "{http} {server} {location}"),
        }
    }
}

/// A block in the location that inherits all of it.
const IF: &str = "if ($arg_x = '') { set $y 1; }";

/// In a cache or a store: passed on at once, and not kept. The locks of the cache are let go.
#[test]
fn never_kept() {
    for (location, folder) in [
        ("rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid any 1h; rs_uwsgi_cache_lock on;", "cache"),
        ("root @dir@/kept; rs_uwsgi_store on;", "kept"),
    ] {
        let site = site("", "", location);
        for number in 0..3 {
            let mut client = must_arrive(&site, "GET /a HTTP/1.0\r\nHost: h\r\n\r\n", STREAM);
            assert_eq!(client.read_to_end(), LAST.as_bytes(), "{location}");
            site.backend.wait_request(number);
        }
        site.nginx.wait_requests(3);
        let kept = std::fs::read_dir(site.nginx.path(folder)).map_or(0, Iterator::count);
        assert_eq!(kept, 0, "{location}");
        // buffering that was asked for keeps it
        let (go, wait) = channel();
        let kind = "Content-Type: text/event-stream\r\nX-Accel-Buffering: yes\r\nContent-Length: 25";
        drop(go);
        stream(&site, kind, wait);
        for _ in 0..2 {
            let response =
                crate::support::client::exchange(site.nginx.address(), b"GET /b HTTP/1.0\r\n\r\n");
            assert_eq!(response.text(), format!("{FIRST}{LAST}"), "{location}");
        }
        site.nginx.wait_requests(5);
        let asked = if folder == "cache" { 4 } else { 5 };
        assert_eq!(site.backend.requests().len(), asked, "{location}");
    }
}

/// A HEAD has its answer, and the connection to the server is closed.
#[test]
fn head() {
    for location in ["", "rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid any 1h;"]
    {
        let site = site("", "", location);
        site.backend.set_script(|peer| {
            peer.answer(format!("HTTP/1.1 200 OK\r\n{STREAM}\r\n\r\n").as_bytes())?;
            peer.stall()
        });
        let mut client = Client::connect(site.nginx.address());
        client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        for _ in 0..2 {
            assert_eq!(client.response(true).unwrap().status, 200);
        }
        site.backend.take_ended(0, 2);
    }
}

/// A client that leaves ends the connection to the server; also in a cache, whether anything comes from
/// there or not.
#[test]
fn a_client_that_leaves() {
    for location in [
        "",
        "rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid any 1h;",
        "root @dir@/kept; rs_uwsgi_store on;",
    ] {
        let site = site("", "", &format!("rs_uwsgi_read_timeout 1h; {location}"));
        let head = format!("HTTP/1.1 200 OK\r\n{STREAM}\r\n\r\n{FIRST}");
        // with a store nginx does not look after its client before it has something to send
        let speaks = location.contains("store");
        site.backend.set_script(move |peer| {
            peer.answer(head.as_bytes())?;
            if !speaks {
                return peer.stall();
            }
            loop {
                std::thread::sleep(Duration::from_millis(10));
                peer.write(FIRST.as_bytes())?;
            }
        });
        let mut client = Client::connect(site.nginx.address());
        client.send(GET.as_bytes());
        client.read_head().unwrap();
        client.read_exact(FIRST.len()).unwrap();
        drop(client);
        // nginx closes, which is what ends the script
        site.backend.take_ended(0, 1);
        site.nginx.wait_requests(1);
    }
}

/// The filters of nginx pass on what they are given: gzip flushes.
#[test]
fn through_gzip() {
    let site = site("", "gzip on; gzip_types *; gzip_min_length 0; gzip_http_version 1.0;", "");
    let (go, wait) = channel();
    stream(&site, STREAM, wait);
    let mut client = Client::connect(site.nginx.address());
    client.send(b"GET / HTTP/1.0\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_head().unwrap();
    assert!(String::from_utf8_lossy(&head).contains("Content-Encoding: gzip"));
    // a header of gzip's, and what was flushed: the last event has not been made
    let first = client.read_exact(10 + FIRST.len()).unwrap();
    assert_eq!(first[..2], [0x1f, 0x8b]);
    go.send(()).unwrap();
    assert!(!client.read_to_end().is_empty());
}

/// And HTTP/2 sends a frame.
#[test]
fn through_http2() {
    let site = site_on("listen 127.0.0.1:@port@ http2;", "", "", "");
    let (go, wait) = channel();
    stream(&site, STREAM, wait);
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"h")];
    let local = ([127, 0, 0, 1], 0).into();
    let mut go = Some(go);
    // the last event is made when the first one is here; else the connection times out
    let answer = h2::watched(local, site.nginx.address(), &fields, None, |answer| {
        if answer.body == FIRST.as_bytes() {
            if let Some(go) = go.take() {
                go.send(()).unwrap();
            }
        }
    });
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.error), (Some(200), None));
    assert_eq!(String::from_utf8_lossy(&answer.body), format!("{FIRST}{LAST}"));
    assert!(go.is_none(), "the first event came with the last one");
}

/// What one server has said does not decide for the next one, whose answer it is.
#[test]
fn only_for_the_response_that_says_so() {
    for said in [STREAM, "Content-Type: text/plain\r\nX-Accel-Buffering: no"] {
        let dir = nginx::prefix();
        let head = format!("HTTP/1.1 503 No\r\n{said}\r\nContent-Length: 0\r\n\r\n");
        let first = Backend::unix(&dir.path().join("a"), move |peer| peer.answer(head.as_bytes()));
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let second = Backend::unix(&dir.path().join("b"), move |peer| {
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
            wait.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            peer.write(b"other")
        });
        let nginx = Nginx::builder()
            // a head in the log looks like an alarm
            .log_level("debug_http")
            .http(&format!(
                "upstream u {{ server {}; server {} backup; }}
                server {{ listen 127.0.0.1:@port@; rs_uwsgi_next_upstream error http_503;
                    location / {{ rs_uwsgi_pass u; }} }}",
                first.address(),
                second.address()
            ))
            .start();
        let mut client = Client::connect(nginx.address());
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        second.wait_request(0);
        // The pipe is what nginx buffers with.
        wait_for("the response to be read", || {
            let lines =
                ["http upstream process upstream", "http upstream process non buffered upstream"];
            let seen = lines.map(|line| nginx.logged(line).len());
            (seen != [0, 0]).then_some(seen)
        });
        assert!(nginx.logged("process non buffered").is_empty(), "{said}");
        go.send(()).unwrap();
        assert_eq!(client.response(false).unwrap().text(), "firstother");
    }
}
