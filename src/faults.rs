//! Faults on demand: a request for `/fault/STEP` makes that step of it panic, before the step has done
//! anything. Built for the tests alone, which show that a fault of this module ends one request and leaves
//! nothing behind.

use crate::nginx::Request;

/// Panics where the request asks for it.
#[allow(clippy::panic)]
pub fn begin_step(r: Request<'_>, step: &str) {
    if r.uri().strip_prefix(b"/fault/") == Some(step.as_bytes()) {
        panic!("asked to fail in {step}");
    }
}
