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

/// Splits a path into SCRIPT_NAME and PATH_INFO (PEP 3333; RFC 3875, 4.1.5 and 4.1.13). A path that
/// is not below the mount has no script name.
pub fn split<'a>(mount: &'a [u8], path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match path.strip_prefix(mount) {
        Some(rest @ ([] | [b'/', ..])) => (mount, rest),
        _ => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_is_split_at_the_mount_and_only_there() {
        assert_eq!(split(b"/app", b"/app/x/y"), (&b"/app"[..], &b"/x/y"[..]));
        assert_eq!(split(b"/app", b"/app/"), (&b"/app"[..], &b"/"[..]));
        assert_eq!(split(b"/app", b"/app"), (&b"/app"[..], &b""[..]));
        assert_eq!(split(b"/app", b"/apple"), (&b""[..], &b"/apple"[..]));
        assert_eq!(split(b"/app", b"/"), (&b""[..], &b"/"[..]));
    }
}
