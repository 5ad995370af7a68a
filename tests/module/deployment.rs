//! What docs/deployment.md shows, in front of real servers: its configurations with their paths and ports replaced and
//! nothing else changed.

use crate::prelude::*;
use crate::support::process::{command, Process};
use crate::support::{gunicorn, nginx::prefix};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

/// The block of code below a heading that begins with this line.
fn block(heading: &str, first: &str) -> String {
    let page = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let block = section.split(&format!("```{first}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_string()
}

fn application() -> std::path::PathBuf {
    root().join("tests/support/application.py")
}

/// A server that logs into a folder.
fn spawn(program: &Path, arguments: &[&str], folder: &Path) -> Process {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = command(program);
    command.args(arguments).current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Process::spawn(command).unwrap()
}

fn get_path(to: SocketAddr, path: &str) -> Response {
    client::get(to, path)
}

#[test]
fn uwsgi() {
    let dir = prefix();
    let here = |name: &str| format!("{}/{name}", dir.path().display());
    fs::copy(application(), dir.path().join("application.py")).unwrap();
    let ini = block("uWSGI", "ini");
    let ini = ini.replace("/srv/app", here("").trim_end_matches('/'));
    fs::write(here("app.ini"), ini.replace("/run/uwsgi/", &here(""))).unwrap();
    let socket = dir.path().join("app.sock");
    let start = || {
        let arguments = ["--ini", &here("app.ini")];
        let uwsgi = spawn(Path::new("/usr/bin/uwsgi-core"), &arguments, dir.path());
        let address = Address::Unix(socket.clone());
        wait_for("uWSGI to listen", || address.connect().ok());
        uwsgi
    };
    let mut uwsgi = start();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let site = block("uWSGI", "nginx")
        .replace("/run/uwsgi/", &here(""))
        .replace("/var/log/nginx/app.error.log warn", "@dir@/error.log info")
        .replace("listen 80;", "listen 127.0.0.1:@port@;");
    let nginx = Nginx::builder().http(&site).start();
    let to = nginx.address();
    assert_eq!(get_path(to, "/environ/").status, 200);
    // both agree on what is too large
    let with_cookie = |size: usize| {
        let cookie = "x".repeat(size);
        exchange(to, format!("GET /environ/ HTTP/1.0\r\nCookie: {cookie}\r\n\r\n").as_bytes())
    };
    assert_eq!(with_cookie(30_000).status, 200);
    assert_eq!(with_cookie(40_000).status, 431);
    assert!(nginx.wait_logged("client sent too large").text.contains("HTTP_COOKIE"));
    // SIGTERM ends it and takes its socket away, and a request waits for the next
    uwsgi.signal(libc::SIGTERM);
    assert!(uwsgi.wait(DEADLINE).is_some(), "{}", fs::read_to_string(here("log")).unwrap());
    assert!(!socket.exists());
    let waiting = std::thread::spawn(move || get_path(to, "/environ/").status);
    nginx.wait_logged("refuses connections, requests wait for it");
    let _uwsgi = start();
    assert_eq!(waiting.join().unwrap(), 200);
}

#[test]
fn gunicorn_by_its_command() {
    let dir = prefix();
    fs::copy(application(), dir.path().join("application.py")).unwrap();
    let folder = format!("{}/", dir.path().display());
    let shown = block("gunicorn", "");
    let config = root().join("nginx-conf/gunicorn.conf.py").display().to_string();
    let shown = shown.replace("\\\n", " ").replace("/run/gunicorn/", &folder);
    let shown = shown.replace("gunicorn.conf.py", &config);
    let mut words = shown.split_whitespace();
    assert_eq!(words.next(), Some("gunicorn"));
    let arguments: Vec<_> = words.collect();
    let _gunicorn = spawn(&gunicorn::program(Version::Current), &arguments, dir.path());
    let address = Address::Unix(dir.path().join("app.sock"));
    wait_for("gunicorn to listen", || address.connect().ok());
    let nginx = Nginx::serve(&format!(
        "add_header Connection-Was $rs_uwsgi_connection;
         location / {{ rs_uwsgi_pass {address}; }}"
    ));
    let mut client = Client::connect(nginx.address());
    for connection in ["new", "reused"] {
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.response(false).unwrap();
        assert_eq!(response.header("Connection-Was"), Some(connection));
    }
    let text = get_path(nginx.address(), "/environ/caf%25C3%25A9").text();
    assert!(text.contains("PATH_INFO=/environ/caf%C3%A9\n"), "{text}");
    assert!(text.contains("REMOTE_ADDR=127.0.0.1\n"), "{text}");
}

/// What gunicorn says of an idle connection that nginx closes, and of one on which nothing came. Where it says so no
/// more, the page need not.
#[test]
fn gunicorn_of_a_closed_connection() {
    let gunicorn = Gunicorn::builder(&application()).worker_class("gthread").keepalive(60).start();
    let nginx = Nginx::serve(&format!(
        "rs_uwsgi_keepalive_timeout 100ms; location / {{ rs_uwsgi_pass {}; }}",
        gunicorn.address()
    ));
    let said = "InvalidUWSGIHeader: Invalid uWSGI header: incomplete header";
    let times = || gunicorn.log().matches(said).count();
    // its start was waited for by connecting
    wait_for("gunicorn to say so", || (times() > 0).then_some(()));
    let before = times();
    assert_eq!(get_path(nginx.address(), "/").status, 200);
    wait_for("gunicorn to say so again", || (times() > before).then_some(()));
}

/// A container that comes back with another address is found by its name.
#[test]
fn containers() {
    let mut old = Uwsgi::tcp(&application());
    let Address::Tcp(address) = *old.address() else { unreachable!() };
    let dns = Dns::start(&[("app", [127, 0, 0, 1].into())]);
    let site = block("Containers", "nginx")
        .replace("listen 80;", "listen 127.0.0.1:@port@;")
        .replace("127.0.0.11", &dns.address().to_string())
        .replace("app:3031", &format!("app:{}", address.port()));
    let nginx = Nginx::builder().http(&site).expects("Connection refused").start();
    let asked = |path: &str| {
        let response = get_path(nginx.address(), path);
        (response.status, response.text())
    };
    let (status, of_the_old) = asked("/environ/");
    assert_eq!(status, 200);
    let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
    let arguments = ["--wsgi-file", &application().display().to_string()];
    let _new = Uwsgi::start(prefix(), Address::Tcp(other), &arguments);
    old.stop();
    dns.set("app", [127, 0, 0, 2].into());
    let pid = |text: &str| text.lines().find(|line| line.starts_with("pid=")).map(String::from);
    let of_the_new = wait_for("the other address to be found", || {
        let (status, text) = asked("/environ/");
        (status == 200).then_some(text)
    });
    assert_ne!(pid(&of_the_old), pid(&of_the_new));
}

/// gunicorn takes connections of its own host, and of others only where it is told so.
#[test]
fn gunicorn_for_other_hosts() {
    for (arguments, status) in [(&[][..], 500), (&["--uwsgi-allow-from", "*"][..], 200)] {
        let gunicorn = Gunicorn::start(&application(), arguments, &[]);
        let nginx = Nginx::builder()
            .http(&format!(
                "server {{ listen 127.0.0.1:@port@;
                    location / {{ rs_uwsgi_bind 127.0.0.2; rs_uwsgi_pass {}; }} }}",
                gunicorn.address()
            ))
            .start();
        assert_eq!(get_path(nginx.address(), "/environ/").status, status, "{arguments:?}");
    }
}
