//! Several workers are one nginx: one limit, one line of those who wait, and nothing left of a worker that
//! is gone.

use super::max_connections::{ok, Gate, CLOSED};
use super::{answers, assert_bodies, get, send, tokens, uwsgi, wait_busy};
use crate::prelude::*;
use crate::reuse::KEPT;
use crate::support::kernel::unix_connections;
use crate::support::process;
use std::collections::HashSet;
use std::sync::Condvar;

/// Clients enough for each of four workers to get some, by the kernel's choice.
const MANY: usize = 48;

/// nginx, of whose workers each has a queue of its own for clients, and says with each answer which one it
/// is.
pub(super) fn site(workers: usize, http: &str, pass: &str, settings: &str) -> Nginx {
    let server = format!(
        "server {{
            listen 127.0.0.1:@port@ backlog=2048 reuseport;
            add_header X-Worker $pid always;
            location = /busy {{ stub_status; }}
            location / {{ rs_uwsgi_pass {pass}; }}
            {settings}
        }}"
    );
    let builder = Nginx::builder().workers(workers).worker_connections(4096);
    let nginx = builder.log_level("debug_http").http(http).http(&server).start();
    nginx.worker_ids();
    nginx
}

/// How many requests have ever had to wait. nginx's own count of those that it has is of no use: it comes
/// before another worker's request is in the line, and what killed workers had is in it for ever.
pub(super) fn queued(nginx: &Nginx) -> usize {
    nginx.logged("http rs_uwsgi wait for a connection to").len()
}

/// Sends so many requests, and waits until all of them but those that have a place wait. Where idle connections
/// have these places, who gets them may have waited for a moment.
fn send_and_wait(nginx: &Nginx, requests: &[Vec<u8>], places: usize) -> Vec<Client> {
    let wait = queued(nginx) + requests.len() - places;
    let clients = send(nginx.address(), requests);
    wait_for("the others to wait", || (queued(nginx) >= wait).then_some(()));
    clients
}

/// Kills a worker, and leaves it no time to do anything.
fn kill_at_once(worker: u32) {
    assert!(process::kill(worker.try_into().unwrap(), libc::SIGKILL));
}

/// Which worker has answered.
fn worker_of(response: &client::Response) -> u32 {
    response.header("X-Worker").unwrap().parse().unwrap()
}

/// As many connections as the limit allows can be had at once, and no more; and all are answered.
fn assert_whole(nginx: &Nginx, gate: &Gate, limit: usize) {
    gate.settle(limit);
    gate.shut();
    let clients = send_and_wait(nginx, &vec![get("/"); MANY], limit);
    wait_for("all places to be had", || (gate.held() == limit).then_some(()));
    gate.open();
    assert_bodies(&answers(clients), ok(MANY));
    assert_eq!(gate.most(), limit);
}

/// Whichever worker holds them, requests are served in the order in which they came.
#[test]
fn in_the_order_of_arrival() {
    let dir = nginx::prefix();
    let open = Arc::<(Mutex<bool>, Condvar)>::default();
    let gate = open.clone();
    let backend = Backend::unix(&dir.path().join("b"), move |peer| {
        peer.read_request()?;
        drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap());
        peer.write(CLOSED)
    });
    let pass = backend.address().to_string();
    let nginx = site(4, "", &pass, "rs_uwsgi_max_connections 1;");
    let mut clients = Vec::new();
    for number in 0..MANY {
        let mut client = Client::connect(nginx.address());
        client.send(&get(&format!("/{number}")));
        clients.push(client);
        match number {
            0 => drop(backend.wait_request(0)),
            _ => wait_for("it to wait", || (queued(&nginx) == number).then_some(())),
        }
    }
    *open.0.lock().unwrap() = true;
    open.1.notify_all();
    let workers: HashSet<_> = answers(clients).iter().map(worker_of).collect();
    assert!(workers.len() > 1, "one worker has got them all");
    let served: Vec<_> = backend
        .requests()
        .iter()
        .map(|request| request.packet.get("REQUEST_URI").unwrap())
        .collect();
    let expected: Vec<_> = (0..MANY).map(|number| format!("/{number}")).collect();
    assert_eq!(served, expected);
}

/// The queue's limit is one for all workers.
#[test]
fn the_queue_is_one() {
    const WAIT: usize = 7;
    let gate = Gate::new(false, CLOSED);
    let pass = gate.backend.address().to_string();
    let nginx = site(4, "", &pass, &format!("rs_uwsgi_max_connections 2; rs_uwsgi_queue {WAIT};"));
    let clients = send(nginx.address(), &vec![get("/"); MANY]);
    // all others are answered at once
    nginx.wait_requests(MANY - 2 - WAIT);
    gate.open();
    let answers = answers(clients);
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(503)), (2 + WAIT, MANY - 2 - WAIT));
    assert_whole_queue(&nginx, &gate, WAIT);
}

/// And nothing of it is used up.
fn assert_whole_queue(nginx: &Nginx, gate: &Gate, wait: usize) {
    // clients have their answers before nginx is done with the requests
    wait_busy(nginx, 0);
    gate.shut();
    let clients = send(nginx.address(), &vec![get("/"); 2 + wait]);
    wait_busy(nginx, 2 + wait);
    gate.open();
    assert_bodies(&answers(clients), ok(2 + wait));
}

/// An idle connection of one worker does not keep a request in another waiting.
#[test]
fn an_idle_connection_is_given_up() {
    let gate = Gate::new(false, KEPT);
    gate.open();
    let nginx = site(4, "", &gate.backend.address().to_string(), "rs_uwsgi_max_connections 1;");
    let mut workers = HashSet::new();
    for _ in 0..MANY {
        let answer = client::get(nginx.address(), "/");
        assert_eq!(answer.status, 200);
        workers.insert(worker_of(&answer));
    }
    assert!(workers.len() > 1, "one worker has got them all");
    assert_eq!(gate.most(), 1);
}

/// The same where the worker with the idle connection has asked more servers since than it remembers slots of.
#[test]
fn an_idle_connection_is_given_up_by_one_that_has_seen_many() {
    let gate = Gate::new(false, KEPT);
    gate.open();
    let http = "rs_uwsgi_zone 200m; keepalive_requests 10000;";
    let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_queue 9 timeout=10s;";
    let nginx = site(2, http, "unix:$arg_socket", settings);
    nginx.expects(nginx::NO_SOCKET);
    let ask = |client: &mut Client, socket: &str| {
        client.send(format!("GET /?socket={socket} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        client.response(false).unwrap()
    };
    let address = gate.backend.address().to_string();
    let socket = address.strip_prefix("unix:").unwrap();
    let mut first = Client::connect(nginx.address());
    let worker = worker_of(&ask(&mut first, socket));
    let mut second = loop {
        let mut client = Client::connect(nginx.address());
        if worker_of(&ask(&mut client, socket)) != worker {
            break client;
        }
    };
    assert_eq!(ask(&mut first, socket).status, 200);
    for number in 0..1100 {
        assert_eq!(ask(&mut first, &format!("/none/{number}")).status, 502);
    }
    assert_eq!(ask(&mut second, socket).status, 200);
}

/// A worker that is killed takes no place with it, whether its requests had one or waited.
#[test]
fn killed_workers() {
    for answer in [CLOSED, KEPT] {
        let gate = Gate::new(false, answer);
        let nginx = site(4, "", &gate.backend.address().to_string(), "rs_uwsgi_max_connections 2;");
        for _ in 0..3 {
            gate.settle(2);
            gate.shut();
            let mut clients = send_and_wait(&nginx, &vec![get("/"); MANY], 2);
            let killed = nginx.worker_ids()[0];
            kill_at_once(killed);
            wait_for("another worker", || (!nginx.worker_ids().contains(&killed)).then_some(()));
            gate.open();
            // those of the worker that was killed are cut off, all others are served
            let lives = |client: &mut Client| {
                client.response(false).is_ok_and(|answer| answer.status == 200)
            };
            let served =
                clients.iter_mut().filter_map(|client| lives(client).then_some(())).count();
            assert!(served < MANY, "nobody was killed");
        }
        nginx.expects("exited on signal 9");
        assert_whole(&nginx, &gate, 2);
    }
}

/// All of them at once.
#[test]
fn all_workers_killed() {
    let gate = Gate::new(false, CLOSED);
    let nginx = site(4, "", &gate.backend.address().to_string(), "rs_uwsgi_max_connections 2;");
    let clients = send_and_wait(&nginx, &vec![get("/"); MANY], 2);
    let killed = nginx.worker_ids();
    killed.iter().for_each(|worker| kill_at_once(*worker));
    wait_for("other workers", || {
        let ids = nginx.worker_ids();
        (ids.len() == killed.len() && ids.iter().all(|id| !killed.contains(id))).then_some(())
    });
    drop(clients);
    gate.open();
    gate.settle(0);
    nginx.expects("exited on signal 9");
    assert_whole(&nginx, &gate, 2);
}

/// Old workers count until they end; what they had is free then, also where there are fewer or more
/// workers after.
#[test]
fn reloads() {
    let gate = Gate::new(false, KEPT);
    let nginx = site(4, "", &gate.backend.address().to_string(), "rs_uwsgi_max_connections 2;");
    let (mut workers, mut left) = (4, 0);
    for next in [2, 4, 3, 6, 1, 4, 6, 2] {
        gate.shut();
        let clients = send_and_wait(&nginx, &vec![get("/"); MANY], 2);
        set_workers(&nginx, next);
        let started = nginx.logged("start worker process ").len();
        nginx.signal(libc::SIGHUP);
        wait_for("new workers", || {
            (nginx.logged("start worker process ").len() == started + next).then_some(())
        });
        gate.open();
        assert_bodies(&answers(clients), ok(MANY));
        left += workers;
        wait_for("old workers to leave", || (nginx.workers_left() == left).then_some(()));
        workers = next;
    }
    assert_whole(&nginx, &gate, 2);
}

/// Writes another number of workers into the configuration.
fn set_workers(nginx: &Nginx, count: usize) {
    let conf = nginx.path("nginx.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let (before, rest) = text.split_once("worker_processes ").unwrap();
    let (_, after) = rest.split_once(';').unwrap();
    std::fs::write(&conf, format!("{before}worker_processes {count};{after}")).unwrap();
}

/// Real uWSGI, whose processes are as many as it may have connections, so that none waits in its listen
/// queue.
#[test]
fn a_real_server_has_no_more_than_it_can_serve() {
    const LIMIT: usize = 4;
    for workers in [1, 4, 8] {
        let uwsgi = uwsgi(100);
        let address = uwsgi.address().to_string();
        let nginx = site(workers, "", &address, &format!("rs_uwsgi_max_connections {LIMIT};"));
        let socket = address.strip_prefix("unix:").unwrap().trim_end_matches(':').to_string();
        uwsgi.pause();
        // its socket, and perhaps the connection by which it was seen to be there
        let before = unix_connections(socket.as_ref());
        let clients = send_and_wait(&nginx, &tokens(0..200), LIMIT);
        let count = unix_connections(socket.as_ref()) - before;
        assert_eq!(count, LIMIT, "{workers} workers");
        uwsgi.resume();
        assert!(answers(clients).iter().all(|answer| answer.status == 200));
    }
}

/// Servers for which there is no room in the zone are limited by each worker, and the log says so, once.
#[test]
fn a_zone_that_is_full() {
    let gates = [(); 4].map(|()| Gate::new(false, KEPT));
    let conf = |size: &str| {
        format!(
            "rs_uwsgi_zone {size};
             server {{ listen 127.0.0.1:@port@; rs_uwsgi_max_connections 1;
                 location / {{ rs_uwsgi_pass unix:$arg_socket; }} }}"
        )
    };
    let said = Nginx::builder().http(&conf("8k")).check().stderr;
    let size = said.split(" servers, ").nth(1).unwrap().split(' ').next().unwrap();
    let nginx = Nginx::builder().workers(2).http(&conf(size)).start();
    for _ in 0..3 {
        gates.iter().for_each(Gate::shut);
        let mut clients = Vec::new();
        for gate in &gates {
            let address = gate.backend.address().to_string();
            let socket = address.strip_prefix("unix:").unwrap().trim_end_matches(':');
            clients.extend(send(nginx.address(), &vec![get(&format!("/?socket={socket}")); 4]));
        }
        gates.iter().for_each(Gate::open);
        assert_bodies(&answers(clients), ok(16));
    }
    // by each worker that has met one
    let count = nginx.logged("rs_uwsgi zone has no room for").len();
    assert!((1..=nginx.worker_ids().len()).contains(&count), "{count}");
}

/// A zone that is too small is an error that says which would do, and that one does.
#[test]
fn a_zone_that_is_too_small() {
    let conf = |size: &str| {
        format!(
            "rs_uwsgi_zone {size};
             server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass 127.0.0.1:1; }} }}"
        )
    };
    let check = Nginx::builder().http(&conf("8k")).check();
    let wrong = "\"rs_uwsgi_zone\" of 8192 bytes is too small for 1 servers, ";
    let (_, rest) = check.stderr.split_once(wrong).unwrap_or_else(|| panic!("{}", check.stderr));
    let size = rest.split(' ').next().unwrap();
    assert!(Nginx::builder().http(&conf(size)).check().status.success(), "{size}");
    for (value, wrong) in [
        ("none", "invalid value \"none\" in \"rs_uwsgi_zone\" directive"),
        ("0", "invalid value \"0\" in \"rs_uwsgi_zone\" directive"),
        ("1m; rs_uwsgi_zone off", "\"rs_uwsgi_zone\" directive is duplicate"),
    ] {
        let check = Nginx::builder().http(&conf(value)).check();
        assert!(!check.status.success() && check.stderr.contains(wrong), "{}", check.stderr);
    }
}
