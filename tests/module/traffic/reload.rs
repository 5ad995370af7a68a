//! Reloads under requests: none is lost, none reaches the server twice.

use super::{everything, OK};
use crate::prelude::*;
use std::collections::HashMap;

const RELOADS: usize = 3;

#[test]
fn none_lost_and_none_doubled() {
    let pair = everything("");
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        // Some take long enough to be met by a reload in the middle.
        if request.body.len() % 2 == 1 {
            std::thread::sleep(PAUSE);
        }
        peer.write(OK)
    });
    let stop = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    let number = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for side in SIDES.iter().cycle().take(4) {
            let (pair, stop, sent, number) = (&pair, &stop, &sent, &number);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("/{}", number.fetch_add(1, Ordering::Relaxed));
                    let body = "b".repeat(path.len() % 3 + 1);
                    // Each on a connection of its own: one that is idle when its worker leaves may
                    // be closed by it, which a client has to expect (RFC 9112, 9.5).
                    let response = client::post(pair.address(*side), &path, body.as_bytes());
                    assert_eq!(
                        (response.status, response.text().as_str()),
                        (200, "ok"),
                        "{side:?}"
                    );
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Whatever fails in here, the clients must be stopped.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 1..=RELOADS {
                let before = sent.load(Ordering::Relaxed);
                wait_for("requests before a reload", || {
                    (sent.load(Ordering::Relaxed) > before + 40).then_some(())
                });
                pair.nginx.reload();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    let sent = sent.into_inner();
    let mut seen = HashMap::new();
    for request in pair.backend.requests() {
        *seen.entry(request.packet.get("REQUEST_URI").unwrap()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), sent);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert_eq!(pair.nginx.logged("start worker process ").len(), RELOADS + 1);
}
