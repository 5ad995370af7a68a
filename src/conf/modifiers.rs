//! `rs_uwsgi_modifier1` and `rs_uwsgi_modifier2`: what kind of request it is to the server.

use crate::nginx::conf::{Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::value::ComplexValue;
use crate::nginx::Request;
use crate::pure::uwsgi::names::{is_control_modifier, parse_modifier};

/// A modifier as configured.
#[derive(Clone, Copy, Debug)]
pub enum Modifier {
    /// A number, or a name that stands for one.
    Fixed(u8),
    /// Known only with the request.
    Variable(ComplexValue),
}

/// The directives `rs_uwsgi_modifier1` and `rs_uwsgi_modifier2 NUMBER | NAME | VARIABLE`.
///
/// # Errors
///
/// Neither a number up to 255 nor a known name.
pub fn set(cf: Conf<'_>, modifier: &mut Option<Modifier>) -> Result<(), Error> {
    if modifier.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    *modifier = Some(if cf.variables_in(value) > 0 {
        Modifier::Variable(ComplexValue::compile(cf, value)?)
    } else {
        Modifier::Fixed(parse_modifier(value).ok_or_else(|| {
            cf.error(format_args!(
                "invalid value \"{}\" in \"{}\" directive, it must be a number from 0 to 255, a name \
                 such as \"wsgi\" or \"php\", or a variable",
                Printable(value),
                Printable(cf.arg(0)),
            ))
        })?)
    });
    Ok(())
}

impl Modifier {
    /// The modifier of a request. None, with a line in the log, where a variable yields none, or one
    /// that runs code in the server or controls it: no client may choose such.
    #[inline]
    pub fn evaluate(modifier: Option<Self>, directive: &str, r: Request<'_>) -> Option<u8> {
        match modifier {
            None => Some(0),
            Some(Modifier::Fixed(number)) => Some(number),
            Some(Modifier::Variable(value)) => from_variable(value, directive, r),
        }
    }
}

#[cold]
fn from_variable(value: ComplexValue, directive: &str, r: Request<'_>) -> Option<u8> {
    let value = value.evaluate(r)?;
    match parse_modifier(value) {
        Some(number) if is_control_modifier(number) => {
            r.log().error(format_args!(
                "\"{directive}\" evaluates to the control modifier \"{}\", which must not come \
                     from a variable",
                Printable(value)
            ));
            None
        }
        None => {
            r.log().error(format_args!(
                "\"{directive}\" evaluates to \"{}\", which is neither a number from 0 to 255 nor \
                     the name of a modifier",
                Printable(value)
            ));
            None
        }
        number => number,
    }
}
