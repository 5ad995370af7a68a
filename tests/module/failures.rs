//! What breaks on an ordinary day: the line in the log at Debian's level leads to a row of docs/troubleshooting.md,
//! and what that row says puts it right.

use crate::prelude::*;

const SOCKET: &str = "uwsgi.sock";

/// A site at Debian's level of the log, before the socket in a folder that outlives its servers.
fn site(dir: &TempDir, settings: &str) -> Nginx {
    let http = format!(
        "large_client_header_buffers 8 64k;
         server {{ listen 127.0.0.1:@port@; {settings} location / {{ rs_uwsgi_pass {}; }} }}",
        socket(dir)
    );
    let builder = Nginx::builder().log_level("error").http(&http);
    builder.expects("failed (2: No such file or directory)").start()
}

fn socket(dir: &TempDir) -> Address {
    Address::Unix(dir.path().join(SOCKET))
}

/// A uWSGI on that socket.
fn serve(dir: &TempDir, arguments: &[&str]) -> Uwsgi {
    let application = root().join("tests/support/application.py");
    let file = ["--wsgi-file", application.to_str().unwrap()];
    Uwsgi::start(nginx::prefix(), socket(dir), &[&file[..], arguments].concat())
}

/// Does a line of the log have these words of a row? "…" and "N" stand for anything.
fn is_line(pattern: &str, line: &str) -> bool {
    let pattern = pattern.replace(" N ", " … ");
    let mut rest = line;
    pattern.split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The row of a line has its level, and names the remedy.
fn assert_row(line: &str, level: &str, remedy: &str) {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let is_its = |row: &&str| {
        let cells: Vec<_> = row.split(" | ").collect();
        row.starts_with("| `")
            && cells[1].contains(level)
            && cells[0].split('`').skip(1).step_by(2).any(|pattern| is_line(pattern, line))
    };
    let rows: Vec<_> = text.lines().filter(is_its).collect();
    assert!(rows.iter().any(|row| row.contains(remedy)), "{level}: {line}\n{rows:#?}");
}

/// As `assert_row`, of the line of the log that holds `text`.
fn assert_explained(nginx: &Nginx, text: &str, remedy: &str) {
    let line = nginx.wait_logged(text);
    assert_row(&line.text, &line.level, remedy);
}

#[test]
fn a_server_that_is_not_started() {
    let dir = nginx::prefix();
    let nginx = site(&dir, "");
    assert_eq!(get(nginx.address(), "/echo").status, 502);
    assert_explained(&nginx, "connect() to unix:", "start the server");
    let _server = serve(&dir, &[]);
    assert_eq!(get(nginx.address(), "/echo").status, 200);
}

#[test]
fn a_buffer_size_that_is_too_small() {
    let dir = nginx::prefix();
    let nginx = site(&dir, "");
    let mut server = serve(&dir, &["--buffer-size", "4096"]);
    let header = format!("X-A: {}\r\n", "a".repeat(6000));
    assert_eq!(get_with(nginx.address(), "/echo", &header).status, 431);
    assert_explained(&nginx, "bytes of vars", "raise `buffer-size`");
    server.stop();
    let _server = serve(&dir, &["--buffer-size", "32768"]);
    // nginx lets one through a second later, and finds out
    wait_for("larger vars to pass", || {
        (get_with(nginx.address(), "/echo", &header).status == 200).then_some(())
    });
}

#[test]
fn a_cookie_that_is_too_large() {
    let dir = nginx::prefix();
    let (_server, nginx) = (serve(&dir, &[]), site(&dir, "rs_uwsgi_max_vars 4k;"));
    let header = format!("Cookie: a={}\r\n", "a".repeat(6000));
    assert_eq!(get_with(nginx.address(), "/echo", &header).status, 431);
    assert_explained(&nginx, "client sent too large request", "a cookie as a rule");
    assert_eq!(get_with(nginx.address(), "/echo", "Cookie: a=b\r\n").status, 200);
}

#[test]
fn a_server_that_stands_still() {
    let dir = nginx::prefix();
    let nginx = site(
        &dir,
        "location /slow { rs_uwsgi_read_timeout 100ms; rs_uwsgi_pass unix:@socket@; }"
            .replace("unix:@socket@", &socket(&dir).to_string())
            .as_str(),
    );
    let mut server = serve(&dir, &[]);
    server.pause();
    assert_eq!(get(nginx.address(), "/slow").status, 504);
    assert_explained(&nginx, "upstream timed out", "a restart");
    server.stop();
    let _server = serve(&dir, &[]);
    assert_eq!(get(nginx.address(), "/echo").status, 200);
}

#[test]
fn a_misspelt_upstream() {
    let check = |name: &str| {
        let http = format!(
            "upstream app {{ server unix:/none; }}
             server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass {name}; }} }}"
        );
        Nginx::builder().http(&http).check()
    };
    let said = check("ap").stderr;
    let line = said.lines().find(|line| line.contains("[emerg]")).unwrap();
    assert_row(line, "emerg", "is the name spelt as that of the block?");
    assert!(check("app").status.success());
}

/// An address of TCP: a uWSGI that speaks HTTP there waits for the end of a line, and gives up first.
#[test]
fn an_http_socket() {
    let application = root().join("tests/support/application.py");
    let mut server = Uwsgi::http(&application, &["--socket-timeout", "1"]);
    let address = server.address().to_string();
    let server_block = format!("location / {{ rs_uwsgi_pass {address}; }}");
    let http = format!("server {{ listen 127.0.0.1:@port@; {server_block} }}");
    let nginx = Nginx::builder().log_level("error").http(&http).start();
    for _ in 0..2 {
        assert_eq!(get(nginx.address(), "/echo").status, 502);
    }
    assert_explained(&nginx, "has understood no request yet", "`socket` for `http-socket`");
    server.stop();
    let address = Address::Tcp(address.parse().unwrap());
    let file = ["--wsgi-file", application.to_str().unwrap()];
    let _server = Uwsgi::start(nginx::prefix(), address, &file);
    assert_eq!(get(nginx.address(), "/echo").status, 200);
}

#[test]
fn a_request_that_is_slower_than_harakiri() {
    const APPLICATION: &str =
        "import time\ndef application(environ, start_response):\n    time.sleep(5)\n    \
        start_response('200 OK', [])\n    return [b'slow']\n";
    let dir = nginx::prefix();
    let file = dir.path().join("slow.py");
    fs::write(&file, APPLICATION).unwrap();
    let start = |seconds: &str| {
        let file = ["--wsgi-file", file.to_str().unwrap()];
        let arguments = [&file[..], &["--master", "--harakiri", seconds]].concat();
        Uwsgi::start(nginx::prefix(), socket(&dir), &arguments)
    };
    let nginx = site(&dir, "");
    let mut server = start("1");
    assert_eq!(get(nginx.address(), "/").status, 502);
    let remedy = "find out what is slow, or raise it";
    assert_explained(&nginx, "upstream prematurely closed connection", remedy);
    wait_for("uWSGI to say so", || server.log().contains("HARAKIRI ON WORKER").then_some(()));
    server.stop();
    let _server = start("60");
    assert_eq!(get(nginx.address(), "/").text(), "slow");
}

#[test]
fn a_response_that_is_shorter_than_it_says() {
    let dir = nginx::prefix();
    let file = dir.path().join("short.py");
    let start = |length: &str| {
        let text = format!(
            "def application(environ, start_response):\n    \
             start_response('200 OK', [('Content-Length', '{length}')])\n    return [b'short']\n"
        );
        fs::write(&file, text).unwrap();
        let arguments = ["--wsgi-file", file.to_str().unwrap()];
        Uwsgi::start(nginx::prefix(), socket(&dir), &arguments)
    };
    let nginx = site(&dir, "");
    let mut server = start("50");
    assert_eq!(get(nginx.address(), "/").end, End::Cut);
    let text = "upstream prematurely closed connection while reading upstream";
    assert_explained(&nginx, text, "the server's own log");
    server.stop();
    let _server = start("5");
    assert_eq!(get(nginx.address(), "/").text(), "short");
}
