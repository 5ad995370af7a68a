//! A server that hangs (it takes connections, and answers nothing): what it has is given to another, as far as that may
//! be done.

use super::paths;
use crate::prelude::*;

/// Answers pings and requests while it may, and then neither.
fn script(name: &'static str, hangs: Arc<AtomicBool>) -> impl Fn(&mut Peer) -> io::Result<()> {
    move |peer| {
        let packet = peer.read_packet()?;
        if packet.modifier1 == 100 {
            return match hangs.load(Ordering::SeqCst) {
                true => peer.stall(),
                false => peer.write(&[100, 0, 0, 1]),
            };
        }
        let length = packet.get("CONTENT_LENGTH").unwrap_or_default().parse().unwrap_or(0);
        peer.read_exact(length)?;
        if packet.get("PATH_INFO").as_deref() == Some("/begun") {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")?;
        } else if hangs.load(Ordering::SeqCst) {
            wait_for("the server to go on", || (!hangs.load(Ordering::SeqCst)).then_some(()));
        }
        if packet.get("PATH_INFO").as_deref() == Some("/begun") {
            wait_for("the server to go on", || (!hangs.load(Ordering::SeqCst)).then_some(()));
            return peer.write(name.as_bytes());
        }
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}").as_bytes())
    }
}

/// Requests that may be repeated are answered by the other server, long before `rs_uwsgi_read_timeout`, whichever
/// worker has them. One that may not be, and one whose answer has begun, wait for the server that has them.
#[test]
fn what_a_server_that_hangs_has() {
    let (_dir, a, b) = paths();
    let hangs = Arc::new(AtomicBool::new(false));
    let first = Backend::unix(&a, script("a", hangs.clone()));
    let _second = Backend::unix(&b, script("b", Arc::default()));
    let nginx = Nginx::builder().workers(2).http(&format!(
        "upstream u {{
             server unix:{} max_fails=0; server unix:{} backup;
             rs_uwsgi_health_check ping interval=50ms timeout=200ms fails=2 passes=2;
         }}
         server {{
             listen 127.0.0.1:@port@ reuseport;
             location / {{ rs_uwsgi_read_timeout 600s; rs_uwsgi_pass u; }}
         }}",
        a.display(),
        b.display()
    ));
    let nginx = nginx.start();
    nginx.worker_ids();
    assert_eq!(get(nginx.address(), "/").text(), "a");
    hangs.store(true, Ordering::SeqCst);
    let begin = |request: &str| {
        let mut client = Client::connect(nginx.address());
        client.send(request.as_bytes());
        client
    };
    let mut post = begin("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    let mut begun = begin("GET /begun HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut gets: Vec<_> = (0..8).map(|_| begin("GET / HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    for client in &mut gets {
        assert_eq!(client.response(false).unwrap().text(), "b");
    }
    let line = nginx.wait_logged("go to another server");
    assert!(line.text.contains(&format!("that \"unix:{}\" has not answered", a.display())));
    // no new one goes there
    let asked = first.connection_count();
    for _ in 0..5 {
        assert_eq!(get(nginx.address(), "/").text(), "b");
    }
    assert!(first.connections()[asked..].iter().all(|connection| connection.received.len() <= 4));
    hangs.store(false, Ordering::SeqCst);
    assert_eq!(post.response(false).unwrap().text(), "a");
    assert_eq!(begun.response(false).unwrap().text(), "a");
    nginx.wait_logged(super::UP);
    assert_eq!(get(nginx.address(), "/").text(), "a");
}

/// Those that wait for a connection to it, whatever their method: nothing of them was sent.
#[test]
fn what_waits_for_a_server_that_hangs() {
    let (_dir, a, b) = paths();
    let hangs = Arc::new(AtomicBool::new(false));
    let _first = Backend::unix(&a, script("a", hangs.clone()));
    let _second = Backend::unix(&b, script("b", Arc::default()));
    // of two servers the other would be asked at once; of one that is a backup, too
    let site = super::builder(
        &format!(
            "server unix:{} max_fails=0; server unix:{} backup; rs_uwsgi_max_connections 1;
             rs_uwsgi_health_check ping interval=50ms timeout=200ms fails=2 passes=2;",
            a.display(),
            b.display()
        ),
        "rs_uwsgi_next_upstream timeout; rs_uwsgi_queue 10 timeout=600s; rs_uwsgi_read_timeout 600s;",
    );
    let nginx = site.log_level("debug_http").start();
    assert_eq!(get(nginx.address(), "/").text(), "a");
    hangs.store(true, Ordering::SeqCst);
    let begin = || {
        let mut client = Client::connect(nginx.address());
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        client
    };
    let mut first = begin();
    wait_for("it to be sent", || (_first.connection_count() > 1).then_some(()));
    let mut waits = begin();
    assert_eq!(waits.response(false).unwrap().text(), "b");
    nginx.wait_logged("1 requests that");
    hangs.store(false, Ordering::SeqCst);
    assert_eq!(first.response(false).unwrap().text(), "a");
}
