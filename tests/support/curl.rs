//! HTTP/2 as a common client speaks it: Debian's curl with prior knowledge of a plain connection.

use super::process::{self, Process};
use super::DEADLINE;
use std::net::SocketAddr;
use std::process::Stdio;

/// What curl printed.
pub struct Answer {
    /// The status line and header lines in order.
    pub head: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Requests `path` over HTTP/2; `arguments` are curl's own.
pub fn http2(to: SocketAddr, path: &str, arguments: &[&str]) -> Answer {
    let directory = tempfile::tempdir().unwrap();
    let (head, body) = (directory.path().join("head"), directory.path().join("body"));
    let mut command = process::command("/usr/bin/curl");
    command.args(["--silent", "--show-error", "--http2-prior-knowledge", "--globoff"]);
    command.args(["--path-as-is", "--noproxy", "*", "--interface", "127.0.0.1"]);
    command.arg("--dump-header").arg(&head).arg("--output").arg(&body);
    command.args(arguments).arg(format!("http://{to}{path}")).stdin(Stdio::null());
    let mut process = Process::spawn(command).unwrap();
    let status = process.wait(DEADLINE).expect("curl hangs");
    assert!(status.success(), "curl {path}: {status}");
    let head = String::from_utf8_lossy(&std::fs::read(head).unwrap()).into_owned();
    Answer {
        head: head.lines().map(str::to_string).filter(|line| !line.is_empty()).collect(),
        body: std::fs::read(body).unwrap_or_default(),
    }
}
