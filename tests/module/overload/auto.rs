//! `rs_uwsgi_max_connections auto`: the limit that finds itself, before real servers.

use super::{get, SHORT};
use crate::prelude::*;
use crate::status::Metrics;
use std::thread;

/// More clients than any of the servers takes at once.
const CLIENTS: usize = 48;

/// uWSGI with four processes of so many threads that take their time, and a listen queue of `listen` connections.
fn uwsgi(listen: usize, threads: usize) -> Uwsgi {
    let dir = nginx::prefix();
    let socket = Address::Unix(dir.path().join("uwsgi.sock"));
    let application = root().join("tests/support/slow.py");
    let (application, listen) = (application.to_str().unwrap(), listen.to_string());
    let arguments = ["--wsgi-file", application, "--listen", &listen, "--master"];
    let processes = ["--processes", "4", "--threads", &threads.to_string()];
    Uwsgi::start(dir, socket, &[&arguments[..], &processes].concat())
}

const STATUS: &str = "location /status/ { rs_uwsgi_status; }";

fn site(workers: usize, pass: &Address, settings: &str) -> Nginx {
    super::site_with(workers, "", &format!("{settings} {STATUS}"), &pass.to_string())
}

fn limit(nginx: &Nginx) -> u64 {
    Metrics::of(nginx).sum("upstream_connections_limit", &[]) as u64
}

/// Ends the clients, also where the test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients that ask again as soon as they are answered, until `is_enough`. All are answered.
fn while_clients_ask<T>(nginx: &Nginx, target: &str, is_enough: impl FnMut() -> Option<T>) -> T {
    let (to, over) = (nginx.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let ask = || {
            while !over.load(Ordering::Relaxed) {
                let mut client = Client::connect(to);
                client.send(&get(target));
                assert_eq!(client.response(false).unwrap().status, 200);
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let _guard = Over(&over);
        let found = wait_for("a limit", is_enough);
        over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        found
    })
}

/// The log tells of a limit within these.
fn finds(nginx: &Nginx, target: &str, low: u64, high: u64) {
    while_clients_ask(nginx, target, || (low..=high).contains(&limit(nginx)).then_some(()));
    let line = nginx.wait_logged("limit of connections to");
    assert_eq!(line.level, "info");
    let json = client::get(nginx.address(), "/status/json").text();
    assert!(json.contains("\"limit_by\":\"learned\""), "{json}");
}

#[test]
fn four_processes() {
    for workers in [1, 4] {
        let uwsgi = uwsgi(100, 1);
        let nginx = site(workers, uwsgi.address(), "rs_uwsgi_max_connections auto;");
        assert_eq!(limit(&nginx), 0, "nothing is known yet");
        finds(&nginx, "/?0.02", 4, 7);
    }
}

#[test]
fn sixteen_threads() {
    let uwsgi = uwsgi(100, 4);
    finds(&site(1, uwsgi.address(), "rs_uwsgi_max_connections auto;"), "/?0.05", 16, 24);
}

/// A listen queue that is full is in the way of nothing.
#[test]
fn behind_a_short_listen_queue() {
    let uwsgi = uwsgi(SHORT, 1);
    finds(&site(1, uwsgi.address(), "rs_uwsgi_max_connections auto;"), "/?0.02", 4, 7);
}

/// Threads take connections that are kept open, and each its requests.
#[test]
fn gunicorn_gthread() {
    let application = root().join("tests/support/slow.py");
    let gunicorn = Gunicorn::builder(&application).worker_class("gthread").unix();
    let gunicorn = gunicorn.threads(8).keepalive(60).start();
    let nginx = site(1, gunicorn.address(), "rs_uwsgi_max_connections auto;");
    finds(&nginx, "/?0.05", 8, 13);
}

/// A server that works on all that comes has no limit, or one beyond what comes: where the machine has other work,
/// requests may lie unread for a moment.
#[test]
fn gunicorn_gevent() {
    let application = root().join("tests/support/slow.py");
    let gunicorn = Gunicorn::builder(&application).worker_class("gevent").unix();
    let gunicorn = gunicorn.keepalive(60).start();
    let nginx = site(1, gunicorn.address(), "rs_uwsgi_max_connections auto;");
    let answered =
        || Metrics::of(&nginx).sum("upstream_requests_total", &[]) > 10.0 * CLIENTS as f64;
    // so long that its one process has time to read each at once, on a busy machine too
    while_clients_ask(&nginx, "/?0.3", || {
        let limit = limit(&nginx);
        (answered() && (limit == 0 || limit > CLIENTS as u64 / 2)).then_some(())
    });
}

/// It is where it may be, and begins with the most.
#[test]
fn between_two_numbers() {
    let uwsgi = uwsgi(100, 1);
    let nginx = site(1, uwsgi.address(), "rs_uwsgi_max_connections auto:9-20;");
    // as soon as the server is known
    assert_eq!(client::get(nginx.address(), "/").status, 200);
    assert_eq!(limit(&nginx), 20);
    finds(&nginx, "/?0.02", 9, 9);
}

/// Nothing is said, but the server says it: its listen queue is full. When that is over, so is the limit.
#[test]
fn by_the_word_of_the_server() {
    for workers in [1, 4] {
        let uwsgi = uwsgi(SHORT, 1);
        let nginx = site(workers, uwsgi.address(), "");
        finds(&nginx, "/?0.02", 4, 7);
        wait_for("the end of the overload", || (limit(&nginx) == 0).then_some(()));
    }
}

/// Clients that all leave before they are answered: there is no answer to learn from.
#[test]
fn by_those_who_leave() {
    let uwsgi = uwsgi(32, 1);
    let nginx = site(1, uwsgi.address(), "");
    let (to, over) = (nginx.address(), AtomicBool::new(false));
    let found = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::connect(to);
                    client.send(&get("/?0.1"));
                    thread::sleep(Duration::from_millis(250));
                }
            });
        }
        let _guard = Over(&over);
        wait_for("a limit", || Some(limit(&nginx)).filter(|limit| *limit > 0))
    });
    assert!(found <= 9, "{found}");
}

/// Nothing is said, and the server says nothing; or there is to be none.
#[test]
fn without_a_word() {
    for (listen, settings) in [(100, ""), (SHORT, "rs_uwsgi_max_connections 0;")] {
        let uwsgi = uwsgi(listen, 1);
        let nginx = site(1, uwsgi.address(), settings);
        let answered =
            || Metrics::of(&nginx).sum("upstream_requests_total", &[]) > 10.0 * CLIENTS as f64;
        while_clients_ask(&nginx, "/?0.02", || {
            assert_eq!(limit(&nginx), 0);
            answered().then_some(())
        });
    }
}

/// Uploads lie unread while the server works on them, and count as nothing.
#[test]
fn uploads() {
    let uwsgi = uwsgi(100, 1);
    let nginx = site(1, uwsgi.address(), "rs_uwsgi_max_connections auto;");
    let requests: Vec<_> = (0..200).map(|_| super::post("/?0.01", "unread")).collect();
    let answers = super::answers(super::send(nginx.address(), &requests));
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(limit(&nginx), 0);
}
