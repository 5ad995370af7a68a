//! Which servers a worker probes: those of its upstreams that are checked, as there are now.

use core::cell::RefCell;
use core::ptr::NonNull;
use std::collections::BTreeMap;

use super::module::Handler;
use super::probe::Probe;
use super::resolved;
use super::servers::Servers;
use super::sys::{ngx_cycle, ngx_cycle_t, ngx_log_t};
use super::zone::main_conf_of;

/// The probes of an upstream, by addresses.
pub(super) type Probes<H> = RefCell<BTreeMap<Box<[u8]>, Box<Probe<H>>>>;

/// `init_process`: a worker begins.
pub(super) fn begin<H: Handler>(cycle: NonNull<ngx_cycle_t>) {
    // SAFETY: the worker's cycle, with its configuration.
    let Some(main) = (unsafe { main_conf_of::<H>(cycle.as_ptr()) }) else { return };
    // SAFETY: a cycle has a log, as long as the worker.
    let log = unsafe { (*cycle.as_ptr()).log };
    for servers in &main.upstreams {
        update(servers, log);
        resolved::begin(servers, log);
    }
}

/// Probes the servers that there are now. Those that were there before are probed when it is their time.
pub(super) fn update<H: Handler>(servers: &Servers<H>, log: *mut ngx_log_t) {
    let all = H::probed(servers, servers.current());
    let mut probes = servers.probes.borrow_mut();
    let mut before = core::mem::take(&mut *probes);
    for probed in all {
        let address = probed.address.clone();
        let probe = before.remove(&address);
        let probe = probe.unwrap_or_else(|| Probe::begin(servers, probed, log));
        probes.insert(address, probe);
    }
}

/// `init_module`: where one process does it all ("master_process off"), it goes from the probes of one
/// configuration to those of the next.
pub(super) fn change<H: Handler>(cycle: NonNull<ngx_cycle_t>) {
    // SAFETY: nginx's cycle is still that of before; the first process has one without a configuration.
    let Some(before) = (unsafe { main_conf_of::<H>(ngx_cycle) }) else { return };
    let is_begun =
        |servers: &Servers<H>| resolved::is_begun(servers) || !servers.probes.borrow().is_empty();
    if before.upstreams.iter().any(|servers| is_begun(servers)) {
        stop_all::<H>(&before.upstreams);
        begin::<H>(cycle);
    }
}

/// `exit_process`: the worker ends.
pub(super) fn end<H: Handler>(cycle: *mut ngx_cycle_t) {
    // SAFETY: the worker's cycle, with its configuration.
    if let Some(main) = unsafe { main_conf_of::<H>(cycle) } {
        stop_all::<H>(&main.upstreams);
    }
}

fn stop_all<H: Handler>(upstreams: &[Box<Servers<H>>]) {
    for servers in upstreams {
        resolved::end(servers);
        servers.probes.borrow_mut().clear();
        H::leave_probes(servers);
    }
}
