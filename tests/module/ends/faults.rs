//! Faults of our own: a step that panics ends its request, and leaves nothing behind.

use super::{get, post, OnePlace, PLAIN};
use crate::prelude::*;

/// Each step that every request takes, and the status where it fails: that of the response where its
/// head has been sent.
const STEPS: [(&str, Option<u16>); 9] = [
    ("content", Some(500)),
    ("body_ready", Some(500)),
    ("create_request", Some(500)),
    ("choose_connection", Some(500)),
    ("process_header", Some(500)),
    ("input_filter_init", None),
    ("decode_chunks", None),
    ("finalize_request", Some(200)),
    ("release_connection", Some(200)),
];

/// A response that takes all steps, with a connection that stays open.
const CHUNKS: &[u8] =
    b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nok\r\n0\r\n\r\n";

#[test]
fn a_step_that_panics() {
    for (step, status) in STEPS {
        for request in [get(&format!("/fault/{step}")), post(&format!("/fault/{step}"), 0)] {
            let site = OnePlace::with_faults(PLAIN, |peer, _| peer.write(CHUNKS));
            site.open();
            let mut client = site.send(&request);
            let response = client.response(false);
            if let Some(status) = status {
                assert_eq!(response.unwrap().status, status, "{step}");
            }
            assert!(!site.nginx.logged("asked to fail").is_empty(), "{step}");
            // the only place is free, for as many as come
            for _ in 0..3 {
                site.assert_free();
            }
            assert!(site.nginx.logged("exited on signal").is_empty(), "{step}");
        }
    }
}

/// The step that answers a request whose vars the server has refused.
#[test]
fn the_answer_to_a_request_that_is_too_large() {
    let site = OnePlace::with_faults(PLAIN, |peer, _| peer.write(CHUNKS));
    site.backend.set_script(|peer| {
        peer.read_exact(4)?;
        peer.close();
        Ok(())
    });
    let cookie = format!("Cookie: {}\r\n", "c".repeat(5000));
    let mut client = site.send(&super::get_with("/fault/answer_cut", &cookie));
    assert_eq!(client.response(false).unwrap().status, 500);
    site.backend.set_script(|peer| peer.answer(super::NEXT));
    site.assert_free();
}

/// One that waits is forgotten, whichever of its steps fails.
#[test]
fn a_step_of_a_request_that_waits() {
    let site = OnePlace::with_faults(PLAIN, |peer, _| peer.write(CHUNKS));
    let mut first = site.send(&get("/"));
    site.wait_seen(1);
    let leaves = site.send(&get("/fault/release_connection"));
    super::wait_busy(&site.nginx, 2);
    let next = site.wait_behind(2);
    drop(leaves);
    super::wait_busy(&site.nginx, 2);
    site.open();
    assert_eq!(first.response(false).unwrap().text(), "ok");
    site.assert_next(next);
}

/// What is shipped has no such steps.
#[test]
fn only_in_the_tests() {
    let module = fs::read(module_path()).unwrap();
    assert!(!module.windows(13).any(|bytes| bytes == b"asked to fail"));
}
