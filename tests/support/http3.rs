//! HTTP/3 as aioquic speaks it, in a Python process of its own (http3.py has the words of the exchange):
//! scripts/install-aioquic gets it from PyPI.

use super::process::{self, Process};
use super::{nginx, root, wait_for, DEADLINE};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

/// A client that sends one request at a time.
pub struct Client {
    orders: BufReader<UnixStream>,
    _process: Process,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The fields of the head, `:status` first, and of trailers.
    pub fields: Vec<(String, String)>,
    /// All DATA.
    pub body: Vec<u8>,
    /// Why there is no whole response.
    pub error: Option<String>,
}

/// How a client goes before the response has ended.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// It gives up the request, and keeps the connection.
    Reset,
    /// It ends the connection.
    Close,
}

impl Client {
    /// Starts it; the first time it is installed.
    pub fn start() -> Client {
        let install = root().join("scripts/install-aioquic");
        let said = Command::new(install).arg(root().join("target/aioquic")).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let python = String::from_utf8(said.stdout).unwrap();

        let dir = nginx::prefix();
        let path = dir.path().join("orders");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut command = process::command(python.trim());
        command.arg(root().join("tests/support/http3.py")).arg(path);
        let process = Process::spawn(command).unwrap();
        let (stream, _) = wait_for("the HTTP/3 client", || listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        // it has a deadline of its own, and says so
        stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
        Client { orders: BufReader::new(stream), _process: process }
    }

    /// One request from the port `local` of 127.0.0.1: `fields` in order, pseudo-header fields first, and
    /// `body` where there is one.
    pub fn exchange(
        &mut self,
        local: u16,
        to: SocketAddr,
        fields: &[(&[u8], &[u8])],
        body: Option<&[u8]>,
    ) -> Answer {
        self.begin(local, to, fields, body, "whole");
        self.answer()
    }

    /// Begins a request whose body has a beginning only; [`Client::leave`] ends it.
    pub fn begin_upload(
        &mut self,
        local: u16,
        to: SocketAddr,
        fields: &[(&[u8], &[u8])],
        part: &[u8],
    ) {
        self.begin(local, to, fields, Some(part), "part");
    }

    /// Begins a request without a body.
    pub fn begin_get(&mut self, local: u16, to: SocketAddr, fields: &[(&[u8], &[u8])]) {
        self.begin(local, to, fields, None, "whole");
    }

    /// The client goes on until it has the head of the response.
    pub fn wait_head(&mut self) {
        self.say("head");
    }

    /// Goes; `when_gone` is called before the connection is ended, too.
    pub fn leave(&mut self, how: Leave, when_gone: impl FnOnce()) -> Answer {
        if let Leave::Reset = how {
            self.say("reset");
            when_gone();
        }
        self.say("close");
        self.answer()
    }

    fn begin(
        &mut self,
        local: u16,
        to: SocketAddr,
        fields: &[(&[u8], &[u8])],
        body: Option<&[u8]>,
        end: &str,
    ) {
        let body = body.map_or("-".to_string(), |body| format!("={}", hex(body)));
        let mut order = format!("{} {} {local} {body} {end}", to.ip(), to.port());
        for (name, value) in fields {
            let _ = write!(order, " {}:{}", hex(name), hex(value));
        }
        self.say(&order);
    }

    fn say(&mut self, line: &str) {
        self.orders.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.orders.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let error = words.next().expect("the HTTP/3 client has ended");
        let body = words.next().unwrap().strip_prefix('=').unwrap();
        let field = |word: &str| {
            let (name, value) = word.split_once(':').unwrap();
            (text(&unhex(name)), text(&unhex(value)))
        };
        Answer {
            fields: words.map(field).collect(),
            body: unhex(body),
            error: (error != "-").then(|| text(&unhex(error))),
        }
    }
}

impl Answer {
    /// `:status`, or 0.
    pub fn status(&self) -> u16 {
        self.field(":status").and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The first field with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(digits).collect()
}
