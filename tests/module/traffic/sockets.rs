//! The socket to the server: `uwsgi_bind` and `uwsgi_socket_…`, as seen by the server and
//! in the kernel.

use super::{get, request, same, worker, GET, OK};
use crate::intended::without_length_header;
use crate::prelude::*;
use crate::support::full_listener::FullListener;
use crate::support::nginx::free_port;
use socket2::Socket;
use std::net::Ipv4Addr;

const BINDS: &str = "
    uwsgi_bind 127.0.0.3;
    location / { uwsgi_pass @pass@; }
    location /own { uwsgi_bind 127.0.0.4; uwsgi_pass @pass@; }
    location /off { uwsgi_bind off; uwsgi_pass @pass@; }
    location /port { uwsgi_bind 127.0.0.5:@port2@; uwsgi_pass @pass@; }
    location /variable { uwsgi_bind $arg_from; uwsgi_pass @pass@; }
    location /part { uwsgi_bind 127.0.0.$arg_from; uwsgi_pass @pass@; }
";

/// Over TCP: nginx makes the connections of both sides; and the module makes its own.
fn pairs(server: &str) -> [Pair; 2] {
    ["", "rs_uwsgi_connect_retry 1ms;"].map(|own| {
        let builder = Nginx::builder().http(own);
        Pair::builder(&format!("{STANDARD_PARAMS}\n{server}")).nginx(builder).tcp(true).start()
    })
}

#[test]
fn bind() {
    pairs(BINDS).iter().for_each(binds);
}

fn binds(pair: &Pair) {
    pair.nginx.expects("Cannot assign requested address");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let peers = seen.clone();
    pair.backend.set_script(move |peer| {
        peers.lock().unwrap().push(peer.remote()?);
        // Without a length: the server closes first, so that nginx can use the port again at once.
        peer.answer(b"HTTP/1.1 200 OK\r\n\r\nok")
    });
    let (fixed, chosen) = (pair.nginx.address_of(1, [127, 0, 0, 5]).port(), free_port());
    let with_port = format!("/variable?from=127.0.0.7:{chosen}");
    let rows = [
        ("/", 3, None),
        ("/own", 4, None),
        ("/off", 1, None),
        ("/port", 5, Some(fixed)),
        ("/variable?from=127.0.0.6", 6, None),
        ("/part?from=8", 8, None),
        (&with_port, 7, Some(chosen)),
        // No value means no binding; one that is no address means so too, and is logged.
        ("/variable", 1, None),
        ("/variable?from=nonsense", 1, None),
    ];
    for (path, host, port) in rows {
        seen.lock().unwrap().clear();
        let (response, log) = same(pair, path, &get(path));
        assert_eq!(response.text(), "ok", "{path}");
        let logged = usize::from(path.ends_with("nonsense"));
        assert_eq!(log.len(), logged, "{path}: {log:?}");
        let seen = seen.lock().unwrap();
        for (side, address) in SIDES.iter().zip(seen.iter()) {
            assert_eq!(address.ip(), Ipv4Addr::new(127, 0, 0, host), "{path} {side:?}");
            assert!(port.is_none_or(|port| port == address.port()), "{path} {side:?}: {address}");
        }
        assert_eq!(seen.len(), 2, "{path}");
    }
    // An address of a network for documentation (RFC 5737), which this host does not have.
    let (response, log) = same(pair, "no address of ours", &get("/variable?from=203.0.113.9"));
    assert_eq!((response.status, log.len()), (500, 1), "{log:?}");
    assert!(log[0].starts_with("[crit] bind(203.0.113.9) failed"), "{log:?}");
}

/// An internet address cannot be bound to a unix socket: an error as through stock.
#[test]
fn bind_with_a_unix_socket() {
    let pair = Pair::builder(&format!("{STANDARD_PARAMS}\n{BINDS}")).start();
    pair.nginx.expects("failed (22: Invalid argument)");
    pair.backend.set_script(|peer| peer.answer(OK));
    for (path, status) in [("/", 500), ("/own", 500), ("/off", 200), ("/variable", 200)] {
        let (response, log) = same(&pair, path, &get(path));
        assert_eq!(response.status, status, "{path}: {log:?}");
        assert_eq!(log.len(), usize::from(status != 200), "{path}: {log:?}");
    }
}

/// Reads something off nginx's socket to the server, while the server holds `path` unanswered;
/// the response's status as well. None where nginx did not get so far.
fn of_socket<T>(pair: &Pair, path: &str, read: impl Fn(&Socket) -> T) -> [(u16, Option<T>); 2] {
    SIDES.map(|side| {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        pair.backend.set_script(move |peer| {
            peer.read_request()?;
            let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            peer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        });
        let (requests, ended) = (pair.backend.requests().len(), pair.nginx.access_log().len());
        let mut client = Client::connect(pair.address(side));
        client.send(&get(path));
        let arrived = wait_for("the request at the backend, or its end", || {
            let arrived = pair.backend.requests().len() > requests;
            (arrived || pair.nginx.access_log().len() > ended).then_some(arrived)
        });
        let value = arrived.then(|| {
            let Address::Tcp(backend) = pair.backend.address() else { panic!("not on TCP") };
            let to_backend = |socket: &Socket| {
                let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
                peer == Some(*backend)
            };
            let sockets = kernel::sockets(worker(&pair.nginx));
            read(sockets.iter().find(|socket| to_backend(socket)).unwrap())
        });
        let _ = go.send(());
        let status = client.response(false).unwrap().status;
        pair.nginx.wait_requests(ended + 1);
        (status, value)
    })
}

/// IP_TRANSPARENT needs root, or CAP_NET_RAW, which nginx keeps for its workers only as root.
#[test]
fn bind_transparent() {
    // SAFETY: geteuid cannot fail and takes no arguments.
    let root = unsafe { libc::geteuid() } == 0;
    let server = "
        location / { uwsgi_bind 127.0.0.3; uwsgi_pass @pass@; }
        location /fixed { uwsgi_bind 127.0.0.4 transparent; uwsgi_pass @pass@; }
        location /variable { uwsgi_bind $remote_addr transparent; uwsgi_pass @pass@; }
        location /port { uwsgi_bind 127.0.0.9:$remote_port transparent; uwsgi_pass @pass@; }";
    let rows = [("/", 3), ("/fixed", 4), ("/variable", 1), ("/port", 9)];
    for (own, (path, host)) in
        ["", "rs_uwsgi_connect_retry 1ms;"].iter().flat_map(|own| rows.map(|row| (own, row)))
    {
        let builder = Nginx::builder().http(own);
        let builder = if root { builder } else { builder.expects("IP_TRANSPARENT") };
        let pair =
            Pair::builder(&format!("{STANDARD_PARAMS}\n{server}")).nginx(builder).tcp(true).start();
        let asked = path != "/";
        let [stock, ours] = of_socket(&pair, path, |socket| {
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            (local.ip(), kernel::is_transparent(socket))
        });
        assert_eq!(stock, ours, "{path}");
        let expected = match root || !asked {
            true => (200, Some((Ipv4Addr::new(127, 0, 0, host).into(), asked))),
            false => (500, None),
        };
        assert_eq!(ours, expected, "{path}");
    }
}

/// With the client's own port, the server sees where the client comes from.
#[test]
fn bind_to_the_port_of_the_client() {
    for pair in pairs("location / { uwsgi_bind 127.0.0.9:$remote_port; uwsgi_pass @pass@; }") {
        shows_the_port(&pair);
    }
}

fn shows_the_port(pair: &Pair) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let peers = seen.clone();
    pair.backend.set_script(move |peer| {
        peers.lock().unwrap().push(peer.remote()?);
        peer.answer(b"HTTP/1.1 200 OK\r\n\r\nok")
    });
    for side in SIDES {
        let (client, outcome) = pair.exchange(side, crate::pair::any_port(), GET);
        assert_eq!(outcome.response.unwrap().status, 200, "{side:?}: {:?}", outcome.log);
        let expected = SocketAddr::from(([127, 0, 0, 9], client.port()));
        assert_eq!(seen.lock().unwrap().pop(), Some(expected), "{side:?}");
    }
}

#[test]
fn socket_keepalive() {
    let server = "
        location / { uwsgi_pass @pass@; }
        location /on { uwsgi_socket_keepalive on; uwsgi_pass @pass@;
            location /on/off { uwsgi_socket_keepalive off; uwsgi_pass @pass@; }
            location /on/inherited { uwsgi_pass @pass@; } }";
    let rows = [("/", false), ("/on", true), ("/on/off", false), ("/on/inherited", true)];
    for (pair, (path, expected)) in
        pairs(server).iter().flat_map(|pair| rows.map(|row| (pair, row)))
    {
        let found = of_socket(pair, path, |socket| socket.keepalive().unwrap());
        assert_eq!(found, [(200, Some(expected)); 2], "{path}: left stock, right ours");
    }
}

/// The sizes are the kernel's affair: it doubles what is asked for, for its own use.
#[test]
fn socket_buffers() {
    let directives = ["uwsgi_socket_rcvbuf", "uwsgi_socket_sndbuf"];
    if nginx_version() < 1_031_003 {
        for directive in directives {
            let said = Nginx::builder().http(&format!("rs_{directive} 64k;")).check().stderr;
            assert!(said.contains(&format!("unknown directive \"rs_{directive}\"")), "{said}");
        }
        return;
    }
    let server = "
        location / { uwsgi_pass @pass@; }
        location /set { uwsgi_socket_rcvbuf 20k; uwsgi_socket_sndbuf 30k; uwsgi_pass @pass@;
            location /set/other { uwsgi_socket_sndbuf 40k; uwsgi_pass @pass@; } }";
    let sizes = |socket: &Socket| {
        [socket.recv_buffer_size().unwrap() / 2048, socket.send_buffer_size().unwrap() / 2048]
    };
    for pair in &pairs(server) {
        assert_eq!(of_socket(pair, "/set", sizes), [(200, Some([20, 30])); 2]);
        assert_eq!(of_socket(pair, "/set/other", sizes), [(200, Some([20, 40])); 2]);
        let [stock, ours] = of_socket(pair, "/", |socket| socket.recv_buffer_size().unwrap());
        assert_eq!(stock, ours);
        assert_ne!(ours, (200, Some(20 * 2048)));
    }
}

/// A socket that takes little at once gets all of a request in the end: the packet alone, and with a
/// body from memory, from a file and as it comes.
#[test]
fn full_buffers() {
    let server = format!(
        "{STANDARD_PARAMS} large_client_header_buffers 4 32k; client_max_body_size 0;
        location / {{ uwsgi_pass @pass@; }}
        location /file {{ client_body_in_file_only clean; uwsgi_pass @pass@; }}
        location /unbuffered {{ uwsgi_request_buffering off; uwsgi_pass @pass@; }}"
    );
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "long".repeat(5000));
    let body: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
    let posts = ["/", "/file", "/unbuffered"].map(|path| request("POST", path, &body));
    for tcp in [false, true] {
        let builder = Nginx::builder().probe("probe_send_limit 100;");
        let pair = Pair::builder(&server)
            .nginx(builder.http("rs_uwsgi_drop_headers off;"))
            .tcp(tcp)
            .start();
        pair.backend.set_script(|peer| peer.answer(OK));
        for request in [GET, long.as_bytes()].into_iter().chain(posts.iter().map(Vec::as_slice)) {
            let (stock, ours) = pair.both(request);
            assert_responses("little at once", &stock.response, &ours.response);
            assert_eq!(ours.response.unwrap().text(), "ok");
            let expected: Vec<_> =
                stock.received.iter().map(|all| without_length_header(all)).collect();
            assert_eq!(expected, ours.received, "left stock, right ours");
        }
        pair.nginx.assert_clean();
    }
}

/// A connection within this machine is there when connect(2) returns: it is not waited for, as stock does, and its
/// socket not watched for writing. nginx's debug log tells which sockets are watched for both.
#[test]
fn a_connection_within_this_machine_is_not_waited_for() {
    let builder = Nginx::builder().log_level("debug");
    let server = format!("{STANDARD_PARAMS} location / {{ uwsgi_pass @pass@; }}");
    let pair = Pair::builder(&server).nginx(builder).tcp(true).start();
    pair.backend.set_script(|peer| peer.answer(OK));
    let watched = SIDES.map(|side| {
        let before = pair.nginx.error_log().len();
        assert_eq!(exchange(pair.address(side), GET).text(), "ok", "{side:?}");
        let log = pair.nginx.error_log().split_off(before);
        log.iter().filter(|line| line.text.starts_with("epoll add connection: ")).count()
    });
    assert_eq!(watched, [1, 0], "left stock, right ours");
}

/// Where the kernel drops the attempt to connect, nginx waits for as long as it does with stock.
#[test]
fn a_connection_within_this_machine_that_is_not_made() {
    let full = FullListener::new();
    let server = format!(
        "{STANDARD_PARAMS} uwsgi_connect_timeout 300ms; location / {{ uwsgi_pass {}; }}",
        full.address
    );
    let pair = Pair::builder(&server).start();
    pair.nginx.expects("upstream timed out");
    let (response, log) = same(&pair, "dropped", GET);
    assert_eq!((response.status, log.len()), (504, 1), "{log:?}");
    assert!(log[0].contains("while connecting to upstream"), "{log:?}");
}
