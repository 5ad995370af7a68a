//! Requests that wait for a connection, in the order of their arrival, and the connections that are
//! in use, by server. Generic over the request, with no nginx in sight.
//!
//! A server is known by the key that its connections have in the [pool](crate::pure::pool).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;

/// The queues before the servers of an upstream.
#[derive(Debug)]
pub struct Lines<W> {
    lines: Vec<Line<W>>,
    waiting: usize,
}

/// The queue before one server.
#[derive(Debug)]
struct Line<W> {
    key: Rc<[u8]>,
    /// Connections that requests have now, as far as they are counted.
    in_use: usize,
    /// Since when the server refuses connections, in milliseconds.
    refused_since: Option<usize>,
    waiting: VecDeque<W>,
}

impl<W> Default for Lines<W> {
    fn default() -> Self {
        Lines { lines: Vec::new(), waiting: 0 }
    }
}

impl<W> Lines<W> {
    fn find(&self, key: &[u8]) -> Option<&Line<W>> {
        self.lines.iter().find(|line| *line.key == *key)
    }

    fn find_mut(&mut self, key: &[u8]) -> Option<&mut Line<W>> {
        self.lines.iter_mut().find(|line| *line.key == *key)
    }

    /// Changes the line of this server, which may be new.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Line<W>)) {
        if let Some(line) = self.find_mut(key) {
            return change(line);
        }
        let (key, waiting) = (key.into(), VecDeque::new());
        let mut line = Line { key, in_use: 0, refused_since: None, waiting };
        change(&mut line);
        self.lines.push(line);
    }

    /// Forgets servers that nobody waits for or has a connection to.
    fn tidy(&mut self) {
        self.lines.retain(|line| line.in_use > 0 || !line.waiting.is_empty());
    }

    /// How many requests wait, for whichever server.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many requests wait for this server.
    pub fn waiting_for(&self, key: &[u8]) -> usize {
        self.find(key).map_or(0, |line| line.waiting.len())
    }

    /// The servers that requests wait for.
    pub fn awaited(&self) -> Vec<Rc<[u8]>> {
        let awaited = self.lines.iter().filter(|line| !line.waiting.is_empty());
        awaited.map(|line| line.key.clone()).collect()
    }

    /// How many connections to this server are in use.
    pub fn in_use(&self, key: &[u8]) -> usize {
        self.find(key).map_or(0, |line| line.in_use)
    }

    /// A request has got a connection to this server.
    pub fn begin(&mut self, key: &[u8]) {
        self.change(key, |line| line.in_use += 1);
    }

    /// A request that had one ([`Self::begin`]) is done with it.
    pub fn end(&mut self, key: &[u8]) {
        if let Some(line) = self.find_mut(key) {
            line.in_use = line.in_use.saturating_sub(1);
            self.tidy();
        }
    }

    /// A request begins to wait.
    pub fn push(&mut self, key: &[u8], waiting: W) {
        self.change(key, |line| line.waiting.push_back(waiting));
        self.waiting += 1;
    }

    /// A request that was the first has not got a connection, and is the first again.
    pub fn push_first(&mut self, key: &[u8], waiting: W) {
        self.change(key, |line| line.waiting.push_front(waiting));
        self.waiting += 1;
    }

    /// Takes the request out whose turn it is. It comes back ([`Self::push_first`]), or leaves for
    /// good ([`Self::left`]).
    pub fn pop(&mut self, key: &[u8]) -> Option<W> {
        let first = self.find_mut(key)?.waiting.pop_front()?;
        self.waiting -= 1;
        Some(first)
    }

    /// A request that was the first waits no longer.
    pub fn left(&mut self) {
        self.tidy();
    }

    /// Takes the request out that `is` the one looked for, whichever server it waits for.
    pub fn remove(&mut self, is: impl Fn(&W) -> bool) -> Option<W> {
        for line in &mut self.lines {
            if let Some(place) = line.waiting.iter().position(&is) {
                let removed = line.waiting.remove(place);
                self.waiting -= 1;
                self.tidy();
                return removed;
            }
        }
        None
    }

    /// The server has refused a connection: since when it does, as far as requests that wait for it
    /// or have connections to it know.
    pub fn refused(&mut self, key: &[u8], now: usize) -> usize {
        self.find_mut(key).map_or(now, |line| *line.refused_since.get_or_insert(now))
    }

    /// The server has not refused a connection.
    pub fn reached(&mut self, key: &[u8]) {
        if let Some(line) = self.find_mut(key) {
            line.refused_since = None;
        }
    }
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

    /// The time until the next attempt, in milliseconds. `progress`: a connection could be had last
    /// time.
    pub fn next(&mut self, progress: bool) -> usize {
        self.pause = match progress {
            true => 1,
            false => (self.pause * 2).clamp(1, Backoff::LONGEST),
        };
        self.pause
    }
}
