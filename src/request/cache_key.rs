//! The key under which a response is cached.

use crate::conf::LocConf;
use crate::nginx::{Error, Request};

/// Gives nginx the request's key.
///
/// # Errors
///
/// [`Error::Failed`] where it cannot be evaluated. Without a key all requests share one, as in stock,
/// which warned about it.
pub fn create(r: Request<'_>) -> Result<(), Error> {
    let key = match LocConf::of(r).cache_key {
        Some(key) => key.evaluate(r).ok_or(Error::Failed)?,
        None => b"",
    };
    r.push_cache_key(key)
}
