//! Every number is the one that the test knows: after requests of each kind, by four workers, with a reload
//! in between.

use super::{numbers, Metrics, STATUS};
use crate::prelude::*;

/// A server that does what the path says.
fn server(peer: &mut Peer) -> io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok";
    loop {
        let packet = peer.read_packet()?;
        let length = packet.get("CONTENT_LENGTH").unwrap_or_default().parse().unwrap_or(0);
        let path = packet.get("PATH_INFO").unwrap_or_default();
        peer.read_exact(length)?;
        match path.as_str() {
            "/ok" => peer.write(OK)?,
            "/interim" => {
                peer.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")?;
                peer.write(OK)?;
            }
            "/404" => peer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            )?,
            "/503" => {
                peer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?
            }
            "/302" => {
                peer.write(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")?
            }
            "/reset" => {
                // unread bytes make a close a reset
                return peer.reset();
            }
            "/closed" => return Ok(()),
            "/html" => peer.write(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")?,
            "/big" => {
                peer.write(&[b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 9000]].concat())?
            }
            "/cut" => {
                peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")?;
                return Ok(());
            }
            "/chunks" => {
                peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")?;
                return peer.read_to_end();
            }
            "/silent" => return peer.read_to_end(),
            other => panic!("{other}"),
        }
        if ["/503", "/302", "/html", "/big"].contains(&path.as_str()) {
            return Ok(());
        }
    }
}

fn nginx(workers: usize, http: &str) -> Nginx {
    Nginx::builder().workers(workers).http(http).start()
}

/// Statuses, failures and closed connections, by four workers, before and after a reload.
#[test]
fn requests_of_every_kind() {
    let backend = Backend::tcp(server);
    let nginx = nginx(
        4,
        &format!(
            "upstream app {{ server {}; }}
             server {{
                listen 127.0.0.1:@port@;
                rs_uwsgi_read_timeout 300ms;
                rs_uwsgi_next_upstream off;
                location / {{ rs_uwsgi_pass app; }}
                {STATUS}
             }}",
            backend.address()
        ),
    );
    let to = nginx.address();
    const ROUNDS: usize = 3;
    // path, and the status that the client gets
    let kinds = [
        ("/ok", 200),
        ("/ok", 200),
        ("/interim", 200),
        ("/404", 404),
        ("/503", 503),
        ("/302", 302),
        ("/reset", 502),
        ("/closed", 502),
        ("/html", 502),
        ("/big", 502),
        ("/silent", 504),
    ];
    for round in 0..ROUNDS {
        for (path, status) in kinds {
            assert_eq!(get(to, path).status, status, "{path}");
        }
        // the head has gone to the client before
        for path in ["/cut", "/chunks"] {
            let mut client = Client::connect(to);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let answer = client.read_to_end();
            assert!(!answer.ends_with(b"\r\n0\r\n\r\n"), "{path}");
        }
        if round == 0 {
            nginx.reload();
        }
    }
    let requests = ROUNDS as f64 * 13.0;
    let metrics = wait_for("all requests to be over", || {
        let metrics = Metrics::of(&nginx);
        (metrics.sum("upstream_requests_total", &[]) == requests
            && metrics.sum("upstream_requests_in_flight", &[]) == 0.0)
            .then_some(metrics)
    });
    let each = ROUNDS as f64;
    assert_eq!(
        metrics.by_label("upstream_responses_total"),
        numbers(&[("2xx", 5.0 * each), ("3xx", each), ("404", each), ("503", each)])
    );
    assert_eq!(
        metrics.by_label("upstream_failures_total"),
        numbers(&[
            ("closed_early", each),
            ("cut_short", each),
            ("head_too_big", each),
            ("invalid_body", each),
            ("invalid_head", each),
            ("read_timeout", each),
            ("reset", each),
        ])
    );
    assert_eq!(metrics.sum("upstream_fails_total", &[]), 7.0 * each);
    assert_eq!(metrics.sum("upstream_interim_responses_total", &[]), 2.0 * each);
    assert_eq!(metrics.sum("upstream_response_seconds_count", &[]), 8.0 * each);
    assert_eq!(metrics.sum("upstream_vars_bytes_count", &[]), requests);
    // each connection was opened, and has been closed or is idle
    let opened = metrics.sum("upstream_connections_opened_total", &[]);
    let closed = metrics.sum("upstream_connections_closed_total", &[]);
    let idle = metrics.sum("upstream_connections", &["state=\"idle\""]);
    assert_eq!(opened, closed + idle);
    assert_eq!(opened as usize, backend.connection_count());
    assert_eq!(metrics.sum("upstream_connections_reused_total", &[]), requests - opened);
    // bytes: what the server was sent, and what it sent
    let received: usize = backend.connections().iter().map(|c| c.received.len()).sum();
    assert_eq!(metrics.sum("upstream_sent_bytes_total", &[]), received as f64);
    assert_eq!(metrics.sum("config_generation", &[]), 2.0);
    assert_eq!(metrics.sum("upstream_server_state", &[]), 1.0);
}

/// A server that cannot be reached, and one that comes.
#[test]
fn servers_that_are_not_there() {
    let dir = nginx::prefix();
    let path = dir.path().join("late");
    let site = Site::answering(&format!(
        "upstream two {{ server unix:{late} max_fails=0; server @pass@ max_fails=0; }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass unix:{late}; }}
            location /two {{ rs_uwsgi_pass two; }}
            {STATUS}
         }}",
        late = path.display()
    ));
    site.nginx.expects("failed (2: No such file or directory)");
    let to = site.nginx.address();
    for _ in 0..2 {
        assert_eq!(get(to, "/").status, 502);
    }
    let one = "upstream=\"unix:";
    let metrics = Metrics::of(&site.nginx);
    assert_eq!(metrics.sum("upstream_failures_total", &[one, "no_socket"]), 2.0);
    assert_eq!(metrics.sum("upstream_unavailable_total", &[one]), 1.0);
    assert_eq!(metrics.sum("upstream_server_state", &[one]), 4.0);
    assert_eq!(metrics.sum("upstream_requests_total", &[one]), 0.0);
    // the other server of the block is asked
    for _ in 0..4 {
        assert_eq!(get(to, "/two").status, 200);
    }
    let metrics = Metrics::of(&site.nginx);
    let (failed, next) = (
        metrics.sum("upstream_failures_total", &["upstream=\"two\"", "no_socket"]),
        metrics.sum("upstream_next_tries_total", &["upstream=\"two\""]),
    );
    assert!(failed >= 1.0 && failed == next, "{failed} {next}");
    assert_eq!(metrics.sum("upstream_requests_total", &["upstream=\"two\""]), 4.0);
    // it comes
    let _late = Backend::unix(&path, |peer| peer.answer(crate::site::OK));
    assert_eq!(get(to, "/").status, 200);
    let metrics = Metrics::of(&site.nginx);
    assert_eq!(metrics.sum("upstream_server_state", &[one]), 1.0);
    assert_eq!(metrics.sum("upstream_unavailable_total", &[one]), 1.0);
}

/// Answers as soon as it is not held any more.
fn answer_when_let(peer: &mut Peer, holds: &AtomicBool) -> io::Result<()> {
    let begun = Instant::now();
    while holds.load(Ordering::SeqCst) && begun.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(5));
    }
    peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

/// A queue with each of its ends; a worker that is killed leaves its counters, and nothing in flight.
#[test]
fn the_queue_and_a_killed_worker() {
    let (hold, held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (holds, count) = (hold.clone(), held.clone());
    let backend = Backend::tcp(move |peer: &mut Peer| {
        peer.read_request()?;
        count.fetch_add(1, Ordering::SeqCst);
        answer_when_let(peer, &holds)
    });
    let nginx = nginx(
        1,
        &format!(
            "server {{
                listen 127.0.0.1:@port@;
                rs_uwsgi_max_connections 1;
                rs_uwsgi_queue 2 timeout=60s;
                location / {{ rs_uwsgi_pass {}; }}
                {STATUS}
             }}",
            backend.address()
        ),
    );
    let send = |nginx: &Nginx| {
        let mut client = Client::connect(nginx.address());
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client
    };
    let waiting = |number: f64| {
        wait_for(&format!("{number} to wait"), || {
            let metrics = Metrics::of(&nginx);
            (metrics.sum("upstream_requests_waiting", &[]) == number).then_some(metrics)
        })
    };
    let mut first = send(&nginx);
    wait_for("the first to be served", || (held.load(Ordering::SeqCst) == 1).then_some(()));
    let mut second = send(&nginx);
    waiting(1.0);
    let third = send(&nginx);
    let metrics = waiting(2.0);
    assert_eq!(metrics.sum("upstream_requests_in_flight", &[]), 1.0);
    assert_eq!(metrics.sum("upstream_connections_limit", &[]), 1.0);
    // no room for the fourth, and the third leaves
    assert_eq!(send(&nginx).response(false).unwrap().status, 503);
    drop(third);
    waiting(1.0);
    hold.store(false, Ordering::SeqCst);
    for client in [&mut first, &mut second] {
        assert_eq!(client.response(false).unwrap().status, 200);
    }
    let metrics = waiting(0.0);
    assert_eq!(
        metrics.by_label("upstream_queue_requests_total"),
        numbers(&[("client_gone", 1.0), ("overflow", 1.0), ("served", 1.0)])
    );
    assert_eq!(metrics.sum("upstream_requests_waiting_max", &[]), 2.0);
    assert_eq!(metrics.sum("upstream_queue_seconds_count", &[]), 2.0);
    // a worker that is killed with a request in flight, and one that waits
    hold.store(true, Ordering::SeqCst);
    let (_fifth, _sixth) = (send(&nginx), send(&nginx));
    let metrics = waiting(1.0);
    assert_eq!(metrics.sum("upstream_requests_in_flight", &[]), 1.0);
    let killed = nginx.worker_ids()[0];
    nginx.expects("exited on signal 9");
    // SAFETY: sends a signal to a process that nginx has started.
    assert_eq!(unsafe { libc::kill(killed.try_into().unwrap(), libc::SIGKILL) }, 0);
    let metrics = wait_for("another worker", || {
        let is_other = nginx.worker_ids().first().is_some_and(|id| *id != killed);
        is_other.then(|| Metrics::of(&nginx))
    });
    assert_eq!(metrics.sum("upstream_requests_in_flight", &[]), 0.0);
    assert_eq!(metrics.sum("upstream_requests_waiting", &[]), 0.0);
    assert_eq!(metrics.sum("upstream_requests_total", &[]), 2.0);
    hold.store(false, Ordering::SeqCst);
}

/// Four workers, of which one is killed while it leaves after a reload: the gauges lose what it had in flight, and no
/// counter loses anything.
#[test]
fn a_killed_worker_of_four() {
    const ALL: usize = 24;
    let hold = Arc::new(AtomicBool::new(false));
    let holds = hold.clone();
    let backend = Backend::tcp(move |peer: &mut Peer| {
        peer.read_request()?;
        answer_when_let(peer, &holds)
    });
    let nginx = nginx(
        4,
        &format!(
            "server {{
                listen 127.0.0.1:@port@ reuseport;
                location / {{
                    rs_uwsgi_param WORKER $pid;
                    rs_uwsgi_pass {};
                }}
                {STATUS}
             }}",
            backend.address()
        ),
    );
    nginx.worker_ids();
    let send = || {
        let begin = |_| {
            let mut client = Client::connect(nginx.address());
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            client
        };
        (0..ALL).map(begin).collect::<Vec<_>>()
    };
    let until = |what: &str, requests: usize, in_flight: usize| {
        wait_for(what, || {
            let metrics = Metrics::of(&nginx);
            (metrics.sum("upstream_requests_total", &[]) == requests as f64
                && metrics.sum("upstream_requests_in_flight", &[]) == in_flight as f64)
                .then_some(metrics)
        })
    };
    for round in 1..=2 {
        for mut client in send() {
            assert_eq!(client.response(false).unwrap().status, 200);
        }
        until("all to be served", round * ALL, 0);
        nginx.reload();
    }
    hold.store(true, Ordering::SeqCst);
    let mut clients = send();
    until("all to be in flight", 2 * ALL, ALL);
    let before = nginx.worker_ids();
    nginx.signal(libc::SIGHUP);
    wait_for("four new workers", || {
        let now = nginx.worker_ids();
        now.iter().all(|worker| !before.contains(worker)).then_some(())
    });
    let worker = |number: usize| {
        backend.wait_request(number).packet.get("WORKER").unwrap().parse::<u32>().unwrap()
    };
    let killed = worker(2 * ALL);
    assert!(before.contains(&killed));
    let lost = (2 * ALL..3 * ALL).filter(|number| worker(*number) == killed).count();
    nginx.expects("exited on signal 9");
    // SAFETY: sends a signal to a process that nginx has started.
    assert_eq!(unsafe { libc::kill(killed.try_into().unwrap(), libc::SIGKILL) }, 0);
    until("what it had in flight to be gone", 2 * ALL, ALL - lost);
    hold.store(false, Ordering::SeqCst);
    let served = clients.iter_mut().filter_map(|client| client.response(false).ok()).count();
    assert_eq!(served, ALL - lost);
    let metrics = until("the others to be served", 3 * ALL - lost, 0);
    let responses = metrics.by_label("upstream_responses_total");
    assert_eq!(responses, numbers(&[("2xx", (3 * ALL - lost) as f64)]));
    assert_eq!(metrics.by_label("upstream_failures_total"), numbers(&[]));
    nginx.signal(libc::SIGHUP);
    until("nothing to be lost with a further reload", 3 * ALL - lost, 0);
}
