//! What makes this library an nginx module: its place in nginx's tables and its configuration's.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::block::Block;
use super::callbacks;
use super::conf::{Conf, Error};
use super::headers::KnownHeaders;
use super::servers::Servers;
use super::slots::Directives;
use super::sys::{
    ngx_array_t, ngx_http_conf_ctx_t, ngx_http_module_t, ngx_module_t, ngx_palloc,
    ngx_pool_cleanup_add, NGX_HTTP_MODULE,
};
use super::Request;
use crate::conf::reuse::User;

/// nginx's view of the module: which callbacks make and merge its configuration.
pub static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(callbacks::preconfiguration),
    postconfiguration: Some(callbacks::postconfiguration),
    create_main_conf: Some(callbacks::create_main_conf),
    init_main_conf: None,
    create_srv_conf: Some(callbacks::create_srv_conf),
    merge_srv_conf: None,
    create_loc_conf: Some(callbacks::create_loc_conf),
    merge_loc_conf: Some(callbacks::merge_loc_conf),
};

/// The module with its directives, for the export table.
pub const fn new(directives: &'static Directives) -> ngx_module_t {
    ngx_module_t {
        ctx: (&raw const CONTEXT).cast_mut().cast::<c_void>(),
        commands: directives.0.as_ptr().cast_mut(),
        type_: NGX_HTTP_MODULE as usize,
        init_module: Some(callbacks::init_module),
        ..ngx_module_t::default()
    }
}

/// The module's index among the HTTP modules, which nginx assigned when it loaded it.
pub(super) fn context_index() -> usize {
    // SAFETY: written by nginx before the configuration is read, and never after.
    unsafe { crate::ngx_http_rs_uwsgi_module.ctx_index }
}

/// What marks the buffers of this module, as other modules mark theirs.
pub(super) fn buffer_tag() -> *mut c_void {
    (&raw mut crate::ngx_http_rs_uwsgi_module).cast()
}

/// The configuration of the whole "http" block.
#[repr(C)]
pub struct MainConf {
    /// The caches that `rs_uwsgi_cache_path` defines.
    pub caches: ngx_array_t,
    /// The locations that pass to an upstream, while the configuration is read.
    pub users: Vec<User>,
    /// See [`Conf::upstream_of_addresses`].
    pub upstream_of_addresses: Option<Block>,
    /// The upstreams whose choice of servers is wrapped, by [`Servers::address`].
    pub upstreams: Vec<Box<Servers>>,
    /// The headers of responses that nginx acts on.
    pub known_headers: Option<KnownHeaders>,
}

/// An empty main configuration, in nginx's memory.
pub(super) fn place_main_conf(cf: Conf<'_>) -> Result<NonNull<MainConf>, Error> {
    const POINTER: usize = size_of::<*mut c_void>();
    const FIRST: usize = 4;
    // SAFETY: the pool is valid. The array is what ngx_array_init, an inline function, makes.
    let caches = unsafe {
        let elts = ngx_palloc(cf.pool().as_ptr(), FIRST * POINTER);
        let elts = NonNull::new(elts).ok_or(Error::Logged)?.as_ptr();
        ngx_array_t { elts, nelts: 0, size: POINTER, nalloc: FIRST, pool: cf.pool().as_ptr() }
    };
    place(
        cf,
        MainConf {
            caches,
            users: Vec::new(),
            upstream_of_addresses: None,
            upstreams: Vec::new(),
            known_headers: None,
        },
    )
}

impl Conf<'_> {
    /// Runs code on the main configuration, which must not ask for it again.
    pub(super) fn with_main_conf<T>(self, run: impl FnOnce(&mut MainConf) -> T) -> T {
        let context = field!(self, ctx).cast::<ngx_http_conf_ctx_t>();
        // SAFETY: in the "http" block the context has a configuration for each module, ours made by
        // `callbacks::create_main_conf`. The reference ends with this function, and nginx reads the
        // configuration in one thread.
        run(unsafe { &mut *(*(*context).main_conf.add(context_index())).cast::<MainConf>() })
    }
}

/// The main configuration that a request runs under.
pub(super) fn main_conf(r: Request<'_>) -> &MainConf {
    // SAFETY: the slot of this module in the main configuration holds what `place_main_conf` made,
    // which outlives the requests. After the configuration is read it is only ever shared: what is
    // still written to is in cells.
    unsafe { &*(*(*r.as_ptr()).main_conf.add(context_index())).cast::<MainConf>() }
}

/// The caches of the configuration that a request runs under.
#[cfg(ngx_feature = "http_cache")]
pub(super) fn caches(r: Request<'_>) -> *mut ngx_array_t {
    ptr::from_ref(&main_conf(r).caches).cast_mut()
}

/// Moves a configuration of this module's into nginx's memory. It is dropped with nginx's.
pub(super) fn place<T>(cf: Conf<'_>, conf: T) -> Result<NonNull<T>, Error> {
    // SAFETY: the pool is valid; with a size, nginx allocates that much for `data`, aligned as all of
    // ngx_palloc's (NGX_ALIGNMENT).
    let cleanup = unsafe { ngx_pool_cleanup_add(cf.pool().as_ptr(), size_of::<T>()).as_mut() }
        .ok_or(Error::Logged)?;
    let place = NonNull::new(cleanup.data.cast::<T>()).ok_or(Error::Logged)?;
    // SAFETY: new memory of the right size and alignment.
    unsafe { place.write(conf) };
    cleanup.handler = Some(drop_conf::<T>);
    Ok(place)
}

unsafe extern "C" fn drop_conf<T>(data: *mut c_void) {
    // SAFETY: `place` put a configuration there; nginx calls this once, at the very end.
    unsafe { ptr::drop_in_place(data.cast::<T>()) };
}
