//! The metrics that there are: what each is called, and where its samples come from.

use super::{Family, Kind, Of};
use crate::pure::stats::{CacheStatus, Closed, Count, Failure, Measure, QueueEnd};

const SERVER: &[&str] = &["upstream", "server"];

macro_rules! counters {
    ($($name:literal, $what:expr, $help:literal;)*) => {
        [$(Family {
            name: $name,
            kind: Kind::Counter,
            help: $help,
            labels: SERVER,
            of: Of::Peer(|samples, peer| samples.number(&[], peer.totals.count($what))),
        },)*]
    };
}

macro_rules! gauge {
    ($name:literal, $labels:expr, $of:expr, $help:literal) => {
        Family { name: $name, kind: Kind::Gauge, help: $help, labels: $labels, of: $of }
    };
}

macro_rules! counter {
    ($name:literal, $labels:expr, $of:expr, $help:literal) => {
        Family { name: $name, kind: Kind::Counter, help: $help, labels: $labels, of: $of }
    };
}

macro_rules! histogram {
    ($name:literal, $measure:expr, $help:literal) => {
        Family {
            name: $name,
            kind: Kind::Histogram,
            help: $help,
            labels: SERVER,
            of: Of::Measure($measure),
        }
    };
}

/// All metrics, in the order in which they are written.
pub fn families() -> impl Iterator<Item = &'static Family> {
    GENERAL.iter().chain(&GAUGES).chain(&COUNTERS).chain(&LABELLED).chain(&MEASURES).chain(&OTHERS)
}

static GENERAL: [Family; 7] = [
    gauge!(
        "build_info",
        &["version", "commit", "nginx"],
        Of::About(|samples, about| {
            let labels =
                [("version", about.version), ("commit", about.commit), ("nginx", about.nginx)];
            samples.number(&labels, 1);
        }),
        "Which build of the module this is"
    ),
    gauge!(
        "counters_start_time_seconds",
        &[],
        Of::About(|samples, about| samples.seconds(&[], about.date(about.since))),
        "Since when counters count, in seconds since 1970"
    ),
    gauge!(
        "config_generation",
        &[],
        Of::About(|samples, about| samples.number(&[], about.generation)),
        "The number of the configuration, one more with each reload"
    ),
    gauge!(
        "workers",
        &[],
        Of::About(|samples, about| samples.number(&[], about.workers.len() as u64)),
        "Worker processes"
    ),
    gauge!(
        "zone_size_bytes",
        &[],
        Of::About(|samples, about| {
            samples.number(&[], about.zone.map_or(0, |zone| zone.bytes as u64));
        }),
        "Shared memory of the zone"
    ),
    gauge!(
        "zone_servers",
        &["state"],
        Of::About(|samples, about| {
            let zone = about.zone.unwrap_or_default();
            samples.number(&[("state", "used")], zone.used as u64);
            samples.number(&[("state", "free")], zone.servers.saturating_sub(zone.used) as u64);
        }),
        "Places for servers in the zone"
    ),
    counter!(
        "zone_full",
        &[],
        Of::About(|samples, about| samples.number(&[], about.zone.map_or(0, |zone| zone.full))),
        "How often there was no place in the zone for a server that a request went to"
    ),
];

static GAUGES: [Family; 7] = [
    gauge!(
        "upstream_requests_waiting",
        SERVER,
        Of::Peer(|samples, peer| samples.number(&[], peer.gauges.waiting)),
        "Requests that wait for a connection now"
    ),
    gauge!(
        "upstream_requests_waiting_max",
        SERVER,
        Of::Peer(|samples, peer| samples.number(&[], peer.most_waiting)),
        "The most requests that ever waited at once"
    ),
    gauge!(
        "upstream_queue_oldest_seconds",
        SERVER,
        Of::Peer(|samples, peer| samples.seconds(&[], peer.oldest)),
        "For how long the first request of the queue has waited"
    ),
    gauge!(
        "upstream_requests_in_flight",
        SERVER,
        Of::Peer(|samples, peer| samples.number(&[], peer.in_flight())),
        "Requests that have a connection, or make one"
    ),
    gauge!(
        "upstream_connections",
        &["upstream", "server", "state"],
        Of::Peer(|samples, peer| {
            samples.number(&[("state", "in_use")], peer.in_flight());
            samples.number(&[("state", "idle")], peer.gauges.idle);
        }),
        "Connections to the server"
    ),
    gauge!(
        "upstream_connections_limit",
        SERVER,
        Of::Peer(|samples, peer| {
            if let Some(limit) = peer.limit {
                samples.number(&[], limit);
            }
        }),
        "The most connections that the server may have, where there is a limit"
    ),
    gauge!(
        "upstream_server_state",
        SERVER,
        Of::Peer(|samples, peer| samples.number(&[], peer.state() as u64)),
        "State of the server: 1 up, 2 draining, 3 down, 4 unavailable, 5 checking, 6 unhealthy"
    ),
];

static COUNTERS: [Family; 15] = counters! {
    "upstream_requests", Count::Requests, "Requests of which something was sent to the server";
    "upstream_sent_bytes", Count::Sent, "Bytes sent to the server";
    "upstream_received_bytes", Count::Received, "Bytes received from the server";
    "upstream_connections_opened", Count::Opened, "Connections that were made";
    "upstream_connections_reused", Count::Reused, "Requests that took a connection of the pool";
    "upstream_fails", Count::Fails, "Tries that failed";
    "upstream_unavailable", Count::Unavailable, "How often the server became unavailable";
    "upstream_next_tries", Count::NextTries, "Tries here after another server had failed or had no room";
    "upstream_repeated_requests", Count::Repeated, "Requests that were sent to the same server again";
    "upstream_early_answers", Count::EarlyAnswers, "Answers that came before all of the request was sent";
    "upstream_client_gone", Count::ClientGone, "Requests whose client left while they were served";
    "upstream_worked_in_vain", Count::WorkedInVain, "Requests whose client left before the server had answered, while it worked on them";
    "upstream_vars_refused", Count::VarsRefused, "Requests that were answered with 431 because the server refuses vars of their size";
    "upstream_interim_responses", Count::Interim, "Responses of 1xx before the final one";
    "upstream_listen_queue_full", Count::ListenQueueFull, "Attempts to connect that found the listen queue of the server full";
};

static LABELLED: [Family; 6] = [
    counter!(
        "upstream_responses",
        &["upstream", "server", "code"],
        Of::Peer(|samples, peer| samples.by_status(&peer.totals)),
        "Responses by status: the code for those of 4xx and 5xx, the class for all others"
    ),
    counter!(
        "upstream_failures",
        &["upstream", "server", "reason"],
        Of::Peer(|samples, peer| {
            for kind in Failure::ALL {
                samples.number(&[("reason", kind.name())], peer.totals.failures(*kind));
            }
        }),
        "Tries that failed, by reason"
    ),
    counter!(
        "upstream_connections_closed",
        &["upstream", "server", "reason"],
        Of::Peer(|samples, peer| {
            for why in Closed::ALL {
                samples.number(&[("reason", why.name())], peer.totals.closed(*why));
            }
        }),
        "Connections that were closed, by reason"
    ),
    counter!(
        "upstream_queue_requests",
        &["upstream", "server", "outcome"],
        Of::Peer(|samples, peer| {
            for end in QueueEnd::ALL {
                samples.number(&[("outcome", end.name())], peer.totals.queued(*end));
            }
        }),
        "Requests that had to wait, by what became of them"
    ),
    counter!(
        "upstream_health_checks",
        &["upstream", "server", "result"],
        Of::Peer(|samples, peer| {
            if let Some(health) = peer.health {
                let passed = health.probes.saturating_sub(health.failed);
                samples.number(&[("result", "passed")], passed);
                samples.number(&[("result", "failed")], health.failed);
            }
        }),
        "Health checks that have ended, of servers that are checked"
    ),
    counter!(
        "upstream_unhealthy",
        SERVER,
        Of::Peer(|samples, peer| {
            if let Some(health) = peer.health {
                samples.number(&[], health.downs);
            }
        }),
        "How often a server that is checked became unhealthy"
    ),
];

static MEASURES: [Family; 5] = [
    histogram!(
        "upstream_queue_seconds",
        Measure::Queue,
        "Time in the queue, of requests that waited"
    ),
    histogram!(
        "upstream_connect_seconds",
        Measure::Connect,
        "Time to connect, of connections that were made"
    ),
    histogram!(
        "upstream_header_seconds",
        Measure::Header,
        "Time to the head of the response, without that in the queue"
    ),
    histogram!(
        "upstream_response_seconds",
        Measure::Response,
        "Time to the end of the response, without that in the queue"
    ),
    histogram!(
        "upstream_vars_bytes",
        Measure::VarsSize,
        "Size of the vars of requests that were sent"
    ),
];

static OTHERS: [Family; 7] = [
    counter!(
        "upstream_cache_responses",
        &["upstream", "status"],
        Of::Upstream(|samples, totals| {
            for status in CacheStatus::ALL {
                samples.number(&[("status", status.name())], totals.cached(*status));
            }
        }),
        "Responses by what the cache had"
    ),
    counter!(
        "upstream_vars_too_large",
        &["upstream"],
        Of::Upstream(|samples, totals| samples.number(&[], totals.count(Count::VarsRefused))),
        "Requests that were answered with 431 because of rs_uwsgi_max_vars"
    ),
    counter!(
        "location_requests",
        &["zone"],
        Of::Zone(|samples, totals| samples.number(&[], totals.count(Count::Requests))),
        "Requests of clients, by the names of rs_uwsgi_status_zone"
    ),
    counter!(
        "location_responses",
        &["zone", "code"],
        Of::Zone(|samples, totals| samples.by_status(totals)),
        "Responses to clients by status, as those of servers"
    ),
    counter!(
        "location_discarded",
        &["zone"],
        Of::Zone(|samples, totals| samples.number(&[], totals.count(Count::ClientGone))),
        "Requests whose client left before an answer"
    ),
    counter!(
        "location_received_bytes",
        &["zone"],
        Of::Zone(|samples, totals| samples.number(&[], totals.count(Count::Received))),
        "Bytes received from clients"
    ),
    counter!(
        "location_sent_bytes",
        &["zone"],
        Of::Zone(|samples, totals| samples.number(&[], totals.count(Count::Sent))),
        "Bytes sent to clients"
    ),
];
