//! Values with variables, `ngx_http_complex_value_t`.

use super::conf::{Conf, Error};
use super::sys::{
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value,
    ngx_http_complex_value_t, ngx_str_t,
};
use super::{bytes_of, ok, str_of, Request};

/// A value with variables, compiled when the configuration is read. A plain pointer into the
/// configuration's memory.
#[derive(Clone, Copy, Debug)]
pub struct ComplexValue(*mut ngx_http_complex_value_t);

impl ComplexValue {
    /// Compiles a value.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], for example for an invalid variable name.
    pub fn compile(cf: Conf<'_>, value: &[u8]) -> Result<ComplexValue, Error> {
        // The source must live as long as the compiled value, which refers to pieces of it.
        let value = cf.pool().copy(value).map_err(|_| Error::Logged)?;
        // SAFETY: structures of zeros are how nginx itself begins.
        let (compiled, mut compile): (ngx_http_complex_value_t, ngx_http_compile_complex_value_t) =
            unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
        let place = cf.pool().place(compiled).map_err(|_| Error::Logged)?.as_ptr();
        let mut source = str_of(value);
        compile.cf = cf.as_ptr();
        compile.value = &raw mut source;
        compile.complex_value = place;
        // SAFETY: all pointers are valid; nginx copies the string's pointer and length.
        ok(unsafe { ngx_http_compile_complex_value(&raw mut compile) })
            .map_err(|_| Error::Logged)?;
        Ok(ComplexValue(place))
    }

    /// A value that one of nginx's setters compiled.
    ///
    /// # Safety
    ///
    /// `value` must be valid, and of the configuration of the requests that it is evaluated for.
    #[cfg(ngx_feature = "http_ssl")]
    pub(super) unsafe fn from_ptr(value: *mut ngx_http_complex_value_t) -> ComplexValue {
        ComplexValue(value)
    }

    /// nginx's own view of it.
    #[cfg(ngx_feature = "http_cache")]
    pub(crate) fn as_ptr(self) -> *mut ngx_http_complex_value_t {
        self.0
    }

    /// The value for a request. None when an evaluation failed, for lack of memory as a rule.
    pub fn evaluate(self, r: Request<'_>) -> Option<&[u8]> {
        let mut value = ngx_str_t { len: 0, data: core::ptr::null_mut() };
        // SAFETY: compiled by `compile`, for the configuration that the request runs under.
        ok(unsafe { ngx_http_complex_value(r.as_ptr(), self.0, &raw mut value) }).ok()?;
        // SAFETY: nginx keeps the value in the request's or the configuration's memory.
        Some(unsafe { bytes_of(value) })
    }
}
