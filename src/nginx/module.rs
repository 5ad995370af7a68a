//! What makes this library an nginx module: its place in nginx's tables, and its configurations in
//! nginx's memory. What the module is, stands above this layer ([`Module`]).

use core::ffi::{c_char, c_void};
use core::ptr::{self, NonNull};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use super::answer::{AnswerHandler, StatusZones};
use super::block::{Block, UpstreamRef};
use super::callbacks::{log_panic, RequestHandler};
use super::conf::{self, Conf, Error};
use super::connection::IdleOwner;
use super::fetch::{NamedTarget, Target};
use super::filter::ChunkDecoder;
use super::headers::KnownHeaders;
use super::peer::PeerHandler;
use super::probe::Prober;
use super::probes;
use super::resolved::ServersOwner;
use super::servers::Servers;
use super::slots::Directives;
use super::status::{ERROR, OK};
use super::sys::{
    ngx_array_t, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module_t, ngx_int_t,
    ngx_module_t, ngx_palloc, ngx_pool_cleanup_add, ngx_process, ngx_test_config, NGX_HTTP_MODULE,
    NGX_PROCESS_MASTER,
};
use super::wait::QueueHandler;
use super::watch::{self, Whose};
use super::zone::{self, ZoneConf, ZoneOwner};
use super::{Log, Request};

/// The module's row in nginx's table of modules. [`export_module!`] implements it.
///
/// # Safety
///
/// `MODULE` must be what [`new`] made for the same type, where nginx finds it in the library.
pub unsafe trait Registered: Sized + 'static {
    /// The row.
    const MODULE: *mut ngx_module_t;
}

/// The module that stands above this layer: what this layer keeps for it, without knowing what it holds.
pub trait Module: Registered {
    /// The configuration of a location.
    type Location: 'static;
    /// What an "upstream" block says.
    type Block: 'static;
    /// What belongs to the servers of an upstream, in one worker.
    type Servers: 'static;
    /// What belongs to an upstream of a request.
    type State<'a>;
    /// A server that is probed.
    type Probed: 'static;

    /// A step of a request begins, by the name of its callback. May panic, as a fault of the step would.
    #[inline(always)]
    fn begin_step(_: Request<'_>, _: &'static str) {}
}

/// Everything that this layer calls.
pub trait Handler:
    ModuleConf
    + RequestHandler
    + PeerHandler
    + QueueHandler
    + IdleOwner
    + ChunkDecoder
    + ZoneOwner
    + Prober
    + ServersOwner
    + AnswerHandler
{
}

impl<H> Handler for H where
    H: ModuleConf
        + RequestHandler
        + PeerHandler
        + QueueHandler
        + IdleOwner
        + ChunkDecoder
        + ZoneOwner
        + Prober
        + ServersOwner
        + AnswerHandler
{
}

/// The module's configuration, while nginx reads its own.
pub trait ModuleConf: Module {
    /// Which build this is, for the log.
    const VERSION: &'static str;

    /// The configuration of a location in which nothing is said.
    fn unset_location() -> Self::Location;
    /// What an "upstream" block says in which nothing is said.
    fn unset_block() -> Self::Block;
    /// The part of a location's configuration that an "upstream" block may say as well.
    fn shared(location: &mut Self::Location) -> &mut Self::Block;
    /// Before anything is read.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    fn begin(cf: Conf<'_>) -> Result<(), Error>;
    /// A directive, of this module or of stock's, is about to be set in this location, server or "http" block.
    fn heard(cf: Conf<'_>, location: &mut Self::Location, whose: Whose);
    /// Completes a block's configuration from that of the block around it.
    ///
    /// # Errors
    ///
    /// Values that contradict each other.
    fn merge(
        cf: Conf<'_>,
        outer: &mut Self::Location,
        own: &mut Self::Location,
    ) -> Result<(), Error>;
    /// All locations are merged.
    ///
    /// # Errors
    ///
    /// Settings that contradict each other.
    fn finish(cf: Conf<'_>) -> Result<(), Error>;
}

/// Defines the tables by which nginx finds a module in the library, as nginx's auto/make writes them for
/// one in C: the module by its name, its type ([`Module`]) and its table of directives.
#[macro_export]
macro_rules! export_module {
    ($name:ident, $module:ty, $directives:expr) => {
        /// The module.
        #[no_mangle]
        pub static mut $name: $crate::nginx::sys::ngx_module_t =
            $crate::nginx::module::new::<$module>(&$directives);

        // SAFETY: the static above.
        unsafe impl $crate::nginx::module::Registered for $module {
            const MODULE: *mut $crate::nginx::sys::ngx_module_t = &raw mut $name;
        }

        /// All modules of the library.
        #[no_mangle]
        pub static mut ngx_modules: [*const $crate::nginx::sys::ngx_module_t; 2] =
            [&raw const $name, ::core::ptr::null()];

        /// Their names.
        #[no_mangle]
        pub static mut ngx_module_names: [*const ::core::ffi::c_char; 2] =
            [concat!(stringify!($name), "\0").as_ptr().cast(), ::core::ptr::null()];

        /// Their place among filters: none.
        #[no_mangle]
        pub static mut ngx_module_order: [*const ::core::ffi::c_char; 1] = [::core::ptr::null()];
    };
}

/// The module with its directives, for the export table.
pub const fn new<H: Handler>(directives: &'static Directives) -> ngx_module_t {
    ngx_module_t {
        ctx: ptr::from_ref(ContextOf::<H>::CONTEXT).cast_mut().cast::<c_void>(),
        commands: directives.0.as_ptr().cast_mut(),
        type_: NGX_HTTP_MODULE as usize,
        init_module: Some(init_module::<H>),
        init_process: Some(init_process::<H>),
        exit_process: Some(exit_process::<H>),
        ..ngx_module_t::default()
    }
}

/// nginx's view of the module: which callbacks make and merge its configuration.
struct ContextOf<H>(core::marker::PhantomData<H>);

impl<H: Handler> ContextOf<H> {
    const CONTEXT: &'static ngx_http_module_t = &ngx_http_module_t {
        preconfiguration: Some(preconfiguration::<H>),
        postconfiguration: Some(postconfiguration::<H>),
        create_main_conf: Some(create_main_conf::<H>),
        init_main_conf: None,
        create_srv_conf: Some(create_srv_conf::<H>),
        merge_srv_conf: None,
        create_loc_conf: Some(create_loc_conf::<H>),
        merge_loc_conf: Some(merge_loc_conf::<H>),
    };
}

/// The module's index among the HTTP modules, which nginx assigned when it loaded it.
pub(super) fn context_index<H: Module>() -> usize {
    // SAFETY: written by nginx before the configuration is read, and never after.
    unsafe { (*H::MODULE).ctx_index }
}

/// What marks the buffers of this module, as other modules mark theirs.
pub(super) const fn buffer_tag<H: Module>() -> *mut c_void {
    H::MODULE.cast()
}

/// The configuration of the whole "http" block.
#[repr(C)]
pub struct MainConf<H: Module> {
    /// The caches that a `…_cache_path` defines.
    pub caches: ngx_array_t,
    /// The locations that pass to an upstream, while the configuration is read.
    pub upstream_refs: Vec<UpstreamRef<H>>,
    /// See [`Conf::upstream_of_addresses`].
    pub upstream_of_addresses: Option<Block>,
    /// The upstreams whose choice of servers is wrapped, by [`Servers::address`].
    pub upstreams: Vec<Box<Servers<H>>>,
    /// The names that requests are counted by.
    pub status_zones: StatusZones,
    /// What all workers share.
    pub zone: ZoneConf,
    /// The addresses that can be read from beside requests, by their numbers.
    pub targets: Vec<Target>,
    /// Those that are said of an upstream by its name, while the configuration is read.
    pub named_targets: Vec<NamedTarget>,
    /// The headers of responses that nginx acts on.
    pub known_headers: Option<KnownHeaders>,
}

/// An empty main configuration, in nginx's memory.
fn place_main_conf<H: Module>(cf: Conf<'_>) -> Result<NonNull<MainConf<H>>, Error> {
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
            upstream_refs: Vec::new(),
            upstream_of_addresses: None,
            upstreams: Vec::new(),
            status_zones: StatusZones::default(),
            zone: ZoneConf::default(),
            targets: Vec::new(),
            named_targets: Vec::new(),
            known_headers: None,
        },
    )
}

impl Conf<'_> {
    /// Runs code on the main configuration, which must not ask for it again.
    pub(super) fn with_main_conf<H: Module, T>(self, run: impl FnOnce(&mut MainConf<H>) -> T) -> T {
        let context = field!(self, ctx).cast::<ngx_http_conf_ctx_t>();
        // SAFETY: in the "http" block the context has a configuration for each module, ours made by
        // `create_main_conf`. The reference ends with this function, and nginx reads the configuration
        // in one thread.
        run(unsafe {
            &mut *(*(*context).main_conf.add(context_index::<H>())).cast::<MainConf<H>>()
        })
    }
}

/// The main configuration that a request runs under.
pub(super) fn main_conf<H: Module>(r: Request<'_>) -> &MainConf<H> {
    // SAFETY: the slot of this module in the main configuration holds what `place_main_conf` made,
    // which outlives the requests. After the configuration is read it is only ever shared: what is
    // still written to is in cells.
    unsafe { &*(*(*r.as_ptr()).main_conf.add(context_index::<H>())).cast::<MainConf<H>>() }
}

/// The caches of the configuration that a request runs under.
#[cfg(ngx_feature = "http_cache")]
pub(super) fn caches<H: Module>(r: Request<'_>) -> *mut ngx_array_t {
    ptr::from_ref(&main_conf::<H>(r).caches).cast_mut()
}

/// Moves a configuration of this module's into nginx's memory. It is dropped with nginx's.
fn place<T>(cf: Conf<'_>, conf: T) -> Result<NonNull<T>, Error> {
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

/// Runs safe code on the configuration that is being read.
pub(super) fn with_conf<T>(
    cf: *mut ngx_conf_t,
    run: impl FnOnce(Conf<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let cf = NonNull::new(cf).ok_or(Error::Logged)?;
    // SAFETY: nginx calls back with the live state of its configuration parser.
    let cf = unsafe { Conf::from_ptr(cf) };
    catch_unwind(AssertUnwindSafe(|| run(cf))).unwrap_or_else(|panic| {
        log_panic(cf.log(), &*panic);
        Err(Error::Logged)
    })
}

/// `create_main_conf`.
unsafe extern "C" fn create_main_conf<H: Module>(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, place_main_conf::<H>))
}

/// `create_loc_conf`: an unset configuration, dropped with nginx's.
unsafe extern "C" fn create_loc_conf<H: ModuleConf>(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, |cf| place(cf, H::unset_location())))
}

/// `create_srv_conf`: what an "upstream" block says, unset. Servers have no use for theirs.
unsafe extern "C" fn create_srv_conf<H: ModuleConf>(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, |cf| place(cf, H::unset_block())))
}

fn place_or_null<T>(place: Result<NonNull<T>, Error>) -> *mut c_void {
    place.map_or(ptr::null_mut(), |place| place.as_ptr().cast())
}

/// `merge_loc_conf`.
unsafe extern "C" fn merge_loc_conf<H: ModuleConf>(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    let merged = with_conf(cf, |cf| {
        // SAFETY: both came from `create_loc_conf`, they are two, and nobody else uses them now.
        let (parent, child) = unsafe {
            (parent.cast::<H::Location>().as_mut(), child.cast::<H::Location>().as_mut())
        };
        match (parent, child) {
            (Some(parent), Some(child)) => H::merge(cf, parent, child),
            _ => Err(Error::Logged),
        }
    });
    conf::result_in(cf, merged)
}

fn status(result: Result<(), Error>) -> ngx_int_t {
    result.map_or(ERROR, |()| OK)
}

/// `preconfiguration`.
unsafe extern "C" fn preconfiguration<H: ModuleConf>(cf: *mut ngx_conf_t) -> ngx_int_t {
    status(with_conf(cf, |cf| {
        cf.watch::<H>()?;
        H::begin(cf)
    }))
}

/// `postconfiguration`.
unsafe extern "C" fn postconfiguration<H: ModuleConf>(cf: *mut ngx_conf_t) -> ngx_int_t {
    watch::unwatch();
    status(with_conf(cf, |cf| {
        cf.index_known_headers::<H>();
        H::finish(cf)
    }))
}

/// `init_module`: the configuration is in force, and its log open. Says once which build was loaded: a
/// reload keeps it, even where there is another in the file.
unsafe extern "C" fn init_module<H: Handler>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    static LOADED: Once = Once::new();
    // SAFETY: nginx passes a cycle with a log, and writes to these variables in the same thread alone.
    let (log, silent) = unsafe {
        let tests = ngx_test_config != 0 || ngx_process > NGX_PROCESS_MASTER as usize;
        (cycle.as_ref().and_then(|cycle| NonNull::new(cycle.log)), tests)
    };
    if let (Some(log), false) = (log, silent) {
        // SAFETY: the cycle's log is valid while this function runs.
        let log = unsafe { Log::from_ptr(log) };
        LOADED.call_once(|| log.notice(format_args!("rs_uwsgi module {} loaded", H::VERSION)));
        if let Some(cycle) = NonNull::new(cycle) {
            zone::begin::<H>(cycle, log);
            probes::change::<H>(cycle);
        }
    }
    OK
}

/// `init_process`: a worker begins.
unsafe extern "C" fn init_process<H: Handler>(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    if let Some(cycle) = NonNull::new(cycle) {
        let begin = || {
            zone::enter::<H>(cycle, Log::of_worker());
            probes::begin::<H>(cycle);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(begin)) {
            log_panic(Log::of_worker(), &*panic);
        }
    }
    OK
}

/// `exit_process`: a worker ends.
unsafe extern "C" fn exit_process<H: Handler>(cycle: *mut ngx_cycle_t) {
    let end = || {
        probes::end::<H>(cycle);
        zone::leave();
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(end)) {
        log_panic(Log::of_worker(), &*panic);
    }
}
