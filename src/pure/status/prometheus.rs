//! The state in Prometheus' text format (0.0.4) or as OpenMetrics (1.0.0). All samples of a metric stand
//! together there, so it is written metric by metric ([`FAMILIES`]), server by server.

use super::ask::Format;
use super::{text, About, Peer, Upstream};
use crate::pure::stats::{CacheStatus, Closed, Count, Failure, Measure, QueueEnd, Totals};

/// A kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What can go down.
    Gauge,
    /// What only grows.
    Counter,
    /// A histogram.
    Histogram,
}

/// A metric with its help. Counters are called without `_total`.
pub struct Family {
    /// Its name, without the prefix `rs_uwsgi_`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, in a sentence without a full stop.
    pub help: &'static str,
    /// Its labels, for docs.
    pub labels: &'static [&'static str],
    of: Of,
}

/// Where its samples come from.
enum Of {
    About(fn(&mut Samples<'_>, &About)),
    Peer(fn(&mut Samples<'_>, &Peer)),
    Measure(Measure),
    Upstream(fn(&mut Samples<'_>, &Totals)),
    Zone(fn(&mut Samples<'_>, &Totals)),
}

/// Where samples of one metric and server are written.
pub struct Samples<'o> {
    out: &'o mut Vec<u8>,
    name: &'static str,
    suffix: &'static str,
    /// The labels that all of them have, with a comma at the end.
    labels: &'o [u8],
}

impl Samples<'_> {
    fn begin(&mut self, suffix: &str, more: &[(&str, &str)]) {
        for part in ["rs_uwsgi_", self.name, suffix] {
            self.out.extend_from_slice(part.as_bytes());
        }
        if !self.labels.is_empty() || !more.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(self.labels);
            for (place, (name, value)) in more.iter().enumerate() {
                if place > 0 || !self.labels.is_empty() {
                    self.out.push(b',');
                }
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"=\"");
                self.out.extend_from_slice(value.as_bytes());
                self.out.push(b'"');
            }
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }

    fn number(&mut self, more: &[(&str, &str)], number: u64) {
        self.begin(self.suffix, more);
        text::number(self.out, number);
        self.out.push(b'\n');
    }

    /// Milliseconds, as seconds.
    fn seconds(&mut self, more: &[(&str, &str)], milliseconds: u64) {
        self.begin(self.suffix, more);
        text::thousandths(self.out, milliseconds);
        self.out.push(b'\n');
    }

    fn by_status(&mut self, totals: &Totals) {
        let mut by_itself = [0; 6];
        for (code, number) in totals.codes() {
            if let Some(sum) = by_itself.get_mut(usize::from(code / 100)) {
                *sum += number;
            }
            self.number(&[("code", itoa::Buffer::new().format(code))], number);
        }
        for (class, name) in (1..).zip(["1xx", "2xx", "3xx", "4xx", "5xx"]) {
            let others = by_itself.get(usize::from(class)).copied().unwrap_or(0);
            self.number(&[("code", name)], totals.class(class).saturating_sub(others));
        }
    }

    fn histogram(&mut self, totals: &Totals, measure: Measure) {
        let histogram = totals.histogram(measure);
        let is_time = measure != Measure::VarsSize;
        let mut bound = Vec::new();
        for (below, count) in histogram.cumulative() {
            bound.clear();
            match is_time {
                true => text::thousandths(&mut bound, below),
                false => text::number(&mut bound, below - 1),
            }
            let bound = std::str::from_utf8(&bound).unwrap_or_default();
            self.begin("_bucket", &[("le", bound)]);
            text::number(self.out, count);
            self.out.push(b'\n');
        }
        let count = histogram.count();
        for (suffix, more) in [("_bucket", &[("le", "+Inf")][..]), ("_count", &[])] {
            self.begin(suffix, more);
            text::number(self.out, count);
            self.out.push(b'\n');
        }
        self.begin("_sum", &[]);
        match is_time {
            true => text::thousandths(self.out, histogram.sum),
            false => text::number(self.out, histogram.sum),
        }
        self.out.push(b'\n');
    }
}

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

static GENERAL: [Family; 6] = [
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

static LABELLED: [Family; 4] = [
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

/// What is written, all of it gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What is known besides.
    pub about: About,
    /// The upstreams, and where their servers begin and end in `peers`.
    pub upstreams: Vec<(Upstream, std::ops::Range<usize>)>,
    /// The servers.
    pub peers: Vec<Peer>,
    /// By the names of `rs_uwsgi_status_zone`.
    pub zones: Vec<(Vec<u8>, Totals)>,
}

/// Writes it, as far as it has come.
#[derive(Debug)]
pub struct Writing {
    gathered: Gathered,
    format: Format,
    /// The labels of each server.
    labels: Vec<Vec<u8>>,
    family: usize,
    /// Are the lines before it written?
    has_head: bool,
    /// The server that is next.
    next: usize,
}

impl Writing {
    /// Begins.
    pub fn new(gathered: Gathered, format: Format) -> Self {
        let mut labels = vec![Vec::new(); gathered.peers.len()];
        for (upstream, range) in &gathered.upstreams {
            for place in range.clone() {
                if let (Some(labels), Some(peer)) =
                    (labels.get_mut(place), gathered.peers.get(place))
                {
                    *labels = label("upstream", &upstream.name);
                    labels.push(b',');
                    labels.extend(label("server", &peer.server));
                }
            }
        }
        Writing { gathered, format, labels, family: 0, has_head: false, next: 0 }
    }

    /// Writes on, some more than `most` bytes. Is there more?
    pub fn write(&mut self, out: &mut Vec<u8>, most: usize) -> bool {
        while let Some(family) = families().nth(self.family) {
            if !self.has_head {
                self.has_head = true;
                head(out, family, self.format);
            }
            if !self.write_family(out, family, most) {
                return true;
            }
            (self.family, self.next, self.has_head) = (self.family + 1, 0, false);
        }
        if self.format == Format::OpenMetrics {
            out.extend(b"# EOF\n");
        }
        false
    }

    /// Writes on with a metric. Is it done?
    fn write_family(&mut self, out: &mut Vec<u8>, family: &'static Family, most: usize) -> bool {
        let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
        let name = family.name;
        match &family.of {
            Of::About(write) => {
                write(&mut Samples { out, name, suffix, labels: b"" }, &self.gathered.about);
            }
            Of::Upstream(write) => {
                for (upstream, _) in &self.gathered.upstreams {
                    let labels = &label("upstream", &upstream.name);
                    write(&mut Samples { out, name, suffix, labels }, &upstream.totals);
                }
            }
            Of::Zone(write) => {
                for (zone, totals) in &self.gathered.zones {
                    let labels = &label("zone", zone);
                    write(&mut Samples { out, name, suffix, labels }, totals);
                }
            }
            Of::Peer(_) | Of::Measure(_) => {
                for (peer, labels) in self.gathered.peers.iter().zip(&self.labels).skip(self.next) {
                    if out.len() >= most {
                        return false;
                    }
                    self.next += 1;
                    let mut samples = Samples { out, name, suffix, labels };
                    match &family.of {
                        Of::Measure(measure) => samples.histogram(&peer.totals, *measure),
                        Of::Peer(write) => write(&mut samples, peer),
                        _ => {}
                    }
                }
            }
        }
        true
    }
}

fn label(name: &str, value: &[u8]) -> Vec<u8> {
    let mut label = format!("{name}=").into_bytes();
    text::label(&mut label, value);
    label
}

/// The lines before a metric. In OpenMetrics a counter is called without the suffix that its samples have.
fn head(out: &mut Vec<u8>, family: &Family, format: Format) {
    let Family { name, help, kind, .. } = family;
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
    };
    let suffix = match (kind, format) {
        ("counter", Format::Prometheus) => "_total",
        _ => "",
    };
    let dot = if format == Format::OpenMetrics { "" } else { "." };
    out.extend(format!("# HELP rs_uwsgi_{name}{suffix} {help}{dot}\n").bytes());
    out.extend(format!("# TYPE rs_uwsgi_{name}{suffix} {kind}\n").bytes());
}
