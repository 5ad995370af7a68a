//! The module's variables. `$upstream_…` are nginx's own.

use crate::ffi::conf::{Conf, Error};
use crate::ffi::variables::{self, Getter};
use crate::ffi::Request;
use crate::uwsgi::packet::HEADER_SIZE;

/// Name and value of each.
const VARIABLES: &[(&str, &Getter)] = &[("rs_uwsgi_vars_size", &(vars_size as Getter))];

/// Defines the variables.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn add(cf: Conf<'_>) -> Result<(), Error> {
    VARIABLES.iter().try_for_each(|(name, getter)| variables::add(cf, name, getter))
}

/// `$rs_uwsgi_vars_size`: the bytes of the vars that were sent. None where none were.
fn vars_size(r: Request<'_>) -> Option<String> {
    let packet = r.context()?.packet.get().len();
    Some(packet.checked_sub(HEADER_SIZE)?.to_string())
}
