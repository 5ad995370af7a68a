//! Connections to servers: `ngx_connection_t`, in use by a request or idle in the pool.

use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::callbacks::log_panic;
use super::module::{Handler, Module};
use super::servers::Servers;
#[cfg(ngx_feature = "http_ssl")]
use super::status::AGAIN;
use super::status::OK;
#[cfg(ngx_feature = "http_ssl")]
use super::sys::ngx_ssl_shutdown;
use super::sys::{
    ngx_add_timer, ngx_close_connection, ngx_connection_t, ngx_cycle, ngx_del_timer,
    ngx_destroy_pool, ngx_event_t, ngx_handle_read_event, ngx_log_t, ngx_msec_t,
};
use super::{early, spare, Log};
use crate::pure::vars_limit::Cut;

/// Has the server not read all yet that was sent to it on this unix socket? What lies there is still the
/// sender's (unix(7), SIOCOUTQ), whether the server has accepted the connection or not.
pub fn is_unread(descriptor: i32) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: room for the number; the kernel checks the number of the socket.
    let status = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut bytes) };
    status == 0 && bytes > 0
}

/// A request's connection.
#[derive(Clone, Copy)]
pub struct Connection<'a> {
    ptr: NonNull<ngx_connection_t>,
    life: PhantomData<&'a ngx_connection_t>,
}

impl Connection<'_> {
    /// A handle on nginx's connection.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection, valid for the handle's lifetime.
    pub(super) unsafe fn from_ptr(c: NonNull<ngx_connection_t>) -> Self {
        Connection { ptr: c, life: PhantomData }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_connection_t {
        self.ptr.as_ptr()
    }

    /// Its number, for the log.
    pub fn descriptor(self) -> i32 {
        field!(self, fd)
    }

    /// Requests on it so far, the current one included.
    pub fn requests(self) -> usize {
        field!(self, requests)
    }

    /// Milliseconds since it was made.
    pub fn age(self) -> usize {
        super::now().wrapping_sub(field!(self, start_time))
    }

    /// Has something gone wrong on it, or has the server closed it?
    pub fn has_failed(self) -> bool {
        let (read, write) = self.events();
        // SAFETY: an open connection has both events.
        unsafe {
            flag!(read, eof) != 0
                || flag!(read, error) != 0
                || flag!(read, timedout) != 0
                || flag!(write, error) != 0
                || flag!(write, timedout) != 0
        }
    }

    /// Was it reset, rather than closed in order?
    pub fn was_reset(self) -> bool {
        let (read, write) = self.events();
        // SAFETY: an open connection has both events.
        unsafe { (flag!(read, error) | flag!(write, error)) != 0 }
    }

    /// Did the server refuse what was sent?
    pub fn has_failed_to_send(self) -> bool {
        // SAFETY: an open connection has both events.
        unsafe { flag!(self.events().1, error) != 0 }
    }

    /// How the server has ended it, if it has.
    pub fn cut(self) -> Option<Cut> {
        if self.has_timed_out() || !self.has_failed() {
            return None;
        }
        // SAFETY: an open connection.
        Some(match unsafe { is_tls(self.as_ptr()) } {
            true => Cut::Hidden,
            false if self.was_reset() => Cut::Reset,
            false => Cut::Closed,
        })
    }

    /// Was something waited for in vain?
    pub fn has_timed_out(self) -> bool {
        let (read, write) = self.events();
        // SAFETY: an open connection has both events.
        unsafe { (flag!(read, timedout) | flag!(write, timedout)) != 0 }
    }

    /// Was it the server that took nothing, rather than one that sent nothing?
    pub fn has_timed_out_sending(self) -> bool {
        // SAFETY: an open connection has both events.
        unsafe { flag!(self.events().1, timedout) != 0 }
    }

    /// The read and the write event.
    fn events(self) -> (*mut ngx_event_t, *mut ngx_event_t) {
        (field!(self, read), field!(self, write))
    }
}

/// An idle connection, in the pool or on its way in or out. It belongs to whoever has the value, who
/// may give it to a request; else it is closed when the value is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Idle {
    ptr: NonNull<ngx_connection_t>,
}

/// What a look at an idle connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing: the server waits for a request.
    Idle,
    /// The server has closed it, or it failed.
    Closed,
    /// Bytes that nobody asked for.
    Data,
}

/// Who keeps idle connections, which are told by their descriptors.
pub trait IdleOwner: Module {
    /// The worker leaves. For how long it keeps the connection, in milliseconds; None: it closes it now.
    fn patience(servers: &Servers<Self>, descriptor: i32) -> Option<usize>;
    /// The connection has ended, and is to be dropped.
    fn connection_lost(servers: &Servers<Self>, descriptor: i32, why: Lost);
}

/// Why an idle connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server closed it, or it failed.
    Closed,
    /// The server sent bytes that nobody asked for.
    Data,
    /// `rs_uwsgi_keepalive_timeout`.
    Timeout,
    /// There are too many.
    Excess,
    /// Its server is none of the upstream's any more.
    Gone,
    /// nginx is leaving.
    Leaving,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lost::Closed => "the server closed it",
            Lost::Data => "the server sent data",
            Lost::Timeout => "\"rs_uwsgi_keepalive_timeout\" is reached",
            Lost::Excess => "there are too many",
            Lost::Gone => "its server is none any more",
            Lost::Leaving => "the worker is exiting",
        })
    }
}

/// How many idle ones there are. Not a thread-local, which a library finds by a call: a worker has one thread that
/// comes here.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Idle {
    /// How many there are in this worker.
    pub fn count() -> usize {
        COUNT.load(Ordering::Relaxed)
    }

    /// Makes a request's connection an idle one, which `servers` get back when it ends.
    ///
    /// # Errors
    ///
    /// Where the server has closed it, or sent more than its response; the connection remains the
    /// request's.
    ///
    /// # Safety
    ///
    /// The request must not use the connection any more; `servers` must outlive it.
    pub(super) unsafe fn from_request<H: Handler>(
        connection: Connection<'_>,
        servers: &Servers<H>,
        timeout: ngx_msec_t,
    ) -> Result<Idle, Peek> {
        let c = connection.as_ptr();
        // SAFETY: an open connection with both events, whose pool nginx made for it alone; what
        // `ngx_http_upstream_keepalive_module` does to keep one.
        unsafe {
            let (read, write) = ((*c).read, (*c).write);
            // where it is watched already, and nothing has come, no event method has anything to do
            let is_watched = flag!(read, active) != 0 && flag!(read, ready) == 0;
            if !is_watched && ngx_handle_read_event(read, 0) != OK {
                return Err(Peek::Closed);
            }
            let unread = if flag!(read, ready) == 0 { Peek::Idle } else { look(c) };
            if unread != Peek::Idle {
                return Err(unread);
            }
            flag!(read, delayed = 0);
            early::unwatch(c);
            ngx_add_timer(read, timeout);
            if flag!(write, timer_set) != 0 {
                ngx_del_timer(write);
            }
            (*read).handler = Some(on_event::<H>);
            (*write).handler = Some(ignore);
            (*c).data = ptr::from_ref(servers).cast_mut().cast::<c_void>();
            // Lets nginx close it when a worker leaves (ngx_close_idle_connections).
            flag!(c, idle = 1);
            set_log(c, (*ngx_cycle).log);
        }
        COUNT.store(COUNT.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(Idle { ptr: connection.ptr })
    }

    /// Gives the connection to a request. `log` is the request's.
    pub(super) fn into_ptr(self, log: *mut ngx_log_t) -> *mut ngx_connection_t {
        COUNT.store(COUNT.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        let c = core::mem::ManuallyDrop::new(self).ptr.as_ptr();
        // SAFETY: open and idle, see `from_request`.
        unsafe {
            flag!(c, idle = 0);
            (*c).sent = 0;
            (*c).data = ptr::null_mut();
            set_log(c, log);
            if flag!((*c).read, timer_set) != 0 {
                ngx_del_timer((*c).read);
            }
        }
        c
    }

    /// Looks whether the server has closed it or sent something.
    pub fn peek(&self) -> Peek {
        // SAFETY: open and idle.
        unsafe { peek(self.ptr.as_ptr()) }
    }

    /// Its number, for the log.
    pub fn descriptor(&self) -> i32 {
        field!(self, fd)
    }

    /// Requests that it has carried.
    pub fn requests(&self) -> usize {
        field!(self, requests)
    }

    /// Is it one of TLS?
    pub fn is_tls(&self) -> bool {
        // SAFETY: open and idle.
        unsafe { is_tls(self.ptr.as_ptr()) }
    }
}

impl Drop for Idle {
    /// Closes it.
    fn drop(&mut self) {
        COUNT.store(COUNT.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        // SAFETY: open and idle, and nobody knows of it any more.
        unsafe { close(self.ptr.as_ptr()) };
    }
}

/// Is it a TLS connection?
///
/// # Safety
///
/// `c` must be an open connection.
pub(super) unsafe fn is_tls(c: *const ngx_connection_t) -> bool {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: the caller's promise.
    return unsafe { !(*c).ssl.is_null() };
    #[cfg(not(ngx_feature = "http_ssl"))]
    {
        let _ = c;
        false
    }
}

/// Closes a connection with its memory.
///
/// # Safety
///
/// `c` must be an open connection, whose pool is null or its own, and nobody may use it any more.
pub(super) unsafe extern "C" fn close(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(ngx_feature = "http_ssl")]
        if !(*c).ssl.is_null() {
            // as nginx does with every connection to an upstream: nobody waits for the answer
            flag!((*c).ssl, no_wait_shutdown = 1);
            flag!((*c).ssl, no_send_shutdown = 1);
            if ngx_ssl_shutdown(c) == AGAIN {
                if let Some(ssl) = (*c).ssl.as_mut() {
                    ssl.handler = Some(close);
                }
                return;
            }
        }
        spare::keep(c);
        if !(*c).pool.is_null() {
            ngx_destroy_pool((*c).pool);
        }
        ngx_close_connection(c);
    }
}

/// # Safety
///
/// `c` must be an open connection with its own pool, and `log` must be valid for as long as it is
/// the connection's.
unsafe fn set_log(c: *mut ngx_connection_t, log: *mut ngx_log_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*c).log = log;
        (*(*c).read).log = log;
        (*(*c).write).log = log;
        (*(*c).pool).log = log;
    }
}

/// Looks at the socket and takes nothing from it.
///
/// # Safety
///
/// `c` must be an open connection.
pub(super) unsafe fn peek(c: *mut ngx_connection_t) -> Peek {
    let mut byte = 0_u8;
    // SAFETY: an open socket, and room for one byte.
    let count = unsafe { libc::recv((*c).fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK) };
    match count {
        0 => Peek::Closed,
        -1 if super::sys::ngx_socket_errno() == libc::EAGAIN => Peek::Idle,
        -1 => Peek::Closed,
        _ => Peek::Data,
    }
}

/// Looks for bytes that are ready to be read. OpenSSL may hold some that the socket does not show, so
/// with TLS they are read: the connection is closed if there are any.
///
/// # Safety
///
/// `c` must be an open connection.
unsafe fn look(c: *mut ngx_connection_t) -> Peek {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(ngx_feature = "http_ssl")]
        if !(*c).ssl.is_null() {
            let mut byte = 0_u8;
            let Some(recv) = (*c).recv else { return Peek::Closed };
            return match recv(c, &raw mut byte, 1) {
                again if again == AGAIN => Peek::Idle,
                1.. => Peek::Data,
                _ => Peek::Closed,
            };
        }
        peek(c)
    }
}

unsafe extern "C" fn ignore(_: *mut ngx_event_t) {}

/// The worker leaves: leaves the connection to the server to close, where it will do so soon.
///
/// # Safety
///
/// `c` must be an open connection that `from_request` made idle, of these servers.
unsafe fn stays_open<H: Handler>(c: *mut ngx_connection_t, servers: &Servers<H>) -> bool {
    // SAFETY: the caller's promise.
    let descriptor = unsafe { (*c).fd };
    let patience = catch_unwind(AssertUnwindSafe(|| H::patience(servers, descriptor)));
    let Ok(Some(patience)) = patience else { return false };
    // SAFETY: the caller's promise. The worker leaves when there is no timer any more.
    unsafe {
        flag!(c, close = 0);
        flag!(c, idle = 0);
        ngx_add_timer((*c).read, patience);
    }
    true
}

/// Something happened to an idle connection.
unsafe extern "C" fn on_event<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the read event of a connection that `from_request` made idle, so that
    // its data are the servers, which outlive it.
    let (c, descriptor, servers) = unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        (c, (*c).fd, &*(*c).data.cast::<Servers<H>>())
    };
    // SAFETY: as above.
    let why = unsafe {
        if flag!(c, close) != 0 {
            // the second time, at the end of "worker_shutdown_timeout", it is an error
            if flag!(c, error) == 0 && stays_open::<H>(c, servers) {
                return;
            }
            Lost::Leaving
        } else if flag!(event, timedout) != 0 {
            match super::is_exiting() {
                true => Lost::Leaving,
                false => Lost::Timeout,
            }
        } else {
            match peek(c) {
                Peek::Closed => Lost::Closed,
                Peek::Data => Lost::Data,
                Peek::Idle => {
                    flag!(event, ready = 0);
                    if ngx_handle_read_event(event, 0) == OK {
                        return;
                    }
                    Lost::Closed
                }
            }
        }
    };
    let lost = catch_unwind(AssertUnwindSafe(|| H::connection_lost(servers, descriptor, why)));
    if let Err(panic) = lost {
        log_panic(Log::of_worker(), &*panic);
    }
}
