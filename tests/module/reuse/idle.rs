//! Connections in the pool: the server ends them, speaks out of turn, or they reach a limit; and
//! nginx leaves.

use super::{Site, GET, KEPT, PARKED};
use crate::prelude::*;
use std::sync::mpsc::{Receiver, Sender};

const CLOSED: &str = "the server closed it";
type Act = fn(&mut Peer) -> io::Result<()>;

const EXCESS: &str = "there are too many";

/// Answers with [`KEPT`], waits for a word, and then does something to the idle connection.
fn after_parking(
    site: &Site,
    act: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
) -> Sender<()> {
    let (go, wait): (_, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    site.answers.set(move |peer, _| {
        peer.write(KEPT)?;
        let _ = wait.lock().unwrap().recv();
        act(peer)
    });
    go
}

#[test]
fn a_connection_that_ends_leaves_the_pool_at_once() {
    let acts: [(&str, Act); 3] = [
        ("closed", |peer| {
            peer.close();
            Ok(())
        }),
        ("half closed", |peer| peer.half_close()),
        ("reset", |peer| peer.reset()),
    ];
    for tcp in [false, true] {
        for (name, act) in acts {
            let server = "location / { rs_uwsgi_pass @pass@; }";
            let site = Site::builder().visits().server(server).tcp(tcp).start();
            let go = after_parking(&site, act);
            let visit = site.visit(GET);
            assert_eq!(visit.verdict, PARKED, "{name}");
            assert!(site.idle_closed().is_empty(), "{name}");
            go.send(()).unwrap();
            // by its event: no request comes meanwhile
            assert_eq!(site.wait_idle_closed(1), [CLOSED], "{name}");
            // POST as well: it must not be given a dead connection
            site.answers.set_bytes(KEPT);
            let post =
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
            let next = site.visit(post);
            assert_eq!(next.response.text(), "ok", "{name}");
            assert_ne!(next.connection, visit.connection, "{name}");
            // nothing is logged of it
            assert!(site.log().is_empty(), "{name}: {:?}", site.log());
        }
    }
}

#[test]
fn bytes_after_parking() {
    for (bytes, after) in [
        (b"x".as_slice(), None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", None),
        (b"x", Some(Duration::ZERO)),
        (b"x", Some(Duration::from_millis(1))),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Some(Duration::from_millis(1))),
    ] {
        for buffering in ["on", "off"] {
            let site = Site::new(&format!("rs_uwsgi_buffering {buffering};"));
            let visit = match after {
                None => {
                    let go = after_parking(&site, move |peer| peer.write(bytes));
                    let visit = site.visit(GET);
                    assert_eq!(visit.verdict, PARKED);
                    go.send(()).unwrap();
                    visit
                }
                // before or after parking
                Some(pause) => {
                    site.answers.set(move |peer, _| {
                        peer.write(KEPT)?;
                        std::thread::sleep(pause);
                        peer.write(bytes)
                    });
                    site.visit(GET)
                }
            };
            assert_eq!(visit.response.text(), "ok", "the response is intact");
            let log = wait_for("a line of the log", || Some(site.log()).filter(|l| !l.is_empty()));
            assert!(log[0].starts_with("[warn] upstream sent "), "{log:?}");
            assert_ne!(site.next_connection(), visit.connection, "{bytes:?} {after:?}");
            assert_eq!(site.log().len(), 1, "{:?}", site.log());
        }
    }
}

#[test]
fn a_byte_that_nginx_has_not_read_with_the_response() {
    // Head and body fill the first buffer, so that nginx reads no further.
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4000\r\nX-A: \r\n\r\n";
    let head = head.replace("X-A: ", &format!("X-A: {}", "a".repeat(96 - head.len())));
    let answer = format!("{head}{}x", "b".repeat(4000));
    for extra in ["rs_uwsgi_buffering on;", "rs_uwsgi_buffering off;"] {
        for tcp in [false, true] {
            let server = format!(
                "{extra} rs_uwsgi_buffer_size 4096; location / {{ rs_uwsgi_pass @pass@; }}"
            );
            let site = Site::builder().visits().server(&server).tcp(tcp).start();
            site.answers.set_bytes(answer.as_bytes());
            let visit = site.visit(GET);
            assert_eq!(visit.response.body, [b'b'; 4000], "{extra}");
            assert_ne!(site.next_connection(), visit.connection, "{extra}");
            let log = site.log();
            assert_eq!(log.len(), 1, "{extra} {}: {log:?}", visit.verdict);
            assert!(log[0].starts_with("[warn] upstream sent "), "{log:?}");
        }
    }
}

/// `count` requests at the same time, each on a connection of its own; the numbers of these in the
/// order in which they were parked.
fn park(site: &Site, count: usize) -> Vec<usize> {
    let first = site.backend.requests().len();
    let verdicts = site.verdicts().len();
    let (gates, waits): (Vec<Sender<()>>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    let waits: Vec<_> = waits.into_iter().map(Mutex::new).collect();
    site.answers.set(move |peer, request| {
        let path = request.packet.get("PATH_INFO").unwrap_or_default();
        let _ = waits[path[1..].parse::<usize>().unwrap()].lock().unwrap().recv();
        peer.write(KEPT)
    });
    let clients = (0..count).map(|number| {
        let mut client = Client::connect(site.address());
        client.send(format!("GET /{number} HTTP/1.0\r\n\r\n").as_bytes());
        site.backend.wait_request(first + number);
        client
    });
    let clients: Vec<_> = clients.collect();
    for (number, (go, mut client)) in gates.into_iter().zip(clients).enumerate() {
        drop(go);
        assert_eq!(client.response(false).unwrap().text(), "ok");
        assert_eq!(site.wait_verdict(verdicts + number), PARKED);
    }
    site.backend.requests()[first..].iter().map(|request| request.connection).collect()
}

#[test]
fn so_many_are_kept_and_the_one_idle_longest_goes() {
    let site = Site::new("rs_uwsgi_keepalive 2;");
    let parked = park(&site, 4);
    assert_eq!(parked, [0, 1, 2, 3]);
    assert_eq!(site.wait_idle_closed(2), [EXCESS, EXCESS]);
    let ended = wait_for("two connections to end", || {
        let ended = site.backend.connections();
        let ended: Vec<_> = ended.iter().map(|connection| connection.ended).collect();
        (ended.iter().filter(|ended| **ended).count() == 2).then_some(ended)
    });
    assert_eq!(ended, [true, true, false, false]);
    // the one used last first
    assert_eq!(site.next_connection(), 3);
    assert_eq!(park(&site, 3), [3, 2, 4]);
}

#[test]
fn a_worker_keeps_no_more_than_a_quarter_of_its_connections() {
    // 512 as the tests configure them; two upstreams of one server
    const MOST: usize = 128;
    let site = Site::builder().visits().http("rs_uwsgi_keepalive 100; upstream even { server @pass@; } upstream odd { server @pass@; }").server("location ~ [02468]$ { rs_uwsgi_pass even; } location / { rs_uwsgi_pass odd; }").start();
    let parked = park(&site, MOST + 10);
    assert_eq!(site.wait_idle_closed(10), [EXCESS; 10]);
    wait_for("ten connections to end", || {
        let ended = ended(&site);
        (ended.iter().filter(|ended| **ended).count() == 10).then_some(())
    });
    // those of either upstream that were idle longest; some began in the same millisecond
    let ended = ended(&site);
    let (_, late) = parked.split_at(MOST / 2);
    assert!(late.iter().all(|&connection| !ended[connection]), "{ended:?}");
}

#[test]
fn the_one_used_last_is_used_next() {
    let site = Site::new("");
    assert_eq!(park(&site, 3), [0, 1, 2]);
    for _ in 0..3 {
        assert_eq!(site.next_connection(), 2);
    }
    assert_eq!(park(&site, 3), [2, 1, 0]);
    assert_eq!(site.next_connection(), 0);
}

#[test]
fn requests_on_one_connection() {
    let site = Site::new("rs_uwsgi_keepalive_requests 3;");
    let reached = "\"rs_uwsgi_keepalive_requests\" is reached";
    for _ in 0..2 {
        let visits = [(); 3].map(|()| site.visit(GET));
        let verdicts = visits.each_ref().map(|visit| visit.verdict.as_str());
        assert_eq!(verdicts, [PARKED, PARKED, reached]);
        assert!(visits.iter().all(|visit| visit.connection == visits[0].connection));
    }
    assert_eq!(site.backend.connection_count(), 2);
}

#[test]
fn idle_time_and_age() {
    let site = Site::new("rs_uwsgi_keepalive_timeout 50ms;");
    assert_eq!(site.visit(GET).verdict, PARKED);
    assert_eq!(site.wait_idle_closed(1), ["\"rs_uwsgi_keepalive_timeout\" is reached"]);
    assert_ne!(site.next_connection(), 0);

    let site = Site::new("rs_uwsgi_keepalive_time 50ms;");
    let verdict = wait_for("the connection to be too old", || {
        let visit = site.visit(GET);
        (visit.verdict != PARKED).then_some((visit.verdict, visit.connection))
    });
    assert_eq!(verdict.0, "\"rs_uwsgi_keepalive_time\" is exceeded");
    assert_ne!(site.next_connection(), verdict.1);
    assert!(site.log().is_empty());
}

/// One idle connection, and one on which a response is still to come.
fn busy(site: &Site) -> (Sender<()>, Client) {
    park(site, 2);
    let (go, wait): (_, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    site.answers.set(move |peer, _| {
        let _ = wait.lock().unwrap().recv();
        peer.write(KEPT)
    });
    let mut client = Client::connect(site.address());
    client.send(GET);
    site.backend.wait_request(2);
    (go, client)
}

fn ended(site: &Site) -> Vec<bool> {
    site.backend.connections().iter().map(|connection| connection.ended).collect()
}

#[test]
fn a_worker_that_leaves_closes_idle_connections_and_finishes_the_others() {
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        let site = Site::new("rs_uwsgi_keepalive_timeout 1h;");
        let (go, mut client) = busy(&site);
        site.nginx.signal(signal);
        wait_for("the idle connection to end", || (ended(&site) == [true, false]).then_some(()));
        assert_eq!(site.nginx.workers_left(), 0, "a request is under way");
        drop(go);
        assert_eq!(client.response(false).unwrap().text(), "ok");
        assert_eq!(site.wait_verdict(2), "the worker is exiting");
        wait_for("the worker to leave", || (site.nginx.workers_left() == 1).then_some(()));
        wait_for("all connections to end", || (ended(&site) == [true, true]).then_some(()));
        if signal == libc::SIGHUP {
            assert_eq!(site.next_connection(), 2);
        }
    }
}

#[test]
fn the_variable() {
    let server = "access_log @dir@/c.log c; location / { rs_uwsgi_pass @pass@; }
        location /static { return 200 static; }
        location /stock { uwsgi_pass @pass@; }";
    let site =
        Site::builder().visits().http("log_format c $rs_uwsgi_connection;").server(server).start();
    for path in ["/", "/", "/static", "/stock", "/"] {
        // each is over before the next: the log is written last
        let before = std::fs::read_to_string(site.nginx.path("c.log")).unwrap_or_default();
        get(site.address(), path);
        wait_for("a line", || {
            let log = std::fs::read_to_string(site.nginx.path("c.log")).unwrap_or_default();
            (log.len() > before.len()).then_some(())
        });
    }
    let log = std::fs::read_to_string(site.nginx.path("c.log")).unwrap();
    assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["new", "reused", "-", "-", "reused"]);
}
