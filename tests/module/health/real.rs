//! Real servers that are stopped, stand still, or answer that they are not well.

use super::{site, wait_lines, DOWN, SOON, UP};
use crate::prelude::*;
use std::path::{Path, PathBuf};

const APPLICATION: &str = "
import os, time
def application(environ, start_response):
    assert environ['PATH_INFO'] != '/health' or environ['HTTP_X_RS_UWSGI_HEALTH_CHECK'] == '1'
    if os.path.exists('hangs'):
        time.sleep(60)
    bad = environ['PATH_INFO'] == '/health' and os.path.exists('bad')
    start_response('500 Bad' if bad else '200 OK', [('Content-Length', '2')])
    return [b'ok']
";

pub(super) fn application(dir: &Path) -> PathBuf {
    let path = dir.join("health_app.py");
    fs::write(&path, APPLICATION).unwrap();
    path
}

fn down_and_up(nginx: &Nginx, what: &str, breaks: impl Fn(), mends: impl Fn()) {
    let (down, up) = (nginx.logged(DOWN).len(), nginx.logged(UP).len());
    breaks();
    wait_lines(nginx, DOWN, down + 1);
    let line = nginx.logged(DOWN).pop().unwrap();
    assert!(line.text.contains(what), "{what}? {}", line.text);
    assert_eq!(line.level, "warn");
    mends();
    wait_lines(nginx, UP, up + 1);
    assert_eq!(get(nginx.address(), "/").status, 200);
}

/// uWSGI that stands still, and an application that answers 500.
#[test]
fn real_uwsgi() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let arguments = ["--plugin", "ping", "--wsgi-file", file.to_str().unwrap()];
    let socket = dir.path().join("uwsgi.sock");
    let uwsgi = Uwsgi::start(dir, Address::Unix(socket), &arguments);
    let bad = match uwsgi.address() {
        Address::Unix(path) => path.with_file_name("bad"),
        Address::Tcp(_) => unreachable!(),
    };
    let site = |probe: &str| {
        Nginx::serve(&format!(
            "location / {{ rs_uwsgi_pass {}; rs_uwsgi_health_check {probe}
                interval=30ms timeout=300ms fails=2 passes=2; }}",
            uwsgi.address()
        ))
    };
    let nginx = site("uri=/health");
    let (make, remove) = (|| fs::write(&bad, "").unwrap(), || fs::remove_file(&bad).unwrap());
    down_and_up(&nginx, "it answered with status 500", make, remove);
    // the application could write what it had to say
    assert!(!uwsgi.log().contains("write error"), "{}", uwsgi.log());
    let still = "timed out while waiting for the answer";
    down_and_up(&nginx, still, || uwsgi.pause(), || uwsgi.resume());
    nginx.quit();
    let nginx = site("ping");
    down_and_up(&nginx, still, || uwsgi.pause(), || uwsgi.resume());
}

/// A uWSGI without the plugin closes the connection: that it can be reached is all that is known, and the log
/// says so.
#[test]
fn real_uwsgi_without_the_plugin() {
    let uwsgi = Uwsgi::unix(&root().join("tests/support/application.py"));
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_pass {}; rs_uwsgi_health_check ping {SOON}; }}",
        uwsgi.address()
    ));
    let line = nginx.wait_logged("closes the connection on a ping");
    assert!(line.text.contains("let uWSGI load its plugin \"ping\""), "{}", line.text);
    assert_eq!(get(nginx.address(), "/").status, 200);
    assert!(nginx.logged(DOWN).is_empty());
}

/// Of two gunicorns one is killed: not one request fails that another could have answered, once that is known.
#[test]
fn real_gunicorn() {
    let dir = nginx::prefix();
    let file = application(dir.path());
    let mut servers: Vec<_> = (0..2).map(|_| Gunicorn::builder(&file).workers(2).start()).collect();
    let nginx = site(&format!(
        "server {}; server {}; rs_uwsgi_health_check uri=/health {SOON};",
        servers[0].address(),
        servers[1].address()
    ));
    assert!((0..10).all(|_| get(nginx.address(), "/").status == 200));
    // a stop, in which it finishes what it has
    servers[0].stop();
    let line = nginx.wait_logged(DOWN);
    assert!(line.text.contains("refused"), "{}", line.text);
    let failed = nginx.logged("connect() failed").len();
    assert!((0..30).all(|_| get(nginx.address(), "/").status == 200));
    assert_eq!(nginx.logged("connect() failed").len(), failed);
    nginx.expects("connect() failed");
}
