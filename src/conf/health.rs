//! `rs_uwsgi_health_check`: what is asked of servers ([`crate::pure::health::check`]), and who says it.

use std::rc::Rc;

use super::LocConf;
use crate::module::UpstreamRef;
use crate::nginx::conf::{parse_milliseconds, Conf, ConfPosition, Error};
use crate::nginx::log::Printable;
use crate::pure::health::{Check, Kind};

/// A check, and where it is said.
#[derive(Debug)]
pub struct SaidCheck {
    /// The check.
    pub check: Rc<Check>,
    position: ConfPosition,
}

/// The directive `rs_uwsgi_health_check …`.
///
/// # Errors
///
/// A second one in the same block; a parameter that is none.
pub fn set(cf: Conf<'_>, said: &mut Option<Rc<SaidCheck>>) -> Result<(), Error> {
    if said.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let words = cf.words().skip(1);
    if let Some(word) = words.clone().find(|word| cf.variables_in(word) > 0) {
        let text = format!("has variables in \"{}\", which a probe cannot have", Printable(word));
        return Err(Error::Directive(text.into()));
    }
    let check = Check::parse(words, parse_milliseconds)
        .map_err(|reason| Error::Directive(reason.into()))?;
    *said = Some(Rc::new(SaidCheck { check: Rc::new(check), position: cf.position() }));
    Ok(())
}

/// The check that the users of an upstream agree on.
///
/// # Errors
///
/// Two that differ.
pub fn merge(
    cf: Conf<'_>,
    name: &[u8],
    own: &mut Option<Rc<SaidCheck>>,
    other: &Option<Rc<SaidCheck>>,
) -> Result<(), Error> {
    let (Some(here), Some(there)) = (own.as_ref(), other) else {
        *own = own.take().or_else(|| other.clone());
        return Ok(());
    };
    if here.check == there.check {
        return Ok(());
    }
    let (here, there) = (&here.position, &there.position);
    let why = format_args!("the servers of upstream \"{}\" have one check", Printable(name));
    Err(cf.contradiction(here, there, why))
}

/// A location says a check, and where requests go is known or not.
///
/// # Errors
///
/// A check of nothing, or of servers that only requests name.
pub fn check_location(cf: Conf<'_>, conf: &LocConf) -> Result<(), Error> {
    if conf.pass.is_some() {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_health_check\" in a location whose \"rs_uwsgi_pass\" has variables: say it in the \
             \"upstream\" blocks that they name"
        )));
    }
    if !conf.passes() {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_health_check\" in a location without \"rs_uwsgi_pass\""
        )));
    }
    Ok(())
}

/// Checks a check against those who pass to the upstream.
///
/// # Errors
///
/// Where one speaks TLS, which probes do not.
pub fn check_users(
    cf: Conf<'_>,
    name: &[u8],
    said: &Option<Rc<SaidCheck>>,
    mut users: impl Iterator<Item = impl std::ops::Deref<Target = UpstreamRef>>,
) -> Result<(), Error> {
    let Some(said) = said else { return Ok(()) };
    if said.check.kind == Kind::Connect || !users.any(|user| user.tls) {
        return Ok(());
    }
    let position = &said.position;
    cf.log().emerg(format_args!(
        "\"{}\" in {}:{} for servers of \"{}\", which speak TLS: probes do not, check the connection \
         alone, without \"ping\" and \"uri\"",
        position.directive,
        position.file,
        position.line,
        Printable(name),
    ));
    Err(Error::Logged)
}
