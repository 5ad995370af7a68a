//! The servers' slots in the zone: they are there before the first request.

use super::*;

/// What the zone has slots for.
fn used(nginx: &Nginx) -> f64 {
    Metrics::of(nginx).sum("zone_servers", &["state=\"used\""])
}

/// Addresses with one host are upstreams of their own, each with its own server and its own counts.
#[test]
fn ports_of_one_host() {
    let others = [Backend::tcp(|peer| peer.answer(OK)), Backend::tcp(|peer| peer.answer(OK))];
    let [a, b] = [0, 1].map(|number| others[number].address().to_string());
    let nginx = Nginx::start(&format!(
        "rs_uwsgi_cache_path @dir@/cache keys_zone=z:1m;
         server {{
             listen 127.0.0.1:@port@;
             location /a {{ rs_uwsgi_pass {a}; }}
             location /b {{ rs_uwsgi_cache z; rs_uwsgi_cache_key $uri; rs_uwsgi_pass {b}; }}
             {STATUS}
         }}"
    ));
    for path in ["/a", "/b", "/b"] {
        assert_eq!(get(nginx.address(), path).status, 200);
    }
    let metrics = wait_for("all to be counted", || {
        let metrics = Metrics::of(&nginx);
        (metrics.sum("upstream_cache_responses_total", &[]) == 2.0).then_some(metrics)
    });
    for (own, count, cached) in [(&a, 1.0, 0.0), (&b, 2.0, 2.0)] {
        let label = format!("upstream=\"{own}\"");
        let server = format!("server=\"{own}\"");
        assert_eq!(metrics.sum("upstream_requests_total", &[&label]), count);
        assert_eq!(metrics.sum("upstream_requests_total", &[&label, &server]), count);
        assert_eq!(metrics.sum("upstream_cache_responses_total", &[&label]), cached);
    }
}

/// A server that the zone has no room for is counted as such, by all workers.
#[test]
fn a_zone_that_is_full() {
    let backends: Vec<_> = (0..80).map(|_| Backend::tcp(|peer| peer.answer(OK))).collect();
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass $arg_to; }} {STATUS}"));
    let room = Metrics::of(&nginx).sum("zone_servers", &["state=\"free\""]);
    let ask = |backend: &Backend| {
        let path = format!("/?to={}", backend.address());
        assert_eq!(get(nginx.address(), &path).status, 200);
    };
    backends.iter().for_each(ask);
    let full = Metrics::of(&nginx).sum("zone_full_total", &[]);
    assert!(full > 0.0 && full <= 80.0 - room + 1.0, "{full} beyond {room}");
    ask(&backends[79]);
    let metrics = Metrics::of(&nginx);
    assert_eq!(metrics.sum("zone_full_total", &[]), full + 1.0);
    assert_eq!(metrics.sum("zone_servers", &["state=\"free\""]), 0.0);
    let json = get(nginx.address(), "/status/json?history=0").text();
    assert!(json.contains(&format!("\"full\":{}", full + 1.0)), "{json}");
    assert_eq!(nginx.logged("zone has no room for").len(), 1);
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
