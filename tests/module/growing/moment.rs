//! A client that has shown to be fast is waited for, for a moment, before there is a temporary file. Whatever it
//! does then, nothing hangs. nginx's debug log tells when it reads no more from the server, and when there is a
//! file.

use super::*;

/// More than the sockets' buffers hold.
const LONG: usize = 12 << 20;
/// After so much the client pauses: it has shown to be fast, or for as long that there are the largest buffers.
const TAKEN: [usize; 2] = [1 << 20, 6 << 20];
const WAITS: &str = "no pipe bufs to read in";
const FILE: &str = "pipe temp offset: ";

/// One nginx, and a server that sends [`LONG`] bytes.
fn long(locations: &str, framing: Framing, builder: Builder) -> Pair {
    let server = format!("{STANDARD_PARAMS} {locations}");
    let nginx = builder.log_level("debug");
    // so much fits that a client can show to be fast, and not all
    let pair = Pair::builder(&server).nginx(nginx).listen("sndbuf=1m").start();
    let bytes = body(LONG);
    pair.backend.set_script(move |peer| framing.serve(peer, &bytes));
    pair
}

/// Asks with a socket whose buffer is small, so that the response stays with nginx.
fn ask(pair: &Pair, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect(&pair.address(Side::Ours).into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(client, "GET {path} HTTP/1.0\r\nHost: h\r\n\r\n").unwrap();
    client
}

/// What is logged of a response whose client pauses, until there is a file.
fn lines_until_file(pair: &Pair, before: usize) -> Vec<String> {
    wait_for("a file", || {
        let log = pair.nginx.error_log().split_off(before);
        let end = log.iter().position(|line| line.text.starts_with(FILE))?;
        Some(log.into_iter().take(end).map(|line| line.text).collect())
    })
}

fn take(client: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut read = Vec::new();
    client.take(size as u64).read_to_end(&mut read).unwrap();
    read
}

/// A client that nginx waits for, and what it has read.
fn waited_for(pair: &Pair, taken: usize) -> (TcpStream, Vec<u8>) {
    wait_for("nginx to wait for a client", || {
        let before = pair.nginx.error_log().len();
        let mut client = ask(pair, "/");
        let read = take(&mut client, taken);
        let waits = wait_for("nginx to stop", || {
            let log = pair.nginx.error_log().split_off(before);
            log.iter().find_map(|line| match &line.text {
                text if text.starts_with(WAITS) => Some(true),
                // as on a machine that is busy elsewhere
                text if text.starts_with(FILE) => Some(false),
                _ => None,
            })
        });
        waits.then_some((client, read))
    })
}

/// Reads what is left, and looks at all of it.
fn read_rest(mut client: TcpStream, mut read: Vec<u8>, body: &[u8]) {
    client.read_to_end(&mut read).unwrap();
    let head = read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert!(read[head..] == *body, "another body, of {} bytes", read.len() - head);
}

const PASS: &str = "location / { uwsgi_pass @pass@; }";

#[test]
fn the_server_is_free_after_a_moment() {
    let filtered =
        "location / { sub_filter not-in-there x; sub_filter_types *; uwsgi_pass @pass@; }";
    for (framing, locations, taken) in [
        (Framing::Length, PASS, TAKEN[0]),
        (Framing::Length, PASS, TAKEN[1]),
        (Framing::Chunks, PASS, TAKEN[0]),
        (Framing::Chunks, PASS, TAKEN[1]),
        (Framing::Close, PASS, TAKEN[1]),
        (Framing::Length, filtered, TAKEN[1]),
    ] {
        let pair = long(locations, framing, Nginx::builder());
        let (client, read) = waited_for(&pair, taken);
        // the client reads nothing until the server's connection has ended
        let last = pair.backend.connection_count() - 1;
        pair.backend.take_ended(last, 1);
        assert!(!pair.nginx.logged(FILE).is_empty(), "{framing:?}");
        read_rest(client, read, &body(LONG));
    }
}

/// What nginx has in its buffers then is sent although they are large.
#[test]
fn a_client_that_reads_on_while_the_server_has_more() {
    const FIRST_PART: usize = LONG - (1 << 20);
    // as much as nginx reads into one buffer before it passes it on
    const KEPT: usize = 64 << 10;
    for taken in TAKEN {
        let pair = long(PASS, Framing::Length, Nginx::builder());
        let goes_on = Arc::new(AtomicBool::new(false));
        let flag = goes_on.clone();
        pair.backend.set_script(move |peer| {
            peer.read_request()?;
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").as_bytes())?;
            let bytes = body(LONG);
            peer.write(&bytes[..FIRST_PART])?;
            wait_for("the client", || flag.load(Ordering::Relaxed).then_some(()));
            peer.write(&bytes[FIRST_PART..])
        });
        let (mut client, mut read) = waited_for(&pair, taken);
        wait_for("a file", || (!pair.nginx.logged(FILE).is_empty()).then_some(()));
        let rest = FIRST_PART - KEPT - read.len();
        read.extend(take(&mut client, rest));
        goes_on.store(true, Ordering::Relaxed);
        read_rest(client, read, &body(LONG));
    }
}

/// It takes what comes, but not much of it: there is a file, which it need not have stopped for.
#[test]
fn the_server_does_not_wait_for_a_client_that_takes_little() {
    let pair = long(PASS, Framing::Length, Nginx::builder());
    let (mut client, mut read) = waited_for(&pair, TAKEN[0]);
    let last = pair.backend.connection_count() - 1;
    while !pair.backend.connections()[last].ended {
        assert!(read.len() < LONG, "the server waits as long as the client reads");
        read.extend(take(&mut client, 4 << 10));
        std::thread::sleep(PAUSE);
    }
    read_rest(client, read, &body(LONG));
}

#[test]
fn a_client_that_leaves_meanwhile() {
    for framing in Framing::ALL {
        let pair = long(PASS, framing, Nginx::builder());
        let (client, _) = waited_for(&pair, TAKEN[0]);
        let requests = pair.nginx.access_log().len();
        drop(client);
        pair.nginx.wait_requests(requests + 1);
        pair.backend.take_ended(0, 1);
        // nginx tells of connections that are left
        pair.nginx.quit();
    }
}

#[test]
fn a_client_that_never_reads_on() {
    let pair = long(&format!("send_timeout 1s; {PASS}"), Framing::Length, Nginx::builder());
    let (client, _) = waited_for(&pair, TAKEN[0]);
    let requests = pair.nginx.access_log().len();
    pair.nginx.wait_requests(requests + 1);
    pair.backend.take_ended(0, 1);
    drop(client);
    pair.nginx.quit();
}

/// What has come arrives, and the connection ends as it does with stock.
#[test]
fn a_server_that_ends_meanwhile() {
    const SENT: usize = LONG - (1 << 20);
    let pair = long(PASS, Framing::Length, Nginx::builder());
    pair.nginx.expects("upstream prematurely closed connection");
    pair.backend.set_script(move |peer| {
        peer.read_request()?;
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").as_bytes())?;
        peer.write(&body(SENT))?;
        peer.close();
        Ok(())
    });
    let (client, read) = waited_for(&pair, TAKEN[0]);
    read_rest(client, read, &body(SENT));
}

#[test]
fn a_worker_that_leaves_meanwhile() {
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        let pair = long(PASS, Framing::Length, Nginx::builder());
        let (client, read) = waited_for(&pair, TAKEN[0]);
        pair.nginx.signal(signal);
        read_rest(client, read, &body(LONG));
        wait_for("the worker to leave", || (pair.nginx.workers_left() > 0).then_some(()));
        pair.nginx.quit();
    }
}

/// Where a client's pace is not its own, or the file is wanted, nothing waits.
#[test]
fn others_are_not_waited_for() {
    let page = b"<!--#include virtual=\"/part\" -->";
    let nginx = Nginx::builder().file("page/index.html", page);
    let locations = "
        location /rate { limit_rate 1000m; uwsgi_pass @pass@; }
        location /from-server { uwsgi_limit_rate 1000m; uwsgi_pass @pass@; }
        location /threads { aio threads; uwsgi_pass @pass@; }
        location /stored { uwsgi_store @dir@/stored; uwsgi_pass @pass@; }
        location /part { uwsgi_pass @pass@; }
        location /page/ { root @dir@; ssi on; }";
    let pair = long(locations, Framing::Length, nginx);
    for path in ["/rate", "/from-server", "/threads", "/stored", "/page/index.html"] {
        let before = pair.nginx.error_log().len();
        let mut client = ask(&pair, path);
        let read = take(&mut client, TAKEN[0]);
        let lines = lines_until_file(&pair, before);
        assert!(!lines.iter().any(|line| line.starts_with(WAITS)), "{path}");
        read_rest(client, read, &body(LONG));
    }
}
