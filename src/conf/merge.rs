//! Inheritance from block to block, defaults, and the checks across directives.
//!
//! Mirrors `ngx_http_uwsgi_merge_loc_conf` of nginx's src/http/modules/ngx_http_uwsgi_module.c; the
//! messages are stock's, with this module's names.

use std::rc::Rc;

use super::params::{CompiledParams, HeaderFilter, ParamSet};
use super::{connections, health, heard, plain, store, Encoding, LocConf};
use crate::module::Uwsgi;
use crate::nginx::conf::{string, Conf, Error};
use crate::nginx::growing;
use crate::nginx::merge::{inherit, inherit_string, Unset};
use crate::nginx::upstream_conf::Strings;
#[cfg(ngx_feature = "http_cache")]
use crate::nginx::upstream_conf::{cache, Switch};
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
    own.sets_buffers = Some(own.buffers_are_explicit() || outer.buffers_are_explicit());
    plain::inherit_all(&mut own.upstream, &outer.upstream);
    store::merge(&mut own.upstream, &outer.upstream);
    plain::merge_sizes(cf, &mut own.upstream, &outer.upstream)?;
    let sizes = [own.upstream.busy_buffers_size_conf, own.upstream.temp_file_write_size_conf];
    own.buffers_grow = own.sets_buffers == Some(false)
        && sizes == [Unset::UNSET; 2]
        && growing::suits(&own.upstream);
    plain::merge_masks(&mut own.upstream, &outer.upstream);
    #[cfg(ngx_feature = "http_cache")]
    super::cache::merge(cf, own, outer)?;
    #[cfg(ngx_feature = "http_ssl")]
    super::tls::merge(cf, outer, own)?;
    cf.merge_temp_path(&mut own.upstream, &outer.upstream)?;
    cf.merge_hidden_headers(&mut own.upstream, &mut outer.upstream, &HIDDEN_HEADERS)?;

    inherit_string(&mut own.string, outer.string, c"");
    own.string_has_no_length = has_no_length(own.string());
    let says_check = own.connections.health.is_some();
    own.connections.inherit(&outer.connections);
    inherit(&mut own.max_vars, outer.max_vars, MAX_VARS);
    own.modifier1 = own.modifier1.or(outer.modifier1);
    own.modifier2 = own.modifier2.or(outer.modifier2);
    own.status_zone = own.status_zone.or(outer.status_zone);
    own.priority = own.priority.or(outer.priority);
    own.mount = own.mount.take().or_else(|| outer.mount.clone());

    // A block that is never a child, "http", takes its defaults here, for all its children.
    let drop_headers =
        outer.drop_headers.get_or_insert_with(|| Rc::new(DEFAULT_DROP_HEADERS.iter().collect()));
    own.drop_headers.get_or_insert_with(|| Rc::clone(drop_headers));
    let params =
        outer.take_params(cf)?.get_or_insert_with(|| Rc::new(ParamSet::standard())).clone();
    own.take_params(cf)?.get_or_insert(params);

    own.heard.inherit(&outer.heard);
    merge_pass(cf, outer, own);
    if says_check {
        health::check_location(cf, own)?;
        health::place(cf, own)?;
    }
    if own.passes() {
        connections::register(cf, own);
        compile(cf, own)?;
        heard::warn(cf, own);
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
        cf.set_content_handler::<Uwsgi>();
    }
    if cf.is_limit_except() && !cf.has_content_handler() && outer.is_status {
        cf.set_answer_handler::<Uwsgi>();
    }
}

/// Makes what requests need: the encoder's program, and the TLS context.
fn compile(cf: Conf<'_>, own: &mut LocConf) -> Result<(), Error> {
    if let (Some(params), Some(drop_headers)) = (&own.params, &own.drop_headers) {
        let encoding = |vars: Rc<CompiledParams>| Encoding {
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
