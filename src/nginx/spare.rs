//! Memory pools of connections that are closed, for those that are made next.
//!
//! nginx gives each connection to a server a pool, which is there for TLS (`ngx_http_upstream_connect`). Without
//! TLS nothing is ever in it, and to make and to destroy one costs a connection 280 instructions.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::connection::is_tls;
use super::sys::{ngx_connection_t, ngx_log_t, ngx_pool_t};

/// The spare ones, each with the next in `d.next`, as the blocks of a pool have it. Not a thread-local, which a
/// library finds by a call: a worker has one thread that comes here.
static SPARE: AtomicPtr<ngx_pool_t> = AtomicPtr::new(ptr::null_mut());
/// How many there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// So many are kept: more connections are seldom closed before the next one is made.
const MOST: usize = 32;

/// A pool for a new connection with this log; null where there is none to spare, and nginx makes one.
pub(super) fn take(log: *mut ngx_log_t) -> *mut ngx_pool_t {
    let pool = SPARE.load(Ordering::Relaxed);
    // SAFETY: null, or a pool that `keep` took from its connection, which nobody else knows of.
    unsafe {
        if !pool.is_null() {
            SPARE.store((*pool).d.next, Ordering::Relaxed);
            COUNT.store(COUNT.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
            (*pool).d.next = ptr::null_mut();
            (*pool).log = log;
        }
    }
    pool
}

/// Takes the pool of a connection that is about to be closed, if it is as good as new.
///
/// # Safety
///
/// `c` must be an open connection whose pool is null or its own, and which needs none any more.
#[inline]
pub(super) unsafe fn keep(c: *mut ngx_connection_t) {
    let count = COUNT.load(Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe {
        let pool = (*c).pool;
        if pool.is_null() || count >= MOST || is_tls(c) || !is_unused(pool) {
            return;
        }
        (*c).pool = ptr::null_mut();
        (*pool).d.next = SPARE.load(Ordering::Relaxed);
        SPARE.store(pool, Ordering::Relaxed);
        COUNT.store(count + 1, Ordering::Relaxed);
    }
}

/// Is a pool as `ngx_create_pool` has made it?
///
/// # Safety
///
/// `pool` must be a pool.
unsafe fn is_unused(pool: *const ngx_pool_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*pool).d.last.addr() == pool.addr() + size_of::<ngx_pool_t>()
            && (*pool).d.next.is_null()
            && (*pool).chain.is_null()
            && (*pool).large.is_null()
            && (*pool).cleanup.is_null()
    }
}
