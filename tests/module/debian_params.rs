//! Debian's own /etc/nginx/uwsgi_params, which has more than nginx's: HTTP_HOST, since 2026.

use crate::prelude::*;

const REQUESTS: [&[u8]; 3] = [
    b"GET /a%20b//c?d=e HTTP/1.1\r\nHost: Site.Test:8080\r\nCookie: a=b\r\nX-A: 1\r\n\r\n",
    b"GET /form HTTP/1.0\r\nHost: site.test\r\nContent-Type: text/x\r\n\r\n",
    b"GET http://Other.Test:81/x HTTP/1.1\r\nX-A: 1\r\nHost: site.test\r\n\r\n",
];

fn debians() -> String {
    fs::read_to_string("/etc/nginx/uwsgi_params").unwrap()
}

fn received(outcome: &Outcome) -> &[u8] {
    assert!(outcome.response.is_ok(), "{:?}", outcome.response);
    &outcome.received[0]
}

/// With the same lines under our names the packets are the same, byte for byte. (A request with a body differs as it does
/// with any lines: its length is sent once.)
#[test]
fn the_same_lines_send_the_same() {
    let pass = "location / { uwsgi_pass @pass@; }";
    let pair = Pair::builder(&format!("{}\n{pass}", debians())).start();
    for request in REQUESTS {
        let (stock, ours) = pair.both(request);
        let shown = String::from_utf8_lossy(request);
        assert_eq!(show(received(&stock)), show(received(&ours)), "{shown}");
    }
}

/// What rs-uwsgi-migrate puts in the place of that file: the same names and values, but for HTTP_HOST.
#[test]
fn with_the_file_of_the_package_the_host_has_its_port() {
    let backend = Backend::tcp(|peer| peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let address = backend.address();
    let nginx = Nginx::builder()
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@;
                location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass {address}; }}
                location /ours/ {{ include {}; rs_uwsgi_pass {address}; }} }}",
            root().join("nginx-conf/rs_uwsgi_params").display()
        ))
        .start();
    let vars = |path: &str| {
        let before = backend.requests().len();
        let head = format!("GET {path} HTTP/1.1\r\nHost: Site.Test:8080\r\nX-A: 1\r\n\r\n");
        assert_eq!(exchange(nginx.address(), head.as_bytes()).status, 200);
        let packet = backend.wait_request(before).packet;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut vars: Vec<_> = packet.vars.iter().map(|(k, v)| (text(k), text(v))).collect();
        vars.retain(|(name, _)| {
            !["REMOTE_PORT", "REQUEST_URI", "PATH_INFO"].contains(&name.as_str())
        });
        vars.sort();
        vars
    };
    let (stock, ours) = (vars("/stock/"), vars("/ours/"));
    let host = |vars: &[(String, String)]| {
        vars.iter().find(|(name, _)| name == "HTTP_HOST").map(|(_, value)| value.clone())
    };
    let has_host = debians().contains("HTTP_HOST");
    assert_eq!(
        host(&stock).as_deref(),
        Some(if has_host { "site.test" } else { "Site.Test:8080" })
    );
    assert_eq!(host(&ours).as_deref(), Some("Site.Test:8080"));
    let others = |vars: Vec<(String, String)>| {
        vars.into_iter().filter(|(name, _)| name != "HTTP_HOST").collect::<Vec<_>>()
    };
    assert_eq!(others(stock), others(ours));
}
