//! `rs_uwsgi_ssl_…`: TLS to the server, for addresses that begin with `suwsgi://`.
//!
//! Mirrors `ngx_http_uwsgi_merge_ssl` and `ngx_http_uwsgi_set_ssl` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use super::LocConf;
use crate::nginx::conf::{parse_number, parse_seconds, Conf, Error, UNSET_STRING};
use crate::nginx::log::Printable;
use crate::nginx::merge::{inherit, inherit_mask, inherit_string, Unset};
use crate::nginx::sys::{ngx_array_t, ngx_http_upstream_conf_t, ngx_str_t, ngx_uint_t};
use crate::nginx::tls::{self, TlsContext, DEFAULT_PROTOCOLS};
use crate::nginx::version::{self, CertificateCache};

/// What is configured beside `ngx_http_upstream_conf_t`.
#[repr(C)]
pub struct Tls {
    /// `rs_uwsgi_ssl_protocols`, bits.
    pub protocols: ngx_uint_t,
    /// `rs_uwsgi_ssl_ciphers`.
    pub ciphers: ngx_str_t,
    /// `rs_uwsgi_ssl_verify_depth`.
    pub verify_depth: ngx_uint_t,
    /// `rs_uwsgi_ssl_trusted_certificate`.
    pub trusted_certificate: ngx_str_t,
    /// `rs_uwsgi_ssl_crl`.
    pub crl: ngx_str_t,
    /// `rs_uwsgi_ssl_conf_command`.
    pub conf_commands: *mut ngx_array_t,
    /// Does `rs_uwsgi_pass` say `suwsgi://`, or might its variables?
    pub wanted: bool,
}

impl Tls {
    /// Nothing configured.
    pub const UNSET: Tls = Tls {
        protocols: 0,
        ciphers: UNSET_STRING,
        verify_depth: Unset::UNSET,
        trusted_certificate: UNSET_STRING,
        crl: UNSET_STRING,
        conf_commands: Unset::UNSET,
        wanted: false,
    };
}

/// The directive `rs_uwsgi_ssl_password_file FILE`.
///
/// # Errors
///
/// A second one, or a file that cannot be read.
pub fn set_password_file(cf: Conf<'_>, passwords: &mut *mut ngx_array_t) -> Result<(), Error> {
    if *passwords != Unset::UNSET {
        return Err(Error::Directive("is duplicate".into()));
    }
    *passwords = tls::read_passwords(cf, cf.arg(1))?;
    Ok(())
}

/// The directive `rs_uwsgi_ssl_certificate_cache off | max=N [inactive=TIME] [valid=TIME]`.
///
/// # Errors
///
/// A second one, an unknown or malformed parameter, or no "max".
pub fn set_certificate_cache(
    cf: Conf<'_>,
    upstream: &mut ngx_http_upstream_conf_t,
) -> Result<(), Error> {
    if version::has_certificate_cache(upstream) {
        return Err(Error::Directive("is duplicate".into()));
    }
    let (mut max, mut inactive, mut valid, mut off) = (0, 10, 60, false);
    for word in cf.words().skip(1) {
        let parsed = if let Some(number) = word.strip_prefix(b"max=") {
            parse_number(number).filter(|max| *max > 0).map(|number| max = number)
        } else if let Some(time) = word.strip_prefix(b"inactive=") {
            parse_seconds(time).map(|seconds| inactive = seconds)
        } else if let Some(time) = word.strip_prefix(b"valid=") {
            parse_seconds(time).map(|seconds| valid = seconds)
        } else if word == b"off" {
            off = true;
            Some(())
        } else {
            None
        };
        if parsed.is_none() {
            return Err(cf.error(format_args!(
                "invalid parameter \"{}\", it must be \"off\" or one of \"max=\", \"inactive=\", \"valid=\"",
                Printable(word)
            )));
        }
    }
    if off {
        return version::set_certificate_cache(cf, upstream, None);
    }
    if max == 0 {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_ssl_certificate_cache\" must have the \"max\" parameter"
        )));
    }
    version::set_certificate_cache(cf, upstream, Some(CertificateCache { max, valid, inactive }))
}

/// Blocks that configure nothing of TLS share the context of the block around them. To be called
/// before anything is inherited.
///
/// # Errors
///
/// Memory.
pub fn share_context(cf: Conf<'_>, outer: &mut LocConf, own: &mut LocConf) -> Result<(), Error> {
    let upstream = &own.upstream;
    let inherits = own.tls.protocols == 0
        && own.tls.ciphers.data.is_null()
        && upstream.ssl_certificate == Unset::UNSET
        && upstream.ssl_certificate_key == Unset::UNSET
        && upstream.ssl_passwords == Unset::UNSET
        && upstream.ssl_verify == Unset::UNSET
        && own.tls.verify_depth == Unset::UNSET
        && own.tls.trusted_certificate.data.is_null()
        && own.tls.crl.data.is_null()
        && upstream.ssl_session_reuse == Unset::UNSET
        && own.tls.conf_commands == Unset::UNSET;

    if inherits && !outer.upstream.ssl.is_null() {
        own.upstream.ssl = outer.upstream.ssl;
        return Ok(());
    }
    own.upstream.ssl = tls::new_context(cf)?;
    if inherits {
        // for all blocks of this one that configure nothing either
        outer.upstream.ssl = own.upstream.ssl;
    }
    Ok(())
}

/// Inherits what [`share_context`] left.
///
/// # Errors
///
/// Memory.
pub fn merge(cf: Conf<'_>, outer: &mut LocConf, own: &mut LocConf) -> Result<(), Error> {
    inherit_mask(&mut own.tls.protocols, outer.tls.protocols, DEFAULT_PROTOCOLS);
    inherit_string(&mut own.tls.ciphers, outer.tls.ciphers, c"DEFAULT");
    inherit(&mut own.tls.verify_depth, outer.tls.verify_depth, 1);
    inherit_string(&mut own.tls.trusted_certificate, outer.tls.trusted_certificate, c"");
    inherit_string(&mut own.tls.crl, outer.tls.crl, c"");
    inherit(&mut own.tls.conf_commands, outer.tls.conf_commands, Unset::NONE);
    version::merge_passwords(cf, &mut own.upstream, &mut outer.upstream)
}

/// Makes the context of a location that passes requests on over TLS, unless it shares one that is
/// made already.
///
/// # Errors
///
/// Certificates and files that cannot be read, and settings that contradict each other.
pub fn create_context(cf: Conf<'_>, own: &mut LocConf) -> Result<(), Error> {
    if !own.tls.wanted {
        return Ok(());
    }
    let Some(context) = TlsContext::of(cf, &own.upstream) else { return Err(Error::Logged) };
    if context.is_made() {
        return Ok(());
    }
    context.create(own.tls.protocols)?;
    context.set_ciphers(&mut own.tls.ciphers)?;

    if let Some(certificate) = tls::configured_value(own.upstream.ssl_certificate) {
        let Some(key) = tls::configured_value(own.upstream.ssl_certificate_key) else {
            cf.log().emerg(format_args!(
                "no \"rs_uwsgi_ssl_certificate_key\" is defined for certificate \"{}\"",
                Printable(certificate.text())
            ));
            return Err(Error::Logged);
        };
        // with variables they are loaded for each connection
        if !certificate.has_variables() && !key.has_variables() {
            context.set_certificate(certificate, key, own.upstream.ssl_passwords)?;
        }
    }

    if own.upstream.ssl_verify != 0 {
        if own.tls.trusted_certificate.len == 0 {
            cf.log()
                .emerg(format_args!("no rs_uwsgi_ssl_trusted_certificate for rs_uwsgi_ssl_verify"));
            return Err(Error::Logged);
        }
        context.set_trusted_certificate(&mut own.tls.trusted_certificate, own.tls.verify_depth)?;
        context.set_crl(&mut own.tls.crl)?;
    }
    context.set_session_reuse(own.upstream.ssl_session_reuse)?;
    context.set_conf_commands(own.tls.conf_commands)
}
