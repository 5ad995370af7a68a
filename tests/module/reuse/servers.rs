//! Real servers. First the facts that reuse rests on, asked of each server itself: whether it keeps
//! a connection, what it says about that, and where its responses end. Then each behind the module.

use crate::prelude::*;
use crate::support::packet;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

/// A server by what it does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// gunicorn, by worker class.
    Sync,
    Gthread,
    Gevent,
    Asgi,
    /// gunicorn gthread, the last version that chunks.
    Chunking,
    /// uWSGI, by kind of socket.
    Socket,
    Puwsgi,
}

use Kind::*;

enum Server {
    Gunicorn(Gunicorn),
    Uwsgi(Uwsgi, Kind),
}

impl Server {
    /// Waits long for the next request, so that a slow machine ends no connection.
    fn start(kind: Kind) -> Server {
        let application = root().join("tests/support/framing.py");
        let gunicorn =
            |class| Gunicorn::builder(&application).worker_class(class).threads(4).keepalive(60);
        Server::Gunicorn(match kind {
            // More than one thread would make it gthread.
            Sync => Gunicorn::builder(&application).keepalive(60).start(),
            Gthread => gunicorn("gthread").unix().start(),
            Gevent => gunicorn("gevent").start(),
            Asgi => gunicorn("asgi").unix().start(),
            Chunking => gunicorn("gthread").version(Version::Chunking).start(),
            Socket | Puwsgi => {
                let uwsgi = Uwsgi::persistent(&application).unix().socket_timeout(60).start();
                return Server::Uwsgi(uwsgi, kind);
            }
        })
    }

    fn address(&self) -> &Address {
        match self {
            Server::Gunicorn(gunicorn) => gunicorn.address(),
            Server::Uwsgi(uwsgi, Puwsgi) => uwsgi.persistent_address(),
            Server::Uwsgi(uwsgi, _) => uwsgi.address(),
        }
    }

    /// What the application was sent to /count, in order.
    fn counted(&self) -> Vec<String> {
        let counted = match self {
            Server::Gunicorn(gunicorn) => gunicorn.file("count"),
            Server::Uwsgi(uwsgi, _) => uwsgi.file("count"),
        };
        counted.lines().map(str::to_string).collect()
    }

    fn connect(&self) -> Client {
        Client::connect_to(self.address())
    }

    /// A connection on which one request has been answered, and that answer's Connection header.
    fn connect_and_ask(&self) -> (Client, Option<String>) {
        let mut client = self.connect();
        let response = ask(&mut client, "GET", "/token?t=first");
        assert_eq!((response.text().as_str(), response.end), ("first", End::Length));
        (client, response.header("Connection").map(str::to_string))
    }
}

fn ask(client: &mut Client, method: &str, target: &str) -> Response {
    ask_with(client, method, target, b"", &[])
}

fn ask_with(
    client: &mut Client,
    method: &str,
    target: &str,
    body: &[u8],
    vars: &[(&str, &str)],
) -> Response {
    client.send(&packet::request(method, target, body, vars));
    let response = client.response(method == "HEAD");
    response.unwrap_or_else(|e| panic!("{method} {target}: {e}"))
}

/// The connection serves another request, and nothing stands before that one's answer.
fn assert_kept(client: &mut Client) {
    assert_eq!(ask(client, "GET", "/token?t=another").text(), "another");
}

/// The server closes, with not a byte more.
fn assert_closed(client: &mut Client) {
    let end = client.read_exact(1).expect_err("surplus bytes").kind();
    assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
}

fn lines() -> String {
    (0..10).map(|number| format!("line {number}\n")).collect()
}

/// What gunicorn does where it keeps connections: `says` is its Connection header for a response
/// with a Content-Length, `stream` that for a body without one and how it then ends.
fn keeps(kind: Kind, says: Option<&str>, stream: (&str, End)) {
    let server = Server::start(kind);
    let (mut client, said) = server.connect_and_ask();
    assert_eq!(said.as_deref(), says);
    assert_kept(&mut client);
    for status in [204, 304] {
        let response = ask(&mut client, "GET", &format!("/status/{status}"));
        assert_eq!((response.status, response.header("Connection")), (status, says));
        assert_kept(&mut client);
    }
    // The application gives a body, but it is not sent.
    for target in ["/token?t=head", "/stream"] {
        assert_eq!(ask(&mut client, "HEAD", target).header("Connection"), says, "{target}");
        assert_kept(&mut client);
    }
    assert_eq!(ask_with(&mut client, "POST", "/count", b"id", &[]).text(), "id");
    assert_eq!(server.counted(), ["id"]);
    assert_kept(&mut client);

    let streamed = ask(&mut client, "GET", "/stream");
    assert_eq!(streamed.text(), lines());
    assert_eq!((streamed.header("Connection"), streamed.end), (Some(stream.0), stream.1));
    match stream.1 {
        End::Close => assert_closed(&mut client),
        _ => assert_kept(&mut client),
    }
    let (mut client, _) = server.connect_and_ask();
    let last = ask_with(&mut client, "GET", "/token?t=l", b"", &[("HTTP_CONNECTION", "close")]);
    assert_eq!((last.header("Connection"), last.text().as_str()), (Some("close"), "l"));
    assert_closed(&mut client);
}

#[test]
fn gunicorn_gthread() {
    keeps(Gthread, Some("keep-alive"), ("close", End::Close));
}

#[test]
fn gunicorn_gevent() {
    keeps(Gevent, Some("keep-alive"), ("close", End::Close));
}

#[test]
fn gunicorn_asgi() {
    keeps(Asgi, None, ("close", End::Close));
}

#[test]
fn gunicorn_that_chunks() {
    keeps(Chunking, Some("keep-alive"), ("keep-alive", End::Chunked));
}

#[test]
fn gunicorn_sync() {
    let server = Server::start(Sync);
    let (mut client, said) = server.connect_and_ask();
    assert_eq!(said.as_deref(), Some("close"));
    assert_closed(&mut client);
    let mut client = server.connect();
    let streamed = ask(&mut client, "GET", "/stream");
    assert_eq!((streamed.text(), streamed.end), (lines(), End::Close));
    assert_eq!(streamed.header("Connection"), Some("close"));
}

#[test]
fn uwsgi_socket() {
    let server = Server::start(Socket);
    let (mut client, said) = server.connect_and_ask();
    assert_eq!(said, None);
    assert_closed(&mut client);
    let mut client = server.connect();
    let streamed = ask(&mut client, "GET", "/stream");
    assert_eq!((streamed.text(), streamed.end), (lines(), End::Close));
    assert_eq!(streamed.header("Connection"), None);
    // HEAD is answered with the body.
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "HEAD", "/token?t=head").header("Content-Length"), Some("4"));
    assert_eq!(client.read_to_end(), b"head");
}

#[test]
fn uwsgi_persistent_socket() {
    let server = Server::start(Puwsgi);
    let (mut client, said) = server.connect_and_ask();
    assert_eq!(said, None);
    assert_kept(&mut client);
    for status in [204, 304] {
        assert_eq!(ask(&mut client, "GET", &format!("/status/{status}")).status, status);
        assert_kept(&mut client);
    }
    // The body of an answer to HEAD stands before the next answer.
    assert_eq!(ask(&mut client, "HEAD", "/token?t=head").header("Content-Length"), Some("4"));
    assert_eq!(client.read_exact(4).unwrap(), b"head");
    // A body without a length is followed by the next answer, and nothing tells them apart.
    client.send(&packet::request("GET", "/stream", b"", &[]));
    client.send(&packet::request("GET", "/token?t=next", b"", &[]));
    let head = client.read_head().unwrap();
    assert!(!head.windows(4).any(|part| part == b"Leng" || part == b"Tran"));
    let both = format!("{}HTTP/1.1 200 OK\r\n", lines());
    assert_eq!(client.read_exact(both.len()).unwrap(), both.as_bytes());
}

/// Why a request with a body must never go there: whoever writes the body writes the vars.
#[test]
fn uwsgi_persistent_socket_takes_a_body_for_the_next_packet() {
    let server = Server::start(Puwsgi);
    let mut client = server.connect();
    let smuggled = packet::request("GET", "/token?t=smuggled", b"", &[]);
    assert_eq!(ask_with(&mut client, "POST", "/unread", &smuggled, &[]).text(), "unread");
    assert_eq!(client.response(false).unwrap().text(), "smuggled");
}

/// An application cannot end the connection by a header: gunicorn drops it or does not act on it.
#[test]
fn connection_header_of_the_application() {
    for (kind, says) in [
        (Gthread, Some("keep-alive")),
        (Gevent, Some("keep-alive")),
        (Asgi, Some("close")),
        (Chunking, Some("keep-alive")),
        (Puwsgi, Some("close")),
    ] {
        let server = Server::start(kind);
        let mut client = server.connect();
        assert_eq!(ask(&mut client, "GET", "/close").header("Connection"), says, "{kind:?}");
        assert_kept(&mut client);
    }
}

/// gunicorn's threads give up at 64 KiB of a body that the application did not read
/// (_DRAIN_MAX_BYTES in gunicorn/http/parser.py), after they said keep-alive.
#[test]
fn unread_bodies() {
    let body = vec![b'b'; 1 << 20];
    for (kind, limit) in
        [(Gthread, Some(65_536)), (Chunking, Some(65_536)), (Gevent, None), (Asgi, None)]
    {
        let server = Server::start(kind);
        let (mut client, says) = server.connect_and_ask();
        let mut leave_unread = |size: usize| {
            let response = ask_with(&mut client, "POST", "/unread", &body[..size], &[]);
            assert_eq!(response.text(), "unread", "{kind:?}");
            assert_eq!(response.header("Connection"), says.as_deref(), "{kind:?}");
        };
        leave_unread(limit.map_or(body.len(), |limit| limit - 1));
        if let Some(limit) = limit {
            leave_unread(limit);
            assert_closed(&mut client);
        } else {
            assert_kept(&mut client);
        }
    }
}

#[test]
fn idle_connections() {
    let application = root().join("tests/support/framing.py");
    let [gthread, gevent, asgi] = ["gthread", "gevent", "asgi"].map(|class| {
        Server::Gunicorn(Gunicorn::builder(&application).worker_class(class).keepalive(1).start())
    });
    let (mut lasting, _) = asgi.connect_and_ask();
    for server in [gthread, gevent] {
        let (mut client, _) = server.connect_and_ask();
        assert_closed(&mut client);
    }
    // It has no limit in spite of the argument.
    assert_kept(&mut lasting);
}

/// nginx before `server`; the response header X-Connection is what the module says of the
/// connection.
fn site(server: &Server, settings: &str) -> Nginx {
    Nginx::serve(&format!(
        "add_header X-Connection $rs_uwsgi_connection always; {settings}
        location / {{ rs_uwsgi_pass {}; }}",
        server.address()
    ))
}

/// One client connection through nginx.
struct Visitor(Client);

impl Visitor {
    fn new(nginx: &Nginx) -> Visitor {
        Visitor(Client::connect(nginx.address()))
    }

    /// Sends a request; returns the response and whether it came on a `new` or `reused` connection.
    fn request(&mut self, method: &str, target: &str, body: &str) -> (Response, String) {
        let length = match method {
            "POST" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: t\r\n{length}\r\n{body}");
        self.0.send(head.as_bytes());
        let response = self.0.response(method == "HEAD");
        let response = response.unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        let connection = response.header("X-Connection").unwrap_or_default().to_string();
        (response, connection)
    }

    fn get(&mut self, target: &str) -> (Response, String) {
        self.request("GET", target, "")
    }
}

const REQUESTS: usize = 20;

/// GETs one after the other: each gets its own answer, the first on a new connection, the others
/// on one that is `later`.
fn gets(kind: Kind, settings: &str, later: &str) -> (Server, Nginx) {
    let server = Server::start(kind);
    let nginx = site(&server, settings);
    let mut visitor = Visitor::new(&nginx);
    for number in 0..REQUESTS {
        let (response, connection) = visitor.get(&format!("/token?t={number}"));
        assert_eq!((response.status, response.text()), (200, number.to_string()), "{kind:?}");
        let expected = if number == 0 { "new" } else { later };
        assert_eq!(connection, expected, "{kind:?} {settings} request {number}");
    }
    (server, nginx)
}

/// Where connections are reused: what else may come over one, and what ends it. `streams` is what
/// comes after a body without a Content-Length.
fn mixed(server: &Server, nginx: &Nginx, streams: &str) {
    let mut visitor = Visitor::new(nginx);
    for (target, length) in [("/len/0", 0), ("/len/1", 1), ("/len/300000", 300_000)] {
        let (response, connection) = visitor.get(target);
        assert_eq!((response.body.len(), connection.as_str()), (length, "reused"), "{target}");
    }
    for status in [204, 304] {
        let (response, connection) = visitor.get(&format!("/status/{status}"));
        assert_eq!((response.status, connection.as_str()), (status, "reused"));
    }
    // Gunicorn sends no body; a server that did could still be sending it.
    assert_eq!(visitor.request("HEAD", "/token?t=head", "").1, "reused");
    assert_eq!(visitor.get("/token?t=t").1, "new", "after HEAD");

    let (response, connection) = visitor.get("/stream");
    // Whatever marks the server put between the pieces.
    assert_eq!((response.text(), connection.as_str()), (lines(), "reused"));
    assert_eq!(visitor.get("/token?t=t").1, streams, "after a body without a length");

    let ids: Vec<String> = (0..REQUESTS).map(|number| format!("id {number}")).collect();
    for id in &ids {
        let (response, _) = visitor.request("POST", "/count", id);
        assert_eq!((response.status, &response.text()), (200, id));
    }
    assert_eq!(server.counted(), ids);
}

#[test]
fn behind_nginx_gunicorn_gthread() {
    let (server, nginx) = gets(Gthread, "", "reused");
    mixed(&server, &nginx, "new");
    gets(Gthread, "rs_uwsgi_reuse off;", "new");
    gets(Gthread, "rs_uwsgi_keepalive 0;", "new");
}

#[test]
fn behind_nginx_gunicorn_gevent() {
    let (server, nginx) = gets(Gevent, "", "reused");
    mixed(&server, &nginx, "new");
}

#[test]
fn behind_nginx_gunicorn_asgi() {
    gets(Asgi, "", "new");
    let (server, nginx) = gets(Asgi, "rs_uwsgi_reuse on;", "reused");
    mixed(&server, &nginx, "new");
}

#[test]
fn behind_nginx_gunicorn_that_chunks() {
    let (server, nginx) = gets(Chunking, "", "reused");
    mixed(&server, &nginx, "reused");
    let nginx = site(&server, "rs_uwsgi_buffering off;");
    Visitor::new(&nginx).get("/token?t=t");
    let (response, connection) = Visitor::new(&nginx).get("/stream");
    assert_eq!((response.text(), connection.as_str()), (lines(), "reused"));
}

/// Neither what the server says nor what the configuration vouches for is of use: it closes.
#[test]
fn behind_nginx_servers_that_close() {
    for kind in [Sync, Socket] {
        let (server, nginx) = gets(kind, "", "new");
        let (response, _) = Visitor::new(&nginx).get("/stream");
        assert_eq!(response.text(), lines(), "{kind:?}");
        assert_eq!(Visitor::new(&nginx).request("POST", "/count", "id").0.text(), "id");
        assert_eq!(server.counted(), ["id"], "{kind:?}");
    }
    gets(Sync, "rs_uwsgi_reuse on;", "new");
}

#[test]
fn behind_nginx_uwsgi_persistent_socket() {
    let (server, nginx) = gets(Puwsgi, "rs_uwsgi_reuse puwsgi;", "reused");
    // nginx closes the client's connection after this status
    assert_eq!(Visitor::new(&nginx).request("POST", "/count", "id").0.status, 501);
    assert_eq!(server.counted(), Vec::<String>::new());
    let mut visitor = Visitor::new(&nginx);
    let (response, connection) = visitor.get("/token?t=t");
    assert_eq!((response.text().as_str(), connection.as_str()), ("t", "reused"));
    // The server sends a body in answer to HEAD.
    assert_eq!(visitor.request("HEAD", "/token?t=head", "").0.header("Content-Length"), Some("4"));
    let (response, connection) = visitor.get("/token?t=t");
    assert_eq!((response.text().as_str(), connection.as_str()), ("t", "new"));
}

/// The server's workers are replaced, and with them all connections, while requests come. The older
/// gunicorn says keep-alive and closes then: without a second try some of these requests fail.
#[test]
fn server_restarts_under_load() {
    const RELOADS: usize = 4;
    let application = root().join("tests/support/framing.py");
    for version in [Version::Current, Version::Chunking] {
        let gunicorn = Gunicorn::builder(&application).worker_class("gthread").version(version);
        let gunicorn = gunicorn.workers(2).threads(4).start();
        let server = Server::Gunicorn(gunicorn);
        let Server::Gunicorn(gunicorn) = &server else { unreachable!() };
        let nginx = site(&server, "keepalive_requests 1000000;");
        let stop = AtomicBool::new(false);
        let reused = AtomicUsize::new(0);
        let workers = Mutex::new(HashSet::new());
        let visit = || {
            let mut visitor = Visitor::new(&nginx);
            while !stop.load(Ordering::Relaxed) {
                let (response, connection) = visitor.get("/pid");
                assert_eq!(response.status, 200, "{version:?}, {connection}");
                workers.lock().unwrap().insert(response.text());
                reused.fetch_add(usize::from(connection == "reused"), Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(visit);
            }
            // Whatever fails in here, the clients must be stopped.
            let result = catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..RELOADS {
                    let before = reused.load(Ordering::Relaxed);
                    wait_for("requests on reused connections", || {
                        (reused.load(Ordering::Relaxed) > before + 40).then_some(())
                    });
                    gunicorn.reload();
                }
            }));
            stop.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| resume_unwind(panic));
        });
        // Each of the generations, one of the workers at least.
        let workers = workers.into_inner().unwrap();
        assert!(workers.len() > RELOADS, "{workers:?}");
    }
}
