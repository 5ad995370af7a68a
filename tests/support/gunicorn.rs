//! A real gunicorn that speaks uwsgi, of the versions that scripts/install-gunicorn gets from PyPI.

use super::backend::Address;
use super::process::{self, Process};
use super::{nginx, report, root, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A running gunicorn; stopped on drop.
pub struct Gunicorn {
    address: Address,
    dir: TempDir,
    process: Process,
    workers: usize,
}

/// Which gunicorn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 27: where an application gives no Content-Length, the end of the connection ends the body.
    Current,
    /// 26.1, the newest that chunks such a body.
    Chunking,
}

/// What a gunicorn is started with.
#[derive(Clone)]
pub struct Builder {
    application: PathBuf,
    version: Version,
    class: String,
    workers: usize,
    unix: bool,
    arguments: Vec<String>,
    files: Vec<(String, String)>,
}

impl Builder {
    /// `Current` unless set.
    pub fn version(mut self, version: Version) -> Builder {
        self.version = version;
        self
    }

    /// `sync` unless set. For `asgi` the file's callable `asgi` is served, else its `application`.
    pub fn worker_class(mut self, class: &str) -> Builder {
        self.class = class.to_string();
        self
    }

    /// How many processes serve: one unless set.
    pub fn workers(mut self, count: usize) -> Builder {
        self.workers = count;
        self
    }

    /// How many threads each of them has, where the worker class has threads.
    pub fn threads(self, count: usize) -> Builder {
        self.arguments(&["--threads", &count.to_string()])
    }

    /// How long an idle connection is kept, in seconds; 0 keeps none, and gunicorn's default is 2.
    pub fn keepalive(self, seconds: u32) -> Builder {
        self.arguments(&["--keep-alive", &seconds.to_string()])
    }

    /// Listens on a socket file in place of a port.
    pub fn unix(mut self) -> Builder {
        self.unix = true;
        self
    }

    /// More arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Builder {
        self.arguments.extend(arguments.iter().map(|argument| argument.to_string()));
        self
    }

    /// A file to write to the working directory before the start.
    pub fn file(mut self, name: &str, content: &str) -> Builder {
        self.files.push((name.to_string(), content.to_string()));
        self
    }

    /// Starts it; returns when connections are accepted.
    pub fn start(self) -> Gunicorn {
        let dir = nginx::prefix();
        for (name, content) in &self.files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let address = match self.unix {
            true => Address::Unix(dir.path().join("gunicorn.sock")),
            false => Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port()))),
        };
        let callable = if self.class == "asgi" { "asgi" } else { "application" };
        let module = self.application.file_stem().unwrap().to_str().unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = process::command(program(self.version));
        command.args(["--protocol", "uwsgi", "--worker-class", &self.class]);
        command.args(["--workers", &self.workers.to_string(), "--bind", &address.to_string()]);
        command.args(&self.arguments);
        command.arg("--pythonpath").arg(self.application.parent().unwrap());
        command.arg(format!("{module}:{callable}"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::spawn(command).unwrap();
        let mut gunicorn = Gunicorn { address, dir, process, workers: self.workers };
        wait_for("gunicorn to start", || {
            assert!(gunicorn.process.ended().is_none(), "gunicorn did not start");
            let log = gunicorn.log();
            let ready = log.matches("Booting worker with pid").count() >= gunicorn.workers;
            (ready && gunicorn.address.connect().is_ok()).then_some(())
        });
        gunicorn
    }
}

impl Gunicorn {
    /// Begins with what is to be served: the file `application`.
    pub fn builder(application: &Path) -> Builder {
        Builder {
            application: application.to_path_buf(),
            version: Version::Current,
            class: "sync".to_string(),
            workers: 1,
            unix: false,
            arguments: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Serves the WSGI file `application` on a free port of 127.0.0.1, with more `arguments`, which
    /// find `files` (names and contents) in the working directory.
    pub fn start(application: &Path, arguments: &[&str], files: &[(&str, &str)]) -> Gunicorn {
        let builder = Gunicorn::builder(application).arguments(arguments);
        files.iter().fold(builder, |builder, (name, content)| builder.file(name, content)).start()
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

    /// A file that the application wrote to the working directory.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Starts new workers, as an update of the application would, and returns when the old ones have
    /// finished what they had and left.
    pub fn reload(&self) {
        let left = || self.log().matches("Worker exiting (pid").count();
        let before = left();
        self.process.signal(libc::SIGHUP);
        wait_for("gunicorn's old workers to leave", || {
            (left() >= before + self.workers).then_some(())
        });
    }

    /// The process id of the arbiter.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it, as an update would: requests that are being served are finished.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        report::take(&[(&format!("output of gunicorn on {}", self.address), &self.log())]);
        // At once: nobody waits for the idle connections that it would give time.
        if self.process.ended().is_none() {
            self.process.signal(libc::SIGQUIT);
        }
    }
}

/// Where gunicorn is; installs it first where it is missing.
pub fn program(version: Version) -> PathBuf {
    static CURRENT: OnceLock<PathBuf> = OnceLock::new();
    static CHUNKING: OnceLock<PathBuf> = OnceLock::new();
    let (program, folder, which) = match version {
        Version::Current => (&CURRENT, "target/gunicorn", None),
        Version::Chunking => (&CHUNKING, "target/gunicorn-chunking", Some("chunking")),
    };
    let install = || {
        let mut command = Command::new(root().join("scripts/install-gunicorn"));
        let output = command.arg(root().join(folder)).args(which).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gunicorn could not be installed:\n{said}");
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    };
    program.get_or_init(install).clone()
}
