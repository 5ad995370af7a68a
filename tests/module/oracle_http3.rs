//! HTTP/3 in front: for the same request from aioquic, stock and ours pass on the same packet, and the client gets
//! the same response. `make test-http3` runs these, with an nginx that has HTTP/3.

use crate::intended::{param_names, stock_has_host_of_its_own, Facts};
use crate::oracle_requests::{answer, compare, server, OF_A_CONNECTION};
use crate::oracle_responses::{answering, LOCATIONS};
use crate::pair::{assert_responses, Outcome, Pair, Side, SIDES, STANDARD_PARAMS};
use crate::requests;
use crate::responses::{bytes, ROWS};
use crate::support::backend::Backend;
use crate::support::client::{get, End, Response};
use crate::support::http3::{Answer, Client, Leave};
use crate::support::nginx::{self, Builder, Nginx};
use crate::support::packet::Packet;
use crate::support::random::Random;
use crate::support::tls::Authority;
use crate::support::{show, DEADLINE};
use std::sync::mpsc::channel;
use std::sync::Mutex;

const SEED: u64 = 0x6833_6833;

const CERTIFICATE: &str =
    "ssl_certificate @dir@/files/cert.pem; ssl_certificate_key @dir@/files/key.pem;";

type Field = (Vec<u8>, Vec<u8>);

/// An nginx with a certificate.
fn builder() -> Builder {
    let identity = Authority::root("root").issue("localhost");
    Nginx::builder()
        .file("files/cert.pem", identity.pem.as_bytes())
        .file("files/key.pem", identity.key_pem().as_bytes())
        .file("files/file.txt", b"from disk")
}

/// A pair, and a server on TCP that answers when the worker has done what it had begun.
fn pair(server: &str) -> Pair {
    let turn = "server { listen 127.0.0.1:@port2@; access_log off; return 200 done; }";
    let server = format!("{CERTIFICATE}\n{server}");
    Pair::builder(&server).nginx(builder().http(turn)).listen("quic").start()
}

fn fields(method: &str, path: &[u8], more: &[(&str, &str)]) -> Vec<Field> {
    let mut fields = vec![
        (b":method".to_vec(), method.as_bytes().to_vec()),
        (b":scheme".to_vec(), b"https".to_vec()),
        (b":authority".to_vec(), b"example.org".to_vec()),
        (b":path".to_vec(), path.to_vec()),
    ];
    fields.extend(more.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())));
    fields
}

fn borrowed(fields: &[Field]) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// Status, fields and body as those of HTTP/1 are compared.
fn response(answer: Answer) -> Response {
    let mut head = format!("{:?}\r\n", answer.error);
    for (name, value) in answer.fields.iter().filter(|(name, _)| name != "date") {
        head += &format!("{name}: {value}\r\n");
    }
    let status = answer.status();
    let head = head.into_bytes();
    Response { head, status, headers: answer.fields, body: answer.body, end: End::Length }
}

/// One request through stock and ours, from one local port.
fn both(
    client: &mut Client,
    pair: &Pair,
    fields: &[Field],
    body: Option<&[u8]>,
) -> (Outcome, Outcome) {
    let local = nginx::free_port();
    let mut exchange = |side| {
        pair.observe(|| {
            Ok(response(client.exchange(local, pair.address(side), &borrowed(fields), body)))
        })
    };
    (exchange(Side::Stock), exchange(Side::Ours))
}

/// Compares one request; true where it reached the backend.
fn check(
    client: &mut Client,
    pair: &Pair,
    params: &[String],
    fields: &[Field],
    body: Option<&[u8]>,
) -> bool {
    let (stock, ours) = both(client, pair, fields, body);
    let name: String = fields.iter().map(|(n, v)| format!("{}: {}\n", show(n), show(v))).collect();
    let authority = fields.iter().find(|(name, _)| name == b":authority");
    let host = authority.map(|(_, value)| value.as_slice());
    let body = body.unwrap_or_default();
    // before 1.29.5, stock sends no HTTP_HOST where the client's is in :authority alone
    compare(&name, &stock, &ours, &Facts { params, authority: host, host, body })
}

#[test]
#[ignore = "make test-http3"]
fn random_requests() {
    let server = server("");
    let (pair, params, mut client) = (pair(&server), param_names(&server), Client::start());
    pair.backend.set_script(answer);
    let mut random = Random::new(SEED);
    let (count, mut passed) = (60, 0);
    for i in 0..count {
        let request = requests::random(&mut random);
        let target = request.target.strip_prefix(b"http://").map_or(&*request.target, |_| b"/abs");
        let mut fields = fields(&request.method, target, &[]);
        fields.extend(
            request.headers[request.headers.len().min(1)..]
                .iter()
                .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
                .filter(|(n, _)| i % 3 == 0 || !OF_A_CONNECTION.contains(&n.as_slice())),
        );
        let body = request.payload();
        if i % 2 == 0 && !body.is_empty() {
            fields.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
        }
        let body = Some(body).filter(|body| !body.is_empty());
        passed += usize::from(check(&mut client, &pair, &params, &fields, body));
    }
    println!(
        "oracle, HTTP/3: {count} random requests from seed {SEED:#x}, {passed} reached the backend"
    );
    assert!(passed > count / 3, "too few requests reached the backend: {passed} of {count}");
}

/// What is for one connection, nginx refuses or not, the same for both.
#[test]
#[ignore = "make test-http3"]
fn chosen_requests() {
    let server = server("");
    let (pair, params, mut client) = (pair(&server), param_names(&server), Client::start());
    pair.backend.set_script(answer);
    let long = "v".repeat(9000);
    let mut passed = Vec::new();
    for more in [
        &[][..],
        &[("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("x-b", ""), ("cookie", "b=2")],
        &[("x-long", &long), ("accept", "a"), ("accept", "b")],
        &[("proxy", "http://evil/"), ("trailer", "x")],
        &[("te", "trailers")],
        &[("te", "gzip")],
        &[("connection", "close")],
        &[("keep-alive", "5")],
        &[("proxy-connection", "keep-alive")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("host", "example.org")],
        &[("host", "another.example")],
        &[("content-length", "007")],
    ] {
        for (method, path, body) in [
            ("GET", &b"/a%20b/../c?d=e"[..], None),
            ("HEAD", b"/", None),
            ("POST", b"/", Some(&b"seven.."[..])),
            ("PUT", b"/empty", Some(b"")),
        ] {
            let fields = fields(method, path, more);
            if check(&mut client, &pair, &params, &fields, body) {
                passed.push(more.first().map_or("", |(name, _)| name));
            }
        }
    }
    if !stock_has_host_of_its_own() {
        let (stock, ours) = both(&mut client, &pair, &fields("GET", b"/", &[]), None);
        let hosts =
            |outcome: Outcome| Packet::parse(&outcome.received[0]).unwrap().0.all("HTTP_HOST");
        assert!(hosts(stock).is_empty(), "stock sends HTTP_HOST");
        assert_eq!(hosts(ours), ["example.org"]);
    }
    println!("oracle, HTTP/3: of the chosen requests reached the backend: {passed:?}");
    assert!(passed.len() > 15);
    let packet = pair.backend.requests().pop().unwrap().packet;
    assert_eq!(packet.get("SERVER_PROTOCOL").as_deref(), Some("HTTP/3.0"));
    assert_eq!(packet.get("HTTPS").as_deref(), Some("on"));
    pair.nginx.quit();
}

#[test]
#[ignore = "make test-http3"]
fn large_bodies() {
    let mut random = Random::new(SEED);
    let mut client = Client::start();
    let body = random.bytes(4 << 20);
    for extra in ["", "uwsgi_request_buffering off;"] {
        let server = server(extra);
        let (pair, params) = (pair(&server), param_names(&server));
        pair.backend.set_script(answer);
        let length = body.len().to_string();
        for more in [&[("content-length", length.as_str())][..], &[]] {
            let fields = fields("POST", b"/upload", more);
            assert!(check(&mut client, &pair, &params, &fields, Some(&body)), "{extra}");
        }
        // Refused: too large.
        let fields = fields("POST", b"/", &[("content-length", "9"), ("x-a", "1")]);
        check(&mut client, &pair, &params, &fields, Some(b"only 7."));
    }
    for extra in ["", "uwsgi_buffering off;"] {
        let pair = pair(&server(extra));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        pair.backend.set_script(answering([head.as_bytes(), &body].concat(), 1 << 16));
        let (stock, ours) = both(&mut client, &pair, &fields("GET", b"/", &[]), None);
        assert_responses(extra, &stock.response, &ours.response);
        assert!(ours.response.unwrap().body == body, "{extra}");
    }
}

#[test]
#[ignore = "make test-http3"]
fn responses() {
    let pair = pair(&format!("{STANDARD_PARAMS}\n{LOCATIONS}"));
    let mut client = Client::start();
    // aioquic takes no head after the first for one.
    let rows =
        ROWS.iter().filter(|row| !["100", "101", "103"].iter().any(|n| row.0.starts_with(n)));
    let mut compared = 0;
    for row in rows {
        for method in ["GET", "HEAD"] {
            pair.backend.set_script(answering(bytes(row), usize::MAX));
            let (stock, ours) = both(&mut client, &pair, &fields(method, b"/", &[]), None);
            let name = format!("{} ({method}, HTTP/3)", row.0);
            assert_responses(&name, &stock.response, &ours.response);
            assert_eq!(stock.log, ours.log, "{name}: the error log differs");
            compared += 1;
        }
    }
    println!("oracle, HTTP/3: {compared} responses");
}

/// The client goes while it uploads, while it waits, and while it reads.
#[test]
#[ignore = "make test-http3"]
fn clients_that_leave() {
    let mut client = Client::start();
    for how in [Leave::Reset, Leave::Close] {
        for buffering in ["on", "off"] {
            let pair = pair(&server(&format!(
                "uwsgi_request_buffering off; uwsgi_buffering {buffering};"
            )));
            for when in ["upload", "wait", "read"] {
                let outcomes = SIDES.map(|side| leaves(&mut client, &pair, side, how, when));
                let [stock, ours] = outcomes;
                let name = format!("{how:?} during \"{when}\", buffering {buffering}");
                assert_eq!(stock.log, ours.log, "{name}: the error log differs");
                let packets = |outcome: &Outcome| -> Vec<_> {
                    let parse = |bytes: &Vec<u8>| Packet::parse(bytes).unwrap().1.len();
                    outcome.received.iter().map(parse).collect()
                };
                assert_eq!(packets(&stock), packets(&ours), "{name}");
                let log = pair.nginx.access_log();
                // whether nginx meets the end of the body or that of the response first
                let status =
                    |line: &String| line.split("\" ").nth(1).unwrap()[..3].replace("400", "499");
                let statuses: Vec<_> = log[log.len() - 2..].iter().map(status).collect();
                assert_eq!(statuses[0], statuses[1], "{name}: the access log's status");
            }
            pair.nginx.quit();
        }
    }
}

/// One client that leaves when the backend has what `when` says.
fn leaves(client: &mut Client, pair: &Pair, side: Side, how: Leave, when: &'static str) -> Outcome {
    let (there, arrived) = channel();
    let there = Mutex::new(there);
    pair.backend.set_script(move |peer| {
        let (head, body) = (b"HTTP/1.1 200 OK\r\n\r\n", [7; 100_000]);
        peer.read_packet()?;
        if when == "upload" {
            peer.read_exact(1000)?;
        }
        if when == "read" {
            peer.write(head)?;
            peer.write(&body)?;
        }
        let _ = there.lock().unwrap().send(());
        peer.wait_hangup()
    });
    let method = if when == "upload" { "POST" } else { "GET" };
    let length: &[(&str, &str)] =
        if when == "upload" { &[("content-length", "2000")] } else { &[] };
    let fields = fields(method, b"/", length);
    let ended = pair.nginx.access_log().len() + 1;
    pair.observe(|| {
        let to = pair.address(side);
        match when {
            "upload" => client.begin_upload(nginx::free_port(), to, &borrowed(&fields), &[7; 1000]),
            _ => client.begin_get(nginx::free_port(), to, &borrowed(&fields)),
        }
        arrived.recv_timeout(DEADLINE).expect("the request did not arrive");
        if when == "read" {
            client.wait_head();
        }
        let answer = client.leave(how, || {
            // nginx only hears that a response is not wanted when it has more of it to send
            if when != "read" {
                pair.nginx.wait_requests(ended);
            }
        });
        // what nginx says while it closes the connection comes after the line in the access log
        pair.nginx.wait_requests(ended);
        assert_eq!(get(pair.nginx.address_of(1, [127, 0, 0, 1]), "/").body, b"done");
        Ok(response(answer))
    })
}

/// The one connection that is allowed serves the next request, however the one before has ended; and it
/// is used again where the server keeps it.
#[test]
#[ignore = "make test-http3"]
fn connections_of_the_server() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |_| Ok(()));
    let nginx = builder()
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@ quic; {CERTIFICATE}
            rs_uwsgi_max_connections 1; rs_uwsgi_request_buffering off;
            add_header X-Connection $rs_uwsgi_connection;
            location / {{ rs_uwsgi_pass {}; }} }}",
            backend.address()
        ))
        .start();
    let mut client = Client::start();
    let to = nginx.address();
    for (round, how) in [Leave::Reset, Leave::Close].into_iter().enumerate() {
        let (there, arrived) = channel();
        let there = Mutex::new(there);
        backend.set_script(move |peer| {
            peer.read_packet()?;
            peer.read_exact(10)?;
            let _ = there.lock().unwrap().send(());
            peer.wait_hangup()
        });
        let upload = fields("POST", b"/", &[("content-length", "20")]);
        client.begin_upload(nginx::free_port(), to, &borrowed(&upload), &[7; 10]);
        arrived.recv_timeout(DEADLINE).expect("the upload did not arrive");
        client.leave(how, || {
            nginx.wait_requests(3 * round + 1);
        });
        backend.set_script(|peer| loop {
            peer.read_request()?;
            peer.write(
                b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            )?;
        });
        for connection in ["new", "reused"] {
            let get = fields("GET", b"/", &[]);
            let answer = client.exchange(nginx::free_port(), to, &borrowed(&get), None);
            assert_eq!((answer.status(), answer.error.as_deref()), (200, None), "{how:?}");
            assert_eq!(answer.field("x-connection"), Some(connection), "{how:?}");
        }
        nginx.wait_requests(3 * round + 3);
        // the next upload is to have a connection of its own
        nginx.reload();
    }
    nginx.quit();
}
