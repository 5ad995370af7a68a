//! Requests of requests: they end as others do, and those that they belong to go on.

use super::{get, OnePlace, OK};
use crate::prelude::*;

#[test]
fn included() {
    let locations = "location = /page { ssi on; ssi_types *;
            return 200 '<!--# include virtual=\"/part\" -->!'; }
        location / { rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    assert_eq!(site.end(&get("/page")).text(), "ok!");
}

/// The request has its own turn after the one that authorizes it.
#[test]
fn authorized() {
    let locations = "location = /page { auth_request /auth; rs_uwsgi_pass @pass@; }
        location / { internal; rs_uwsgi_param REQUEST_URI /auth; rs_uwsgi_pass_request_body off;
            rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    assert_eq!(site.end(&get("/page")).text(), "ok");
}

#[test]
fn refused_by_authorization() {
    let locations = "location = /page { auth_request /auth; rs_uwsgi_pass @pass@; }
        location / { internal; rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")?;
        peer.close();
        Ok(())
    });
    assert_eq!(site.end(&get("/page")).status, 403);
}

#[test]
fn background_update() {
    let locations = "location / { rs_uwsgi_cache zone; rs_uwsgi_cache_key $request_uri;
        rs_uwsgi_cache_valid 1s; rs_uwsgi_cache_use_stale updating;
        rs_uwsgi_cache_background_update on; rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    site.open();
    assert_eq!(site.send(&get("/")).response(false).unwrap().text(), "ok");
    std::thread::sleep(Duration::from_millis(2100));
    // what is old is what the client gets, and the new one comes after it
    assert_eq!(site.send(&get("/")).response(false).unwrap().text(), "ok");
    wait_for("the update", || (site.seen.lock().unwrap().len() == 2).then_some(()));
    site.assert_free();
    assert_eq!(site.backend.connection_count(), 3);
}

/// The request goes on elsewhere when the client has its response.
#[test]
fn post_action() {
    let locations = "location /after { rs_uwsgi_pass @pass@; }
        location / { post_action /after; rs_uwsgi_pass @pass@; }";
    let site = OnePlace::new(locations, |peer, _| {
        peer.write(OK)?;
        peer.close();
        Ok(())
    });
    let mut client = site.send(&get("/"));
    site.wait_seen(1);
    let next = site.wait_behind(1);
    site.open();
    assert_eq!(client.response(false).unwrap().text(), "ok");
    site.wait_seen(3);
    site.assert_next(next);
}

/// The server has answered once, as `first`, and then does as `then`, for which the cache has something else to
/// give. `then` comes with its head alone.
fn stale(settings: &str, then: &'static [u8]) {
    let locations = format!(
        "location / {{ rs_uwsgi_cache zone; rs_uwsgi_cache_key $request_uri;
        rs_uwsgi_cache_valid 200 1s; {settings} rs_uwsgi_pass @pass@; }}"
    );
    let count = AtomicUsize::new(0);
    let site = OnePlace::new(&locations, move |peer, _| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => peer.write(
                b"HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                  Content-Length: 2\r\n\r\nok",
            )?,
            _ => peer.write(then)?,
        }
        peer.close();
        Ok(())
    });
    site.open();
    assert_eq!(site.send(&get("/")).response(false).unwrap().text(), "ok");
    std::thread::sleep(Duration::from_millis(2100));
    site.open.store(false, Ordering::SeqCst);
    let mut client = site.send(&get("/"));
    site.wait_seen(2);
    let next = site.wait_behind(1);
    site.open();
    let response = client.response(false).unwrap();
    assert_eq!((response.status, response.text()), (200, "ok".into()));
    site.assert_next(next);
}

#[test]
fn stale_after_an_error() {
    stale("rs_uwsgi_cache_use_stale error;", b"");
}

#[test]
fn stale_after_a_status() {
    stale("rs_uwsgi_cache_use_stale http_503;", b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
}

#[test]
fn not_modified() {
    stale("rs_uwsgi_cache_revalidate on;", b"HTTP/1.1 304 Same\r\n\r\n");
}
