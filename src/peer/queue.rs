//! What a worker keeps with the servers of an upstream: the idle connections, the requests that wait for
//! one, and what was learned of the servers.

use std::cell::{Cell, RefCell};

use crate::conf::connections::{EffectiveSettings, Settings};
use crate::module::{Peer, Servers, State, Waiter, Waiting};
use crate::nginx::connect::Errno;
use crate::nginx::connection::Idle;
use crate::pure::hints::Hints;
use crate::pure::pool::Pool;
use crate::pure::queue::{Backoff, LastAttempt, ServerQueues};
use crate::pure::vars_limit::Limits;

/// What belongs to the servers of an upstream, in one worker.
pub struct ServersState {
    /// What all who pass to the upstream agreed on.
    pub settings: Settings,
    /// The idle connections.
    pub idle: RefCell<Pool<Idle>>,
    /// The requests that wait for a connection.
    pub queue: Queue,
    /// What is known of the vars that the servers take.
    pub vars_limits: RefCell<Limits>,
}

impl ServersState {
    /// Nobody waits, and nothing is known.
    pub fn new(settings: Settings) -> Self {
        ServersState {
            settings,
            idle: RefCell::default(),
            queue: Queue::default(),
            vars_limits: RefCell::default(),
        }
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is not the first, or `rs_uwsgi_max_connections` are in use.
    Turn,
    /// The listen queue is full.
    ListenQueue,
    /// The server is not there, for a moment (`rs_uwsgi_connect_retry`).
    Refused(Errno),
}

/// The requests that wait for the servers of an upstream.
#[derive(Default)]
pub struct Queue {
    /// By server.
    pub queues: RefCell<ServerQueues<Waiting>>,
    backoff: Cell<Backoff>,
    /// Those who had to wait because a listen queue was full, since the log last told of them.
    pub stats: Cell<QueuedStats>,
    /// What the log has advised.
    pub hints: Hints,
}

/// Requests that had to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueuedStats {
    /// How many.
    pub count: usize,
    /// The longest that one waited, in milliseconds.
    pub longest: usize,
}

impl Queue {
    /// Does anybody wait for this server?
    pub fn is_waiting(&self, key: &[u8]) -> bool {
        let queues = self.queues.borrow();
        queues.waiting() > 0 && queues.waiting_for(key) > 0
    }

    /// The request has a connection, which counts where there is a limit: once, however often it has
    /// been tried to connect it. It has this place until the try is over ([`free_place`]).
    pub fn take_place(&self, state: &State<'_>, settings: &EffectiveSettings) {
        let attempt = state.attempt();
        if settings.max_connections > 0 && !attempt.counted.replace(true) {
            self.queues.borrow_mut().begin(attempt.key.get());
        }
    }

    /// Takes a request out that waits no longer. Was it still in the queue?
    pub fn remove(&self, waiter: &Waiter<'_>) -> bool {
        self.queues.borrow_mut().remove(|waiting| waiting.is_of(waiter)).is_some()
    }

    /// The milliseconds until the next attempt to connect.
    pub fn next_attempt(&self, last: LastAttempt) -> usize {
        let mut backoff = self.backoff.get();
        let pause = backoff.next(last);
        self.backoff.set(backoff);
        pause
    }
}

/// A try is over. Its place, which nothing else gives up, and its connection may be another's: those who
/// wait have their turn.
#[inline]
pub fn free_place(servers: &Servers, state: &State<'_>) {
    let attempt = state.attempt();
    if attempt.counted.take() {
        servers.queue.queues.borrow_mut().end(attempt.key.get());
    }
    if servers.queue.queues.borrow().waiting() > 0 {
        servers.wake_soon();
    }
}

/// What is in force for a try with this server.
#[inline]
pub fn settings_of(peer: Peer<'_>) -> EffectiveSettings {
    peer.state().attempt().settings.get()
}
