//! The pools of a worker against a list of all idle connections, in the order in which they were parked.

use ngx_http_rs_uwsgi_module::pure::pool::policy::LastUse;
use ngx_http_rs_uwsgi_module::pure::pool::{Pool, Worker};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::pool::{server, Both, Step, KEYS};

fn step() -> impl Strategy<Value = Step> {
    let server = || (0..2 * KEYS.len()).prop_map(server);
    prop_oneof![
        8 => (server(), 0..4usize, prop_oneof![Just(0), 0..9usize], 0..4u64)
            .prop_map(|(server, later, took, body)| Step::Park { server, later, took, body }),
        3 => (server(), 0..20usize, 0..5u64)
            .prop_map(|(server, idle, body)| Step::Take { server, idle, body }),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (server(), 0..5usize).prop_map(|(server, most)| Step::Excess { server, most }),
        2 => Just(Step::TakeOldest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_pools_do_what_a_list_does(steps in vec(step(), 0..120)) {
        let mut both = Both::default();
        steps.iter().for_each(|step| both.run(step));
        both.empty();
    }

    #[test]
    fn a_server_keeps_the_most_that_it_may_and_these_are_the_last(
        most in 1..6usize,
        keys in vec(select(&KEYS[..]), 0..60),
    ) {
        let mut pool = Pool::new(&Worker::new(), 0);
        for (number, key) in keys.iter().enumerate() {
            pool.park(key, number as u32, number, LastUse { started_at: number, body: 0, since: None });
            pool.excess(key, most);
            prop_assert_eq!(pool.excess(key, most), None, "one goes for one that comes");
        }
        for key in KEYS {
            let all = keys.iter().enumerate().filter(|(_, of)| **of == key);
            let expected: Vec<_> = all.map(|(number, _)| number).rev().take(most).collect();
            let taken = std::iter::from_fn(|| pool.take(key, |_, _| true));
            prop_assert_eq!(taken.map(|(number, _)| number).collect::<Vec<_>>(), expected);
        }
        prop_assert!(pool.is_empty());
    }
}

#[test]
fn connections_to_servers_that_are_gone() {
    let mut pool = Pool::new(&Worker::new(), 0);
    for (at, key) in [b"a", b"b", b"a", b"c"].into_iter().enumerate() {
        pool.park(key, at as u32, at, LastUse { started_at: at, body: 0, since: None });
    }
    let mut gone: Vec<_> =
        std::iter::from_fn(|| pool.take_of(|key| key == b"a" || key == b"c")).collect();
    gone.sort();
    assert_eq!(gone, [0, 2, 3]);
    assert_eq!((pool.len(), pool.len_of(b"b")), (1, 1));
}

#[test]
fn one_that_does_not_fit_stays_where_it_is() {
    let mut pool = Pool::new(&Worker::new(), 0);
    for (at, body) in [(1, 0), (2, 9), (3, 0), (4, 9)] {
        pool.park(b"a", at as u32, at, LastUse { started_at: at, body, since: None });
    }
    let small = |_: &usize, left: LastUse| left.body == 0;
    assert_eq!(pool.take(b"a", small), Some((3, LastUse { started_at: 3, body: 0, since: None })));
    assert_eq!(
        pool.take(b"a", |_, _| true),
        Some((4, LastUse { started_at: 4, body: 9, since: None }))
    );
    assert_eq!(pool.take(b"b", |_, _| true), None);
    assert_eq!(pool.take(b"a", small), Some((1, LastUse { started_at: 1, body: 0, since: None })));
    assert_eq!(pool.take(b"a", small), None);
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.excess(b"a", 1), None);
    assert_eq!(pool.excess(b"a", 0), Some(2));
    assert!(pool.is_empty());
}

#[test]
fn of_all_pools_the_one_with_the_connection_that_was_parked_first_gives_it_up() {
    let worker = Worker::new();
    let mut pools = [Pool::new(&worker, 0), Pool::new(&worker, 1)];
    // when its request began does not matter
    for (at, (pool, key)) in
        [(1, b"b"), (0, b"a"), (1, b"c"), (0, b"a"), (1, b"b")].into_iter().enumerate()
    {
        pools[pool].park(key, at as u32, at, LastUse { started_at: 9 - at, body: 0, since: None });
    }
    let mut gone = Vec::new();
    while let Some(oldest) = pools[0].oldest_of_worker() {
        gone.extend(pools[oldest].take_oldest());
    }
    assert_eq!(gone, [0, 1, 2, 3, 4]);
    assert!(pools.iter().all(Pool::is_empty));
}

#[test]
fn servers_without_connections_are_not_remembered_for_ever() {
    let mut pool = Pool::new(&Worker::new(), 0);
    for number in 0..1000_usize {
        let key = number.to_le_bytes();
        let last_use = LastUse { started_at: number, body: 0, since: None };
        pool.park(&key, number as u32, number, last_use);
        if number % 100 > 0 {
            assert!(pool.take(&key, |_, _| true).is_some());
        }
    }
    assert_eq!(pool.len(), 10);
    // at most 16, and as many as have connections
    assert!((10..=10 + 16 + 10).contains(&pool.servers()), "{}", pool.servers());
    let gone: Vec<_> = std::iter::from_fn(|| pool.take_oldest()).collect();
    assert!(gone.into_iter().eq((0..10).map(|number| 100 * number)));
}

#[test]
fn many_servers_are_all_found() {
    let worker = Worker::new();
    let mut pools = [Pool::new(&worker, 0), Pool::new(&worker, 1)];
    let last_use = LastUse { started_at: 0, body: 0, since: None };
    let key = |number: usize| number.to_le_bytes();
    for number in 0..2000 {
        pools[number % 2].park(&key(number / 2), number as u32, number, last_use);
    }
    for number in (0..2000).step_by(3) {
        assert_eq!(pools[number % 2].remove(number as u32), Some(number));
    }
    for number in 0..2000 {
        let expected = (number % 3 != 0).then_some((number, last_use));
        assert_eq!(pools[number % 2].take(&key(number / 2), |_, _| true), expected);
    }
    assert!(pools.iter().all(Pool::is_empty));
    assert_eq!(pools[0].oldest_of_worker(), None);
}

/// A connection is found by its number, which is one of the pool's own or nobody's.
#[test]
fn a_number_is_that_of_one_pool() {
    let worker = Worker::new();
    let mut pools = [Pool::new(&worker, 0), Pool::new(&worker, 1)];
    let last_use = LastUse { started_at: 0, body: 0, since: Some(0) };
    pools[0].park(b"a", 7, "first", last_use);
    assert_eq!(pools[1].remove(7), None);
    assert_eq!(pools[1].closed(10, 7), None);
    assert_eq!(pools[0].remove(8), None);
    assert_eq!(pools[0].remove(7), Some("first"));
    pools[1].park(b"a", 7, "second", last_use);
    assert_eq!(pools[0].remove(7), None);
    assert_eq!(pools[1].take(b"a", |_, _| true), Some(("second", last_use)));
}

/// A connection that was taken goes back to its server, also where that has been forgotten meanwhile and another one
/// has its place.
#[test]
fn a_connection_goes_back_to_its_server() {
    let mut pool = Pool::new(&Worker::new(), 0);
    let last_use = LastUse { started_at: 0, body: 0, since: None };
    pool.park(b"a", 1, 1, last_use);
    assert_eq!(pool.take_last(b"a", |_| false), None);
    assert_eq!(pool.take_last(b"b", |_| true), None);
    let (connection, _, place) = pool.take_last(b"a", |_| true).unwrap();
    assert_eq!(pool.park_at(Some(place), b"a", 1, connection, last_use), 1);
    let (connection, _, place) = pool.take_last(b"a", |_| true).unwrap();
    for number in 2..200 {
        pool.park(&[number as u8], number, number, last_use);
        if number < 100 {
            assert!(pool.take(&[number as u8], |_, _| true).is_some());
        }
    }
    assert_eq!(pool.park_at(Some(place), b"a", 1, connection, last_use), 1);
    assert_eq!(pool.take(b"a", |_, _| true), Some((1, last_use)));
}

/// How long a server lets connections be idle is the longest time after which it closed one.
#[test]
fn how_long_a_server_lets_connections_be_idle_is_learned() {
    let mut pool = Pool::new(&Worker::new(), 0);
    let left = |since| LastUse { started_at: 0, body: 0, since };
    for (number, (key, since)) in
        [(b"a", Some(100)), (b"a", Some(200)), (b"a", None), (b"b", Some(100)), (b"a", Some(900))]
            .into_iter()
            .enumerate()
    {
        pool.park(key, number as u32, number, left(since));
    }
    assert_eq!(pool.time_left(950, 4), None, "nothing is known yet");
    // closed by a restart, and then by the server's own limit
    for (number, now) in [(1, 250), (0, 600)] {
        assert_eq!(pool.closed(now, number), Some(number as usize));
    }
    assert_eq!(pool.time_left(950, 4), Some(450));
    assert_eq!(pool.time_left(1400, 4), Some(0));
    assert_eq!(pool.time_left(2000, 4), Some(0), "overdue");
    assert_eq!(pool.time_left(950, 2), None, "kept on the operator's word");
    assert_eq!(pool.time_left(950, 3), None, "another server");
    assert_eq!(pool.closed(5000, 2), Some(2));
    assert_eq!(pool.time_left(950, 4), Some(450), "nothing is learned of that");
    assert_eq!(pool.closed(950, 9), None);
    // one that was closed by ours teaches nothing
    assert_eq!(pool.remove(4), Some(4));
    pool.park(b"a", 5, 5, left(Some(1000)));
    assert_eq!(pool.time_left(1000, 5), Some(500));
}

#[test]
fn a_pool_is_dropped_with_its_connections() {
    let (connection, worker) = (std::rc::Rc::new(()), Worker::new());
    let mut pools = [Pool::new(&worker, 0), Pool::new(&worker, 1)];
    for (number, key) in (0..).zip(KEYS.iter().cycle().take(3 * KEYS.len())) {
        let last_use = LastUse { started_at: 0, body: 0, since: None };
        pools[number as usize % 2].park(key, number, connection.clone(), last_use);
    }
    let held = |pool: &Pool<_>| pool.len() + usize::from(pool.is_empty());
    let [first, second] = pools;
    assert_eq!(std::rc::Rc::strong_count(&connection), 1 + held(&first) + held(&second));
    let left = held(&second);
    drop(first);
    assert_eq!(std::rc::Rc::strong_count(&connection), 1 + left, "the other's stay");
    assert_eq!(second.oldest_of_worker(), Some(1));
    drop(second);
    assert_eq!(std::rc::Rc::strong_count(&connection), 1);
}
