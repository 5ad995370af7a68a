//! Where a response ends on a connection that its server never closes: by its own framing, at once, so
//! that the client's next request is answered, or else, where nothing but a close can end it, with
//! `rs_uwsgi_read_timeout`.

use crate::prelude::*;
use std::path::Path;

/// What nginx must not be waiting for: longer than any test lasts.
const SERVER: &str = "
    rs_uwsgi_read_timeout 1h;
    location /plain { rs_uwsgi_pass @pass@; }
    location /unbuffered { rs_uwsgi_buffering off; rs_uwsgi_pass @pass@; }
    location /ranges { rs_uwsgi_force_ranges on; rs_uwsgi_pass @pass@; }
    location /cache {
        rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_cache_valid any 1h;
        rs_uwsgi_cache_lock on; rs_uwsgi_pass @pass@;
    }
    location /store { root @dir@/kept; rs_uwsgi_store on; rs_uwsgi_pass @pass@; }
    location /inner { internal; rs_uwsgi_pass @pass@; }
    location /checked {
        auth_request /cache/check; rs_uwsgi_pass @pass@;
    }
    location /included { ssi on; ssi_types *; rs_uwsgi_pass @pass@; }
    location /brief { rs_uwsgi_read_timeout 300ms; rs_uwsgi_pass @pass@; }
    location /none { rs_uwsgi_pass @pass@; }";

/// The backend answers every request on a connection, and never closes one.
fn site(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Site {
    let serve = move |peer: &mut Peer| -> io::Result<()> {
        loop {
            let uri = peer.read_request()?.packet.get("REQUEST_URI").unwrap_or_default();
            peer.write(&answer(&uri))?;
        }
    };
    Site::builder()
        .script(serve)
        .http("rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;")
        .server(SERVER)
        .start()
}

const NEXT: &[u8] = b"GET /plain/next HTTP/1.1\r\nHost: h\r\n\r\n";
const NEXT_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

/// Everything that ends by its own framing: method, location, what the server answers, and the status
/// and the body that the client gets.
const ENDED: &[(&str, &str, &str, u16, &str)] = &[
    // no body, whatever the head says
    (
        "HEAD",
        "/plain",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\n",
        200,
        "",
    ),
    ("HEAD", "/plain", "HTTP/1.1 200 OK\r\n\r\n", 200, ""),
    ("HEAD", "/plain", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""),
    ("HEAD", "/unbuffered", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, ""),
    ("HEAD", "/unbuffered", "HTTP/1.1 200 OK\r\n\r\n", 200, ""),
    (
        "HEAD",
        "/cache",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\n",
        200,
        "",
    ),
    (
        "HEAD",
        "/cache",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n",
        200,
        "",
    ),
    ("HEAD", "/cache", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200, ""),
    ("HEAD", "/cache", "HTTP/1.1 200 OK\r\n\r\n", 200, ""),
    ("HEAD", "/cache", "HTTP/1.1 200 OK\r\n\r\nsome of it", 200, ""),
    ("HEAD", "/cache", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""),
    ("HEAD", "/cache", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", 404, ""),
    ("HEAD", "/cache", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ("HEAD", "/cache", "Status: 200 OK\r\n\r\n", 200, ""),
    (
        "HEAD",
        "/store",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\n",
        200,
        "",
    ),
    ("HEAD", "/store", "HTTP/1.1 200 OK\r\n\r\n", 200, ""),
    ("HEAD", "/ranges", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, ""),
    ("HEAD", "/plain", "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner/x\r\n\r\n", 200, ""),
    ("GET", "/plain", "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner/x\r\n\r\n", 200, "inner"),
    // statuses without a body
    ("GET", "/plain", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ("GET", "/plain", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
    ("GET", "/unbuffered", "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, ""),
    ("GET", "/unbuffered", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, ""),
    ("GET", "/cache", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, ""),
    ("GET", "/cache", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
    ("GET", "/store", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    // a length, also after 1xx
    (
        "GET",
        "/plain",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        200,
        "ok",
    ),
    ("GET", "/plain", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
    ("GET", "/cache", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("GET", "/cache", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
    ("GET", "/store", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("GET", "/unbuffered", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("GET", "/ranges", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    // chunks
    (
        "GET",
        "/plain",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        "ok",
    ),
    (
        "GET",
        "/unbuffered",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        "ok",
    ),
    (
        "GET",
        "/cache",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        "ok",
    ),
    // a subrequest of which the head alone is wanted, in a cache
    ("GET", "/checked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HEAD", "/checked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, ""),
    // one whose body is included
    ("HEAD", "/included", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, ""),
];

#[test]
fn what_ends_by_its_own_framing_ends_at_once() {
    let site = site(|uri| match uri.rsplit('/').next().unwrap_or_default() {
        "next" => NEXT_ANSWER.to_vec(),
        _ if uri.starts_with("/cache/check") => NEXT_ANSWER.to_vec(),
        number => ENDED[number.parse::<usize>().unwrap()].2.into(),
    });
    // where the request goes on, the URI that the server is told remains
    site.backend.set_script(move |peer| loop {
        let packet = peer.read_request()?.packet;
        let [uri, path] =
            ["REQUEST_URI", "PATH_INFO"].map(|name| packet.get(name).unwrap_or_default());
        let number = uri.rsplit('/').next().unwrap_or_default();
        match number.parse::<usize>() {
            Ok(_) if path.starts_with("/cache/check") => peer.write(NEXT_ANSWER)?,
            Ok(_) if path.starts_with("/inner") => {
                peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ninner")?;
            }
            Ok(number) => peer.write(ENDED[number].2.as_bytes())?,
            Err(_) => peer.write(NEXT_ANSWER)?,
        }
    });
    for (number, (method, location, answer, status, body)) in ENDED.iter().enumerate() {
        let name = format!("{method} {location} {answer:?}");
        let mut client = Client::connect(site.nginx.address());
        let request = format!("{method} {location}/{number} HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send(&[request.as_bytes(), NEXT].concat());
        let response = client.response(*method == "HEAD").expect(&name);
        assert_eq!((response.status, response.text().as_str()), (*status, *body), "{name}");
        let next = client.response(false).unwrap_or_else(|error| panic!("{name}: then {error}"));
        assert_eq!(next.text(), "next", "{name}");
    }
    let severe = ["error", "crit", "alert", "emerg", "warn"];
    let said: Vec<_> = site.nginx.error_log().into_iter().collect();
    let said: Vec<_> = said.iter().filter(|line| severe.contains(&line.level.as_str())).collect();
    assert!(said.is_empty(), "{said:#?}");
}

/// A response to HEAD is kept where its whole body has come with its head; else it is not, and the next
/// GET gets all of its own.
#[test]
fn a_head_is_not_kept_for_a_whole_response() {
    for (length, rest, kept) in [
        ("Content-Length: 4\r\n", "", false),
        ("Content-Length: 4\r\n", "ha", false),
        ("", "", false),
        ("", "some", false),
        ("Transfer-Encoding: chunked\r\n", "", false),
        ("Content-Length: 4\r\n", "body", true),
    ] {
        for connection in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
            let name = format!("{length:?} {rest:?} {connection:?}");
            let head = format!("HTTP/1.1 200 OK\r\n{connection}{length}\r\n{rest}");
            let site = site(|_| Vec::new());
            site.backend.set_script(move |peer| loop {
                let head_only = peer.read_request()?.packet.get("REQUEST_METHOD");
                match head_only.as_deref() == Some("HEAD") {
                    true => peer.write(head.as_bytes())?,
                    false => peer.write(NEXT_ANSWER)?,
                }
            });
            for location in ["/cache/a", "/store/a"] {
                let request = format!("HEAD {location} HTTP/1.1\r\nHost: h\r\n\r\n");
                let mut client = Client::connect(site.nginx.address());
                client.send(request.as_bytes());
                assert_eq!(client.response(true).unwrap().status, 200, "{name}");
            }
            // each is over, and its connection closed
            site.nginx.wait_requests(2);
            site.backend.take_ended(0, 2);
            assert_eq!(Path::new(&site.nginx.path("kept/store/a")).exists(), kept, "{name}");
            let text = get(site.nginx.address(), "/cache/a").text();
            assert_eq!(text, if kept { "body" } else { "next" }, "{name}");
            // the file is there when the request is over
            site.nginx.wait_requests(3);
            assert_eq!(files_in(&site.nginx.path("cache")), 1, "{name}");
        }
    }
}

/// All that a folder holds, below it too.
fn files_in(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).map(|entries| entries.flatten().collect::<Vec<_>>());
    let count = |entry: &std::fs::DirEntry| match entry.path().is_dir() {
        true => files_in(&entry.path()),
        false => 1,
    };
    entries.map_or(0, |entries| entries.iter().map(count).sum())
}

/// Those that wait for the lock of a cache have their turn when a HEAD that held it is over.
#[test]
fn a_head_lets_go_of_the_lock() {
    let site = site(|_| NEXT_ANSWER.to_vec());
    site.backend.set_script(|peer| loop {
        let packet = peer.read_request()?.packet;
        if packet.get("REQUEST_METHOD").as_deref() == Some("HEAD") {
            std::thread::sleep(Duration::from_millis(200));
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        } else {
            peer.write(NEXT_ANSWER)?;
        }
    });
    let address = site.nginx.address();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(address);
            client.send(b"HEAD /cache/a HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.response(true).unwrap().status, 200);
        });
        site.backend.wait_request(0);
        let waiting = scope.spawn(|| get(address, "/cache/a"));
        assert_eq!(waiting.join().unwrap().text(), "next");
    });
}

/// What has no other end than that of its connection goes on until the server closes, or says nothing
/// for as long as `rs_uwsgi_read_timeout` allows.
#[test]
fn what_ends_with_the_connection_waits_for_it() {
    let site = site(|_| Vec::new());
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nall",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall",
        "Status: 200 OK\r\n\r\nall",
        "HTTP/1.0 200 OK\r\n\r\nall",
    ] {
        let closing = head.to_string();
        site.backend.set_script(move |peer| peer.answer(closing.as_bytes()));
        assert_eq!(get(site.nginx.address(), "/plain/a").text(), "all", "{head}");
        let open = head.to_string();
        site.backend.set_script(move |peer| {
            peer.answer(open.as_bytes())?;
            peer.stall()
        });
        let before = site.nginx.logged("upstream timed out").len();
        let mut client = Client::connect(site.nginx.address());
        client.send(b"GET /brief/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response(true).unwrap().status, 200, "{head}");
        client.read_to_end();
        wait_for("the timeout in the log", || {
            (site.nginx.logged("upstream timed out").len() > before).then_some(())
        });
    }
}
