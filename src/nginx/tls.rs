//! TLS contexts: `ngx_ssl_t` and OpenSSL behind it.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use super::conf::{Conf, Error};
use super::sys::{
    ngx_array_t, ngx_flag_t, ngx_http_complex_value_t, ngx_http_upstream_conf_t, ngx_int_t,
    ngx_pool_cleanup_add, ngx_ssl_certificate, ngx_ssl_ciphers, ngx_ssl_cleanup_ctx,
    ngx_ssl_client_session_cache, ngx_ssl_conf_commands, ngx_ssl_create, ngx_ssl_crl,
    ngx_ssl_read_password_file, ngx_ssl_t, ngx_ssl_trusted_certificate, ngx_str_t, ngx_uint_t,
};
use super::{bytes_of, macros, ok, str_of};

/// Stock's default of this nginx version, bits.
pub const DEFAULT_PROTOCOLS: ngx_uint_t = macros::RS_NGX_SSL_DEFAULT_PROTOCOLS as ngx_uint_t;

/// A TLS context that a configuration refers to.
#[derive(Clone, Copy)]
pub struct TlsContext<'a> {
    ptr: NonNull<ngx_ssl_t>,
    cf: Conf<'a>,
    life: PhantomData<&'a ngx_ssl_t>,
}

/// A directive's value, which may have variables.
#[derive(Clone, Copy)]
pub struct Configured<'a>(&'a ngx_http_complex_value_t);

impl<'a> Configured<'a> {
    /// As it stands in the configuration.
    pub fn text(self) -> &'a [u8] {
        // SAFETY: a compiled value keeps its text, as long as the configuration.
        unsafe { bytes_of(self.0.value) }
    }

    /// Is it known only with the request?
    pub fn has_variables(self) -> bool {
        !self.0.lengths.is_null()
    }

    fn as_mut_str(self) -> *mut ngx_str_t {
        (&raw const self.0.value).cast_mut()
    }
}

/// The value behind a merged pointer. None where it was not configured, or is empty.
pub(crate) fn configured_value<'a>(value: *mut ngx_http_complex_value_t) -> Option<Configured<'a>> {
    // SAFETY: after inheritance the pointer is null, or what one of nginx's setters put there, which
    // lives as long as the configuration.
    let value = Configured(unsafe { value.as_ref() }?);
    (!value.text().is_empty()).then_some(value)
}

pub(super) fn done(status: ngx_int_t) -> Result<(), Error> {
    ok(status).map_err(|_| Error::Logged)
}

/// An empty context, to be made by [`TlsContext::create`].
///
/// # Errors
///
/// [`Error::Logged`] when memory runs out.
pub fn new_context(cf: Conf<'_>) -> Result<*mut ngx_ssl_t, Error> {
    // SAFETY: a structure of zeros is how nginx itself begins.
    let mut context: ngx_ssl_t = unsafe { core::mem::zeroed() };
    context.log = cf.log().as_ptr();
    cf.pool().place(context).map(NonNull::as_ptr).map_err(|_| Error::Logged)
}

/// Reads the passwords of key files, a line each.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn read_passwords(cf: Conf<'_>, file: &[u8]) -> Result<*mut ngx_array_t, Error> {
    let file = cf.pool().concat([file, b"\0"]).map_err(|_| Error::Logged)?;
    let mut name = str_of(file.strip_suffix(b"\0").unwrap_or(file));
    // SAFETY: the parser is valid, and the name ends in a NUL behind its length.
    let passwords = unsafe { ngx_ssl_read_password_file(cf.as_ptr(), &raw mut name) };
    if passwords.is_null() {
        return Err(Error::Logged);
    }
    Ok(passwords)
}

impl<'a> TlsContext<'a> {
    /// The context that a configuration refers to.
    pub fn of(cf: Conf<'a>, conf: &ngx_http_upstream_conf_t) -> Option<Self> {
        NonNull::new(conf.ssl).map(|ptr| TlsContext { ptr, cf, life: PhantomData })
    }

    /// Was it made already, for another location that shares it?
    pub fn is_made(self) -> bool {
        !field!(self, ctx).is_null()
    }

    /// Makes the context; it is freed with the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], as for all functions below.
    pub fn create(self, protocols: ngx_uint_t) -> Result<(), Error> {
        // SAFETY: the context is valid; the cleanup is called once, when the configuration, in whose
        // pool the context lies, is freed.
        unsafe {
            done(ngx_ssl_create(self.ptr.as_ptr(), protocols, ptr::null_mut()))?;
            let Some(cleanup) = ngx_pool_cleanup_add(self.cf.pool().as_ptr(), 0).as_mut() else {
                ngx_ssl_cleanup_ctx(self.ptr.as_ptr().cast());
                return Err(Error::Logged);
            };
            cleanup.handler = Some(ngx_ssl_cleanup_ctx);
            cleanup.data = self.ptr.as_ptr().cast();
        }
        Ok(())
    }

    /// The ciphers for TLS up to 1.2, in OpenSSL's words.
    pub fn set_ciphers(self, ciphers: &mut ngx_str_t) -> Result<(), Error> {
        // SAFETY: parser, context and string are valid.
        done(unsafe { ngx_ssl_ciphers(self.cf.as_ptr(), self.ptr.as_ptr(), ciphers, 0) })
    }

    /// The certificate that we show to the server.
    pub(crate) fn set_certificate(
        self,
        certificate: Configured<'_>,
        key: Configured<'_>,
        passwords: *mut ngx_array_t,
    ) -> Result<(), Error> {
        // SAFETY: parser, context and values are valid, the passwords null or an array of nginx's.
        // nginx may complete the file names in place, of which nobody holds a reference.
        done(unsafe {
            ngx_ssl_certificate(
                self.cf.as_ptr(),
                self.ptr.as_ptr(),
                certificate.as_mut_str(),
                key.as_mut_str(),
                passwords,
            )
        })
    }

    /// The certificates that the server's must be signed by.
    pub fn set_trusted_certificate(
        self,
        file: &mut ngx_str_t,
        depth: ngx_uint_t,
    ) -> Result<(), Error> {
        // SAFETY: parser, context and string are valid.
        done(unsafe {
            ngx_ssl_trusted_certificate(
                self.cf.as_ptr(),
                self.ptr.as_ptr(),
                file,
                ngx_int_t::try_from(depth).unwrap_or(ngx_int_t::MAX),
            )
        })
    }

    /// The certificates that were revoked.
    pub fn set_crl(self, file: &mut ngx_str_t) -> Result<(), Error> {
        // SAFETY: parser, context and string are valid.
        done(unsafe { ngx_ssl_crl(self.cf.as_ptr(), self.ptr.as_ptr(), file) })
    }

    /// Are sessions resumed?
    pub fn set_session_reuse(self, reuse: ngx_flag_t) -> Result<(), Error> {
        // SAFETY: parser and context are valid.
        done(unsafe {
            ngx_ssl_client_session_cache(self.cf.as_ptr(), self.ptr.as_ptr(), reuse as ngx_uint_t)
        })
    }

    /// Commands for OpenSSL.
    pub(crate) fn set_conf_commands(self, commands: *mut ngx_array_t) -> Result<(), Error> {
        // SAFETY: parser and context are valid, the commands null or an array of nginx's.
        done(unsafe { ngx_ssl_conf_commands(self.cf.as_ptr(), self.ptr.as_ptr(), commands) })
    }
}
