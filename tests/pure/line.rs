//! The line before a server against a list that is sorted anew for each turn, and what workers agree on of
//! its order.

use std::cell::Cell;
use std::num::NonZeroU64;

use ngx_http_rs_uwsgi_module::pure::line::{
    arrived_at, Direction, Line, Order, Place, DEFAULT_PRIORITY,
};
use ngx_http_rs_uwsgi_module::pure::overload::{Overload, HOLD, IMPATIENCE, WORDS};
use ngx_http_rs_uwsgi_module::pure::zone::{Acquire, Join, Shape, LOWER, LOWER_TURNS};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

use crate::zone::{format, host, slot, words, SHAPE};

fn at(moment: u64) -> NonZeroU64 {
    NonZeroU64::new(moment).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Pop { back: bool },
    Lower,
    Remove(usize),
    Turn(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..10_u8).prop_map(Step::Push),
        3 => any::<bool>().prop_map(|back| Step::Pop { back }),
        1 => Just(Step::Lower),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Turn),
    ]
}

/// Who is first in the list: by class, and in it by arrival. (priority, arrival)
fn first(waiting: &[(u8, u64)], direction: Direction) -> Option<usize> {
    let key = |index: &usize| {
        let (priority, arrival) = waiting[*index];
        let time = match direction {
            Direction::Oldest => arrival,
            Direction::Newest => u64::MAX - arrival,
        };
        (u8::MAX - priority, time)
    };
    (0..waiting.len()).min_by_key(key)
}

proptest! {
    #[test]
    fn the_first_is_the_first_of_a_sorted_list(steps in vec(step(), 0..100)) {
        let (mut line, mut waiting) = (Line::default(), Vec::<(u8, u64)>::new());
        let (mut now, mut direction) = (100, Direction::Oldest);
        for step in steps {
            now += 1;
            match step {
                Step::Push(priority) => {
                    line.push(Place::new(priority, at(now)), (priority, now));
                    waiting.push((priority, now));
                }
                Step::Pop { back } => {
                    let expected = first(&waiting, direction).map(|index| waiting[index]);
                    let popped = line.pop();
                    prop_assert_eq!(popped.map(|(_, popped)| popped), expected);
                    match popped {
                        Some((place, popped)) if back => line.push(place, popped),
                        Some((_, popped)) => waiting.retain(|other| *other != popped),
                        None => {}
                    }
                }
                Step::Lower => {
                    let popped = line.pop_lower();
                    prop_assert_eq!(popped.is_none(), waiting.is_empty());
                    if let Some((place, popped)) = popped {
                        let class: Vec<_> =
                            waiting.iter().copied().filter(|other| other.0 == popped.0).collect();
                        prop_assert_eq!(class[first(&class, direction).unwrap()], popped);
                        waiting.retain(|other| *other != popped);
                        line.served(place.class(), at(now));
                    }
                }
                Step::Remove(index) => {
                    let chosen = (!waiting.is_empty()).then(|| waiting.remove(index % waiting.len()));
                    let arrived = at(chosen.map_or(1, |(_, arrived)| arrived));
                    let removed = line.remove(arrived, |other| Some(*other) == chosen);
                    prop_assert_eq!(removed.map(|(_, removed)| removed), chosen);
                }
                Step::Turn(newest) => {
                    let next = if newest { Direction::Newest } else { Direction::Oldest };
                    prop_assert_eq!(line.turn(next), next != direction);
                    direction = next;
                }
            }
            prop_assert_eq!(line.len(), waiting.len());
            prop_assert_eq!(line.is_empty(), waiting.is_empty());
            prop_assert_eq!(line.lower() == 0, waiting.is_empty());
            let expected = first(&waiting, direction).map(|index| waiting[index]);
            prop_assert_eq!(line.first().map(|(_, first)| *first), expected);
        }
    }

    /// The lower rank is the one served first, whatever the two are; one that is ahead is before all.
    #[test]
    fn ranks_are_the_order(
        a in (0..10_u8, 1..1_u64 << 58),
        b in (0..10_u8, 1..1_u64 << 58),
        newest in any::<bool>(),
    ) {
        let direction = if newest { Direction::Newest } else { Direction::Oldest };
        let [one, two] = [a, b].map(|(priority, arrival)| Place::new(priority, at(arrival + 10)));
        let [first, second] = [one, two].map(|place| place.rank(direction));
        let expected = match (a.0 == b.0, newest) {
            (false, _) => b.0.cmp(&a.0),
            (true, false) => a.1.cmp(&b.1),
            (true, true) => b.1.cmp(&a.1),
        };
        prop_assert_eq!(first.cmp(&second), expected);
        let ahead = Place::ahead(at(b.1 + 10)).rank(direction);
        prop_assert!(LOWER < ahead && ahead < first);
        // a worker that has not heard yet that the order has changed is before those that have
        if a.0 == b.0 {
            prop_assert!(one.rank(Direction::Oldest) < two.rank(Direction::Newest));
        }
    }
}

/// Of the turns of two workers, one with a high class and one with two lower ones, the lower ones get one in
/// ten, in turn.
#[test]
fn lower_classes_get_a_tenth() {
    let words = words(SHAPE);
    let zone = format(&words, SHAPE);
    let workers = [2, 3].map(|pid| zone.on(host(pid)).enter().unwrap());
    let id = slot(zone, b"k");
    let mut lines = [Line::default(), Line::default()];
    let mut now = 1000;
    let mut push = |lines: &mut [Line<u8>; 2], of: usize, priority: u8| {
        now += 1;
        lines[of].push(Place::new(priority, at(now)), priority);
        workers[of].set_lower(id, lines[of].lower());
        let first = lines[of].first().unwrap().0.rank(Direction::Oldest);
        assert!(matches!(workers[of].join(id, 99, first), Join::Waits { .. }));
    };
    (0..60).for_each(|_| push(&mut lines, 0, 9));
    (0..6).for_each(|number| push(&mut lines, 1, if number % 2 == 0 { 1 } else { 3 }));
    let mut served = Vec::new();
    for turn in 0..40_u64 {
        let (first, rank) = zone.first(id).unwrap();
        let of = first.index();
        assert_eq!(rank == LOWER, turn % LOWER_TURNS == LOWER_TURNS - 1);
        assert!(
            !workers[1 - of].has_turn(id, lines[1 - of].first().unwrap().0.rank(Direction::Oldest))
        );
        assert_eq!(workers[of].acquire(id, 1, rank), Acquire::Place);
        let (place, priority) = match rank == LOWER {
            true => lines[of].pop_lower().unwrap(),
            false => lines[of].pop().unwrap(),
        };
        lines[of].served(place.class(), at(2000 + turn));
        workers[of].count_turn(id);
        workers[of].set_lower(id, lines[of].lower());
        let next = lines[of].first().map(|(place, _)| place.rank(Direction::Oldest));
        let _ = workers[of].left(id, 1, next);
        let _ = workers[of].release(id, 1);
        served.push(priority);
    }
    let lower: Vec<_> = served.iter().filter(|priority| **priority < 9).collect();
    assert_eq!(lower, [&1, &3, &1, &3], "{served:?}");
}

/// One that comes back with its place is before all others, also where the turn would be a lower class's: nobody else
/// can have that place.
#[test]
fn one_that_is_ahead_is_before_a_lower_class() {
    let words = words(SHAPE);
    let zone = format(&words, SHAPE);
    let worker = zone.on(host(2)).enter().unwrap();
    let id = slot(zone, b"k");
    let mut line = Line::default();
    line.push(Place::new(DEFAULT_PRIORITY, at(1000)), "waits");
    for _ in 1..LOWER_TURNS {
        line.served(0, at(2000));
        worker.count_turn(id);
    }
    assert!(line.is_lower_turn());
    line.push(Place::ahead(at(3000)), "is back");
    worker.set_lower(id, line.lower());
    let first = line.first().unwrap().0.rank(Direction::Oldest);
    assert!(matches!(worker.join(id, 99, first), Join::Waits { .. }));
    assert!(!line.is_lower_turn());
    assert_eq!(zone.first(id), Some((worker.id(), first)));
    assert!(worker.has_turn(id, first));
    assert_eq!(line.pop().map(|(_, waiting)| waiting), Some("is back"));
}

/// Clients leave from anywhere in a long line: those that came at the same moment are looked at, and no others.
#[test]
fn one_that_leaves_is_found_in_a_long_line() {
    const WAITING: u64 = 10_000;
    let mut line = Line::default();
    let arrival = |number: u64| at(1000 + number / 2);
    let order: Vec<u64> = (0..WAITING).map(|number| number * 7919 % WAITING).collect();
    for number in 0..WAITING {
        line.push(Place::new((number % 3) as u8, arrival(number)), number);
    }
    let looked = Cell::new(0);
    for number in &order {
        let is = |other: &u64| {
            looked.set(looked.get() + 1);
            other == number
        };
        assert_eq!(line.remove(arrival(*number), is).map(|(_, removed)| removed), Some(*number));
    }
    assert!(line.is_empty());
    assert!(looked.get() <= 2 * WAITING, "{} were looked at", looked.get());
}

/// Of two that came at the same moment the first to join is the older one; one that comes back joins anew.
#[test]
fn two_that_came_at_once() {
    let (mut line, place) = (Line::default(), Place::new(DEFAULT_PRIORITY, at(10)));
    line.push(place, 'a');
    line.push(place, 'b');
    assert_eq!(line.pop().map(|(_, first)| first), Some('a'));
    line.push(place, 'a');
    line.turn(Direction::Newest);
    assert_eq!(line.first().map(|(_, first)| *first), Some('a'));
    assert_eq!(line.remove(at(10), |other| *other == 'b').map(|(_, removed)| removed), Some('b'));
    assert_eq!(line.remove(at(10), |other| *other == 'b'), None);
    assert_eq!(line.remove(at(11), |_| true), None);
    assert_eq!(line.len(), 1);
}

/// Without classes every turn is that of the first, which has waited longest.
#[test]
fn without_classes_nothing_changes() {
    let shape = Shape { workers: 2, servers: 1, counters: 0, shared: 0 };
    let words = words(shape);
    let zone = format(&words, shape);
    let worker = zone.on(host(2)).enter().unwrap();
    let id = slot(zone, b"k");
    let mut line = Line::default();
    for number in 1..50 {
        line.push(Place::new(DEFAULT_PRIORITY, at(number * 10)), number);
        worker.set_lower(id, line.lower());
        let first = line.first().unwrap().0.rank(Direction::Oldest);
        assert!(matches!(worker.join(id, 99, first), Join::Waits { .. }));
    }
    for number in 1..50 {
        let first = line.first().unwrap().0.rank(Direction::Oldest);
        assert_eq!(zone.first(id), Some((worker.id(), first)));
        assert_eq!(line.pop().unwrap().1, number);
        worker.count_turn(id);
        worker.set_lower(id, line.lower());
        let next = line.first().map(|(place, _)| place.rank(Direction::Oldest));
        let _ = worker.left(id, 1, next);
    }
}

fn shared() -> Vec<AtomicU64> {
    (0..WORDS).map(|_| AtomicU64::new(0)).collect()
}

fn is_newest(overload: &Overload<'_, AtomicU64>, now: u64) -> bool {
    overload.direction(Order::Fair, now) == Direction::Newest
}

#[test]
fn clients_that_wait_too_long_turn_the_line() {
    let words = shared();
    let overload = Overload::new(&words);
    let now = 1_000_000;
    assert_eq!(overload.direction(Order::Newest, now), Direction::Newest);
    assert!(!overload.left(20, false, now) && !overload.left(20, false, now), "tabs closed");
    assert!(!overload.left(IMPATIENCE, false, now), "one says nothing");
    assert!(overload.left(IMPATIENCE, false, now + 5), "two do");
    assert!(is_newest(&overload, now + 6));
    assert_eq!(overload.direction(Order::Arrival, now + 6), Direction::Oldest);
    // it goes on while others leave
    for later in (0..10_000).step_by(500) {
        assert!(!overload.left(IMPATIENCE + 1, false, now + later), "it is turned already");
        assert!(is_newest(&overload, now + later + 499));
        assert!(!overload.take_end(now + later));
    }
    let last = now + 9_500;
    assert!(!is_newest(&overload, last + HOLD));
    assert!(overload.take_end(last + HOLD) && !overload.take_end(last + HOLD), "one sees it");
    assert!(!overload.left(IMPATIENCE, false, last + 2 * HOLD), "one again says nothing");
    const { assert!(HOLD <= 2000) };
}

/// Where all wait for ten seconds, one who leaves after three has another reason, whose time is up has not.
#[test]
fn what_is_too_long_depends_on_how_long_others_wait() {
    let words = shared();
    let overload = Overload::new(&words);
    let now = 1_000_000;
    overload.begin(now);
    overload.served(10_000, Direction::Oldest, now);
    (0..9).for_each(|later| assert!(!overload.left(3000, false, now + later)));
    assert!(!overload.left(3000, true, now + 10));
    assert!(overload.left(5000, false, now + 11));
}

/// At 20 a second, with pauses in which the server stands still, which are not its speed.
#[test]
fn the_wait_is_measured() {
    let words = shared();
    let overload = Overload::new(&words);
    let mut now = 5_000_000;
    overload.begin(now);
    assert_eq!(overload.expected(100), None);
    let serve = |now: &mut u64, count: u64, pause: u64| {
        for _ in 0..count {
            *now += pause;
            overload.served(0, Direction::Oldest, *now);
        }
    };
    serve(&mut now, 59, 50);
    assert_eq!(overload.expected(100), None, "not for three seconds yet");
    serve(&mut now, 2, 50);
    let expected = overload.expected(100).unwrap();
    assert_eq!((expected.before, expected.rate, expected.wait), (100, 2000, 5000));
    now += 8_000;
    serve(&mut now, 60, 50);
    let wait = overload.expected(100).unwrap().wait;
    assert!((4900..6500).contains(&wait), "{wait}");
    // ten times slower from now on
    serve(&mut now, 100, 500);
    let wait = overload.expected(100).unwrap().wait;
    assert!((45_000..51_000).contains(&wait), "{wait}");
    // for a moment they are nearly not served at all
    serve(&mut now, 8, 900);
    serve(&mut now, 8, 4000);
    let wait = overload.expected(100).unwrap().wait;
    assert!((45_000..51_000).contains(&wait), "{wait}");
    // nobody waits for two minutes
    now += 120_000;
    overload.begin(now);
    assert_eq!(overload.expected(100), None);
}

/// Whatever the direction and the class; the turn of a lower class says none.
#[test]
fn a_rank_tells_when_the_request_came() {
    let came = NonZeroU64::new(77_000_000_000).unwrap();
    for direction in [Direction::Oldest, Direction::Newest] {
        for priority in 0..=9 {
            assert_eq!(arrived_at(Place::new(priority, came).rank(direction)), Some(came.get()));
        }
        assert_eq!(arrived_at(Place::ahead(came).rank(direction)), Some(came.get()));
    }
    assert_eq!(arrived_at(LOWER), None);
}
