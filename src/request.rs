//! What is sent to the server.
//!
//! | file | owns |
//! |---|---|
//! | [`target`] | where the request goes: the upstream, or what variables yield |
//! | [`body`] | what there is of the client's body, and whether it may be passed on |
//! | `cache_key` | the key under which the response is cached |
//! | [`encode`] | parameters and headers become a packet, packet and body a chain of buffers |
//! | [`headers`] | the request's headers in the packet |

pub mod body;
#[cfg(ngx_feature = "http_cache")]
pub mod cache_key;
pub mod encode;
pub mod headers;
pub mod target;
