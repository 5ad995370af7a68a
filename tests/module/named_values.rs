//! Messages about a wrong value say what a right one is, and stand where the value does.

use crate::prelude::*;

/// The line about a location with this directive in its third line.
fn said(block: &str, directive: &str) -> String {
    let (location, upstream) = match block {
        "location" => (directive, ""),
        _ => ("", directive),
    };
    let check = Nginx::builder()
        .http(&format!(
            "include site.conf; upstream app {{ server 127.0.0.1:1; {upstream} }}
             server {{ listen unix:@dir@/s; location / {{ rs_uwsgi_pass app; }} }}"
        ))
        .file(
            "site.conf",
            format!("server {{ listen unix:/tmp/t;\nlocation / {{\n{location}\n}} }}").as_bytes(),
        )
        .check();
    assert_eq!(check.status.code(), Some(1), "{directive}: {}", check.stderr);
    let line = check.stderr.lines().find(|line| line.contains("[emerg]"));
    line.unwrap_or_else(|| panic!("{directive}: {}", check.stderr)).to_string()
}

#[test]
fn messages_name_what_is_valid() {
    let time = "it must be a time such as \"30s\" or \"500ms\"";
    let size = "it must be a size such as \"8k\" or \"1m\"";
    let queue = "it must be \"timeout=\" with a time or \"order=\" with a word, each once";
    for (directive, expected) in [
        ("reuse always", "it must be one of \"auto\", \"on\", \"off\", \"puwsgi\""),
        ("queue 10 timout=5s", queue),
        ("queue 10 timeout=soon", time),
        ("queue 10 order=last", "it must be one of \"fair\", \"arrival\", \"newest\""),
        ("queue many", "it must be a whole number"),
        ("connect_retry soon", time),
        ("read_timeout soon", time),
        ("buffer_size large", size),
        ("buffers many 8k", "it must be a number and a size such as \"8 8k\""),
        ("next_upstream_tries few", "it must be a whole number"),
        ("buffering 1", "it must be \"on\" or \"off\""),
        (
            "next_upstream http_502",
            "invalid value \"http_502\", it must be one of \"error\", \"timeout\", \"invalid_header\", \
             \"non_idempotent\", \"http_500\", \"http_503\", \"http_403\", \"http_404\", \"http_429\", \
             \"updating\", \"off\" in",
        ),
        ("ignore_headers Date", "it must be one of \"X-Accel-Redirect\", \"X-Accel-Expires\""),
        ("param A b never", "it must be \"if_not_empty\" or \"unsafe\", each once"),
        ("max_vars large", size),
        ("health_check pings", "it must be one of \"ping\", \"mandatory\", \"uri=\""),
    ] {
        let block = if directive.starts_with("health_check") { "upstream" } else { "location" };
        let line = said(block, &format!("rs_uwsgi_{directive};"));
        assert!(line.contains(expected), "{directive}: {line}");
        let place = if block == "location" { "site.conf:3" } else { "nginx.conf:" };
        assert!(line.contains(place), "{directive}: {line}");
    }
}

#[test]
fn a_size_of_vars_that_no_packet_has_is_named_where_it_stands() {
    let line = said("location", "rs_uwsgi_max_vars 70000;");
    let end = "\"rs_uwsgi_max_vars\" 70000 is greater than 65535, the most that the protocol allows in @dir@/site.conf:3";
    assert!(line.ends_with(end), "{line}");
}

/// One address and one socket: a name without its port is that of many.
#[test]
fn contradictions_name_the_address_whole() {
    for (address, name) in
        [("127.0.0.1:3031", "127.0.0.1:3031"), ("unix:/run/app.sock", "unix:/run/app.sock")]
    {
        let check = Nginx::builder()
            .http(&format!(
                "server {{ listen unix:@dir@/s;
                 location /a {{ rs_uwsgi_keepalive 1; rs_uwsgi_pass {address}; }}
                 location /b {{ rs_uwsgi_keepalive 2; rs_uwsgi_pass {address}; }} }}"
            ))
            .check();
        let expected =
            format!("contradict each other: upstream \"{name}\" has one set of connections");
        assert!(check.stderr.contains(&expected), "{}", check.stderr);
    }
}
