//! The module's variables. `$upstream_…` are nginx's own.

use crate::handler::Connection;
use crate::nginx::conf::{Conf, Error};
use crate::nginx::variables::{self, Getter};
use crate::nginx::Request;

/// Name and value of each.
const VARIABLES: &[(&str, &Getter)] = &[
    ("rs_uwsgi_vars_size", &(vars_size as Getter)),
    ("rs_uwsgi_connection", &(connection as Getter)),
    ("rs_uwsgi_queue_time", &(queue_time as Getter)),
];

/// Defines the variables.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn add(cf: Conf<'_>) -> Result<(), Error> {
    VARIABLES.iter().try_for_each(|(name, getter)| variables::add(cf, name, getter))
}

/// `$rs_uwsgi_vars_size`: the bytes of the vars that were sent, or that were too large for it. None where
/// none were.
fn vars_size(r: Request<'_>) -> Option<String> {
    let context = r.context()?;
    let refused = context.refused_size.get().map(|size| size as usize);
    let sent = || sent(r).map(|_| context.vars_size());
    Some(refused.or_else(sent)?.to_string())
}

/// The connection that something of the request was sent on last. None where nothing was.
fn sent(r: Request<'_>) -> Option<Connection> {
    let context = r.context()?;
    match context.upstream.is_request_begun() {
        // hosts that a resolver has looked up have no pool
        true => context.connection.get().or(Some(Connection::New)),
        false => context.sent.get(),
    }
}

/// `$rs_uwsgi_connection`: `new` or `reused`, the connection that the request was sent on last. None
/// where it was not sent.
fn connection(r: Request<'_>) -> Option<String> {
    Some(match sent(r)? {
        Connection::New => "new".into(),
        Connection::Reused => "reused".into(),
    })
}

/// `$rs_uwsgi_queue_time`: the seconds, with milliseconds, for which the request has waited for
/// connections to servers. None where no server was asked.
fn queue_time(r: Request<'_>) -> Option<String> {
    let context = r.context()?;
    context.connection.get()?;
    let waits = context.waiter.get().map_or(0, |waiter| waiter.time());
    let waited = context.waited.get() + waits;
    Some(format!("{}.{:03}", waited / 1000, waited % 1000))
}
