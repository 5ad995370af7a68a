//! Requests and responses that do not come to their end: the connection is closed, and the client
//! gets what stock gives it.

use super::{Site, GET, KEPT, PARKED};
use crate::prelude::*;

const FAILED: &str = "it failed or was closed";
const NOT_WRITTEN: &str = "the request was not sent completely";

fn begin(site: &Site, request: &[u8]) -> Client {
    let mut client = Client::connect(site.address());
    client.send(request);
    client
}

#[test]
fn an_answer_before_the_request_was_sent() {
    // The body is passed on as it comes, and half of it never does.
    let site = Site::new("rs_uwsgi_request_buffering off;");
    site.backend.set_script(|peer| {
        peer.read_packet()?;
        peer.read_exact(3)?;
        peer.write(KEPT)?;
        peer.stall()
    });
    let mut client = begin(&site, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(client.response(false).unwrap().text(), "ok");
    assert_eq!(site.wait_verdict(0), NOT_WRITTEN);
    let answers = site.answers.script();
    site.backend.set_script(move |peer| answers(peer));
    assert_eq!(site.next_connection(), 1);
    // not one byte more than the client had sent came on the connection
    assert!(site.backend.connections()[0].received.ends_with(b"abc"));
}

#[test]
fn a_large_request_that_the_server_does_not_read() {
    let site = Site::new("client_max_body_size 32m;");
    site.backend.set_script(|peer| {
        peer.read_packet()?;
        peer.write(KEPT)?;
        peer.wait_hangup()
    });
    let length = 16 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    let mut client = begin(&site, &[head.as_bytes(), &vec![b'x'; length]].concat());
    assert_eq!(client.response(false).unwrap().text(), "ok");
    assert_eq!(site.wait_verdict(0), NOT_WRITTEN);
    let answers = site.answers.script();
    site.backend.set_script(move |peer| answers(peer));
    assert_eq!(site.next_connection(), 1);
}

#[test]
fn a_client_that_leaves() {
    for buffering in ["on", "off"] {
        let site = Site::new(&format!("rs_uwsgi_buffering {buffering}; postpone_output 0;"));
        for part in ["", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nab"]
        {
            let verdicts = site.verdicts().len();
            let requests = site.backend.requests().len();
            site.answers.set(move |peer, _| peer.write(part.as_bytes()));
            let mut client = begin(&site, GET);
            let connection = site.backend.wait_request(requests).connection;
            if !part.is_empty() {
                client.read_head().unwrap();
            }
            drop(client);
            let verdict = site.wait_verdict(verdicts);
            assert_ne!(verdict, PARKED, "{buffering} {part:?}");
            assert_ne!(site.next_connection(), connection, "{buffering} {part:?}");
        }
    }
}

#[test]
fn a_client_that_leaves_where_that_is_ignored() {
    let site = Site::new("rs_uwsgi_ignore_client_abort on;");
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    site.answers.set(move |peer, _| {
        let _ = wait.lock().unwrap().recv();
        peer.write(KEPT)
    });
    let client = begin(&site, GET);
    site.backend.wait_request(0);
    drop(client);
    drop(go);
    // It was read to its end, or the client was found gone before: both are right.
    let reused = site.wait_verdict(0) == PARKED;
    assert_eq!(site.next_connection() == 0, reused);
}

#[test]
fn a_server_that_stalls() {
    let started = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nab";
    let chunked =
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    for extra in ["", "rs_uwsgi_buffering off;"] {
        // time enough for what the server does send
        let stalls = "rs_uwsgi_read_timeout 500ms; rs_uwsgi_pass @pass@;";
        let site = Site::new(&format!(
            "{extra} rs_uwsgi_next_upstream off; location /stalls {{ {stalls} }}"
        ));
        for (part, status) in [("", 504), ("HTTP/1.1 2", 504), (started, 200), (chunked, 200)] {
            site.answers.set(move |peer, _| peer.write(part.as_bytes()));
            let visit = site.visit(b"GET /stalls HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(visit.response.status, status, "{part:?}");
            assert!(status != 200 || visit.response.end == End::Cut, "{visit:?}");
            assert_eq!(visit.verdict, FAILED, "{part:?}, {extra}");
            assert_eq!(visit.log.len(), 1, "{:?}", visit.log);
            assert!(visit.log[0].contains("upstream timed out"), "{:?}", visit.log);
            assert_ne!(site.next_connection(), visit.connection, "{part:?}, {extra}");
        }
    }
}

#[test]
fn floods_of_interim_responses() {
    let site = Site::new("rs_uwsgi_buffer_size 4k; rs_uwsgi_next_upstream off;");
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n";
    // all in the buffer at once
    site.answers.set_bytes(&[hint.repeat(20).as_bytes(), KEPT].concat());
    let visit = site.visit(GET);
    assert_eq!((visit.response.text().as_str(), visit.verdict.as_str()), ("ok", PARKED));
    assert_eq!(site.next_connection(), visit.connection);
    // more than the buffer
    site.answers.set(move |peer, _| {
        peer.write(hint.repeat(500).as_bytes())?;
        peer.write(KEPT)
    });
    let visit = site.visit(GET);
    assert_eq!((visit.response.status, visit.verdict.as_str()), (502, FAILED));
    assert_eq!(visit.log, ["[error] upstream sent too big header"]);
    assert_ne!(site.next_connection(), visit.connection);
    // without end
    site.answers.set(move |peer, _| {
        while peer.write(hint.as_bytes()).is_ok() {}
        peer.close();
        Ok(())
    });
    let visit = site.visit(GET);
    assert_eq!((visit.response.status, visit.verdict.as_str()), (502, FAILED));
    assert_ne!(site.next_connection(), visit.connection);
}

#[test]
fn garbage_for_a_response() {
    let site = Site::new("rs_uwsgi_next_upstream off;");
    for garbage in [b"\x01\x02\x03\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n"] {
        site.answers.set_bytes(garbage);
        let visit = site.visit(GET);
        assert_eq!((visit.response.status, visit.verdict.as_str()), (502, FAILED));
        assert_ne!(site.next_connection(), visit.connection);
    }
}

#[test]
fn an_end_right_after_the_response() {
    for buffering in ["on", "off"] {
        let site = Site::new(&format!("rs_uwsgi_buffering {buffering};"));
        site.answers.set(|peer, _| {
            peer.write(KEPT)?;
            peer.half_close()
        });
        let visit = site.visit(GET);
        assert_eq!((visit.response.text().as_str(), visit.response.end), ("ok", End::Length));
        // seen before or after parking
        assert!([PARKED, FAILED].contains(&visit.verdict.as_str()), "{visit:?}");
        wait_for("the connection to end", || site.backend.connections()[0].ended.then_some(()));
        assert_eq!(site.next_connection(), 1);
        assert!(site.log().is_empty(), "{:?}", site.log());
    }
}

#[test]
fn a_body_for_a_server_that_never_reads_one() {
    let site = Site::new("rs_uwsgi_reuse puwsgi;");
    site.answers.set_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let visit = site.visit(GET);
    assert_eq!((visit.verdict.as_str(), visit.connection), (PARKED, 0));
    let chunked =
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    for request in ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", chunked] {
        assert_eq!(exchange(site.address(), request.as_bytes()).status, 501);
    }
    // the server has seen nothing of them
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(site.visit(post).response.text(), "ok");
    assert_eq!(site.next_connection(), site.backend.requests().last().unwrap().connection);
    assert_eq!(site.backend.requests().len(), 3);
}
