//! Early answers: servers that answer and close before they have read the request.
//!
//! The scripted server makes sure that nginx fails to send: the worker is stopped while the client
//! sends more of its body and, after that, the server answers and closes. nginx then turns to the
//! body first.

mod servers;

use crate::prelude::*;
use crate::support::process::kill;
use crate::traffic::worker;

const UNBUFFERED: &str = "uwsgi_request_buffering off; client_max_body_size 0;";

/// The length of an upload, in bytes: more than sockets hold.
const UPLOAD: usize = 32 << 20;

const SIZED: &[u8] = b"HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\n\r\ntoo much";
const UNSIZED: &[u8] = b"HTTP/1.1 401 Who\r\n\r\nwho are you";

/// Both servers, whose bodies are not buffered, before a server on a unix socket or on TCP.
fn unbuffered(tcp: bool, settings: &str) -> Pair {
    let server = format!(
        "{STANDARD_PARAMS} {UNBUFFERED} {settings}
        location / {{ uwsgi_pass @pass@; }}
        location /through {{ uwsgi_buffering off; uwsgi_pass @pass@; }}"
    );
    Pair::builder(&server).tcp(tcp).start()
}

/// What an upload has left.
struct Uploaded {
    response: Response,
    /// The path with the number of the try.
    path: String,
    /// What was logged.
    log: Vec<Line>,
}

/// An upload during which nginx fails to send. The server has read the vars and none of the body when
/// it does `act`, which calls its argument when nginx may go on. The client never sends all of its
/// body. Where nginx happened to look at the answer first, it is done again.
fn upload(
    pair: &Pair,
    side: Side,
    (method, path): (&str, &str),
    act: impl Fn(&mut Peer, &dyn Fn()) -> io::Result<()> + Clone + Send + Sync + 'static,
) -> Uploaded {
    for number in 0..20 {
        let path = format!("{path}/{number}");
        let before = pair.nginx.error_log().len();
        let mut client = begin(pair, side, (method, &path), UPLOAD, act.clone());
        let response = client.response(false).unwrap();
        let log = pair.nginx.error_log().split_off(before);
        let failed = ["writev() failed (32: ", "writev() failed (104: "];
        if log.iter().any(|line| failed.iter().any(|text| line.text.starts_with(text))) {
            return Uploaded { response, path, log };
        }
    }
    panic!("nginx does not fail to send");
}

/// As `upload`, of `length` bytes, of which the client sends 2000, and with the response still to be
/// read.
fn begin(
    pair: &Pair,
    side: Side,
    (method, path): (&str, &str),
    length: usize,
    act: impl Fn(&mut Peer, &dyn Fn()) -> io::Result<()> + Send + Sync + 'static,
) -> Client {
    let (send, reached) = channel();
    let (go, wait) = channel();
    let (send, wait) = (Mutex::new(send), Mutex::new(wait));
    pair.backend.set_script(move |peer| {
        peer.read_packet()?;
        send.lock().unwrap().send(()).unwrap();
        wait.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        act(peer, &|| send.lock().unwrap().send(()).unwrap())
    });
    let mut client = Client::connect(pair.address(side));
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    client.send(&[head.as_bytes(), &[b'x'; 1000]].concat());
    reached.recv_timeout(DEADLINE).unwrap();
    let stopped = Stopped::new(worker(&pair.nginx));
    client.send(&[b'x'; 1000]);
    client.wait_arrived();
    go.send(()).unwrap();
    reached.recv_timeout(DEADLINE).unwrap();
    drop(stopped);
    client
}

/// A process that does nothing until this is dropped.
struct Stopped(u32);

impl Stopped {
    /// Stops a process that waits for events, once it does: it will find those that come from now on,
    /// in their order.
    fn new(process: u32) -> Stopped {
        let wait_for_state = |state: &str| {
            wait_for(&format!("the worker to be in the state{state}"), || {
                let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
                stat.contains(&format!("){state}")).then_some(())
            });
        };
        wait_for_state(" S ");
        assert!(kill(process as i32, libc::SIGSTOP));
        let stopped = Stopped(process);
        wait_for_state(" T ");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        assert!(kill(self.0 as i32, libc::SIGCONT));
    }
}

const POST: (&str, &str) = ("POST", "/");
const THROUGH: (&str, &str) = ("POST", "/through");

/// Answers and closes with a reset.
fn write(answer: &[u8]) -> impl Fn(&mut Peer, &dyn Fn()) -> io::Result<()> + Clone + Send + Sync {
    let answer = answer.to_vec();
    move |peer, done| {
        peer.write(&answer)?;
        peer.reset()?;
        done();
        Ok(())
    }
}

/// Stops reading and answers, and leaves the connection open (unix sockets).
fn stay(answer: &[u8]) -> impl Fn(&mut Peer, &dyn Fn()) -> io::Result<()> + Clone + Send + Sync {
    let answer = answer.to_vec();
    move |peer, done| {
        peer.stop_reading()?;
        // what a socket takes at once, and then the rest
        let (begin, rest) = answer.split_at(answer.len().min(50_000));
        peer.write(begin)?;
        done();
        peer.write(rest)?;
        peer.wait_closed()
    }
}

/// The test makes nginx fail, as stock shows; with us the answer arrives, and nothing is logged as
/// an error.
#[test]
fn what_stock_makes_of_it() {
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        let stock = upload(&pair, Side::Stock, POST, write(SIZED)).response;
        assert_eq!(stock.status, 502, "tcp {tcp}");
        let errors = || {
            let lines = pair.nginx.error_log();
            lines.into_iter().filter(|line| line.level == "error").count()
        };
        let before = errors();
        assert!(before > 0);
        let ours = upload(&pair, Side::Ours, POST, write(SIZED)).response;
        assert_eq!((ours.status, ours.text().as_str()), (413, "too much"), "tcp {tcp}");
        assert_eq!(errors(), before, "{:?}", pair.nginx.error_log());
    }
}

#[test]
fn answers_that_end_by_their_own_framing() {
    const CHUNKED: &[u8] =
        b"HTTP/1.1 401 Who\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n";
    const NONE: &[u8] = b"HTTP/1.1 204 None\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        for path in [POST, THROUGH] {
            for (answer, status, text, end) in [
                (SIZED, 413, "too much", End::Length),
                (CHUNKED, 401, "who", End::Chunked),
                (NONE, 204, "", End::NoBody),
                (OK, 200, "ok", End::Length),
            ] {
                let got = upload(&pair, Side::Ours, path, write(answer)).response;
                let got = (got.status, got.text(), got.end);
                assert_eq!(got, (status, text.to_string(), end), "{path:?} tcp {tcp}");
            }
        }
    }
}

/// The reset is the end of what is no more than an explanation; anything else may lack its end.
#[test]
fn answers_that_end_with_the_connection() {
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        for path in [POST, THROUGH] {
            for (status, end) in
                [(200, End::Cut), (299, End::Cut), (302, End::Chunked), (500, End::Chunked)]
            {
                let head = format!("HTTP/1.1 {status} Early\r\n\r\n");
                let answer = [head.as_bytes(), &[b'y'; 50_000]].concat();
                let got = upload(&pair, Side::Ours, path, write(&answer)).response;
                assert_eq!((got.status, got.end), (status, end), "{path:?} tcp {tcp}");
                assert!(end == End::Cut || got.body == [b'y'; 50_000], "{status} {path:?}");
            }
        }
    }
}

/// The same where nginx had sent all that the client had: no send fails, and the reset is all that
/// there is to see.
#[test]
fn a_reset_with_no_failed_send() {
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        for path in ["/", "/through"] {
            for (status, end) in [(200, End::Cut), (401, End::Chunked)] {
                pair.backend.set_script(move |peer| {
                    peer.read_packet()?;
                    peer.write(format!("HTTP/1.1 {status} Early\r\n\r\nearly").as_bytes())?;
                    peer.reset()
                });
                let request =
                    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
                let got = exchange(pair.address(Side::Ours), format!("{request}12345").as_bytes());
                assert_eq!((got.status, got.end), (status, end), "{path} tcp {tcp}");
            }
        }
    }
}

/// What a client still sends is read and dropped, and its connection then ends.
#[test]
fn the_client_goes_on() {
    let pair = unbuffered(false, "");
    for path in [POST, THROUGH] {
        let mut client = begin(&pair, Side::Ours, path, UPLOAD, write(SIZED));
        assert_eq!(client.response(false).unwrap().text(), "too much");
        client.send(&vec![b'x'; UPLOAD - 2000]);
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(pair.backend.requests().len(), 0);
    }
}

/// A client that reads nothing before it has sent everything, and an answer that comes until then.
#[test]
fn a_long_answer() {
    const LENGTH: usize = 16 << 20;
    let pair = unbuffered(false, "send_timeout 10s;");
    let head = format!("HTTP/1.1 413 Too Much\r\nContent-Length: {LENGTH}\r\n\r\n");
    let answer = [head.as_bytes(), &vec![b'y'; LENGTH]].concat();
    let mut client = begin(&pair, Side::Ours, THROUGH, UPLOAD, stay(&answer));
    client.send(&vec![b'x'; UPLOAD - 2000]);
    let got = client.response(false).unwrap();
    assert_eq!((got.status, got.body.len(), got.end), (413, LENGTH, End::Length));
}

#[test]
fn answers_that_are_cut_short() {
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        for path in [POST, THROUGH] {
            for answer in [
                &b"HTTP/1.1 413 Too Much\r\nContent-Length: 80\r\n\r\ntoo much"[..],
                b"HTTP/1.1 413 Too Much\r\nTransfer-Encoding: chunked\r\n\r\n50\r\ntoo much",
            ] {
                let got = upload(&pair, Side::Ours, path, write(answer)).response;
                assert_eq!((got.status, got.end), (413, End::Cut), "{path:?} tcp {tcp}");
            }
        }
    }
}

/// Without an answer, or with half of one, it is stock's error.
#[test]
fn no_answer() {
    for tcp in [false, true] {
        let pair = unbuffered(tcp, "");
        for answer in [&b""[..], b"HTTP/1.1 413 Too Mu", b"HTTP/1.1 103 Early Hints\r\n\r\n"] {
            let errors = SIDES.map(|side| {
                let got = upload(&pair, side, POST, write(answer));
                assert_eq!(got.response.status, 502, "{side:?} tcp {tcp}");
                // the advice to look at the server comes where two have had no answer in time
                let is_advice = |line: &&Line| line.text.contains("has understood no request yet");
                let errors = got.log.iter().filter(|line| line.level == "error");
                let errors: Vec<_> = errors.filter(|line| !is_advice(line)).collect();
                assert_eq!(errors.len(), 1, "{side:?} tcp {tcp}: {errors:?}");
                errors[0].text.split_once(" failed ").map(|(_, error)| error[..20].to_string())
            });
            assert!(!answer.is_empty() || errors[0] == errors[1], "{errors:?}");
        }
    }
}

/// The answer is logged as the server's, and the bytes that were sent as what they were.
#[test]
fn variables() {
    let log = "access_log @dir@/early.log early;";
    let server =
        format!("{STANDARD_PARAMS} {UNBUFFERED} {log} location / {{ uwsgi_pass @pass@; }}");
    let builder = Nginx::builder().http(
        "log_format early '$status $upstream_status $upstream_bytes_sent $upstream_bytes_received \
         $upstream_response_length';",
    );
    let pair = Pair::builder(&server).nginx(builder).start();
    upload(&pair, Side::Ours, POST, write(SIZED));
    let line = wait_for("the access log", || {
        let log = std::fs::read_to_string(pair.nginx.path("early.log")).unwrap_or_default();
        log.ends_with('\n').then_some(log)
    });
    let line = line.lines().last().unwrap();
    let values: Vec<usize> = line.split_whitespace().map(|value| value.parse().unwrap()).collect();
    let [status, upstream_status, sent, received, length] = values[..] else { panic!("{line}") };
    assert_eq!((status, upstream_status, received, length), (413, 413, SIZED.len(), 8));
    // the vars and what the client had sent of its body by then, which may have been all 2000 bytes
    assert!((1000..3000).contains(&sent), "{line}");
}

#[test]
fn never_cached() {
    for tcp in [false, true] {
        let server = format!(
            "{STANDARD_PARAMS} {UNBUFFERED} uwsgi_cache $zone; uwsgi_cache_key $uri;
            uwsgi_cache_methods POST; uwsgi_cache_valid any 1h;
            location / {{ uwsgi_pass @pass@; }}"
        );
        let builder = Nginx::builder()
            .http("map $server_addr $zone { 127.0.0.1 stock; default ours; }")
            .http("uwsgi_cache_path @dir@/stock keys_zone=stock:1m;")
            .http("rs_uwsgi_cache_path @dir@/ours keys_zone=ours:1m;");
        let pair = Pair::builder(&server).nginx(builder).tcp(tcp).start();
        let is_fresh = |path: &str| {
            pair.backend.set_script(|peer| peer.answer(b"HTTP/1.1 200 OK\r\n\r\nfresh"));
            post(pair.address(Side::Ours), path, b"upload").text() == "fresh"
        };
        for answer in [SIZED, UNSIZED] {
            let path = format!("/{}", answer.len());
            let got = upload(&pair, Side::Ours, ("POST", &path), write(answer));
            assert_ne!(got.response.end, End::Cut);
            assert!(is_fresh(&got.path), "{} tcp {tcp}", got.path);
            // what is fresh is what is cached from then on
            pair.backend.set_script(|_| Ok(()));
            assert_eq!(post(pair.address(Side::Ours), &got.path, b"upload").text(), "fresh");
        }
        if !tcp {
            let got = upload(&pair, Side::Ours, ("POST", "/open"), stay(SIZED));
            assert!(is_fresh(&got.path), "{}", got.path);
        }
        // no failed send
        pair.backend.set_script(|peer| {
            peer.read_packet()?;
            peer.write(UNSIZED)?;
            peer.reset()
        });
        let got = post(pair.address(Side::Ours), "/sent", b"upload");
        assert_eq!(got.text(), "who are you");
        assert!(is_fresh("/sent"), "tcp {tcp}");
    }
}

/// A server that stops reading and says keep-alive: the rest of the body must never come on that
/// connection, nor another request.
#[test]
fn the_connection_is_not_used_again() {
    const KEPT: &[u8] =
        b"HTTP/1.1 413 Too Much\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\ntoo much";
    let pair = unbuffered(false, "");
    for length in [2000, UPLOAD] {
        let got = begin(&pair, Side::Ours, POST, length, stay(KEPT)).response(false).unwrap();
        assert_eq!(got.text(), "too much");
    }
    pair.backend.set_script(|peer| peer.answer(KEPT));
    let next = exchange(pair.address(Side::Ours), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((next.status, pair.backend.connection_count()), (413, 3));
}

/// A request without a body has no rest that could be unread: what comes before its connection's
/// reset is no whole answer, also where an upload went over that connection before.
#[test]
fn a_reset_with_nothing_unread() {
    let pair = unbuffered(true, "");
    pair.backend.set_script(|peer| {
        peer.answer(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")?;
        peer.read_packet()?;
        peer.write(UNSIZED)?;
        peer.reset()
    });
    let to = pair.address(Side::Ours);
    assert_eq!(post(to, "/", b"upload").text(), "ok");
    let got = exchange(to, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((got.status, got.end, pair.backend.connection_count()), (401, End::Cut, 1));
}

/// Two servers, of which the first closes early: the second gets all of the body, and only where the
/// request may be repeated.
#[test]
fn the_next_server() {
    let dir = nginx::prefix();
    let body: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
    let second = Backend::unix(&dir.path().join("second"), |peer| peer.answer(UNSIZED));
    for (ways, answer) in
        [("error", &b""[..]), ("error http_503", b"HTTP/1.1 503 Busy\r\n\r\nbusy")]
    {
        for tcp in [false, true] {
            let close = move |peer: &mut Peer| {
                peer.read_packet()?;
                peer.write(answer)?;
                peer.reset()
            };
            let first = match tcp {
                true => Backend::tcp(close),
                false => Backend::unix(&dir.path().join("first"), close),
            };
            let nginx = Nginx::start(&format!(
                "upstream u {{ server {} max_fails=0; server {} backup; }}
                server {{ listen 127.0.0.1:@port@; client_max_body_size 0; sendfile on;
                    rs_uwsgi_next_upstream {ways};
                    location / {{ rs_uwsgi_pass u; }}
                    location /memory {{ client_body_buffer_size 4m; rs_uwsgi_pass u; }} }}",
                first.address(),
                second.address(),
            ));
            for path in ["/", "/memory"] {
                for method in ["PUT", "POST"] {
                    for _ in 0..8 {
                        let before = second.requests().len();
                        let head = format!(
                            "{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        let got = exchange(nginx.address(), &[head.as_bytes(), &body].concat());
                        let requests = second.requests();
                        if method == "PUT" {
                            assert_eq!(got.text(), "who are you", "{ways} tcp {tcp}");
                            assert!(requests[before].body == body, "{ways} tcp {tcp}");
                        } else {
                            let status = if answer.is_empty() { 502 } else { 503 };
                            assert_eq!(got.status, status, "{ways} tcp {tcp}");
                            assert_eq!(requests.len(), before, "{ways} tcp {tcp}");
                        }
                    }
                }
            }
        }
    }
}
