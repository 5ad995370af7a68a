//! Requests: what the backend receives through ours is, byte for byte, what it receives through
//! stock, after the intended differences (`intended.rs`). Nothing is masked.

use crate::intended::{intended, param_names, stock_has_host_of_its_own, without_host, Facts};
use crate::prelude::*;
use crate::requests::{self, Request};

const SEED: u64 = 0x7577_7367_6921;

/// Answers "ok" to any request.
pub fn answer(peer: &mut Peer) -> io::Result<()> {
    peer.answer(OK)
}

/// A pair with the standard params and `extra` at server level.
fn named(extra: &str) -> (Pair, Vec<String>) {
    let server = server(extra);
    let pair = Pair::builder(&server).start();
    pair.backend.set_script(answer);
    (pair, param_names(&server))
}

/// A server with the standard params and `extra` that passes everything on.
pub fn server(extra: &str) -> String {
    format!(
        "client_max_body_size 0; client_body_buffer_size 16k; large_client_header_buffers 8 32k;
        {STANDARD_PARAMS}\n{extra}\nlocation / {{ uwsgi_pass @pass@; }}"
    )
}

/// Panics unless ours is stock's packet with the intended differences. True when there was one.
pub fn compare(name: &str, stock: &Outcome, ours: &Outcome, facts: &Facts) -> bool {
    assert_responses(name, &stock.response, &ours.response);
    assert_eq!(stock.log, ours.log, "{name}: the error log differs (left stock, right ours)");
    assert_eq!(stock.received.len(), ours.received.len(), "{name}: connections to the backend");
    let apart = stock_has_host_of_its_own() && !facts.params.iter().any(|name| name == "HTTP_HOST");
    for (stock, ours) in stock.received.iter().zip(&ours.received) {
        let (mut stock, mut ours) = (stock.clone(), ours.clone());
        if apart {
            let (hosts, host);
            (stock, hosts) = without_host(&stock);
            (ours, host) = without_host(&ours);
            // without a Host header the name of the server stands there, where it has one
            let is_named = facts.host.is_some() || hosts.len() == 1;
            assert_eq!(hosts.len(), usize::from(is_named), "{name}: stock's HTTP_HOST");
            let expected = Vec::from_iter(facts.host.map(<[u8]>::to_vec));
            assert_eq!(host, expected, "{name}: HTTP_HOST");
        }
        let facts = Facts { authority: facts.authority.filter(|_| !apart), ..facts.clone() };
        let expected = intended(&stock, &facts);
        if expected != ours {
            panic!("{name}:\n{}", difference(&stock, &expected, &ours));
        }
    }
    !stock.received.is_empty()
}

/// What differs between the packet expected and ours, line by line, beside stock's whole packet.
fn difference(stock: &[u8], expected: &[u8], ours: &[u8]) -> String {
    let lines = |bytes: &[u8]| match Packet::parse(bytes) {
        Ok((packet, body)) => format!("{packet:?}  and {} bytes of body\n", body.len()),
        Err(error) => format!("broken: {error}: {}\n", show(bytes)),
    };
    let [stock, expected, ours] = [stock, expected, ours].map(lines);
    let only = |a: &str, b: &str| -> String {
        a.lines()
            .filter(|line| !b.lines().any(|other| other == *line))
            .map(|line| format!("  {line}\n"))
            .collect()
    };
    let (missing, extra) = (only(&expected, &ours), only(&ours, &expected));
    format!(
        "expected but not sent:\n{missing}sent but not expected:\n{extra}stock's packet: {stock}"
    )
}

fn check(pair: &Pair, params: &[String], request: &Request) -> bool {
    let wire = request.wire();
    let (stock, ours) = pair.both(&wire);
    let authority = request.authority();
    let header = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"Host"));
    let host = authority.or(header.map(|(_, value)| value.as_slice()));
    let facts = Facts { params, authority, host, body: request.payload() };
    compare(&show(&wire[..wire.len().min(1500)]), &stock, &ours, &facts)
}

/// Runs `count` random requests and prints how many reached the backend.
fn check_random(name: &str, extra: &str, count: usize) {
    let (pair, params) = named(extra);
    let mut random = Random::new(SEED ^ name.len() as u64);
    let passed =
        (0..count).filter(|_| check(&pair, &params, &requests::random(&mut random))).count();
    println!(
        "oracle, {name}: {count} random requests from seed {SEED:#x}, {passed} reached the backend"
    );
    assert!(passed > count / 2, "too few requests reached the backend: {passed} of {count}");
    pair.nginx.quit();
}

#[test]
fn random_requests() {
    check_random("standard params", "", 400);
}

#[test]
fn random_requests_unbuffered() {
    check_random("request_buffering off", "uwsgi_request_buffering off;", 200);
}

#[test]
fn random_requests_with_odd_header_names() {
    check_random(
        "odd header names, no slash merging",
        "underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;",
        200,
    );
}

#[test]
fn random_requests_with_more_params() {
    let extra = "uwsgi_modifier1 5; uwsgi_modifier2 7;
        uwsgi_param HTTP_X_A \"$http_x_a and more\";
        uwsgi_param HTTP_ACCEPT \"\";
        uwsgi_param HTTP_COOKIE $http_cookie if_not_empty;
        uwsgi_param HTTP_HOST $host;
        uwsgi_param lower $arg_a$arg_b;
        uwsgi_param TWICE one;
        uwsgi_param TWICE two;
        uwsgi_param EMPTY \"\";
        uwsgi_param GONE \"\" if_not_empty;
        uwsgi_param ALL $uri|$args|$request_method|$remote_user|$http_referer;";
    check_random("params that replace headers", extra, 200);
}

#[test]
fn chosen_requests() {
    let (pair, params) = named("");
    let long = "v".repeat(9000);
    let mut requests = vec![
        Request::get("/").bare().version("HTTP/1.0"),
        Request::get("http://a:81/x?y").header("X-First", "1"),
        Request::get("http://a:81/x").bare().version("HTTP/1.0").header("X-First", "1"),
        Request::get("http://a").header("X-First", "1"),
        Request::get("/").header("Connection", "keep-alive, x").header("Keep-Alive", "9"),
        Request::get("/").header("Connection", "Upgrade").header("Upgrade", "websocket"),
        Request::get("/").header("Upgrade", "").header("TE", "trailers"),
        Request::get("/").header("Proxy", "http://evil/").header("Trailer", "X"),
        Request::get("/").header("Cookie", "a=1").header("X-A", "1").header("cookie", "b=2"),
        Request::get("/").header("X-A", "").header("X-A", "").header("x-A", "2"),
        Request::get("/").header("X-Long", &long).header("X-Long", &long),
        Request::get("/").header("Accept", "a").header("Accept", "b").header("Accept", "c"),
        Request::get("/").method("POST").plain(Vec::new()),
        Request::get("/").method("POST").chunked(1, Vec::new()),
        Request::get("/").method("POST").chunked(1, b"one byte at a time".to_vec()),
        Request::get("/").method("POST").header("Expect", "100-continue").plain(vec![7; 100]),
        Request::get("/").version("HTTP/1.0").method("POST").plain(b"old".to_vec()),
        Request::get(&format!("/{}", "%61".repeat(5000))),
        Request::get(&format!("/?{}", "a=b&".repeat(4000))),
        Request::get("/%E2%82%AC//./../a b"),
        Request::get("/a%20b%09c"),
    ];
    let mut empty_length = Request::get("/").method("POST");
    empty_length.body = requests::Body::Plain("007".to_string(), b"seven..".to_vec());
    requests.push(empty_length);
    let passed = requests.iter().filter(|request| check(&pair, &params, request)).count();
    println!("oracle: {} chosen requests, {passed} reached the backend", requests.len());
    assert!(passed > 15);
}

/// Variables that ours reads without nginx's functions: changed by rewrites, kept from before, of an
/// address that the client may choose, and read again when the packet was made.
#[test]
fn variables_at_every_stage() {
    let extra = "set_real_ip_from 127.0.0.0/8; real_ip_header X-None; root /srv/files;
        add_header X-After \"$remote_addr:$remote_port $server_port $document_uri?$query_string \
            $content_length $content_type $https $scheme $server_name $document_root\" always;
        uwsgi_param UPPER $REQUEST_URI;
        uwsgi_param BRACES ${uri};
        location /kept { set $early $remote_addr$remote_port$content_type$content_length;
            real_ip_header X-Real-IP; uwsgi_pass @pass@; }
        location /real { real_ip_header X-Real-IP; uwsgi_pass @pass@; }
        location /root { root /srv/$host; uwsgi_pass @pass@; }
        location /old { rewrite ^/old(.*)$ /root/new$1?more=1 last; }
        location /args { set $args changed=1; uwsgi_pass @pass@; }
        location /if { if ($request_method = POST) { uwsgi_pass @pass@; } return 204; }
        location /sub { auth_request /auth; uwsgi_pass @pass@; }
        location /error { error_page 418 = /root/error; return 418; }
        location = /auth { uwsgi_param URI $document_uri; uwsgi_param METHOD $request_method;
            uwsgi_pass_request_body off; uwsgi_pass @pass@; }";
    let (pair, params) = named(extra);
    let mut passed = 0;
    for path in ["/", "/kept", "/real", "/root/a", "/old/b?c=d", "/args?e", "/if", "/error?f"] {
        for address in ["10.1.2.3", "10.1.2.3:4567", "[2001:db8::1]:80", "unix:", ""] {
            let get = Request::get(path).header("X-Real-IP", address);
            let posted = get.clone().method("POST").header("Content-Type", "text/plain");
            let twice = posted.clone().header("Content-Type", "text/html").plain(b"body".to_vec());
            for request in [get.clone(), get.version("HTTP/1.0"), twice, posted] {
                passed += usize::from(check(&pair, &params, &request));
            }
        }
    }
    assert!(passed > 120, "too few requests reached the backend: {passed}");
    for method in ["GET", "HEAD", "DELETE"] {
        let (stock, ours) = pair.both(&Request::get("/sub?s").method(method).wire());
        assert_responses(method, &stock.response, &ours.response);
        let packets = |outcome: &Outcome| {
            let packets = outcome.received.iter().map(|bytes| Packet::parse(bytes).unwrap().0);
            packets.map(|packet| format!("{packet:?}")).collect::<Vec<_>>()
        };
        assert_eq!(packets(&stock), packets(&ours), "{method}");
        assert_eq!(ours.received.len(), 2, "{method}");
    }
}

#[test]
fn large_bodies() {
    let mut random = Random::new(SEED);
    let mut compared = 0;
    for extra in ["", "uwsgi_request_buffering off;"] {
        let (pair, params) = named(extra);
        for size in [1 << 20, (5 << 20) + 1, 20 << 20] {
            let body = random.bytes(size);
            let post = Request::get("/upload").method("POST");
            assert!(check(&pair, &params, &post.clone().plain(body.clone())));
            assert!(check(&pair, &params, &post.chunked(60_000, body)));
            compared += 2;
        }
    }
    println!("oracle: {compared} bodies of 1 to 20 MB");
}

#[test]
fn without_request_headers_or_body() {
    for extra in ["uwsgi_pass_request_headers off;", "uwsgi_string \"raw\";"] {
        let (pair, params) = named(extra);
        pair.backend.set_script(|peer| {
            let bytes = peer.read_exact(4)?;
            peer.read_exact(usize::from(u16::from_le_bytes([bytes[1], bytes[2]])))?;
            peer.write(OK)
        });
        let (stock, ours) = pair.both(&Request::get("/p?q").wire());
        if extra.contains("string") {
            // What the string makes of the packet is for the operator to know: compare raw.
            assert_responses(extra, &stock.response, &ours.response);
            assert_eq!(show(&stock.received[0]), show(&ours.received[0]));
            assert!(ours.received[0].ends_with(b"raw"));
        } else {
            let facts = Facts { params: &params, authority: None, host: None, body: &[] };
            assert!(compare(extra, &stock, &ours, &facts));
        }
    }
}

/// HTTP_HOST of stock, which differs by version, and ours, which does not.
#[test]
fn host_by_version() {
    const REQUESTS: [(&str, &str, &[&str], &[&str]); 4] = [
        (
            "",
            "GET / HTTP/1.1\r\nHost: Example.ORG:81\r\n\r\n",
            &["Example.ORG:81"],
            &["example.org:81"],
        ),
        ("", "GET / HTTP/1.0\r\n\r\n", &[], &["site"]),
        ("uwsgi_pass_request_headers off;", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[], &["a"]),
        ("uwsgi_param HTTP_HOST $host;", "GET / HTTP/1.1\r\nHost: A:81\r\n\r\n", &["a"], &["a"]),
    ];
    for (extra, request, before, since) in REQUESTS {
        let (pair, _) = named(&format!("server_name site; {extra}"));
        let (stock, ours) = pair.both(request.as_bytes());
        let hosts =
            |outcome: &Outcome| Packet::parse(&outcome.received[0]).unwrap().0.all("HTTP_HOST");
        let of_stock = if stock_has_host_of_its_own() { since } else { before };
        assert_eq!(hosts(&stock), of_stock, "{extra} {request}");
        assert_eq!(hosts(&ours), before, "{extra} {request}");
    }
}

/// Sends one HTTP/2 request to both sides from one local port and compares.
fn check_http2(
    pair: &Pair,
    params: &[String],
    fields: &[(&[u8], &[u8])],
    body: Option<&[u8]>,
) -> bool {
    let mut local = any_port();
    // The port that stock's exchange would get from the kernel is not told, so choose one.
    local.set_port(nginx::free_port());
    let exchange = |side| {
        pair.observe(|| {
            let answer =
                h2::exchange(local, pair.address(side), fields, body).map_err(|e| e.to_string())?;
            let head = format!("{:?} {:?}", answer.status, answer.error).into_bytes();
            let end = End::Length;
            Ok(Response { head, status: 0, headers: Vec::new(), body: answer.body, end })
        })
    };
    let (stock, ours) = (exchange(Side::Stock), exchange(Side::Ours));
    let name =
        fields.iter().map(|(n, v)| format!("{}: {}\n", show(n), show(v))).collect::<String>();
    let authority = fields.iter().find(|(name, _)| *name == b":authority");
    let host = authority.map(|(_, value)| *value);
    let body = body.unwrap_or_default();
    compare(&name, &stock, &ours, &Facts { params, authority: None, host, body })
}

/// RFC 9113, 8.2.2.
pub const OF_A_CONNECTION: [&[u8]; 6] =
    [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];

#[test]
fn http2_requests() {
    let server = server("");
    let (pair, params) = (Pair::builder(&server).listen("http2").start(), param_names(&server));
    pair.backend.set_script(answer);
    let mut random = Random::new(SEED);
    let (count, mut passed) = (120, 0);
    for i in 0..count {
        let request = requests::random(&mut random);
        let target =
            request.target.strip_prefix(b"http://").map_or(request.target.as_slice(), |_| b"/abs");
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b":method".to_vec(), request.method.clone().into_bytes()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), target.to_vec()),
            (b":authority".to_vec(), b"example.org".to_vec()),
        ];
        fields.extend(
            request.headers[request.headers.len().min(1)..]
                .iter()
                .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
                // later versions of nginx refuse what is for one connection
                .filter(|(n, _)| i % 3 == 0 || !OF_A_CONNECTION.contains(&n.as_slice())),
        );
        let body = request.payload();
        if i % 2 == 0 && !body.is_empty() {
            fields.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
        }
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        let body = Some(body).filter(|body| !body.is_empty());
        passed += usize::from(check_http2(&pair, &params, &fields, body));
    }
    println!(
        "oracle, HTTP/2: {count} random requests from seed {SEED:#x}, {passed} reached the backend"
    );
    assert!(passed > count / 3, "too few requests reached the backend: {passed} of {count}");
    let post: [(&[u8], &[u8]); 4] =
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/up"), (b":authority", b"h")];
    let body = random.bytes(20 << 20);
    assert!(check_http2(&pair, &params, &post, Some(&body)));
}

#[test]
fn http2_by_curl() {
    let server = server("");
    let pair = Pair::builder(&server).listen("http2").start();
    pair.backend.set_script(answer);
    for (path, arguments) in [
        ("/", &[][..]),
        ("/a%20b?c=d", &["--header", "X-A: 1", "--header", "X-A: 2"][..]),
        ("/form", &["--data", "a=1&b=2", "--cookie", "c=3; d=4"][..]),
    ] {
        let first = pair.backend.requests().len();
        for side in [Side::Stock, Side::Ours] {
            let answer = curl::http2(pair.address(side), path, arguments);
            assert_eq!(answer.head[0].trim_end(), "HTTP/2 200", "{path} {side:?}");
            assert_eq!(answer.body, b"ok", "{path} {side:?}");
        }
        let [stock, ours] = [0, 1].map(|i| pair.backend.wait_request(first + i));
        assert_eq!(stock.body, ours.body, "{path}");
        for name in
            ["REQUEST_URI", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_COOKIE", "HTTP_USER_AGENT"]
        {
            assert_eq!(stock.packet.get(name), ours.packet.get(name), "{path} {name}");
        }
        assert_eq!(ours.packet.get("SERVER_PROTOCOL").as_deref(), Some("HTTP/2.0"), "{path}");
    }
}
