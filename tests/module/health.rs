//! `rs_uwsgi_health_check` and `rs_uwsgi_slow_start`: what probes find, and who gets requests then.

mod asked;
mod hangs;
mod leaving;
mod odd;
mod params;
mod real;
mod restarts;
mod tls;

use crate::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const DOWN: &str = "is down after";
const UP: &str = "is up after";
/// Probes that find out soon.
const SOON: &str = "interval=30ms timeout=10s fails=2 passes=2";

/// A server that says which one it is, to requests as to probes.
fn named(path: &Path, name: &'static str) -> Backend {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}");
    Backend::unix(path, move |peer| {
        peer.read_request()?;
        peer.write(answer.as_bytes())
    })
}

/// An nginx that passes all to the block `u` with these lines.
fn site(upstream: &str) -> Nginx {
    builder(upstream, "").start()
}

fn builder(upstream: &str, location: &str) -> Builder {
    Nginx::builder().http(&format!(
        "upstream u {{ {upstream} }}
         server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass u; {location} }} }}"
    ))
}

fn check(http: &str) -> Check {
    Nginx::builder().http(http).check()
}

/// Who answers so many requests.
fn answers(nginx: &Nginx, count: usize) -> Vec<String> {
    (0..count).map(|_| get(nginx.address(), "/").text()).collect()
}

fn wait_lines(nginx: &Nginx, text: &str, count: usize) {
    wait_for(text, || (nginx.logged(text).len() >= count).then_some(()));
}

fn paths() -> (TempDir, PathBuf, PathBuf) {
    let dir = nginx::prefix();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    (dir, a, b)
}

/// The two servers, each with these parameters.
fn two(a: &Path, b: &Path, of_each: &str) -> String {
    format!("server unix:{} {of_each}; server unix:{} {of_each};", a.display(), b.display())
}

/// Whichever balancer chooses: one that is down is not asked, and is again when it is up.
#[test]
fn with_every_balancer() {
    for balancer in [
        "",
        "zone u 64k;",
        "least_conn;",
        "ip_hash;",
        "hash $request_id;",
        "hash $request_id consistent;",
        "random;",
        "zone u 64k; random two least_conn;",
    ] {
        let (_dir, a, b) = paths();
        let _b = named(&b, "b");
        let nginx = site(&format!("{balancer} {} rs_uwsgi_health_check {SOON};", two(&a, &b, "")));
        nginx.wait_logged(DOWN);
        let failed = nginx.logged("connect() to").len();
        assert_eq!(answers(&nginx, 20), vec!["b"; 20], "{balancer}");
        assert_eq!(nginx.logged("connect() to").len(), failed, "{balancer}: it was asked");
        let _a = named(&a, "a");
        nginx.wait_logged(UP);
        if balancer != "ip_hash;" {
            let all: HashSet<_> = answers(&nginx, 60).into_iter().collect();
            assert_eq!(all.len(), 2, "{balancer}");
        }
        let lines = [nginx.logged(DOWN).len(), nginx.logged(UP).len()];
        assert_eq!(lines, [1, 1], "{balancer}: one line for each change");
    }
}

/// A backup serves while the others are down, and no longer.
#[test]
fn with_a_backup() {
    let (_dir, a, b) = paths();
    let _b = named(&b, "b");
    let nginx = site(&format!(
        "server unix:{}; server unix:{} backup; rs_uwsgi_health_check {SOON};",
        a.display(),
        b.display()
    ));
    nginx.wait_logged(DOWN);
    let failed = nginx.logged("connect() to").len();
    assert_eq!(answers(&nginx, 5), ["b"; 5]);
    assert_eq!(nginx.logged("connect() to").len(), failed);
    let _a = named(&a, "a");
    nginx.wait_logged(UP);
    assert_eq!(answers(&nginx, 5), ["a"; 5]);
}

/// One that is down is passed over also where no further server may be asked.
#[test]
fn with_one_try() {
    let (_dir, a, b) = paths();
    let _b = named(&b, "b");
    let upstream = format!("{} rs_uwsgi_health_check {SOON};", two(&a, &b, ""));
    for setting in ["rs_uwsgi_next_upstream_tries 1;", "rs_uwsgi_next_upstream off;"] {
        let nginx = builder(&upstream, setting).start();
        nginx.wait_logged(DOWN);
        assert_eq!(answers(&nginx, 9), ["b"; 9], "{setting}");
    }
}

/// Where all are down, requests go to them as if none were, or to none of them.
#[test]
fn all_down() {
    let (_dir, a, b) = paths();
    for (mandatory, live) in [("", false), ("mandatory", true)] {
        let nginx = site(&format!(
            "{}
             rs_uwsgi_health_check {SOON} {mandatory};",
            two(&a, &b, "max_fails=0")
        ));
        // every request of nginx's own that fails is in the log as an error
        nginx.expects("connect() to");
        nginx.expects("no live upstreams");
        wait_lines(&nginx, DOWN, 2);
        assert_eq!(get(nginx.address(), "/").status, 502);
        assert_eq!(nginx.logged("no live upstreams").len(), usize::from(live), "{mandatory}");
        assert_eq!(nginx.logged("connect() to").len(), if live { 0 } else { 2 }, "{mandatory}");
        let back = named(&b, "b");
        nginx.wait_logged(UP);
        assert_eq!(answers(&nginx, 4), ["b"; 4]);
        drop(back);
    }
}

/// A single address, whose location says the check.
#[test]
fn a_single_address() {
    for (mandatory, live) in [("", false), ("mandatory", true)] {
        let (_dir, a, _) = paths();
        let nginx = Nginx::serve(&format!(
            "location / {{ rs_uwsgi_pass unix:{}; rs_uwsgi_health_check {SOON} {mandatory}; }}",
            a.display()
        ));
        nginx.expects("connect() to");
        nginx.expects("no live upstreams");
        nginx.wait_logged(DOWN);
        assert_eq!(get(nginx.address(), "/").status, 502);
        assert_eq!(nginx.logged("no live upstreams").len(), usize::from(live), "{mandatory}");
        let _a = named(&a, "a");
        nginx.wait_logged(UP);
        assert_eq!(answers(&nginx, 3), ["a"; 3]);
    }
}

/// Requests that get no answer count as probes that fail, long before the next probe.
#[test]
fn requests_that_fail() {
    let (_dir, a, b) = paths();
    let first = named(&a, "a");
    let _b = named(&b, "b");
    let nginx = site(&format!(
        "{}
         rs_uwsgi_health_check interval=1h fails=3;",
        two(&a, &b, "max_fails=0")
    ));
    nginx.expects("connect() to");
    wait_for("both to be probed", || (first.connection_count() > 0).then_some(()));
    drop(first);
    assert_eq!(answers(&nginx, 40), vec!["b"; 40]);
    let line = nginx.wait_logged(DOWN);
    assert!(line.text.contains("after 3 failures: it does not answer requests"), "{}", line.text);
    assert_eq!(nginx.logged("connect() to").len(), 3);
}

/// Whatever a server answers to a probe: it is down, for this reason, and nothing of nginx's is.
#[test]
fn answers_that_are_none() {
    type Script = fn(&mut Peer) -> io::Result<()>;
    let rows: [(&str, &str, Script); 9] = [
        ("uri=/", "something that is no response", |peer| peer.write(b"\0\x01garbage\r\n\r\n")),
        ("uri=/", "closed the connection before", |_| Ok(())),
        ("uri=/", "closed the connection before", |peer| peer.write(b"HTTP/1.1 200 OK\r\n")),
        ("uri=/", "timed out while waiting for the answer", |peer| peer.wait_hangup()),
        ("uri=/", "too large a head", |peer| {
            peer.write(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                peer.write(b"X-Endless: and on and on and on\r\n")?;
            }
        }),
        ("uri=/", "status 503", |peer| {
            peer.write(b"HTTP/1.1 503 No\r\n\r\n")?;
            loop {
                peer.write(&[b'x'; 1000])?;
            }
        }),
        ("uri=/", "timed out while waiting for the answer", |peer| {
            peer.write_pieces(&[b'x'; 100], 1, Duration::from_millis(50))
        }),
        ("ping", "it answered a ping with something else", |peer| peer.write(b"HTTP/1.1 200 OK")),
        ("ping", "it warns: \\\"too bad\\\"", |peer| peer.write(b"d\x07\0\x01too bad")),
    ];
    for (probe, reason, script) in rows {
        let (_dir, a, _) = paths();
        let backend = Backend::unix(&a, move |peer| {
            peer.read_exact(4)?;
            script(peer)
        });
        let nginx = Nginx::serve(&format!(
            "location / {{ rs_uwsgi_pass {}; rs_uwsgi_health_check {probe}
                interval=30ms timeout=300ms fails=2; }}",
            backend.address()
        ));
        let line = nginx.wait_logged(DOWN);
        let reason = reason.replace('\\', "");
        assert!(line.text.contains(&reason), "{reason}? {}", line.text);
        nginx.quit();
    }
}

/// One worker probes a server; when it is killed, another does, and knows what was known.
#[test]
fn one_worker_probes() {
    let (_dir, a, b) = paths();
    let _b = named(&b, "b");
    let nginx =
        builder(&format!("{} rs_uwsgi_health_check interval=50ms fails=1;", two(&a, &b, "")), "")
            .workers(4)
            .log_level("debug_http")
            .start();
    let probed = format!("http rs_uwsgi probe unix:{}", b.display());
    let probers = || {
        let log = fs::read_to_string(nginx.path("error.log")).unwrap_or_default();
        // date time [level] pid#tid: message
        let pid = |line: &str| line.split(' ').nth(3)?.split('#').next()?.parse::<u32>().ok();
        log.lines().filter(|line| line.ends_with(&probed)).filter_map(pid).collect::<Vec<_>>()
    };
    wait_lines(&nginx, &probed, 20);
    nginx.wait_logged(DOWN);
    let first = probers();
    assert!(first.iter().all(|pid| *pid == first[0]), "{first:?}");
    // SAFETY: a signal to a worker of this test's nginx, whose id its log tells.
    assert_eq!(unsafe { libc::kill(first[0].try_into().unwrap(), libc::SIGKILL) }, 0);
    nginx.expects("exited on signal 9");
    wait_for("another worker to probe", || {
        (probers().iter().filter(|pid| **pid != first[0]).count() >= 20).then_some(())
    });
    let others: HashSet<_> = probers().into_iter().filter(|pid| *pid != first[0]).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(nginx.logged(DOWN).len(), 1, "it was known already");
    assert_eq!(answers(&nginx, 20), vec!["b"; 20]);
    nginx.reload();
    assert_eq!(answers(&nginx, 20), vec!["b"; 20]);
    assert_eq!(nginx.logged(DOWN).len(), 1, "a reload keeps what is known");
}

/// Without a zone, each worker probes for itself.
#[test]
fn without_a_zone() {
    let (_dir, a, b) = paths();
    let _b = named(&b, "b");
    let upstream = format!("{} rs_uwsgi_health_check {SOON};", two(&a, &b, ""));
    let nginx = builder(&upstream, "").http("rs_uwsgi_zone off;").workers(2).start();
    wait_lines(&nginx, DOWN, 2);
    assert_eq!(answers(&nginx, 20), vec!["b"; 20]);
}

/// One that comes back gets little at first, and all where there is no other.
#[test]
fn slow_start() {
    let (_dir, a, b) = paths();
    let other = named(&b, "b");
    let nginx = site(&format!(
        "{}
         rs_uwsgi_slow_start 10h; rs_uwsgi_health_check {SOON};",
        two(&a, &b, "max_fails=0")
    ));
    nginx.expects("connect() to");
    nginx.wait_logged(DOWN);
    let _a = named(&a, "a");
    nginx.wait_logged(UP);
    assert_eq!(answers(&nginx, 30).iter().filter(|name| *name == "a").count(), 0);
    drop(other);
    wait_lines(&nginx, DOWN, 2);
    assert_eq!(answers(&nginx, 30), vec!["a"; 30]);
}

#[test]
fn errors_in_the_configuration() {
    let block = |upstream: &str, location: &str| {
        check(&format!(
            "upstream u {{ server 127.0.0.1:1; {upstream} }}
             server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass u; {location} }} }}"
        ))
    };
    for right in ["", "ping", "uri=/x?y", "interval=1s jitter=100ms mandatory", "fails=1 passes=1"]
    {
        let right = format!("rs_uwsgi_health_check {right};");
        for said in [block(&right, ""), block("", &right), block(&right, &right)] {
            assert!(said.status.success(), "{right} {}", said.stderr);
        }
    }
    for (wrong, reason) in [
        ("pong", "invalid parameter \"pong\""),
        ("uri=x", "invalid value \"uri=x\", it must be a path such as \"/health\""),
        ("uri=/$x", "has variables in \"uri=/$x\""),
        ("ping uri=/x", "has both \"ping\" and \"uri\""),
        ("interval=soon", "invalid value \"interval=soon\", it must be a time"),
        ("interval=9ms", "invalid value \"interval=9ms\", it must be a time from 10ms to a day"),
        ("fails=0", "invalid value \"fails=0\", it must be a number from 1 to 1000"),
        ("uri=/ status=200-2000", "invalid value \"status=200-2000\""),
        ("status=200", "has \"status\", \"host\" or \"header\" without \"uri\""),
        ("ping ping", "has \"ping\", which is said before"),
    ] {
        let directive = format!("rs_uwsgi_health_check {wrong};");
        for said in [block(&directive, ""), block("", &directive)] {
            assert_eq!(said.status.code(), Some(1), "{wrong}");
            let expected = format!("\"rs_uwsgi_health_check\" directive {reason}");
            assert!(said.stderr.contains(&expected), "{wrong}: {}", said.stderr);
            assert!(said.stderr.contains(" in @dir@/nginx.conf:"), "{}", said.stderr);
        }
    }
    let twice = "rs_uwsgi_health_check; rs_uwsgi_health_check;";
    assert!(block(twice, "").stderr.contains("directive is duplicate"));
    let differ = block("rs_uwsgi_health_check ping;", "rs_uwsgi_health_check;");
    assert!(differ.stderr.contains("contradict each other"), "{}", differ.stderr);
    let location = |text: &str| {
        check(&format!("server {{ listen 127.0.0.1:@port@; location / {{ {text} }} }}"))
    };
    for (text, expected) in [
        ("rs_uwsgi_health_check;", "in a location without \"rs_uwsgi_pass\""),
        ("rs_uwsgi_health_check; return 200;", "in a location without \"rs_uwsgi_pass\""),
        ("rs_uwsgi_health_check; rs_uwsgi_pass $arg_x;", "whose \"rs_uwsgi_pass\" has variables"),
    ] {
        let said = location(text);
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(said.stderr.contains(expected), "{text}: {}", said.stderr);
    }
    for context in ["rs_uwsgi_health_check;", "server { rs_uwsgi_health_check; }"] {
        assert!(check(context).stderr.contains("directive is not allowed here"), "{context}");
    }
}
