//! `rs_uwsgi_store`: responses kept as files for nginx to serve.
//!
//! Mirrors `ngx_http_uwsgi_store` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use crate::nginx::conf::{Conf, Error};
use crate::nginx::sys::ngx_http_upstream_conf_t;
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::upstream_conf::cache;
use crate::nginx::upstream_conf::{set_store, store, Switch};

/// The directive `rs_uwsgi_store on | off | PATH`.
///
/// # Errors
///
/// A second one, an empty path, or `rs_uwsgi_cache` in the same block.
pub fn set(cf: Conf<'_>, upstream: &mut ngx_http_upstream_conf_t) -> Result<(), Error> {
    if store(upstream) != Switch::Unset {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    if value == b"off" {
        set_store(upstream, Switch::Off);
        return Ok(());
    }
    if value.is_empty() {
        return Err(cf.error(format_args!("empty path in \"rs_uwsgi_store\" directive")));
    }
    #[cfg(ngx_feature = "http_cache")]
    if cache(upstream) == Switch::On {
        return Err(Error::Directive("is incompatible with \"rs_uwsgi_cache\"".into()));
    }
    set_store(upstream, Switch::On);
    if value != b"on" {
        cf.compile_store_path(upstream, value)?;
    }
    Ok(())
}

/// Inherits where to store.
pub fn merge(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
    if store(own) == Switch::Unset {
        set_store(own, store(outer).or_off());
        own.store_lengths = outer.store_lengths;
        own.store_values = outer.store_values;
    }
}
