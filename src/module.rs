//! The module's type, and nginx's layer as it is for this module. A leaf: the steps of a request and the
//! configuration import it, and it imports neither.

use crate::nginx::{self, peer, servers, slots, state, wait};

/// The module. [`crate::handler`] implements what nginx's layer asks of it.
pub enum Uwsgi {}

/// The servers of an upstream, in one worker.
pub type Servers = servers::Servers<Uwsgi>;
/// The server that was chosen for a try.
pub type Peer<'a> = peer::Peer<'a, Uwsgi>;
/// The state of an upstream of a request: nginx's part, and [`crate::state::RequestState`].
pub type State<'a> = state::State<'a, Uwsgi>;
/// What stands between a request that waits and its connection.
pub type Waiter<'a> = wait::Waiter<'a, Uwsgi>;
/// A request in a queue.
pub type Waiting = wait::Waiting<Uwsgi>;
/// A server that is probed.
pub type Probed = nginx::probe::Probed<Uwsgi>;
/// A location that passes to an upstream.
pub type UpstreamRef = nginx::block::UpstreamRef<Uwsgi>;
/// The function behind a location's directive.
pub type Setter = slots::Setter<Uwsgi>;
/// The function behind a directive that an "upstream" block may have as well.
pub type SharedSetter = slots::SharedSetter<Uwsgi>;
