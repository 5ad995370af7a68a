//! Where in the zone everything is: offsets in words, from its shape. The table is in
//! [zone.rs](crate::pure::zone).

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Worker processes at a time, those of before a reload included; 1 to [`Shape::MOST_WORKERS`].
    pub workers: usize,
    /// Servers: one for each upstream and address, and TLS identity; 1 to [`Shape::MOST_SERVERS`].
    pub servers: usize,
    /// Counters of each worker for each server, up to [`Shape::MOST_COUNTERS`].
    pub counters: usize,
    /// Words of each server that all workers read and write, up to [`Shape::MOST_SHARED`].
    pub shared: usize,
}

impl Shape {
    /// The bits of the words that say who waits.
    pub const MOST_WORKERS: usize = 256;
    /// Numbers of slots have 32 bits; this keeps all sizes far from overflow.
    pub const MOST_SERVERS: usize = 1 << 20;
    /// As many as a page and a half of memory holds.
    pub const MOST_COUNTERS: usize = 1 << 10;
    /// Room for a history: 600 seconds of 16 values of 32 bits are 4800.
    pub const MOST_SHARED: usize = 1 << 14;
}

/// Offsets and sizes, in words of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) shape: Shape,
    /// Words that have a bit for each worker.
    pub(super) line_size: usize,
    pub(super) slots: usize,
    pub(super) shared: usize,
    pub(super) shared_size: usize,
    pub(super) cells: usize,
    pub(super) cell_size: usize,
    pub(super) row_size: usize,
    words: usize,
}

/// Words of a cache line. What different workers write is in different lines.
pub(super) const LINE: usize = 8;

/// The header: what does not change, what changes, the lock.
pub(super) mod header {
    use super::LINE;

    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 1;
    pub const WORKERS: usize = 2;
    pub const SERVERS: usize = 3;
    pub const COUNTERS: usize = 4;
    pub const SHARED: usize = 5;
    pub const SEED: usize = 6;
    pub const HASH: usize = 7;
    /// The process that changes the table of slots, or takes a dead worker's cell away.
    pub const LOCK: usize = LINE;
    /// The configuration that is being read, or in effect.
    pub const GENERATION: usize = 2 * LINE;
    /// The last configuration that was read to its end.
    pub const ENDED: usize = 2 * LINE + 1;
    /// How many of the workers' cells have ever been used.
    pub const HIGH: usize = 2 * LINE + 2;
    /// When it was made.
    pub const SINCE: usize = 2 * LINE + 3;
    /// How often there was no room for a server.
    pub const FULL: usize = 2 * LINE + 4;
    /// For offsets that are none.
    pub const NOWHERE: usize = 3 * LINE;
    pub const SIZE: usize = 4 * LINE;
}

/// A worker's line.
pub(super) mod worker {
    use super::LINE;

    pub const OWNER: usize = 0;
    pub const BELL: usize = 1;
    /// Of the bell: the worker's turn has come.
    pub const TURN: u64 = 1;
    /// An idle connection is asked for.
    pub const ASKED: u64 = 2;
    pub const SIZE: usize = LINE;
}

/// A slot.
pub(super) mod slot {
    use super::LINE;

    pub const STATE: usize = 0;
    pub const WANTED: usize = 1;
    pub const HASH: usize = 2;
    /// Four words: which workers have requests that wait.
    pub const LINE_OF: usize = LINE;
    pub const RETRY: usize = LINE + 4;
    /// How many of those who waited have had their turn.
    pub const TURNS: usize = LINE + 5;
    /// How long the parts of the label are.
    pub const LABEL: usize = 2 * LINE;
    pub const LABEL_BYTES: usize = 2 * LINE + 1;
    /// Its health, a line (`pure::health`).
    pub const HEALTH: usize = 6 * LINE;
    pub const SIZE: usize = 7 * LINE;
    /// Bytes of a label.
    pub const MOST_LABEL: usize = (HEALTH - LABEL_BYTES) * 8;
}

/// A worker's cell for a slot.
pub(super) mod cell {
    use super::LINE;

    pub const IN_USE: usize = 0;
    pub const IDLE: usize = 1;
    pub const WAITING: usize = 2;
    pub const FIRST: usize = 3;
    pub const ASKED: usize = 4;
    pub const LOWER: usize = 5;
    pub const COUNTERS: usize = LINE;
}

impl Layout {
    /// None where the shape is out of bounds.
    pub fn new(shape: Shape) -> Option<Layout> {
        let fits = (1..=Shape::MOST_WORKERS).contains(&shape.workers)
            && (1..=Shape::MOST_SERVERS).contains(&shape.servers)
            && shape.counters <= Shape::MOST_COUNTERS
            && shape.shared <= Shape::MOST_SHARED;
        if !fits {
            return None;
        }
        let slots = header::SIZE + shape.workers * worker::SIZE;
        let shared = slots + shape.servers * slot::SIZE;
        let shared_size = shape.shared.next_multiple_of(LINE);
        let cells = shared + shape.servers * shared_size;
        let cell_size = cell::COUNTERS + shape.counters.next_multiple_of(LINE);
        let row_size = shape.servers * cell_size;
        let words = cells + shape.workers.checked_mul(row_size)?;
        let line_size = shape.workers.div_ceil(64);
        Some(Layout {
            shape,
            line_size,
            slots,
            shared,
            shared_size,
            cells,
            cell_size,
            row_size,
            words,
        })
    }

    /// How much there is of everything.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The words that the zone needs.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The same in bytes.
    pub fn bytes(&self) -> usize {
        self.words * 8
    }

    /// The bytes that one server more takes.
    pub fn bytes_of_server(&self) -> usize {
        (slot::SIZE + self.shared_size + self.shape.workers * self.cell_size) * 8
    }

    /// The most servers for which `bytes` are enough, with this shape otherwise; none where there is no
    /// room for one.
    pub fn servers_in(&self, bytes: usize) -> usize {
        let fixed = (header::SIZE + self.shape.workers * worker::SIZE) * 8;
        (bytes.saturating_sub(fixed) / self.bytes_of_server()).min(Shape::MOST_SERVERS)
    }

    pub(super) fn worker(&self, worker: usize) -> usize {
        header::SIZE + worker * worker::SIZE
    }

    #[inline]
    pub(super) fn slot(&self, slot: usize) -> usize {
        self.slots + slot * slot::SIZE
    }

    #[inline]
    pub(super) fn shared(&self, slot: usize) -> usize {
        self.shared + slot * self.shared_size
    }

    #[inline]
    pub(super) fn cell(&self, worker: usize, slot: usize) -> usize {
        self.cells + worker * self.row_size + slot * self.cell_size
    }
}
