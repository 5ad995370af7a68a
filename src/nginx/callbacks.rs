//! What nginx calls for a request: each function here takes nginx's pointers, hands typed handles to safe
//! code, and turns its result into nginx's. A panic ends here: it is logged and fails that one request,
//! because one that unwinds into nginx would end the worker and all its clients.

use core::any::Any;
use core::ffi::c_void;
use core::ptr::NonNull;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::module::{Handler, Module};
use super::request::{go_on, read_body};
use super::status::{ERROR, INTERNAL_SERVER_ERROR, OK};
use super::sys::{ngx_http_request_t, ngx_int_t};
use super::{client_body, Error, Log, Request};
use crate::pure::vars_limit::Cut;

/// What nginx asks of a module that talks to an upstream, in the order of a request's life.
pub trait RequestHandler: Module {
    /// A request reached the location.
    fn content(r: Request<'_>) -> Content;
    /// The client's body was read, or its beginning where it is not buffered.
    fn body_ready(r: Request<'_>) -> Next;
    /// Gives nginx the key under which the response is cached.
    ///
    /// # Errors
    ///
    /// Of this and of the other steps: what becomes nginx's status.
    #[cfg(ngx_feature = "http_cache")]
    fn create_key(r: Request<'_>) -> Result<(), Error>;
    /// Writes what is sent to the server.
    fn create_request(r: Request<'_>) -> Result<(), Error>;
    /// The next server is about to be tried.
    fn reinit_request(r: Request<'_>) -> Result<(), Error>;
    /// More of the response's head was read.
    fn process_header(r: Request<'_>) -> Result<(), Error>;
    /// The response's head is done; says how its body ends.
    fn input_filter_init(r: Request<'_>) -> Result<(), Error>;
    /// The server has closed the connection before it answered. Will the request be answered by
    /// [`Self::answer_cut`]?
    fn connection_cut(r: Request<'_>, cut: Cut) -> bool;
    /// Answers a request whose connection was cut.
    fn answer_cut(r: Request<'_>) -> Next;
    /// nginx gives the request up.
    fn abort_request(r: Request<'_>);
    /// The upstream's part is over, with nginx's status.
    fn finalize_request(r: Request<'_>, rc: ngx_int_t);
}

/// What the content handler does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The client's body is read, and then it goes on.
    ReadBody,
    /// A body that another location has begun to read is read to its end, and then it goes on.
    ReadRest,
    /// A body that another location has begun to read is passed on, the rest as it comes.
    PassRest,
    /// It ends with this status.
    Ended(ngx_int_t),
}

/// What becomes of a request after a step. The step only says it, because the request may be gone once
/// it is done: that is the last thing in nginx's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// It waits for an event.
    Wait,
    /// Its upstream is started.
    StartUpstream,
    /// It ends with this status.
    Finalize(ngx_int_t),
    /// It is answered with this status and, perhaps, a Retry-After of so many seconds; its upstream is
    /// dropped.
    Refuse {
        /// The status.
        status: ngx_int_t,
        /// The seconds.
        retry_after: Option<u64>,
    },
}

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

/// Runs a step of the module's on a request ([`Module::begin_step`]), as [`with_request`] does.
pub(super) fn with_step<H: Module, T>(
    r: *mut ngx_http_request_t,
    step: &'static str,
    failed: T,
    run: impl FnOnce(Request<'_>) -> T,
) -> T {
    with_request(r, failed, |r| {
        H::begin_step(r, step);
        run(r)
    })
}

/// A step that nginx takes a status of.
fn status_of<H: Module>(
    r: *mut ngx_http_request_t,
    step: &'static str,
    run: impl FnOnce(Request<'_>) -> Result<(), Error>,
) -> ngx_int_t {
    with_step::<H, _>(r, step, ERROR, |r| run(r).map_or_else(ngx_int_t::from, |()| OK))
}

pub(super) fn log_panic(log: Log<'_>, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    log.alert(format_args!("rs_uwsgi module failed: {message}, please report this fault"));
}

/// The content handler, `clcf->handler`.
pub unsafe extern "C" fn content<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    match with_step::<H, _>(r, "content", Content::Ended(INTERNAL_SERVER_ERROR), H::content) {
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
pub unsafe extern "C" fn body_ready<H: Handler>(r: *mut ngx_http_request_t) {
    let next =
        with_step::<H, _>(r, "body_ready", Next::Finalize(INTERNAL_SERVER_ERROR), H::body_ready);
    // SAFETY: nginx's request, and the last thing that is done with it here.
    unsafe { go_on(r, next) };
}

/// `u->create_request`.
pub unsafe extern "C" fn create_request<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    status_of::<H>(r, "create_request", H::create_request)
}

/// `u->create_key`: the response may be cached.
#[cfg(ngx_feature = "http_cache")]
pub unsafe extern "C" fn create_key<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    status_of::<H>(r, "create_key", H::create_key)
}

/// `u->reinit_request`: the next upstream is about to be tried.
pub unsafe extern "C" fn reinit_request<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    status_of::<H>(r, "reinit_request", H::reinit_request)
}

/// `u->process_header`: more of the response's head was read.
pub unsafe extern "C" fn process_header<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    status_of::<H>(r, "process_header", H::process_header)
}

/// `u->abort_request`.
pub unsafe extern "C" fn abort_request<H: Handler>(r: *mut ngx_http_request_t) {
    with_step::<H, _>(r, "abort_request", (), H::abort_request);
}

/// `u->finalize_request`.
pub unsafe extern "C" fn finalize_request<H: Handler>(r: *mut ngx_http_request_t, rc: ngx_int_t) {
    with_step::<H, _>(r, "finalize_request", (), |r| H::finalize_request(r, rc));
    // also where that has failed
    with_request(r, (), |r| {
        let Some(state) = r.state::<H>() else { return };
        if let Some(pinned) = state.pinned.take() {
            pinned.let_go();
        }
        if let Some(growth) = state.growth.take() {
            growth.cancel();
        }
    });
}

/// `u->input_filter_init`: the head is done, the body begins. `data` is the request
/// ([`super::Upstream::wire`]).
pub unsafe extern "C" fn input_filter_init<H: Handler>(data: *mut c_void) -> ngx_int_t {
    status_of::<H>(data.cast(), "input_filter_init", H::input_filter_init)
}
