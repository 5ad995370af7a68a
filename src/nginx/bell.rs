//! The bells by which workers wake each other: an eventfd(2) for each, made before the workers are, so that all
//! of them have all.

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicI32, Ordering};
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::callbacks::log_panic;
use super::status::OK;
use super::sys::{
    ngx_close_connection, ngx_connection_t, ngx_event_t, ngx_get_connection, ngx_handle_read_event,
    ngx_log_t, ngx_socket_errno,
};
use super::zone::{main_conf_of, this_worker, ZoneOwner};
use super::Log;
use crate::pure::zone::{Shape, WorkerId};

/// The bells, by worker: descriptors of eventfd(2), or −1.
static BELLS: [AtomicI32; Shape::MOST_WORKERS] =
    [const { AtomicI32::new(-1) }; Shape::MOST_WORKERS];

/// Makes the bells of so many workers, where there are none yet.
///
/// # Errors
///
/// What eventfd(2) failed with.
pub(super) fn make(workers: usize) -> Result<(), c_int> {
    for bell in BELLS.iter().take(workers) {
        if bell.load(Ordering::Relaxed) >= 0 {
            continue;
        }
        // SAFETY: makes a descriptor.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if descriptor == -1 {
            return Err(ngx_socket_errno());
        }
        bell.store(descriptor, Ordering::Relaxed);
    }
    Ok(())
}

/// Wakes a worker. One that was started with more workers than there were bells for when this process
/// was made looks by itself, once a second.
pub(super) fn ring(id: WorkerId) {
    let bell = BELLS.get(id.index()).map_or(-1, |bell| bell.load(Ordering::Relaxed));
    let one = 1_u64;
    if bell >= 0 {
        // SAFETY: eight bytes. The descriptor is ours until the process ends; a bell that has been rung too
        // often is full, and rings all the same.
        let _ = unsafe { libc::write(bell, (&raw const one).cast(), size_of::<u64>()) };
    }
}

/// Lets the event loop watch a worker's own bell. Null where it cannot.
///
/// # Safety
///
/// `log` must be valid as long as the worker.
pub(super) unsafe fn watch<H: ZoneOwner>(
    id: WorkerId,
    log: *mut ngx_log_t,
) -> *mut ngx_connection_t {
    let bell = BELLS.get(id.index()).map_or(-1, |bell| bell.load(Ordering::Relaxed));
    if bell < 0 {
        return ptr::null_mut();
    }
    // SAFETY: an open descriptor; its copy is the connection's, which closes it.
    unsafe {
        let copy = libc::fcntl(bell, libc::F_DUPFD_CLOEXEC, 0);
        if copy == -1 {
            return ptr::null_mut();
        }
        let c = ngx_get_connection(copy, log);
        if c.is_null() {
            libc::close(copy);
            return c;
        }
        (*c).log = log;
        (*(*c).read).log = log;
        (*(*c).write).log = log;
        (*(*c).read).handler = Some(on_bell::<H>);
        if ngx_handle_read_event((*c).read, 0) != OK {
            ngx_close_connection(c);
            return ptr::null_mut();
        }
        c
    }
}

/// The bell has been rung.
unsafe extern "C" fn on_bell<H: ZoneOwner>(event: *mut ngx_event_t) {
    let mut count = 0_u64;
    // SAFETY: nginx calls with the event of the connection that `watch` made; room for eight bytes.
    unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        let _ = libc::read((*c).fd, (&raw mut count).cast(), size_of::<u64>());
        flag!(event, ready = 0);
        // where it is told once, and no more
        let _ = ngx_handle_read_event(event, 0);
    }
    let Some((worker, _)) = this_worker() else { return };
    let rung = worker.answer();
    // SAFETY: a worker has a cycle with a configuration.
    let Some(main) = (unsafe { main_conf_of::<H>(super::sys::ngx_cycle) }) else {
        return;
    };
    for servers in &main.upstreams {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| H::on_ring(servers, rung))) {
            log_panic(Log::of_worker(), &*panic);
        }
    }
}
