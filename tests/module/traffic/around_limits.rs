//! `limit_req`, `limit_conn` and `limit_except` in front of the module.

use super::{get, request, OK};
use crate::prelude::*;

/// Each side has counters of its own: the keys begin with the server's address.
fn site(server: &str) -> Pair {
    let builder = Nginx::builder().http(
        "limit_req_zone $server_addr$uri zone=requests:1m rate=1r/m;
        limit_conn_zone $server_addr zone=connections:1m;",
    );
    Pair::builder(&format!("{STANDARD_PARAMS} {server}")).nginx(builder).start()
}

#[test]
fn requests() {
    let pair = site(
        "limit_req_status 429;
        location / { limit_req zone=requests burst=2 nodelay; uwsgi_pass @pass@; }
        location /one { limit_req zone=requests; uwsgi_pass @pass@; }
        location /dry { limit_req zone=requests; limit_req_dry_run on; uwsgi_pass @pass@; }",
    );
    pair.backend.set_script(|peer| peer.answer(OK));
    for (path, expected) in
        [("/", [200, 200, 200, 429]), ("/one", [200, 429, 429, 429]), ("/dry", [200; 4])]
    {
        for side in SIDES {
            let before = pair.backend.requests().len();
            let statuses = expected.map(|_| exchange(pair.address(side), &get(path)).status);
            assert_eq!(statuses, expected, "{side:?} {path}");
            // What was refused did not reach the server.
            let passed = expected.iter().filter(|status| **status == 200).count();
            assert_eq!(pair.backend.requests().len() - before, passed, "{side:?} {path}");
        }
    }
}

#[test]
fn connections() {
    let pair = site("limit_conn connections 1; location / { uwsgi_pass @pass@; }");
    for side in SIDES {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        pair.backend.set_script(move |peer| {
            peer.read_request()?;
            let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
            peer.write(OK)
        });
        let before = pair.backend.requests().len();
        let mut held = Client::connect(pair.address(side));
        held.send(&get("/"));
        pair.backend.wait_request(before);
        assert_eq!(exchange(pair.address(side), &get("/")).status, 503, "{side:?}");
        assert_eq!(pair.backend.requests().len(), before + 1, "{side:?}");
        drop(go);
        assert_eq!(held.response(false).unwrap().status, 200, "{side:?}");
        // The connection counts until its request has been logged.
        let free = || (exchange(pair.address(side), &get("/")).status == 200).then_some(());
        wait_for("the limit to be free again", free);
    }
}

#[test]
fn methods() {
    let pair = site("location / { limit_except GET { deny all; } uwsgi_pass @pass@; }");
    pair.backend.set_script(|peer| peer.answer(OK));
    for (method, path, status) in
        [("GET", "/", 200), ("HEAD", "/", 200), ("POST", "/", 403), ("DELETE", "/", 403)]
    {
        let (response, _) = super::same(&pair, method, &request(method, path, b""));
        assert_eq!(response.status, status, "{method} {path}");
    }
}
