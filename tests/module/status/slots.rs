//! The servers' slots in the zone: they are there before the first request.

use super::*;

/// What the zone has slots for.
fn used(nginx: &Nginx) -> f64 {
    Metrics::of(nginx).sum("zone_servers", &["state=\"used\""])
}

#[test]
fn servers_have_slots_from_the_start() {
    let upstreams = "upstream two { server @pass@; server 127.0.0.1:9; }";
    let plain =
        "location /two { rs_uwsgi_pass two; } location /one { rs_uwsgi_pass 127.0.0.1:10; } \
                 location /tls { rs_uwsgi_pass suwsgi://127.0.0.1:11; }";
    let site = Site::answering(&format!(
        "{upstreams} server {{ listen 127.0.0.1:@port@; {STATUS} {plain} }}"
    ));
    // with TLS a request tells which
    assert_eq!(used(&site.nginx), 3.0);
    get(site.nginx.address(), "/two");
    // and one in which what has no server is counted
    let after = used(&site.nginx);
    assert!(after <= 4.0, "{after}");
    site.nginx.reload();
    assert_eq!(used(&site.nginx), after);
}
