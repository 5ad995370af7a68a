//! The pure parts against independent models of what they are to do, on input that is partly
//! random.
//!
//! Runs without nginx: `cargo test --no-default-features --lib --test pure`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "pure/chunked.rs"]
mod chunked;
#[path = "pure/clock.rs"]
mod clock;
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

#[path = "pure/framing.rs"]
mod framing;
#[path = "pure/head.rs"]
mod head;
#[path = "pure/header_set.rs"]
mod header_set;
#[path = "pure/health.rs"]
mod health;
#[path = "pure/hints.rs"]
mod hints;
#[path = "pure/in_flight.rs"]
mod in_flight;
#[path = "pure/keys.rs"]
mod keys;
#[path = "pure/limit.rs"]
mod limit;
#[path = "pure/line.rs"]
mod line;
#[path = "pure/mutated.rs"]
mod mutated;
#[path = "pure/packet.rs"]
mod packet;
#[path = "pure/patience.rs"]
mod patience;
#[path = "pure/plain.rs"]
mod plain;
#[path = "pure/policy.rs"]
mod policy;
#[path = "pure/pool.rs"]
mod pool;
#[path = "pure/queue.rs"]
mod queue;
#[path = "pure/random.rs"]
mod random;
#[path = "pure/restart.rs"]
mod restart;
#[path = "pure/seeds.rs"]
mod seeds;
#[path = "pure/silent.rs"]
mod silent;
#[path = "pure/stats.rs"]
mod stats;
#[path = "pure/status.rs"]
mod status;
#[path = "pure/vars_limit.rs"]
mod vars_limit;
#[path = "pure/zone.rs"]
mod zone;
#[path = "pure/zone_model.rs"]
mod zone_model;
#[path = "pure/zone_plain.rs"]
mod zone_plain;
#[path = "pure/zone_schedules.rs"]
mod zone_schedules;
#[path = "pure/zone_steps.rs"]
mod zone_steps;

type Bytes = Vec<u8>;
