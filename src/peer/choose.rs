//! The connection for a try: one of the pool, a new one, or the wait for one.

use super::connect::{connect, report, Connect};
use super::queue::Cause;
use super::{health, idle, limit, places, refused, silent, wait};
use crate::conf::connections::EffectiveSettings;
use crate::conf::LocConf;
use crate::module::{Peer, Uwsgi};
use crate::nginx::connect::Progress;
use crate::nginx::log::Printable;
use crate::nginx::peer::{Chosen, IfFull};
use crate::nginx::status::NOT_IMPLEMENTED;
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{zone, Request};
use crate::pure::pool::policy::Reuse;
use crate::state::{Before, Wait, WhyRefused};

/// A request with a body must not go to a puwsgi-socket, which takes the bytes of a body for the next
/// request.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
pub fn check_body(r: Request<'_>) -> Result<(), ngx_int_t> {
    let (conf, Some(u)) = (LocConf::of(r), r.upstream()) else { return Ok(()) };
    let servers = u.servers::<Uwsgi>(r);
    // there are none where nginx looks a host up
    let shared = servers.map_or(&conf.connections, |servers| &servers.settings);
    let settings = EffectiveSettings::of(shared, &conf.connections);
    if conf.upstream.pass_request_body == 0 || settings.reuse != Reuse::Puwsgi {
        return Ok(());
    }
    r.log().error(format_args!(
        "request with a body for a server that never reads one, as \"rs_uwsgi_reuse puwsgi\" says of \
         \"{}\"",
        Printable(servers.map_or(&[][..], |servers| &servers.name)),
    ));
    Err(NOT_IMPLEMENTED)
}

/// Finds a connection to the server that nginx has chosen: one from the pool, or else a new one, for
/// which the request may have to wait.
pub fn choose<'a>(r: Request<'a>, peer: Peer<'a>, if_full: IfFull) -> Chosen {
    let (state, chosen) = (peer.state(), find(r, peer, if_full));
    match chosen {
        Chosen::TryNextPeer => state.before.set(Before::Other),
        _ => state.tries.set(state.tries.get().wrapping_add(1)),
    }
    if chosen == Chosen::Ready {
        limit::begin(r, peer);
    }
    // the others are over
    if matches!(chosen, Chosen::New | Chosen::Ready | Chosen::Waiting) {
        health::begin(r, peer);
    }
    chosen
}

fn find<'a>(r: Request<'a>, peer: Peer<'a>, if_full: IfFull) -> Chosen {
    let (state, servers) = (peer.state(), peer.servers());
    let attempt = state.attempt();
    attempt.peer.set(Some(peer));
    let Ok(settings) = state.conf.settings_for(r, &servers.settings) else {
        return Chosen::Failed;
    };
    attempt.settings.set(Some(settings));
    let is_pooled = settings.reuse != Reuse::Off && settings.idle != 0;
    let pool_key = is_pooled.then(|| peer.pool_key(r)).flatten().unwrap_or_default();
    attempt.shared.set(!pool_key.is_empty());
    attempt.key.set(if pool_key.is_empty() { peer.address() } else { pool_key });
    if servers.shows_in_flight {
        note_in_flight(peer);
    }
    if refused::is_known_too_large(peer) {
        attempt.slot.set(places::find_slot(peer));
        return refuse(r, peer, if_full);
    }
    refused::begin(peer);
    // a connection of the pool knows its slot
    if let Some((idle, if_dead)) = idle::take(r, peer, places::LAST) {
        peer.attach(idle, if_dead);
        return Chosen::Ready;
    }
    attempt.slot.set(places::find_slot(peer));
    connect_or_wait(r, peer, settings, if_full)
}

/// Notes what the server works on already.
#[cold]
fn note_in_flight(peer: Peer<'_>) {
    let slot = places::find_slot(peer);
    let Some((worker, slot)) = zone::at(slot) else { return };
    peer.state().attempt().in_flight.set(Some(worker.zone().gauges(slot).in_flight()));
}

/// The request is too large for this server: one that may take more is asked, or it is answered when nginx
/// is done with it.
fn refuse<'a>(r: Request<'a>, peer: Peer<'a>, if_full: IfFull) -> Chosen {
    if if_full == IfFull::TryNextPeer && peer.has_others() {
        return Chosen::TryNextPeer;
    }
    peer.state().attempt().wait.set(Wait::Refused(WhyRefused::TooLarge));
    if peer.open().is_err() {
        return Chosen::Failed;
    }
    wait::begin(r, peer, 0).map_or(Chosen::Failed, |_| Chosen::Waiting)
}

/// Makes a connection, or lets the request wait for one.
fn connect_or_wait<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    settings: &EffectiveSettings,
    if_full: IfFull,
) -> Chosen {
    let state = peer.state();
    // nobody gets in before those who wait
    let has_place = places::take(peer, places::LAST);
    let is_watched = settings.connect_retry > 0 || silent::is_watched(peer);
    if has_place && !is_watched && !peer.is_unix() && !peer.is_loopback() {
        return Chosen::New;
    }
    let passes_over =
        if_full == IfFull::TryNextPeer && peer.has_others() && state.conf.tries_again_on_error();
    if !has_place && passes_over {
        return Chosen::TryNextPeer;
    }
    if peer.open().is_err() {
        return Chosen::Failed;
    }
    let connected = match has_place {
        true => connect(peer, 0),
        false => Connect::Wait(Cause::Turn),
    };
    match connected {
        Connect::Made(Progress::Connected) => Chosen::Ready,
        // nginx waits, as for one that it makes
        Connect::Made(Progress::Pending) if !is_watched => Chosen::Waiting,
        Connect::Made(Progress::Pending) => wait::begin(r, peer, wait::limit(state, settings))
            .map_or(Chosen::Failed, |waiter| {
                waiter.set_pending(true);
                silent::begin(peer, waiter);
                Chosen::Waiting
            }),
        Connect::Wait(_) if passes_over => {
            peer.discard();
            places::put_back(peer);
            Chosen::TryNextPeer
        }
        Connect::Wait(cause) => {
            places::put_back(peer);
            wait::enqueue(r, peer, settings, cause)
        }
        Connect::Failed(errno) => {
            report(r, peer, errno);
            peer.discard();
            Chosen::Unreachable
        }
    }
}
