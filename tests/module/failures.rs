//! What breaks on an ordinary day: the line in the log at Debian's level leads to a row of docs/troubleshooting.md,
//! and what that row says puts it right.

use crate::prelude::*;
use crate::support::process;
use std::fs::{set_permissions, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

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

/// A row of tests/failures.tsv.
struct Failure {
    answer: String,
    line: String,
    remedy: String,
}

const TABLE: &str = include_str!("../failures.tsv");

fn failure(name: &str) -> Failure {
    let is_its = |row: &&str| row.split('\t').next() == Some(name);
    let row = TABLE.lines().find(is_its).unwrap_or_else(|| panic!("no row of {name:?}"));
    let cells: Vec<String> = row.split('\t').map(str::to_string).collect();
    let [_, answer, line, remedy] = cells.try_into().unwrap();
    Failure { answer, line, remedy }
}

impl Failure {
    /// The client got what the table says.
    fn assert_answer(&self, response: &Response) {
        match response.end {
            End::Cut => assert_eq!(self.answer, "cut"),
            _ => assert_eq!(response.status.to_string(), self.answer),
        }
    }

    /// The line leads to the row that names the remedy.
    fn assert_explained(&self, line: &str) {
        let mut find = process::command(root().join("scripts/messages"));
        let found = find.args(["find", line]).output().unwrap();
        let row = String::from_utf8_lossy(&found.stdout);
        let what_to_do = row.trim_end().rsplit('\t').next().unwrap();
        let why = String::from_utf8_lossy(&found.stderr);
        assert!(what_to_do.contains(&self.remedy), "{line}\n{row}{why}");
    }

    fn assert_logged(&self, nginx: &Nginx) {
        let line = nginx.wait_logged(&self.line);
        self.assert_explained(&format!("[{}] {}", line.level, line.text));
    }

    /// Both, of a request that failed.
    fn assert(&self, response: &Response, nginx: &Nginx) {
        self.assert_answer(response);
        self.assert_logged(nginx);
    }
}

#[test]
fn each_of_the_table_is_a_test() {
    let rows: Vec<_> = TABLE.lines().filter(|row| !row.starts_with('#')).collect();
    assert_eq!(rows.len(), 12);
    for row in rows {
        let name = row.split('\t').next().unwrap();
        let call = format!("failure({name:?})");
        assert!(include_str!("failures.rs").contains(&call), "no {call}");
    }
}

#[test]
fn a_server_that_is_not_started() {
    let dir = nginx::prefix();
    let nginx = site(&dir, "");
    let failure = failure("a server that is not started");
    failure.assert(&get(nginx.address(), "/echo"), &nginx);
    let _server = serve(&dir, &[]);
    assert_eq!(get(nginx.address(), "/echo").status, 200);
}

#[test]
fn a_buffer_size_that_is_too_small() {
    let dir = nginx::prefix();
    let nginx = site(&dir, "");
    let mut server = serve(&dir, &["--buffer-size", "4096"]);
    let header = format!("X-A: {}\r\n", "a".repeat(6000));
    let failure = failure("a buffer size that is too small");
    failure.assert(&get_with(nginx.address(), "/echo", &header), &nginx);
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
    let failure = failure("a cookie that is too large");
    failure.assert(&get_with(nginx.address(), "/echo", &header), &nginx);
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
    failure("a server that stands still").assert(&get(nginx.address(), "/slow"), &nginx);
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
    let failure = failure("a misspelt upstream");
    assert!(line.contains(&failure.line), "{line}");
    failure.assert_explained(line);
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
    let failure = failure("an http socket");
    for _ in 0..2 {
        failure.assert_answer(&get(nginx.address(), "/echo"));
    }
    failure.assert_logged(&nginx);
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
    let failure = failure("a request that is slower than harakiri");
    failure.assert(&get(nginx.address(), "/"), &nginx);
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
    let failure = failure("a response that is shorter than it says");
    failure.assert(&get(nginx.address(), "/"), &nginx);
    server.stop();
    let _server = start("5");
    assert_eq!(get(nginx.address(), "/").text(), "short");
}

/// A site whose workers are not root, for whom there are no permissions.
fn site_of_a_user(dir: &TempDir) -> Nginx {
    let user = match nginx::user() {
        "user root;" => "user nobody nogroup;",
        own => own,
    };
    let whole = format!(
        "load_module {};\n{user}\npid @dir@/nginx.pid;\nerror_log @dir@/error.log error;
         error_log @dir@/warnings.log warn;
         events {{ }}
         http {{ access_log @dir@/access.log;
             server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass {}; }} }} }}",
        module_path().display(),
        socket(dir)
    );
    Nginx::builder().whole(&whole).expects("failed (13: Permission denied)").start()
}

#[test]
fn a_socket_without_permission() {
    let dir = nginx::prefix();
    let (mut server, nginx) = (serve(&dir, &[]), site_of_a_user(&dir));
    set_permissions(dir.path().join(SOCKET), Permissions::from_mode(0o400)).unwrap();
    let failure = failure("a socket without permission");
    failure.assert(&get(nginx.address(), "/echo"), &nginx);
    let who = nginx.wait_logged("connecting takes the permission");
    assert_eq!(who.level, "error");
    server.stop();
    let group: &[&str] = match nginx::user() {
        "user root;" => &["--chown-socket", "root:nogroup"],
        _ => &[],
    };
    let _server = serve(&dir, &[&["--chmod-socket=660"], group].concat());
    assert_eq!(get(nginx.address(), "/echo").status, 200);
}

#[test]
fn a_listen_queue_that_is_full() {
    let dir = nginx::prefix();
    let nginx = site(&dir, "rs_uwsgi_queue 2;");
    let server = serve(&dir, &["--listen", "4", "--threads", "1"]);
    server.pause();
    let send = |to| {
        let mut client = Client::connect(to);
        client.send(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
        client
    };
    let failure = failure("a listen queue that is full");
    let _first: Vec<_> = (0..20).map(|_| send(nginx.address())).collect();
    nginx.wait_logged(&failure.line);
    failure.assert(&get(nginx.address(), "/echo"), &nginx);
    let path = nginx.path("nginx.conf");
    let conf = fs::read_to_string(&path).unwrap();
    // where only those listen who know the larger queue
    let address = nginx.address_of(1, [127, 0, 0, 1]);
    let larger = format!("listen {address}; rs_uwsgi_queue 200;");
    fs::write(&path, conf.replace("rs_uwsgi_queue 2;", &larger)).unwrap();
    nginx.signal(libc::SIGHUP);
    wait_for("the larger queue", || TcpStream::connect(address).ok());
    let second: Vec<_> = (0..20).map(|_| send(address)).collect();
    server.resume();
    for mut client in second {
        assert_eq!(client.response(false).unwrap().status, 200);
    }
}

#[test]
fn a_temporary_folder_that_cannot_be_written() {
    const LENGTH: usize = 32 << 20;
    let dir = nginx::prefix();
    let file = dir.path().join("large.py");
    let text = format!(
        "def application(environ, start_response):\n    \
         start_response('200 OK', [('Content-Length', '{LENGTH}')])\n    \
         return [b'x' * 65536] * {}\n",
        LENGTH / 65536
    );
    fs::write(&file, text).unwrap();
    let arguments = ["--wsgi-file", file.to_str().unwrap(), "--chmod-socket=666"];
    let (_server, nginx) =
        (Uwsgi::start(nginx::prefix(), socket(&dir), &arguments), site_of_a_user(&dir));
    let folder = nginx.path("temp/rs_uwsgi");
    let rights = |mode| set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
    // one who reads more slowly than the server sends
    let ask = || {
        let mut client = Client::connect(nginx.address());
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client
    };
    let failure = failure("a temporary folder that cannot be written");
    rights(0);
    let mut client = ask();
    nginx.wait_logged(&failure.line);
    failure.assert(&client.response(false).unwrap(), &nginx);
    rights(0o700);
    let mut client = ask();
    wait_for("a temporary file", || {
        let said = fs::read_to_string(nginx.path("warnings.log")).unwrap();
        said.contains("buffered to a temporary file").then_some(())
    });
    assert_eq!(client.response(false).unwrap().body.len(), LENGTH);
}

#[test]
fn an_application_with_an_import_error() {
    let dir = nginx::prefix();
    let file = dir.path().join("site.py");
    let arguments = ["--wsgi-file", file.to_str().unwrap()];
    let start = |module: &str| {
        let text = format!(
            "import {module}\ndef application(environ, start_response):\n    \
             start_response('200 OK', [])\n    return [b'page']\n"
        );
        fs::write(&file, text).unwrap();
        Uwsgi::start_anyway(nginx::prefix(), socket(&dir), &arguments)
    };
    let nginx = site(&dir, "");
    let mut server = start("misspelt");
    let failure = failure("an application with an import error");
    failure.assert_answer(&get(nginx.address(), "/"));
    let status = nginx.wait_requests(1)[0].split(' ').nth(8).unwrap().to_string();
    assert_eq!(nginx.error_log(), []);
    let line = format!("none, and the access log has {status}");
    assert_eq!(failure.line, line);
    failure.assert_explained(&line);
    for said in ["ModuleNotFoundError: No module named 'misspelt'", "no python application found"] {
        wait_for(said, || server.log().contains(said).then_some(()));
    }
    server.stop();
    let _server = start("json");
    assert_eq!(get(nginx.address(), "/").text(), "page");
}
