//! A handler that fails: a request for `/fault/STEP` makes that step of it panic, before the step has done
//! anything. Built for the tests alone, which show that a fault of this module ends one request and
//! leaves nothing behind.

use std::ops::Range;

use crate::handler::{Content, Next, UpstreamHandler, Uwsgi};
use crate::nginx::balancer::{Chosen, Outcome};
use crate::nginx::connection::{Idle, Lost};
use crate::nginx::peer::Peer;
use crate::nginx::servers::Servers;
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{Error, Request};
use crate::pure::vars_limit::Cut;

/// The uwsgi protocol, with faults.
pub enum Faulty {}

/// Panics where the request asks for it.
#[allow(clippy::panic)]
fn fail(r: Request<'_>, step: &str) {
    if r.uri().strip_prefix(b"/fault/") == Some(step.as_bytes()) {
        panic!("asked to fail in {step}");
    }
}

impl UpstreamHandler for Faulty {
    fn content(r: Request<'_>) -> Content {
        fail(r, "content");
        Uwsgi::content(r)
    }

    fn body_ready(r: Request<'_>) -> Next {
        fail(r, "body_ready");
        Uwsgi::body_ready(r)
    }

    #[cfg(ngx_feature = "http_cache")]
    fn create_key(r: Request<'_>) -> Result<(), Error> {
        fail(r, "create_key");
        Uwsgi::create_key(r)
    }

    fn create_request(r: Request<'_>) -> Result<(), Error> {
        fail(r, "create_request");
        Uwsgi::create_request(r)
    }

    fn choose_connection<'a>(r: Request<'a>, peer: Peer<'a>, has_others: bool) -> Chosen {
        fail(r, "choose_connection");
        Uwsgi::choose_connection(r, peer, has_others)
    }

    fn connection_made(r: Request<'_>) {
        fail(r, "connection_made");
        Uwsgi::connection_made(r);
    }

    fn waited_in_vain(r: Request<'_>) -> Next {
        fail(r, "waited_in_vain");
        Uwsgi::waited_in_vain(r)
    }

    fn wake(servers: &Servers) {
        Uwsgi::wake(servers);
    }

    fn reinit_request(r: Request<'_>) -> Result<(), Error> {
        fail(r, "reinit_request");
        Uwsgi::reinit_request(r)
    }

    fn process_header(r: Request<'_>) -> Result<(), Error> {
        fail(r, "process_header");
        Uwsgi::process_header(r)
    }

    fn input_filter_init(r: Request<'_>) -> Result<(), Error> {
        fail(r, "input_filter_init");
        Uwsgi::input_filter_init(r)
    }

    fn decode_chunks(
        r: Request<'_>,
        bytes: &[u8],
        data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        fail(r, "decode_chunks");
        Uwsgi::decode_chunks(r, bytes, data)
    }

    fn connection_cut(r: Request<'_>, cut: Cut) -> bool {
        fail(r, "connection_cut");
        Uwsgi::connection_cut(r, cut)
    }

    fn answer_cut(r: Request<'_>) -> Next {
        fail(r, "answer_cut");
        Uwsgi::answer_cut(r)
    }

    fn abort_request(r: Request<'_>) {
        fail(r, "abort_request");
        Uwsgi::abort_request(r);
    }

    fn finalize_request(r: Request<'_>, rc: ngx_int_t) {
        fail(r, "finalize_request");
        Uwsgi::finalize_request(r, rc);
    }

    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
        fail(r, "release_connection");
        Uwsgi::release_connection(r, peer, outcome)
    }

    fn end_try(peer: Peer<'_>) {
        Uwsgi::end_try(peer);
    }

    fn connection_lost(servers: &Servers, connection: Idle, why: Lost) {
        Uwsgi::connection_lost(servers, connection, why);
    }

    fn patience(time_left: usize) -> Option<usize> {
        Uwsgi::patience(time_left)
    }
}
