//! What health checks have found, where the state is shown.

use super::{Metrics, STATUS};
use crate::prelude::*;
use serde_json::Value;

/// One that answers, one that is not there, one that says nothing, and one that is configured to be down.
struct Servers {
    _ok: Backend,
    _silent: Backend,
    http: String,
    /// Has their sockets, and is to go after them.
    _dir: TempDir,
}

fn servers() -> Servers {
    let dir = nginx::prefix();
    let path = |name: &str| dir.path().join(name);
    let ok = Backend::unix(&path("ok"), |peer| peer.answer(crate::site::OK));
    let silent = Backend::unix(&path("silent"), |peer| peer.read_to_end());
    let at = |name: &str| format!("unix:{}", path(name).display());
    let http = format!(
        "upstream mixed {{
            server {}; server {}; server {} down;
            rs_uwsgi_health_check uri=/ interval=50ms timeout=60s fails=2;
         }}
         upstream silent {{ server {}; rs_uwsgi_health_check uri=/ interval=50ms timeout=60s; }}
         upstream unchecked {{ server {}; }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass mixed; }}
            location /silent {{ rs_uwsgi_pass silent; }}
            location /unchecked {{ rs_uwsgi_pass unchecked; }}
            {STATUS}
         }}",
        at("ok"),
        at("none"),
        at("other"),
        at("silent"),
        at("ok"),
    );
    Servers { _ok: ok, _silent: silent, http, _dir: dir }
}

fn json(nginx: &Nginx) -> Value {
    serde_json::from_slice(&get(nginx.address(), "/status/json").body).unwrap()
}

#[test]
fn states_and_counts() {
    let servers = servers();
    let nginx = Nginx::builder().workers(2).http(&servers.http).start();
    nginx.wait_logged("is down after 2 failures");
    let labels =
        |upstream: &str, server: &str| (format!("upstream=\"{upstream}\""), format!("/{server}\""));
    let of = |metrics: &Metrics, name: &str, upstream: &str, server: &str, more: &str| {
        let (upstream, server) = labels(upstream, server);
        metrics.sum(name, &[&upstream, &server, more])
    };
    let (checks, state) = ("upstream_health_checks_total", "upstream_server_state");
    let metrics = wait_for("both to be checked", || {
        let metrics = Metrics::of(&nginx);
        (of(&metrics, checks, "mixed", "ok", "passed") > 2.0).then_some(metrics)
    });
    assert_eq!(of(&metrics, state, "mixed", "ok", ""), 1.0);
    assert_eq!(of(&metrics, state, "mixed", "none", ""), 6.0);
    assert_eq!(of(&metrics, state, "mixed", "other", ""), 3.0);
    assert_eq!(of(&metrics, state, "silent", "silent", ""), 5.0);
    assert_eq!(of(&metrics, state, "unchecked", "ok", ""), 1.0);
    assert_eq!(of(&metrics, checks, "mixed", "ok", "failed"), 0.0);
    assert_eq!(of(&metrics, checks, "mixed", "none", "passed"), 0.0);
    assert!(of(&metrics, checks, "mixed", "none", "failed") >= 2.0);
    assert_eq!(of(&metrics, "upstream_unhealthy_total", "mixed", "none", ""), 1.0);
    assert_eq!(metrics.sum("upstream_unhealthy_total", &[]), 1.0);
    assert_eq!(metrics.sum(checks, &["unchecked"]), 0.0);

    let json = json(&nginx);
    let peers = &json["upstreams"]["mixed"]["peers"];
    let (ok, none) = (&peers[0]["health_checks"], &peers[1]["health_checks"]);
    assert_eq!((&peers[0]["state"], &ok["last_passed"]), (&"up".into(), &true.into()), "{peers}");
    assert!(ok["checks"].as_u64() > Some(2) && ok["fails"] == 0 && ok["unhealthy"] == 0, "{ok}");
    assert_eq!(peers[1]["state"], "unhealthy");
    assert_eq!((&none["last_result"], &none["unhealthy"]), (&"error".into(), &1.into()), "{none}");
    assert_eq!(none["checks"], none["fails"]);
    // clocks of nginx and of this test are the same
    let since = none["since"].as_f64().unwrap();
    assert!(
        since <= none["last"].as_f64().unwrap() && since > json["counting_since"].as_f64().unwrap()
    );
    assert_eq!(peers[2]["state"], "down");
    let silent = &json["upstreams"]["silent"]["peers"][0];
    assert_eq!(silent["state"], "checking");
    assert_eq!(
        silent["health_checks"],
        serde_json::json!({"checks": 0, "fails": 0, "unhealthy": 0})
    );
    let problem = &json["problems"][0];
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["text"], "it is taken as down: a health check cannot reach it");
    // it is known after a reload as well
    nginx.reload();
    let metrics = Metrics::of(&nginx);
    assert_eq!(of(&metrics, state, "mixed", "none", ""), 6.0);
    assert_eq!(of(&metrics, "upstream_unhealthy_total", "mixed", "none", ""), 1.0);
}

/// Without a zone each worker knows what its own probes have found.
#[test]
fn without_a_zone() {
    let servers = servers();
    let nginx = Nginx::builder().http(&format!("rs_uwsgi_zone off; {}", servers.http)).start();
    nginx.wait_logged("is down after 2 failures");
    let json = json(&nginx);
    assert_eq!(json["upstreams"]["mixed"]["peers"][1]["state"], "unhealthy");
    assert_eq!(json["upstreams"]["silent"]["peers"][0]["state"], "checking");
    assert_eq!(json["upstreams"]["unchecked"]["peers"][0]["state"], "up");
}
