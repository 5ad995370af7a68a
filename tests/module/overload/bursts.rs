//! Bursts before a real uWSGI: every request is answered, every POST is seen once.

use super::{
    answers, assert_bodies, assert_no_errors, assert_tokens, hint, post, send, site, site_with,
    tokens, uwsgi, wait_busy, SHORT,
};
use crate::prelude::*;
use crate::support::kernel::{descriptor_count, memory};
use crate::support::programs::is_sanitized;

const BURST: usize = 300;
/// uWSGI's own default for `listen`.
const DEFAULT: usize = 100;
const UNBUFFERED: &str = "location /unbuffered/ {
    rs_uwsgi_request_buffering off;
    rewrite ^/unbuffered(.*) $1 break;
    rs_uwsgi_pass @pass@;
}";

#[test]
fn hundreds_before_a_short_queue() {
    for workers in [1, 4] {
        let uwsgi = uwsgi(SHORT);
        let nginx = site_with(workers, "", "", &uwsgi.address().to_string());
        uwsgi.pause();
        let clients = send(nginx.address(), &tokens(0..BURST));
        wait_busy(&nginx, BURST);
        uwsgi.resume();
        assert_tokens(clients, 0..BURST);
        assert_no_errors(&nginx);
        // At most once a minute and worker.
        let hints = nginx.logged(&hint(uwsgi.address())).len();
        assert!((1..=workers).contains(&hints), "{workers} workers: {hints} lines");
        nginx.quit();
    }
}

#[test]
fn a_thousand_before_the_default_queue() {
    const CLIENTS: usize = 1000;
    let longest = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let longest: usize = longest.trim().parse().unwrap();
    for workers in [1, 4] {
        let uwsgi = uwsgi(DEFAULT.min(longest));
        let nginx = site_with(workers, "", "", &uwsgi.address().to_string());
        uwsgi.pause();
        let clients = send(nginx.address(), &tokens(0..CLIENTS));
        wait_busy(&nginx, CLIENTS);
        uwsgi.resume();
        assert_tokens(clients, 0..CLIENTS);
        assert_no_errors(&nginx);
    }
}

/// The server stands still several times; the log tells of it once.
#[test]
fn stops_and_goes() {
    let uwsgi = uwsgi(SHORT);
    let nginx = site(uwsgi.address(), "");
    let mut clients = Vec::new();
    for round in 0..5 {
        uwsgi.pause();
        clients.extend(send(nginx.address(), &tokens(round * 60..(round + 1) * 60)));
        uwsgi.resume();
    }
    assert_tokens(clients, 0..300);
    for _ in 0..3 {
        uwsgi.pause();
        let clients = send(nginx.address(), &tokens(0..60));
        wait_busy(&nginx, 60);
        uwsgi.resume();
        assert_tokens(clients, 0..60);
    }
    assert_eq!(nginx.logged(&hint(uwsgi.address())).len(), 1);
    assert_no_errors(&nginx);
}

/// Bodies that fit into nginx's buffer and others, read before the wait and while it goes on.
#[test]
fn each_post_is_seen_once() {
    for workers in [1, 4] {
        let uwsgi = uwsgi(SHORT);
        let pass = uwsgi.address().to_string();
        let nginx = site_with(workers, "", &UNBUFFERED.replace("@pass@", &pass), &pass);
        let body = |number: usize| {
            let padding = [0, 10, 3_000, 40_000][number % 4];
            format!("{number} {}", "p".repeat(padding))
        };
        let target = |number: usize| match number % 3 {
            0 => "/unbuffered/count",
            _ => "/count",
        };
        let posts: Vec<_> = (0..BURST).map(|n| post(target(n), &body(n))).collect();
        uwsgi.pause();
        let clients = send(nginx.address(), &posts);
        wait_busy(&nginx, BURST);
        uwsgi.resume();
        assert_bodies(&answers(clients), (0..BURST).map(body));
        let mut seen: Vec<_> = uwsgi.file("count").lines().map(str::to_string).collect();
        seen.sort_by_key(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap());
        assert!(seen.iter().eq(&(0..BURST).map(body).collect::<Vec<_>>()), "{workers} workers");
        assert_no_errors(&nginx);
    }
}

/// Those that wait in a worker that is to leave are answered by it, those that come later by the
/// new one; neither waits for the other.
#[test]
fn nginx_reloads_meanwhile() {
    for workers in [1, 4] {
        let uwsgi = uwsgi(SHORT);
        let nginx = site_with(workers, "", "", &uwsgi.address().to_string());
        uwsgi.pause();
        let mut clients = send(nginx.address(), &tokens(0..BURST));
        wait_busy(&nginx, BURST);
        nginx.signal(libc::SIGHUP);
        wait_for("the new workers", || {
            (nginx.logged("start worker process ").len() == 2 * workers).then_some(())
        });
        clients.extend(send(nginx.address(), &tokens(BURST..2 * BURST)));
        wait_busy(&nginx, 2 * BURST);
        assert_eq!(nginx.workers_left(), 0, "a worker left its requests");
        uwsgi.resume();
        // And once more while they are being answered.
        nginx.signal(libc::SIGHUP);
        assert_tokens(clients, 0..2 * BURST);
        wait_for("the old workers to leave", || {
            (nginx.workers_left() == 2 * workers).then_some(())
        });
        assert_no_errors(&nginx);
        nginx.quit();
    }
}

/// nginx that is told to end at once ends, without a word of complaint.
#[test]
fn nginx_ends_meanwhile() {
    let uwsgi = uwsgi(SHORT);
    let nginx = site(uwsgi.address(), "");
    uwsgi.pause();
    let clients = send(nginx.address(), &tokens(0..50));
    wait_busy(&nginx, 50);
    nginx.signal(libc::SIGTERM);
    for mut client in clients {
        assert!(client.response(false).is_err());
    }
    wait_for("the worker to leave", || (nginx.workers_left() == 1).then_some(()));
    assert_no_errors(&nginx);
}

/// Bursts leave behind what the first of them left.
#[test]
fn descriptors_and_memory() {
    let uwsgi = uwsgi(SHORT);
    let nginx = site(uwsgi.address(), "");
    let worker = nginx.worker_ids()[0];
    let burst = || {
        uwsgi.pause();
        let clients = send(nginx.address(), &tokens(0..BURST));
        wait_busy(&nginx, BURST);
        uwsgi.resume();
        assert_tokens(clients, 0..BURST);
        wait_busy(&nginx, 0);
    };
    burst();
    let idle = wait_for("an idle worker", || {
        let count = descriptor_count(worker);
        std::thread::sleep(PAUSE);
        (count == descriptor_count(worker)).then_some(count)
    });
    let before = memory(worker);
    let settled: Vec<_> = (0..4)
        .map(|_| {
            burst();
            memory(worker)
        })
        .collect();
    wait_for("the worker to close what it has opened", || {
        (descriptor_count(worker) <= idle).then_some(())
    });
    // A request takes 4 KiB and more: had each left but a tenth of it behind, there would be 400 KiB.
    let after = settled[settled.len() - 1];
    let is_given_back = after < before + 400 || is_sanitized();
    assert!(is_given_back, "KiB: {before} after the first burst, then {settled:?}");
    assert_eq!(nginx.worker_ids(), [worker], "the worker was replaced");
    nginx.quit();
}
