//! Servers that restart and nginx that reloads, while requests come: what can be sent again is, and
//! nothing is sent twice that must not be. And nothing stays open.

use super::races::{count, is_reused, site, Keeper, Visitor};
use crate::prelude::*;
use crate::support::gunicorn::Builder;
use crate::support::kernel::{descriptor_count, memory};
use std::collections::HashMap;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::thread::sleep;

const SEED: u64 = 0x72_6573_7461_7274;
const CLIENTS: usize = 8;

/// What the clients of a load sent and got.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    next: AtomicUsize,
    /// On used connections, all methods.
    reused: AtomicUsize,
    gets: AtomicUsize,
    failed_gets: Mutex<Vec<String>>,
    /// Ids of POSTs that were answered, and of those that were not.
    posts: Mutex<[Vec<String>; 2]>,
}

impl Load {
    /// One GET or, of every four, `posts` POSTs.
    fn one(&self, visitor: &mut Visitor, to: SocketAddr, posts: usize) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = number.to_string();
        let is_post = number % 4 < posts;
        let response = match is_post {
            true => visitor.request("POST", "/count", &id),
            false => visitor.request("GET", &format!("/token?t={id}"), ""),
        };
        let right = response.as_ref().is_ok_and(|r| r.status == 200 && r.text() == id);
        // An error of nginx's is no answer to another request.
        let error = response.as_ref().is_ok_and(|r| r.status >= 500);
        assert!(right || error || response.is_err(), "{id}: {response:?}");
        if right && response.as_ref().is_ok_and(is_reused) {
            self.reused.fetch_add(1, Ordering::Relaxed);
        }
        if is_post {
            self.posts.lock().unwrap()[usize::from(!right)].push(id);
        } else {
            self.gets.fetch_add(1, Ordering::Relaxed);
            if !right {
                self.failed_gets.lock().unwrap().push(format!("{id}: {response:?}"));
            }
        }
        if !right {
            // The server may not be there for a while.
            sleep(Duration::from_millis(2));
            *visitor = Visitor::new(to);
        }
    }

    /// Clients send until `disturb` is done. They change connections to nginx after `each` requests.
    fn run(&self, to: SocketAddr, posts: usize, each: usize, disturb: impl FnOnce()) {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !self.stop.load(Ordering::Relaxed) {
                        let mut visitor = Visitor::new(to);
                        for _ in 0..each {
                            if !self.stop.load(Ordering::Relaxed) {
                                self.one(&mut visitor, to, posts);
                            }
                        }
                    }
                });
            }
            // Whatever fails in there, the clients must be stopped.
            let result = catch_unwind(AssertUnwindSafe(disturb));
            self.stop.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    /// Waits for so many more requests on used connections.
    fn wait_reused(&self, more: usize) {
        let before = self.reused.load(Ordering::Relaxed);
        wait_for("requests on used connections", || {
            (self.reused.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    /// No POST came twice. Prints what became of all.
    fn assert_none_doubled(&self, what: &str, seen: &HashMap<&str, usize>) {
        let posts = self.posts.lock().unwrap();
        let [answered, failed] = &*posts;
        let seen_of = |ids: &[String]| ids.iter().filter(|id| seen.contains_key(&id[..])).count();
        let doubled = seen.values().filter(|count| **count > 1).count();
        eprintln!(
            "{what}: {} GETs, {} failed; {} POSTs answered, {} failed, of which the application saw \
             {}; {doubled} doubled; {} requests on used connections",
            self.gets.load(Ordering::Relaxed),
            self.failed_gets.lock().unwrap().len(),
            answered.len(),
            failed.len(),
            seen_of(failed),
            self.reused.load(Ordering::Relaxed),
        );
        assert_eq!(doubled, 0, "{what}: POSTs were sent twice");
        assert_eq!(seen_of(answered), answered.len(), "{what}: answered, and never seen");
    }

    fn assert_no_get_failed(&self) {
        let failed = self.failed_gets.lock().unwrap();
        assert!(failed.is_empty(), "{} GETs: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    }
}

fn gunicorn() -> Builder {
    let application = root().join("tests/support/framing.py");
    Gunicorn::builder(&application).worker_class("gthread").threads(8)
}

/// New workers: the master keeps the listening socket, so that connections wait in its queue.
#[test]
fn gunicorn_reloads() {
    const RELOADS: usize = 4;
    let gunicorn = gunicorn().unix().workers(2).start();
    let nginx = site(gunicorn.address(), "");
    let load = Load::default();
    load.run(nginx.address(), 1, 1000, || {
        for _ in 0..RELOADS {
            load.wait_reused(200);
            gunicorn.reload();
        }
    });
    load.assert_none_doubled("gunicorn reloads", &count(&gunicorn.file("count")));
    load.assert_no_get_failed();
}

/// For a while nobody listens. What fails then fails because it could not connect.
#[test]
fn gunicorn_restarts() {
    const RESTARTS: usize = 2;
    let dir = nginx::prefix();
    let socket = Address::Unix(dir.path().join("g"));
    let start = || gunicorn().arguments(&["--bind", &socket.to_string()]).start();
    let nginx = site(&socket, "");
    nginx.expects(nginx::NO_SOCKET);
    let mut noted = String::new();
    let mut running = start();
    let load = Load::default();
    load.run(nginx.address(), 1, 1000, || {
        for _ in 0..RESTARTS {
            load.wait_reused(200);
            running.stop();
            noted += &running.file("count");
            running = start();
        }
        load.wait_reused(200);
    });
    noted += &running.file("count");
    load.assert_none_doubled("gunicorn restarts", &count(&noted));
    // Connections that wait to be accepted when the server goes end without an answer.
    let refused = nginx.logged("connect() to").len();
    let ended = nginx.logged("prematurely closed").len() + nginx.logged("recv() failed").len();
    let failed = load.failed_gets.lock().unwrap().len() + load.posts.lock().unwrap()[1].len();
    eprintln!("{failed} requests failed, {refused} connections refused, {ended} ended");
    assert!(failed <= refused + ended);
}

/// Answers /token and /count as the application does; `note` gets the bodies.
fn serve(note: &Arc<Mutex<String>>) -> super::races::Serve {
    let note = note.clone();
    Box::new(move |connection| loop {
        let (packet, body) = connection.read_request(DEADLINE)?;
        let query = packet.get("QUERY_STRING").unwrap_or_default();
        match query.strip_prefix("t=") {
            Some(token) => connection.answer(token.as_bytes())?,
            None => {
                *note.lock().unwrap() += &format!("{}\n", String::from_utf8_lossy(&body));
                connection.answer(&body)?;
            }
        }
    })
}

/// Whether or not nginx is writing to one at that moment, the server closes all connections that
/// wait for a request.
#[test]
fn server_closes_idle_connections() {
    for tcp in [false, true] {
        let note = Arc::default();
        let keeper = Keeper::start(tcp, serve(&note));
        let nginx = site(&keeper.address, "");
        let (load, mut closed) = (Load::default(), 0);
        load.run(nginx.address(), 1, 1000, || {
            let mut random = Random::new(SEED);
            for _ in 0..200 {
                load.wait_reused(random.below(20));
                sleep(Duration::from_micros(random.below(2000) as u64));
                closed += keeper.close_idle();
            }
        });
        let what = format!("{closed} closed at {}", keeper.address);
        load.assert_none_doubled(&what, &count(&note.lock().unwrap()));
        load.assert_no_get_failed();
    }
}

/// The old worker ends in spite of its idle connections to the server, and loses no request.
#[test]
fn nginx_reloads() {
    const RELOADS: usize = 3;
    let note = Arc::default();
    let keeper = Keeper::start(false, serve(&note));
    let nginx = site(&keeper.address, "");
    let load = Load::default();
    // Each request on a connection of its own: one that is idle when its worker leaves may be closed
    // by it, which a client has to expect (RFC 9112, 9.5).
    load.run(nginx.address(), 2, 1, || {
        for _ in 0..RELOADS {
            load.wait_reused(200);
            nginx.reload();
        }
        load.wait_reused(200);
    });
    load.assert_none_doubled("nginx reloads", &count(&note.lock().unwrap()));
    load.assert_no_get_failed();
    assert!(load.posts.lock().unwrap()[1].is_empty(), "POSTs failed");
    assert_eq!(nginx.workers_left(), RELOADS);
    nginx.quit();
}

/// The process id of the only worker.
fn worker(nginx: &Nginx) -> u32 {
    let start = "start worker process ";
    nginx.wait_logged(start).text.strip_prefix(start).unwrap().parse().unwrap()
}

/// After thousands of requests on connections that are used again, closed by the server, and closed
/// by nginx, the worker has as many descriptors as before.
#[test]
fn nothing_stays_open() {
    let note = Arc::default();
    let keeper = Keeper::start(false, serve(&note));
    let nginx = site(
        &keeper.address,
        "rs_uwsgi_keepalive_timeout 1s; rs_uwsgi_keepalive_requests 50; lingering_close off;",
    );
    // The worker opens its logs and such with the first request.
    let first = client::get(nginx.address(), "/token?t=first");
    assert_eq!(first.text(), "first");
    let pid = worker(&nginx);
    keeper.close_idle();
    let settled = || {
        wait_for("an idle worker", || {
            let before = descriptor_count(pid);
            sleep(Duration::from_millis(50));
            (before == descriptor_count(pid)).then_some(before)
        })
    };
    let before = settled();
    let mut used = Vec::new();
    for _ in 0..3 {
        let load = Load::default();
        load.run(nginx.address(), 1, 100, || {
            for _ in 0..20 {
                load.wait_reused(50);
                keeper.close_idle();
            }
        });
        load.assert_no_get_failed();
        assert!(load.reused.into_inner() >= 1000);
        used.push(memory(pid));
    }
    eprintln!("{before} descriptors before; KiB in use after each third: {used:?}");
    wait_for("the worker to close idle connections", || {
        (descriptor_count(pid) <= before).then_some(())
    });
    assert_eq!(worker(&nginx), pid);
    nginx.quit();
}
