//! Connections that are reused.

mod balancers;
mod chunks;
mod configuration;
mod desync;
mod framing;
mod idle;
mod leaving;
mod newer;
mod races;
mod restarts;
mod retry;
mod rules;
mod servers;
mod sharing;
mod tls;
mod violations;

use crate::prelude::*;
use crate::support::backend::{Request, Script};
use crate::support::log;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// A response that leaves its connection fit for another request.
pub const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";

/// `GET /` on a connection of its own.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// The verdict on a connection that goes into the pool.
pub const PARKED: &str = "parked";

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

/// An nginx with ours on 127.0.0.1 and stock on 127.0.0.2, and a backend that would keep every
/// connection: whatever closes one is nginx.
pub struct Site {
    /// The nginx.
    pub nginx: Nginx,
    /// The backend.
    pub backend: Backend,
    /// How it answers.
    pub answers: Answers,
    /// How far the error log was read, and the lines kept of it.
    seen: Mutex<(u64, Vec<Line>)>,
    _dir: TempDir,
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
    /// Both sides pass everything to the backend; `extra` is added to the location, in ours' names.
    pub fn new(extra: &str) -> Site {
        Site::serve(&format!("{extra} location / {{ rs_uwsgi_pass @pass@; }}"))
    }

    /// `server` is the content of our server, in which `@pass@` is the backend's address.
    pub fn serve(server: &str) -> Site {
        Site::build(Nginx::builder(), "", server, false)
    }

    /// As `serve`, with a builder that is prepared, with `http` around the server, on TCP or unix.
    pub fn build(builder: Builder, http: &str, server: &str, tcp: bool) -> Site {
        let dir = nginx::prefix();
        let answers = Answers::new();
        let script = answers.script();
        let backend = match tcp {
            true => Backend::tcp(move |peer| script(peer)),
            false => Backend::unix(&dir.path().join("b"), move |peer| script(peer)),
        };
        let fill = |text: &str| text.replace("@pass@", &backend.address().to_string());
        let (ours, stock) = (translated(STANDARD_PARAMS), STANDARD_PARAMS);
        let nginx = builder
            .log_level("debug_http")
            .http(&fill(http))
            .http(&format!("server {{ listen 127.0.0.1:@port@; {ours} {} }}", fill(server)))
            .http(&format!(
                "server {{ listen 127.0.0.2:@port@; {stock}
                    location / {{ uwsgi_pass {}; }} }}",
                backend.address()
            ))
            .start();
        Site { nginx, backend, answers, seen: Mutex::default(), _dir: dir }
    }

    /// Our server.
    pub fn address(&self) -> SocketAddr {
        self.nginx.address()
    }

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

    /// Every verdict so far: there is one for each connection that a request was done with.
    pub fn verdicts(&self) -> Vec<String> {
        self.lines(|line| {
            let text = line.text.strip_prefix("http rs_uwsgi ")?;
            if text.starts_with("park connection") {
                return Some(PARKED.to_string());
            }
            Some(text.strip_prefix("close connection, ")?.split_once(": ")?.1.to_string())
        })
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
        let (read, lines) = &mut *seen;
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
