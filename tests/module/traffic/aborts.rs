//! Clients that go away, with and without `uwsgi_ignore_client_abort`: while nginx connects, while
//! it waits for the head, and in the body.
//!
//! A client that ends its sending direction only is one that has gone, to nginx; but it can still
//! be seen what it gets.

use super::{pair, GET};
use crate::prelude::*;
use crate::support::full_listener::FullListener;

const LOCATIONS: &str = "
    location / { uwsgi_pass @pass@; }
    location /ignored { uwsgi_ignore_client_abort on; uwsgi_pass @pass@;
        location /ignored/unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; } }
    location /unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; }
";

/// The status in the line that the access log gets next.
fn logged_status(pair: &Pair, requests: usize) -> u16 {
    let line = pair.nginx.wait_requests(requests + 1).pop().unwrap();
    line.split("\" ").nth(1).unwrap()[..3].parse().unwrap()
}

/// The body that the client got, after it had gone too, and the status that was logged.
fn half_closed(pair: &Pair, side: Side, path: &str, in_body: bool, ignored: bool) -> (String, u16) {
    let (go, wait) = channel::<()>();
    let (send, arrived) = channel::<()>();
    let channels = Mutex::new((wait, send));
    pair.backend.set_script(move |peer| {
        peer.read_request()?;
        let (wait, send) = &*channels.lock().unwrap();
        if in_body {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        }
        send.send(()).unwrap();
        if !ignored {
            // Ends when nginx has closed, which the test waits for.
            return peer.read_to_end();
        }
        wait.recv_timeout(DEADLINE).unwrap();
        if !in_body {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        }
        peer.write(b"other")
    });
    let connections = pair.backend.connection_count();
    let requests = pair.nginx.access_log().len();
    let mut client = Client::connect(pair.address(side));
    client.send(&super::get(path));
    arrived.recv_timeout(DEADLINE).unwrap();
    let mut got = Vec::new();
    if in_body && path.ends_with("unbuffered") {
        // Buffered, the beginning of the body may wait for more of it.
        client.read_head().unwrap();
        got = client.read_exact(5).unwrap();
    }
    client.half_close();
    let _ = go.send(());
    pair.backend.take_ended(connections, 1);
    got.extend(client.read_to_end());
    let body = match got.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) => &got[end + 4..],
        None => &got,
    };
    (show(body), logged_status(pair, requests))
}

#[test]
fn while_waiting_and_in_the_body() {
    let pair = pair(LOCATIONS);
    let rows = [
        ("/", false, ("", 499)),
        ("/unbuffered", false, ("", 499)),
        ("/ignored", false, ("firstother", 200)),
        ("/ignored/unbuffered", false, ("firstother", 200)),
        ("/unbuffered", true, ("first", 200)),
        ("/ignored", true, ("firstother", 200)),
        ("/ignored/unbuffered", true, ("firstother", 200)),
    ];
    for (path, in_body, (body, status)) in rows {
        let ignored = path.starts_with("/ignored");
        let outcomes = SIDES.map(|side| half_closed(&pair, side, path, in_body, ignored));
        assert_eq!(outcomes[0], outcomes[1], "{path} {in_body}: left stock, right ours");
        assert_eq!(outcomes[1], (body.to_string(), status), "{path}, in the body: {in_body}");
    }
}

/// A client that closes altogether in the middle of a large response: the server's connection ends
/// too, and the worker goes on.
#[test]
fn closing_in_the_body() {
    let pair = pair(LOCATIONS);
    for path in ["/", "/unbuffered", "/ignored", "/ignored/unbuffered"] {
        let statuses = SIDES.map(|side| {
            pair.backend.set_script(|peer| {
                peer.answer(b"HTTP/1.1 200 OK\r\n\r\n")?;
                // For as long as nginx takes it.
                while peer.write(&[b'x'; 65536]).is_ok() {}
                peer.close();
                Ok(())
            });
            let connections = pair.backend.connection_count();
            let requests = pair.nginx.access_log().len();
            let mut client = Client::connect(pair.address(side));
            client.send(&super::get(path));
            client.read_head().unwrap();
            client.read_exact(100_000).unwrap();
            drop(client);
            pair.backend.take_ended(connections, 1);
            logged_status(&pair, requests)
        });
        assert_eq!(statuses, [200, 200], "{path}: left stock, right ours");
    }
    pair.backend.set_script(|peer| peer.answer(super::OK));
    for side in SIDES {
        let response = crate::support::client::exchange(pair.address(side), GET);
        assert_eq!(response.text(), "ok", "{side:?}");
    }
    // the master logs it when the worker may already be serving
    pair.nginx.wait_logged("start worker process ");
    assert_eq!(pair.nginx.logged("start worker process ").len(), 1, "a worker was replaced");
}

#[test]
fn while_connecting() {
    let full = FullListener::new();
    let pair = pair(&LOCATIONS.replace("@pass@", &full.address.to_string()).replace(
        "uwsgi_ignore_client_abort on;",
        // Where the client is not watched, only the timeout ends the attempt.
        "uwsgi_ignore_client_abort on; uwsgi_connect_timeout 4s;",
    ));
    for (path, status, line) in [
        ("/", 499, "client prematurely closed connection, so upstream connection is closed too"),
        ("/ignored", 504, "upstream timed out"),
    ] {
        let logs = SIDES.map(|side| {
            let requests = pair.nginx.access_log().len();
            let outcome = pair.observe(|| {
                let mut client = Client::connect(pair.address(side));
                client.send(&super::get(path));
                wait_for("nginx to connect", || {
                    kernel::is_connecting_to(full.address).then_some(())
                });
                drop(client);
                Err("gone".to_string())
            });
            assert_eq!(logged_status(&pair, requests), status, "{side:?} {path}");
            outcome.log
        });
        let relevant = |log: &[String]| {
            let about = |text: &&String| text.contains("connecting to upstream");
            log.iter().filter(about).cloned().collect::<Vec<_>>()
        };
        assert_eq!(relevant(&logs[0]), relevant(&logs[1]), "{path}: left stock, right ours");
        let lines = relevant(&logs[1]);
        assert!(lines.iter().any(|text| text.contains(line)), "{path}: {lines:?}");
    }
}
