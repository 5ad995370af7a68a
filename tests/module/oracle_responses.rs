//! Responses: what the client receives through ours is what it receives through stock (only the
//! value of Date aside), and both leave the same lines in the error log.

use crate::prelude::*;
use crate::responses::{bytes, random, Row, ROWS};
use ngx_http_rs_uwsgi_module::pure::uwsgi::head;

const SEED: u64 = 0x7265_7370;

/// Locations that treat the response differently.
pub const LOCATIONS: &str = "
    location / { uwsgi_pass @pass@; }
    location /unbuffered/ { uwsgi_buffering off; uwsgi_pass @pass@; }
    location /intercept/ {
        uwsgi_intercept_errors on;
        error_page 401 404 500 503 /error;
        error_page 403 =200 @named;
        uwsgi_pass @pass@;
    }
    location /headers/ {
        uwsgi_hide_header X-A;
        uwsgi_hide_header Set-Cookie;
        uwsgi_pass_header Server;
        uwsgi_pass_header Date;
        uwsgi_pass_header X-Accel-Expires;
        uwsgi_ignore_headers X-Accel-Redirect X-Accel-Limit-Rate X-Accel-Buffering Vary;
        uwsgi_pass @pass@;
    }
    location /small/ {
        uwsgi_buffer_size 1k; uwsgi_buffers 2 1k; uwsgi_busy_buffers_size 1k;
        uwsgi_max_temp_file_size 0;
        uwsgi_pass @pass@;
    }
    location /internal/ { internal; alias @dir@/files/; }
    location @named { return 200 \"named\"; }
    location = /error { internal; return 418 \"an error page\"; }
";

fn located(tcp: bool) -> Pair {
    let builder = Nginx::builder().file("files/file.txt", b"from disk");
    Pair::builder(&format!("{STANDARD_PARAMS}\n{LOCATIONS}")).nginx(builder).tcp(tcp).start()
}

/// Answers with `response`, in pieces of `piece` bytes.
pub fn answering(
    response: Vec<u8>,
    piece: usize,
) -> impl Fn(&mut Peer) -> io::Result<()> + Send + Sync {
    move |peer| {
        peer.read_request()?;
        for piece in response.chunks(piece) {
            peer.write(piece)?;
        }
        Ok(())
    }
}

fn request(method: &str, path: &str, version: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/{version}\r\nHost: h\r\n\r\n").into_bytes()
}

/// For responses that may be 1xx to the client: it would wait for another one.
fn closing_request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A request for one row: as given, but for the rows that begin with 1xx.
fn request_for(row: &Row, method: &str, path: &str, version: &str) -> Vec<u8> {
    match row.1.starts_with("HTTP/1.1 1") {
        true => closing_request(path),
        false => request(method, path, version),
    }
}

/// Every row through one location, with several kinds of request.
fn check_rows(path: &str) {
    let pair = located(false);
    let mut compared = 0;
    for row in ROWS {
        for (method, version) in [("GET", "1.1"), ("GET", "1.0"), ("HEAD", "1.1")] {
            let name = format!("{} ({method} {path}, HTTP/{version})", row.0);
            let script = answering(bytes(row), usize::MAX);
            pair.assert_same(&name, &request_for(row, method, path, version), script);
            compared += 1;
        }
    }
    println!("oracle, {path}: {compared} responses");
    pair.nginx.quit();
}

#[test]
fn rows_buffered() {
    check_rows("/");
}

#[test]
fn rows_unbuffered() {
    check_rows("/unbuffered/");
}

#[test]
fn rows_with_intercepted_errors() {
    check_rows("/intercept/");
}

#[test]
fn rows_with_headers_hidden_passed_and_ignored() {
    check_rows("/headers/");
}

#[test]
fn rows_with_small_buffers() {
    check_rows("/small/");
}

#[test]
fn rows_in_single_bytes_over_tcp() {
    let pair = located(true);
    for row in ROWS {
        let (request, response) = (request_for(row, "GET", "/", "1.1"), bytes(row));
        if begins_as_a_status_line(&response) {
            same_as_in_one_piece(&pair, row.0, &request, response);
        } else {
            assert_same_in_pieces(&pair, row.0, &request, response, 1);
        }
    }
    println!("oracle, single bytes: {} responses", ROWS.len());
}

/// Does it look like a status line at first and then turn out to be none? Where such a response comes
/// in pieces, stock goes on in the middle of the line with what it knows of the client's request, and
/// may crash: nginx 1.28.3 does so on "HTTP/0.9 200 OK" in single bytes.
fn begins_as_a_status_line(response: &[u8]) -> bool {
    response.starts_with(b"H") && head::status_line(response).is_err()
}

/// Ours gets the response in single bytes, and stock in one piece.
fn same_as_in_one_piece(pair: &Pair, name: &str, request: &[u8], response: Vec<u8>) {
    pair.backend.set_script(answering(response.clone(), response.len()));
    let (_, stock) = pair.exchange(Side::Stock, any_port(), request);
    pair.backend.set_script(answering(response, 1));
    let (_, ours) = pair.exchange(Side::Ours, any_port(), request);
    assert_responses(name, &stock.response, &ours.response);
}

/// As `Pair::assert_same`, for a response that comes in pieces: bytes beyond the body may then come
/// after nginx has closed, and are not noticed.
fn assert_same_in_pieces(pair: &Pair, name: &str, request: &[u8], response: Vec<u8>, piece: usize) {
    pair.backend.set_script(answering(response, piece));
    let (mut stock, mut ours) = pair.both(request);
    assert_responses(name, &stock.response, &ours.response);
    for log in [&mut stock.log, &mut ours.log] {
        log.retain(|line| !line.contains("upstream sent more data than specified"));
    }
    assert_eq!(stock.log, ours.log, "{name}: the error log differs (left stock, right ours)");
}

#[test]
fn heads_cut_at_every_byte_of_the_first_lines() {
    let pair = located(false);
    let response = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello";
    for at in 1..response.len() {
        pair.assert_same(&format!("cut at {at}"), &request("GET", "/", "1.1"), move |peer| {
            peer.read_request()?;
            peer.write(&response[..at])?;
            std::thread::sleep(PAUSE);
            peer.write(&response[at..])
        });
    }
    println!("oracle, cut heads: {} responses", response.len() - 1);
}

/// Headers of all kinds, more than are read at once. Their values are looked at again for the log, when
/// the buffer that they were read into has been used for the body, or where the body was whole.
#[test]
fn heads_of_many_headers() {
    const KINDS: [&str; 9] = [
        "X-Plain-@: value @",
        "X-Known-Or-Not-@: yes",
        "Cache-Control: max-age=@",
        "X_Odd_@: @",
        "x-tight-@:@",
        "X-Blank-@:   two  @  ",
        "X-Tab-@: a\tb",
        "X-Empty-@:",
        "X-\u{e9}t\u{e9}-@: \u{e9}",
    ];
    let logged =
        ["content_type", "cache_control", "x_plain_1", "x_odd_4", "x_plain_19", "x_tab_34"];
    let logged = logged.map(|name| format!("$upstream_http_{name}|$sent_http_{name}|")).concat();
    let builder = Nginx::builder().http(&format!("log_format headers '{logged}';"));
    let logs = "access_log @dir@/headers.log headers; access_log @dir@/access.log;";
    let pair =
        Pair::builder(&format!("{STANDARD_PARAMS}\n{logs}\n{LOCATIONS}")).nginx(builder).start();
    let body = Random::new(SEED).bytes(50_000);
    for count in 0..40 {
        let kinds = KINDS.iter().cycle().zip(1..=count);
        let headers: String =
            kinds.map(|(kind, n)| kind.replace('@', &n.to_string()) + "\r\n").collect();
        let headers = format!("Content-Type: text/plain\r\n{headers}\r\n");
        let long = [b"HTTP/1.1 200 OK\r\n", headers.as_bytes(), &body].concat();
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{headers}hello").into_bytes();
        for (path, response, piece) in
            [("/", &whole, usize::MAX), ("/", &long, 9000), ("/unbuffered/", &long, 9000)]
        {
            let name = format!("{count} headers, {} bytes, {path}", response.len());
            pair.assert_same(
                &name,
                &request("GET", path, "1.1"),
                answering(response.clone(), piece),
            );
        }
    }
    let log = std::fs::read_to_string(pair.nginx.path("headers.log")).unwrap();
    let lines: Vec<_> = log.lines().collect();
    for [stock, ours] in lines.as_chunks::<2>().0 {
        assert_eq!(stock, ours, "left stock, right ours");
    }
    assert_eq!(lines.len(), 240);
    let seen = "|max-age=3, max-age=12, max-age=21, max-age=30, max-age=39|value 1|value 1|4|4|";
    assert!(lines[235].contains(seen) && lines[239].contains(seen), "{log}");
}

#[test]
fn random_responses() {
    let pair = located(false);
    let mut source = Random::new(SEED);
    let count = 300;
    for i in 0..count {
        let response = random(&mut source);
        let path = ["/", "/unbuffered/", "/intercept/", "/headers/"][i % 4];
        let name = format!("random response {i}: {}", crate::support::show(&response));
        if source.once_in(3) {
            let piece = 1 + source.below(200);
            assert_same_in_pieces(&pair, &name, &closing_request(path), response, piece);
        } else {
            pair.assert_same(&name, &closing_request(path), answering(response, usize::MAX));
        }
    }
    println!("oracle: {count} random responses from seed {SEED:#x}");
}

#[test]
fn large_responses() {
    let pair = located(false);
    let mut source = Random::new(SEED);
    let mut compared = 0;
    for size in [4096, 65_536, 1 << 20, 20 << 20] {
        let body = source.bytes(size);
        for path in ["/", "/unbuffered/", "/small/"] {
            for framing in [format!("Content-Length: {size}\r\n"), String::new()] {
                let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
                let response = [head.as_bytes(), &body].concat();
                let name = format!("{size} bytes, {path}, {framing}");
                let stock = pair.assert_same(
                    &name,
                    &request("GET", path, "1.1"),
                    answering(response, 100_000),
                );
                assert_eq!(stock.response.unwrap().body.len(), size);
                compared += 1;
            }
        }
    }
    println!("oracle: {compared} bodies of 4 KB to 20 MB");
}

/// A client that reads nothing until the backend has sent everything forces the temporary file.
#[test]
fn response_through_a_temporary_file() {
    let pair = located(false);
    let size = 20 << 20;
    let body = Random::new(SEED).bytes(size);
    let response =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes(), &body].concat();
    for side in [Side::Stock, Side::Ours] {
        let sent = Arc::new(AtomicBool::new(false));
        let (flag, response) = (sent.clone(), response.clone());
        pair.backend.set_script(move |peer| {
            peer.answer(&response)?;
            flag.store(true, Ordering::SeqCst);
            Ok(())
        });
        let mut client = Client::connect(pair.address(side));
        client.send(&request("GET", "/", "1.1"));
        wait_for("the backend to get rid of the response", || {
            sent.load(Ordering::SeqCst).then_some(())
        });
        assert!(client.response(false).unwrap().body == body, "{side:?}");
    }
    let files = pair.nginx.logged("an upstream response is buffered to a temporary file");
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].text.contains("/temp/uwsgi/"), "{files:?}");
    assert!(files[1].text.contains("/temp/rs_uwsgi/"), "{files:?}");
}

#[test]
fn conditional_and_range_requests() {
    let pair = located(false);
    let response = b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nAccept-Ranges: bytes\r\n\
        Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\nContent-Length: 5\r\n\r\nhello";
    for header in [
        "If-None-Match: \"e\"",
        "If-None-Match: W/\"e\", \"f\"",
        "If-Match: \"other\"",
        "If-Modified-Since: Thu, 01 Jan 2015 00:00:00 GMT",
        "If-Unmodified-Since: Wed, 01 Jan 2014 00:00:00 GMT",
        "Range: bytes=1-2",
        "Range: bytes=0-0,3-4",
        "Range: bytes=9-",
        "Range: bytes=1-2\r\nIf-Range: \"e\"",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n").into_bytes();
        pair.assert_same(header, &request, answering(response.to_vec(), usize::MAX));
    }
}

#[test]
fn responses_over_http2() {
    let server = format!("{STANDARD_PARAMS}\n{LOCATIONS}");
    let builder = Nginx::builder().file("files/file.txt", b"from disk");
    let pair = Pair::builder(&server).nginx(builder).listen("http2").start();
    let rows = ROWS.iter().filter(|row| {
        let named = |names: &[&str]| names.iter().any(|name| row.0.starts_with(name));
        // curl gives up on these, whichever side sent them.
        !named(&["101", "100", "103", "length long", "length beyond", "Status below", "hop-by-hop"])
    });
    let mut compared = 0;
    for row in rows.step_by(3) {
        pair.backend.set_script(answering(bytes(row), usize::MAX));
        let [stock, ours] = [Side::Stock, Side::Ours].map(|side| {
            let mut answer = curl::http2(pair.address(side), "/", &[]);
            answer.head.retain(|line| !line.starts_with("date:"));
            (answer.head, answer.body)
        });
        assert_eq!(stock, ours, "{} over HTTP/2", row.0);
        compared += 1;
    }
    println!("oracle, HTTP/2: {compared} responses");
}

/// What nginx knows of the upstream shows in its own variables, and so in access logs.
#[test]
fn upstream_variables() {
    let pair = Pair::builder(&format!(
        "{STANDARD_PARAMS}
        add_header X-Status $upstream_status always;
        add_header X-Addr $upstream_addr always;
        add_header X-Length $upstream_response_length always;
        add_header X-Received $upstream_bytes_received always;
        add_header X-Header $upstream_http_x_a always;
        add_header X-Cookie $upstream_cookie_c always;
        add_header X-Cache -$upstream_cache_status always;
        location / {{ uwsgi_pass @pass@; }}"
    ))
    .start();
    for row in ROWS.iter().filter(|row| !row.0.starts_with("X-Accel")) {
        // What was received when the head went out depends on timing with a long body only.
        let (stock, ours) = {
            pair.backend.set_script(answering(bytes(row), usize::MAX));
            pair.both(&request_for(row, "GET", "/", "1.1"))
        };
        assert_responses(row.0, &stock.response, &ours.response);
    }
}
