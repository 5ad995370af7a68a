//! Responses that make nginx pass the request on elsewhere.

use super::{get, OnePlace, OK};

/// A server whose `/` answers with `head`, and whose other paths are fine.
fn site(head: &'static str, locations: &str) -> OnePlace {
    OnePlace::new(locations, move |peer, packet| match packet.get("PATH_INFO").as_deref() {
        Some("/") => peer.write(format!("HTTP/1.1 {head}\r\n\r\nfirst").as_bytes()),
        _ => peer.write(OK),
    })
}

const PASS: &str = "location / { rs_uwsgi_param PATH_INFO $document_uri;
    rs_uwsgi_param REQUEST_URI $request_uri; rs_uwsgi_intercept_errors on; rs_uwsgi_pass @pass@; }";

fn with(more: &str) -> String {
    format!("{PASS} {more}")
}

#[test]
fn redirect_to_a_file() {
    let site = site("200 OK\r\nX-Accel-Redirect: /file", PASS);
    assert_eq!(site.end(&get("/")).text(), "file");
}

#[test]
fn redirect_to_the_same_server() {
    let site = site("200 OK\r\nX-Accel-Redirect: /other", PASS);
    assert_eq!(site.end(&get("/")).text(), "ok");
}

#[test]
fn redirect_to_named() {
    let site =
        site("200 OK\r\nX-Accel-Redirect: @named", &with("location @named { return 200 named; }"));
    assert_eq!(site.end(&get("/")).text(), "named");
}

#[test]
fn page_from_a_file() {
    let site = site("500 Oh\r\nContent-Length: 5", &with("error_page 500 /file;"));
    let response = site.end(&get("/"));
    assert_eq!((response.status, response.text()), (500, "file".into()));
}

#[test]
fn page_from_the_same_server() {
    for head in ["503 Oh\r\nContent-Length: 5", "503 Oh\r\nTransfer-Encoding: chunked"] {
        let site = site(head, &with("error_page 503 /other;"));
        let response = site.end(&get("/"));
        assert_eq!((response.status, response.text()), (503, "ok".into()));
    }
}
