//! The table of parity: every directive of stock's `ngx_http_uwsgi_module` has a twin of the same
//! contexts and arguments, every one of ours has a twin or is known to be ours alone, and every
//! one is shown at work by a test. Both tables come from the nginx under test (tests/probe).

mod errors;
mod page;
mod read;
mod rows;

use read::{Directive, Tables};

/// Twins that differ from stock's in their arguments, on purpose: name, stock's, ours.
const DIFFERENT: [(&str, &str, &str); 1] = [
    // the word "unsafe"
    ("param", "2 3", "2 3 4"),
];

/// Directives that stock does not have, and a test of each.
const OWN: [(&str, &str); 18] = [
    ("drop_headers", "differences::dropped_headers"),
    ("max_vars", "differences::max_vars"),
    ("keepalive", "reuse::idle::so_many_are_kept_and_the_one_idle_longest_goes"),
    ("keepalive_timeout", "reuse::idle::idle_time_and_age"),
    ("keepalive_requests", "reuse::idle::requests_on_one_connection"),
    ("keepalive_time", "reuse::idle::idle_time_and_age"),
    ("reuse", "reuse::servers::behind_nginx_gunicorn_asgi"),
    ("max_connections", "overload::max_connections::never_more"),
    ("queue", "overload::queue::full"),
    ("priority", "overload::order::priorities"),
    ("connect_retry", "overload::connect_retry::a_server_that_comes"),
    ("health_check", "health::with_every_balancer"),
    ("slow_start", "health::slow_start"),
    ("stats", "uwsgi_stats::what_uwsgi_says"),
    ("zone", "overload::max_connections::without_a_zone_it_is_each_workers"),
    ("status", "status::page::what_is_answered_where"),
    ("status_zone", "status::zones::requests_by_name"),
    ("mount", "differences::mount_splits_the_path"),
];

/// What the twin of a directive must look like.
fn intended(stock: &Directive) -> Directive {
    let mut twin = stock.clone();
    if let Some((_, arguments, ours)) = DIFFERENT.iter().find(|row| row.0 == stock.name) {
        assert_eq!(stock.arguments, *arguments, "stock's {} has changed", stock.name);
        twin.arguments = ours.to_string();
    }
    twin
}

#[test]
fn every_directive_of_stock_has_a_twin() {
    let Tables { stock, ours } = read::tables();
    let faults = stock.iter().filter_map(|directive| {
        let (intended, name) = (intended(directive), &directive.name);
        match ours.iter().find(|twin| twin.name == *name) {
            None => Some(format!("uwsgi_{name} has no twin")),
            Some(twin) if *twin != intended => Some(format!("{twin:?} should be {intended:?}")),
            Some(_) => None,
        }
    });
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (name, ..) in DIFFERENT {
        assert!(stock.iter().any(|directive| directive.name == name), "{name} is not stock's");
    }
}

#[test]
fn every_directive_of_ours_has_a_twin_or_is_known() {
    let Tables { stock, ours } = read::tables();
    let of_stock = |name: &str| stock.iter().any(|directive| directive.name == name);
    for directive in ours {
        let name = directive.name.as_str();
        let own = OWN.iter().any(|(own, _)| *own == name);
        assert!(of_stock(name) != own, "rs_uwsgi_{name} has no twin, or is no longer ours alone");
        let times = ours.iter().filter(|other| other.name == name).count();
        assert_eq!(times, 1, "rs_uwsgi_{name} is there {times} times");
    }
    for (name, _) in OWN {
        assert!(ours.iter().any(|directive| directive.name == name), "rs_uwsgi_{name} is gone");
    }
}

/// What the probe reads out of a binary is what the binary's source says.
#[test]
fn the_probe_agrees_with_the_source_of_nginx() {
    let Some(source) = read::source() else { return };
    let mut from_source = read::parsed(&source);
    let mut from_binary = read::tables().stock.clone();
    assert!(from_source.len() > 50, "the table was not found: {from_source:?}");
    let by_name = |a: &Directive, b: &Directive| a.name.cmp(&b.name);
    from_source.sort_by(by_name);
    from_binary.sort_by(by_name);
    assert_eq!(from_source, from_binary, "left the source, right the probe");
}
