//! `rs_uwsgi_status`, and `rs_uwsgi_status_zone`.

use super::LocConf;
use crate::module::Uwsgi;
use crate::nginx::answer::StatusZones;
use crate::nginx::conf::{Conf, Error};
use crate::nginx::value::ComplexValue;

/// What is wrong with a location that has both.
pub const BOTH: &str = "\"rs_uwsgi_status\" and \"rs_uwsgi_pass\" are in one location";

/// The directive `rs_uwsgi_status`.
///
/// # Errors
///
/// A second one, or `rs_uwsgi_pass`, in the same location.
pub fn set(cf: Conf<'_>, conf: &mut LocConf) -> Result<(), Error> {
    if conf.is_status {
        return Err(Error::Directive("is duplicate".into()));
    }
    if conf.passes() {
        return Err(cf.error(format_args!("{BOTH}")));
    }
    conf.is_status = true;
    cf.set_answer_handler::<Uwsgi>();
    cf.set_auto_redirect();
    Ok(())
}

/// Has requests looked at when they are over, where that may have a use. Returns how many places in the zone
/// are needed beside those of so many servers: for upstreams, and names.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn finish(cf: Conf<'_>, servers: usize) -> Result<usize, Error> {
    let StatusZones { names, has_variables } = cf.status_zones::<Uwsgi>();
    if servers == 0 && names == 0 {
        return Ok(0);
    }
    cf.watch_requests::<Uwsgi>()?;
    // an upstream has a server at least
    Ok(servers + if has_variables { MOST_ZONES + 1 } else { names.min(MOST_ZONES + 1) })
}

/// So many names are counted by themselves, all others together.
pub const MOST_ZONES: usize = 128;

/// The directive `rs_uwsgi_status_zone NAME`.
///
/// # Errors
///
/// A second one, or variables that are none.
pub fn set_zone(cf: Conf<'_>, zone: &mut Option<ComplexValue>) -> Result<(), Error> {
    if zone.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    if value.is_empty() {
        return Err(Error::Directive("has an empty name".into()));
    }
    *zone = Some(ComplexValue::compile(cf, value)?);
    cf.count_status_zone::<Uwsgi>(cf.variables_in(value) > 0);
    Ok(())
}
