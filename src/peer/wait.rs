//! The wait for a connection, where the server has no room for one more.
//!
//! [`line`] says who is next. Nothing has been sent yet, so even a POST may wait.
//! They look for a connection again whenever one to this server comes free, which is when the server, too,
//! takes the next one from its listen queue; and as other clients keep the server busy as well, by a timer
//! with a [backoff](crate::pure::queue::Backoff).

use super::connect::{self, Connect};
use super::observe::{observe, Event};
use super::queue::{self, settings_of, Cause, Queued, QueuedStats};
use super::{idle, limit, line, places, priority, refused, silent};
use crate::conf::connections::EffectiveSettings;
use crate::module::{Peer, Servers, State, Waiter};
use crate::nginx::callbacks::Next;
use crate::nginx::connect::{Errno, Progress};
use crate::nginx::peer::Chosen;
use crate::nginx::status::SERVICE_UNAVAILABLE;
use crate::nginx::{self, Request};
use crate::pure::hints;
use crate::pure::line::Place;
use crate::pure::queue::LastAttempt;
use crate::pure::stats::QueueEnd;
use crate::pure::zone::{Rank, Rung, SlotId};
use crate::state::{RequestState, Wait, WhyRefused};

/// For how long one may wait before the log tells of it, in milliseconds.
const LONG: usize = 1000;

/// How long the request may wait, in milliseconds.
pub fn limit(state: &State<'_>, settings: &EffectiveSettings) -> usize {
    settings.queue_timeout.unwrap_or(state.conf.upstream.connect_timeout)
}

/// Lets the request wait in the queue, where there is room in it.
pub fn enqueue<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    settings: &EffectiveSettings,
    cause: Cause,
) -> Chosen {
    let (servers, state) = (peer.servers(), peer.state());
    let limit = limit(state, settings);
    let Some(waiter) = begin(r, peer, limit) else {
        return Chosen::Failed;
    };
    let place = Place::new(priority::of(r, peer), waiter.arrived_at());
    let expected = match cause {
        Cause::Refused(_) => None,
        _ => line::expected(peer, place).filter(|expected| expected.wait > limit as u64),
    };
    let joined = match expected {
        None => line::join(peer, waiter, Some(settings.queue), place).ok_or(WhyRefused::QueueFull),
        Some(expected) => Err(WhyRefused::WaitTooLong(expected)),
    };
    let before = match joined {
        Ok(before) => before,
        Err(why) => {
            state.attempt().wait.set(Wait::Refused(why));
            waiter.expire();
            return Chosen::Waiting;
        }
    };
    queued(r, peer, cause, before);
    observe_refusal(r, peer, cause, settings);
    // whoever is before this one has set the timer, or waits for a connection to come free
    match (cause, state.attempt().slot.get()) {
        // which may have come free in another worker before this request was in the line
        (Cause::Turn, Some(_)) => queue::wake(servers, state.attempt().key.get()),
        (Cause::Turn, None) => {}
        (_, slot) => servers.wake_by(places::next_attempt(servers, slot, LastAttempt::Succeeded)),
    }
    Chosen::Waiting
}

/// Notes that the request is in the queue, behind so many.
fn queued(r: Request<'_>, peer: Peer<'_>, cause: Cause, before: usize) {
    let (servers, state) = (peer.servers(), peer.state());
    state.attempt().wait.set(Wait::Queued);
    state.queue_position.set(u32::try_from(before + 1).unwrap_or(u32::MAX));
    let slot = state.attempt().slot.get();
    observe(servers, slot, r.log(), Event::Queued { name: peer.name(), cause, before });
    let mut stats = servers.queue.stats.get();
    if cause == Cause::ListenQueue || stats.count > 0 {
        stats.count += 1;
        servers.queue.stats.set(stats);
    }
}

/// Begins to wait.
pub fn begin<'a>(r: Request<'a>, peer: Peer<'a>, limit: usize) -> Option<&'a Waiter<'a>> {
    let waiter = peer.wait(r, limit).inspect_err(|_| peer.discard()).ok()?;
    peer.state().waiter.set(Some(waiter));
    Some(waiter)
}

/// The client of a request that waits has left.
pub fn give_up(r: Request<'_>, waiter: &Waiter<'_>) {
    let queued = remove(waiter);
    waiter.leave();
    if let Some(slot) = queued {
        line::left_in_vain(waiter.peer(), slot, waiter.time(), false);
    }
    end(r, waiter, QueueEnd::ClientGone);
}

/// A request waits no longer, and nothing is to be said of it.
pub fn forget(waiter: &Waiter<'_>) {
    remove(waiter);
    waiter.leave();
}

/// Takes a request out of the queue. Where it was there, returns the slot of the server that it waited for.
fn remove(waiter: &Waiter<'_>) -> Option<Option<SlotId>> {
    let (servers, attempt) = (waiter.peer().servers(), waiter.peer().state().attempt());
    let Queued { slot, .. } = servers.queue.remove(waiter)?;
    line::leave(servers, attempt.key.get(), slot);
    Some(slot)
}

/// Notes that the wait is over, and how, where it was one in the queue.
fn end(r: Request<'_>, waiter: &Waiter<'_>, how: QueueEnd) {
    let (peer, time) = (waiter.peer(), waiter.time());
    let (state, queue) = (peer.state(), &peer.servers().queue);
    let attempt = state.attempt();
    let is_refusal = matches!(how, QueueEnd::Overflow | QueueEnd::Expected);
    if is_refusal || matches!(attempt.wait.get(), Wait::Queued) {
        attempt.wait.set(Wait::Over(how));
        observe(peer.servers(), attempt.slot.get(), r.log(), Event::Waited { end: how, time });
    }
    if !waiter.is_pending() {
        // what nginx measures is the server's
        state.upstream.restart_clock();
    }
    state.waiter.set(None);
    state.waited.set(state.waited.get() + time);
    queue.queues.borrow_mut().left(attempt.key.get());
    let QueuedStats { count, longest } = queue.stats.get();
    if count > 0 {
        queue.stats.set(QueuedStats { count, longest: longest.max(time) });
    }
    if queue.queues.borrow().waiting() == 0 {
        let slot = attempt.slot.get();
        observe(peer.servers(), slot, r.log(), Event::QueueEmpty { name: peer.name() });
    }
}

/// Tells the log that a server is not there, where it is time.
fn observe_refusal(r: Request<'_>, peer: Peer<'_>, cause: Cause, settings: &EffectiveSettings) {
    if let Cause::Refused(errno) = cause {
        let connect_retry = settings.connect_retry;
        observe(
            peer.servers(),
            peer.state().attempt().slot.get(),
            r.log(),
            Event::Refused { name: peer.name(), errno, connect_retry },
        );
    }
}

/// Serves those who wait, as far as there are connections for them: those of the servers where something has
/// changed, or all when it is time ([`Servers::wake_by`]).
pub fn wake(servers: &Servers) {
    places::sweep(servers);
    let queue = &servers.queue;
    let is_time = !servers.is_to_wake();
    let (mut last, mut blocked, mut look) = (LastAttempt::Failed, None, places::SWEEP);
    for key in queue.take_due(is_time) {
        while let Some((place, rank, queued)) = line::pop(servers, &key) {
            let slot = queued.slot;
            let served = queued.waiting.with(|r, waiter| (waiter.time(), serve(r, waiter, rank)));
            match served {
                Some((_, Served::No(cause))) => {
                    if cause != Cause::Turn {
                        blocked = Some(slot);
                    }
                    queue.queues.borrow_mut().push(&key, place, queued);
                    break;
                }
                Some((waited, Served::Yes)) => {
                    last = LastAttempt::Succeeded;
                    line::served(servers, &key, slot, place, waited);
                }
                Some((_, Served::Never)) => line::leave(servers, &key, slot),
                // it has panicked, and waits until its time is up
                None => {
                    line::leave(servers, &key, slot);
                    queue.queues.borrow_mut().left(&key);
                }
            }
        }
        look = look.min(line::next_look(servers, &key).unwrap_or(look));
    }
    if queue.queues.borrow().waiting() == 0 {
        return servers.let_sleep();
    }
    servers.wake_by(match blocked {
        Some(slot) => places::next_attempt(servers, slot, last),
        // whose turn it is may be gone, and the order may be another
        None => look,
    });
}

/// Another worker has rung.
pub fn on_ring(servers: &Servers, rung: Rung) {
    if rung.turn && servers.queue.queues.borrow().waiting() > 0 {
        queue::wake_all(servers);
    }
    if rung.asked {
        places::give_up_idle(servers);
    }
}

/// What has become of a request whose turn it was.
enum Served {
    /// It has a connection, or one is being made.
    Yes,
    /// It waits on.
    No(Cause),
    /// There will be no connection.
    Never,
}

/// Finds a connection for the request that is the first of this worker's.
fn serve<'a>(r: Request<'a>, waiter: &'a Waiter<'a>, rank: Rank) -> Served {
    let peer = waiter.peer();
    let (servers, settings) = (peer.servers(), settings_of(peer));
    if let Some((idle, if_dead)) = idle::take(r, peer, rank) {
        end(r, waiter, QueueEnd::Served);
        waiter.attach(idle, if_dead);
        limit::begin(r, peer);
        return Served::Yes;
    }
    let had_place = peer.state().attempt().counted.get();
    if !places::take(peer, rank) {
        return Served::No(Cause::Turn);
    }
    match connect::connect(peer, waiter.time()) {
        Connect::Made(connected) => {
            let is_ours = settings.connect_retry > 0 || silent::is_watched(peer);
            if connected == Progress::Pending && is_ours {
                // goes on in `on_connect_event`
                waiter.set_pending(true);
                silent::begin(peer, waiter);
            } else {
                end(r, waiter, QueueEnd::Served);
                waiter.proceed(connected);
                limit::begin(r, peer);
            }
            Served::Yes
        }
        Connect::Wait(cause) => {
            if !had_place {
                places::put_back(peer);
            }
            if cause == Cause::ListenQueue && waiter.time() >= LONG {
                let waiting = places::waiting_for(peer).max(1);
                let long = Event::WaitsLong { name: peer.name(), waiting, time: waiter.time() };
                observe(servers, peer.state().attempt().slot.get(), r.log(), long);
            }
            Served::No(cause)
        }
        Connect::Failed(errno) => {
            fail(r, waiter, errno);
            Served::Never
        }
    }
}

fn fail(r: Request<'_>, waiter: &Waiter<'_>, errno: Errno) {
    connect::report(r, waiter.peer(), errno);
    end(r, waiter, QueueEnd::Failed);
    waiter.fail();
}

/// The server may have answered an attempt to connect.
pub fn on_connect_event(r: Request<'_>) {
    let Some(state) = RequestState::of(r) else { return };
    let Some(waiter) = state.waiter.get().filter(|waiter| waiter.is_pending()) else { return };
    let peer = waiter.peer();
    let (servers, attempt) = (peer.servers(), state.attempt());
    let errno = match peer.outcome() {
        Ok(Progress::Pending) => return,
        Ok(Progress::Connected) => {
            servers.queue.queues.borrow_mut().reached(attempt.key.get());
            silent::connected(peer);
            end(r, waiter, QueueEnd::Served);
            waiter.proceed(Progress::Connected);
            return limit::begin(r, peer);
        }
        Err(errno) => errno,
    };
    waiter.set_pending(false);
    match connect::refused(peer, waiter.time(), errno) {
        Connect::Wait(cause) => {
            // with its place, which nobody behind it could use before it
            let before = line::join(peer, waiter, None, Place::ahead(waiter.arrived_at()));
            let (slot, name) = (attempt.slot.get(), peer.name());
            if !matches!(attempt.wait.replace(Wait::Queued), Wait::Queued) {
                let queued = Event::Queued { name, cause, before: before.unwrap_or(0) };
                observe(servers, slot, r.log(), queued);
            }
            observe_refusal(r, peer, cause, settings_of(peer));
            servers.wake_by(places::next_attempt(servers, slot, LastAttempt::Failed));
        }
        _ => fail(r, waiter, errno),
    }
}

/// The server has not answered an attempt to connect for long. Where it is taken for dropped, the request goes to the
/// queue, as if the server had said that its listen queue is full; nothing of it was sent.
pub fn on_slow_connect(r: Request<'_>) {
    let Some(waiter) = RequestState::of(r).and_then(|state| state.waiter.get()) else { return };
    let peer = waiter.peer();
    if peer.outcome() != Ok(Progress::Pending) || !silent::is_dropped(peer, waiter) {
        return;
    }
    peer.forget();
    waiter.set_pending(false);
    let (servers, slot) = (peer.servers(), peer.state().attempt().slot.get());
    observe(servers, slot, r.log(), Event::ListenQueueFull);
    places::put_back(peer);
    let place = Place::new(priority::of(r, peer), waiter.arrived_at());
    if let Some(before) = line::join(peer, waiter, None, place) {
        queued(r, peer, Cause::ListenQueue, before);
    }
    servers.wake_by(places::next_attempt(servers, slot, LastAttempt::Failed));
}

/// The request has waited long enough, or finds too many before it: another server is asked, or it is
/// answered with 503.
pub fn on_queue_timeout(r: Request<'_>) -> Next {
    let Some(state) = RequestState::of(r) else { return Next::Wait };
    let Some(waiter) = state.waiter.get() else { return Next::Wait };
    let peer = waiter.peer();
    let (servers, attempt) = (peer.servers(), state.attempt());
    let waiting = places::waiting_for(peer);
    let queued = remove(waiter);
    let (name, time, why) = (peer.name(), waiter.time(), why(peer));
    if let Some(slot) = queued.filter(|_| !nginx::is_exiting()) {
        line::left_in_vain(peer, slot, time, true);
    }
    let limit = limit(state, settings_of(peer));
    let (how, refused, longer) = match attempt.wait.get() {
        Wait::Refused(WhyRefused::TooLarge) => {
            end(r, waiter, QueueEnd::Failed);
            waiter.leave();
            return refused::answer_at_once(r);
        }
        Wait::Refused(WhyRefused::QueueFull) => {
            (QueueEnd::Overflow, Event::QueueFull { name, waiting, why }, time)
        }
        Wait::Refused(WhyRefused::WaitTooLong(expected)) => {
            let too_long = Event::WaitTooLong { name, expected, limit };
            (QueueEnd::Expected, too_long, expected.wait as usize)
        }
        _ => (QueueEnd::Timeout, Event::QueueTimeout { name, time, why }, time),
    };
    end(r, waiter, how);
    let goes_on =
        peer.has_others() && state.conf.tries_again_on_timeout() || r.has_stale_response();
    if waiter.is_pending() || goes_on {
        waiter.time_out();
        return Next::Wait;
    }
    waiter.leave();
    observe(servers, attempt.slot.get(), r.log(), refused);
    Next::Refuse { status: SERVICE_UNAVAILABLE, retry_after: Some(hints::retry_after(longer)) }
}

/// Why requests wait for this server.
fn why(peer: Peer<'_>) -> &'static str {
    if places::is_full(peer) {
        "\"rs_uwsgi_max_connections\" are in use"
    } else if settings_of(peer).connect_retry > 0 {
        "the server does not accept connections"
    } else {
        "the listen queue of the server is full"
    }
}
