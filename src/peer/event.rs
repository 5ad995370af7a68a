//! What happens to connections and requests.

use super::queue::Cause;
use crate::nginx::connect::Errno;
use crate::nginx::connection::{Idle, Lost};
use crate::pure::health::{Change, Failure};
use crate::pure::limit::News;
use crate::pure::overload::Expected;
use crate::pure::pool::policy::Refusal;
use crate::pure::stats::{QueueEnd, Try};

/// Something that has happened. `name` is the server's, as nginx's log has it.
#[derive(Clone, Copy)]
pub enum Event<'e> {
    /// A request takes a connection of the pool.
    Taken {
        /// The connection.
        idle: &'e Idle,
        /// When its last request began, in milliseconds of nginx's clock.
        started_at: usize,
    },
    /// A try is over.
    Over {
        /// What is known of it.
        tried: &'e Try,
    },
    /// A connection goes to the pool.
    Parked {
        /// The connection.
        idle: &'e Idle,
    },
    /// A connection that has left the pool is closed.
    Lost {
        /// The connection.
        idle: &'e Idle,
        /// Why.
        why: Lost,
    },
    /// A connection is closed after its request.
    Closed {
        /// Its number.
        descriptor: i32,
        /// Why.
        refusal: Refusal,
        /// Are there bytes that nobody asked for, of which nothing else has told the log?
        is_news: bool,
    },
    /// A request begins to wait for a connection.
    Queued {
        /// The server.
        name: &'e [u8],
        /// Why.
        cause: Cause,
        /// How many wait already.
        before: usize,
    },
    /// A request waits because the server is not there, for a moment.
    Refused {
        /// The server.
        name: &'e [u8],
        /// What it fails with.
        errno: Errno,
        /// `rs_uwsgi_connect_retry`, in milliseconds.
        connect_retry: usize,
    },
    /// A request has been waiting for long because of a full listen queue.
    WaitsLong {
        /// The server.
        name: &'e [u8],
        /// How many wait.
        waiting: usize,
        /// How long the first of them has, in milliseconds.
        time: usize,
    },
    /// Nobody waits any more.
    QueueEmpty {
        /// The server that was waited for last.
        name: &'e [u8],
    },
    /// A request has left the queue.
    Waited {
        /// How.
        end: QueueEnd,
        /// After how many milliseconds.
        time: usize,
    },
    /// An attempt to connect has found the listen queue full.
    ListenQueueFull,
    /// A request is refused because the queue is full.
    QueueFull {
        /// The server.
        name: &'e [u8],
        /// How many wait.
        waiting: usize,
        /// Why they do.
        why: &'e str,
    },
    /// A request has waited for as long as it may.
    QueueTimeout {
        /// The server.
        name: &'e [u8],
        /// For how long, in milliseconds.
        time: usize,
        /// Why.
        why: &'e str,
    },
    /// A request is refused because it would have to wait for longer than it may.
    WaitTooLong {
        /// The server.
        name: &'e [u8],
        /// What it would have to expect.
        expected: Expected,
        /// How long it may wait, in milliseconds.
        limit: usize,
    },
    /// Clients leave because they wait too long: from now on the newest are served first.
    NewestFirst {
        /// The server.
        name: &'e [u8],
        /// For how long the last of them has waited, in milliseconds.
        waited: usize,
    },
    /// The limit of a server has changed much.
    LimitFound {
        /// The server.
        name: &'e [u8],
        /// From what, and to what.
        news: News,
    },
    /// A request has a priority that is none.
    NoPriority {
        /// What it has.
        value: &'e [u8],
    },
    /// A client has left while the server works on its request.
    WorkedInVain {
        /// The server.
        name: &'e [u8],
    },
    /// There is no room in the zone for the server.
    ZoneFull {
        /// The server.
        name: &'e [u8],
    },
    /// The server cannot be connected to.
    ConnectFailed {
        /// The server.
        name: &'e [u8],
        /// Why.
        errno: Errno,
        /// Is it a socket with a file?
        is_file: bool,
    },
    /// The server has shown that it does not understand requests.
    NotUnderstood {
        /// The server.
        name: &'e [u8],
    },
    /// The server has refused vars of this size.
    VarsRefused {
        /// The server.
        name: &'e [u8],
        /// Their bytes.
        size: usize,
    },
    /// A request is answered at once, because the server is known to refuse it.
    KnownTooLarge {
        /// The server.
        name: &'e [u8],
        /// The bytes of its vars.
        size: usize,
    },
    /// The server has closed the connection on a request that may be more than it takes.
    RequestAtFault {
        /// The server.
        name: &'e [u8],
        /// The number of its vars.
        vars: usize,
        /// Their bytes.
        size: usize,
    },
    /// A server is down, or up again.
    Health {
        /// The server.
        name: &'e [u8],
        /// What has changed.
        change: Change,
        /// Why the last probe failed, where one did.
        reason: Option<&'e Failure>,
    },
    /// Requests that a server does not answer go to another.
    MovedOn {
        /// The server.
        name: &'e [u8],
        /// How many.
        count: usize,
    },
    /// A server closes the connection on a ping.
    NoPong {
        /// The server.
        name: &'e [u8],
    },
}
