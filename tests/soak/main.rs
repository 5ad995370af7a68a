//! Random traffic of every kind for a given time, while clients leave, servers stand still and are killed
//! and nginx reads its configuration anew: nobody gets another's bytes, no request is lost in silence, and
//! afterwards everything is back where it was. `make soak TIME=60 SEED=1`, or
//! `cargo test --test soak -- SECONDS|MINUTESm [SEED]`.

// These lints guard what comes from clients and backends; here a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod site;
mod traffic;

use site::{Servers, LIMITED};
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use support::client;
use support::kernel::{descriptor_count, memory};
use support::process::kill;
use support::random::Random;
use support::wait_for;
use traffic::{Ends, Traffic};

/// How many clients there are at once: more than the servers take, so that the queues are used.
const CLIENTS: u64 = 24;
/// What the worker may have more of in the end, in KiB: its heap is in pieces by then.
const MORE_MEMORY: usize = 16 * 1024;

/// What is the same before and after.
#[derive(Debug)]
struct Quiet {
    memory: usize,
    descriptors: usize,
    /// Requests a second.
    rate: f64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(time) = arguments.next().as_deref().map_or(Some(60), seconds) else {
        eprintln!("usage: soak [SECONDS|MINUTESm] [SEED]");
        return ExitCode::from(2);
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = arguments.next().map_or(now.as_secs(), |seed| seed.parse().expect("the seed"));
    println!("soak of {time} s, seed {seed}");
    support::kernel::raise_descriptor_limit();
    let site = Servers::start(seed);
    let half = Duration::from_secs(time) / 2;
    // A worker that a reload has started is new, so the half without one is what is compared.
    report("with reloads", &load(&site, half, seed, true));
    let before = quiet(&site);
    report("without reloads", &load(&site, half, seed.wrapping_add(1000), false));
    let after = quiet(&site);
    println!("before: {before:?}\nafter:  {after:?}");
    assert!(after.memory <= before.memory + MORE_MEMORY, "memory is not given back");
    assert!(after.descriptors <= before.descriptors, "descriptors are left open");
    // Other processes of the machine make a factor of two.
    assert!(after.rate > before.rate / 4.0, "it has become slow");
    let bad = |line: &support::log::Line| support::log::is_alarming(line) && !is_of_cache(line);
    let bad: Vec<_> = site.nginx.error_log().into_iter().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // the same lines, for the look at the log when nginx has ended
    site.nginx.expects(&format!("stat() \"{}/", site.nginx.path("cache").display()));
    site.nginx.quit();
    println!("1 passed, 0 failed");
    ExitCode::SUCCESS
}

/// Is it nginx's cache loader, which looks at a file that a worker has just removed?
fn is_of_cache(line: &support::log::Line) -> bool {
    line.level == "crit"
        && line.text.starts_with("stat() ")
        && line.text.contains("/cache/")
        && line.text.contains(" failed (2: No such file or directory)")
}

/// "90" or "10m".
fn seconds(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(minutes) => Some(minutes.parse::<u64>().ok()? * 60),
        None => text.strip_suffix('s').unwrap_or(text).parse().ok(),
    }
}

fn report(what: &str, ends: &Ends) {
    println!("{what}: {} requests: {ends:?}", ends.values().sum::<usize>());
}

/// All clients for `time`, and faults of the servers beside them.
fn load(site: &Servers, time: Duration, seed: u64, reloads: bool) -> Ends {
    let until = Instant::now() + time;
    let failed = AtomicBool::new(false);
    let to = [0, 1].map(|index| site.nginx.address_of(index, [127, 0, 0, 1]));
    let goes_on = || Instant::now() < until && !failed.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let client = |number: u64| {
            let random = Random::new(seed.wrapping_mul(1000).wrapping_add(number));
            let mut traffic = Traffic { to, random, ends: Ends::new() };
            let failure = Fails(&failed);
            while goes_on() {
                traffic.step();
            }
            std::mem::forget(failure);
            traffic.ends
        };
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        faults(site, Random::new(seed), reloads, goes_on);
        let mut ends = Ends::new();
        for (end, count) in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            *ends.entry(end).or_default() += count;
        }
        ends
    })
}

/// Ends the load where a client panics.
struct Fails<'a>(&'a AtomicBool);

impl Drop for Fails<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stops and kills workers of the real servers, and reloads nginx, one after the other.
fn faults(site: &Servers, mut random: Random, reloads: bool, goes_on: impl Fn() -> bool) {
    while goes_on() {
        thread::sleep(Duration::from_millis(200 + random.below(1500) as u64));
        let master = if random.once_in(2) { site.uwsgi.id() } else { site.gunicorn.id() };
        let workers = children(master);
        match random.below(if reloads { 4 } else { 3 }) {
            0 if !workers.is_empty() => signal(workers[random.below(workers.len())], libc::SIGKILL),
            1 | 2 => {
                workers.iter().for_each(|worker| signal(*worker, libc::SIGSTOP));
                thread::sleep(Duration::from_millis(random.below(1000) as u64));
                workers.iter().for_each(|worker| signal(*worker, libc::SIGCONT));
            }
            _ => site.nginx.signal(libc::SIGHUP),
        }
    }
}

/// Waits until nothing is under way, and finds every limited location free.
fn quiet(site: &Servers) -> Quiet {
    let to = site.nginx.address();
    // Longer than any timeout of the configuration.
    thread::sleep(Duration::from_secs(8));
    for location in LIMITED {
        together(4, |number| {
            let path = format!("/{location}/slow/tok-{:016x}?1", 1_000_000 + number);
            let response = client::get(to, &path);
            assert_eq!(response.status, 200, "{path} with nothing else under way");
            // The fourth of four waits where a place was never given back.
            let waited = response.header("X-Queue").unwrap_or_default().to_string();
            assert!(matches!(waited.as_str(), "" | "-" | "0.000"), "{path} waited {waited} s");
        });
    }
    let rate = rate(to);
    thread::sleep(Duration::from_secs(4));
    let worker = site.nginx.worker_ids()[0];
    Quiet { memory: memory(worker), descriptors: descriptor_count(worker), rate }
}

/// Requests a second of four clients.
fn rate(to: SocketAddr) -> f64 {
    const REQUESTS: u64 = 250;
    let start = Instant::now();
    together(4, |number| {
        for _ in 0..REQUESTS {
            let path = format!("/uwsgi/length/tok-{number:016x}?1");
            assert_eq!(client::get(to, &path).status, 200, "{path}");
        }
    });
    4.0 * REQUESTS as f64 / start.elapsed().as_secs_f64()
}

fn together(count: u64, task: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        let task = &task;
        (0..count).for_each(|number| drop(scope.spawn(move || task(number))));
    });
}

/// The processes that `pid` has started (proc(5)).
fn children(pid: u32) -> Vec<i32> {
    let read = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
    let list = wait_for("the server to be there", read);
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// One that has left by itself meanwhile is no harm.
fn signal(worker: i32, signal: i32) {
    let _ = kill(worker, signal);
}
