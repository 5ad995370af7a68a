//! Clients that leave while the server works on their requests, which nobody can help.

use super::max_connections::CLOSED;
use super::workers::{queued, site};
use super::{answers, get, send};
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
    let nginx = site(1, "", &address, "rs_uwsgi_max_connections 1;");
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
}
