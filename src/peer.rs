//! The connection to a server: taken from the pool where one fits, parked there when it may carry
//! another request.
//!
//! nginx chooses the server (`peer.get` of the balancer in effect) and makes the connections
//! (`ngx_event_connect_peer`). What `ngx_http_upstream_keepalive_module` does for `proxy_pass` is
//! done here for this module's requests alone, by stricter rules ([`crate::pool::policy`]).

use crate::conf::reuse::InEffect;
use crate::ffi::connection::{Idle, Lost, Peek};
use crate::ffi::log::Printable;
use crate::ffi::peer::{Peer, Servers};
use crate::ffi::{self, Request};
use crate::handler::{Connection, Context};
use crate::pool::policy::{Left, Refusal, Reuse};

/// Must the request's body not be passed on? Where it is so, the log says why: a puwsgi-socket takes
/// the bytes of a body for the next request.
pub fn refuses_body(r: Request<'_>) -> bool {
    let (conf, Some(u)) = (r.loc_conf(), r.upstream()) else { return false };
    let servers = u.servers(r);
    let settings = servers.map_or(&conf.reuse, |servers| &servers.settings);
    let refuses = InEffect::of(settings, &conf.reuse).reuse == Reuse::Puwsgi
        && conf.upstream.pass_request_body != 0;
    if refuses {
        r.log().error(format_args!(
            "request with a body for a server that never reads one, as \"rs_uwsgi_reuse puwsgi\" says \
             of \"{}\"",
            Printable(servers.map_or(&[][..], |servers| &servers.name)),
        ));
    }
    refuses
}

/// Gives the request a connection from the pool. False where none fits.
pub fn take<'a>(r: Request<'a>, peer: Peer<'a>) -> bool {
    let Some(context) = r.context() else { return false };
    let servers = peer.servers();
    let in_effect = InEffect::of(&servers.settings, &r.loc_conf().reuse);
    if in_effect.reuse == Reuse::Off || in_effect.limits.idle == 0 {
        return false;
    }
    let Some(key) = peer.pool_key(r) else {
        return false;
    };
    context.pool_key.set(key);
    match find(r, context, servers, key) {
        Some(idle) => {
            context.connection.set(Some(Connection::Reused));
            peer.attach(idle);
            true
        }
        None => false,
    }
}

/// The connection of this server that was used last, and is fit for this request and alive.
fn find(r: Request<'_>, context: &Context<'_>, servers: &Servers, key: &[u8]) -> Option<Idle> {
    if context.needs_new_connection.get() {
        return None;
    }
    // A server may close a connection that has been idle for long at this very moment.
    let may_be_repeated = may_be_repeated(r);
    let now = if may_be_repeated { ffi::now() } else { ffi::now_exactly() };
    loop {
        let fit = |left: Left| may_be_repeated || left.is_fresh(now);
        let (idle, left) = servers.idle.borrow_mut().take(key, fit)?;
        let idle_for = now.wrapping_sub(left.at);
        match idle.peek() {
            Peek::Quiet => {
                r.log().debug(format_args!(
                    "http rs_uwsgi take connection, fd:{}, {} requests, idle for {idle_for} ms",
                    idle.descriptor(),
                    idle.requests(),
                ));
                return Some(idle);
            }
            Peek::Closed => lost(servers, idle, Lost::Closed),
            Peek::Data => lost(servers, idle, Lost::Data),
        }
    }
}

/// Would nginx send the request again, if the connection turns out to be dead? What it would not
/// must not be put on a connection that the server may be about to close.
fn may_be_repeated(r: Request<'_>) -> bool {
    r.is_idempotent() && !r.is_body_unbuffered() && r.loc_conf().tries_again_on_error()
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
    r.log().debug(format_args!(
        "http rs_uwsgi park connection, fd:{}, {} requests",
        idle.descriptor(),
        idle.requests(),
    ));
    servers.idle.borrow_mut().park(key, idle, left);
    let excess = || {
        let mut pool = servers.idle.borrow_mut();
        let of_server = pool.excess(key, in_effect.limits.idle);
        of_server.or_else(|| pool.excess_of_all(ffi::most_idle_connections()))
    };
    while let Some(idle) = excess() {
        lost(servers, idle, Lost::Excess);
    }
    Ok(())
}

/// Closes a connection that is not in the pool any more.
pub fn lost(servers: &Servers, idle: Idle, why: Lost) {
    let log = idle.log();
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
    idle.close();
}
