//! Responses, whole and not, and clients that leave before they have them.

use super::{get, post, OnePlace, OK, PLAIN};
use crate::prelude::*;
use crate::reuse::KEPT;

const UNBUFFERED: &str = "location / { rs_uwsgi_buffering off; rs_uwsgi_pass @pass@; }";
/// Times short enough for a server that does nothing.
const IMPATIENT: &str = "location / { rs_uwsgi_read_timeout 500ms; rs_uwsgi_send_timeout 500ms;
    rs_uwsgi_pass @pass@; }";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";

/// A site whose server answers with these bytes, and closes.
fn answers(locations: &str, answer: &'static [u8]) -> OnePlace {
    OnePlace::new(locations, move |peer, _| closes(peer, answer))
}

fn closes(peer: &mut Peer, answer: &[u8]) -> io::Result<()> {
    peer.write(answer)?;
    peer.close();
    Ok(())
}

/// A site whose server answers so and then says nothing more.
fn stalls(locations: &str, answer: &'static [u8]) -> OnePlace {
    OnePlace::new(locations, move |peer, _| {
        peer.write(answer)?;
        peer.stall()?;
        peer.close();
        Ok(())
    })
}

fn answer(response: &Response) -> (u16, String, End) {
    (response.status, response.text(), response.end)
}

#[test]
fn whole() {
    let response = answers(PLAIN, OK).end(&get("/"));
    assert_eq!(answer(&response), (200, "ok".into(), End::Length));
}

/// The one that waits gets the same connection.
#[test]
fn kept() {
    let site = OnePlace::new(PLAIN, |peer, _| peer.write(KEPT));
    assert_eq!(site.end(&get("/")).text(), "ok");
    assert_eq!(site.backend.connection_count(), 2);
}

#[test]
fn in_pieces() {
    let site = OnePlace::new(PLAIN, |peer, _| {
        peer.write_pieces(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            20,
            Duration::from_millis(20),
        )
    });
    assert_eq!(site.end(&get("/")).text(), "ok");
}

#[test]
fn chunked() {
    let response = answers(
        PLAIN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    assert_eq!(response.end(&get("/")).text(), "ok");
}

#[test]
fn until_close() {
    assert_eq!(answers(PLAIN, b"HTTP/1.1 200 OK\r\n\r\nok").end(&get("/")).text(), "ok");
}

#[test]
fn cached() {
    let location = "location / { rs_uwsgi_cache zone; rs_uwsgi_cache_key $request_uri;
        rs_uwsgi_cache_valid 1m; rs_uwsgi_pass @pass@; }";
    assert_eq!(answers(location, OK).end(&get("/")).text(), "ok");
}

#[test]
fn stored() {
    let location = "location / { rs_uwsgi_store @dir@/stored; rs_uwsgi_pass @pass@; }";
    assert_eq!(answers(location, OK).end(&get("/")).text(), "ok");
}

#[test]
fn unbuffered() {
    for answer in [OK, b"HTTP/1.1 200 OK\r\n\r\nok"] {
        assert_eq!(answers(UNBUFFERED, answer).end(&get("/")).text(), "ok");
    }
}

#[test]
fn unbuffered_chunked() {
    let site = answers(
        UNBUFFERED,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    assert_eq!(site.end(&get("/")).text(), "ok");
}

#[test]
fn head() {
    let response = answers(PLAIN, HEAD).end(&get("/").replace("GET", "HEAD"));
    assert_eq!(answer(&response), (200, String::new(), End::NoBody));
}

#[test]
fn no_content() {
    assert_eq!(answers(PLAIN, b"HTTP/1.1 204 No\r\n\r\n").end(&get("/")).status, 204);
}

#[test]
fn cut() {
    let site = answers(PLAIN, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok");
    assert_eq!(site.end(&get("/")).end, End::Cut);
}

#[test]
fn cut_unbuffered() {
    let site = answers(UNBUFFERED, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok");
    assert_eq!(site.end(&get("/")).end, End::Cut);
}

#[test]
fn bad_chunks() {
    let bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk";
    for location in [PLAIN, UNBUFFERED] {
        let site = answers(location, bad);
        site.end_by(&get("/"), |mut client| client.read_to_end());
    }
}

#[test]
fn closed() {
    assert_eq!(answers(PLAIN, b"").end(&get("/")).status, 502);
}

#[test]
fn reset() {
    let site = OnePlace::new(PLAIN, |peer, _| peer.reset());
    assert_eq!(site.end(&post("/", 0)).status, 502);
}

#[test]
fn invalid_head() {
    assert_eq!(answers(PLAIN, b"HTTP/1.1 200 OK\r\n:no name\r\n\r\n").end(&get("/")).status, 502);
}

#[test]
fn too_large_head() {
    let site = OnePlace::new(PLAIN, |peer, _| {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        closes(peer, head.as_bytes())
    });
    assert_eq!(site.end(&get("/")).status, 502);
}

#[test]
fn silent() {
    assert_eq!(stalls(IMPATIENT, b"").end(&get("/")).status, 504);
}

#[test]
fn silent_in_the_body() {
    assert_eq!(stalls(IMPATIENT, HEAD).end(&get("/")).end, End::Cut);
}

#[test]
fn silent_in_an_unbuffered_body() {
    let location = IMPATIENT.replace("rs_uwsgi_pass", "rs_uwsgi_buffering off; rs_uwsgi_pass");
    assert_eq!(stalls(&location, HEAD).end(&get("/")).end, End::Cut);
}

/// The server answers without having read what was sent.
#[test]
fn early() {
    let site = OnePlace::new(PLAIN, |peer, _| closes(peer, OK));
    let request = post("/", 500_000) + &"x".repeat(500_000);
    assert_eq!(site.end(&request).text(), "ok");
}

#[test]
fn upload_not_taken() {
    let site = OnePlace::new(PLAIN, |peer, _| {
        peer.close();
        Ok(())
    });
    let request = post("/", 1_000_000) + &"x".repeat(1_000_000);
    assert_eq!(site.end(&request).status, 502);
}

#[test]
fn upload_not_taken_in_time() {
    let site = OnePlace::new(IMPATIENT, |peer, _| {
        peer.wait_hangup()?;
        peer.close();
        Ok(())
    });
    let request = post("/", 1_000_000) + &"x".repeat(1_000_000);
    assert_eq!(site.end(&request).status, 504);
}

#[test]
fn client_leaves() {
    stalls(PLAIN, b"").end_by(&get("/"), drop);
}

#[test]
fn client_leaves_in_the_body() {
    stalls(UNBUFFERED, HEAD).end_by(&get("/"), |mut client| {
        client.read_head().unwrap();
    });
}

#[test]
fn client_leaves_in_a_large_body() {
    for location in [PLAIN, UNBUFFERED] {
        let site = OnePlace::new(location, |peer, _| {
            peer.write(b"HTTP/1.1 200 OK\r\n\r\n")?;
            while peer.write(&[b'x'; 65536]).is_ok() {}
            peer.close();
            Ok(())
        });
        site.end_by(&get("/"), |mut client| {
            client.read_head().unwrap();
            client.read_exact(100_000).unwrap();
        });
    }
}

#[test]
fn client_leaves_in_the_upload() {
    let location = "location / { rs_uwsgi_request_buffering off; rs_uwsgi_pass @pass@; }";
    let site = stalls(location, b"");
    site.end_by(&(post("/", 100) + "some"), drop);
}

/// A server that speaks another protocol from now on, and ends when it has read `bye`.
fn upgrade() -> OnePlace {
    OnePlace::new(PLAIN, |peer, _| {
        peer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")?;
        let mut word = [0; 3];
        let _ = peer.read_some(&mut word)?;
        peer.close();
        Ok(())
    })
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";

fn switched(client: &mut Client) {
    assert!(client.read_head().unwrap().starts_with(b"HTTP/1.1 101"));
}

#[test]
fn upgraded_and_closed_by_the_server() {
    upgrade().end_by(UPGRADE, |mut client| {
        switched(&mut client);
        client.send(b"bye");
        client.read_to_end();
    });
}

#[test]
fn upgraded_and_closed_by_the_client() {
    upgrade().end_by(UPGRADE, |mut client| switched(&mut client));
}
