//! The servers of an upstream that are checked, and what is known of them: in the zone that all workers share,
//! or, where there is no room for it, in this worker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use crate::nginx::tried::Tried;
use crate::nginx::zone;
use crate::pure::health;
use crate::pure::zone::SlotId;

/// The servers of an upstream that are checked, in one worker.
#[derive(Default)]
pub struct Checked {
    /// In the order of their addresses.
    pub servers: RefCell<Vec<Rc<Server>>>,
    /// Requests that a server was chosen for while another's share grew.
    pub requests: Cell<u64>,
    /// Requests that are with them, by numbers that grow.
    pub tried: RefCell<BTreeMap<u64, (Rc<Server>, Tried)>>,
    /// The last of these numbers.
    pub last: Cell<u64>,
}

/// One of them.
pub struct Server {
    /// Its address.
    pub address: Box<[u8]>,
    /// Its name in the log.
    pub name: Box<[u8]>,
    /// Its slot in the zone that all workers share.
    pub slot: Option<SlotId>,
    /// Where it has none, this worker's own words.
    pub words: [AtomicU64; health::WORDS],
}

impl Server {
    /// What is known of it.
    pub fn known(&self) -> health::Server<'_, AtomicU64> {
        let shared = zone::at(self.slot).and_then(|(worker, slot)| {
            let zone = worker.zone();
            // after a reload it may have become another's, while this worker ends
            zone.is_ready(slot).then(|| zone.health(slot))
        });
        health::Server::new(shared.unwrap_or(&self.words))
    }
}
