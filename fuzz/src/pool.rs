//! The pool against a list of all idle connections, in the order in which they were parked.

use ngx_http_rs_uwsgi_module::pure::pool::policy::LastUse;
use ngx_http_rs_uwsgi_module::pure::pool::Pool;

use super::Input;

/// Steps, each of a byte for its kind and those that it needs; at the end all are taken out.
pub fn fuzz(input: &[u8]) {
    let mut input = Input(input);
    let mut both = Both::default();
    while !input.is_empty() {
        let kind = input.byte();
        let key = KEYS[usize::from(kind >> 3) % KEYS.len()];
        let mut number = |below| usize::from(input.byte()) % below;
        both.run(&match kind % 8 {
            0..3 => Step::Park { key, later: number(8), took: number(16), body: number(4) as u64 },
            3 | 4 => Step::Take { key, idle: number(32), body: number(5) as u64 },
            5 => Step::Remove(number(256)),
            6 => Step::Excess { key, most: number(5) },
            _ => Step::TakeOldest,
        });
    }
    both.empty();
}

/// Keys of which one begins as another does.
pub const KEYS: [&[u8]; 5] = [b"", b"a", b"a\0", b"ab", b"b"];

/// A connection; like the real ones it cannot be had twice.
#[derive(Debug, PartialEq)]
struct Connection(usize);

/// What happens to the pool.
#[derive(Clone, Debug)]
pub enum Step {
    /// Parks a new connection, this much later, after a request with this body that took so long.
    Park { key: &'static [u8], later: usize, took: usize, body: u64 },
    /// Takes one that was not idle for longer, and whose body was not larger.
    Take { key: &'static [u8], idle: usize, body: u64 },
    /// Removes one of those that ever were parked, whether it still is or not: the number is taken
    /// modulo theirs.
    Remove(usize),
    /// Gives up the one that was parked first, where there are more than so many.
    Excess { key: &'static [u8], most: usize },
    /// Gives up the one that was used least lately.
    TakeOldest,
}

/// The pool, and what must be in it.
#[derive(Default)]
pub struct Both {
    pool: Pool<Connection>,
    /// Key, number and how it was left; the one that was parked first comes first.
    model: Vec<(&'static [u8], usize, LastUse)>,
    parked: usize,
    now: usize,
}

impl Both {
    /// Makes a step, and compares.
    pub fn run(&mut self, step: &Step) {
        match *step {
            Step::Park { key, later, took, body } => self.park(key, later, took, body),
            Step::Take { key, idle, body } => self.take(key, idle, body),
            Step::Remove(number) => self.remove(number % self.parked.max(1)),
            Step::Excess { key, most } => self.excess(key, most),
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

    fn park(&mut self, key: &'static [u8], later: usize, took: usize, body: u64) {
        self.now += later;
        let left = LastUse { started_at: self.now.saturating_sub(took), body, since: None };
        let count = self.count(key) + 1;
        assert_eq!(self.pool.park(key, Connection(self.parked), left), count);
        self.model.push((key, self.parked, left));
        self.parked += 1;
    }

    fn take(&mut self, key: &'static [u8], idle: usize, body: u64) {
        let now = self.now;
        let fit = |left: LastUse| now - left.started_at <= idle && left.body <= body;
        let expected = self.model.iter().rposition(|(of, _, left)| *of == key && fit(*left));
        let expected = expected.map(|place| self.model.remove(place));
        let taken = self.pool.take(key, fit);
        assert_eq!(taken, expected.map(|(_, number, left)| (Connection(number), left)));
    }

    fn remove(&mut self, number: usize) {
        let expected = self.model.iter().position(|(_, of, _)| *of == number);
        let expected = expected.map(|place| Connection(self.model.remove(place).1));
        assert_eq!(self.pool.remove(|connection| connection.0 == number), expected);
    }

    fn excess(&mut self, key: &'static [u8], most: usize) {
        let first = self.model.iter().position(|(of, ..)| *of == key);
        let first = first.filter(|_| self.count(key) > most);
        let expected = first.map(|place| Connection(self.model.remove(place).1));
        assert_eq!(self.pool.excess(key, most), expected);
    }

    /// Of each server only the first may go, and of these the one whose last request was begun
    /// first; of equals any.
    fn take_oldest(&mut self) {
        let oldest = self.firsts().map(|(_, _, left)| left.started_at).min();
        assert_eq!(self.pool.oldest(), oldest);
        let Some(Connection(number)) = self.pool.take_oldest() else {
            return assert!(self.model.is_empty(), "none of {}", self.model.len());
        };
        let (_, _, left) = self.firsts().find(|(_, of, _)| *of == number).unwrap();
        assert_eq!(Some(left.started_at), oldest, "another one has been idle longer");
        self.model.retain(|(_, of, _)| *of != number);
    }

    fn firsts(&self) -> impl Iterator<Item = &(&'static [u8], usize, LastUse)> {
        KEYS.iter().filter_map(|key| self.model.iter().find(|(of, ..)| of == key))
    }

    fn count(&self, key: &[u8]) -> usize {
        self.model.iter().filter(|(of, ..)| *of == key).count()
    }

    /// What can be seen of the pool without changing it.
    fn check(&mut self) {
        assert_eq!(self.pool.len(), self.model.len());
        assert_eq!(self.pool.is_empty(), self.model.is_empty());
        assert_eq!(self.pool.oldest().is_some(), !self.model.is_empty());
        assert_eq!(self.pool.remove(|_| false), None);
        for key in KEYS {
            assert_eq!(self.pool.len_of(key), self.count(key));
            assert_eq!(self.pool.excess(key, self.count(key)), None);
            assert_eq!(self.pool.take(key, |_| false), None);
        }
    }
}
