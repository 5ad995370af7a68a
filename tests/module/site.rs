//! A backend that always answers "ok" behind an nginx of its own, for tests of what the backend is
//! sent.

use crate::support::backend::{Backend, Peer};
use crate::support::client::exchange;
use crate::support::nginx::{self, Nginx};
use crate::support::packet::Packet;
use std::io;
use tempfile::TempDir;

/// The script of a backend that answers "ok".
pub fn answer(peer: &mut Peer) -> io::Result<()> {
    peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

/// Both.
pub struct Site {
    pub nginx: Nginx,
    pub backend: Backend,
    _dir: TempDir,
}

impl Site {
    /// An nginx whose http block is `http`, in which `@pass@` is the backend's address.
    pub fn new(http: &str) -> Site {
        let dir = nginx::prefix();
        let backend = Backend::unix(&dir.path().join("b"), answer);
        let nginx = Nginx::start(&http.replace("@pass@", &backend.address().to_string()));
        Site { nginx, backend, _dir: dir }
    }

    /// One server on 127.0.0.1.
    pub fn server(server: &str) -> Site {
        Site::new(&format!("server {{ listen 127.0.0.1:@port@; {server} }}"))
    }

    /// The packet that a raw request makes.
    pub fn packet(&self, request: &str) -> Packet {
        let before = self.backend.requests().len();
        let response = exchange(self.nginx.address(), request.as_bytes());
        assert_eq!(response.status, 200, "{request}");
        self.backend.wait_request(before).packet
    }

    /// The packet that a GET makes.
    pub fn get(&self, path: &str) -> Packet {
        self.packet(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }
}
