//! The module in a real nginx. Stock `uwsgi_pass` in the same nginx is the oracle wherever it has
//! the feature; each intended difference has a test of its own. Needs the built module
//! (`make module`, or RS_UWSGI_MODULE) and Debian's nginx (or RS_UWSGI_NGINX).

// These lints guard what comes from clients and backends; here a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod bad_backend;
mod behaviour;
mod bodies;
mod buffers;
mod cache;
mod cache_disk;
mod cache_responses;
mod cache_stale;
mod cached;
mod conf_errors;
mod cut_short;
mod debian_params;
mod deployment;
mod differences;
mod docs;
mod early;
mod ends;
mod event_streams;
mod examples;
mod failures;
mod growing;
mod header_names;
mod health;
mod hints;
mod inheritance;
mod intended;
mod left_behind;
mod links;
mod migrate;
mod named_values;
mod open_loop;
mod oracle_http3;
mod oracle_requests;
mod oracle_responses;
mod overload;
mod pair;
mod prelude;
mod queue_size;
mod real_uwsgi;
mod refused;
mod report;
mod requests;
mod response_ends;
mod responses;
mod reuse;
mod site;
mod status;
mod store;
mod table;
mod tls;
mod traffic;
mod trailers;
mod uwsgi_stats;
mod version;
