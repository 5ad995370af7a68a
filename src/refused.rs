//! Requests that a server has refused for what they are: they say nothing of the server, and nobody
//! else is asked ([`crate::pure::vars_limit`] has the rules).

use crate::handler::{self, Context, Next};
use crate::nginx::connection::Connection;
use crate::nginx::log::Printable;
use crate::nginx::peer::Peer;
use crate::nginx::{self, Request};
use crate::peer;
use crate::pure::uwsgi::packet::HEADER_SIZE;
use crate::pure::uwsgi::vars::Vars;
use crate::pure::vars_limit::{Cut, Fault, Sent, BUFFER_SIZE};
use crate::request::{self, REQUEST_HEADER_FIELDS_TOO_LARGE};

const TOO_LARGE: Next = Next::Refuse { status: REQUEST_HEADER_FIELDS_TOO_LARGE, retry_after: None };

impl Context<'_> {
    /// The bytes of the vars.
    pub fn vars_size(&self) -> usize {
        self.packet.get().len().saturating_sub(HEADER_SIZE)
    }
}

/// Would the server refuse the request, as far as is known? Where it is let through, it counts as the
/// one that tries.
pub fn is_known_too_large(context: &Context<'_>, peer: Peer<'_>) -> bool {
    let (size, now) = (context.vars_size(), nginx::now());
    if size <= BUFFER_SIZE {
        return false;
    }
    peer.servers().vars_limits.borrow().of(peer.address()).refuses(size, now)
}

/// A request goes to the server that may be larger than it takes.
#[inline(always)]
pub fn begin(context: &Context<'_>, peer: Peer<'_>) {
    let size = context.vars_size();
    if size > BUFFER_SIZE {
        begin_large(peer, size);
    }
}

#[cold]
fn begin_large(peer: Peer<'_>, size: usize) {
    let mut limits = peer.servers().vars_limits.borrow_mut();
    limits.change(peer.address(), |limit| limit.begin(size, nginx::now()));
}

/// The server has answered.
#[inline(always)]
pub fn answered(context: &Context<'_>, peer: Peer<'_>) {
    let size = context.vars_size();
    if size > BUFFER_SIZE {
        took_large(peer, size);
    }
}

#[cold]
fn took_large(peer: Peer<'_>, size: usize) {
    peer.servers().vars_limits.borrow_mut().change(peer.address(), |limit| limit.took(size));
}

/// The server has closed the connection before it answered. Is the request to be answered with 431
/// ([`answer`]), whatever nginx would do?
pub fn cut(r: Request<'_>, cut: Cut) -> bool {
    let Some(context) = r.context() else { return false };
    // on one of the pool it says nothing
    let is_new = context.connection.get() == Some(handler::Connection::New);
    let (false, true, Some(peer)) = (context.answered.get(), is_new, context.peer.get()) else {
        return false;
    };
    // as may happen while the server is started anew
    let in_effect = context.conf.in_effect(Some(peer.servers()));
    if peer::bridges_restart(r, context, peer, &in_effect, cut) {
        return false;
    }
    // nginx sends it
    !r.has_stale_response_for_error() && fault(r, context, peer, cut) == Fault::TooLarge
}

/// Answers a request that [`cut`] said so of.
pub fn answer(r: Request<'_>) -> Next {
    if let Some((context, peer)) = tried(r) {
        let sent = sent(r, context);
        let mut limits = peer.servers().vars_limits.borrow_mut();
        limits.change(peer.address(), |limit| limit.ended(&sent, Cut::Reset, nginx::now()));
        r.log().error(format_args!(
            "\"{}\" has refused {} bytes of vars: raise its \"buffer-size\", which is {BUFFER_SIZE} \
             unless configured",
            Printable(peer.name()),
            sent.size,
        ));
    }
    TOO_LARGE
}

/// Answers a request that is known to be too large for the server ([`is_known_too_large`]).
pub fn answer_at_once(r: Request<'_>) -> Next {
    if let Some((context, peer)) = tried(r) {
        let size = context.vars_size();
        context.refused_size.set(u32::try_from(size).ok());
        if let Some(count) = peer.servers().queue.hints.too_large.add(nginx::now()) {
            r.log().error(format_args!(
                "\"{}\" is known to refuse {size} bytes of vars, {count} requests so: raise its \
                 \"buffer-size\", which is {BUFFER_SIZE} unless configured",
                Printable(peer.name()),
            ));
        }
    }
    TOO_LARGE
}

/// The request's state, and the server of this try.
fn tried<'a>(r: Request<'a>) -> Option<(&'a Context<'a>, Peer<'a>)> {
    let context = r.context()?;
    Some((context, context.peer.get()?))
}

/// The end of a try that failed before an answer: whose fault it is, which teaches what the server
/// takes.
pub fn ended(r: Request<'_>, context: &Context<'_>, peer: Peer<'_>) -> Fault {
    let cut = peer.connection().and_then(Connection::cut);
    let Some(cut) = cut else { return Fault::Server };
    let (sent, address) = (sent(r, context), peer.address());
    let fault = fault(r, context, peer, cut);
    peer.servers()
        .vars_limits
        .borrow_mut()
        .change(address, |limit| limit.ended(&sent, cut, nginx::now()));
    if fault == Fault::Request {
        r.log().error(format_args!(
            "\"{}\" has closed the connection on {} vars of {} bytes: uWSGI takes no more than its \
             \"max-vars\" and \"buffer-size\", which are {} and {BUFFER_SIZE} unless configured",
            Printable(peer.name()),
            sent.vars,
            sent.size,
            crate::pure::vars_limit::MAX_VARS,
        ));
    }
    fault
}

fn fault(r: Request<'_>, context: &Context<'_>, peer: Peer<'_>, cut: Cut) -> Fault {
    peer.servers().vars_limits.borrow().of(peer.address()).fault(
        &sent(r, context),
        cut,
        nginx::now(),
    )
}

fn sent(r: Request<'_>, context: &Context<'_>) -> Sent {
    let vars = context.packet.get().get(HEADER_SIZE..).unwrap_or_default();
    Sent {
        size: vars.len(),
        vars: Vars::new(vars).count(),
        has_body: request::body_length(r, context.conf) > 0,
    }
}
