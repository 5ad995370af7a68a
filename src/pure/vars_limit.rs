//! How many bytes of vars a server takes, learned from what it refuses and from what it answers; and
//! whose fault it is when a connection ends before an answer.
//!
//! uWSGI reads the four bytes of a packet's header, and closes where they announce more than its
//! `buffer-size` (`uwsgi_proto_uwsgi_parser` in its proto/uwsgi.c). What it has not read makes that a
//! reset, on unix sockets as over TCP. An application that crashes has had its vars read, so that a
//! connection without a body ends in good order then: a client cannot teach a wrong limit by crashing
//! it. What may still be wrong is forgotten: a server that goes away resets small requests as well, and
//! larger ones are let through now and then.
#![forbid(unsafe_code)]

/// uWSGI's `buffer-size` unless configured, in bytes. No server is taken to accept less.
pub const BUFFER_SIZE: usize = 4096;

/// How many vars uWSGI takes unless its `max-vars` says otherwise. It reads more, and closes.
pub const MAX_VARS: usize = 128;

/// After how long a request larger than the limit is let through, in milliseconds: at first, and at
/// most.
const PAUSE: (usize, usize) = (1_000, 60_000);

/// For how long resets of what a server has taken before are those of one restart, in milliseconds: all
/// that lies in the listen queue of a server that goes away is reset at once.
const RESTART: usize = 1_000;

/// For how many servers of an upstream limits are kept. Variables may name any number.
const MOST: usize = 64;

/// What was sent on a connection that ended before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The bytes of the vars.
    pub size: usize,
    /// How many there are.
    pub vars: usize,
    /// Does a body follow them?
    pub has_body: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In good order: the server had read what was sent.
    Closed,
    /// With a reset: it had not.
    Reset,
    /// TLS hides it.
    Hidden,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's.
    Server,
    /// Perhaps the request's: the server does not count as failed, and others may be asked.
    Unclear,
    /// Probably the request's, which has more vars than servers take as a rule: no other is asked.
    Request,
    /// The request's: its vars are larger than the server takes.
    TooLarge,
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The largest vars that it has answered, in bytes, beyond [`BUFFER_SIZE`].
    taken: usize,
    /// Since when it has reset such vars, and answered none, in milliseconds.
    resets_since: Option<usize>,
    refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    /// The smallest vars that it has refused, in bytes.
    size: usize,
    /// When larger ones were let through last, in milliseconds.
    tried: usize,
    pause: usize,
    /// Has one been let through, of which the outcome is not known?
    is_trying: bool,
}

impl Limit {
    /// Whose fault is it that the connection ended?
    pub fn fault(&self, sent: &Sent, cut: Cut, now: usize) -> Fault {
        let is_large = sent.size > BUFFER_SIZE;
        match cut {
            Cut::Reset | Cut::Hidden if is_large && self.takes(sent.size, now) => Fault::Unclear,
            Cut::Reset if is_large && !sent.has_body => Fault::TooLarge,
            Cut::Reset | Cut::Hidden if is_large => Fault::Request,
            _ if sent.vars > MAX_VARS => Fault::Request,
            // uWSGI closes on a body beyond its "limit-post"
            Cut::Reset if sent.has_body => Fault::Unclear,
            _ => Fault::Server,
        }
    }

    /// Has the server taken vars of so many bytes? That holds until it has reset such ones for longer than
    /// a restart takes.
    fn takes(&self, size: usize, now: usize) -> bool {
        let is_over = |since| now.wrapping_sub(since) >= RESTART;
        size <= self.taken && !self.resets_since.is_some_and(is_over)
    }

    /// Would the server refuse vars of so many bytes, as far as is known? Not where it is time to try.
    pub fn refuses(&self, size: usize, now: usize) -> bool {
        self.refused.is_some_and(|refused| {
            size >= refused.size && now.wrapping_sub(refused.tried) < refused.pause
        })
    }

    /// A request that [`Self::refuses`] lets through goes to the server.
    pub fn begin(&mut self, size: usize, now: usize) {
        if let Some(refused) = self.refused.as_mut().filter(|refused| size >= refused.size) {
            (refused.tried, refused.is_trying) = (now, true);
        }
    }

    /// The server has answered a request.
    pub fn took(&mut self, size: usize) {
        if size > BUFFER_SIZE {
            self.taken = self.taken.max(size);
            self.resets_since = None;
            self.refused = self.refused.filter(|refused| refused.size > size);
        }
    }

    /// A connection has ended before an answer.
    pub fn ended(&mut self, sent: &Sent, cut: Cut, now: usize) {
        match self.fault(sent, cut, now) {
            Fault::TooLarge => {
                self.refused = Some(self.refused_now(sent.size, now));
                if sent.size <= self.taken {
                    // it has been started anew, with another limit
                    (self.taken, self.resets_since) = (0, None);
                }
            }
            Fault::Unclear if sent.size > BUFFER_SIZE => {
                self.resets_since.get_or_insert(now);
            }
            // it resets whatever comes
            _ if cut == Cut::Reset && sent.size <= BUFFER_SIZE => self.refused = None,
            _ => {}
        }
    }

    fn refused_now(&self, size: usize, now: usize) -> Refused {
        let (first, longest) = PAUSE;
        match self.refused {
            None => Refused { size, tried: now, pause: first, is_trying: false },
            Some(known) if known.is_trying && size >= known.size => {
                let pause = (known.pause * 2).min(longest);
                Refused { tried: now, pause, is_trying: false, ..known }
            }
            Some(known) => Refused { size: known.size.min(size), ..known },
        }
    }
}

/// What is known of the servers of an upstream, by their addresses.
#[derive(Debug, Default)]
pub struct Limits(Vec<(Box<[u8]>, Limit)>);

impl Limits {
    /// What is known of a server.
    pub fn of(&self, address: &[u8]) -> Limit {
        let known = self.0.iter().find(|(known, _)| **known == *address);
        known.map(|(_, limit)| *limit).unwrap_or_default()
    }

    /// Changes what is known of a server. The one that was met first is forgotten where there are too
    /// many.
    pub fn change(&mut self, address: &[u8], change: impl FnOnce(&mut Limit)) {
        let place = self.0.iter().position(|(known, _)| **known == *address);
        let before = self.of(address);
        let mut after = before;
        change(&mut after);
        if after == before {
            return;
        }
        match place.and_then(|place| self.0.get_mut(place)) {
            Some((_, limit)) => *limit = after,
            None => {
                if self.0.len() >= MOST {
                    self.0.remove(0);
                }
                self.0.push((address.into(), after));
            }
        }
    }
}
