//! Events of an upstream, with none of a request's machinery: at one, the requests that wait for it look for
//! connections again.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::{offset_of, zeroed};
use core::ptr;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::callbacks::log_panic;
use super::module::{Handler, Module};
use super::servers::Servers;
use super::sys::{
    ngx_add_timer, ngx_connection_t, ngx_current_msec, ngx_cycle, ngx_del_timer,
    ngx_delete_posted_event, ngx_event_t, ngx_log_t, ngx_msec_t, ngx_post_event, ngx_posted_events,
};
use super::Log;

/// An event of an upstream.
pub(super) struct Wake<H: Module> {
    event: UnsafeCell<ngx_event_t>,
    data: UnsafeCell<WakeData<H>>,
}

/// What the event points to. nginx's debug log looks for a descriptor there, as in a connection.
#[repr(C)]
struct WakeData<H: Module> {
    servers: *const Servers<H>,
    _unused: [*mut c_void; 2],
    fd: c_int,
}

impl<H: Module> Wake<H> {
    /// One that calls this.
    pub(super) fn new(handler: unsafe extern "C" fn(*mut ngx_event_t)) -> Self {
        const { assert!(offset_of!(WakeData<H>, fd) == offset_of!(ngx_connection_t, fd)) };
        // SAFETY: all zeros is an event that nobody waits for.
        let mut event = unsafe { zeroed::<ngx_event_t>() };
        event.handler = Some(handler);
        let data = WakeData { servers: ptr::null(), _unused: [ptr::null_mut(); 2], fd: -1 };
        Wake { event: UnsafeCell::new(event), data: UnsafeCell::new(data) }
    }

    /// The event of these servers, ready for use.
    fn event(&self, servers: &Servers<H>) -> *mut ngx_event_t {
        let (event, data) = (self.event.get(), self.data.get());
        // SAFETY: the event is this upstream's, which does not move any more; a worker has a cycle,
        // and a cycle a log.
        unsafe {
            (*data).servers = ptr::from_ref(servers);
            (*event).data = data.cast();
            (*event).log = (*ngx_cycle).log;
        }
        event
    }

    /// Sets it as a timer, which a worker that is to end does not wait for.
    pub(super) fn set(&self, servers: &Servers<H>, log: *mut ngx_log_t, pause: ngx_msec_t) {
        let event = self.event(servers);
        // SAFETY: see [`event`](Self::event).
        unsafe {
            (*event).log = log;
            flag!(event, cancelable = 1);
            cancel(event);
            ngx_add_timer(event, pause);
        }
    }

    /// It does not happen any more.
    pub(super) fn cancel(&self, servers: &Servers<H>) {
        // SAFETY: see [`event`](Self::event).
        unsafe { cancel(self.event(servers)) };
    }

    /// Whose it is.
    ///
    /// # Safety
    ///
    /// `event` must be one that [`event`](Self::event) made ready, and its upstream still be there.
    pub(super) unsafe fn servers_of<'a>(event: *mut ngx_event_t) -> &'a Servers<H> {
        // SAFETY: the caller's promise.
        unsafe { &*(*(*event).data.cast::<WakeData<H>>()).servers }
    }
}

impl<H: Module> Servers<H> {
    /// The event at which the requests that wait look for connections.
    fn wake_event(&self) -> *mut ngx_event_t {
        self.wake.event(self)
    }

    /// Lets the requests that wait look for connections, after the event that is being handled.
    pub fn wake_soon(&self) {
        // SAFETY: see `Wake::event`.
        unsafe { ngx_post_event(self.wake_event(), &raw mut ngx_posted_events) };
    }

    /// Is it said when they will look?
    pub fn is_to_wake(&self) -> bool {
        // SAFETY: see `Wake::event`.
        unsafe { flag!(self.wake_event(), timer_set) != 0 }
    }

    /// Lets them look in so many milliseconds, unless they will sooner.
    pub fn wake_by(&self, pause: ngx_msec_t) {
        let event = self.wake_event();
        // SAFETY: see `Wake::event`; nginx's clock is its worker's.
        unsafe {
            if flag!(event, timer_set) != 0 {
                let left = (*event).timer.key.wrapping_sub(ngx_current_msec);
                // what is to come in more than half of all time is over
                if left <= pause || left > ngx_msec_t::MAX / 2 {
                    return;
                }
                // nginx would leave it as it is: it takes so short times for the same
                ngx_del_timer(event);
            }
            ngx_add_timer(event, pause);
        }
    }

    /// Nobody waits any more.
    pub fn let_sleep(&self) {
        self.wake.cancel(self);
    }
}

/// Lets an event not happen any more.
///
/// # Safety
///
/// `event` must be valid.
pub(super) unsafe fn cancel(event: *mut ngx_event_t) {
    // SAFETY: the caller's promise.
    unsafe {
        if flag!(event, timer_set) != 0 {
            ngx_del_timer(event);
        }
        if flag!(event, posted) != 0 {
            ngx_delete_posted_event(event);
        }
    }
}

pub(super) unsafe extern "C" fn on_wake<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of an upstream, which `Wake::event` made ready, and which
    // lives as long as requests wait.
    let servers = unsafe { Wake::<H>::servers_of(event) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| H::wake(servers))) {
        log_panic(Log::of_worker(), &*panic);
    }
}
