//! The content handler, and every callback of nginx's upstream machinery wired on one page.
//!
//! Mirrors `ngx_http_uwsgi_handler` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::cell::Cell;

#[cfg(ngx_feature = "http_cache")]
use crate::conf::cache;
use crate::conf::pass;
use crate::ffi::sys::{ngx_int_t, NGX_HTTP_INTERNAL_SERVER_ERROR};
use crate::ffi::{Error, Request};
use crate::{body, request, response};

/// What nginx asks of a module that talks to an upstream, in the order of a request's life.
pub trait UpstreamHandler {
    /// A request reached the location. Returns the content handler's status.
    fn content(r: Request<'_>) -> ngx_int_t;
    /// The client's body was read, or its beginning where it is not buffered.
    fn body_ready(r: Request<'_>);
    /// Gives nginx the key under which the response is cached.
    #[cfg(ngx_feature = "http_cache")]
    fn create_key(r: Request<'_>) -> Result<(), Error>;
    /// Writes what is sent to the server.
    fn create_request(r: Request<'_>) -> Result<(), Error>;
    /// The next server is about to be tried.
    fn reinit_request(r: Request<'_>) -> Result<(), Error>;
    /// More of the response's head was read.
    fn process_header(r: Request<'_>) -> Result<(), Error>;
    /// The response's head is done; says how its body ends.
    fn input_filter_init(r: Request<'_>) -> Result<(), Error>;
    /// nginx gives the request up.
    fn abort_request(r: Request<'_>);
    /// The upstream's part is over, with nginx's status.
    fn finalize_request(r: Request<'_>, rc: ngx_int_t);
}

/// The uwsgi protocol.
pub enum Uwsgi {}

impl UpstreamHandler for Uwsgi {
    fn content(r: Request<'_>) -> ngx_int_t {
        match prepare(r) {
            Ok(()) => r.read_body::<Uwsgi>(),
            Err(_) => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
        }
    }

    fn body_ready(r: Request<'_>) {
        match request::prepare(r) {
            Ok(()) => r.start_upstream(),
            Err(status) => r.finalize(status),
        }
    }

    #[cfg(ngx_feature = "http_cache")]
    fn create_key(r: Request<'_>) -> Result<(), Error> {
        cache::create_key(r)
    }

    fn create_request(r: Request<'_>) -> Result<(), Error> {
        request::create(r)
    }

    fn reinit_request(r: Request<'_>) -> Result<(), Error> {
        response::restart(r);
        Ok(())
    }

    fn process_header(r: Request<'_>) -> Result<(), Error> {
        response::process_header(r)
    }

    fn input_filter_init(r: Request<'_>) -> Result<(), Error> {
        body::start(r)
    }

    fn abort_request(r: Request<'_>) {
        r.log().debug(format_args!("abort http rs_uwsgi request"));
    }

    fn finalize_request(r: Request<'_>, rc: ngx_int_t) {
        r.log().debug(format_args!("finalize http rs_uwsgi request: {rc}"));
    }
}

/// The state of a request. Its references are to the request's own memory.
#[derive(Default)]
pub struct Context<'a> {
    /// The encoded vars with their packet header.
    pub packet: Cell<&'a [u8]>,
    /// Is the response past its status line, or known to have none?
    pub past_status_line: Cell<bool>,
}

fn prepare(r: Request<'_>) -> Result<(), Error> {
    let conf = r.loc_conf();
    let u = r.create_upstream()?;
    r.set_context(Context::default())?;

    pass::resolve(r, u)?;
    u.wire::<Uwsgi>(r, &conf.upstream)?;

    // Its length goes in front of the body: one of unknown length has to be read to its end first.
    // nginx calls HTTP/2's and HTTP/3's without a Content-Length chunked, too.
    if conf.upstream.request_buffering == 0
        && conf.upstream.pass_request_body != 0
        && !r.is_chunked()
    {
        r.disable_body_buffering();
    }
    Ok(())
}
