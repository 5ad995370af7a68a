//! `rs_uwsgi_pass`: where requests go. A socket, a host and port, an `upstream` block, or variables
//! that yield one of these with each request.
//!
//! Mirrors `ngx_http_uwsgi_pass` and `ngx_http_uwsgi_eval` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use super::LocConf;
use crate::handler::Handler;
use crate::nginx::conf::{Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::value::ComplexValue;
use crate::nginx::{self, Request, Upstream};

const SCHEMA: &[u8] = b"uwsgi://";
const TLS_SCHEMA: &[u8] = b"suwsgi://";
/// An abstract socket without a name.
const NAMELESS: &[u8] = b"unix:@";
const NO_NAME: &str = "no name in the abstract unix domain socket";
const NO_TLS: &str = "suwsgi protocol requires SSL support";

/// The directive `rs_uwsgi_pass ADDRESS`.
///
/// # Errors
///
/// A second one in the same location; an address that is none.
pub fn set(cf: Conf<'_>, conf: &mut LocConf) -> Result<(), Error> {
    if conf.passes() {
        return Err(Error::Directive("is duplicate".into()));
    }
    cf.set_content_handler::<Handler>();

    let value = cf.arg(1);
    if cf.variables_in(value) > 0 {
        conf.pass = Some(ComplexValue::compile(cf, value)?);
        conf.upstream.upstream = cf.upstream_of_addresses()?.as_ptr();
        // it may come to that
        conf.want_tls();
        return Ok(());
    }

    let (address, tls) = address(value);
    if tls && !conf.want_tls() {
        return Err(cf.error(format_args!("{NO_TLS}")));
    }
    if address == NAMELESS {
        return Err(cf.error(format_args!("{NO_NAME}")));
    }
    conf.upstream.upstream = cf.add_upstream(address)?;
    cf.set_auto_redirect();
    Ok(())
}

impl LocConf {
    /// Has the location a TLS context made. False where this nginx has no TLS.
    fn want_tls(&mut self) -> bool {
        #[cfg(ngx_feature = "http_ssl")]
        {
            self.tls.wanted = true;
        }
        cfg!(ngx_feature = "http_ssl")
    }

    fn has_tls(&self) -> bool {
        #[cfg(ngx_feature = "http_ssl")]
        return self.tls.wanted;
        #[cfg(not(ngx_feature = "http_ssl"))]
        return false;
    }
}

/// Says where a request goes: as configured, or as variables yield.
///
/// # Errors
///
/// With a line in the log.
pub fn resolve<'a>(r: Request<'a>, u: Upstream<'a>) -> Result<(), nginx::Error> {
    let conf = r.loc_conf();
    let Some(pass) = conf.pass else {
        let tls = conf.has_tls();
        set_schema(u, if tls { TLS_SCHEMA } else { SCHEMA }, tls);
        return Ok(());
    };

    let value = pass.evaluate(r).ok_or(nginx::Error::Failed)?;
    let (address, tls) = address(value);
    if tls && !conf.has_tls() {
        r.log().error(format_args!("{NO_TLS}"));
        return Err(nginx::Error::Failed);
    }
    if address == NAMELESS {
        r.log().error(format_args!("{NO_NAME} in upstream \"{}\"", Printable(address)));
        return Err(nginx::Error::Failed);
    }
    u.resolve(r.pool(), address).map_err(|bad| {
        if let Some(reason) = bad.reason {
            r.log().error(format_args!("{reason} in upstream \"{}\"", Printable(address)));
        }
        nginx::Error::Failed
    })?;
    if let (Some(context), Some(address)) = (r.context(), u.take_address(r)) {
        context.address.set(Some(address));
    }
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

/// The address without its scheme; and is that the one of TLS?
///
/// The colon that `proxy_pass` wants behind a socket's path is allowed.
fn address(url: &[u8]) -> (&[u8], bool) {
    let without = |scheme: &[u8]| {
        url.split_at_checked(scheme.len())
            .filter(|(begin, _)| begin.eq_ignore_ascii_case(scheme))
            .map(|(_, rest)| rest)
    };
    let (address, tls) = match without(TLS_SCHEMA) {
        Some(address) => (address, true),
        None => (without(SCHEMA).unwrap_or(url), false),
    };
    let is_socket = |path: &&[u8]| path.starts_with(b"unix:/") || path.starts_with(NAMELESS);
    let path = address.strip_suffix(b":").filter(is_socket);
    (path.unwrap_or(address), tls)
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_lose_their_scheme_and_a_last_colon() {
        for (url, expected) in [
            ("unix:/s", ("unix:/s", false)),
            ("unix:/s:", ("unix:/s", false)),
            ("unix:@s:", ("unix:@s", false)),
            ("UWSGI://unix:/s:", ("unix:/s", false)),
            ("suwsgi://h:1", ("h:1", true)),
            ("h:", ("h:", false)),
            ("unix:", ("unix:", false)),
        ] {
            let (address, tls) = address(url.as_bytes());
            assert_eq!((std::str::from_utf8(address).unwrap(), tls), expected, "{url}");
        }
    }
}
