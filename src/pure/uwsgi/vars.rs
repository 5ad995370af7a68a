//! The vars of a packet, read back: names and values, each behind its length.

/// Reads vars: (name, value) in order. After an error it ends.
#[derive(Clone, Debug)]
pub struct Vars<'a> {
    rest: &'a [u8],
}

impl<'a> Vars<'a> {
    /// The vars in these bytes, which begin after the packet's header.
    pub fn new(bytes: &'a [u8]) -> Vars<'a> {
        Vars { rest: bytes }
    }

    fn var(&self) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let (name, rest) = sized(self.rest)?;
        let (value, rest) = sized(rest)?;
        Some((name, value, rest))
    }
}

impl<'a> Iterator for Vars<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((name, value, rest)) = self.var() else {
            self.rest = &[];
            return Some(Err(Truncated));
        };
        self.rest = rest;
        Some(Ok((name, value)))
    }
}

impl std::iter::FusedIterator for Vars<'_> {}

/// A length and as many bytes as it says, then the rest.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// The bytes end in the middle of a var.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vars end in the middle of a var")]
pub struct Truncated;
