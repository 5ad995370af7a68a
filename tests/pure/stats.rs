//! What is counted, added up and remembered, against plain arithmetic.

use std::sync::atomic::AtomicU64;

use ngx_http_rs_uwsgi_module::pure::stats::histogram::{Histogram, SIZES, TIMES};
use ngx_http_rs_uwsgi_module::pure::stats::history::{History, SECONDS, SHARED};
use ngx_http_rs_uwsgi_module::pure::stats::{
    self, CacheStatus, Cells, Closed, Count, Failure, Measure, QueueEnd, Totals, Try, COUNTERS,
};
use ngx_http_rs_uwsgi_module::pure::zone::{Label, Layout, Shape, SlotId, Worker, Zone};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::zone::host;

fn cells() -> Box<Cells> {
    Box::new([const { AtomicU64::new(0) }; COUNTERS])
}

fn totals(cells: &Cells) -> Totals {
    let mut totals = Totals::default();
    totals.add(cells);
    totals
}

/// All numbers of what is counted, by name.
fn all(totals: &Totals) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    all.extend(Count::ALL.iter().map(|what| (what.name().to_owned(), totals.count(*what))));
    all.extend(
        Failure::ALL
            .iter()
            .map(|kind| (format!("failure {}", kind.name()), totals.failures(*kind))),
    );
    all.extend(
        Closed::ALL.iter().map(|why| (format!("closed {}", why.name()), totals.closed(*why))),
    );
    all.extend(
        QueueEnd::ALL.iter().map(|end| (format!("queue {}", end.name()), totals.queued(*end))),
    );
    all.extend(
        CacheStatus::ALL.iter().map(|at| (format!("cache {}", at.name()), totals.cached(*at))),
    );
    all.extend((1..=5).map(|class| (format!("{class}xx"), totals.class(class))));
    all.extend(totals.codes().map(|(code, number)| (code.to_string(), number)));
    for measure in Measure::ALL {
        let histogram = totals.histogram(*measure);
        all.push((format!("{} count", measure.name()), histogram.count()));
        all.push((format!("{} sum", measure.name()), histogram.sum));
    }
    all
}

/// What is not zero.
fn counted(totals: &Totals) -> Vec<(String, u64)> {
    all(totals).into_iter().filter(|(_, number)| *number > 0).collect()
}

#[test]
fn buckets_end_at_their_bounds() {
    for (bounds, below) in [(TIMES, 1..=60_000_u64), (SIZES, 257..=65_537)] {
        let (first, last) = below.into_inner();
        assert_eq!([bounds.bucket(0), bounds.bucket(first - 1), bounds.bucket(first)], [0, 0, 1]);
        assert_eq!(bounds.bucket(last - 1), bounds.buckets() - 2);
        assert_eq!([last, u64::MAX].map(|value| bounds.bucket(value)), [bounds.buckets() - 1; 2]);
    }
    let steps = (1..=100).filter(|time| TIMES.bucket(*time) == TIMES.bucket(*time - 1) + 1);
    assert!(steps.eq([1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]));
    for (bucket, size) in (8..=16).map(|exponent| 1 << exponent).enumerate() {
        assert_eq!([SIZES.bucket(size), SIZES.bucket(size + 1)], [bucket, bucket + 1], "{size}");
    }
}

#[test]
fn nothing_is_counted_in_the_place_of_another() {
    for closed in Closed::ALL {
        let cells = cells();
        stats::count_closed(&cells, *closed);
        assert_eq!(counted(&totals(&cells)), [(format!("closed {}", closed.name()), 1)]);
    }
    for status in CacheStatus::ALL {
        let cells = cells();
        stats::count_cache(&cells, *status);
        assert_eq!(counted(&totals(&cells)), [(format!("cache {}", status.name()), 1)]);
    }
    for count in Count::ALL {
        let cells = cells();
        stats::count(&cells, *count);
        assert_eq!(counted(&totals(&cells)), [(count.name().to_owned(), 1)]);
    }
    for end in QueueEnd::ALL {
        let cells = cells();
        stats::count_queued(&cells, *end, 40);
        let mut expected = vec![(format!("queue {}", end.name()), 1)];
        if *end != QueueEnd::Overflow {
            expected.extend([("queue count".to_owned(), 1), ("queue sum".to_owned(), 40)]);
        }
        assert_eq!(counted(&totals(&cells)), expected);
    }
    for failure in Failure::ALL {
        let cells = cells();
        Try { failure: Some(*failure), ..Try::default() }.count(&cells);
        let expected = [("fails".to_owned(), 1), (format!("failure {}", failure.name()), 1)];
        assert_eq!(counted(&totals(&cells)), expected);
    }
}

#[test]
fn a_status_is_counted_in_its_class_and_by_itself() {
    for status in 0..1000 {
        let cells = cells();
        stats::count_status(&cells, status);
        let totals = totals(&cells);
        let classes: Vec<u64> = (1..=5).map(|class| totals.class(class)).collect();
        let class = usize::from(status / 100);
        let expected: Vec<u64> = (1..=5).map(|other| u64::from(other == class)).collect();
        assert_eq!(classes, expected, "{status}");
        assert!(totals.codes().all(|(code, number)| (code, number) == (status, 1)), "{status}");
        assert_eq!(totals.count(Count::Responses), 1);
    }
}

#[test]
fn a_try_is_counted_with_all_that_it_was() {
    let cells = cells();
    let tried = Try {
        sent: true,
        reused: true,
        is_next: true,
        repeated: false,
        early: true,
        client_gone: true,
        interim: 2,
        status: Some(404),
        failure: Some(Failure::CutShort),
        vars_size: 700,
        bytes: (900, 1000),
        connect: Some(7),
        header: Some(20),
        response: 30,
        now: 77,
    };
    tried.count(&cells);
    let totals = totals(&cells);
    let expected = [
        ("requests", 1),
        ("sent", 900),
        ("received", 1000),
        ("reused", 1),
        ("next_tries", 1),
        ("early_answers", 1),
        ("client_gone", 1),
        ("interim", 2),
        ("fails", 1),
        ("responses", 1),
        ("failure cut_short", 1),
        ("4xx", 1),
        ("404", 1),
        ("header count", 1),
        ("header sum", 20),
        ("response count", 1),
        ("response sum", 30),
        ("vars_size count", 1),
        ("vars_size sum", 700),
    ];
    assert_eq!(counted(&totals), expected.map(|(name, number)| (name.to_owned(), number)));
    assert_eq!(totals.last_used(), Some(77));
    // on a new connection the time to connect counts, and nothing was taken from the pool
    let cells = self::cells();
    Try { sent: true, connect: Some(7), ..Try::default() }.count(&cells);
    let totals = self::totals(&cells);
    assert_eq!((totals.count(Count::Opened), totals.count(Count::Reused)), (1, 0));
    assert_eq!(totals.histogram(Measure::Connect).sum, 7);
}

proptest! {
    #[test]
    fn each_value_is_in_the_bucket_that_its_bounds_say(values in vec(0..200_000_u64, 0..60)) {
        for bounds in [&TIMES, &SIZES] {
            let mut counts = vec![0; bounds.buckets()];
            values.iter().for_each(|value| counts[bounds.bucket(*value)] += 1);
            let histogram = Histogram::of(bounds, &counts, values.iter().sum());
            prop_assert_eq!(histogram.count(), values.len() as u64);
            for (bound, below) in histogram.cumulative() {
                let expected = values.iter().filter(|value| **value < bound).count();
                prop_assert_eq!(below, expected as u64, "below {}", bound);
            }
        }
    }

    #[test]
    fn a_quantile_is_in_the_bucket_of_the_value_of_its_rank(
        mut values in vec(0..50_000_u64, 1..60), part in 0.01..1.0_f64,
    ) {
        let mut counts = vec![0; TIMES.buckets()];
        values.iter().for_each(|value| counts[TIMES.bucket(*value)] += 1);
        let quantile = Histogram::of(&TIMES, &counts, 0).quantile(part).unwrap();
        values.sort_unstable();
        let rank = ((part * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let bucket = TIMES.bucket(values[rank - 1]);
        // the upper bound of a bucket is the lower one of the next
        let near = [TIMES.bucket(quantile as u64), TIMES.bucket((quantile - 0.001).max(0.0) as u64)];
        prop_assert!(near.contains(&bucket), "{} of {:?} for rank {}", quantile, values, rank);
    }
}

/// A zone of two workers and some servers, with everything that is counted.
struct House {
    words: Vec<AtomicU64>,
}

impl House {
    const SHAPE: Shape = Shape { workers: 2, servers: 4, counters: COUNTERS, shared: SHARED };

    fn new() -> House {
        let layout = Layout::new(Self::SHAPE).unwrap();
        House { words: (0..layout.words()).map(|_| AtomicU64::new(0)).collect() }
    }

    fn workers(&self) -> ([Worker<'_>; 2], SlotId) {
        let layout = Layout::new(Self::SHAPE).unwrap();
        let zone = Zone::format(&self.words, layout, 1, host(1)).unwrap();
        let label = Label { upstream: b"u", server: b"s" };
        let slot = zone.slot(b"k", label, zone.generation()).unwrap();
        ([1, 2].map(|pid| zone.on(host(pid)).enter().unwrap()), slot)
    }
}

#[test]
fn the_history_has_each_second_and_what_waited_in_it() {
    let house = House::new();
    let ([one, two], slot) = house.workers();
    let history = History::of(one.zone(), slot);
    let done = |worker: Worker<'_>, at: u64, response: u64, status: u16| {
        History::of(worker.zone(), slot).tick(at);
        let tried = Try { sent: true, status: Some(status), response, now: at, ..Try::default() };
        tried.count(worker.cells(slot).unwrap());
    };
    done(one, 5_000, 3, 200);
    done(two, 5_500, 40, 200);
    done(one, 5_900, 40, 500);
    history.see_waiting(7);
    // nothing in the seconds 6 to 8
    done(two, 9_100, 900, 200);
    let seconds = history.read(10_000, SECONDS);
    let of = |second: usize| seconds[seconds.len() - (10 - second)];
    assert_eq!((of(5).requests, of(5).errors, of(5).waiting), (3, 1, 7));
    let [p50, p95, p99] = of(5).response.map(Option::unwrap);
    assert!(
        (30.0..=50.0).contains(&p50) && p50 <= p95 && p95 <= p99 && p99 <= 50.0,
        "{p50} {p95} {p99}"
    );
    for second in 6..9 {
        assert_eq!(of(second), Default::default(), "{second}");
    }
    assert_eq!((of(9).requests, of(9).errors, of(9).waiting), (1, 0, 0));
    assert!((700.0..=1000.0).contains(&of(9).response[0].unwrap()));
    assert_eq!(history.most_waiting(), 7);
    // a request in flight is there in each second, whether anything ends or not
    assert_eq!(
        one.acquire(slot, 0, u64::MAX.try_into().unwrap()),
        ngx_http_rs_uwsgi_module::pure::zone::Acquire::Place
    );
    let seconds = history.read(14_000, 3);
    assert_eq!(seconds.iter().map(|second| second.in_flight).collect::<Vec<_>>(), [1, 1, 1]);
    // after ten minutes nothing is left but what is there still
    let seconds = history.read(3_000_000, SECONDS);
    assert_eq!(seconds.len(), SECONDS);
    assert!(seconds.iter().all(|second| second.requests == 0 && second.in_flight == 1));
}

proptest! {
    #[test]
    fn the_history_loses_no_request(
        steps in vec((0..1500_u64, any::<bool>(), 0..3_u16), 1..60),
    ) {
        let house = House::new();
        let ([one, two], slot) = house.workers();
        let (mut now, mut expected) = (1_000_000, std::collections::BTreeMap::new());
        for (pause, which, kind) in steps {
            now += pause;
            let worker = if which { one } else { two };
            History::of(worker.zone(), slot).tick(now);
            let status = [200, 404, 503][usize::from(kind)];
            let tried = Try { sent: true, status: Some(status), now, ..Try::default() };
            tried.count(worker.cells(slot).unwrap());
            let of = expected.entry(now / 1000).or_insert((0, 0));
            of.0 += 1;
            of.1 += u32::from(status == 503);
        }
        let end = now / 1000 + 1;
        let seconds = History::of(one.zone(), slot).read(end * 1000, SECONDS);
        for (at, second) in seconds.iter().enumerate() {
            let number = end - (seconds.len() - at) as u64;
            let of = expected.get(&number).copied().unwrap_or_default();
            prop_assert_eq!((second.requests, second.errors), of, "second {}", number);
        }
    }
}

#[test]
fn a_server_becomes_unavailable_once() {
    let house = House::new();
    let ([one, two], slot) = house.workers();
    let (one, two) = (History::of(one.zone(), slot), History::of(two.zone(), slot));
    assert!(!one.is_unavailable() && !one.set_unavailable(false));
    assert!(one.set_unavailable(true) && !two.set_unavailable(true));
    assert!(two.is_unavailable());
    assert!(two.set_unavailable(false) && !one.is_unavailable());
}

#[test]
fn what_is_counted_stays_when_a_new_configuration_wants_the_server() {
    let house = House::new();
    let ([one, _], slot) = house.workers();
    let zone = one.zone();
    stats::count(one.cells(slot).unwrap(), Count::Requests);
    let generation = zone.begin_generation().unwrap();
    zone.want(generation, |upstream, server| (upstream, server) == (b"u", b"s")).unwrap();
    zone.end_generation(generation).unwrap();
    assert!(zone.is_ready(slot));
    let mut totals = Totals::default();
    zone.rows(slot).for_each(|row| totals.add(row.try_into().unwrap()));
    assert_eq!(totals.count(Count::Requests), 1);
    // the next does not
    let generation = zone.begin_generation().unwrap();
    zone.want(generation, |_, _| false).unwrap();
    zone.end_generation(generation).unwrap();
    assert!(!zone.is_ready(slot));
}
