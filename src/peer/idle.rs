//! Connections in the pool: taken, parked, lost.

use super::observe::{observe, Event};
use super::retry::Risk;
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers, State};
use crate::nginx::connection::{Idle, Lost, Peek};
use crate::nginx::peer::IfDead;
use crate::nginx::{self, Log, Request};
use crate::pure::pool::policy::{self, LastUse, Refusal};

/// Takes a connection from the pool, if one fits. Beside it: what becomes of the request if it turns out
/// to be dead.
pub fn take(r: Request<'_>, state: &State<'_>, servers: &Servers) -> Option<(Idle, IfDead)> {
    let attempt = state.attempt();
    if !attempt.shared.get() || state.needs_new_connection.get() {
        return None;
    }
    let risk = Risk::of(r, state);
    let idle = find(r, servers, attempt.key.get(), risk)?;
    Some((idle, if risk == Risk::None { IfDead::TryAgain } else { IfDead::Fail }))
}

/// The connection of this server that was used last, and is fit for this request and alive.
fn find(r: Request<'_>, servers: &Servers, key: &[u8], risk: Risk) -> Option<Idle> {
    // A server may close a connection that has been idle for long at this very moment.
    let now = if risk == Risk::None { nginx::now() } else { nginx::now_exactly() };
    let fit = |last_use: LastUse| match risk {
        Risk::None => true,
        Risk::Loss => last_use.is_fresh(now),
        Risk::Repetition => false,
    };
    loop {
        let (idle, last_use) = servers.idle.borrow_mut().take(key, fit)?;
        match idle.peek() {
            Peek::Idle => {
                let since = now.wrapping_sub(last_use.started_at);
                observe(servers, r.log(), Event::Taken { idle: &idle, since });
                return Some(idle);
            }
            Peek::Closed => close(servers, idle, Lost::Closed),
            Peek::Data => close(servers, idle, Lost::Data),
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
    last_use: LastUse,
    settings: &EffectiveSettings,
) -> Result<(), Refusal> {
    let (servers, key) = (peer.servers(), peer.state().attempt().key.get());
    let idle = peer.detach(settings.timeout).map_err(|peek| match peek {
        Peek::Data => Refusal::Surplus,
        Peek::Idle | Peek::Closed => Refusal::Failed,
    })?;
    observe(servers, r.log(), Event::Parked { idle: &idle });
    let most = settings.idle;
    let count = servers.idle.borrow_mut().park(key, idle, last_use);
    if count > most {
        let excess = || servers.idle.borrow_mut().excess(key, most);
        while let Some(idle) = excess() {
            close(servers, idle, Lost::Excess);
        }
    }
    while Idle::count() > nginx::most_idle_connections() {
        let Some((servers, idle)) = take_oldest(r) else { break };
        close(servers, idle, Lost::Excess);
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

/// Something has ended the connection in the pool that `is` the one looked for.
pub fn lose(servers: &Servers, is: &dyn Fn(&Idle) -> bool, why: Lost) {
    let idle = match why {
        Lost::Closed => servers.idle.borrow_mut().closed(nginx::now(), is),
        _ => servers.idle.borrow_mut().remove(is),
    };
    if let Some(idle) = idle {
        close(servers, idle, why);
    }
}

/// The worker leaves. For how long it keeps the connection in the pool that `is` the one looked for, in
/// milliseconds; None: it closes it now.
pub fn patience(servers: &Servers, is: &dyn Fn(&Idle) -> bool) -> Option<usize> {
    servers.idle.borrow().time_left(nginx::now(), is).and_then(policy::patience)
}

/// Closes a connection that is not in the pool any more.
pub fn close(servers: &Servers, idle: Idle, why: Lost) {
    observe(servers, Log::of_worker(), Event::Lost { idle: &idle, why });
    drop(idle);
}
