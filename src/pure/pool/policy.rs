//! May this connection carry another request? A pure function over what is known of it when its
//! request is done. Where the rules come from: the uwsgi protocol has no word for the end of a
//! connection's use, so it is the response that has to say it (RFC 9112, 9.3 and 9.6), and a
//! CONTENT_LENGTH that differs from the body's bytes would make the rest of the body a request.

use std::fmt;

use crate::pure::uwsgi::framing::{End, Said};

/// `rs_uwsgi_reuse`: whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// The server's: reuse where its response says keep-alive.
    Auto,
    /// The operator's: reuse unless the response says close.
    On,
    /// Nobody's: never.
    Off,
    /// As [`Reuse::On`], for uWSGI's puwsgi-socket, which never reads a body: requests with one are
    /// refused.
    Puwsgi,
}

/// How long a connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `rs_uwsgi_keepalive`: idle connections to one server; 0: none.
    pub idle: usize,
    /// `rs_uwsgi_keepalive_requests`: requests on one connection.
    pub requests: usize,
    /// `rs_uwsgi_keepalive_time`: its age, in milliseconds.
    pub age: usize,
}

/// What is known of a connection when its request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `rs_uwsgi_reuse`.
    pub reuse: Reuse,
    /// `rs_uwsgi_keepalive…`.
    pub limits: Limits,
    /// Other requests may have the connection: its own address was not chosen for this one.
    pub shared: bool,
    /// The worker is on its way out.
    pub exiting: bool,
    /// The connection or its request failed or timed out, or the server closed it.
    pub failed: bool,
    /// The vars and all of the body were written.
    pub request_written: bool,
    /// CONTENT_LENGTH was written by this module, once: no `rs_uwsgi_string` may hold another.
    pub length_is_ours: bool,
    /// It was a HEAD request: a body may still be on its way.
    pub head: bool,
    /// The response's status, once its head was read.
    pub status: Option<u16>,
    /// What the response says about its connection.
    pub said: Said,
    /// How far the response came.
    pub end: End,
    /// Requests on the connection so far, this one included.
    pub requests: usize,
    /// The connection's age in milliseconds.
    pub age: usize,
}

/// Why a connection is closed after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// `rs_uwsgi_reuse off`, or `rs_uwsgi_keepalive 0`.
    Off,
    /// `rs_uwsgi_bind` with variables: the connection's own address was chosen for one request.
    NotShared,
    /// The worker is on its way out.
    Exiting,
    /// An error, a timeout, or the server's end of the connection.
    Failed,
    /// Not all of the request was sent.
    RequestNotWritten,
    /// `rs_uwsgi_string` may say another length than this module.
    LengthNotOurs,
    /// A HEAD request.
    Head,
    /// No head of a response came.
    NoResponse,
    /// The status is no final one: 101, after which the connection speaks another protocol, or one
    /// below 200 in a response without a status line.
    NotFinal,
    /// The response says close.
    SaidClose,
    /// The response does not say keep-alive.
    DidNotSayKeepAlive,
    /// Only the end of the connection ends the response.
    EndsByClose,
    /// The response's headers contradict each other.
    UncertainEnd,
    /// Not all of the response was read.
    NotEnded,
    /// Bytes came after the response.
    Surplus,
    /// `rs_uwsgi_keepalive_requests` is reached.
    TooManyRequests,
    /// `rs_uwsgi_keepalive_time` is exceeded.
    TooOld,
    /// A request that another worker holds waits for its place.
    PlaceNeeded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Off => "reuse is off",
            Refusal::NotShared => "\"rs_uwsgi_bind\" chose its address for one request",
            Refusal::Exiting => "the worker is exiting",
            Refusal::Failed => "it failed or was closed",
            Refusal::RequestNotWritten => "the request was not sent completely",
            Refusal::LengthNotOurs => "\"rs_uwsgi_string\" may hold a CONTENT_LENGTH",
            Refusal::Head => "a response to HEAD may have a body",
            Refusal::NoResponse => "no response was read",
            Refusal::NotFinal => "the response is not a final one",
            Refusal::SaidClose => "the server said close",
            Refusal::DidNotSayKeepAlive => "the server did not say keep-alive",
            Refusal::EndsByClose => "the response ends with the connection",
            Refusal::UncertainEnd => "the end of the response is uncertain",
            Refusal::NotEnded => "the response was not read to its end",
            Refusal::Surplus => "bytes came after the response",
            Refusal::TooManyRequests => "\"rs_uwsgi_keepalive_requests\" is reached",
            Refusal::TooOld => "\"rs_uwsgi_keepalive_time\" is exceeded",
            Refusal::PlaceNeeded => "a request of another worker waits for its place",
        })
    }
}

/// What [`verdict`] asks, one after the other and no more than it needs: most of it costs something to find out. The
/// meanings are those of [`Facts`].
#[allow(missing_docs)]
pub trait Known {
    fn reuse(&self) -> Reuse;
    fn limits(&self) -> Limits;
    fn shared(&self) -> bool;
    fn exiting(&self) -> bool;
    fn failed(&self) -> bool;
    fn request_written(&self) -> bool;
    fn length_is_ours(&self) -> bool;
    fn head(&self) -> bool;
    fn status(&self) -> Option<u16>;
    fn said(&self) -> Said;
    fn end(&self) -> End;
    fn requests(&self) -> usize;
    fn age(&self) -> usize;
}

/// Fields that answer for themselves.
macro_rules! known {
    ($($name:ident: $type:ty),*) => {
        impl Known for Facts {
            $(fn $name(&self) -> $type {
                self.$name
            })*
        }
    };
}

known! {
    reuse: Reuse, limits: Limits, shared: bool, exiting: bool, failed: bool, request_written: bool,
    length_is_ours: bool, head: bool, status: Option<u16>, said: Said, end: End, requests: usize, age: usize
}

/// May the connection carry another request?
///
/// # Errors
///
/// The first reason against it.
#[inline]
pub fn verdict(facts: &impl Known) -> Result<(), Refusal> {
    let refuse_if = |condition, refusal| if condition { Err(refusal) } else { Ok(()) };

    refuse_if(facts.reuse() == Reuse::Off || facts.limits().idle == 0, Refusal::Off)?;
    refuse_if(!facts.shared(), Refusal::NotShared)?;
    refuse_if(facts.exiting(), Refusal::Exiting)?;
    refuse_if(facts.failed(), Refusal::Failed)?;
    refuse_if(!facts.request_written(), Refusal::RequestNotWritten)?;
    refuse_if(!facts.length_is_ours(), Refusal::LengthNotOurs)?;
    refuse_if(facts.head(), Refusal::Head)?;
    let status = facts.status().ok_or(Refusal::NoResponse)?;
    refuse_if(status < 200, Refusal::NotFinal)?;
    let said = facts.said();
    refuse_if(said == Said::Close, Refusal::SaidClose)?;
    let silent = facts.reuse() == Reuse::Auto && said != Said::KeepAlive;
    refuse_if(silent, Refusal::DidNotSayKeepAlive)?;
    match facts.end() {
        End::Clean => {}
        End::Open => return Err(Refusal::NotEnded),
        End::Surplus => return Err(Refusal::Surplus),
        End::ByClose => return Err(Refusal::EndsByClose),
        End::Uncertain => return Err(Refusal::UncertainEnd),
    }
    refuse_if(facts.requests() >= facts.limits().requests, Refusal::TooManyRequests)?;
    refuse_if(facts.age() > facts.limits().age, Refusal::TooOld)
}

/// How long after the beginning of its last request, in milliseconds, a connection may still be given
/// a request that must not be sent twice.
///
/// A server closes a connection that was idle for as long as its own limit allows, and a request
/// that is on its way at that moment is lost. The shortest limit that gunicorn knows is 1 s
/// (`keepalive`, default 2 s), uWSGI's 1 s as well (`socket-timeout`, default 4 s), and both begin to
/// count when the response is written. That is after the request began, and may be long before nginx
/// has read it, where a client is slow; so the beginning is what counts, and half of the limit is left
/// for the next request to arrive. gunicorn 27 reads connections that are younger than 2 s also
/// while it shuts down.
pub const FRESH: usize = 500;

/// The largest request body, in bytes, after which a connection may be given a request that must
/// not be sent twice.
///
/// gunicorn says keep-alive, and closes all the same when the application left much of the body
/// unread: it reads and drops 64 KiB at most.
pub const SMALL_BODY: u64 = 32 * 1024;

/// A connection that waits for a request: what it matters how it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When its last request was begun, in milliseconds of nginx's clock.
    pub started_at: usize,
    /// The body of its last request, in bytes.
    pub body: u64,
    /// Since when it is idle, in the same time. None where not the server's word says that it may be
    /// ([`Reuse::Auto`]).
    pub since: Option<usize>,
}

/// How long a worker that leaves lets a server close an idle connection itself, in milliseconds.
/// Debian stops nginx for good 5 s after it told it to leave.
const PATIENCE: usize = 4500;

/// How much later than it should a server may close one, in milliseconds: gunicorn's gthread worker looks
/// once a second.
const LATE: usize = 1000;

/// For how long a worker that leaves keeps an idle connection open, in milliseconds, where the server
/// will close it in `time_left`. gunicorn logs an error with a traceback for each one that is not closed
/// by itself. None: no longer.
pub fn patience(time_left: usize) -> Option<usize> {
    (time_left <= PATIENCE).then(|| (time_left + LATE).min(PATIENCE))
}

impl LastUse {
    /// For how long it has been idle at the time `now`, in milliseconds.
    pub fn idle_for(&self, now: usize) -> Option<usize> {
        self.since.map(|since| now.wrapping_sub(since))
    }

    /// May a request that must not be sent twice go on the connection, at the time `now`?
    pub fn is_fresh(&self, now: usize) -> bool {
        self.body <= SMALL_BODY && now.wrapping_sub(self.started_at) <= FRESH
    }
}
