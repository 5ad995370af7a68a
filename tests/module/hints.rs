//! Lines of the log that say what to do: about real servers that are not what nginx was told, and no
//! more than one of each in a minute.

use crate::prelude::*;
use std::fs::{set_permissions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HTTP: &str = "has understood no request yet";
const BUFFER_SIZE: &str = "\"buffer-size\"";
const PERMISSION: &str = "connecting takes the permission";

fn application() -> PathBuf {
    root().join("tests/support/application.py")
}

/// The one line, beside the failure that it explains, that holds `text`.
fn one_line(nginx: &Nginx, text: &str) -> String {
    let lines = nginx.logged(text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0].level, "error");
    lines[0].text.clone()
}

#[test]
fn a_server_that_answers_in_http() {
    let server = Gunicorn::builder(&application()).arguments(&["--protocol", "http"]).start();
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", server.address()));
    // A length of ten is the end of a line, so that gunicorn takes what it has got for one.
    for _ in 0..3 {
        let response = get_with(nginx.address(), "/", "X-A: 0123456789\r\n");
        assert_eq!(response.status, 400, "{}", server.log());
    }
    let line = one_line(&nginx, HTTP);
    assert!(line.starts_with(&format!("\"{}\" {HTTP}: if it speaks HTTP", server.address())));
}

#[test]
fn a_server_that_waits_for_the_end_of_a_line() {
    let server = Gunicorn::builder(&application()).arguments(&["--protocol", "http"]).start();
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_param A b; rs_uwsgi_read_timeout 50ms; rs_uwsgi_pass {}; }}",
        server.address()
    ));
    for number in 1..6 {
        assert_eq!(get(nginx.address(), "/").status, 504);
        // one that is slow once is no reason to doubt it
        assert_eq!(nginx.logged(HTTP).len(), usize::from(number >= 2), "{number}");
    }
    one_line(&nginx, HTTP);
}

/// A uWSGI that waits for HTTP gives up before nginx does.
#[test]
fn an_http_socket_of_uwsgi() {
    let server = Uwsgi::http(&application(), &["--socket-timeout", "1"]);
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", server.address()));
    for number in 1..4 {
        assert_eq!(get(nginx.address(), "/").status, 502, "{}", server.log());
        assert_eq!(nginx.logged(HTTP).len(), usize::from(number >= 2), "{number}");
    }
    one_line(&nginx, HTTP);
}

/// uWSGI begins its answers with what it was told of the protocol.
#[test]
fn a_protocol_that_is_none() {
    let server = Uwsgi::unix(&application());
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_param SERVER_PROTOCOL $scheme; rs_uwsgi_pass {0};
            rs_uwsgi_param REQUEST_METHOD $request_method; rs_uwsgi_param PATH_INFO $uri; }}
        location /right {{ rs_uwsgi_param SERVER_PROTOCOL HTTP/1.1; rs_uwsgi_pass {0};
            rs_uwsgi_param REQUEST_METHOD $request_method; rs_uwsgi_param PATH_INFO $uri; }}",
        server.address()
    ));
    assert_eq!(get(nginx.address(), "/right").status, 200);
    for _ in 0..2 {
        assert_eq!(get(nginx.address(), "/").status, 502);
    }
    let line = one_line(&nginx, "SERVER_PROTOCOL");
    assert!(line.contains("\"SERVER_PROTOCOL\" is \"http\", which is no protocol"), "{line}");
    assert_eq!(nginx.logged("upstream sent invalid header").len(), 2);
}

#[test]
fn a_page_without_a_head() {
    let dir = nginx::prefix();
    // Python's http.server answers a line that is no request so.
    let page = b"<!DOCTYPE HTML>\n<html lang=\"en\">\n<title>Error response</title></html>\n";
    let backend = Backend::unix(&dir.path().join("b"), move |peer| peer.answer(page));
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", backend.address()));
    assert_eq!(get(nginx.address(), "/").status, 502);
    one_line(&nginx, HTTP);
}

#[test]
fn a_server_that_was_understood_may_answer_400() {
    let server = Uwsgi::unix(&application());
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", server.address()));
    assert_eq!(get(nginx.address(), "/echo").status, 200);
    assert_eq!(get(nginx.address(), "/status/400").status, 400);
    assert!(nginx.logged(HTTP).is_empty());
}

#[test]
fn a_server_that_fails_on_small_vars_is_not_told_of_its_buffer() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        peer.read_request()?;
        peer.close();
        Ok(())
    });
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", backend.address()));
    assert_eq!(get(nginx.address(), "/").status, 502);
    assert!(nginx.logged(BUFFER_SIZE).is_empty() && nginx.logged(HTTP).is_empty());
}

#[test]
fn a_socket_that_the_worker_may_not_write_to() {
    let server = Uwsgi::unix(&application());
    let path = server.address().to_string().replace("unix:", "");
    set_permissions(Path::new(&path).parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    // root may do anything; an ordinary user may not even write to a socket that is its own
    let (user, worker) = match whoami().as_str() {
        "root" => ("user nobody nogroup;", "nobody".to_string()),
        _ => (nginx::user(), whoami()),
    };
    let nginx = Nginx::builder().whole(&format!(
        "load_module {}; {user} pid @dir@/nginx.pid; error_log @dir@/error.log info;
        events {{ }}
        http {{ access_log @dir@/access.log; server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass {}; }} }} }}",
        module_path().display(),
        server.address()
    ));
    let nginx = nginx.expects("failed (13: Permission denied)").start();
    for _ in 0..2 {
        assert_eq!(get(nginx.address(), "/").status, 502);
    }
    let line = one_line(&nginx, PERMISSION);
    let begin = format!("\"{path}\" belongs to user \"{}\" and group \"", whoami());
    assert!(line.starts_with(&begin), "{line}");
    assert!(
        line.contains(&format!("\" with mode 0400, the worker is user \"{worker}\": ")),
        "{line}"
    );
    let failed = nginx.logged("connect() to unix:");
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|line| line.level == "crit"), "{failed:#?}");
    assert!(failed[0]
        .text
        .contains(" failed (13: Permission denied) while connecting to upstream"));
}

/// The name of the user that the tests run as.
fn whoami() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
