//! The directive table: one row a directive.
//!
//! The twins have the contexts and arguments of nginx's own, `ngx_http_uwsgi_commands` in
//! src/http/modules/ngx_http_uwsgi_module.c.

use core::mem::offset_of;

#[cfg(ngx_feature = "http_cache")]
use super::cache;
use super::connections::{self, Settings, REUSE};
#[cfg(ngx_feature = "http_ssl")]
use super::tls;
use super::{health, modifiers, mount, params, pass, priority, status, store, zone, LocConf};
use crate::module::{Setter, SharedSetter, Uwsgi};
use crate::nginx::slots::*;
#[cfg(ngx_feature = "http_ssl")]
use crate::nginx::sys::{
    NGX_SSL_SSLv2, NGX_SSL_SSLv3, NGX_SSL_TLSv1, NGX_SSL_TLSv1_1, NGX_SSL_TLSv1_2, NGX_SSL_TLSv1_3,
};
use crate::nginx::sys::{
    NGX_CONF_1MORE, NGX_CONF_ANY, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12,
    NGX_CONF_TAKE123, NGX_CONF_TAKE1234, NGX_CONF_TAKE2, NGX_CONF_TAKE3, NGX_CONF_TAKE4,
    NGX_HTTP_LIF_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF,
    NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_HTTP_403, NGX_HTTP_UPSTREAM_FT_HTTP_404,
    NGX_HTTP_UPSTREAM_FT_HTTP_429, NGX_HTTP_UPSTREAM_FT_HTTP_500, NGX_HTTP_UPSTREAM_FT_HTTP_503,
    NGX_HTTP_UPSTREAM_FT_INVALID_HEADER, NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT,
    NGX_HTTP_UPSTREAM_FT_OFF, NGX_HTTP_UPSTREAM_FT_TIMEOUT, NGX_HTTP_UPSTREAM_FT_UPDATING,
    NGX_HTTP_UPS_CONF,
};
use crate::nginx::version;

const ANY: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;
const LOCATION: u32 = NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF;
const FLAG: u32 = ANY | NGX_CONF_FLAG;
const ONE: u32 = ANY | NGX_CONF_TAKE1;
const TWO: u32 = ANY | NGX_CONF_TAKE2;
/// Where the connections to an upstream are configured: its locations share them.
const SHARED: u32 = ONE | NGX_HTTP_UPS_CONF;
const MORE: u32 = ANY | NGX_CONF_1MORE;

/// The offset of a value for nginx's setters.
macro_rules! at {
    ($($field:tt)+) => { offset_of!(LocConf, $($field)+) };
}

/// A setter of one field of a location's configuration.
macro_rules! set {
    ($setter:path, $($field:tt)+) => {
        &((|cf, conf: &mut LocConf| $setter(cf, &mut conf.$($field)+)) as Setter)
    };
}

/// A setter of fields of the settings of connections. What comes before them is the setter's own.
macro_rules! set_shared {
    ($setter:path, $($field:ident),+ $(; $($more:expr),+)?) => {
        &((|cf, settings: &mut Settings| $setter(cf, $(&mut settings.$field),+ $(, $($more),+)?)) as SharedSetter)
    };
}

static NEXT_UPSTREAM: Masks = Masks::new(&[
    mask(c"error", NGX_HTTP_UPSTREAM_FT_ERROR),
    mask(c"timeout", NGX_HTTP_UPSTREAM_FT_TIMEOUT),
    mask(c"invalid_header", NGX_HTTP_UPSTREAM_FT_INVALID_HEADER),
    mask(c"non_idempotent", NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT),
    mask(c"http_500", NGX_HTTP_UPSTREAM_FT_HTTP_500),
    mask(c"http_503", NGX_HTTP_UPSTREAM_FT_HTTP_503),
    mask(c"http_403", NGX_HTTP_UPSTREAM_FT_HTTP_403),
    mask(c"http_404", NGX_HTTP_UPSTREAM_FT_HTTP_404),
    mask(c"http_429", NGX_HTTP_UPSTREAM_FT_HTTP_429),
    mask(c"updating", NGX_HTTP_UPSTREAM_FT_UPDATING),
    mask(c"off", NGX_HTTP_UPSTREAM_FT_OFF),
    END_OF_MASKS,
]);

#[cfg(ngx_feature = "http_ssl")]
static TLS_PROTOCOLS: Masks = Masks::new(&[
    mask(c"SSLv2", NGX_SSL_SSLv2),
    mask(c"SSLv3", NGX_SSL_SSLv3),
    mask(c"TLSv1", NGX_SSL_TLSv1),
    mask(c"TLSv1.1", NGX_SSL_TLSv1_1),
    mask(c"TLSv1.2", NGX_SSL_TLSv1_2),
    mask(c"TLSv1.3", NGX_SSL_TLSv1_3),
    END_OF_MASKS,
]);

/// All directives of the module.
pub static DIRECTIVES: Directives = Directives(&joined::<{ TABLES.len() }>(&TABLES));

/// The directives that every nginx can have, then those that only later versions have.
#[rustfmt::skip]
static TABLES: Tables = Tables(&[&[
    // the twins of stock's
    own::<Uwsgi>(c"rs_uwsgi_pass", LOCATION | NGX_CONF_TAKE1, &(pass::set as Setter)),
    own::<Uwsgi>(c"rs_uwsgi_modifier1", ONE, set!(modifiers::set, modifier1)),
    own::<Uwsgi>(c"rs_uwsgi_modifier2", ONE, set!(modifiers::set, modifier2)),
    own::<Uwsgi>(c"rs_uwsgi_store", ONE, set!(store::set, upstream)),
    access(c"rs_uwsgi_store_access", ANY | NGX_CONF_TAKE123, at!(upstream.store_access)),
    own::<Uwsgi>(c"rs_uwsgi_param", ANY | NGX_CONF_TAKE2 | NGX_CONF_TAKE3 | NGX_CONF_TAKE4, set!(params::add, own_params)),
    str(c"rs_uwsgi_string", ONE, at!(string)),
    flag(c"rs_uwsgi_buffering", FLAG, at!(upstream.buffering)),
    flag(c"rs_uwsgi_request_buffering", FLAG, at!(upstream.request_buffering)),
    flag(c"rs_uwsgi_ignore_client_abort", FLAG, at!(upstream.ignore_client_abort)),
    bind(c"rs_uwsgi_bind", ANY | NGX_CONF_TAKE12, at!(upstream.local)),
    flag(c"rs_uwsgi_socket_keepalive", FLAG, at!(upstream.socket_keepalive)),
    msec(c"rs_uwsgi_connect_timeout", ONE, at!(upstream.connect_timeout)),
    msec(c"rs_uwsgi_send_timeout", ONE, at!(upstream.send_timeout)),
    msec(c"rs_uwsgi_read_timeout", ONE, at!(upstream.read_timeout)),
    size(c"rs_uwsgi_buffer_size", ONE, at!(upstream.buffer_size)),
    bufs(c"rs_uwsgi_buffers", TWO, at!(upstream.bufs)),
    size(c"rs_uwsgi_busy_buffers_size", ONE, at!(upstream.busy_buffers_size_conf)),
    flag(c"rs_uwsgi_force_ranges", FLAG, at!(upstream.force_ranges)),
    version::limit_rate(c"rs_uwsgi_limit_rate", ONE, at!(upstream.limit_rate)),
    flag(c"rs_uwsgi_pass_request_headers", FLAG, at!(upstream.pass_request_headers)),
    flag(c"rs_uwsgi_pass_request_body", FLAG, at!(upstream.pass_request_body)),
    flag(c"rs_uwsgi_intercept_errors", FLAG, at!(upstream.intercept_errors)),
    #[cfg(ngx_feature = "http_cache")] own::<Uwsgi>(c"rs_uwsgi_cache", ONE, set!(cache::set, upstream)),
    #[cfg(ngx_feature = "http_cache")] own::<Uwsgi>(c"rs_uwsgi_cache_key", ONE, set!(cache::set_key, cache_key)),
    #[cfg(ngx_feature = "http_cache")] cache_path::<Uwsgi>(c"rs_uwsgi_cache_path", NGX_HTTP_MAIN_CONF | crate::nginx::sys::NGX_CONF_2MORE),
    #[cfg(ngx_feature = "http_cache")] predicates(c"rs_uwsgi_cache_bypass", MORE, at!(upstream.cache_bypass)),
    #[cfg(ngx_feature = "http_cache")] predicates(c"rs_uwsgi_no_cache", MORE, at!(upstream.no_cache)),
    #[cfg(ngx_feature = "http_cache")] valid_times(c"rs_uwsgi_cache_valid", MORE, at!(upstream.cache_valid)),
    #[cfg(ngx_feature = "http_cache")] num(c"rs_uwsgi_cache_min_uses", ONE, at!(upstream.cache_min_uses)),
    #[cfg(ngx_feature = "http_cache")] off(c"rs_uwsgi_cache_max_range_offset", ONE, at!(upstream.cache_max_range_offset)),
    #[cfg(ngx_feature = "http_cache")] bitmask(c"rs_uwsgi_cache_use_stale", MORE, at!(upstream.cache_use_stale), &NEXT_UPSTREAM),
    #[cfg(ngx_feature = "http_cache")] methods(c"rs_uwsgi_cache_methods", MORE, at!(upstream.cache_methods)),
    #[cfg(ngx_feature = "http_cache")] flag(c"rs_uwsgi_cache_lock", FLAG, at!(upstream.cache_lock)),
    #[cfg(ngx_feature = "http_cache")] msec(c"rs_uwsgi_cache_lock_timeout", ONE, at!(upstream.cache_lock_timeout)),
    #[cfg(ngx_feature = "http_cache")] msec(c"rs_uwsgi_cache_lock_age", ONE, at!(upstream.cache_lock_age)),
    #[cfg(ngx_feature = "http_cache")] flag(c"rs_uwsgi_cache_revalidate", FLAG, at!(upstream.cache_revalidate)),
    #[cfg(ngx_feature = "http_cache")] flag(c"rs_uwsgi_cache_background_update", ONE, at!(upstream.cache_background_update)),
    path(c"rs_uwsgi_temp_path", ANY | NGX_CONF_TAKE1234, at!(upstream.temp_path)),
    size(c"rs_uwsgi_max_temp_file_size", ONE, at!(upstream.max_temp_file_size_conf)),
    size(c"rs_uwsgi_temp_file_write_size", ONE, at!(upstream.temp_file_write_size_conf)),
    bitmask(c"rs_uwsgi_next_upstream", MORE, at!(upstream.next_upstream), &NEXT_UPSTREAM),
    num(c"rs_uwsgi_next_upstream_tries", ONE, at!(upstream.next_upstream_tries)),
    msec(c"rs_uwsgi_next_upstream_timeout", ONE, at!(upstream.next_upstream_timeout)),
    str_array(c"rs_uwsgi_pass_header", ONE, at!(upstream.pass_headers)),
    str_array(c"rs_uwsgi_hide_header", ONE, at!(upstream.hide_headers)),
    ignored_headers(c"rs_uwsgi_ignore_headers", MORE, at!(upstream.ignore_headers)),
    #[cfg(ngx_feature = "http_ssl")] flag(c"rs_uwsgi_ssl_session_reuse", FLAG, at!(upstream.ssl_session_reuse)),
    #[cfg(ngx_feature = "http_ssl")] bitmask(c"rs_uwsgi_ssl_protocols", MORE, at!(tls.protocols), &TLS_PROTOCOLS),
    #[cfg(ngx_feature = "http_ssl")] str(c"rs_uwsgi_ssl_ciphers", ONE, at!(tls.ciphers)),
    #[cfg(ngx_feature = "http_ssl")] complex(c"rs_uwsgi_ssl_name", ONE, at!(upstream.ssl_name)),
    #[cfg(ngx_feature = "http_ssl")] flag(c"rs_uwsgi_ssl_server_name", FLAG, at!(upstream.ssl_server_name)),
    #[cfg(ngx_feature = "http_ssl")] flag(c"rs_uwsgi_ssl_verify", FLAG, at!(upstream.ssl_verify)),
    #[cfg(ngx_feature = "http_ssl")] num(c"rs_uwsgi_ssl_verify_depth", ONE, at!(tls.verify_depth)),
    #[cfg(ngx_feature = "http_ssl")] str(c"rs_uwsgi_ssl_trusted_certificate", ONE, at!(tls.trusted_certificate)),
    #[cfg(ngx_feature = "http_ssl")] str(c"rs_uwsgi_ssl_crl", ONE, at!(tls.crl)),
    #[cfg(ngx_feature = "http_ssl")] complex_or_none(c"rs_uwsgi_ssl_certificate", ONE, at!(upstream.ssl_certificate)),
    #[cfg(ngx_feature = "http_ssl")] complex_or_none(c"rs_uwsgi_ssl_certificate_key", ONE, at!(upstream.ssl_certificate_key)),
    #[cfg(ngx_feature = "http_ssl")] own::<Uwsgi>(c"rs_uwsgi_ssl_password_file", ONE, set!(tls::set_password_file, upstream.ssl_passwords)),
    #[cfg(ngx_feature = "http_ssl")] key_value(c"rs_uwsgi_ssl_conf_command", TWO, at!(tls.conf_commands)),
    // this module's own
    own::<Uwsgi>(c"rs_uwsgi_drop_headers", MORE, set!(params::set_drop_headers, drop_headers)),
    own::<Uwsgi>(c"rs_uwsgi_max_vars", ONE, set!(params::set_max_vars, max_vars)),
    shared::<Uwsgi>(c"rs_uwsgi_keepalive", SHARED, set_shared!(connections::set_number, idle)),
    shared::<Uwsgi>(c"rs_uwsgi_keepalive_timeout", SHARED, set_shared!(connections::set_time, timeout)),
    shared::<Uwsgi>(c"rs_uwsgi_keepalive_requests", SHARED, set_shared!(connections::set_number, requests)),
    shared::<Uwsgi>(c"rs_uwsgi_keepalive_time", SHARED, set_shared!(connections::set_time, age)),
    shared::<Uwsgi>(c"rs_uwsgi_reuse", SHARED, set_shared!(connections::set_word, reuse; REUSE)),
    shared::<Uwsgi>(c"rs_uwsgi_max_connections", SHARED, set_shared!(connections::set_max_connections, max_connections)),
    shared::<Uwsgi>(c"rs_uwsgi_queue", ANY | NGX_HTTP_UPS_CONF | NGX_CONF_TAKE123, set_shared!(connections::set_queue, queue, queue_timeout, order)),
    own::<Uwsgi>(c"rs_uwsgi_priority", ONE, set!(priority::set, priority)),
    shared::<Uwsgi>(c"rs_uwsgi_connect_retry", SHARED, set_shared!(connections::set_time, connect_retry)),
    shared::<Uwsgi>(c"rs_uwsgi_health_check", NGX_HTTP_LOC_CONF | NGX_HTTP_UPS_CONF | NGX_CONF_ANY, set_shared!(health::set, health)),
    shared::<Uwsgi>(c"rs_uwsgi_slow_start", SHARED, set_shared!(connections::set_time, slow_start)),
    shared::<Uwsgi>(c"rs_uwsgi_stats", NGX_HTTP_MAIN_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_UPS_CONF | NGX_CONF_TAKE12, set_shared!(connections::stats::set, stats)),
    own::<Uwsgi>(c"rs_uwsgi_zone", NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, &(zone::set as Setter)),
    own::<Uwsgi>(c"rs_uwsgi_status", NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, &(status::set as Setter)),
    own::<Uwsgi>(c"rs_uwsgi_status_zone", NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set!(status::set_zone, status_zone)),
    own::<Uwsgi>(c"rs_uwsgi_mount", NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, set!(mount::set, mount)),
], &version::since_1_31_3(size(c"rs_uwsgi_socket_rcvbuf", ONE, at!(upstream) + version::SOCKET_BUFFERS[0])),
    &version::since_1_31_3(size(c"rs_uwsgi_socket_sndbuf", ONE, at!(upstream) + version::SOCKET_BUFFERS[1])),
    #[cfg(ngx_feature = "http_ssl")] &version::ssl_certificate_cache(own::<Uwsgi>(c"rs_uwsgi_ssl_certificate_cache", ANY | NGX_CONF_TAKE123, set!(tls::set_certificate_cache, upstream))),
]);
