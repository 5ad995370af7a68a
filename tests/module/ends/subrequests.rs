//! Requests of requests: they end as others do, and those that they belong to go on.

use super::{get, Site, OK};
use crate::support::wait_for;
use std::time::Duration;

#[test]
fn included() {
    let locations = "location = /page { ssi on; ssi_types *;
            return 200 '<!--# include virtual=\"/part\" -->!'; }
        location / { rs_uwsgi_pass @pass@; }";
    let site = Site::new(locations, |peer, _| {
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
    let site = Site::new(locations, |peer, _| {
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
    let site = Site::new(locations, |peer, _| {
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
    let site = Site::new(locations, |peer, _| {
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
