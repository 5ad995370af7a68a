//! Bodies that come to a location by way of another one: the server gets all that the client sends,
//! or the request fails and the log says why. Less is never passed on for all.

use crate::prelude::*;

/// More than the buffer for bodies, so that a buffered one is in a file.
const SIZE: usize = 100_000;

/// What the second location logs of a body that it cannot pass on.
const CUT: &str = "of client request body are left, the others were passed on or discarded before";

/// Servers of the two locations, told apart by a var.
struct Way {
    nginx: Nginx,
    backend: Backend,
    _dir: TempDir,
}

/// What a server says of the bytes that it got.
fn store(peer: &mut Peer, length: usize) -> io::Result<()> {
    let body = peer.read_exact(length)?;
    assert!(body.iter().enumerate().all(|(at, byte)| *byte == byte_at(at)), "other bytes");
    let text = format!("stored {length}");
    peer.write(
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes(),
    )
}

/// Where the var FIRST is sent, its value says what the server does; else it stores.
fn serve(peer: &mut Peer) -> io::Result<()> {
    let packet = peer.read_packet()?;
    let length = packet.get("CONTENT_LENGTH").unwrap_or_default().parse().unwrap_or(0);
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    match packet.get("FIRST").as_deref() {
        Some("busy") => peer.write(busy)?,
        Some("late") => {
            peer.read_exact(length)?;
            peer.write(busy)?;
        }
        Some("elsewhere") => {
            peer.read_exact(length)?;
            peer.write(b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /second\r\n\r\n")?;
        }
        Some("page") => {
            peer.read_exact(length)?;
            peer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<!--# include virtual=\"/second\" -->.",
            )?;
        }
        _ => return store(peer, length),
    }
    Ok(())
}

fn byte_at(at: usize) -> u8 {
    (at % 251) as u8
}

fn body() -> Vec<u8> {
    (0..SIZE).map(byte_at).collect()
}

impl Way {
    /// Location `/` with `first`, and the locations `@second` and `/second` with `second`, both of
    /// which pass requests on.
    fn new(first: &str, second: &str) -> Way {
        Way::on("listen 127.0.0.1:@port@;", first, second)
    }

    fn on(listen: &str, first: &str, second: &str) -> Way {
        let dir = nginx::prefix();
        let backend = Backend::unix(&dir.path().join("b"), serve);
        let down = format!("unix:{}", dir.path().join("none").display());
        let standard = "include @dir@/params;";
        let http = format!(
            "server {{ {listen} client_body_buffer_size 16k;
                location / {{ {first} }}
                location @second {{ {second} rs_uwsgi_pass @pass@; }}
                location /second {{ {second} rs_uwsgi_pass @pass@; }}
            }}"
        );
        let http = http.replace("@pass@", &backend.address().to_string());
        let nginx = Nginx::builder()
            .file("params", include_bytes!("../../nginx-conf/rs_uwsgi_params"))
            .http(&http.replace("@down@", &down).replace("@standard@", standard))
            .expects(nginx::NO_SOCKET)
            .start();
        Way { nginx, backend, _dir: dir }
    }

    fn post(&self) -> Response {
        let head = format!("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        let response = exchange(self.nginx.address(), &[head.as_bytes(), &body()].concat());
        self.nginx.wait_requests(1);
        response
    }

    /// As `post`, in chunks.
    fn post_chunks(&self) -> Response {
        let mut request =
            b"POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in body().chunks(7000) {
            request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        let response = exchange(self.nginx.address(), &request);
        self.nginx.wait_requests(1);
        response
    }

    /// The lines about a body that was cut. All are of level error.
    fn cuts(&self) -> Vec<String> {
        let lines = self.nginx.logged(CUT);
        assert!(lines.iter().all(|line| line.level == "error"), "{lines:?}");
        lines.into_iter().map(|line| line.text).collect()
    }

    fn assert_stored(&self, response: &Response, what: &str) {
        assert_eq!((response.status, response.text().as_str()), (200, "stored 100000"), "{what}");
        assert_eq!(self.cuts(), [""; 0], "{what}");
    }
}

const UNBUFFERED: &str = "rs_uwsgi_request_buffering off;";

/// Ways to a second location before anything of the body was sent.
const BEFORE: [&str; 3] = [
    "rs_uwsgi_request_buffering off; rs_uwsgi_pass @down@; error_page 502 = @second;",
    "rs_uwsgi_request_buffering off; rs_uwsgi_pass @down@; error_page 502 = /second;",
    "uwsgi_request_buffering off; uwsgi_pass @down@; error_page 502 = @second;",
];

#[test]
fn the_rest_follows_where_nothing_was_given_away() {
    for first in BEFORE {
        for second in
            ["", UNBUFFERED, "rs_uwsgi_request_buffering off; client_body_in_single_buffer on;"]
        {
            let way = Way::new(first, second);
            way.assert_stored(&way.post(), &format!("{first} {second}"));
        }
    }
}

/// The client sends the rest only when the second server has the beginning, or the second location,
/// which buffers, has begun to read.
#[test]
fn the_rest_of_a_slow_client_follows() {
    for second in ["", UNBUFFERED] {
        let way = Way::new(BEFORE[0], second);
        let head = format!("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        let mut client = Client::connect(way.nginx.address());
        client.send(head.as_bytes());
        client.wait_arrived();
        way.nginx.wait_logged("connect() to");
        for piece in body().chunks(30_000) {
            std::thread::sleep(nginx::PAUSE);
            client.send(piece);
            client.wait_arrived();
        }
        way.assert_stored(&client.response(false).unwrap(), second);
    }
}

/// A client that stops in the middle is answered 408, and one that leaves is no fault of the server's.
#[test]
fn a_rest_that_never_comes() {
    for second in
        ["client_body_timeout 1s;", "client_body_timeout 1s; rs_uwsgi_request_buffering off;"]
    {
        let way = Way::new(BEFORE[0], second);
        let head = format!("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\nsome");
        let mut client = Client::connect(way.nginx.address());
        client.send(head.as_bytes());
        client.read_to_end();
        assert!(way.nginx.wait_requests(1)[0].contains(" 408 "), "{second}");
        let mut client = Client::connect(way.nginx.address());
        client.send(head.as_bytes());
        way.nginx.wait_logged("connect() to");
        drop(client);
        let line = way.nginx.wait_requests(2).pop().unwrap();
        assert!(line.contains(" 400 ") || line.contains(" 499 "), "{second}: {line}");
        assert_eq!(way.cuts(), [""; 0]);
    }
}

#[test]
fn chunks_follow_where_nothing_was_given_away() {
    let proxied = "proxy_http_version 1.1; proxy_request_buffering off; error_page 502 = @second;
        proxy_pass http://@down@:/;";
    for first in BEFORE.into_iter().chain([proxied]) {
        for second in ["", UNBUFFERED] {
            let way = Way::new(first, second);
            way.assert_stored(&way.post_chunks(), &format!("{first} {second}"));
        }
    }
}

#[test]
fn http2s_rest_follows_where_nothing_was_given_away() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let fields: [(&[u8], &[u8]); 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"h"),
        (b":path", b"/first"),
        (b"content-length", b"100000"),
    ];
    let proxied = "proxy_http_version 1.1; proxy_request_buffering off; error_page 502 = @second;
        proxy_pass http://@down@:/;";
    for (first, fields) in
        [(BEFORE[0], &fields[..]), (BEFORE[0], &fields[..4]), (proxied, &fields[..])]
    {
        for second in ["", UNBUFFERED] {
            let way = Way::on("listen 127.0.0.1:@port@ http2;", first, second);
            let answer = h2::exchange(local, way.nginx.address(), fields, Some(&body())).unwrap();
            assert_eq!(answer.status, Some(200), "{first} {second}");
            assert_eq!(answer.body, b"stored 100000", "{first} {second}");
            assert_eq!(way.cuts(), [""; 0]);
        }
    }
    // of unknown length, and begun to be passed on
    let way = Way::on("listen 127.0.0.1:@port@ http2;", proxied, "");
    let answer = h2::exchange(local, way.nginx.address(), &fields[..4], Some(&body())).unwrap();
    assert_eq!((answer.status, way.cuts().len()), (Some(502), 1));
}

/// Ways to a second location after the first server was sent the body, or some of it.
const AFTER: [&str; 4] = [
    "rs_uwsgi_param FIRST busy; rs_uwsgi_intercept_errors on; error_page 503 = @second;",
    "rs_uwsgi_param FIRST late; rs_uwsgi_intercept_errors on; error_page 503 = @second;",
    "rs_uwsgi_param FIRST late; rs_uwsgi_intercept_errors on; error_page 503 =200 /second;",
    "rs_uwsgi_param FIRST elsewhere;",
];

/// The first location of [`AFTER`], with the standard parameters.
fn after(conf: &str, buffering: &str) -> String {
    format!("include @dir@/params; {conf} rs_uwsgi_request_buffering {buffering}; rs_uwsgi_pass @pass@;")
}

#[test]
fn what_was_given_away_is_not_passed_on_for_all() {
    for conf in AFTER {
        for second in ["", UNBUFFERED] {
            let way = Way::new(&after(conf, "off"), second);
            let response = way.post();
            assert_eq!(response.status, 502, "{conf}");
            let cuts = way.cuts();
            assert_eq!(cuts.len(), 1, "{conf}: {cuts:?}");
            assert!(
                cuts[0].contains(" of 100000 bytes of client request body are left"),
                "{cuts:?}"
            );
            assert_eq!(way.backend.connection_count(), 1, "the second server was asked: {conf}");
        }
        // Where the second location passes no body, there is none to miss.
        let way = Way::new(&after(conf, "off"), "rs_uwsgi_pass_request_body off;");
        let response = way.post();
        assert_eq!(response.text(), "stored 0", "{conf}");
        assert_eq!(way.cuts(), [""; 0], "{conf}");
    }
}

/// A body that was read first is there for everybody, also from its file.
#[test]
fn a_buffered_body_is_passed_on_whole() {
    for conf in AFTER {
        for buffering in ["", "client_body_buffer_size 200k;", "client_body_in_single_buffer on;"] {
            for second in ["", UNBUFFERED] {
                let way = Way::new(&format!("{buffering} {}", after(conf, "on")), second);
                let response = way.post();
                assert_eq!(response.text(), "stored 100000", "{conf} {buffering} {second}");
                assert_eq!(way.cuts(), [""; 0]);
            }
        }
    }
}

/// A page that includes another location: that one has the body of the main request only while nginx
/// has it.
#[test]
fn an_included_location_gets_all_or_fails() {
    for (first, expected, cuts) in [
        ("rs_uwsgi_request_buffering off;", "502 Bad Gateway", 1),
        ("", "stored 100000", 0),
        ("client_body_buffer_size 200k;", "stored 100000", 0),
    ] {
        let conf = format!("{first} ssi on; rs_uwsgi_param FIRST page; include @dir@/params; rs_uwsgi_pass @pass@;");
        let way = Way::new(&conf, "");
        let response = way.post();
        assert!(response.text().contains(expected), "{first}: {}", response.text());
        assert_eq!(way.cuts().len(), cuts, "{first}");
    }
}

/// A mirror has the whole body, auth_request a body of its own, which is empty; after either the
/// request goes on with all.
#[test]
fn subrequests_before_the_request() {
    for buffering in ["on", "off"] {
        let conf = format!("mirror /second; include @dir@/params; rs_uwsgi_request_buffering {buffering}; rs_uwsgi_pass @pass@;");
        let way = Way::new(&conf, "");
        way.assert_stored(&way.post(), "mirror");
        let mut lengths: Vec<_> = Vec::new();
        way.nginx.wait_requests(1);
        lengths.extend(way.backend.take_ended(0, 2).iter().map(Vec::len));
        assert!(lengths.iter().all(|length| *length > SIZE), "{lengths:?}");
        let conf = conf.replace("mirror /second;", "auth_request /second;");
        let way = Way::new(&conf, "");
        way.assert_stored(&way.post(), "auth_request");
    }
    // A mirror of a request whose body nobody has read cannot have it.
    let conf =
        "mirror /second; mirror_request_body off; include @dir@/params; rs_uwsgi_pass @pass@;";
    let way = Way::new(conf, "");
    let response = way.post();
    assert_eq!(response.text(), "stored 100000");
    assert_eq!(way.cuts().len(), 1);
    let way = Way::new(conf, "rs_uwsgi_pass_request_body off;");
    way.assert_stored(&way.post(), "mirror without a body");
}

/// `post_action` comes when the response was sent and nginx has closed the file of the body.
#[test]
fn a_request_after_the_response() {
    for (first, cuts) in [("", 1), ("client_body_buffer_size 200k;", 0), (UNBUFFERED, 1)] {
        let conf =
            format!("{first} post_action /second; include @dir@/params; rs_uwsgi_pass @pass@;");
        let way = Way::new(&conf, "");
        assert_eq!(way.post().text(), "stored 100000");
        way.nginx.wait_requests(1);
        assert_eq!(way.cuts().len(), cuts, "{first}");
    }
}

/// The page for an error: the client gets its status, whatever the page says, and the page's server no
/// part of the body.
#[test]
fn the_page_for_an_error_goes_without_a_body_that_was_cut() {
    let late = after(
        "rs_uwsgi_param FIRST late; rs_uwsgi_intercept_errors on; error_page 503 /second;",
        "off",
    );
    let large = "client_max_body_size 50k; error_page 413 /second; rs_uwsgi_pass @pass@;";
    for (first, status) in [(late.as_str(), 503), (large, 413)] {
        let way = Way::new(first, "");
        let response = way.post();
        assert_eq!((response.status, response.text().as_str()), (status, "stored 0"));
        assert_eq!(way.cuts(), [""; 0]);
    }
    let way = Way::new(large, "");
    let response = way.post_chunks();
    assert_eq!((response.status, response.text().as_str()), (413, "stored 0"));
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let fields: [(&[u8], &[u8]); 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"h"),
        (b":path", b"/first"),
        (b"content-length", b"100000"),
    ];
    let way = Way::on("listen 127.0.0.1:@port@ http2;", large, "");
    let answer = h2::exchange(local, way.nginx.address(), &fields, Some(&body())).unwrap();
    assert_eq!((answer.status, &answer.body[..]), (Some(413), &b"stored 0"[..]));
    // Where it is no page but another try, the request fails.
    let retried = large.replace("/second", "= @second");
    for listen in ["", " http2"] {
        let way = Way::on(&format!("listen 127.0.0.1:@port@{listen};"), &retried, "");
        match listen {
            "" => assert_eq!(way.post().status, 502),
            _ => {
                let answer = h2::exchange(local, way.nginx.address(), &fields, Some(&body()));
                assert_eq!(answer.unwrap().status, Some(502));
            }
        }
        assert_eq!((way.cuts().len(), way.backend.connection_count()), (1, 0));
    }
}

/// The next server is asked where nothing was sent to the one before, and nothing else is.
#[test]
fn the_next_server_gets_all_or_is_not_asked() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), serve);
    let conf = format!(
        "upstream two {{ server unix:{}; server {}; }}
        server {{ listen 127.0.0.1:@port@; rs_uwsgi_request_buffering off;
            rs_uwsgi_next_upstream error timeout http_503 non_idempotent;
            location / {{ rs_uwsgi_pass two; }} }}",
        dir.path().join("none").display(),
        backend.address()
    );
    let nginx = Nginx::start(&conf);
    nginx.expects(nginx::NO_SOCKET);
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
        let response = exchange(nginx.address(), &[head.as_bytes(), &body()].concat());
        assert_eq!(response.text(), "stored 100000");
    }
}

/// Ways to a second location by one of nginx's own, which has read the body that there is not: with nginx's
/// functions, a request without one has one then, of no known length.
const READ: [&str; 4] = [
    "uwsgi_pass @down@; error_page 502 = @second;",
    "mirror /second; rs_uwsgi_pass @pass@;",
    "uwsgi_param FIRST elsewhere; uwsgi_pass @pass@;",
    "uwsgi_param FIRST page; ssi on; uwsgi_pass @pass@;",
];

#[test]
fn a_request_without_a_body_that_was_read() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/first")];
    for first in READ {
        for second in ["", UNBUFFERED] {
            let way = Way::on("listen 127.0.0.1:@port@;", first, second);
            let response = get(way.nginx.address(), "/first");
            assert_eq!(response.status, 200, "{first} {second}");
            assert!(response.text().starts_with("stored 0"), "{first} {second}");
            let response = exchange(
                way.nginx.address(),
                b"POST /first HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            );
            assert_eq!(response.status, 200, "{first} {second}");
            assert_eq!(way.cuts(), [""; 0], "{first} {second}");
            let way = Way::on("listen 127.0.0.1:@port@ http2;", first, second);
            let answer = h2::exchange(local, way.nginx.address(), &fields, None).unwrap();
            assert_eq!(answer.status, Some(200), "{first} {second}");
            assert!(answer.body.starts_with(b"stored 0"), "{first} {second}");
            assert_eq!(way.cuts(), [""; 0], "{first} {second}");
        }
    }
}
