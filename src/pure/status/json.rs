//! The state as JSON (RFC 8259): docs/status.schema.json says what is what. Written piece by piece: [`begin`],
//! then for each upstream [`begin_upstream`], its [`peer`]s and [`end_upstream`], then [`end`].

use super::advice::{advice, problems, Severity};
use super::{text, About, Peer, Upstream};
use crate::pure::health;
use crate::pure::stats::histogram::Histogram;
use crate::pure::stats::history::Second;
use crate::pure::stats::{CacheStatus, Closed, Count, Failure, Measure, QueueEnd, Totals};
use crate::pure::uwsgi_stats::Known;

/// Something that is not well: how bad, and the name of the upstream, that of the server, and the words.
pub type Problem = (Severity, Vec<u8>, Vec<u8>, String);

/// What is between the pieces.
#[derive(Debug, Default)]
pub struct State {
    problems: Vec<Problem>,
    queue: (u64, u64),
    idle: u64,
    /// Is there an upstream, or a peer, before the next one?
    upstreams: bool,
    peers: bool,
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Is a comma to be written before the next member?
    comma: bool,
}

impl Writer<'_> {
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
        text::json(self.out, name.as_bytes());
        self.out.push(b':');
        self.out
    }

    fn number(&mut self, name: &str, number: u64) {
        text::number(self.key(name), number);
    }

    /// Seconds from milliseconds.
    fn seconds(&mut self, name: &str, milliseconds: u64) {
        text::thousandths(self.key(name), milliseconds);
    }

    fn decimal(&mut self, name: &str, value: Option<f64>) {
        let out = self.key(name);
        match value {
            Some(value) => text::decimal(out, value),
            None => out.extend(b"null"),
        }
    }

    fn string(&mut self, name: &str, value: &[u8]) {
        text::json(self.key(name), value);
    }

    fn word(&mut self, name: &str, word: &str) {
        self.key(name).extend(word.bytes());
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
        let out = self.key(name);
        out.push(b'{');
        let mut inner = Writer { out, comma: false };
        write(&mut inner);
        self.out.push(b'}');
    }

    fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Vec<u8>, T),
    ) {
        let out = self.key(name);
        out.push(b'[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
    }
}

/// Begins the document.
pub fn begin(out: &mut Vec<u8>, about: &About) -> State {
    out.push(b'{');
    let mut doc = Writer { out, comma: false };
    doc.string("version", about.version.as_bytes());
    doc.string("commit", about.commit.as_bytes());
    doc.string("nginx", about.nginx.as_bytes());
    doc.seconds("time", about.time);
    doc.seconds("counting_since", about.date(about.since));
    doc.seconds("uptime", about.now.saturating_sub(about.since));
    doc.number("generation", about.generation);
    doc.number("pid", about.pid.into());
    doc.array("workers", &about.workers, |out, (id, pid)| {
        out.push(b'{');
        let mut worker = Writer { out, comma: false };
        worker.number("id", *id as u64);
        worker.number("pid", (*pid).into());
        out.push(b'}');
    });
    match about.zone {
        Some(zone) => doc.object("zone", |object| {
            object.number("size", zone.bytes as u64);
            object.number("servers", zone.servers as u64);
            object.number("used", zone.used as u64);
            object.number("bytes_per_server", zone.bytes_of_server as u64);
            object.number("full", zone.full);
        }),
        None => doc.word("zone", "null"),
    }
    doc.key("upstreams").push(b'{');
    State::default()
}

/// Begins an upstream.
pub fn begin_upstream(out: &mut Vec<u8>, state: &mut State, upstream: &Upstream) {
    let mut writer = Writer { out, comma: state.upstreams };
    writer.key(&String::from_utf8_lossy(&upstream.name)).extend(b"{\"peers\":[");
    (state.upstreams, state.peers) = (true, false);
    (state.queue, state.idle) = ((0, 0), 0);
}

/// Writes a server of the upstream that was begun.
pub fn peer(out: &mut Vec<u8>, state: &mut State, about: &About, upstream: &Upstream, peer: &Peer) {
    let problems = problems(peer).into_iter();
    state.problems.extend(
        problems
            .map(|(severity, text)| (severity, upstream.name.clone(), peer.server.clone(), text)),
    );
    state.queue.0 += peer.gauges.waiting;
    state.queue.1 += peer.totals.queued(QueueEnd::Overflow);
    state.idle += peer.gauges.idle;
    if state.peers {
        out.push(b',');
    }
    state.peers = true;
    out.push(b'{');
    let mut writer = Writer { out, comma: false };
    known_from_elsewhere(&mut writer, about, peer);
    our_own(&mut writer, about, peer);
    out.push(b'}');
}

/// What NGINX Plus has as well.
fn known_from_elsewhere(writer: &mut Writer<'_>, about: &About, peer: &Peer) {
    let totals = &peer.totals;
    writer.number("id", peer.id as u64);
    writer.string("server", &peer.server);
    writer.string("name", &peer.name);
    writer.word("backup", if peer.is_backup { "true" } else { "false" });
    writer.number("weight", peer.weight as u64);
    writer.string("state", peer.state().name().as_bytes());
    writer.number("active", peer.in_flight());
    if let Some(limit) = peer.limit {
        writer.number("max_conns", limit);
    }
    writer.number("requests", totals.count(Count::Requests));
    responses(writer, totals);
    writer.number("sent", totals.count(Count::Sent));
    writer.number("received", totals.count(Count::Received));
    writer.number("fails", totals.count(Count::Fails));
    writer.number("unavail", totals.count(Count::Unavailable));
    health_checks(writer, about, peer);
    match totals.last_used() {
        Some(time) => writer.seconds("selected", about.date(time)),
        None => writer.word("selected", "null"),
    }
    writer.decimal("header_time", totals.histogram(Measure::Header).mean());
    writer.decimal("response_time", totals.histogram(Measure::Response).mean());
    writer.object("queue", |queue| {
        queue.number("size", peer.gauges.waiting);
        queue.number("max_size", peer.queue);
        queue.number("most", peer.most_waiting);
        queue.number("oldest", peer.oldest);
        for (name, end) in [
            ("served", QueueEnd::Served),
            ("timeouts", QueueEnd::Timeout),
            ("overflows", QueueEnd::Overflow),
            ("expected", QueueEnd::Expected),
            ("client_gone", QueueEnd::ClientGone),
            ("failed", QueueEnd::Failed),
        ] {
            queue.number(name, totals.queued(end));
        }
    });
}

/// Of a server that is not checked, zeros, as NGINX Plus has them.
fn health_checks(writer: &mut Writer<'_>, about: &About, peer: &Peer) {
    writer.object("health_checks", |checks| {
        let known = peer.health;
        for (name, number) in [
            ("checks", known.map(|known| known.probes)),
            ("fails", known.map(|known| known.failed)),
            ("unhealthy", known.map(|known| known.downs)),
        ] {
            checks.number(name, number.unwrap_or(0));
        }
        let Some(known) = known else { return };
        if let Some((time, code)) = known.last {
            checks.word("last_passed", if code == 0 { "true" } else { "false" });
            checks.seconds("last", about.date(time));
            checks.string("last_result", health::Failure::name(code).as_bytes());
        }
        if known.since > 0 {
            checks.seconds("since", about.date(known.since));
        }
    });
}

fn responses(writer: &mut Writer<'_>, totals: &Totals) {
    writer.object("responses", |responses| {
        for (class, name) in (1..).zip(["1xx", "2xx", "3xx", "4xx", "5xx"]) {
            responses.number(name, totals.class(class));
        }
        responses.object("codes", |codes| {
            totals.codes().for_each(|(code, number)| codes.number(&code.to_string(), number));
        });
        responses.number("total", totals.count(Count::Responses));
    });
}

fn our_own(writer: &mut Writer<'_>, about: &About, peer: &Peer) {
    let totals = &peer.totals;
    writer.object("connections", |connections| {
        connections.number("in_use", peer.in_flight());
        connections.number("idle", peer.gauges.idle);
        connections.number("opened", totals.count(Count::Opened));
        connections.number("reused", totals.count(Count::Reused));
        let by = match peer.limit {
            Some(limit) => {
                connections.number("limit", limit);
                if peer.is_learned {
                    "learned"
                } else {
                    "configured"
                }
            }
            None => {
                connections.word("limit", "null");
                "none"
            }
        };
        connections.string("limit_by", by.as_bytes());
        connections.object("closed", |closed| {
            Closed::ALL.iter().for_each(|why| closed.number(why.name(), totals.closed(*why)));
        });
    });
    writer.object("failures", |failures| {
        Failure::ALL.iter().for_each(|kind| failures.number(kind.name(), totals.failures(*kind)));
    });
    for what in [
        Count::NextTries,
        Count::Repeated,
        Count::EarlyAnswers,
        Count::ClientGone,
        Count::WorkedInVain,
        Count::VarsRefused,
        Count::Interim,
        Count::ListenQueueFull,
    ] {
        writer.number(what.name(), totals.count(what));
    }
    writer.object("times", |times| {
        for measure in [Measure::Queue, Measure::Connect, Measure::Header, Measure::Response] {
            quantiles(times, measure.name(), totals.histogram(measure));
        }
    });
    quantiles(writer, Measure::VarsSize.name(), totals.histogram(Measure::VarsSize));
    history(writer, about, &peer.history);
    writer.array("advice", advice(peer), |out, advice| text::json(out, advice.as_bytes()));
}

fn quantiles(writer: &mut Writer<'_>, name: &str, histogram: Histogram<'_>) {
    writer.object(name, |object| {
        object.number("count", histogram.count());
        object.number("sum", histogram.sum);
        for (name, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            object.decimal(name, histogram.quantile(part));
        }
    });
}

fn history(writer: &mut Writer<'_>, about: &About, seconds: &[Second]) {
    let has_any = seconds.iter().any(|second| *second != Second::default());
    let seconds = if has_any { seconds } else { &[] };
    writer.object("history", |history| {
        history.number("interval", 1);
        // the last one is over
        let age = about.now % 1000 + 1000;
        history.number("end", about.time.saturating_sub(age) / 1000);
        let mut numbers = |name: &str, of: fn(&Second) -> u32| {
            history.array(name, seconds, |out, second| text::number(out, of(second).into()));
        };
        numbers("requests", |second| second.requests);
        numbers("errors", |second| second.errors);
        numbers("waiting", |second| second.waiting);
        numbers("in_flight", |second| second.in_flight);
        let mut times = |name: &str, of: &dyn Fn(&Second) -> Option<f32>| {
            history.array(name, seconds, |out, second| match of(second) {
                Some(time) => text::decimal(out, time.into()),
                None => out.extend(b"null"),
            });
        };
        for (place, name) in ["p50", "p95", "p99"].into_iter().enumerate() {
            times(name, &|second| second.response.get(place).copied().flatten());
        }
        times("queue_p95", &|second| second.queue);
    });
}

/// Ends the upstream that was begun.
pub fn end_upstream(out: &mut Vec<u8>, state: &State, upstream: &Upstream) {
    out.push(b']');
    let mut writer = Writer { out, comma: true };
    writer.number("keepalive", state.idle);
    writer.number("zombies", 0);
    writer.string("zone", b"rs_uwsgi");
    writer.object("queue", |queue| {
        queue.number("size", state.queue.0);
        queue.number("max_size", upstream.queue);
        queue.number("overflows", state.queue.1);
    });
    writer.number("vars_refused", upstream.totals.count(Count::VarsRefused));
    if let Some(known) = &upstream.uwsgi {
        writer.object("uwsgi", |uwsgi| stats_server(uwsgi, known));
    }
    writer.object("cache", |cache| {
        for status in CacheStatus::ALL {
            cache.number(status.name(), upstream.totals.cached(*status));
        }
    });
    out.push(b'}');
}

/// What uWSGI's stats server says.
fn stats_server(uwsgi: &mut Writer<'_>, known: &Known) {
    uwsgi.string("address", &known.address);
    uwsgi.decimal("age", known.age.map(|age| age as f64));
    match &known.answer {
        Some(Err(error)) => uwsgi.string("error", error.as_bytes()),
        _ => uwsgi.word("error", "null"),
    }
    let Some(Ok(stats)) = &known.answer else { return uwsgi.word("stats", "null") };
    uwsgi.object("stats", |object| {
        object.string("version", stats.version.as_bytes());
        for (name, number) in [
            ("workers", stats.workers),
            ("busy", stats.busy),
            ("idle", stats.idle),
            ("cheaped", stats.cheaped),
            ("cores", stats.cores),
            ("cores_busy", stats.cores_busy),
            ("requests", stats.requests),
            ("exceptions", stats.exceptions),
            ("harakiris", stats.harakiris),
            ("respawns", stats.respawns),
            ("rss", stats.rss),
            ("vsz", stats.vsz),
            ("sent", stats.sent),
            ("listen_queue", stats.listen_queue),
            ("listen_queue_most", stats.listen_queue_most),
            ("listen_queue_errors", stats.listen_queue_errors),
        ] {
            object.number(name, number);
        }
        object.decimal("average", stats.average.map(|microseconds| microseconds / 1000.0));
    });
}

/// Ends the document, with what was counted by the names that `rs_uwsgi_status_zone` gives.
pub fn end(out: &mut Vec<u8>, mut state: State, zones: &[(Vec<u8>, Totals)]) {
    out.push(b'}');
    let mut doc = Writer { out, comma: true };
    doc.object("location_zones", |object| {
        for (name, totals) in zones {
            object.object(&String::from_utf8_lossy(name), |zone| {
                zone.number("requests", totals.count(Count::Requests));
                responses(zone, totals);
                zone.number("discarded", totals.count(Count::ClientGone));
                zone.number("received", totals.count(Count::Received));
                zone.number("sent", totals.count(Count::Sent));
            });
        }
    });
    state.problems.sort_by_key(|(severity, ..)| *severity);
    doc.array("problems", &state.problems, |out, (severity, upstream, server, words)| {
        out.push(b'{');
        let mut problem = Writer { out, comma: false };
        problem.string("severity", severity.name().as_bytes());
        problem.string("upstream", upstream);
        problem.string("server", server);
        problem.string("text", words.as_bytes());
        out.push(b'}');
    });
    out.extend(b"}\n");
}
