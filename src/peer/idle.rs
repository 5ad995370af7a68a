//! Connections in the pool: taken, parked, lost.

use super::observe::{observe, Event};
use super::places::{self, Parking};
use super::queue::Parked;
use super::retry::Risk;
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers};
use crate::nginx::connection::{Idle, Lost, Peek};
use crate::nginx::peer::IfDead;
use crate::nginx::{self, Request};
use crate::pure::pool::policy::{self, LastUse, Refusal};
use crate::state::ConnectionOrigin;

/// Takes a connection from the pool, if one fits. Beside it: what becomes of the request if it turns out
/// to be dead.
pub fn take(r: Request<'_>, peer: Peer<'_>) -> Option<(Idle, IfDead)> {
    let state = peer.state();
    let attempt = state.attempt();
    if !attempt.shared.get() || state.needs_new_connection.get() {
        return None;
    }
    let risk = Risk::of(r, state);
    let Parked { idle, slot } = find(r, peer.servers(), attempt.key.get(), risk)?;
    places::take_idle(peer, slot);
    attempt.connection.set(Some(ConnectionOrigin::Reused));
    Some((idle, if risk == Risk::None { IfDead::TryAgain } else { IfDead::Fail }))
}

/// The connection of this server that was used last, and is fit for this request and alive.
fn find(r: Request<'_>, servers: &Servers, key: &[u8], risk: Risk) -> Option<Parked> {
    // A server may close a connection that has been idle for long at this very moment.
    let now = if risk == Risk::None { nginx::now() } else { nginx::now_exactly() };
    let fit = |last_use: LastUse| match risk {
        Risk::None => true,
        Risk::Loss => last_use.is_fresh(now),
        Risk::Repetition => false,
    };
    loop {
        let (parked, last_use) = servers.idle.borrow_mut().take(key, fit)?;
        match parked.idle.peek() {
            Peek::Idle => {
                let since = now.wrapping_sub(last_use.started_at);
                observe(servers, r.log(), Event::Taken { idle: &parked.idle, since });
                return Some(parked);
            }
            Peek::Closed => places::close(servers, parked, Lost::Closed),
            Peek::Data => places::close(servers, parked, Lost::Data),
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
    let (servers, attempt) = (peer.servers(), peer.state().attempt());
    let key = attempt.key.get();
    let idle = peer.detach(settings.timeout).map_err(|peek| match peek {
        Peek::Data => Refusal::Surplus,
        Peek::Idle | Peek::Closed => Refusal::Failed,
    })?;
    let slot = attempt.slot.get().filter(|_| attempt.counted.get());
    if places::park(peer) == Parking::Close {
        return Err(Refusal::PlaceNeeded);
    }
    observe(servers, r.log(), Event::Parked { idle: &idle });
    let most = settings.idle;
    let count = servers.idle.borrow_mut().park(key, Parked { idle, slot }, last_use);
    if count > most {
        let excess = || servers.idle.borrow_mut().excess(key, most);
        while let Some(parked) = excess() {
            places::close(servers, parked, Lost::Excess);
        }
    }
    while Idle::count() > nginx::most_idle_connections() {
        let Some((servers, parked)) = take_oldest(r) else { break };
        places::close(servers, parked, Lost::Excess);
    }
    Ok(())
}

/// The connection used least lately of all upstreams.
fn take_oldest(r: Request<'_>) -> Option<(&Servers, Parked)> {
    let servers = Servers::all(r).filter_map(|servers| {
        let oldest = servers.idle.borrow().oldest()?;
        Some((oldest, servers))
    });
    let (_, servers) = servers.min_by_key(|(oldest, _)| *oldest)?;
    let parked = servers.idle.borrow_mut().take_oldest()?;
    Some((servers, parked))
}

/// Something has ended the connection in the pool that `is` the one looked for.
pub fn lose(servers: &Servers, is: &dyn Fn(&Idle) -> bool, why: Lost) {
    let is = |parked: &Parked| is(&parked.idle);
    let parked = match why {
        Lost::Closed => servers.idle.borrow_mut().closed(nginx::now(), is),
        _ => servers.idle.borrow_mut().remove(is),
    };
    if let Some(parked) = parked {
        places::close(servers, parked, why);
    }
}

/// The worker leaves. For how long it keeps the connection in the pool that `is` the one looked for, in
/// milliseconds; None: it closes it now.
pub fn patience(servers: &Servers, is: &dyn Fn(&Idle) -> bool) -> Option<usize> {
    servers
        .idle
        .borrow()
        .time_left(nginx::now(), |parked| is(&parked.idle))
        .and_then(policy::patience)
}
