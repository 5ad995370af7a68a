//! A real uWSGI (Debian's uwsgi-core with its python3 plugin) that runs one WSGI file.

use super::backend::Address;
use super::process::Process;
use super::{nginx, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running uWSGI; stopped on drop.
pub struct Uwsgi {
    address: Address,
    dir: TempDir,
    process: Process,
}

impl Uwsgi {
    /// Serves the WSGI file `application` on a unix socket of its own.
    pub fn unix(application: &Path) -> Uwsgi {
        let dir = nginx::prefix();
        let address = Address::Unix(dir.path().join("uwsgi.sock"));
        Uwsgi::start(dir, address, &["--wsgi-file", application.to_str().unwrap()])
    }

    /// Serves the WSGI file `application` on a free port of 127.0.0.1.
    pub fn tcp(application: &Path) -> Uwsgi {
        let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port())));
        Uwsgi::start(nginx::prefix(), address, &["--wsgi-file", application.to_str().unwrap()])
    }

    /// As `tcp`, over TLS, with a certificate and its key in PEM.
    pub fn tls(application: &Path, certificate: &str, key: &str) -> Uwsgi {
        let dir = nginx::prefix();
        fs::write(dir.path().join("pem"), certificate).unwrap();
        fs::write(dir.path().join("key"), key).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let socket = ["--suwsgi-socket", &format!("{address},pem,key")];
        let arguments = ["--wsgi-file", application.to_str().unwrap()];
        Uwsgi::start_on(&socket, dir, Address::Tcp(address), &arguments)
    }

    /// Starts with `arguments` that say what to serve; returns when connections are accepted.
    pub fn start(dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        let socket = match &address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(address) => address.to_string(),
        };
        Uwsgi::start_on(&["--socket", &socket], dir, address, arguments)
    }

    fn start_on(socket: &[&str], dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("/usr/bin/uwsgi-core");
        command.args(["--plugin", "python3", "--threads", "4"]).args(socket);
        command.args(["--die-on-term", "--need-app", "--buffer-size", "65535"]);
        command.args(arguments).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::spawn(command).unwrap();
        let mut uwsgi = Uwsgi { address, dir, process };
        wait_for("uWSGI to start", || {
            assert!(uwsgi.process.ended().is_none(), "uWSGI did not start:\n{}", uwsgi.log());
            let ready = uwsgi.log().contains("spawned uWSGI worker");
            (ready && uwsgi.address.connect().is_ok()).then_some(())
        });
        uwsgi
    }

    /// Stops it, as a crash or an update would.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}
