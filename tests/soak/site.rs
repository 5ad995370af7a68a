//! What the soak runs against: an nginx with every kind of location, a real uWSGI and a real gunicorn
//! whose workers are stopped and killed, and a scripted server that answers as badly as servers do.

use crate::support::backend::{Backend, Peer};
use crate::support::gunicorn::Gunicorn;
use crate::support::nginx::Nginx;
use crate::support::random::Random;
use crate::support::root;
use crate::support::uwsgi::Uwsgi;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

/// All of them; stopped on drop, nginx first.
pub struct Servers {
    pub nginx: Nginx,
    pub uwsgi: Uwsgi,
    pub gunicorn: Gunicorn,
    _scripted: Backend,
}

/// The locations whose server is honest, each with the limit of 4 connections.
pub const LIMITED: [&str; 6] = [
    "uwsgi",
    "gunicorn",
    "uwsgi-unbuffered",
    "gunicorn-unbuffered",
    "cache-uwsgi",
    "cache-gunicorn",
];

/// The others: a bad server, and locations that ask for a second request.
pub const OTHERS: [&str; 6] =
    ["scripted", "scripted-unbuffered", "cache-scripted", "auth", "ssi", "page"];

impl Servers {
    /// Starts all; what the scripted server does follows from `seed`.
    pub fn start(seed: u64) -> Servers {
        let application = root().join("tests/soak/application.py");
        let uwsgi = Uwsgi::persistent(&application).unix().processes(2).start();
        let builder = Gunicorn::builder(&application).worker_class("gthread").workers(2);
        let gunicorn = builder.threads(8).unix().start();
        let random = Mutex::new(Random::new(seed ^ 1));
        let scripted = Backend::tcp(move |peer| loop {
            let choice = random.lock().unwrap().below(100);
            if !misbehave(peer, choice)? {
                return Ok(());
            }
        });
        let mut locations = String::new();
        for (name, address) in [
            ("uwsgi", uwsgi.address()),
            ("gunicorn", gunicorn.address()),
            ("scripted", scripted.address()),
        ] {
            locations += &format!(
                "location /{name}/ {{ rs_uwsgi_pass {address}; }}
                 location /{name}-unbuffered/ {{ rs_uwsgi_pass {address};
                     rs_uwsgi_request_buffering off; rs_uwsgi_buffering off; }}
                 location /cache-{name}/ {{ rs_uwsgi_pass {address};
                     rs_uwsgi_cache c; rs_uwsgi_cache_key $uri$is_args$args; }}\n"
            );
        }
        let (first, bad) = (uwsgi.address(), scripted.address());
        let nginx = Nginx::builder()
            .log_level("notice")
            .worker_connections(2048)
            .http(&format!(
                "rs_uwsgi_cache_path @dir@/cache keys_zone=c:1m inactive=10s;
                 server {{
                     listen 127.0.0.1:@port@;
                     listen 127.0.0.1:@port2@ http2;
                     client_body_buffer_size 8k;
                     rs_uwsgi_max_connections 4;
                     rs_uwsgi_queue 64 timeout=3s;
                     rs_uwsgi_read_timeout 3s;
                     rs_uwsgi_send_timeout 3s;
                     rs_uwsgi_keepalive_timeout 2s;
                     rs_uwsgi_buffers 4 4k;
                     rs_uwsgi_busy_buffers_size 8k;
                     add_header X-Queue $rs_uwsgi_queue_time always;
                     {locations}
                     location /auth/ {{ auth_request /check; rs_uwsgi_pass {first}; }}
                     location = /check {{ internal; rs_uwsgi_pass {first};
                         rs_uwsgi_pass_request_body off; }}
                     location /ssi/ {{ ssi on; rs_uwsgi_pass {first}; }}
                     location /page/ {{ rs_uwsgi_pass {bad}; rs_uwsgi_intercept_errors on;
                         error_page 502 503 504 = @other; }}
                     location @other {{ rs_uwsgi_pass {first}; }}
                 }}"
            ))
            .start();
        Servers { nginx, uwsgi, gunicorn, _scripted: scripted }
    }
}

/// Answers one request in a way of its own; false where the connection ends. Every byte it sends
/// carries the token of the request that it belongs to.
fn misbehave(peer: &mut Peer, choice: usize) -> io::Result<bool> {
    let request = peer.read_request()?;
    let path = request.packet.get("PATH_INFO").unwrap_or_default();
    let token = path.rsplit('/').next().unwrap_or_default();
    let line = format!("{token}\n");
    if !String::from_utf8_lossy(&request.body).replace(&line, "").is_empty() {
        peer.write(b"HTTP/1.1 500 Mixed\r\nX-Mixed: body\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(false);
    }
    let body = line.repeat(200);
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nX-Token: {token}\r\nConnection: keep-alive\r\n");
    let whole = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    match choice {
        0..=59 => peer.write(whole.as_bytes())?,
        60..=69 => {
            let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
            peer.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes())?;
        }
        70..=74 => peer.write_pieces(whole.as_bytes(), 900, Duration::from_millis(2))?,
        75..=78 => peer.write(
            format!("HTTP/1.1 103 Early Hints\r\nLink: {token}\r\n\r\n{whole}").as_bytes(),
        )?,
        79..=82 => peer.write(format!("{head}Content-Length: 0\r\n\r\n").as_bytes())?,
        83..=85 => {
            peer.write(b"HTTP/1.1 503 Busy\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")?
        }
        86..=88 => {
            // Bytes beyond the length, with the rest of the response.
            peer.write(format!("{whole}{line}").as_bytes())?;
            return Ok(false);
        }
        89..=91 => {
            peer.write(&whole.as_bytes()[..whole.len() / 2])?;
            return Ok(false);
        }
        92..=93 => return peer.reset().map(|()| false),
        94..=95 => return Ok(false),
        96..=97 => {
            peer.write(b"no head of any kind\r\n\r\n")?;
            return Ok(false);
        }
        98 => peer.stall()?,
        _ => {
            std::thread::sleep(Duration::from_millis(500));
            peer.write(whole.as_bytes())?;
        }
    }
    Ok(true)
}
