//! Lines of the log that say what to do: one a minute and upstream of each kind.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// A kind of hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Hint {
    /// The server's listen queue is full.
    ListenQueue,
    /// The server refuses connections, and requests wait for it to come back.
    Refused,
    /// The worker may not connect to a socket.
    Permission,
    /// The server speaks HTTP.
    Http,
    /// Requests have been waiting for long, because a listen queue is full.
    Waiting,
    /// SERVER_PROTOCOL is no protocol.
    Protocol,
    /// There is no room in the zone for a server.
    ZoneFull,
    /// A server answers no pings.
    NoPong,
    /// A variable yields no priority.
    Priority,
    /// Requests that wait have nearly all of the worker's connections.
    Connections,
}

const KINDS: usize = 10;

/// How often one is given, in milliseconds.
pub const INTERVAL: usize = 60_000;

/// The hints about one upstream.
#[derive(Debug)]
pub struct Hints {
    given: [Cell<Option<usize>>; KINDS],
    understood: Cell<bool>,
    /// Requests that were refused because the queue was full.
    pub queue_full: Flood,
    /// Requests that have timed out in the queue.
    pub queue_timeouts: Flood,
    /// Requests that were known to be too large.
    pub too_large: Flood,
    /// Requests that were refused because they would have waited too long.
    pub wait_too_long: Flood,
    unanswered: Cell<usize>,
}

impl Default for Hints {
    fn default() -> Self {
        Hints {
            given: Default::default(),
            understood: Cell::default(),
            queue_full: Flood::default(),
            queue_timeouts: Flood::default(),
            too_large: Flood::default(),
            wait_too_long: Flood::once_in(INTERVAL),
            unanswered: Cell::default(),
        }
    }
}

impl Hints {
    /// Has a server of the upstream shown that it understands requests?
    pub fn is_understood(&self) -> bool {
        self.understood.get()
    }

    /// Have several requests had no answer, and none ever one?
    pub fn is_mute(&self) -> bool {
        !self.is_understood() && self.unanswered.get() >= 2
    }

    /// A request had none.
    pub fn count_unanswered(&self) {
        self.unanswered.set(self.unanswered.get().saturating_add(1));
    }

    /// One has.
    pub fn set_understood(&self) {
        self.understood.set(true);
    }

    /// Takes the hint of this kind where it is time for one: the next has to wait. `now` is in
    /// milliseconds.
    pub fn take_due(&self, hint: Hint, now: usize) -> bool {
        let Some(given) = self.given.get(hint as usize) else { return false };
        if given.get().is_some_and(|given| now.wrapping_sub(given) < INTERVAL) {
            return false;
        }
        given.set(Some(now));
        true
    }
}

/// A line that many requests may have: one a second tells of all, or one in another time.
#[derive(Debug)]
pub struct Flood {
    told: Cell<Option<usize>>,
    over: Cell<Option<usize>>,
    untold: Cell<usize>,
    interval: usize,
}

impl Default for Flood {
    fn default() -> Self {
        Flood::once_in(1000)
    }
}

impl Flood {
    /// One line in so many milliseconds.
    pub const fn once_in(interval: usize) -> Flood {
        Flood { told: Cell::new(None), over: Cell::new(None), untold: Cell::new(0), interval }
    }

    /// Counts one more. Returns how many there are to tell of, this one included, where it is time for a
    /// line. `now` is in milliseconds.
    pub fn add(&self, now: usize) -> Option<usize> {
        let untold = self.untold.get() + 1;
        self.untold.set(untold);
        self.is_due(&self.told, now).then(|| self.untold.take())
    }

    /// How many there are to tell of when it is over, where it is time for a line of that: it may begin and be
    /// over many times in a second. What is not told then, the next line tells of.
    pub fn take(&self, now: usize) -> usize {
        match self.untold.get() > 0 && self.is_due(&self.over, now) {
            true => self.untold.take(),
            false => 0,
        }
    }

    fn is_due(&self, last: &Cell<Option<usize>>, now: usize) -> bool {
        let is_due = last.get().is_none_or(|last| now.wrapping_sub(last) >= self.interval);
        if is_due {
            last.set(Some(now));
        }
        is_due
    }
}

/// The Retry-After of an answer to a request that has waited for so many milliseconds and got nothing, in
/// seconds: as long again, and no less than one.
pub fn retry_after(waited: usize) -> u64 {
    (waited as u64).div_ceil(1000).clamp(1, 60)
}

/// What to do where the worker, which runs as `worker`, may not connect to the socket `path`.
pub fn permission(path: &[u8], worker: &str) -> String {
    let name = path.escape_ascii();
    let advice =
        "connecting takes the permission to write to the socket (uWSGI's \"chmod-socket\" and \
                  \"chown-socket\") and to search every folder above it";
    match std::fs::metadata(OsStr::from_bytes(path)) {
        Ok(socket) => format!(
            "\"{name}\" belongs to user \"{}\" and group \"{}\" with mode {:04o}, the worker is user \
             \"{worker}\": {advice}",
            name_of("/etc/passwd", socket.uid()),
            name_of("/etc/group", socket.gid()),
            socket.mode() & 0o7777,
        ),
        Err(error) => format!("\"{name}\" cannot be looked at by user \"{worker}\" ({error}): {advice}"),
    }
}

/// The name of a user or group in one of the system's files, else its number. Other sources of names
/// may make a worker wait.
fn name_of(file: &str, id: u32) -> String {
    let table = std::fs::read_to_string(file).unwrap_or_default();
    let number = id.to_string();
    let mut rows = table.lines().map(|row| row.split(':'));
    rows.find_map(|mut row| {
        let name = row.next()?;
        (row.nth(1)? == number).then(|| name.to_string())
    })
    .unwrap_or(number)
}

/// The name of a user, as [`permission`] wants it.
pub fn user(uid: u32) -> String {
    name_of("/etc/passwd", uid)
}
