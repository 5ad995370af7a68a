//! Many clients at once through a backend that keeps its connections and misbehaves at random, from
//! a printed seed: everyone gets the answer to its own request or an error, and what arrives complete
//! is right. What a request gets is told by its token, which no two requests share.

use super::races::{Connection, Keeper};
use crate::prelude::*;
use crate::support::backend::Request;
use std::collections::HashMap;
use std::net::Shutdown;
use std::thread::sleep;

const SEED: u64 = 0x6465_7379_6e63;
const CLIENTS: usize = 8;
/// Of all clients together; a slow machine stops earlier.
const REQUESTS: usize = 4000;
const LIMIT: Duration = Duration::from_secs(5);

/// What no response begins with: nginx answers 502, should it read this as one. A whole response
/// that comes late can cross the next request on the wire, and nobody can then tell them apart; the
/// test for those is [`what_comes_late_answers_nobody`].
const GARBAGE: &[u8] = b"\x01surplus\r\n\r\n";

/// How the answer differs from a good one, in order of decency. The client names it in the path.
const KINDS: &[&str] = &[
    "plain",
    "plain",
    "plain",
    "plain",
    "chunked",
    "chunked",
    "interim",
    "pieces",
    "response",
    "response-chunked",
    "empty",
    "surplus",
    "second",
    "previous",
    "late",
    "small",
    "chunked-surplus",
    "chunked-second",
    "both",
    "twice",
    "differ",
    "bodiless",
    "half-close",
    "close",
    "reset",
    "cut",
    "large",
    "chunked-cut",
    "head-cut",
    "silent",
    "silent-reset",
    "stall",
];

/// A request by its path, `/location/kind/number/size`; the number is the token.
struct Plan<'a> {
    kind: &'a str,
    token: &'a str,
    size: usize,
}

impl Plan<'_> {
    fn of(path: &str) -> Plan<'_> {
        let mut parts = path.rsplitn(4, '/');
        let size = parts.next().unwrap().parse().unwrap();
        let token = parts.next().unwrap();
        Plan { kind: parts.next().unwrap(), token, size }
    }

    /// The body of the answer. Nothing in it could be taken for a header, or all of it for a response.
    fn body(&self) -> Vec<u8> {
        if self.kind.starts_with("response") {
            return intruder(self.token.parse().unwrap());
        }
        let unit = format!("\x01{}", self.token);
        unit.bytes().cycle().take(self.size).collect()
    }

    /// The head of the answer.
    fn head(&self, status: &str, more: &str) -> Vec<u8> {
        head(status, self.token, more)
    }

    /// With a Content-Length.
    fn sized(&self) -> Vec<u8> {
        let body = self.body();
        let length = format!("Content-Length: {}\r\n", body.len());
        [self.head("200 OK", &length), body].concat()
    }

    /// In chunks, without the last one.
    fn chunks(&self) -> Vec<u8> {
        let chunk =
            |data: &[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
        self.body().chunks(700).flat_map(chunk).collect()
    }

    fn chunked(&self, more: &str) -> Vec<u8> {
        let head = self.head("200 OK", &format!("Transfer-Encoding: chunked\r\n{more}"));
        [&head[..], &self.chunks(), b"0\r\n\r\n"].concat()
    }
}

fn head(status: &str, token: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: keep-alive\r\nX-Token: {token}\r\n{more}\r\n").into()
}

/// An answer to nobody.
fn intruder(number: usize) -> Vec<u8> {
    [&head("200 OK", &format!("intruder-{number}"), "Content-Length: 4\r\n"), &b"none"[..]].concat()
}

/// Answers request after request on one connection. `Ok` ends it.
fn misbehave(peer: &mut Peer) -> io::Result<()> {
    let mut previous = Vec::new();
    loop {
        let request = peer.read_request()?;
        let path = request.packet.get("PATH_INFO").unwrap();
        let plan = Plan::of(&path);
        let mut random = Random::new(SEED ^ plan.token.parse::<u64>().unwrap());
        let whole = plan.body();
        let half = whole[..whole.len() / 2].to_vec();
        let intruder = intruder(peer.number);
        let length = |size: usize| format!("Content-Length: {size}\r\n");
        match plan.kind {
            "chunked" => peer.write(&plan.chunked(""))?,
            "interim" => {
                peer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n")?;
                peer.write(&[b"X-Token: hint\r\n\r\n", &plan.sized()[..]].concat())?;
            }
            "pieces" => {
                let whole = if random.once_in(2) { plan.sized() } else { plan.chunked("") };
                peer.write_pieces(&whole, whole.len() / 3 + 1, pause(&mut random))?;
            }
            // Who leaves before the body comes leaves a response behind.
            "response" | "response-chunked" => {
                let chunked = plan.kind == "response-chunked";
                let whole = if chunked { plan.chunked("") } else { plan.sized() };
                let body = plan.body();
                let at = whole.windows(body.len()).position(|part| part == body).unwrap();
                peer.write(&whole[..at])?;
                sleep(pause(&mut random));
                peer.write(&whole[at..])?;
            }
            "empty" => peer.write(&plan.head("204 No Content", ""))?,
            "surplus" => peer.write(&[&plan.sized(), GARBAGE].concat())?,
            "second" => peer.write(&[plan.sized(), intruder].concat())?,
            "previous" => peer.write(&[plan.sized(), previous].concat())?,
            "late" => {
                peer.write(&plan.sized())?;
                sleep(pause(&mut random));
                peer.write(GARBAGE)?;
            }
            // The rest of the body is surplus.
            "small" => {
                peer.write(&[plan.head("200 OK", &length(half.len())), plan.body()].concat())?;
            }
            "chunked-surplus" => peer.write(&[&plan.chunked(""), GARBAGE].concat())?,
            "chunked-second" => peer.write(&[plan.chunked(""), intruder].concat())?,
            "both" => peer.write(&plan.chunked("Content-Length: 5\r\n"))?,
            "twice" | "differ" => {
                let other = plan.size + usize::from(plan.kind == "differ");
                let lengths = format!("{}{}", length(plan.size), length(other));
                peer.write(&[plan.head("200 OK", &lengths), plan.body()].concat())?;
                if plan.kind == "differ" {
                    return Ok(());
                }
            }
            "bodiless" => {
                let status = ["204 No Content", "304 Not Modified"][random.below(2)];
                peer.write(&[plan.head(status, &length(intruder.len())), intruder].concat())?;
            }
            "half-close" => {
                peer.write(&plan.sized())?;
                return Ok(());
            }
            "close" | "reset" => {
                peer.write(&plan.sized())?;
                sleep(pause(&mut random));
                return end(peer, plan.kind);
            }
            "cut" => {
                peer.write(&[plan.head("200 OK", &length(plan.size)), half].concat())?;
                return end(peer, "close");
            }
            "chunked-cut" => {
                let head = plan.head("200 OK", "Transfer-Encoding: chunked\r\n");
                peer.write(&[head, plan.chunks()].concat())?;
                return end(peer, "close");
            }
            "head-cut" => {
                let whole = plan.head("200 OK", &length(plan.size));
                peer.write(&whole[..random.below(whole.len())])?;
                return end(peer, "close");
            }
            "large" => {
                let head = plan.head("200 OK", &length(plan.size + 10));
                peer.write(&[head, plan.body()].concat())?;
                sleep(pause(&mut random));
                return Ok(());
            }
            "silent" | "silent-reset" => return end(peer, plan.kind),
            "stall" => return peer.stall(),
            _ => peer.write(&plan.sized())?,
        }
        previous = plan.sized();
    }
}

fn pause(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(3000) as u64)
}

fn end(peer: &mut Peer, kind: &str) -> io::Result<()> {
    if kind.ends_with("reset") {
        return peer.reset();
    }
    peer.close();
    Ok(())
}

/// What the clients saw.
#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    right: AtomicUsize,
    reused: AtomicUsize,
    posts_reused: AtomicUsize,
    errors: AtomicUsize,
    cut: AtomicUsize,
}

fn add(count: &AtomicUsize) -> usize {
    count.fetch_add(1, Ordering::Relaxed)
}

/// Judges one response; false where its connection is of no more use.
fn judge(counts: &Counts, method: &str, path: &str, response: io::Result<Response>) -> bool {
    let plan = Plan::of(path);
    let Ok(response) = response else {
        add(&counts.cut);
        return false;
    };
    let shown = || format!("{method} {path}: {}", response.undated());
    let Some(token) = response.header("X-Token") else {
        assert!(response.status >= 500, "no token: {}", shown());
        add(&counts.errors);
        return true;
    };
    assert_eq!(token, plan.token, "the answer to another request: {}", shown());
    let mut body = plan.body();
    if plan.kind == "small" {
        body.truncate(plan.size / 2);
    }
    match response.end {
        End::NoBody => {}
        End::Length | End::Chunked => {
            let cut = ["cut", "large", "chunked-cut"].contains(&plan.kind);
            assert!(!cut || (plan.kind == "cut" && plan.size == 0), "complete: {}", shown());
            assert!(response.body == body, "not its body: {}", shown());
        }
        End::Cut | End::Close => {
            // Where two lengths were given, which of them nginx takes is its own affair.
            assert!(body.starts_with(&response.body), "not its body: {}", shown());
            add(&counts.cut);
            return false;
        }
    }
    add(&counts.right);
    if response.header("X-Connection") == Some("reused") {
        add(&counts.reused);
        if method == "POST" {
            add(&counts.posts_reused);
        }
    }
    true
}

/// Requests until there have been enough.
fn visit(number: usize, counts: &Counts, to: SocketAddr, until: Instant) {
    let mut random = Random::new(SEED + number as u64);
    let mut client = Client::connect(to);
    while Instant::now() < until {
        let token = add(&counts.begun);
        if token >= REQUESTS {
            return;
        }
        // Decent ones more often, so that there is something to spoil.
        let kind = KINDS[random.below(KINDS.len()).min(random.below(KINDS.len()))];
        let size = match random.below(10) {
            0 => 0,
            // What ends where one of nginx's buffers does; surplus with it comes in one piece still.
            1 => 3800 + random.below(400),
            2 if ["plain", "chunked", "cut", "large"].contains(&kind) => random.below(60_000),
            _ => random.below(1500),
        };
        // nginx would have to wait for it; some of those are enough.
        let kind = if kind == "stall" && !random.once_in(10) { "plain" } else { kind };
        let location = random.pick(&["/buffered", "/unbuffered"]);
        let path = format!("{location}/{kind}/{token}/{size}");
        let method =
            random.pick(&["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "HEAD", "FOO"]);
        let body =
            if matches!(method, "POST" | "PUT" | "FOO") { sent(&path) } else { String::new() };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        client
            .send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{length}\r\n{body}").as_bytes());
        if !judge(counts, method, &path, client.response(method == "HEAD")) {
            client = Client::connect(to);
        }
    }
}

/// The body of a request, by its path.
fn sent(path: &str) -> String {
    path.repeat(path.len() % 7 + 1)
}

/// Every connection carried whole requests and nothing else, each with the body that belongs to it.
/// Returns how often each request came.
fn received(backend: &Backend) -> HashMap<String, (String, usize)> {
    for connection in backend.connections() {
        let mut rest = &connection.received[..];
        while !rest.is_empty() {
            let (packet, after) = Packet::parse(rest).unwrap_or_else(|e| panic!("a packet: {e}"));
            let length = packet.get("CONTENT_LENGTH").unwrap_or_default().parse().unwrap_or(0);
            assert!(after.len() >= length, "{} of {length} bytes of {packet:?}", after.len());
            rest = &after[length..];
        }
    }
    let mut seen = HashMap::new();
    for Request { packet, body, .. } in backend.requests() {
        let [method, path] = ["REQUEST_METHOD", "PATH_INFO"].map(|name| packet.get(name).unwrap());
        if matches!(&method[..], "POST" | "PUT" | "FOO") {
            assert_eq!(String::from_utf8_lossy(&body), sent(&path));
        }
        seen.entry(path).or_insert((method, 0)).1 += 1;
    }
    seen
}

fn site(address: &Address) -> Nginx {
    Nginx::serve(&format!(
        "add_header X-Connection $rs_uwsgi_connection always;
        rs_uwsgi_param REQUEST_METHOD $request_method; rs_uwsgi_param PATH_INFO $uri;
        rs_uwsgi_param CONTENT_LENGTH $content_length; rs_uwsgi_read_timeout 300ms;
        location / {{ rs_uwsgi_pass {address}; }}
        location /unbuffered {{
            rs_uwsgi_buffering off; rs_uwsgi_request_buffering off; rs_uwsgi_pass {address};
        }}"
    ))
}

fn everyone_gets_its_own(backend: &Backend) {
    let nginx = site(backend.address());
    println!("seed {SEED:#x}");
    let (counts, until) = (Counts::default(), Instant::now() + LIMIT);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (counts, to) = (&counts, nginx.address());
            scope.spawn(move || visit(number, counts, to, until));
        }
    });
    let seen = received(backend);
    let doubled = |idempotent: bool| {
        let of_kind = seen
            .values()
            .filter(|(method, _)| matches!(&method[..], "GET" | "HEAD" | "PUT") == idempotent);
        of_kind.filter(|(_, count)| *count > 1).count()
    };
    eprintln!(
        "desync over {}: {} requests, {} right, {} errors, {} cut short, {} reused ({} of them POST), \
         {} connections, sent twice: {} idempotent, {} others",
        backend.address(),
        seen.len(),
        counts.right.load(Ordering::Relaxed),
        counts.errors.load(Ordering::Relaxed),
        counts.cut.load(Ordering::Relaxed),
        counts.reused.load(Ordering::Relaxed),
        counts.posts_reused.load(Ordering::Relaxed),
        backend.connection_count(),
        doubled(true),
        doubled(false),
    );
    assert_eq!(doubled(false), 0, "requests sent twice");
    // Once on a connection that had been used, once on a new one.
    assert!(seen.values().all(|(_, count)| *count <= 2), "sent more than twice");
    assert!(counts.right.into_inner() > 200, "hardly any request was answered");
    let (reused, posts) = (counts.reused.into_inner(), counts.posts_reused.into_inner());
    assert!(reused > 100 && posts > 10, "hardly any connection was used again");
    nginx.quit();
}

#[test]
fn everyone_gets_its_own_over_unix() {
    let dir = nginx::prefix();
    everyone_gets_its_own(&Backend::unix(&dir.path().join("b"), misbehave));
}

#[test]
fn everyone_gets_its_own_over_tcp() {
    everyone_gets_its_own(&Backend::tcp(misbehave));
}

/// What the backend does between two requests, while the client waits.
#[derive(Clone, Copy, Debug)]
enum Late {
    Nothing,
    Response,
    Byte,
    HalfClose,
    Close,
}

/// Whole responses, single bytes and ends that come between two requests, some of them at once,
/// some when nginx has long parked the connection: nobody asked for them, so nobody gets them, and
/// no request fails, POSTs included.
fn nobody_gets(tcp: bool) {
    use Late::*;
    const ROUNDS: u64 = 300;
    let (done, wait) = channel();
    let (done, connections) = (Mutex::new(done), Arc::new(AtomicUsize::new(0)));
    let number = connections.clone();
    let serve = move |connection: &Connection| {
        add(&number);
        loop {
            let (packet, _) = connection.read_request(DEADLINE)?;
            let path = packet.get("PATH_INFO").unwrap();
            let plan = Plan::of(&path);
            let token = plan.token.parse().unwrap();
            connection.write(&plan.sized())?;
            sleep(pause(&mut Random::new(token)));
            match late(token) {
                Nothing => {}
                Response => connection.write(&intruder(connection.number))?,
                Byte => connection.write(b"H")?,
                HalfClose => connection.socket.shutdown(Shutdown::Write)?,
                Close => connection.socket.shutdown(Shutdown::Both)?,
            }
            done.lock().unwrap().send(()).unwrap();
        }
    };
    let keeper = Keeper::start(tcp, Box::new(serve));
    let nginx = site(&keeper.address);
    let mut client = Client::connect(nginx.address());
    let mut spoilt = 0;
    for token in 0..ROUNDS {
        let method = ["GET", "POST"][(token / 6 % 2) as usize];
        let location = ["buffered", "unbuffered"][(token / 12 % 2) as usize];
        let path = format!("/{location}/late/{token}/7");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok");
        client.send(head.as_bytes());
        let response = client.response(false).unwrap();
        let expected = Plan::of(&path).body();
        assert_eq!((response.status, &response.body), (200, &expected), "{method} {path}");
        assert_eq!(response.header("X-Token"), Some(&*token.to_string()));
        let spoils = token > 0 && !matches!(late(token - 1), Nothing);
        let connection = if token == 0 || spoils { "new" } else { "reused" };
        assert_eq!(response.header("X-Connection"), Some(connection), "{method} {path}");
        spoilt += usize::from(spoils);
        wait.recv().unwrap();
    }
    let connections = connections.load(Ordering::Relaxed);
    eprintln!(
        "late over {}: {ROUNDS} requests, {spoilt} after something unasked, {connections} connections",
        keeper.address
    );
    assert_eq!(connections, spoilt + 1);
}

fn late(token: u64) -> Late {
    use Late::*;
    [Nothing, Response, Byte, HalfClose, Close][Random::new(token).below(5)]
}

#[test]
fn what_comes_late_answers_nobody() {
    nobody_gets(false);
    nobody_gets(true);
}
