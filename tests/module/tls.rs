//! `suwsgi://` and `rs_uwsgi_ssl_…`: stock and ours before a scripted backend that speaks TLS. What
//! the client gets, the error log and what the server learns in the handshake must be the same.

mod certificate_cache;
mod client_certificate;
mod contexts;
mod handshake;
mod messages;
mod real_server;
mod transport;
mod verify;

use crate::prelude::*;
use rustls::ServerConfig;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What makes the server's certificate count.
const VERIFY: &str = "uwsgi_ssl_verify on; uwsgi_ssl_name app.test;
    uwsgi_ssl_trusted_certificate @dir@/tls/ca.pem;";

/// Authorities and certificates, made once for all tests.
struct Pki {
    ca: Authority,
    stranger: Authority,
    /// Signed by `ca`.
    app: Identity,
    other_name: Identity,
    expired: Identity,
    revoked: Identity,
    /// With one authority between it and `ca`, and with two.
    deep: Identity,
    deeper: Identity,
    /// Signed by `stranger`.
    strange: Identity,
    /// For nginx to show; its key is in `locked.key` as well, encrypted.
    alice: Identity,
    bob: Identity,
    locked_key: Vec<u8>,
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let (ca, stranger) = (Authority::root("ca"), Authority::root("stranger"));
        let low = ca.intermediate("low");
        let alice = ca.issue("alice.test");
        Pki {
            app: ca.issue("app.test"),
            other_name: ca.issue("other.test"),
            expired: ca.issue_expired("app.test"),
            revoked: ca.issue("app.test"),
            deep: low.issue("app.test"),
            deeper: low.intermediate("lower").issue("app.test"),
            strange: stranger.issue("app.test"),
            locked_key: encrypted(&alice.key_pem()),
            alice,
            bob: ca.issue("bob.test"),
            ca,
            stranger,
        }
    })
}

/// The key under the password "second".
fn encrypted(key: &str) -> Vec<u8> {
    let mut openssl = Command::new("/usr/bin/openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:second"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the package openssl is needed");
    openssl.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// An nginx with the files of the tests below `tls/`.
fn builder() -> Builder {
    let pki = pki();
    let files = [
        ("ca.pem", pki.ca.pem()),
        ("stranger.pem", pki.stranger.pem()),
        ("crl.pem", pki.ca.revoke(&[&pki.revoked])),
        ("alice.pem", pki.alice.pem.clone()),
        ("alice.key", pki.alice.key_pem()),
        ("bob.pem", pki.bob.pem.clone()),
        ("bob.key", pki.bob.key_pem()),
        ("locked.pem", pki.alice.pem.clone()),
        ("locked.key", String::from_utf8(pki.locked_key.clone()).unwrap()),
        ("passwords", "first\nsecond\n".to_string()),
        ("wrong-passwords", "first\nthird\n".to_string()),
        ("garbage", "no certificate\n".to_string()),
    ];
    files.iter().fold(Nginx::builder(), |builder, (name, content)| {
        builder.file(&format!("tls/{name}"), content.as_bytes())
    })
}

/// Has the nginx under test the directive? Stock says it.
fn stock_has(line: &str) -> bool {
    Nginx::builder().without_module().http(line).check().status.success()
}

/// Stock and ours with a TLS server behind them.
struct TlsPair {
    pair: Pair,
    seen: Arc<Mutex<Vec<Handshake>>>,
}

/// What became of one request; the same on both sides.
struct Visit {
    status: u16,
    log: String,
    /// The handshakes that succeeded, as the server saw them.
    handshakes: Vec<Handshake>,
}

impl TlsPair {
    fn new(server: &str) -> TlsPair {
        TlsPair::with_http("", server)
    }

    fn with_http(http: &str, server: &str) -> TlsPair {
        let server = format!("{STANDARD_PARAMS} {server}");
        let builder = builder().expects("alert certificate required");
        let pair = Pair::builder(&server).nginx(builder).http(http).tcp(true).start();
        TlsPair { pair, seen: Arc::default() }
    }

    /// A location `/N` over TLS for each of `settings`.
    fn locations<'a>(server: &str, settings: impl IntoIterator<Item = &'a str>) -> TlsPair {
        let locations = settings.into_iter().enumerate().map(|(index, settings)| {
            format!("location /{index} {{ {settings} uwsgi_pass suwsgi://@pass@; }}\n")
        });
        TlsPair::new(&(server.to_string() + &locations.collect::<String>()))
    }

    /// GET through both sides, before a server that is `server`.
    fn visit(&self, path: &str, server: &Arc<ServerConfig>) -> Visit {
        let server = server.clone();
        self.visit_with(path, move |peer, accept| {
            accept(peer, &server)?;
            peer.answer(OK)
        })
    }

    /// GET through both sides; `script` shakes hands with the function that it is given.
    fn visit_with(
        &self,
        path: &str,
        script: impl Fn(&mut Peer, &Accept) -> io::Result<()> + Send + Sync + 'static,
    ) -> Visit {
        let seen = self.seen.clone();
        let accept = move |peer: &mut Peer, server: &Arc<ServerConfig>| {
            let handshake = peer.start_tls(server)?;
            seen.lock().unwrap().push(handshake);
            Ok(())
        };
        let outcome =
            self.pair.assert_same(path, &request(path), move |peer| script(peer, &accept));

        let mut handshakes = std::mem::take(&mut *self.seen.lock().unwrap());
        let ours = handshakes.split_off(handshakes.len() / 2);
        assert_eq!(handshakes, ours, "{path}: what the server saw (left stock, right ours)");
        let status = outcome.response.as_ref().unwrap().status;
        Visit { status, log: outcome.log.join("\n"), handshakes }
    }

    /// GET through both sides, which fail with 500 before they say anything to the server. It may
    /// see the connection only after the client has its answer.
    fn fails(&self, path: &str, reason: &str) {
        self.pair.backend.set_script(Peer::read_to_end);
        let connections = self.pair.backend.connection_count();
        let (stock, ours) = self.pair.both(&request(path));
        assert_responses(path, &stock.response, &ours.response);
        assert_eq!(stock.log, ours.log, "{path}: the error log differs (left stock, right ours)");
        self.pair.backend.take_ended(connections, 2);
        assert_eq!(stock.response.unwrap().status, 500, "{path}");
        assert!(stock.log.iter().any(|line| line.contains(reason)), "{path}: {:?}", stock.log);
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes()
}

/// One request to one side: its status, and the handshake, if there was one.
fn single(
    backend: &Backend,
    to: SocketAddr,
    path: &str,
    server: &Arc<ServerConfig>,
) -> (u16, Option<Handshake>) {
    let server = server.clone();
    let (sender, seen) = channel();
    let connections = backend.connection_count();
    backend.set_script(move |peer| {
        sender.send(peer.start_tls(&server)?).unwrap();
        peer.answer(OK)
    });
    let status = get(to, path).status;
    backend.take_ended(connections, 0);
    (status, seen.try_recv().ok())
}

type Accept = dyn Fn(&mut Peer, &Arc<ServerConfig>) -> io::Result<()>;

impl Visit {
    /// The handshake of a request that was served.
    fn served(mut self) -> Handshake {
        assert_eq!(self.status, 200, "{}", self.log);
        assert_eq!(self.handshakes.len(), 1);
        self.handshakes.remove(0)
    }

    /// Panics unless the request failed, for this reason.
    fn refused(self, reason: &str) {
        assert_eq!(self.status, 502, "{}", self.log);
        assert!(self.log.contains(reason), "{reason:?} is not in {:?}", self.log);
    }
}
