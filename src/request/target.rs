//! Where a request goes: as `rs_uwsgi_pass` says, or as its variables yield.
//!
//! Mirrors `ngx_http_uwsgi_eval` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use crate::conf::pass::{address, NAMELESS, NO_NAME, NO_TLS, SCHEMA, TLS_SCHEMA};
use crate::conf::LocConf;
use crate::module::{State, Uwsgi};
use crate::nginx::log::Printable;
use crate::nginx::{Error, Request, Upstream};
use crate::state::{Attempt, RequestState};

/// Gives the request an upstream, with this module's callbacks and state.
///
/// # Errors
///
/// With a line in the log.
pub fn create_upstream(r: Request<'_>) -> Result<(), Error> {
    let conf = LocConf::of(r);
    let u = r.create_upstream()?;
    let new = |first| State::new(u, RequestState::new(conf, first));
    let state = r.pool().share_both(Attempt::default, new)?;
    u.wire::<Uwsgi>(r, &conf.upstream, state)?;
    resolve(r, conf, state)
}

/// Says where a request goes: as configured, or as variables yield.
///
/// # Errors
///
/// With a line in the log.
fn resolve<'a>(r: Request<'a>, conf: &LocConf, state: &State<'a>) -> Result<(), Error> {
    let u = state.upstream;
    let Some(pass) = conf.pass else {
        let tls = conf.has_tls();
        set_schema(u, if tls { TLS_SCHEMA } else { SCHEMA }, tls);
        return Ok(());
    };

    let value = pass.evaluate(r).ok_or(Error::Failed)?;
    let (address, tls) = address(value);
    if tls && !conf.has_tls() {
        r.log().error(format_args!("{NO_TLS}"));
        return Err(Error::Failed);
    }
    if address == NAMELESS {
        r.log().error(format_args!("{NO_NAME} in upstream \"{}\"", Printable(address)));
        return Err(Error::Failed);
    }
    u.resolve(r.pool(), address).map_err(|bad| {
        if let Some(reason) = bad.reason {
            r.log().error(format_args!("{reason} in upstream \"{}\"", Printable(address)));
        }
        Error::Failed
    })?;
    state.address.set(u.take_address::<Uwsgi>(r));
    // as it was written, for the log
    let scheme = value.strip_suffix(address).filter(|scheme| !scheme.is_empty());
    set_schema(u, scheme.unwrap_or(SCHEMA), tls);
    Ok(())
}

fn set_schema<'a>(u: Upstream<'a>, scheme: &'a [u8], tls: bool) {
    u.set_schema(scheme);
    if tls {
        u.enable_tls();
    }
}
