//! The uwsgi protocol, with no nginx in sight: bytes in, bytes out, no I/O and no panics.
//!
//! | file | owns |
//! |---|---|
//! | [`packet`] | the request: four header bytes and the vars, written in one pass |
//! | [`quick`] | what is written for almost every var, in a few steps |
//! | [`vars`] | the vars, read back |
//! | [`names`] | how headers, parameters and modifiers are called |
//! | [`mount`] | where a path is split for `rs_uwsgi_mount` |
//! | [`header_set`] | sets of header names, as the application tells them apart |
//! | [`framing`] | where a response ends, and what it says of its connection |
//! | [`head`] | the response head, line by line, in the language that nginx accepts |
//! | [`chunked`] | chunked response bodies: where the data is, where they end |
//! | [`trailers`] | the fields behind such a body, and which may be passed on |
//!
//! Everything here builds and is tested with `--no-default-features`.
#![forbid(unsafe_code)]

pub mod chunked;
pub mod framing;
pub mod head;
pub mod header_set;
pub mod mount;
pub mod names;
pub mod packet;
pub mod quick;
pub mod trailers;
pub mod vars;
