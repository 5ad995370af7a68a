//! Idle connections: whose turn is next, and which one has to go. Generic over the connection, with no
//! nginx in sight.
//!
//! A server is known by a key, bytes that say everything by which its connections differ: its
//! address, and with TLS what was verified and shown. Of one server the connection that was used
//! last is taken first, so that those which are not needed grow old and are closed.
//!
//! Each upstream has a [`Pool`]; the connections of all pools of a worker are in one [`Worker`], in the order in
//! which they were parked. A connection has a number, its descriptor: by it the connection is found that
//! something has happened to. No step looks at all connections, servers or upstreams.
#![forbid(unsafe_code)]

mod list;
pub mod policy;

use std::cell::RefCell;
use std::rc::Rc;

use list::{Ends, Link, Number};
use policy::LastUse;

use super::keys::Keys;
pub use super::keys::Place as ServerPlace;

/// The idle connections of a worker.
#[derive(Debug)]
pub struct Worker<C> {
    /// By number.
    places: Vec<Place<C>>,
    /// All, in the order in which they were parked.
    all: Ends,
}

/// The place of a connection, and its neighbours in the lists of all and of its server's.
#[derive(Debug)]
struct Place<C> {
    parked: Option<Parked<C>>,
    among_all: Link,
    of_server: Link,
}

/// An idle connection.
#[derive(Debug)]
struct Parked<C> {
    connection: C,
    last_use: LastUse,
    /// Whose it is.
    pool: usize,
    /// The place of its server there.
    server: usize,
}

/// The idle connections to the servers of one upstream.
#[derive(Debug)]
pub struct Pool<C> {
    worker: Rc<RefCell<Worker<C>>>,
    id: usize,
    servers: Keys<Server>,
    /// How many servers have no connection.
    empty: usize,
}

/// The idle connections to one server.
#[derive(Debug, Default)]
struct Server {
    idle: Ends,
    len: usize,
    /// The longest time, in milliseconds, after which the server closed an idle connection itself. Its
    /// limit is no shorter: one that restarts closes them early, and none closes them late.
    limit: Option<usize>,
}

/// How many servers without a connection are remembered, beside as many as have one: the memory for the
/// next one is there then, and what was learned of them.
const REMEMBERED: usize = 16;

/// How many connections of a server are looked at, the last ones, for one that is fit. What a request does
/// not fit is mostly all the same.
const LOOKED_AT: usize = 32;

impl<C> Default for Worker<C> {
    fn default() -> Self {
        Worker { places: Vec::new(), all: Ends::default() }
    }
}

impl<C> Worker<C> {
    /// No connection yet.
    pub fn new() -> Rc<RefCell<Self>> {
        Rc::default()
    }

    /// The connection of this number, if it is one of the pool's.
    fn of(&self, pool: usize, number: u32) -> Option<&Parked<C>> {
        let parked = self.places.get(number as usize)?.parked.as_ref();
        parked.filter(|parked| parked.pool == pool)
    }

    /// Is there room for a connection under this number?
    #[inline]
    fn has_room(&self, number: Number) -> bool {
        self.places.get(number.place()).is_some_and(|place| place.parked.is_none())
    }

    #[inline(always)]
    fn insert(&mut self, number: Number, parked: Parked<C>, server: &mut Server) {
        let places = &mut self.places[..];
        list::push(places, &mut self.all, number, |place| &mut place.among_all);
        list::push(places, &mut server.idle, number, |place| &mut place.of_server);
        if let Some(place) = places.get_mut(number.place()) {
            place.parked = Some(parked);
        }
        server.len += 1;
    }

    #[inline(always)]
    fn remove(&mut self, number: Number, server: &mut Server) -> Option<(C, LastUse)> {
        let places = &mut self.places[..];
        let place = places.get_mut(number.place())?;
        let parked = place.parked.take()?;
        let (among_all, of_server) = (place.among_all, place.of_server);
        list::remove(places, &mut self.all, among_all, |place| &mut place.among_all);
        list::remove(places, &mut server.idle, of_server, |place| &mut place.of_server);
        server.len = server.len.saturating_sub(1);
        Some((parked.connection, parked.last_use))
    }
}

impl<C> Pool<C> {
    /// A pool of this worker. `id` tells it from the others.
    pub fn new(worker: &Rc<RefCell<Worker<C>>>, id: usize) -> Self {
        Pool { worker: worker.clone(), id, servers: Keys::default(), empty: 0 }
    }

    /// Keeps a connection, whose number no other one has. Returns how many there are to this server now.
    pub fn park(&mut self, key: &[u8], number: u32, connection: C, last_use: LastUse) -> usize {
        self.park_at(None, key, number, connection, last_use)
    }

    /// The same of a connection that was taken from there ([`Self::take_last`]).
    #[inline(always)]
    pub fn park_at(
        &mut self,
        place: Option<ServerPlace>,
        key: &[u8],
        number: u32,
        connection: C,
        last_use: LastUse,
    ) -> usize {
        let Some(own) = Number::new(number) else { return 0 };
        if !self.worker.borrow().has_room(own) {
            self.make_room(own);
        }
        let (place, server) = match place.and_then(|place| self.servers.find_placed(place)) {
            Some(found) => found,
            None => {
                let place = self.servers.find(key).unwrap_or_else(|| self.add(key));
                let Some(server) = self.servers.get_mut(place) else { return 0 };
                (place, server)
            }
        };
        self.empty -= usize::from(server.len == 0);
        let parked = Parked { connection, last_use, pool: self.id, server: place };
        self.worker.borrow_mut().insert(own, parked, server);
        server.len
    }

    /// Makes room for a number. What is there under it, against all rules, is closed.
    #[cold]
    fn make_room(&mut self, number: Number) {
        drop(self.remove(number.get()));
        let places = &mut self.worker.borrow_mut().places;
        if number.place() >= places.len() {
            let empty =
                || Place { parked: None, among_all: Link::default(), of_server: Link::default() };
            places.resize_with(number.place() + 1, empty);
        }
    }

    /// A server that is not known yet.
    #[cold]
    fn add(&mut self, key: &[u8]) -> usize {
        if self.empty >= REMEMBERED + self.servers.len() / 2 {
            self.servers.retain(|server| server.len > 0);
            self.empty = 0;
        }
        self.empty += 1;
        self.servers.insert(key, Server::default())
    }

    /// Takes a connection out.
    fn take_out(&mut self, place: usize, number: Number) -> Option<(C, LastUse)> {
        let server = self.servers.get_mut(place)?;
        let taken = self.worker.borrow_mut().remove(number, server)?;
        self.empty += usize::from(server.len == 0);
        Some(taken)
    }

    /// Gives up the connection to this server that was parked first, where there are more than `most`.
    pub fn excess(&mut self, key: &[u8], most: usize) -> Option<C> {
        let place = self.servers.find(key)?;
        let oldest = self.servers.get(place).filter(|server| server.len > most)?.idle.oldest?;
        self.take_out(place, oldest).map(|(connection, _)| connection)
    }

    /// The servers whose connection that was parked first, or last, `is` one of those looked for.
    pub fn servers_with(&self, is: impl Fn(&C) -> bool) -> Vec<Rc<[u8]>> {
        let worker = self.worker.borrow();
        let is = |number: Option<Number>| {
            let place = number.and_then(|number| worker.places.get(number.place()));
            place.and_then(|place| place.parked.as_ref()).is_some_and(|of| is(&of.connection))
        };
        let servers = self.servers.iter();
        let found = servers.filter(|(_, server)| is(server.idle.oldest) || is(server.idle.newest));
        found.map(|(key, _)| key.clone()).collect()
    }

    /// Gives up a connection to a server with such a key.
    pub fn take_of(&mut self, is: impl Fn(&[u8]) -> bool) -> Option<C> {
        let has = |(key, server): &(&Rc<[u8]>, &Server)| server.len > 0 && is(key);
        let oldest = self.servers.iter().find(has)?.1.idle.oldest?;
        self.remove(oldest.get())
    }

    /// The pool with the connection that was parked first of all pools of the worker.
    pub fn oldest_of_worker(&self) -> Option<usize> {
        let worker = self.worker.borrow();
        worker.places.get(worker.all.oldest?.place())?.parked.as_ref().map(|parked| parked.pool)
    }

    /// Gives up the connection that was parked first of all pools, if it is one of this pool
    /// ([`Self::oldest_of_worker`]).
    pub fn take_oldest(&mut self) -> Option<C> {
        let oldest = self.worker.borrow().all.oldest?;
        self.remove(oldest.get())
    }

    /// Takes the connection to this server that was used last, where it `may` be taken. Tells where it was, too.
    #[inline(always)]
    pub fn take_last(
        &mut self,
        key: &[u8],
        may: impl FnOnce(&C) -> bool,
    ) -> Option<(C, LastUse, ServerPlace)> {
        let (at, server) = self.servers.find_mut(key)?;
        let worker = &mut *self.worker.borrow_mut();
        let number = server.idle.newest?;
        let parked = worker.places.get(number.place())?.parked.as_ref()?;
        if !may(&parked.connection) {
            return None;
        }
        let (connection, last_use) = worker.remove(number, server)?;
        self.empty += usize::from(server.len == 0);
        Some((connection, last_use, self.servers.place(at)))
    }

    /// Takes the connection to this server that was used last of those that are `fit`.
    pub fn take(&mut self, key: &[u8], fit: impl Fn(&C, LastUse) -> bool) -> Option<(C, LastUse)> {
        let (_, server) = self.servers.find_mut(key)?;
        let worker = &mut *self.worker.borrow_mut();
        let mut next = server.idle.newest;
        for _ in 0..LOOKED_AT {
            let number = next?;
            let place = worker.places.get(number.place())?;
            let parked = place.parked.as_ref()?;
            if fit(&parked.connection, parked.last_use) {
                let taken = worker.remove(number, server);
                self.empty += usize::from(server.len == 0);
                return taken;
            }
            next = place.of_server.older;
        }
        None
    }

    /// Takes the connection with this number.
    pub fn remove(&mut self, number: u32) -> Option<C> {
        let place = self.worker.borrow().of(self.id, number)?.server;
        self.take_out(place, Number::new(number)?).map(|(connection, _)| connection)
    }

    /// As [`Self::remove`], of one that the server has closed: how long it lets them be idle is learned
    /// from it.
    pub fn closed(&mut self, now: usize, number: u32) -> Option<C> {
        let place = self.worker.borrow().of(self.id, number)?.server;
        let (connection, last_use) = self.take_out(place, Number::new(number)?)?;
        if let Some(server) = self.servers.get_mut(place) {
            server.limit = server.limit.max(last_use.idle_for(now));
        }
        Some(connection)
    }

    /// In how many milliseconds the server will have closed the connection with this number, as far as that
    /// has been learned; 0: at any moment.
    pub fn time_left(&self, now: usize, number: u32) -> Option<usize> {
        let worker = self.worker.borrow();
        let parked = worker.of(self.id, number)?;
        let limit = self.servers.get(parked.server)?.limit?;
        Some(limit.saturating_sub(parked.last_use.idle_for(now)?))
    }

    /// How many connections there are to this server.
    pub fn len_of(&self, key: &[u8]) -> usize {
        let server = self.servers.find(key).and_then(|place| self.servers.get(place));
        server.map_or(0, |server| server.len)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.servers.iter().map(|(_, server)| server.len).sum()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.servers.len() == self.empty
    }

    /// How many servers are remembered.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }
}

impl<C> Drop for Pool<C> {
    /// Its connections end with it.
    fn drop(&mut self) {
        for server in self.servers.values_mut() {
            while let Some(number) = server.idle.oldest {
                drop(self.worker.borrow_mut().remove(number, server));
            }
        }
    }
}
