//! What the response itself says about caching, and responses that are odd: for HEAD, cut short,
//! too long, after interim ones, too large a request.
//!
//! Mirrors how nginx's upstream module reads Set-Cookie, Cache-Control, Expires, X-Accel-Expires
//! and Vary (src/http/ngx_http_upstream.c).

use crate::cached::{
    answer, cached, cached_in, run, same_cache, summary, wire, CacheFile, Does::Nothing,
    Does::Says, Step, Valid, NEW, SIDES, ZONE,
};
use crate::prelude::*;
use std::collections::BTreeMap;

/// 2037-12-31 23:55:55: within the range of every time_t.
const FAR: Valid = Valid::At(2_145_916_555);
const DEFAULT: Option<Valid> = Some(Valid::For(600));

/// Response headers, and how long the response is kept: with what it says, and where all of that
/// is ignored.
const POLICY: [(&str, Option<Valid>, Option<Valid>); 19] = [
    ("X-None: 1", DEFAULT, DEFAULT),
    ("Set-Cookie: a=1", None, DEFAULT),
    ("Cache-Control: no-cache", None, DEFAULT),
    ("Cache-Control: no-store", None, DEFAULT),
    ("Cache-Control: PRIVATE, max-age=5", None, DEFAULT),
    ("Cache-Control: max-age=0", None, DEFAULT),
    ("Cache-Control: max-age=x", None, DEFAULT),
    ("Cache-Control: max-age=30", Some(Valid::For(30)), DEFAULT),
    ("Cache-Control: max-age=30, s-maxage=40", Some(Valid::For(40)), DEFAULT),
    ("Cache-Control: max-age=5, stale-while-revalidate=7", Some(Valid::For(5)), DEFAULT),
    ("Cache-Control: max-age=5, stale-if-error=9", Some(Valid::For(5)), DEFAULT),
    ("Cache-Control: public", DEFAULT, DEFAULT),
    ("Expires: Thu, 31 Dec 2037 23:55:55 GMT", Some(FAR), DEFAULT),
    ("Expires: Thu, 01 Jan 1970 00:00:10 GMT", None, DEFAULT),
    ("Expires: never", None, DEFAULT),
    ("X-Accel-Expires: 0", None, DEFAULT),
    ("X-Accel-Expires: 70", Some(Valid::For(70)), DEFAULT),
    ("X-Accel-Expires: @2145916555", Some(FAR), DEFAULT),
    ("X-Accel-Expires: 70\nCache-Control: max-age=5", Some(Valid::For(70)), DEFAULT),
];

#[test]
fn headers_that_decide() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 200 10m;
        location /heeded { uwsgi_pass @pass@; }
        location /ignored {
            uwsgi_ignore_headers Set-Cookie Cache-Control Expires X-Accel-Expires Vary;
            uwsgi_pass @pass@;
        }",
    );
    let mut expected = BTreeMap::new();
    for (number, (headers, heeded, ignored)) in POLICY.into_iter().enumerate() {
        // The scripts of the backend outlive this loop.
        let says: &'static str =
            format!("HTTP/1.1 200 OK\n{headers}\nContent-Length: 2\n\nok").leak();
        for (location, valid) in [("heeded", heeded), ("ignored", ignored)] {
            let uri = format!("/{location}/{number}");
            let request = format!("GET {uri}");
            let again = match valid {
                Some(_) => (&request[..], Nothing, "200 HIT ok"),
                None => (&request[..], Says(says), "200 MISS ok"),
            };
            run(&pair, headers, &[(&request, Says(says), "200 MISS ok"), again]);
            expected.extend(valid.map(|valid| (uri, valid)));
        }
    }
    let files = same_cache(&pair, "uwsgi_cache");
    let kept = files.values().map(|file| (file.key().to_string(), file.valid));
    assert_eq!(kept.collect::<BTreeMap<_, _>>(), expected);
    let stale = |uri: &str| files.values().find(|file| file.key() == uri).unwrap().stale;
    assert_eq!(stale("/heeded/9"), [7, 7]);
    assert_eq!(stale("/heeded/10"), [0, 9]);
    assert_eq!(stale("/ignored/9"), [0, 0]);
}

#[test]
fn vary() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location / { uwsgi_pass @pass@; }
        location /ignored { uwsgi_ignore_headers Vary; uwsgi_pass @pass@; }",
    );
    const EN: &str = "HTTP/1.1 200 OK\nVary: Accept-Language, X-Other\nContent-Length: 2\n\nen";
    const DE: &str = "HTTP/1.1 200 OK\nVary: Accept-Language, X-Other\nContent-Length: 2\n\nde";
    const STAR: &str = "HTTP/1.1 200 OK\nVary: *\nContent-Length: 2\n\nok";
    let long: &'static str =
        format!("HTTP/1.1 200 OK\nVary: {}\nContent-Length: 2\n\nok", "Accept, ".repeat(20)).leak();
    let steps: [Step; 13] = [
        ("GET /a\nAccept-Language: en", Says(EN), "200 MISS en"),
        ("GET /a\nAccept-Language: de", Says(DE), "200 MISS de"),
        ("GET /a\nAccept-Language: en", Nothing, "200 HIT en"),
        ("GET /a\nAccept-Language: de", Nothing, "200 HIT de"),
        ("GET /a\nAccept-Language: de\nX-Other: 1", Says(DE), "200 MISS de"),
        ("GET /a", Says(EN), "200 MISS en"),
        ("GET /b", Says(STAR), "200 MISS ok"),
        ("GET /b", Says(STAR), "200 MISS ok"),
        ("GET /c", Says(long), "200 MISS ok"),
        ("GET /c", Says(long), "200 MISS ok"),
        ("GET /ignored\nAccept-Language: en", Says(EN), "200 MISS en"),
        ("GET /ignored\nAccept-Language: de", Nothing, "200 HIT en"),
        ("GET /ignored?b", Says(STAR), "200 MISS ok"),
    ];
    run(&pair, "vary", &steps);
    assert_eq!(same_cache(&pair, "uwsgi_cache").len(), 6);
}

/// The uwsgi cache does not turn HEAD into GET (only the proxy's does): what the server answered
/// to HEAD is what is kept.
#[test]
fn head_requests() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location / { uwsgi_cache_key $request_method$uri; uwsgi_pass @pass@; }
        location /shared { uwsgi_cache_key $uri; uwsgi_pass @pass@; }",
    );
    const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";
    let steps: [Step; 6] = [
        ("HEAD /a", Says(OK), "200 MISS "),
        ("HEAD /a", Nothing, "200 HIT "),
        ("GET /a", Says(OK), "200 MISS ok"),
        ("HEAD /shared", Says(OK), "200 MISS "),
        ("GET /shared", Nothing, "200 HIT ok"),
        ("HEAD /shared", Nothing, "200 HIT "),
    ];
    let outcomes = run(&pair, "HEAD", &steps);
    assert!(outcomes[0].received[0].windows(4).any(|bytes| bytes == b"HEAD"));
    same_cache(&pair, "uwsgi_cache");
}

/// Only a response that is complete by its own measure is kept.
#[test]
fn cut_short_or_too_long() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location / { uwsgi_read_timeout 300ms; uwsgi_buffers 4 4k; uwsgi_pass @pass@; }",
    );
    let cases: [(&str, &'static str, bool, bool); 4] = [
        // name, head, does the backend stall in place of closing, is it kept
        ("short", "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", false, false),
        ("slow", "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", true, false),
        ("long", "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", false, true),
        ("until close", "Status: 200 OK\r\n\r\n", false, true),
    ];
    for (number, (name, head, stalls, kept)) in cases.into_iter().enumerate() {
        pair.backend.set_script(move |peer| {
            peer.answer(&[head.as_bytes(), &[b'x'; 10_000]].concat())?;
            if stalls {
                peer.stall()?;
            }
            Ok(())
        });
        let request = format!("GET /{number} HTTP/1.1\r\nHost: t\r\n\r\n");
        let connections = pair.backend.connection_count();
        for verdict in ["MISS", if kept { "HIT" } else { "MISS" }] {
            let (stock, ours) = pair.both(request.as_bytes());
            crate::pair::assert_responses(name, &stock.response, &ours.response);
            assert_eq!(stock.log, ours.log, "{name}");
            let stock = stock.response.unwrap();
            assert_eq!(stock.header("X-Cache"), Some(verdict), "{name}");
        }
        let asked = pair.backend.connection_count() - connections;
        assert_eq!(asked, if kept { 2 } else { 4 }, "{name}");
        same_cache(&pair, "uwsgi_cache");
    }
}

/// Interim responses (RFC 9110, 15.2) are not the response: what they say decides nothing, and the
/// final one is kept, served and revalidated. Stock 1.22 and 1.28 take them for the final one.
#[test]
fn after_early_hints() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_revalidate on;
        location / { uwsgi_pass @pass@; }",
    );
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nSet-Cookie: a=1\r\n\
        Vary: *\r\nCache-Control: no-store\r\nX-Accel-Expires: 0\r\nETag: \"hint\"\r\n\r\n\
        HTTP/1.1 102 Processing\r\n\r\n";
    let ours = pair.address(Side::Ours);
    let ask = |does: &'static str| {
        pair.backend
            .set_script(move |peer| peer.answer(&[HINTS.as_bytes(), &answer(does)].concat()));
        let before = pair.backend.connection_count();
        let response = get(ours, "/a");
        assert!(!response.head.starts_with(b"HTTP/1.1 10"), "{response:?}");
        assert_eq!(response.header("Link"), None);
        assert_eq!(response.header("Set-Cookie"), None);
        (summary(&response), pair.backend.connection_count() - before)
    };
    const OLD: &str = "HTTP/1.1 200 OK\nETag: \"final\"\nX-Accel-Expires: @1\n\
        Content-Length: 3\n\nold";
    assert_eq!(ask(OLD), ("200 MISS old".to_string(), 1));
    let unchanged = "HTTP/1.1 304 Not Modified\nX-Accel-Expires: 100\n\n";
    assert_eq!(ask(unchanged), ("200 REVALIDATED old".to_string(), 1));
    let asked = pair.backend.requests().pop().unwrap();
    assert_eq!(asked.packet.get("HTTP_IF_NONE_MATCH").as_deref(), Some("\"final\""));
    assert_eq!(ask(unchanged), ("200 HIT old".to_string(), 0));
    let file = CacheFile::only(&pair, Side::Ours, "uwsgi_cache");
    assert_eq!((file.etag, file.vary), ("\"final\"".to_string(), String::new()));
}

/// 431 where stock says 500, with a cache as without: whether headers or the URI make the request
/// too large. Nothing of it is kept.
#[test]
fn too_large_a_request() {
    let pair = cached_in(
        // Stock calls it an alert.
        Nginx::builder().expects("uwsgi request is too big"),
        ZONE,
        "large_client_header_buffers 8 64k; uwsgi_cache uwsgi_zone; uwsgi_cache_valid any 10m;
        location / { uwsgi_pass @pass@; }",
    );
    let value = "v".repeat(23_000);
    let headers: String = (0..3).map(|n| format!("X-{n}: {value}\r\n")).collect();
    let long_uri = format!("/?{}", "q".repeat(35_000));
    for (path, headers) in [("/a", &headers[..]), (&long_uri, "")] {
        let statuses = SIDES.map(|side| get_with(pair.address(side), path, headers).status);
        assert_eq!(statuses, [500, 431]);
    }
    assert_eq!(pair.nginx.logged("client sent too large request: its vars are").len(), 2);
    assert_eq!(pair.backend.connection_count(), 0);
    run(&pair, "after 431", &[("GET /a", Says(NEW), "200 MISS new")]);
}

/// A response that only redirects inside of nginx is not kept; one where it is told to ignore that is.
#[test]
fn accel_redirect() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location / { uwsgi_pass @pass@; }
        location /ignored { uwsgi_ignore_headers X-Accel-Redirect; uwsgi_pass @pass@; }
        location /inner { internal; uwsgi_cache off; uwsgi_pass @pass@; }",
    );
    const TO: &str = "HTTP/1.1 200 OK\nX-Accel-Redirect: /inner\nContent-Length: 2\n\nno";
    let script: fn(&mut crate::support::backend::Peer) -> std::io::Result<()> = |peer| {
        let uri = peer.read_request()?.packet.get("PATH_INFO").unwrap();
        let text = if uri == "/inner" { "HTTP/1.1 200 OK\n\nin" } else { TO };
        peer.write(&answer(text))
    };
    for asked in ["first", "second"] {
        let outcome = pair.assert_same(asked, &wire("GET /a"), script);
        assert_eq!(summary(&outcome.response.unwrap()), "200 - in", "{asked}");
    }
    // Each side asked twice for the redirecting response, and twice for what it redirects to.
    assert_eq!(pair.backend.connection_count(), 8);
    let steps: [Step; 2] =
        [("GET /ignored", Says(TO), "200 MISS no"), ("GET /ignored", Nothing, "200 HIT no")];
    run(&pair, "ignored", &steps);
    assert_eq!(same_cache(&pair, "uwsgi_cache").len(), 1);
}
