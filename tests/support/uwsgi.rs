//! A real uWSGI (Debian's uwsgi-core with its python3 plugin) that runs one WSGI file.

use super::backend::Address;
use super::process::{self, Process};
use super::{nginx, report, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

/// A running uWSGI; stopped on drop.
pub struct Uwsgi {
    address: Address,
    persistent: Option<Address>,
    dir: TempDir,
    process: Process,
}

/// What a uWSGI with a `puwsgi-socket` beside its `socket` is started with.
#[derive(Clone)]
pub struct Persistent {
    application: PathBuf,
    unix: bool,
    processes: usize,
    threads: usize,
    socket_timeout: Option<u32>,
}

impl Persistent {
    /// Listens on socket files in place of ports.
    pub fn unix(mut self) -> Persistent {
        self.unix = true;
        self
    }

    /// How many processes serve: one unless set.
    pub fn processes(mut self, count: usize) -> Persistent {
        self.processes = count;
        self
    }

    /// How many threads each of them has, four unless set. Each of them serves one connection.
    pub fn threads(mut self, count: usize) -> Persistent {
        self.threads = count;
        self
    }

    /// How long a thread waits for the next request on a connection, in seconds; uWSGI's default
    /// is 4.
    pub fn socket_timeout(mut self, seconds: u32) -> Persistent {
        self.socket_timeout = Some(seconds);
        self
    }

    /// Starts it; returns when connections are accepted.
    pub fn start(self) -> Uwsgi {
        let dir = nginx::prefix();
        let [plain, persistent] = ["uwsgi.sock", "puwsgi.sock"].map(|name| match self.unix {
            true => Address::Unix(dir.path().join(name)),
            false => Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port()))),
        });
        let (names, processes) = ([&plain, &persistent].map(bind), self.processes.to_string());
        let threads = self.threads.to_string();
        let mut arguments = vec!["--wsgi-file", self.application.to_str().unwrap()];
        arguments.extend(["--puwsgi-socket", &names[1]]);
        // Without the master the others would outlive the first.
        arguments.extend(["--master", "--processes", &processes, "--threads", &threads]);
        let timeout = self.socket_timeout.map(|seconds| seconds.to_string());
        if let Some(seconds) = &timeout {
            arguments.extend(["--socket-timeout", seconds]);
        }
        let socket = ["--socket", &names[0]];
        let mut uwsgi = Uwsgi::start_on(&socket, dir, plain, &arguments);
        uwsgi.persistent = Some(persistent);
        uwsgi
    }
}

impl Uwsgi {
    /// Begins a uWSGI that serves the WSGI file `application` on a `socket` and on a
    /// `puwsgi-socket`.
    pub fn persistent(application: &Path) -> Persistent {
        let application = application.to_path_buf();
        Persistent { application, unix: false, processes: 1, threads: 4, socket_timeout: None }
    }

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
        Uwsgi::tls_with(application, certificate, key, &[])
    }

    /// As `tls`, with more arguments.
    pub fn tls_with(application: &Path, certificate: &str, key: &str, arguments: &[&str]) -> Uwsgi {
        let dir = nginx::prefix();
        fs::write(dir.path().join("pem"), certificate).unwrap();
        fs::write(dir.path().join("key"), key).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let socket = ["--suwsgi-socket", &format!("{address},pem,key")];
        let arguments = [&["--wsgi-file", application.to_str().unwrap()], arguments].concat();
        Uwsgi::start_on(&socket, dir, Address::Tcp(address), &arguments)
    }

    /// Serves the WSGI file `application` on an `http-socket`, which speaks no uwsgi.
    pub fn http(application: &Path, arguments: &[&str]) -> Uwsgi {
        let address = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let socket = ["--http-socket", &address.to_string()];
        let arguments = [&["--wsgi-file", application.to_str().unwrap()], arguments].concat();
        Uwsgi::start_on(&socket, nginx::prefix(), Address::Tcp(address), &arguments)
    }

    /// Starts with `arguments` that say what to serve; returns when connections are accepted.
    pub fn start(dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        Uwsgi::start_on(&["--socket", &bind(&address)], dir, address, arguments)
    }

    /// As `start`, also where the application cannot be loaded.
    pub fn start_anyway(dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        Uwsgi::begin(&["--socket", &bind(&address)], dir, address, arguments)
    }

    fn start_on(socket: &[&str], dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        Uwsgi::begin(&[socket, &["--need-app"]].concat(), dir, address, arguments)
    }

    fn begin(socket: &[&str], dir: TempDir, address: Address, arguments: &[&str]) -> Uwsgi {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = process::command("/usr/bin/uwsgi-core");
        command.args(["--plugin", "python3", "--threads", "4"]).args(socket);
        command.args(["--die-on-term", "--buffer-size", "65535"]);
        command.args(arguments).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::spawn(command).unwrap();
        let mut uwsgi = Uwsgi { address, persistent: None, dir, process };
        wait_for("uWSGI to start", || {
            assert!(uwsgi.process.ended().is_none(), "uWSGI did not start");
            let ready = uwsgi.log().contains("spawned uWSGI worker");
            (ready && uwsgi.address.connect().is_ok()).then_some(())
        });
        uwsgi
    }

    /// The process id of the master, or of the only process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it, as a crash or an update would.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Lets it stand still, all of its processes: it accepts nothing and answers nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where its `puwsgi-socket` is.
    pub fn persistent_address(&self) -> &Address {
        self.persistent.as_ref().expect("no puwsgi-socket")
    }

    /// A file that the application wrote to the working directory.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Uwsgi {
    fn drop(&mut self) {
        report::take(&[(&format!("output of uWSGI on {}", self.address), &self.log())]);
    }
}

/// An address as uWSGI's options take it.
fn bind(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(address) => address.to_string(),
    }
}
