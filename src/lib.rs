//! An nginx module that passes requests to uwsgi servers: `rs_uwsgi_pass` stands where `uwsgi_pass`
//! stood.
//!
//! The way of a request, and the file that owns each step:
//!
//! | step | file |
//! |---|---|
//! | the configuration: directives, inheritance, compiled parameters | conf.rs, conf/ |
//! | the content handler: nginx's callbacks, wired on one page | handler.rs |
//! | parameters and headers become a packet, packet and body a chain of buffers | request.rs |
//! | the connection to a server: taken from the pool, parked there | peer.rs |
//! | a new one | peer/connect.rs |
//! | the wait for one, where the server has no room | peer/wait.rs |
//! | the response's head becomes nginx's headers | response.rs |
//! | the response's body: where it ends | body.rs |
//! | answers that come before the request was sent | nginx/early.rs |
//! | the end of a request: the verdict on its connection | finalize.rs |
//! | idle connections, and the rules by which one is used again, with no nginx in sight | pure/pool.rs, pure/pool/ |
//! | requests that wait, and when they try again, with no nginx in sight | pure/queue.rs |
//! | variables for logs, and what the log advises | variables.rs, pure/hints.rs |
//! | how much of vars a server takes, and whose fault an end without an answer is, with no nginx in sight | pure/vars_limit.rs |
//! | requests that a server has refused | refused.rs |
//! | which build this is | version.rs |
//! | the protocol itself, with no nginx in sight | pure/uwsgi.rs, pure/uwsgi/ |
//! | nginx's structures and functions: the only unsafe code | nginx.rs, nginx/ |
//!
//! Load balancing, buffering, timeouts, retries and all I/O are nginx's own
//! (src/http/ngx_http_upstream.c).

pub mod pure;

#[cfg(feature = "module")]
pub mod body;
#[cfg(feature = "module")]
pub mod conf;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(feature = "module")]
pub mod finalize;
#[cfg(feature = "module")]
pub mod handler;
#[cfg(feature = "module")]
pub mod nginx;
#[cfg(feature = "module")]
pub mod peer;
#[cfg(feature = "module")]
pub mod refused;
#[cfg(feature = "module")]
pub mod request;
#[cfg(feature = "module")]
pub mod response;
#[cfg(feature = "module")]
pub mod variables;
#[cfg(feature = "module")]
pub mod version;

#[cfg(feature = "module")]
pub use export::*;

/// The tables by which nginx finds the module in the library, as nginx's auto/make writes them for a
/// module in C.
#[cfg(feature = "module")]
#[allow(non_upper_case_globals)]
mod export {
    use core::ffi::c_char;
    use core::ptr;

    use crate::nginx::sys::ngx_module_t;
    use crate::{conf, nginx};

    /// The module.
    #[no_mangle]
    pub static mut ngx_http_rs_uwsgi_module: ngx_module_t =
        nginx::module::new(&conf::directives::DIRECTIVES);

    /// All modules of the library.
    #[no_mangle]
    pub static mut ngx_modules: [*const ngx_module_t; 2] =
        [&raw const ngx_http_rs_uwsgi_module, ptr::null()];

    /// Their names.
    #[no_mangle]
    pub static mut ngx_module_names: [*const c_char; 2] =
        [c"ngx_http_rs_uwsgi_module".as_ptr(), ptr::null()];

    /// Their place among filters: none.
    #[no_mangle]
    pub static mut ngx_module_order: [*const c_char; 1] = [ptr::null()];
}
