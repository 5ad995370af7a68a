//! The configuration of an nginx, and its start.

use super::{free_port, prefix, user, Nginx};
use crate::support::daemon::KEEPER;
use crate::support::log;
use crate::support::process::{self, Process};
use crate::support::programs::{faults_path, module_path, nginx_path};
use crate::support::{wait_for, DEADLINE};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

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

/// What `nginx -t` said.
pub struct Check {
    /// The exit status; a crash shows here as a signal.
    pub status: ExitStatus,
    /// Everything written to standard error, paths of the prefix replaced by `@dir@`.
    pub stderr: String,
}

impl Builder {
    /// Nothing said.
    pub(super) fn new() -> Builder {
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
        // a new program has nothing else of the environment
        if std::env::var_os("ASAN_OPTIONS").is_some() {
            self.main.push_str("env ASAN_OPTIONS;\n");
        }
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
