//! `rs_uwsgi_status`: what is known of all upstreams and servers, for people and machines
//! ([`crate::pure::status`] writes it), and `rs_uwsgi_status_zone`, which counts by the names of applications.
//!
//! | file | owns |
//! |---|---|
//! | [`answer`] | what is answered, part by part |
//! | [`health`] | 200 or 503, for a load balancer in front |
//! | [`servers`] | the servers that there are: those of the configuration, and others that the zone knows |
//! | [`count`] | requests of clients, when they are over |

pub mod answer;
pub mod count;
mod health;
mod servers;
