//! The backend of `make bench` that does nothing but answer: what is left is nginx's own cost.
//!
//!     null_backend ADDRESS ...    unix:/path or host:port, any number
//!
//! Speaks uwsgi and HTTP/1.1 on every address, told apart by a request's first byte: modifier1 0 or a
//! letter. Requests have no body. Answers with seven headers and 1 KiB and keeps the connection, as
//! gunicorn's gthread worker does. Runs until it is killed.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::thread;

/// Threads of one address that wait in accept(). A connection has a thread to itself, which needs
/// neither an event loop nor a dependency; few waiting ones stay warm, and a connection for each
/// request then costs no more than in an event loop.
const WAITING: usize = 3;
const BODY: usize = 1024;
const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Server: null\r\n\
    Date: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    X-Frame-Options: DENY\r\n\
    Vary: Cookie\r\n\r\n";

fn main() -> ExitCode {
    for address in std::env::args().skip(1) {
        if let Err(error) = listen(&address) {
            eprintln!("null_backend: {address}: {error}");
            return ExitCode::FAILURE;
        }
    }
    loop {
        thread::park();
    }
}

fn listen(address: &str) -> io::Result<()> {
    if let Some(path) = address.strip_prefix("unix:") {
        let listener = UnixListener::bind(path)?;
        start(move || listener.accept().map(|(stream, _)| stream))
    } else {
        let listener = TcpListener::bind(address)?;
        start(move || listener.accept().map(|(stream, _)| stream))
    }
}

fn start<S: Read + Write + 'static>(
    accept: impl Fn() -> io::Result<S> + Send + Sync + 'static,
) -> io::Result<()> {
    let response = [HEAD.as_bytes(), &[b'x'; BODY]].concat();
    let address = Arc::new(Address { accept, response, waiting: AtomicUsize::new(0) });
    (0..WAITING).try_for_each(|_| address.spawn())
}

/// What the threads of one address share.
struct Address<A> {
    accept: A,
    response: Vec<u8>,
    waiting: AtomicUsize,
}

impl<S: Read + Write + 'static, A: Fn() -> io::Result<S> + Send + Sync + 'static> Address<A> {
    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let address = Arc::clone(self);
        self.waiting.fetch_add(1, Relaxed);
        thread::Builder::new().spawn(move || address.run()).map(drop)
    }

    /// Serves one connection after the other; ends when enough other threads wait for the next.
    fn run(self: &Arc<Self>) {
        loop {
            let accepted = (self.accept)();
            if self.waiting.fetch_sub(1, Relaxed) == 1 {
                // Nobody is left to accept while this connection is open.
                self.spawn().unwrap_or_else(|error| fail("thread", &error));
            }
            match accepted {
                // A client that goes away early is the end of its connection and nothing else.
                Ok(stream) => drop(serve(stream, &self.response)),
                Err(error) => fail("accept", &error),
            }
            if self.waiting.fetch_add(1, Relaxed) >= WAITING {
                self.waiting.fetch_sub(1, Relaxed);
                return;
            }
        }
    }
}

fn fail(what: &str, error: &io::Error) -> ! {
    eprintln!("null_backend: {what}: {error}");
    std::process::exit(1)
}

/// Answers every request of one connection, until the client closes it.
fn serve(mut stream: impl Read + Write, response: &[u8]) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        pending.extend(chunk.iter().take(read));
        while let Some(length) = request_length(&pending) {
            stream.write_all(response)?;
            pending.drain(..length);
        }
    }
}

/// The length of the request that `bytes` begin with; None while it is not complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let length = match bytes {
        [] => None,
        [0, low, high, ..] => Some(4 + usize::from(u16::from_le_bytes([*low, *high]))),
        [0, ..] => None,
        _ => bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4),
    };
    length.filter(|length| *length <= bytes.len())
}
