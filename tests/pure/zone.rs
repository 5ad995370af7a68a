//! The zone, one step after the other: slots, shapes, ranks. Places and the line are compared with a plain
//! model in [zone_plain](crate::zone_plain); what becomes of many steps at once is in
//! [zone_schedules](crate::zone_schedules).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, Thread};

use ngx_http_rs_uwsgi_module::pure::overload::SHARED;
use ngx_http_rs_uwsgi_module::pure::queue::{Backoff, LastAttempt};
use ngx_http_rs_uwsgi_module::pure::stats;
use ngx_http_rs_uwsgi_module::pure::zone::{
    Acquire, Gauges, Generation, Host, Join, Label, Layout, NoSlot, Park, Process, Rank, Rung,
    Shape, SlotId, Worker, WorkerId, Zone, PROBES,
};
use proptest::collection::vec;
use proptest::prelude::*;

pub const SHAPE: Shape = Shape { workers: 4, servers: 3, counters: 5, shared: 2 };
pub const LABEL: Label<'static> = Label { upstream: b"backend", server: b"unix:/run/app.sock" };

thread_local! {
    pub static GONE: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
    pub static RUNG: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
}

pub fn host(pid: u32) -> Host {
    Host {
        me: Process::new(pid, u64::from(pid) * 1000),
        is_alive: |process| !GONE.with_borrow(|gone| gone.contains(&process.pid())),
        ring: |id: WorkerId| {
            RUNG.with_borrow_mut(|rung| rung.insert(id.index()));
        },
    }
}

pub fn words(shape: Shape) -> Vec<AtomicU64> {
    GONE.with_borrow_mut(BTreeSet::clear);
    RUNG.with_borrow_mut(BTreeSet::clear);
    let layout = Layout::new(shape).unwrap();
    (0..layout.words()).map(|_| AtomicU64::new(0)).collect()
}

pub fn format(words: &[AtomicU64], shape: Shape) -> Zone<'_> {
    Zone::format(words, Layout::new(shape).unwrap(), 42, host(1)).unwrap()
}

pub fn rank(number: u64) -> Rank {
    Rank::new(number).unwrap()
}

pub fn slot(zone: Zone<'_>, key: &[u8]) -> SlotId {
    zone.slot(key, LABEL, zone.generation()).unwrap()
}

/// The figure of docs/tuning.md.
#[test]
fn memory_of_a_server() {
    let (counters, shared) = (stats::COUNTERS, SHARED);
    let shape = Shape { workers: 16, servers: 64, counters, shared };
    let bytes = Layout::new(shape).unwrap().bytes_of_server();
    let tuning = include_str!("../../docs/tuning.md");
    assert!(tuning.contains(&format!("Virtual memory: {bytes} bytes for each")), "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against a map: keys that come, are given up, and are wanted by configurations or not.
    #[test]
    fn slots_are_found_made_and_freed(
        steps in vec((0..5_u8, 0..6_u8, any::<bool>()), 0..80),
        servers in 1..5_usize,
    ) {
        let shape = Shape { servers, ..SHAPE };
        let words = words(shape);
        let zone = format(&words, shape);
        let worker = zone.enter().unwrap();
        // the slots, what they were counted, and whether they are in use and wanted
        let mut known: BTreeMap<u8, (SlotId, u64, bool, bool)> = BTreeMap::new();
        for (kind, key, flag) in steps {
            match (kind, known.get_mut(&key)) {
                (0 | 1, None) => {
                    let unwanted = known.iter().find(|(_, of)| !of.2 && !of.3).map(|(key, _)| *key);
                    let is_full = known.len() == servers && unwanted.is_none();
                    let found = zone.slot(&[key], LABEL, zone.generation());
                    prop_assert_eq!(found.err(), is_full.then_some(NoSlot::Full));
                    let Ok(id) = found else { continue };
                    if known.len() == servers {
                        known.retain(|_, (of, ..)| of.index() != id.index());
                    }
                    prop_assert_eq!(zone.read(id, 0), 0);
                    prop_assert_eq!(zone.shared(id)[1].load(Ordering::Relaxed), 0);
                    zone.shared(id)[1].store(7, Ordering::Relaxed);
                    known.insert(key, (id, 0, false, true));
                }
                (0 | 1, Some(of)) => {
                    prop_assert_eq!(zone.slot(&[key], LABEL, zone.generation()), Ok(of.0));
                    of.3 = true;
                }
                (2, Some(of)) if of.2 => {
                    prop_assert!(!worker.release(of.0, 0));
                    of.2 = false;
                }
                (2, Some(of)) => {
                    prop_assert_eq!(worker.acquire(of.0, 0, rank(1)), Acquire::Place);
                    worker.counters(of.0).add(0, 1);
                    of.1 += 1;
                    of.2 = true;
                }
                (3, Some(of)) => {
                    prop_assert_eq!(zone.give_up(of.0), Ok(()));
                    of.3 = false;
                    if !of.2 {
                        prop_assert_eq!(worker.acquire(of.0, 0, rank(1)), Acquire::Gone);
                        known.remove(&key);
                    }
                }
                (4, _) => {
                    let generation = zone.begin_generation().unwrap();
                    for (key, of) in &mut known {
                        of.3 = (key % 2 == 0) == flag;
                        if of.3 {
                            prop_assert_eq!(zone.slot(&[*key], LABEL, generation), Ok(of.0));
                        }
                    }
                    prop_assert_eq!(zone.end_generation(generation), Ok(()));
                    known.retain(|_, of| of.2 || of.3);
                }
                _ => {}
            }
            let slots: BTreeSet<_> = zone.slots().map(SlotId::index).collect();
            prop_assert_eq!(slots, known.values().map(|of| of.0.index()).collect());
            for (id, counted, ..) in known.values() {
                prop_assert!(zone.is_ready(*id));
                prop_assert_eq!(zone.read(*id, 0), *counted);
            }
        }
    }

    #[test]
    fn labels_are_kept_as_far_as_there_is_room(
        upstream in vec(any::<u8>(), 0..400),
        server in vec(any::<u8>(), 0..400),
    ) {
        let words = words(SHAPE);
        let zone = format(&words, SHAPE);
        let label = Label { upstream: &upstream, server: &server };
        let id = zone.slot(b"k", label, zone.generation()).unwrap();
        let first = upstream.len().min(Label::MOST);
        let second = server.len().min(Label::MOST - first);
        let expected = (upstream[..first].to_vec(), server[..second].to_vec());
        prop_assert_eq!(zone.label(id), Some(expected));
    }

    #[test]
    fn pauses_are_those_of_one_worker(progress in vec(any::<bool>(), 0..40)) {
        let words = words(SHAPE);
        let zone = format(&words, SHAPE);
        let id = slot(zone, b"k");
        let workers = [zone.enter().unwrap(), zone.on(host(2)).enter().unwrap()];
        let mut backoff = Backoff::default();
        for (number, progress) in progress.into_iter().enumerate() {
            let now = 1 << 40 | number as u64;
            let retry = workers[number % 2].pause(id, now, progress);
            let attempt = if progress { LastAttempt::Succeeded } else { LastAttempt::Failed };
            prop_assert_eq!(retry.pause, backoff.next(attempt) as u64);
            prop_assert_eq!(retry.at, now + retry.pause);
            prop_assert_eq!(zone.retry(id), retry);
        }
    }

    /// No two parts of the zone share a word, and what one server more takes is what is said.
    #[test]
    fn the_layout_is_as_large_as_it_says(
        workers in 1..300_usize,
        servers in 1..50_usize,
        counters in 0..40_usize,
        shared in 0..40_usize,
    ) {
        let shape = Shape { workers, servers, counters, shared };
        let Some(layout) = Layout::new(shape) else {
            prop_assert!(workers > Shape::MOST_WORKERS);
            return Ok(());
        };
        prop_assert_eq!(layout.shape(), shape);
        let one_more = Layout::new(Shape { servers: servers + 1, ..shape }).unwrap();
        prop_assert_eq!(one_more.bytes() - layout.bytes(), layout.bytes_of_server());
        prop_assert_eq!(layout.servers_in(layout.bytes()), servers);
        prop_assert_eq!(layout.servers_in(one_more.bytes() - 1), servers);
        prop_assert_eq!(layout.bytes(), 8 * layout.words());
    }
}

/// Every word that a slot has, of all workers and slots, is written, and none twice.
#[test]
fn no_two_share_a_word() {
    let shape = Shape { workers: 3, servers: 4, counters: 9, shared: 3 };
    let words = words(shape);
    let zone = format(&words, shape);
    let workers: Vec<_> = (0..3).map(|pid| zone.on(host(pid + 2)).enter().unwrap()).collect();
    let slots: Vec<_> = (0..4).map(|key: u8| slot(zone, &[key])).collect();
    let value = |worker: usize, slot: usize, at: usize| 1 + (worker * 100 + slot * 20 + at) as u64;
    for (number, worker) in workers.iter().enumerate() {
        for (of, id) in slots.iter().enumerate() {
            (0..9).for_each(|at| worker.counters(*id).add(at, value(number, of, at)));
            assert_eq!(worker.acquire(*id, 0, rank(1)), Acquire::Place);
            assert_eq!(worker.park(*id), Park::Idle);
        }
    }
    for id in &slots {
        zone.shared(*id).iter().for_each(|word| word.store(!0, Ordering::Relaxed));
        assert_eq!(zone.shared(*id).len(), 3);
    }
    for (of, id) in slots.iter().enumerate() {
        for at in 0..9 {
            let expected = (0..3).map(|worker| value(worker, of, at)).sum::<u64>();
            assert_eq!(zone.read(*id, at), expected);
        }
        assert_eq!(zone.read(*id, 9), 0);
        assert_eq!(zone.gauges(*id), Gauges { in_use: 3, idle: 3, waiting: 0 });
        for worker in &workers {
            let expected = Gauges { in_use: 1, idle: 1, waiting: 0 };
            assert_eq!(zone.gauges_of(worker.id(), *id), expected);
        }
    }
    assert_eq!(zone.workers().map(|(_, process)| process.pid()).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn a_zone_is_opened_where_there_is_one() {
    let words = words(SHAPE);
    assert!(Zone::open(&words, host(1)).is_none(), "nothing is there");
    let layout = Layout::new(SHAPE).unwrap();
    assert!(Zone::format(&words[1..], layout, 1, host(1)).is_none(), "too small");
    let made = format(&words, SHAPE);
    let id = slot(made, b"k");
    let opened = Zone::open(&words, host(2)).unwrap();
    assert_eq!(opened.layout(), layout);
    assert_eq!(slot(opened, b"k"), id);
    assert!(Zone::open(&words[..words.len() - 1], host(1)).is_none(), "too small");
    assert!(Zone::open(&words[..3], host(1)).is_none(), "too small");
    // each word of the header that does not change, but the one that is not looked at
    for at in 0..8 {
        let before = words[at].swap(u64::MAX, Ordering::Relaxed);
        assert!(Zone::open(&words, host(1)).is_none(), "word {at}");
        words[at].store(before, Ordering::Relaxed);
    }
    assert!(Zone::open(&words, host(1)).is_some());
}

#[test]
fn shapes_out_of_bounds_are_none() {
    for shape in [
        Shape { workers: 0, ..SHAPE },
        Shape { workers: 257, ..SHAPE },
        Shape { servers: 0, ..SHAPE },
        Shape { servers: (1 << 20) + 1, ..SHAPE },
        Shape { counters: 1025, ..SHAPE },
        Shape { shared: (1 << 14) + 1, ..SHAPE },
        Shape { servers: usize::MAX, ..SHAPE },
    ] {
        assert_eq!(Layout::new(shape), None);
    }
    let largest = Shape { workers: 256, servers: 1 << 20, counters: 1024, shared: 1 << 14 };
    assert!(Layout::new(largest).is_some());
}

#[test]
fn a_process_with_the_number_of_one_that_is_gone_is_another() {
    let words = words(SHAPE);
    let zone = format(&words, SHAPE);
    let process = Process::new(77, 1 << 33 | 5);
    assert_eq!((process.pid(), process.started()), (77, 5));
    assert_ne!(process, Process::new(77, 6));
    assert_eq!(format!("{process:?}"), "Process(77, 5)");
    let is_alive = |process| process != Process::new(77, 5);
    let first = zone.on(Host { me: process, is_alive, ..host(1) }).enter().unwrap();
    let id = slot(zone, b"k");
    assert_eq!(first.acquire(id, 1, rank(1)), Acquire::Place);
    let later = zone.on(Host { me: Process::new(77, 6), is_alive, ..host(1) });
    let second = later.enter().unwrap();
    assert_eq!(second.acquire(id, 1, rank(2)), Acquire::Full);
    assert_eq!(later.sweep(), Ok(1));
    assert_eq!(second.acquire(id, 1, rank(2)), Acquire::Place);
    assert_eq!(zone.workers().count(), 1);
}

/// Workers beyond the first word of the line.
#[test]
fn the_first_of_many_workers_is_found() {
    let shape = Shape { workers: 256, servers: 1, counters: 0, shared: 0 };
    let words = words(shape);
    let zone = format(&words, shape);
    let workers: Vec<_> = (0..256).map(|pid| zone.on(host(pid + 2)).enter().unwrap()).collect();
    assert!(zone.enter().is_none());
    let id = slot(zone, b"k");
    assert_eq!(workers[0].acquire(id, 1, rank(1)), Acquire::Place);
    // those of equal rank in the order of their workers
    let order = [255, 64, 130, 63, 7, 129];
    for (number, of) in order.into_iter().enumerate() {
        let rank = rank(10 + number as u64 / 3 * 3);
        assert_eq!(
            workers[of].acquire(id, 1, rank),
            if number == 0 || of == 64 { Acquire::Full } else { Acquire::Turn }
        );
        assert_eq!(workers[of].join(id, 99, rank), Join::Waits { waiting: number as u64 + 1 });
    }
    assert!(!workers[0].release(id, 1));
    for of in [64, 130, 255, 7, 63, 129] {
        let (first, rank) = zone.first(id).unwrap();
        assert_eq!(first.index(), of);
        assert!(RUNG.with_borrow_mut(|rung| rung.remove(&of)), "{of} is not woken");
        assert_eq!(workers[of].answer(), Rung { turn: true, asked: false });
        assert_eq!(workers[of].acquire(id, 1, rank), Acquire::Place);
        assert!(!workers[of].left(id, 1, None));
        assert!(!workers[of].release(id, 1));
    }
    assert_eq!(zone.first(id), None);
}

/// The lowest rank is the first, whatever it means: here the newest, and then one that matters more.
#[test]
fn ranks_may_be_any_order() {
    let words = words(SHAPE);
    let zone = format(&words, SHAPE);
    let [one, two] = [2, 3].map(|pid| zone.on(host(pid)).enter().unwrap());
    let id = slot(zone, b"k");
    assert_eq!(one.acquire(id, 1, rank(100)), Acquire::Place);
    assert_eq!(one.acquire(id, 1, rank(99)), Acquire::Full);
    assert_eq!(one.join(id, 9, rank(99)), Join::Waits { waiting: 1 });
    assert_eq!(two.acquire(id, 1, rank(98)), Acquire::Full);
    assert_eq!(two.join(id, 9, rank(98)), Join::Waits { waiting: 2 });
    assert_eq!(zone.first(id), Some((two.id(), rank(98))));
    assert_eq!(one.join(id, 9, rank(10)), Join::Waits { waiting: 3 });
    assert_eq!(zone.first(id), Some((one.id(), rank(10))));
    assert!(one.release(id, 1), "its own turn");
    assert_eq!(one.acquire(id, 1, rank(10)), Acquire::Place);
    assert!(!one.left(id, 1, Some(rank(99))));
    assert!(!one.reorder(id, 1, rank(97)), "no place");
    assert!(one.release(id, 1));
    assert!(!one.reorder(id, 1, rank(99)), "the other worker's turn");
    assert!(RUNG.with_borrow(|rung| rung.contains(&two.id().index())));
}

/// A configuration that is begun and not ended frees nothing; one that fails is followed by others.
#[test]
fn a_configuration_that_fails_frees_nothing() {
    let words = words(SHAPE);
    let zone = format(&words, SHAPE);
    let first: Generation = zone.begin_generation().unwrap();
    let [a, b] = [b"a", b"b"].map(|key| zone.slot(key, LABEL, first).unwrap());
    zone.end_generation(first).unwrap();
    let failed = zone.begin_generation().unwrap();
    assert_eq!(zone.slot(b"a", LABEL, failed), Ok(a));
    assert_eq!(zone.sweep(), Ok(0));
    assert!(zone.is_ready(b));
    let next = zone.begin_generation().unwrap();
    assert!(first < failed && failed < next && next == zone.generation());
    assert_eq!(zone.slot(b"b", LABEL, next), Ok(b));
    zone.end_generation(next).unwrap();
    assert!(zone.is_ready(b) && !zone.is_ready(a));
    // an old worker's question does not make it wanted by the new configuration
    let again = zone.slot(b"a", LABEL, first).unwrap();
    assert_ne!(again, a);
    assert_eq!(zone.sweep(), Ok(0));
    assert!(!zone.is_ready(again));
}

/// Threads in place of workers, on the processor that there is: what each wants is nothing but a place,
/// which it gives back, and a place is also counted where everybody adds to one number.
#[test]
fn threads_share_a_limit() {
    const THREADS: usize = 4;
    const REQUESTS: u64 = 2000;
    const LIMIT: u64 = 2;
    static PARKED: OnceLock<Vec<Mutex<Option<Thread>>>> = OnceLock::new();
    static OPEN: AtomicU64 = AtomicU64::new(0);
    static CLOCK: AtomicU64 = AtomicU64::new(1);
    let words = words(SHAPE);
    let parked = PARKED.get_or_init(|| (0..THREADS).map(|_| Mutex::new(None)).collect());
    let ring = |id: WorkerId| {
        let parked = PARKED.get().unwrap()[id.index()].lock().unwrap();
        parked.iter().for_each(Thread::unpark);
    };
    let zone = Zone::format(&words, Layout::new(SHAPE).unwrap(), 1, host(1)).unwrap();
    let id = slot(zone, b"k");
    let work = |worker: Worker<'_>| {
        *parked[worker.id().index()].lock().unwrap() = Some(thread::current());
        let use_place = |number| {
            assert!(OPEN.fetch_add(1, Ordering::SeqCst) < LIMIT, "more than the limit");
            worker.counters(id).add(0, 1);
            if number % 4 == 0 {
                thread::yield_now();
            }
            OPEN.fetch_sub(1, Ordering::SeqCst);
        };
        for number in 0..REQUESTS {
            let stamp = rank(CLOCK.fetch_add(1, Ordering::SeqCst));
            if worker.acquire(id, LIMIT, stamp) != Acquire::Place {
                assert_ne!(worker.join(id, 99, stamp), Join::Overflow);
                while worker.acquire(id, LIMIT, stamp) != Acquire::Place {
                    thread::park();
                    let _ = worker.answer();
                }
                assert!(!worker.left(id, LIMIT, None));
            }
            use_place(number);
            assert!(!worker.release(id, LIMIT));
        }
    };
    thread::scope(|scope| {
        for pid in 2..2 + THREADS as u32 {
            let worker = zone.on(Host { ring, ..host(pid) }).enter().unwrap();
            scope.spawn(move || work(worker));
        }
    });
    assert_eq!(zone.gauges(id), Gauges::default());
    assert_eq!(zone.first(id), None);
    assert_eq!(zone.read(id, 0), THREADS as u64 * REQUESTS);
}

/// A table that is larger than what a key is looked for in: almost all of it is used, what was made is found again,
/// and what is given up makes room for keys that had none.
#[test]
fn a_large_table_is_filled() {
    const SERVERS: usize = 16 * PROBES;
    let shape = Shape { servers: SERVERS, ..SHAPE };
    let words = words(shape);
    let zone = format(&words, shape);
    let keys: Vec<_> = (0..2 * SERVERS as u32).map(u32::to_le_bytes).collect();
    let generation = zone.generation();
    let found: Vec<_> = keys.iter().map(|key| zone.slot(key, LABEL, generation)).collect();
    let made = found.iter().flatten().count();
    assert!((SERVERS * 95 / 100..=SERVERS).contains(&made), "{made} of {SERVERS}");
    for (key, before) in keys.iter().zip(&found) {
        assert_eq!(zone.slot(key, LABEL, generation), *before);
        assert_eq!(zone.known(key), before.ok());
    }
    found.iter().flatten().for_each(|id| zone.give_up(*id).unwrap());
    assert_eq!(zone.slots().count(), 0);
    let had_none = keys.iter().zip(&found).filter(|(_, before)| before.is_err());
    for (key, _) in had_none.take(SERVERS / 2) {
        assert!(zone.slot(key, LABEL, generation).is_ok());
    }
}
