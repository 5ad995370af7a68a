//! The limit that finds itself, before servers that are simulated: hours of traffic in a second, with several
//! workers of nginx, each of which sees its own requests only.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use super::clock::{Clock, Time, SECOND};
use super::random::Random;
use ngx_http_rs_uwsgi_module::pure::limit::{Bounds, Limit, Look, OVERLOADED, WORDS};
use proptest::prelude::*;

/// How long a request takes.
#[derive(Clone, Copy, Debug)]
enum Service {
    Fixed(Time),
    Exponential(f64),
    /// One in ten takes two seconds, the others 5 ms.
    Mixed,
}

impl Service {
    fn mean(self) -> f64 {
        match self {
            Service::Fixed(time) => time as f64,
            Service::Exponential(mean) => mean,
            Service::Mixed => 0.1 * 2_000_000.0 + 0.9 * 5_000.0,
        }
    }

    fn draw(self, random: &mut Random) -> Time {
        match self {
            Service::Fixed(time) => time,
            Service::Exponential(mean) => random.exponential(mean),
            Service::Mixed if random.next() < 0.1 => 2_000_000,
            Service::Mixed => 5_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// One of the server's processes has answered.
    Done(usize),
    /// It looks for the next request.
    Free,
    /// nginx sees the answer.
    Seen(usize),
}

/// A request in flight.
#[derive(Clone, Copy)]
struct Request {
    /// The worker of nginx that has it.
    owner: usize,
    is_read: bool,
    is_over: bool,
}

struct Simulation {
    clock: Clock<Event>,
    random: Random,
    words: [AtomicU64; WORDS],
    bounds: Bounds,
    /// Workers of nginx.
    workers: usize,
    service: Service,
    /// How much longer everything takes.
    slowness: u64,
    /// Processes of the server, and how many of them have something to do.
    processes: usize,
    busy: usize,
    listen_queue: VecDeque<usize>,
    backlog: usize,
    /// Mean time between two clients.
    interval: f64,
    requests: Vec<Request>,
    in_flight: Vec<usize>,
    waiting: usize,
    answered: u64,
}

impl Simulation {
    fn new(processes: usize, service: Service, load: f64, workers: usize, seed: u64) -> Self {
        let mut simulation = Simulation {
            clock: Clock::new(0),
            random: Random::new(seed),
            words: [const { AtomicU64::new(0) }; WORDS],
            bounds: Bounds::ANY,
            workers,
            service,
            slowness: 1,
            processes,
            busy: 0,
            listen_queue: VecDeque::new(),
            backlog: 100,
            interval: service.mean() / processes as f64 / load,
            requests: Vec::new(),
            in_flight: Vec::new(),
            waiting: 0,
            answered: 0,
        };
        simulation.clock.after(0, Event::Arrival);
        simulation
    }

    fn limit(&self) -> Option<u64> {
        Limit::new(&self.words[..]).known(self.bounds)
    }

    /// Lets it run, and returns how many requests a second were answered.
    fn run(&mut self, time: Time) -> f64 {
        let (begin, end, before) = (self.clock.now(), self.clock.now() + time, self.answered);
        while let Some(event) = self.clock.next(end) {
            match event {
                Event::Arrival => {
                    let next = self.random.exponential(self.interval);
                    self.clock.after(next, Event::Arrival);
                    // more do not wait: their clients have left
                    self.waiting = (self.waiting + 1).min(1000);
                    self.send();
                }
                Event::Done(request) => {
                    let delay = self.random.exponential(60.0);
                    self.clock.after(delay, Event::Seen(request));
                    let delay = self.random.exponential(60.0);
                    self.clock.after(delay, Event::Free);
                }
                Event::Free => {
                    self.busy -= 1;
                    self.accept();
                }
                Event::Seen(request) => self.seen(request),
            }
        }
        (self.answered - before) as f64 * SECOND as f64 / (end - begin) as f64
    }

    /// nginx sends what it may.
    fn send(&mut self) {
        while self.waiting > 0
            && self.limit().is_none_or(|limit| (self.in_flight.len() as u64) < limit)
            && self.listen_queue.len() <= self.backlog
        {
            self.waiting -= 1;
            let owner = (self.random.next() * self.workers as f64) as usize;
            self.requests.push(Request { owner, is_read: false, is_over: false });
            let number = self.requests.len() - 1;
            self.in_flight.push(number);
            self.listen_queue.push_back(number);
            self.accept();
        }
    }

    /// The server's processes take what there is.
    fn accept(&mut self) {
        while self.busy < self.processes {
            let Some(request) = self.listen_queue.pop_front() else { return };
            self.busy += 1;
            self.requests[request].is_read = true;
            let time = self.service.draw(&mut self.random) * self.slowness;
            self.clock.after(time, Event::Done(request));
        }
    }

    fn seen(&mut self, request: usize) {
        self.answered += 1;
        self.requests[request].is_over = true;
        self.in_flight.retain(|other| *other != request);
        let owner = self.requests[request].owner;
        let own = self.in_flight.iter().map(|other| self.requests[*other]);
        let own: Vec<_> = own.filter(|other| other.owner == owner).collect();
        let look = Look {
            in_flight: self.in_flight.len() as u64,
            looked: own.len() as u64,
            unread: own.iter().filter(|other| !other.is_read).count() as u64,
            waits: self.waiting > 0,
        };
        // as many as are in flight are looked at for each that is answered, and not more than eight
        if own.len() <= 8 || self.random.next() < 8.0 / own.len() as f64 {
            let _ = Limit::new(&self.words[..]).look(look, self.bounds);
        }
        self.send();
    }

    fn capacity(&self) -> f64 {
        self.processes as f64 * SECOND as f64 / self.service.mean()
    }

    /// The lowest and the highest limit while it runs.
    fn range(&mut self, seconds: u64) -> (u64, u64) {
        let limits = (0..seconds).map(|_| {
            self.run(SECOND);
            self.limit().unwrap_or(u64::MAX)
        });
        limits.fold((u64::MAX, 0), |(low, high), limit| (low.min(limit), high.max(limit)))
    }
}

/// More come than it can answer: the limit is what the server works on at once and a few more, and it answers
/// as many as it can, however many workers nginx has.
#[test]
fn what_the_server_works_on_and_a_few_more() {
    for (processes, low, high) in [(1, 2, 3), (2, 3, 4), (4, 4, 6), (16, 16, 20)] {
        for service in
            [Service::Fixed(50_000), Service::Exponential(50_000.0), Service::Fixed(2_000)]
        {
            for workers in [1, 4] {
                let case = format!("{processes} processes, {service:?}, {workers} workers");
                let mut simulation = Simulation::new(processes, service, 2.5, workers, 7);
                simulation.run(20 * SECOND);
                let (least, most) = simulation.range(10);
                assert!(low <= least && most <= high, "{case}: {least} to {most}");
                let rate = simulation.run(30 * SECOND) / simulation.capacity();
                // an exponential distribution's mean of few is not exact
                assert!(rate > 0.94, "{case}: {rate}");
            }
        }
    }
}

/// Requests of 5 ms and of 2 s.
#[test]
fn short_and_long_ones() {
    for (processes, low, high) in [(4, 4, 6), (16, 16, 20)] {
        for workers in [1, 4] {
            let mut simulation = Simulation::new(processes, Service::Mixed, 2.5, workers, 3);
            simulation.run(600 * SECOND);
            let (least, most) = simulation.range(600);
            assert!(low <= least && most <= high, "{processes}: {least} to {most}");
            let rate = simulation.run(600 * SECOND) / simulation.capacity();
            assert!(rate > 0.93, "{rate}");
        }
    }
}

/// A server that reads whatever comes, as with hundreds of greenlets, has no limit.
#[test]
fn hundreds_at_once() {
    let mut simulation = Simulation::new(500, Service::Exponential(500_000.0), 0.95, 4, 5);
    simulation.run(60 * SECOND);
    let rate = simulation.run(60 * SECOND) / simulation.capacity();
    assert!(rate > 0.9, "{rate}");
    assert!(simulation.limit().is_none_or(|limit| limit >= 500), "{:?}", simulation.limit());
}

/// Below what it can answer nothing is lost, whatever was learned.
#[test]
fn enough_processes() {
    for load in [0.5, 0.9] {
        let mut simulation = Simulation::new(4, Service::Exponential(50_000.0), load, 4, 9);
        simulation.run(60 * SECOND);
        let rate = simulation.run(3600 * SECOND) / simulation.capacity();
        assert!((rate / load - 1.0).abs() < 0.02, "{rate} of {load}");
    }
}

/// Everything takes ten times as long for ten seconds.
#[test]
fn a_slow_database() {
    let mut simulation = Simulation::new(4, Service::Exponential(50_000.0), 2.5, 4, 11);
    simulation.run(60 * SECOND);
    for _ in 0..10 {
        simulation.slowness = 10;
        let (least, most) = simulation.range(10);
        assert!(4 <= least && most <= 7, "{least} to {most}");
        simulation.slowness = 1;
        simulation.run(3 * SECOND);
        let rate = simulation.run(30 * SECOND) / simulation.capacity();
        assert!(rate > 0.93, "{rate}");
    }
}

/// Started anew with twice as many processes, and with half of them.
#[test]
fn more_and_fewer_processes() {
    let mut simulation = Simulation::new(4, Service::Exponential(50_000.0), 5.0, 4, 13);
    simulation.run(60 * SECOND);
    for processes in [8, 4, 16, 2, 8] {
        simulation.processes = processes;
        simulation.run(30 * SECOND);
        let (least, most) = simulation.range(30);
        let high = processes as u64 + 2 + processes as u64 / 8;
        assert!(processes as u64 <= least && most <= high, "{processes}: {least} to {most}");
    }
}

/// A server that has said that it is overloaded is so for a while.
#[test]
fn overloaded_for_a_while() {
    let words = [const { AtomicU64::new(0) }; WORDS];
    let limit = Limit::new(&words[..]);
    assert!(!limit.is_overloaded(0) && !limit.is_overloaded(u64::MAX));
    limit.set_overloaded(1000);
    assert!(limit.is_overloaded(1000) && limit.is_overloaded(999 + OVERLOADED));
    assert!(!limit.is_overloaded(1000 + OVERLOADED));
    limit.set_overloaded(9000);
    assert!(limit.is_overloaded(8999 + OVERLOADED));
    // where there are no words, nothing is known
    let nothing = Limit::new(&words[..0]);
    nothing.set_overloaded(1000);
    assert!(!nothing.is_overloaded(1000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// It is never out of its bounds, whatever is seen; and a server that reads everything is given more.
    #[test]
    fn within_bounds(
        least in 1..20_u64,
        more in 0..100_u64,
        looks in proptest::collection::vec((0..300_u64, 0..300_u64, 0..300_u64, any::<bool>()), 0..600),
    ) {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let (limit, bounds) = (Limit::new(&words[..]), Bounds { least, most: least + more });
        for (in_flight, looked, unread, waits) in looks {
            let _ = limit.look(Look { in_flight, looked, unread, waits }, bounds);
            let known = limit.known(bounds).unwrap();
            prop_assert!((least..=least + more).contains(&known), "{known}");
        }
        for _ in 0..2000 {
            let in_flight = limit.known(bounds).unwrap() - 1;
            let _ = limit.look(Look { in_flight, looked: in_flight, unread: 0, waits: true }, bounds);
        }
        prop_assert_eq!(limit.known(bounds), Some(least + more));
    }

    /// It ends near what the server works on at once, from wherever it begins.
    #[test]
    fn ends_near(
        processes in 1..40_usize,
        later in 1..40_usize,
        workers in 1..5_usize,
        milliseconds in 20..100_u64,
        seed: u64,
    ) {
        let service = Service::Exponential(milliseconds as f64 * 1000.0);
        let mut simulation = Simulation::new(processes, service, 3.0, workers, seed);
        // as many come for any number of processes
        simulation.interval = service.mean() / 80.0;
        simulation.run(10 * SECOND);
        simulation.processes = later;
        simulation.run(20 * SECOND);
        let limit = simulation.limit().unwrap();
        let high = later as u64 + 3 + later as u64 / 6;
        prop_assert!((later as u64..=high).contains(&limit), "{later}: {limit}");
    }
}
