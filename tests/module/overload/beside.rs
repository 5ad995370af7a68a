//! What does not need the server that is full does not wait for it.

use super::{answers, assert_bodies, assert_tokens, busy, get, send, site_with, tokens, wait_busy};
use super::{uwsgi, SHORT};
use crate::prelude::*;

const WAITING: usize = 300;

#[test]
fn static_files_cached_responses_and_other_servers() {
    let dir = nginx::prefix();
    let other = Backend::unix(&dir.path().join("other"), |peer| {
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
    });
    for workers in [1, 4] {
        let uwsgi = uwsgi(SHORT);
        let pass = uwsgi.address().to_string();
        let nginx = site_with(
            workers,
            "rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;",
            &format!(
                "location = /cached {{
                    rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid 1h;
                    rewrite ^ /len/8 break;
                    add_header X-Cache $upstream_cache_status;
                    rs_uwsgi_pass {pass};
                }}
                location = /static {{ return 200 static; }}
                location = /nginx.conf {{ root @dir@; }}
                location = /other {{ rs_uwsgi_pass {}; }}",
                other.address()
            ),
            &pass,
        );
        let cached = send(nginx.address(), &[get("/cached")]);
        assert_bodies(&answers(cached), ["xxxxxxxx".to_string()]);
        uwsgi.pause();
        let waiting = send(nginx.address(), &tokens(0..WAITING));
        wait_busy(&nginx, WAITING);
        // The server answers nothing until all of these are there.
        for (target, body) in [("/cached", "xxxxxxxx"), ("/static", "static"), ("/other", "other")]
        {
            let clients = send(nginx.address(), &vec![get(target); 50]);
            let answers = answers(clients);
            assert_bodies(&answers, vec![body.to_string(); 50]);
            let hits = answers.iter().filter(|a| a.header("X-Cache") == Some("HIT")).count();
            assert_eq!(hits, if target == "/cached" { 50 } else { 0 });
        }
        assert_eq!(answers(send(nginx.address(), &[get("/nginx.conf")]))[0].status, 200);
        wait_busy(&nginx, WAITING);
        uwsgi.resume();
        assert_tokens(waiting, 0..WAITING);
    }
}

/// A server that is full is passed over while there are others. Where these turn out to be dead, the
/// request waits for it, and is not answered with 502.
#[test]
fn the_other_server_is_dead() {
    let dir = nginx::prefix();
    for (dead, settings) in [
        ("127.0.0.1:1 max_fails=0", ""),
        ("127.0.0.1:1 backup max_fails=0", ""),
        ("unix:@dir@/none max_fails=0", "rs_uwsgi_connect_retry 100ms;"),
        ("127.0.0.1:1 max_fails=0", "rs_uwsgi_next_upstream_tries 2;"),
    ] {
        let (go, wait) = channel();
        let wait = Mutex::new(wait);
        let full = Backend::unix(&dir.path().join("full"), move |peer| {
            peer.read_request()?;
            let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            peer.close();
            Ok(())
        });
        let upstream = format!("upstream two {{ server {}; server {dead}; }}", full.address());
        let limit = format!("rs_uwsgi_max_connections 1; rs_uwsgi_queue 9 timeout=60s; {settings}");
        let nginx = site_with(1, &upstream, &limit, "two");
        nginx.expects(nginx::NO_SOCKET);
        let waiting = send(nginx.address(), &vec![get("/"); 5]);
        wait_busy(&nginx, 5);
        (0..5).for_each(|_| go.send(()).unwrap());
        assert_bodies(&answers(waiting), vec!["ok".to_string(); 5]);
    }
}

/// A connection to nginx on which a request waits delays nobody else's, and one that was idle before
/// the burst still serves.
#[test]
fn idle_clients() {
    let uwsgi = uwsgi(SHORT);
    let pass = uwsgi.address().to_string();
    let nginx = site_with(1, "", "location = /static { return 200 static; }", &pass);
    let mut idle = Client::connect(nginx.address());
    let mut ask = || {
        idle.send(b"GET /static HTTP/1.1\r\nHost: h\r\n\r\n");
        idle.response(false).unwrap().text()
    };
    assert_eq!(ask(), "static");
    uwsgi.pause();
    let waiting = send(nginx.address(), &tokens(0..WAITING));
    wait_busy(&nginx, WAITING);
    assert_eq!(ask(), "static");
    assert_eq!(busy(&nginx), WAITING);
    uwsgi.resume();
    assert_tokens(waiting, 0..WAITING);
}
