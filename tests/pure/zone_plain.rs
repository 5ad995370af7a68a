//! Places and the line of the zone against a plain model of what they do, one step after the other.

use ngx_http_rs_uwsgi_module::pure::zone::{
    Acquire, Gauges, Join, Park, Rung, SlotId, Worker, Zone,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::zone::{format, host, rank, slot, words, GONE, RUNG, SHAPE};

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize),
    Finish(usize, bool),
    GiveUp(usize, usize),
    Woken(usize),
    Count(usize, usize, u64),
    Kill(usize),
    Sweep,
    Leave(usize),
}

fn a_step() -> impl Strategy<Value = Step> {
    let worker = || 0..SHAPE.workers;
    prop_oneof![
        8 => worker().prop_map(Step::Arrive),
        6 => (worker(), any::<bool>()).prop_map(|(worker, keeps)| Step::Finish(worker, keeps)),
        2 => (worker(), 0..4_usize).prop_map(|(worker, which)| Step::GiveUp(worker, which)),
        8 => worker().prop_map(Step::Woken),
        3 => (worker(), 0..7_usize, 0..9_u64).prop_map(|(of, index, by)| Step::Count(of, index, by)),
        1 => worker().prop_map(Step::Kill),
        1 => Just(Step::Sweep),
        1 => worker().prop_map(Step::Leave),
    ]
}

/// A worker, by its cells.
#[derive(Clone, Debug, Default)]
struct Plain {
    is_dead: bool,
    line: Vec<u64>,
    in_use: u64,
    idle: u64,
}

/// The zone and what should be in it.
struct Both<'m> {
    slot: SlotId,
    zone: Zone<'m>,
    workers: Vec<(Worker<'m>, Plain)>,
    limit: u64,
    most: u64,
    counted: [u64; 5],
    pids: u32,
    clock: u64,
}

impl<'m> Both<'m> {
    fn new(zone: Zone<'m>, limit: u64, most: u64) -> Both<'m> {
        let (slot, counted) = (slot(zone, b"k"), [0; 5]);
        let workers = Vec::new();
        let mut both = Both { slot, zone, workers, limit, most, counted, pids: 1, clock: 0 };
        both.refill();
        both
    }

    /// As many workers as there may be.
    fn refill(&mut self) {
        while self.workers.len() < SHAPE.workers {
            self.pids += 1;
            let worker = self.zone.on(host(self.pids)).enter().unwrap();
            self.workers.push((worker, Plain::default()));
        }
        self.workers.sort_by_key(|(worker, _)| worker.id());
        assert!(self.zone.enter().is_none());
    }

    fn first(&self) -> Option<(u64, usize)> {
        let lines = self.workers.iter().enumerate();
        lines.filter_map(|(number, (_, plain))| Some((*plain.line.first()?, number))).min()
    }

    fn open(&self) -> u64 {
        self.workers.iter().map(|(_, plain)| plain.in_use + plain.idle).sum()
    }

    fn waiting(&self) -> u64 {
        self.workers.iter().map(|(_, plain)| plain.line.len() as u64).sum()
    }

    /// Is a place there for this request, and is it its turn?
    fn try_one(&mut self, number: usize, stamp: u64) -> bool {
        let (open, first) = (self.open(), self.first());
        let (worker, plain) = &mut self.workers[number];
        let has_turn = first.is_none_or(|first| (stamp, number) <= first);
        assert_eq!(worker.has_turn(self.slot, rank(stamp)), has_turn);
        if plain.idle > 0 && has_turn {
            worker.take_idle(self.slot);
            plain.idle -= 1;
            plain.in_use += 1;
            return true;
        }
        let expected = match (has_turn, self.limit > 0 && open >= self.limit) {
            (false, _) => Acquire::Turn,
            (true, true) => Acquire::Full,
            (true, false) => Acquire::Place,
        };
        let result = worker.acquire(self.slot, self.limit, rank(stamp));
        assert_eq!(result, expected);
        plain.in_use += u64::from(result == Acquire::Place);
        result == Acquire::Place
    }

    fn serve(&mut self, number: usize) {
        while let Some(first) = self.workers[number].1.line.first().copied() {
            if !self.try_one(number, first) {
                return;
            }
            self.workers[number].1.line.remove(0);
            if !self.left(number) {
                return;
            }
        }
    }

    /// Is it this worker's own turn, or who is woken?
    fn check_turn(&self, number: usize, is_own: bool) {
        let Some((_, first)) = self.first() else { return assert!(!is_own) };
        let has_room = self.limit == 0 || self.open() < self.limit;
        let can_go_on = has_room || self.workers[first].1.idle > 0;
        assert_eq!(is_own, can_go_on && first == number);
        if can_go_on && first != number && !self.workers[first].1.is_dead {
            RUNG.with_borrow(|rung| assert!(rung.contains(&first), "{first} is not woken"));
        }
    }

    fn left(&mut self, number: usize) -> bool {
        let (worker, plain) = &self.workers[number];
        let first = plain.line.first().map(|first| rank(*first));
        let is_own = worker.left(self.slot, self.limit, first);
        self.check_turn(number, is_own);
        is_own
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Sweep => return self.sweep(),
            Step::Arrive(number)
            | Step::Finish(number, _)
            | Step::GiveUp(number, _)
            | Step::Woken(number)
            | Step::Count(number, ..)
            | Step::Kill(number)
            | Step::Leave(number)
                if self.workers[number].1.is_dead => {}
            Step::Arrive(number) => self.arrive(number),
            Step::Finish(number, keeps) => self.finish(number, keeps),
            Step::GiveUp(number, which) => {
                let line = &mut self.workers[number].1.line;
                if which < line.len() {
                    line.remove(which);
                    if self.left(number) {
                        self.serve(number);
                    }
                }
            }
            Step::Woken(number) => self.woken(number),
            Step::Count(number, index, by) => {
                self.workers[number].0.counters(self.slot).add(index, by);
                if let Some(counted) = self.counted.get_mut(index) {
                    *counted += by;
                }
            }
            Step::Kill(number) => {
                self.workers[number].1.is_dead = true;
                let pid = self.pid_of(number);
                GONE.with_borrow_mut(|gone| gone.insert(pid));
            }
            Step::Leave(number) => {
                self.workers.remove(number).0.leave();
                self.refill();
                // cells are taken from the lowest on
                self.check_all_woken();
            }
        }
        self.check();
    }

    fn pid_of(&self, number: usize) -> u32 {
        self.zone.workers().nth(number).unwrap().1.pid()
    }

    fn sweep(&mut self) {
        let dead = self.workers.iter().filter(|(_, plain)| plain.is_dead).count();
        assert_eq!(self.zone.sweep(), Ok(dead));
        self.workers.retain(|(_, plain)| !plain.is_dead);
        self.refill();
        if dead > 0 {
            self.check_all_woken();
        }
        self.check();
    }

    fn check_all_woken(&self) {
        let waits =
            self.workers.iter().filter(|(_, plain)| !plain.line.is_empty() && !plain.is_dead);
        let waits = waits.map(|(worker, _)| worker.id().index());
        RUNG.with_borrow(|rung| waits.for_each(|id| assert!(rung.contains(&id))));
    }

    fn arrive(&mut self, number: usize) {
        self.clock += 1;
        let stamp = self.clock;
        if self.try_one(number, stamp) {
            return;
        }
        let before = self.waiting();
        let (worker, plain) = &mut self.workers[number];
        let first = *plain.line.first().unwrap_or(&stamp);
        let joined = worker.join(self.slot, self.most, rank(first));
        if before >= self.most {
            return assert_eq!(joined, Join::Overflow);
        }
        assert_eq!(joined, Join::Waits { waiting: before + 1 });
        plain.line.push(stamp);
        self.serve(number);
    }

    fn finish(&mut self, number: usize, keeps: bool) {
        let first = self.first().map(|(_, first)| first);
        let (worker, plain) = &mut self.workers[number];
        if plain.in_use == 0 {
            return;
        }
        plain.in_use -= 1;
        if keeps {
            let expected = match first {
                None => Park::Idle,
                Some(first) if first == number => Park::Own,
                Some(_) => Park::Close,
            };
            assert_eq!(worker.park(self.slot), expected);
            match expected {
                Park::Idle => {
                    plain.idle += 1;
                    return;
                }
                Park::Own => {
                    plain.line.remove(0);
                    plain.in_use += 1;
                    if self.left(number) {
                        self.serve(number);
                    }
                    return;
                }
                Park::Close => {}
            }
        }
        let is_own = worker.release(self.slot, self.limit);
        self.check_turn(number, is_own);
        if is_own {
            self.serve(number);
        }
    }

    fn woken(&mut self, number: usize) {
        if !RUNG.with_borrow_mut(|rung| rung.remove(&number)) {
            return assert_eq!(self.workers[number].0.answer(), Rung::default());
        }
        let rung = self.workers[number].0.answer();
        if rung.turn {
            self.serve(number);
        }
        let has_idle = self.workers[number].1.idle > 0;
        if rung.asked && has_idle && self.workers[number].0.asked(self.slot) {
            let (worker, plain) = &mut self.workers[number];
            plain.idle -= 1;
            let is_own = worker.close_idle(self.slot, self.limit);
            self.check_turn(number, is_own);
        }
    }

    fn check(&self) {
        let sum = |get: fn(&Plain) -> u64| self.workers.iter().map(|(_, plain)| get(plain)).sum();
        let expected =
            Gauges { in_use: self.open(), idle: sum(|plain| plain.idle), waiting: self.waiting() };
        assert_eq!(self.zone.gauges(self.slot), expected);
        let first = self.zone.first(self.slot).map(|(id, rank)| (rank.get(), id.index()));
        assert_eq!(first, self.first());
        let mut sums = [1; 5];
        self.zone.read_all(self.slot, &mut sums);
        assert_eq!(sums, self.counted);
        assert_eq!([0, 1, 2, 3, 4].map(|index| self.zone.read(self.slot, index)), self.counted);
        assert!(self.limit == 0 || self.open() <= self.limit);
    }

    /// Until nothing more happens by itself.
    fn settle(&mut self) {
        self.run(&Step::Sweep);
        while let Some(number) = RUNG.with_borrow(|rung| rung.first().copied()) {
            self.run(&Step::Woken(number));
        }
        let idle: u64 = self.workers.iter().map(|(_, plain)| plain.idle).sum();
        let is_full = self.limit > 0 && self.open() - idle >= self.limit;
        assert!(self.waiting() == 0 || is_full, "somebody waits who could have a connection");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn places_turns_and_counters_are_those_of_a_plain_model(
        steps in vec(a_step(), 0..120),
        limit in 0..4_u64,
        most in 0..8_u64,
    ) {
        let words = words(SHAPE);
        let mut both = Both::new(format(&words, SHAPE), limit, most);
        steps.iter().for_each(|step| both.run(step));
        both.settle();
    }
}
