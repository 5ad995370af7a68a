//! The queues before servers against a list of all that happened, and the backoff.

use std::num::NonZeroU64;

use ngx_http_rs_uwsgi_module::pure::line::Place;
use ngx_http_rs_uwsgi_module::pure::queue::{Backoff, LastAttempt, ServerQueues, Turn};

use super::Input;

/// Steps, each of a byte for its kind and those that it needs.
pub fn fuzz(input: &[u8]) {
    let mut input = Input(input);
    let mut both = Both::default();
    let (mut backoff, mut last) = (Backoff::default(), 0);
    while !input.is_empty() {
        let kind = input.byte();
        let key = KEYS[usize::from(kind >> 4) % KEYS.len()];
        let step = match kind % 16 {
            0..4 => Step::Push(key),
            4 | 5 => Step::Turn(key, kind % 2 == 1),
            6 => Step::Remove(input.byte().into()),
            7 | 8 => Step::Begin(key),
            9 | 10 => Step::End(key),
            11 | 12 => Step::Refused(key, input.byte().into()),
            13 => Step::Reached(key),
            _ => {
                last = check_pause(&mut backoff, last, kind % 2 == 1);
                continue;
            }
        };
        both.run(&step);
    }
}

/// The pause after a `last` one; returns it.
pub fn check_pause(backoff: &mut Backoff, last: usize, progress: bool) -> usize {
    let attempt = if progress { LastAttempt::Succeeded } else { LastAttempt::Failed };
    let pause = backoff.next(attempt);
    let expected = if progress { 1 } else { (2 * last).clamp(1, Backoff::LONGEST) };
    assert_eq!(pause, expected);
    pause
}

/// Keys of which one begins as another does.
pub const KEYS: [&[u8]; 4] = [b"", b"a", b"ab", b"b"];

/// A request; like the real ones it cannot be had twice.
#[derive(Debug, PartialEq)]
struct Waiting(usize);

/// Of the request with this number, when all are alike.
pub fn place(number: usize) -> Place {
    Place::new(5, arrival(number))
}

/// When it came.
pub fn arrival(number: usize) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(number as u64)
}

/// What happens to the queues.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request begins to wait.
    Push(&'static [u8]),
    /// Takes the first out, which comes back or not.
    Turn(&'static [u8], bool),
    /// Removes one, which may not be there: the number is taken modulo those that ever waited.
    Remove(usize),
    /// A request gets a connection.
    Begin(&'static [u8]),
    /// One is done with it.
    End(&'static [u8]),
    /// The server refuses, so many milliseconds after it last did anything.
    Refused(&'static [u8], usize),
    /// The server does not refuse.
    Reached(&'static [u8]),
}

/// The queues, and what should be in them.
#[derive(Default)]
pub struct Both {
    lines: ServerQueues<Waiting>,
    waiting: Vec<(&'static [u8], usize)>,
    in_use: Vec<&'static [u8]>,
    /// Since when servers refuse, of those that somebody knows.
    refused: Vec<(&'static [u8], usize)>,
    count: usize,
    now: usize,
}

impl Both {
    /// Makes a step, and compares.
    pub fn run(&mut self, step: &Step) {
        match *step {
            Step::Push(key) => {
                self.lines.push(key, place(self.count), Waiting(self.count));
                self.waiting.push((key, self.count));
                self.count += 1;
            }
            Step::Turn(key, back) => self.turn(key, back),
            Step::Remove(index) => {
                let number = index % (self.count + 1);
                let place = self.waiting.iter().position(|(_, waiting)| *waiting == number);
                let removed = place.map(|place| self.waiting.remove(place));
                for key in KEYS {
                    let expected =
                        removed.filter(|(of, _)| *of == key).map(|(_, one)| Waiting(one));
                    assert_eq!(
                        self.lines.remove(key, arrival(number), |waiting| waiting.0 == number),
                        expected
                    );
                }
            }
            Step::Begin(key) => {
                self.lines.begin(key);
                self.in_use.push(key);
            }
            Step::End(key) => {
                self.lines.end(key);
                if let Some(place) = self.in_use.iter().position(|of| *of == key) {
                    self.in_use.remove(place);
                }
            }
            Step::Refused(key, later) => {
                self.now += later;
                let known = self.refused.iter().find(|(of, _)| *of == key).map(|(_, since)| *since);
                assert_eq!(self.lines.refused(key, self.now), known.unwrap_or(self.now));
                if known.is_none() {
                    self.refused.push((key, self.now));
                }
            }
            Step::Reached(key) => {
                self.lines.reached(key);
                self.refused.retain(|(of, _)| *of != key);
            }
        }
        let known =
            |key| self.in_use.contains(&key) || self.waiting.iter().any(|(of, _)| *of == key);
        self.refused.retain(|(key, _)| known(*key));
        self.check();
    }

    fn turn(&mut self, key: &'static [u8], back: bool) {
        let place = self.waiting.iter().position(|(of, _)| *of == key);
        let expected = place.map(|place| Waiting(self.waiting[place].1));
        let (place_of, first) = self.lines.pop(key, Turn::First).unzip();
        assert_eq!(first, expected);
        match place_of.zip(first) {
            Some((place, first)) if back => self.lines.push(key, place, first),
            _ => {
                self.lines.left(key);
                place.map(|place| self.waiting.remove(place));
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.lines.waiting(), self.waiting.len());
        let mut awaited = Vec::new();
        for key in KEYS {
            let waiting = self.waiting.iter().filter(|(of, _)| *of == key).count();
            assert_eq!(self.lines.waiting_for(key), waiting);
            assert_eq!(self.lines.in_use(key), self.in_use.iter().filter(|of| **of == key).count());
            awaited.extend((waiting > 0).then_some(key));
        }
        let known = |key: &&[u8]| self.in_use.contains(key) || awaited.contains(key);
        assert_eq!(self.lines.servers(), KEYS.iter().filter(|key| known(key)).count());
        let mut said = self.lines.awaited();
        said.sort();
        assert!(said.iter().map(|key| &**key).eq(awaited));
    }
}
