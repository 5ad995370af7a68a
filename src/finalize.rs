//! The end of a request: what becomes of its connection, and what the balancer is told of the
//! server.

use crate::handler::{self, Context};
use crate::nginx::balancer::Outcome;
use crate::nginx::connection::Connection;
use crate::nginx::log::Printable;
use crate::nginx::peer::Peer;
use crate::nginx::{self, Request, Upstream};
use crate::peer;
use crate::pure::hints::Hint;
use crate::pure::pool::policy::{self, Facts, Left, Refusal, Reuse};
use crate::pure::uwsgi::framing::End;
use crate::pure::vars_limit::Fault;
use crate::{conf::reuse::InEffect, refused, request};

/// What an HTTP server answers to a packet of uwsgi, if anything.
const BAD_REQUEST: u16 = 400;

/// Parks the connection or leaves it to nginx, which closes it.
pub fn release<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
    let context = peer.context();
    if let Some(waiter) = context.waiter.get() {
        // given up: the client has left
        peer.servers().queue.leave(r, context, waiter);
        return outcome;
    }
    if context.upstream.is_request_begun() {
        context.sent.set(context.connection.get());
    }
    // where it could not be made, there is none
    let connection = peer.connection();
    connection.map_or(outcome, |connection| judge(r, context, peer, connection, outcome))
}

/// The try is over, whatever has become of it: its place is free, and whoever waits for one has its turn.
pub fn end_try(peer: Peer<'_>) {
    let (context, servers) = (peer.context(), peer.servers());
    // where `release` has failed
    if let Some(waiter) = context.waiter.take() {
        servers.queue.forget(waiter);
    }
    servers.end(context);
}

/// The verdict on the connection. Returns what the balancer is told.
fn judge<'a>(
    r: Request<'a>,
    context: &Context<'a>,
    peer: Peer<'a>,
    connection: Connection<'a>,
    outcome: Outcome,
) -> Outcome {
    let u = context.upstream;
    let in_effect = context.conf.in_effect(Some(peer.servers()));
    let told = told(r, context, u, peer, connection, outcome, &in_effect);
    if told == outcome || told == Outcome::Next {
        advise(r, context, u, peer, outcome);
    }
    let facts = facts(r, context, u, &in_effect, connection, outcome);
    let descriptor = connection.descriptor();
    let parked = policy::verdict(&facts).and_then(|()| {
        let left = Left {
            begun: context.begun.get(),
            body: request::body_length(r, context.conf),
            since: (in_effect.reuse == Reuse::Auto).then(nginx::now),
        };
        peer::park(r, peer, context.line.get(), left, &in_effect)
    });
    if let Err(refusal) = parked {
        r.log().debug(format_args!("http rs_uwsgi close connection, fd:{descriptor}: {refusal}"));
        // what comes while the body is read is logged there
        let is_news = facts.end == End::Clean || !context.reads_body.get();
        if refusal == Refusal::Surplus && is_news {
            r.log().warn(format_args!("upstream sent data after its response"));
        }
    }
    told
}

/// A connection from the pool that the server had closed says nothing of the server: the same request
/// goes to it again on a new connection, where it may be repeated.
///
/// Neither does one that the request itself has ended, nor a head too large for nginx's buffer: a client
/// that repeats such a request must not take the server from all others.
fn told<'a>(
    r: Request<'a>,
    context: &Context<'a>,
    u: Upstream<'a>,
    peer: Peer<'a>,
    connection: Connection<'_>,
    outcome: Outcome,
    in_effect: &InEffect,
) -> Outcome {
    if outcome != Outcome::Failed || connection.has_timed_out() {
        return outcome;
    }
    let reused = context.connection.get() == Some(handler::Connection::Reused);
    if context.answered.get() {
        let is_too_big = context.head.get().is_none() && u.is_head_too_big();
        return if is_too_big { Outcome::Next } else { outcome };
    }
    if reused {
        context.needs_new_connection.set(true);
        return Outcome::Stale;
    }
    if !u.is_request_begun() {
        return outcome;
    }
    let end =
        connection.cut().filter(|end| peer::bridges_restart(r, context, peer, in_effect, *end));
    if end.is_some() {
        context.repeated.set(end);
        context.needs_new_connection.set(true);
        return Outcome::Restarting;
    }
    match refused::ended(r, context, peer) {
        Fault::Server => outcome,
        Fault::Unclear => Outcome::Next,
        Fault::Request | Fault::TooLarge => Outcome::Refused,
    }
}

/// Says what may be wrong with a server that gives no answer, or none that is its own.
fn advise<'a>(
    r: Request<'a>,
    context: &Context<'a>,
    u: Upstream<'a>,
    peer: Peer<'a>,
    outcome: Outcome,
) {
    let (hints, name) = (&peer.servers().queue.hints, Printable(peer.name()));
    match context.head.get().map(|head| head.status) {
        Some(BAD_REQUEST) if !hints.is_understood() => {}
        Some(_) => {
            refused::answered(context, peer);
            return hints.set_understood();
        }
        None if outcome == Outcome::Failed && u.is_request_begun() => {}
        None => return,
    }
    let answered = context.answered.get();
    let timed_out = peer.connection().is_some_and(Connection::has_timed_out);
    let closed = peer.connection().is_some_and(|connection| connection.cut().is_some());
    // An HTTP server looks for the end of a line: without one it waits, until one of the two gives up,
    // with one it complains.
    let is_strange = match answered {
        true => context.sent_html.get() || context.head.get().is_some(),
        false => {
            if timed_out || closed {
                hints.count_unanswered();
            }
            hints.is_mute()
        }
    };
    if is_strange && !hints.is_understood() && hints.take_due(Hint::Http, nginx::now()) {
        r.log().error(format_args!(
            "\"{name}\" has understood no request yet: if it speaks HTTP, use \"proxy_pass\", or let it \
             speak uwsgi (uWSGI's \"socket\", gunicorn's \"--protocol uwsgi\")"
        ));
    }
}

fn facts<'a>(
    r: Request<'a>,
    context: &Context<'a>,
    u: Upstream<'a>,
    in_effect: &InEffect,
    connection: Connection<'_>,
    outcome: Outcome,
) -> Facts {
    let head = context.head.get();
    let fields = context.fields.get();
    let end = head.map_or(End::Open, |head| {
        let received = match context.reads_body.get() {
            true => u.body_received(),
            // what nginx did not read may have come all the same
            false => head.after.into(),
        };
        fields.framing(head.status).end(received, context.chunks.get())
    });
    Facts {
        reuse: in_effect.reuse,
        limits: in_effect.limits,
        shared: context.shared.get(),
        exiting: nginx::is_exiting(),
        failed: outcome == Outcome::Failed || connection.has_failed(),
        request_written: u.is_request_written(),
        length_is_ours: context.conf.string_has_no_length,
        head: r.is_head(),
        status: head.map(|head| head.status),
        said: fields.said(),
        end,
        requests: connection.requests(),
        age: connection.age(),
    }
}
