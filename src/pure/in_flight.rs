//! The requests of one worker that are with servers, by the sockets on which they were sent: for
//! [looks](super::limit::Look) at them. Generic over what a server is known by, with no nginx in sight.
#![forbid(unsafe_code)]

/// So many are looked at, on the average, for each that is over: with hundreds in flight a look is taken at every
/// so many'th only.
const LOOKED_EACH: usize = 8;

/// The requests that are with servers.
#[derive(Debug)]
pub struct InFlight<S> {
    entries: Vec<Entry<S>>,
    /// Where there is room: the first of a list, or the number of entries.
    free: usize,
    count: usize,
    /// Those that were over since the last look.
    over: usize,
}

/// The server and the socket; without a server there is room, and the next place where there is some.
#[derive(Debug)]
struct Entry<S> {
    server: Option<S>,
    socket: i32,
    next: u32,
}

impl<S> Default for InFlight<S> {
    fn default() -> Self {
        InFlight { entries: Vec::new(), free: 0, count: 0, over: 0 }
    }
}

impl<S: Copy + PartialEq> InFlight<S> {
    /// A request is about to be sent to a server. Returns its number, for [`Self::end`].
    #[inline]
    pub fn begin(&mut self, server: S, socket: i32) -> usize {
        let number = self.free;
        self.count += 1;
        match self.entries.get_mut(number) {
            Some(entry) => {
                self.free = entry.next as usize;
                (entry.server, entry.socket) = (Some(server), socket);
            }
            None => self.add(server, socket),
        }
        number
    }

    /// There is no room.
    #[cold]
    fn add(&mut self, server: S, socket: i32) {
        self.entries.push(Entry { server: Some(server), socket, next: 0 });
        self.free = self.entries.len();
    }

    /// It is over.
    #[inline]
    pub fn end(&mut self, number: usize) {
        if let Some(entry) = self.entries.get_mut(number) {
            if entry.server.take().is_some() {
                // there are as many as a worker has sockets at most
                entry.next = self.free as u32;
                (self.free, self.count) = (number, self.count - 1);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.count == 0
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
        let own = self.entries.iter().filter(|entry| entry.server == Some(server));
        own.fold((0, 0), |(looked, count), entry| {
            (looked + 1, count + u64::from(unread(entry.socket)))
        })
    }
}
