//! An nginx module that passes requests to uwsgi servers: `rs_uwsgi_pass` stands where `uwsgi_pass`
//! stood.
//!
//! The rooms, from the top down. Each imports those below it, and none above (`scripts/rooms check`):
//!
//! | room | what is in it |
//! |---|---|
//! | [`handler`] | wiring only: every callback of nginx's, on one page |
//! | [`variables`] | variables for logs |
//! | [`request`] | what is sent: where to, the client's body, the packet |
//! | [`response`] | what comes back: its head, its body |
//! | [`peer`] | the connection: chosen, waited for, made, parked, and what is told of it |
//! | [`state`] | what is known of a request, of a try, of a response |
//! | [`conf`] | the configuration: directives, inheritance, compiled parameters |
//! | [`module`], [`version`] | the module's type, and which build it is |
//! | [`nginx`] | nginx's structures and functions, and the traits by which it calls: the only unsafe code |
//! | [`pure`] | the protocol and the rules of pool, queue and limits, with no nginx in sight |
//!
//! The way of a request: `rs_uwsgi_pass` has made [`handler`]'s `content` the content handler.
//! [`request::target`] gives the request an upstream and its [`state::RequestState`], [`request::body`] has
//! the client's body read, [`request::encode`] writes the packet. nginx chooses a server; [`peer::choose`]
//! finds a connection to it, or [`peer::wait`] lets the request wait. [`response::head`] and
//! [`response::body`] read the answer, and [`peer::release`] judges the connection.
//!
//! `bytes` is in [`pure::uwsgi::packet`] alone: a packet is built in one growing buffer, and copied once to
//! the memory of its request. Everything else is read where nginx has put it.
//!
//! Load balancing, buffering, timeouts, retries and all I/O are nginx's own
//! (src/http/ngx_http_upstream.c).

pub mod pure;

#[cfg(feature = "module")]
pub mod conf;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(feature = "module")]
pub mod handler;
#[cfg(feature = "module")]
pub mod module;
#[cfg(feature = "module")]
pub mod nginx;
#[cfg(feature = "module")]
pub mod peer;
#[cfg(feature = "module")]
pub mod request;
#[cfg(feature = "module")]
pub mod response;
#[cfg(feature = "module")]
pub mod state;
#[cfg(feature = "module")]
pub mod status;
#[cfg(feature = "module")]
pub mod variables;
#[cfg(feature = "module")]
pub mod version;

#[cfg(feature = "module")]
pub use export::*;

/// The tables by which nginx finds the module in the library.
#[cfg(feature = "module")]
#[allow(non_upper_case_globals)]
mod export {
    use crate::conf::directives::DIRECTIVES;
    use crate::module::Uwsgi;

    crate::export_module!(ngx_http_rs_uwsgi_module, Uwsgi, DIRECTIVES);
}
