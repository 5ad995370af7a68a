//! The sizes of buffers: how large a head may be, how much of a response is on its way to the
//! client at once, and in what pieces the rest goes to its temporary file.
//!
//! Mirrors src/event/ngx_event_pipe.c, whose debug log says the two last.

use crate::prelude::*;

/// More than fits into the socket buffers of nginx and its client.
const SIZE: usize = 2 << 20;

#[test]
fn buffer_size_bounds_the_head() {
    let sizes = [("1k", 1024), ("5000", 5000), ("16k", 16384)];
    let locations = sizes.map(|(text, _)| {
        format!("location /{text} {{ uwsgi_buffer_size {text}; uwsgi_pass @pass@; }}")
    });
    let pair =
        Pair::builder(&format!("{STANDARD_PARAMS} uwsgi_buffers 16 4k; {}", locations.concat()))
            .start();
    for (text, size) in sizes {
        for (head, status) in [(size, 200), (size + 1, 502)] {
            let name = format!("a head of {head} bytes, {text}");
            let request = format!("GET /{text} HTTP/1.1\r\nHost: h\r\n\r\n");
            let stock = pair.assert_same(&name, request.as_bytes(), move |peer| {
                let frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: ";
                let filler = "f".repeat(head - frame.len() - 4);
                peer.answer(format!("{frame}{filler}\r\n\r\n").as_bytes())
            });
            assert_eq!(stock.response.unwrap().status, status, "{name}");
            let said = stock.log.iter().any(|line| line.contains("upstream sent too big header"));
            assert_eq!(said, status == 502, "{name}: {:?}", stock.log);
        }
    }
}

/// The numbers that the debug log gives after `text` while a client takes a long response from each
/// location, having waited until nginx had taken all that it wants to hold, which is everything
/// where there is a temporary file.
fn numbers(pair: &Pair, paths: &[&str], file: bool, text: &str) -> Vec<[Vec<usize>; 2]> {
    let number = |path: &str, side| {
        let lines = pair.nginx.error_log().len();
        let written = Arc::new(AtomicBool::new(false));
        let flag = written.clone();
        pair.backend.set_script(move |peer| {
            peer.read_request()?;
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
            peer.write(&vec![b'x'; SIZE])?;
            flag.store(true, Ordering::Relaxed);
            Ok(())
        });
        let requests = pair.nginx.access_log().len();
        let mut client = Client::connect(pair.address(side));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        client.read_head().unwrap();
        wait_for("nginx to be full, or to have everything", || {
            let log = pair.nginx.error_log().split_off(lines);
            let full = log.iter().any(|line| line.text.contains("no pipe bufs to read in"));
            (written.load(Ordering::Relaxed) || (full && !file)).then_some(())
        });
        assert_eq!(client.read_exact(SIZE).unwrap().len(), SIZE);
        pair.nginx.wait_requests(requests + 1);
        let log = pair.nginx.error_log().split_off(lines);
        let after = log.iter().filter_map(|line| line.text.split_once(text));
        after.map(|(_, number)| number.trim().parse().unwrap()).collect()
    };
    paths.iter().map(|path| SIDES.map(|side| number(path, side))).collect()
}

fn debugged(locations: &str) -> Pair {
    let builder = Nginx::builder().log_level("debug");
    let server = format!("{STANDARD_PARAMS} uwsgi_buffers 32 4k; {locations}");
    Pair::builder(&server).nginx(builder).listen("sndbuf=16k").start()
}

#[test]
fn busy_buffers_size_bounds_what_is_on_its_way() {
    let pair = debugged(
        "uwsgi_max_temp_file_size 0;
        location /8k { uwsgi_busy_buffers_size 8k; uwsgi_pass @pass@; }
        location /64k { uwsgi_busy_buffers_size 64k; uwsgi_pass @pass@; }",
    );
    let busy = numbers(&pair, &["/8k", "/64k"], false, "pipe write busy: ");
    for (most, sides) in [8 << 10, 64 << 10].iter().zip(&busy) {
        for (side, busy) in SIDES.iter().zip(sides) {
            let max = *busy.iter().max().unwrap();
            assert!(max <= *most, "{side:?}: {max} on their way, not {most}");
            assert!(max > most / 4, "{side:?}: never more than {max} on their way of {most}");
        }
    }
}

#[test]
fn temp_file_write_size_bounds_each_write() {
    let pair = debugged(
        "location /8k { uwsgi_temp_file_write_size 8k; uwsgi_pass @pass@; }
        location /64k { uwsgi_temp_file_write_size 64k; uwsgi_pass @pass@; }",
    );
    let offsets = numbers(&pair, &["/8k", "/64k"], true, "pipe temp offset: ");
    for (most, sides) in [8 << 10, 64 << 10].iter().zip(&offsets) {
        for (side, offsets) in SIDES.iter().zip(sides) {
            let steps = offsets.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
            let max = steps.max().unwrap();
            assert_eq!(max, *most, "{side:?}: the largest of {} writes", offsets.len());
        }
    }
}
