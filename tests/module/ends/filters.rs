//! Filters that end the request when the response passes by (`ngx_http_filter_finalize_request`), which
//! clears what modules keep with a request; and filters that fail.

use super::{get, get_with, OnePlace, OK};
use crate::prelude::*;
use crate::support::programs::nginx_path;
use std::path::Path;

const CACHED: &str =
    "rs_uwsgi_cache zone; rs_uwsgi_cache_key $request_uri; rs_uwsgi_cache_valid 1m;";

/// nginx compares the conditions of requests with responses that it may cache.
fn site(more: &str) -> OnePlace {
    let locations = format!("location / {{ {CACHED} rs_uwsgi_pass @pass@; }} {more}");
    OnePlace::new(&locations, |peer, packet| match packet.get("REQUEST_URI").as_deref() {
        Some("/page") => peer.write(OK),
        _ => peer.write(
            b"HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
              Content-Length: 2\r\n\r\nok",
        ),
    })
}

#[test]
fn failed_precondition() {
    let site = site("");
    assert_eq!(site.end(&get_with("/", "If-Match: \"nope\"\r\n")).status, 412);
    // and it leaves nothing behind that shows later
    for number in 0..3 {
        let request = get_with(&format!("/{number}"), "If-Match: \"nope\"\r\n");
        assert_eq!(site.send(&request).response(false).unwrap().status, 412);
        site.assert_free();
    }
}

#[test]
fn modified_since() {
    let condition = "If-Unmodified-Since: Wed, 01 Jan 2025 00:00:00 GMT\r\n";
    assert_eq!(site("").end(&get_with("/", condition)).status, 412);
}

#[test]
fn filter_then_page() {
    let site = site("error_page 412 /file;");
    let response = site.end(&get_with("/", "If-Match: \"nope\"\r\n"));
    assert_eq!((response.status, response.text()), (412, "file".into()));
}

#[test]
fn filter_then_named() {
    let site = site("error_page 412 @named; location @named { return 410 named; }");
    let response = site.end(&get_with("/", "If-Match: \"nope\"\r\n"));
    assert_eq!(response.text(), "named");
}

/// The request gets another upstream while its first one still has a connection, under the settings of
/// another location.
#[test]
fn filter_then_the_same_server() {
    for settings in ["", "rs_uwsgi_buffering off;", "rs_uwsgi_reuse off;"] {
        let site = site(&format!(
            "rs_uwsgi_reuse off; error_page 412 /page;
            location = /page {{ {settings} rs_uwsgi_param REQUEST_URI /page; rs_uwsgi_pass @pass@; }}"
        ));
        let mut client = site.send(&get_with("/", "If-Match: \"nope\"\r\n"));
        site.open();
        let response = client.response(false).unwrap();
        assert_eq!((response.status, response.text()), (412, "ok".into()));
        site.assert_free();
    }
}

/// An answer of the server to `/`, which a filter of Debian's ends with an error where it reads the body. Only
/// Debian's nginx loads Debian's modules: another one has but the filters above that end a request.
fn ended_by(module: &str, location: &str, answer: &'static [u8]) -> Option<Response> {
    let path = format!("/usr/lib/nginx/modules/ngx_http_{module}_module.so");
    let load = format!("load_module {path};");
    if nginx_path() != Path::new("/usr/sbin/nginx") {
        assert!(!Nginx::builder().main(&load).check().status.success(), "it can be tested here");
        return None;
    }
    let locations = format!("location / {{ {location} rs_uwsgi_pass @pass@; }}");
    let site = OnePlace::build(&load, &locations, move |peer, _| peer.write(answer));
    let response = site.end(&get("/"));
    // and it leaves nothing behind that shows later
    for _ in 0..3 {
        assert_eq!(site.send(&get("/")).response(false).unwrap().status, response.status);
        site.assert_free();
    }
    Some(response)
}

#[test]
fn image_filter() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 20\r\n\r\n\
        this is not an image";
    for location in ["image_filter test;", "image_filter resize 9 9; rs_uwsgi_buffering off;"] {
        let response = ended_by("image_filter", location, answer);
        assert!(response.is_none_or(|response| response.status == 415), "{location}");
    }
}

#[test]
fn xslt_filter() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\n<a></";
    for location in ["", "rs_uwsgi_buffering off;"] {
        let location = format!("xslt_stylesheet @dir@/html/sheet; {location}");
        let response = ended_by("xslt_filter", &location, answer);
        assert!(response.is_none_or(|response| response.status == 500), "{location}");
    }
}

/// One that fails when it gets the body (gunzip), and one that does when it gets the head (slice).
#[test]
fn filter_that_fails() {
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone";
    let range =
        b"HTTP/1.1 206 Part\r\nContent-Range: bytes 9-12/99\r\nContent-Length: 4\r\n\r\nnone";
    for (location, answer) in [
        ("gunzip on;", &gzip[..]),
        ("gunzip on; rs_uwsgi_buffering off;", &gzip[..]),
        ("slice 4;", &range[..]),
        ("slice 4; rs_uwsgi_buffering off;", &range[..]),
    ] {
        let locations = format!("location / {{ {location} rs_uwsgi_pass @pass@; }}");
        let site = OnePlace::new(&locations, move |peer, _| peer.write(answer));
        site.end_by(&get("/"), |mut client| client.read_to_end());
    }
}
