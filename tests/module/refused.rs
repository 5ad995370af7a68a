//! Requests that a server refuses for what they are: they take it from nobody else.

use crate::prelude::*;
use std::sync::Barrier;
use std::thread::{scope, sleep};

/// Shows how many servers were asked.
const WAY: &str = "large_client_header_buffers 8 64k; client_max_body_size 0;
    add_header X-Addr $upstream_addr always; add_header X-Size $rs_uwsgi_vars_size always;
    add_header X-Connection $rs_uwsgi_connection always;";

/// A uWSGI with its default `buffer-size`.
fn uwsgi(unix: bool, arguments: &[&str]) -> Uwsgi {
    let dir = nginx::prefix();
    let address = match unix {
        true => Address::Unix(dir.path().join("s")),
        false => Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port()))),
    };
    let file = root().join("tests/support/application.py");
    let arguments = [&["--wsgi-file", file.to_str().unwrap(), "--buffer-size", "4096"], arguments];
    Uwsgi::start(dir, address, &arguments.concat())
}

/// An upstream of these servers, of which each is taken for failed for a minute.
fn balanced(servers: &[&Address], settings: &str) -> Nginx {
    balanced_over("app", servers, settings)
}

fn balanced_over(pass: &str, servers: &[&Address], settings: &str) -> Nginx {
    let servers: Vec<_> =
        servers.iter().map(|address| format!("server {address} fail_timeout=60s;")).collect();
    Nginx::start(&format!(
        "upstream app {{ {} }}
        server {{ listen 127.0.0.1:@port@; {WAY} location / {{ {settings} rs_uwsgi_pass {pass}; }} }}",
        servers.concat()
    ))
}

fn with_cookie(nginx: &Nginx, size: usize) -> Response {
    get_with(nginx.address(), "/echo", &format!("Cookie: {}\r\n", "a".repeat(size)))
}

fn post(nginx: &Nginx, headers: &str, body: usize) -> Response {
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}Content-Length: {body}\r\n\r\n"
    );
    exchange(nginx.address(), &[head.as_bytes(), &vec![b'a'; body]].concat())
}

/// How many servers the request came to.
fn asked(response: &Response) -> usize {
    response.header("X-Addr").map_or(0, |way| way.split(", ").count())
}

/// No server is taken for failed: each of many requests has its answer from the first asked.
fn assert_all_serve(nginx: &Nginx) {
    for _ in 0..6 {
        let response = get(nginx.address(), "/echo");
        assert_eq!((response.status, asked(&response)), (200, 1));
    }
    for text in ["no live upstreams", "temporarily disabled"] {
        assert!(nginx.logged(text).is_empty(), "{text}");
    }
}

fn vars_beyond_the_buffer_size(unix: bool) {
    let servers = [uwsgi(unix, &[]), uwsgi(unix, &[])];
    let nginx = balanced(&[servers[0].address(), servers[1].address()], "");
    for _ in 0..6 {
        let response = with_cookie(&nginx, 5000);
        assert_eq!((response.status, asked(&response)), (431, 1), "{}", servers[0].log());
    }
    assert_all_serve(&nginx);
    let refused = nginx.logged("has refused 5");
    assert!((2..=4).contains(&refused.len()), "each once, and tries later on: {refused:#?}");
    assert!(refused.iter().all(|line| line.level == "error"), "{refused:#?}");
    let known = nginx.logged("is known to refuse 5");
    assert!(!known.is_empty() && known.len() <= 3, "{known:#?}");
    for text in ["recv() failed", "writev() failed", "prematurely closed"] {
        assert!(nginx.logged(text).is_empty(), "{text}");
    }
}

#[test]
fn vars_beyond_the_buffer_size_over_unix() {
    vars_beyond_the_buffer_size(true);
}

#[test]
fn vars_beyond_the_buffer_size_over_tcp() {
    vars_beyond_the_buffer_size(false);
}

/// What was refused at once was not sent, and the log has its size.
#[test]
fn what_is_refused_at_once_is_not_sent() {
    let server = uwsgi(true, &[]);
    let nginx = balanced(&[server.address()], "");
    let first = with_cookie(&nginx, 5000);
    assert_eq!((first.status, first.header("X-Connection")), (431, Some("new")));
    let second = with_cookie(&nginx, 6000);
    assert_eq!((second.status, second.header("X-Connection")), (431, None));
    let size = |response: &Response| response.header("X-Size").unwrap().parse::<usize>().unwrap();
    assert_eq!(size(&second), size(&first) + 1000);
    // what it takes, it gets
    assert_eq!(with_cookie(&nginx, 3000).status, 200);
    assert_eq!(server.log().matches("invalid request block size").count(), 1);
}

/// Reads the header of a packet as uWSGI does, and closes with the vars unread, which is a reset.
fn resets(peer: &mut Peer) -> io::Result<()> {
    peer.read_exact(4)?;
    peer.close();
    Ok(())
}

/// One is let through after a while, and the server may have been given a larger buffer meanwhile.
#[test]
fn the_limit_is_forgotten() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), resets);
    let nginx = balanced(&[backend.address()], "");
    assert_eq!(with_cookie(&nginx, 5000).status, 431);
    backend.set_script(|peer| peer.answer(b"Status: 200 OK\r\n\r\n"));
    sleep(Duration::from_millis(1100));
    assert_eq!(with_cookie(&nginx, 9000).status, 200);
    assert_eq!(with_cookie(&nginx, 5000).status, 200);
}

/// What lies in the listen queue of a server that is started anew is reset at once, however much of it
/// is large: another server is asked, and nothing is learned.
#[test]
fn a_restart_with_many_large_requests() {
    const MANY: usize = 4;
    let dir = nginx::prefix();
    let answer = |peer: &mut Peer| peer.answer(b"Status: 200 OK\r\n\r\n");
    let backend = Backend::unix(&dir.path().join("b"), answer);
    let other = Backend::unix(&dir.path().join("o"), answer);
    let nginx = Nginx::start(&format!(
        "upstream app {{ server {}; server {} backup; }}
        server {{ listen 127.0.0.1:@port@; {WAY} location / {{ rs_uwsgi_pass app; }} }}",
        backend.address(),
        other.address(),
    ));
    assert_eq!(with_cookie(&nginx, 5000).status, 200);

    let arrived = Arc::new(Barrier::new(MANY));
    backend.set_script(move |peer| {
        peer.read_exact(4)?;
        arrived.wait();
        peer.close();
        Ok(())
    });
    let responses: Vec<_> = scope(|scope| {
        let clients: Vec<_> =
            (0..MANY).map(|_| scope.spawn(|| with_cookie(&nginx, 5000))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for response in responses {
        assert_eq!((response.status, asked(&response)), (200, 2), "{response:?}");
    }

    backend.set_script(answer);
    let response = with_cookie(&nginx, 5000);
    assert_eq!((response.status, asked(&response)), (200, 1), "{response:?}");
}

/// A server that resets whatever comes has no limit, and fails.
#[test]
fn a_server_that_resets_all() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), resets);
    let nginx = balanced(&[backend.address()], "");
    assert_eq!(with_cookie(&nginx, 5000).status, 431);
    assert_eq!(get(nginx.address(), "/").status, 502);
    let before = nginx.logged("is known to refuse").len();
    assert_eq!(with_cookie(&nginx, 5000).status, 431);
    assert_eq!(nginx.logged("is known to refuse").len(), before, "it was sent");
}

/// An application that crashes has read its vars: it does not teach a limit.
#[test]
fn a_crash_teaches_nothing() {
    let dir = nginx::prefix();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let backend = Backend::unix(&dir.path().join("b"), move |peer| {
        let request = peer.read_request()?;
        match request.packet.get("HTTP_X_CRASH").is_some() {
            true => peer.close(),
            false => {
                count.fetch_add(1, Ordering::Relaxed);
                peer.write(b"Status: 200 OK\r\n\r\n")?;
            }
        }
        Ok(())
    });
    let nginx = balanced(&[backend.address()], "");
    let crash = format!("X-Crash: {}\r\n", "a".repeat(5000));
    assert_eq!(get_with(nginx.address(), "/", &crash).status, 502);
    assert_eq!(with_cookie(&nginx, 5000).status, 200);
    assert_eq!(answered.load(Ordering::Relaxed), 1);
}

/// A server that is known to take as much was started anew: another one is asked, and this one is not
/// taken for failed.
#[test]
fn a_reset_below_what_was_taken() {
    let dir = nginx::prefix();
    let backend =
        |name| Backend::unix(&dir.path().join(name), |peer| peer.answer(b"Status: 200 OK\r\n\r\n"));
    let (first, second) = (backend("1"), backend("2"));
    let nginx = balanced(&[first.address(), second.address()], "");
    for _ in 0..2 {
        assert_eq!(with_cookie(&nginx, 5000).status, 200);
    }
    first.set_script(|peer| {
        peer.read_exact(4)?;
        peer.close();
        Ok(())
    });
    let responses = [with_cookie(&nginx, 5000), with_cookie(&nginx, 5000)];
    assert!(responses.iter().all(|response| response.status == 200));
    assert_eq!(responses.iter().map(asked).sum::<usize>(), 3);
    assert!(nginx.logged("temporarily disabled").is_empty());
}

/// Where a body follows, a reset may be that of an application that does not read it.
#[test]
fn vars_beyond_the_buffer_size_with_a_body() {
    let servers = [uwsgi(true, &[]), uwsgi(true, &[])];
    let nginx = balanced(
        &[servers[0].address(), servers[1].address()],
        "rs_uwsgi_next_upstream error non_idempotent;",
    );
    let cookie = format!("Cookie: {}\r\n", "a".repeat(5000));
    for body in [1, 1_000_000] {
        for _ in 0..2 {
            let response = post(&nginx, &cookie, body);
            assert_eq!((response.status, asked(&response)), (502, 1), "{}", servers[0].log());
        }
    }
    assert_eq!(nginx.logged("has closed the connection on").len(), 4);
    assert_all_serve(&nginx);
}

/// uWSGI closes on more than 128 vars, of whatever size.
#[test]
fn more_vars_than_uwsgi_takes() {
    let servers = [uwsgi(true, &[]), uwsgi(true, &[])];
    let nginx = balanced(&[servers[0].address(), servers[1].address()], "");
    let headers = (0..130).map(|number| format!("A{number}: 1\r\n")).collect::<String>();
    for _ in 0..3 {
        let response = get_with(nginx.address(), "/echo", &headers);
        assert_eq!((response.status, asked(&response)), (502, 1), "{}", servers[0].log());
    }
    assert_eq!(nginx.logged("has closed the connection on 1").len(), 3);
    assert_all_serve(&nginx);
}

/// uWSGI closes on a body beyond its `limit-post`.
#[test]
fn a_body_larger_than_uwsgi_takes() {
    let servers = [0, 1].map(|_| uwsgi(true, &["--limit-post", "1000"]));
    let nginx = balanced(&[servers[0].address(), servers[1].address()], "");
    for _ in 0..3 {
        let response = post(&nginx, "", 5000);
        assert!(response.status >= 400, "{}", servers[0].log());
    }
    assert_all_serve(&nginx);
}

/// A response head that is larger than nginx's buffer, as a redirect that repeats a long request is.
#[test]
fn a_response_head_that_is_too_big() {
    let dir = nginx::prefix();
    let script = |peer: &mut Peer| {
        let request = peer.read_request()?;
        let size =
            if request.packet.get("REQUEST_URI").as_deref() == Some("/long") { 5000 } else { 10 };
        peer.write(format!("Status: 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(size)).as_bytes())
    };
    let backends = ["1", "2"].map(|name| Backend::unix(&dir.path().join(name), script));
    let nginx =
        balanced(&[backends[0].address(), backends[1].address()], "rs_uwsgi_buffer_size 4k;");
    for _ in 0..3 {
        let response = get(nginx.address(), "/long");
        assert_eq!((response.status, asked(&response)), (502, 1));
    }
    assert_all_serve(&nginx);
}

/// A server that closes without an answer to an ordinary request, is not in time, or answers with what is no
/// head, has failed, as in stock.
#[test]
fn what_counts_as_a_failure() {
    let scripts: [fn(&mut Peer) -> std::io::Result<()>; 3] = [
        |peer| {
            peer.read_request()?;
            peer.close();
            Ok(())
        },
        |peer| {
            peer.read_request()?;
            peer.stall()
        },
        |peer| peer.answer(b"no head\r\n\r\n"),
    ];
    for script in scripts {
        let dir = nginx::prefix();
        let backend = Backend::unix(&dir.path().join("b"), script);
        let other =
            Backend::unix(&dir.path().join("o"), |peer| peer.answer(b"Status: 200 OK\r\n\r\n"));
        let nginx = balanced(
            &[backend.address(), other.address()],
            "rs_uwsgi_next_upstream error timeout invalid_header; rs_uwsgi_read_timeout 1s;",
        );
        for _ in 0..4 {
            assert_eq!(get(nginx.address(), "/").status, 200);
        }
        assert_eq!(nginx.logged("temporarily disabled").len(), 1);
    }
}

/// What OpenSSL makes of a reset tells nothing.
#[test]
fn vars_beyond_the_buffer_size_over_tls() {
    let identity = Authority::root("ca").issue("app.test");
    let file = root().join("tests/support/application.py");
    let servers = [0, 1].map(|_| {
        Uwsgi::tls_with(&file, &identity.pem, &identity.key_pem(), &["--buffer-size", "4096"])
    });
    let nginx = balanced_over("suwsgi://app", &[servers[0].address(), servers[1].address()], "");
    for _ in 0..4 {
        let response = with_cookie(&nginx, 5000);
        assert_eq!((response.status, asked(&response)), (502, 1), "{}", servers[0].log());
    }
    assert_all_serve(&nginx);
}
