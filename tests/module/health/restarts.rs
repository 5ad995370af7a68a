//! Real servers that restart, one of two, while requests come: with checks on, no request fails that another
//! server, or the same one a moment later, could have answered.

use super::real::application;
use super::{site, wait_lines, DOWN, UP};
use crate::prelude::*;
use crate::support::process::{self, kill, Process};
use std::path::{Path, PathBuf};

const CHECK: &str = "rs_uwsgi_health_check uri=/health interval=30ms timeout=1s fails=2 passes=1;";
const CLIENTS: usize = 4;
/// Restarts of each kind.
const RESTARTS: usize = 3;

/// What the clients got.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Waits for so many more answers.
    fn go_on(&self, more: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_for("answers", || {
            (self.answered.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }
}

/// Clients send GETs until `disturb` is done. None of them fails.
fn under_load(nginx: &Nginx, disturb: impl FnOnce(&Load)) {
    let (load, to) = (Load::default(), nginx.address());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !load.stop.load(Ordering::Relaxed) {
                    let response = get(to, "/");
                    if response.status == 200 && response.text() == "ok" {
                        load.answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        load.failed.lock().unwrap().push(format!("{response:?}"));
                    }
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(&load)));
        load.stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let failed = load.failed.into_inner().unwrap();
    let answered = load.answered.into_inner();
    assert!(
        failed.is_empty(),
        "{} failed, {answered} did not: {:#?}",
        failed.len(),
        failed.first()
    );
}

fn two(first: &Address, second: &Address) -> Nginx {
    let nginx = site(&format!("server {first}; server {second}; {CHECK}"));
    // of tries that fail while a server is not there, another being asked then
    for text in ["connect() to", "connect() failed", "prematurely closed", "recv() failed"] {
        nginx.expects(text);
    }
    nginx
}

fn uwsgi(file: &Path, arguments: &[&str]) -> Uwsgi {
    let dir = nginx::prefix();
    let socket = Address::Unix(dir.path().join("u"));
    let all = ["--master", "--processes", "2", "--wsgi-file", file.to_str().unwrap()];
    Uwsgi::start(dir, socket, &[&all[..], arguments].concat())
}

fn wait_spawned(log: impl Fn() -> String, count: usize) {
    let spawned = || {
        let log = log();
        log.matches("spawned uWSGI worker").count() + log.matches("Respawned uWSGI worker").count()
    };
    wait_for("uWSGI's new workers", || (spawned() >= count).then_some(()));
}

#[test]
fn uwsgi_reloads() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let [touched, chained] = ["touched", "chained"].map(|name| dir.path().join(name));
    for path in [&touched, &chained] {
        fs::write(path, "").unwrap();
    }
    let (touch, chain) = (touched.to_str().unwrap(), chained.to_str().unwrap());
    let first =
        uwsgi(&file, &["--touch-reload", touch, "--touch-chain-reload", chain, "--lazy-apps"]);
    let second = uwsgi(&file, &[]);
    let nginx = two(first.address(), second.address());
    let write = |path: &PathBuf| {
        // uWSGI compares seconds
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        let file = fs::File::create(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.set_modified(before.max(later) + Duration::from_secs(5)).unwrap();
    };
    let restarts: [&dyn Fn(); 3] =
        [&|| assert!(kill(first.id() as i32, libc::SIGHUP)), &|| write(&touched), &|| {
            write(&chained)
        }];
    under_load(&nginx, |load| {
        for restart in restarts {
            let spawned = first.log().matches("pawned uWSGI worker").count();
            load.go_on(100);
            restart();
            wait_spawned(|| first.log(), spawned + 2);
            load.go_on(100);
        }
    });
}

/// A vassal of an Emperor, whose file is touched.
#[test]
fn uwsgi_emperor() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let (vassals, socket) = (dir.path().join("vassals"), dir.path().join("v"));
    fs::create_dir(&vassals).unwrap();
    let text = format!(
        "[uwsgi]\nplugin = python3\nsocket = {}\nwsgi-file = {}\nmaster = 1\nprocesses = 2\nbuffer-size = 65535\n",
        socket.display(),
        file.display()
    );
    let ini = vassals.join("app.ini");
    fs::write(&ini, &text).unwrap();
    let path = dir.path().join("log");
    let log = fs::File::create(&path).unwrap();
    let mut command = process::command("/usr/bin/uwsgi-core");
    command.args(["--die-on-term", "--emperor-freq", "1", "--emperor"]).arg(&vassals);
    command.current_dir(dir.path()).stdout(log.try_clone().unwrap()).stderr(log);
    let _emperor = Process::spawn(command).unwrap();
    let printed = || String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
    let spawned = || printed().matches("pawned uWSGI worker").count();
    wait_for("the vassal", || (spawned() >= 2).then_some(()));
    let second = uwsgi(&file, &[]);
    let nginx = two(&Address::Unix(socket), second.address());
    under_load(&nginx, |load| {
        for number in 0..RESTARTS {
            let before = spawned();
            load.go_on(50);
            // the Emperor compares seconds, and what it read last
            let later =
                std::time::SystemTime::now() + Duration::from_secs(10 * (number as u64 + 1));
            fs::File::options().write(true).open(&ini).unwrap().set_modified(later).unwrap();
            wait_for("the vassal's new workers", || (spawned() >= before + 2).then_some(()));
            load.go_on(50);
        }
    });
}

#[test]
fn gunicorn_reloads() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let servers: Vec<_> = (0..2).map(|_| Gunicorn::builder(&file).workers(2).start()).collect();
    let nginx = two(servers[0].address(), servers[1].address());
    under_load(&nginx, |load| {
        for server in servers.iter().cycle().take(RESTARTS) {
            load.go_on(50);
            server.reload();
        }
        load.go_on(50);
    });
}

/// Ends a process that nobody waits for.
struct Ends(i32);

impl Drop for Ends {
    fn drop(&mut self) {
        kill(self.0, libc::SIGTERM);
    }
}

/// gunicorn's way to a new version: a second master beside the first, which ends then.
#[test]
fn gunicorn_upgrades() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let first = Gunicorn::builder(&file).workers(2).arguments(&["--pid", "pid"]).start();
    let second = Gunicorn::builder(&file).workers(2).start();
    let nginx = two(first.address(), second.address());
    under_load(&nginx, |load| {
        let old = first.id() as i32;
        load.go_on(50);
        kill(old, libc::SIGUSR2);
        let new = wait_for("the new master", || first.file("pid.2").trim().parse::<i32>().ok());
        let new = Ends(new);
        let booted = || first.log().matches("Booting worker").count();
        wait_for("its workers", || (booted() >= 4).then_some(()));
        load.go_on(50);
        kill(old, libc::SIGTERM);
        wait_for("the old one to leave", || {
            (first.file("pid").trim().parse() == Ok(new.0)).then_some(())
        });
        load.go_on(50);
    });
}

/// A crash: all of its processes are killed, its socket stays; then that goes, too, and a new one comes.
#[test]
fn uwsgi_crashes() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let socket = Address::Unix(dir.path().join("u"));
    let start = || {
        let all = ["--master", "--processes", "2", "--wsgi-file", file.to_str().unwrap()];
        Uwsgi::start(nginx::prefix(), socket.clone(), &all)
    };
    let second = uwsgi(&file, &[]);
    let mut first = start();
    let nginx = two(&socket, second.address());
    under_load(&nginx, |load| {
        for round in 1..=RESTARTS {
            load.go_on(50);
            kill(-(first.id() as i32), libc::SIGKILL);
            wait_lines(&nginx, DOWN, round);
            let Address::Unix(path) = &socket else { unreachable!() };
            fs::remove_file(path).unwrap();
            load.go_on(50);
            first.stop();
            first = start();
            wait_lines(&nginx, UP, round);
        }
        load.go_on(50);
    });
}

/// An application in which every request hangs until uWSGI kills its worker, and again: it is down, and the
/// other one serves.
#[test]
fn harakiri_loops() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let own = nginx::prefix();
    let socket = Address::Unix(own.path().join("u"));
    let hangs = own.path().join("hangs");
    let all = ["--master", "--processes", "1", "--threads", "1", "--harakiri", "1"];
    let wsgi = ["--wsgi-file", file.to_str().unwrap()];
    let first = Uwsgi::start(own, socket, &[&all[..], &wsgi[..]].concat());
    let second = uwsgi(&file, &[]);
    let nginx = Nginx::start(&format!(
        "upstream u {{ server {}; server {}; {CHECK} }}
         server {{ listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass u; rs_uwsgi_next_upstream error timeout; }} }}",
        first.address(),
        second.address()
    ));
    for text in ["prematurely closed", "recv() failed", "connect() to", "timed out"] {
        nginx.expects(text);
    }
    under_load(&nginx, |load| {
        load.go_on(50);
        fs::write(&hangs, "").unwrap();
        nginx.wait_logged(DOWN);
        load.go_on(200);
        wait_for("harakiri", || (first.log().matches("HARAKIRI").count() >= 2).then_some(()));
        load.go_on(50);
        fs::remove_file(&hangs).unwrap();
        nginx.wait_logged(UP);
        load.go_on(50);
    });
}
