//! The variables `$upstream_…` in a log: equal through stock and ours, times sane.

use super::{get, OK};
use crate::prelude::*;

/// Names and, apart, those whose values are times in seconds.
const EQUAL: [&str; 10] = [
    "upstream_addr",
    "upstream_status",
    "upstream_response_length",
    "upstream_bytes_received",
    "upstream_bytes_sent",
    "upstream_cache_status",
    "upstream_http_x_a",
    "upstream_http_content_length",
    "upstream_http_set_cookie",
    "upstream_cookie_c",
];
const TIMES: [&str; 3] =
    ["upstream_connect_time", "upstream_header_time", "upstream_response_time"];

/// What the server of `/slow` waits before its head and before its body.
const DELAY: Duration = Duration::from_millis(60);

const MADE: &[u8] = b"HTTP/1.1 201 Made\r\nX-A: one\r\nX-A: two\r\nSet-Cookie: b=1\r\n\
    Set-Cookie: c=two; Path=/\r\nContent-Length: 5\r\n\r\nhello";

/// The values of one request: those of EQUAL, then those of TIMES.
fn logged(pair: &Pair, index: usize, path: &str) -> [Vec<String>; 2] {
    let request = exchange(pair.address(SIDES[index]), &get(path));
    assert_ne!(request.status, 500, "{path}");
    let lines = || {
        let log = std::fs::read_to_string(pair.nginx.path("variables.log")).unwrap_or_default();
        log.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let line = crate::support::wait_for("the line in the log", || {
        let mine = lines().into_iter().rev().find(|line| line.starts_with(&format!("{path}|")))?;
        mine.ends_with(&format!("|127.0.0.{}", index + 1)).then_some(mine)
    });
    let values: Vec<_> = line.split('|').map(str::to_string).collect();
    let times = 1 + EQUAL.len();
    [values[1..times].to_vec(), values[times..times + TIMES.len()].to_vec()]
}

#[test]
fn in_a_log() {
    let dir = nginx::prefix();
    let other = Backend::unix(&dir.path().join("other"), |peer| peer.answer(OK));
    let names: String = EQUAL.iter().chain(&TIMES).map(|name| format!("|${name}")).collect();
    let mut builder =
        Nginx::builder().http(&format!("log_format variables '$request_uri{names}|$server_addr';"));
    for prefix in ["", "rs_"] {
        builder = builder.http(&format!(
            "upstream {prefix}uwsgi_app {{
                server unix:{}/none max_fails=0; server {} max_fails=0 backup;
            }}",
            dir.path().display(),
            other.address()
        ));
    }
    let server = format!(
        "{STANDARD_PARAMS}
        access_log @dir@/variables.log variables;
        access_log @dir@/access.log;
        location / {{ uwsgi_pass @pass@; }}
        location /unbuffered {{ uwsgi_buffering off; uwsgi_pass @pass@; }}
        location /next {{ uwsgi_pass uwsgi_app; }}
        location /gone {{ uwsgi_pass unix:@dir@/none; }}
        location /timeout {{ uwsgi_read_timeout 100ms; uwsgi_pass @pass@; }}
        location /page {{ uwsgi_intercept_errors on; error_page 404 /next; uwsgi_pass @pass@; }}
        location /own {{ return 200 \"own\"; }}"
    );
    let pair = Pair::builder(&server).nginx(builder).start();
    pair.nginx.expects("none failed (2: No such file or directory)");
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        match request.packet.get("PATH_INFO").unwrap().as_str() {
            "/redirect" => peer.write(b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /again\r\n\r\n"),
            "/page" => peer.write(b"HTTP/1.1 404 No\r\nX-A: of the first\r\n\r\nno"),
            "/timeout" => peer.stall(),
            "/slow" => {
                std::thread::sleep(DELAY);
                peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
                std::thread::sleep(DELAY);
                peer.write(b"slow")
            }
            _ => peer.write(MADE),
        }
    });
    // The path, and how its status and length are logged.
    for (path, status, length) in [
        ("/", "201", "5"),
        ("/unbuffered", "201", "5"),
        ("/slow", "200", "4"),
        ("/next", "502, 200", "0, 2"),
        ("/gone", "502", "0"),
        ("/timeout", "504", "0"),
        ("/redirect", "200 : 201", "0 : 5"),
        ("/page", "404 : 502, 200", "0 : 0, 2"),
        ("/own", "-", "-"),
    ] {
        let [stock, ours] = [0, 1].map(|index| logged(&pair, index, path));
        assert_eq!(stock[0], ours[0], "{path}: left stock, right ours: {EQUAL:?}");
        assert_eq!((ours[0][1].as_str(), ours[0][2].as_str()), (status, length), "{path}");
        for (name, (stock, ours)) in TIMES.iter().zip(stock[1].iter().zip(&ours[1])) {
            let shape = |times: &str| times.replace(|c: char| c.is_ascii_digit(), "");
            assert_eq!(shape(stock), shape(ours), "{path} ${name}: {stock} {ours}");
        }
        for times in [&stock[1], &ours[1]] {
            let seconds = |index: usize| times[index].parse::<f64>().ok();
            if let (Some(connect), Some(head), Some(end)) = (seconds(0), seconds(1), seconds(2)) {
                assert!(connect <= head && head <= end && end < 20.0, "{path}: {times:?}");
                if path == "/slow" {
                    let delay = DELAY.as_secs_f64() * 0.9;
                    assert!(connect < head && head >= delay && end - head >= delay, "{times:?}");
                }
            } else {
                assert_ne!(path, "/slow", "{times:?}");
            }
        }
    }
    let [_, ours] = [0, 1].map(|index| logged(&pair, index, "/"));
    let value =
        |name: &str| ours[0][EQUAL.iter().position(|known| *known == name).unwrap()].clone();
    assert_eq!(value("upstream_cookie_c"), "two");
    assert_eq!(value("upstream_http_content_length"), "5");
    assert!(value("upstream_bytes_sent").parse::<usize>().unwrap() > 100);
    assert_eq!(value("upstream_bytes_received"), MADE.len().to_string());
}
