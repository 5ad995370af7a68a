//! Request headers whose names become the same var, and the one whose var would tell of another body.

use crate::differences::serving;
use crate::prelude::*;

/// The client's own Content-Length is no var, however it is spelled: a server could believe it. What the
/// configuration names so is the operator's word.
#[test]
fn content_length_is_no_header() {
    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent_Length: 9\r\nContent-Length: 2\r\n\r\nhi";
    for conf in [
        "",
        "rs_uwsgi_drop_headers off;",
        "rs_uwsgi_drop_headers X-A;",
        "rs_uwsgi_pass_request_body off;",
        "rs_uwsgi_request_buffering off;",
        "rs_uwsgi_param A b; rs_uwsgi_pass_request_body off;",
    ] {
        let site = serving(&format!("underscores_in_headers on; {conf}"));
        let packet = site.packet(request);
        assert_eq!(packet.get("HTTP_CONTENT_LENGTH"), None, "{conf}");
        let length = packet.get("CONTENT_LENGTH");
        let expected = if conf.contains("body off") { None } else { Some("2") };
        assert_eq!(length.as_deref().filter(|length| *length != "0"), expected, "{conf}");
    }
    let upgrade = request.replace("Host: h", "Host: h\r\nConnection: upgrade\r\nUpgrade: x");
    let packet = serving("").packet(&upgrade);
    assert_eq!(packet.get("HTTP_CONTENT_LENGTH"), None);
    let site = Site::answering(
        "rs_uwsgi_cache_path @dir@/pages keys_zone=pages:1m;
        server { listen 127.0.0.1:@port@; location / {
            rs_uwsgi_cache pages; rs_uwsgi_cache_key $uri; rs_uwsgi_pass @pass@; } }",
    );
    let get = "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let packet = site.packet(get);
    assert_eq!(packet.get("HTTP_CONTENT_LENGTH"), None);
    assert_eq!(packet.get("CONTENT_LENGTH").as_deref(), Some("2"));
    let named = serving("rs_uwsgi_param HTTP_CONTENT_LENGTH 7;").packet(request);
    assert_eq!(named.get("HTTP_CONTENT_LENGTH").as_deref(), Some("7"));
}

/// Spellings that become one var: a client cannot add to what a proxy has set, nor get around the
/// directives that name a header.
#[test]
fn an_underscore_gives_way_to_another_spelling() {
    let headers = |conf: &str, lines: &str| {
        let site = serving(&format!("{conf} rs_uwsgi_param HTTP_X_SET mine;"));
        let packet = site.packet(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
        // `get` panics where a var is there twice
        let names = ["HTTP_X_REMOTE_USER", "HTTP_X_SET", "HTTP_PROXY_CONNECTION", "HTTP_X_A"];
        names.map(|name| packet.get(name).unwrap_or_default())
    };
    for conf in ["underscores_in_headers on;", "ignore_invalid_headers off;"] {
        for (lines, user) in [
            ("X-Remote-User: a\r\nX_Remote_User: b\r\n", "a"),
            ("X_Remote_User: b\r\nX-Remote-User: a\r\n", "a"),
            (
                "X_Remote_User: b\r\nX-Remote-User: a\r\nX_REMOTE_USER: c\r\nx-remote-user: d\r\n",
                "a, d",
            ),
            ("X_Remote-User: b\r\nX-Remote-User: a\r\nX-Remote_User: c\r\n", "a"),
            // neither can be told from what a proxy has set
            ("X_Remote-User: b\r\nX_Remote_User: c\r\n", ""),
            ("X_Remote_User: b\r\n", "b"),
            ("X_Remote_User: b\r\nx_remote_user: c\r\n", "b, c"),
            ("x_set: evil\r\nProxy_Connection: evil\r\nX-Remote-User: a\r\n", "a"),
        ] {
            assert_eq!(headers(conf, lines)[..3], [user, "mine", ""], "{conf} {lines}");
            let repeated = format!("{lines}X-A: 1\r\nX-A: 2\r\n");
            assert_eq!(headers(conf, &repeated), [user, "mine", "", "1, 2"], "{conf} {lines}");
        }
    }
    assert_eq!(headers("", "X_Remote_User: b\r\n")[0], "");
}
