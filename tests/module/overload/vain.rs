//! Clients that leave while the server works on their requests, which nobody can help.

use super::max_connections::CLOSED;
use super::workers::{queued, site};
use super::{answers, get, send};
use crate::status::Metrics;
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::nginx;
use crate::support::wait_for;

/// The one that the server has is counted; one that waits, and one that was answered, are not.
#[test]
fn worked_in_vain() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        let request = peer.read_request()?;
        match request.packet.get("REQUEST_URI").as_deref() {
            Some("/slow") => peer.stall(),
            _ => peer.write(CLOSED),
        }
    });
    let address = backend.address().to_string();
    let settings = "rs_uwsgi_max_connections 1; location /status/ { rs_uwsgi_status; }";
    let nginx = site(1, "", &address, settings);
    answers(send(nginx.address(), &[get("/")]));
    let mut slow = Client::connect(nginx.address());
    slow.send(&get("/slow"));
    backend.wait_request(1);
    let mut waiting = Client::connect(nginx.address());
    waiting.send(&get("/waits"));
    wait_for("it to wait", || (queued(&nginx) == 1).then_some(()));
    drop(waiting);
    nginx.wait_requests(2);
    drop(slow);
    let line = nginx.wait_logged("client has left while");
    assert!(line.text.contains(&address), "{}", line.text);
    nginx.wait_requests(3);
    answers(send(nginx.address(), &[get("/")]));
    assert_eq!(nginx.logged("client has left while").len(), 1);
    let metrics = Metrics::of(&nginx);
    assert_eq!(metrics.sum("upstream_worked_in_vain_total", &[]), 1.0);
    let ends = metrics.by_label("upstream_queue_requests_total");
    assert_eq!(ends.get("client_gone"), Some(&1.0), "{ends:?}");
}
