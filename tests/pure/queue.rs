//! The queues before servers against a list of all that happened, and the backoff.

use ngx_http_rs_uwsgi_module::queue::{Backoff, Lines};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};

/// Keys of which one begins as another does.
const KEYS: [&[u8]; 4] = [b"", b"a", b"ab", b"b"];

/// A request; like the real ones it cannot be had twice.
#[derive(Debug, PartialEq)]
struct Waiting(usize);

#[derive(Clone, Debug)]
enum Step {
    Push(&'static [u8]),
    /// Takes the first out, which comes back or not.
    Turn(&'static [u8], bool),
    /// Removes one, which may not be there.
    Remove(Index),
    Begin(&'static [u8]),
    End(&'static [u8]),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || select(KEYS.to_vec());
    prop_oneof![
        5 => key().prop_map(Step::Push),
        3 => (key(), any::<bool>()).prop_map(|(key, back)| Step::Turn(key, back)),
        2 => any::<Index>().prop_map(Step::Remove),
        2 => key().prop_map(Step::Begin),
        2 => key().prop_map(Step::End),
    ]
}

/// The queues, and what should be in them.
#[derive(Default)]
struct Both {
    lines: Lines<Waiting>,
    waiting: Vec<(&'static [u8], usize)>,
    in_use: Vec<&'static [u8]>,
    count: usize,
}

impl Both {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Push(key) => {
                self.lines.push(key, Waiting(self.count));
                self.waiting.push((key, self.count));
                self.count += 1;
            }
            Step::Turn(key, back) => self.turn(key, back),
            Step::Remove(index) => {
                let number = index.index(self.count + 1);
                let place = self.waiting.iter().position(|(_, waiting)| *waiting == number);
                let expected = place.map(|place| Waiting(self.waiting.remove(place).1));
                assert_eq!(self.lines.remove(|waiting| waiting.0 == number), expected);
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
        }
        self.check();
    }

    fn turn(&mut self, key: &'static [u8], back: bool) {
        let place = self.waiting.iter().position(|(of, _)| *of == key);
        let expected = place.map(|place| Waiting(self.waiting[place].1));
        let first = self.lines.pop(key);
        assert_eq!(first, expected);
        match first {
            Some(first) if back => self.lines.push_first(key, first),
            _ => {
                self.lines.left();
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
        let mut said = self.lines.awaited();
        said.sort();
        assert!(said.iter().map(|key| &**key).eq(awaited));
    }
}

proptest! {
    #[test]
    fn everyone_is_served_in_the_order_of_arrival(steps in vec(step(), 0..80)) {
        let mut both = Both::default();
        steps.iter().for_each(|step| both.run(step));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew(progress in vec(any::<bool>(), 0..40)) {
        let mut backoff = Backoff::default();
        let mut last = 0;
        for progress in progress {
            let pause = backoff.next(progress);
            let expected = if progress { 1 } else { (2 * last).clamp(1, Backoff::LONGEST) };
            prop_assert_eq!(pause, expected);
            last = pause;
        }
    }
}

#[test]
fn refusals_are_remembered_while_somebody_waits() {
    let mut lines = Lines::default();
    // nobody knows of it
    assert_eq!(lines.refused(b"a", 5), 5);
    lines.push(b"a", 1);
    assert_eq!(lines.refused(b"a", 7), 7);
    assert_eq!(lines.refused(b"a", 9), 7);
    let first = lines.pop(b"a").unwrap();
    assert_eq!(lines.refused(b"a", 10), 7, "the one whose turn it is still waits");
    lines.push_first(b"a", first);
    lines.reached(b"a");
    assert_eq!(lines.refused(b"a", 11), 11);
    assert_eq!(lines.remove(|_| true), Some(1));
    assert_eq!(lines.refused(b"a", 20), 20);
    assert_eq!(lines.refused(b"a", 21), 21);
}
