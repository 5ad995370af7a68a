//! A real gunicorn that speaks uwsgi, the version that scripts/install-gunicorn gets from PyPI.

use super::process::Process;
use super::{nginx, root, wait_for};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A running gunicorn with one worker; stopped on drop.
pub struct Gunicorn {
    address: SocketAddr,
    dir: TempDir,
    process: Process,
}

impl Gunicorn {
    /// Serves the WSGI file `application` on a free port of 127.0.0.1, with more `arguments`, which
    /// find `files` (names and contents) in the working directory.
    pub fn start(application: &Path, arguments: &[&str], files: &[(&str, &str)]) -> Gunicorn {
        let dir = nginx::prefix();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let address = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["--protocol", "uwsgi", "--workers", "1", "--bind", &address.to_string()]);
        command.args(arguments).arg("--pythonpath").arg(application.parent().unwrap());
        command.arg(format!("{}:application", application.file_stem().unwrap().to_str().unwrap()));
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::spawn(command).unwrap();
        let mut gunicorn = Gunicorn { address, dir, process };
        wait_for("gunicorn to start", || {
            let log = gunicorn.log();
            assert!(gunicorn.process.ended().is_none(), "gunicorn did not start:\n{log}");
            let ready = log.contains("Booting worker with pid");
            (ready && TcpStream::connect(gunicorn.address).is_ok()).then_some(())
        });
        gunicorn
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Where gunicorn is; installs it first where it is missing.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let install = || {
        let script = root().join("scripts/install-gunicorn");
        let output = Command::new(script).arg(root().join("target/gunicorn")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gunicorn could not be installed:\n{said}");
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    };
    PROGRAM.get_or_init(install).clone()
}
