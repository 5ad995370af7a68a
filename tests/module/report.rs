//! What a test that fails shows: the test runner prints it with the failure.

use crate::prelude::*;
use std::process::Command;

#[test]
#[ignore = "fails; run by configuration_and_logs"]
fn fails() {
    let dir = nginx::prefix();
    let backend =
        Backend::unix(&dir.path().join("b"), |peer| peer.answer(b"Status: 200 Sent\r\n\r\n"));
    let uwsgi = Uwsgi::unix(&root().join("tests/support/application.py"));
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_param SEEN $uri; rs_uwsgi_pass {}; }}
        location /other {{ rs_uwsgi_pass {}; }}
        location /gone {{ rs_uwsgi_pass unix:@dir@/gone; }}",
        backend.address(),
        uwsgi.address(),
    ));
    for path in ["/received", "/other", "/gone"] {
        get(nginx.address(), path);
    }
    panic!("on purpose");
}

/// As `fails`, where only the script of the backend does, after nginx has gone.
#[test]
#[ignore = "fails; run by configuration_and_logs"]
fn script_fails() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        peer.read_request()?;
        panic!("on purpose");
    });
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_param SEEN $uri; rs_uwsgi_pass {}; }}",
        backend.address()
    ));
    get(nginx.address(), "/received");
    drop(nginx);
}

#[test]
fn configuration_and_logs() {
    let shown = |name: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--ignored", "--exact", name]).output().unwrap();
        assert!(!output.status.success(), "{name} has not failed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let fails = shown("report::fails");
    for text in [
        "rs_uwsgi_param SEEN $uri;",
        nginx::NO_SOCKET,
        "spawned uWSGI worker",
        "SEEN\\t\\x00/received",
        "Status: 200 Sent",
    ] {
        assert!(fails.contains(text), "{text:?} is not in:\n{fails}");
    }
    let script_fails = shown("report::script_fails");
    for text in ["rs_uwsgi_param SEEN $uri;", "prematurely closed", "SEEN\\t\\x00/received"] {
        assert!(script_fails.contains(text), "{text:?} is not in:\n{script_fails}");
    }
}
