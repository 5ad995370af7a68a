//! The configuration: what the directives say, how it is inherited, and what it is compiled to.
//!
//! | file | owns |
//! |---|---|
//! | [`location`] | the configuration of a location |
//! | [`directives`] | the table of directives: one row a directive |
//! | [`heard`] | directives of stock's that were left behind |
//! | [`plain`] | values that nginx's upstream machinery reads: one row a value |
//! | [`connections`] | settings of connections, which the users of an upstream share: one row a setting |
//! | [`merge`] | inheritance, and the checks across directives |
//! | [`pass`], [`params`], [`modifiers`], [`mount`], [`priority`], [`store`], [`zone`], [`health`], `cache`, `tls` | directives with a setter of their own |

#[cfg(ngx_feature = "http_cache")]
pub mod cache;
pub mod connections;
pub mod directives;
pub mod health;
pub mod heard;
pub mod location;
pub mod merge;
pub mod modifiers;
pub mod mount;
pub mod params;
pub mod pass;
pub mod plain;
pub mod priority;
pub mod status;
pub mod store;
#[cfg(ngx_feature = "http_ssl")]
pub mod tls;
pub mod zone;

pub use location::{Encoding, LocConf};
