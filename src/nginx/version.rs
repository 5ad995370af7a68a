//! What differs between the versions of nginx, behind items that every version has.
//!
//! build.rs makes a cfg of each version that changed something; no other file has any of them
//! (scripts/rooms). What is missing in the nginx built against does nothing here.
//!
//! | since | what | here |
//! |---|---|---|
//! | 1.23.0 | headers that repeat are linked (`ngx_table_elt_t.next`) | [`header`], [`is_joined`] |
//! | 1.25.3 | a Status header without a phrase is no status line | [`STATUS_IS_LINE`] |
//! | 1.27.0 | `upstream.limit_rate` is a complex value | [`limit_rate`] |
//! | 1.27.3 | names of servers are looked up again and again | [`changes`], [`has_zone`], [`while_locked`] |
//! | 1.27.4 | `ssl_certificate_cache` | `ssl_certificate_cache`, `set_certificate_cache` |
//! | 1.27.5 | passwords of keys are merged by a function of nginx's | `merge_passwords` |
//! | 1.29.0 | 103 is passed on | [`unset`], [`Upstream::passes_early_hints`], [`early_hints`] |
//! | 1.29.6 | balancers name servers for sessions (`peer.sid`) | [`Sid`] |
//! | 1.29.6 | balancers hear of a response's head (`peer.notify`) | nothing: the member is older |
//! | 1.31.3 | sizes of the buffers of sockets | [`SOCKET_BUFFERS`], [`since_1_31_3`], [`sndbuf`] |

use core::ffi::{c_int, CStr};
#[cfg(any(nginx1_23_0, peer_sid))]
use core::ptr;

#[cfg(ngx_feature = "http_ssl")]
use super::conf::{self, Conf};
use super::module::Module;
use super::peer::Peer;
use super::slots::Directive;
use super::sys::{
    ngx_http_upstream_conf_t, ngx_http_upstream_rr_peers_t, ngx_http_upstream_srv_conf_t,
    ngx_peer_connection_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
#[cfg(any(peers_config, peers_generation))]
use super::sys::{ngx_rwlock_rlock, ngx_rwlock_unlock};
use super::{Error, Request, Upstream};

/// Does a Status header without a phrase become the whole status line?
pub const STATUS_IS_LINE: bool = cfg!(not(nginx1_25_3));

/// Are the servers of an upstream in memory that all workers share? Asked only where nginx may look up their names
/// ([`changes`]); none are before 1.27.3.
pub(super) fn has_zone(upstream: &ngx_http_upstream_srv_conf_t) -> bool {
    #[cfg(any(peers_config, peers_generation))]
    return !upstream.shm_zone.is_null();
    #[cfg(not(any(peers_config, peers_generation)))]
    {
        let _ = upstream;
        false
    }
}

/// How often the servers in the list have changed; None where nginx looks up none of their names.
///
/// # Safety
///
/// `peers` must be the valid list of an upstream that [`has_zone`].
pub(super) unsafe fn changes(peers: *mut ngx_http_upstream_rr_peers_t) -> Option<usize> {
    #[cfg(any(peers_config, peers_generation))]
    // SAFETY: the caller's promise. Another worker writes the number, which is one word.
    unsafe {
        let backup = (*peers).next;
        let looks_up =
            !(*peers).resolve.is_null() || !backup.is_null() && !(*backup).resolve.is_null();
        #[cfg(peers_config)]
        let number = (*peers).config;
        #[cfg(peers_generation)]
        let number = (*peers).generation;
        (looks_up && !number.is_null()).then(|| number.read_volatile())
    }
    #[cfg(not(any(peers_config, peers_generation)))]
    {
        let _ = peers;
        None
    }
}

/// Runs this while nobody changes the list.
///
/// # Safety
///
/// As of [`changes`].
pub(super) unsafe fn while_locked(peers: *mut ngx_http_upstream_rr_peers_t, run: impl FnOnce()) {
    #[cfg(any(peers_config, peers_generation))]
    // SAFETY: the caller's promise; other workers wait meanwhile.
    unsafe {
        let lock = &raw mut (*peers).rwlock;
        ngx_rwlock_rlock(lock);
        run();
        ngx_rwlock_unlock(lock);
    }
    #[cfg(not(any(peers_config, peers_generation)))]
    {
        let _ = peers;
        run();
    }
}

/// A header for one of nginx's lists.
#[inline(always)]
pub(super) fn header(
    hash: ngx_uint_t,
    key: ngx_str_t,
    value: ngx_str_t,
    lowcase_key: *mut u8,
) -> ngx_table_elt_t {
    ngx_table_elt_t {
        hash,
        key,
        value,
        lowcase_key,
        #[cfg(nginx1_23_0)]
        next: ptr::null_mut(),
    }
}

/// Is the variable of a header that came several times, or was removed, more than its value? nginx makes
/// it then.
#[inline(always)]
pub(super) fn is_joined(header: &ngx_table_elt_t) -> bool {
    #[cfg(nginx1_23_0)]
    return header.hash == 0 || !header.next.is_null();
    #[cfg(not(nginx1_23_0))]
    {
        let _ = header;
        false
    }
}

/// What a balancer calls the server that it has chosen, for `sticky learn`: nothing before 1.29.6.
#[derive(Clone, Copy)]
pub(super) struct Sid(#[cfg(peer_sid)] *mut ngx_str_t);

impl Sid {
    /// Of no server.
    pub const NONE: Sid = Sid(
        #[cfg(peer_sid)]
        ptr::null_mut(),
    );

    /// Of the server that was chosen.
    #[inline(always)]
    pub fn of(peer: &ngx_peer_connection_t) -> Sid {
        let _ = peer;
        Sid(
            #[cfg(peer_sid)]
            peer.sid,
        )
    }

    /// Gives it to a peer.
    ///
    /// # Safety
    ///
    /// `pc` must be a request's peer, and this no name, or the balancer's for the server that `pc` has.
    #[inline(always)]
    pub unsafe fn give(self, pc: *mut ngx_peer_connection_t) {
        #[cfg(peer_sid)]
        // SAFETY: the caller's promise.
        unsafe {
            (*pc).sid = self.0;
        }
        let _ = pc;
    }
}

/// The kernel's buffer for what the server has yet to take, in bytes; 0 is the kernel's own.
#[inline(always)]
pub(super) fn sndbuf<H: Module>(peer: Peer<'_, H>) -> c_int {
    #[cfg(nginx1_31_3)]
    return field!(peer, sndbuf);
    #[cfg(not(nginx1_31_3))]
    {
        let _ = peer;
        0
    }
}

/// The row of `rs_uwsgi_limit_rate`: a number, and from 1.27.0 on a number or variables.
pub const fn limit_rate(name: &'static CStr, context: u32, offset: usize) -> Directive {
    #[cfg(nginx1_27_0)]
    return super::slots::complex_size(name, context, offset);
    #[cfg(not(nginx1_27_0))]
    super::slots::size(name, context, offset)
}

/// How many rows a directive has that came with 1.31.3.
const SINCE_1_31_3: usize = cfg!(nginx1_31_3) as usize;

/// Where the sizes of a socket's buffers are in `ngx_http_upstream_conf_t`, if nginx has them: `socket_rcvbuf`
/// and `socket_sndbuf`.
pub const SOCKET_BUFFERS: [usize; 2] = {
    #[cfg(nginx1_31_3)]
    {
        use core::mem::offset_of;
        [
            offset_of!(ngx_http_upstream_conf_t, socket_rcvbuf),
            offset_of!(ngx_http_upstream_conf_t, socket_sndbuf),
        ]
    }
    #[cfg(not(nginx1_31_3))]
    {
        [0; 2]
    }
};

/// The row of a directive that came with 1.31.3, if nginx has it.
pub const fn since_1_31_3(row: Directive) -> [Directive; SINCE_1_31_3] {
    #[cfg(nginx1_31_3)]
    return [row];
    #[cfg(not(nginx1_31_3))]
    {
        let _ = row;
        []
    }
}

/// How many rows a directive has that came with 1.27.4.
#[cfg(ngx_feature = "http_ssl")]
const SINCE_1_27_4: usize = cfg!(nginx1_27_4) as usize;

/// The row of `rs_uwsgi_ssl_certificate_cache`, if nginx has it.
#[cfg(ngx_feature = "http_ssl")]
pub const fn ssl_certificate_cache(row: Directive) -> [Directive; SINCE_1_27_4] {
    #[cfg(nginx1_27_4)]
    return [row];
    #[cfg(not(nginx1_27_4))]
    {
        let _ = row;
        []
    }
}

/// Marks the values as not configured that only some versions have. nginx may pass 103 responses on, as far
/// as `early_hints` allows.
pub fn unset(upstream: &mut ngx_http_upstream_conf_t) {
    #[cfg(all(ngx_feature = "http_ssl", nginx1_27_4))]
    {
        upstream.ssl_certificate_cache = super::merge::Unset::UNSET;
    }
    #[cfg(nginx1_29_0)]
    {
        upstream.pass_early_hints = 1;
    }
    #[cfg(nginx1_31_3)]
    {
        upstream.socket_rcvbuf = super::merge::Unset::UNSET;
        upstream.socket_sndbuf = super::merge::Unset::UNSET;
    }
    let _ = upstream;
}

/// The values that only some versions have: those of this block, else of the block around it, else none.
pub fn inherit_all(own: &mut ngx_http_upstream_conf_t, outer: &ngx_http_upstream_conf_t) {
    #[cfg(all(ngx_feature = "http_ssl", nginx1_27_4))]
    {
        let none = core::ptr::null_mut();
        super::merge::inherit(&mut own.ssl_certificate_cache, outer.ssl_certificate_cache, none);
    }
    #[cfg(nginx1_31_3)]
    {
        super::merge::inherit(&mut own.socket_rcvbuf, outer.socket_rcvbuf, 0);
        super::merge::inherit(&mut own.socket_sndbuf, outer.socket_sndbuf, 0);
    }
    let _ = (own, outer);
}

/// `rs_uwsgi_ssl_certificate_cache`: a cache of certificates with variables in their names.
#[cfg(ngx_feature = "http_ssl")]
pub struct CertificateCache {
    /// How many it holds.
    pub max: ngx_uint_t,
    /// How long one is taken for the file's, in seconds.
    pub valid: super::sys::time_t,
    /// How long one stays that nobody asks for, in seconds.
    pub inactive: super::sys::time_t,
}

/// Does a block say whether it has a cache of certificates?
#[cfg(ngx_feature = "http_ssl")]
pub fn has_certificate_cache(upstream: &ngx_http_upstream_conf_t) -> bool {
    #[cfg(nginx1_27_4)]
    return upstream.ssl_certificate_cache != super::merge::Unset::UNSET;
    #[cfg(not(nginx1_27_4))]
    {
        let _ = upstream;
        false
    }
}

/// Gives a block a cache of certificates, or says that it has none.
///
/// # Errors
///
/// Memory.
#[cfg(ngx_feature = "http_ssl")]
pub fn set_certificate_cache(
    cf: Conf<'_>,
    upstream: &mut ngx_http_upstream_conf_t,
    cache: Option<CertificateCache>,
) -> Result<(), conf::Error> {
    #[cfg(nginx1_27_4)]
    {
        use super::sys::ngx_ssl_cache_init;

        upstream.ssl_certificate_cache = core::ptr::null_mut();
        if let Some(CertificateCache { max, valid, inactive }) = cache {
            let pool = cf.pool().as_ptr();
            // SAFETY: the pool is valid.
            let cache = unsafe { ngx_ssl_cache_init(pool, max, valid, inactive) };
            if cache.is_null() {
                return Err(conf::Error::Logged);
            }
            upstream.ssl_certificate_cache = cache;
        }
    }
    let _ = (cf, upstream, cache);
    Ok(())
}

/// Inherits passwords. Those of certificates with variables are needed at run time, and are kept.
///
/// # Errors
///
/// Memory.
#[cfg(ngx_feature = "http_ssl")]
pub fn merge_passwords(
    cf: Conf<'_>,
    own: &mut ngx_http_upstream_conf_t,
    outer: &mut ngx_http_upstream_conf_t,
) -> Result<(), conf::Error> {
    #[cfg(nginx1_27_5)]
    {
        use super::sys::ngx_http_upstream_merge_ssl_passwords;

        // SAFETY: the parser and both configurations are valid.
        super::tls::done(unsafe { ngx_http_upstream_merge_ssl_passwords(cf.as_ptr(), own, outer) })
    }
    #[cfg(not(nginx1_27_5))]
    {
        use super::merge::{inherit, Unset};
        use super::tls::configured_value;

        inherit(&mut own.ssl_passwords, outer.ssl_passwords, Unset::NONE);
        let certificate = configured_value(own.ssl_certificate);
        let key = configured_value(own.ssl_certificate_key);
        let at_run_time = certificate.is_some()
            && [certificate, key].iter().flatten().any(|value| value.has_variables());
        if at_run_time {
            // SAFETY: the parser is valid, and the passwords null or an array of nginx's.
            own.ssl_passwords =
                unsafe { super::sys::ngx_ssl_preserve_passwords(cf.as_ptr(), own.ssl_passwords) };
            if own.ssl_passwords.is_null() {
                return Err(conf::Error::Logged);
            }
        }
        Ok(())
    }
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
