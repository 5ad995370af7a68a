//! How often a request is sent again to a server that ends connections because it restarts.
//!
//! Each process of the server ends with what it has in hand, the listen queue at the latest with the last of
//! them. A connection that ends in good order was read to its end, one that is reset was not (see
//! [`super::vars_limit`]).
#![forbid(unsafe_code)]

use super::vars_limit::{Cut, BUFFER_SIZE};

/// How often a server may reset the same request: once for each process that ends with it in hand, and once for
/// its listen queue.
const RESETS: u8 = 4;

/// The ends of connections after which a request was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    closed: bool,
    resets: u8,
}

impl Bridged {
    /// With one more end.
    #[must_use]
    pub fn with(self, end: Cut) -> Bridged {
        match end {
            Cut::Reset => Bridged { resets: self.resets.saturating_add(1), ..self },
            Cut::Closed | Cut::Hidden => Bridged { closed: true, ..self },
        }
    }

    /// May a request of `size` bytes of vars be sent again after this end as well?
    ///
    /// After a close once: the server may be dying of it. After a reset more often: no application has seen it.
    /// But one may have begun to read a body, and a server resets what is larger than it takes, too.
    #[must_use]
    pub fn may_follow(self, end: Cut, size: usize, has_body: bool) -> bool {
        match end {
            Cut::Reset if has_body || size > BUFFER_SIZE => self.resets == 0,
            Cut::Reset => self.resets < RESETS,
            Cut::Closed | Cut::Hidden => !self.closed,
        }
    }
}
