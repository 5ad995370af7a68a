//! `rs_uwsgi_cache` and the directives around it. The cache itself is nginx's.
//!
//! Mirrors the cache's part of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use super::LocConf;
use crate::module::Uwsgi;
use crate::nginx::conf::{Conf, Error};
use crate::nginx::log::Printable;
use crate::nginx::sys::{ngx_http_upstream_conf_t, NGX_HTTP_GET, NGX_HTTP_HEAD};
use crate::nginx::upstream_conf::{
    cache, set_cache, set_store, store, undefined_cache_zone, Switch,
};
use crate::nginx::value::ComplexValue;

/// Request headers that a cache must not pass on as they are: the response is for all. Parameters of
/// these names win over them.
pub const CACHE_PARAMS: &[(&str, &str)] = &[
    ("HTTP_IF_MODIFIED_SINCE", "$upstream_cache_last_modified"),
    ("HTTP_IF_UNMODIFIED_SINCE", ""),
    ("HTTP_IF_NONE_MATCH", "$upstream_cache_etag"),
    ("HTTP_IF_MATCH", ""),
    ("HTTP_RANGE", ""),
    ("HTTP_IF_RANGE", ""),
];

/// The directive `rs_uwsgi_cache off | ZONE`, where the zone may have variables.
///
/// # Errors
///
/// A second one, or `rs_uwsgi_store` in the same block.
pub fn set(cf: Conf<'_>, upstream: &mut ngx_http_upstream_conf_t) -> Result<(), Error> {
    if cache(upstream) != Switch::Unset {
        return Err(Error::Directive("is duplicate".into()));
    }
    let value = cf.arg(1);
    if value == b"off" {
        set_cache(upstream, Switch::Off);
        return Ok(());
    }
    if store(upstream) == Switch::On {
        return Err(Error::Directive("is incompatible with \"rs_uwsgi_store\"".into()));
    }
    set_cache(upstream, Switch::On);
    if cf.variables_in(value) > 0 {
        upstream.cache_value = ComplexValue::compile(cf, value)?.as_ptr();
    } else {
        upstream.cache_zone = cf.cache_zone::<Uwsgi>(value)?;
    }
    Ok(())
}

/// The directive `rs_uwsgi_cache_key STRING`.
///
/// # Errors
///
/// A second one.
pub fn set_key(cf: Conf<'_>, key: &mut Option<ComplexValue>) -> Result<(), Error> {
    if key.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    *key = Some(ComplexValue::compile(cf, cf.arg(1))?);
    Ok(())
}

/// A block that stores does not cache, and the other way round, whatever the block around it does.
/// To be called before either is inherited.
pub fn exclude(own: &mut LocConf) {
    if store(&own.upstream) == Switch::On {
        set_cache(&mut own.upstream, Switch::Off);
    }
    if cache(&own.upstream) == Switch::On {
        set_store(&mut own.upstream, Switch::Off);
    }
}

/// Inherits the zone and the key.
///
/// # Errors
///
/// A zone that no `rs_uwsgi_cache_path` defines.
pub fn merge(cf: Conf<'_>, own: &mut LocConf, outer: &LocConf) -> Result<(), Error> {
    let (upstream, around) = (&mut own.upstream, &outer.upstream);
    if cache(upstream) == Switch::Unset {
        set_cache(upstream, cache(around).or_off());
        upstream.cache_zone = around.cache_zone;
        upstream.cache_value = around.cache_value;
    }
    if let Some(zone) = undefined_cache_zone(upstream) {
        return Err(
            cf.error(format_args!("\"rs_uwsgi_cache\" zone \"{}\" is unknown", Printable(zone)))
        );
    }
    if upstream.cache_methods == 0 {
        upstream.cache_methods = around.cache_methods;
    }
    upstream.cache_methods |= (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize;

    own.cache_key = own.cache_key.or(outer.cache_key);
    if cache(&own.upstream) == Switch::On && own.cache_key.is_none() {
        cf.warn(format_args!("no \"rs_uwsgi_cache_key\" for \"rs_uwsgi_cache\""));
    }
    Ok(())
}
