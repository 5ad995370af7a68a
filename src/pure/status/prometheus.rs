//! The state in Prometheus' text format (0.0.4) or as OpenMetrics (1.0.0). All samples of a metric stand
//! together there, so it is written metric by metric ([`families`]), server by server.

mod families;

pub use families::families;

use super::ask::Format;
use super::{text, About, Peer, Upstream};
use crate::pure::stats::{Measure, Totals};

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
