//! The pools of a worker against a list of all idle connections, in the order in which they were parked.

use std::cell::RefCell;
use std::rc::Rc;

use ngx_http_rs_uwsgi_module::pure::pool::policy::LastUse;
use ngx_http_rs_uwsgi_module::pure::pool::{Pool, Worker};

use super::Input;

/// Steps, each of a byte for its kind and those that it needs; at the end all are taken out.
pub fn fuzz(input: &[u8]) {
    let mut input = Input(input);
    let mut both = Both::default();
    while !input.is_empty() {
        let kind = input.byte();
        let server = server(usize::from(kind >> 3));
        let mut number = |below| usize::from(input.byte()) % below;
        both.run(&match kind % 8 {
            0..3 => {
                Step::Park { server, later: number(8), took: number(16), body: number(4) as u64 }
            }
            3 | 4 => Step::Take { server, idle: number(32), body: number(5) as u64 },
            5 => Step::Remove(number(256)),
            6 => Step::Excess { server, most: number(5) },
            _ => Step::TakeOldest,
        });
    }
    both.empty();
}

/// Keys of which one begins as another does.
pub const KEYS: [&[u8]; 5] = [b"", b"a", b"a\0", b"ab", b"b"];

/// The pools of two upstreams, whose keys may be the same.
const POOLS: usize = 2;

/// A server: the pool and the key.
pub type Server = (usize, &'static [u8]);

/// One of all servers.
pub fn server(number: usize) -> Server {
    (number / KEYS.len() % POOLS, KEYS[number % KEYS.len()])
}

/// A connection; like the real ones it cannot be had twice.
#[derive(Debug, PartialEq)]
struct Connection(usize);

/// What happens to the pools.
#[derive(Clone, Debug)]
pub enum Step {
    /// Parks a new connection, this much later, after a request with this body that took so long.
    Park { server: Server, later: usize, took: usize, body: u64 },
    /// Takes one that was not idle for longer, and whose body was not larger.
    Take { server: Server, idle: usize, body: u64 },
    /// Removes the one of a number, whether there is one or not: it is taken modulo those that ever were.
    Remove(usize),
    /// Gives up the one that was parked first, where there are more than so many.
    Excess { server: Server, most: usize },
    /// Gives up the one that was parked first of all.
    TakeOldest,
}

/// An idle connection of the model.
#[derive(Clone, Copy)]
struct Parked {
    server: Server,
    /// Its descriptor, which another one has once it is gone.
    number: u32,
    connection: usize,
    left: LastUse,
}

/// The pools, and what must be in them.
pub struct Both {
    pools: Vec<Pool<Connection>>,
    /// The one that was parked first comes first.
    model: Vec<Parked>,
    parked: usize,
    now: usize,
}

impl Default for Both {
    fn default() -> Self {
        let worker: Rc<RefCell<Worker<Connection>>> = Worker::new();
        let pools = (0..POOLS).map(|id| Pool::new(&worker, id)).collect();
        Both { pools, model: Vec::new(), parked: 0, now: 0 }
    }
}

impl Both {
    /// Makes a step, and compares.
    pub fn run(&mut self, step: &Step) {
        match *step {
            Step::Park { server, later, took, body } => self.park(server, later, took, body),
            Step::Take { server, idle, body } => self.take(server, idle, body),
            Step::Remove(number) => self.remove(number as u32 % (self.free_number() + 1)),
            Step::Excess { server, most } => self.excess(server, most),
            Step::TakeOldest => self.take_oldest(),
        }
        self.check();
    }

    /// Nothing is lost, and nothing there twice.
    pub fn empty(&mut self) {
        while !self.model.is_empty() {
            self.run(&Step::TakeOldest);
        }
    }

    /// The least that no connection has, as the kernel gives descriptors away.
    fn free_number(&self) -> u32 {
        (0..).find(|number| self.model.iter().all(|parked| parked.number != *number)).unwrap()
    }

    fn park(&mut self, server: Server, later: usize, took: usize, body: u64) {
        self.now += later;
        let left = LastUse { started_at: self.now.saturating_sub(took), body, since: None };
        let (count, number) = (self.count(server) + 1, self.free_number());
        let parked = Parked { server, number, connection: self.parked, left };
        let pool = &mut self.pools[server.0];
        assert_eq!(pool.park(server.1, number, Connection(self.parked), left), count);
        self.model.push(parked);
        self.parked += 1;
    }

    fn take(&mut self, server: Server, idle: usize, body: u64) {
        let now = self.now;
        let fit = |left: LastUse| now - left.started_at <= idle && left.body <= body;
        // no more than the last ones are looked at
        let last = self.model.iter().enumerate().rev().filter(|(_, of)| of.server == server);
        let expected = last.take(32).find(|(_, of)| fit(of.left)).map(|(place, _)| place);
        let expected = expected.map(|place| self.model.remove(place));
        let taken = self.pools[server.0].take(server.1, |_, left| fit(left));
        assert_eq!(taken, expected.map(|of| (Connection(of.connection), of.left)));
    }

    fn remove(&mut self, number: u32) {
        let place = self.model.iter().position(|of| of.number == number);
        let expected = place.map(|place| self.model.remove(place));
        for (id, pool) in self.pools.iter_mut().enumerate() {
            let own = expected.filter(|of| of.server.0 == id);
            assert_eq!(pool.remove(number), own.map(|of| Connection(of.connection)));
        }
    }

    fn excess(&mut self, server: Server, most: usize) {
        let first = self.model.iter().position(|of| of.server == server);
        let first = first.filter(|_| self.count(server) > most);
        let expected = first.map(|place| Connection(self.model.remove(place).connection));
        assert_eq!(self.pools[server.0].excess(server.1, most), expected);
    }

    fn take_oldest(&mut self) {
        let oldest = self.model.first().copied();
        for (id, pool) in self.pools.iter_mut().enumerate() {
            assert_eq!(pool.oldest_of_worker(), oldest.map(|of| of.server.0));
            if oldest.is_none_or(|of| of.server.0 != id) {
                assert_eq!(pool.take_oldest(), None, "another pool's");
            }
        }
        let Some(oldest) = oldest else { return };
        let taken = self.pools[oldest.server.0].take_oldest();
        assert_eq!(taken, Some(Connection(oldest.connection)));
        self.model.remove(0);
    }

    fn count(&self, server: Server) -> usize {
        self.model.iter().filter(|of| of.server == server).count()
    }

    /// What can be seen of the pools without changing them.
    fn check(&mut self) {
        let free = self.free_number();
        for id in 0..POOLS {
            let own = self.model.iter().filter(|of| of.server.0 == id).count();
            let counts = KEYS.map(|key| self.count((id, key)));
            let pool = &mut self.pools[id];
            assert_eq!(pool.len(), own);
            assert_eq!(pool.is_empty(), own == 0);
            assert_eq!(pool.remove(free), None);
            for (key, count) in KEYS.into_iter().zip(counts) {
                assert_eq!(pool.len_of(key), count);
                assert_eq!(pool.excess(key, count), None);
                assert_eq!(pool.take(key, |_, _| false), None);
            }
        }
    }
}
