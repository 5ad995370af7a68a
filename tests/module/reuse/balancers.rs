//! Balancers that nginx tells about more than the end of a try (`peer.notify`), or that remember which
//! server a client had (`peer.sid`): since nginx 1.29.6. And what else upstream blocks learned lately,
//! beside the pool.

use super::{Answers, Site, GET, KEPT, PARKED};
use crate::prelude::*;
use std::collections::HashSet;

/// The versions that brought the directives.
const SINCE: [(&str, u32); 5] = [
    ("add_header_inherit", 1_029_003),
    ("client_body_early_read", 1_031_005),
    ("least_time", 1_031_000),
    ("resolver", 1_027_003),
    ("sticky", 1_029_006),
];

/// Has the nginx under test this directive? One that has not refuses it, which is shown here, and there
/// is nothing more to show.
pub fn has(directive: &str) -> bool {
    let (_, since) = SINCE.iter().find(|(name, _)| *name == directive).unwrap();
    let is_new = nginx_version() >= *since;
    if !is_new {
        let upstream = ["least_time", "resolver", "sticky"].contains(&directive);
        let block = match upstream {
            true => format!("upstream u {{ server 127.0.0.1:1; {directive} x; }}"),
            false => format!("{directive} x;"),
        };
        let said = Nginx::builder().http(&block).check().stderr;
        let refusal = match directive == "resolver" {
            true => "\"resolver\" directive is not allowed here".to_string(),
            false => format!("unknown directive \"{directive}\""),
        };
        assert!(said.contains(&refusal), "{said}");
    }
    is_new
}

/// A backend beside that of the site.
pub fn another() -> (Answers, Backend) {
    let answers = Answers::new();
    let script = answers.script();
    (answers, Backend::tcp(move |peer| script(peer)))
}

fn site(other: &Address, balancer: &str) -> Site {
    Site::builder()
        .visits()
        .http(&format!("upstream u {{ {balancer} server @pass@; server {other}; }}"))
        .server("location / { rs_uwsgi_pass u; }")
        .tcp(true)
        .start()
}

#[test]
fn a_balancer_hears_of_heads() {
    if !has("least_time") {
        return;
    }
    for balancer in [
        "least_time header;",
        "least_time header inflight;",
        "least_time last_byte inflight;",
        "least_time header inflight; keepalive 4;",
    ] {
        every_request_is_served(balancer);
    }
}

#[test]
fn sessions_are_learned_from_heads() {
    const SESSION: &str =
        "zone u 1m; sticky learn create=$upstream_http_x_s lookup=$arg_s zone=s:1m header;";
    if has("sticky") {
        every_request_is_served(SESSION);
    }
}

fn every_request_is_served(balancer: &str) {
    let (_answers, other) = another();
    let site = site(other.address(), balancer);
    let ours = || site.backend.requests().len() + other.requests().len();
    for number in 1..9 {
        assert_eq!(exchange(site.address(), GET).text(), "ok", "{balancer}");
        assert_eq!(ours(), number, "{balancer}");
    }
    // a worker that dies is an alarm: see `Site::drop`
    assert_eq!(site.log(), [""; 0], "{balancer}");
}

#[test]
fn a_session_outlives_a_connection_that_was_dead() {
    if !has("sticky") {
        return;
    }
    const LEARN: &str = "sticky learn create=$upstream_http_x_s lookup=$arg_s zone=s:1m;";
    const WITH_SESSION: &[u8] =
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX-S: a\r\nContent-Length: 2\r\n\r\nok";
    let (answers, other) = another();
    let site = site(other.address(), LEARN);
    // a connection to each server is kept
    assert_eq!(site.visit_either(&other), PARKED);
    assert_eq!(site.visit_either(&other), PARKED);
    // both servers close at the next request that comes on it, and begin a session on a new one
    for answers in [&answers, &site.answers] {
        let used = Mutex::new(HashSet::from([0]));
        answers.set(move |peer, _| {
            if used.lock().unwrap().insert(peer.number) {
                return peer.write(WITH_SESSION);
            }
            peer.close();
            Ok(())
        });
    }
    assert_eq!(get(site.address(), "/").text(), "ok");
    let log = site.log();
    assert!(log.iter().any(|line| line.contains("upstream prematurely closed")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("does not support sticky")), "{log:?}");

    // the session was learned: the same server serves all that follows
    for answers in [&answers, &site.answers] {
        answers.set_bytes(KEPT);
    }
    let counts = || [site.backend.requests().len(), other.requests().len()];
    let before = counts();
    for _ in 0..6 {
        assert_eq!(get(site.address(), "/?s=a").text(), "ok");
    }
    let after = counts();
    let mut served = [after[0] - before[0], after[1] - before[1]];
    served.sort_unstable();
    assert_eq!(served, [0, 6]);
}

impl Site {
    /// A request that reaches this site's backend or the other: the verdict on its connection.
    fn visit_either(&self, other: &Backend) -> String {
        let verdicts = self.verdicts().len();
        let before = self.backend.requests().len() + other.requests().len();
        assert_eq!(exchange(self.address(), GET).text(), "ok");
        let verdict = self.wait_verdict(verdicts);
        assert_eq!(self.backend.requests().len() + other.requests().len(), before + 1);
        verdict
    }
}
