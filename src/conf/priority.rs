//! `rs_uwsgi_priority`: which of those who wait matter more.

use crate::nginx::conf::{Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::value::ComplexValue;

/// A priority as configured.
#[derive(Clone, Copy, Debug)]
pub enum Priority {
    /// 0 to 9.
    Fixed(u8),
    /// Known only with the request.
    Variable(ComplexValue),
}

/// A number from 0 to 9.
pub fn parse(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// The directive `rs_uwsgi_priority NUMBER | VARIABLE`.
///
/// # Errors
///
/// A second one, or no number from 0 to 9.
pub fn set(cf: Conf<'_>, priority: &mut Option<Priority>) -> Result<(), Error> {
    if priority.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    *priority = Some(if cf.variables_in(value) > 0 {
        Priority::Variable(ComplexValue::compile(cf, value)?)
    } else {
        Priority::Fixed(parse(value).ok_or_else(|| {
            cf.error(format_args!(
                "invalid value \"{}\" in \"rs_uwsgi_priority\" directive, it must be a number from 0 to \
                 9, or a variable",
                Printable(value)
            ))
        })?)
    });
    Ok(())
}
