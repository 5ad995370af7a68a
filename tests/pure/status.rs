//! What the status page's renderers write: parts of any size make the same text, what is escaped where, and
//! that docs/monitoring.md has each metric.

use std::collections::BTreeSet;

use ngx_http_rs_uwsgi_module::pure::health::{self, Report};
use ngx_http_rs_uwsgi_module::pure::stats::histogram::TIMES;
use ngx_http_rs_uwsgi_module::pure::stats::{
    self, CacheStatus, Closed, Failure, QueueEnd, Totals, Try,
};
use ngx_http_rs_uwsgi_module::pure::status::ask::Format;
use ngx_http_rs_uwsgi_module::pure::status::prometheus::{families, Gathered, Kind, Writing};
use ngx_http_rs_uwsgi_module::pure::status::{advice, json, About, Peer, Upstream};
use ngx_http_rs_uwsgi_module::pure::zone::Gauges;

const EVIL: &[u8] = b"</script>\"\\\n\xff&'";

fn totals(tries: &[Try]) -> Totals {
    let cells = Box::new([const { std::sync::atomic::AtomicU64::new(0) }; stats::COUNTERS]);
    tries.iter().for_each(|tried| tried.count(&cells));
    let mut totals = Totals::default();
    totals.add(&cells);
    totals
}

fn peer(id: usize) -> Peer {
    let tried = Try {
        sent: true,
        status: Some(if id % 2 == 0 { 404 } else { 200 }),
        response: id as u64,
        connect: Some(1),
        ..Try::default()
    };
    Peer {
        id,
        server: [EVIL, id.to_string().as_bytes()].concat(),
        totals: totals(&[tried; 3]),
        ..Peer::default()
    }
}

fn gathered() -> Gathered {
    let upstream =
        |n: &str| Upstream { name: [EVIL, n.as_bytes()].concat(), ..Upstream::default() };
    Gathered {
        about: About {
            version: "1",
            commit: "c",
            nginx: "n",
            time: 5_000,
            now: 3_000,
            since: 1_000,
            ..About::default()
        },
        upstreams: vec![(upstream("a"), 0..2), (upstream("none"), 2..2), (upstream("b"), 2..5)],
        peers: (0..5).map(peer).collect(),
        zones: vec![(EVIL.to_vec(), totals(&[]))],
    }
}

fn metrics(format: Format, most: usize) -> (String, usize) {
    let mut writing = Writing::new(gathered(), format);
    let (mut all, mut parts) = (Vec::new(), 0);
    loop {
        let mut part = Vec::new();
        let more = writing.write(&mut part, most);
        all.extend(part);
        parts += 1;
        if !more {
            return (String::from_utf8(all).unwrap(), parts);
        }
    }
}

#[test]
fn parts_of_any_size_make_the_same_metrics() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let (whole, parts) = metrics(format, usize::MAX);
        assert_eq!(parts, 1);
        for most in [1, 100, 5000] {
            let (text, parts) = metrics(format, most);
            assert!(parts > 5 && text == whole, "{most}");
        }
        // all samples of a metric stand together, after its two lines
        let mut seen = Vec::new();
        for line in whole.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base
                .filter(|base| whole.contains(&format!("TYPE {base} histogram")))
                .unwrap_or(name);
            if seen.last() != Some(&name) {
                assert!(!seen.contains(&name), "{name} comes twice");
                seen.push(name);
            }
        }
        assert_eq!(whole.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
}

#[test]
fn names_are_text() {
    let (text, _) = metrics(Format::Prometheus, usize::MAX);
    let label = "upstream=\"</script>\\\"\\\\\\n\u{fffd}&'a\"";
    assert!(text.contains(label), "{label}");
    assert!(text.lines().all(|line| line.starts_with("rs_uwsgi_") || line.starts_with("# ")));
    let gathered = gathered();
    let mut out = Vec::new();
    let mut state = json::begin(&mut out, &gathered.about);
    for (upstream, range) in &gathered.upstreams {
        json::begin_upstream(&mut out, &mut state, upstream);
        for of in &gathered.peers[range.clone()] {
            json::peer(&mut out, &mut state, &gathered.about, upstream, of);
        }
        json::end_upstream(&mut out, &state, upstream);
    }
    json::end(&mut out, state, &gathered.zones);
    let text = String::from_utf8(out).unwrap();
    let name = r#""\u003c/script\u003e\"\\\u000a"#.to_owned()
        + "\u{fffd}"
        + r#"\u0026\u0027a":{"peers":["#;
    assert!(text.contains(&name), "{name}\n{text}");
    assert!(!text.contains(['<', '>', '&', '\'']) && text.ends_with("}\n"));
    assert!(text.contains("\"time\":5,\"counting_since\":3,\"uptime\":2,"), "{text}");
    for (open, close) in [('{', '}'), ('[', ']')] {
        assert_eq!(text.matches(open).count(), text.matches(close).count());
    }
}

#[test]
fn what_is_wrong_is_said() {
    let problems =
        |peer: &Peer| advice::problems(peer).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(problems(&Peer::default()), [""; 0]);
    let busy = Peer {
        limit: Some(4),
        gauges: Gauges { in_use: 4, idle: 0, waiting: 312 },
        totals: totals(&[Try { status: Some(200), response: 50, ..Try::default() }; 2]),
        ..Peer::default()
    };
    assert_eq!(
        problems(&busy),
        ["312 requests wait, its 4 connections are all busy for 50 ms each: more workers would help"]
    );
    let gone = Peer {
        is_unavailable: true,
        totals: totals(&[Try { failure: Some(Failure::NoSocket), ..Try::default() }]),
        ..Peer::default()
    };
    assert_eq!(problems(&gone), ["it cannot be reached: there is no such socket"]);
    for kind in Failure::ALL {
        assert!(!advice::in_words(*kind).is_empty());
    }
    let report = |state, last| Report { state, since: 1, probes: 3, failed: 3, downs: 1, last };
    let down = |code| Peer {
        health: Some(report(health::State::Down, Some((2, code)))),
        is_unavailable: true,
        ..Peer::default()
    };
    assert_eq!(
        problems(&down(2)),
        ["it is taken as down: it does not answer health checks in time"]
    );
    let words: BTreeSet<_> = (0..=8).map(health::Failure::in_words).collect();
    assert_eq!(words.len(), 9);
}

/// What is configured counts most, then what health checks say, then what requests have met.
#[test]
fn states_and_their_numbers() {
    let report = |state| Report { state, since: 0, probes: 0, failed: 0, downs: 0, last: None };
    let state = |is_down, health: Option<health::State>, is_unavailable| {
        let health = health.map(report);
        let state = Peer { is_down, health, is_unavailable, ..Peer::default() }.state();
        (state.name(), state as u8)
    };
    let (checking, up, down) =
        (Some(health::State::Checking), Some(health::State::Up), Some(health::State::Down));
    for (is_down, health, is_unavailable, expected) in [
        (false, None, false, ("up", 1)),
        (false, up, false, ("up", 1)),
        (true, down, true, ("down", 3)),
        (false, None, true, ("unavail", 4)),
        (false, up, true, ("unavail", 4)),
        (false, checking, true, ("unavail", 4)),
        (false, checking, false, ("checking", 5)),
        (false, down, false, ("unhealthy", 6)),
        (false, down, true, ("unhealthy", 6)),
    ] {
        assert_eq!(state(is_down, health, is_unavailable), expected);
    }
}

#[test]
fn the_documentation_has_each_metric_and_each_label() {
    let text = include_str!("../../docs/monitoring.md");
    let mut rows = Vec::new();
    for family in families() {
        let (kind, suffix) = match family.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
            Kind::Histogram => ("histogram", ""),
        };
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        rows.push(format!(
            "| `rs_uwsgi_{}{suffix}` | {kind} | {} | {} |",
            family.name,
            labels.join(", "),
            family.help
        ));
    }
    let documented: Vec<_> = text.lines().filter(|line| line.starts_with("| `rs_uwsgi_")).collect();
    assert_eq!(documented, rows, "\n{}", rows.join("\n"));
    let names = [
        Failure::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        Closed::ALL.iter().map(|why| why.name()).collect(),
        QueueEnd::ALL.iter().map(|end| end.name()).collect(),
        CacheStatus::ALL.iter().map(|status| status.name()).collect(),
    ];
    for name in names.iter().flatten() {
        assert!(text.contains(&format!("`{name}`")), "{name}");
        assert!(
            include_str!("../../docs/status.schema.json").contains(&format!("\"{name}")),
            "{name}"
        );
    }
    assert!(TIMES.buckets() > 20);
}
