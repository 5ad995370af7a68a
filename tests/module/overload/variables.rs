//! What the access log can tell of a request that was one of many: how many tries it took, its place in the
//! queue, and what else the server worked on.

use crate::prelude::*;

const FORMAT: &str =
    "log_format v '$uri=$status;$rs_uwsgi_tries;$rs_uwsgi_queue_position;$rs_uwsgi_in_flight';";

/// A server that answers once it is let.
fn holding(hold: &Arc<AtomicBool>) -> Backend {
    let hold = hold.clone();
    Backend::tcp(move |peer: &mut Peer| {
        peer.read_request()?;
        let begun = Instant::now();
        while hold.load(Ordering::SeqCst) && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(5));
        }
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    })
}

/// What the log says of a path.
fn line(nginx: &Nginx, path: &str) -> Vec<String> {
    let begin = format!("{path}=");
    let line = wait_for(path, || {
        let log = fs::read_to_string(nginx.path("v")).unwrap_or_default();
        log.lines().find(|line| line.starts_with(&begin)).map(str::to_string)
    });
    line.split(['=', ';']).skip(1).map(str::to_string).collect()
}

fn send(nginx: &Nginx, path: &str) -> Client {
    let mut client = Client::connect(nginx.address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    client
}

/// By one worker and by several: the place in the line is that of all.
#[test]
fn those_before_and_beside() {
    for workers in [1, 3] {
        let hold = Arc::new(AtomicBool::new(true));
        let backend = holding(&hold);
        let nginx = Nginx::builder()
            .workers(workers)
            .http(&format!(
                "{FORMAT} server {{
                    listen 127.0.0.1:@port@;
                    access_log @dir@/v v;
                    rs_uwsgi_max_connections 2;
                    rs_uwsgi_queue 10 timeout=60s;
                    location / {{ rs_uwsgi_pass {}; }}
                    location /none {{ access_log @dir@/v v; return 204; }}
                    location /status/ {{ access_log off; rs_uwsgi_status; }}
                 }}",
                backend.address()
            ))
            .start();
        let number = |name: &str| {
            let text = get(nginx.address(), "/status/metrics").text();
            let begin = format!("rs_uwsgi_upstream_{name}{{");
            let line = text.lines().find(|line| line.starts_with(&begin));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        };
        let mut clients = Vec::new();
        for place in 0..5_usize {
            clients.push(send(&nginx, &format!("/{place}")));
            let expected = (Some(2.min(place + 1)), Some(place.saturating_sub(1)));
            wait_for("it to have come", || {
                let now = (number("requests_in_flight"), number("requests_waiting"));
                (now == expected).then_some(())
            });
        }
        hold.store(false, Ordering::SeqCst);
        for client in &mut clients {
            assert_eq!(client.response(false).unwrap().status, 200);
        }
        assert_eq!(get(nginx.address(), "/none").status, 204);
        for (path, position, in_flight) in [
            ("/0", "0", "0"),
            ("/1", "0", "1"),
            ("/2", "1", "2"),
            ("/3", "2", "2"),
            ("/4", "3", "2"),
        ] {
            assert_eq!(line(&nginx, path), ["200", "1", position, in_flight], "{workers} {path}");
        }
        assert_eq!(line(&nginx, "/none"), ["204", "-", "-", "-"]);
    }
}

/// Servers that are passed over for good count, and those that the request is not sent to do not.
#[test]
fn tries() {
    let site = Site::answering(&format!(
        "{FORMAT}
         upstream two {{ server unix:@dir@/none max_fails=0; server @pass@ backup; }}
         server {{
            listen 127.0.0.1:@port@;
            access_log @dir@/v v;
            location /one {{ rs_uwsgi_pass @pass@; }}
            location /two {{ rs_uwsgi_pass two; }}
            location /gone {{ rs_uwsgi_pass unix:@dir@/none; }}
         }}"
    ));
    site.nginx.expects("failed (2: No such file or directory)");
    for (path, status, tries) in [("/one", 200, "1"), ("/two", 200, "2"), ("/gone", 502, "1")] {
        assert_eq!(get(site.nginx.address(), path).status, status);
        assert_eq!(line(&site.nginx, path)[..2], [status.to_string(), tries.to_owned()], "{path}");
    }
}

/// Without a zone nobody knows what other workers do; the place is that among this worker's.
#[test]
fn without_a_zone() {
    let site = Site::answering(&format!(
        "rs_uwsgi_zone off; {FORMAT}
         server {{
            listen 127.0.0.1:@port@;
            access_log @dir@/v v;
            location / {{ rs_uwsgi_pass @pass@; }}
         }}"
    ));
    assert_eq!(get(site.nginx.address(), "/x").status, 200);
    assert_eq!(line(&site.nginx, "/x"), ["200", "1", "0", "-"]);
}
