//! What only some versions of nginx have, behind functions that every version has.
//!
//! build.rs makes a cfg of each version that changed something. Where a member or a function itself is
//! another one, the cfg stands beside its use:
//!
//! | since | what | where |
//! |---|---|---|
//! | 1.23.0 | headers that repeat are linked (`ngx_table_elt_t.next`) | `headers`, `request`, `value` |
//! | 1.25.3 | a Status header without a phrase is no status line | `crate::response` |
//! | 1.27.0 | `upstream.limit_rate` is a complex value | `crate::conf::directives` |
//! | 1.27.4 | `ssl_certificate_cache` | `tls`, `crate::conf` |
//! | 1.27.5 | passwords of keys are merged by a function of nginx's | `tls` |
//! | 1.29.0 | 103 is passed on | here |
//! | 1.29.6 | balancers name servers for sessions (`peer.sid`) | `balancer` |
//! | 1.31.3 | sizes of the buffers of sockets | `connect`, `crate::conf` |

use super::sys::ngx_http_upstream_conf_t;
use super::{Error, Request, Upstream};

/// Lets nginx pass 103 responses on, as far as `early_hints` allows (1.29.0 and later).
pub fn pass_early_hints(conf: &mut ngx_http_upstream_conf_t) {
    #[cfg(nginx1_29_0)]
    {
        conf.pass_early_hints = 1;
    }
    let _ = conf;
}

impl<'a> Upstream<'a> {
    /// May a 103 response that is being read be passed on? Not where `early_hints` is not configured,
    /// nor out of the cache, nor in a flood: behind as many bytes of them as a head may have, they stay
    /// in the buffer, which bounds them.
    pub fn passes_early_hints(self, r: Request<'a>) -> bool {
        #[cfg(nginx1_29_0)]
        {
            use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

            // SAFETY: the request is valid; its location has a configuration of the core module.
            let core = unsafe { NgxHttpCoreModule::location_conf(&*r.as_ptr()) };
            let is_configured = core.is_some_and(|core| !core.early_hints.is_null());
            let conf = field!(self, conf);
            // SAFETY: `wire` put the location's configuration there.
            let limit = unsafe { (*conf).buffer_size };
            let passed = field!(self, early_hints_length);
            is_configured && !r.is_cached() && usize::try_from(passed).is_ok_and(|n| n <= limit)
        }
        #[cfg(not(nginx1_29_0))]
        {
            let _ = r;
            false
        }
    }
}

/// Has nginx pass on the interim response whose head was read, and read the next one:
/// `NGX_HTTP_UPSTREAM_EARLY_HINTS`. Only after [`Upstream::passes_early_hints`].
pub fn early_hints() -> Error {
    #[cfg(nginx1_29_0)]
    return Error::Status(super::sys::NGX_HTTP_UPSTREAM_EARLY_HINTS as super::sys::ngx_int_t);
    #[cfg(not(nginx1_29_0))]
    Error::Failed
}
