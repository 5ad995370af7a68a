//! What has happened to connections and requests, said once: it is counted, and the log's lines are written
//! from it.

use super::count;
pub use super::event::Event;

use super::queue::QueuedStats;
use crate::module::Servers;
use crate::nginx;
use crate::nginx::connection::Lost;
use crate::nginx::log::{Log, Printable};
use crate::pure::health::State;
use crate::pure::hints::{self, Hint};
use crate::pure::limit::News;
use crate::pure::line::DEFAULT_PRIORITY;
use crate::pure::overload::Expected;
use crate::pure::pool::policy::Refusal;
use crate::pure::vars_limit::{BUFFER_SIZE, MAX_VARS};
use crate::pure::zone::SlotId;

const ADVICE: &str = "give the server more workers if they wait too long";

/// Counts what has happened for the server that has this `slot`, and tells the log of it, as far as it is time
/// for that: advice comes once a minute, a line that many requests would have once a second with a count.
#[inline(always)]
pub fn observe(servers: &Servers, slot: Option<SlotId>, log: Log<'_>, event: Event<'_>) {
    match event {
        // every request comes by these
        Event::Taken { idle, started_at } => {
            if log.has_debug() {
                tell_taken(log, idle.descriptor(), idle.requests(), started_at);
            }
        }
        Event::Parked { idle } => {
            if log.has_debug() {
                tell_parked(log, idle.descriptor(), idle.requests());
            }
        }
        Event::Over { tried } => count::tried(slot, tried),
        Event::Closed { descriptor, refusal, is_news } => {
            count::closed(slot, refusal);
            if log.has_debug() || is_news {
                tell_closed(log, descriptor, refusal, is_news);
            }
        }
        _ => observe_rare(servers, slot, log, &event),
    }
}

// by values: references would keep them in memory for every request
#[cold]
fn tell_taken(log: Log<'_>, descriptor: i32, requests: usize, started_at: usize) {
    let since = nginx::now().wrapping_sub(started_at);
    log.debug(format_args!(
        "http rs_uwsgi take connection, fd:{descriptor}, {requests} requests, the last one {since} ms ago"
    ));
}

#[cold]
fn tell_parked(log: Log<'_>, descriptor: i32, requests: usize) {
    log.debug(format_args!("http rs_uwsgi park connection, fd:{descriptor}, {requests} requests"));
}

#[cold]
fn tell_closed(log: Log<'_>, descriptor: i32, refusal: Refusal, is_news: bool) {
    log.debug(format_args!("http rs_uwsgi close connection, fd:{descriptor}: {refusal}"));
    if is_news {
        log.warn(format_args!("upstream sent data after its response"));
    }
}

#[inline(never)]
fn observe_rare(servers: &Servers, slot: Option<SlotId>, log: Log<'_>, event: &Event<'_>) {
    count::rare(slot, event);
    write(servers, log, event);
}

fn write(servers: &Servers, log: Log<'_>, event: &Event<'_>) {
    let (hints, now) = (&servers.queue.hints, nginx::now());
    match *event {
        Event::Taken { .. } | Event::Parked { .. } | Event::Over { .. } | Event::Closed { .. } => {}
        Event::Waited { .. } | Event::ListenQueueFull => {}
        Event::Lost { idle, why: Lost::Data } if !idle.is_tls() => log.warn(format_args!(
            "upstream sent data that was not asked for on an idle connection to \"{}\", it is closed",
            Printable(&servers.name)
        )),
        Event::Lost { idle, why } => log.debug(format_args!(
            "http rs_uwsgi close idle connection, fd:{}: {why}",
            idle.descriptor()
        )),
        Event::Queued { name, cause, before } => {
            log.debug(format_args!(
                "http rs_uwsgi wait for a connection to {}: {cause:?}, {before} before",
                Printable(name)
            ));
            if let Some(all) = nginx::scarce_connections() {
                // what nginx does then, it tells of at level warn
                if hints.take_due(Hint::Connections, now) {
                    log.error(format_args!(
                        "{all} \"worker_connections\" are nearly used up while requests wait for \"{}\", \
                         each of which takes two: nginx resets clients when none is left",
                        Printable(name),
                    ));
                }
            }
        }
        Event::Refused { name, errno, connect_retry } => {
            if hints.take_due(Hint::Refused, now) {
                log.warn_of(
                    errno.0,
                    format_args!(
                        "\"{}\" refuses connections, requests wait for it for up to {connect_retry} ms \
                         as \"rs_uwsgi_connect_retry\" says",
                        Printable(name),
                    ),
                );
            }
        }
        Event::WaitsLong { name, waiting, time } => {
            if hints.take_due(Hint::Waiting, now) {
                log.warn(format_args!(
                    "listen queue of \"{}\" is full: {waiting} requests wait for a connection, the \
                     first of them for {time} ms; {ADVICE}",
                    Printable(name),
                ));
            }
        }
        Event::QueueEmpty { name } => {
            let name = Printable(name);
            let refused = hints.queue_full.take(now);
            if refused > 0 {
                log.error(format_args!(
                    "queue for \"{name}\" was full: {refused} more requests refused"
                ));
            }
            let timeouts = hints.queue_timeouts.take(now);
            if timeouts > 0 {
                log.error(format_args!(
                    "timed out in the queue for a connection to \"{name}\": {timeouts} more requests"
                ));
            }
            let QueuedStats { count, longest } = servers.queue.stats.get();
            if count > 0 && hints.take_due(Hint::ListenQueue, now) {
                servers.queue.stats.take();
                log.warn(format_args!(
                    "listen queue of \"{name}\" was full: {count} requests waited for a connection, up \
                     to {longest} ms; {ADVICE}",
                ));
            }
        }
        Event::QueueFull { name, waiting, why } => {
            if let Some(count) = hints.queue_full.add(now) {
                log.error(format_args!(
                    "queue for \"{}\" is full: {waiting} requests wait for a connection, {count} \
                     refused: {why}",
                    Printable(name),
                ));
            }
        }
        Event::QueueTimeout { name, time, why } => {
            if let Some(count) = hints.queue_timeouts.add(now) {
                log.error(format_args!(
                    "timed out after {time} ms in the queue for a connection to \"{}\", {count} \
                     requests so: {why}",
                    Printable(name),
                ));
            }
        }
        Event::WaitTooLong { name, expected: Expected { before, rate, wait }, limit } => {
            if let Some(count) = hints.wait_too_long.add(now) {
                log.error(format_args!(
                    "queue for \"{}\" is too long: {before} requests wait for a connection, of which \
                     {}.{:02} a second get one, so that one more would wait for {wait} ms of {limit} ms: \
                     {count} refused",
                    Printable(name),
                    rate / 100,
                    rate % 100,
                ));
            }
        }
        Event::NewestFirst { name, waited } => log.info(format_args!(
            "clients leave the queue for \"{}\", the last one after {waited} ms: the newest requests are \
             served first",
            Printable(name),
        )),
        Event::LimitFound { name, news: News { before, now } } => {
            let before = before.map_or("no limit".into(), |before| before.to_string());
            log.info(format_args!(
                "limit of connections to \"{}\" is {now} after {before}: it has no use for more at once",
                Printable(name),
            ));
        }
        Event::NoPriority { value } => {
            if hints.take_due(Hint::Priority, now) {
                log.warn(format_args!(
                    "\"rs_uwsgi_priority\" evaluates to \"{}\", which is no number from 0 to 9: \
                     {DEFAULT_PRIORITY} is taken",
                    Printable(value),
                ));
            }
        }
        Event::WorkedInVain { name } => log.debug(format_args!(
            "http rs_uwsgi client has left while {} works on its request",
            Printable(name)
        )),
        Event::ZoneFull { name } => {
            if hints.take_due(Hint::ZoneFull, now) {
                log.warn(format_args!(
                    "rs_uwsgi zone has no room for \"{}\", its limits are each worker's: raise \
                     \"rs_uwsgi_zone\"",
                    Printable(name),
                ));
            }
        }
        Event::Health { name, change, reason } => {
            let (name, upstream) = (Printable(name), Printable(&servers.name));
            let (from, run) = (change.from.name(), change.run);
            let lasted = change.lasted.map_or_else(String::new, |time| {
                format!(", it was {from} for {}.{:03} s", time / 1000, time % 1000)
            });
            match (change.to, reason) {
                (State::Down, Some(reason)) => log.warn(format_args!(
                    "server \"{name}\" of \"{upstream}\" is down after {run} failures: \
                     {reason}{lasted}"
                )),
                (State::Down, None) => log.warn(format_args!(
                    "server \"{name}\" of \"{upstream}\" is down after {run} failures: \
                     it does not answer requests{lasted}"
                )),
                _ => log.notice(format_args!(
                    "server \"{name}\" of \"{upstream}\" is up after {run} probes{lasted}"
                )),
            }
        }
        Event::MovedOn { name, count } => log.notice(format_args!(
            "{count} requests that \"{}\" has not answered go to another server",
            Printable(name),
        )),
        Event::NoPong { name } => {
            if hints.take_due(Hint::NoPong, now) {
                log.warn(format_args!(
                    "\"{}\" closes the connection on a ping, which tells only that it can be reached: \
                     let uWSGI load its plugin \"ping\", or check with \"uri\"",
                    Printable(name),
                ));
            }
        }
        Event::ConnectFailed { name, errno, is_file } => {
            let write = match errno.0 {
                libc::ECONNREFUSED
                | libc::EAGAIN
                | libc::ECONNRESET
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH => Log::error_of,
                _ => Log::crit_of,
            };
            write(log, errno.0, format_args!("connect() to {} failed", Printable(name)));
            if errno.0 == libc::EACCES && is_file && hints.take_due(Hint::Permission, now) {
                let path = name.strip_prefix(b"unix:").unwrap_or(name);
                log.error(format_args!("{}", hints::permission(path, &nginx::user())));
            }
        }
        Event::NotUnderstood { name } => {
            if hints.take_due(Hint::Http, now) {
                log.error(format_args!(
                    "\"{}\" has understood no request yet: if it speaks HTTP, use \"proxy_pass\", or \
                     let it speak uwsgi (uWSGI's \"socket\", gunicorn's \"--protocol uwsgi\")",
                    Printable(name),
                ));
            }
        }
        Event::VarsRefused { name, size } => log.error(format_args!(
            "\"{}\" has refused {size} bytes of vars: raise its \"buffer-size\", which is \
             {BUFFER_SIZE} unless configured",
            Printable(name),
        )),
        Event::KnownTooLarge { name, size } => {
            if let Some(count) = hints.too_large.add(now) {
                log.error(format_args!(
                    "\"{}\" is known to refuse {size} bytes of vars, {count} requests so: raise its \
                     \"buffer-size\", which is {BUFFER_SIZE} unless configured",
                    Printable(name),
                ));
            }
        }
        Event::RequestAtFault { name, vars, size } => log.error(format_args!(
            "\"{}\" has closed the connection on {vars} vars of {size} bytes: uWSGI takes no more than \
             its \"max-vars\" and \"buffer-size\", which are {MAX_VARS} and {BUFFER_SIZE} unless \
             configured",
            Printable(name),
        )),
    }
}
