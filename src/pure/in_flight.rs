//! The requests of one worker that are with servers, by the sockets on which they were sent: for
//! [looks](super::limit::Look) at them. Generic over what a server is known by, with no nginx in sight.
#![forbid(unsafe_code)]

/// So many are looked at, on the average, for each that is over: with hundreds in flight a look is taken at every
/// so many'th only.
const LOOKED_EACH: usize = 8;

/// The requests that are with servers.
#[derive(Debug)]
pub struct InFlight<S> {
    /// The server and the socket; None where there is room.
    entries: Vec<Option<(S, i32)>>,
    free: Vec<usize>,
    /// Those that were over since the last look.
    over: usize,
}

impl<S> Default for InFlight<S> {
    fn default() -> Self {
        InFlight { entries: Vec::new(), free: Vec::new(), over: 0 }
    }
}

impl<S: Copy + PartialEq> InFlight<S> {
    /// A request is about to be sent to a server. Returns its number, for [`Self::end`].
    pub fn begin(&mut self, server: S, socket: i32) -> usize {
        match self.free.pop() {
            Some(number) => {
                if let Some(entry) = self.entries.get_mut(number) {
                    *entry = Some((server, socket));
                }
                number
            }
            None => {
                self.entries.push(Some((server, socket)));
                self.entries.len() - 1
            }
        }
    }

    /// It is over.
    pub fn end(&mut self, number: usize) {
        if let Some(entry) = self.entries.get_mut(number) {
            if entry.take().is_some() {
                self.free.push(number);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One is over: is it time to look at the others?
    pub fn is_due(&mut self) -> bool {
        self.over += 1;
        let is_due = self.over * LOOKED_EACH >= self.len();
        if is_due {
            self.over = 0;
        }
        is_due
    }

    /// Looks at those that are with this server: how many they are, and how many of them are `unread`.
    pub fn look(&self, server: S, unread: impl Fn(i32) -> bool) -> (u64, u64) {
        let own = self.entries.iter().flatten().filter(|(of, _)| *of == server);
        own.fold((0, 0), |(looked, count), (_, socket)| {
            (looked + 1, count + u64::from(unread(*socket)))
        })
    }
}
