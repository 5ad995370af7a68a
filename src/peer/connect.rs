//! A new connection, or why there is none now: the server's listen queue is full, it has all the
//! connections that it may have, or it refuses for a moment.

use super::limit;
use super::observe::{observe, Event};
use super::queue::{settings_of, Cause};
use super::silent;
use crate::module::Peer;
use crate::nginx::connect::{Errno, Progress};
use crate::nginx::log::Log;
use crate::nginx::{self, Request};
use crate::pure::stats::Failure;

/// What came of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// There is a connection, or one is being made.
    Made(Progress),
    /// It is tried again later.
    Wait(Cause),
    /// There will be none.
    Failed(Errno),
}

/// Tries to connect. `waited`: for how long the request has waited, in milliseconds.
pub fn connect(peer: Peer<'_>, waited: usize) -> Connect {
    let queues = &peer.servers().queue.queues;
    let key = peer.state().attempt().key.get();
    match peer.connect() {
        Ok(progress) => {
            if progress == Progress::Connected {
                queues.borrow_mut().reached(key);
                if !peer.is_unix() {
                    silent::connected_at_once(peer);
                }
            }
            Connect::Made(progress)
        }
        Err(Errno(libc::EAGAIN)) if peer.is_unix() => {
            queues.borrow_mut().reached(key);
            let (servers, slot) = (peer.servers(), peer.state().attempt().slot.get());
            limit::overflow(slot);
            observe(servers, slot, Log::of_worker(), Event::ListenQueueFull);
            Connect::Wait(Cause::ListenQueue)
        }
        Err(errno) => refused(peer, waited, errno),
    }
}

/// The server was not reached: it is tried again for a while, if it is not there for a moment.
pub fn refused(peer: Peer<'_>, waited: usize, errno: Errno) -> Connect {
    let (now, connect_retry) = (nginx::now(), settings_of(peer).connect_retry);
    let is_for_a_moment = matches!(errno.0, libc::ECONNREFUSED | libc::ENOENT);
    if is_for_a_moment && connect_retry > 0 {
        let key = peer.state().attempt().key.get();
        let since = peer.servers().queue.queues.borrow_mut().refused(key, now);
        if now.wrapping_sub(since).min(waited) < connect_retry {
            return Connect::Wait(Cause::Refused(errno));
        }
    }
    Connect::Failed(errno)
}

/// Logs that the server cannot be connected to, in nginx's words.
pub fn report(r: Request<'_>, peer: Peer<'_>, errno: Errno) {
    let is_file = peer.is_unix() && !peer.is_abstract();
    let failed = Event::ConnectFailed { name: peer.name(), errno, is_file };
    let attempt = peer.state().attempt();
    attempt.failure.set(Some(match errno.0 {
        libc::ECONNREFUSED => Failure::Refused,
        libc::ENOENT => Failure::NoSocket,
        libc::EACCES | libc::EPERM => Failure::Permission,
        libc::ETIMEDOUT => Failure::ConnectTimeout,
        _ => Failure::ConnectError,
    }));
    observe(peer.servers(), attempt.slot.get(), r.log(), failed);
}
