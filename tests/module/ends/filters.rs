//! Filters that end the request when the head of the response passes by
//! (`ngx_http_filter_finalize_request`), which clears what modules keep with a request.

use super::{get_with, Site, OK};

const CACHED: &str =
    "rs_uwsgi_cache zone; rs_uwsgi_cache_key $request_uri; rs_uwsgi_cache_valid 1m;";

/// nginx compares the conditions of requests with responses that it may cache.
fn site(more: &str) -> Site {
    let locations = format!("location / {{ {CACHED} rs_uwsgi_pass @pass@; }} {more}");
    Site::new(&locations, |peer, packet| match packet.get("REQUEST_URI").as_deref() {
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
