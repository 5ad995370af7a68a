//! A few seconds of requests of all kinds at once, at random from a printed seed, through ours:
//! afterwards the log shows no alert, the worker is the same, and its descriptors are closed.

use super::worker;
use crate::prelude::*;
use crate::support::kernel::descriptor_count;

const SEED: u64 = 0x7374_7265_7373;
const CLIENTS: usize = 6;
/// Of all clients together; a slow machine stops earlier.
const REQUESTS: usize = 4000;
const LIMIT: Duration = Duration::from_secs(5);

/// What the server does, by the first part of the path; the second part is a size.
fn misbehave(peer: &mut Peer) -> io::Result<()> {
    let packet = peer.read_packet()?;
    let path = packet.get("PATH_INFO").unwrap();
    let mut parts = path.rsplit('/');
    let size: usize = parts.next().unwrap().parse().unwrap_or(0);
    let kind = parts.next().unwrap_or_default().to_string();
    let length = packet.get("CONTENT_LENGTH").and_then(|length| length.parse().ok());
    if kind != "early" {
        peer.read_exact(length.unwrap_or(0))?;
    }
    let body = vec![b'x'; size];
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n").into_bytes();
    let sized = head(&format!("Content-Length: {size}\r\n"));
    match kind.as_str() {
        "closed" => {
            peer.close();
            return Ok(());
        }
        "garbage" => return peer.write(b"\x01\x02\r\n\r\n"),
        "short" => return peer.write(&[&head("Content-Length: 1000000\r\n"), &body[..]].concat()),
        "pieces" => return peer.write_pieces(&[sized, body].concat(), size / 4 + 20, PAUSE),
        "interim" => peer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?,
        "redirect" => return peer.write(&head("X-Accel-Redirect: /plain/10\r\n")),
        "status" => return peer.write(b"Status: 503 No\r\n\r\n"),
        "page" => {
            let page = "<!--# include virtual=\"/plain/5000\" -->";
            let more = "<!--# include virtual=\"/garbage/1\" -->";
            peer.write(&head("Content-Type: text/html\r\n"))?;
            return peer.write(format!("{page}{more}{page}").as_bytes());
        }
        "endless" => return peer.write(&[head(""), body].concat()),
        _ => {}
    }
    peer.write(&[sized, body].concat())
}

/// One request, its answer read in whole or in part, or not at all.
fn one(random: &mut Random, to: SocketAddr) {
    let location = random.pick(&["", "/unbuffered", "/next", "/packed", "/ssi"]);
    let kind = random.pick(&[
        "plain", "plain", "closed", "garbage", "short", "pieces", "interim", "redirect", "status",
        "page", "endless", "early",
    ]);
    let size = match random.below(6) {
        0 => 0,
        1 => random.below(300_000),
        _ => random.below(5000),
    };
    let path = format!("{location}/{kind}/{size}");
    let method = random.pick(&["GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
    let body_size = random.below(20_000);
    let body = random.bytes(body_size);
    let gzip = if random.once_in(3) { "Accept-Encoding: gzip\r\n" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{gzip}");
    let chunk = format!("{:x}\r\n", body.len());
    let wire = match method {
        "POST" | "PUT" if random.once_in(3) && !body.is_empty() => [
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes(),
            &body,
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
        "POST" | "PUT" => {
            [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
        }
        _ => format!("{head}\r\n").into_bytes(),
    };
    let mut client = Client::connect(to);
    match random.below(8) {
        // Goes away: in the middle of the request, after it, after a part of the answer.
        0 => client.send(&wire[..wire.len() / 2]),
        1 => client.send(&wire),
        2 => {
            client.send(&wire);
            let _ = client.read_exact(100);
        }
        // Two requests on one connection.
        3 => {
            client.send(
                &[&wire[..], b"GET /plain/3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
                    .concat(),
            );
            client.read_to_end();
        }
        _ => {
            client.send(&wire);
            let _ = client.response(method == "HEAD");
        }
    }
}

#[test]
fn random_requests_at_once() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), misbehave);
    let second = Backend::unix(&dir.path().join("second"), |peer| peer.answer(super::OK));
    let nginx = Nginx::builder()
        .http(&format!(
            "upstream app {{ server {} max_fails=0; server {} max_fails=0 backup; }}
            server {{
                listen 127.0.0.1:@port@ backlog=1024;
                client_body_buffer_size 4k; rs_uwsgi_read_timeout 1s; gzip_types *;
                location / {{ rs_uwsgi_pass {backend}; }}
                location /unbuffered {{
                    rs_uwsgi_buffering off; rs_uwsgi_request_buffering off; rs_uwsgi_pass {backend};
                }}
                location /next {{
                    rs_uwsgi_next_upstream error timeout invalid_header http_503 non_idempotent;
                    rs_uwsgi_pass app;
                }}
                location /packed {{
                    gzip on; gzip_min_length 1; rs_uwsgi_buffers 4 4k;
                    rs_uwsgi_max_temp_file_size 0; rs_uwsgi_pass {backend};
                }}
                location /ssi {{ ssi on; rs_uwsgi_ignore_client_abort on; rs_uwsgi_pass {backend}; }}
            }}",
            backend.address(),
            second.address(),
            backend = backend.address()
        ))
        .start();
    // The worker opens its logs and such with the first request.
    client_ok(nginx.address());
    let pid = worker(&nginx);
    let idle = wait_for("an idle worker", || {
        let count = descriptor_count(pid);
        std::thread::yield_now();
        (count == descriptor_count(pid)).then_some(count)
    });
    println!("seed {SEED:#x}");
    let (count, until) = (AtomicUsize::new(0), Instant::now() + LIMIT);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (count, to) = (&count, nginx.address());
            scope.spawn(move || {
                let mut random = Random::new(SEED + number as u64);
                while count.fetch_add(1, Ordering::Relaxed) < REQUESTS && Instant::now() < until {
                    one(&mut random, to);
                }
            });
        }
    });
    println!("{} requests", count.load(Ordering::Relaxed).min(REQUESTS));
    assert!(count.into_inner() > 300, "hardly any request was made");
    client_ok(nginx.address());
    wait_for("the worker to close what it has opened", || {
        (descriptor_count(pid) <= idle).then_some(())
    });
    assert_eq!(worker(&nginx), pid, "the worker was replaced");
    nginx.assert_clean();
    // nginx itself complains here about connections that were left open.
    nginx.quit();
}

fn client_ok(to: SocketAddr) {
    let response = crate::support::client::get(to, "/plain/7");
    assert_eq!((response.status, response.body.len()), (200, 7));
}
