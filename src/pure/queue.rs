//! Requests that wait for a connection, in [lines](crate::pure::line), and the connections that are in
//! use, by server. Generic over the request, with no nginx in sight.
//!
//! A server is known by the key that its connections have in the [pool](crate::pure::pool).
#![forbid(unsafe_code)]

use std::num::NonZeroU64;
use std::rc::Rc;

use super::keys::Keys;
use super::line::{Line, Place};

/// The queues before the servers of an upstream, and how many connections to each are in use.
#[derive(Debug)]
pub struct ServerQueues<W> {
    queues: Keys<ServerQueue<W>>,
    waiting: usize,
}

/// The queue before one server.
#[derive(Debug)]
struct ServerQueue<W> {
    /// Connections that requests have now, as far as they are counted.
    in_use: usize,
    /// Since when the server refuses connections, in milliseconds.
    refused_since: Option<usize>,
    waiting: Line<W>,
}

impl<W> Default for ServerQueues<W> {
    fn default() -> Self {
        ServerQueues { queues: Keys::default(), waiting: 0 }
    }
}

impl<W> ServerQueues<W> {
    fn find(&self, key: &[u8]) -> Option<&ServerQueue<W>> {
        self.queues.get(self.queues.find(key)?)
    }

    #[inline]
    fn find_mut(&mut self, key: &[u8]) -> Option<&mut ServerQueue<W>> {
        self.queues.find_mut(key).map(|(_, queue)| queue)
    }

    /// Changes the queue of this server, which may be new.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut ServerQueue<W>)) {
        let new = || ServerQueue { in_use: 0, refused_since: None, waiting: Line::default() };
        let place = self.queues.find(key).unwrap_or_else(|| self.queues.insert(key, new()));
        if let Some(queue) = self.queues.get_mut(place) {
            change(queue);
        }
    }

    /// Forgets this server if nobody waits for it or has a connection to it.
    fn tidy(&mut self, key: &[u8]) {
        let Some(place) = self.queues.find(key) else { return };
        let is_idle = |queue: &ServerQueue<W>| queue.in_use == 0 && queue.waiting.is_empty();
        if self.queues.get(place).is_some_and(is_idle) {
            self.queues.remove(place);
        }
    }

    /// How many servers are known.
    pub fn servers(&self) -> usize {
        self.queues.len()
    }

    /// How many requests wait, for whichever server.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many requests wait for this server.
    pub fn waiting_for(&self, key: &[u8]) -> usize {
        self.find(key).map_or(0, |queue| queue.waiting.len())
    }

    /// The line of those who wait for this server.
    pub fn line(&self, key: &[u8]) -> Option<&Line<W>> {
        self.find(key).map(|queue| &queue.waiting)
    }

    /// The same, to turn it.
    pub fn line_mut(&mut self, key: &[u8]) -> Option<&mut Line<W>> {
        self.find_mut(key).map(|queue| &mut queue.waiting)
    }

    /// The servers that requests wait for.
    pub fn awaited(&self) -> Vec<Rc<[u8]>> {
        let awaited = self.queues.iter().filter(|(_, queue)| !queue.waiting.is_empty());
        awaited.map(|(key, _)| key.clone()).collect()
    }

    /// The key of this server, where requests wait for it.
    pub fn awaited_key(&self, key: &[u8]) -> Option<&Rc<[u8]>> {
        let place = self.queues.find(key)?;
        self.queues.get(place).filter(|queue| !queue.waiting.is_empty())?;
        self.queues.key(place)
    }

    /// How many connections to this server are in use.
    pub fn in_use(&self, key: &[u8]) -> usize {
        self.find(key).map_or(0, |queue| queue.in_use)
    }

    /// A request has got a connection to this server.
    pub fn begin(&mut self, key: &[u8]) {
        self.change(key, |queue| queue.in_use += 1);
    }

    /// A request that had one ([`Self::begin`]) is done with it.
    pub fn end(&mut self, key: &[u8]) {
        if let Some(queue) = self.find_mut(key) {
            queue.in_use = queue.in_use.saturating_sub(1);
            self.tidy(key);
        }
    }

    /// A request begins to wait, or has not got a connection and waits on.
    pub fn push(&mut self, key: &[u8], place: Place, waiting: W) {
        self.change(key, |queue| queue.waiting.push(place, waiting));
        self.waiting += 1;
    }

    /// Takes the request out whose turn it is: the first, or the first of the class that was served the
    /// longest time ago. It comes back ([`Self::push`]), or leaves for good ([`Self::left`]).
    pub fn pop(&mut self, key: &[u8], turn: Turn) -> Option<(Place, W)> {
        let line = &mut self.find_mut(key)?.waiting;
        let popped = match turn {
            Turn::First => line.pop(),
            Turn::Lower => line.pop_lower(),
        }?;
        self.waiting -= 1;
        Some(popped)
    }

    /// A request that had this place has been served.
    pub fn served(&mut self, key: &[u8], place: Place, now: NonZeroU64) {
        if let Some(queue) = self.find_mut(key) {
            queue.waiting.served(place.class(), now);
        }
    }

    /// A request that was the first waits no longer.
    pub fn left(&mut self, key: &[u8]) {
        self.tidy(key);
    }

    /// Takes the request out that waits for this server since that moment and `is` the one looked for.
    pub fn remove(
        &mut self,
        key: &[u8],
        arrived_at: NonZeroU64,
        is: impl Fn(&W) -> bool,
    ) -> Option<W> {
        let (_, removed) = self.find_mut(key)?.waiting.remove(arrived_at, is)?;
        self.waiting -= 1;
        self.tidy(key);
        Some(removed)
    }

    /// The server has refused a connection: since when it does, as far as requests that wait for it
    /// or have connections to it know.
    pub fn refused(&mut self, key: &[u8], now: usize) -> usize {
        self.find_mut(key).map_or(now, |queue| *queue.refused_since.get_or_insert(now))
    }

    /// The server has not refused a connection.
    #[inline]
    pub fn reached(&mut self, key: &[u8]) {
        if let Some(queue) = self.find_mut(key) {
            queue.refused_since = None;
        }
    }
}

/// Whose turn it is in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first.
    First,
    /// The first of the class that was served the longest time ago.
    Lower,
}

/// How the last attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastAttempt {
    /// A connection could be had.
    Succeeded,
    /// None could.
    Failed,
}

/// When a connection is tried again that could not be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    pause: usize,
}

impl Backoff {
    /// The longest pause, in milliseconds: as much as a request may wait too long where the
    /// connections that keep the server busy are not of this worker.
    pub const LONGEST: usize = 32;

    /// The time until the next attempt, in milliseconds.
    pub fn next(&mut self, last: LastAttempt) -> usize {
        self.pause = match last {
            LastAttempt::Succeeded => 1,
            LastAttempt::Failed => (self.pause * 2).clamp(1, Backoff::LONGEST),
        };
        self.pause
    }
}
