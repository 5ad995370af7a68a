//! The body of the response: where it ends.
//!
//! Mirrors `ngx_http_uwsgi_input_filter_init` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use crate::ffi::sys::{NGX_HTTP_NOT_MODIFIED, NGX_HTTP_NO_CONTENT};
use crate::ffi::{Error, Request};

/// Says how long the body is: none for the statuses without one, else as the server said, else until
/// it closes the connection. A server may send one for HEAD as well, which is read and dropped.
///
/// # Errors
///
/// [`Error::Failed`] where the request has no upstream any more.
pub fn start(r: Request<'_>) -> Result<(), Error> {
    let u = r.upstream().ok_or(Error::Failed)?;
    let bodiless = [NGX_HTTP_NO_CONTENT, NGX_HTTP_NOT_MODIFIED];
    let length = if bodiless.iter().any(|status| u.status() == *status as usize) {
        0
    } else if r.is_head() {
        -1
    } else {
        u.content_length()
    };
    u.set_length(length);
    r.log().debug(format_args!("http rs_uwsgi filter init s:{} l:{length}", u.status()));
    Ok(())
}
