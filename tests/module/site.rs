//! One nginx before one scripted backend: what a test builds that does not compare with stock. With
//! [`Builder::visits`] also what became of each connection ([`visits`]).

mod visits;

pub use visits::{Answers, Visit, GET, KEPT, PARKED};

use crate::pair::{translated, STANDARD_PARAMS};
use crate::support::backend::{Address, Backend, Peer, Script};
use crate::support::client::exchange;
use crate::support::nginx::{self, Nginx};
use crate::support::packet::Packet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use visits::Seen;

/// An answer of two bytes on a connection that the server says nothing about.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Both.
pub struct Site {
    /// The nginx.
    pub nginx: Nginx,
    /// The backend.
    pub backend: Backend,
    /// How the backend answers where it has no script.
    pub answers: Answers,
    /// What was read of the logs.
    seen: Mutex<Seen>,
    _dir: TempDir,
}

/// What a site is made of. In all texts `@pass@` is the backend's address, and `@pass_port@` its port
/// (TCP).
pub struct Builder {
    nginx: nginx::Builder,
    http: String,
    script: Option<Script>,
    tcp: bool,
    visits: bool,
}

impl Site {
    /// Begins a site: a backend on a unix socket that keeps every connection ([`Answers`]).
    pub fn builder() -> Builder {
        let (nginx, http) = (Nginx::builder(), String::new());
        Builder { nginx, http, script: None, tcp: false, visits: false }
    }

    /// For visits: everything goes to the backend; `extra` stands beside the location.
    pub fn new(extra: &str) -> Site {
        Site::serve(&format!("{extra} location / {{ rs_uwsgi_pass @pass@; }}"))
    }

    /// For visits: `server` is the content of our server.
    pub fn serve(server: &str) -> Site {
        Site::builder().visits().server(server).start()
    }

    /// Before a backend that answers [`OK`] and closes; `http` is the content of the http block.
    pub fn answering(http: &str) -> Site {
        Site::builder().script(|peer| peer.answer(OK)).http(http).start()
    }

    /// The address of the server on `@port@`.
    pub fn address(&self) -> SocketAddr {
        self.nginx.address()
    }

    /// The packet that a raw request makes.
    pub fn packet(&self, request: &str) -> Packet {
        let before = self.backend.requests().len();
        let response = exchange(self.address(), request.as_bytes());
        assert_eq!(response.status, 200, "{request}");
        self.backend.wait_request(before).packet
    }

    /// The packet that a GET makes.
    pub fn get(&self, path: &str) -> Packet {
        self.packet(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }
}

impl Builder {
    /// An nginx that is prepared.
    pub fn nginx(mut self, nginx: nginx::Builder) -> Builder {
        self.nginx = nginx;
        self
    }

    /// More of the http block.
    pub fn http(mut self, http: &str) -> Builder {
        self.http += &format!("{http}\n");
        self
    }

    /// A server on `@port@` with this content. For visits it gets the standard params.
    pub fn server(self, server: &str) -> Builder {
        let more = match self.visits {
            true => translated(STANDARD_PARAMS),
            false => String::new(),
        };
        self.http(&format!("server {{ listen 127.0.0.1:@port@; {more} {server} }}"))
    }

    /// What the backend does with each connection.
    pub fn script(
        mut self,
        script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Builder {
        self.script = Some(Arc::new(script));
        self
    }

    /// The backend listens on TCP.
    pub fn tcp(mut self, tcp: bool) -> Builder {
        self.tcp = tcp;
        self
    }

    /// For [`Site::visit`], before `server`: notes the verdict on each connection, and stock passes to
    /// the same backend on 127.0.0.2.
    pub fn visits(mut self) -> Builder {
        self.visits = true;
        self.http(visits::LOG)
    }

    /// Starts both.
    pub fn start(self) -> Site {
        let dir = nginx::prefix();
        let answers = Answers::new();
        let script = self.script.unwrap_or_else(|| answers.script());
        let backend = match self.tcp {
            true => Backend::tcp(move |peer| script(peer)),
            false => Backend::unix(&dir.path().join("b"), move |peer| script(peer)),
        };
        let (mut nginx, mut http) = (self.nginx, self.http);
        if self.visits {
            nginx = nginx.log_level("debug_http");
            http += &visits::stock();
        }
        if let Address::Tcp(address) = backend.address() {
            http = http.replace("@pass_port@", &address.port().to_string());
        }
        let http = http.replace("@pass@", &backend.address().to_string());
        let nginx = nginx.http(&http).start();
        Site { nginx, backend, answers, seen: Mutex::default(), _dir: dir }
    }
}
