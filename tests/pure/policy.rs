//! The verdict on a connection against the rules for reused connections, over every combination of
//! what may be known of one.

use std::collections::{BTreeMap, BTreeSet};

use ngx_http_rs_uwsgi_module::pure::pool::policy::{
    verdict, Facts, LastUse, Limits, Refusal, Reuse, FRESH, SMALL_BODY,
};
use ngx_http_rs_uwsgi_module::pure::uwsgi::framing::{End, Said};

use crate::fuzz::policy::{holds, ORDER};

const REUSE: [Reuse; 4] = [Reuse::Auto, Reuse::On, Reuse::Off, Reuse::Puwsgi];
const IDLE: [usize; 2] = [0, 1];
const BOOL: [bool; 2] = [false, true];
const STATUS: [Option<u16>; 9] =
    [None, Some(0), Some(101), Some(199), Some(200), Some(204), Some(304), Some(404), Some(502)];
const SAID: [Said; 3] = [Said::Nothing, Said::KeepAlive, Said::Close];
const END: [End; 5] = [End::Clean, End::Open, End::Surplus, End::ByClose, End::Uncertain];
/// What was reached of a limit, and the limit: below, at and above it, and at both ends.
const USED: [(usize, usize); 6] =
    [(1, 1000), (999, 1000), (1000, 1000), (1001, 1000), (0, 0), (usize::MAX, usize::MAX)];

/// A connection that may carry another request.
const GOOD: Facts = Facts {
    reuse: Reuse::Auto,
    limits: Limits { idle: 32, requests: 1000, age: 3_600_000 },
    shared: true,
    exiting: false,
    failed: false,
    request_written: true,
    length_is_ours: true,
    head: false,
    status: Some(200),
    said: Said::KeepAlive,
    end: End::Clean,
    requests: 1,
    age: 0,
};

/// Calls `check` with everything that may be known.
fn all_facts(mut check: impl FnMut(&Facts)) {
    let mut facts = GOOD;
    for ((reuse, idle), shared) in product(&product(&REUSE, &IDLE), &BOOL) {
        (facts.reuse, facts.limits.idle, facts.shared) = (reuse, idle, shared);
        for ((exiting, failed), head) in product(&product(&BOOL, &BOOL), &BOOL) {
            (facts.exiting, facts.failed, facts.head) = (exiting, failed, head);
            for (written, ours) in product(&BOOL, &BOOL) {
                (facts.request_written, facts.length_is_ours) = (written, ours);
                for (status, (said, end)) in product(&STATUS, &product(&SAID, &END)) {
                    (facts.status, facts.said, facts.end) = (status, said, end);
                    for (requests, age) in product(&USED, &USED) {
                        (facts.requests, facts.limits.requests) = requests;
                        (facts.age, facts.limits.age) = age;
                        check(&facts);
                    }
                }
            }
        }
    }
}

fn product<A: Copy, B: Copy>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))).collect()
}

#[test]
fn a_connection_is_used_again_where_no_rule_is_against_it_and_the_first_that_is_is_named() {
    let mut seen = 0;
    let mut named: BTreeMap<Refusal, usize> = BTreeMap::new();
    let mut alone = BTreeSet::new();
    let mut reused = 0;
    all_facts(|facts| {
        let mut against = ORDER.into_iter().filter(|refusal| holds(*refusal, facts));
        let first = against.next();
        assert_eq!(verdict(facts).err(), first, "{facts:?}");
        match first {
            None => reused += 1,
            Some(refusal) => {
                *named.entry(refusal).or_default() += 1;
                if against.next().is_none() {
                    alone.insert(refusal);
                }
            }
        }
        seen += 1;
    });

    let bools = 1 << 6;
    let domains = [REUSE.len(), IDLE.len(), bools, STATUS.len(), SAID.len(), END.len(), 6, 6];
    assert_eq!(seen, domains.iter().product::<usize>());
    let all = BTreeSet::from(ORDER);
    assert_eq!(all.len(), ORDER.len(), "a reason is listed twice");
    assert!(named.keys().eq(&all), "named: {named:?}");
    // Each rule is needed: it alone keeps some connection from being used again.
    assert_eq!(alone, all);
    // auto with keep-alive, on and puwsgi with that or nothing; 5 statuses; one number of idle ones;
    // 2 counts that are below their limit, 5 ages that are not above theirs
    assert_eq!(reused, (1 + 2 + 2) * 5 * 2 * 5);
}

#[test]
fn reasons_are_declared_in_the_order_in_which_they_are_looked_for() {
    assert!(ORDER.is_sorted());
}

#[test]
fn every_reason_has_a_text_of_its_own() {
    let texts: BTreeSet<_> = ORDER.iter().map(Refusal::to_string).collect();
    assert_eq!(texts.len(), ORDER.len(), "{texts:?}");
    for text in &texts {
        // it stands at the end of a line in the log
        assert!(!text.is_empty() && text.trim() == text, "{text:?}");
        assert!(!text.ends_with('.') && text.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
    }
}

#[test]
fn only_an_operator_speaks_for_a_silent_server_and_nobody_against_one_that_says_close() {
    let verdicts = |said| REUSE.map(|reuse| verdict(&Facts { reuse, said, ..GOOD }).err());
    let (silent, close) = (Some(Refusal::DidNotSayKeepAlive), Some(Refusal::SaidClose));
    let off = Some(Refusal::Off);
    assert_eq!(verdicts(Said::KeepAlive), [None, None, off, None]);
    assert_eq!(verdicts(Said::Nothing), [silent, None, off, None]);
    assert_eq!(verdicts(Said::Close), [close, close, off, close]);
}

#[test]
fn an_interim_response_is_not_the_last_one() {
    for status in 100..200 {
        for reuse in REUSE {
            let facts = Facts { reuse, status: Some(status), ..GOOD };
            assert!(verdict(&facts).is_err(), "{facts:?}: the final response is on its way");
        }
    }
}

#[test]
fn a_connection_is_fresh_for_a_while_and_after_a_small_body() {
    const MAX: usize = usize::MAX;
    // (parked at, now, is it fresh?): milliseconds of a clock that wraps
    let times = [
        (0, 0, true),
        (0, 1, true),
        (0, FRESH - 1, true),
        (0, FRESH, true),
        (0, FRESH + 1, false),
        (0, MAX / 2, false),
        (7_000, 7_000 + FRESH, true),
        (7_000, 7_001 + FRESH, false),
        (MAX, MAX, true),
        (MAX, FRESH - 1, true),
        (MAX, FRESH, false),
        (MAX - FRESH, MAX, true),
        (MAX - FRESH, 0, false),
        (MAX - 9, FRESH - 10, true),
        (MAX - 9, FRESH - 9, false),
        // a clock that went back: nobody knows how long ago it was
        (1, 0, false),
        (FRESH, 0, false),
        (FRESH, FRESH - 1, false),
        (0, MAX, false),
        (MAX, MAX - 1, false),
    ];
    let bodies = [
        (0, true),
        (1, true),
        (SMALL_BODY - 1, true),
        (SMALL_BODY, true),
        (SMALL_BODY + 1, false),
        (u64::MAX, false),
    ];
    for ((at, now, recent), (body, small)) in product(&times, &bodies) {
        let left = LastUse { started_at: at, body, since: None };
        assert_eq!(left.is_fresh(now), recent && small, "{left:?} at {now}");
    }
}

/// What servers do, in milliseconds and bytes: the borders have to stay well below.
#[test]
fn fresh_is_less_than_the_shortest_idle_limit_and_small_less_than_what_is_read() {
    const SHORTEST_IDLE_LIMIT: usize = 1000;
    const UNREAD_BODY_THAT_GUNICORN_DROPS: u64 = 64 * 1024;
    const { assert!(FRESH > 0 && FRESH <= SHORTEST_IDLE_LIMIT / 2) }
    const { assert!(SMALL_BODY > 0 && SMALL_BODY < UNREAD_BODY_THAT_GUNICORN_DROPS) }
}

/// A worker that leaves waits for a server that closes soon, and not for others.
#[test]
fn patience() {
    use ngx_http_rs_uwsgi_module::pure::pool::policy::patience;
    assert_eq!(patience(0), Some(1000));
    assert_eq!(patience(2000), Some(3000));
    assert_eq!(patience(4000), Some(4500));
    assert_eq!(patience(4500), Some(4500));
    assert_eq!(patience(4501), None);
    assert_eq!(patience(usize::MAX), None);
}
