//! Idle connections to the servers of one upstream: whose turn is next, and which one has to go.
//! Generic over the connection, with no nginx in sight.
//!
//! A server is known by a key, bytes that say everything by which its connections differ: its
//! address, and with TLS what was verified and shown. Of one server the connection that was used
//! last is taken first, so that those which are not needed grow old and are closed.
#![forbid(unsafe_code)]

pub mod policy;

use policy::LastUse;

/// Idle connections.
#[derive(Debug)]
pub struct Pool<C> {
    servers: Vec<Server<C>>,
}

/// The idle connections to one server; the one that was used last comes last.
#[derive(Debug)]
struct Server<C> {
    key: Box<[u8]>,
    idle: Vec<(C, LastUse)>,
    /// The longest time, in milliseconds, after which the server closed an idle connection itself. Its
    /// limit is no shorter: one that restarts closes them early, and none closes them late.
    limit: Option<usize>,
}

/// How many servers without a connection are remembered: the memory for the next one is there then.
/// Parking and taking the only connection of a server costs 300 instructions less so.
const REMEMBERED: usize = 16;

impl<C> Server<C> {
    /// See [`Pool::oldest`].
    fn oldest(&self) -> Option<usize> {
        self.idle.first().map(|(_, last_use)| last_use.started_at)
    }

    /// Gives that connection up.
    fn take_oldest(&mut self) -> Option<C> {
        (!self.idle.is_empty()).then(|| self.idle.remove(0).0)
    }
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Pool { servers: Vec::new() }
    }
}

impl<C> Pool<C> {
    /// Keeps a connection. Returns how many there are to this server now.
    pub fn park(&mut self, key: &[u8], connection: C, last_use: LastUse) -> usize {
        let server = match self.servers.iter().position(|server| *server.key == *key) {
            Some(known) => known,
            None => {
                if self.servers.len() >= REMEMBERED {
                    self.servers.retain(|server| !server.idle.is_empty());
                }
                self.servers.push(Server { key: key.into(), idle: Vec::new(), limit: None });
                self.servers.len() - 1
            }
        };
        let Some(server) = self.servers.get_mut(server) else { return 0 };
        server.idle.push((connection, last_use));
        server.idle.len()
    }

    /// Gives up the connection to this server that has been idle longest, where there are more than
    /// `most`.
    pub fn excess(&mut self, key: &[u8], most: usize) -> Option<C> {
        let server = self.servers.iter_mut().find(|server| *server.key == *key)?;
        if server.idle.len() <= most {
            return None;
        }
        server.take_oldest()
    }

    /// When the request started that was the last of the connection used least lately.
    pub fn oldest(&self) -> Option<usize> {
        self.servers.iter().filter_map(Server::oldest).min()
    }

    /// Gives that connection up.
    pub fn take_oldest(&mut self) -> Option<C> {
        let servers = self.servers.iter_mut().filter(|server| !server.idle.is_empty());
        servers.min_by_key(|server| server.oldest())?.take_oldest()
    }

    /// Takes the connection to this server that was used last of those that are `fit`.
    pub fn take(&mut self, key: &[u8], fit: impl Fn(LastUse) -> bool) -> Option<(C, LastUse)> {
        let server = self.servers.iter_mut().find(|server| *server.key == *key)?;
        // mostly the very last one: 40 instructions less than to search for it
        if server.idle.last().is_some_and(|(_, last_use)| fit(*last_use)) {
            return server.idle.pop();
        }
        let place = server.idle.iter().rposition(|(_, last_use)| fit(*last_use))?;
        Some(server.idle.remove(place))
    }

    /// Takes the connection that `is` the one looked for, whichever server it belongs to.
    pub fn remove(&mut self, is: impl Fn(&C) -> bool) -> Option<C> {
        self.servers.iter_mut().find_map(|server| {
            let place = server.idle.iter().position(|(connection, _)| is(connection))?;
            Some(server.idle.remove(place).0)
        })
    }

    /// As [`Self::remove`], of one that the server has closed: how long it lets them be idle is learned
    /// from it.
    pub fn closed(&mut self, now: usize, is: impl Fn(&C) -> bool) -> Option<C> {
        self.servers.iter_mut().find_map(|server| {
            let place = server.idle.iter().position(|(connection, _)| is(connection))?;
            let (connection, last_use) = server.idle.remove(place);
            server.limit = server.limit.max(last_use.idle_for(now));
            Some(connection)
        })
    }

    /// In how many milliseconds the server will have closed the connection that `is` the one looked
    /// for, as far as that has been learned; 0: at any moment.
    pub fn time_left(&self, now: usize, is: impl Fn(&C) -> bool) -> Option<usize> {
        self.servers.iter().find_map(|server| {
            let (_, last_use) = server.idle.iter().find(|(connection, _)| is(connection))?;
            Some(server.limit?.saturating_sub(last_use.idle_for(now)?))
        })
    }

    /// How many connections there are to this server.
    pub fn len_of(&self, key: &[u8]) -> usize {
        let server = self.servers.iter().find(|server| *server.key == *key);
        server.map_or(0, |server| server.idle.len())
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.servers.iter().map(|server| server.idle.len()).sum()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.servers.iter().all(|server| server.idle.is_empty())
    }
}
