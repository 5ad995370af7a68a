//! nginx is changed while it serves. A reload keeps the zone. A new program (SIGUSR2) has a zone of its own,
//! and each of the two has as many connections as the limit allows.

use super::max_connections::{ok, Gate};
use super::{answers, assert_bodies, get, send, wait_busy};
use crate::prelude::*;
use crate::reuse::KEPT;
use crate::support::daemon::signal_master;
use std::collections::HashSet;
use std::thread::JoinHandle;

const WORKERS: usize = 2;
const LIMIT: usize = 4;

/// Clients that ask again and again, each on a new connection; every answer must be 200.
struct Load {
    ends: Arc<AtomicBool>,
    /// How many answers each worker has given.
    answers: Arc<Mutex<Vec<u32>>>,
    clients: Vec<JoinHandle<()>>,
    /// Answers count where their requests were sent in this round.
    round: Arc<AtomicUsize>,
}

impl Load {
    /// More clients than there may be connections while two programs run.
    fn begin(to: SocketAddr) -> Load {
        let (ends, answers) = <(Arc<AtomicBool>, Arc<Mutex<Vec<u32>>>)>::default();
        let round = Arc::<AtomicUsize>::default();
        let clients = (0..3 * LIMIT).map(|_| {
            let (ends, answers, round) = (ends.clone(), answers.clone(), round.clone());
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let sent_in = round.load(Ordering::SeqCst);
                    let answer = client::get(to, "/");
                    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
                    let worker = answer.header("X-Worker").unwrap().parse().unwrap();
                    let mut answers = answers.lock().unwrap();
                    if sent_in == round.load(Ordering::SeqCst) {
                        answers.push(worker);
                    }
                    drop(answers);
                    std::thread::sleep(PAUSE);
                }
            })
        });
        let clients = clients.collect();
        Load { ends, answers, clients, round }
    }

    /// Waits until all of these workers, and no others, have given some more answers.
    fn wait_served_by(&self, workers: &[u32]) {
        let mut answers = self.answers.lock().unwrap();
        self.round.fetch_add(1, Ordering::SeqCst);
        answers.clear();
        drop(answers);
        wait_for("answers", || {
            let answers = self.answers.lock().unwrap();
            let by: HashSet<u32> = answers.iter().copied().collect();
            (answers.len() >= 100 && workers.iter().all(|worker| by.contains(worker))).then_some(())
        });
    }

    fn end(mut self) {
        self.ends.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.clients).into_iter().for_each(|client| client.join().unwrap());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Two programs, of which the second has been started by SIGUSR2, under load.
struct Upgraded {
    nginx: Nginx,
    gate: Gate,
    load: Load,
    first_master: i32,
    first_workers: Vec<u32>,
    second_workers: Vec<u32>,
}

/// Before a server that answers at once, while its gate is open.
fn start(builder: Builder) -> (Nginx, Gate) {
    let gate = Gate::new(false, KEPT);
    gate.open();
    let server = format!(
        "server {{
            listen 127.0.0.1:@port@ backlog=2048;
            add_header X-Worker $pid always;
            rs_uwsgi_max_connections {LIMIT};
            location = /busy {{ stub_status; }}
            location / {{ rs_uwsgi_pass {}; }}
        }}",
        gate.backend.address()
    );
    (builder.workers(WORKERS).worker_connections(4096).http(&server).start(), gate)
}

/// Nothing is counted that is not there: as many requests as may have connections at once.
fn assert_whole(nginx: &Nginx, gate: &Gate) {
    gate.settle(LIMIT);
    gate.shut();
    let clients = send(nginx.address(), &vec![get("/"); 4 * LIMIT]);
    wait_busy(nginx, 4 * LIMIT);
    wait_for("all places to be had", || (gate.held() == LIMIT).then_some(()));
    gate.open();
    assert_bodies(&answers(clients), ok(4 * LIMIT));
    assert_eq!(gate.most(), LIMIT);
}

impl Upgraded {
    /// Two programs serve, after one has.
    fn start() -> Upgraded {
        let (nginx, gate) = start(Nginx::builder().daemon());
        let first_workers = nginx.worker_ids();
        let first_master = nginx.master().unwrap();
        let load = Load::begin(nginx.address());
        load.wait_served_by(&first_workers);
        assert_eq!(gate.most(), LIMIT, "of one program");

        let started = nginx.logged("start worker process ").len();
        nginx.signal(libc::SIGUSR2);
        wait_for("workers of the new program", || {
            (nginx.logged("start worker process ").len() == started + WORKERS).then_some(())
        });
        assert_eq!(nginx.old_master(), Some(first_master));
        let second_workers = nginx.worker_ids();
        load.wait_served_by(&[&first_workers[..], &second_workers[..]].concat());
        let most = gate.most();
        assert!((LIMIT + 1..=2 * LIMIT).contains(&most), "{most} of two programs");

        // the old one's workers are done with what they have, and leave
        signal_master(first_master, libc::SIGWINCH);
        wait_for("the old workers to leave", || (nginx.workers_left() == WORKERS).then_some(()));
        let site = Upgraded { nginx, gate, load, first_master, first_workers, second_workers };
        site.assert_served_by(&site.second_workers);
        site
    }

    /// One program serves, these workers of it, with as many connections as the limit allows.
    fn assert_served_by(&self, workers: &[u32]) {
        self.gate.settle(LIMIT);
        self.load.wait_served_by(workers);
        let answers = self.load.answers.lock().unwrap();
        assert!(answers.iter().all(|worker| workers.contains(worker)), "{answers:?} {workers:?}");
        assert_eq!(self.gate.most(), LIMIT);
    }

    fn finish(self) {
        self.load.end();
        assert_whole(&self.nginx, &self.gate);
        self.nginx.quit();
    }
}

/// As many as the limit allows, old workers and new ones together, however often the configuration is read.
#[test]
fn twenty_reloads_under_load() {
    let (nginx, gate) = start(Nginx::builder());
    let load = Load::begin(nginx.address());
    load.wait_served_by(&nginx.worker_ids());
    for _ in 0..20 {
        nginx.reload();
        load.wait_served_by(&nginx.worker_ids());
    }
    assert_eq!(gate.most(), LIMIT);
    load.end();
    assert_whole(&nginx, &gate);
    nginx.quit();
}

#[test]
fn to_a_new_program() {
    let site = Upgraded::start();
    signal_master(site.first_master, libc::SIGQUIT);
    wait_for("the old master to leave", || site.nginx.old_master().is_none().then_some(()));
    assert_ne!(site.nginx.master(), Some(site.first_master));
    site.assert_served_by(&site.second_workers);
    site.finish();
}

/// The old program gets workers again, and the new one is given up.
#[test]
fn and_back() {
    let site = Upgraded::start();
    let started = site.nginx.logged("start worker process ").len();
    signal_master(site.first_master, libc::SIGHUP);
    wait_for("workers of the old program", || {
        (site.nginx.logged("start worker process ").len() == started + WORKERS).then_some(())
    });
    let third_workers = site.nginx.worker_ids();
    assert!(third_workers.iter().all(|worker| !site.first_workers.contains(worker)));
    let both = [&site.second_workers[..], &third_workers[..]].concat();
    site.load.wait_served_by(&both);
    assert!(site.gate.most() <= 2 * LIMIT, "{} of two programs", site.gate.most());
    site.nginx.signal(libc::SIGQUIT);
    // its pid file is the old one's again
    wait_for("the new master to leave", || {
        (site.nginx.master() == Some(site.first_master)).then_some(())
    });
    site.assert_served_by(&third_workers);
    site.finish();
}
