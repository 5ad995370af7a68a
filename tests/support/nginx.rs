//! A private nginx: its own prefix in a temporary directory, its own ports, logs and temporary
//! files; runs as root or as an ordinary user; stopped on drop, when its error log must show no
//! alarm that the test did not expect.

use super::daemon::{pid_in, signal_master, KEEPER};
use super::log::{self, Line};
use super::process::{self, Process};
use super::{report, root, wait_for, DEADLINE};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// What an nginx is started or checked with. In every text `@dir@` stands for the prefix and
/// `@port@`, `@port2@`, `@port3@` for free TCP ports.
#[derive(Clone)]
pub struct Builder {
    main: String,
    http: String,
    log_level: String,
    files: Vec<(String, Vec<u8>)>,
    expected: Vec<String>,
    workers: usize,
    worker_connections: usize,
    module: bool,
    faults: bool,
    daemon: bool,
    whole: Option<String>,
}

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

/// What `nginx -t` said.
pub struct Check {
    /// The exit status; a crash shows here as a signal.
    pub status: ExitStatus,
    /// Everything written to standard error, paths of the prefix replaced by `@dir@`.
    pub stderr: String,
}

impl Builder {
    /// Text for the `http` block, added to what was given before.
    pub fn http(mut self, text: &str) -> Builder {
        self.http.push_str(text);
        self.http.push('\n');
        self
    }

    /// Text for the main context.
    pub fn main(mut self, text: &str) -> Builder {
        self.main.push_str(text);
        self.main.push('\n');
        self
    }

    /// Loads the module in tests/probe, for the directives that follow.
    pub fn probe(self, directives: &str) -> Builder {
        let probe = module_path().with_file_name("ngx_probe_module.so");
        assert!(probe.exists(), "{} is missing: make probe", probe.display());
        self.main(&format!("load_module {};\n{directives}", probe.display()))
    }

    /// `info` unless set; `debug` shows everything.
    pub fn log_level(mut self, level: &str) -> Builder {
        self.log_level = level.to_string();
        self
    }

    /// A file to write below the prefix before the start.
    pub fn file(mut self, path: &str, content: &[u8]) -> Builder {
        self.files.push((path.to_string(), content.to_vec()));
        self
    }

    /// The error log may show alarms ([`log::is_alarming`]) with this text: for tests that cause them.
    pub fn expects(mut self, text: &str) -> Builder {
        self.expected.push(text.to_string());
        self
    }

    /// How many workers serve: one unless set.
    pub fn workers(mut self, count: usize) -> Builder {
        self.workers = count;
        self
    }

    /// How many connections each of them may have, 512 unless set.
    pub fn worker_connections(mut self, count: usize) -> Builder {
        self.worker_connections = count;
        self
    }

    /// A whole configuration instead of one made up of parts; only the temporary paths, which nginx
    /// has compiled in, are put into its http block.
    pub fn whole(mut self, text: &str) -> Builder {
        self.whole = Some(text.replacen("http {", &format!("http {{\n{}", temp_paths(true)), 1));
        self
    }

    /// Takes the module whose steps fail when a request asks for it, with the path `/fault/STEP`.
    pub fn with_faults(mut self) -> Builder {
        self.faults = true;
        // the text of a panic is lines of every kind
        self.expects("")
    }

    /// Runs nginx as a daemon: only so does it take SIGUSR2 and SIGWINCH, for a change of its program. It
    /// ends with the test all the same ([`KEEPER`]).
    pub fn daemon(mut self) -> Builder {
        self.daemon = true;
        self
    }

    /// Leaves our module out: what stock alone does.
    pub fn without_module(mut self) -> Builder {
        self.module = false;
        self
    }

    /// Writes the configuration and starts nginx. Returns when it listens; panics with the error
    /// log when it does not start.
    pub fn start(self) -> Nginx {
        loop {
            let dir = prefix();
            let ports = [free_port(), free_port(), free_port()];
            self.write(dir.path(), ports);
            let command = match self.daemon {
                true => self.command(dir.path(), &["/bin/sh", "-c", KEEPER]),
                false => {
                    let mut command = self.command(dir.path(), &[]);
                    command.args(["-g", "daemon off;"]);
                    command
                }
            };
            let process = Process::spawn(command).unwrap();
            let expected = Mutex::new(self.expected.clone());
            let is_debugged = self.log_level.starts_with("debug");
            let (is_daemon, workers) = (self.daemon, self.workers);
            let mut nginx =
                Nginx { dir, ports, process, is_daemon, workers, expected, is_debugged };
            // The pid file is written when all sockets listen; workers inherit them.
            let up = wait_for("nginx to start", || {
                let pid = fs::read_to_string(nginx.path("nginx.pid")).unwrap_or_default();
                if pid.ends_with('\n') {
                    return Some(true);
                }
                nginx.process.ended().map(|_| false)
            });
            if up {
                return nginx;
            }
            let said = nginx.error_log_text() + &nginx.stderr();
            // Somebody took the port between our look and nginx's bind: try others.
            assert!(said.contains("Address already in use"), "nginx did not start");
            // all of its log is of that
            nginx.expects("");
        }
    }

    /// Runs `nginx -t` on the configuration.
    pub fn check(self) -> Check {
        let dir = prefix();
        self.write(dir.path(), [free_port(), free_port(), free_port()]);
        let mut command = self.command(dir.path(), &[]);
        command.arg("-t");
        let mut process = Process::spawn(command).unwrap();
        let status = process.wait(DEADLINE).expect("nginx -t hangs");
        let stderr = fs::read(dir.path().join("stderr")).unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(log::sanitizer_report(&stderr), None, "{stderr}");
        Check { status, stderr: stderr.replace(dir.path().to_str().unwrap(), "@dir@") }
    }

    fn write(&self, dir: &Path, ports: [u16; 3]) {
        let fill = |text: &str| {
            text.replace("@dir@", dir.to_str().unwrap())
                .replace("@port@", &ports[0].to_string())
                .replace("@port2@", &ports[1].to_string())
                .replace("@port3@", &ports[2].to_string())
        };
        fs::create_dir(dir.join("html")).unwrap();
        for (path, content) in &self.files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = match std::str::from_utf8(content) {
                Ok(text) => fill(text).into_bytes(),
                Err(_) => content.clone(),
            };
            fs::write(path, content).unwrap();
        }
        fs::write(dir.join("nginx.conf"), fill(&self.text())).unwrap();
    }

    /// The configuration; the first line is there in every case, so that line numbers of runs with
    /// and without the module agree.
    fn text(&self) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let load = match (self.module, self.faults) {
            (true, false) => format!("load_module {};", module_path().display()),
            (true, true) => format!("load_module {};", faults_path().display()),
            (false, _) => "# stock alone".to_string(),
        };
        let (user, temp) = (user(), temp_paths(self.module));
        let (main, http, level) = (&self.main, &self.http, &self.log_level);
        let (workers, connections) = (self.workers, self.worker_connections);
        format!(
            "{load}\n{user}\nworker_processes {workers};\npid @dir@/nginx.pid;\n\
             error_log @dir@/error.log {level};\n{main}\
             events {{ worker_connections {connections}; }}\nhttp {{\n{temp}\
             \x20   access_log @dir@/access.log;\n    lingering_timeout 1s;\n{http}}}\n"
        )
    }

    /// `before` is put in front.
    fn command(&self, dir: &Path, before: &[&str]) -> Command {
        fs::create_dir_all(dir.join("temp")).unwrap();
        let nginx = nginx_path();
        let mut command = match before.split_first() {
            Some((program, rest)) => {
                let mut command = process::command(program);
                command.args(rest).arg(dir.join("nginx.pid")).arg(nginx);
                command
            }
            None => process::command(nginx),
        };
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
        command.arg("-e").arg(dir.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("stderr")).unwrap());
        command
    }
}

impl Nginx {
    /// Begins a configuration.
    pub fn builder() -> Builder {
        Builder {
            main: String::new(),
            http: String::new(),
            log_level: "info".to_string(),
            files: Vec::new(),
            expected: Vec::new(),
            workers: 1,
            worker_connections: 512,
            module: true,
            faults: false,
            daemon: false,
            whole: None,
        }
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

fn temp_paths(module: bool) -> String {
    let stock: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path @dir@/temp/{name};\n"))
        .concat();
    let ours = match module {
        true => "    rs_uwsgi_temp_path @dir@/temp/rs_uwsgi;\n",
        false => "    # stock alone\n",
    };
    stock + ours
}

/// A log that nginx may be writing to: without a last line that is only half there.
fn complete_lines(path: &Path) -> Vec<u8> {
    let mut log = fs::read(path).unwrap_or_default();
    log.truncate(log.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1));
    log
}

/// The nginx to test with: RS_UWSGI_NGINX, or Debian's.
pub fn nginx_path() -> PathBuf {
    std::env::var_os("RS_UWSGI_NGINX").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
}

/// Was it built with AddressSanitizer? What it has freed it keeps for a while then, and it ends at a fault of
/// nginx's own that does no harm otherwise.
pub fn is_sanitized() -> bool {
    let said = Command::new(nginx_path()).arg("-V").output().unwrap().stderr;
    String::from_utf8_lossy(&said).contains("-fsanitize=address")
}

/// Its version as a number, `nginx_version`: 1022001 for 1.22.1.
pub fn nginx_version() -> u32 {
    let said = Command::new(nginx_path()).arg("-v").output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    let version = said.trim().split('/').nth(1).unwrap().split(' ').next().unwrap();
    version.split('.').fold(0, |number, part| number * 1000 + part.parse::<u32>().unwrap())
}

/// The module under test: RS_UWSGI_MODULE, or what `make module` leaves.
pub fn module_path() -> PathBuf {
    let built = || root().join("target/module/ngx_http_rs_uwsgi_module.so");
    std::env::var_os("RS_UWSGI_MODULE").map_or_else(built, PathBuf::from)
}

/// The module with steps that fail: what `make faults` leaves.
pub fn faults_path() -> PathBuf {
    let path = module_path().with_file_name("ngx_http_rs_uwsgi_module_with_faults.so");
    assert!(path.exists(), "{} is missing: make faults", path.display());
    path
}

/// A port that nobody listens on, outside the range that the kernel hands out to clients. Starts
/// from the process id, so that test runs side by side seldom meet.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 199) as u16 * 100;
    wait_for("a free port", || {
        let port = FIRST + (NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset)) % COUNT;
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.2", port)).is_ok();
        free.then_some(port)
    })
}

/// A directory with a path short enough for unix sockets (107 bytes) whatever TMPDIR says.
pub fn prefix() -> TempDir {
    let temp = std::env::temp_dir();
    let base = if temp.as_os_str().len() > 60 { "/tmp".into() } else { temp };
    tempfile::Builder::new().prefix("rsu").tempdir_in(base).unwrap()
}

/// A pause that a test may put between two pieces that it sends: long enough that nginx sees them
/// apart, and nothing depends on it when it does not.
pub const PAUSE: Duration = Duration::from_millis(5);
