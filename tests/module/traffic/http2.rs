//! HTTP/2 in front of the module: streams of one connection at the same time, and uploads.

use crate::prelude::*;
use std::sync::Condvar;

const STREAMS: usize = 24;

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn fields<'a>(method: &'a str, path: &'a str) -> Fields<'a> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"h"),
        (b":path", path.as_bytes()),
    ]
}

/// All streams are at the server before the first is answered: none waits for another.
#[test]
fn concurrent_streams() {
    let pair = Pair::builder(&format!("{STANDARD_PARAMS} location / {{ uwsgi_pass @pass@; }}"))
        .listen("http2")
        .start();
    for side in SIDES {
        let all = Arc::new((Mutex::new(0), Condvar::new()));
        pair.backend.set_script(move |peer| {
            let uri = peer.read_request()?.packet.get("REQUEST_URI").unwrap();
            let (count, changed) = &*all;
            let mut count = count.lock().unwrap();
            *count += 1;
            changed.notify_all();
            let waited = changed.wait_timeout_while(count, DEADLINE, |count| *count < STREAMS);
            assert!(!waited.unwrap().1.timed_out(), "not all streams arrived");
            // Large enough that the responses are sent in turns.
            let body = uri.repeat(20_000);
            peer.write(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes())
        });
        let paths: Vec<_> = (0..STREAMS).map(|number| format!("/{number}")).collect();
        let requests: Vec<Fields> = paths.iter().map(|path| fields("GET", path)).collect();
        let answers = h2::concurrent(pair.address(side), &requests).unwrap();
        for (path, answer) in paths.iter().zip(answers) {
            assert_eq!((answer.status, answer.error), (Some(200), None), "{side:?} {path}");
            assert!(answer.body == path.repeat(20_000).as_bytes(), "{side:?} {path}");
        }
    }
}

/// The body goes to the server while it comes, through the flow control of HTTP/2.
#[test]
fn unbuffered_upload() {
    let pair = Pair::builder(&format!(
        "{STANDARD_PARAMS} client_max_body_size 0; uwsgi_request_buffering off;
        location / {{ uwsgi_pass @pass@; }}"
    ))
    .listen("http2")
    .start();
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        let sum: u64 = request.body.iter().map(|byte| u64::from(*byte)).sum();
        let text = format!("{} {sum}", request.body.len());
        peer.write(format!("HTTP/1.1 200 OK\r\n\r\n{text}").as_bytes())
    });
    let body: Vec<u8> = (0..1_000_000u32).map(|i| (i % 249) as u8).collect();
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let length = body.len().to_string();
    let mut upload = fields("POST", "/");
    upload.push((b"content-length", length.as_bytes()));
    for side in SIDES {
        let to = pair.address(side);
        let answer = h2::exchange(any_port(), to, &upload, Some(&body)).unwrap();
        assert_eq!(answer.status, Some(200), "{side:?}");
        assert_eq!(String::from_utf8(answer.body).unwrap(), format!("{length} {sum}"), "{side:?}");
    }
    assert!(pair.nginx.logged("buffered to a temporary file").is_empty());
}
