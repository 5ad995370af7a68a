//! `rs_uwsgi_keepalive…` and `rs_uwsgi_reuse`: connections that carry more than one request; and
//! `rs_uwsgi_queue` and its kin: requests that wait for one.
//!
//! Locations share the connections to a server, and with them most of these settings: what an
//! `upstream` block says and what the locations say that pass to it must agree. `http` gives
//! defaults, which a block overrules. How long requests wait, each location may say for its own.

use std::rc::Rc;

use super::merge::Unset;
use super::LocConf;
use crate::handler::Handler;
use crate::nginx::block::Block;
use crate::nginx::conf::{self, Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::sys::ngx_uint_t;
use crate::pure::pool::policy::{Limits, Reuse};

/// One of the settings, its place in [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Setting {
    /// `rs_uwsgi_keepalive`: idle connections of a worker to one server.
    Idle,
    /// `rs_uwsgi_keepalive_timeout`: how long one may be idle, in milliseconds.
    Timeout,
    /// `rs_uwsgi_keepalive_requests`: how many requests one may carry.
    Requests,
    /// `rs_uwsgi_keepalive_time`: how old one may get, in milliseconds.
    Age,
    /// `rs_uwsgi_reuse`: a number of [`REUSE`].
    Reuse,
    /// `rs_uwsgi_max_connections`: open from a worker to one server, 0 without limit.
    MaxConnections,
    /// `rs_uwsgi_queue`: how many requests of a worker may wait for one server.
    Queue,
    /// `rs_uwsgi_queue … timeout=`: how long one may wait, in milliseconds; 0: as long as connecting
    /// may take.
    QueueTimeout,
    /// `rs_uwsgi_connect_retry`: for how long a server that refuses connections is tried again, in
    /// milliseconds.
    ConnectRetry,
}

const SETTINGS: usize = 9;

/// The settings from this one on are each location's own.
const FIRST_OWN: usize = Setting::Queue as usize;

/// The words that a directive takes, and what they are kept as.
pub type Words = &'static [(&'static str, ngx_uint_t)];

/// The words of `rs_uwsgi_reuse`.
pub const REUSE: Words = &[
    ("auto", Reuse::Auto as ngx_uint_t),
    ("on", Reuse::On as ngx_uint_t),
    ("off", Reuse::Off as ngx_uint_t),
    ("puwsgi", Reuse::Puwsgi as ngx_uint_t),
];

/// A directive of these, and the kind of its value.
pub enum Shared {
    /// A number.
    Number(Setting),
    /// A time, kept in milliseconds.
    Time(Setting),
    /// A number, and after it a time (`timeout=10s`), 0 where it is not given.
    NumberAndTimeout(Setting, Setting),
    /// One of several words.
    Word(Setting, Words),
}

impl Shared {
    /// Sets what the directive says that is being read, and notes the place. The words of its errors
    /// are those of nginx's own setters (`ngx_conf_set_num_slot` …).
    ///
    /// # Errors
    ///
    /// Where it was said before, or is nothing that the directive takes.
    pub fn set(&self, cf: Conf<'_>, settings: &mut Settings) -> Result<(), Error> {
        let (Shared::Number(setting)
        | Shared::Time(setting)
        | Shared::NumberAndTimeout(setting, _)
        | Shared::Word(setting, _)) = *self;
        if settings.value(setting) != Unset::UNSET {
            return Err(Error::Directive("is duplicate".into()));
        }
        let word = cf.arg(1);
        let number = || conf::parse_number(word).ok_or_else(|| invalid(cf, "number"));
        let value = match self {
            Shared::Number(_) => number()?,
            Shared::Time(_) => {
                conf::parse_milliseconds(word).ok_or_else(|| invalid(cf, "value"))?
            }
            Shared::NumberAndTimeout(_, timeout) => {
                let number = number()?;
                settings.set(*timeout, timeout_in(cf)?);
                number
            }
            Shared::Word(_, words) => {
                let found =
                    words.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
                found.ok_or_else(|| invalid(cf, "value"))?.1
            }
        };
        settings.set(setting, value);
        settings.set_place(cf.place());
        Ok(())
    }
}

/// The time after a number.
fn timeout_in(cf: Conf<'_>) -> Result<ngx_uint_t, Error> {
    let Some(word) = cf.words().nth(2) else { return Ok(0) };
    let time = word.strip_prefix(b"timeout=").ok_or_else(|| invalid(cf, "parameter"))?;
    conf::parse_milliseconds(time).ok_or_else(|| invalid(cf, "value"))
}

fn invalid(cf: Conf<'_>, what: &str) -> Error {
    let values: Vec<_> =
        cf.words().skip(1).map(|value| format!("\"{}\"", Printable(value))).collect();
    Error::Directive(format!("invalid {what} {}", values.join(" ")).into())
}

/// What one block says, or inherits.
#[derive(Clone, Debug)]
pub struct Settings {
    values: [ngx_uint_t; SETTINGS],
    places: [Option<Rc<Place>>; SETTINGS],
}

/// Where something was configured.
#[derive(Debug)]
pub struct Place {
    /// The directive with its arguments.
    pub directive: String,
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: ngx_uint_t,
    /// The kind of block.
    pub level: Level,
}

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// "http": for all upstreams.
    Http,
    /// "upstream".
    Upstream,
    /// "server", "location", "if in location".
    Location,
}

impl Settings {
    /// Nothing said.
    pub fn unset() -> Settings {
        Settings { values: [Unset::UNSET; SETTINGS], places: [const { None }; SETTINGS] }
    }

    fn set(&mut self, setting: Setting, to: ngx_uint_t) {
        if let Some(value) = self.values.get_mut(setting as usize) {
            *value = to;
        }
    }

    fn value(&self, setting: Setting) -> ngx_uint_t {
        self.values.get(setting as usize).copied().unwrap_or(Unset::UNSET)
    }

    /// Notes where the values come from that have just been set.
    pub fn set_place(&mut self, place: Place) {
        let place = Rc::new(place);
        for (value, slot) in self.values.iter().zip(&mut self.places) {
            if *value != Unset::UNSET && slot.is_none() {
                *slot = Some(place.clone());
            }
        }
    }

    fn each(&self) -> impl Iterator<Item = (ngx_uint_t, &Option<Rc<Place>>)> {
        self.values.iter().copied().zip(&self.places)
    }

    /// Takes from the block around this one what this one does not say.
    pub fn inherit(&mut self, outer: &Settings) {
        let own = self.values.iter_mut().zip(&mut self.places);
        for ((value, place), (outer_value, outer_place)) in own.zip(outer.each()) {
            if *value == Unset::UNSET {
                *value = outer_value;
                place.clone_from(outer_place);
            }
        }
    }

    /// Is it said closer to the request than in "http", which gives defaults for all upstreams?
    fn is_own(&self, setting: Setting) -> bool {
        let place = self.places.get(setting as usize).and_then(Option::as_deref);
        place.is_some_and(|place| place.level != Level::Http)
    }

    /// Takes what others who use the same connections say.
    fn agree(&mut self, cf: Conf<'_>, name: &[u8], others: &Settings) -> Result<(), Error> {
        let own = self.values.iter_mut().zip(&mut self.places);
        for ((value, place), (other_value, other_place)) in own.zip(others.each()).take(FIRST_OWN) {
            let (Some(here), Some(there)) = (place.as_deref(), other_place.as_deref()) else {
                if place.is_none() {
                    *value = other_value;
                    place.clone_from(other_place);
                }
                continue;
            };
            // a block's own word counts more than what "http" says for all
            let overruled = here.level == Level::Upstream && there.level == Level::Http;
            if *value != other_value && !overruled {
                cf.log().emerg(format_args!(
                    "\"{}\" in {}:{} and \"{}\" in {}:{} contradict each other: upstream \"{}\" \
                     has one set of connections",
                    here.directive,
                    here.file,
                    here.line,
                    there.directive,
                    there.file,
                    there.line,
                    Printable(name),
                ));
                return Err(Error::Logged);
            }
        }
        Ok(())
    }
}

/// Settings with their defaults, in force for a request.
#[derive(Clone, Copy, Debug)]
pub struct InEffect {
    /// Whose word counts.
    pub reuse: Reuse,
    /// How long a connection may be used.
    pub limits: Limits,
    /// How long it may be idle, in milliseconds.
    pub timeout: ngx_uint_t,
    /// How many may be open to one server, in use or idle; 0 without limit.
    pub max_connections: ngx_uint_t,
    /// How many requests may wait for one server.
    pub queue: ngx_uint_t,
    /// How long one may wait, in milliseconds, where this is not the time to connect.
    pub queue_timeout: Option<ngx_uint_t>,
    /// For how long a server that refuses connections is tried again, in milliseconds.
    pub connect_retry: ngx_uint_t,
}

impl InEffect {
    /// What the upstream's users agreed on, else what this location says: variables may send it
    /// anywhere.
    pub fn of(upstream: &Settings, location: &Settings) -> InEffect {
        let said = |setting: Setting| {
            let is_own = setting as usize >= FIRST_OWN && location.is_own(setting);
            let order = if is_own { [location, upstream] } else { [upstream, location] };
            let mut said = order.iter().map(|settings| settings.value(setting));
            said.find(|value| *value != ngx_uint_t::UNSET)
        };
        let value = |setting: Setting, default: ngx_uint_t| said(setting).unwrap_or(default);
        InEffect {
            reuse: reuse_of(value(Setting::Reuse, Reuse::Auto as ngx_uint_t)),
            limits: Limits {
                idle: value(Setting::Idle, 32),
                requests: value(Setting::Requests, 1000),
                age: value(Setting::Age, 3_600_000),
            },
            timeout: value(Setting::Timeout, 60_000),
            max_connections: value(Setting::MaxConnections, 0),
            queue: value(Setting::Queue, 1024),
            queue_timeout: said(Setting::QueueTimeout).filter(|timeout| *timeout > 0),
            connect_retry: value(Setting::ConnectRetry, 0),
        }
    }
}

fn reuse_of(number: ngx_uint_t) -> Reuse {
    [Reuse::Auto, Reuse::On, Reuse::Puwsgi]
        .into_iter()
        .find(|reuse| *reuse as ngx_uint_t == number)
        .unwrap_or(Reuse::Off)
}

/// Brings together what the users of each upstream say, and wraps its choice of servers. Upstreams
/// that this module cannot come to use are left alone. To be called when all locations are known.
///
/// # Errors
///
/// Settings that contradict each other.
pub fn settle(cf: Conf<'_>) -> Result<(), Error> {
    let users = cf.take_upstream_users();
    for block in cf.upstreams() {
        if !cf.has_variable_addresses() && !users.iter().any(|user| user.upstream == block) {
            continue;
        }
        let mut settings = block.settings().cloned().unwrap_or_else(Settings::unset);
        for user in users.iter().filter(|user| user.upstream == block) {
            settings.agree(cf, block.name(), &user.settings)?;
        }
        cf.hook::<Handler>(block, settings);
    }
    Ok(())
}

/// A location that passes to an upstream.
pub struct User {
    /// The upstream.
    pub upstream: Block,
    /// What the location says.
    pub settings: Settings,
}

/// Notes that a location passes requests on, for [`settle`].
pub fn register(cf: Conf<'_>, conf: &LocConf) {
    if let Some(upstream) = Block::of(&conf.upstream) {
        cf.add_upstream_user(User { upstream, settings: conf.reuse.clone() });
    }
}
