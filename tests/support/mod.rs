//! What every test binary of this project shares: a private nginx, a scripted uwsgi backend, a real
//! uWSGI, and clients that send exact bytes. Everything started here is stopped when its value is
//! dropped, listens on loopback addresses or unix sockets only, and waits with a deadline.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod backend;
pub mod client;
pub mod curl;
pub mod daemon;
pub mod dns;
pub mod full_listener;
pub mod gunicorn;
pub mod h2;
pub mod http3;
pub mod kernel;
pub mod log;
pub mod nginx;
pub mod packet;
pub mod places;
pub mod process;
pub mod programs;
pub mod random;
pub mod report;
pub mod tally;
pub mod tls;
pub mod uwsgi;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long any single event (a start, a packet, a response) may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Polls `probe` until it yields a value.
///
/// Panics, naming `what`, when `DEADLINE` passes first.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < until, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads again where a signal has come between: a read with a timeout is not restarted by the kernel
/// (signal(7)), such as when a debugger or a profiler looks.
pub fn uninterrupted<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Bytes as a readable, lossless ASCII string for failure messages, cut at 4,000 bytes.
pub fn show(bytes: &[u8]) -> String {
    let shown: String =
        bytes.iter().take(4000).flat_map(|b| b.escape_ascii()).map(char::from).collect();
    match bytes.len() {
        0..=4000 => shown,
        len => format!("{shown}… ({len} bytes)"),
    }
}
