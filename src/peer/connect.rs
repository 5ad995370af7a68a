//! A new connection, unless the server has no room for one: its listen queue is full, it has all the
//! connections that it may have, or it refuses for a moment. The request [waits](super::wait) then.

use super::lost;
use super::wait::{enqueue, limit, wait, Queue};
use crate::conf::reuse::InEffect;
use crate::handler::Context;
use crate::nginx::balancer::Chosen;
use crate::nginx::connect::{Errno, Progress};
use crate::nginx::connection::Lost;
use crate::nginx::log::{Log, Printable};
use crate::nginx::peer::Peer;
use crate::nginx::servers::Servers;
use crate::nginx::{self, Request};
use crate::pure::hints::{self, Hint};

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not the first, or `rs_uwsgi_max_connections` are in use.
    Turn,
    /// The listen queue is full.
    ListenQueue,
    /// The server is not there, for a moment (`rs_uwsgi_connect_retry`).
    Refused(Errno),
}

/// What came of an attempt to connect.
pub(super) enum Attempt {
    Made(Progress),
    Wait(Cause),
    Failed(Errno),
}

impl Servers {
    /// May one more connection to this server be opened?
    pub(super) fn has_room(&self, line: &[u8], in_effect: &InEffect) -> bool {
        let most = in_effect.max_connections;
        most == 0 || self.queue.lines.borrow().in_use(line) + self.idle.borrow().len_of(line) < most
    }
}

/// Makes a connection, or lets the request wait for one.
pub fn connect<'a>(
    r: Request<'a>,
    peer: Peer<'a>,
    context: &Context<'a>,
    in_effect: &InEffect,
    has_others: bool,
) -> Chosen {
    let servers = peer.servers();
    let (queue, line) = (&servers.queue, context.line.get());
    let has_turn = !queue.is_waiting(line) && make_room(servers, line, in_effect);
    if has_turn && !peer.is_unix() && in_effect.connect_retry == 0 {
        queue.begin(context, in_effect);
        return Chosen::New;
    }
    let passes_over = has_others && peer.has_others() && context.conf.tries_again_on_error();
    if !has_turn && passes_over {
        return Chosen::Full;
    }
    if peer.open().is_err() {
        return Chosen::Failed;
    }
    let attempt = match has_turn {
        true => attempt(queue, line, peer, in_effect, 0),
        false => Attempt::Wait(Cause::Turn),
    };
    match attempt {
        Attempt::Made(Progress::Connected) => {
            queue.begin(context, in_effect);
            Chosen::Ready
        }
        Attempt::Made(Progress::Pending) => {
            queue.begin(context, in_effect);
            wait(r, peer, context, limit(context, in_effect)).map_or(Chosen::Failed, |waiter| {
                waiter.set_pending(true);
                Chosen::Waiting
            })
        }
        Attempt::Wait(_) if passes_over => {
            peer.discard();
            Chosen::Full
        }
        Attempt::Wait(cause) => enqueue(r, peer, context, in_effect, cause),
        Attempt::Failed(errno) => {
            report(r, peer, errno);
            peer.discard();
            Chosen::Unreachable
        }
    }
}

/// Is there room for one more connection? One that is idle, and does not suit the request that is next,
/// is closed for it.
pub(super) fn make_room(servers: &Servers, line: &[u8], in_effect: &InEffect) -> bool {
    if servers.has_room(line, in_effect) {
        return true;
    }
    let idle = servers.idle.borrow().len_of(line);
    let unfit = idle.checked_sub(1).and_then(|most| servers.idle.borrow_mut().excess(line, most));
    let Some(unfit) = unfit else { return false };
    lost(servers, unfit, Lost::Excess);
    servers.has_room(line, in_effect)
}

/// Tries to connect. `waited`: for how long the request has waited, in milliseconds.
pub(super) fn attempt(
    queue: &Queue,
    line: &[u8],
    peer: Peer<'_>,
    in_effect: &InEffect,
    waited: usize,
) -> Attempt {
    let errno = match peer.connect() {
        Ok(progress) => {
            if progress == Progress::Connected {
                queue.lines.borrow_mut().reached(line);
            }
            return Attempt::Made(progress);
        }
        Err(errno) => errno,
    };
    if errno == Errno(libc::EAGAIN) && peer.is_unix() {
        queue.lines.borrow_mut().reached(line);
        return Attempt::Wait(Cause::ListenQueue);
    }
    refused(queue, line, in_effect, waited, errno)
}

/// The server was not reached: it is tried again for a while, if it is not there for a moment.
pub(super) fn refused(
    queue: &Queue,
    line: &[u8],
    in_effect: &InEffect,
    waited: usize,
    errno: Errno,
) -> Attempt {
    let now = nginx::now();
    let is_for_a_moment = matches!(errno.0, libc::ECONNREFUSED | libc::ENOENT);
    if is_for_a_moment && in_effect.connect_retry > 0 {
        let since = queue.lines.borrow_mut().refused(line, now);
        if now.wrapping_sub(since).min(waited) < in_effect.connect_retry {
            return Attempt::Wait(Cause::Refused(errno));
        }
    }
    Attempt::Failed(errno)
}

/// Logs that the server cannot be connected to, in nginx's words.
pub(super) fn report(r: Request<'_>, peer: Peer<'_>, errno: Errno) {
    let (log, name) = (r.log(), peer.name());
    let write = match errno.0 {
        libc::ECONNREFUSED
        | libc::EAGAIN
        | libc::ECONNRESET
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH => Log::error_of,
        _ => Log::crit_of,
    };
    write(log, errno.0, format_args!("connect() to {} failed", Printable(name)));
    let queue = &peer.servers().queue;
    let is_permission = errno.0 == libc::EACCES && peer.is_unix() && !peer.is_abstract();
    if is_permission && queue.hints.take_due(Hint::Permission, nginx::now()) {
        let path = name.strip_prefix(b"unix:").unwrap_or(name);
        log.error(format_args!("{}", hints::permission(path, &nginx::user())));
    }
}
