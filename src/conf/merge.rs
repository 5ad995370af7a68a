//! Inheritance from block to block, defaults, and the checks across directives.
//!
//! Mirrors `ngx_http_uwsgi_merge_loc_conf` of nginx's src/http/modules/ngx_http_uwsgi_module.c; the
//! messages are stock's, with this module's names.

use std::ffi::CStr;
use std::rc::Rc;

use super::params::{self, HeaderFilter, ParamSet};
use super::{store, Encoding, LocConf};
use crate::nginx::conf::{string, Conf, Error};
use crate::nginx::sys::{
    ngx_bufs_t, ngx_flag_t, ngx_http_upstream_conf_t, ngx_str_t, ngx_uint_t, off_t,
    NGX_CONF_BITMASK_SET, NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_OFF,
    NGX_HTTP_UPSTREAM_FT_TIMEOUT,
};
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::upstream_conf::{cache, set_cache};
use crate::nginx::upstream_conf::{set_store, Strings, Switch};
use crate::nginx::{page_size, unset_pointer, version};
use crate::pure::uwsgi::names::DEFAULT_DROP_HEADERS;
use crate::pure::uwsgi::packet::MAX_VARS;
use crate::pure::uwsgi::vars::Vars;

/// Response headers for nginx itself, which the client never sees.
static HIDDEN_HEADERS: Strings = Strings::new(&[
    string(c"X-Accel-Expires"),
    string(c"X-Accel-Redirect"),
    string(c"X-Accel-Limit-Rate"),
    string(c"X-Accel-Buffering"),
    string(c"X-Accel-Charset"),
    string(c""),
]);

/// What nginx takes for "not configured" in a value of this type.
pub trait Unset: Copy + PartialEq {
    /// `NGX_CONF_UNSET…`.
    const UNSET: Self;
    /// Zero, or no pointer: a default that means "none".
    const NONE: Self;
}

impl Unset for ngx_flag_t {
    const UNSET: Self = crate::nginx::NGX_CONF_UNSET;
    const NONE: Self = 0;
}

impl Unset for off_t {
    const UNSET: Self = crate::nginx::NGX_CONF_UNSET as off_t;
    const NONE: Self = 0;
}

impl<T> Unset for *mut T {
    const UNSET: Self = unset_pointer();
    const NONE: Self = std::ptr::null_mut();
}

/// Numbers, sizes and times in milliseconds are all of this type.
impl Unset for ngx_uint_t {
    const UNSET: Self = crate::nginx::NGX_CONF_UNSET_UINT;
    const NONE: Self = 0;
}

/// The value of this block, else of the block around it, else the default.
pub fn inherit<T: Unset>(own: &mut T, outer: T, default: T) {
    if *own == T::UNSET {
        *own = if outer == T::UNSET { default } else { outer };
    }
}

/// The same for bits, of which one is always set once they are configured.
pub fn inherit_mask(own: &mut ngx_uint_t, outer: ngx_uint_t, default: ngx_uint_t) {
    if *own == 0 {
        *own = if outer == 0 { MASK_SET | default } else { outer };
    }
}

/// The same for strings.
pub fn inherit_string(own: &mut ngx_str_t, outer: ngx_str_t, default: &'static CStr) {
    if own.data.is_null() {
        *own = if outer.data.is_null() { string(default) } else { outer };
    }
}

const MASK_SET: ngx_uint_t = NGX_CONF_BITMASK_SET as ngx_uint_t;

/// A row for each plain value of `ngx_http_upstream_conf_t`: its unset value and its inheritance.
macro_rules! plain_values {
    ($($(#[$only:meta])* $field:ident = $default:expr;)*) => {
        /// Marks every value as not configured, where zero does not say so already.
        pub fn unset(upstream: &mut ngx_http_upstream_conf_t) {
            $( $(#[$only])* { upstream.$field = Unset::UNSET; } )*
            upstream.hide_headers = Unset::UNSET;
            upstream.pass_headers = Unset::UNSET;
            set_store(upstream, Switch::Unset);
            version::pass_early_hints(upstream);
            #[cfg(ngx_feature = "http_cache")]
            set_cache(upstream, Switch::Unset);
            #[cfg(ngx_feature = "http_ssl")]
            { upstream.ssl_passwords = Unset::UNSET; }
        }

        fn merge_plain_values(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
            $( $(#[$only])* inherit(&mut own.$field, outer.$field, $default); )*
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
    #[cfg(nginx1_31_3)]
    socket_rcvbuf = 0;
    #[cfg(nginx1_31_3)]
    socket_sndbuf = 0;
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
    #[cfg(all(ngx_feature = "http_ssl", nginx1_27_4))]
    ssl_certificate_cache = Unset::NONE;
}

/// Completes a block's configuration from that of the block around it.
///
/// # Errors
///
/// Values that contradict each other.
pub fn merge(cf: Conf<'_>, outer: &mut LocConf, own: &mut LocConf) -> Result<(), Error> {
    #[cfg(ngx_feature = "http_cache")]
    super::cache::exclude(own);
    #[cfg(ngx_feature = "http_ssl")]
    super::tls::share_context(cf, outer, own)?;

    own.sets_buffering = Some(own.buffering_is_explicit() || outer.buffering_is_explicit());
    merge_plain_values(&mut own.upstream, &outer.upstream);
    store::merge(&mut own.upstream, &outer.upstream);
    merge_sizes(cf, &mut own.upstream, &outer.upstream)?;
    merge_masks(&mut own.upstream, &outer.upstream);
    #[cfg(ngx_feature = "http_cache")]
    super::cache::merge(cf, own, outer)?;
    #[cfg(ngx_feature = "http_ssl")]
    super::tls::merge(cf, outer, own)?;
    cf.merge_temp_path(&mut own.upstream, &outer.upstream)?;
    cf.merge_hidden_headers(&mut own.upstream, &mut outer.upstream, &HIDDEN_HEADERS)?;

    inherit_string(&mut own.string, outer.string, c"");
    own.string_has_no_length = has_no_length(own.string());
    own.reuse.inherit(&outer.reuse);
    inherit(&mut own.max_vars, outer.max_vars, MAX_VARS);
    if own.max_vars > MAX_VARS {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_max_vars\" {} is greater than {MAX_VARS}, the most that the protocol allows",
            own.max_vars
        )));
    }
    own.modifier1 = own.modifier1.or(outer.modifier1);
    own.modifier2 = own.modifier2.or(outer.modifier2);
    own.mount = own.mount.take().or_else(|| outer.mount.clone());

    // A block that is never a child, "http", takes its defaults here, for all its children.
    let drop_headers =
        outer.drop_headers.get_or_insert_with(|| Rc::new(DEFAULT_DROP_HEADERS.iter().collect()));
    own.drop_headers.get_or_insert_with(|| Rc::clone(drop_headers));
    let params =
        outer.take_params(cf)?.get_or_insert_with(|| Rc::new(ParamSet::standard())).clone();
    own.take_params(cf)?.get_or_insert(params);

    merge_pass(cf, outer, own);
    if own.passes() {
        super::reuse::register(cf, own);
        compile(cf, own)?;
    }
    Ok(())
}

/// Are these bytes vars, none of them a CONTENT_LENGTH? What is no var may be read as anything.
fn has_no_length(string: &[u8]) -> bool {
    Vars::new(string).all(|var| matches!(var, Ok((name, _)) if name != b"CONTENT_LENGTH"))
}

impl LocConf {
    /// The parameters in effect, with those of this block, which replace all of the block around it.
    fn take_params(&mut self, cf: Conf<'_>) -> Result<&mut Option<Rc<ParamSet>>, Error> {
        if !self.own_params.is_empty() {
            let params = ParamSet::new(std::mem::take(&mut self.own_params));
            // as in stock, a wrong variable is an error also where nothing is passed on
            params.compiled(cf)?;
            self.params = Some(Rc::new(params));
        }
        Ok(&mut self.params)
    }
}

/// The blocks of `if` and `limit_except` pass on where their location does.
fn merge_pass(cf: Conf<'_>, outer: &LocConf, own: &mut LocConf) {
    if cf.is_nameless() && !own.passes() {
        own.upstream.upstream = outer.upstream.upstream;
        own.pass = outer.pass;
        #[cfg(ngx_feature = "http_ssl")]
        {
            own.tls.wanted = outer.tls.wanted;
        }
    }
    if cf.is_limit_except() && !cf.has_content_handler() && own.passes() {
        cf.set_content_handler::<crate::handler::Handler>();
    }
}

/// Makes what requests need: the encoder's program, and the TLS context.
fn compile(cf: Conf<'_>, own: &mut LocConf) -> Result<(), Error> {
    if let (Some(params), Some(drop_headers)) = (&own.params, &own.drop_headers) {
        let encoding = |vars: Rc<params::Vars>| Encoding {
            header_filter: HeaderFilter::new(&vars, drop_headers),
            vars,
        };
        own.encoding = Some(encoding(params.compiled(cf)?));
        #[cfg(ngx_feature = "http_cache")]
        if cache(&own.upstream) == Switch::On {
            own.cached_encoding = Some(encoding(params.compiled_for_cache(cf)?));
        }
    }
    #[cfg(ngx_feature = "http_ssl")]
    super::tls::create_context(cf, own)?;
    Ok(())
}

fn merge_sizes(
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

fn merge_masks(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
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
