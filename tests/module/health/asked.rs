//! `health` below a location of `rs_uwsgi_status`, for a load balancer in front.

use super::{named, paths, wait_lines, DOWN, SOON, UP};
use crate::prelude::*;

fn answer(nginx: &Nginx, path: &str) -> (u16, String) {
    let response = get(nginx.address(), &format!("/status/health{path}"));
    assert_eq!(response.header("Content-Type"), Some("text/plain; charset=utf-8"), "{path}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{path}");
    (response.status, response.text())
}

/// 200 while each upstream has a server that is not down, 503 with those that have none, and 404 for one that is
/// none.
#[test]
fn for_all_and_by_upstream() {
    let (dir, a, b) = paths();
    let c = dir.path().join("c");
    let first = named(&a, "a");
    let nginx = Nginx::start(&format!(
        "upstream u {{
            server unix:{0};
            server unix:{1};
            rs_uwsgi_health_check {SOON};
         }}
         upstream unchecked {{ server unix:{2}; }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass u; }}
            location /single {{ rs_uwsgi_pass unix:{2}; rs_uwsgi_health_check {SOON}; }}
            location /unchecked {{ rs_uwsgi_pass unchecked; }}
            location /status/ {{ rs_uwsgi_status; }}
         }}",
        a.display(),
        b.display(),
        c.display()
    ));
    // one of `u`, and the single address
    wait_lines(&nginx, DOWN, 2);
    let single = format!("unix:{}", c.display());
    let up = |text: &str| (200, format!("up: {text}\n"));
    let down = |text: &str| (503, format!("down: {text}\n"));
    assert_eq!(answer(&nginx, ""), down(&single));
    assert_eq!(answer(&nginx, "/u"), up("1 of 2 servers"));
    assert_eq!(answer(&nginx, &format!("/{single}")), down(&single));
    assert_eq!(answer(&nginx, "/unchecked"), up("not checked"));
    assert_eq!(get(nginx.address(), "/status/health/none").status, 404);
    let _c = named(&c, "c");
    nginx.wait_logged(UP);
    assert_eq!(answer(&nginx, ""), up("2 of 3 servers"));
    drop(first);
    wait_lines(&nginx, DOWN, 3);
    assert_eq!(answer(&nginx, ""), down("u"));
    let head = exchange(nginx.address(), b"HEAD /status/health HTTP/1.0\r\n\r\n");
    assert_eq!((head.status, head.text()), (503, String::new()));
}
