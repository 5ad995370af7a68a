//! `rs_uwsgi_stats`: what uWSGI's own stats server says, in the JSON of `rs_uwsgi_status`, and what becomes of
//! one that says nothing of use.

use crate::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// An nginx that shows the stats of the server at `stats`, before one at `pass`.
fn site(pass: &str, stats: &str) -> Nginx {
    Nginx::start(&format!(
        "upstream app {{ server {pass}; rs_uwsgi_stats {stats}; }}
         server {{ listen 127.0.0.1:@port@;
             location / {{ rs_uwsgi_pass app; }}
             location /status/ {{ rs_uwsgi_status; }} }}"
    ))
}

fn ok(peer: &mut Peer) -> io::Result<()> {
    peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

/// The JSON of the upstream, from "uwsgi" on.
fn look(nginx: &Nginx) -> String {
    let response = get(nginx.address(), "/status/json?history=0");
    assert_eq!(response.status, 200);
    let text = response.text();
    text.split_once("\"uwsgi\":").map(|(_, rest)| rest.to_string()).unwrap_or_default()
}

/// Looks until all of this is said in one answer.
fn wait_said(nginx: &Nginx, parts: &[&str]) {
    let mut said = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(&parts.join(" and "), || {
            said = look(nginx);
            parts.iter().all(|part| said.contains(part)).then_some(())
        });
    }));
    assert!(found.is_ok(), "not all of {parts:?} in {said}");
}

/// A stats server on this socket file, which does so with each connection.
fn stats_server(path: &Path, each: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(each));
}

#[test]
fn what_uwsgi_says() {
    let application = root().join("tests/support/application.py");
    for (unix, http) in [(true, false), (true, true), (false, false), (false, true)] {
        let dir = nginx::prefix();
        let address = Address::Unix(dir.path().join("s"));
        let port = nginx::free_port();
        let (own, stats) = match unix {
            true => {
                let path = dir.path().join("stats").display().to_string();
                (path.clone(), format!("unix:{path}"))
            }
            false => (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        };
        let mut arguments = vec!["--wsgi-file", application.to_str().unwrap(), "--stats", &own];
        arguments.extend(["--master", "--processes", "3", "--no-orphans"]);
        if http {
            arguments.push("--stats-http");
        }
        let uwsgi = Uwsgi::start(dir, address, &arguments);
        let nginx = site(&uwsgi.address().to_string(), &stats);
        for _ in 0..7 {
            assert_eq!(get(nginx.address(), "/environ/").status, 200);
        }
        // A worker of uWSGI counts a request, and calls itself idle, after it has answered.
        let parts = [
            &format!("{{\"address\":\"{stats}\",\"age\":"),
            "\"error\":null",
            "\"requests\":7,",
            "\"workers\":3,\"busy\":0,\"idle\":3,\"cheaped\":0",
            "\"exceptions\":0,\"harakiris\":0,\"respawns\":0",
            "\"version\":\"2.",
        ];
        wait_said(&nginx, &parts);
    }
}

#[test]
fn what_is_of_no_use_is_said_and_disturbs_nothing() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), ok);
    let path = dir.path().join("stats");
    let stats = format!("unix:{}", path.display());
    let nginx = site(&backend.address().to_string(), &stats);
    wait_said(&nginx, &["\"error\":\"no connection to it (2: No such file or directory)\""]);
    let listener = UnixListener::bind(&path).unwrap();
    let answers: Arc<Mutex<Option<Vec<u8>>>> = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&answers);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            match shared.lock().unwrap().clone() {
                Some(answer) => {
                    let _ = stream.write_all(&answer);
                }
                None => open.push(stream),
            }
        }
    });
    // One that says nothing: until its time is up, others are served.
    wait_said(&nginx, &["\"error\":\"no complete answer within 1000 ms\""]);
    assert_eq!(get(nginx.address(), "/").text(), "ok");
    for (answer, error) in [
        (b"".to_vec(), "it closed the connection without an answer"),
        (b"<html>".to_vec(), "its answer is not JSON, or not complete"),
        (b"{\"workers\":[".to_vec(), "its answer is not JSON, or not complete"),
        (b"{\"version\":\"<b>\"}".to_vec(), "its answer is not that of uWSGI's stats server"),
        (vec![b' '; 10_000_000], "its answer is longer than 1048576 bytes"),
    ] {
        *answers.lock().unwrap() = Some(answer);
        // what JSON escapes in the page's sense
        wait_said(&nginx, &[&format!("\"error\":\"{}\"", error.replace('\'', "\\u0027"))]);
        assert_eq!(get(nginx.address(), "/").text(), "ok");
    }
    *answers.lock().unwrap() = Some(b"{\"workers\":[{\"requests\":5,\"avg_rt\":1500}]}".to_vec());
    wait_said(&nginx, &["\"average\":1.5}"]);
    let lines = nginx.error_log();
    assert!(!lines.iter().any(|line| line.text.contains("stats")), "{lines:?}");
}

#[test]
fn stats_server_that_asks_first() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), ok);
    let path = dir.path().join("stats");
    stats_server(&path, |mut stream| {
        let mut request = [0; 200];
        let count = stream.read(&mut request).unwrap_or(0);
        let asked = request.starts_with(b"GET / HTTP/1.0\r\n") && count > 0;
        let body = if asked { "{\"workers\":[{\"requests\":9}]}" } else { "" };
        let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
    });
    let nginx = site(&backend.address().to_string(), &format!("unix:{}", path.display()));
    wait_said(&nginx, &["\"requests\":9,"]);
}

/// Beside the block, by its name; the first look says that the answer is awaited, and no number.
#[test]
fn by_the_name_of_an_upstream() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), ok);
    let path = dir.path().join("stats");
    stats_server(&path, |mut stream| {
        let _ = stream.write_all(b"{\"workers\":[{\"requests\":5}]}");
    });
    let pass = backend.address();
    let nginx = Nginx::start(&format!(
        "rs_uwsgi_stats unix:{} app;
         upstream other {{ server {pass}; }}
         server {{ listen 127.0.0.1:@port@;
             location /other {{ rs_uwsgi_pass other; }}
             location / {{ rs_uwsgi_pass app; }}
             location /status/ {{ rs_uwsgi_status; }} }}
         upstream app {{ server {pass}; }}",
        path.display()
    ));
    let first = look(&nginx);
    assert!(first.contains("\"age\":null,\"error\":null,\"stats\":null"), "{first}");
    wait_said(&nginx, &["\"requests\":5,"]);
    let json = get(nginx.address(), "/status/json?history=0").text();
    assert_eq!(json.matches("\"uwsgi\":").count(), 1, "the other upstream has none");
}

#[test]
fn addresses() {
    let check = |block: &str, text: &str| {
        let at = |name: &str| if name == block { text } else { "" };
        Nginx::builder()
            .http(&format!(
                "{} upstream u {{ server 127.0.0.1:1; {} }}
                 server {{ listen 127.0.0.1:@port@; {} location / {{ {} rs_uwsgi_pass u; }} }}",
                at("http"),
                at("upstream"),
                at("server"),
                at("location")
            ))
            .check()
    };
    for block in ["upstream", "location"] {
        for good in ["unix:/run/app-stats.sock", "127.0.0.1:9191", "[::1]:9191", "localhost:9191"] {
            let found = check(block, &format!("rs_uwsgi_stats {good};"));
            assert!(found.status.success(), "{block} {good}: {}", found.stderr);
        }
        for (bad, words) in [
            ("rs_uwsgi_stats;", "invalid number of arguments"),
            ("rs_uwsgi_stats 127.0.0.1:1 a b;", "invalid number of arguments"),
            (
                "rs_uwsgi_stats 127.0.0.1;",
                "no port in \"127.0.0.1\" of the \"rs_uwsgi_stats\" directive",
            ),
            ("rs_uwsgi_stats 127.0.0.1:x;", "invalid port in \"127.0.0.1:x\""),
            ("rs_uwsgi_stats unix:;", "no path in the unix domain socket in \"unix:\""),
            ("rs_uwsgi_stats 127.0.0.1:1; rs_uwsgi_stats 127.0.0.1:1;", "is duplicate"),
        ] {
            let found = check(block, bad);
            assert!(!found.status.success(), "{block} {bad}");
            assert!(found.stderr.contains(words), "{block} {bad}: {}", found.stderr);
        }
    }
    let found = check("server", "rs_uwsgi_stats 127.0.0.1:1;");
    assert!(found.stderr.contains("is not allowed here"), "{}", found.stderr);
    for (good, said) in [
        ("rs_uwsgi_stats 127.0.0.1:1 u;", ""),
        ("rs_uwsgi_stats 127.0.0.1:1 u; rs_uwsgi_stats 127.0.0.1:1 u;", ""),
        ("rs_uwsgi_stats 127.0.0.1:1;", "needs the name of an upstream in \"http\""),
        (
            "rs_uwsgi_stats 127.0.0.1:1 v;",
            ": no \"rs_uwsgi_pass\" passes to an \
             upstream \"v\"",
        ),
        ("rs_uwsgi_stats 127.0.0.1:1 u; rs_uwsgi_stats 127.0.0.1:2 u;", "contradict each other"),
    ] {
        let found = check("http", good);
        assert_eq!(found.status.success(), said.is_empty(), "{good}: {}", found.stderr);
        assert!(found.stderr.contains(said), "{good}: {}", found.stderr);
    }
    let both = Nginx::builder()
        .http(
            "upstream u { server 127.0.0.1:1; rs_uwsgi_stats 127.0.0.1:1; }
             server { listen 127.0.0.1:@port@; location / { rs_uwsgi_stats 127.0.0.1:2; rs_uwsgi_pass u; } }",
        )
        .check();
    assert!(both.stderr.contains("contradict each other"), "{}", both.stderr);
}
