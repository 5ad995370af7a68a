//! nginx's log: levels, `log->action` and all, as `ngx_log_error` has them.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use ngx::log::{write_fmt, LOG_BUFFER_SIZE};

use super::sys::{
    ngx_cycle, ngx_err_t, ngx_log_t, ngx_uint_t, NGX_LOG_ALERT, NGX_LOG_CRIT, NGX_LOG_DEBUG_HTTP,
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
};

/// Debug output as of [`Log::debug`], for what every request comes by: builds its message only where it
/// is on, which saves ten instructions.
macro_rules! debug {
    ($log:expr, $($message:tt)*) => {{
        let log = $log;
        if log.has_debug() {
            log.debug(format_args!($($message)*));
        }
    }};
}
pub(crate) use debug;

/// A log of nginx's: the client connection's, or the configuration's.
#[derive(Clone, Copy)]
pub struct Log<'a> {
    ptr: NonNull<ngx_log_t>,
    life: PhantomData<&'a ngx_log_t>,
}

impl Log<'_> {
    /// A handle on nginx's log.
    ///
    /// # Safety
    ///
    /// `log` must be valid for the handle's lifetime.
    pub unsafe fn from_ptr(log: NonNull<ngx_log_t>) -> Self {
        Log { ptr: log, life: PhantomData }
    }

    /// nginx's own, for what no request has to do with.
    pub fn of_worker() -> Log<'static> {
        // SAFETY: a worker has a cycle, and a cycle a log, until it ends.
        unsafe { Log::from_ptr(NonNull::new_unchecked((*ngx_cycle).log)) }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_log_t {
        self.ptr.as_ptr()
    }

    /// The configuration cannot be used.
    pub fn emerg(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_EMERG as ngx_uint_t, message);
    }

    /// A fault of ours: an operator should report it.
    pub fn alert(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_ALERT as ngx_uint_t, message);
    }

    /// A request failed.
    pub fn error(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_ERR as ngx_uint_t, message);
    }

    /// A call of the system's failed, with a number of errno(3), which should not happen.
    pub fn alert_of(self, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        self.write_of(NGX_LOG_ALERT as ngx_uint_t, errno, message);
    }

    /// A call of the system's failed, as somebody should know.
    pub fn crit_of(self, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        self.write_of(NGX_LOG_CRIT as ngx_uint_t, errno, message);
    }

    /// A call of the system's failed, and with it a request.
    pub fn error_of(self, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        self.write_of(NGX_LOG_ERR as ngx_uint_t, errno, message);
    }

    /// Something is wrong, but the request goes on.
    pub fn warn(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_WARN as ngx_uint_t, message);
    }

    /// Nothing is wrong, but good to know.
    pub fn notice(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_NOTICE as ngx_uint_t, message);
    }

    /// What an operator who looks wants to know.
    pub fn info(self, message: fmt::Arguments<'_>) {
        self.write(NGX_LOG_INFO as ngx_uint_t, message);
    }

    /// A call of the system's failed, but the request goes on.
    pub fn warn_of(self, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        self.write_of(NGX_LOG_WARN as ngx_uint_t, errno, message);
    }

    /// Debug output, as `ngx_log_debug(NGX_LOG_DEBUG_HTTP, …)`.
    #[inline(always)]
    pub fn debug(self, message: fmt::Arguments<'_>) {
        if self.has_debug() {
            self.write_debug(message);
        }
    }

    /// Is there debug output? For what is told of many things at once.
    #[inline(always)]
    pub fn has_debug(self) -> bool {
        cfg!(ngx_feature = "debug") && field!(self, log_level) & NGX_LOG_DEBUG_HTTP as usize != 0
    }

    fn write(self, level: ngx_uint_t, message: fmt::Arguments<'_>) {
        self.write_of(level, 0, message);
    }

    fn write_of(self, level: ngx_uint_t, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        if level > field!(self, log_level) {
            return;
        }
        // SAFETY: the log is valid (see `from_ptr`).
        with_text(message, |text| unsafe {
            ngx::log::log_error(level, self.ptr.as_ptr(), errno, text)
        });
    }

    #[cold]
    fn write_debug(self, message: fmt::Arguments<'_>) {
        // SAFETY: the log is valid (see `from_ptr`).
        with_text(message, |text| unsafe { ngx::log::log_debug(self.ptr.as_ptr(), 0, text) });
    }
}

/// Formats a message as nginx does: on the stack, cut where its line ends.
pub(super) fn with_text(message: fmt::Arguments<'_>, write: impl FnOnce(&[u8])) {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; LOG_BUFFER_SIZE];
    write(write_fmt(&mut buffer, message));
}

/// Writes bytes of a configuration or of the network to a log: what is not printable as `\xNN`.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}
