//! What can be said without nginx: the protocol, and the rules by which connections, limits and requests
//! that wait are handled. Builds, tests and is fuzzed with neither nginx nor its headers.
#![forbid(unsafe_code)]

pub mod health;
pub mod hints;
pub mod in_flight;
pub mod keys;
pub mod limit;
pub mod line;
pub mod overload;
pub mod page;
pub mod pool;
pub mod queue;
pub mod restart;
pub mod silent;
pub mod stats;
pub mod status;
pub mod uwsgi;
pub mod uwsgi_stats;
pub mod vars_limit;
pub mod words;
pub mod zone;
