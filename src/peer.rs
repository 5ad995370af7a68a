//! The connection to a server: taken from the pool where one fits, parked there when it may carry
//! another request.
//!
//! nginx chooses the server (`peer.get` of the balancer in effect), and makes connections
//! (`ngx_event_connect_peer`) where this module does not ([`connect`]). What
//! `ngx_http_upstream_keepalive_module` does for `proxy_pass` is done here for this module's requests
//! alone, by stricter rules ([`crate::pure::pool::policy`]).

pub mod connect;
pub mod wait;

use crate::conf::reuse::InEffect;
use crate::handler::{Connection, Context};
use crate::nginx::balancer::Chosen;
use crate::nginx::connection::{Idle, Lost, Peek};
use crate::nginx::log::{debug, Log, Printable};
use crate::nginx::peer::Peer;
use crate::nginx::servers::Servers;
use crate::nginx::{self, Request};
use crate::pure::pool::policy::{Left, Refusal, Reuse};
use crate::pure::vars_limit::Cut;
use crate::refused;

/// Must the request's body not be passed on? Where it is so, the log says why: a puwsgi-socket takes
/// the bytes of a body for the next request.
pub fn refuses_body(r: Request<'_>) -> bool {
    let (conf, Some(u)) = (r.loc_conf(), r.upstream()) else { return false };
    let servers = u.servers(r);
    let refuses =
        conf.upstream.pass_request_body != 0 && conf.in_effect(servers).reuse == Reuse::Puwsgi;
    if refuses {
        r.log().error(format_args!(
            "request with a body for a server that never reads one, as \"rs_uwsgi_reuse puwsgi\" says \
             of \"{}\"",
            Printable(servers.map_or(&[][..], |servers| &servers.name)),
        ));
    }
    refuses
}

/// Finds a connection to the server that nginx has chosen: one from the pool, or else a new one, for
/// which the request may have to wait. `has_others`: if there is no room, others are asked.
pub fn choose<'a>(r: Request<'a>, peer: Peer<'a>, has_others: bool) -> Chosen {
    let (context, servers) = (peer.context(), peer.servers());
    context.peer.set(Some(peer));
    let in_effect = context.conf.in_effect(Some(servers));
    let is_pooled = in_effect.reuse != Reuse::Off && in_effect.limits.idle != 0;
    let pool_key = is_pooled.then(|| peer.pool_key(r)).flatten().unwrap_or_default();
    context.shared.set(!pool_key.is_empty());
    context.line.set(if pool_key.is_empty() { peer.address() } else { pool_key });
    if refused::is_known_too_large(context, peer) {
        return refuse(r, peer, context, has_others);
    }
    refused::begin(context, peer);
    // nobody gets in before those who wait
    if !servers.queue.is_waiting(context.line.get()) {
        if let Some((idle, again)) = take(r, context, servers) {
            context.connection.set(Some(Connection::Reused));
            peer.attach(idle, again);
            servers.queue.begin(context, &in_effect);
            return Chosen::Ready;
        }
    }
    connect::connect(r, peer, context, &in_effect, has_others)
}

/// The request is too large for this server: one that may take more is asked, or it is answered when nginx
/// is done with it.
fn refuse<'a>(r: Request<'a>, peer: Peer<'a>, context: &Context<'a>, has_others: bool) -> Chosen {
    if has_others && peer.has_others() {
        return Chosen::Full;
    }
    context.too_large.set(true);
    if peer.open().is_err() {
        return Chosen::Failed;
    }
    wait::wait(r, peer, context, 0).map_or(Chosen::Failed, |_| Chosen::Waiting)
}

/// Takes a connection from the pool, if one fits. Beside it: will the request be sent again if it
/// turns out to be dead?
fn take(r: Request<'_>, context: &Context<'_>, servers: &Servers) -> Option<(Idle, bool)> {
    let key = context.line.get();
    if !context.shared.get() || context.needs_new_connection.get() {
        return None;
    }
    let risk = Risk::of(r, context);
    let idle = find(r, servers, key, risk)?;
    Some((idle, risk == Risk::None))
}

/// The connection of this server that was used last, and is fit for this request and alive.
fn find(r: Request<'_>, servers: &Servers, key: &[u8], risk: Risk) -> Option<Idle> {
    // A server may close a connection that has been idle for long at this very moment.
    let now = if risk == Risk::None { nginx::now() } else { nginx::now_exactly() };
    let fit = |left: Left| match risk {
        Risk::None => true,
        Risk::Loss => left.is_fresh(now),
        Risk::Repetition => false,
    };
    loop {
        let (idle, left) = servers.idle.borrow_mut().take(key, fit)?;
        match idle.peek() {
            Peek::Quiet => {
                debug!(
                    r.log(),
                    "http rs_uwsgi take connection, fd:{}, {} requests, the last one {} ms ago",
                    idle.descriptor(),
                    idle.requests(),
                    now.wrapping_sub(left.begun),
                );
                return Some(idle);
            }
            Peek::Closed => lost(servers, idle, Lost::Closed),
            Peek::Data => lost(servers, idle, Lost::Data),
        }
    }
}

/// If the server has ended the connection before an answer, is the request sent again to the one that
/// takes its place? `rs_uwsgi_connect_retry` bridges restarts, for what may be repeated.
///
/// A server that stops closes what it has read in order, and what lies in its listen queue is reset a
/// moment later. So a request is sent again once for each of the two, in this order, and no more: the
/// server may be dying of it.
pub fn bridges_restart(
    r: Request<'_>,
    context: &Context<'_>,
    peer: Peer<'_>,
    in_effect: &InEffect,
    end: Cut,
) -> bool {
    let may_follow = match context.repeated.get() {
        None => true,
        Some(before) => before != Cut::Reset && end == Cut::Reset,
    };
    in_effect.connect_retry > 0
        && !context.answered.get()
        && !peer.has_others()
        && may_follow
        && Risk::of(r, context) == Risk::None
}

/// What becomes of a request whose connection turns out to be dead after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Risk {
    /// It is sent again.
    None,
    /// It is not sent again: the connection must not be one that the server may be about to close.
    Loss,
    /// It must not be sent again, but nginx would do so, to another server: it takes all but POST,
    /// PATCH and LOCK for idempotent.
    Repetition,
}

impl Risk {
    fn of(r: Request<'_>, context: &Context<'_>) -> Risk {
        let is_tried_again = !r.is_body_unbuffered() && context.conf.tries_again_on_error();
        match (is_tried_again, r.is_idempotent()) {
            (true, true) => Risk::None,
            (true, false) if !r.is_held_back() => Risk::Repetition,
            _ => Risk::Loss,
        }
    }
}

/// Puts the connection of a finished request into the pool.
///
/// # Errors
///
/// Where it turns out not to be idle.
pub fn park<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    key: &[u8],
    left: Left,
    in_effect: &InEffect,
) -> Result<(), Refusal> {
    let servers = peer.servers();
    let idle = peer.detach(in_effect.timeout).map_err(|peek| match peek {
        Peek::Data => Refusal::Surplus,
        Peek::Quiet | Peek::Closed => Refusal::Failed,
    })?;
    debug!(
        r.log(),
        "http rs_uwsgi park connection, fd:{}, {} requests",
        idle.descriptor(),
        idle.requests(),
    );
    let most = in_effect.limits.idle;
    let count = servers.idle.borrow_mut().park(key, idle, left);
    if count > most {
        let excess = || servers.idle.borrow_mut().excess(key, most);
        while let Some(idle) = excess() {
            lost(servers, idle, Lost::Excess);
        }
    }
    while Idle::count() > nginx::most_idle_connections() {
        let Some((servers, idle)) = take_oldest(r) else { break };
        lost(servers, idle, Lost::Excess);
    }
    Ok(())
}

/// The connection used least lately of all upstreams.
fn take_oldest(r: Request<'_>) -> Option<(&Servers, Idle)> {
    let servers = Servers::all(r).filter_map(|servers| {
        let oldest = servers.idle.borrow().oldest()?;
        Some((oldest, servers))
    });
    let (_, servers) = servers.min_by_key(|(oldest, _)| *oldest)?;
    let idle = servers.idle.borrow_mut().take_oldest()?;
    Some((servers, idle))
}

/// Closes a connection that is not in the pool any more.
pub fn lost(servers: &Servers, idle: Idle, why: Lost) {
    let log = Log::of_worker();
    match why {
        Lost::Data if !idle.is_tls() => log.warn(format_args!(
            "upstream sent data that was not asked for on an idle connection to \"{}\", it is closed",
            Printable(&servers.name)
        )),
        _ => log.debug(format_args!(
            "http rs_uwsgi close idle connection, fd:{}: {why}",
            idle.descriptor()
        )),
    }
    drop(idle);
}
