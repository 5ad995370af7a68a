//! How fast a response is read (`uwsgi_limit_rate`), and ranges of responses that are not cached
//! (`uwsgi_force_ranges`).

use super::{get, pair, same, stock_accepts};
use crate::prelude::*;

/// Of more than twice the rate, so that the limit holds it for more than a second: nginx counts
/// whole seconds and grants the first at once.
const SIZE: usize = 150_000;

/// The time that each path takes through each side; all run at once.
fn durations(pair: &Pair, paths: &[&'static str]) -> Vec<[Duration; 2]> {
    std::thread::scope(|scope| {
        let timed = |to, path| {
            scope.spawn(move || {
                let start = Instant::now();
                let response = exchange(to, &get(path));
                assert_eq!((response.status, response.body.len()), (200, SIZE), "{path}");
                start.elapsed()
            })
        };
        let running: Vec<_> =
            paths.iter().map(|path| SIDES.map(|side| timed(pair.address(side), path))).collect();
        running.into_iter().map(|sides| sides.map(|thread| thread.join().unwrap())).collect()
    })
}

#[test]
fn limit_rate() {
    let variable = "location /variable { uwsgi_limit_rate $arg_rate; uwsgi_pass 127.0.0.1:1; }";
    // A number up to nginx 1.26; from 1.27.0 on a number or variables.
    let has_variables = stock_accepts(variable);
    let ours_has = {
        let ours = crate::pair::translated(variable);
        let server = format!("server {{ listen 127.0.0.1:@port@; {ours} }}");
        crate::support::nginx::Nginx::builder().http(&server).check().status.success()
    };
    assert_eq!(has_variables, ours_has, "variables in limit_rate: stock and ours");
    // One byte a second would take more than a day: wherever that stands, it must be without
    // effect, because it is overridden or because only buffered responses are limited.
    let fixed = "
        location / { uwsgi_limit_rate 50k; uwsgi_pass @pass@; }
        location /least { uwsgi_limit_rate 1; uwsgi_pass @pass@;
            location /least/inherited/off { uwsgi_limit_rate 0; uwsgi_pass @pass@; }
            location /least/unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; } }";
    let variable = variable.replace("127.0.0.1:1", "@pass@");
    let pair = pair(&format!("{fixed} {}", if has_variables { &variable } else { "" }));
    pair.backend.set_script(|peer| {
        peer.read_request()?;
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
        peer.write(&[b'x'; SIZE])
    });
    let mut limited = vec!["/"];
    let mut unlimited = vec!["/least/inherited/off", "/least/unbuffered"];
    if has_variables {
        limited.push("/variable?rate=50k");
        unlimited.extend(["/variable?rate=0", "/variable", "/variable?rate=nonsense"]);
    }
    for (path, sides) in limited.iter().zip(durations(&pair, &limited)) {
        let least = Duration::from_secs(1);
        assert!(sides.iter().all(|duration| *duration >= least), "{path} took only {sides:?}");
    }
    durations(&pair, &unlimited);
}

#[test]
fn ranges() {
    let pair = pair(
        "location / { uwsgi_pass @pass@; }
        location /forced { uwsgi_force_ranges on; uwsgi_pass @pass@;
            location /forced/off { uwsgi_force_ranges off; uwsgi_pass @pass@; }
            location /forced/unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; } }",
    );
    // The application knows nothing of ranges; by the query it says something of them all the same.
    pair.backend.set_script(|peer| {
        let query = peer.read_request()?.packet.get("QUERY_STRING").unwrap();
        let more = match query.as_str() {
            "accepts" => "Content-Length: 10\r\nAccept-Ranges: bytes\r\n",
            "none" => "Content-Length: 10\r\nAccept-Ranges: none\r\n",
            "unknown" => "",
            _ => "Content-Length: 10\r\n",
        };
        let head = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Type: text/plain\r\n";
        peer.write(format!("{head}{more}\r\n0123456789").as_bytes())
    });
    // The range, more of the request's head, and status and body where ranges are forced.
    let rows: [(&str, &str, u16, &str); 9] = [
        ("bytes=2-5", "", 206, "2345"),
        ("bytes=-3", "", 206, "789"),
        ("bytes=7-", "", 206, "789"),
        ("bytes=0-100", "", 206, "0123456789"),
        ("bytes=10-", "", 416, ""),
        ("bytes=0-1,3-4", "", 200, "0123456789"),
        ("bytes=5-2", "", 416, ""),
        ("bytes=2-5", "If-Range: \"e\"\r\n", 206, "2345"),
        ("bytes=2-5", "If-Range: \"other\"\r\n", 200, "0123456789"),
    ];
    for path in ["/", "/forced", "/forced/off", "/forced/unbuffered"] {
        let forced = matches!(path, "/forced" | "/forced/unbuffered");
        for (range, more, status, body) in rows {
            let name = format!("{path} {range} {more}");
            let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nRange: {range}\r\n{more}\r\n");
            let (response, log) = same(&pair, &name, head.as_bytes());
            let (status, body) = if forced { (status, body) } else { (200, "0123456789") };
            assert_eq!(response.status, status, "{name} {log:?}");
            assert!(status == 416 || response.text() == body, "{name}: {}", response.text());
            assert_eq!(response.header("Content-Range").is_some(), status != 200, "{name}");
        }
        for (query, method) in
            [("accepts", "GET"), ("none", "GET"), ("unknown", "GET"), ("", "HEAD"), ("", "POST")]
        {
            let request =
                format!("{method} {path}?{query} HTTP/1.1\r\nHost: h\r\nRange: bytes=1-2\r\n\r\n");
            same(&pair, &format!("{method} {path}?{query}"), request.as_bytes());
        }
    }
}
