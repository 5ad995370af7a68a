//! The zone under every schedule of a few processes, and under some of many: see
//! [zone_model](crate::zone_model).

use std::collections::VecDeque;

use ngx_http_rs_uwsgi_module::pure::zone::{
    Acquire, Busy, Gauges, Join, Label, Layout, NoSlot, Park, Rank, Shape, SlotId, Worker, Zone,
};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::zone_model::{choices, Known, Memo, Model, Program, Visited, World};
use crate::zone_steps::{host, note, prepare, step, words, zone, ModelWord, Note, Op};

const LABEL: Label<'static> = Label { upstream: b"u", server: b"s" };

fn rank(number: u64) -> Rank {
    Rank::new(number).unwrap()
}

/// A worker as nginx's side will be: an event loop with a line of its own.
struct Loop<'m> {
    worker: Worker<'m, ModelWord>,
    slot: SlotId,
    limit: u64,
    most: u64,
    /// Are connections used again?
    keeps: bool,
    line: VecDeque<u64>,
    arrived: usize,
    in_use: u64,
    idle: u64,
}

impl Loop<'_> {
    fn open(&self) {
        note(Note::Open(self.in_use + self.idle));
    }

    fn got(&mut self, number: u64) {
        self.in_use += 1;
        self.open();
        note(Note::Got(number));
    }

    fn arrive(&mut self, number: u64) {
        note(Note::Attempt(number));
        if self.try_one(number) {
            return self.got(number);
        }
        let first = *self.line.front().unwrap_or(&number);
        match self.worker.join(self.slot, self.most, rank(first)) {
            Join::Waits { .. } => {
                note(Note::Waits(number));
                self.line.push_back(number);
                self.serve();
            }
            Join::Overflow => note(Note::Refused(number)),
            Join::Gone => panic!("the slot is wanted"),
        }
    }

    /// An idle connection, or a new one.
    fn try_one(&mut self, number: u64) -> bool {
        if self.idle > 0 && self.worker.has_turn(self.slot, rank(number)) {
            self.worker.take_idle(self.slot);
            self.idle -= 1;
            return true;
        }
        match self.worker.acquire(self.slot, self.limit, rank(number)) {
            Acquire::Place => true,
            Acquire::Turn | Acquire::Full => false,
            Acquire::Gone => panic!("the slot is wanted"),
        }
    }

    fn serve(&mut self) {
        while let Some(first) = self.line.front().copied() {
            note(Note::Attempt(first));
            if !self.try_one(first) {
                return;
            }
            self.line.pop_front();
            self.got(first);
            if !self.left() {
                return;
            }
        }
    }

    fn left(&mut self) -> bool {
        self.worker.left(self.slot, self.limit, self.line.front().map(|first| rank(*first)))
    }

    /// The client of the request that came last has gone.
    fn give_up(&mut self) {
        let Some(last) = self.line.pop_back() else { return };
        note(Note::GaveUp(last));
        if self.left() {
            self.serve();
        }
    }

    /// A request is done.
    fn finish(&mut self) {
        self.in_use -= 1;
        if self.keeps {
            self.line.front().into_iter().for_each(|first| note(Note::Attempt(*first)));
            match self.worker.park(self.slot) {
                Park::Idle => {
                    self.idle += 1;
                    return;
                }
                Park::Own => {
                    let first = self.line.pop_front().unwrap();
                    self.got(first);
                    if self.left() {
                        self.serve();
                    }
                    return;
                }
                Park::Close => {}
            }
        }
        self.open();
        if self.worker.release(self.slot, self.limit) {
            self.serve();
        }
    }

    fn woken(&mut self) {
        let rung = self.worker.answer();
        if rung.turn {
            self.serve();
        }
        if rung.asked && self.idle > 0 && self.worker.asked(self.slot) {
            self.idle -= 1;
            self.open();
            if self.worker.close_idle(self.slot, self.limit) {
                self.serve();
            }
        }
    }

    /// The next thing that happens, of these requests and what comes of them.
    fn event(&mut self, ranks: &[i64]) {
        if let Some(rank) = ranks.get(self.arrived) {
            self.arrived += 1;
            if *rank == 0 {
                return self.go_on();
            }
            self.arrive(rank.unsigned_abs());
            if *rank < 0 {
                self.give_up();
            }
        } else if self.in_use > 0 {
            self.finish();
        } else {
            step(Op::WaitForRing(self.worker.id().index()));
            self.woken();
        }
    }

    /// What has come of earlier requests, before others arrive.
    fn go_on(&mut self) {
        if step(Op::Poll(self.worker.id().index())) == 1 {
            self.woken();
        }
        if self.in_use > 0 {
            self.finish();
        }
    }

    fn memo(&self) -> Memo {
        let numbers = [self.arrived as u64, self.in_use, self.idle];
        numbers.into_iter().chain(self.line.iter().copied()).collect()
    }

    fn remember(&mut self, memo: &[u64]) {
        let [arrived, in_use, idle, line @ ..] = memo else { return };
        self.arrived = *arrived as usize;
        (self.in_use, self.idle, self.line) = (*in_use, *idle, line.iter().copied().collect());
    }
}

/// Sweeps whenever a process has been killed.
fn keep_clean(zone: Zone<'_, ModelWord>, memo: &[u64]) -> Option<Memo> {
    let seen = memo.first().copied().unwrap_or(0);
    let dead = step(Op::WaitForDeath(seen));
    step(Op::WaitForLock);
    Some(vec![if zone.sweep().is_ok() { dead } else { seen }])
}

/// What is tried.
#[derive(Clone, Debug)]
struct Case {
    limit: u64,
    most: u64,
    keeps: bool,
    /// The ranks of the requests of each worker, in the order in which they come; below 0: the last one that
    /// waits then gives up; 0: no request, but what has come of those before.
    workers: Vec<Vec<i64>>,
    kills: usize,
    /// How many of the processes may be killed, from the first on.
    mortals: usize,
    keepers: usize,
}

/// Runs it as `run` says.
fn run(case: &Case, run: impl FnOnce(&Model<'_>)) {
    let count = case.workers.len();
    let layout = Layout::new(Shape { workers: count, servers: 1, counters: 1, shared: 0 }).unwrap();
    let words = words(layout);
    let ((zone, slot, workers), memory) = prepare(layout, || {
        let zone = zone(&words, layout);
        let slot = zone.slot(b"k", LABEL, zone.generation()).unwrap();
        let enter = |number| zone.on(host(number)).enter().unwrap();
        (zone, slot, (0..count).map(enter).collect::<Vec<_>>())
    });
    let mut programs: Vec<Program<'_>> = Vec::new();
    for (worker, ranks) in workers.into_iter().zip(&case.workers) {
        programs.push(Box::new(move |memo| {
            let Case { limit, most, keeps, .. } = *case;
            let (line, arrived) = (VecDeque::new(), 0);
            let mut own =
                Loop { worker, slot, limit, most, keeps, line, arrived, in_use: 0, idle: 0 };
            own.remember(memo);
            own.event(ranks);
            Some(own.memo())
        }));
    }
    for number in count..count + case.keepers {
        programs.push(Box::new(move |memo| keep_clean(zone.on(host(number)), memo)));
    }
    let finally = |world: &World| {
        let open = world.open();
        let idle = if case.keeps { open } else { 0 };
        let expected = Gauges { in_use: idle, idle, waiting: 0 };
        assert_eq!(world.look(|| zone.gauges(slot)), expected);
        assert_eq!(world.look(|| zone.first(slot)), None);
        let owners = world.look(|| zone.workers().count());
        assert_eq!(owners, (0..count).filter(|number| !world.is_dead(*number)).count());
    };
    run(&Model {
        memory,
        programs,
        kills: case.kills,
        mortals: case.mortals,
        limit: case.limit,
        most: case.most as usize,
        known: Known::default(),
        finally: &finally,
    });
}

fn explore(case: &Case) {
    let mut visited = Visited::default();
    run(case, |model| visited = model.explore());
    eprintln!("{case:?}: {visited:?}");
}

fn case(limit: u64, workers: &[&[i64]]) -> Case {
    let workers: Vec<_> = workers.iter().map(|ranks| ranks.to_vec()).collect();
    let mortals = workers.len();
    Case { limit, most: 99, keeps: false, workers, kills: 0, mortals, keepers: 0 }
}

#[test]
fn there_are_never_more_than_the_limit_and_nobody_waits_for_ever() {
    explore(&case(1, &[&[1], &[2]]));
}

#[test]
fn an_idle_connection_starves_nobody() {
    explore(&Case { keeps: true, ..case(1, &[&[1], &[2]]) });
}

#[test]
fn one_that_gives_up_passes_its_turn_on() {
    explore(&case(1, &[&[1, -2], &[3]]));
}

#[test]
fn never_more_wait_than_may() {
    explore(&Case { most: 1, ..case(1, &[&[1, 3], &[2]]) });
}

#[test]
fn a_killed_worker_takes_nothing_with_it() {
    explore(&Case { kills: 1, mortals: 1, keepers: 1, ..case(1, &[&[1], &[2]]) });
}

/// More of the same: `cargo test --release … -- --ignored zone_schedules`.
#[test]
#[ignore = "takes minutes"]
fn whatever_the_schedule() {
    explore(&case(1, &[&[1, 4], &[2, 3]]));
    explore(&case(2, &[&[1, 3], &[2, 4]]));
    explore(&Case { keeps: true, ..case(1, &[&[1, 3], &[2, 4]]) });
    explore(&Case { kills: 1, keepers: 1, ..case(1, &[&[1], &[2]]) });
    explore(&Case { kills: 1, keepers: 1, ..case(1, &[&[1, -3], &[2]]) });
    explore(&Case { keeps: true, kills: 1, keepers: 1, ..case(1, &[&[1], &[2]]) });
    explore(&Case { most: 1, kills: 1, keepers: 1, ..case(1, &[&[1, 3], &[2]]) });
}

/// Cases of any kind.
fn any_case() -> impl Strategy<Value = Case> {
    let requests = vec((0..4_usize, 0..4_u8), 1..12);
    let settings = (1..4_u64, 1..9_u64, any::<bool>(), 2..5_usize, 0..3_usize);
    (requests, settings).prop_map(|(requests, (limit, most, keeps, count, kills))| {
        let mut workers = vec![Vec::new(); count];
        for (number, (worker, kind)) in requests.into_iter().enumerate() {
            let rank = number as i64 + 1;
            let worker = &mut workers[worker % count];
            worker.push(if kind == 0 { -rank } else { rank });
            worker.extend((kind > 1).then_some(0));
        }
        let mortals = count + kills.saturating_sub(1);
        Case { limit, most, keeps, workers, kills, mortals, keepers: kills }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn under_any_schedule_everybody_gets_what_is_there(
        case in any_case(),
        seed in any::<u64>(),
    ) {
        run(&case, |model| model.walk(choices(seed)));
    }
}

/// A process that looks for a slot until it has one, and remembers its number.
fn finds(zone: Zone<'_, ModelWord>, key: &'static [u8], memo: &[u64]) -> Option<Memo> {
    if !memo.is_empty() {
        return None;
    }
    match zone.slot(key, LABEL, zone.generation()) {
        Ok(id) => Some(vec![id.index() as u64]),
        Err(NoSlot::Busy) => {
            step(Op::WaitForLock);
            Some(Memo::new())
        }
        Err(NoSlot::Full) => Some(vec![NONE]),
    }
}

const NONE: u64 = 99;

/// Of keys in the zone: their labels' first byte.
fn keys(zone: Zone<'_, ModelWord>) -> Vec<u8> {
    zone.slots().map(|id| zone.label(id).unwrap().1[0]).collect()
}

/// Two look for the same server and a third for another one, in a table that has just room, and one
/// of them or of those who sweep may be killed.
#[test]
fn no_slot_is_made_twice() {
    for kills in [0, 1] {
        let layout = Layout::new(Shape { workers: 1, servers: 2, counters: 0, shared: 0 }).unwrap();
        let words = words(layout);
        let (zone, memory) = prepare(layout, || zone(&words, layout));
        let mut programs: Vec<Program<'_>> = Vec::new();
        for (number, key) in [b"k", b"k", b"j"].into_iter().enumerate() {
            programs.push(Box::new(move |memo| finds(zone.on(host(number)), key, memo)));
        }
        let finally = |world: &World| {
            let found = [0, 1, 2].map(|number| world.memo(number).first().copied());
            let [first, second, other] = found;
            for (number, found) in found.into_iter().enumerate() {
                assert!(found.is_some_and(|found| found < 2) || world.is_dead(number));
            }
            if let (Some(first), Some(second)) = (first, second) {
                assert_eq!(first, second);
            }
            assert!(other.is_none() || other != first.or(second));
            assert!(world.look(|| zone.slots().count()) <= 2);
        };
        let known = Known::default();
        let model = Model {
            memory,
            programs,
            kills,
            mortals: 3,
            limit: 0,
            most: 0,
            known,
            finally: &finally,
        };
        eprintln!("{:?}", model.explore());
    }
}

/// A worker uses a slot that a new configuration does not want, while that configuration makes room
/// for another server with it, and anybody may be killed.
#[test]
fn a_slot_in_use_is_nobody_elses() {
    for kills in [0, 1] {
        let layout = Layout::new(Shape { workers: 1, servers: 1, counters: 1, shared: 0 }).unwrap();
        let words = words(layout);
        let ((zone, old, worker), memory) = prepare(layout, || {
            let zone = zone(&words, layout);
            let old = zone.slot(b"old", OLD, zone.generation()).unwrap();
            (zone, old, zone.on(host(0)).enter().unwrap())
        });
        let uses = move |memo: &[u64]| {
            if !memo.is_empty() {
                return None;
            }
            if worker.acquire(old, 0, rank(1)) == Acquire::Place {
                note(Note::Open(1));
                // whoever has one has more, whatever mark the slot has
                assert_eq!(worker.acquire(old, 0, rank(1)), Acquire::Place);
                assert!(!worker.release(old, 0));
                worker.counters(old).add(0, 5);
                note(Note::Open(0));
                assert!(!worker.release(old, 0));
            }
            Some(vec![0])
        };
        let reloads = move |memo: &[u64]| {
            let zone = zone.on(host(1));
            match memo {
                [] => match zone.begin_generation() {
                    Ok(_) => Some(vec![0]),
                    Err(Busy) => Some(vec![]),
                },
                [0] => Some(vec![1 + u64::from(zone.end_generation(zone.generation()).is_ok())]),
                [1] => {
                    step(Op::WaitForLock);
                    Some(vec![0])
                }
                _ => {
                    let found = finds(zone, b"new", &memo[1..])?;
                    if found == [0] {
                        // as if it was a connection to the same server, of which there may be one
                        note(Note::Open(1));
                    }
                    Some([&[2], &found[..]].concat())
                }
            }
        };
        let programs: Vec<Program<'_>> = vec![
            Box::new(uses),
            Box::new(reloads),
            Box::new(move |memo| keep_clean(zone.on(host(2)), memo)),
        ];
        let finally = |world: &World| {
            let found = world.memo(1).get(1).copied();
            let keys = world.look(|| keys(zone));
            let counted = world.look(|| zone.slots().map(|id| zone.read(id, 0)).sum::<u64>());
            match found {
                Some(0) => {
                    assert_eq!(keys, b"s");
                    assert_eq!(counted, 0, "of the server that was there before");
                }
                Some(_) => assert!(keys == b"o" || keys.is_empty(), "in use when it was asked for"),
                None => assert!(world.is_dead(1)),
            }
            let gauges = world.look(|| zone.slots().map(|id| zone.gauges(id)).next());
            assert_eq!(gauges.unwrap_or_default(), Gauges::default());
            if world.is_dead(0) || world.is_dead(1) {
                // what was left half done is done
                let zone = zone.on(host(2));
                assert!(world.look(|| zone.slot(b"third", LABEL, zone.generation()).is_ok()
                    || keys == b"s"
                    || keys == b"o"));
            }
        };
        let known = Known::default();
        let model = Model {
            memory,
            programs,
            kills,
            mortals: 2,
            limit: 1,
            most: 0,
            known,
            finally: &finally,
        };
        eprintln!("{:?}", model.explore());
    }
}

const OLD: Label<'static> = Label { upstream: b"u", server: b"o" };
