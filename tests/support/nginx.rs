//! A private nginx: its own prefix in a temporary directory, its own ports, logs and temporary
//! files; runs as root or as an ordinary user; stopped on drop, when its error log must show no
//! alarm that the test did not expect.

use super::daemon::{pid_in, signal_master};
use super::log::{self, Line};
use super::process::Process;
use super::{report, wait_for, DEADLINE};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

pub mod builder;

pub use super::places::{free_port, prefix};
pub use builder::Builder;

/// A running nginx, with one worker unless its builder was told otherwise.
pub struct Nginx {
    dir: TempDir,
    ports: [u16; 3],
    process: Process,
    is_daemon: bool,
    workers: usize,
    /// Texts of alarms that the test causes.
    expected: Mutex<Vec<String>>,
    /// The log shows bytes of others, which may make lines of their own.
    is_debugged: bool,
}

impl Nginx {
    /// Begins a configuration.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Starts an nginx whose `http` block holds `http`.
    pub fn start(http: &str) -> Nginx {
        Nginx::builder().http(http).start()
    }

    /// Starts an nginx with one server on `@port@` that holds `server`.
    pub fn serve(server: &str) -> Nginx {
        Nginx::start(&format!("server {{ listen 127.0.0.1:@port@; {server} }}"))
    }

    /// The address that stands for `@port@` on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address_of(0, [127, 0, 0, 1])
    }

    /// The address of the `index`th port (0 is `@port@`, 1 `@port2@` …) on another loopback host.
    pub fn address_of(&self, index: usize, host: [u8; 4]) -> SocketAddr {
        SocketAddr::from((host, self.ports[index]))
    }

    /// A path below the prefix.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The error log so far.
    pub fn error_log(&self) -> Vec<Line> {
        log::parse(&self.error_log_text())
    }

    /// The lines of the error log that contain `text`.
    pub fn logged(&self, text: &str) -> Vec<Line> {
        self.error_log().into_iter().filter(|line| line.text.contains(text)).collect()
    }

    /// Waits for a line of the error log that contains `text`.
    pub fn wait_logged(&self, text: &str) -> Line {
        wait_for(&format!("{text:?} in the error log"), || self.logged(text).into_iter().next())
    }

    /// The access log so far.
    pub fn access_log(&self) -> Vec<String> {
        let log = complete_lines(&self.path("access.log"));
        String::from_utf8_lossy(&log).lines().map(str::to_string).collect()
    }

    /// Waits until `count` requests have ended: nginx writes the access log last.
    pub fn wait_requests(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} lines in the access log"), || {
            Some(self.access_log()).filter(|lines| lines.len() >= count)
        })
    }

    /// As [`Builder::expects`], from now on.
    pub fn expects(&self, text: &str) {
        self.expected.lock().unwrap().push(text.to_string());
    }

    /// Panics when the error log shows an alarm that was not expected.
    pub fn assert_clean(&self) {
        self.check_log().unwrap_or_else(|alarm| panic!("{alarm}"));
    }

    fn check_log(&self) -> Result<(), String> {
        let said = self.error_log_text() + &self.stderr();
        if let Some(line) = log::sanitizer_report(&said) {
            return Err(format!("nginx is unwell: {line}"));
        }
        let expected = self.expected.lock().unwrap().clone();
        if expected.contains(&String::new()) {
            return Ok(());
        }
        let strange = |line: &Line| {
            let foreign =
                self.is_debugged && line.level == "raw" && !line.text.contains("panicked");
            log::is_alarming(line)
                && !foreign
                && !expected.iter().any(|text| line.text.contains(text))
        };
        let alarms: Vec<_> = self.error_log().into_iter().filter(strange).collect();
        let stderr = self.stderr();
        // Warnings about the configuration are no harm; anything else there is a crash speaking.
        let strange = stderr.lines().find(|line| !line.starts_with("nginx: [warn]"));
        match alarms.is_empty() && strange.is_none() {
            true => Ok(()),
            false => Err(format!("nginx is unwell: {alarms:#?}\n{stderr}")),
        }
    }

    /// Sends a signal to the master, for example `libc::SIGHUP`.
    pub fn signal(&self, signal: i32) {
        match self.is_daemon {
            true => signal_master(self.master().expect("a daemon has a pid file"), signal),
            false => self.process.signal(signal),
        }
    }

    /// The process id of a daemon's master; none once it has ended.
    pub fn master(&self) -> Option<i32> {
        pid_in(&self.path("nginx.pid"))
    }

    /// The master whose program is being changed, from SIGUSR2 until one of the two has ended.
    pub fn old_master(&self) -> Option<i32> {
        pid_in(&self.path("nginx.pid.oldbin"))
    }

    /// Reads the configuration anew, and returns when the workers of the old one have left.
    pub fn reload(&self) {
        let before = self.workers_left();
        self.signal(libc::SIGHUP);
        wait_for("the old workers to leave", || {
            (self.workers_left() >= before + self.workers).then_some(())
        });
    }

    /// The process ids of the workers that were started last.
    pub fn worker_ids(&self) -> Vec<u32> {
        let start = "start worker process ";
        wait_for("the workers to start", || {
            let lines = self.logged(start);
            let last = lines.get(lines.len().checked_sub(self.workers)?..)?;
            Some(last.iter().filter_map(|l| l.text.strip_prefix(start)?.parse().ok()).collect())
        })
    }

    /// How many workers have ended as they should. The cache manager, which leaves with a worker
    /// and often before it, does not count.
    pub fn workers_left(&self) -> usize {
        let left = |line: &Line| {
            line.text.starts_with("worker process") && line.text.ends_with("exited with code 0")
        };
        self.error_log().iter().filter(|line| left(line)).count()
    }

    /// Ends gracefully: running requests are finished first, and nginx itself then checks that no
    /// connection was left open (an alert otherwise, which fails the test).
    pub fn quit(mut self) {
        self.signal(libc::SIGQUIT);
        let status = self.process.wait(DEADLINE).expect("nginx does not quit");
        assert!(status.success(), "nginx quit with {status}");
    }

    fn error_log_text(&self) -> String {
        log::text(&complete_lines(&self.path("error.log")))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.stop();
        let name = |what: &str| format!("{what} of nginx in {}", self.dir.path().display());
        report::take(&[
            (
                &name("configuration"),
                &fs::read_to_string(self.path("nginx.conf")).unwrap_or_default(),
            ),
            (&name("error log"), &self.error_log_text()),
            (&name("standard error"), &self.stderr()),
        ]);
        if std::thread::panicking() {
            return;
        }
        if let Err(alarm) = self.check_log() {
            report::print();
            panic!("{alarm}");
        }
    }
}

/// Where nobody listens on a unix socket.
pub const NO_SOCKET: &str = "failed (2: No such file or directory)";

/// The `user` directive: a worker of another user could not reach the sockets in the prefix.
pub fn user() -> &'static str {
    // SAFETY: geteuid cannot fail and takes no arguments.
    match unsafe { libc::geteuid() } {
        0 => "user root;",
        _ => "# own user",
    }
}

/// A log that nginx may be writing to: without a last line that is only half there.
fn complete_lines(path: &Path) -> Vec<u8> {
    let mut log = fs::read(path).unwrap_or_default();
    log.truncate(log.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1));
    log
}

/// A pause that a test may put between two pieces that it sends: long enough that nginx sees them
/// apart, and nothing depends on it when it does not.
pub const PAUSE: Duration = Duration::from_millis(5);
