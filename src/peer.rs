//! The connection to a server: taken from the pool where one fits, made or waited for where none does,
//! parked when it may carry another request.
//!
//! nginx chooses the server (`peer.get` of the balancer in effect), and makes connections
//! (`ngx_event_connect_peer`) where this module does not ([`connect`]). What
//! `ngx_http_upstream_keepalive_module` does for `proxy_pass` is done here for this module's requests
//! alone, by stricter rules ([`crate::pure::pool::policy`]).
//!
//! | file | owns | imports |
//! |---|---|---|
//! | [`choose`] | `peer.get`: a connection of the pool, a new one, or the wait | all below |
//! | [`wait`] | those who wait | `connect`, `silent`, `refused`, `idle`, `line`, `priority` |
//! | [`connect`] | a new connection, or why there is none now | `limit`, `queue` |
//! | [`limit`] | how many connections there may be | `queue`, `observe` |
//! | [`silent`] | attempts to connect over TCP that get no answer | `limit`, `queue` |
//! | [`line`] | who of those who wait is next, over all workers | `places` |
//! | [`priority`] | which of them matter more | `observe` |
//! | [`places`] | the connections that there are, over all workers | `limit`, `queue` |
//! | [`health`] | which servers are probed, and which requests pass over | `checked`, `queue` |
//! | [`checked`] | what is known of servers that are checked | |
//! | [`idle`] | connections in the pool | `places`, `retry`, `queue` |
//! | [`release`] | `peer.free`: the verdict on the connection, what the balancer is told | `tally`, `silent`, `advise`, `refused`, `idle`, `line`, `queue` |
//! | [`tally`] | what is counted of a try | `observe`, `retry` |
//! | [`advise`] | what may be wrong with a server that gives no answer | `refused` |
//! | [`refused`] | requests that a server refuses for what they are | `retry` |
//! | [`retry`] | may a request be sent again? | |
//! | [`observe`] | what has happened, for the log and the counters | `count`, `event`, `queue` |
//! | [`count`] | what has happened, counted | `event` |
//! | [`event`] | what happens | `queue` |
//! | [`queue`] | what a worker keeps with the servers of an upstream | `uwsgi_stats` |
//! | [`uwsgi_stats`] | what their stats server says | |

pub mod advise;
pub mod checked;
pub mod choose;
pub mod connect;
mod count;
pub mod event;
pub mod health;
pub mod idle;
pub mod limit;
pub mod line;
pub mod observe;
pub mod places;
pub mod priority;
pub mod queue;
pub mod refused;
pub mod release;
pub mod retry;
pub mod silent;
mod tally;
pub mod uwsgi_stats;
pub mod wait;
