//! Real servers with an application that answers without reading the body: every answer arrives,
//! of which stock loses many.

use crate::prelude::*;
use std::path::PathBuf;

/// The bytes of an upload, and how often it is sent.
const UPLOADS: [(usize, usize); 3] = [(100_000, 6), (2_000_000, 6), (20_000_000, 1)];

/// How a body gets through nginx.
const WAYS: [(&str, &str); 5] = [
    ("file", ""),
    ("sendfile", "sendfile on; tcp_nopush on;"),
    ("memory", "client_body_buffer_size 32m;"),
    ("unbuffered", "uwsgi_request_buffering off;"),
    ("through", "uwsgi_request_buffering off; uwsgi_buffering off;"),
];

const ANSWERS: [&str; 3] = ["413/sized", "401/unsized", "302/unsized"];

fn application() -> PathBuf {
    root().join("tests/support/early.py")
}

#[test]
fn uwsgi_on_a_unix_socket() {
    answers(Uwsgi::unix(&application()).address());
}

#[test]
fn uwsgi_on_tcp() {
    answers(Uwsgi::tcp(&application()).address());
}

#[test]
fn gunicorn_sync() {
    answers(Gunicorn::builder(&application()).unix().start().address());
    answers(Gunicorn::builder(&application()).start().address());
}

#[test]
fn gunicorn_gthread() {
    let gunicorn = Gunicorn::builder(&application()).worker_class("gthread").threads(4);
    answers(gunicorn.clone().unix().start().address());
    answers(gunicorn.clone().start().address());
    answers(gunicorn.unix().version(Version::Chunking).start().address());
}

fn site(address: &Address, listen: &str) -> Nginx {
    let locations: String = WAYS
        .iter()
        .map(|(name, settings)| format!("location /{name}/ {{ {settings} uwsgi_pass {address}; }}"))
        .collect();
    let server = format!("{STANDARD_PARAMS} client_max_body_size 0; {locations}");
    let ours = translated(&server);
    Nginx::builder()
        .http(&format!("server {{ listen 127.0.0.1:@port@{listen}; {server} }}"))
        .http(&format!("server {{ listen 127.0.0.2:@port@{listen}; {ours} }}"))
        .log_level("error")
        .start()
}

fn errors(nginx: &Nginx) -> Vec<Line> {
    nginx.error_log().into_iter().filter(|line| line.level != "warn").collect()
}

fn answers(address: &Address) {
    let nginx = site(address, "");
    let body = vec![b'x'; UPLOADS[2].0];
    // stock last: the error log is ours until then
    for side in [Side::Ours, Side::Stock] {
        let to = nginx.address_of(0, [127, 0, 0, 1 + side as u8]);
        for (size, times) in UPLOADS {
            let mut all = Vec::new();
            for (way, _) in WAYS {
                for answer in ANSWERS {
                    let path = format!("/{way}/{answer}");
                    let got = (0..times).filter(|_| arrives(to, &path, &body[..size])).count();
                    assert!(side == Side::Stock || got == times, "{path} {size}: {got}/{times}");
                    all.push(got);
                }
            }
            let (got, of) = (all.iter().sum::<usize>(), all.len() * times);
            eprintln!("early answers from {address}, {size} bytes, {side:?}: {got} of {of}");
        }
        if side == Side::Ours {
            let log = errors(&nginx);
            assert!(log.is_empty(), "{log:?}");
        }
    }
}

/// Uploads `body`; does the whole answer come?
fn arrives(to: SocketAddr, path: &str, body: &[u8]) -> bool {
    let mut client = Client::connect(to);
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    client.send(head.as_bytes());
    client.send(body);
    let status = path.split('/').nth(2).unwrap();
    client.response(false).is_ok_and(|response| {
        response.status.to_string() == status
            && response.end != End::Cut
            && response.text() == format!("{status} early\n").repeat(500)
    })
}

#[test]
fn to_clients_of_http_2() {
    let uwsgi = Uwsgi::unix(&application());
    let nginx = site(uwsgi.address(), " http2");
    let to = nginx.address_of(0, [127, 0, 0, 2]);
    let body = vec![b'x'; 2_000_000];
    for (way, _) in WAYS {
        for answer in ANSWERS {
            let (path, status) = (format!("/{way}/{answer}"), &answer[..3]);
            let expected = format!("{status} early\n").repeat(500);
            let fields: [(&[u8], &[u8]); 5] = [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":authority", b"h"),
                (b":path", path.as_bytes()),
                (b"content-length", b"2000000"),
            ];
            let got = h2::exchange(any_port(), to, &fields, Some(&body)).unwrap();
            let got_status = got.status.map(|status| status.to_string());
            assert_eq!(got_status.as_deref(), Some(status), "{path}");
            assert_eq!(String::from_utf8_lossy(&got.body), expected, "{path}");
        }
    }
    let log = errors(&nginx);
    assert!(log.is_empty(), "{log:?}");
}
