//! Servers over TCP, of which nothing tells that their listen queue is full.

use super::{
    answers, assert_bodies, assert_no_errors, get, post, send, site_with, wait_busy, SHORT,
};
use crate::prelude::*;
use crate::status::Metrics;
use crate::support::kernel::raise_descriptor_limit;
use std::io::{Read, Write};

const BURST: usize = 300;

/// uWSGI with so many processes and a listen queue of `listen` connections.
fn uwsgi(application: &str, listen: usize, processes: usize) -> Uwsgi {
    raise_descriptor_limit();
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], nginx::free_port())));
    let application = root().join("tests/support").join(application);
    let (listen, processes) = (listen.to_string(), processes.to_string());
    let arguments = ["--wsgi-file", application.to_str().unwrap(), "--listen", &listen];
    let more = ["--master", "--processes", &processes, "--threads", "1"];
    Uwsgi::start(nginx::prefix(), address, &[&arguments[..], &more].concat())
}

fn site(workers: usize, pass: &Address, settings: &str) -> Nginx {
    let settings = format!("{settings} location /status/ {{ rs_uwsgi_status; }}");
    site_with(workers, "", &settings, &pass.to_string())
}

/// More at once than it has room for, with requests that must not be sent twice among them.
#[test]
fn all_are_answered() {
    for workers in [1, 4] {
        let uwsgi = uwsgi("slow.py", 10, 2);
        let nginx = site(workers, uwsgi.address(), "rs_uwsgi_read_timeout 1h;");
        let requests: Vec<_> = (0..BURST)
            .map(|number| match number % 2 {
                0 => get("/?0.02"),
                _ => post("/?0.02", "unread"),
            })
            .collect();
        let answers = answers(send(nginx.address(), &requests));
        assert!(answers.iter().all(|answer| answer.status == 200), "{workers} workers");
        assert_no_errors(&nginx);
        nginx.wait_logged("limit of connections to");
        let metrics = Metrics::of(&nginx);
        assert!(metrics.sum("upstream_listen_queue_full_total", &[]) > 1.0);
        assert!(metrics.sum("upstream_queue_requests_total", &[]) > 1.0);
    }
}

/// How many are sent to a server that stands still. Its kernel ends the handshakes of more than it has room for, and
/// drops what is sent on them: the client's sends it again, after a time that doubles, when all of them do.
const FEW: usize = 20;

/// The server stands still meanwhile, so that nothing is taken for dropped, and then it answers.
#[test]
fn each_post_is_seen_once() {
    let uwsgi = uwsgi("framing.py", SHORT, 2);
    let nginx = site(1, uwsgi.address(), "rs_uwsgi_read_timeout 1h;");
    let body = |number: usize| number.to_string();
    let posts: Vec<_> = (0..FEW).map(|number| post("/count", &body(number))).collect();
    uwsgi.pause();
    let clients = send(nginx.address(), &posts);
    wait_busy(&nginx, posts.len());
    uwsgi.resume();
    assert_bodies(&answers(clients), (0..FEW).map(body));
    let mut seen: Vec<usize> =
        uwsgi.file("count").lines().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..FEW), "{seen:?}");
    assert_no_errors(&nginx);
}

/// What is dropped is tried again also where no limit is what is configured, and where one is.
#[test]
fn with_a_configured_limit_too() {
    for settings in ["rs_uwsgi_max_connections 0;", "rs_uwsgi_max_connections 40;"] {
        let uwsgi = uwsgi("slow.py", 10, 2);
        let nginx = site(1, uwsgi.address(), settings);
        let requests = vec![get("/?0.01"); 100];
        let answers = answers(send(nginx.address(), &requests));
        assert!(answers.iter().all(|answer| answer.status == 200), "{settings}");
        assert_no_errors(&nginx);
        assert_eq!(nginx.logged("limit of connections to").len(), 0);
    }
}

/// The last packet of a handshake comes with the request: whoever accepts a connection has something to read.
#[test]
fn a_server_wakes_up_to_a_request() {
    const REQUESTS: usize = 50;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let can_read = |_| {
            let (mut connection, _) = listener.accept().unwrap();
            connection.set_nonblocking(true).unwrap();
            let can_read = connection.peek(&mut [0; 1]).is_ok();
            connection.set_nonblocking(false).unwrap();
            // all of the request, so that its end is no reset
            assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
            connection.write_all(OK).unwrap();
            can_read
        };
        (0..REQUESTS).map(can_read).filter(|can_read| *can_read).count()
    });
    let nginx = site(1, &address, "");
    for _ in 0..REQUESTS {
        assert_bodies(&answers(send(nginx.address(), &[get("/")])), ["ok".to_string()]);
    }
    assert_eq!(server.join().unwrap(), REQUESTS);
    assert_no_errors(&nginx);
}
