//! The servers of an upstream, and `peer.init` of every upstream, which is wrapped so that this module's
//! requests may use a connection again.
//!
//! Dynamic modules are initialised after nginx's own, so the balancer, and stock `keepalive` where it
//! is configured, are in place and are wrapped as they are. Requests of other modules pass through.

use core::ops::Deref;
use core::ptr::{self, NonNull};

use super::balancer::install;
use super::block::{Block, Configured, Target};
use super::callbacks::with_request;
use super::module::{self, Handler, Module};
use super::probes::Probes;
use super::resolved::Watch;
use super::status::{ERROR, OK};
use super::sys::{
    ngx_http_request_t, ngx_http_upstream_init_peer_pt, ngx_http_upstream_srv_conf_t, ngx_int_t,
};
use super::wake::{on_wake, Wake};
use super::zone::patiently;
use super::Request;
use crate::pure::zone::{Generation, Label, NoSlot, SlotId, Zone};

/// The servers of one upstream, and what the module keeps with them.
pub struct Servers<H: Module> {
    block: Block,
    pub(super) init: ngx_http_upstream_init_peer_pt,
    /// The name that people are shown: the upstream's, or the address as it is written.
    pub name: Vec<u8>,
    own: H::Servers,
    pub(super) wake: Wake<H>,
    pub(super) probes: Probes<H>,
    pub(super) watch: Watch<H>,
}

impl<H: Module> Deref for Servers<H> {
    type Target = H::Servers;

    /// The module's own part.
    #[inline(always)]
    fn deref(&self) -> &H::Servers {
        &self.own
    }
}

/// Makes an upstream one of addresses that variables yield, which nginx has no callback for.
pub(super) fn choose_addresses<H: Module>(block: Block) {
    // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
    unsafe { (*block.0.as_ptr()).peer.init = Some(init_address::<H>) };
}

impl<H: Module> Servers<H> {
    /// Puts our callback in the place of the upstream's own.
    pub(super) fn hook(block: Block, own: H::Servers) -> Self
    where
        H: Handler,
    {
        // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
        let init = unsafe {
            let peer = &raw mut (*block.0.as_ptr()).peer;
            (*peer).init.replace(init::<H>)
        };
        Servers {
            block,
            init,
            name: block.shown_name(),
            own,
            wake: Wake::new(on_wake::<H>),
            probes: Probes::default(),
            watch: Watch::new(),
        }
    }

    /// The slot in the zone of what this key names among the servers of this upstream; it is made where there is
    /// none. `server`: what people are shown for it.
    ///
    /// # Errors
    ///
    /// [`NoSlot`].
    pub fn slot(
        &self,
        zone: &Zone<'_>,
        generation: Generation,
        key: &[u8],
        server: &[u8],
    ) -> Result<SlotId, NoSlot> {
        // no name has a NUL
        let key = [&self.name, &b"\0"[..], key].concat();
        let label = Label { upstream: &self.name, server };
        // another process that makes one is done with it in microseconds
        patiently(|| zone.slot(&key, label, generation))
    }

    /// What is configured of its servers, as far as their addresses are known.
    pub fn configured(&self) -> impl Iterator<Item = Configured<'_>> {
        self.block.configured()
    }

    /// The name of the block, or the host or path of the address.
    pub(super) fn host(&self) -> &[u8] {
        self.block.name()
    }

    /// Is this one of its servers, as the zone has their labels? Any is, where they are not known.
    pub(super) fn has(&self, upstream: &[u8], server: &[u8]) -> bool {
        let shown = |server| Label { upstream: &self.name, server }.shown();
        let mut addresses = self.block.addresses().peekable();
        shown(b"").0 == upstream
            && (addresses.peek().is_none() && !self.name.is_empty()
                || addresses.any(|address| shown(address).1 == server))
    }

    /// The port in an address; 0 for a block and for a socket.
    pub(super) fn port(&self) -> u16 {
        self.block.port()
    }

    /// Those of all upstreams, of the configuration that a request runs under.
    pub fn all(r: Request<'_>) -> impl Iterator<Item = &Self> {
        module::main_conf::<H>(r).upstreams.iter().map(|servers| &**servers)
    }

    /// Those of one upstream, of the configuration that a request runs under ([`Block::id`]).
    pub fn by_id(r: Request<'_>, id: usize) -> Option<&Self> {
        let all = &module::main_conf::<H>(r).upstreams;
        let place = all.binary_search_by_key(&id, |servers| servers.block.id()).ok()?;
        all.get(place).map(|servers| &**servers)
    }

    /// The addresses that requests may go to, as far as the configuration has them.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        self.block.targets()
    }

    pub(super) fn address(&self) -> NonNull<ngx_http_upstream_srv_conf_t> {
        self.block.0
    }

    /// The servers of an upstream, of the configuration that a request runs under.
    pub(super) fn find(
        r: Request<'_>,
        upstream: *mut ngx_http_upstream_srv_conf_t,
    ) -> Option<&Self> {
        Self::by_id(r, NonNull::new(upstream).map(Block)?.id())
    }
}

/// `peer.init` of every upstream.
unsafe extern "C" fn init<H: Handler>(
    r: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    let found = with_request(r, None, |r| {
        Servers::<H>::find(r, upstream).map(|servers| (ptr::from_ref(servers), servers.init))
    });
    let Some((servers, Some(original))) = found else { return ERROR };
    // SAFETY: the upstream's own callback, with what nginx gave us.
    let status = unsafe { original(r, upstream) };
    if status != OK {
        return status;
    }
    with_request(r, ERROR, |r| {
        let Some(state) = r.state::<H>() else { return OK };
        // SAFETY: found above, in the configuration that the request runs under.
        unsafe { install(r, state, &*servers) }
    })
}

/// `peer.init` of the upstream of addresses: there is one server, the address that variables yielded.
unsafe extern "C" fn init_address<H: Module>(
    r: *mut ngx_http_request_t,
    _: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    with_request(r, ERROR, |r| {
        let Some(state) = r.state::<H>() else { return ERROR };
        let chosen = state.address.get().map(|address| state.upstream.choose_from(r, address));
        if matches!(chosen, Some(Ok(()))) {
            OK
        } else {
            ERROR
        }
    })
}
