//! What `rs_uwsgi_status` answers, without nginx: what is asked for ([`ask`]), what is known of the servers
//! ([`Peer`]), and how it is written ([`json`], [`prometheus`], [`health`]), piece by piece, so that a worker with a
//! thousand servers does other things in between.
#![forbid(unsafe_code)]

pub mod advice;
pub mod ask;
pub mod health;
pub mod json;
pub mod prometheus;
mod text;

use crate::pure::health::{Report, State as Health};
use crate::pure::stats::history::Second;
use crate::pure::stats::Totals;
use crate::pure::uwsgi_stats::Known;
use crate::pure::zone::Gauges;

/// What is known besides the servers.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Of this module.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// nginx's version.
    pub nginx: &'static str,
    /// Now, in milliseconds since 1970.
    pub time: u64,
    /// Now, in milliseconds of the workers' clock.
    pub now: u64,
    /// Since when there are counters, by the same clock.
    pub since: u64,
    /// The number of the configuration.
    pub generation: u64,
    /// This process.
    pub pid: u32,
    /// The workers: their numbers in the zone, and their processes.
    pub workers: Vec<(usize, u32)>,
    /// The zone, where there is one.
    pub zone: Option<ZoneSize>,
}

impl About {
    /// A time of the workers' clock, in milliseconds since 1970.
    pub fn date(&self, time: u64) -> u64 {
        self.time.saturating_sub(self.now.saturating_sub(time))
    }
}

/// How large the zone is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZoneSize {
    /// Its bytes.
    pub bytes: usize,
    /// For how many servers there is room.
    pub servers: usize,
    /// How many there are.
    pub used: usize,
    /// The bytes of each.
    pub bytes_of_server: usize,
    /// How often there was no room for a server.
    pub full: u64,
}

/// A server of an upstream.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its place in the upstream.
    pub id: usize,
    /// Its address.
    pub server: Vec<u8>,
    /// What the configuration calls it.
    pub name: Vec<u8>,
    /// Is it asked only when others fail?
    pub is_backup: bool,
    /// Is it configured not to be asked?
    pub is_down: bool,
    /// Its weight; 0 where it is not known.
    pub weight: usize,
    /// The most connections; None: any number.
    pub limit: Option<u64>,
    /// Was this limit learned?
    pub is_learned: bool,
    /// How many requests may wait.
    pub queue: u64,
    /// What there is now.
    pub gauges: Gauges,
    /// For how long the first of those who wait has, in milliseconds.
    pub oldest: u64,
    /// The most that ever waited at once.
    pub most_waiting: u64,
    /// Did the last attempt to connect fail?
    pub is_unavailable: bool,
    /// What probes have found, where it is checked (`rs_uwsgi_health_check`).
    pub health: Option<Report>,
    /// What was counted.
    pub totals: Totals,
    /// The last seconds.
    pub history: Vec<Second>,
}

/// The state of a server, with NGINX Plus' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As far as is known.
    Up = 1,
    /// It is configured so.
    Down = 3,
    /// The last attempt to connect failed.
    Unavailable = 4,
    /// It is to be probed, and no probe has ended.
    Checking = 5,
    /// Probes, or requests, have failed so often that it gets none while another server may.
    Unhealthy = 6,
}

impl State {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Unavailable => "unavail",
            State::Checking => "checking",
            State::Unhealthy => "unhealthy",
        }
    }
}

impl Peer {
    /// Its state.
    pub fn state(&self) -> State {
        let health = self.health.map(|health| health.state);
        match (self.is_down, health, self.is_unavailable) {
            (true, ..) => State::Down,
            (_, Some(Health::Down), _) => State::Unhealthy,
            (_, _, true) => State::Unavailable,
            (_, Some(Health::Checking), _) => State::Checking,
            _ => State::Up,
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.gauges.in_flight()
    }
}

/// An upstream, without its servers.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Its name.
    pub name: Vec<u8>,
    /// How many requests may wait for each of its servers.
    pub queue: u64,
    /// What uWSGI's stats server says, where one is configured.
    pub uwsgi: Option<Known>,
    /// What was counted of it and no server: what the cache had, and requests too large to be sent.
    pub totals: Totals,
}
