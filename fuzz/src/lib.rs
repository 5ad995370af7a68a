//! The pure parts against independent models of what they are to do: one body for each target of the
//! fuzzer. The tests in tests/pure run them too, over the inputs that are kept in fuzz/seeds and over
//! input of their own, so this needs nothing but the module.

pub mod chunked;
pub mod framing;
pub mod head;
pub mod header_set;
pub mod names;
pub mod packet;
pub mod plain;
pub mod policy;
pub mod pool;
pub mod probe;
pub mod queue;
pub mod trailers;
pub mod vars;

/// What a target does with one input: it panics where a pure part is wrong.
pub type Target = fn(&[u8]);

/// All targets, by the names of their binaries and of their folders in fuzz/seeds.
pub const TARGETS: [(&str, Target); 15] = [
    ("chunked", chunked::fuzz),
    ("framing", framing::fuzz),
    ("head", head::fuzz),
    ("header_line", head::fuzz_header_lines),
    ("header_set", header_set::fuzz),
    ("names", names::fuzz),
    ("packet", packet::fuzz),
    ("plain", plain::fuzz),
    ("policy", policy::fuzz),
    ("pool", pool::fuzz),
    ("probe", probe::fuzz),
    ("queue", queue::fuzz),
    ("status_line", head::fuzz_status_line),
    ("trailers", trailers::fuzz),
    ("vars", vars::fuzz),
];

type Bytes = Vec<u8>;

/// An input from which values are taken one after the other; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        self.take(8).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Up to so many bytes.
    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
