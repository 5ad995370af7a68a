//! Stock `uwsgi_pass` and ours side by side in one nginx: the same configuration text, the same
//! params, the same port number on 127.0.0.1 (stock) and 127.0.0.2 (ours), the same scripted
//! backend, and clients that come from the same address and port. What differs is the module.

use crate::support::backend::{Backend, Peer};
use crate::support::client::{Client, Response};
use crate::support::log::Line;
use crate::support::nginx::{self, Nginx};
use crate::support::{show, tally};
use std::io;
use std::net::SocketAddr;
use tempfile::TempDir;

/// The standard set of params, as stock's `uwsgi_params` has it.
pub const STANDARD_PARAMS: &str = "
    uwsgi_param QUERY_STRING $query_string;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param CONTENT_TYPE $content_type;
    uwsgi_param CONTENT_LENGTH $content_length;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param DOCUMENT_ROOT $document_root;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param REQUEST_SCHEME $scheme;
    uwsgi_param HTTPS $https if_not_empty;
    uwsgi_param REMOTE_ADDR $remote_addr;
    uwsgi_param REMOTE_PORT $remote_port;
    uwsgi_param SERVER_PORT $server_port;
    uwsgi_param SERVER_NAME $server_name;
";

/// The header line by which a client asks for the end of the connection.
const CLOSE: &[u8] = b"\r\nConnection: close\r\n";

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `uwsgi_pass`.
    Stock,
    /// `rs_uwsgi_pass`.
    Ours,
}

/// Both, stock first.
pub const SIDES: [Side; 2] = [Side::Stock, Side::Ours];

/// Both servers and the backend behind them.
pub struct Pair {
    /// The nginx that holds both.
    pub nginx: Nginx,
    /// The backend behind both.
    pub backend: Backend,
    is_http1: bool,
    _dir: TempDir,
}

/// What a pair is made of. In all texts `@pass@` is the backend's address.
pub struct Builder {
    nginx: nginx::Builder,
    http: String,
    server: String,
    tcp: bool,
    listen: &'static str,
}

/// Everything that one exchange leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// What the client got, or why it got nothing.
    pub response: Result<Response, String>,
    /// The bytes of each connection that the backend saw.
    pub received: Vec<Vec<u8>>,
    /// The lines that the exchange left in the error log, names and addresses made equal.
    pub log: Vec<String>,
}

impl Pair {
    /// `server` is the content of both servers, in stock's names: ours gets the text with `uwsgi_` made
    /// `rs_uwsgi_`.
    pub fn builder(server: &str) -> Builder {
        let (nginx, http, server) = (Nginx::builder(), String::new(), server.to_string());
        Builder { nginx, http, server, tcp: false, listen: "" }
    }

    /// The address of one side.
    pub fn address(&self, side: Side) -> SocketAddr {
        let host = if side == Side::Stock { 1 } else { 2 };
        self.nginx.address_of(0, [127, 0, 0, host])
    }

    /// Sends `request` to one side from `local` (port 0: any) and collects what it leaves.
    pub fn exchange(&self, side: Side, local: SocketAddr, request: &[u8]) -> (SocketAddr, Outcome) {
        assert!(self.is_http1);
        let mut used = local;
        let outcome = self.observe(|| {
            let mut client =
                Client::connect_from(local, self.address(side)).map_err(|e| e.to_string())?;
            used = client.local_addr();
            client.send(request);
            let response = client.response(request.starts_with(b"HEAD "));
            let mut response = response.map_err(|e| e.to_string())?;
            if request.windows(CLOSE.len()).any(|window| window == CLOSE) {
                // What comes beyond the response belongs to what is compared.
                response.body.extend(client.read_to_end());
            }
            Ok(response)
        });
        (used, outcome)
    }

    /// The same request through stock and ours, from the same local address and port.
    pub fn both(&self, request: &[u8]) -> (Outcome, Outcome) {
        let (local, stock) = self.exchange(Side::Stock, any_port(), request);
        let (_, ours) = self.exchange(Side::Ours, local, request);
        (stock, ours)
    }

    /// Runs one exchange with the client that `run` is, and collects what it leaves behind at the
    /// backend and in the logs. Exchanges of one pair must not overlap.
    pub fn observe(&self, run: impl FnOnce() -> Result<Response, String>) -> Outcome {
        let requests = self.nginx.access_log().len();
        let connections = self.backend.connection_count();
        let lines = self.nginx.error_log().len();
        let response = run();
        self.nginx.wait_requests(requests + 1);
        let log = self
            .nginx
            .error_log()
            .into_iter()
            .skip(lines)
            .filter(belongs)
            .map(|l| neutral(&l))
            .collect();
        let received = self.backend.take_ended(connections, 0);
        Outcome { response, received, log }
    }

    /// Sends `request` to both sides, with the backend doing `script`, and panics unless the
    /// client and the error log saw the same. Returns stock's outcome.
    pub fn assert_same(
        &self,
        name: &str,
        request: &[u8],
        script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Outcome {
        self.backend.set_script(script);
        let (stock, ours) = self.both(request);
        assert_responses(name, &stock.response, &ours.response);
        assert_eq!(stock.log, ours.log, "{name}: the error log differs (left stock, right ours)");
        let count = |outcome: &Outcome| outcome.received.len();
        assert_eq!(count(&stock), count(&ours), "{name}: connections to the backend");
        stock
    }
}

impl Builder {
    /// An nginx that is prepared.
    pub fn nginx(mut self, nginx: nginx::Builder) -> Builder {
        self.nginx = nginx;
        self
    }

    /// What stands around the servers: like them once as it is, for stock, and once for ours. (An upstream
    /// block has to be named `uwsgi_…`, to be one for each.)
    pub fn http(mut self, http: &str) -> Builder {
        self.http = http.to_string();
        self
    }

    /// The backend listens on TCP.
    pub fn tcp(mut self, tcp: bool) -> Builder {
        self.tcp = tcp;
        self
    }

    /// Parameters of `listen`, such as `http2` (for nginx 1.22 it is one).
    pub fn listen(mut self, listen: &'static str) -> Builder {
        self.listen = listen;
        self
    }

    /// Starts nginx and the backend, which does nothing until it has a script.
    pub fn start(self) -> Pair {
        let dir = nginx::prefix();
        let nothing = |_: &mut Peer| Ok(());
        let backend = match self.tcp {
            true => Backend::tcp(nothing),
            false => Backend::unix(&dir.path().join("b"), nothing),
        };
        let [http, server] = [self.http, self.server]
            .map(|text| text.replace("@pass@", &backend.address().to_string()));
        let (ours, listen) = (translated(&server), self.listen);
        let nginx = self
            .nginx
            .http(&http)
            .http(&translated(&http))
            .http(&format!("server {{ listen 127.0.0.1:@port@ {listen}; {server} }}"))
            .http(&format!("server {{ listen 127.0.0.2:@port@ {listen}; {ours} }}"))
            .start();
        Pair { nginx, backend, is_http1: listen != "http2", _dir: dir }
    }
}

/// Panics unless both clients got the same, the Date apart.
pub fn assert_responses(
    name: &str,
    stock: &Result<Response, String>,
    ours: &Result<Response, String>,
) {
    tally::compared();
    match (stock, ours) {
        (Ok(stock), Ok(ours)) => {
            assert_eq!(stock.undated(), ours.undated(), "{name}: the head differs");
            assert_eq!(stock.end, ours.end, "{name}: the end of the body differs");
            if stock.body != ours.body {
                let (a, b) = (show(&stock.body), show(&ours.body));
                panic!("{name}: the body differs\nstock: {a}\nours:  {b}");
            }
        }
        (stock, ours) => assert_eq!(stock.is_ok(), ours.is_ok(), "{name}: {stock:?} {ours:?}"),
    }
}

/// Stock's configuration as ours: `\buwsgi_` becomes `rs_uwsgi_`, as the design promises.
pub fn translated(stock: &str) -> String {
    let mut ours = String::new();
    let mut before = ' ';
    let mut rest = stock;
    while let Some(at) = rest.find("uwsgi_") {
        before = rest[..at].chars().next_back().unwrap_or(before);
        ours.push_str(&rest[..at]);
        if !(before.is_alphanumeric() || before == '_') {
            ours.push_str("rs_");
        }
        ours.push_str("uwsgi_");
        before = '_';
        rest = &rest[at + "uwsgi_".len()..];
    }
    ours + rest
}

/// Both servers hold `server` and the standard params.
pub fn pair(server: &str) -> Pair {
    Pair::builder(&format!("{STANDARD_PARAMS}\n{server}")).start()
}

/// As `pair`, with all paths passed on.
pub fn everything(extra: &str) -> Pair {
    pair(&format!("{extra}\nlocation / {{ uwsgi_pass @pass@; }}"))
}

/// Any local port: the kernel chooses.
pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Lines about the client's idle connection come when the client closes it, which is not part of
/// the exchange; whether a response goes through a file depends on how fast the client reads; advice is
/// ours alone (tests/module/hints.rs).
fn belongs(line: &Line) -> bool {
    let elsewhere = [
        "closed keepalive connection",
        "while waiting for request",
        "while processing HTTP/2 connection",
        "an upstream response is buffered to a temporary file",
        "has understood no request yet",
    ];
    // what a QUIC connection says of its packets depends on when they come
    line.connection.is_some()
        && !line.text.starts_with("quic ")
        && !elsewhere.iter().any(|text| line.text.contains(text))
}

/// A line without what must differ between the two sides: address, directive names, and the number
/// in the name of a temporary file.
fn neutral(line: &Line) -> String {
    let text = line.text.replace("127.0.0.2", "127.0.0.1").replace("rs_uwsgi", "uwsgi");
    let text = match text.split_once("/temp/") {
        Some((before, after)) => {
            let name: String =
                after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let rest =
                after[name.len()..].trim_start_matches(|c: char| c == '/' || c.is_ascii_digit());
            format!("{before}/temp/{name}/N{rest}")
        }
        None => text,
    };
    format!("[{}] {}", line.level, untimed(text))
}

/// Whether the end of a response is met together with its head, its body or after both depends on
/// when nginx looks, and so does what it says it was doing.
fn untimed(text: String) -> String {
    let timed =
        ["upstream prematurely closed connection", "upstream sent more data than specified"];
    if !timed.iter().any(|start| text.starts_with(start)) {
        return text;
    }
    [" while reading response header from upstream", " while sending to client"]
        .iter()
        .fold(text, |text, action| text.replace(action, " while reading upstream"))
}
