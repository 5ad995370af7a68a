//! The state of an upstream of a request: what this layer keeps of it, and what the module does.

use core::cell::Cell;
use core::ops::Deref;

use super::address::Address;
use super::balancer::PinnedPeer;
use super::growing::Growth;
use super::module::Module;
use super::wait::Waiter;
use super::Upstream;

/// What is known of an upstream of a request. It belongs to the upstream, not to the request: filters
/// clear what modules keep with a request (`ngx_http_filter_finalize_request`), and so do internal
/// redirects, which may give it another upstream before this one is over. It is in the request's memory,
/// and `u->output.filter_ctx` points to it.
pub struct State<'a, H: Module> {
    /// The upstream that this is the state of.
    pub upstream: Upstream<'a>,
    /// The address that variables yielded, where it is not the name of an upstream.
    pub address: Cell<Option<Address<'a>>>,
    /// What the request waits with for a connection.
    pub waiter: Cell<Option<&'a Waiter<'a, H>>>,
    /// The server that the next try is with.
    pub(super) pinned: Cell<Option<&'a PinnedPeer<'a, H>>>,
    /// The buffers of its response, where they grow by themselves.
    pub(super) growth: Cell<Option<&'a Growth>>,
    /// The module's own part.
    own: H::State<'a>,
}

impl<'a, H: Module> State<'a, H> {
    /// The state of an upstream that has asked no server yet.
    #[inline(always)]
    pub fn new(upstream: Upstream<'a>, own: H::State<'a>) -> Self {
        State {
            upstream,
            address: Cell::default(),
            waiter: Cell::default(),
            pinned: Cell::default(),
            growth: Cell::default(),
            own,
        }
    }
}

impl<'a, H: Module> Deref for State<'a, H> {
    type Target = H::State<'a>;

    /// The module's own part.
    #[inline(always)]
    fn deref(&self) -> &H::State<'a> {
        &self.own
    }
}
