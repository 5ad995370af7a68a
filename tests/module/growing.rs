//! Buffers of large responses that grow by themselves where none are configured, and shrink where the client is
//! slow. nginx's debug log tells of each one (`malloc`).

use std::io::{Read, Write};
use std::net::TcpStream;

use socket2::{Domain, Socket, Type};

use crate::prelude::*;

mod moment;

const SIZE: usize = 4 << 20;
/// How large the module's own are.
const LARGE: &str = ":16384";
/// As many as take stock's memory, and as many as there may be: one more while a client becomes slow.
const FIRST: usize = 2;
const MOST: usize = 8 + 1;

/// What a slow client does not take stays with nginx, and not in its socket.
const SMALL: &str = "sndbuf=16k";

/// Bytes that tell where they stand.
fn body(size: usize) -> Vec<u8> {
    (0..size / 4).flat_map(|number| (number as u32).to_be_bytes()).collect()
}

/// How the server says where the response ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    Chunks,
    Close,
}

impl Framing {
    const ALL: [Framing; 3] = [Framing::Length, Framing::Chunks, Framing::Close];

    fn serve(self, peer: &mut Peer, body: &[u8]) -> io::Result<()> {
        peer.read_request()?;
        match self {
            Framing::Length => {
                let length = body.len();
                peer.write(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
                )?;
                peer.write(body)
            }
            Framing::Chunks => {
                peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for piece in body.chunks(5000) {
                    peer.write(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    peer.write(piece)?;
                    peer.write(b"\r\n")?;
                }
                peer.write(b"0\r\n\r\n")
            }
            Framing::Close => {
                peer.write(b"HTTP/1.1 200 OK\r\n\r\n")?;
                peer.write(body)
            }
        }
    }
}

/// One nginx, and a server behind it.
fn site(locations: &str, framing: Framing, listen: &'static str) -> Pair {
    let builder = Nginx::builder().log_level("debug");
    let server = format!("{STANDARD_PARAMS} {locations}");
    let pair = Pair::builder(&server).nginx(builder).listen(listen).start();
    pair.backend.set_script(move |peer| framing.serve(peer, &body(SIZE)));
    pair
}

/// Asks, waits before it reads on after so many bytes until nginx has written the rest into its file, and reads
/// all. Returns how many large buffers there were at a time.
fn large_buffers(pair: &Pair, path: &str, framing: Framing, pause_after: Option<usize>) -> usize {
    let lines = pair.nginx.error_log().len();
    let requests = pair.nginx.access_log().len();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if pause_after.is_some() {
        // so that what nginx sends stays with nginx
        socket.set_recv_buffer_size(16 << 10).unwrap();
    }
    socket.connect(&pair.address(Side::Ours).into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(client, "GET {path} HTTP/1.0\r\nHost: h\r\n\r\n").unwrap();
    let mut read = Vec::new();
    if let Some(size) = pause_after {
        (&mut client).take(size as u64).read_to_end(&mut read).unwrap();
        wait_for("nginx to have all of the response", || {
            let log = pair.nginx.error_log().split_off(lines);
            let mut texts = log.iter().map(|line| &line.text);
            texts.any(|text| text.starts_with("http upstream exit: ")).then_some(())
        });
    }
    client.read_to_end(&mut read).unwrap();
    let head = read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let len = read.len() - head;
    assert!(read[head..] == body(SIZE), "{framing:?} {path}: another body, of {len} bytes");
    pair.nginx.wait_requests(requests + 1);
    let (mut live, mut most) = (Vec::new(), 0);
    for line in pair.nginx.error_log().split_off(lines) {
        let made = line.text.strip_prefix("malloc: ").and_then(|text| text.strip_suffix(LARGE));
        live.extend(made.map(str::to_owned));
        let freed = line.text.strip_prefix("free: ").unwrap_or_default();
        live.retain(|address| !freed.starts_with(address.as_str()));
        most = most.max(live.len());
    }
    most
}

#[test]
fn a_slow_client_gets_the_memory_of_stock() {
    for framing in Framing::ALL {
        let pair = site("location / { uwsgi_pass @pass@; }", framing, SMALL);
        let count = large_buffers(&pair, "/", framing, Some(0));
        let expected = if framing == Framing::Length { FIRST } else { 0 };
        assert_eq!(count, expected, "{framing:?}");
    }
}

/// The client takes a while what comes, and then does not: buffers come and go.
#[test]
fn a_client_that_becomes_slow_gets_the_same_bytes() {
    for framing in Framing::ALL {
        for pause_after in [200_000, 1_000_000, 2_000_000] {
            let pair = site("location / { uwsgi_pass @pass@; }", framing, SMALL);
            large_buffers(&pair, "/", framing, Some(pause_after));
        }
    }
}

#[test]
fn a_client_that_takes_what_comes_gets_more() {
    for framing in Framing::ALL {
        let pair = site("location / { uwsgi_pass @pass@; }", framing, "");
        wait_for("more buffers", || {
            let count = large_buffers(&pair, "/", framing, None);
            assert!(count <= MOST, "{framing:?}: {count}");
            (count > FIRST).then_some(())
        });
    }
}

#[test]
fn what_is_configured_stays() {
    let pair = site(
        "location /buffers { uwsgi_buffers 8 4k; uwsgi_pass @pass@; }
        location /busy { uwsgi_busy_buffers_size 8k; uwsgi_pass @pass@; }
        location /file { uwsgi_max_temp_file_size 0; uwsgi_pass @pass@; }
        location /write { uwsgi_temp_file_write_size 8k; uwsgi_pass @pass@; }
        location /head { uwsgi_buffer_size 20k; uwsgi_buffers 8 20k; uwsgi_pass @pass@; }
        location /unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; }",
        Framing::Length,
        "",
    );
    for path in ["/buffers", "/busy", "/file", "/write", "/head", "/unbuffered"] {
        assert_eq!(large_buffers(&pair, path, Framing::Length, None), 0, "{path}");
    }
}
