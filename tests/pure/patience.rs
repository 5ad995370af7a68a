//! Clients that arrive on their own schedule and leave when their patience is over, before a line and a server that
//! are simulated. The server works on what it was sent to its end, whoever has left.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::AtomicU64;

use super::clock::{Clock, Time, SECOND};
use super::random::Random;
use ngx_http_rs_uwsgi_module::pure::limit::{self, Bounds, Limit, Look};
use ngx_http_rs_uwsgi_module::pure::line::{Line, Order, Place, DEFAULT_PRIORITY};
use ngx_http_rs_uwsgi_module::pure::overload::{Overload, WORDS};

const PROCESSES: usize = 4;
const SERVICE: Time = 50_000;
const CAPACITY: f64 = PROCESSES as f64 * SECOND as f64 / SERVICE as f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Leaves(usize),
    Done(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Line,
    Server,
    /// It is answered, or its client has left.
    Over,
}

#[derive(Clone, Copy)]
struct Client {
    came: Time,
    /// For how long it waited in the line.
    waited: Time,
    at: At,
    /// Has the server read it?
    is_read: bool,
}

/// `rs_uwsgi_max_connections`.
#[derive(Clone, Copy, Debug)]
enum Max {
    Number(usize),
    /// Nothing is said.
    Unsaid,
}

struct Simulation {
    clock: Clock<Event>,
    random: Random,
    max: Max,
    order: Order,
    load: f64,
    /// The shortest and the longest, in microseconds.
    patience: (Time, Time),
    words: Vec<AtomicU64>,
    limit: [AtomicU64; limit::WORDS],
    line: Line<usize>,
    clients: Vec<Client>,
    in_flight: Vec<usize>,
    listen_queue: VecDeque<usize>,
    listen: usize,
    busy: usize,
    answered: usize,
    in_vain: usize,
}

impl Simulation {
    fn new(max: Max, load: f64, patience: (Time, Time), order: Order) -> Self {
        let mut simulation = Simulation {
            clock: Clock::new(1000 * SECOND),
            random: Random::new(5),
            max,
            order,
            load,
            patience,
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            limit: [const { AtomicU64::new(0) }; limit::WORDS],
            line: Line::default(),
            clients: Vec::new(),
            in_flight: Vec::new(),
            listen_queue: VecDeque::new(),
            listen: 100,
            busy: 0,
            answered: 0,
            in_vain: 0,
        };
        simulation.clock.after(0, Event::Arrival);
        simulation
    }

    /// Lets it run, and returns the share of the answers that were possible which came in time.
    fn run(&mut self, seconds: u64) -> f64 {
        let (end, before) = (self.clock.now() + seconds * SECOND, self.answered);
        while let Some(event) = self.clock.next(end) {
            match event {
                Event::Arrival => self.arrival(),
                Event::Leaves(client) => self.leaves(client),
                Event::Done(client) => {
                    self.busy -= 1;
                    if self.clients[client].at == At::Server {
                        self.over(client);
                        self.answered += 1;
                        self.look();
                    } else {
                        self.in_vain += 1;
                    }
                    self.accept();
                    self.send();
                }
            }
        }
        (self.answered - before) as f64 / (CAPACITY * seconds as f64)
    }

    fn arrival(&mut self) {
        let next = self.random.exponential(SECOND as f64 / CAPACITY / self.load);
        self.clock.after(next, Event::Arrival);
        let (shortest, longest) = self.patience;
        let patience = shortest + (self.random.next() * (longest - shortest) as f64) as Time;
        let client = self.clients.len();
        self.clients.push(Client {
            came: self.clock.now(),
            waited: 0,
            at: At::Line,
            is_read: false,
        });
        self.clock.after(patience, Event::Leaves(client));
        if self.line.is_empty() {
            Overload::new(&self.words[..]).begin(self.clock.milliseconds());
        }
        self.line
            .push(Place::new(DEFAULT_PRIORITY, NonZeroU64::new(self.clock.now()).unwrap()), client);
        self.send();
    }

    fn leaves(&mut self, client: usize) {
        let Client { came, waited, at, .. } = self.clients[client];
        match at {
            At::Over => return,
            At::Line => {
                let came_at = NonZeroU64::new(came).unwrap();
                self.line.remove(came_at, |other| *other == client).unwrap();
                self.clients[client].at = At::Over;
                self.left(self.clock.now() - came);
            }
            At::Server => {
                self.over(client);
                if waited > 0 {
                    self.left(waited);
                }
                self.look();
            }
        }
        self.send();
    }

    /// A request is no longer with the server, as nginx sees it.
    fn over(&mut self, client: usize) {
        self.clients[client].at = At::Over;
        self.in_flight.retain(|other| *other != client);
    }

    fn is_overloaded(&self) -> bool {
        matches!(self.max, Max::Unsaid)
            && Limit::new(&self.limit[..]).is_overloaded(self.clock.milliseconds())
    }

    fn known(&self) -> usize {
        match self.max {
            Max::Number(number) => number,
            Max::Unsaid if self.is_overloaded() => Limit::new(&self.limit[..])
                .known(Bounds::ANY)
                .map_or(usize::MAX, |limit| limit as usize),
            Max::Unsaid => usize::MAX,
        }
    }

    /// A request is over: the others are looked at.
    fn look(&mut self) {
        let count = self.in_flight.len();
        if !self.is_overloaded() || count > 8 && self.random.next() > 8.0 / count as f64 {
            return;
        }
        let clients = self.in_flight.iter().map(|client| self.clients[*client]);
        let unread = clients.filter(|client| !client.is_read).count() as u64;
        let (count, waits) = (count as u64, !self.line.is_empty());
        let look = Look { in_flight: count, looked: count, unread, waits };
        let limit = Limit::new(&self.limit[..]);
        if waits {
            limit.set_overloaded(self.clock.milliseconds());
        }
        let _ = limit.look(look, Bounds::ANY);
    }

    /// Somebody has waited in vain.
    fn left(&mut self, waited: Time) {
        let _ =
            Overload::new(&self.words[..]).left(waited / 1000, false, self.clock.milliseconds());
    }

    /// nginx sends what it may.
    fn send(&mut self) {
        while self.in_flight.len() < self.known() && !self.line.is_empty() {
            if self.listen_queue.len() > self.listen {
                if let Max::Unsaid = self.max {
                    Limit::new(&self.limit[..]).set_overloaded(self.clock.milliseconds());
                }
                return;
            }
            let now = self.clock.milliseconds();
            let overload = Overload::new(&self.words[..]);
            let direction = overload.direction(self.order, now);
            self.line.turn(direction);
            let Some((_, client)) = self.line.pop() else { return };
            let waited = self.clock.now() - self.clients[client].came;
            overload.served(waited / 1000, direction, now);
            self.clients[client].waited = waited;
            self.clients[client].at = At::Server;
            self.in_flight.push(client);
            self.listen_queue.push_back(client);
            self.accept();
        }
    }

    /// The server's processes take what there is.
    fn accept(&mut self) {
        while self.busy < PROCESSES {
            let Some(client) = self.listen_queue.pop_front() else { return };
            self.busy += 1;
            self.clients[client].is_read = true;
            self.clock.after(SERVICE, Event::Done(client));
        }
    }
}

const LIMITED: Max = Max::Number(PROCESSES);

/// However many more come than can be served, and however long they have patience: the server works for those who
/// are still there. With a few more the line gets just so long that nobody leaves it, and all leave the server.
#[test]
fn answers_that_reach_somebody() {
    for load in [1.1, 1.2, 1.5, 2.5, 10.0] {
        for patience in [(SECOND, SECOND), (3 * SECOND, 3 * SECOND), (SECOND, 3 * SECOND)] {
            let mut simulation = Simulation::new(LIMITED, load, patience, Order::Fair);
            simulation.run(60);
            let share = simulation.run(150);
            assert!(share > 0.95, "{load} x, {patience:?}: {share}");
        }
    }
}

/// In the order of arrival it works for nobody.
#[test]
fn in_the_order_of_arrival_few_do() {
    let mut simulation = Simulation::new(LIMITED, 2.5, (SECOND, SECOND), Order::Arrival);
    simulation.run(120);
    let share = simulation.run(600);
    assert!(share < 0.5, "{share}");
    assert!(simulation.in_vain > simulation.answered);
}

/// Without a word of configuration, a server whose listen queue is full says that there are too many; whether clients
/// leave before or after that. Soon it works for those who are there, and on as many as it can.
#[test]
fn a_full_listen_queue_says_so() {
    for listen in [10, 50, 100, 1000] {
        for (load, patience) in [(1.3, 1), (2.5, 1), (10.0, 1), (2.5, 3), (10.0, 3)] {
            let patience = patience * SECOND;
            let mut simulation =
                Simulation::new(Max::Unsaid, load, (patience, patience), Order::Fair);
            simulation.listen = listen;
            // with so many of whom none is answered it takes as long to fill the queue and to empty it
            simulation.run(if listen == 1000 { 120 } else { 12 });
            let share = simulation.run(60);
            assert!(share > 0.9, "listen {listen}, {load} x, {patience} us: {share}");
            let limit = simulation.known();
            assert!((4..=7).contains(&limit), "listen {listen}, {load} x: {limit}");
        }
    }
}

/// It is over when for a while nobody has had to wait.
#[test]
fn an_overload_ends() {
    let mut simulation = Simulation::new(Max::Unsaid, 2.5, (SECOND, SECOND), Order::Fair);
    simulation.run(20);
    assert!(simulation.known() < 10);
    simulation.load = 0.2;
    simulation.run(20);
    assert!(!simulation.is_overloaded());
    // and nothing is lost where the listen queue is never full
    let mut simulation = Simulation::new(Max::Unsaid, 0.9, (60 * SECOND, 60 * SECOND), Order::Fair);
    let share = simulation.run(600);
    assert!((share / 0.9 - 1.0).abs() < 0.02, "{share}");
    assert!(!simulation.is_overloaded());
}
