//! Requests of clients, counted when they are over: by the names that `rs_uwsgi_status_zone` gives, and what
//! concerns an upstream and none of its servers.

use std::cell::RefCell;

use crate::conf::status::MOST_ZONES;
use crate::conf::LocConf;
use crate::module::{Servers, State, Uwsgi};
use crate::nginx::value::ComplexValue;
use crate::nginx::zone::{patiently, this_worker};
use crate::nginx::Request;
use crate::pure::stats::{self, CacheStatus, Cells, Count};
use crate::pure::zone::{Generation, Label, SlotId};
use crate::state::RequestState;

/// What slots that are no server's have for the name of their upstream: no name of a configuration has a NUL.
pub const ZONE: &[u8] = b"\0zone";
/// What the slot of an upstream has for the name of a server.
pub const UPSTREAM: &[u8] = b"\0";

/// The name of all names beyond [`MOST_ZONES`].
const OTHER: &[u8] = b"other";

/// A request is over.
pub fn log_request(r: Request<'_>) {
    if let Some(name) = LocConf::of(r).status_zone {
        count_client(r, name);
    }
    if let Some(state) = RequestState::of(r) {
        let status = state.upstream.cache_status();
        if status != 0 || state.refused_size.get().is_some() {
            count_without_server(r, state, status);
        }
    }
}

/// Counts the request under the name that its location gives it.
#[inline(never)]
fn count_client(r: Request<'_>, name: ComplexValue) {
    if let Some(cells) = name.evaluate(r).and_then(zone_of).and_then(cells_of) {
        let (received, sent) = r.client_bytes();
        let status = u16::try_from(r.final_status()).unwrap_or(0);
        stats::count_client(cells, status, received, sent);
    }
}

/// Counts what the cache had for the request, by nginx's number, and whether it was too large for any server.
#[inline(never)]
fn count_without_server<'a>(r: Request<'a>, state: &State<'a>, status: usize) {
    let is_too_large = state.refused_size.get().is_some() && state.attempt().peer.get().is_none();
    if status == 0 && !is_too_large {
        return;
    }
    let servers = state.upstream.servers::<Uwsgi>(r);
    let Some(cells) = servers.and_then(slot_of).and_then(cells_of) else { return };
    if is_too_large {
        stats::count(cells, Count::VarsRefused);
    }
    let place = status.wrapping_sub(1);
    if let Some(status) = CacheStatus::ALL.get(place) {
        stats::count_cache(cells, *status);
    }
}

fn cells_of(slot: SlotId) -> Option<&'static Cells> {
    let (worker, _) = this_worker()?;
    worker.zone().is_ready(slot).then(|| worker.cells(slot)).flatten()
}

/// The slot of an upstream.
fn slot_of(servers: &Servers) -> Option<SlotId> {
    let (worker, generation) = this_worker()?;
    if let Some(slot) = servers.slots.borrow().find(UPSTREAM) {
        return Some(slot);
    }
    let slot = servers.slot(worker.zone(), generation, UPSTREAM, UPSTREAM).ok()?;
    servers.slots.borrow_mut().insert(UPSTREAM, slot);
    Some(slot)
}

/// Slots by names.
type Known = Vec<(Box<[u8]>, SlotId)>;

thread_local! {
    /// The slots of names that this worker has met, in the configuration that it runs.
    static KNOWN: RefCell<Option<(Generation, Known)>> = const { RefCell::new(None) };
}

/// The slot for a name, which may be that of all others. None for no name.
fn zone_of(name: &[u8]) -> Option<SlotId> {
    let (worker, generation) = this_worker()?;
    if name.is_empty() {
        return None;
    }
    KNOWN.with_borrow_mut(|known| {
        if known.as_ref().is_none_or(|(of, _)| *of != generation) {
            *known = Some((generation, Vec::new()));
        }
        let (_, known) = known.as_mut()?;
        let find =
            |name: &[u8]| known.iter().find(|(own, _)| **own == *name).map(|(_, slot)| *slot);
        if let Some(slot) = find(name) {
            return Some(slot);
        }
        let zone = worker.zone();
        let key = |name: &[u8]| [ZONE, b"\0", name].concat();
        let name = match zone.known(&key(name)) {
            Some(_) => name,
            None => {
                let labels = zone.slots().filter_map(|slot| zone.label(slot));
                let count = labels.filter(|(upstream, _)| upstream == ZONE).count();
                if count >= MOST_ZONES {
                    OTHER
                } else {
                    name
                }
            }
        };
        if let Some(slot) = find(name) {
            return Some(slot);
        }
        let label = Label { upstream: ZONE, server: name };
        let slot = patiently(|| zone.slot(&key(name), label, generation)).ok()?;
        known.push((name.into(), slot));
        Some(slot)
    })
}
