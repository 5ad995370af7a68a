//! The wait for a connection, where the server has no room for one more.
//!
//! Those who wait are served in the order of their arrival. Nothing was sent of their requests, so that
//! it does not matter what they are. They look for a connection again whenever one to this server
//! comes free, which is when the server, too, takes the next one from its listen queue; and as other
//! clients keep the server busy as well, by a timer with a [backoff](crate::pure::queue::Backoff).

use std::cell::{Cell, RefCell};

use super::connect::{attempt, make_room, refused, report, Attempt, Cause};
use super::take;
use crate::conf::reuse::InEffect;
use crate::handler::{Connection, Context, Next};
use crate::nginx::balancer::Chosen;
use crate::nginx::connect::{Errno, Progress};
use crate::nginx::log::Printable;
use crate::nginx::peer::Peer;
use crate::nginx::servers::Servers;
use crate::nginx::sys::{ngx_int_t, NGX_HTTP_SERVICE_UNAVAILABLE};
use crate::nginx::wait::{Waiter, Waiting};
use crate::nginx::{self, Request};
use crate::pure::hints::{self, Hint, Hints};
use crate::pure::queue::{Backoff, Lines};
use crate::refused;

/// The requests that wait for the servers of an upstream.
#[derive(Default)]
pub struct Queue {
    pub(super) lines: RefCell<Lines<Waiting>>,
    backoff: Cell<Backoff>,
    crowd: Cell<Crowd>,
    /// What the log has advised.
    pub hints: Hints,
}

/// Those who had to wait because a listen queue was full, since the log last told of them.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    count: usize,
    /// The longest that one waited, in milliseconds.
    longest: usize,
}

/// For how long one may wait before the log tells of it, in milliseconds.
const LONG: usize = 1000;

const ADVICE: &str =
    "raise \"listen\" of the server and net.core.somaxconn, or give it more workers";

impl Queue {
    /// Does anybody wait for this server?
    pub fn is_waiting(&self, line: &[u8]) -> bool {
        let lines = self.lines.borrow();
        lines.waiting() > 0 && lines.waiting_for(line) > 0
    }

    /// The request has a connection, which counts where there is a limit: once, however often it has
    /// been tried to connect it. It has this place until the try is over ([`Servers::end`]).
    pub fn begin(&self, context: &Context<'_>, in_effect: &InEffect) {
        if in_effect.max_connections > 0 && !context.counted.replace(true) {
            self.lines.borrow_mut().begin(context.line.get());
        }
    }

    /// The request waits no longer.
    pub fn leave(&self, r: Request<'_>, context: &Context<'_>, waiter: &Waiter<'_>) {
        self.forget(waiter);
        self.finish(r, context, waiter);
    }

    /// The same, where nothing is to be said of it.
    pub fn forget(&self, waiter: &Waiter<'_>) {
        self.lines.borrow_mut().remove(|waiting| *waiting == Waiting::of(waiter));
        waiter.leave();
    }

    /// Notes that the wait is over, for the log.
    fn finish(&self, r: Request<'_>, context: &Context<'_>, waiter: &Waiter<'_>) {
        let time = waiter.time();
        if !waiter.is_pending() {
            // what nginx measures is the server's
            context.upstream.begin_anew();
        }
        context.waiter.set(None);
        context.waited.set(context.waited.get() + time);
        self.lines.borrow_mut().left();
        let mut crowd = self.crowd.get();
        if crowd.count > 0 {
            crowd.longest = crowd.longest.max(time);
            self.crowd.set(crowd);
        }
        if self.lines.borrow().waiting() == 0 {
            self.tell(r, waiter);
        }
    }

    /// Tells the log of those who have waited, when nobody waits any more, where it is time.
    fn tell(&self, r: Request<'_>, waiter: &Waiter<'_>) {
        let name = Printable(waiter.peer().name());
        let refused = self.hints.queue_full.take();
        if refused > 0 {
            r.log().error(format_args!(
                "queue for \"{name}\" was full: {refused} more requests refused"
            ));
        }
        let in_vain = self.hints.in_vain.take();
        if in_vain > 0 {
            r.log().error(format_args!(
                "waited for a connection to \"{name}\" in vain: {in_vain} more requests"
            ));
        }
        if self.crowd.get().count == 0 || !self.hints.take_due(Hint::ListenQueue, nginx::now()) {
            return;
        }
        let crowd = self.crowd.take();
        r.log().warn(format_args!(
            "listen queue of \"{name}\" was full: {} requests waited for a connection, up to {} ms; \
             {ADVICE}",
            crowd.count, crowd.longest,
        ));
    }

    /// Tells the log that requests have been waiting for long, where it is time.
    fn tell_of_waiting(&self, r: Request<'_>, waiter: &Waiter<'_>) {
        if self.hints.take_due(Hint::Waiting, nginx::now()) {
            r.log().warn(format_args!(
                "listen queue of \"{}\" is full: {} requests wait for a connection, the first of them \
                 for {} ms; {ADVICE}",
                Printable(waiter.peer().name()),
                self.lines.borrow().waiting() + 1,
                waiter.time(),
            ));
        }
    }
}

impl Servers {
    /// A try is over. Its place, which nothing else gives up, and its connection may be another's:
    /// those who wait have their turn.
    #[inline]
    pub fn end(&self, context: &Context<'_>) {
        if context.counted.take() {
            self.queue.lines.borrow_mut().end(context.line.get());
        }
        if self.queue.lines.borrow().waiting() > 0 {
            self.wake_soon();
        }
    }
}

/// How long the request may wait, in milliseconds.
pub(super) fn limit(context: &Context<'_>, in_effect: &InEffect) -> usize {
    in_effect.queue_timeout.unwrap_or(context.conf.upstream.connect_timeout)
}

/// Lets the request wait in the queue, where there is room in it.
pub(super) fn enqueue<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    context: &Context<'a>,
    in_effect: &InEffect,
    cause: Cause,
) -> Chosen {
    let servers = peer.servers();
    let (queue, line) = (&servers.queue, context.line.get());
    let before = queue.lines.borrow().waiting_for(line);
    if before >= in_effect.queue {
        // It can be answered only when nginx is done with it: it waits for no time.
        return wait(r, peer, context, 0).map_or(Chosen::Failed, |_| Chosen::Waiting);
    }
    let Some(waiter) = wait(r, peer, context, limit(context, in_effect)) else {
        return Chosen::Failed;
    };
    queue.lines.borrow_mut().push(line, Waiting::of(waiter));
    r.log().debug(format_args!(
        "http rs_uwsgi wait for a connection to {}: {cause:?}, {before} before",
        Printable(peer.name())
    ));
    let mut crowd = queue.crowd.get();
    if cause == Cause::ListenQueue || crowd.count > 0 {
        crowd.count += 1;
        queue.crowd.set(crowd);
    }
    queue.tell_of_refusal(r, peer, cause, in_effect);
    // whoever is before this one has set the timer, or waits for a connection to come free
    if cause != Cause::Turn {
        servers.wake_in(queue.next_attempt(true));
    }
    Chosen::Waiting
}

/// Begins to wait.
pub(super) fn wait<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    context: &Context<'a>,
    limit: usize,
) -> Option<&'a Waiter<'a>> {
    let waiter = peer.wait(r, limit).inspect_err(|_| peer.discard()).ok()?;
    context.waiter.set(Some(waiter));
    Some(waiter)
}

impl Queue {
    /// Tells the log that a server is not there, where it is time.
    fn tell_of_refusal(&self, r: Request<'_>, peer: Peer<'_>, cause: Cause, in_effect: &InEffect) {
        let Cause::Refused(errno) = cause else { return };
        if self.hints.take_due(Hint::Refused, nginx::now()) {
            r.log().warn_of(
                errno.0,
                format_args!(
                    "\"{}\" refuses connections, requests wait for it for up to {} ms as \
                     \"rs_uwsgi_connect_retry\" says",
                    Printable(peer.name()),
                    in_effect.connect_retry,
                ),
            );
        }
    }

    /// The milliseconds until the next attempt.
    fn next_attempt(&self, progress: bool) -> usize {
        let mut backoff = self.backoff.get();
        let pause = backoff.next(progress);
        self.backoff.set(backoff);
        pause
    }
}

/// Serves those who wait, as far as there are connections for them.
pub fn wake(servers: &Servers) {
    let queue = &servers.queue;
    let awaited = queue.lines.borrow().awaited();
    let (mut progress, mut is_blocked) = (false, false);
    for line in awaited {
        loop {
            let first = queue.lines.borrow_mut().pop(&line);
            let Some(first) = first else { break };
            match first.with(|r, waiter| serve(r, waiter, servers)) {
                Some(Some(cause)) => {
                    queue.lines.borrow_mut().push_first(&line, first);
                    is_blocked |= cause != Cause::Turn;
                    break;
                }
                Some(None) => progress = true,
                // it has panicked, and waits until its time is up
                None => {}
            }
        }
    }
    if queue.lines.borrow().waiting() == 0 {
        servers.let_sleep();
    } else if is_blocked {
        servers.wake_in(queue.next_attempt(progress));
    }
}

/// Finds a connection for the request whose turn it is. Why it has to wait further, else.
fn serve<'a>(r: Request<'a>, waiter: &'a Waiter<'a>, servers: &Servers) -> Option<Cause> {
    let peer = waiter.peer();
    let context = peer.context();
    let in_effect = context.conf.in_effect(Some(servers));
    let (queue, line) = (&servers.queue, context.line.get());
    if let Some((idle, again)) = take(r, context, servers) {
        context.connection.set(Some(Connection::Reused));
        queue.begin(context, &in_effect);
        queue.finish(r, context, waiter);
        waiter.attach(idle, again);
        return None;
    }
    let has_place = context.counted.get();
    if !has_place && !make_room(servers, line, &in_effect) {
        return Some(Cause::Turn);
    }
    match attempt(queue, line, peer, &in_effect, waiter.time()) {
        Attempt::Made(progress) => {
            queue.begin(context, &in_effect);
            if progress == Progress::Pending && in_effect.connect_retry > 0 {
                // goes on in `made`
                waiter.set_pending(true);
            } else {
                queue.finish(r, context, waiter);
                waiter.proceed(progress);
            }
        }
        Attempt::Wait(cause) => {
            if cause == Cause::ListenQueue && waiter.time() >= LONG {
                queue.tell_of_waiting(r, waiter);
            }
            return Some(cause);
        }
        Attempt::Failed(errno) => fail(r, context, waiter, errno),
    }
    None
}

fn fail(r: Request<'_>, context: &Context<'_>, waiter: &Waiter<'_>, errno: Errno) {
    let peer = waiter.peer();
    report(r, peer, errno);
    peer.servers().queue.finish(r, context, waiter);
    waiter.fail();
}

/// The server may have answered an attempt to connect.
pub fn made(r: Request<'_>) {
    let Some(context) = r.context() else { return };
    let Some(waiter) = context.waiter.get().filter(|waiter| waiter.is_pending()) else { return };
    let peer = waiter.peer();
    let servers = peer.servers();
    let (queue, line) = (&servers.queue, context.line.get());
    let in_effect = context.conf.in_effect(Some(servers));
    let errno = match peer.outcome() {
        Ok(Progress::Pending) => return,
        Ok(Progress::Connected) => {
            queue.lines.borrow_mut().reached(line);
            queue.finish(r, context, waiter);
            return waiter.proceed(Progress::Connected);
        }
        Err(errno) => errno,
    };
    waiter.set_pending(false);
    match refused(queue, line, &in_effect, waiter.time(), errno) {
        Attempt::Wait(cause) => {
            // with its place, which nobody behind it could use before it
            queue.lines.borrow_mut().push_first(line, Waiting::of(waiter));
            queue.tell_of_refusal(r, peer, cause, &in_effect);
            servers.wake_in(queue.next_attempt(false));
        }
        _ => fail(r, context, waiter, errno),
    }
}

/// The request has waited long enough, or finds too many before it: another server is asked, or it is
/// answered with 503.
pub fn waited_in_vain(r: Request<'_>) -> Next {
    let Some(context) = r.context() else { return Next::Wait };
    let Some(waiter) = context.waiter.get() else { return Next::Wait };
    let peer = waiter.peer();
    let (queue, line, conf) = (&peer.servers().queue, context.line.get(), context.conf);
    let waiting = queue.lines.borrow().waiting_for(line);
    let was_queued =
        queue.lines.borrow_mut().remove(|waiting| *waiting == Waiting::of(waiter)).is_some();
    let (time, why) = (waiter.time(), why(context, peer, line));
    queue.finish(r, context, waiter);
    if context.too_large.get() {
        waiter.leave();
        return refused::answer_at_once(r);
    }
    let goes_on = peer.has_others() && conf.tries_again_on_timeout() || r.has_stale_response();
    if waiter.is_pending() || goes_on {
        waiter.time_out();
        return Next::Wait;
    }
    waiter.leave();
    let name = Printable(peer.name());
    // one line a second, or a flood of requests would be one of lines
    let (hints, now) = (&queue.hints, nginx::now());
    let flood = if was_queued { &hints.in_vain } else { &hints.queue_full };
    match (was_queued, flood.add(now)) {
        (_, None) => {}
        (true, Some(count)) => r.log().error(format_args!(
            "waited {time} ms for a connection to \"{name}\" in vain, {count} requests so: {why}"
        )),
        (false, Some(count)) => r.log().error(format_args!(
            "queue for \"{name}\" is full: {waiting} requests wait for a connection, {count} refused: \
             {why}"
        )),
    }
    Next::Refuse {
        status: NGX_HTTP_SERVICE_UNAVAILABLE as ngx_int_t,
        retry_after: Some(hints::retry_after(time)),
    }
}

/// Why requests wait for this server.
fn why(context: &Context<'_>, peer: Peer<'_>, line: &[u8]) -> &'static str {
    let in_effect = context.conf.in_effect(Some(peer.servers()));
    if !peer.servers().has_room(line, &in_effect) {
        "\"rs_uwsgi_max_connections\" are in use"
    } else if in_effect.connect_retry > 0 {
        "the server does not accept connections"
    } else {
        "the listen queue of the server is full"
    }
}
