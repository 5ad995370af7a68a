//! The configuration of a location: its type and its unset values.
//!
//! Mirrors `ngx_http_uwsgi_loc_conf_t` and `ngx_http_uwsgi_create_loc_conf` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use std::cell::OnceCell;
use std::rc::Rc;

use super::connections::{EffectiveSettings, Settings};
use super::heard::Heard;
use super::modifiers::Modifier;
use super::params::{CompiledParams, HeaderFilter, ParamSet, ParamSource};
use super::plain;
use super::priority::Priority;
#[cfg(ngx_feature = "http_ssl")]
use super::tls;
use crate::module::Uwsgi;

use crate::nginx::conf;
use crate::nginx::merge::Unset;
use crate::nginx::sys::{
    ngx_http_upstream_conf_t, ngx_str_t, NGX_HTTP_UPSTREAM_FT_ERROR, NGX_HTTP_UPSTREAM_FT_TIMEOUT,
};
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::upstream_conf;
use crate::nginx::upstream_conf::zeroed_upstream_conf;
use crate::nginx::value::ComplexValue;
use crate::nginx::{Error, Request};
use crate::pure::uwsgi::header_set::HeaderSet;

/// How requests of a location are passed on. nginx's own setters write into it by offset, hence
/// `repr(C)` and nginx's types.
#[repr(C)]
pub struct LocConf {
    /// What nginx's upstream machinery reads.
    pub upstream: ngx_http_upstream_conf_t,
    /// Is `rs_uwsgi_buffering` set, here or around? None until that is known of the blocks around.
    pub sets_buffering: Option<bool>,
    /// Are `rs_uwsgi_buffers` set, here or around? None until that is known of the blocks around.
    pub sets_buffers: Option<bool>,
    /// May the buffers of a response grow by themselves?
    pub buffers_grow: bool,
    /// `rs_uwsgi_string`: bytes appended to the vars as they are.
    pub string: ngx_str_t,
    /// Does `rs_uwsgi_string` hold no CONTENT_LENGTH for certain?
    pub string_has_no_length: bool,
    /// `rs_uwsgi_keepalive`, `rs_uwsgi_queue` and their kin.
    pub connections: Settings,
    /// What of these is in force, where all requests go to one upstream.
    pub effective: OnceCell<EffectiveSettings>,
    /// `rs_uwsgi_max_vars`: the most bytes that the vars may have.
    pub max_vars: usize,
    /// `rs_uwsgi_status`.
    pub is_status: bool,
    /// `rs_uwsgi_status_zone`.
    pub status_zone: Option<ComplexValue>,
    /// `rs_uwsgi_pass` with variables in its argument.
    pub pass: Option<ComplexValue>,
    /// `rs_uwsgi_modifier1`.
    pub modifier1: Option<Modifier>,
    /// `rs_uwsgi_modifier2`.
    pub modifier2: Option<Modifier>,
    /// `rs_uwsgi_mount`: the prefix of the path that becomes SCRIPT_NAME, without a slash at its end.
    pub mount: Option<Rc<[u8]>>,
    /// `rs_uwsgi_priority`: which of those who wait matter more.
    pub priority: Option<Priority>,
    /// `rs_uwsgi_drop_headers`: request headers that the application does not get.
    pub drop_headers: Option<Rc<HeaderSet>>,
    /// `rs_uwsgi_param` lines of this block, while it is read.
    pub own_params: Vec<ParamSource>,
    /// What is written in this block, and around it.
    pub heard: Heard,
    /// The parameters in effect: this block's, or else those of the block around it.
    pub params: Option<Rc<ParamSet>>,
    /// `rs_uwsgi_cache_key`.
    #[cfg(ngx_feature = "http_cache")]
    pub cache_key: Option<ComplexValue>,
    /// `rs_uwsgi_ssl_…`.
    #[cfg(ngx_feature = "http_ssl")]
    pub tls: tls::Tls,
    /// What is sent with a request; in locations that pass requests on.
    pub encoding: Option<Encoding>,
    /// What is sent with a request whose response is to be cached.
    pub cached_encoding: Option<Encoding>,
}

/// Parameters and headers, compiled.
pub struct Encoding {
    /// The parameters.
    pub vars: Rc<CompiledParams>,
    /// The headers that parameters replace, and those that are dropped.
    pub header_filter: HeaderFilter,
}

impl LocConf {
    /// A configuration in which nothing is set yet.
    pub fn unset() -> LocConf {
        let mut upstream = zeroed_upstream_conf();
        plain::unset(&mut upstream);
        // X-Accel-Buffering may turn buffering on and off
        upstream.set_change_buffering(1);
        upstream.module = conf::string(c"rs_uwsgi");

        LocConf {
            upstream,
            sets_buffering: None,
            sets_buffers: None,
            buffers_grow: false,
            string: conf::UNSET_STRING,
            string_has_no_length: false,
            connections: Settings::unset(),
            effective: OnceCell::new(),
            max_vars: Unset::UNSET,
            is_status: false,
            status_zone: None,
            pass: None,
            modifier1: None,
            modifier2: None,
            mount: None,
            priority: None,
            drop_headers: None,
            own_params: Vec::new(),
            heard: Heard::default(),
            params: None,
            #[cfg(ngx_feature = "http_cache")]
            cache_key: None,
            #[cfg(ngx_feature = "http_ssl")]
            tls: tls::Tls::UNSET,
            encoding: None,
            cached_encoding: None,
        }
    }

    /// Does the location pass requests on?
    pub fn passes(&self) -> bool {
        !self.upstream.upstream.is_null() || self.pass.is_some()
    }

    /// Is `rs_uwsgi_buffering` set, in this block or in one around it?
    pub fn buffering_is_explicit(&self) -> bool {
        // the outermost block has none around it
        self.sets_buffering.unwrap_or(self.upstream.buffering != Unset::UNSET)
    }

    /// Are `rs_uwsgi_buffers` set, in this block or in one around it?
    pub fn buffers_are_explicit(&self) -> bool {
        self.sets_buffers.unwrap_or(self.upstream.bufs.num != 0)
    }

    /// The configuration of a request's location.
    #[inline(always)]
    pub fn of(r: Request<'_>) -> &LocConf {
        r.location::<Uwsgi>()
    }

    /// What is in force for a request to an upstream whose users have agreed on `shared`. Where variables
    /// may name any upstream, it is made for each request; else once.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn settings_for<'a>(
        &'a self,
        r: Request<'a>,
        shared: &Settings,
    ) -> Result<&'a EffectiveSettings, Error> {
        let make = || EffectiveSettings::of(shared, &self.connections);
        match self.pass {
            Some(_) => r.pool().share(make()),
            None => Ok(self.effective.get_or_init(make)),
        }
    }

    /// Does a request go to the next server after an error on the connection to one?
    pub fn tries_again_on_error(&self) -> bool {
        self.upstream.next_upstream & NGX_HTTP_UPSTREAM_FT_ERROR as usize != 0
    }

    /// Does a request go to the next server after one has not answered in time?
    pub fn tries_again_on_timeout(&self) -> bool {
        self.upstream.next_upstream & NGX_HTTP_UPSTREAM_FT_TIMEOUT as usize != 0
    }

    /// Are responses cached?
    pub fn caches(&self) -> bool {
        #[cfg(ngx_feature = "http_cache")]
        return upstream_conf::cache(&self.upstream) == upstream_conf::Switch::On;
        #[cfg(not(ngx_feature = "http_cache"))]
        return false;
    }

    /// The bytes of `rs_uwsgi_string`.
    pub fn string(&self) -> &[u8] {
        conf::bytes(&self.string)
    }
}
