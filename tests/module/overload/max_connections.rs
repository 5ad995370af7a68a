//! `rs_uwsgi_max_connections`: never more to one server from all workers, counted at the server.

use super::{
    answers, assert_bodies, get, post, send, site, site_with, tokens, uwsgi, wait_busy, SHORT,
};
use crate::prelude::*;
use crate::reuse::KEPT;
use crate::support::kernel::unix_connections;
use crate::support::process::kill;
use socket2::Socket;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Condvar;

pub(super) const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REQUESTS: usize = 40;

/// A server that answers nothing until it may, and counts.
pub(super) struct Gate {
    pub(super) backend: Backend,
    state: Arc<(Mutex<State>, Condvar)>,
    _dir: TempDir,
}

#[derive(Default)]
struct State {
    open: bool,
    /// Connections that were accepted, by number. nginx may have closed some.
    sockets: HashMap<usize, Socket>,
    most: usize,
    /// Requests that were read and not answered.
    held: usize,
}

impl State {
    /// How many connections nginx has open: all of them at one moment, before the first was looked at.
    fn count(&mut self) -> usize {
        self.sockets.retain(|_, socket| !is_closed(socket));
        self.sockets.len()
    }
}

impl Gate {
    /// Answers each request of a connection with `answer`: [`KEPT`], or [`CLOSED`] and the end.
    pub(super) fn new(tcp: bool, answer: &'static [u8]) -> Gate {
        let dir = nginx::prefix();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let shared = state.clone();
        let script = move |peer: &mut Peer| {
            let (lock, changed) = &*shared;
            let (number, socket) = (peer.number, peer.socket()?);
            {
                let mut state = lock.lock().unwrap();
                state.sockets.insert(number, socket);
                state.most = state.count().max(state.most);
            }
            let wait = || {
                let shut = |state: &mut State| !state.open;
                let mut state = lock.lock().unwrap();
                state.held += 1;
                state = changed.wait_timeout_while(state, DEADLINE, shut).unwrap().0;
                state.held -= 1;
            };
            // Counted off before nginx can know of the end.
            let leave = || drop(lock.lock().unwrap().sockets.remove(&number));
            let result = serve(peer, answer, wait, leave);
            leave();
            result
        };
        let backend = match tcp {
            true => Backend::tcp(script),
            false => Backend::unix(&dir.path().join("b"), script),
        };
        Gate { backend, state, _dir: dir }
    }

    pub(super) fn open(&self) {
        self.state.0.lock().unwrap().open = true;
        self.state.1.notify_all();
    }

    pub(super) fn shut(&self) {
        self.state.0.lock().unwrap().open = false;
    }

    /// Waits until all connections are closed but for so many `idle` ones, and counts anew.
    pub(super) fn settle(&self, idle: usize) {
        wait_for("connections to be closed", || {
            let mut state = self.state.0.lock().unwrap();
            state.most = state.count();
            (state.most <= idle).then_some(())
        });
    }

    /// How many connections there were at once.
    pub(super) fn most(&self) -> usize {
        self.state.0.lock().unwrap().most
    }

    /// How many requests there are that wait for it to be opened.
    pub(super) fn held(&self) -> usize {
        self.state.0.lock().unwrap().held
    }
}

/// Has nginx closed it?
fn is_closed(socket: &Socket) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd, valid for the call, of a descriptor that is open meanwhile.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

fn serve(peer: &mut Peer, answer: &[u8], wait: impl Fn(), leave: impl Fn()) -> io::Result<()> {
    loop {
        peer.read_request()?;
        wait();
        if answer != KEPT {
            leave();
            return peer.write(answer);
        }
        peer.write(answer)?;
    }
}

pub(super) fn ok(count: usize) -> Vec<String> {
    vec!["ok".to_string(); count]
}

/// On unix sockets and TCP, for connections that the server keeps and that it closes.
#[test]
fn never_more() {
    for (tcp, answer) in [(false, CLOSED), (false, KEPT), (true, CLOSED), (true, KEPT)] {
        for workers in [1, 4] {
            let gate = Gate::new(tcp, answer);
            let pass = gate.backend.address().to_string();
            let nginx = site_with(workers, "", "rs_uwsgi_max_connections 3;", &pass);
            let clients = send(nginx.address(), &vec![get("/"); REQUESTS]);
            wait_busy(&nginx, REQUESTS);
            let count = gate.backend.connection_count();
            assert!(count <= 3, "{count} connections of {workers} workers");
            wait_for("connections", || (gate.most() >= 3).then_some(()));
            gate.open();
            assert_bodies(&answers(clients), ok(REQUESTS));
            assert_eq!(gate.most(), 3, "at once, from {workers} workers");
            if answer == KEPT && workers == 1 {
                // among workers a place is given on by closing a connection
                assert_eq!(gate.backend.connection_count(), 3);
            }
            nginx.quit();
        }
    }
}

/// `rs_uwsgi_zone off`: each worker has as many.
#[test]
fn without_a_zone_it_is_each_workers() {
    let gate = Gate::new(false, CLOSED);
    // the kernel gives each worker its share of the clients
    let server = format!(
        "rs_uwsgi_zone off;
        server {{ listen 127.0.0.1:@port@ reuseport; rs_uwsgi_max_connections 3;
            location = /busy {{ stub_status; }}
            location / {{ rs_uwsgi_pass {}; }} }}",
        gate.backend.address()
    );
    let nginx = Nginx::builder().workers(4).http(&server).start();
    nginx.wait_logged("\"rs_uwsgi_zone\" is off, limits are each worker's");
    let clients = send(nginx.address(), &vec![get("/"); REQUESTS]);
    wait_busy(&nginx, REQUESTS);
    wait_for("more than one worker may have", || (gate.held() > 3).then_some(()));
    gate.open();
    assert_bodies(&answers(clients), ok(REQUESTS));
    let most = gate.most();
    assert!((4..=3 * 4).contains(&most), "{most} at once");
}

/// Nothing happens between the last look at a connection of the pool and the request on it: what a server sends
/// to nobody in between would be taken for the answer.
#[test]
fn a_connection_is_used_when_it_was_looked_at() {
    const COUNT: usize = 4;
    let dir = nginx::prefix();
    let (open, written) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let (gate, count) = (open.clone(), written.clone());
    let backend = Backend::unix(&dir.path().join("b"), move |peer| loop {
        peer.read_request()?;
        wait_for("the gate", || gate.load(Ordering::SeqCst).then_some(()));
        peer.write(KEPT)?;
        count.fetch_add(1, Ordering::SeqCst);
    });
    let server = format!(
        "server {{ listen 127.0.0.1:@port@; rs_uwsgi_max_connections {COUNT};
            location = /busy {{ stub_status; }}
            location / {{ rs_uwsgi_pass {}; }} }}",
        backend.address()
    );
    let nginx = Nginx::builder().log_level("debug_http").http(&server).start();
    let worker = nginx.worker_ids()[0].try_into().unwrap();
    let clients = send(nginx.address(), &vec![get("/"); 2 * COUNT]);
    wait_busy(&nginx, 2 * COUNT);
    wait_for("the first requests", || (backend.requests().len() == COUNT).then_some(()));
    // so that all connections come free at once
    assert!(kill(worker, libc::SIGSTOP));
    open.store(true, Ordering::SeqCst);
    wait_for("the answers", || (written.load(Ordering::SeqCst) == COUNT).then_some(()));
    assert!(kill(worker, libc::SIGCONT));
    assert_bodies(&answers(clients), ok(2 * COUNT));
    assert_eq!(backend.connection_count(), COUNT);
    let steps: Vec<_> = nginx
        .error_log()
        .into_iter()
        .filter_map(|line| {
            let is_taken = line.text.starts_with("http rs_uwsgi take connection");
            let is_step = is_taken || line.text == "http upstream send request";
            is_step.then_some((is_taken, line.connection))
        })
        .collect();
    let taken: Vec<_> = steps.iter().enumerate().filter(|(_, (is_taken, _))| *is_taken).collect();
    assert_eq!(taken.len(), COUNT);
    for (at, (_, connection)) in taken {
        assert_eq!(steps.get(at + 1), Some(&(false, *connection)), "{steps:#?}");
    }
}

/// Who has waited comes from the address that is configured, as everybody else does.
#[test]
fn bound_to_an_address() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let peers = seen.clone();
    let backend = Backend::tcp(move |peer| {
        peers.lock().unwrap().push(peer.remote()?.ip());
        peer.answer(CLOSED)
    });
    let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_bind 127.0.0.9;";
    let nginx = site(backend.address(), settings);
    assert_bodies(&answers(send(nginx.address(), &vec![get("/"); REQUESTS])), ok(REQUESTS));
    assert_eq!(*seen.lock().unwrap(), vec![IpAddr::from([127, 0, 0, 9]); REQUESTS]);
}

/// First come, first served, whether connections are kept or not.
#[test]
fn in_order_of_arrival() {
    for answer in [CLOSED, KEPT] {
        let gate = Gate::new(false, answer);
        let nginx = site(gate.backend.address(), "rs_uwsgi_max_connections 1;");
        let mut clients = Vec::new();
        for number in 0..REQUESTS {
            clients.extend(send(nginx.address(), &[get(&format!("/{number}"))]));
            wait_busy(&nginx, number + 1);
        }
        gate.open();
        assert_bodies(&answers(clients), ok(REQUESTS));
        let requests = gate.backend.requests();
        let seen: Vec<_> = requests.iter().map(|r| r.packet.get("REQUEST_URI").unwrap()).collect();
        let sent: Vec<_> = (0..REQUESTS).map(|number| format!("/{number}")).collect();
        assert_eq!(seen, sent);
    }
}

/// A connection that comes free goes to the next in the queue; none is opened for it.
#[test]
fn one_connection_serves_all_who_wait() {
    let gate = Gate::new(false, KEPT);
    let nginx = site(gate.backend.address(), "rs_uwsgi_max_connections 1;");
    let clients = send(nginx.address(), &vec![get("/"); REQUESTS]);
    wait_busy(&nginx, REQUESTS);
    gate.open();
    assert_bodies(&answers(clients), ok(REQUESTS));
    assert_bodies(&answers(send(nginx.address(), &[get("/")])), ok(1));
    assert_eq!(gate.backend.connection_count(), 1);
}

/// An idle connection counts. It makes room for a request that may not have it: of an unknown method,
/// which never goes on a connection that was used.
#[test]
fn idle_connection_makes_room() {
    let gate = Gate::new(false, KEPT);
    gate.open();
    let nginx = site(gate.backend.address(), "rs_uwsgi_max_connections 1;");
    assert_bodies(&answers(send(nginx.address(), &[get("/")])), ok(1));
    let brew = b"BREW / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec();
    assert_bodies(&answers(send(nginx.address(), &[brew])), ok(1));
    assert_eq!(gate.backend.connection_count(), 2);
    assert_bodies(&answers(send(nginx.address(), &[get("/")])), ok(1));
}

/// However a request ends, its connection makes room for the next: a server that closes without an
/// answer, or in the middle of one; a client that leaves; a timeout; a server that is not there.
#[test]
fn every_end_makes_room() {
    let dir = nginx::prefix();
    let path = dir.path().join("b");
    let address = Address::Unix(path.clone());
    let nginx = site(&address, "rs_uwsgi_max_connections 1; rs_uwsgi_read_timeout 1s;");
    nginx.expects(nginx::NO_SOCKET);
    for answer in answers(send(nginx.address(), &vec![get("/"); 3])) {
        assert_eq!(answer.status, 502);
    }
    let backend = Backend::unix(&path, |peer| {
        let request = peer.read_request()?;
        match request.packet.get("PATH_INFO").unwrap().as_str() {
            "/closes" => peer.close(),
            "/cuts" => peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")?,
            "/garbage" => peer.write(b"\x01\x02\r\n\r\n")?,
            "/stalls" => peer.stall()?,
            _ => peer.write(CLOSED)?,
        }
        Ok(())
    });
    for round in 0..2 {
        let targets = ["/closes", "/", "/cuts", "/", "/garbage", "/", "/stalls", "/"];
        let clients = send(nginx.address(), &targets.map(get));
        let statuses: Vec<_> = answers(clients).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [502, 200, 200, 200, 502, 200, 504, 200], "round {round}");
    }
    // One leaves that is being served, and one that waits.
    let nginx = site(&address, "rs_uwsgi_max_connections 1;");
    let before = backend.requests().len();
    let mut clients = send(nginx.address(), &[get("/stalls")]);
    backend.wait_request(before);
    clients.extend(send(nginx.address(), &[get("/"), get("/"), get("/")]));
    wait_busy(&nginx, 4);
    clients.remove(1);
    wait_busy(&nginx, 3);
    clients.remove(0);
    assert_bodies(&answers(clients), ok(2));
    nginx.quit();
}

/// In a block it holds for each server.
#[test]
fn for_each_server_of_a_block() {
    let gates = [Gate::new(false, CLOSED), Gate::new(false, CLOSED)];
    let nginx = site_with(
        1,
        &format!(
            "upstream app {{ server {}; server {}; rs_uwsgi_max_connections 2; }}",
            gates[0].backend.address(),
            gates[1].backend.address()
        ),
        "",
        "app",
    );
    let clients = send(nginx.address(), &vec![get("/"); REQUESTS]);
    wait_busy(&nginx, REQUESTS);
    for gate in &gates {
        wait_for("both connections", || (gate.held() == 2).then_some(()));
    }
    gates.iter().for_each(Gate::open);
    assert_bodies(&answers(clients), ok(REQUESTS));
    assert_eq!(gates.each_ref().map(Gate::most), [2, 2]);
}

/// The queue's limits hold here too, and the listen queue, which is not full, gets no blame.
#[test]
fn queue_of_those_who_wait() {
    let gate = Gate::new(false, CLOSED);
    let nginx = site(gate.backend.address(), "rs_uwsgi_max_connections 2; rs_uwsgi_queue 3;");
    let waiting = send(nginx.address(), &vec![get("/"); 5]);
    wait_busy(&nginx, 5);
    for answer in answers(send(nginx.address(), &vec![get("/"); 10])) {
        assert_eq!(answer.status, 503);
        assert!(answer.header("Retry-After").is_some());
    }
    gate.open();
    assert_bodies(&answers(waiting), ok(5));
    assert!(nginx.logged("listen queue of").is_empty());
    gate.shut();
    let nginx = site(
        gate.backend.address(),
        "rs_uwsgi_max_connections 1; rs_uwsgi_queue 10 timeout=200ms;",
    );
    let mut served = send(nginx.address(), &[get("/")]);
    wait_busy(&nginx, 1);
    for answer in answers(send(nginx.address(), &vec![get("/"); 5])) {
        assert_eq!(answer.status, 503);
    }
    gate.open();
    assert_bodies(&answers(vec![served.remove(0)]), ok(1));
}

/// Uploads wait as others do.
#[test]
fn posts_are_seen_once() {
    let uwsgi = uwsgi(SHORT);
    let nginx = site_with(4, "", "rs_uwsgi_max_connections 2;", &uwsgi.address().to_string());
    let bodies: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    let posts: Vec<_> = bodies.iter().map(|body| post("/count", body)).collect();
    assert_bodies(&answers(send(nginx.address(), &posts)), bodies.clone());
    let mut seen: Vec<_> = uwsgi.file("count").lines().map(str::to_string).collect();
    seen.sort_by_key(|body| body.parse::<usize>().unwrap());
    assert_eq!(seen, bodies);
}

/// Sends a burst to a server of four threads that keeps connections: the pool becomes no larger than
/// the server is, and every connection that comes free carries the next request.
fn fits(nginx: &Nginx, address: &Address) {
    const BURST: usize = 400;
    let is_new = |answer: &&Response| answer.header("X-Connection") == Some("new");
    let Address::Unix(path) = address else { panic!("{address}") };
    // Whoever looked whether it had started may still have to be noticed as gone.
    wait_for("a server without connections", || (unix_connections(path) == 0).then_some(()));
    let sent: Vec<Client> = send(nginx.address(), &tokens(0..BURST));
    let mut most = 0;
    let mut all = Vec::new();
    for client in sent {
        all.extend(answers(vec![client]));
        most = most.max(unix_connections(path));
    }
    assert_bodies(&all, (0..BURST).map(|number| number.to_string()));
    let new = all.iter().filter(is_new).count();
    // fewer where the server was faster than the clients
    assert!((1..=4).contains(&new), "{new} connections opened");
    assert_eq!(most, new, "connections at once, and opened");
}

const FITTING: &str = "rs_uwsgi_max_connections 4; rs_uwsgi_keepalive_requests 100000;
    add_header X-Connection $rs_uwsgi_connection;";

#[test]
fn uwsgi_persistent_socket() {
    let application = root().join("tests/support/framing.py");
    let uwsgi = Uwsgi::persistent(&application).unix().threads(4).socket_timeout(60).start();
    let address = uwsgi.persistent_address();
    fits(&site(address, &format!("{FITTING} rs_uwsgi_reuse puwsgi;")), address);
}

#[test]
fn gunicorn_gthread() {
    let application = root().join("tests/support/framing.py");
    let gunicorn = Gunicorn::builder(&application).worker_class("gthread").unix();
    let gunicorn = gunicorn.threads(4).keepalive(60).start();
    fits(&site(gunicorn.address(), FITTING), gunicorn.address());
}
