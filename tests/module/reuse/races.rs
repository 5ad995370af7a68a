//! The race at the server's idle limit: a request that is on its way while the server closes is lost,
//! and one that must not be sent twice cannot be saved. POSTs aimed at that moment, by the thousand:
//! each is answered, and reaches the application once.

use crate::prelude::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Barrier;
use std::thread::{sleep, JoinHandle};

const SEED: u64 = 0x72_6163_6573;

/// A server that keeps its connections, each served by a thread of its own until the thread or
/// the server wants no more of it. Beside [`crate::support::backend::Backend`] it can tell how long a
/// connection has been idle, and its writes are sent at once (TCP_NODELAY).
pub struct Keeper {
    /// Where it listens.
    pub address: Address,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
    _dir: TempDir,
}

#[derive(Default)]
struct State {
    connections: Mutex<Vec<Arc<Connection>>>,
    stopping: AtomicBool,
}

/// One of its connections.
pub struct Connection {
    /// Counted from 0.
    pub number: usize,
    /// The socket.
    pub socket: Socket,
    /// It has answered, and has not begun to read the next request.
    idle: AtomicBool,
}

impl Connection {
    /// The next request, vars and body; an error where none begins within `limit`.
    pub fn read_request(&self, limit: Duration) -> io::Result<(Packet, Vec<u8>)> {
        let mut socket = &self.socket;
        socket.set_read_timeout(Some(limit))?;
        let mut head = [0; 4];
        socket.read_exact(&mut head[..1])?;
        self.idle.store(false, Ordering::SeqCst);
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.read_exact(&mut head[1..])?;
        let mut bytes = head.to_vec();
        bytes.resize(4 + usize::from(u16::from_le_bytes([head[1], head[2]])), 0);
        socket.read_exact(&mut bytes[4..])?;
        let (packet, _) = Packet::parse(&bytes).expect("not a packet");
        let length = packet.get("CONTENT_LENGTH").unwrap_or_default().parse().unwrap_or(0);
        let mut body = vec![0; length];
        socket.read_exact(&mut body)?;
        Ok((packet, body))
    }

    /// Answers 200 with this body, and says that the connection is kept.
    pub fn answer(&self, body: &[u8]) -> io::Result<()> {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n"
        );
        self.write(&[head.as_bytes(), body].concat())?;
        self.idle.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Sends all of `bytes`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)
    }
}

/// What serves a connection; it is closed at the end.
pub type Serve = Box<dyn Fn(&Connection) -> io::Result<()> + Send + Sync>;

impl Keeper {
    /// Listens on TCP or a unix socket.
    pub fn start(tcp: bool, serve: Serve) -> Keeper {
        let dir = nginx::prefix();
        let path = dir.path().join("keeper");
        let name = match tcp {
            true => SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            false => SockAddr::unix(&path).unwrap(),
        };
        let listener = Socket::new(name.domain(), Type::STREAM, None).unwrap();
        listener.bind(&name).unwrap();
        listener.listen(512).unwrap();
        let address = match name.domain() {
            Domain::UNIX => Address::Unix(path),
            _ => Address::Tcp(listener.local_addr().unwrap().as_socket().unwrap()),
        };
        let state = Arc::new(State::default());
        let shared = state.clone();
        let acceptor = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for number in 0.. {
                    let Ok((socket, _)) = listener.accept() else { return };
                    if shared.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    // A unix socket has no such delay.
                    let _ = socket.set_nodelay(true);
                    let connection = Connection { number, socket, idle: AtomicBool::new(false) };
                    let connection = Arc::new(connection);
                    shared.connections.lock().unwrap().push(connection.clone());
                    let (serve, shared) = (&serve, &shared);
                    scope.spawn(move || {
                        // An error is an end like any other.
                        let _ = serve(&connection);
                        let mut connections = shared.connections.lock().unwrap();
                        connections.retain(|other| other.number != connection.number);
                    });
                }
            });
        });
        Keeper { address, state, acceptor: Some(acceptor), _dir: dir }
    }

    /// Closes every connection that waits for a request. Returns how many.
    pub fn close_idle(&self) -> usize {
        let connections = self.state.connections.lock().unwrap();
        let idle = connections.iter().filter(|connection| connection.idle.load(Ordering::SeqCst));
        idle.filter(|connection| connection.socket.shutdown(Shutdown::Both).is_ok()).count()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        let _ = self.address.connect();
        for connection in self.state.connections.lock().unwrap().iter() {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        let served = self.acceptor.take().unwrap().join();
        assert!(served.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

/// One client connection through nginx.
pub struct Visitor(Client);

impl Visitor {
    /// Connects.
    pub fn new(to: SocketAddr) -> Visitor {
        Visitor(Client::connect(to))
    }

    /// Sends a request; a GET has no body.
    pub fn request(&mut self, method: &str, target: &str, body: &str) -> io::Result<Response> {
        let length = match method {
            "POST" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: t\r\n{length}\r\n{body}");
        self.0.send(head.as_bytes());
        self.0.response(false)
    }
}

/// Did the response come on a connection that had been used before?
pub fn is_reused(response: &Response) -> bool {
    response.header("X-Connection") == Some("reused")
}

/// For a failure message.
pub fn shown(response: &io::Result<Response>) -> String {
    match response {
        Ok(response) => format!("{} {:.200}", response.undated(), response.text()),
        Err(error) => error.to_string(),
    }
}

/// How often each line stands in the application's file.
pub fn count(lines: &str) -> HashMap<&str, usize> {
    let mut seen = HashMap::new();
    for line in lines.lines() {
        *seen.entry(line).or_insert(0) += 1;
    }
    seen
}

/// nginx before a server, with room for all lanes in its pool.
pub fn site(address: &Address, more: &str) -> Nginx {
    Nginx::serve(&format!(
        "add_header X-Connection $rs_uwsgi_connection always; keepalive_requests 1000000;
        rs_uwsgi_keepalive 256; rs_uwsgi_param REQUEST_METHOD $request_method;
        rs_uwsgi_param PATH_INFO $uri; rs_uwsgi_param QUERY_STRING $query_string;
        rs_uwsgi_param CONTENT_LENGTH $content_length; rs_uwsgi_param REQUEST_URI $request_uri;
        rs_uwsgi_param SERVER_PROTOCOL $server_protocol; rs_uwsgi_param SERVER_NAME t;
        rs_uwsgi_param SERVER_PORT 80; rs_uwsgi_param REMOTE_ADDR $remote_addr;
        {more} location / {{ rs_uwsgi_pass {address}; }}"
    ))
}

/// Clients of one nginx, side by side.
const LANES: usize = 96;

/// What came of the POSTs of one race.
#[derive(Default)]
struct Race {
    /// Their bodies, answered with 200 and the body.
    answered: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
    /// How many POSTs and GETs came on used connections.
    reused: [AtomicUsize; 2],
    gets: AtomicUsize,
}

impl Race {
    fn post(&self, visitor: &mut Visitor, id: String) {
        match visitor.request("POST", "/count", &id) {
            Ok(response) if response.status == 200 && response.text() == id => {
                self.reused[0].fetch_add(usize::from(is_reused(&response)), Ordering::Relaxed);
                self.answered.lock().unwrap().push(id);
            }
            other => self.failed.lock().unwrap().push(format!("POST {id}: {}", shown(&other))),
        }
    }

    fn get(&self, visitor: &mut Visitor, id: &str) {
        let response = visitor.request("GET", &format!("/token?t={id}"), "");
        self.gets.fetch_add(1, Ordering::Relaxed);
        match response {
            Ok(response) if response.status == 200 && response.text() == id => {
                self.reused[1].fetch_add(usize::from(is_reused(&response)), Ordering::Relaxed);
            }
            other => self.failed.lock().unwrap().push(format!("GET {id}: {}", shown(&other))),
        }
    }

    /// Rounds in which all lanes come back when their connections have been idle for about `limit`:
    /// some a little earlier, some later, half of them with a GET first, which takes an old
    /// connection and leaves it young for the POST behind it; a few in between, at an age at which
    /// nginx itself begins to doubt.
    fn run(&self, to: SocketAddr, limit: Duration, rounds: usize) {
        let barrier = Barrier::new(LANES);
        std::thread::scope(|scope| {
            for lane in 0..LANES {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut random = Random::new(SEED + lane as u64);
                    let mut visitor = Visitor::new(to);
                    for round in 0..rounds {
                        // All at once, so that each has a connection to the server.
                        barrier.wait();
                        let id = format!("{lane}.{round}");
                        self.post(&mut visitor, format!("{id}.first"));
                        let begun = Instant::now();
                        if lane % 8 == 7 {
                            sleep(Duration::from_millis(480 + random.below(40) as u64));
                            self.post(&mut visitor, format!("{id}.between"));
                        }
                        let around = Duration::from_micros(random.below(18_000) as u64);
                        sleep(
                            (limit + around)
                                .saturating_sub(Duration::from_millis(6) + begun.elapsed()),
                        );
                        if random.once_in(2) {
                            self.get(&mut visitor, &id);
                        }
                        self.post(&mut visitor, format!("{id}.second"));
                    }
                });
            }
        });
    }

    /// Compares with what the application noted. Returns the number of POSTs.
    fn assert_none_lost(self, what: &str, noted: &str) -> usize {
        let (answered, failed) =
            (self.answered.into_inner().unwrap(), self.failed.into_inner().unwrap());
        let seen = count(noted);
        let lost = answered.iter().filter(|id| !seen.contains_key(id.as_str())).count();
        let doubled = seen.values().filter(|count| **count > 1).count();
        let [posts, gets] = self.reused.map(AtomicUsize::into_inner);
        eprintln!(
            "{what}: {} POSTs, {posts} reused, {} GETs, {gets} reused; {} failed, {lost} lost, \
             {doubled} doubled",
            answered.len(),
            self.gets.into_inner(),
            failed.len(),
        );
        assert!(
            failed.is_empty(),
            "{what}: {} failed: {:#?}",
            failed.len(),
            &failed[..failed.len().min(5)]
        );
        assert_eq!((lost, doubled, seen.len()), (0, 0, answered.len()), "{what}");
        answered.len()
    }
}

fn gunicorn(seconds: u32) -> Gunicorn {
    let application = root().join("tests/support/framing.py");
    let gunicorn = Gunicorn::builder(&application).worker_class("gthread").threads(8);
    gunicorn.keepalive(seconds).unix().start()
}

/// Three servers side by side.
#[test]
fn none_lost_at_the_idle_limit_of_gunicorn() {
    let races = [(1, 14), (1, 14), (2, 7)].map(|(seconds, rounds)| {
        let gunicorn = gunicorn(seconds);
        let nginx = site(gunicorn.address(), "");
        (seconds, rounds, gunicorn, nginx, Race::default())
    });
    std::thread::scope(|scope| {
        for (seconds, rounds, _, nginx, race) in &races {
            let limit = Duration::from_secs((*seconds).into());
            scope.spawn(move || race.run(nginx.address(), limit, *rounds));
        }
    });
    let posts = races.into_iter().map(|(seconds, _, gunicorn, _, race)| {
        race.assert_none_lost(&format!("gunicorn, {seconds} s"), &gunicorn.file("count"))
    });
    assert!(posts.sum::<usize>() >= 5000);
}

/// A server with the shortest idle limit that a server can have. It has decided to close a moment
/// before it does, and does not look whether a request has come meanwhile.
fn hasty(tcp: bool) -> (Keeper, Arc<Mutex<String>>) {
    let noted = Arc::new(Mutex::new(String::new()));
    let notes = noted.clone();
    let serve = move |connection: &Connection| {
        let mut limit = DEADLINE;
        loop {
            let (packet, body) = connection.read_request(limit).inspect_err(|_| {
                sleep(Duration::from_millis(3));
            })?;
            let query = packet.get("QUERY_STRING").unwrap_or_default();
            let length = packet.get("PATH_INFO").unwrap_or_default();
            let body = match (query.strip_prefix("t="), length.strip_prefix("/len/")) {
                (Some(token), _) => token.as_bytes().to_vec(),
                (_, Some(length)) => vec![b'\0'; length.parse().unwrap()],
                _ => {
                    // so that all lanes are here at once, each on a connection of its own
                    if body.ends_with(b".first") {
                        sleep(Duration::from_millis(30));
                    }
                    *notes.lock().unwrap() += &format!("{}\n", String::from_utf8_lossy(&body));
                    body
                }
            };
            connection.answer(&body)?;
            limit = LIMIT;
        }
    };
    (Keeper::start(tcp, Box::new(serve)), noted)
}

const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn none_lost_at_the_idle_limit_of_a_hasty_server() {
    for tcp in [false, true] {
        let (keeper, noted) = hasty(tcp);
        let nginx = site(&keeper.address, "");
        let race = Race::default();
        race.run(nginx.address(), LIMIT, 4);
        race.assert_none_lost(&format!("hasty, {}", keeper.address), &noted.lock().unwrap());
    }
}

/// The server has long sent all of its answer, and begun to count, when nginx reads the end of it
/// because its client takes so long.
#[test]
fn none_lost_behind_a_slow_client() {
    const SIZE: usize = 100_000;
    let (keeper, noted) = hasty(false);
    let nginx = Nginx::start(&format!(
        "server {{
            listen 127.0.0.1:@port@ sndbuf=8k; keepalive_requests 1000000;
            rs_uwsgi_keepalive 256; rs_uwsgi_buffering off;
            add_header X-Connection $rs_uwsgi_connection always;
            rs_uwsgi_param PATH_INFO $uri; rs_uwsgi_param CONTENT_LENGTH $content_length;
            location / {{ rs_uwsgi_pass {}; }}
        }}",
        keeper.address
    ));
    let race = Race::default();
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (race, to) = (&race, nginx.address());
            scope.spawn(move || {
                let mut random = Random::new(SEED + lane as u64);
                for round in 0..4 {
                    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                    socket.set_recv_buffer_size(4096).unwrap();
                    socket.set_read_timeout(Some(DEADLINE)).unwrap();
                    socket.connect(&to.into()).unwrap();
                    let head = format!("GET /len/{SIZE} HTTP/1.1\r\nHost: t\r\n\r\n");
                    (&socket).write_all(head.as_bytes()).unwrap();
                    sleep(LIMIT - Duration::from_micros(random.below(10_000) as u64));
                    let mut bytes = [0; 4096];
                    let mut rest = SIZE;
                    while rest > 0 {
                        let count = (&socket).read(&mut bytes).unwrap();
                        assert!(count > 0, "{rest} bytes of the answer are missing");
                        // none of which is in the head
                        rest -= bytes[..count].iter().filter(|byte| **byte == 0).count();
                    }
                    race.post(&mut Visitor::new(to), format!("{lane}.{round}"));
                }
            });
        }
    });
    race.assert_none_lost("behind slow clients", &noted.lock().unwrap());
}

/// Under a steady load POSTs share connections as GETs do.
#[test]
fn posts_reuse_connections() {
    let gunicorn = gunicorn(2);
    let nginx = site(gunicorn.address(), "");
    let mut visitor = Visitor::new(nginx.address());
    let reused = (0..200).filter(|number| {
        let response = visitor.request("POST", "/count", &number.to_string()).unwrap();
        assert_eq!((response.status, response.text()), (200, number.to_string()));
        is_reused(&response)
    });
    let reused = reused.count();
    eprintln!("{reused} of 200 POSTs in a row came on a used connection");
    assert!(reused >= 150, "{reused} of 200");
    assert_eq!(gunicorn.file("count").lines().count(), 200);
}
