//! Bytes that were right, and no longer are.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::Bytes;

/// The most bytes that are changed.
const MOST: usize = 4;

/// What is `right`, of [`MOST`] bytes or more, after up to as many were replaced by a `byte`, put in or
/// taken out.
pub fn mutated(
    right: impl Strategy<Value = Bytes>,
    byte: impl Strategy<Value = u8>,
) -> impl Strategy<Value = Bytes> {
    let change = (any::<Index>(), 0..3, byte);
    (right, vec(change, 0..=MOST)).prop_map(|(right, changes)| {
        changes.into_iter().fold(right, |mut bytes, (index, kind, byte)| {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            bytes
        })
    })
}
