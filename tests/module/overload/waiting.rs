//! What happens to a request while it waits for a place in the listen queue.

use super::{
    answers, assert_bodies, assert_no_errors, assert_tokens, get, post, send, site, site_with,
    tokens, uwsgi_at, wait_busy, Full, Stopped, SHORT,
};
use crate::prelude::*;

const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

/// Nothing was sent of a request whose client has gone: the application never sees it.
#[test]
fn clients_that_leave() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "");
    let bodies: Vec<_> = (0..100).map(|number| format!("{number}")).collect();
    let posts: Vec<_> = bodies.iter().map(|body| post("/count", body)).collect();
    let clients = send(nginx.address(), &posts);
    wait_busy(&nginx, 100);
    // Every second leaves.
    let staying = clients.into_iter().step_by(2).collect();
    wait_busy(&nginx, 50);
    server.resume();
    let stayed: Vec<_> = bodies.iter().step_by(2).cloned().collect();
    assert_bodies(&answers(staying), stayed.clone());
    let mut counted = server.counted();
    counted.sort_by_key(|body| body.parse::<usize>().unwrap());
    assert_eq!(counted, stayed);
    let left = nginx.access_log().iter().filter(|line| line.contains("\" 499 ")).count();
    assert_eq!(left, 50);
    assert_no_errors(&nginx);
    nginx.quit();
}

/// Each that waits takes two connections. nginx resets clients for whom there is none, and tells of it at a level
/// that few logs have.
#[test]
fn connections_are_nearly_used_up() {
    let mut server = Stopped::new();
    let settings = format!(
        "server {{ listen 127.0.0.1:@port@; location = /busy {{ stub_status; }}
             location / {{ rs_uwsgi_pass {}; }} }}",
        server.uwsgi.address()
    );
    let nginx = Nginx::builder().worker_connections(128).log_level("error").http(&settings).start();
    let said = "\"worker_connections\" are nearly used up while requests wait for";
    let mut clients = send(nginx.address(), &tokens(0..40));
    wait_busy(&nginx, 40);
    assert!(nginx.logged(said).is_empty());
    clients.extend(send(nginx.address(), &tokens(40..56)));
    wait_busy(&nginx, 56);
    let lines = nginx.logged(said);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0].level, "error");
    assert!(lines[0].text.starts_with("128 "), "{lines:#?}");
    server.resume();
    assert_tokens(clients, 0..56);
}

/// First come, first served: one process takes them from its listen queue one after the other.
#[test]
fn in_order_of_arrival() {
    let dir = nginx::prefix();
    let socket = dir.path().join("uwsgi.sock");
    let mut server = Stopped::of(uwsgi_at(dir, &socket, SHORT, 1));
    let nginx = site(server.uwsgi.address(), "");
    let bodies: Vec<_> = (0..60).map(|number| number.to_string()).collect();
    let mut clients = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        // Sent in one piece with its head, the body is read in the event that counts the request.
        clients.extend(send(nginx.address(), &[post("/count", body)]));
        wait_busy(&nginx, number + 1);
    }
    server.resume();
    assert_bodies(&answers(clients), bodies.clone());
    assert_eq!(server.counted(), bodies);
}

#[test]
fn clients_that_leave_and_are_ignored() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "rs_uwsgi_ignore_client_abort on;");
    let clients = send(nginx.address(), &[post("/count", "a"), post("/count", "b")]);
    wait_busy(&nginx, 2);
    drop(clients);
    server.resume();
    wait_for("the application to see both", || {
        let mut counted = server.counted();
        counted.sort();
        (counted == ["a", "b"]).then_some(())
    });
}

/// All who wait go when their time is over; the application never sees them.
#[test]
fn connect_timeout() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "rs_uwsgi_connect_timeout 200ms;");
    let posts: Vec<_> = (0..50).map(|number| post("/count", &number.to_string())).collect();
    for answer in answers(send(nginx.address(), &posts)) {
        assert!([503, 504].contains(&answer.status), "{}", answer.status);
    }
    wait_busy(&nginx, 0);
    server.resume();
    assert_tokens(send(nginx.address(), &tokens(0..5)), 0..5);
    assert_eq!(server.counted(), Vec::<String>::new());
}

/// What may not be repeated goes there too, for nothing of it was sent. A server that is full has not
/// failed: it is asked again as soon as it has room.
#[test]
fn next_server_when_the_first_is_full() {
    let mut server = Stopped::new();
    let dir = nginx::prefix();
    let second = Backend::unix(&dir.path().join("second"), |peer| peer.answer(SECOND));
    let nginx = site_with(
        1,
        &format!(
            "upstream app {{ server {}; server {} backup; }}",
            server.uwsgi.address(),
            second.address()
        ),
        "",
        "app",
    );
    let requests: Vec<_> =
        (0..20).map(|n| if n % 2 == 0 { get("/") } else { post("/", "body") }).collect();
    assert_bodies(&answers(send(nginx.address(), &requests)), vec!["second".to_string(); 20]);
    assert_eq!(second.requests().len(), 20);
    wait_busy(&nginx, 0);
    server.resume();
    wait_for("the first server to be asked again", || {
        let answer = answers(send(nginx.address(), &tokens(0..1))).remove(0);
        assert_eq!(answer.status, 200);
        (answer.text() == "0").then_some(())
    });
    assert_no_errors(&nginx);
    nginx.quit();
}

/// Where all are full, each request waits for one of them.
#[test]
fn all_servers_are_full() {
    let mut servers = [Stopped::new(), Stopped::new()];
    let [one, other] = servers.each_ref().map(|server| server.uwsgi.address().to_string());
    let http = format!("upstream app {{ server {one}; server {other}; }}");
    let nginx = site_with(1, &http, "", "app");
    let posts: Vec<_> = (0..40).map(|number| post("/count", &number.to_string())).collect();
    let clients = send(nginx.address(), &posts);
    wait_busy(&nginx, 40);
    for server in &mut servers {
        server.resume();
    }
    assert_bodies(&answers(clients), (0..40).map(|number| number.to_string()));
    let mut counted: Vec<usize> =
        servers.iter().flat_map(Stopped::counted).map(|body| body.parse().unwrap()).collect();
    counted.sort();
    assert!(counted.into_iter().eq(0..40));
    assert_no_errors(&nginx);
}

/// A number of seconds as nginx writes it, in milliseconds.
fn milliseconds(time: &str) -> u64 {
    let (seconds, rest) = time.split_once('.').unwrap_or_else(|| panic!("{time:?}"));
    assert_eq!(rest.len(), 3, "{time:?}");
    seconds.parse::<u64>().unwrap() * 1000 + rest.parse::<u64>().unwrap()
}

#[test]
fn the_time_is_logged() {
    let mut server = Stopped::new();
    let full = Full::new();
    let nginx = site_with(
        1,
        &format!(
            "log_format times '$uri $status $rs_uwsgi_queue_time';
            upstream both {{ server {} max_fails=0; server {} backup; }}",
            full.address,
            server.uwsgi.address()
        ),
        &format!(
            "access_log @dir@/times times;
            location /both {{
                rs_uwsgi_connect_timeout 300ms; rs_uwsgi_next_upstream error timeout http_503;
                rewrite ^ /token?t=both break;
                rs_uwsgi_pass both;
            }}
            location /given-up {{ rs_uwsgi_connect_timeout 300ms; rs_uwsgi_pass {}; }}",
            full.address
        ),
        &server.uwsgi.address().to_string(),
    );
    let times = |count: usize| {
        wait_for("the access log", || {
            let log = std::fs::read_to_string(nginx.path("times")).unwrap_or_default();
            let lines: Vec<_> = log.lines().map(str::to_string).collect();
            let lines: Vec<_> =
                lines.into_iter().filter(|line| !line.starts_with("/busy")).collect();
            (lines.len() >= count && log.ends_with('\n')).then_some(lines)
        })
    };
    let time = |line: &str| milliseconds(line.rsplit(' ').next().unwrap());
    let clients = send(nginx.address(), &tokens(0..3));
    wait_busy(&nginx, 3);
    // Lets at least some milliseconds pass, and nobody waits for them otherwise.
    std::thread::sleep(nginx::PAUSE * 4);
    server.resume();
    assert_tokens(clients, 0..3);
    let waited = times(3);
    assert!(waited.iter().all(|line| line.starts_with("/token 200 ")), "{waited:?}");
    assert!(waited.iter().all(|line| time(line) > 0), "{waited:?}");

    assert_tokens(send(nginx.address(), &tokens(0..1)), 0..1);
    assert_eq!(times(4)[3], "/token 200 0.000");

    // A number also where more than one server was asked.
    assert_bodies(&answers(send(nginx.address(), &[get("/both")])), ["both".to_string()]);
    time(&times(5)[4]);

    answers(send(nginx.address(), &[get("/given-up")]));
    // A little is lost to clocks of milliseconds.
    let given_up = times(6).remove(5);
    assert!(time(&given_up) >= 250, "{given_up}");
}

/// Streams of one connection wait like clients of their own.
#[test]
fn http2_streams() {
    let mut server = Stopped::new();
    let nginx = site_with(
        1,
        // An option of `listen` in nginx 1.22, and there still, with a warning, in 1.28.
        &format!(
            "server {{ listen 127.0.0.2:@port@ http2; location / {{ rs_uwsgi_pass {}; }} }}",
            server.uwsgi.address()
        ),
        "",
        &server.uwsgi.address().to_string(),
    );
    let paths: Vec<_> = (0..60).map(|number| format!("/token?t={number}")).collect();
    let requests: Vec<Vec<(&[u8], &[u8])>> = paths
        .iter()
        .map(|path| {
            vec![
                (&b":method"[..], &b"GET"[..]),
                (b":scheme", b"http"),
                (b":authority", b"h"),
                (b":path", path.as_bytes()),
            ]
        })
        .collect();
    let to = nginx.address_of(0, [127, 0, 0, 2]);
    let answers = std::thread::scope(|scope| {
        let client = scope.spawn(|| h2::concurrent(to, &requests).unwrap());
        wait_busy(&nginx, 60);
        server.resume();
        client.join().unwrap()
    });
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, Some(200), "stream {number}");
        assert_eq!(String::from_utf8_lossy(&answer.body), number.to_string());
    }
    assert_no_errors(&nginx);
}

/// A page that is made up of several of the server's.
#[test]
fn subrequests() {
    let mut server = Stopped::new();
    let page: String =
        (0..20).map(|number| format!("<!--# include virtual=\"/token?t={number}\" -->,")).collect();
    let nginx = site(
        server.uwsgi.address(),
        &format!("location = /page {{ ssi on; default_type text/html; return 200 '{page}'; }}"),
    );
    let clients = send(nginx.address(), &vec![get("/page"); 10]);
    wait_busy(&nginx, 10);
    server.resume();
    let whole: String = (0..20).map(|number| format!("{number},")).collect();
    assert_bodies(&answers(clients), vec![whole; 10]);
    assert_no_errors(&nginx);
}
