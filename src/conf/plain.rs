//! The values of `ngx_http_upstream_conf_t` that nginx's setters write: their unset values, their
//! inheritance and defaults, and which of them suit each other.
//!
//! Mirrors `ngx_http_uwsgi_create_loc_conf` and `ngx_http_uwsgi_merge_loc_conf` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use crate::nginx::conf::{Conf, Error};
use crate::nginx::merge::{inherit, inherit_mask, Unset, MASK_SET};
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::sys::off_t;
use crate::nginx::sys::{
    ngx_bufs_t, ngx_http_upstream_conf_t, ngx_uint_t, NGX_HTTP_UPSTREAM_FT_ERROR,
    NGX_HTTP_UPSTREAM_FT_OFF, NGX_HTTP_UPSTREAM_FT_TIMEOUT,
};
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::upstream_conf::set_cache;
use crate::nginx::upstream_conf::{set_store, Switch};
use crate::nginx::{page_size, version};

/// A row for each plain value of `ngx_http_upstream_conf_t`: its unset value and its inheritance.
macro_rules! plain_values {
    ($($(#[$only:meta])* $field:ident = $default:expr;)*) => {
        /// Marks every value as not configured, where zero does not say so already.
        pub fn unset(upstream: &mut ngx_http_upstream_conf_t) {
            $( $(#[$only])* { upstream.$field = Unset::UNSET; } )*
            upstream.hide_headers = Unset::UNSET;
            upstream.pass_headers = Unset::UNSET;
            set_store(upstream, Switch::Unset);
            version::unset(upstream);
            #[cfg(ngx_feature = "http_cache")]
            set_cache(upstream, Switch::Unset);
            #[cfg(ngx_feature = "http_ssl")]
            { upstream.ssl_passwords = Unset::UNSET; }
        }

        /// The values of this block, else of the block around it, else the default.
        pub fn inherit_all(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
            $( $(#[$only])* inherit(&mut own.$field, outer.$field, $default); )*
            version::inherit_all(own, outer);
        }
    };
}

plain_values! {
    buffering = 1;
    request_buffering = 1;
    ignore_client_abort = 0;
    connect_timeout = 60_000;
    send_timeout = 60_000;
    read_timeout = 60_000;
    next_upstream_timeout = 0;
    next_upstream_tries = 0;
    send_lowat = 0;
    buffer_size = page_size();
    busy_buffers_size_conf = Unset::UNSET;
    temp_file_write_size_conf = Unset::UNSET;
    max_temp_file_size_conf = Unset::UNSET;
    pass_request_headers = 1;
    pass_request_body = 1;
    intercept_errors = 0;
    store_access = 0o600;
    force_ranges = 0;
    socket_keepalive = 0;
    local = Unset::NONE;
    limit_rate = Unset::NONE;
    #[cfg(ngx_feature = "http_cache")]
    cache_min_uses = 1;
    #[cfg(ngx_feature = "http_cache")]
    cache_max_range_offset = off_t::MAX;
    #[cfg(ngx_feature = "http_cache")]
    cache_bypass = Unset::NONE;
    #[cfg(ngx_feature = "http_cache")]
    no_cache = Unset::NONE;
    #[cfg(ngx_feature = "http_cache")]
    cache_valid = Unset::NONE;
    #[cfg(ngx_feature = "http_cache")]
    cache_lock = 0;
    #[cfg(ngx_feature = "http_cache")]
    cache_lock_timeout = 5_000;
    #[cfg(ngx_feature = "http_cache")]
    cache_lock_age = 5_000;
    #[cfg(ngx_feature = "http_cache")]
    cache_revalidate = 0;
    #[cfg(ngx_feature = "http_cache")]
    cache_background_update = 0;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_session_reuse = 1;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_name = Unset::NONE;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_server_name = 0;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_verify = 0;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_certificate = Unset::NONE;
    #[cfg(ngx_feature = "http_ssl")]
    ssl_certificate_key = Unset::NONE;
}

/// The sizes of buffers and files, which must suit each other.
///
/// # Errors
///
/// Sizes that do not.
pub fn merge_sizes(
    cf: Conf<'_>,
    own: &mut ngx_http_upstream_conf_t,
    outer: &ngx_http_upstream_conf_t,
) -> Result<(), Error> {
    if own.bufs.num == 0 {
        own.bufs =
            if outer.bufs.num == 0 { ngx_bufs_t { num: 8, size: page_size() } } else { outer.bufs };
    }
    if own.bufs.num < 2 {
        return Err(cf.error(format_args!("there must be at least 2 \"rs_uwsgi_buffers\"")));
    }

    let largest = own.buffer_size.max(own.bufs.size);
    let configured = |value: usize, default: usize| {
        if value == Unset::UNSET {
            default
        } else {
            value
        }
    };

    own.busy_buffers_size = configured(own.busy_buffers_size_conf, 2 * largest);
    if own.busy_buffers_size < largest {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_busy_buffers_size\" must be equal to or greater than the maximum of the \
             value of \"rs_uwsgi_buffer_size\" and one of the \"rs_uwsgi_buffers\""
        )));
    }
    if own.busy_buffers_size > (own.bufs.num as usize - 1).saturating_mul(own.bufs.size) {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_busy_buffers_size\" must be less than the size of all \"rs_uwsgi_buffers\" \
             minus one buffer"
        )));
    }

    own.temp_file_write_size = configured(own.temp_file_write_size_conf, 2 * largest);
    if own.temp_file_write_size < largest {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_temp_file_write_size\" must be equal to or greater than the maximum of the \
             value of \"rs_uwsgi_buffer_size\" and one of the \"rs_uwsgi_buffers\""
        )));
    }

    own.max_temp_file_size = configured(own.max_temp_file_size_conf, 1024 * 1024 * 1024);
    if own.max_temp_file_size != 0 && own.max_temp_file_size < largest {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_max_temp_file_size\" must be equal to zero to disable temporary files usage \
             or must be equal to or greater than the maximum of the value of \
             \"rs_uwsgi_buffer_size\" and one of the \"rs_uwsgi_buffers\""
        )));
    }
    Ok(())
}

/// Directives of which each word is a bit.
pub fn merge_masks(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
    const ERROR: ngx_uint_t = NGX_HTTP_UPSTREAM_FT_ERROR as ngx_uint_t;
    const TIMEOUT: ngx_uint_t = NGX_HTTP_UPSTREAM_FT_TIMEOUT as ngx_uint_t;
    const OFF: ngx_uint_t = NGX_HTTP_UPSTREAM_FT_OFF as ngx_uint_t;

    // "off" among other words wins
    let off_wins = |mask: &mut ngx_uint_t| {
        if *mask & OFF != 0 {
            *mask = MASK_SET | OFF;
        }
    };

    inherit_mask(&mut own.ignore_headers, outer.ignore_headers, 0);
    inherit_mask(&mut own.next_upstream, outer.next_upstream, ERROR | TIMEOUT);
    off_wins(&mut own.next_upstream);

    #[cfg(ngx_feature = "http_cache")]
    {
        inherit_mask(&mut own.cache_use_stale, outer.cache_use_stale, OFF);
        off_wins(&mut own.cache_use_stale);
        if own.cache_use_stale & ERROR != 0 {
            own.cache_use_stale |= crate::nginx::sys::NGX_HTTP_UPSTREAM_FT_NOLIVE as ngx_uint_t;
        }
    }
}
