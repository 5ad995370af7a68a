//! `rs_uwsgi_pass`: where requests go. A socket, a host and port, an `upstream` block, or variables
//! that yield one of these with each request ([`crate::request::target`]).
//!
//! Mirrors `ngx_http_uwsgi_pass` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use super::status::BOTH;
use super::LocConf;
use crate::module::Uwsgi;
use crate::nginx::conf::{Conf, Error};
use crate::nginx::shake::TlsClient;
use crate::nginx::value::ComplexValue;

/// The scheme of an address.
pub const SCHEMA: &[u8] = b"uwsgi://";
/// The scheme of an address of a server that speaks TLS.
pub const TLS_SCHEMA: &[u8] = b"suwsgi://";
/// An abstract socket without a name.
pub const NAMELESS: &[u8] = b"unix:@";
/// What is wrong with [`NAMELESS`].
pub const NO_NAME: &str = "no name in the abstract unix domain socket";
/// What is wrong with [`TLS_SCHEMA`] where this nginx has no TLS.
pub const NO_TLS: &str = "suwsgi protocol requires SSL support";

/// The directive `rs_uwsgi_pass ADDRESS`.
///
/// # Errors
///
/// A second one in the same location; an address that is none.
pub fn set(cf: Conf<'_>, conf: &mut LocConf) -> Result<(), Error> {
    if conf.passes() {
        return Err(Error::Directive("is duplicate".into()));
    }
    if conf.is_status {
        return Err(cf.error(format_args!("{BOTH}")));
    }
    cf.set_content_handler::<Uwsgi>();

    let value = cf.arg(1);
    if cf.variables_in(value) > 0 {
        conf.pass = Some(ComplexValue::compile(cf, value)?);
        conf.upstream.upstream = cf.upstream_of_addresses::<Uwsgi>()?.as_ptr();
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

    /// Has the location a TLS context?
    pub fn has_tls(&self) -> bool {
        #[cfg(ngx_feature = "http_ssl")]
        return self.tls.wanted;
        #[cfg(not(ngx_feature = "http_ssl"))]
        return false;
    }

    /// How the location speaks TLS, if it does.
    ///
    /// # Errors
    ///
    /// The name of a directive whose value only a request has.
    pub fn tls_client(&self) -> Result<Option<TlsClient>, &'static str> {
        if !self.has_tls() {
            return Ok(None);
        }
        TlsClient::of(&self.upstream)
    }
}

/// The address without its scheme; and is that the one of TLS?
///
/// The colon that `proxy_pass` wants behind a socket's path is allowed.
pub fn address(url: &[u8]) -> (&[u8], bool) {
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
