//! The servers of an upstream as they are now: those of the configuration, and where nginx looks up names while it
//! runs ("server … resolve"), what it has found. A worker asks once a second whether that has changed.

use core::cell::Cell;
use core::ptr::NonNull;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::block::Target;
use super::callbacks::log_panic;
use super::module::{Handler, Module};
use super::peer::address_of;
use super::probes;
use super::servers::Servers;
use super::sys::{
    ngx_event_t, ngx_http_upstream_rr_peer_t, ngx_http_upstream_rr_peers_t, ngx_log_t,
};
use super::wake::Wake;
use super::{bytes_of, version, Log};

/// What a module does when the servers of an upstream are others.
pub trait ServersOwner: Module {
    /// Closes the idle connections to servers that there are no more.
    fn close_gone(servers: &Servers<Self>);
}

/// An address of a server, as it is now.
#[derive(Clone, Debug)]
pub struct Current {
    /// The address: a unix socket's with its path, and no more.
    pub address: Box<[u8]>,
    /// Its name in the log.
    pub name: Box<[u8]>,
}

/// How often a worker looks, in milliseconds.
const PAUSE: usize = 1000;

/// The timer of an upstream whose names are looked up, in one worker.
pub(super) struct Watch<H: Module> {
    timer: Wake<H>,
    /// What [`version::changes`] said last.
    seen: Cell<Option<usize>>,
}

impl<H: Handler> Watch<H> {
    pub(super) fn new() -> Self {
        Watch { timer: Wake::new(on_timer::<H>), seen: Cell::new(None) }
    }
}

/// A worker begins.
pub(super) fn begin<H: Handler>(servers: &Servers<H>, log: *mut ngx_log_t) {
    servers.watch.seen.set(changes(servers));
    if is_begun(servers) {
        servers.watch.timer.set(servers, log, PAUSE);
    }
}

/// Does a worker look?
pub(super) fn is_begun<H: Module>(servers: &Servers<H>) -> bool {
    servers.watch.seen.get().is_some()
}

/// A worker ends.
pub(super) fn end<H: Module>(servers: &Servers<H>) {
    if servers.watch.seen.take().is_some() {
        servers.watch.timer.cancel(servers);
    }
}

unsafe extern "C" fn on_timer<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of an upstream, which `begin` made ready.
    let (servers, log) = unsafe { (Wake::<H>::servers_of(event), (*event).log) };
    if super::is_exiting() {
        return;
    }
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let now = changes(servers);
        if servers.watch.seen.replace(now) != now {
            probes::update(servers, log);
        }
        // also those that a request had until now
        H::close_gone(servers);
    }));
    if let Err(panic) = looked {
        log_panic(Log::of_worker(), &*panic);
    }
    servers.watch.timer.set(servers, log, PAUSE);
}

/// How often its servers have changed; None where nginx looks up none of them.
fn changes<H: Module>(servers: &Servers<H>) -> Option<usize> {
    // SAFETY: the upstream of a worker's configuration.
    unsafe { version::changes(peers(servers)?.as_ptr()) }
}

/// nginx's list of the servers of an upstream with "zone", in memory that all workers share.
fn peers<H: Module>(servers: &Servers<H>) -> Option<NonNull<ngx_http_upstream_rr_peers_t>> {
    // SAFETY: the upstream lives as long as the configuration. nginx itself takes what an upstream with a zone has
    // for such a list.
    unsafe {
        let upstream = servers.address().as_ref();
        version::has_zone(upstream).then(|| NonNull::new(upstream.peer.data.cast())).flatten()
    }
}

impl<H: Module> Servers<H> {
    /// The addresses that requests may go to now: not those of servers that are marked "down".
    pub fn current(&self) -> Vec<Current> {
        match peers(self).filter(|_| changes(self).is_some()) {
            // SAFETY: the list of an upstream of this worker's configuration, which is read under its lock.
            Some(peers) => unsafe { looked_up(peers.as_ptr()) },
            None => {
                let owned = |Target { address, name }| Current {
                    address: Box::from(address),
                    name: Box::from(name),
                };
                self.targets().map(owned).collect()
            }
        }
    }
}

/// What the list has now.
///
/// # Safety
///
/// `peers` must be valid, and its list shared.
unsafe fn looked_up(peers: *mut ngx_http_upstream_rr_peers_t) -> Vec<Current> {
    let mut all = Vec::new();
    // SAFETY: the caller's promise; nobody changes the lists while they are locked.
    unsafe {
        for list in [peers, (*peers).next] {
            if list.is_null() {
                continue;
            }
            version::while_locked(list, || {
                let mut next: *mut ngx_http_upstream_rr_peer_t = (*list).peer;
                while let Some(peer) = next.as_ref() {
                    // the lowest bit is "down"; one that drains serves its sessions
                    if peer.down & 1 == 0 {
                        let address = address_of(peer.sockaddr, peer.socklen as usize);
                        let name = bytes_of(peer.name);
                        all.push(Current { address: address.into(), name: name.into() });
                    }
                    next = peer.next;
                }
            });
        }
    }
    all
}
