//! The pool against a list of all idle connections, in the order in which they were parked.

use ngx_http_rs_uwsgi_module::pure::pool::policy::LastUse;
use ngx_http_rs_uwsgi_module::pure::pool::Pool;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::pool::{Both, Step, KEYS};

fn step() -> impl Strategy<Value = Step> {
    let key = || select(&KEYS[..]);
    prop_oneof![
        8 => (key(), 0..4usize, prop_oneof![Just(0), 0..9usize], 0..4u64)
            .prop_map(|(key, later, took, body)| Step::Park { key, later, took, body }),
        3 => (key(), 0..20usize, 0..5u64)
            .prop_map(|(key, idle, body)| Step::Take { key, idle, body }),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (key(), 0..5usize).prop_map(|(key, most)| Step::Excess { key, most }),
        2 => Just(Step::TakeOldest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_pool_does_what_a_list_does(steps in vec(step(), 0..120)) {
        let mut both = Both::default();
        steps.iter().for_each(|step| both.run(step));
        both.empty();
    }

    #[test]
    fn a_server_keeps_the_most_that_it_may_and_these_are_the_last(
        most in 1..6usize,
        keys in vec(select(&KEYS[..]), 0..60),
    ) {
        let mut pool = Pool::default();
        for (number, key) in keys.iter().enumerate() {
            pool.park(key, number, LastUse { started_at: number, body: 0, since: None });
            pool.excess(key, most);
            prop_assert_eq!(pool.excess(key, most), None, "one goes for one that comes");
        }
        for key in KEYS {
            let all = keys.iter().enumerate().filter(|(_, of)| **of == key);
            let expected: Vec<_> = all.map(|(number, _)| number).rev().take(most).collect();
            let taken = std::iter::from_fn(|| pool.take(key, |_| true));
            prop_assert_eq!(taken.map(|(number, _)| number).collect::<Vec<_>>(), expected);
        }
        prop_assert!(pool.is_empty());
    }
}

#[test]
fn one_that_does_not_fit_stays_where_it_is() {
    let mut pool = Pool::default();
    for (at, body) in [(1, 0), (2, 9), (3, 0), (4, 9)] {
        pool.park(b"a", at, LastUse { started_at: at, body, since: None });
    }
    let small = |left: LastUse| left.body == 0;
    assert_eq!(pool.take(b"a", small), Some((3, LastUse { started_at: 3, body: 0, since: None })));
    assert_eq!(
        pool.take(b"a", |_| true),
        Some((4, LastUse { started_at: 4, body: 9, since: None }))
    );
    assert_eq!(pool.take(b"b", |_| true), None);
    assert_eq!(pool.take(b"a", small), Some((1, LastUse { started_at: 1, body: 0, since: None })));
    assert_eq!(pool.take(b"a", small), None);
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.excess(b"a", 1), None);
    assert_eq!(pool.excess(b"a", 0), Some(2));
    assert!(pool.is_empty());
}

#[test]
fn of_all_servers_the_one_with_the_longest_idle_connection_gives_it_up() {
    let mut pool = Pool::default();
    for (key, at) in [(b"b", 5), (b"a", 6), (b"c", 7), (b"a", 8), (b"b", 9)] {
        pool.park(key, at, LastUse { started_at: at, body: 0, since: None });
    }
    assert_eq!(pool.oldest(), Some(5));
    let gone: Vec<_> = std::iter::from_fn(|| pool.take_oldest()).collect();
    assert_eq!(gone, [5, 6, 7, 8, 9]);
    assert!(pool.is_empty());
    assert_eq!(pool.oldest(), None);
}

#[test]
fn servers_without_connections_are_not_remembered_for_ever() {
    let mut pool = Pool::default();
    for number in 0..1000_usize {
        pool.park(
            &number.to_le_bytes(),
            number,
            LastUse { started_at: number, body: 0, since: None },
        );
        if number % 100 > 0 {
            assert!(pool.take(&number.to_le_bytes(), |_| true).is_some());
        }
    }
    assert_eq!(pool.len(), 10);
    // Its name is that of a private type, so that all there is to count is told apart by its field.
    let remembered = format!("{pool:?}").matches("idle:").count();
    assert!((10..10 + 17).contains(&remembered), "{remembered}");
    let gone: Vec<_> = std::iter::from_fn(|| pool.take_oldest()).collect();
    assert!(gone.into_iter().eq((0..10).map(|number| 100 * number)));
}

/// How long a server lets connections be idle is the longest time after which it closed one.
#[test]
fn how_long_a_server_lets_connections_be_idle_is_learned() {
    let mut pool = Pool::default();
    let left = |since| LastUse { started_at: 0, body: 0, since };
    for (number, (key, since)) in
        [(b"a", Some(100)), (b"a", Some(200)), (b"a", None), (b"b", Some(100)), (b"a", Some(900))]
            .into_iter()
            .enumerate()
    {
        pool.park(key, number, left(since));
    }
    assert_eq!(pool.time_left(950, |of| *of == 4), None, "nothing is known yet");
    // closed by a restart, and then by the server's own limit
    for (number, now) in [(1, 250), (0, 600)] {
        assert_eq!(pool.closed(now, |of| *of == number), Some(number));
    }
    assert_eq!(pool.time_left(950, |of| *of == 4), Some(450));
    assert_eq!(pool.time_left(1400, |of| *of == 4), Some(0));
    assert_eq!(pool.time_left(2000, |of| *of == 4), Some(0), "overdue");
    assert_eq!(pool.time_left(950, |of| *of == 2), None, "kept on the operator's word");
    assert_eq!(pool.time_left(950, |of| *of == 3), None, "another server");
    assert_eq!(pool.closed(5000, |of| *of == 2), Some(2));
    assert_eq!(pool.time_left(950, |of| *of == 4), Some(450), "nothing is learned of that");
    assert_eq!(pool.closed(950, |of| *of == 9), None);
    // one that was closed by ours teaches nothing
    assert_eq!(pool.remove(|of| *of == 4), Some(4));
    pool.park(b"a", 5, left(Some(1000)));
    assert_eq!(pool.time_left(1000, |of| *of == 5), Some(500));
}

#[test]
fn a_pool_is_dropped_with_its_connections() {
    let connection = std::rc::Rc::new(());
    let mut pool = Pool::default();
    for key in KEYS {
        pool.park(key, connection.clone(), LastUse { started_at: 0, body: 0, since: None });
    }
    assert_eq!(std::rc::Rc::strong_count(&connection), 1 + KEYS.len());
    drop(pool);
    assert_eq!(std::rc::Rc::strong_count(&connection), 1);
}
