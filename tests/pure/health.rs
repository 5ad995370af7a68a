//! What is known of a server's health against a list of all results; leases, shares, what answers say and
//! what a check's parameters are.

use std::sync::atomic::AtomicU64;

use ngx_http_rs_uwsgi_module::pure::health::{
    is_in_share, pause, Check, Failure, Kind, Lease, Reading, Rules, Server, State, FULL, WORDS,
};
use proptest::collection::vec;
use proptest::prelude::*;

use ngx_http_rs_uwsgi_module::pure::uwsgi::packet::HEADER_SIZE;
use ngx_http_rs_uwsgi_module::pure::uwsgi::vars::Vars;

fn words() -> [AtomicU64; WORDS] {
    [const { AtomicU64::new(0) }; WORDS]
}

fn time(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_suffix("ms") {
        Some(number) => number.parse().ok(),
        None => text.strip_suffix('s')?.parse::<usize>().ok().map(|time| time * 1000),
    }
}

fn parse(text: &str) -> Result<Check, String> {
    Check::parse(text.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes), time)
}

/// The state after these results, looked at from the last back to the one that decided.
fn model(results: &[bool], rules: Rules) -> State {
    let mut state = State::Checking;
    for end in 1..=results.len() {
        let run = |passed| {
            results[..end].iter().rev().take_while(|result| **result == passed).count() as u32
        };
        state = match state {
            State::Checking if run(true) > 0 => State::Up,
            State::Down if run(true) >= rules.passes => State::Up,
            State::Checking | State::Up if run(false) >= rules.fails => State::Down,
            state => state,
        };
    }
    state
}

proptest! {
    #[test]
    fn the_state_is_what_the_results_say(
        fails in 1..5u32,
        passes in 1..5u32,
        results in vec((any::<bool>(), 1..100u64), 0..60),
    ) {
        let (words, rules) = (words(), Rules { fails, passes });
        let server = Server::new(&words);
        let (mut now, mut since, mut seen, mut downs) = (1000, 0, Vec::new(), 0);
        for (passed, later) in results {
            now += later;
            let before = server.state();
            seen.push(passed);
            let change = server.record((!passed).then_some(3), rules, now);
            prop_assert_eq!(server.state(), model(&seen, rules));
            prop_assert_eq!(change.is_some(), before != server.state());
            if let Some(change) = change {
                prop_assert_eq!((change.from, change.to), (before, server.state()));
                let lasted = (before != State::Checking).then(|| now - since);
                prop_assert_eq!(change.lasted, lasted);
                prop_assert_eq!(change.run, match (before, passed) {
                    (State::Checking, true) => 1,
                    (_, true) => passes,
                    (_, false) => fails,
                });
                since = now;
                downs += u64::from(change.to == State::Down);
            }
            let report = server.report();
            prop_assert_eq!((report.since, report.probes), (since, seen.len() as u64));
            let failed = seen.iter().filter(|passed| !**passed).count() as u64;
            prop_assert_eq!((report.failed, report.downs), (failed, downs));
            prop_assert_eq!(report.last, Some((now, if passed { 0 } else { 3 })));
        }
    }

    /// Workers come and go, and ask for the lease at any time: one has it, and it is never without one for
    /// longer than it lasts.
    #[test]
    fn one_worker_has_the_lease(
        steps in vec((0..4usize, 0..30u64, 1..50u64, any::<bool>()), 1..80),
    ) {
        let words = words();
        let server = Server::new(&words);
        let (mut now, mut has) = (1, None);
        for (worker, later, length, leaves) in steps {
            now += later;
            let held = has.filter(|(_, until)| *until > now);
            match server.hold(worker, now, now + length) {
                Lease::Held => {
                    prop_assert!(held.is_none_or(|(holder, _)| holder == worker));
                    has = Some((worker, now + length));
                }
                Lease::Wait(wait) => {
                    let Some((holder, until)) = held else {
                        return Err(TestCaseError::fail("nobody has it"));
                    };
                    prop_assert_ne!(holder, worker);
                    prop_assert_eq!(wait, until - now);
                }
            }
            if leaves {
                server.let_go(worker);
                has = has.filter(|(holder, _)| *holder != worker);
            }
        }
    }

    #[test]
    fn of_many_requests_a_share_gets_its_part(first in any::<u32>(), share in 0..=FULL) {
        let first = u64::from(first);
        let count = (first..first + 1000).filter(|number| is_in_share(*number, share)).count();
        prop_assert!(count.abs_diff(share as usize) <= 5, "{} of {}", count, share);
    }

    #[test]
    fn the_share_grows_with_the_time(slow_start in 1..10_000u64, times in vec(0..12_000u64, 1..20)) {
        let (words, rules) = (words(), Rules { fails: 1, passes: 1 });
        let server = Server::new(&words);
        server.record(Some(1), rules, 500);
        server.record(None, rules, 1000);
        let mut times = times;
        times.sort_unstable();
        let mut last = 0;
        for time in times {
            let share = server.share(slow_start, 1000 + time);
            prop_assert!(share >= last && share <= FULL);
            prop_assert_eq!(share == FULL, time >= slow_start);
            prop_assert_eq!(server.share(0, 1000 + time), FULL);
            last = share;
        }
    }

    #[test]
    fn pauses_are_between_their_bounds(interval in 0..9u64, jitter in 0..9u64, random: u64) {
        prop_assert!((interval..=interval + jitter).contains(&pause(interval, jitter, random)));
    }

    /// Whatever comes: no panic, a decision at the end, and that of a response stays.
    #[test]
    fn any_answer_is_read(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..200),
            vec(prop::sample::select(&b"HTP/1. 2045\r\nStatus:d\0"[..]), 0..200),
            "(HTTP/1.[01] [0-9]{3} x\r\n)?([A-Za-z-]{1,9}: ?[a-z0-9]{0,5}\r?\n){0,3}\r\n[a-z]{0,9}"
                .prop_map(String::into_bytes),
        ],
    ) {
        for check in [parse("").unwrap(), parse("ping").unwrap(), parse("uri=/").unwrap()] {
            prop_assert_ne!(check.read(&bytes, true), Reading::More);
            let mut decided = None;
            for end in 0..=bytes.len() {
                let reading = check.read(&bytes[..end], false);
                if check.kind == Kind::Uri {
                    if let Some(decided) = &decided {
                        prop_assert_eq!(&reading, decided);
                    } else if reading != Reading::More {
                        decided = Some(reading);
                    }
                }
            }
        }
    }
}

#[test]
fn a_server_that_was_never_down_has_its_whole_share() {
    let (words, rules) = (words(), Rules { fails: 1, passes: 1 });
    let server = Server::new(&words);
    assert_eq!(server.share(1000, 1), FULL);
    server.record(None, rules, 5);
    assert_eq!(server.share(1000, 6), FULL, "it was up from the beginning");
}

#[test]
fn without_words_nothing_is_known() {
    let server = Server::<AtomicU64>::new(&[]);
    assert_eq!(server.record(Some(1), Rules { fails: 1, passes: 1 }, 1), None);
    assert_eq!(server.state(), State::Checking);
    assert_eq!(server.hold(1, 1, 2), Lease::Held);
}

#[test]
fn requests_that_fail_count_as_probes_that_do() {
    let (words, rules) = (words(), Rules { fails: 2, passes: 1 });
    let server = Server::new(&words);
    server.record(None, rules, 1);
    assert_eq!(server.failed(rules, 2), None);
    assert_eq!(server.failed(rules, 3).map(|change| change.to), Some(State::Down));
    assert_eq!(server.report().probes, 1);
}

#[test]
fn answers_to_pings() {
    let check = parse("ping").unwrap();
    assert_eq!(check.packet, [100, 0, 0, 0]);
    let failed = Reading::Failed;
    for (bytes, open, ended) in [
        (&b""[..], Reading::More, Reading::Reached),
        (b"d\0", Reading::More, failed(Failure::Closed)),
        (b"d\0\0\x01", Reading::Passed, Reading::Passed),
        (b"d\0\0\x01x", failed(Failure::NotPong), failed(Failure::NotPong)),
        (b"d\x03\0\x01", Reading::More, failed(Failure::Warning(b"".into()))),
        (b"d\x03\0\x01wa", Reading::More, failed(Failure::Warning(b"wa".into()))),
        (
            b"d\x03\0\x01war",
            failed(Failure::Warning(b"war".into())),
            failed(Failure::Warning(b"war".into())),
        ),
        (b"d\0\0\0", failed(Failure::NotPong), failed(Failure::NotPong)),
        (b"HTTP/1.1 400 Bad", failed(Failure::NotPong), failed(Failure::NotPong)),
    ] {
        let about = bytes.escape_ascii();
        assert_eq!((check.read(bytes, false), check.read(bytes, true)), (open, ended), "{about}");
    }
}

#[test]
fn answers_to_requests() {
    let check = parse("uri=/ status=200-299,404").unwrap();
    let status = |status| Reading::Failed(Failure::Status(status));
    let not = || Reading::Failed(Failure::NotResponse);
    for (text, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Reading::Passed),
        ("HTTP/1.1 200 OK\r\nA: b\r\n", Reading::Failed(Failure::Closed)),
        ("HTTP/1.1 404 Not\r\n\r\n", Reading::Passed),
        ("HTTP/1.1 302 Found\r\n\r\n", status(302)),
        ("HTTP/1.0 500 No\r\nA: b\r\n\r\nbody", status(500)),
        ("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Reading::Passed),
        ("HTTP/1.1 103 Hints\r\n\r\n", Reading::Failed(Failure::Closed)),
        ("HTTP/1.1 099 X\r\n\r\n", not()),
        ("HTTP/1.1 600 X\r\n\r\n", not()),
        ("Status: 503 No\r\n\r\n", status(503)),
        ("Location: /x\r\nStatus: 200 OK\r\n\r\n", Reading::Passed),
        ("Content-Type: text/plain\r\n\r\n", Reading::Passed),
        ("Content-Type: text/plain\r\nLocation: /x\r\n\r\n", status(302)),
        ("hello\n\n", not()),
        ("<html>\0", not()),
        ("", Reading::Failed(Failure::Closed)),
    ] {
        assert_eq!(check.read(text.as_bytes(), true), expected, "{text:?}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'x'; 8000]].concat();
    assert_eq!(check.read(&endless[..4000], false), Reading::More);
    assert_eq!(check.read(&endless[..4096], false), Reading::Failed(Failure::TooLarge));
}

#[test]
fn parameters() {
    let check = parse("").unwrap();
    assert_eq!((check.kind, check.interval, check.timeout), (Kind::Connect, 5000, 1000));
    assert_eq!((check.jitter, check.mandatory), (0, false));
    assert_eq!(check.rules, Rules { fails: 3, passes: 2 });
    let check =
        parse("ping interval=100ms jitter=1s timeout=2s fails=1 passes=7 mandatory").unwrap();
    assert_eq!((check.kind, check.interval, check.jitter), (Kind::Ping, 100, 1000));
    assert_eq!((check.timeout, check.rules), (2000, Rules { fails: 1, passes: 7 }));
    assert!(check.mandatory);
    assert_eq!(parse("uri=/a status=200-299,404").unwrap().statuses, [(200, 299), (404, 404)]);
    for wrong in [
        "pong",
        "ping=1",
        "ping ping",
        "mandatory=1",
        "ping uri=/",
        "uri=",
        "uri=a",
        "uri=/#x",
        "uri=/%",
        "uri=/%4",
        "uri=/%zz",
        "uri=/ü",
        "uri=/ uri=/",
        "interval=",
        "interval=x",
        "interval=1ms",
        "interval=86401s",
        "interval=5s interval=5s",
        "timeout=0s",
        "jitter=x",
        "fails=0",
        "fails=-1",
        "fails=+1",
        "fails=1001",
        "fails=",
        "passes=x",
        "passes=1 passes=1",
        "uri=/ status=",
        "uri=/ status=99",
        "uri=/ status=600",
        "uri=/ status=300-200",
        "uri=/ status=2xx",
        "uri=/ status=200-",
        "uri=/ status=200,",
        "uri=/ host=",
        "uri=/ header=",
        "uri=/ header=:x",
        "uri=/ header=A",
        "uri=/ header=A\x01:x",
        "uri=/ header=Host:x",
        "uri=/ header=Content-Length:1",
        "status=200",
        "header=A:b",
        "ping host=a",
        "=",
        "uri",
        "interval",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let large = format!("uri=/ header=A:{}", "x".repeat(70_000));
    assert!(parse(&large).unwrap_err().contains("bytes of vars"));
}

#[test]
fn the_request_of_a_probe() {
    let check = parse("uri=/a%20b/%c3?x=%20 host=example.org:81 header=X-Key:k header=X-Key:l");
    let packet = check.unwrap().packet;
    let (header, rest) = packet.split_at(HEADER_SIZE);
    let [low, high] = (rest.len() as u16).to_le_bytes();
    assert_eq!(header, [0, low, high, 0]);
    let vars: Vec<_> = Vars::new(rest).map(Result::unwrap).collect();
    let of = |name: &str| {
        let all = vars.iter().filter(|(var, _)| *var == name.as_bytes());
        all.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    for (name, value) in [
        ("REQUEST_METHOD", &b"GET"[..]),
        ("REQUEST_URI", b"/a%20b/%c3?x=%20"),
        ("PATH_INFO", b"/a b/\xc3"),
        ("QUERY_STRING", b"x=%20"),
        ("CONTENT_LENGTH", b""),
        ("SERVER_NAME", b"example.org"),
        ("HTTP_HOST", b"example.org:81"),
        ("HTTP_X_RS_UWSGI_HEALTH_CHECK", b"1"),
        ("HTTP_CONNECTION", b"close"),
    ] {
        assert_eq!(of(name), [value], "{name}");
    }
    assert_eq!(of("HTTP_X_KEY"), [b"k", b"l"]);
}

#[test]
fn the_request_of_a_place() {
    use ngx_http_rs_uwsgi_module::pure::health::request::{Made, Param, Place};
    let check = parse("uri=/app/x?y").unwrap();
    let param = |name: &'static str, value: &'static str| Param {
        name: name.as_bytes(),
        value: value.as_bytes(),
        if_not_empty: false,
    };
    let place = Place {
        params: vec![
            param("A", "a $document_uri ${args}b"),
            param("B", "$request_id"),
            param("C", "${unclosed"),
            param("D", "$1"),
            param("E", "$document_root/x"),
            param("F", "$server_name $host $http_host"),
            param("PATH_INFO", "$uri"),
        ],
        server_name: Some(b"_"),
        document_root: None,
        mount: Some(b"/app"),
        string: b"\x01\0G\x01\0g",
        modifiers: (5, 6),
    };
    let Made { packet, left_out } = check.target.clone().unwrap().request(&place).unwrap();
    assert_eq!(left_out, [b"B", b"C", b"D", b"E"]);
    assert_eq!((packet[0], packet[3]), (5, 6));
    let vars: Vec<_> = Vars::new(&packet[HEADER_SIZE..]).map(Result::unwrap).collect();
    let mut expected = [
        (&b"A"[..], &b"a /app/x yb"[..]),
        (b"F", b"_ localhost localhost"),
        (b"PATH_INFO", b"/x"),
        (b"SCRIPT_NAME", b"/app"),
        (b"HTTP_HOST", b"localhost"),
        (b"HTTP_X_RS_UWSGI_HEALTH_CHECK", b"1"),
        (b"HTTP_CONNECTION", b"close"),
        (b"G", b"g"),
    ]
    .to_vec();
    assert_eq!(vars, expected);
    // a location of a server with a name
    let named = Place { server_name: Some(b"app.test"), mount: None, ..place };
    let (check, _) = check.placed(&named).unwrap();
    let vars: Vec<_> = Vars::new(&check.packet[HEADER_SIZE..]).map(Result::unwrap).collect();
    expected[1].1 = b"app.test app.test app.test";
    assert!(vars.contains(&expected[1]), "{vars:?}");
}
