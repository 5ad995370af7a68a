//! Trailers of chunked responses: passed on to clients that take them, and to no others.

use crate::prelude::*;

/// A response in chunks with these trailers.
fn chunked(trailers: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}5\r\nhello\r\n0\r\n{trailers}\r\n").into_bytes()
}

/// nginx with HTTP/1.1 and HTTP/2 before a server that answers each request so.
fn site(
    settings: &str,
    answer: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
) -> Site {
    let page = b"<!--# include virtual=\"/part\" -->";
    Site::builder()
        .nginx(Nginx::builder().file("page.html", page))
        .script(move |peer| {
            peer.read_request()?;
            answer(peer)
        })
        .http("rs_uwsgi_cache_path @dir@/cache keys_zone=c:1m;")
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@; listen 127.0.0.1:@port2@ http2; ssi on;
                     {settings}
                     location / {{ rs_uwsgi_pass @pass@; }}
                     location /cached/ {{ rs_uwsgi_pass @pass@; rs_uwsgi_cache c;
                         rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid 1m; }}
                     location /stored/ {{ rs_uwsgi_pass @pass@; rs_uwsgi_store @dir@$uri; }}
                     location /page.html {{ root @dir@; }} }}"
        ))
        .start()
}

/// What a client of HTTP/1.1 reads.
fn read(site: &Site, path: &str, headers: &str) -> String {
    let mut client = Client::connect(site.nginx.address());
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    client.send(request.as_bytes());
    String::from_utf8_lossy(&client.read_to_end()).into_owned()
}

const TE: &str = "TE: trailers\r\n";
const END: &str = "\r\n0\r\nX-Sum: 42\r\nServer-Timing: db;dur=5\r\n\r\n";
const TRAILERS: &str = "X-Sum: 42\r\nServer-Timing: db;dur=5\r\n";

#[test]
fn who_takes_them_gets_them() {
    for settings in ["", "rs_uwsgi_buffering off;"] {
        let site = site(settings, |peer| peer.write(&chunked(TRAILERS)));
        for te in [TE, "TE: deflate;q=0.5\r\nTE: Trailers;q=1\r\n", "te: gzip, trailers\r\n"] {
            let answer = read(&site, "/", te);
            assert!(answer.ends_with(END), "{settings} {te}: {answer}");
        }
        for te in ["", "TE: deflate\r\n", "TE: trailers-not\r\n"] {
            let answer = read(&site, "/", te);
            assert!(answer.ends_with("hello\r\n0\r\n\r\n"), "{settings} {te}: {answer}");
        }
        let answer = curl::http2(site.nginx.address_of(1, [127, 0, 0, 1]), "/", &[]);
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.head[answer.head.len() - 2..], ["x-sum: 42", "server-timing: db;dur=5"]);
    }
}

#[test]
fn however_they_come() {
    for settings in ["", "rs_uwsgi_buffering off;"] {
        for size in [1, 2, 7] {
            let site = site(settings, move |peer| {
                peer.write_pieces(&chunked(TRAILERS), size, Duration::from_millis(1))
            });
            assert!(read(&site, "/", TE).ends_with(END), "{settings} {size}");
            let answer = curl::http2(site.nginx.address_of(1, [127, 0, 0, 1]), "/", &[]);
            assert_eq!(answer.body, b"hello", "{settings} {size}");
            assert_eq!(
                answer.head[answer.head.len() - 2..],
                ["x-sum: 42", "server-timing: db;dur=5"],
                "{settings} {size}"
            );
        }
    }
}

/// What a trailer must not say, and what is none; too many are all left out. The response is whole.
#[test]
fn those_that_are_not_fit() {
    let long = format!("X-Long: {}\r\nX-Sum: 1\r\n", "l".repeat(5000));
    for (trailers, expected) in [
        ("Content-Length: 3\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Transfer-Encoding: chunked\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Content-Location: /a\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Authentication-Info: a=b\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Proxy-Authentication-Info: a=b\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Set-Cookie: a=b\r\nX-Accel-Redirect: /x\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("no field\r\nX-Sum: 1\r\n", "X-Sum: 1\r\n"),
        ("Connection: close\r\n", ""),
        (&long, ""),
    ] {
        let answer = chunked(trailers);
        let site = site("", move |peer| peer.write(&answer));
        let answer = read(&site, "/", TE);
        let end = format!("hello\r\n0\r\n{expected}\r\n");
        assert!(answer.ends_with(&end), "{trailers:.60}: {answer}");
    }
}

/// A response that is kept is the same for all; what a subrequest gets is a part of another response.
#[test]
fn where_they_are_dropped() {
    let site = site("", |peer| {
        let head = "Cache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
        peer.write(format!("HTTP/1.1 200 OK\r\n{head}5\r\nhello\r\n0\r\n{TRAILERS}\r\n").as_bytes())
    });
    for _ in 0..2 {
        let answer = read(&site, "/cached/", TE);
        assert!(answer.contains("hello") && !answer.contains("X-Sum: 42"), "{answer}");
    }
    let answer = read(&site, "/stored/file", TE);
    assert!(answer.contains("hello") && !answer.contains("X-Sum: 42"), "{answer}");
    let file = std::fs::read(site.nginx.path("stored/file")).unwrap();
    assert_eq!(file, b"hello");
    let answer = read(&site, "/page.html", TE);
    assert!(answer.contains("hello") && !answer.contains("X-Sum: 42"), "{answer}");
}
