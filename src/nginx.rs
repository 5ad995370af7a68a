//! The only unsafe code: thin, typed handles over nginx's structures and functions.
//!
//! Everything outside this folder is safe Rust. A handle ([`Request`], [`Upstream`], [`Conf`] …) is
//! a pointer that nginx gave to a callback, with the callback's lifetime; handles are `Copy`, as
//! nginx's own pointers are, and read and write single fields, so that no Rust reference to a
//! structure of nginx's is alive while nginx itself may change it.
//!
//! What differs between nginx versions (see build.rs) is dealt with here and nowhere else.
//!
//! What this layer calls stands above it, and it knows nothing of it but [`module::Module`] and the traits
//! beside the callbacks: [`callbacks::RequestHandler`], [`peer::PeerHandler`], [`wait::QueueHandler`],
//! [`connection::IdleOwner`], [`probe::Prober`], [`filter::ChunkDecoder`], [`zone::ZoneOwner`],
//! [`resolved::ServersOwner`], [`answer::AnswerHandler`], [`module::ModuleConf`].
//!
//! | what | files |
//! |---|---|
//! | the module's place in nginx's tables, and its configurations | module.rs |
//! | what nginx calls for a request | callbacks.rs |
//! | the configuration while it is read | conf.rs, slots.rs, block.rs, merge.rs, upstream_conf.rs, tls.rs |
//! | values and variables | value.rs, variables.rs |
//! | a request, its body, and what it is written to | request.rs, cache.rs, client.rs, client_body.rs, chain.rs, pool.rs, log.rs, status.rs |
//! | its upstream, the state of one, and the address of one | upstream.rs, state.rs, address.rs |
//! | the choice of a server | servers.rs, balancer.rs, balancer_callbacks.rs, stock_keepalive.rs, peer.rs |
//! | connections: made, waited for, kept | connect.rs, wait.rs, wake.rs, connection.rs, spare.rs |
//! | what all workers share | zone.rs |
//! | probes of servers, and which there are | probe.rs, resolved.rs |
//! | what is read beside requests | fetch.rs |
//! | the request on its way to the server | early.rs, cut.rs |
//! | the response on its way to the client | headers.rs, body.rs, filter.rs |
//! | what this module answers itself | answer.rs |

/// Reads or writes one field of the structure behind a handle.
macro_rules! field {
    ($handle:expr, $($field:tt)+) => {
        // SAFETY: a handle is made from a pointer that nginx passed to a callback and does not
        // outlive it, so the structure is there; only one field is touched, by value, and no
        // reference to it is kept.
        unsafe { (*$handle.ptr.as_ptr()).$($field)+ }
    };
}

#[macro_use]
mod layout;

use core::marker::PhantomData;
use core::num::NonZeroU64;

pub mod address;
pub mod answer;
pub mod balancer;
mod balancer_callbacks;
mod bell;
pub mod block;
mod body;
mod cache;
pub(crate) mod callbacks;
pub mod chain;
mod client;
pub mod client_body;
pub mod conf;
pub mod connect;
pub mod connection;
mod cut;
mod early;
pub mod fetch;
pub mod filter;
pub mod growing;
pub mod headers;
pub mod log;
pub mod merge;
pub mod module;
mod own;
pub mod peer;
pub mod pool;
pub mod probe;
mod probes;
pub mod request;
pub mod resolved;
pub mod servers;
pub mod shake;
pub mod slots;
mod spare;
pub mod state;
pub mod status;
mod stock_keepalive;
#[cfg(ngx_feature = "http_ssl")]
pub mod tls;
pub mod tried;
pub mod upstream;
pub mod upstream_conf;
pub mod value;
pub mod variables;
pub mod version;
pub mod wait;
mod wake;
pub mod watch;
pub mod zone;

mod macros {
    //! Constants that nginx defines by macros with a cast, from macros.h.
    #![allow(missing_docs, non_upper_case_globals, non_camel_case_types)]
    include!(concat!(env!("OUT_DIR"), "/macros.rs"));
}

pub use conf::Conf;
pub use log::Log;
pub use nginx_sys as sys;
pub use pool::Pool;
pub use request::Request;
pub use upstream::Upstream;

/// The lifetime of a request, as a brand: it can be neither shortened nor lengthened, so that what
/// is kept in the state of a request ([`state::State`]) can only be of that same request's
/// memory, or live longer than any.
#[derive(Clone, Copy)]
struct Brand<'a>(PhantomData<fn(&'a ()) -> &'a ()>);

impl Brand<'_> {
    const NEW: Self = Brand(PhantomData);
}

/// What a callback of ours can fail with; it becomes nginx's status at the edge ([`callbacks`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Memory ran out or nginx refused; it has logged why. `NGX_ERROR` to nginx.
    Failed,
    /// The upstream's response head is not one. `NGX_HTTP_UPSTREAM_INVALID_HEADER` to nginx, which
    /// then tries the next upstream or answers 502.
    InvalidHeader,
    /// More has to be read first. `NGX_AGAIN` to nginx.
    Again,
    /// nginx's own status, as a function of nginx's returned it.
    Status(sys::ngx_int_t),
}

impl From<Error> for sys::ngx_int_t {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed => status::ERROR,
            Error::InvalidHeader => sys::NGX_HTTP_UPSTREAM_INVALID_HEADER as sys::ngx_int_t,
            Error::Again => status::AGAIN,
            Error::Status(status) => status,
        }
    }
}

/// `Ok` where an nginx function returned `NGX_OK`, else its status.
fn ok(status: sys::ngx_int_t) -> Result<(), Error> {
    if status == status::OK {
        Ok(())
    } else {
        Err(Error::Status(status))
    }
}

/// An `ngx_str_t` over bytes that outlive its use. nginx takes many read-only strings as mutable.
const fn str_of(bytes: &[u8]) -> sys::ngx_str_t {
    sys::ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// The bytes of an `ngx_str_t`; none where its pointer is null.
///
/// # Safety
///
/// `data` must be null or valid for `len` bytes, unchanged for `'a`.
unsafe fn bytes_of<'a>(str: sys::ngx_str_t) -> &'a [u8] {
    // SAFETY: the caller's promise is the one that is asked for.
    unsafe { slice_of(str.data, str.len) }
}

/// A slice from nginx's pointer and length; none where the pointer is null.
///
/// # Safety
///
/// `data` must be null, or aligned and valid for `len` values, unchanged for `'a`.
unsafe fn slice_of<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if data.is_null() {
        return none();
    }
    // SAFETY: not null, and the caller promised the rest.
    unsafe { core::slice::from_raw_parts(data, len) }
}

/// No values. Out of line, so that [`slice_of`] does not choose between two pointers and two lengths
/// every time.
#[cold]
#[inline(never)]
fn none<'a, T>() -> &'a [T] {
    &[]
}

/// A flag that is not configured.
pub const NGX_CONF_UNSET: sys::ngx_flag_t = sys::NGX_CONF_UNSET as sys::ngx_flag_t;

/// A number, a size or a time in milliseconds that is not configured. nginx has three names for it.
pub const NGX_CONF_UNSET_UINT: sys::ngx_uint_t = {
    let unset = macros::RS_NGX_CONF_UNSET_UINT;
    assert!(unset == macros::RS_NGX_CONF_UNSET_SIZE && unset == macros::RS_NGX_CONF_UNSET_MSEC);
    unset as sys::ngx_uint_t
};

/// A page of memory in bytes, the default size of nginx's buffers.
pub fn page_size() -> usize {
    // SAFETY: set when nginx started.
    unsafe { sys::ngx_pagesize }
}

/// A pointer that is not configured.
pub const fn unset_pointer<T>() -> *mut T {
    core::ptr::without_provenance_mut(macros::RS_NGX_CONF_UNSET_PTR as usize)
}

/// nginx's clock in milliseconds, as of the last events.
pub fn now() -> usize {
    // SAFETY: only this thread writes it.
    unsafe { sys::ngx_current_msec }
}

/// nginx's clock on the wall, as of the last events: milliseconds since 1970.
pub fn wall_clock() -> u64 {
    // SAFETY: nginx has set it before it reads its configuration; only this thread writes it.
    unsafe {
        let time = &raw const *sys::ngx_cached_time;
        (*time).sec as u64 * 1000 + (*time).msec as u64
    }
}

/// nginx's clock in milliseconds, set right first.
pub fn now_exactly() -> usize {
    // SAFETY: takes no arguments, and may be called at any time.
    unsafe { sys::ngx_time_update() };
    now()
}

/// The time since some moment in the past, in nanoseconds: one clock for all processes.
pub fn monotonic_nanoseconds() -> NonZeroU64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the time; Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN)
}

/// A number by chance, which is no secret: of the clock's last digits.
pub fn random() -> u64 {
    monotonic_nanoseconds().get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

/// Is the worker on its way out?
pub fn is_exiting() -> bool {
    // SAFETY: only this thread, and its signal handlers, write them.
    unsafe { sys::ngx_exiting != 0 || sys::ngx_terminate != 0 }
}

/// How many idle connections the worker may have to all servers: a quarter of `worker_connections`, so
/// that there is always room for clients.
pub fn most_idle_connections() -> usize {
    // SAFETY: requests run in a worker, which has a cycle.
    unsafe { (*sys::ngx_cycle).connection_n / 4 }
}

/// `worker_connections`, where less than an eighth of them is left to the worker.
pub fn scarce_connections() -> Option<usize> {
    // SAFETY: requests run in a worker, which has a cycle.
    let (all, free) =
        unsafe { ((*sys::ngx_cycle).connection_n, (*sys::ngx_cycle).free_connection_n) };
    (free < all / 8).then_some(all)
}

/// The user that the worker runs as.
pub fn user() -> String {
    // SAFETY: takes no arguments and cannot fail.
    crate::pure::hints::user(unsafe { libc::geteuid() })
}
