//! The steps of a process over one zone, for the model in [zone_model](crate::zone_model): each access to a
//! word of the zone is one, and what the processes do beside it.

use std::cell::RefCell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use ngx_http_rs_uwsgi_module::pure::zone::{Host, Layout, Process, Word, WorkerId, Zone};

/// A step of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Get(usize),
    Set(usize, u64),
    SetRelaxed(usize, u64),
    Replace(usize, u64, u64),
    Swap(usize, u64),
    AddBits(usize, u64),
    ClearBits(usize, u64),
    Raise(usize, u64),
    /// Is this process there?
    IsAlive(usize),
    /// Writes to a worker's eventfd.
    Ring(usize),
    /// Waits until it was written to.
    WaitForRing(usize),
    /// Has it been written to?
    Poll(usize),
    /// Waits until more processes than these have been killed; returns how many.
    WaitForDeath(u64),
    /// Waits until the lock is nobody's, or that of a process which is gone.
    WaitForLock,
    /// No step: what the test has to know, said with the step before.
    Note(Note),
}

/// What happens to requests, by their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// It is looked for a place for it, from now on.
    Attempt(u64),
    /// It waits in the line.
    Waits(u64),
    /// It does not wait any more, and got no place.
    GaveUp(u64),
    /// It has a place.
    Got(u64),
    /// As many connections are open in this process.
    Open(u64),
    /// It is refused, because as many wait as may.
    Refused(u64),
}

/// Where the lock is.
pub const LOCK: usize = 8;

/// A word of the model's memory: its place.
#[derive(Debug)]
pub struct ModelWord(usize);

impl Word for ModelWord {
    fn get(&self) -> u64 {
        step(Op::Get(self.0))
    }
    fn set(&self, value: u64) {
        step(Op::Set(self.0, value));
    }
    fn get_relaxed(&self) -> u64 {
        step(Op::Get(self.0))
    }
    fn set_relaxed(&self, value: u64) {
        step(Op::SetRelaxed(self.0, value));
    }
    fn replace(&self, old: u64, new: u64) -> bool {
        step(Op::Replace(self.0, old, new)) == 1
    }
    fn swap(&self, value: u64) -> u64 {
        step(Op::Swap(self.0, value))
    }
    fn add_bits(&self, bits: u64) -> u64 {
        step(Op::AddBits(self.0, bits))
    }
    fn clear_bits(&self, bits: u64) {
        step(Op::ClearBits(self.0, bits));
    }
    fn raise(&self, least: u64) {
        step(Op::Raise(self.0, least));
    }
}

/// Words for a zone.
pub fn words(layout: Layout) -> Vec<ModelWord> {
    (0..layout.words()).map(ModelWord).collect()
}

/// The process with this number.
pub fn host(number: usize) -> Host {
    Host {
        me: Process::new(number as u32 + 1, 7),
        is_alive: |process| step(Op::IsAlive(process.pid() as usize - 1)) == 1,
        ring: |id: WorkerId| {
            step(Op::Ring(id.index()));
        },
    }
}

enum Run {
    /// Steps are made at once, by nobody: before the processes begin, and when they have ended.
    Direct(Vec<u64>),
    /// The results of the steps so far, and how many of them were used.
    Replay(Vec<u64>, usize),
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// The step that a process makes next.
struct Pending(Op);

/// Makes a step; returns its result.
pub fn step(op: Op) -> u64 {
    if std::thread::panicking() {
        return 0;
    }
    let result = RUN.with_borrow_mut(|run| match run.as_mut().unwrap() {
        Run::Direct(memory) => Some(direct(memory, op)),
        Run::Replay(results, used) => {
            *used += 1;
            results.get(*used - 1).copied()
        }
    });
    result.unwrap_or_else(|| resume_unwind(Box::new(Pending(op))))
}

/// Says something with the step before.
pub fn note(note: Note) {
    step(Op::Note(note));
}

/// Makes a step in this memory, alone.
pub fn direct(memory: &mut [u64], op: Op) -> u64 {
    match op {
        Op::Get(at) => memory[at],
        Op::Set(at, value) | Op::SetRelaxed(at, value) => {
            memory[at] = value;
            0
        }
        Op::Replace(at, old, new) => {
            let is_old = memory[at] == old;
            if is_old {
                memory[at] = new;
            }
            is_old.into()
        }
        Op::Swap(at, value) => std::mem::replace(&mut memory[at], value),
        Op::AddBits(at, bits) => {
            let old = memory[at];
            memory[at] |= bits;
            old
        }
        Op::ClearBits(at, bits) => {
            memory[at] &= !bits;
            0
        }
        Op::Raise(at, least) => {
            memory[at] = memory[at].max(least);
            0
        }
        Op::IsAlive(_) => 1,
        _ => 0,
    }
}

/// Makes all steps of `act` at once in this memory.
pub fn with_memory<T>(memory: Vec<u64>, act: impl FnOnce() -> T) -> (T, Vec<u64>) {
    RUN.set(Some(Run::Direct(memory)));
    let result = act();
    match RUN.take() {
        Some(Run::Direct(memory)) => (result, memory),
        _ => unreachable!("nothing else changes it"),
    }
}

/// Calls `act` with the results of its steps so far. Returns what it does, or its next step, and the results.
///
/// Panics as `act` does.
pub fn replay<T>(results: Vec<u64>, act: impl FnOnce() -> T) -> (Result<T, Op>, Vec<u64>) {
    RUN.set(Some(Run::Replay(results, 0)));
    let end = catch_unwind(AssertUnwindSafe(act));
    let Some(Run::Replay(results, _)) = RUN.take() else { unreachable!() };
    let end = end.map_err(|panic| match panic.downcast::<Pending>() {
        Ok(pending) => pending.0,
        Err(panic) => resume_unwind(panic),
    });
    (end, results)
}

/// Prepares a zone, before any process runs: returns what `prepare` does, and the memory.
pub fn prepare<T>(layout: Layout, prepare: impl FnOnce() -> T) -> (T, Vec<u64>) {
    with_memory(vec![0; layout.words()], prepare)
}

/// A zone in these words, in the hands of process 0.
pub fn zone(words: &[ModelWord], layout: Layout) -> Zone<'_, ModelWord> {
    Zone::format(words, layout, 42, host(0)).unwrap()
}
