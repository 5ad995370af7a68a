//! Servers that leave while nginx runs: they finish what they have, and lose their idle connections. And servers
//! that nginx looks up while it runs.

use super::{answers, paths, wait_lines, DOWN, SOON};
use crate::prelude::*;
use crate::reuse::balancers::has;
use crate::status::Metrics;
use std::net::Ipv4Addr;

/// Keeps its connections, says its name, and answers requests of "/slow" when it may.
fn script(name: &'static str, may: Arc<AtomicBool>) -> impl Fn(&mut Peer) -> io::Result<()> {
    move |peer| loop {
        let request = peer.read_request()?;
        if request.packet.get("REQUEST_URI").is_some_and(|uri| uri.starts_with("/slow")) {
            wait_for("the end of the slow request", || may.load(Ordering::Relaxed).then_some(()));
        }
        peer.write(
            format!("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n{name}")
                .as_bytes(),
        )?;
    }
}

/// A request that takes long, and beside it an idle connection, both to this backend.
fn busy_and_idle(nginx: &Nginx, backend: &Backend) -> std::thread::JoinHandle<Response> {
    let to = nginx.address();
    let before = backend.requests().len();
    let slow = std::thread::spawn(move || get(to, "/slow"));
    backend.wait_request(before);
    assert_eq!(get(to, "/").status, 200);
    assert_eq!(backend.requests().len(), before + 2);
    slow
}

/// Has the connection of a quick request ended, and that of the slow one not?
fn wait_idle_closed(backend: &Backend) {
    let of = |path: &str| {
        let requests = backend.requests();
        let is = |uri: Option<String>| uri.is_some_and(|uri| uri == path);
        let last = requests.iter().rev().find(|request| is(request.packet.get("REQUEST_URI")));
        backend.connections()[last.unwrap().connection].ended
    };
    wait_for("the idle connection to be closed", || of("/").then_some(()));
    assert!(!of("/slow"), "the one in use is not");
}

/// Nothing is left of the connections to it.
fn wait_all_closed(backend: &Backend) {
    wait_for("all to be closed", || {
        backend.connections().iter().all(|connection| connection.ended).then_some(())
    });
}

/// A reload marks a server "down", or, where nginx has that, "drain".
#[test]
fn marked_by_a_reload() {
    marked("down");
    if has("sticky") {
        marked("drain");
    }
}

fn marked(mark: &str) {
    let (_dir, a, b) = paths();
    let may = Arc::new(AtomicBool::new(false));
    let first = Backend::unix(&a, script("a", may.clone()));
    let _second = Backend::unix(&b, script("b", may.clone()));
    let server = format!("server unix:{}", a.display());
    let nginx = super::site(&format!(
        "{server}; server unix:{} backup; rs_uwsgi_health_check interval=50ms;",
        b.display()
    ));
    let slow = busy_and_idle(&nginx, &first);
    let path = nginx.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&server, &format!("{server} {mark}"))).unwrap();
    nginx.signal(libc::SIGHUP);
    wait_idle_closed(&first);
    wait_for("the new worker", || (get(nginx.address(), "/").text() == "b").then_some(()));
    let asked = first.requests().len();
    assert_eq!(answers(&nginx, 5), ["b"; 5], "{mark}");
    assert_eq!(first.requests().len(), asked, "{mark}");
    may.store(true, Ordering::Relaxed);
    assert_eq!(slow.join().unwrap().text(), "a");
    // what the old worker had is closed, and nobody probes it any more
    wait_all_closed(&first);
}

/// Another server stands behind a name: it is probed before it is asked, and the one before is let go.
#[test]
fn gone_by_resolve() {
    if !has("resolver") {
        return;
    }
    let may = Arc::new(AtomicBool::new(false));
    let first = Backend::tcp(script("a", may.clone()));
    let second = Backend::tcp(script("b", may.clone()));
    for check in ["", "rs_uwsgi_health_check interval=50ms;"] {
        may.store(false, Ordering::Relaxed);
        let probed = second.connection_count();
        let dns =
            Dns::start(&[("one.test", Ipv4Addr::LOCALHOST), ("two.test", Ipv4Addr::LOCALHOST)]);
        dns.set_service("_uwsgi._tcp.app.test", port_of(&first), "one.test");
        let nginx = Nginx::start(&format!(
            "upstream u {{
                zone u 1m; resolver {} ipv6=off valid=1s; server app.test service=uwsgi resolve;
                {check}
             }}
             server {{
                listen 127.0.0.1:@port@;
                location / {{ rs_uwsgi_pass u; }}
                location /status/ {{ rs_uwsgi_status; }}
             }}",
            dns.address()
        ));
        nginx.expects("no live upstreams");
        wait_for("the service", || (get(nginx.address(), "/").status == 200).then_some(()));
        let slow = busy_and_idle(&nginx, &first);
        if !check.is_empty() {
            wait_for("it to be probed", || {
                (get(nginx.address(), "/status/health/u").text() == "up: 1 of 1 servers\n")
                    .then_some(())
            });
        }
        dns.set_service("_uwsgi._tcp.app.test", port_of(&second), "two.test");
        wait_idle_closed(&first);
        let closed = Metrics::of(&nginx).by_label("upstream_connections_closed_total");
        assert_eq!(closed.get("idle_gone"), Some(&1.0), "{closed:?}");
        if !check.is_empty() {
            wait_for("the other to be probed", || {
                (second.connection_count() > probed + 2).then_some(())
            });
            assert_eq!(get(nginx.address(), "/status/health/u").text(), "up: 1 of 1 servers\n");
            let before = first.connection_count();
            let goal = second.connection_count() + 4;
            wait_for("more probes", || (second.connection_count() > goal).then_some(()));
            assert_eq!(first.connection_count(), before, "it is probed no more");
        }
        assert_eq!(answers(&nginx, 5), ["b"; 5]);
        may.store(true, Ordering::Relaxed);
        assert_eq!(slow.join().unwrap().text(), "a");
        wait_all_closed(&first);
    }
}

/// Of two names one stands for a server that is down: it is passed over.
#[test]
fn down_by_resolve() {
    if !has("resolver") {
        return;
    }
    let live = Backend::tcp(script("a", Arc::default()));
    let port = port_of(&live);
    // nobody listens at this address
    let none = Ipv4Addr::new(127, 0, 0, 99);
    let dns = Dns::start(&[("a.test", Ipv4Addr::LOCALHOST), ("b.test", none)]);
    let nginx = Nginx::start(&format!(
        "upstream u {{
            zone u 1m; resolver {} ipv6=off valid=1s;
            server b.test:{port} resolve max_fails=0; server a.test:{port} resolve max_fails=0;
            rs_uwsgi_health_check {SOON};
         }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass u; }}
            location /status/ {{ rs_uwsgi_status; }}
         }}",
        dns.address()
    ));
    wait_lines(&nginx, DOWN, 1);
    wait_for("the other name", || {
        (get(nginx.address(), "/status/health/u").text() == "up: 1 of 2 servers\n").then_some(())
    });
    assert_eq!(answers(&nginx, 20), vec!["a"; 20]);
    assert_eq!(nginx.logged("connect() failed").len(), 0);
}

fn port_of(backend: &Backend) -> u16 {
    match backend.address() {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => unreachable!(),
    }
}
