//! `rs_uwsgi_connect_retry`: requests wait for a server that is being restarted.

use super::{
    answers, assert_bodies, assert_no_errors, assert_tokens, get, post, send, site, site_with,
    tokens, uwsgi_at, wait_busy, SHORT,
};
use crate::prelude::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::path::Path;

const WAITING: usize = 30;

/// Leaves a socket that nobody listens on.
fn abandon(path: &Path) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(1).unwrap();
}

/// No socket (ENOENT), or one that nobody listens on (ECONNREFUSED), until the server is there.
#[test]
fn a_server_that_comes() {
    for refused in [false, true] {
        let dir = nginx::prefix();
        let path = dir.path().join("b");
        let nginx = site(&Address::Unix(path.clone()), "rs_uwsgi_connect_retry 1h;");
        if refused {
            abandon(&path);
        }
        let mut clients = send(nginx.address(), &vec![get("/"); WAITING]);
        clients.extend(send(nginx.address(), &vec![post("/", "body"); WAITING]));
        wait_busy(&nginx, 2 * WAITING);
        if refused {
            std::fs::remove_file(&path).unwrap();
        }
        let backend = Backend::unix(&path, |peer| peer.answer(OK));
        assert_bodies(&answers(clients), vec!["ok".to_string(); 2 * WAITING]);
        assert_eq!(backend.requests().len(), 2 * WAITING);
        // One line for all of them.
        let lines = nginx.logged(&format!("\"{}\" refuses connections", backend.address()));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0].level, "warn");
        assert_no_errors(&nginx);
        nginx.quit();
    }
}

#[test]
fn uwsgi_restarts() {
    let dir = nginx::prefix();
    let socket = dir.path().join("u");
    let nginx = site(&Address::Unix(socket.clone()), "rs_uwsgi_connect_retry 1h;");
    let start = || uwsgi_at(nginx::prefix(), &socket, SHORT, 4);
    let mut uwsgi = start();
    assert_tokens(send(nginx.address(), &tokens(0..3)), 0..3);
    // It loses what it is answering when it goes: there is nothing then.
    wait_busy(&nginx, 0);
    uwsgi.stop();
    // Its processes may outlive the first for a moment, and with them the listen queue.
    wait_for("uWSGI to be gone", || uwsgi.address().connect().is_err().then_some(()));
    let clients = send(nginx.address(), &tokens(0..200));
    wait_busy(&nginx, 200);
    let _ = std::fs::remove_file(&socket);
    let _uwsgi = start();
    assert_tokens(clients, 0..200);
}

/// The server that never comes: as in stock, but later.
#[test]
fn gives_up() {
    let dir = nginx::prefix();
    let address = Address::Unix(dir.path().join("none"));
    let nginx = site(&address, "rs_uwsgi_connect_retry 200ms;");
    nginx.expects(nginx::NO_SOCKET);
    let requests = [get("/"), get("/"), post("/", "body")];
    for answer in answers(send(nginx.address(), &requests)) {
        assert_eq!(answer.status, 502);
    }
    assert!(!nginx.logged("connect() to unix:").is_empty());
    wait_busy(&nginx, 0);
    nginx.quit();
}

#[test]
fn a_client_that_leaves() {
    let dir = nginx::prefix();
    let path = dir.path().join("b");
    let nginx = site(&Address::Unix(path.clone()), "rs_uwsgi_connect_retry 1h;");
    let mut clients = send(nginx.address(), &[post("/", "a"), post("/", "b"), post("/", "c")]);
    wait_busy(&nginx, 3);
    clients.remove(1);
    wait_busy(&nginx, 2);
    let backend = Backend::unix(&path, |peer| peer.answer(OK));
    assert_bodies(&answers(clients), vec!["ok".to_string(); 2]);
    let mut bodies: Vec<_> = backend.requests().into_iter().map(|r| r.body).collect();
    bodies.sort();
    assert_eq!(bodies, [b"a", b"c"]);
}

/// Over TCP the server's system refuses as soon as the connection is asked for. With a limit, those that were refused
/// keep their places, and are before those that wait for one, also in the turns of lower classes.
#[test]
fn over_tcp() {
    const LIMIT: &str = "rs_uwsgi_max_connections 2; rs_uwsgi_queue 1000 timeout=1h;";
    for (zone, limit) in [("", ""), ("", LIMIT), ("rs_uwsgi_zone off;", LIMIT)] {
        let address = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let settings = format!("rs_uwsgi_connect_retry 1h; {limit}");
        let nginx = site_with(1, zone, &settings, &Address::Tcp(address).to_string());
        let clients = send(nginx.address(), &tokens(0..WAITING));
        wait_busy(&nginx, WAITING);
        nginx.wait_logged("refuses connections, requests wait for it");
        // each attempt is a turn, and one in ten a lower class's
        std::thread::sleep(Duration::from_millis(500));
        let application = root().join("tests/support/application.py");
        let arguments = ["--wsgi-file", application.to_str().unwrap()];
        let _uwsgi = Uwsgi::start(nginx::prefix(), Address::Tcp(address), &arguments);
        for answer in answers(clients) {
            assert_eq!(answer.status, 200, "{zone} {limit}");
        }
        assert_no_errors(&nginx);
    }
}

#[test]
fn over_tcp_gives_up() {
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port())));
    let nginx = site(&address, "rs_uwsgi_connect_retry 200ms;");
    for answer in answers(send(nginx.address(), &[get("/"), post("/", "body")])) {
        assert_eq!(answer.status, 502);
    }
    let failed = nginx.logged(&format!("connect() to {address} failed (111: Connection refused)"));
    assert_eq!(failed.len(), 2, "{failed:#?}");
}

#[test]
fn off_unless_set() {
    let dir = nginx::prefix();
    let path = dir.path().join("b");
    let nginx = site(&Address::Unix(path.clone()), "");
    nginx.expects(nginx::NO_SOCKET);
    assert_eq!(answers(send(nginx.address(), &[get("/")]))[0].status, 502);
    abandon(&path);
    assert_eq!(answers(send(nginx.address(), &[get("/")]))[0].status, 502);
}

/// What lies in the listen queue of a server that stops is sent to the next one, where it may be sent
/// twice. Whether a POST was read cannot be known.
#[test]
fn what_lay_in_the_listen_queue() {
    let dir = nginx::prefix();
    let path = dir.path().join("b");
    let nginx = site(&Address::Unix(path.clone()), "rs_uwsgi_connect_retry 1h;");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(128).unwrap();
    let gets = send(nginx.address(), &vec![get("/"); WAITING]);
    let posts = send(nginx.address(), &vec![post("/", "body"); 3]);
    wait_busy(&nginx, WAITING + 3);
    std::fs::remove_file(&path).unwrap();
    drop(listener);
    for answer in answers(posts) {
        assert_eq!(answer.status, 502);
    }
    nginx.wait_logged("refuses connections, requests wait for it");
    let backend = Backend::unix(&path, |peer| peer.answer(OK));
    assert_bodies(&answers(gets), vec!["ok".to_string(); WAITING]);
    assert_eq!(backend.requests().len(), WAITING);
    wait_busy(&nginx, 0);
    nginx.quit();
}

/// A body that was passed on while it was being read is gone, whatever the method: the request is not sent
/// again, not even without it.
#[test]
fn what_has_lost_its_body_is_not_sent_again() {
    for settings in ["rs_uwsgi_request_buffering off;", ""] {
        let dir = nginx::prefix();
        let path = dir.path().join("b");
        let settings = format!("rs_uwsgi_connect_retry 1h; {settings}");
        let nginx = site(&Address::Unix(path.clone()), &settings);
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(128).unwrap();
        let request = "PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
        let mut clients = Vec::new();
        for method in ["GET", "PUT"] {
            let mut client = Client::connect(nginx.address());
            client.send(request.replace("PUT", method).as_bytes());
            clients.push(client);
        }
        wait_busy(&nginx, 2);
        let is_unbuffered = settings.contains("off");
        if !is_unbuffered {
            clients.iter_mut().for_each(|client| client.send(b"body"));
        }
        // what waits in the queue has been sent: nothing but a body is waited for
        wait_for("the requests in the queue", || {
            (kernel::unix_connections(&path) >= 2).then_some(())
        });
        std::fs::remove_file(&path).unwrap();
        drop(listener);
        if is_unbuffered {
            for mut client in clients {
                assert_eq!(client.response(false).unwrap().status, 502);
            }
            wait_busy(&nginx, 0);
            continue;
        }
        // the same with a body that nginx has is sent again
        nginx.wait_logged("refuses connections, requests wait for it");
        let backend = Backend::unix(&path, |peer| peer.answer(OK));
        for mut client in clients {
            assert_eq!(client.response(false).unwrap().text(), "ok");
        }
        assert!(backend.requests().iter().all(|request| request.body == b"body"));
    }
}

/// The processes of a server end one after the other, each with what it has accepted and not read; then the
/// listen queue goes.
#[test]
fn several_processes_that_end() {
    for tcp in [false, true] {
        let dir = nginx::prefix();
        let ended = AtomicUsize::new(0);
        let script = move |peer: &mut crate::support::backend::Peer| {
            if ended.fetch_add(1, Ordering::Relaxed) < 4 {
                peer.read_exact(1)?;
                return peer.reset();
            }
            peer.answer(OK)
        };
        let backend = match tcp {
            true => Backend::tcp(script),
            false => Backend::unix(&dir.path().join("b"), script),
        };
        let nginx = site(backend.address(), "rs_uwsgi_connect_retry 1h;");
        assert_bodies(&answers(send(nginx.address(), &[get("/")])), vec!["ok".to_string()]);
        assert_eq!(backend.connection_count(), 5);
        wait_busy(&nginx, 0);
        nginx.quit();
    }
}

/// A request that a server never answers is sent again a few times, and one that must not be repeated once.
#[test]
fn a_request_that_is_never_answered() {
    type Act = fn(&mut crate::support::backend::Peer) -> std::io::Result<()>;
    let reset: Act = |peer| {
        peer.read_exact(1)?;
        peer.reset()
    };
    let dies: Act = |peer| {
        peer.read_request()?;
        peer.close();
        Ok(())
    };
    let retry = "rs_uwsgi_connect_retry 1h;";
    let never = "rs_uwsgi_connect_retry 1h; rs_uwsgi_next_upstream off;";
    for (act, settings, requests, connections) in [
        (reset, retry, get("/"), 5),
        (reset, retry, post("/", "body"), 1),
        (reset, never, get("/"), 1),
        (reset, "", get("/"), 1),
        (dies, retry, get("/"), 2),
        (dies, retry, post("/", "body"), 1),
        (dies, never, get("/"), 1),
        (dies, "", get("/"), 1),
    ] {
        for tcp in [false, true] {
            let dir = nginx::prefix();
            let backend = match tcp {
                true => Backend::tcp(act),
                false => Backend::unix(&dir.path().join("b"), act),
            };
            let nginx = site(backend.address(), &format!("{settings} rs_uwsgi_max_connections 1;"));
            let sent = send(nginx.address(), std::slice::from_ref(&requests));
            assert_eq!(answers(sent)[0].status, 502, "{settings}");
            assert_eq!(backend.connection_count(), connections, "{settings} {tcp} {requests:?}");
            // its place is free again
            backend.set_script(|peer| peer.answer(OK));
            assert_eq!(answers(send(nginx.address(), &[get("/")]))[0].status, 200);
        }
    }
}
