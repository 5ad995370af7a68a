//! Each end of a try, of a wait in the queue and of a look into the cache, made to happen by itself: its counter
//! says so, and no other does.

use super::{numbers, Metrics, STATUS};
use crate::cached::{answer, EXPIRED, NEW};
use crate::prelude::*;
use crate::support::full_listener::FullListener;
use std::fs::{set_permissions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

const UNBUFFERED: &str = "rs_uwsgi_request_buffering off; client_max_body_size 0;";

/// More than sockets hold.
const UPLOAD: usize = 16 << 20;

const SERVED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// What is counted, once this is so.
fn wait_counted(nginx: &Nginx, what: &str, is: impl Fn(&Metrics) -> bool) -> Metrics {
    wait_for(what, || Some(Metrics::of(nginx)).filter(&is))
}

/// A client that has sent a GET.
fn begin(nginx: &Nginx, path: &str) -> Client {
    let mut client = Client::connect(nginx.address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    client
}

/// A server that cannot be connected to, in each way.
#[test]
fn no_connection() {
    let dir = nginx::prefix();
    let left = dir.path().join("left");
    // the file of a socket outlives who listens there
    drop(UnixListener::bind(&left).unwrap());
    let full = FullListener::new();
    let none = dir.path().join("none");
    let nginx = Nginx::serve(&format!(
        "rs_uwsgi_next_upstream off;
         location /refused {{ rs_uwsgi_pass unix:{}; }}
         location /none {{ rs_uwsgi_pass unix:{}; }}
         location /tcp {{ rs_uwsgi_pass 127.0.0.1:1; }}
         location /again {{ rs_uwsgi_connect_retry 1ms; rs_uwsgi_pass 127.0.0.1:2; }}
         location /full {{ rs_uwsgi_connect_timeout 100ms; rs_uwsgi_pass {}; }}
         {STATUS}",
        left.display(),
        none.display(),
        full.address,
    ));
    nginx.expects(nginx::NO_SOCKET);
    const ROUNDS: usize = 2;
    for _ in 0..ROUNDS {
        for (path, status) in
            [("/refused", 502), ("/none", 502), ("/tcp", 502), ("/again", 502), ("/full", 504)]
        {
            assert_eq!(get(nginx.address(), path).status, status, "{path}");
        }
    }
    let each = ROUNDS as f64;
    let metrics = Metrics::of(&nginx);
    assert_eq!(
        metrics.by_label("upstream_failures_total"),
        numbers(&[
            ("connect_error", each),
            ("connect_timeout", each),
            ("no_socket", each),
            ("refused", 2.0 * each),
        ])
    );
    assert_eq!(metrics.sum("upstream_fails_total", &[]), 5.0 * each);
    for server in ["left", "none", ":1", ":2", &full.address.to_string()] {
        let label = format!("{server}\",server=");
        assert_eq!(metrics.sum("upstream_unavailable_total", &[&label]), 1.0, "{server}");
    }
    // those that waited for the server to come back
    let ends = metrics.by_label("upstream_queue_requests_total");
    assert_eq!(ends, numbers(&[("failed", each)]));
    for none in ["requests_total", "connections_opened_total", "responses_total"] {
        assert_eq!(metrics.sum(&format!("upstream_{none}"), &[]), 0.0, "{none}");
    }
}

/// A socket that the worker may not connect to.
#[test]
fn no_permission() {
    let dir = nginx::prefix();
    set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("b");
    let _listener = UnixListener::bind(&path).unwrap();
    set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    // root may do anything; an ordinary user may not even write to a socket that is its own
    let user = nginx::user().replace("user root;", "user nobody nogroup;");
    let nginx = Nginx::builder().whole(&format!(
        "load_module {}; {user} pid @dir@/nginx.pid; error_log @dir@/error.log info;
         events {{ }}
         http {{ access_log off; server {{ listen 127.0.0.1:@port@;
             location / {{ rs_uwsgi_pass unix:{}; }} {STATUS} }} }}",
        module_path().display(),
        path.display()
    ));
    let nginx = nginx.expects("failed (13: Permission denied)").start();
    for _ in 0..2 {
        assert_eq!(get(nginx.address(), "/").status, 502);
    }
    let failures = Metrics::of(&nginx).by_label("upstream_failures_total");
    assert_eq!(failures, numbers(&[("permission", 2.0)]));
}

/// A body that the server does not take, and one that it answers before it has come.
#[test]
fn bodies_that_are_not_read() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        match peer.read_packet()?.get("PATH_INFO").as_deref() {
            Some("/early") => {
                peer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                peer.wait_hangup()
            }
            _ => {
                peer.wait_hangup()?;
                peer.close();
                Ok(())
            }
        }
    });
    let nginx = Nginx::serve(&format!(
        "{UNBUFFERED} rs_uwsgi_next_upstream off; rs_uwsgi_pass_request_headers on;
         location /early {{ rs_uwsgi_send_timeout 60s; rs_uwsgi_pass {address}; }}
         location / {{ rs_uwsgi_send_timeout 100ms; rs_uwsgi_pass {address}; }}
         {STATUS}",
        address = backend.address()
    ));
    let body = vec![b'x'; UPLOAD];
    assert_eq!(post(nginx.address(), "/early", &body).status, 413);
    assert_eq!(post(nginx.address(), "/", &body).status, 504);
    let metrics = wait_counted(&nginx, "both to be over", |metrics| {
        metrics.sum("upstream_requests_total", &[]) == 2.0
    });
    assert_eq!(metrics.by_label("upstream_failures_total"), numbers(&[("send_timeout", 1.0)]));
    assert_eq!(metrics.sum("upstream_early_answers_total", &[]), 1.0);
    assert_eq!(metrics.by_label("upstream_responses_total"), numbers(&[("413", 1.0)]));
    let sent = metrics.sum("upstream_sent_bytes_total", &[]);
    assert!(sent > 0.0 && sent < 2.0 * UPLOAD as f64, "{sent}");
}

/// Clients that leave: before the server has answered, and while it answers.
#[test]
fn clients_that_leave() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        if peer.read_request()?.packet.get("PATH_INFO").as_deref() == Some("/begun") {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")?;
        }
        peer.wait_hangup()
    });
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_buffering off; rs_uwsgi_pass {}; }} {STATUS}",
        backend.address()
    ));
    let gone = |metrics: &Metrics| metrics.sum("upstream_client_gone_total", &[]);
    let in_vain = |metrics: &Metrics| metrics.sum("upstream_worked_in_vain_total", &[]);
    let client = begin(&nginx, "/silent");
    backend.wait_request(0);
    drop(client);
    let metrics = wait_counted(&nginx, "the first to be gone", |metrics| gone(metrics) == 1.0);
    assert_eq!(in_vain(&metrics), 1.0);
    let mut client = begin(&nginx, "/begun");
    client.read_head().unwrap();
    drop(client);
    let metrics = wait_counted(&nginx, "the second to be gone", |metrics| gone(metrics) == 2.0);
    assert_eq!(in_vain(&metrics), 1.0);
    assert_eq!(metrics.by_label("upstream_failures_total"), numbers(&[]));
    assert_eq!(metrics.by_label("upstream_responses_total"), numbers(&[("2xx", 1.0)]));
    assert_eq!(metrics.sum("upstream_requests_in_flight", &[]), 0.0);
}

/// 431: what the server refuses, what it is known to refuse, and what is too large for any.
#[test]
fn vars_that_are_too_large() {
    let dir = nginx::prefix();
    // as uWSGI does: the vars stay unread, which resets the connection
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        peer.read_exact(4)?;
        peer.close();
        Ok(())
    });
    let nginx = Nginx::serve(&format!(
        "large_client_header_buffers 8 64k;
         location / {{ rs_uwsgi_pass {address}; }}
         location /small {{ rs_uwsgi_max_vars 1000; rs_uwsgi_pass {address}; }}
         {STATUS}",
        address = backend.address()
    ));
    let cookie = format!("Cookie: {}\r\n", "a".repeat(5000));
    for path in ["/", "/", "/small", "/small", "/small"] {
        assert_eq!(get_with(nginx.address(), path, &cookie).status, 431, "{path}");
    }
    let metrics = wait_counted(&nginx, "all to be counted", |metrics| {
        metrics.sum("upstream_vars_too_large_total", &[]) == 3.0
    });
    assert_eq!(metrics.sum("upstream_vars_refused_total", &[]), 2.0);
    assert_eq!(metrics.sum("upstream_requests_total", &[]), 1.0);
    assert_eq!(backend.connection_count(), 1);
}

/// A wait that ends because the time is up, and those that would have been in vain.
#[test]
fn waits_that_end_without_a_connection() {
    let dir = nginx::prefix();
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = is_slow.clone();
    let backend = Backend::unix(&dir.path().join("b"), move |peer| {
        peer.read_request()?;
        if slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(200));
        }
        peer.write(SERVED)
    });
    let nginx = Nginx::builder().worker_connections(4096).http(&format!(
        "server {{
             listen 127.0.0.1:@port@ backlog=2048;
             rs_uwsgi_max_connections 1;
             location / {{ rs_uwsgi_queue 2000 timeout=60s; rs_uwsgi_pass {}; }}
             {STATUS}
         }}",
        backend.address()
    ));
    let nginx = nginx.start();
    let mut clients: Vec<_> = (0..400).map(|_| begin(&nginx, "/")).collect();
    // how soon they are served has to be known first
    wait_for("a refusal", || {
        std::thread::sleep(Duration::from_millis(50));
        clients.push(begin(&nginx, "/"));
        nginx.logged("is too long").first().map(|_| ())
    });
    is_slow.store(false, Ordering::SeqCst);
    let status = |client: &mut Client| client.response(false).unwrap().status;
    let statuses: Vec<_> = clients.iter_mut().map(status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 0 && statuses.iter().all(|status| [200, 503].contains(status)));
    let served = (statuses.len() - refused) as f64;
    let metrics = wait_counted(&nginx, "all to be over", |metrics| {
        metrics.sum("upstream_requests_total", &[]) == served
    });
    assert_eq!(
        metrics.by_label("upstream_queue_requests_total"),
        // the first did not wait
        numbers(&[("expected", refused as f64), ("served", served - 1.0)])
    );
    assert_eq!(metrics.by_label("upstream_failures_total"), numbers(&[]));
}

/// A wait that is over when its time is.
#[test]
fn a_wait_that_times_out() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| peer.answer(b"").and(peer.stall()));
    let nginx = Nginx::serve(&format!(
        "rs_uwsgi_max_connections 1; rs_uwsgi_queue 10 timeout=100ms;
         location / {{ rs_uwsgi_pass {}; }} {STATUS}",
        backend.address()
    ));
    let _first = begin(&nginx, "/");
    backend.wait_request(0);
    for _ in 0..2 {
        assert_eq!(get(nginx.address(), "/").status, 503);
    }
    let metrics = Metrics::of(&nginx);
    let ends = metrics.by_label("upstream_queue_requests_total");
    assert_eq!(ends, numbers(&[("timeout", 2.0)]));
    assert_eq!(metrics.sum("upstream_queue_seconds_count", &[]), 2.0);
    assert_eq!(metrics.by_label("upstream_failures_total"), numbers(&[]));
    assert_eq!(metrics.sum("upstream_requests_in_flight", &[]), 1.0);
}

/// Each state of the cache that nginx has a name for.
#[test]
fn states_of_the_cache() {
    const OLD: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: @1\nLast-Modified: Thu, 01 Jan 2015 \
        00:00:00 GMT\nContent-Length: 3\n\nold";
    let dir = nginx::prefix();
    let (go, is_held) = channel::<()>();
    let is_held = Mutex::new(is_held);
    let backend = Backend::unix(&dir.path().join("b"), move |peer| {
        match peer.read_request()?.packet.get("QUERY_STRING").unwrap_or_default().as_str() {
            "new" => peer.write(&answer(NEW)),
            "expired" => peer.write(&answer(EXPIRED)),
            "old" => peer.write(&answer(OLD)),
            "same" => peer.write(b"HTTP/1.1 304 Not Modified\r\nX-Accel-Expires: 600\r\n\r\n"),
            "held" => match is_held.lock().unwrap().recv_timeout(DEADLINE) {
                Ok(()) => peer.write(&answer(NEW)),
                Err(_) => Ok(()),
            },
            _ => {
                peer.close();
                Ok(())
            }
        }
    });
    let nginx = Nginx::start(&format!(
        "rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;
         server {{
             listen 127.0.0.1:@port@;
             add_header X-Cache $upstream_cache_status always;
             rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_bypass $http_bypass;
             rs_uwsgi_cache_use_stale error updating; rs_uwsgi_cache_revalidate on;
             location / {{ rs_uwsgi_pass {address}; }}
             location /twice {{ rs_uwsgi_cache_min_uses 2; rs_uwsgi_pass {address}; }}
             {STATUS}
         }}",
        address = backend.address()
    ));
    let ask = |path: &str, headers: &str, status: &str| {
        let response = get_with(nginx.address(), path, headers);
        assert_eq!(response.header("X-Cache"), Some(status), "{path}");
    };
    ask("/a?new", "", "MISS");
    ask("/a", "", "HIT");
    ask("/a", "", "HIT");
    ask("/a?new", "Bypass: 1\r\n", "BYPASS");
    ask("/b?expired", "", "MISS");
    ask("/b?close", "", "STALE");
    ask("/b?new", "", "EXPIRED");
    ask("/c?old", "", "MISS");
    ask("/c?same", "", "REVALIDATED");
    ask("/d?expired", "", "MISS");
    let mut first = begin(&nginx, "/d?held");
    backend.wait_request(7);
    ask("/d", "", "UPDATING");
    go.send(()).unwrap();
    assert_eq!(first.response(false).unwrap().header("X-Cache"), Some("EXPIRED"));
    // asked for too seldom to be kept, which nginx calls a miss
    ask("/twice?new", "", "MISS");
    let metrics = wait_counted(&nginx, "all to be counted", |metrics| {
        metrics.sum("upstream_cache_responses_total", &[]) == 13.0
    });
    assert_eq!(
        metrics.by_label("upstream_cache_responses_total"),
        numbers(&[
            ("bypass", 1.0),
            ("expired", 2.0),
            ("hit", 2.0),
            ("miss", 5.0),
            ("revalidated", 1.0),
            ("stale", 1.0),
            ("updating", 1.0),
        ])
    );
}
