//! A client that reads slowly does not hold the server: buffered, the server's connection ends as
//! soon as its response is complete, in memory or in a file.

use super::get;
use crate::prelude::*;

/// More than the socket buffers on both sides of nginx hold.
const SIZE: usize = 5 << 20;

fn byte(at: usize) -> u8 {
    (at % 253) as u8
}

#[test]
fn the_server_is_free_while_the_client_reads() {
    let locations = [
        // Which responses are taken in whole, and how many are said to go to a file.
        ("/", "", true, 1),
        ("/memory", "uwsgi_max_temp_file_size 0; uwsgi_buffers 1300 4k;", true, 0),
        ("/threads", "aio threads; aio_write on; sendfile on;", true, 1),
        ("/held", "uwsgi_max_temp_file_size 0;", false, 0),
        ("/limited", "uwsgi_max_temp_file_size 1m;", false, 1),
        ("/unbuffered", "uwsgi_buffering off;", false, 0),
    ];
    let blocks = locations.map(|(path, directives, ..)| {
        format!("location {path} {{ {directives} uwsgi_pass @pass@; }}")
    });
    let server = format!("{STANDARD_PARAMS} {}", blocks.concat());
    // Small socket buffers towards the client, so that most of the response is nginx's affair.
    let pair = Pair::builder(&server).listen("sndbuf=64k").start();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    pair.backend.set_script(move |peer| {
        peer.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
        let body: Vec<u8> = (0..SIZE).map(byte).collect();
        for piece in body.chunks(65536) {
            peer.write(piece)?;
            counter.fetch_add(piece.len(), Ordering::Relaxed);
        }
        Ok(())
    });
    for (path, _, free, files) in locations {
        for side in SIDES {
            let before = pair.backend.connection_count();
            let lines = pair.nginx.error_log().len();
            written.store(0, Ordering::Relaxed);
            let mut client = Client::connect(pair.address(side));
            client.send(&get(path));
            client.read_head().unwrap();
            if free {
                // The client reads nothing until the server's connection has ended.
                pair.backend.take_ended(before, 1);
            } else {
                let stopped = wait_until_still(&written);
                assert!(stopped < SIZE, "{side:?} {path}: the server could write everything");
            }
            let body = client.read_exact(SIZE).unwrap();
            assert!(body.iter().enumerate().all(|(at, b)| *b == byte(at)), "{side:?} {path}");
            pair.backend.take_ended(before, 1);
            let said = "an upstream response is buffered to a temporary file";
            let log = pair.nginx.error_log().split_off(lines);
            let log: Vec<_> = log.iter().filter(|line| line.text.contains(said)).collect();
            assert_eq!(log.len(), files, "{side:?} {path}: {log:?}");
            let own = format!("/temp/{}uwsgi/", if side == SIDES[0] { "" } else { "rs_" });
            assert!(log.iter().all(|line| line.text.contains(&own)), "{side:?} {path}: {log:?}");
        }
    }
}

/// Waits until `counter` stays as it is, as far as that can be known from outside.
fn wait_until_still(counter: &AtomicUsize) -> usize {
    let still = Duration::from_millis(150);
    let mut last = (counter.load(Ordering::Relaxed), Instant::now());
    wait_for("writing to stop", || {
        let now = counter.load(Ordering::Relaxed);
        if now != last.0 || now == 0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > still).then_some(now)
    })
}
