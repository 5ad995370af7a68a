//! What the tests of the cache and the store share: stock and ours with a zone each in one nginx,
//! sequences of requests whose outcome is compared step by step, and the files that nginx keeps
//! (`ngx_http_file_cache_header_t` of nginx's src/http/ngx_http_cache.h).

use crate::intended::{stock_has_host_of_its_own, without_host, without_length_header};
use crate::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::Sender;

pub use crate::pair::SIDES;

/// A zone for each side; translation renames the directory and the zone, too.
pub const ZONE: &str = "uwsgi_cache_path @dir@/uwsgi_cache keys_zone=uwsgi_zone:1m;";

/// What a server with a cache has besides: `X-Cache` tells the client the cache's verdict.
const COMMON: &str = "
    add_header X-Cache $upstream_cache_status always;
    location = /ping { return 204; }
";
const KEY: &str = "uwsgi_cache_key $uri$is_args$args;";

/// A response that is kept and is out of date at once: nobody has to wait for that.
pub const EXPIRED: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: @1\nContent-Length: 3\n\nold";
/// A response that is kept for long.
pub const NEW: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: 600\nContent-Length: 3\n\nnew";

/// What the backend does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Answers; the lines of the head end with a newline here and with CRLF on the wire.
    Says(&'static str),
    /// Closes without an answer.
    Closes,
    /// Reads, and says nothing until nginx gives up.
    Stalls,
    /// Is not asked at all.
    Nothing,
}

/// A request ("GET /path", and header lines after newlines), what the backend does with it, and
/// what the client gets: status, verdict of the cache, body.
pub type Step<'a> = (&'a str, Does, &'a str);

/// A zone for each side, and `server` in both.
pub fn cached(server: &str) -> Pair {
    cached_in(Nginx::builder(), ZONE, server)
}

/// As `cached`, with `http` in stock's names around the two servers.
pub fn cached_in(builder: Builder, http: &str, server: &str) -> Pair {
    let http = &format!("{http} {KEY}");
    let builder = builder.http(http).http(&translated(http));
    Pair::builder(&format!("{STANDARD_PARAMS} {COMMON} {server}")).nginx(builder).start()
}

/// Runs the steps on both sides. Panics unless the client and the error log saw the same, and the
/// backend the same bytes, and stock did what the step says. Returns stock's outcomes.
pub fn run(pair: &Pair, name: &str, steps: &[Step]) -> Vec<Outcome> {
    let outcomes = steps.iter().enumerate().map(|(number, (request, does, expected))| {
        let name = format!("{name}, step {number}, {request}");
        script(pair, *does);
        let (stock, ours) = pair.both(&wire(request));
        assert_responses(&name, &stock.response, &ours.response);
        let logs = [&stock, &ours].map(|outcome| outcome.log.iter().filter(|l| !is_haste(l)));
        let [left, right] = logs.map(Vec::from_iter);
        assert_eq!(left, right, "{name}: the error log differs (left stock, right ours)");
        let intended: Vec<_> =
            stock.received.iter().map(|all| without_length_header(all)).collect();
        let [intended, received] = [intended, ours.received].map(comparable);
        assert_eq!(parsed(&intended), parsed(&received), "{name}: the packets differ");
        assert_eq!(intended, received, "{name}: what the backend got differs");
        let asked = !matches!(does, Does::Nothing);
        assert_eq!(!stock.received.is_empty(), asked, "{name}: was the backend asked?");
        let seen = stock.response.as_ref().map_or_else(Clone::clone, summary);
        assert_eq!(&seen, expected, "{name}");
        stock
    });
    outcomes.collect()
}

/// Without HTTP_HOST, where stock's stands elsewhere and says something else: that is compared by
/// `oracle_requests`.
fn comparable(received: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if stock_has_host_of_its_own() {
        received.iter().map(|bytes| without_host(bytes).0).collect()
    } else {
        received
    }
}

/// The client of a HEAD request has its answer, and may be gone, while nginx still reads a body
/// that it keeps.
fn is_haste(line: &str) -> bool {
    line.contains("client prematurely closed connection") && line.contains("request: \"HEAD ")
}

/// The packets of an outcome, decoded.
pub fn packets(outcome: &Outcome) -> Vec<Packet> {
    parsed(&outcome.received)
}

fn parsed(received: &[Vec<u8>]) -> Vec<Packet> {
    received.iter().filter_map(|bytes| Some(Packet::parse(bytes).ok()?.0)).collect()
}

/// What a [`Step`] expects; a long body, such as nginx's own error pages, is `…`.
pub fn summary(response: &Response) -> String {
    let verdict = response.header("X-Cache").unwrap_or("-");
    let body = if response.body.len() > 40 { "…".to_string() } else { response.text() };
    format!("{} {verdict} {body}", response.status)
}

/// The request of a [`Step`] as it is sent.
pub fn wire(request: &str) -> Vec<u8> {
    let mut lines = request.lines();
    let first = lines.next().unwrap();
    let more: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("{first} HTTP/1.1\r\nHost: t\r\n{more}\r\n").into_bytes()
}

/// A response of a [`Step`] as it is sent.
pub fn answer(text: &str) -> Vec<u8> {
    let (head, body) = text.split_once("\n\n").unwrap();
    format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")).into_bytes()
}

fn script(pair: &Pair, does: Does) {
    pair.backend.set_script(move |peer: &mut Peer| {
        peer.read_request()?;
        act(peer, does)
    });
}

fn act(peer: &mut Peer, does: Does) -> io::Result<()> {
    match does {
        Does::Says(text) => peer.write(&answer(text)),
        Does::Stalls => peer.stall(),
        Does::Closes | Does::Nothing => {
            peer.close();
            Ok(())
        }
    }
}

/// A backend that holds its first answer back until [`Gate::open`], and gives all others at once.
pub struct Gate {
    go: Sender<()>,
    asked: usize,
}

impl Gate {
    /// Puts the gate in front of what comes to the backend from now on.
    pub fn new(pair: &Pair, first: &'static str, later: &'static str) -> Gate {
        let (go, wait) = channel::<()>();
        let (wait, count) = (Mutex::new(wait), AtomicUsize::new(0));
        let asked = pair.backend.requests().len();
        pair.backend.set_script(move |peer| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            peer.read_request()?;
            if number > 0 {
                return peer.write(&answer(later));
            }
            // An error is the test's end: it failed before it opened the gate.
            if wait.lock().unwrap().recv_timeout(DEADLINE).is_err() {
                return Ok(());
            }
            peer.write(&answer(first))
        });
        Gate { go, asked }
    }

    /// How often the backend was asked since the gate was put up.
    pub fn asked(&self, pair: &Pair) -> usize {
        pair.backend.requests().len() - self.asked
    }

    /// Waits until the backend was asked `count` times.
    pub fn wait_asked(&self, pair: &Pair, count: usize) {
        wait_for(&format!("{count} requests at the backend"), || {
            (self.asked(pair) >= count).then_some(())
        });
    }

    /// Lets the first answer go.
    pub fn open(&self) {
        self.go.send(()).unwrap();
    }
}

/// Sends `GET path` on a connection of its own, without waiting for the answer, but until nginx
/// has dealt with it as far as it can: its one worker sees to connections in order of arrival.
pub fn begin(to: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(to);
    client.send(&wire("GET /ping"));
    assert_eq!(client.response(false).unwrap().status, 204);
    client.send(&wire(&format!("GET {path}")));
    assert_eq!(get(to, "/ping").status, 204);
    client
}

/// The answer to what [`begin`] began.
pub fn end(client: &mut Client) -> String {
    summary(&client.response(false).unwrap())
}

/// A file of the cache, decoded, without the moment at which it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheFile {
    /// How long the response is valid.
    pub valid: Valid,
    /// Seconds for which it may be served stale while it is updated, and after an error.
    pub stale: [i64; 2],
    /// Last-Modified in seconds since 1970; −1 for none.
    pub last_modified: i64,
    /// The key's checksum, and where the response's head and body begin.
    pub places: (u32, u16, u16),
    /// The ETag and the Vary header.
    pub etag: String,
    pub vary: String,
    /// The hash of the headers that Vary names.
    pub variant: Vec<u8>,
    /// The line with the key, then the response as the backend sent it.
    pub rest: String,
}

/// When a cached response expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// Seconds from when it came.
    For(i64),
    /// Seconds since 1970, where that is years away.
    At(i64),
}

impl CacheFile {
    /// The only file of one side's cache.
    pub fn only(pair: &Pair, side: Side, name: &str) -> CacheFile {
        let found = files(pair, side, name);
        assert_eq!(found.len(), 1, "{:?}", found.keys());
        let path = pair.nginx.path(&side_name(side, name)).join(found.keys().next().unwrap());
        CacheFile::parse(&fs::read(path).unwrap())
    }

    /// The key, where it has no unusual characters.
    pub fn key(&self) -> &str {
        self.rest.split("\\n").nth(1).unwrap().trim_start_matches("KEY: ")
    }

    fn parse(bytes: &[u8]) -> CacheFile {
        const SIZE: usize = 336;
        let long = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let short = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        let text = |at: usize| {
            let size = usize::from(bytes[at]);
            String::from_utf8_lossy(&bytes[at + 1..at + 1 + size]).into_owned()
        };
        assert_eq!(long(0), 5, "the version of the cache's files");
        let (valid, date) = (long(8), long(40));
        let years = (valid - date).abs() > 100_000_000;
        CacheFile {
            valid: if years { Valid::At(valid) } else { Valid::For(valid - date) },
            stale: [long(16), long(24)],
            last_modified: long(32),
            places: (u32::from_ne_bytes(bytes[48..52].try_into().unwrap()), short(54), short(56)),
            etag: text(58),
            vary: text(187),
            variant: bytes[316..332].to_vec(),
            rest: crate::support::show(&bytes[SIZE..]),
        }
    }
}

/// One side's files below a directory: `name` is stock's.
pub fn files(pair: &Pair, side: Side, name: &str) -> BTreeMap<String, fs::Metadata> {
    let dir = pair.nginx.path(&side_name(side, name));
    let mut found = BTreeMap::new();
    walk(&dir, &dir, &mut found);
    found
}

/// A name in stock's configuration as this side has it.
pub fn side_name(side: Side, name: &str) -> String {
    match side {
        Side::Stock => name.to_string(),
        Side::Ours => translated(name),
    }
}

/// A file may go away while we look.
fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, fs::Metadata>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(root, &entry.path(), found);
        } else {
            let path = entry.path().strip_prefix(root).unwrap().display().to_string();
            found.insert(path, metadata);
        }
    }
}

/// The cached files of both sides below the directory `name`, which must be the same. Returns
/// them by path.
pub fn same_cache(pair: &Pair, name: &str) -> BTreeMap<String, CacheFile> {
    let [stock, ours] = SIDES.map(|side| {
        let root = pair.nginx.path(&side_name(side, name));
        let parsed = files(pair, side, name).into_keys().map(|path| {
            let file = CacheFile::parse(&fs::read(root.join(&path)).unwrap());
            (path, file)
        });
        parsed.collect::<BTreeMap<_, _>>()
    });
    assert_eq!(stock, ours, "the files of the cache differ (left stock, right ours)");
    stock
}

/// The stored files of both sides below `name`, which must be the same: path, permissions, and
/// content.
pub fn same_files(pair: &Pair, name: &str) -> Vec<(String, u32, String)> {
    let [stock, ours] = SIDES.map(|side| {
        let root = pair.nginx.path(&side_name(side, name));
        let read = files(pair, side, name).into_iter().map(|(path, metadata)| {
            let content = fs::read(root.join(&path)).unwrap();
            let content = String::from_utf8_lossy(&content).into_owned();
            (path, metadata.mode() & 0o777, content)
        });
        read.collect::<Vec<_>>()
    });
    assert_eq!(stock, ours, "the stored files differ (left stock, right ours)");
    stock
}
