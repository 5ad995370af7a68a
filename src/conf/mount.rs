//! `rs_uwsgi_mount`: several applications under one site, for servers without modifier1 30.

use std::rc::Rc;

use crate::nginx::conf::{Conf, Error};
use crate::nginx::log::Printable;

/// The directive `rs_uwsgi_mount /prefix`.
///
/// # Errors
///
/// A prefix that does not begin with a slash, or is nothing else.
pub fn set(cf: Conf<'_>, mount: &mut Option<Rc<[u8]>>) -> Result<(), Error> {
    if mount.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    let prefix = value.strip_suffix(b"/").unwrap_or(value);
    if prefix.len() < 2 || !prefix.starts_with(b"/") || cf.variables_in(prefix) > 0 {
        return Err(cf.error(format_args!(
            "invalid value \"{}\" in \"rs_uwsgi_mount\" directive, it must be a path such as \"/app\"",
            Printable(value)
        )));
    }
    *mount = Some(prefix.into());
    Ok(())
}
