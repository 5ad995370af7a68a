//! `rs_uwsgi_status_zone`.

use super::{answering_server, Metrics, STATUS};
use crate::prelude::*;

#[test]
fn requests_by_name() {
    let site = Site::answering(&format!(
        "server {{
            listen 127.0.0.1:@port@;
            rs_uwsgi_status_zone site;
            {STATUS}
            location / {{ rs_uwsgi_pass @pass@; }}
            location /shop/ {{ rs_uwsgi_status_zone shop; rs_uwsgi_pass @pass@; }}
            location /static/ {{ rs_uwsgi_status_zone shop; return 404; }}
            location /by/ {{ rs_uwsgi_status_zone $arg_name; return 204; }}
        }}"
    ));
    let to = site.nginx.address();
    for path in ["/", "/shop/", "/shop/a", "/static/a", "/by/?name=a%22b", "/by/?name=x", "/by/"] {
        get(to, path);
    }
    let metrics = Metrics::of(&site.nginx);
    let requests = metrics.by_label("location_requests_total");
    let expected = [("a%22b", 1.0), ("shop", 3.0), ("site", 1.0), ("x", 1.0)];
    assert_eq!(requests, expected.map(|(name, count)| (name.to_owned(), count)).into());
    assert_eq!(metrics.sum("location_responses_total", &["shop", "code=\"404\""]), 1.0);
    assert_eq!(metrics.sum("location_responses_total", &["shop", "code=\"2xx\""]), 2.0);
    assert!(metrics.sum("location_sent_bytes_total", &["shop"]) > 100.0);
    assert!(metrics.sum("location_received_bytes_total", &["shop"]) > 30.0);
}

/// Names that clients choose are bounded.
#[test]
fn names_without_end() {
    let site = answering_server(&format!(
        "{STATUS} location / {{ rs_uwsgi_status_zone $arg_name; return 204; }}"
    ));
    let mut client = Client::connect(site.nginx.address());
    for number in 0..200 {
        client.send(format!("GET /?name=n{number} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(client.response(false).unwrap().status, 204);
    }
    let requests = Metrics::of(&site.nginx).by_label("location_requests_total");
    assert_eq!(requests.len(), 129);
    assert_eq!(requests["other"], 72.0);
    assert_eq!(requests["n127"], 1.0);
}
