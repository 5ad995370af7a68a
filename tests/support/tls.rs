//! TLS on the side of the scripted backend: rustls, which is another library than nginx's OpenSSL,
//! and certificates (RFC 5280) made for each run.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use socket2::Socket;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Who signs certificates: a root, or one that another authority has signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What a server sends after its own certificate: this one and those above it, the root apart.
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    serial: SerialNumber,
    key: KeyPair,
    /// The certificate alone, in PEM.
    pub pem: String,
}

/// What a server learns in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name asked for (SNI, RFC 6066).
    pub server_name: Option<String>,
    /// Did an earlier session go on?
    pub resumed: bool,
    /// The version, as rustls writes it ("TLSv1_3").
    pub protocol: String,
    /// The cipher suite, as rustls writes it ("TLS13_AES_256_GCM_SHA384").
    pub cipher: String,
    /// The certificate that the client showed, DER.
    pub client: Option<Vec<u8>>,
}

/// A connection, encrypted or not.
pub enum Stream {
    /// As the bytes come.
    Plain(Socket),
    /// After a handshake.
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Authority {
    /// A root.
    pub fn root(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority_params(name), key).unwrap();
        Authority { issuer, chain: Vec::new() }
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap();
        let chain = [std::slice::from_ref(issuer.der()), self.chain.as_slice()].concat();
        Authority { issuer, chain }
    }

    /// A certificate for the host `name`.
    pub fn issue(&self, name: &str) -> Identity {
        self.sign(name, |_| ())
    }

    /// One that was valid only in the past.
    pub fn issue_expired(&self, name: &str) -> Identity {
        self.sign(name, |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let serial = next_serial();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial.clone());
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            chain: self.chain.clone(),
            serial,
            key,
        }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A revocation list with these certificates of this authority on it, PEM.
    pub fn revoke(&self, identities: &[&Identity]) -> String {
        let revoked_certs = identities
            .iter()
            .map(|identity| RevokedCertParams {
                serial_number: identity.serial.clone(),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(4000, 1, 1),
            crl_number: next_serial(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Identity {
    /// The key, in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate, as [`Handshake::client`] has it.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// A server with this certificate; each of its handshakes is a full one.
    pub fn server(&self) -> Arc<ServerConfig> {
        let mut config = self.config(WebPkiClientVerifier::no_client_auth());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }

    /// A server that remembers sessions and lets clients resume them.
    pub fn resuming_server(&self) -> Arc<ServerConfig> {
        Arc::new(self.config(WebPkiClientVerifier::no_client_auth()))
    }

    /// A server that insists on a client certificate of `authority`.
    pub fn demanding_server(&self, authority: &Authority) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let mut config = self.config(verifier.build().unwrap());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }

    fn config(&self, verifier: Arc<dyn ClientCertVerifier>) -> ServerConfig {
        let chain = [std::slice::from_ref(&self.certificate), self.chain.as_slice()].concat();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(next_serial());
    params
}

fn next_serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

impl Stream {
    /// Shakes hands as a server. Where that fails, the client gets the alert that says why.
    pub fn accept(
        mut socket: Socket,
        config: &Arc<ServerConfig>,
    ) -> io::Result<(Stream, Handshake)> {
        let mut session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            let done = session.complete_io(&mut socket);
            if done.as_ref().map_or(true, |moved| *moved == (0, 0)) {
                // Unread bytes at the close would reset the connection, and the alert be lost.
                socket.shutdown(Shutdown::Write)?;
                io::copy(&mut socket, &mut io::sink())?;
                done?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let certificates = session.peer_certificates().unwrap_or_default();
        let handshake = Handshake {
            server_name: session.server_name().map(str::to_string),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            protocol: format!("{:?}", session.protocol_version().unwrap()),
            cipher: format!("{:?}", session.negotiated_cipher_suite().unwrap().suite()),
            client: certificates.first().map(|certificate| certificate.to_vec()),
        };
        Ok((Stream::Tls(Box::new(StreamOwned::new(session, socket))), handshake))
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// Ends our direction only: close_notify (RFC 8446, 6.1) where it is encrypted, and FIN.
    pub fn half_close(&mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
