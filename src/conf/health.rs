//! `rs_uwsgi_health_check`: what is asked of servers ([`crate::pure::health::check`]), and who says it.

use std::rc::Rc;

use super::modifiers::Modifier;
use super::LocConf;
use crate::module::UpstreamRef;
use crate::nginx::conf::{parse_milliseconds, Conf, ConfPosition, Error, Level};
use crate::nginx::log::Printable;
use crate::nginx::shake::TlsClient;
use crate::pure::health::request::Place;
use crate::pure::health::{Check, Kind};

/// A check, and where it is said.
#[derive(Debug)]
pub struct SaidCheck {
    /// The check.
    pub check: Rc<Check>,
    /// How probes that send something speak TLS, where they do.
    pub tls: Option<TlsClient>,
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
    *said = Some(Rc::new(SaidCheck { check: Rc::new(check), tls: None, position: cf.position() }));
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
    let is_same = here.check.is_same_but_for_params(&there.check);
    if is_same && here.position.level == Level::Upstream {
        return Ok(());
    }
    let why = format!(
        "the servers of upstream \"{}\" have one check{}",
        Printable(name),
        if is_same { ", and the params of the two places differ" } else { "" }
    );
    Err(cf.contradiction(&here.position, &there.position, format_args!("{why}")))
}

/// Has the probes of a location send its own params. To be called when these are known.
///
/// # Errors
///
/// Where they are more than a request may have.
pub fn place(cf: Conf<'_>, own: &mut LocConf) -> Result<(), Error> {
    let (Some(said), Some(params)) = (&own.connections.health, &own.params) else { return Ok(()) };
    let mut unknown = Vec::new();
    let modifiers = [("rs_uwsgi_modifier1", own.modifier1), ("rs_uwsgi_modifier2", own.modifier2)];
    let [modifier1, modifier2] = modifiers.map(|(name, modifier)| match modifier {
        None => 0,
        Some(Modifier::Fixed(number)) => number,
        Some(Modifier::Variable(_)) => {
            unknown.push(name.as_bytes().to_vec());
            0
        }
    });
    let place = Place {
        params: params.source().collect(),
        server_name: Some(cf.server_name()),
        document_root: cf.document_root(),
        mount: own.mount.as_deref(),
        string: own.string(),
        modifiers: (modifier1, modifier2),
    };
    let position = said.position.clone();
    let (directive, file, line) = (&position.directive, &position.file, position.line);
    let (check, left_out) = said.check.placed(&place).map_err(|reason| {
        cf.log()
            .emerg(format_args!("\"{directive}\" in {file}:{line} has too large params: {reason}"));
        Error::Logged
    })?;
    if check.kind == Kind::Uri {
        for name in unknown.iter().chain(&left_out) {
            cf.log().warn(format_args!(
                "\"{directive}\" in {file}:{line} sends no \"{}\": its value has variables that only \
                 requests of clients have",
                Printable(name)
            ));
        }
    }
    let tls = tls_of(cf, &check, &position, own.tls_client())?;
    own.connections.health = Some(Rc::new(SaidCheck { check: Rc::new(check), tls, position }));
    Ok(())
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

/// A check in an "upstream" block: its probes speak TLS as the first location does that passes there.
///
/// # Errors
///
/// Where others do not speak TLS, or only requests know how.
pub fn choose_tls(
    cf: Conf<'_>,
    name: &[u8],
    said: &mut Option<Rc<SaidCheck>>,
    users: impl Iterator<Item = impl std::ops::Deref<Target = UpstreamRef>> + Clone,
) -> Result<(), Error> {
    let Some(own) = said.as_ref().filter(|own| own.position.level == Level::Upstream) else {
        return Ok(());
    };
    let Some(tls) = users.clone().map(|user| user.tls.clone()).find(|tls| *tls != Ok(None)) else {
        return Ok(());
    };
    let position = &own.position;
    if own.check.kind != Kind::Connect && users.clone().any(|user| user.tls == Ok(None)) {
        cf.log().emerg(format_args!(
            "\"{}\" in {}:{} for servers of \"{}\", with which some locations speak TLS and others do not: \
             say it in a location",
            position.directive,
            position.file,
            position.line,
            Printable(name),
        ));
        return Err(Error::Logged);
    }
    let tls = tls_of(cf, &own.check, position, tls)?;
    *said = Some(Rc::new(SaidCheck { check: own.check.clone(), tls, position: position.clone() }));
    Ok(())
}

/// How the probes of a check speak TLS, where the servers do.
fn tls_of(
    cf: Conf<'_>,
    check: &Check,
    position: &ConfPosition,
    tls: Result<Option<TlsClient>, &'static str>,
) -> Result<Option<TlsClient>, Error> {
    if check.kind == Kind::Connect {
        return Ok(None);
    }
    tls.map_err(|name| {
        cf.log().emerg(format_args!(
            "\"{}\" in {}:{} for servers that speak TLS, whose \"{name}\" has variables, which a probe \
             cannot have",
            position.directive, position.file, position.line,
        ));
        Error::Logged
    })
}
