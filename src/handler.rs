//! The content handler, and every callback of nginx's upstream machinery wired on one page.
//!
//! Mirrors `ngx_http_uwsgi_handler` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::cell::Cell;
use std::ops::{Deref, Range};

#[cfg(ngx_feature = "http_cache")]
use crate::conf::cache;
use crate::conf::{pass, LocConf};
use crate::nginx::address::Address;
use crate::nginx::balancer::{Chosen, Held, Outcome};
use crate::nginx::client_body::ClientBody;
use crate::nginx::connection::{Idle, Lost};
use crate::nginx::log::debug;
use crate::nginx::peer::Peer;
use crate::nginx::servers::Servers;
use crate::nginx::sys::{ngx_int_t, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_IMPLEMENTED};
use crate::nginx::wait::Waiter;
use crate::nginx::{self, Error, Request, Upstream};
use crate::peer::wait;
use crate::pure::pool::policy;
use crate::pure::uwsgi::chunked::Decoder;
use crate::pure::uwsgi::framing::{Chunks, Fields};
use crate::pure::vars_limit::Cut;
use crate::{body, finalize, peer, refused, request, response};

/// What nginx asks of a module that talks to an upstream, in the order of a request's life.
pub trait UpstreamHandler {
    /// A request reached the location.
    fn content(r: Request<'_>) -> Content;
    /// The client's body was read, or its beginning where it is not buffered.
    fn body_ready(r: Request<'_>) -> Next;
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
    /// The time is up for which a request may wait for a connection.
    fn waited_in_vain(r: Request<'_>) -> Next;
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
    /// The server has closed the connection before it answered. Will the request be answered by
    /// [`Self::answer_cut`]?
    fn connection_cut(r: Request<'_>, cut: Cut) -> bool;
    /// Answers a request whose connection was cut.
    fn answer_cut(r: Request<'_>) -> Next;
    /// nginx gives the request up.
    fn abort_request(r: Request<'_>);
    /// The upstream's part is over, with nginx's status.
    fn finalize_request(r: Request<'_>, rc: ngx_int_t);
    /// The server and its connection are no longer needed. Returns what the balancer is told.
    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome;
    /// The try with the server is over, even if [`Self::release_connection`] has failed.
    fn end_try(peer: Peer<'_>);
    /// A connection in the pool has ended.
    fn connection_lost(servers: &Servers, connection: Idle, why: Lost);
    /// The worker leaves. For how long it keeps an idle connection, in milliseconds, which the server
    /// will close in `time_left`; None: it closes it now.
    fn patience(time_left: usize) -> Option<usize>;
}

/// What the content handler does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The client's body is read, and then it goes on.
    ReadBody,
    /// A body that another location has begun to read is read to its end, and then it goes on.
    ReadRest,
    /// A body that another location has begun to read is passed on, the rest as it comes.
    PassRest,
    /// It ends with this status.
    Ended(ngx_int_t),
}

/// What becomes of a request after a step. The step only says it, because the request may be gone once
/// it is done: that is the last thing in nginx's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// It waits for an event.
    Wait,
    /// Its upstream is started.
    StartUpstream,
    /// It ends with this status.
    Finalize(ngx_int_t),
    /// It is answered with this status and, perhaps, a Retry-After of so many seconds; its upstream is
    /// dropped.
    Refuse {
        /// The status.
        status: ngx_int_t,
        /// The seconds.
        retry_after: Option<u64>,
    },
}

const NOT_IMPLEMENTED: ngx_int_t = NGX_HTTP_NOT_IMPLEMENTED as ngx_int_t;

/// The handler that the module is built with.
#[cfg(not(feature = "faults"))]
pub type Handler = Uwsgi;
#[cfg(feature = "faults")]
pub use crate::faults::Faulty as Handler;

/// The uwsgi protocol.
pub enum Uwsgi {}

impl UpstreamHandler for Uwsgi {
    fn content(r: Request<'_>) -> Content {
        match prepare(r) {
            Ok(()) if r.has_body() && peer::refuses_body(r) => Content::Ended(NOT_IMPLEMENTED),
            Ok(()) => read_body(r),
            Err(_) => Content::Ended(NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t),
        }
    }

    fn body_ready(r: Request<'_>) -> Next {
        // a subrequest has the body of its main request
        if request::body_length(r, r.loc_conf()) > 0 {
            if peer::refuses_body(r) {
                return Next::Finalize(NOT_IMPLEMENTED);
            }
        } else if r.has_lost_body() && r.loc_conf().upstream.pass_request_body != 0 {
            if let Err(status) = go_without(r, 0, r.content_length()) {
                return Next::Finalize(status);
            }
        }
        match request::prepare(r) {
            Ok(()) => Next::StartUpstream,
            Err(status) => Next::Finalize(status),
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

    fn waited_in_vain(r: Request<'_>) -> Next {
        wait::waited_in_vain(r)
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

    fn connection_cut(r: Request<'_>, cut: Cut) -> bool {
        refused::cut(r, cut)
    }

    fn answer_cut(r: Request<'_>) -> Next {
        refused::answer(r)
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

    fn end_try(peer: Peer<'_>) {
        finalize::end_try(peer);
    }

    fn connection_lost(servers: &Servers, connection: Idle, why: Lost) {
        peer::lost(servers, connection, why);
    }

    fn patience(time_left: usize) -> Option<usize> {
        policy::patience(time_left)
    }
}

/// What this module knows of an upstream of a request. It belongs to the upstream, not to the request:
/// filters clear what modules keep with a request (`ngx_http_filter_finalize_request`), and so do
/// internal redirects, which may give it another upstream before this one is over. Its references are
/// to the request's own memory.
///
/// What is known of the try in hand is found through it ([`Attempt`]).
pub struct Context<'a> {
    /// The upstream that this is the state of.
    pub upstream: Upstream<'a>,
    /// The settings of the location that the upstream was made for. The request's own may be another's
    /// by now.
    pub conf: &'a LocConf,
    attempt: Cell<&'a Attempt<'a>>,
    /// The encoded vars with their packet header.
    pub packet: Cell<&'a [u8]>,
    /// Was the client's body cut, so that none of it is passed on?
    pub without_body: Cell<bool>,
    /// Is the response past its status line, or known to have none?
    pub past_status_line: Cell<bool>,
    /// The address that variables yielded, where it is not the name of an upstream.
    pub address: Cell<Option<Address<'a>>>,
    /// Must the next try have a connection of its own?
    pub needs_new_connection: Cell<bool>,
    /// The end of a connection after which the request was sent again to a server that restarts.
    pub repeated: Cell<Option<Cut>>,
    /// The server that the next try is with.
    pub held: Cell<Option<&'a Held<'a>>>,
    /// For how long the request has waited for connections, in milliseconds.
    pub waited: Cell<usize>,
    /// The connection that something of the request was sent on last, by the tries that are over.
    pub sent: Cell<Option<Connection>>,
    /// The bytes of the vars that were found too large to be sent.
    pub refused_size: Cell<Option<u32>>,
}

/// A try with one server, from its choice to its release.
#[derive(Default)]
pub struct Attempt<'a> {
    /// The connection to the server; None before one was chosen.
    pub connection: Cell<Option<Connection>>,
    /// The server of this try.
    pub peer: Cell<Option<Peer<'a>>>,
    /// Is it known to refuse the request, which waits to be told so?
    pub too_large: Cell<bool>,
    /// When this try began, in milliseconds of nginx's clock.
    pub begun: Cell<usize>,
    /// Has the server of this try begun to answer?
    pub answered: Cell<bool>,
    /// Does its answer begin with a page and no head, as one to a line that is no request (HTTP/0.9)?
    pub sent_html: Cell<bool>,
    /// The key by which the server is known in the queue and, if `shared`, in the pool.
    pub line: Cell<&'a [u8]>,
    /// May its connections be shared with other requests?
    pub shared: Cell<bool>,
    /// Is the connection one of those that `rs_uwsgi_max_connections` counts?
    pub counted: Cell<bool>,
    /// What the request waits with for a connection.
    pub waiter: Cell<Option<&'a Waiter<'a>>>,
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
    /// The bytes after the head that had come with it, which fit into a buffer.
    pub after: u32,
}

impl<'a> Context<'a> {
    /// The state of an upstream that has asked no server yet.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn new(r: Request<'a>, upstream: Upstream<'a>, conf: &'a LocConf) -> Result<Self, Error> {
        Ok(Context {
            upstream,
            conf,
            attempt: Cell::new(r.pool().share(Attempt::default())?),
            packet: Cell::default(),
            without_body: Cell::default(),
            past_status_line: Cell::default(),
            address: Cell::default(),
            needs_new_connection: Cell::default(),
            repeated: Cell::default(),
            held: Cell::default(),
            waited: Cell::default(),
            sent: Cell::default(),
            refused_size: Cell::default(),
        })
    }

    /// A server, or the same one again, will be asked: nothing is left of what was before.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn begin_try(&self, r: Request<'a>) -> Result<(), Error> {
        // the first one has come with the context
        if self.connection.get().is_some() {
            self.attempt.set(r.pool().share(Attempt::default())?);
        }
        self.begun.set(nginx::now());
        self.connection.set(Some(Connection::New));
        Ok(())
    }
}

impl<'a> Deref for Context<'a> {
    type Target = Attempt<'a>;

    /// The try in hand.
    fn deref(&self) -> &Attempt<'a> {
        self.attempt.get()
    }
}

/// Goes on with `body_ready` when the client's body was read, or its beginning. What other locations
/// have left of it must be all that the client sends: the server would take less for all.
fn read_body(r: Request<'_>) -> Content {
    let conf = r.loc_conf();
    if conf.upstream.pass_request_body == 0 {
        return Content::ReadBody;
    }
    match r.client_body() {
        ClientBody::Unread => {
            // Its length goes in front of the body: one of unknown length has to be read to its end
            // first. nginx calls HTTP/2's and HTTP/3's without a Content-Length chunked, too.
            if conf.upstream.request_buffering == 0 && !r.is_chunked() {
                r.disable_body_buffering();
            }
            Content::ReadBody
        }
        ClientBody::Whole => Content::ReadBody,
        ClientBody::Begun => match conf.upstream.request_buffering != 0 || r.is_chunked() {
            true if r.can_read_rest() => Content::ReadRest,
            _ => Content::PassRest,
        },
        ClientBody::Cut { left, of } => match go_without(r, left, of) {
            Ok(()) => Content::ReadBody,
            Err(status) => Content::Ended(status),
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
    u.wire::<Handler>(r, r.pool().share(Context::new(r, u, conf)?)?)?;
    pass::resolve(r, u)
}
