//! What this module knows of a request while it passes it on: [`RequestState`], of one upstream of the
//! request; in it the [`Attempt`], with one server; in that the [`Response`] of the server.
//!
//! A new attempt is one assignment, so that nothing of the one before is left. References are to the
//! request's own memory.

use std::cell::Cell;

use crate::conf::connections::EffectiveSettings;
use crate::conf::LocConf;
use crate::module::{Peer, State, Uwsgi};
use crate::nginx::{self, Error, Request};
use crate::pure::overload::Expected;
use crate::pure::pool::policy::Refusal;
use crate::pure::pool::ServerPlace;
use crate::pure::restart::Bridged;
use crate::pure::stats::{Failure, QueueEnd};
use crate::pure::uwsgi::chunked::Decoder;
use crate::pure::uwsgi::framing::{Chunks, Fields};
use crate::pure::uwsgi::packet::HEADER_SIZE;
use crate::pure::zone::SlotId;

/// What is known of an upstream of a request, over all tries.
pub struct RequestState<'a> {
    /// The settings of the location that the upstream was made for. The request's own may be another's
    /// by now.
    pub conf: &'a LocConf,
    attempt: Cell<&'a Attempt<'a>>,
    /// The encoded vars with their packet header.
    pub packet: Cell<&'a [u8]>,
    /// Was the client's body cut, so that none of it is passed on?
    pub without_body: Cell<bool>,
    /// Is the response past its status line, or known to have none? A cached response is read without a
    /// server having been asked.
    pub past_status_line: Cell<bool>,
    /// Must the next try have a connection of its own?
    pub needs_new_connection: Cell<bool>,
    /// How connections have ended after which the request was sent again to a server that restarts.
    pub bridged: Cell<Bridged>,
    /// For how long the request has waited for connections, in milliseconds.
    pub waited: Cell<usize>,
    /// How many times a server was chosen for it.
    pub tries: Cell<u32>,
    /// Its place in the queue when it began to wait last, from 1 on.
    pub queue_position: Cell<u32>,
    /// The connection that something of the request was sent on last, by the tries that are over.
    pub sent: Cell<Option<ConnectionOrigin>>,
    /// What became of the connection of the last try that is over and had one.
    pub verdict: Cell<Option<Verdict>>,
    /// What was before the try in hand.
    pub before: Cell<Before>,
    /// Has the client left while the request was served?
    pub client_gone: Cell<bool>,
    /// The bytes of the vars that were found too large to be sent.
    pub refused_size: Cell<Option<u32>>,
}

/// What was before a try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// It is the first.
    #[default]
    Nothing,
    /// A try with the same server.
    Same,
    /// A try with another server, or one that had no room.
    Other,
}

/// A try with one server, from its choice to its release.
#[derive(Default)]
pub struct Attempt<'a> {
    /// The connection to the server; None before one was chosen.
    pub connection: Cell<Option<ConnectionOrigin>>,
    /// The server of this try.
    pub peer: Cell<Option<Peer<'a>>>,
    /// What is configured for connections to it.
    pub settings: Cell<Option<&'a EffectiveSettings>>,
    /// When this try began, in milliseconds of nginx's clock.
    pub started_at: Cell<usize>,
    /// The key by which the server is known in the queue and, if `shared`, in the pool.
    pub key: Cell<&'a [u8]>,
    /// The server's slot in the zone that all workers share.
    pub slot: Cell<Option<SlotId>>,
    /// Where the pool had its connection.
    pub place: Cell<Option<ServerPlace>>,
    /// May its connections be shared with other requests?
    pub shared: Cell<bool>,
    /// What was before it.
    pub after: Cell<Before>,
    /// How many other requests the server worked on when it was chosen, where `$rs_uwsgi_in_flight` is used.
    pub in_flight: Cell<Option<u64>>,
    /// Its wait for a connection.
    pub wait: Cell<Wait>,
    /// An attempt to connect that is looked after.
    pub connecting: Cell<Option<Connecting>>,
    /// How many such were taken for dropped.
    pub dropped: Cell<u32>,
    /// How it failed, where that is known before its end.
    pub failure: Cell<Option<Failure>>,
    /// Has the try a place, one of those that `rs_uwsgi_max_connections` counts?
    pub counted: Cell<bool>,
    /// Its number among those that are with servers ([`crate::pure::in_flight`]).
    pub entry: Cell<Option<usize>>,
    /// Its number among those that are with servers that are checked.
    pub tried: Cell<Option<u64>>,
    /// What the server has answered.
    pub response: Response<'a>,
}

/// An attempt to connect over TCP.
#[derive(Clone, Copy, Debug)]
pub struct Connecting {
    /// When it began, in milliseconds of nginx's clock.
    pub since: usize,
    /// How many other requests were in flight then.
    pub others: u64,
}

/// The wait of a try for a connection.
#[derive(Clone, Copy, Debug, Default)]
pub enum Wait {
    /// It has had no need to, or waits for one that is being made.
    #[default]
    None,
    /// It is in the queue, or has been and its connection is being made.
    Queued,
    /// It is refused. nginx can answer it only when it is done with it, so that it waits for no time.
    Refused(WhyRefused),
    /// It is over.
    Over(QueueEnd),
}

/// Why a try does not get as far as the queue.
#[derive(Clone, Copy, Debug)]
pub enum WhyRefused {
    /// The server is known not to take a request as large as this one.
    TooLarge,
    /// As many wait as may.
    QueueFull,
    /// It would wait for longer than it may.
    WaitTooLong(Expected),
}

/// The response of the server of a try.
#[derive(Default)]
pub struct Response<'a> {
    /// Interim responses that came before it.
    pub interim: Cell<u32>,
    /// How far it has come.
    pub answer: Cell<Answer>,
    /// What its headers say of its end.
    pub fields: Cell<Fields>,
    /// What has come behind a chunked body, where the client takes trailers.
    pub trailers: Cell<Option<&'a Trailers>>,
}

/// How far the answer of a server has come.
#[derive(Clone, Copy, Debug, Default)]
pub enum Answer {
    /// Nothing has.
    #[default]
    None,
    /// A head, or what may become one, has begun.
    Begun,
    /// A page and no head has begun, as in an answer to a line that is no request (HTTP/0.9).
    Page,
    /// The head is complete.
    Head(Head),
    /// nginx reads the body.
    Body(Head, Body),
}

/// A response whose head has come from the server.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// The bytes after the head that had come with it, which fit into a buffer.
    pub after: u32,
}

/// The body of a response that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// How far a chunked one has come.
    pub chunks: Chunks,
    /// The decoder of a chunked one.
    pub decoder: Decoder,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOrigin {
    /// It was made for this request.
    New,
    /// It was taken from the pool.
    Reused,
}

/// What becomes of the connection of a try that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may carry another request, and is in the pool.
    Kept,
    /// It is closed.
    Closed(Refusal),
}

impl<'a> RequestState<'a> {
    /// The state of an upstream that has asked no server yet, with its first try.
    #[inline(always)]
    pub fn new(conf: &'a LocConf, first: &'a Attempt<'a>) -> Self {
        RequestState {
            conf,
            attempt: Cell::new(first),
            packet: Cell::default(),
            without_body: Cell::default(),
            past_status_line: Cell::default(),
            needs_new_connection: Cell::default(),
            bridged: Cell::default(),
            waited: Cell::default(),
            tries: Cell::default(),
            queue_position: Cell::default(),
            sent: Cell::default(),
            verdict: Cell::default(),
            before: Cell::default(),
            client_gone: Cell::default(),
            refused_size: Cell::default(),
        }
    }

    /// The state of the request's upstream, whatever has become of the request's other state. None where
    /// the upstream is another module's.
    #[inline]
    pub fn of(r: Request<'a>) -> Option<&'a State<'a>> {
        r.state::<Uwsgi>()
    }

    /// The try in hand.
    #[inline(always)]
    pub fn attempt(&self) -> &'a Attempt<'a> {
        self.attempt.get()
    }

    /// A server, or the same one again, will be asked: nothing is left of what was before.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn begin_try(&self, r: Request<'a>) -> Result<(), Error> {
        // the first one has come with the state
        if self.attempt().connection.get().is_some() {
            self.attempt.set(r.pool().share(Attempt::default())?);
        }
        let attempt = self.attempt();
        attempt.after.set(self.before.get());
        attempt.started_at.set(nginx::now());
        attempt.connection.set(Some(ConnectionOrigin::New));
        Ok(())
    }

    /// The vars, encoded.
    pub fn vars(&self) -> &'a [u8] {
        self.packet.get().get(HEADER_SIZE..).unwrap_or_default()
    }

    /// The bytes of the vars.
    #[inline(always)]
    pub fn vars_size(&self) -> usize {
        self.packet.get().len().saturating_sub(HEADER_SIZE)
    }

    /// The number of body bytes that follow the packet.
    pub fn body_length(&self, r: Request<'_>) -> u64 {
        if r.is_body_unbuffered() {
            return r.content_length().unwrap_or(0);
        }
        if self.conf.upstream.pass_request_body == 0 {
            return 0;
        }
        match r.body().size() {
            size if size > 0 && self.without_body.get() => 0,
            size => size,
        }
    }
}

/// Trailers, as they came. What is longer is dropped.
pub struct Trailers {
    bytes: [Cell<u8>; Trailers::MOST],
    /// How many there are; more than there is room for: too many.
    len: Cell<usize>,
}

impl Default for Trailers {
    fn default() -> Self {
        Trailers::new()
    }
}

impl Trailers {
    /// The most bytes, with the empty line: a head of trailers is not longer than nginx's buffer for one.
    const MOST: usize = 4096;

    /// None yet.
    pub const fn new() -> Trailers {
        Trailers { bytes: [const { Cell::new(0) }; Trailers::MOST], len: Cell::new(0) }
    }

    /// Adds what has come.
    pub fn push(&self, more: &[u8]) {
        let room = self.bytes.get(self.len.get()..).unwrap_or_default();
        room.iter().zip(more).for_each(|(place, byte)| place.set(*byte));
        self.len.set(self.len.get().saturating_add(more.len()));
    }

    /// All of it; nothing where it was too long.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.bytes.get(..self.len.get()).unwrap_or_default();
        bytes.iter().map(Cell::get).collect()
    }
}

impl Response<'_> {
    /// Has the server begun to answer?
    pub fn has_begun(&self) -> bool {
        !matches!(self.answer.get(), Answer::None)
    }

    /// The head, once it is complete.
    pub fn head(&self) -> Option<Head> {
        match self.answer.get() {
            Answer::Head(head) | Answer::Body(head, _) => Some(head),
            Answer::None | Answer::Begun | Answer::Page => None,
        }
    }
}
