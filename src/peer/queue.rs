//! What a worker keeps with the servers of an upstream: the idle connections, the requests that wait for
//! one, and what was learned of the servers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use super::checked::Checked;
use super::uwsgi_stats::LastAnswer;
use crate::conf::connections::{EffectiveSettings, KeyedBy, Settings};
use crate::module::{Peer, Servers, Waiter, Waiting};
use crate::nginx::connect::Errno;
use crate::nginx::connection::Idle;
use crate::pure::hints::Hints;
use crate::pure::in_flight::InFlight;
use crate::pure::keys::Keys;
use crate::pure::overload;
use crate::pure::pool::Pool;
use crate::pure::queue::{Backoff, LastAttempt, ServerQueues};
use crate::pure::vars_limit::Limits;
use crate::pure::zone::SlotId;

/// What belongs to the servers of an upstream, in one worker.
pub struct ServersState {
    /// What all who pass to the upstream agreed on.
    pub settings: Settings,
    /// What tells the servers apart.
    pub keyed_by: KeyedBy,
    /// The idle connections.
    pub idle: RefCell<Pool<Parked>>,
    /// The requests that wait for a connection.
    pub queue: Queue,
    /// What is known of the vars that the servers take.
    pub vars_limits: RefCell<Limits>,
    /// The servers' slots in the zone that all workers share.
    pub slots: RefCell<Slots>,
    /// The requests that are with servers whose limit is to be found out.
    pub in_flight: RefCell<InFlight<SlotId>>,
    /// The servers that are checked.
    pub checked: Checked,
    /// What their stats server said.
    pub stats: Rc<LastAnswer>,
    /// Is `$rs_uwsgi_in_flight` used?
    pub shows_in_flight: bool,
    /// What is known of those who wait for servers that have none ([`overload::Overload`]).
    pub overload: [AtomicU64; overload::WORDS],
}

/// A connection in the pool.
pub struct Parked {
    /// The connection.
    pub idle: Idle,
    /// The server's slot, where the connection has its place in the zone.
    pub slot: Option<SlotId>,
}

/// A request in the queue.
pub struct Queued {
    /// The request.
    pub waiting: Waiting,
    /// The server's slot, where it waits in the zone.
    pub slot: Option<SlotId>,
}

/// Slots by the keys of servers, as far as they have been looked up.
#[derive(Default)]
pub struct Slots(Keys<SlotId>);

impl Slots {
    /// So many are remembered: servers that come and go leave theirs behind. Then all are looked up anew.
    const MOST: usize = 1024;

    /// The slot of the server with this key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<SlotId> {
        self.0.get(self.0.find(key)?).copied()
    }

    /// Remembers a slot, of a key that has none.
    pub fn insert(&mut self, key: &[u8], slot: SlotId) {
        if self.0.len() >= Self::MOST {
            self.0 = Keys::default();
        }
        self.0.insert(key, slot);
    }

    /// Forgets a slot that has become another server's.
    pub fn remove(&mut self, slot: SlotId) {
        self.0.retain(|known| *known != slot);
    }
}

impl ServersState {
    /// Nobody waits, and nothing is known.
    pub fn new(settings: Settings, keyed_by: KeyedBy, idle: Pool<Parked>) -> Self {
        ServersState {
            settings,
            keyed_by,
            idle: RefCell::new(idle),
            queue: Queue::default(),
            vars_limits: RefCell::default(),
            slots: RefCell::default(),
            in_flight: RefCell::default(),
            checked: Checked::default(),
            stats: Rc::default(),
            shows_in_flight: false,
            overload: [const { AtomicU64::new(0) }; overload::WORDS],
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
    pub queues: RefCell<ServerQueues<Queued>>,
    backoff: Cell<Backoff>,
    /// Those who had to wait because a listen queue was full, since the log last told of them.
    pub stats: Cell<QueuedStats>,
    /// What the log has advised.
    pub hints: Hints,
    /// Whose turn has to be looked at.
    due: RefCell<Due>,
    /// When this worker has last looked for others that are gone, in milliseconds of nginx's clock.
    pub swept_at: Cell<usize>,
}

/// The servers for which those who wait are to look for connections.
#[derive(Default)]
struct Due {
    keys: Vec<Rc<[u8]>>,
    /// Is it all of them?
    all: bool,
}

impl Due {
    /// More than these in one turn of the event loop are as good as all.
    const MOST: usize = 64;
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

    /// Takes a request out that waits no longer.
    pub fn remove(&self, waiter: &Waiter<'_>) -> Option<Queued> {
        let key = waiter.peer().state().attempt().key.get();
        let is_it = |queued: &Queued| queued.waiting.is_of(waiter);
        self.queues.borrow_mut().remove(key, waiter.arrived_at(), is_it)
    }

    /// The servers whose turn has to be looked at. `or_all`: all, whatever has happened.
    pub fn take_due(&self, or_all: bool) -> Vec<Rc<[u8]>> {
        let Due { keys, all } = self.due.take();
        if all || or_all {
            return self.queues.borrow().awaited();
        }
        keys
    }

    /// The milliseconds until this worker's next attempt to connect.
    pub fn next_attempt(&self, last: LastAttempt) -> usize {
        let mut backoff = self.backoff.get();
        let pause = backoff.next(last);
        self.backoff.set(backoff);
        pause
    }
}

/// Those who wait for the server with this key look for connections, after the event that is being handled.
pub fn wake(servers: &Servers, key: &[u8]) {
    let queues = servers.queue.queues.borrow();
    let Some(key) = queues.awaited_key(key) else { return };
    let mut due = servers.queue.due.borrow_mut();
    if due.keys.last() != Some(key) {
        due.keys.push(Rc::clone(key));
    }
    due.all |= due.keys.len() > Due::MOST;
    servers.wake_soon();
}

/// The same of all who wait.
pub fn wake_all(servers: &Servers) {
    servers.queue.due.borrow_mut().all = true;
    servers.wake_soon();
}

/// What is in force for a try with this server.
#[inline]
pub fn settings_of<'a>(peer: Peer<'a>) -> &'a EffectiveSettings {
    peer.state().attempt().settings.get().unwrap_or(&EffectiveSettings::DEFAULT)
}
