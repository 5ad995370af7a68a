//! Checks with all that may stand beside them, and what may happen in the middle of a probe.

use super::{answers, builder, check, named, paths, two, wait_lines, DOWN, SOON, UP};
use crate::prelude::*;

/// Whichever balancer chooses: where all are down, each request ends, and with the first that is up, all goes
/// there.
#[test]
fn all_down_with_every_balancer() {
    for balancer in [
        "zone u 64k;",
        "least_conn;",
        "ip_hash;",
        "hash $request_id;",
        "hash $request_id consistent;",
        "random;",
        "random two least_conn;",
    ] {
        for mandatory in ["", "mandatory"] {
            let (_dir, a, b) = paths();
            let nginx = super::site(&format!(
                "{balancer} {} rs_uwsgi_health_check {SOON} {mandatory};",
                two(&a, &b, "")
            ));
            nginx.expects("connect() to");
            nginx.expects("no live upstreams");
            wait_lines(&nginx, DOWN, 2);
            for _ in 0..5 {
                assert_eq!(get(nginx.address(), "/").status, 502, "{balancer} {mandatory}");
            }
            if !mandatory.is_empty() {
                assert_eq!(nginx.logged("connect() to").len(), 0, "{balancer}");
                assert_eq!(nginx.logged("no live upstreams").len(), 5, "{balancer}");
            }
            let _b = named(&b, "b");
            nginx.wait_logged(UP);
            // max_fails of the requests before may still count
            if !mandatory.is_empty() {
                assert_eq!(answers(&nginx, 10), vec!["b"; 10], "{balancer}");
            }
        }
    }
}

/// A limit and a queue: the server that is down gives no room, and those who wait get the other.
#[test]
fn beside_a_limit() {
    let (_dir, a, b) = paths();
    let _b = named(&b, "b");
    let upstream =
        format!("{} rs_uwsgi_health_check {SOON}; rs_uwsgi_max_connections 1;", two(&a, &b, ""));
    let nginx = builder(&upstream, "rs_uwsgi_queue 100;").workers(2).start();
    nginx.wait_logged(DOWN);
    let failed = nginx.logged("connect() to").len();
    let to = nginx.address();
    let clients: Vec<_> =
        (0..20).map(|_| std::thread::spawn(move || get(to, "/").text())).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), "b");
    }
    assert_eq!(nginx.logged("connect() to").len(), failed);
}

/// A server that never answers its probe, whose time is long: a worker that leaves does not wait for it, and the
/// next one probes on.
#[test]
fn a_reload_in_the_midst_of_a_probe() {
    let (_dir, a, _) = paths();
    let backend = Backend::unix(&a, |peer| {
        peer.read_exact(4)?;
        peer.wait_hangup()
    });
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_pass unix:{}; rs_uwsgi_health_check uri=/ interval=10ms timeout=1h; }}",
        a.display()
    ));
    for round in 1..4 {
        wait_for("a probe", || (backend.connection_count() >= round).then_some(()));
        nginx.reload();
    }
    assert!(nginx.logged(DOWN).is_empty(), "a probe that nobody waits for is none");
    nginx.quit();
}

/// All servers are marked "down", or there is one alone: nothing is probed, or that one.
#[test]
fn few_servers() {
    let (_dir, a, _) = paths();
    let a_server = named(&a, "a");
    let with = |server: &str, more: &str| {
        super::site(&format!(
            "server unix:{} {server}; {more} rs_uwsgi_health_check {SOON};",
            a.display()
        ))
    };
    let nginx = with("down", "");
    nginx.expects("no live upstreams");
    assert_eq!(get(nginx.address(), "/").status, 502);
    nginx.quit();
    assert_eq!(a_server.connection_count(), 0);
    let nginx = with("", "rs_uwsgi_slow_start 10h;");
    assert_eq!(answers(&nginx, 3), ["a"; 3]);
    drop(a_server);
    nginx.wait_logged(DOWN);
    let _a = named(&a, "a");
    nginx.wait_logged(UP);
    assert_eq!(answers(&nginx, 3), ["a"; 3]);
}

/// Values at their bounds are taken or refused, and none is taken for another.
#[test]
fn values_at_their_bounds() {
    let said = |check_directive: &str| {
        check(&format!(
            "server {{ listen 127.0.0.1:@port@; location / {{
                rs_uwsgi_pass 127.0.0.1:1; rs_uwsgi_health_check {check_directive}; }} }}"
        ))
    };
    for right in [
        "interval=10ms timeout=1ms",
        "interval=1d jitter=1d timeout=1d fails=1000 passes=1000",
        "jitter=0 interval=24h",
        "uri=/ status=100-599",
    ] {
        assert!(said(right).status.success(), "{right}");
    }
    for wrong in [
        "interval=0",
        "interval=9ms",
        "interval=-1",
        "interval=86400001ms",
        "interval=99999999999999999999",
        "timeout=0",
        "timeout=2d",
        "jitter=25h",
        "fails=0",
        "fails=1001",
        "passes=99999999999999999999",
        "uri=/ status=99999999999999999999",
        "uri=/ status=-",
    ] {
        let said = said(wrong);
        assert_eq!(said.status.code(), Some(1), "{wrong}");
        assert!(
            said.stderr.contains("\"rs_uwsgi_health_check\" directive invalid"),
            "{}",
            said.stderr
        );
    }
}
