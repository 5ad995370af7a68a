//! Variables that this module defines.

use core::ptr;

use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::conf::{bytes, Conf, Error};
use super::status::OK;
use super::sys::{
    ngx_http_add_variable, ngx_http_request_t, ngx_http_variable_t, ngx_int_t,
    ngx_variable_value_t, NGX_HTTP_VAR_NOCACHEABLE,
};
use super::{str_of, Request};

/// A variable's value for a request. None where the request has no such value.
pub type Getter = fn(Request<'_>) -> Option<String>;

/// Defines a variable.
///
/// # Errors
///
/// [`Error::Logged`].
pub fn add(cf: Conf<'_>, name: &'static str, getter: &'static Getter) -> Result<(), Error> {
    // SAFETY: the parser is valid, and nginx copies the name.
    let variable = unsafe {
        ngx_http_add_variable(
            cf.as_ptr(),
            &mut str_of(name.as_bytes()),
            NGX_HTTP_VAR_NOCACHEABLE as usize,
        )
    };
    if variable.is_null() {
        return Err(Error::Logged);
    }
    // SAFETY: just got; `data` comes back to `get` as it is.
    unsafe {
        (*variable).get_handler = Some(get);
        (*variable).data = ptr::from_ref(getter) as usize;
    }
    Ok(())
}

/// Does anything in the configuration refer to this variable, in lower case? Known once all of it is read.
pub fn is_used(cf: Conf<'_>, name: &str) -> bool {
    // SAFETY: the parser is valid, and in the "http" block the core module has its configuration, with an array
    // of the variables that are referred to, each with its name.
    unsafe {
        let Some(main) = NgxHttpCoreModule::main_conf_mut(cf.ptr.as_ref()) else { return false };
        let all = &raw const main.variables;
        let elements = (*all).elts.cast::<ngx_http_variable_t>().cast_const();
        (0..(*all).nelts).any(|place| bytes(&(*elements.add(place)).name) == name.as_bytes())
    }
}

unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    value: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let text = super::callbacks::with_request(r, None, |r| {
        // SAFETY: `add` put a `Getter` there, in static memory.
        let getter = unsafe { &*(data as *const Getter) };
        let text = getter(r)?;
        r.pool().copy(text.as_bytes()).ok().map(|copy| &raw mut *copy)
    });
    // SAFETY: nginx passes the place for the value; the bytes live as long as the request.
    unsafe {
        match text {
            Some(text) => {
                (*value).data = text.cast();
                flag!(value, len = text.len().try_into().unwrap_or(0));
                flag!(value, valid = 1);
                flag!(value, no_cacheable = 0);
                flag!(value, not_found = 0);
            }
            None => flag!(value, not_found = 1),
        }
    }
    OK
}
