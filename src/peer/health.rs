//! Health: which servers of an upstream are probed, what becomes of the results, and which servers requests
//! pass over (`rs_uwsgi_health_check`, `rs_uwsgi_slow_start`). The rules are in [`crate::pure::health`].

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use super::checked::Server;
use super::observe::{observe, Event};
use super::places;
use super::retry::Risk;
use crate::module::{Peer, Probed, Servers};
use crate::nginx::connection::Lost;
use crate::nginx::log::{debug, Log, Printable};
use crate::nginx::peer::Choice;
use crate::nginx::probe::{Turn, Well};
use crate::nginx::resolved::Current;
use crate::nginx::shake::TlsClient;
use crate::nginx::tried::Tried;
use crate::nginx::{self, zone, Request};
use crate::pure::health::{
    self, is_in_share, pause, Change, Check, Failure, Kind, Lease, Report, State, FULL,
};
use crate::pure::status::health::Servers as Known;
use crate::state::RequestState;

/// The check of an upstream.
fn check_of(servers: &Servers) -> Option<&Rc<Check>> {
    servers.settings.health.as_ref().map(|said| &said.check)
}

fn now() -> u64 {
    nginx::now() as u64
}

/// A worker begins, or the servers are others: those that it probes from now on.
pub fn probed(servers: &Servers, now: Vec<Current>) -> Vec<Probed> {
    let Some(check) = check_of(servers) else { return Vec::new() };
    let before = servers.checked.servers.take();
    let known = |address: &[u8]| before.get(place(&before, address)?).cloned();
    let make = |current: Current| {
        known(&current.address).unwrap_or_else(|| {
            Rc::new(Server {
                slot: places::slot_of(servers, &current.address, &current.name),
                address: current.address,
                name: current.name,
                words: [const { AtomicU64::new(0) }; health::WORDS],
            })
        })
    };
    let mut all: Vec<_> = now.into_iter().map(make).collect();
    all.sort_by(|a, b| a.address.cmp(&b.address));
    all.dedup_by(|a, b| a.address == b.address);
    for gone in before.iter().filter(|server| place(&all, &server.address).is_none()) {
        gone.known().let_go(worker_number());
    }
    // soon, and not all at once
    let first = || pause(1, check.interval.min(1000), nginx::random()) as usize;
    let probed = |server: &Rc<Server>| Probed {
        address: server.address.clone(),
        pause: first(),
        server: server.clone(),
    };
    let probes = all.iter().map(probed).collect();
    servers.checked.servers.replace(all);
    probes
}

/// Closes the idle connections to servers that there are no more.
pub fn close_gone(servers: &Servers) {
    if servers.idle.borrow().is_empty() {
        return;
    }
    let mut now: Vec<_> = servers.current().into_iter().map(|server| server.address).collect();
    now.sort_unstable();
    // a key begins with the address, and no address with another
    let is_gone = |key: &[u8]| {
        let place = now.partition_point(|address| **address <= *key).checked_sub(1);
        !place.and_then(|place| now.get(place)).is_some_and(|address| key.starts_with(address))
    };
    let gone = || servers.idle.borrow_mut().take_of(is_gone);
    while let Some(parked) = gone() {
        places::close(servers, parked, Lost::Gone);
    }
}

/// The number of this worker, for leases; without a zone there is none but this one.
fn worker_number() -> usize {
    zone::this_worker().map_or(0, |(worker, _)| worker.id().index())
}

/// What a busy worker may be late by, in milliseconds.
const LATE: u64 = 500;

/// It is time for a probe, where this worker is the one that probes.
pub fn turn(servers: &Servers, server: &Server) -> Turn {
    let Some(check) = check_of(servers) else { return Turn::Wait(1000) };
    move_on(servers, check, server);
    let now = now();
    match server.known().hold(worker_number(), now, now + check.timeout + LATE) {
        Lease::Held => {
            debug!(Log::of_worker(), "http rs_uwsgi probe {}", Printable(&server.name));
            Turn::Probe(check.timeout as usize)
        }
        // who has it may leave before
        Lease::Wait(wait) => Turn::Wait(wait.min(check.interval) as usize + 1),
    }
}

/// How the servers speak TLS, where a probe sends something.
pub fn tls(servers: &Servers) -> Option<&TlsClient> {
    servers.settings.health.as_ref().and_then(|said| said.tls.as_ref())
}

/// What a probe sends.
pub fn packet(servers: &Servers) -> &[u8] {
    check_of(servers).map_or(&[], |check| &check.packet)
}

/// A response is read to its end, so that the application can write it. After uWSGI's answer to a ping nothing comes.
pub fn reads_on(servers: &Servers) -> bool {
    check_of(servers).is_some_and(|check| check.kind == Kind::Uri)
}

/// What a server has answered.
pub fn read(servers: &Servers, bytes: &[u8], ended: bool) -> health::Reading {
    check_of(servers).map_or(health::Reading::Passed, |check| check.read(bytes, ended))
}

/// A probe has ended. Returns the pause until the next.
pub fn ended(servers: &Servers, server: &Server, result: Result<Well, Failure>) -> usize {
    let Some(check) = check_of(servers) else { return 1000 };
    let code = result.as_ref().err().map(Failure::code);
    let change = server.known().record(code, check.rules, now());
    if let (Ok(Well::Reached), Some(Change { to: State::Up, .. })) = (&result, change) {
        observe(servers, None, Log::of_worker(), Event::NoPong { name: &server.name });
    }
    tell(servers, server, change, result.as_ref().err());
    move_on(servers, check, server);
    let pause = pause(check.interval, check.jitter, nginx::random());
    server.known().hold(worker_number(), now(), now() + pause + LATE);
    pause as usize
}

/// A request goes to a server.
#[inline(always)]
pub fn begin(r: Request<'_>, peer: Peer<'_>) {
    if check_of(peer.servers()).is_some() {
        note(r, peer);
    }
}

/// The same where servers are checked.
#[inline(never)]
fn note(r: Request<'_>, peer: Peer<'_>) {
    let checked = &peer.servers().checked;
    let all = checked.servers.borrow();
    if let Some(server) = place(&all, peer.address()).and_then(|place| all.get(place)) {
        let number = checked.last.get() + 1;
        checked.last.set(number);
        checked.tried.borrow_mut().insert(number, (Rc::clone(server), Tried::of(r)));
        peer.state().attempt().tried.set(Some(number));
    }
}

/// The try is over.
#[inline]
pub fn end(peer: Peer<'_>) {
    if let Some(number) = peer.state().attempt().tried.take() {
        peer.servers().checked.tried.borrow_mut().remove(&number);
    }
}

/// Where a server hangs and another does not, requests that it has had for as long as a probe waits, and has not
/// begun to answer, go there, as far as they may be repeated, and those that wait for a connection to it. Others wait on.
fn move_on(servers: &Servers, check: &Check, server: &Server) {
    let tried = servers.checked.tried.borrow();
    if tried.is_empty() || !server.known().hangs() {
        return;
    }
    let all = servers.checked.servers.borrow();
    if all.iter().all(|server| server.known().state() == State::Down) {
        return;
    }
    let of = |of: &Server| of.address == server.address;
    // nginx ends the tries later: nothing leaves the list meanwhile
    let given_up = |(number, (_, tried)): &(&u64, &(_, Tried))| {
        tried.with(|r| give_up(r, **number, check.timeout)) == Some(true)
    };
    let count = tried.iter().filter(|(_, (server, _))| of(server)).filter(given_up).count();
    if count > 0 {
        let moved = Event::MovedOn { name: &server.name, count };
        observe(servers, None, Log::of_worker(), moved);
    }
}

/// Ends a try that began longer ago than this, where another may follow.
fn give_up(r: Request<'_>, number: u64, least: u64) -> bool {
    let Some(state) = RequestState::of(r) else { return false };
    let (attempt, conf) = (state.attempt(), state.conf);
    let since = |time: usize| nginx::now().wrapping_sub(time);
    let limit = conf.upstream.next_upstream_timeout;
    let may = attempt.tried.get() == Some(number)
        && since(attempt.started_at.get()) as u64 >= least
        && attempt.peer.get().is_some_and(Peer::has_others)
        && conf.tries_again_on_timeout()
        && (limit == 0 || since(state.upstream.tried_since()) < limit);
    match state.waiter.get() {
        _ if !may => return false,
        // nothing of it has been sent
        Some(waiter) => waiter.give_up(),
        None if attempt.response.has_begun() || Risk::of(r, state) != Risk::None => return false,
        None => state.upstream.time_out(),
    }
    true
}

/// This worker does not probe any more: another does at once.
pub fn leave(servers: &Servers) {
    for server in &*servers.checked.servers.borrow() {
        server.known().let_go(worker_number());
    }
}

/// A request has had no answer from the server of its try.
pub fn request_failed(peer: Peer<'_>) {
    let servers = peer.servers();
    let Some((check, server)) = find(servers, peer.address()) else { return };
    let change = server.known().failed(check.rules, now());
    tell(servers, &server, change, None);
}

fn tell(servers: &Servers, server: &Server, change: Option<Change>, reason: Option<&Failure>) {
    let Some(change) = change else { return };
    // that a server is up is no news where nobody knew otherwise
    if change.to == State::Down || change.from == State::Down {
        let health = Event::Health { name: &server.name, change, reason };
        observe(servers, None, Log::of_worker(), health);
    }
}

/// The place of the server with this address.
fn place(all: &[Rc<Server>], address: &[u8]) -> Option<usize> {
    all.binary_search_by(|server| (*server.address).cmp(address)).ok()
}

fn find<'s>(servers: &'s Servers, address: &[u8]) -> Option<(&'s Rc<Check>, Rc<Server>)> {
    let all = servers.checked.servers.borrow();
    Some((check_of(servers)?, all.get(place(&all, address)?)?.clone()))
}

/// Does a request take the server that the balancer has chosen?
#[inline(always)]
pub fn choice(peer: Peer<'_>) -> Choice {
    match check_of(peer.servers()) {
        None => Choice::Take,
        Some(_) => choice_among(peer),
    }
}

#[inline(never)]
fn choice_among(peer: Peer<'_>) -> Choice {
    let servers = peer.servers();
    let all = &*servers.checked.servers.borrow();
    let server = place(all, peer.address()).and_then(|place| all.get(place));
    let Some((check, server)) = check_of(servers).zip(server) else { return Choice::Take };
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
    let has_all = |other: &Rc<Server>| {
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
    for server in &*servers.checked.servers.borrow() {
        known.add(server.known().state());
    }
    Some(known)
}

/// What is known of the servers that are checked, by their names in the log.
pub fn reports(servers: &Servers) -> BTreeMap<Box<[u8]>, Report> {
    if check_of(servers).is_none() {
        return BTreeMap::new();
    }
    let all = servers.checked.servers.borrow();
    all.iter().map(|server| (server.name.clone(), server.known().report())).collect()
}

/// The state of the server of a try, for `$rs_uwsgi_health`.
pub fn state_of(peer: Peer<'_>) -> Option<State> {
    find(peer.servers(), peer.address()).map(|(_, server)| server.known().state())
}
