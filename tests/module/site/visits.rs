//! Visits: requests one by one, each with the connection that it came on and the verdict on it
//! (`$rs_uwsgi_verdict`, in a log of its own).

use super::Site;
use crate::pair::STANDARD_PARAMS;
use crate::support::backend::{Peer, Request, Script};
use crate::support::client::{exchange, Response};
use crate::support::log::{self, Line};
use crate::support::wait_for;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// A response that leaves its connection fit for another request.
pub const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";

/// `GET /` on a connection of its own.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// The verdict on a connection that goes into the pool.
pub const PARKED: &str = "kept";

/// The log of verdicts, with a line for each request, which nginx writes after the access log's.
pub(super) const LOG: &str = "log_format verdicts escape=none $rs_uwsgi_verdict;
    access_log @dir@/verdicts.log verdicts;";

/// Stock before the same backend, on 127.0.0.2.
pub(super) fn stock() -> String {
    format!(
        "server {{ listen 127.0.0.2:@port@; {STANDARD_PARAMS} location / {{ uwsgi_pass @pass@; }} }}"
    )
}

/// How far the error log was read, and the lines kept of it.
#[derive(Default)]
pub(super) struct Seen {
    read: u64,
    lines: Vec<Line>,
}

/// What a backend does with a request that it has read.
pub type Answer = dyn Fn(&mut Peer, &Request) -> io::Result<()> + Send + Sync;

/// A backend that reads one request after the other on each connection, and answers in the way
/// that is in force when the request comes, however old the connection is.
#[derive(Clone)]
pub struct Answers(Arc<Mutex<Arc<Answer>>>);

impl Answers {
    /// Begins with [`KEPT`].
    pub fn new() -> Answers {
        Answers(Arc::new(Mutex::new(Arc::new(|peer, _| peer.write(KEPT)))))
    }

    /// Changes the way for all requests from now on.
    pub fn set(
        &self,
        answer: impl Fn(&mut Peer, &Request) -> io::Result<()> + Send + Sync + 'static,
    ) {
        *self.0.lock().unwrap() = Arc::new(answer);
    }

    /// Answers with these bytes from now on.
    pub fn set_bytes(&self, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.set(move |peer, _| peer.write(&bytes));
    }

    /// Serves until nginx closes, or an answer does.
    pub fn serve(&self, peer: &mut Peer) -> io::Result<()> {
        loop {
            let request = peer.read_request()?;
            let answer = self.0.lock().unwrap().clone();
            answer(peer, &request)?;
        }
    }

    /// For a [`Backend`].
    pub fn script(&self) -> Script {
        let answers = self.clone();
        Arc::new(move |peer| answers.serve(peer))
    }
}

/// What one request leaves behind.
#[derive(Debug)]
pub struct Visit {
    /// What the client got.
    pub response: Response,
    /// The number of the backend's connection that it came on.
    pub connection: usize,
    /// [`PARKED`], or why the connection was closed.
    pub verdict: String,
    /// Lines of the error log, level and message, of level `warn` and above.
    pub log: Vec<String>,
}

impl Site {
    /// Sends a request that reaches the backend once, and waits until everything about it is over.
    pub fn visit(&self, request: &[u8]) -> Visit {
        self.visit_with(|address| exchange(address, request))
    }

    /// As `visit`, for a client of its own kind.
    pub fn visit_with(&self, client: impl FnOnce(SocketAddr) -> Response) -> Visit {
        let verdicts = self.verdicts().len();
        let requests = self.backend.requests().len();
        let ended = self.nginx.access_log().len();
        let logged = self.log().len();
        let response = client(self.address());
        let connection = self.backend.wait_request(requests).connection;
        let verdict = self.wait_verdict(verdicts);
        self.nginx.wait_requests(ended + 1);
        let log = self.log().split_off(logged);
        assert_eq!(self.backend.requests().len(), requests + 1, "requests at the backend");
        assert_eq!(self.verdicts().len(), verdicts + 1, "verdicts: {:?}", self.verdicts());
        Visit { response, connection, verdict, log }
    }

    /// GET, answered with [`KEPT`]: the number of its connection.
    pub fn next_connection(&self) -> usize {
        self.answers.set_bytes(KEPT);
        let visit = self.visit(GET);
        assert_eq!(visit.response.text(), "ok", "{visit:?}");
        visit.connection
    }

    /// Every verdict so far: there is one for each request that had a connection, when it has ended.
    pub fn verdicts(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.nginx.path("verdicts.log")).unwrap_or_default();
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete.lines().filter(|verdict| !verdict.is_empty()).map(str::to_string).collect()
    }

    /// Waits for a verdict, counted from 0.
    pub fn wait_verdict(&self, index: usize) -> String {
        wait_for(&format!("verdict {index}"), || self.verdicts().get(index).cloned())
    }

    /// The error log from `warn` on: level and message without its context.
    pub fn log(&self) -> Vec<String> {
        self.lines(|line| {
            let text = line.text.split(", client:").next().unwrap_or_default();
            let text = text.split(" while ").next().unwrap_or_default();
            let file = text.contains("buffered to a temporary file");
            (is_telling(line) && !file).then(|| format!("[{}] {text}", line.level))
        })
    }

    /// Waits for a line about an idle connection that nginx has closed.
    pub fn wait_idle_closed(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} idle connections to be closed"), || {
            let closed = self.idle_closed();
            (closed.len() >= count).then_some(closed)
        })
    }

    /// Why idle connections were closed.
    pub fn idle_closed(&self) -> Vec<String> {
        self.lines(|line| {
            let text = line.text.strip_prefix("http rs_uwsgi close idle connection, ")?;
            Some(text.split_once(": ")?.1.to_string())
        })
    }

    /// What `pick` makes of our own lines of the error log, and of those above `notice`.
    fn lines<T>(&self, pick: impl Fn(&Line) -> Option<T>) -> Vec<T> {
        let mut seen = self.seen.lock().unwrap();
        let Seen { read, lines } = &mut *seen;
        let mut file = File::open(self.nginx.path("error.log")).unwrap();
        file.seek(SeekFrom::Start(*read)).unwrap();
        let mut new = Vec::new();
        file.read_to_end(&mut new).unwrap();
        new.truncate(new.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1));
        *read += new.len() as u64;
        let new = log::parse(&log::text(&new)).into_iter();
        lines.extend(new.filter(|line| is_telling(line) || line.text.contains("http rs_uwsgi ")));
        lines.iter().filter_map(pick).collect()
    }
}

fn is_telling(line: &Line) -> bool {
    !["debug", "info", "notice", "raw"].contains(&line.level.as_str())
}
