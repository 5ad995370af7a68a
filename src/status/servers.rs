//! The servers that there are: those of the configuration, and others that the zone knows, which variables or
//! names of hosts have brought.

use std::collections::{BTreeMap, BTreeSet};

use super::count::{UPSTREAM, ZONE};
use crate::conf::connections::EffectiveSettings;
use crate::module::Servers;
use crate::nginx::zone::this_worker;
use crate::nginx::{self, Request};
use crate::peer::health::reports;
use crate::peer::{limit, uwsgi_stats};
use crate::pure::limit::MaxConnections;
use crate::pure::line::arrived_at;
use crate::pure::stats::history::History;
use crate::pure::stats::Totals;
use crate::pure::status::{About, Peer, Upstream, ZoneSize};
use crate::pure::uwsgi_stats::Known;
use crate::pure::zone::{Label, SlotId, Zone};

/// A server, before what is counted of it is read.
pub struct Entry {
    /// The upstream, by its place in [`Inventory::upstreams`].
    pub upstream: usize,
    /// What is configured of it.
    peer: Peer,
    /// Its slots: one for each TLS identity and local address.
    slots: Vec<SlotId>,
}

/// All that there are.
#[derive(Default)]
pub struct Inventory {
    /// What is known besides.
    pub about: About,
    /// The upstreams.
    pub upstreams: Vec<Upstream>,
    /// Their servers, those of one upstream together.
    pub entries: Vec<Entry>,
    /// What was counted by the names of `rs_uwsgi_status_zone`.
    pub zones: Vec<(Vec<u8>, Totals)>,
}

/// Slots by the labels of their upstream and their server.
type Slots = BTreeMap<(Vec<u8>, Vec<u8>), Vec<SlotId>>;

/// Finds out which there are. `looks`: uWSGI's stats servers are asked, too.
pub fn take_stock(r: Request<'_>, looks: bool) -> Inventory {
    let zone = this_worker().map(|(worker, _)| worker.zone());
    if let Some(zone) = zone {
        // what a worker had that was killed is no more; who is at it does the same
        let _ = zone.sweep();
    }
    let mut slots = Slots::new();
    for slot in zone.into_iter().flat_map(|zone| zone.slots()) {
        if let Some(label) = zone.and_then(|zone| zone.label(slot)) {
            slots.entry(label).or_default().push(slot);
        }
    }
    let mut inventory = Inventory { about: about(zone), ..Inventory::default() };
    for servers in Servers::all(r) {
        let uwsgi = if looks { uwsgi_stats::look(r, servers) } else { None };
        add_upstream(&mut inventory, zone, &mut slots, servers, uwsgi);
    }
    for ((upstream, name), slots) in slots {
        if upstream == ZONE {
            inventory.zones.push((name, totals(zone, &slots)));
        }
    }
    inventory
}

fn about(zone: Option<&'static Zone<'static>>) -> About {
    About {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("RS_UWSGI_COMMIT"),
        nginx: env!("RS_UWSGI_NGINX_VERSION"),
        time: nginx::wall_clock(),
        now: nginx::now() as u64,
        since: zone.map_or(nginx::now() as u64, |zone| zone.since()),
        generation: this_worker().map_or(0, |(_, generation)| generation.number()),
        pid: std::process::id(),
        workers: zone.map_or_else(Vec::new, |zone| {
            zone.workers().map(|(id, process)| (id.index(), process.pid())).collect()
        }),
        zone: zone.map(|zone| ZoneSize {
            bytes: zone.layout().bytes(),
            servers: zone.layout().shape().servers,
            used: zone.slots().count(),
            bytes_of_server: zone.layout().bytes_of_server(),
            full: zone.full(),
        }),
    }
}

fn add_upstream(
    inventory: &mut Inventory,
    zone: Option<&'static Zone<'static>>,
    slots: &mut Slots,
    servers: &Servers,
    uwsgi: Option<Known>,
) {
    let settings = &servers.settings;
    let max = limit::configured(servers);
    let queue = settings.queue.value().unwrap_or(EffectiveSettings::DEFAULT.queue) as u64;
    let mut taken = |server: &[u8]| {
        let label = Label { upstream: &servers.name, server };
        let (upstream, server) = label.shown();
        slots.remove(&(upstream.to_vec(), server.to_vec())).unwrap_or_default()
    };
    let whole = totals(zone, &taken(UPSTREAM));
    let place = inventory.upstreams.len();
    let checked = reports(servers);
    let (mut peers, mut named) = (Vec::new(), BTreeSet::new());
    for server in servers.configured() {
        let slots = taken(server.address);
        // named twice, it is one
        if !named.insert(server.address) {
            continue;
        }
        let peer = Peer {
            server: server.address.to_vec(),
            name: server.name.to_vec(),
            is_backup: server.is_backup,
            is_down: server.is_down,
            weight: server.weight,
            health: checked.get(server.address).copied(),
            ..Peer::default()
        };
        peers.push((peer, slots));
    }
    // others, in the order of their names
    let (name, _) = Label { upstream: &servers.name, server: b"" }.shown();
    let from = slots.range((name.to_vec(), Vec::new())..);
    let others: Vec<_> =
        from.map(|(key, _)| key).take_while(|key| key.0 == name).cloned().collect();
    for key in others {
        let slots = slots.remove(&key).unwrap_or_default();
        let health = checked.get(&*key.1).copied();
        peers.push((Peer { server: key.1.clone(), name: key.1, health, ..Peer::default() }, slots));
    }
    if peers.is_empty() && servers.name.is_empty() {
        // no address has been asked that variables have yielded
        return;
    }
    let name = servers.name.clone();
    inventory.upstreams.push(Upstream { name, queue, uwsgi, totals: whole });
    for (id, (peer, slots)) in peers.into_iter().enumerate() {
        let (limit, is_learned) = limit_of(max, &slots);
        let peer = Peer { id, limit, is_learned, queue, ..peer };
        inventory.entries.push(Entry { upstream: place, peer, slots });
    }
}

/// How many connections the server with these slots may have, if there is a limit, and whether it was learned.
fn limit_of(max: MaxConnections, slots: &[SlotId]) -> (Option<u64>, bool) {
    if let MaxConnections::Number(number) = max {
        return (Some(number).filter(|number| *number > 0), false);
    }
    let limits = slots.iter().filter_map(|slot| {
        let limit = limit::learned(Some(*slot));
        limit::bounds_of(max, Some(*slot)).map(|bounds| (limit.known(bounds), limit.is_learned()))
    });
    limits.fold((None, false), |(most, any), (known, learned)| (most.max(known), any | learned))
}

fn totals(zone: Option<&'static Zone<'static>>, slots: &[SlotId]) -> Totals {
    let mut totals = Totals::default();
    for row in slots.iter().flat_map(|slot| zone.into_iter().flat_map(|zone| zone.rows(*slot))) {
        if let Ok(cells) = row.try_into() {
            totals.add(cells);
        }
    }
    totals
}

impl Entry {
    /// Reads what is known of the server now, and its last seconds.
    pub fn read(self, seconds: usize) -> Peer {
        let Some((worker, _)) = this_worker() else { return self.peer };
        let (zone, now) = (worker.zone(), nginx::now() as u64);
        let mut peer = self.peer;
        peer.totals = totals(Some(zone), &self.slots);
        for slot in self.slots {
            let (gauges, history) = (zone.gauges(slot), History::of(zone, slot));
            peer.gauges.in_use += gauges.in_use;
            peer.gauges.idle += gauges.idle;
            peer.gauges.waiting += gauges.waiting;
            peer.is_unavailable |= history.is_unavailable();
            peer.most_waiting = peer.most_waiting.max(history.most_waiting());
            if let Some((_, rank)) = zone.first(slot).filter(|_| gauges.waiting > 0) {
                let now = nginx::monotonic_nanoseconds().get();
                let waited = now.saturating_sub(arrived_at(rank).unwrap_or(now));
                peer.oldest = peer.oldest.max(waited / 1_000_000);
            }
            let read = history.read(now, seconds);
            match peer.history.is_empty() {
                true => peer.history = read,
                false => {
                    peer.history.iter_mut().zip(&read).for_each(|(sum, other)| sum.merge(other));
                }
            }
        }
        peer
    }
}
