//! `uwsgi_next_upstream`: which failures, methods, limits and bodies lead to the next server. The
//! servers tried show in the response (`$upstream_addr`), which is compared with stock's.

use super::{get, request, same};
use crate::prelude::*;
use crate::support::backend::Script;

/// Two servers behind both sides. Stock has upstream blocks of its own, so that neither side knows
/// of the other's failures; the module's have the same name with `rs_` before it.
struct Balanced {
    pair: Pair,
    first: Backend,
    second: Backend,
    _dir: TempDir,
}

/// Shows the way that a request took.
const WAY: &str = "
    add_header X-Addr $upstream_addr always;
    add_header X-Status $upstream_status always;
    client_max_body_size 0;
";

/// How long a server that says nothing is waited for, where there is one: the others have as long as a
/// busy machine takes.
const BRIEF: &str = "uwsgi_read_timeout 1s;";

impl Balanced {
    /// `locations` may pass to `uwsgi_app` (the first server, then the second), to `uwsgi_gone`
    /// (nobody listens, then the second) and `uwsgi_none` (nobody listens, three times).
    fn new(locations: &str) -> Balanced {
        let dir = nginx::prefix();
        let first = Backend::unix(&dir.path().join("1"), |_| Ok(()));
        let second = Backend::unix(&dir.path().join("2"), |peer| peer.answer(super::OK));
        let gone = |number: u8| format!("unix:{}/gone{number}", dir.path().display());
        let mut builder = Nginx::builder().expects(nginx::NO_SOCKET);
        for prefix in ["", "rs_"] {
            let backup = format!("server {} max_fails=0 backup;", second.address());
            let none: String =
                [1, 2, 3].map(|number| format!("server {} max_fails=0;", gone(number))).concat();
            builder = builder.http(&format!(
                "upstream {prefix}uwsgi_app {{ server {} max_fails=0; {backup} }}
                upstream {prefix}uwsgi_gone {{ server {} max_fails=0; {backup} }}
                upstream {prefix}uwsgi_none {{ {none} }}",
                first.address(),
                gone(1)
            ));
        }
        let server = format!("{STANDARD_PARAMS} {WAY} {locations}");
        Balanced { pair: Pair::builder(&server).nginx(builder).start(), first, second, _dir: dir }
    }

    /// The response to `request`, the same from both sides, and how many servers were tried.
    fn tried(&self, name: &str, request: &[u8]) -> (Response, usize) {
        let (response, _) = same(&self.pair, name, request);
        let tried = response.header("X-Addr").map_or(0, |way| way.split(", ").count());
        (response, tried)
    }

    fn check(&self, name: &str, request: &[u8], expected: (u16, usize)) {
        let (response, tried) = self.tried(name, request);
        assert_eq!((response.status, tried), expected, "{name}: {:?}", response.headers);
    }
}

fn answering(status: u16) -> impl Fn(&mut Peer) -> io::Result<()> + Send + Sync {
    move |peer| {
        peer.answer(format!("Status: {status} No\r\nContent-Length: 2\r\n\r\nno").as_bytes())
    }
}

const IDEMPOTENT: [&str; 4] = ["GET", "HEAD", "PUT", "DELETE"];
const NON_IDEMPOTENT: [&str; 3] = ["POST", "PATCH", "LOCK"];

#[test]
fn statuses() {
    let codes = [500, 503, 403, 404, 429];
    let locations: String = codes
        .iter()
        .map(|code| {
            format!(
                "location /{code} {{ uwsgi_next_upstream http_{code}; uwsgi_pass uwsgi_app; }}
                location /any/{code} {{
                    uwsgi_next_upstream http_{code} non_idempotent; uwsgi_pass uwsgi_app;
                }}"
            )
        })
        .collect();
    let site = Balanced::new(&format!("{locations} location / {{ uwsgi_pass uwsgi_app; }}"));
    for (i, code) in codes.iter().copied().enumerate() {
        let other = codes[(i + 1) % codes.len()];
        site.first.set_script(answering(code));
        let (own, any) = (format!("/{code}"), format!("/any/{code}"));
        let check = |method: &str, path: &str, expected| {
            let name = format!("{code} for {method} {path}");
            site.check(&name, &request(method, path, b""), expected);
        };
        for method in IDEMPOTENT {
            check(method, &own, (200, 2));
            check(method, "/", (code, 1));
            check(method, &format!("/{other}"), (code, 1));
        }
        for method in NON_IDEMPOTENT {
            check(method, &own, (code, 1));
            check(method, &any, (200, 2));
        }
    }
}

/// A name, and the directive that says after what the next server is asked. An exchange with a server that says
/// nothing takes a second, so all of them are tried at once.
#[test]
fn failures() {
    let conditions = [
        ("default", ""),
        ("error", "uwsgi_next_upstream error;"),
        ("timeout", "uwsgi_next_upstream timeout;"),
        ("invalid_header", "uwsgi_next_upstream invalid_header;"),
        ("off", "uwsgi_next_upstream off;"),
        ("any", "uwsgi_next_upstream error timeout invalid_header non_idempotent;"),
    ];
    std::thread::scope(|scope| {
        let tried = conditions
            .map(|(condition, directive)| scope.spawn(move || failures_with(condition, directive)));
        tried.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn failures_with(condition: &str, directive: &str) {
    let site = Balanced::new(&format!(
        "{directive}
        location / {{ uwsgi_pass uwsgi_app; }}
        location /brief {{ {BRIEF} uwsgi_pass uwsgi_app; }}
        location /gone {{ uwsgi_pass uwsgi_gone; }}"
    ));
    type Row = (&'static str, &'static str, Script, u16, &'static [&'static str]);
    // The status without a retry, and the conditions that have one.
    let rows: [Row; 4] = [
        ("closes", "/", Arc::new(|peer| peer.read_request().map(drop)), 502, &["default", "error"]),
        ("stalls", "/brief", Arc::new(|peer| peer.stall()), 504, &["default", "timeout"]),
        ("garbage", "/", Arc::new(|peer| peer.answer(b"\x01\r\n\r\n")), 502, &["invalid_header"]),
        (
            "half a head",
            "/",
            Arc::new(|peer| peer.answer(b"HTTP/1.1 404 No\r\nX-Half: ")),
            502,
            &["default", "error"],
        ),
    ];
    for (failure, path, script, status, retried) in rows {
        site.first.set_script(move |peer| script(peer));
        let again = condition == "any" || retried.contains(&condition);
        let expected = if again { (200, 2) } else { (status, 1) };
        site.check(&format!("{condition}, {failure}: GET"), &get(path), expected);
        let expected = if condition == "any" { (200, 2) } else { (status, 1) };
        let post = request("POST", path, b"body");
        site.check(&format!("{condition}, {failure}: POST"), &post, expected);
    }
    // Nobody listens: nothing was sent, so that any method may be tried elsewhere.
    let again = ["default", "error", "any"].contains(&condition);
    let expected = if again { (200, 2) } else { (502, 1) };
    for method in ["GET", "POST"] {
        let name = format!("{condition}, nobody listens: {method}");
        site.check(&name, &request(method, "/gone", b""), expected);
    }
}

#[test]
fn limits() {
    let tries = [0, 1, 2, 3, 9].map(|tries| {
        format!("location /{tries} {{ uwsgi_next_upstream_tries {tries}; uwsgi_pass uwsgi_none; }}")
    });
    let site = Balanced::new(&format!(
        "{} location / {{ uwsgi_pass uwsgi_none; }}
        location /soon {{ {BRIEF} uwsgi_next_upstream_timeout 50ms; uwsgi_pass uwsgi_app; }}
        location /later {{ {BRIEF} uwsgi_next_upstream_timeout 1h; uwsgi_pass uwsgi_app; }}",
        tries.concat()
    ));
    for (path, tried) in [("/", 3), ("/0", 3), ("/1", 1), ("/2", 2), ("/3", 3), ("/9", 3)] {
        site.check(path, &get(path), (502, tried));
    }
    // The first try takes its read timeout, after which the time for others is over, or not.
    site.first.set_script(|peer| peer.stall());
    site.check("/soon", &get("/soon"), (504, 1));
    site.check("/later", &get("/later"), (200, 2));
}

/// The last server's answer is passed on, whatever it is, and nothing of those before it.
#[test]
fn all_servers_failing() {
    let site = Balanced::new(
        "location / { uwsgi_next_upstream http_500 http_503 http_404 error; uwsgi_pass uwsgi_app; }
        location /intercepted {
            uwsgi_next_upstream http_500 http_404; uwsgi_intercept_errors on;
            error_page 404 =410 /page; uwsgi_pass uwsgi_app;
        }
        location /page { return 200 \"no such page\"; }",
    );
    site.first.set_script(|peer| peer.answer(b"Status: 500 No\r\nX-First: 1\r\n\r\nfirst"));
    site.second.set_script(|peer| peer.answer(b"Status: 404 No\r\nX-Second: 2\r\n\r\nsecond"));
    let (response, tried) = site.tried("500, then 404", &get("/"));
    assert_eq!((response.status, tried, response.text().as_str()), (404, 2, "second"));
    assert_eq!(response.header("X-First"), None);
    assert_eq!(response.header("X-Second").map(String::from), Some("2".to_string()));
    assert_eq!(response.header("X-Status").map(String::from), Some("500, 404".to_string()));
    let (response, _) = site.tried("intercepted", &get("/intercepted"));
    assert_eq!((response.status, response.text().as_str()), (410, "no such page"));
    site.second.set_script(|peer| peer.read_request().map(drop));
    let (response, tried) = site.tried("500, then an end", &get("/"));
    assert_eq!((response.status, tried), (502, 2));
}

/// What the second server gets is what the first one got, headers and body.
#[test]
fn the_body_is_sent_again() {
    let site = Balanced::new(
        "client_body_buffer_size 8k;
        location / { uwsgi_pass uwsgi_app; }
        location /gone { uwsgi_pass uwsgi_gone; }
        location /unbuffered { uwsgi_request_buffering off; uwsgi_pass uwsgi_app; }
        location /unbuffered/gone { uwsgi_request_buffering off; uwsgi_pass uwsgi_gone; }",
    );
    let body: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    // The first server fails when it has read everything, or in the middle of the body.
    for part in [body.len(), 1000] {
        site.first.set_script(move |peer| {
            peer.read_packet()?;
            peer.read_exact(part)?;
            // Later than the first bytes, so that the loss shows in reading, not in writing.
            peer.half_close()?;
            peer.read_to_end()
        });
        for (path, expected) in [
            ("/", (200, 2)),
            ("/gone", (200, 2)),
            ("/unbuffered", (502, 1)),
            ("/unbuffered/gone", (200, 2)),
        ] {
            let seen = site.second.requests().len();
            let name = format!("PUT {path}, {part} bytes read");
            site.check(&name, &request("PUT", path, &body), expected);
            let requests = site.second.requests().split_off(seen);
            assert_eq!(requests.len(), if expected.1 == 2 { 2 } else { 0 }, "{name}");
            for request in requests {
                assert!(request.body == body, "{name}: another body");
                let length = request.packet.get("CONTENT_LENGTH");
                assert_eq!(length.as_deref(), Some("300000"), "{name}");
            }
        }
    }
}

/// What was decided for a body that came whole with its head does not stand for the next server's.
#[test]
fn a_body_after_one_that_was_whole() {
    let site = Balanced::new(
        "uwsgi_next_upstream http_500;
        location / { uwsgi_read_timeout 20s; uwsgi_pass uwsgi_app; }
        location /unbuffered {
            uwsgi_read_timeout 20s; uwsgi_buffering off; uwsgi_pass uwsgi_app;
        }",
    );
    site.first.set_script(|peer| peer.answer(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"));
    let body = vec![b'x'; 200_000];
    for length in [format!("Content-Length: {}\r\n", body.len()), String::new()] {
        let head = format!("HTTP/1.1 200 OK\r\n{length}X-Second: yes\r\n\r\n");
        let response = [head.as_bytes(), &body].concat();
        site.second.set_script(move |peer| peer.answer(&response));
        for path in ["/", "/unbuffered"] {
            let name = format!("{path}, {length}");
            let (response, tried) = site.tried(&name, &get(path));
            assert_eq!(
                (response.status, tried, response.body.len()),
                (200, 2, body.len()),
                "{name}"
            );
            assert_eq!(response.header("X-Second"), Some("yes"), "{name}");
        }
    }
}
