//! What happens over time: upgrades, subrequests, retries, bodies and answers that arrive bit by
//! bit, clients that go away.

use crate::prelude::*;

#[test]
fn upgrade_passes_bytes_both_ways() {
    let pair = everything("");
    pair.backend.set_script(|peer| {
        peer.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello")?;
        let mut bytes = [0; 1000];
        loop {
            match peer.read_some(&mut bytes)? {
                0 => return Ok(()),
                count => peer.write(&bytes[..count])?,
            }
        }
    });
    let heads = SIDES.map(|side| {
        let mut client = Client::connect(pair.address(side));
        client.send(b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        let response = client.response(false).unwrap();
        assert_eq!(response.status, 101, "{side:?}");
        assert_eq!(client.read_exact(5).unwrap(), b"hello", "{side:?}");
        for message in [&b"one"[..], b"two", &[b'x'; 700]] {
            client.send(message);
            assert_eq!(client.read_exact(message.len()).unwrap(), message, "{side:?}");
        }
        client.half_close();
        assert_eq!(client.read_to_end(), b"", "{side:?}");
        response.undated()
    });
    assert_eq!(heads[0], heads[1]);
}

#[test]
fn subrequests() {
    let builder = Nginx::builder().file("html/page.shtml", b"[<!--# include virtual=\"/app/one\" -->|<!--# include virtual=\"/app/two?x\" wait=\"yes\" -->]");
    let server = format!(
        "{STANDARD_PARAMS} default_type text/html; ssi on;
        location /app/ {{ uwsgi_pass @pass@; }}
        location /added {{ add_before_body /app/before; add_after_body /app/after; uwsgi_pass @pass@; }}
        location /guarded {{ auth_request /app/auth; uwsgi_pass @pass@; }}"
    );
    let pair = Pair::builder(&server).nginx(builder).start();
    pair.backend.set_script(|peer| {
        let uri = peer.read_request()?.packet.get("REQUEST_URI").unwrap();
        let status = if uri.contains("refuse") { "403 Forbidden" } else { "200 OK" };
        peer.write(
            format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n\r\n({uri})").as_bytes(),
        )
    });
    for (path, status) in
        [("/page.shtml", 200), ("/added", 200), ("/guarded", 200), ("/guarded?refuse", 403)]
    {
        let [stock, ours] = SIDES.map(|side| get(pair.address(side), path));
        assert_eq!(stock.status, status, "{path}");
        assert_eq!(stock.undated(), ours.undated(), "{path}");
        assert_eq!(stock.text(), ours.text(), "{path}");
    }
}

#[test]
fn accel_redirect_to_a_file_and_back_to_the_application() {
    let builder = Nginx::builder().file("files/big.bin", &[7; 100_000]);
    let server = "location / { rs_uwsgi_pass @pass@; }
        location /files/ { internal; alias @dir@/files/; }";
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        let uri = peer.read_request()?.packet.get("PATH_INFO").unwrap();
        let to = if uri == "/download" { "/files/big.bin" } else { "/again" };
        match uri.as_str() {
            "/again" => peer.write(OK),
            _ => peer.write(
                format!("Status: 200 OK\r\nX-Accel-Redirect: {to}\r\nX-Secret: 1\r\n\r\nignored")
                    .as_bytes(),
            ),
        }
    });
    let server = server.replace("@pass@", &backend.address().to_string());
    let nginx = builder.http(&format!("server {{ listen 127.0.0.1:@port@; {server} }}")).start();
    let file = get(nginx.address(), "/download");
    assert_eq!((file.status, file.body.len()), (200, 100_000));
    assert_eq!(file.header("X-Secret"), None);
    assert_eq!(file.header("X-Accel-Redirect"), None);
    assert_eq!(get(nginx.address(), "/elsewhere").text(), "ok");
    assert_eq!(get(nginx.address(), "/files/big.bin").status, 404);
}

/// Two servers in an upstream block for each side; the first does `first`, the second answers.
struct Balanced {
    nginx: Nginx,
    first: Backend,
    second: Backend,
    _dir: tempfile::TempDir,
}

impl Balanced {
    fn new(
        extra: &str,
        first: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Balanced {
        let dir = nginx::prefix();
        let first = Backend::unix(&dir.path().join("1"), first);
        let second = Backend::unix(&dir.path().join("2"), |peer| peer.answer(OK));
        // max_fails=0: what one request finds out must not decide where the next one goes.
        let nginx = Nginx::start(&format!(
            "upstream app {{ server {} max_fails=0; server {} max_fails=0 backup; }}
            server {{ listen 127.0.0.1:@port@; {extra}
                location / {{ rs_uwsgi_pass app; }} }}",
            first.address(),
            second.address()
        ));
        Balanced { nginx, first, second, _dir: dir }
    }

    fn status(&self, request: &[u8]) -> u16 {
        exchange(self.nginx.address(), request).status
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";

#[test]
fn next_upstream() {
    type Behaviour = fn(&mut Peer) -> io::Result<()>;
    let closes: Behaviour = |peer| {
        peer.read_request()?;
        peer.close();
        Ok(())
    };
    let stalls: Behaviour = |peer| {
        peer.read_request()?;
        peer.stall()
    };
    let garbage: Behaviour = |peer| peer.answer(b"\x01\r\n\r\n");
    let status_500: Behaviour = |peer| peer.answer(b"Status: 500 No\r\nContent-Length: 0\r\n\r\n");
    let status_503: Behaviour = |peer| peer.answer(b"Status: 503 No\r\nContent-Length: 0\r\n\r\n");
    let status_404: Behaviour = |peer| peer.answer(b"Status: 404 No\r\nContent-Length: 0\r\n\r\n");
    // Only where a server is to run into it: the others have as long as a busy machine takes.
    const BRIEF: &str = "rs_uwsgi_read_timeout 1s;";
    let rows: [(&str, Behaviour, &[u8], u16); 17] = [
        ("", closes, GET, 200),
        (BRIEF, stalls, GET, 200),
        ("", closes, POST, 502),
        (BRIEF, stalls, POST, 504),
        ("", garbage, GET, 502),
        ("", status_500, GET, 500),
        ("rs_uwsgi_next_upstream error timeout non_idempotent;", closes, POST, 200),
        (
            "rs_uwsgi_read_timeout 1s; rs_uwsgi_next_upstream error timeout non_idempotent;",
            stalls,
            POST,
            200,
        ),
        ("rs_uwsgi_next_upstream invalid_header;", garbage, GET, 200),
        ("rs_uwsgi_next_upstream invalid_header;", closes, GET, 502),
        ("rs_uwsgi_next_upstream http_500 http_404;", status_500, GET, 200),
        ("rs_uwsgi_next_upstream http_500 http_404;", status_404, GET, 200),
        ("rs_uwsgi_next_upstream http_500;", status_503, GET, 503),
        ("rs_uwsgi_next_upstream http_503 non_idempotent;", status_503, POST, 200),
        ("rs_uwsgi_next_upstream off;", closes, GET, 502),
        ("rs_uwsgi_next_upstream_tries 1;", closes, GET, 502),
        ("rs_uwsgi_read_timeout 1s; rs_uwsgi_next_upstream_timeout 100ms;", stalls, GET, 504),
    ];
    for (extra, first, request, status) in rows {
        let site = Balanced::new(extra, first);
        let name = format!("{extra} {}", String::from_utf8_lossy(request));
        assert_eq!(site.status(request), status, "{name}");
        let tried = usize::from(status == 200);
        assert_eq!(site.second.requests().len(), tried, "{name}");
        if status == 200 {
            let (first, second) = (site.first.wait_request(0), site.second.wait_request(0));
            assert_eq!(first.packet, second.packet, "{name}: another packet the second time");
            assert_eq!(first.body, second.body, "{name}: another body the second time");
        }
    }
}

/// The head parser begins anew on the next server, whatever the first one left half done.
#[test]
fn next_upstream_after_half_a_head() {
    let site = Balanced::new("", |peer| peer.answer(b"Status: 404 No\r\nX-Half: "));
    let response = get(site.nginx.address(), "/");
    assert_eq!((response.status, response.text()), (200, "ok".to_string()));
    assert_eq!(response.header("X-Half"), None);
}

#[test]
fn an_unbuffered_upload_arrives_while_it_is_sent() {
    let pair = everything("uwsgi_request_buffering off;");
    for side in SIDES {
        let (send, received) = channel();
        let send = Mutex::new(send);
        pair.backend.set_script(move |peer| {
            let packet = peer.read_packet()?;
            assert_eq!(packet.get("CONTENT_LENGTH").as_deref(), Some("10"));
            for _ in 0..2 {
                let piece = peer.read_exact(5)?;
                send.lock().unwrap().send(piece).unwrap();
            }
            peer.write(OK)
        });
        let mut client = Client::connect(pair.address(side));
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst");
        let wait = crate::support::DEADLINE;
        assert_eq!(received.recv_timeout(wait).unwrap(), b"first", "{side:?}");
        client.send(b"other");
        assert_eq!(received.recv_timeout(wait).unwrap(), b"other", "{side:?}");
        assert_eq!(client.response(false).unwrap().text(), "ok", "{side:?}");
    }
}

#[test]
fn an_unbuffered_response_arrives_while_it_is_made() {
    for server in ["uwsgi_buffering off;", ""] {
        let pair = everything(server);
        for side in SIDES {
            let (go, wait) = channel::<()>();
            let wait = Mutex::new(wait);
            pair.backend.set_script(move |peer| {
                peer.answer(
                    b"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: 10\r\n\r\nfirst",
                )?;
                // Goes on only when the client has what was sent.
                wait.lock().unwrap().recv_timeout(crate::support::DEADLINE).unwrap();
                peer.write(b"other")
            });
            let mut client = Client::connect(pair.address(side));
            client.send(GET);
            client.read_head().unwrap();
            assert_eq!(client.read_exact(5).unwrap(), b"first", "{side:?} {server}");
            go.send(()).unwrap();
            assert_eq!(client.read_exact(5).unwrap(), b"other", "{side:?} {server}");
        }
    }
}

#[test]
fn a_client_that_goes_away() {
    for (extra, finished) in [("", false), ("uwsgi_ignore_client_abort on;", true)] {
        let pair = everything(extra);
        for side in SIDES {
            let (go, wait) = channel::<()>();
            let wait = Mutex::new(wait);
            let first = pair.backend.connection_count();
            let requests = pair.nginx.access_log().len();
            pair.backend.set_script(move |peer| {
                peer.read_request()?;
                match finished {
                    // Answers after the client has gone.
                    true => {
                        wait.lock().unwrap().recv_timeout(crate::support::DEADLINE).unwrap();
                        peer.write(OK)
                    }
                    // Ends when nginx closes, which is what the test waits for.
                    false => peer.stall(),
                }
            });
            let mut client = Client::connect(pair.address(side));
            client.send(GET);
            wait_for("the request at the backend", || {
                (pair.backend.requests().len() > requests).then_some(())
            });
            drop(client);
            let _ = go.send(());
            pair.backend.take_ended(first, 1);
            let line = pair.nginx.wait_requests(requests + 1).pop().unwrap();
            let status = if finished { " 200 " } else { " 499 " };
            assert!(line.contains(status), "{side:?} {extra}: {line}");
        }
    }
}

#[test]
fn many_requests_on_one_client_connection() {
    let pair = everything("");
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        let uri = request.packet.get("REQUEST_URI").unwrap();
        let body = format!("{uri} {}", request.body.len());
        peer.write(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )
    });
    for side in SIDES {
        let mut client = Client::connect(pair.address(side));
        for i in 0..50 {
            let body = "b".repeat(i * 10);
            client.send(
                format!(
                    "POST /{i} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
                    i * 10
                )
                .as_bytes(),
            );
            assert_eq!(
                client.response(false).unwrap().text(),
                format!("/{i} {}", i * 10),
                "{side:?}"
            );
        }
        // Pipelined.
        client.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        for expected in ["/a 0", "/b 0"] {
            assert_eq!(client.response(false).unwrap().text(), expected, "{side:?}");
        }
    }
}

/// HEAD: uWSGI sends a body all the same; the client must get none, and the next request on its
/// connection must be answered.
#[test]
fn head_with_a_body_from_the_server() {
    let pair = everything("");
    pair.backend
        .set_script(|peer| peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    for side in SIDES {
        let mut client = Client::connect(pair.address(side));
        for method in ["HEAD", "GET", "HEAD", "GET"] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let response = client.response(method == "HEAD").unwrap();
            let body: &[u8] = if method == "HEAD" { b"" } else { b"hello" };
            assert_eq!(response.body, body, "{side:?} {method}");
            assert_eq!(response.header("Content-Length"), Some("5"), "{side:?} {method}");
        }
    }
}

#[test]
fn body_limits_and_expect() {
    let pair = everything("client_max_body_size 10;");
    pair.backend.set_script(|peer| peer.answer(OK));
    for side in SIDES {
        assert_eq!(post(pair.address(side), "/", b"more than ten bytes").status, 413, "{side:?}");
        assert_eq!(post(pair.address(side), "/", b"few").status, 200, "{side:?}");
        let mut client = Client::connect(pair.address(side));
        client.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.read_head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n", "{side:?}");
        client.send(b"few");
        assert_eq!(client.response(false).unwrap().text(), "ok", "{side:?}");
        // without a body there is no reason to wait, and nginx answers as well
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n", "{side:?}");
        assert_eq!(client.response(false).unwrap().text(), "ok", "{side:?}");
    }
}

/// A reload starts new workers and lets the old one finish what it has.
#[test]
fn reload_in_the_middle_of_a_request() {
    let pair = everything("");
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    pair.backend.set_script(move |peer| {
        peer.read_request()?;
        wait.lock().unwrap().recv_timeout(crate::support::DEADLINE).unwrap();
        peer.write(OK)
    });
    let mut client = Client::connect(pair.address(Side::Ours));
    client.send(GET);
    pair.backend.wait_request(0);
    pair.nginx.signal(libc::SIGHUP);
    pair.nginx.wait_logged("gracefully shutting down");
    go.send(()).unwrap();
    assert_eq!(client.response(false).unwrap().text(), "ok");
    drop(client);
    pair.nginx.wait_logged("exited with code 0");
    pair.backend.set_script(|peer| peer.answer(OK));
    assert_eq!(get(pair.address(Side::Ours), "/").text(), "ok");
}
