//! Connections that are reused.

pub mod balancers;
mod chunks;
mod configuration;
mod desync;
mod framing;
mod idle;
mod leaving;
mod newer;
mod races;
mod restarts;
mod retry;
mod rules;
mod servers;
mod sharing;
mod tls;
mod violations;

pub use crate::site::{Answers, Visit, GET, KEPT, PARKED};

use crate::prelude::*;
