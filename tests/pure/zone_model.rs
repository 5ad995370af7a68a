//! Every interleaving of processes over one zone, with kills at every step.
//!
//! Not loom: it takes sequentially consistent loads and stores for weaker ones, so that it finds faults in
//! "write mine, then read theirs" that are none, and has no kills. Here a process is a closure, which is
//! called for each event of its loop with what it remembers, and each access to a word of the zone is a
//! step. To find its next step, the closure is called again with the results of its steps so far, and unwound
//! at the first that has none. So a state is the memory, what processes remember, and these results, which
//! can be copied and compared: all states are visited, and each once.
//!
//! A step is one that others cannot tell from the one before it, where nobody else writes the word that it
//! reads, or has to do with the word that it writes. Such steps are made together. Who has to do with which
//! word is learned on the way, from random ways first, and all is begun anew when something new is
//! learned.
//!
//! Memory is as processors of the x86 family have it: a relaxed store reaches it some time later, in order, or
//! with the next store of the strongest kind or read-modify-write of the same process.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::panic::{catch_unwind, panic_any, AssertUnwindSafe};

use crate::zone_steps::{direct, replay, with_memory, Note, Op, LOCK};

/// What a process remembers between two events.
pub type Memo = Vec<u64>;

/// A process: what it does in one event. Returns what it remembers then; None: it ends.
pub type Program<'a> = Box<dyn Fn(&[u64]) -> Option<Memo> + 'a>;

#[derive(Clone, Default)]
struct Thread {
    memo: Memo,
    /// Of the steps in this event.
    results: Vec<u64>,
    /// None: it has ended.
    next: Option<Op>,
    is_dead: bool,
    /// Stores that have not reached the memory.
    buffer: VecDeque<(usize, u64)>,
    open: u64,
}

/// All that is.
#[derive(Clone, Default)]
pub struct World {
    memory: Vec<u64>,
    threads: Vec<Thread>,
    /// What was written to eventfds.
    rung: Vec<bool>,
    kills: usize,
    /// Requests that wait, and whose they are.
    waiting: Vec<(u64, usize)>,
    /// Of requests for which a place is looked for: those that waited before that began.
    before: Vec<(u64, Vec<u64>)>,
}

impl World {
    /// What a process remembers.
    pub fn memo(&self, number: usize) -> &[u64] {
        &self.threads[number].memo
    }

    /// Has the process been killed?
    pub fn is_dead(&self, number: usize) -> bool {
        self.threads[number].is_dead
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.threads.iter().map(|thread| thread.open).sum()
    }

    /// Looks at the memory.
    pub fn look<T>(&self, look: impl FnOnce() -> T) -> T {
        with_memory(self.memory.clone(), look).0
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize, Op),
    /// A store reaches the memory.
    Flush(usize),
    Kill(usize),
}

/// Processes over a zone, and what has to be so.
pub struct Model<'a> {
    /// The memory at the beginning.
    pub memory: Vec<u64>,
    /// What each process does.
    pub programs: Vec<Program<'a>>,
    /// How many may be killed.
    pub kills: usize,
    /// Those of the processes that may be, from the first on.
    pub mortals: usize,
    /// The most connections that may be open; 0: any number.
    pub limit: u64,
    /// The most requests that may wait; 0: any number.
    pub most: usize,
    /// What is known of who reads and writes which word.
    pub known: Known,
    /// What must be so when nothing can happen any more. Nobody waits then, whatever it is.
    pub finally: &'a dyn Fn(&World),
}

/// Who reads and writes each word, a bit for each process.
#[derive(Default)]
pub struct Known {
    readers: RefCell<Vec<u8>>,
    writers: RefCell<Vec<u8>>,
    has_changed: Cell<bool>,
    /// Every step is one.
    is_off: Cell<bool>,
}

impl Known {
    /// Notes it, and says whether others have nothing to do with it.
    fn is_private(&self, number: usize, op: Op) -> bool {
        if self.is_off.get() {
            return false;
        }
        let (at, reads, writes) = match op {
            Op::Get(at) => (at, true, false),
            Op::Set(at, _) | Op::SetRelaxed(at, _) => (at, false, true),
            Op::Replace(at, ..)
            | Op::Swap(at, _)
            | Op::AddBits(at, _)
            | Op::ClearBits(at, _)
            | Op::Raise(at, _) => (at, true, true),
            // looks at it
            Op::WaitForLock => (LOCK, true, false),
            _ => return false,
        };
        let note = |masks: &RefCell<Vec<u8>>, is_so: bool| {
            let mut masks = masks.borrow_mut();
            let size = masks.len().max(at + 1);
            masks.resize(size, 0);
            if is_so && masks[at] & 1 << number == 0 {
                masks[at] |= 1 << number;
                self.has_changed.set(true);
            }
            masks[at] & !(1 << number)
        };
        let (readers, writers) = (note(&self.readers, reads), note(&self.writers, writes));
        op != Op::WaitForLock && writers == 0 && (readers == 0 || !writes)
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visited {
    pub states: usize,
    pub ends: usize,
}

impl Model<'_> {
    fn begin(&self) -> World {
        let mut world = World {
            memory: self.memory.clone(),
            threads: vec![Thread::default(); self.programs.len()],
            rung: vec![false; 8],
            ..World::default()
        };
        for number in 0..self.programs.len() {
            self.advance(&mut world, number);
        }
        world
    }

    /// Finds the next step of a process, and takes its notes.
    fn advance(&self, world: &mut World, number: usize) {
        loop {
            let results = std::mem::take(&mut world.threads[number].results);
            let memo = std::mem::take(&mut world.threads[number].memo);
            let (end, results) = replay(results, || self.programs[number](&memo));
            let thread = &mut world.threads[number];
            thread.results = results;
            thread.memo = memo;
            thread.next = match end {
                Ok(Some(memo)) => {
                    thread.memo = memo;
                    thread.results.clear();
                    continue;
                }
                Ok(None) => None,
                Err(pending) => Some(pending),
            };
            match thread.next {
                Some(Op::Note(note)) => {
                    thread.results.push(0);
                    self.note(world, number, note);
                }
                // nor may it take others along to the memory
                Some(op)
                    if self.known.is_private(number, op)
                        && (thread.buffer.is_empty() || matches!(op, Op::Get(_))) =>
                {
                    let result = self.execute(world, number, op);
                    world.threads[number].results.push(result);
                }
                _ => return,
            }
        }
    }

    fn note(&self, world: &mut World, number: usize, note: Note) {
        match note {
            Note::Attempt(rank) => {
                let lower = world.waiting.iter().map(|(of, _)| *of).filter(|of| *of < rank);
                let lower = lower.collect();
                world.before.retain(|(of, _)| *of != rank);
                world.before.push((rank, lower));
            }
            Note::Waits(rank) => {
                world.waiting.push((rank, number));
                if self.most > 0 {
                    assert!(world.waiting.len() <= self.most, "more wait than may");
                }
            }
            Note::GaveUp(rank) => world.waiting.retain(|(of, _)| *of != rank),
            Note::Got(rank) => {
                world.waiting.retain(|(of, _)| *of != rank);
                let place = world.before.iter().position(|(of, _)| *of == rank).unwrap();
                let (_, before) = world.before.remove(place);
                for (other, _) in &world.waiting {
                    assert!(!before.contains(other), "{rank} has overtaken {other}");
                }
            }
            Note::Open(count) => {
                world.threads[number].open = count;
                if self.limit > 0 {
                    assert!(world.open() <= self.limit, "more connections than may be");
                }
            }
            Note::Refused(rank) => world.before.retain(|(of, _)| *of != rank),
        }
    }

    fn events(&self, world: &World) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, thread) in world.threads.iter().enumerate() {
            if !thread.buffer.is_empty() {
                events.push(Event::Flush(number));
            }
            let Some(op) = thread.next.filter(|_| !thread.is_dead) else { continue };
            let is_ready = match op {
                Op::WaitForRing(worker) => world.rung[worker],
                Op::WaitForDeath(seen) => world.kills as u64 > seen,
                Op::WaitForLock => {
                    let has = world.memory[LOCK];
                    has == 0 || world.threads[(has >> 32) as usize - 1].is_dead
                }
                _ => true,
            };
            if is_ready {
                events.push(Event::Step(number, op));
            }
            if number < self.mortals && world.kills < self.kills {
                events.push(Event::Kill(number));
            }
        }
        events
    }

    fn happen(&self, world: &mut World, event: Event) {
        match event {
            Event::Flush(number) => {
                let (at, value) = world.threads[number].buffer.pop_front().unwrap();
                world.memory[at] = value;
            }
            Event::Kill(number) => {
                world.kills += 1;
                let thread = &mut world.threads[number];
                thread.is_dead = true;
                thread.open = 0;
                // whoever learns of its end sees what it has written
                for (at, value) in std::mem::take(&mut thread.buffer) {
                    world.memory[at] = value;
                }
                world.waiting.retain(|(_, of)| *of != number);
            }
            Event::Step(number, op) => {
                let result = self.execute(world, number, op);
                world.threads[number].results.push(result);
                self.advance(world, number);
            }
        }
    }

    fn execute(&self, world: &mut World, number: usize, op: Op) -> u64 {
        let World { memory, threads, rung, kills, .. } = world;
        let buffer = &mut threads[number].buffer;
        match op {
            Op::Get(at) => {
                let own = buffer.iter().rev().find(|(of, _)| *of == at);
                return own.map_or(memory[at], |(_, value)| *value);
            }
            Op::SetRelaxed(at, value)
                if !buffer.is_empty() || !self.known.is_private(number, op) =>
            {
                buffer.push_back((at, value));
                return 0;
            }
            _ => {}
        }
        for (at, value) in buffer.drain(..) {
            memory[at] = value;
        }
        match op {
            Op::Ring(worker) => rung[worker] = true,
            Op::WaitForRing(worker) => rung[worker] = false,
            Op::Poll(worker) => return std::mem::take(&mut rung[worker]).into(),
            Op::WaitForDeath(_) => return *kills as u64,
            Op::IsAlive(number) => return (!threads[number].is_dead).into(),
            _ => return direct(memory, op),
        }
        0
    }

    fn check_end(&self, world: &World) {
        assert!(world.waiting.is_empty(), "{:?} wait for ever", world.waiting);
        (self.finally)(world);
    }

    /// Goes through all states.
    pub fn explore(&self) -> Visited {
        (0..200).for_each(|seed| self.walk_on(choices(seed)));
        loop {
            self.known.has_changed.set(false);
            if let Some(visited) = self.explore_once() {
                return visited;
            }
        }
    }

    /// None: something new was learned.
    fn explore_once(&self) -> Option<Visited> {
        let mut visited = Visited::default();
        let mut seen = HashSet::new();
        let begin = self.begin();
        let events = self.events(&begin);
        let mut stack = vec![(begin, events)];
        let mut path: Vec<Event> = Vec::new();
        while let Some((world, events)) = stack.last_mut() {
            let Some(event) = events.pop() else {
                stack.pop();
                path.pop();
                continue;
            };
            // the last one needs no copy
            let mut next = match events.is_empty() {
                true => std::mem::take(world),
                false => world.clone(),
            };
            path.push(event);
            with_trace(&path, || self.happen(&mut next, event));
            if self.known.has_changed.get() {
                return None;
            }
            if !seen.insert(next.fingerprint()) {
                path.pop();
                continue;
            }
            visited.states += 1;
            let events = self.events(&next);
            if events.is_empty() {
                visited.ends += 1;
                with_trace(&path, || self.check_end(&next));
            }
            stack.push((next, events));
        }
        Some(visited)
    }

    /// Goes one way of many, as `choose` says, which gets how many ways there are.
    pub fn walk(&self, choose: impl FnMut(usize) -> usize) {
        self.known.is_off.set(true);
        self.walk_on(choose);
    }

    fn walk_on(&self, mut choose: impl FnMut(usize) -> usize) {
        let mut world = self.begin();
        let mut path = Vec::new();
        loop {
            let mut events = self.events(&world);
            // a kill is no end, and should be rarer than a step
            if events.iter().any(|event| !matches!(event, Event::Kill(_))) && choose(20) > 0 {
                events.retain(|event| !matches!(event, Event::Kill(_)));
            }
            if events.is_empty() {
                return with_trace(&path, || self.check_end(&world));
            }
            let event = events[choose(events.len())];
            path.push(event);
            assert!(path.len() < 100_000, "no end");
            with_trace(&path, || self.happen(&mut world, event));
        }
    }
}

/// Choices by chance, the same ones for the same seed (Knuth's linear congruential generator).
pub fn choices(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |count| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % count
    }
}

/// Shows how it came to what fails.
fn with_trace(path: &[Event], act: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
        for event in path {
            eprintln!("{event:?}");
        }
        panic_any(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "failed".into()));
    }
}

impl World {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.memory.hash(&mut hasher);
        for thread in &self.threads {
            thread.is_dead.hash(&mut hasher);
            thread.buffer.hash(&mut hasher);
            thread.open.hash(&mut hasher);
            thread.next.is_none().hash(&mut hasher);
            // what is over has no future
            if !thread.is_dead && thread.next.is_some() {
                thread.memo.hash(&mut hasher);
                thread.results.hash(&mut hasher);
            }
        }
        self.rung.hash(&mut hasher);
        self.kills.hash(&mut hasher);
        self.waiting.hash(&mut hasher);
        self.before.hash(&mut hasher);
        hasher.finish()
    }
}
