//! Request bodies on their way to the server: unbuffered, from a file, refused early, and clients
//! that stop in the middle.

use super::{everything, pair, request, OK};
use crate::prelude::*;

/// Far more than the buffer for request bodies.
const LARGE: usize = 3 << 20;

/// Unbuffered, the server has most of the body while the client still has the end of it, and no
/// file is written; buffered, the server hears nothing until the body is complete.
#[test]
fn arriving_while_sent() {
    let pair = pair(
        "client_max_body_size 0;
        location / { uwsgi_pass @pass@; }
        location /unbuffered { uwsgi_request_buffering off; uwsgi_pass @pass@; }",
    );
    for path in ["/", "/unbuffered"] {
        for side in SIDES {
            let buffered = path == "/";
            let (send, arrived) = channel();
            let send = Mutex::new(send);
            pair.backend.set_script(move |peer| {
                let length = peer.read_packet()?.get("CONTENT_LENGTH").unwrap();
                let length: usize = length.parse().unwrap();
                let mut body = peer.read_exact(length - 1000)?;
                send.lock().unwrap().send(()).unwrap();
                body.extend(peer.read_exact(1000)?);
                assert!(body.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
                peer.write(OK)
            });
            let connections = pair.backend.connection_count();
            let lines = pair.nginx.error_log().len();
            let body: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
            let whole = request("POST", path, &body);
            let (most, last) = whole.split_at(whole.len() - 100);
            let mut client = Client::connect(pair.address(side));
            client.send(most);
            if buffered {
                // nginx has all of this, having taken it; the server has not heard of it.
                assert_eq!(pair.backend.connection_count(), connections, "{side:?}");
            } else {
                arrived.recv_timeout(DEADLINE).unwrap();
            }
            client.send(last);
            assert_eq!(client.response(false).unwrap().text(), "ok", "{side:?} {path}");
            let said = "a client request body is buffered to a temporary file";
            let log = pair.nginx.error_log().split_off(lines);
            let files = log.iter().filter(|line| line.text.contains(said)).count();
            assert_eq!(files, usize::from(buffered), "{side:?} {path}");
        }
    }
}

/// A server that answers before it has read the body, and keeps the connection open until nginx
/// closes it.
#[test]
fn answered_early() {
    let pair = everything("client_max_body_size 0; uwsgi_request_buffering off;");
    pair.backend.set_script(|peer| {
        peer.read_packet()?;
        peer.read_exact(5)?;
        peer.write(b"HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\n\r\ntoo much")?;
        peer.read_to_end()
    });
    let [stock, ours] = SIDES.map(|side| {
        let mut client = Client::connect(pair.address(side));
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nfirst");
        let response = client.response(false).unwrap();
        (response.undated(), response.text())
    });
    assert_eq!(stock, ours);
    assert!(ours.0.starts_with("HTTP/1.1 413 Too Much\n"), "{}", ours.0);
    assert_eq!(ours.1, "too much");
}

/// A client that goes away or stalls in the middle of its body.
#[test]
fn stopping_in_the_middle() {
    let pair = pair(
        "client_body_timeout 150ms;
        location / { uwsgi_pass @pass@; }
        location /unbuffered { uwsgi_request_buffering off; uwsgi_pass @pass@; }",
    );
    // nginx hides 408 from the client: it only closes.
    for (path, closes, status, connections) in [
        ("/", true, 400, 0),
        ("/", false, 408, 0),
        ("/unbuffered", true, 400, 1),
        ("/unbuffered", false, 408, 1),
    ] {
        let name = format!("{path}, the client closes: {closes}");
        let outcomes = SIDES.map(|side| {
            let (send, arrived) = channel();
            let send = Mutex::new(send);
            pair.backend.set_script(move |peer| {
                peer.read_packet()?;
                peer.read_exact(4)?;
                send.lock().unwrap().send(()).unwrap();
                // Ends when nginx gives up.
                peer.read_to_end()
            });
            let before = pair.backend.connection_count();
            let requests = pair.nginx.access_log().len();
            let mut client = Client::connect(pair.address(side));
            let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf");
            client.send(head.as_bytes());
            if connections > 0 {
                arrived.recv_timeout(DEADLINE).unwrap();
            }
            if closes {
                client.half_close();
            }
            let got = client.read_to_end();
            let line = pair.nginx.wait_requests(requests + 1).pop().unwrap();
            let received = pair.backend.take_ended(before, connections);
            let bodies: Vec<_> =
                received.iter().map(|bytes| Packet::parse(bytes).unwrap().1.to_vec()).collect();
            let status = line.split("\" ").nth(1).unwrap()[..3].parse::<u16>().unwrap();
            (got, status, bodies)
        });
        assert_eq!(outcomes[0], outcomes[1], "{name}: left stock, right ours");
        let (_, logged, bodies) = &outcomes[1];
        assert_eq!((*logged, bodies.len()), (status, connections), "{name}");
        assert!(bodies.iter().all(|body| body == b"half"), "{name}: {bodies:?}");
    }
}

/// A body that was written to a file is handed over by name instead of being sent.
#[test]
fn by_file_name() {
    let pair = Pair::builder(&format!(
        "{STANDARD_PARAMS} client_body_in_file_only clean;
            uwsgi_param REQUEST_BODY_FILE $request_body_file;
            uwsgi_pass_request_body off;
            location / {{ uwsgi_pass @pass@; }}"
    ))
    .start();
    pair.backend.set_script(|peer| {
        let packet = peer.read_packet()?;
        let body = std::fs::read(packet.get("REQUEST_BODY_FILE").unwrap())?;
        peer.write(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
        peer.write(&body)
    });
    let body = b"kept in a file".repeat(5000);
    let (stock, ours) = pair.both(&request("POST", "/", &body));
    assert_responses("a body by name", &stock.response, &ours.response);
    for outcome in [stock, ours] {
        let response = outcome.response.unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body == body);
        // By name only.
        let (_, sent) = Packet::parse(&outcome.received[0]).unwrap();
        assert_eq!(sent, b"");
    }
    let left = || {
        let files = std::fs::read_dir(pair.nginx.path("temp/client_body")).unwrap();
        files.count().eq(&0).then_some(())
    };
    wait_for("the files to be removed", left);
}

/// Chunks are read to their end first: the protocol needs the length in front.
#[test]
fn chunks_are_never_unbuffered() {
    let pair = everything("uwsgi_request_buffering off;");
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        let length = request.packet.get("CONTENT_LENGTH").unwrap();
        let text = format!("{length}:{}", String::from_utf8_lossy(&request.body));
        peer.write(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
    });
    for side in SIDES {
        let before = pair.backend.connection_count();
        let mut client = Client::connect(pair.address(side));
        client.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        );
        client.send(b"6\r\n, more\r\n");
        assert_eq!(pair.backend.connection_count(), before, "{side:?}: too early");
        client.send(b"0\r\n\r\n");
        assert_eq!(client.response(false).unwrap().text(), "11:hello, more", "{side:?}");
    }
}
