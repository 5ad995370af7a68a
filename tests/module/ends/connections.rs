//! Tries that get no connection, or lose it before they use it.

use super::{get, start, wait_busy, OnePlace, NEXT, OK, PLAIN};
use crate::prelude::*;
use crate::reuse::KEPT;
use crate::support::full_listener::FullListener;
use crate::support::process::kill;
use std::io::{Read, Write};
use std::net::Ipv4Addr;

/// There is no server, and then there is.
#[test]
fn refused() {
    let dir = nginx::prefix();
    let path = dir.path().join("b");
    let nginx = start(&Address::Unix(path.clone()), PLAIN);
    nginx.expects(nginx::NO_SOCKET);
    for _ in 0..3 {
        assert_eq!(client::get(nginx.address(), "/").status, 502);
    }
    let _backend = Backend::unix(&path, |peer| peer.answer(NEXT));
    assert_eq!(client::get(nginx.address(), "/next").text(), "next");
}

/// The server closes a used connection when it gets a request on it: the request goes to it again on a
/// new one.
#[test]
fn dead_connection() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        let first = peer.number == 0;
        peer.answer(if first { KEPT } else { OK })?;
        if first {
            peer.read_request()?;
        }
        peer.close();
        Ok(())
    });
    let nginx = start(backend.address(), PLAIN);
    for _ in 0..3 {
        assert_eq!(client::get(nginx.address(), "/").text(), "ok");
    }
    assert_eq!(backend.connection_count(), 3);
}

/// The first server answers so that the second one is asked.
#[test]
fn next_by_status() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        peer.answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
    });
    let other = Backend::unix(&dir.path().join("o"), |peer| peer.answer(OK));
    let nginx = nginx::Nginx::builder()
        .http(&format!(
            "upstream pair {{ server {} max_fails=0; server {} max_fails=0; }}
            server {{ listen 127.0.0.1:@port@; rs_uwsgi_max_connections 1;
                rs_uwsgi_queue 100 timeout=60s; location / {{ rs_uwsgi_next_upstream http_503; rs_uwsgi_pass pair; }} }}",
            backend.address(),
            other.address(),
        ))
        .start();
    for _ in 0..6 {
        assert_eq!(client::get(nginx.address(), "/").text(), "ok");
    }
}

#[test]
fn client_leaves_in_the_line() {
    let site = OnePlace::new(PLAIN, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    let mut first = site.send(&get("/"));
    site.wait_seen(1);
    let second = site.wait_behind(1);
    let third = site.wait_behind(2);
    drop(second);
    wait_busy(&site.nginx, 2);
    site.open();
    assert_eq!(first.response(false).unwrap().text(), "ok");
    site.assert_next(third);
}

#[test]
fn queue_is_full() {
    let locations = "location / { rs_uwsgi_pass @pass@; }
        location /full { rs_uwsgi_queue 0; rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    site.end_by(&get("/"), |mut first| {
        assert_eq!(first.response(false).unwrap().text(), "ok");
    });
    site.open.store(false, std::sync::atomic::Ordering::SeqCst);
    let seen = site.seen.lock().unwrap().len();
    let mut first = site.send(&get("/"));
    site.wait_seen(seen + 1);
    assert_eq!(client::get(site.nginx.address(), "/full").status, 503);
    let next = site.wait_behind(1);
    site.open();
    assert_eq!(first.response(false).unwrap().text(), "ok");
    site.assert_next(next);
}

#[test]
fn waited_in_vain() {
    let locations = "location / { rs_uwsgi_pass @pass@; }
        location /short { rs_uwsgi_queue 100 timeout=300ms; rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    let mut first = site.send(&get("/"));
    site.wait_seen(1);
    assert_eq!(client::get(site.nginx.address(), "/short").status, 503);
    let next = site.wait_behind(1);
    site.open();
    assert_eq!(first.response(false).unwrap().text(), "ok");
    site.assert_next(next);
}

/// Both the request that the server has and the one that waits are served by the worker that leaves.
#[test]
fn reload() {
    let site = OnePlace::new(PLAIN, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    let mut first = site.send(&get("/"));
    site.wait_seen(1);
    let next = site.wait_behind(1);
    let before = site.nginx.worker_ids();
    site.nginx.signal(libc::SIGHUP);
    wait_for("a new worker", || (site.nginx.worker_ids() != before).then_some(()));
    site.open();
    assert_eq!(first.response(false).unwrap().text(), "ok");
    site.assert_next(next);
}

/// The one that has begun to connect has the only place, and leaves: the next one begins at once.
#[test]
fn client_leaves_while_connecting() {
    let full = FullListener::new();
    let nginx = start(
        &Address::Tcp(full.address),
        "location / { rs_uwsgi_connect_retry 60s; rs_uwsgi_connect_timeout 60s;
            rs_uwsgi_pass @pass@; }",
    );
    let send = |path: &str| {
        let mut client = Client::connect(nginx.address());
        client.send(get(path).as_bytes());
        client
    };
    let first = send("/first");
    wait_for("nginx to connect", || kernel::is_connecting_to(full.address).then_some(()));
    let mut second = send("/second");
    wait_busy(&nginx, 2);
    drop(first);
    wait_busy(&nginx, 1);
    // what lies in the queue, and then the second request's
    let server = std::thread::spawn(move || {
        drop(full.listener.accept().unwrap());
        full.listener.set_nonblocking(true).unwrap();
        let (connection, _) = wait_for("the second request", || full.listener.accept().ok());
        connection.set_nonblocking(false).unwrap();
        connection
    });
    let mut connection = server.join().expect("the second request waits though there is room");
    assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
    connection.write_all(NEXT).unwrap();
    drop(connection);
    assert_eq!(second.response(false).unwrap().text(), "next");
}

/// A worker that is given up with a request that the server has, and one that waits, knows nothing of them any
/// more, nor does the next one.
fn worker_goes(main: &str, go: impl FnOnce(&Nginx)) {
    let site = OnePlace::build(main, PLAIN, |peer, _| {
        peer.stall()?;
        peer.close();
        Ok(())
    });
    let mut first = site.send(&get("/"));
    site.wait_seen(1);
    let mut waiting = site.wait_behind(1);
    let before = site.nginx.worker_ids();
    go(&site.nginx);
    wait_for("a new worker", || (site.nginx.worker_ids() != before).then_some(()));
    site.open();
    first.read_to_end();
    waiting.read_to_end();
    wait_for("the old worker to leave", || (site.nginx.workers_left() > 0).then_some(()));
    // what nginx counts for all workers may be wrong for good now
    for _ in 0..3 {
        assert_eq!(client::get(site.nginx.address(), "/next").text(), "next");
    }
    let OnePlace { site, .. } = site;
    site.nginx.quit();
}

#[test]
fn shutdown_timeout() {
    worker_goes("worker_shutdown_timeout 500ms;", |nginx| nginx.signal(libc::SIGHUP));
}

#[test]
fn terminated() {
    worker_goes("", |nginx| {
        let worker = nginx.worker_ids()[0].try_into().unwrap();
        assert!(kill(worker, libc::SIGTERM));
    });
}

fn dns() -> Dns {
    Dns::start(&[("app.test", Ipv4Addr::LOCALHOST)])
}

/// Connections to hosts that a resolver looks up are not counted: nobody waits for one, and nobody is woken.
#[test]
fn resolved() {
    let dns = dns();
    let closes = |peer: &mut Peer, _: &Packet| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    };
    let site = OnePlace::resolved(&dns, closes);
    let mut client = site.send(&get("/"));
    site.wait_seen(1);
    assert_eq!(client::get(site.nginx.address(), "/next").text(), "next");
    site.open();
    assert_eq!(client.response(false).unwrap().text(), "ok");
    site.assert_free();
    let site = OnePlace::resolved(&dns, |peer, _| peer.stall());
    let client = site.send(&get("/"));
    site.wait_seen(1);
    drop(client);
    site.assert_free();
    site.open();
    assert!(dns.asked().contains(&"app.test".to_string()));
}

#[test]
fn not_resolved() {
    let dns = dns();
    let site = OnePlace::resolved(&dns, |peer, _| peer.write(OK));
    for _ in 0..3 {
        assert_eq!(client::get(site.nginx.address(), "/none").status, 502);
        site.assert_free();
    }
}
