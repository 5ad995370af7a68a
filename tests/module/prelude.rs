//! What most tests use, for `use crate::prelude::*;`. A file's own names and its other imports come
//! before these.

pub use crate::pair::{
    any_port, assert_responses, everything, pair, translated, Outcome, Pair, Side, SIDES,
    STANDARD_PARAMS,
};
pub use crate::site::{Site, OK};
pub use crate::support::backend::{Address, Backend, Peer};
pub use crate::support::client::{self, exchange, get, get_with, post, Client, End, Response};
pub use crate::support::dns::Dns;
pub use crate::support::gunicorn::{Gunicorn, Version};
pub use crate::support::log::Line;
pub use crate::support::nginx::builder::Check;
pub use crate::support::nginx::{self, Builder, Nginx, PAUSE};
pub use crate::support::packet::Packet;
pub use crate::support::programs::{module_path, nginx_version};
pub use crate::support::random::Random;
pub use crate::support::tls::{Authority, Handshake, Identity};
pub use crate::support::uwsgi::Uwsgi;
pub use crate::support::{curl, h2, kernel, root, show, tally, wait_for, DEADLINE};
pub use std::fs;
pub use std::io;
pub use std::net::SocketAddr;
pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub use std::sync::mpsc::channel;
pub use std::sync::{Arc, Mutex};
pub use std::time::{Duration, Instant};
pub use tempfile::TempDir;
