//! The servers of an upstream, and `peer.init` of every upstream, which is wrapped so that this module's
//! requests may use a connection again.
//!
//! Dynamic modules are initialised after nginx's own, so the balancer, and stock `keepalive` where it
//! is configured, are in place and are wrapped as they are. Requests of other modules pass through.

use core::cell::RefCell;
use core::ptr::{self, NonNull};

use super::balancer::wrap;
use super::block::Block;
use super::callbacks::with_request;
use super::connection::Idle;
use super::sys::{
    ngx_http_request_t, ngx_http_upstream_init_peer_pt, ngx_http_upstream_srv_conf_t, ngx_int_t,
    NGX_ERROR, NGX_OK,
};
use super::wake::Wake;
use super::{module, Request};
use crate::conf::reuse::Settings;
use crate::handler::UpstreamHandler;
use crate::peer::wait::Queue;
use crate::pure::pool::Pool;
use crate::pure::vars_limit::Limits;

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;

/// The servers of one upstream, the idle connections to them, and the requests that wait for one.
pub struct Servers {
    block: Block,
    pub(super) init: ngx_http_upstream_init_peer_pt,
    /// The name of the upstream, or its address.
    pub name: Vec<u8>,
    /// What its users agreed on.
    pub settings: Settings,
    /// The idle connections.
    pub idle: RefCell<Pool<Idle>>,
    /// The requests that wait for a connection.
    pub queue: Queue,
    /// What is known of the vars that the servers take.
    pub vars_limits: RefCell<Limits>,
    pub(super) wake: Wake,
}

impl Servers {
    /// An upstream of addresses that variables yield, which nginx has no callback for.
    pub(super) fn of_addresses(block: Block) {
        // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
        unsafe { (*block.0.as_ptr()).peer.init = Some(init_address) };
    }

    /// Puts our callback in the place of the upstream's own.
    pub(super) fn hook<H: UpstreamHandler>(block: Block, settings: Settings) -> Servers {
        // SAFETY: the upstream is valid, and nginx reads its configuration in one thread.
        let init = unsafe {
            let peer = &raw mut (*block.0.as_ptr()).peer;
            (*peer).init.replace(init::<H>)
        };
        Servers {
            block,
            init,
            name: block.name().to_vec(),
            settings,
            idle: RefCell::default(),
            queue: Queue::default(),
            vars_limits: RefCell::default(),
            wake: Wake::new::<H>(),
        }
    }

    /// The port in an address; 0 for a block and for a socket.
    pub(super) fn port(&self) -> u16 {
        // SAFETY: the upstream lives as long as the configuration, which we are a part of.
        unsafe { (*self.block.0.as_ptr()).port }
    }

    /// Those of all upstreams, of the configuration that a request runs under.
    pub fn all(r: Request<'_>) -> impl Iterator<Item = &Servers> {
        module::main_conf(r).upstreams.iter().map(|servers| &**servers)
    }

    pub(super) fn address(&self) -> NonNull<ngx_http_upstream_srv_conf_t> {
        self.block.0
    }

    /// The servers of an upstream, of the configuration that a request runs under.
    pub(super) fn find(
        r: Request<'_>,
        upstream: *mut ngx_http_upstream_srv_conf_t,
    ) -> Option<&Servers> {
        let all = &module::main_conf(r).upstreams;
        let upstream = NonNull::new(upstream)?;
        let place = all.binary_search_by_key(&upstream, |servers| servers.address()).ok()?;
        all.get(place).map(|servers| &**servers)
    }
}

/// `peer.init` of every upstream.
unsafe extern "C" fn init<H: UpstreamHandler>(
    r: *mut ngx_http_request_t,
    upstream: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    let found = with_request(r, None, |r| {
        Servers::find(r, upstream).map(|servers| (ptr::from_ref(servers), servers.init))
    });
    let Some((servers, Some(original))) = found else { return FAILED };
    // SAFETY: the upstream's own callback, with what nginx gave us.
    let status = unsafe { original(r, upstream) };
    if status != OK {
        return status;
    }
    with_request(r, FAILED, |r| {
        let Some(context) = r.context() else { return OK };
        // SAFETY: found above, in the configuration that the request runs under.
        unsafe { wrap::<H>(r, context, &*servers) }
    })
}

/// `peer.init` of the upstream of addresses: there is one server, the address that variables yielded.
unsafe extern "C" fn init_address(
    r: *mut ngx_http_request_t,
    _: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    with_request(r, FAILED, |r| {
        let Some(context) = r.context() else { return FAILED };
        let chosen = context.address.get().map(|address| context.upstream.choose_from(r, address));
        if matches!(chosen, Some(Ok(()))) {
            OK
        } else {
            FAILED
        }
    })
}
