//! What nginx calls: each function here takes nginx's pointers, hands typed handles to safe code,
//! and turns its result into nginx's. A panic ends here: it is logged and fails that one request
//! (or configuration), because one that unwinds into nginx would end the worker and all its clients.

use core::any::Any;
use core::ffi::{c_char, c_void};
use core::ptr::{self, NonNull};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use super::conf::{self, Conf};
use super::request::{go_on, read_body};
use super::sys::{
    ngx_conf_t, ngx_cycle_t, ngx_http_request_t, ngx_int_t, ngx_process, ngx_test_config,
    NGX_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_OK, NGX_PROCESS_MASTER,
};
use super::{client_body, module, slots, Error, Log, Request};
use crate::conf::reuse::{Settings, Shared};
use crate::conf::LocConf;
use crate::handler::{Content, Next, UpstreamHandler};
use crate::version::VERSION;

const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;
const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// Runs safe code on a request. `r` must be what nginx passed to a callback.
pub(super) fn with_request<T>(
    r: *mut ngx_http_request_t,
    failed: T,
    run: impl FnOnce(Request<'_>) -> T,
) -> T {
    let Some(r) = NonNull::new(r) else { return failed };
    // SAFETY: nginx calls back with a live request, whose connection has a log.
    let r = unsafe { Request::from_ptr(r) };
    // A body that panics may leave our state of this request half changed; the request then fails,
    // and the state with it.
    match catch_unwind(AssertUnwindSafe(|| run(r))) {
        Ok(value) => value,
        Err(panic) => {
            // the request, and its log, may be gone
            log_panic(Log::of_worker(), &*panic);
            failed
        }
    }
}

pub(super) fn log_panic(log: Log<'_>, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    log.alert(format_args!("rs_uwsgi module failed: {message}, please report this fault"));
}

fn status(result: Result<(), Error>) -> ngx_int_t {
    result.map_or_else(ngx_int_t::from, |()| NGX_OK as ngx_int_t)
}

/// The content handler, `clcf->handler`.
pub unsafe extern "C" fn content<H: UpstreamHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    match with_request(r, Content::Ended(INTERNAL_SERVER_ERROR), |r| H::content(r)) {
        Content::Ended(status) => status,
        // SAFETY: nginx's request, and the last thing that is done with it here.
        Content::ReadBody => unsafe { read_body::<H>(r) },
        // SAFETY: as above.
        Content::ReadRest => unsafe { client_body::read_rest::<H>(r) },
        // SAFETY: as above.
        Content::PassRest => unsafe { client_body::pass_rest::<H>(r) },
    }
}

/// The client's body, or its beginning, was read. Never inlined: `make profile` finds the step by it.
#[inline(never)]
pub unsafe extern "C" fn body_ready<H: UpstreamHandler>(r: *mut ngx_http_request_t) {
    let next = with_request(r, Next::Finalize(INTERNAL_SERVER_ERROR), |r| H::body_ready(r));
    // SAFETY: nginx's request, and the last thing that is done with it here.
    unsafe { go_on(r, next) };
}

/// `u->create_request`.
pub unsafe extern "C" fn create_request<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
) -> ngx_int_t {
    with_request(r, FAILED, |r| status(H::create_request(r)))
}

/// `u->create_key`: the response may be cached.
#[cfg(ngx_feature = "http_cache")]
pub unsafe extern "C" fn create_key<H: UpstreamHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    with_request(r, FAILED, |r| status(H::create_key(r)))
}

/// `u->reinit_request`: the next upstream is about to be tried.
pub unsafe extern "C" fn reinit_request<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
) -> ngx_int_t {
    with_request(r, FAILED, |r| status(H::reinit_request(r)))
}

/// `u->process_header`: more of the response's head was read.
pub unsafe extern "C" fn process_header<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
) -> ngx_int_t {
    with_request(r, FAILED, |r| status(H::process_header(r)))
}

/// `u->abort_request`.
pub unsafe extern "C" fn abort_request<H: UpstreamHandler>(r: *mut ngx_http_request_t) {
    with_request(r, (), |r| H::abort_request(r));
}

/// `u->finalize_request`.
pub unsafe extern "C" fn finalize_request<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
    rc: ngx_int_t,
) {
    with_request(r, (), |r| H::finalize_request(r, rc));
}

/// `u->input_filter_init`: the head is done, the body begins. `data` is the request
/// ([`super::Upstream::wire`]).
pub unsafe extern "C" fn input_filter_init<H: UpstreamHandler>(data: *mut c_void) -> ngx_int_t {
    with_request(data.cast(), FAILED, |r| status(H::input_filter_init(r)))
}

/// Runs safe code on the configuration that is being read.
fn with_conf<T>(
    cf: *mut ngx_conf_t,
    run: impl FnOnce(Conf<'_>) -> Result<T, conf::Error>,
) -> Result<T, conf::Error> {
    let cf = NonNull::new(cf).ok_or(conf::Error::Logged)?;
    // SAFETY: nginx calls back with the live state of its configuration parser.
    let cf = unsafe { Conf::from_ptr(cf) };
    catch_unwind(AssertUnwindSafe(|| run(cf))).unwrap_or_else(|panic| {
        log_panic(cf.log(), &*panic);
        Err(conf::Error::Logged)
    })
}

/// `create_main_conf`.
pub unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, module::place_main_conf))
}

/// `create_loc_conf`: an unset [`LocConf`], dropped with the configuration.
pub unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, |cf| module::place(cf, LocConf::unset())))
}

/// `create_srv_conf`: what an "upstream" block says, unset. Servers have no use for theirs.
pub unsafe extern "C" fn create_srv_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    place_or_null(with_conf(cf, |cf| module::place(cf, Settings::unset())))
}

fn place_or_null<T>(place: Result<NonNull<T>, conf::Error>) -> *mut c_void {
    place.map_or(ptr::null_mut(), |place| place.as_ptr().cast())
}

/// `merge_loc_conf`.
pub unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    let merged = with_conf(cf, |cf| {
        // SAFETY: both came from `create_loc_conf`, they are two, and nobody else uses them now.
        let (parent, child) =
            unsafe { (parent.cast::<LocConf>().as_mut(), child.cast::<LocConf>().as_mut()) };
        match (parent, child) {
            (Some(parent), Some(child)) => crate::conf::merge::merge(cf, parent, child),
            _ => Err(conf::Error::Logged),
        }
    });
    conf::result_in(cf, merged)
}

/// `preconfiguration`: the module's variables.
pub unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    match with_conf(cf, crate::variables::add) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(_) => FAILED,
    }
}

/// `postconfiguration`: all locations are merged.
pub unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let settle = |cf: Conf<'_>| {
        cf.learn_headers();
        crate::conf::reuse::settle(cf)
    };
    match with_conf(cf, settle) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(_) => FAILED,
    }
}

/// `init_module`: the configuration is in force, and its log open. Says once which build was loaded: a
/// reload keeps it, even where there is another in the file.
pub unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    static LOADED: Once = Once::new();
    // SAFETY: nginx passes a cycle with a log, and writes to these variables in the same thread alone.
    let (log, silent) = unsafe {
        let tests = ngx_test_config != 0 || ngx_process > NGX_PROCESS_MASTER as usize;
        (cycle.as_ref().and_then(|cycle| NonNull::new(cycle.log)), tests)
    };
    if let (Some(log), false) = (log, silent) {
        // SAFETY: the cycle's log is valid while this function runs.
        let log = unsafe { Log::from_ptr(log) };
        LOADED.call_once(|| log.notice(format_args!("rs_uwsgi module {VERSION} loaded")));
    }
    NGX_OK as ngx_int_t
}

/// Sets what the users of an upstream share (see [`slots::shared`]), among the [`Settings`] of the block
/// that is being read.
pub unsafe extern "C" fn set_shared(
    cf: *mut ngx_conf_t,
    cmd: *mut super::sys::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = with_conf(cf, |cf| {
        // SAFETY: `slots::shared` put a `Shared` there, in static memory; `conf` came from
        // `create_loc_conf`, or is not looked at: in "upstream" it is another's. Nobody else uses
        // either, or the block's settings, now.
        let (shared, settings) = unsafe {
            let own = || conf.cast::<LocConf>().as_mut().map(|conf| &mut conf.reuse);
            ((*cmd).post.cast::<Shared>().as_ref(), cf.upstream_settings().or_else(own))
        };
        match (shared, settings) {
            (Some(shared), Some(settings)) => shared.set(cf, settings),
            _ => Err(conf::Error::Logged),
        }
    });
    conf::result_in(cf, set)
}

/// Runs a directive's own setter (see [`slots::own`]), which `cmd->post` points to.
pub unsafe extern "C" fn set_own(
    cf: *mut ngx_conf_t,
    cmd: *mut super::sys::ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = with_conf(cf, |cf| {
        // SAFETY: `slots::own` put a `Setter` there, in static memory; `conf` came from
        // `create_loc_conf`, and nobody else uses it now.
        let (setter, conf) = unsafe {
            ((*cmd).post.cast::<slots::Setter>().as_ref(), conf.cast::<LocConf>().as_mut())
        };
        match (setter, conf) {
            (Some(setter), Some(conf)) => setter(cf, conf),
            _ => Err(conf::Error::Logged),
        }
    });
    conf::result_in(cf, set)
}
