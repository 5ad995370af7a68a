//! The backend of `make bench` that does nothing but answer: what is left is nginx's own cost.
//!
//!     null_backend ADDRESS ...    unix:/path or host:port, any number
//!
//! Speaks uwsgi and HTTP/1.1 on every address, told apart by a request's first byte: modifier1 0 or a
//! letter. Reads a request's body, if it has one. Answers with seven headers and 1 KiB, or what an
//! argument `body=BYTES` before the address says, and keeps the connection, as gunicorn's gthread
//! worker does; after an argument `close` it closes it. Runs until it is killed.

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

fn main() -> ExitCode {
    let (mut body, mut keeps) = (1024, true);
    for argument in std::env::args().skip(1) {
        let done = if argument == "close" {
            keeps = false;
            Ok(())
        } else if let Some(bytes) = argument.strip_prefix("body=") {
            bytes.parse().map(|bytes| body = bytes).map_err(io::Error::other)
        } else {
            listen(&argument, Answer::new(body, keeps))
        };
        if let Err(error) = done {
            eprintln!("null_backend: {argument}: {error}");
            return ExitCode::FAILURE;
        }
    }
    loop {
        thread::park();
    }
}

/// What every request to an address gets.
struct Answer {
    response: Vec<u8>,
    keeps: bool,
}

impl Answer {
    fn new(body: usize, keeps: bool) -> Self {
        let connection = if keeps { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 200 OK\r\n\
            Server: null\r\n\
            Date: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
            Content-Type: text/html; charset=utf-8\r\n\
            Content-Length: {body}\r\n\
            Connection: {connection}\r\n\
            X-Frame-Options: DENY\r\n\
            Vary: Cookie\r\n\r\n"
        );
        let mut response = head.into_bytes();
        response.resize(response.len() + body, b'x');
        Self { response, keeps }
    }
}

fn listen(address: &str, answer: Answer) -> io::Result<()> {
    if let Some(path) = address.strip_prefix("unix:") {
        let listener = UnixListener::bind(path)?;
        start(answer, move || listener.accept().map(|(stream, _)| stream))
    } else {
        let listener = TcpListener::bind(address)?;
        start(answer, move || listener.accept().map(|(stream, _)| stream))
    }
}

fn start<S: Read + Write + 'static>(
    answer: Answer,
    accept: impl Fn() -> io::Result<S> + Send + Sync + 'static,
) -> io::Result<()> {
    let address = Arc::new(Address { accept, answer, waiting: AtomicUsize::new(0) });
    (0..WAITING).try_for_each(|_| address.spawn())
}

/// What the threads of one address share.
struct Address<A> {
    accept: A,
    answer: Answer,
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
                Ok(stream) => drop(serve(stream, &self.answer)),
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
fn serve(mut stream: impl Read + Write, answer: &Answer) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        pending.extend(chunk.iter().take(read));
        while let Some(length) = request_length(&pending) {
            stream.write_all(&answer.response)?;
            if !answer.keeps {
                return Ok(());
            }
            pending.drain(..length);
        }
    }
}

/// The length of the request that `bytes` begin with, with its body; None while it is not complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let length = match bytes {
        [] | [0] | [0, _] | [0, _, _] => return None,
        [0, low, high, _, rest @ ..] => {
            let size = usize::from(u16::from_le_bytes([*low, *high]));
            4 + size + number(vars_length(rest.get(..size)?))
        }
        [method, ..] => {
            let head = 4 + bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
            // What makes the load posts bodies, and nothing else.
            let body = if *method == b'P' { header_length(bytes.get(..head)?) } else { b"" };
            head + number(body)
        }
    };
    (length <= bytes.len()).then_some(length)
}

/// CONTENT_LENGTH among a uwsgi packet's vars; nothing where there is none.
fn vars_length(mut vars: &[u8]) -> &[u8] {
    while let Some((name, rest)) = word(vars) {
        let Some((value, rest)) = word(rest) else { break };
        if name == b"CONTENT_LENGTH" {
            return value;
        }
        vars = rest;
    }
    b""
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*size)))
}

/// Content-Length in the head of an HTTP request; nothing where there is none.
fn header_length(head: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"Content-Length: ";
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(NAME)).unwrap_or(b"").trim_ascii()
}

/// Nothing is 0.
fn number(digits: &[u8]) -> usize {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
