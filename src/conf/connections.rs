//! The settings of connections: how many, for how long, whose word counts (`rs_uwsgi_keepalive…`,
//! `rs_uwsgi_reuse`, `rs_uwsgi_max_connections`), and how requests wait for one (`rs_uwsgi_queue`,
//! `rs_uwsgi_connect_retry`).
//!
//! Locations share the connections to a server, and with them most of these settings: what an
//! `upstream` block says and what the locations say that pass to it must agree. `http` gives
//! defaults, which a block overrules. How long requests wait, each location may say for its own.
//!
//! A new setting is one row of [`settings!`], and one of the table of directives.

pub mod stats;

use std::rc::Rc;

use super::{health, LocConf};
use crate::module::{UpstreamRef, Uwsgi};
use crate::nginx::block::Block;
use crate::nginx::conf::{self, one_of, Conf, ConfPosition, Error, Level, A_NUMBER, A_TIME};
use crate::nginx::log::Printable;
use crate::pure::limit::MaxConnections;
use crate::pure::line::Order;
use crate::pure::pool::policy::{Limits, Reuse};

/// A row for each setting: who says it, its type and its default.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $scope:ident $type:ty = $default:expr;)*) => {
        /// What one block says, or inherits.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[$doc])* pub $name: Said<$type>,)*
            /// `rs_uwsgi_health_check`.
            pub health: Option<Rc<health::SaidCheck>>,
        }

        impl Settings {
            /// Nothing said.
            pub fn unset() -> Settings {
                Settings { $($name: Said::NOTHING,)* health: None }
            }

            /// Takes from the block around this one what this one does not say.
            pub fn inherit(&mut self, outer: &Settings) {
                $(self.$name.inherit(&outer.$name);)*
                self.health = self.health.take().or_else(|| outer.health.clone());
            }

            /// Takes what others who use the same connections say.
            fn merge_shared(&mut self, cf: Conf<'_>, name: &[u8], others: &Settings) -> Result<(), Error> {
                $($scope::merge(cf, name, &mut self.$name, &others.$name)?;)*
                health::merge(cf, name, &mut self.health, &others.health)?;
                Ok(())
            }
        }

        /// Settings with their defaults, in force for a try.
        #[derive(Clone, Copy, Debug)]
        pub struct EffectiveSettings {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl EffectiveSettings {
            /// Nothing is said.
            pub const DEFAULT: EffectiveSettings = EffectiveSettings { $($name: $default,)* };

            /// What the upstream's users agreed on, else what this location says: variables may send it
            /// anywhere. What each location says for its own, the other way round.
            pub fn of(upstream: &Settings, location: &Settings) -> EffectiveSettings {
                EffectiveSettings {
                    $($name: $scope::choose(&upstream.$name, &location.$name).unwrap_or($default),)*
                }
            }
        }

    };
}

settings! {
    /// `rs_uwsgi_keepalive`: idle connections of a worker to one server.
    idle: shared usize = 32;
    /// `rs_uwsgi_keepalive_timeout`: how long one may be idle, in milliseconds.
    timeout: shared usize = 60_000;
    /// `rs_uwsgi_keepalive_requests`: how many requests one may carry.
    requests: shared usize = 1000;
    /// `rs_uwsgi_keepalive_time`: how old one may get, in milliseconds.
    age: shared usize = 3_600_000;
    /// `rs_uwsgi_reuse`: whose word counts.
    reuse: shared Reuse = Reuse::Auto;
    /// `rs_uwsgi_max_connections`: open to one server from all workers, in use or idle.
    max_connections: shared MaxConnections = MaxConnections::Unsaid;
    /// `rs_uwsgi_slow_start`: for how long the share of a server grows that was down, in milliseconds.
    slow_start: shared usize = 0;
    /// `rs_uwsgi_queue`: how many requests of all workers may wait for one server.
    queue: own usize = 1024;
    /// `rs_uwsgi_queue … timeout=`: how long one may wait, in milliseconds; None: as long as connecting
    /// may take.
    queue_timeout: own Option<usize> = None;
    /// `rs_uwsgi_queue … order=`: who of them is served first.
    order: shared Order = Order::Fair;
    /// `rs_uwsgi_connect_retry`: for how long a server that refuses connections is tried again, in
    /// milliseconds.
    connect_retry: own usize = 0;
    /// `rs_uwsgi_stats`: the number of the address of uWSGI's stats server.
    stats: shared Option<usize> = None;
}

impl EffectiveSettings {
    /// How long a connection may be used.
    pub fn limits(&self) -> Limits {
        Limits { idle: self.idle, requests: self.requests, age: self.age }
    }
}

/// A setting as a block says or inherits it.
#[derive(Clone, Debug)]
pub struct Said<T> {
    value: Option<T>,
    position: Option<Rc<ConfPosition>>,
}

impl<T: Copy + PartialEq> Said<T> {
    const NOTHING: Said<T> = Said { value: None, position: None };

    /// What is said, if anything.
    pub fn value(&self) -> Option<T> {
        self.value
    }

    fn inherit(&mut self, outer: &Said<T>) {
        if self.value.is_none() {
            self.clone_from(outer);
        }
    }

    fn set(&mut self, value: T, position: &Rc<ConfPosition>) {
        *self = Said { value: Some(value), position: Some(Rc::clone(position)) };
    }

    /// # Errors
    ///
    /// A second directive in the same block.
    fn check_unset(&self) -> Result<(), Error> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(Error::Directive("is duplicate".into())),
        }
    }
}

/// Settings that the users of an upstream share.
mod shared {
    use super::*;

    pub fn choose<T: Copy>(upstream: &Said<T>, location: &Said<T>) -> Option<T> {
        upstream.value.or(location.value)
    }

    pub fn merge<T: Copy + PartialEq>(
        cf: Conf<'_>,
        name: &[u8],
        own: &mut Said<T>,
        other: &Said<T>,
    ) -> Result<(), Error> {
        let (Some(here), Some(there)) = (own.position.as_deref(), other.position.as_deref()) else {
            own.inherit(other);
            return Ok(());
        };
        // a block's own word counts more than what "http" says for all
        let is_overruled = here.level == Level::Upstream && there.level == Level::Http;
        if own.value == other.value || is_overruled {
            return Ok(());
        }
        let name = Printable(name);
        Err(cf.contradiction(
            here,
            there,
            format_args!("upstream \"{name}\" has one set of connections"),
        ))
    }
}

/// Settings that each location may say for its own.
mod own {
    use super::*;

    pub fn choose<T: Copy>(upstream: &Said<T>, location: &Said<T>) -> Option<T> {
        // closer to the request than "http", which gives defaults for all upstreams
        let position = location.position.as_deref();
        match position.is_some_and(|position| position.level != Level::Http) {
            true => location.value.or(upstream.value),
            false => upstream.value.or(location.value),
        }
    }

    pub fn merge<T>(_: Conf<'_>, _: &[u8], _: &mut Said<T>, _: &Said<T>) -> Result<(), Error> {
        Ok(())
    }
}

/// A directive with a number. The words of the errors of this setter and its kin are those of nginx's own
/// (`ngx_conf_set_num_slot` …).
///
/// # Errors
///
/// Where it was said before, or is nothing that the directive takes.
pub fn set_number(cf: Conf<'_>, said: &mut Said<usize>) -> Result<(), Error> {
    said.check_unset()?;
    said.set(number(cf)?, &Rc::new(cf.position()));
    Ok(())
}

/// A directive with a time, kept in milliseconds.
///
/// # Errors
///
/// As of [`set_number`].
pub fn set_time(cf: Conf<'_>, said: &mut Said<usize>) -> Result<(), Error> {
    said.check_unset()?;
    let time = conf::parse_milliseconds(cf.arg(1))
        .ok_or_else(|| invalid("value", cf.quoted_values(), A_TIME))?;
    said.set(time, &Rc::new(cf.position()));
    Ok(())
}

/// The directive `rs_uwsgi_queue`: a number, and after it a time (`timeout=10s`), or none, which is said
/// thereby, and an order (`order=newest`).
///
/// # Errors
///
/// As of [`set_number`].
pub fn set_queue(
    cf: Conf<'_>,
    said: &mut Said<usize>,
    timeout: &mut Said<Option<usize>>,
    order: &mut Said<Order>,
) -> Result<(), Error> {
    said.check_unset()?;
    let number = number(cf)?;
    let (mut time, mut word) = (None, None);
    for parameter in cf.words().skip(2) {
        if let (Some(value), None) = (parameter.strip_prefix(b"timeout="), time) {
            let parsed = conf::parse_milliseconds(value);
            time = Some(parsed.ok_or_else(|| invalid("value", quoted(parameter), A_TIME))?);
        } else if let (Some(value), None) = (parameter.strip_prefix(b"order="), word) {
            let wrong = || invalid("value", quoted(parameter), &one_of(names_of(ORDER)));
            word = Some(find(ORDER, value).ok_or_else(wrong)?);
        } else {
            return Err(invalid("parameter", quoted(parameter), QUEUE_PARAMETERS));
        }
    }
    let position = Rc::new(cf.position());
    said.set(number, &position);
    timeout.set(time.filter(|time| *time > 0), &position);
    if let Some(word) = word {
        order.set(word, &position);
    }
    Ok(())
}

/// The words that a directive takes, and what they mean.
pub type Words<T> = &'static [(&'static str, T)];

/// The words of `rs_uwsgi_reuse`.
pub const REUSE: Words<Reuse> =
    &[("auto", Reuse::Auto), ("on", Reuse::On), ("off", Reuse::Off), ("puwsgi", Reuse::Puwsgi)];

/// The words of `rs_uwsgi_queue … order=`.
const ORDER: Words<Order> =
    &[("fair", Order::Fair), ("arrival", Order::Arrival), ("newest", Order::Newest)];

fn names_of<T>(words: Words<T>) -> impl Iterator<Item = &'static [u8]> {
    words.iter().map(|(name, _)| name.as_bytes())
}

fn find<T: Copy>(words: Words<T>, word: &[u8]) -> Option<T> {
    let found = words.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value)
}

/// A directive with one of several words.
///
/// # Errors
///
/// As of [`set_number`].
pub fn set_word<T: Copy + PartialEq>(
    cf: Conf<'_>,
    said: &mut Said<T>,
    words: Words<T>,
) -> Result<(), Error> {
    said.check_unset()?;
    let value = find(words, cf.arg(1))
        .ok_or_else(|| invalid("value", cf.quoted_values(), &one_of(names_of(words))))?;
    said.set(value, &Rc::new(cf.position()));
    Ok(())
}

/// The directive `rs_uwsgi_max_connections NUMBER | auto | auto:MIN-MAX`.
///
/// # Errors
///
/// As of [`set_number`].
pub fn set_max_connections(cf: Conf<'_>, said: &mut Said<MaxConnections>) -> Result<(), Error> {
    said.check_unset()?;
    let number = |digits: &[u8]| conf::parse_number(digits).map(|number| number as u64);
    let max = MaxConnections::parse(cf.arg(1), number)
        .ok_or_else(|| invalid("value", quoted(cf.arg(1)), A_LIMIT))?;
    said.set(max, &Rc::new(cf.position()));
    Ok(())
}

const A_LIMIT: &str =
    "it must be a number, \"auto\", or \"auto:\" with the least, which is not 0, and the \
                       most, as \"auto:4-64\"";

fn number(cf: Conf<'_>) -> Result<usize, Error> {
    conf::parse_number(cf.arg(1)).ok_or_else(|| invalid("number", quoted(cf.arg(1)), A_NUMBER))
}

const QUEUE_PARAMETERS: &str =
    "it must be \"timeout=\" with a time or \"order=\" with a word, each once";

/// What the directive does not take, and what it takes.
fn invalid(what: &str, value: String, expected: &str) -> Error {
    Error::Directive(format!("invalid {what} {value}, {expected}").into())
}

fn quoted(value: &[u8]) -> String {
    format!("\"{}\"", Printable(value))
}

/// What tells the servers of an upstream apart in the pool, in the queue and in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyedBy {
    /// Their addresses, for one location at least.
    Address,
    /// What is verified and shown with TLS besides, which a request may choose.
    TlsIdentity,
}

/// Brings together what the users of each upstream say, and gives it to `hook`. Upstreams that this module
/// cannot come to use are left alone. To be called when all locations are known.
///
/// # Errors
///
/// Settings that contradict each other.
pub fn merge_users(
    cf: Conf<'_>,
    mut hook: impl FnMut(Block, Settings, KeyedBy),
) -> Result<(), Error> {
    let users = cf.take_upstream_refs::<Uwsgi>();
    let connections = cf.connections_of_all_workers();
    let (mut told, mut named) = (Vec::new(), cf.take_named_targets::<Uwsgi>());
    for block in cf.upstreams::<Uwsgi>() {
        let is_used = users.iter().any(|user| user.upstream == block);
        if !is_used && !cf.has_variable_addresses::<Uwsgi>() {
            continue;
        }
        let mut settings = block.settings::<Uwsgi>().cloned().unwrap_or_else(Settings::unset);
        for user in users.iter().filter(|user| user.upstream == block) {
            settings.merge_shared(cf, &block.shown_name(), &user.settings)?;
            warn_of_queue(cf, &user.settings.queue, connections, &mut told);
        }
        stats::merge(cf, &block.shown_name(), &mut settings.stats, &mut named)?;
        let mut of_block = users.iter().filter(|user| user.upstream == block);
        warn_of_queue(cf, &settings.queue, connections, &mut told);
        health::choose_tls(cf, &block.shown_name(), &mut settings.health, of_block.clone())?;
        let keyed_by = match of_block.any(|user| user.tls == Ok(None)) {
            true => KeyedBy::Address,
            false => KeyedBy::TlsIdentity,
        };
        hook(block, settings, keyed_by);
    }
    named.first().map_or(Ok(()), |target| Err(stats::unknown(cf, target)))
}

/// Tells of a queue that could never be full, because nginx would run out of connections before: a request that
/// waits has its client's and one of its own. Once for each directive.
fn warn_of_queue(
    cf: Conf<'_>,
    queue: &Said<usize>,
    connections: Option<usize>,
    told: &mut Vec<Rc<ConfPosition>>,
) {
    let (Some(number), Some(position), Some(connections)) =
        (queue.value, &queue.position, connections)
    else {
        return;
    };
    if number <= connections / 2 || told.iter().any(|other| Rc::ptr_eq(other, position)) {
        return;
    }
    cf.log().warn(format_args!(
        "\"{}\" in {}:{} allows more requests to wait than there are connections for: each needs two, and \
         \"worker_connections\" of all workers are {connections}",
        position.directive, position.file, position.line,
    ));
    told.push(Rc::clone(position));
}

/// Notes that a location passes requests on, for [`merge_users`].
pub fn register(cf: Conf<'_>, conf: &LocConf) {
    if let Some(upstream) = Block::of(&conf.upstream) {
        cf.add_upstream_ref::<Uwsgi>(UpstreamRef {
            upstream,
            settings: conf.connections.clone(),
            tls: conf.tls_client(),
        });
    }
}
