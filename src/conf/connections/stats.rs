//! `rs_uwsgi_stats`: uWSGI's stats server of the servers of an upstream.

use std::rc::Rc;

use super::{shared, Said};
use crate::module::Uwsgi;
use crate::nginx::conf::{Conf, Error, Level};
use crate::nginx::fetch::NamedTarget;
use crate::nginx::log::Printable;

/// The directive `rs_uwsgi_stats ADDRESS [NAME]`: with a name, for the upstream of that name wherever it stands.
///
/// # Errors
///
/// A second one; an address that is none; no name in "http".
pub fn set(cf: Conf<'_>, said: &mut Said<Option<usize>>) -> Result<(), Error> {
    let (name, position) = (cf.arg(2), Rc::new(cf.position()));
    if !name.is_empty() {
        let number = cf.add_target::<Uwsgi>(cf.arg(1))?;
        cf.name_target::<Uwsgi>(NamedTarget { name: name.into(), number, position });
        return Ok(());
    }
    if position.level == Level::Http {
        return Err(Error::Directive("needs the name of an upstream in \"http\"".into()));
    }
    said.check_unset()?;
    said.set(Some(cf.add_target::<Uwsgi>(cf.arg(1))?), &position);
    Ok(())
}

/// What `rs_uwsgi_stats` says of the upstream with this name.
///
/// # Errors
///
/// It contradicts what is said elsewhere.
pub(super) fn merge(
    cf: Conf<'_>,
    name: &[u8],
    stats: &mut Said<Option<usize>>,
    named: &mut Vec<NamedTarget>,
) -> Result<(), Error> {
    let (own, others): (Vec<_>, _) =
        std::mem::take(named).into_iter().partition(|target| *target.name == *name);
    *named = others;
    own.into_iter().try_for_each(|NamedTarget { number, position, .. }| {
        let said = Said { value: Some(Some(number)), position: Some(position) };
        shared::merge(cf, name, stats, &said)
    })
}

/// A name that is no upstream's, or one's that no `rs_uwsgi_pass` comes to.
pub(super) fn unknown(cf: Conf<'_>, NamedTarget { name, position, .. }: &NamedTarget) -> Error {
    cf.error(format_args!(
        "\"{}\" in {}:{}: no \"rs_uwsgi_pass\" passes to an upstream \"{}\"",
        position.directive,
        position.file,
        position.line,
        Printable(name),
    ))
}
