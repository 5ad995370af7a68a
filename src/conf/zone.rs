//! `rs_uwsgi_zone`: the memory that all workers share.

use super::LocConf;
use crate::module::Uwsgi;
use crate::nginx::conf::{parse_size, Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::zone::Size;

/// The directive `rs_uwsgi_zone SIZE | off`.
///
/// # Errors
///
/// A second one, or a size that is none. Whether it is large enough is known at the end of the
/// configuration.
pub fn set(cf: Conf<'_>, _: &mut LocConf) -> Result<(), Error> {
    let value = cf.arg(1);
    let size = match value {
        b"off" => Size::Off,
        _ => Size::Bytes(parse_size(value).filter(|size| *size > 0).ok_or_else(|| {
            cf.error(format_args!(
                "invalid value \"{}\" in \"rs_uwsgi_zone\" directive, it must be \"off\" or a size \
                 such as \"1m\"",
                Printable(value)
            ))
        })?),
    };
    cf.set_zone_size::<Uwsgi>(size)
}
