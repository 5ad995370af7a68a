//! The content handler, and every callback of nginx's upstream machinery wired on one page.
//!
//! Mirrors `ngx_http_uwsgi_handler` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::cell::Cell;
use std::ops::Range;

#[cfg(ngx_feature = "http_cache")]
use crate::conf::cache;
use crate::conf::pass;
use crate::ffi::address::Address;
use crate::ffi::balancer::{Chosen, Held, Outcome};
use crate::ffi::client_body::ClientBody;
use crate::ffi::connection::{Idle, Lost};
use crate::ffi::log::debug;
use crate::ffi::peer::Peer;
use crate::ffi::servers::Servers;
use crate::ffi::sys::{ngx_int_t, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_IMPLEMENTED};
use crate::ffi::wait::Waiter;
use crate::ffi::{self, Error, Request};
use crate::peer::wait;
use crate::uwsgi::chunked::Decoder;
use crate::uwsgi::framing::{Chunks, Fields};
use crate::{body, finalize, peer, request, response};

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
    /// nginx has chosen a server. Finds a connection to it, or lets the request wait for one.
    /// `has_others`: if this one has no room, others are asked.
    fn choose_connection<'a>(r: Request<'a>, peer: Peer<'a>, has_others: bool) -> Chosen;
    /// The connection that a waiting request has been making is there, or it failed.
    fn connection_made(r: Request<'_>);
    /// The time is up for which a request may wait for a connection. It may be gone after this.
    fn waited_in_vain(r: Request<'_>);
    /// Requests that wait for a connection may find one now.
    fn wake(servers: &Servers);
    /// The next server is about to be tried.
    fn reinit_request(r: Request<'_>) -> Result<(), Error>;
    /// More of the response's head was read.
    fn process_header(r: Request<'_>) -> Result<(), Error>;
    /// The response's head is done; says how its body ends.
    fn input_filter_init(r: Request<'_>) -> Result<(), Error>;
    /// More of a chunked body was read; `data` gets the ranges of `bytes` that are data.
    fn decode_chunks(
        r: Request<'_>,
        bytes: &[u8],
        data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<u64, Error>;
    /// nginx gives the request up.
    fn abort_request(r: Request<'_>);
    /// The upstream's part is over, with nginx's status.
    fn finalize_request(r: Request<'_>, rc: ngx_int_t);
    /// The server and its connection are no longer needed. Returns what the balancer is told.
    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome;
    /// A connection in the pool has ended.
    fn connection_lost(servers: &Servers, connection: Idle, why: Lost);
}

const NOT_IMPLEMENTED: ngx_int_t = NGX_HTTP_NOT_IMPLEMENTED as ngx_int_t;

/// The uwsgi protocol.
pub enum Uwsgi {}

impl UpstreamHandler for Uwsgi {
    fn content(r: Request<'_>) -> ngx_int_t {
        match prepare(r) {
            Ok(()) if r.has_body() && peer::refuses_body(r) => NOT_IMPLEMENTED,
            Ok(()) => read_body(r),
            Err(_) => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
        }
    }

    fn body_ready(r: Request<'_>) {
        // a subrequest has the body of its main request
        if request::body_length(r, r.loc_conf()) > 0 {
            if peer::refuses_body(r) {
                return r.finalize(NOT_IMPLEMENTED);
            }
        } else if r.has_lost_body() && r.loc_conf().upstream.pass_request_body != 0 {
            if let Err(status) = go_without(r, 0, r.content_length()) {
                return r.finalize(status);
            }
        }
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

    fn choose_connection<'a>(r: Request<'a>, peer: Peer<'a>, has_others: bool) -> Chosen {
        peer::choose(r, peer, has_others)
    }

    fn connection_made(r: Request<'_>) {
        wait::made(r);
    }

    fn waited_in_vain(r: Request<'_>) {
        wait::waited_in_vain(r);
    }

    fn wake(servers: &Servers) {
        wait::wake(servers);
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

    fn decode_chunks(
        r: Request<'_>,
        bytes: &[u8],
        data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        body::decode(r, bytes, data)
    }

    fn abort_request(r: Request<'_>) {
        r.log().debug(format_args!("abort http rs_uwsgi request"));
    }

    fn finalize_request(r: Request<'_>, rc: ngx_int_t) {
        debug!(r.log(), "finalize http rs_uwsgi request: {rc}");
        if let Some(held) = r.context().and_then(|context| context.held.take()) {
            held.let_go();
        }
    }

    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
        finalize::release(r, peer, outcome)
    }

    fn connection_lost(servers: &Servers, connection: Idle, why: Lost) {
        peer::lost(servers, connection, why);
    }
}

/// The state of a request. Its references are to the request's own memory.
#[derive(Default)]
pub struct Context<'a> {
    /// The encoded vars with their packet header.
    pub packet: Cell<&'a [u8]>,
    /// Was the client's body cut, so that none of it is passed on?
    pub without_body: Cell<bool>,
    /// Is the response past its status line, or known to have none?
    pub past_status_line: Cell<bool>,
    /// The address that variables yielded, where it is not the name of an upstream.
    pub address: Cell<Option<Address<'a>>>,
    /// The connection to the server of this try.
    pub connection: Cell<Option<Connection>>,
    /// When this try began, in milliseconds of nginx's clock.
    pub begun: Cell<usize>,
    /// Has the server of this try begun to answer?
    pub answered: Cell<bool>,
    /// Does its answer begin with a page and no head, as one to a line that is no request (HTTP/0.9)?
    pub sent_html: Cell<bool>,
    /// Must the next try have a connection of its own?
    pub needs_new_connection: Cell<bool>,
    /// The server that the next try is with.
    pub held: Cell<Option<&'a Held<'a>>>,
    /// The key by which the connection's server is known in the pool.
    pub pool_key: Cell<&'a [u8]>,
    /// The key by which the server is known in the queue.
    pub line: Cell<&'a [u8]>,
    /// Is the connection one of those that `rs_uwsgi_max_connections` counts?
    pub counted: Cell<bool>,
    /// What the request waits with for a connection.
    pub waiter: Cell<Option<&'a Waiter<'a>>>,
    /// For how long the request has waited for connections, in milliseconds.
    pub waited: Cell<usize>,
    /// What the response's headers say of its end.
    pub fields: Cell<Fields>,
    /// The response, once its head is complete.
    pub head: Cell<Option<Head>>,
    /// Has nginx begun to read the body?
    pub reads_body: Cell<bool>,
    /// The decoder of a chunked body.
    pub decoder: Cell<Decoder>,
    /// How far a chunked body has come.
    pub chunks: Cell<Chunks>,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It was made for this request.
    New,
    /// It was taken from the pool.
    Reused,
}

/// A response whose head has come from the server.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// The bytes after the head that had come with it.
    pub after: usize,
}

impl Context<'_> {
    /// Forgets the response: another server, or the same one again, will be asked.
    pub fn begin_try(&self) {
        self.begun.set(ffi::now());
        self.answered.set(false);
        self.sent_html.set(false);
        self.connection.set(Some(Connection::New));
        self.pool_key.set(&[]);
        self.fields.set(Fields::default());
        self.head.set(None);
        self.reads_body.set(false);
    }
}

/// Goes on with `body_ready` when the client's body was read, or its beginning. What other locations
/// have left of it must be all that the client sends: the server would take less for all.
fn read_body(r: Request<'_>) -> ngx_int_t {
    let conf = r.loc_conf();
    if conf.upstream.pass_request_body == 0 {
        return r.read_body::<Uwsgi>();
    }
    match r.client_body() {
        ClientBody::Unread => {
            // Its length goes in front of the body: one of unknown length has to be read to its end
            // first. nginx calls HTTP/2's and HTTP/3's without a Content-Length chunked, too.
            if conf.upstream.request_buffering == 0 && !r.is_chunked() {
                r.disable_body_buffering();
            }
            r.read_body::<Uwsgi>()
        }
        ClientBody::Whole => r.read_body::<Uwsgi>(),
        ClientBody::Begun => match conf.upstream.request_buffering != 0 || r.is_chunked() {
            true if r.can_read_rest() => r.read_rest::<Uwsgi>(),
            _ => r.pass_rest::<Uwsgi>(),
        },
        ClientBody::Cut { left, of } => match go_without(r, left, of) {
            Ok(()) => r.read_body::<Uwsgi>(),
            Err(status) => status,
        },
    }
}

/// The client's body was cut, so none of it may be passed on. Only the page for an error does without.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
#[cold]
fn go_without(r: Request<'_>, left: u64, of: Option<u64>) -> Result<(), ngx_int_t> {
    if let (Some(context), true) = (r.context(), r.is_error_page()) {
        context.without_body.set(true);
        return Ok(());
    }
    let of = of.map_or(String::new(), |of| format!("of {of} "));
    r.log().error(format_args!(
        "{left} {of}bytes of client request body are left, the others were passed on or discarded \
         before: \"rs_uwsgi_pass_request_body off\" would pass the request without its body"
    ));
    Err(r.cut_status())
}

fn prepare(r: Request<'_>) -> Result<(), Error> {
    let conf = r.loc_conf();
    let u = r.create_upstream()?;
    r.set_context(Context::default())?;

    u.wire::<Uwsgi>(r, &conf.upstream)?;
    pass::resolve(r, u)
}
