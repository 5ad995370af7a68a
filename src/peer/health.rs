//! Health: which servers of an upstream are probed, what becomes of the results, and which servers requests
//! pass over (`rs_uwsgi_health_check`, `rs_uwsgi_slow_start`). The rules are in [`crate::pure::health`].

use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use super::checked::Server;
use super::observe::{observe, Event};
use crate::module::{Peer, Servers};
use crate::nginx::block::Target;
use crate::nginx::log::{debug, Log, Printable};
use crate::nginx::peer::Choice;
use crate::nginx::probe::{Turn, Well};
use crate::nginx::{self, zone};
use crate::pure::health::{self, is_in_share, pause, Change, Check, Failure, Lease, State, FULL};
use crate::pure::status::health::Servers as Known;
use crate::pure::zone::SlotId;

/// The check of an upstream.
fn check_of(servers: &Servers) -> Option<&Rc<Check>> {
    servers.settings.health.as_ref().map(|said| &said.check)
}

fn now() -> u64 {
    nginx::now() as u64
}

/// A worker begins: the addresses of servers that it probes, and when.
pub fn begin(servers: &Servers) -> Vec<(Box<[u8]>, usize)> {
    let Some(check) = check_of(servers) else { return Vec::new() };
    let mut all: Vec<_> = servers
        .targets()
        .map(|target| Server {
            slot: find_slot(servers, target),
            address: target.address.into(),
            name: target.name.into(),
            words: [const { AtomicU64::new(0) }; health::WORDS],
        })
        .collect();
    all.sort_by(|a, b| a.address.cmp(&b.address));
    all.dedup_by(|a, b| a.address == b.address);
    // soon, and not all at once
    let first = |_: &Server| pause(1, check.interval.min(1000), nginx::random()) as usize;
    let probes = all.iter().map(|server| (server.address.clone(), first(server))).collect();
    let _ = servers.checked.servers.set(all);
    probes
}

fn find_slot(servers: &Servers, target: Target<'_>) -> Option<SlotId> {
    let (worker, generation) = zone::this_worker()?;
    let slot = servers.slot(worker.zone(), generation, target.address, target.name);
    if slot.is_err() {
        observe(servers, None, Log::of_worker(), Event::ZoneFull { name: target.name });
    }
    slot.ok()
}

fn server(servers: &Servers, index: usize) -> Option<(&Rc<Check>, &Server)> {
    Some((check_of(servers)?, servers.checked.servers.get()?.get(index)?))
}

/// The number of this worker, for leases; without a zone there is none but this one.
fn worker_number() -> usize {
    zone::this_worker().map_or(0, |(worker, _)| worker.id().index())
}

/// It is time for a probe, where this worker is the one that probes.
pub fn turn(servers: &Servers, index: usize) -> Turn {
    let Some((check, server)) = server(servers, index) else { return Turn::Wait(1000) };
    let now = now();
    // until the next one has ended; what a busy worker may be late by comes on top
    let until = now + check.timeout + check.interval + check.jitter + 500;
    match server.known().hold(worker_number(), now, until) {
        Lease::Held => {
            debug!(Log::of_worker(), "http rs_uwsgi probe {}", Printable(&server.name));
            Turn::Probe(check.timeout as usize)
        }
        Lease::Wait(wait) => Turn::Wait(wait as usize + 1),
    }
}

/// What a probe sends.
pub fn packet(servers: &Servers) -> &[u8] {
    check_of(servers).map_or(&[], |check| &check.packet)
}

/// What a server has answered.
pub fn read(servers: &Servers, bytes: &[u8], ended: bool) -> health::Reading {
    check_of(servers).map_or(health::Reading::Passed, |check| check.read(bytes, ended))
}

/// A probe has ended. Returns the pause until the next.
pub fn ended(servers: &Servers, index: usize, result: Result<Well, Failure>) -> usize {
    let Some((check, server)) = server(servers, index) else { return 1000 };
    let code = result.as_ref().err().map(Failure::code);
    let change = server.known().record(code, check.rules, now());
    if let (Ok(Well::Reached), Some(Change { to: State::Up, .. })) = (&result, change) {
        observe(servers, None, Log::of_worker(), Event::NoPong { name: &server.name });
    }
    tell(servers, server, change, result.as_ref().err());
    pause(check.interval, check.jitter, nginx::random()) as usize
}

/// This worker does not probe any more: another does at once.
pub fn leave(servers: &Servers) {
    for server in servers.checked.servers.get().into_iter().flatten() {
        server.known().let_go(worker_number());
    }
}

/// A request has had no answer from the server of its try.
pub fn request_failed(peer: Peer<'_>) {
    let servers = peer.servers();
    let Some((check, server)) = find(servers, peer.address()) else { return };
    let change = server.known().failed(check.rules, now());
    tell(servers, server, change, None);
}

fn tell(servers: &Servers, server: &Server, change: Option<Change>, reason: Option<&Failure>) {
    let Some(change) = change else { return };
    // that a server is up is no news where nobody knew otherwise
    if change.to == State::Down || change.from == State::Down {
        let health = Event::Health { name: &server.name, change, reason };
        observe(servers, None, Log::of_worker(), health);
    }
}

fn find<'s>(servers: &'s Servers, address: &[u8]) -> Option<(&'s Rc<Check>, &'s Server)> {
    let all = servers.checked.servers.get()?;
    let place = all.binary_search_by(|server| (*server.address).cmp(address)).ok()?;
    server(servers, place)
}

/// Does a request take the server that the balancer has chosen?
#[inline]
pub fn choice(peer: Peer<'_>) -> Choice {
    match peer.servers().checked.servers.get() {
        None => Choice::Take,
        Some(all) => choice_among(peer, all),
    }
}

fn choice_among(peer: Peer<'_>, all: &[Server]) -> Choice {
    let servers = peer.servers();
    let Some((check, server)) = find(servers, peer.address()) else { return Choice::Take };
    let (known, slow_start) = (server.known(), slow_start_of(servers));
    let others = || all.iter().filter(|other| other.address != server.address);
    if known.state() == State::Down {
        return match (others().any(|other| other.known().state() != State::Down), check.mandatory) {
            (true, _) => Choice::PassOver,
            (false, true) => Choice::NoneIsUp,
            (false, false) => Choice::Take,
        };
    }
    if slow_start == 0 {
        return Choice::Take;
    }
    let now = now();
    let share = known.share(slow_start, now);
    if share == FULL {
        return Choice::Take;
    }
    let has_all = |other: &Server| {
        let known = other.known();
        known.state() != State::Down && known.share(slow_start, now) == FULL
    };
    let number = servers.checked.requests.get();
    servers.checked.requests.set(number.wrapping_add(1));
    match !is_in_share(number, share) && others().any(has_all) {
        true => Choice::PassOver,
        false => Choice::Take,
    }
}

fn slow_start_of(servers: &Servers) -> u64 {
    servers.settings.slow_start.value().unwrap_or(0) as u64
}

/// The servers of an upstream that are checked; None where none are.
pub fn count(servers: &Servers) -> Option<Known> {
    check_of(servers)?;
    let mut known = Known::default();
    for server in servers.checked.servers.get().into_iter().flatten() {
        known.add(server.known().state());
    }
    Some(known)
}

/// The state of the server of a try, for `$rs_uwsgi_health`.
pub fn state_of(peer: Peer<'_>) -> Option<State> {
    find(peer.servers(), peer.address()).map(|(_, server)| server.known().state())
}
