//! Words of memory that all workers read and write, by their places.
#![forbid(unsafe_code)]

use super::zone::Word;

/// Some words. Where there are too few, nothing is ever known. They are read and written without an order
/// between them: what two write at the same moment is one of the two.
#[derive(Clone, Copy, Debug)]
pub struct Words<'m, A>(pub &'m [A]);

impl<A: Word> Words<'_, A> {
    /// What is at a place; 0 where there is none.
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, Word::get_relaxed)
    }

    /// Puts a number there.
    #[inline]
    pub fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.0.get(at) {
            word.set_relaxed(value);
        }
    }
}
