//! More requests at once than the server takes: they wait for their turn, and none fails.
//!
//! Whether a listen queue is full is left to no race: the server stands still (SIGSTOP) until nginx
//! holds all of the requests.

mod auto;
mod beside;
mod bursts;
mod connect_retry;
mod max_connections;
mod order;
mod queue;
mod tcp;
mod upgrade;
mod vain;
mod variables;
mod waiting;
mod workers;

use crate::prelude::*;
use crate::support::kernel::raise_descriptor_limit;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A listen queue that a few requests fill.
const SHORT: usize = 4;

/// uWSGI with four processes and a listen queue of `listen` connections.
fn uwsgi(listen: usize) -> Uwsgi {
    let dir = nginx::prefix();
    let socket = dir.path().join("uwsgi.sock");
    uwsgi_at(dir, &socket, listen, 4)
}

/// As `uwsgi`, with so many processes, on a socket of this name.
fn uwsgi_at(dir: TempDir, socket: &Path, listen: usize, processes: usize) -> Uwsgi {
    raise_descriptor_limit();
    let application = root().join("tests/support/framing.py");
    let (application, listen) = (application.to_str().unwrap(), listen.to_string());
    let arguments = ["--wsgi-file", application, "--listen", &listen, "--master", "--vacuum"];
    let processes = ["--processes", &processes.to_string(), "--threads", "1"];
    Uwsgi::start(dir, Address::Unix(socket.into()), &[&arguments[..], &processes].concat())
}

/// nginx with ours on `@port@`. `settings` stand in a server whose `location /` passes to `pass`, and
/// `http` beside it.
fn site_with(workers: usize, http: &str, settings: &str, pass: &str) -> Nginx {
    raise_descriptor_limit();
    let builder = Nginx::builder().workers(workers).worker_connections(4096);
    let nginx = builder
        .http(http)
        .http(&format!(
            "server {{
                listen 127.0.0.1:@port@ backlog=2048;
                location = /busy {{ stub_status; }}
                location / {{ rs_uwsgi_pass {pass}; }}
                {settings}
            }}"
        ))
        .start();
    nginx.worker_ids();
    nginx
}

/// nginx with one worker before `address`.
fn site(address: &Address, settings: &str) -> Nginx {
    site_with(1, "", settings, &address.to_string())
}

/// How many requests nginx is busy with. One without a body that was counted here has come as far as
/// it can: nginx runs its handler in the event that counts it.
fn busy(nginx: &Nginx) -> usize {
    let status = client::get(nginx.address(), "/busy").text();
    let writing = status.split("Writing: ").nth(1).unwrap().split(' ').next().unwrap();
    // but the one that asks
    writing.parse::<usize>().unwrap() - 1
}

/// Waits until nginx is busy with exactly `count` requests.
fn wait_busy(nginx: &Nginx, count: usize) {
    wait_for(&format!("{count} requests in nginx"), || (busy(nginx) == count).then_some(()));
}

/// `GET target`, after which the client wants the connection closed.
fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes()
}

/// `POST target`, likewise.
fn post(target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What the application answers with their number.
fn tokens(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(|number| get(&format!("/token?t={number}"))).collect()
}

/// Sends each request on a connection of its own, all of them before any answer is read.
fn send(to: SocketAddr, requests: &[Vec<u8>]) -> Vec<Client> {
    let mut clients = Vec::new();
    for request in requests {
        let mut client = Client::connect(to);
        client.send(request);
        clients.push(client);
    }
    clients
}

/// The answers, in the order of the clients; each of them must come.
fn answers(clients: Vec<Client>) -> Vec<Response> {
    let answer = |(number, mut client): (usize, Client)| {
        client.response(false).unwrap_or_else(|e| panic!("client {number}: {e}"))
    };
    clients.into_iter().enumerate().map(answer).collect()
}

/// All are 200, and the bodies are these.
fn assert_bodies(answers: &[Response], bodies: impl IntoIterator<Item = String>) {
    for (number, (answer, body)) in answers.iter().zip(bodies).enumerate() {
        assert_eq!((answer.status, answer.text()), (200, body), "client {number}");
    }
}

/// The clients get the answers to `tokens`.
fn assert_tokens(clients: Vec<Client>, numbers: std::ops::Range<usize>) {
    assert_bodies(&answers(clients), numbers.map(|number| number.to_string()));
}

/// Nothing at level `error` or above was logged.
fn assert_no_errors(nginx: &Nginx) {
    let is_error = |level: &str| ["error", "crit", "alert", "emerg", "raw"].contains(&level);
    let errors: Vec<_> = nginx.error_log().into_iter().filter(|l| is_error(&l.level)).collect();
    assert!(errors.is_empty(), "{} errors: {:#?}", errors.len(), &errors[..errors.len().min(5)]);
}

/// Connections that fill the listen queue of a server that accepts none; none goes in after them
/// until they have been accepted.
fn fill(address: &Address) -> Vec<Socket> {
    let Address::Unix(path) = address else { panic!("{address} is no unix socket") };
    let name = SockAddr::unix(path).unwrap();
    let mut fillers = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&name) {
            Ok(()) => fillers.push(socket),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return fillers,
            Err(e) => panic!("{address}: {e}"),
        }
    }
}

/// A unix socket whose listen queue is full for good.
struct Full {
    address: Address,
    _listener: Socket,
    _fillers: Vec<Socket>,
    _dir: TempDir,
}

impl Full {
    fn new() -> Full {
        let dir = nginx::prefix();
        let path: PathBuf = dir.path().join("full");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(1).unwrap();
        let address = Address::Unix(path);
        let fillers = fill(&address);
        Full { address, _listener: listener, _fillers: fillers, _dir: dir }
    }
}

/// uWSGI that stands still, its listen queue full.
struct Stopped {
    uwsgi: Uwsgi,
    fillers: Vec<Socket>,
}

impl Stopped {
    fn new() -> Stopped {
        Stopped::of(uwsgi(SHORT))
    }

    fn of(uwsgi: Uwsgi) -> Stopped {
        uwsgi.pause();
        let fillers = fill(uwsgi.address());
        Stopped { uwsgi, fillers }
    }

    /// What the application was sent to /count, in order.
    fn counted(&self) -> Vec<String> {
        self.uwsgi.file("count").lines().map(str::to_string).collect()
    }

    /// It goes on, and finds nothing on the connections that filled the queue.
    fn resume(&mut self) {
        self.fillers.clear();
        self.uwsgi.resume();
    }
}

/// The line about a listen queue that was full.
fn hint(address: &Address) -> String {
    let name = address.to_string();
    format!("listen queue of \"{name}\" was full")
}
