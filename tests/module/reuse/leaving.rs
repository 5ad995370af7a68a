//! A worker that leaves, and servers that close idle connections themselves: gunicorn logs an error with
//! a traceback for each one that nginx closes first.

use super::{Site, GET, KEPT, PARKED};
use crate::prelude::*;
use std::sync::mpsc::Sender;
use std::thread::sleep;

const BY_SERVER: &str = "the server closed it";
const BY_WORKER: &str = "the worker is exiting";

/// A site whose server has once closed a connection that was idle for two seconds, and has another one
/// now, which it closes when the sender is dropped. `main` stands in front of everything.
fn learned(main: &str, location: &str) -> (Site, Sender<()>) {
    let server = format!("{location} location / {{ rs_uwsgi_pass @pass@; }}");
    let site = Site::builder().nginx(Nginx::builder().main(main)).visits().server(&server).start();
    site.answers.set(|peer, _| {
        peer.write(KEPT)?;
        sleep(Duration::from_secs(2));
        peer.close();
        Ok(())
    });
    assert_eq!(site.visit(GET).verdict, PARKED);
    assert_eq!(site.wait_idle_closed(1), [BY_SERVER]);
    let (close, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    site.answers.set(move |peer, _| {
        peer.write(KEPT)?;
        let _ = wait.lock().unwrap().recv();
        peer.close();
        Ok(())
    });
    assert_eq!(site.visit(GET).verdict, PARKED);
    (site, close)
}

fn wait_left(site: &Site) {
    wait_for("the worker to leave", || (site.nginx.workers_left() == 1).then_some(()));
}

#[test]
fn the_server_closes_first_where_it_does_so_soon() {
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        let (site, close) = learned("", "rs_uwsgi_keepalive_timeout 1h;");
        site.nginx.signal(signal);
        // the worker has closed what it closes at once
        wait_for("the worker to begin to leave", || {
            let log = std::fs::read_to_string(site.nginx.path("error.log")).unwrap_or_default();
            log.contains("gracefully shutting down").then_some(())
        });
        drop(close);
        assert_eq!(site.wait_idle_closed(2)[1], BY_SERVER);
        wait_left(&site);
        assert!(site.log().is_empty(), "{:?}", site.log());
    }
}

/// It is not waited for long, nor longer than `worker_shutdown_timeout`.
#[test]
fn a_worker_does_not_stay_for_a_server_that_does_not_close() {
    for main in ["", "worker_shutdown_timeout 100ms;"] {
        let (site, close) = learned(main, "rs_uwsgi_keepalive_timeout 1h;");
        let begin = Instant::now();
        site.nginx.signal(libc::SIGQUIT);
        assert_eq!(site.wait_idle_closed(2)[1], BY_WORKER, "{main}");
        wait_left(&site);
        if main.is_empty() {
            assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
        }
        drop(close);
    }
}

/// What the operator vouches for is no server's word: a core of uWSGI's `puwsgi-socket` is busy for as
/// long as a connection is open.
#[test]
fn only_where_the_server_says_keep_alive() {
    let (site, close) = learned("", "rs_uwsgi_keepalive_timeout 1h; rs_uwsgi_reuse on;");
    site.nginx.signal(libc::SIGQUIT);
    assert_eq!(site.wait_idle_closed(2)[1], BY_WORKER);
    wait_left(&site);
    drop(close);
}

#[test]
fn gunicorn_logs_nothing_when_nginx_reloads() {
    let application = root().join("tests/support/framing.py");
    let gunicorn =
        Gunicorn::builder(&application).worker_class("gthread").threads(4).unix().start();
    let nginx = Nginx::builder()
        .log_level("debug")
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass {}; }} }}",
            gunicorn.address()
        ))
        .start();
    let closed = || {
        let log = std::fs::read_to_string(nginx.path("error.log")).unwrap_or_default();
        [BY_SERVER, BY_WORKER].map(|why| log.matches(&format!("{why}\n")).count())
    };
    assert_eq!(get(nginx.address(), "/token?t=1").status, 200);
    wait_for("gunicorn to close it", || (closed() == [1, 0]).then_some(()));
    // one is there already: the start of the test has looked whether gunicorn listens, and hung up
    let tracebacks = || gunicorn.log().matches("Traceback").count();
    let before = tracebacks();
    assert_eq!(get(nginx.address(), "/token?t=1").status, 200);
    nginx.signal(libc::SIGHUP);
    wait_for("the connection to end", || (closed() != [1, 0]).then_some(()));
    assert_eq!(closed(), [2, 0], "closed by gunicorn, and by nginx");
    assert_eq!(tracebacks(), before, "{}", gunicorn.log());
}
