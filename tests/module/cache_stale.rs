//! The cache over time: out-of-date responses served and refreshed, and requests for the same
//! response that come at once.
//!
//! Mirrors uwsgi_cache_use_stale, _background_update, _revalidate and _lock.

use crate::cached::{
    answer, begin, cached, cached_in, end, packets, run, same_cache, summary, wire, Does,
    Does::Closes, Does::Nothing, Does::Says, Does::Stalls, Gate, Step, Valid, EXPIRED, NEW, SIDES,
    ZONE,
};
use crate::prelude::*;

/// What uwsgi_cache_use_stale knows, what the backend does for each, and what comes without it.
const FAULTS: [(&str, Does, &str); 8] = [
    ("error", Closes, "502 EXPIRED …"),
    ("timeout", Stalls, "504 EXPIRED …"),
    ("invalid_header", Says("\u{1}\n\n"), "502 EXPIRED …"),
    ("http_500", Says("HTTP/1.1 500 No\nContent-Length: 2\n\nno"), "500 EXPIRED no"),
    ("http_503", Says("Status: 503\nContent-Length: 2\n\nno"), "503 EXPIRED no"),
    ("http_403", Says("HTTP/1.1 403 No\nContent-Length: 2\n\nno"), "403 EXPIRED no"),
    ("http_404", Says("HTTP/1.1 404 No\nContent-Length: 2\n\nno"), "404 EXPIRED no"),
    ("http_429", Says("HTTP/1.1 429 No\nContent-Length: 2\n\nno"), "429 EXPIRED no"),
];

#[test]
fn stale_after_each_fault() {
    let words = FAULTS.map(|(word, _, _)| word);
    let all = format!("{} off", words.join(" "));
    let mut locations: String = words
        .map(|word| {
            format!("location /{word}/ {{ uwsgi_cache_use_stale {word}; uwsgi_pass @pass@; }}")
        })
        .concat();
    // "off" among other words wins; and it is the default.
    locations += &format!("location /all/ {{ uwsgi_cache_use_stale {all}; uwsgi_pass @pass@; }}");
    locations += "location /default/ { uwsgi_pass @pass@; }";
    let pair = cached(&format!(
        "uwsgi_cache uwsgi_zone; uwsgi_read_timeout 1s; uwsgi_next_upstream off; {locations}"
    ));
    for word in words.into_iter().chain(["all", "default"]) {
        for (fault, does, without) in FAULTS {
            // Time is short: each of these takes one.
            if fault == "timeout" && !["timeout", "error"].contains(&word) {
                continue;
            }
            let request = format!("GET /{word}/{fault}");
            let expected = if word == fault { "200 STALE old" } else { without };
            let steps: [Step; 2] =
                [(&request, Says(EXPIRED), "200 MISS old"), (&request, does, expected)];
            run(&pair, "use_stale", &steps);
        }
    }
    assert_eq!(same_cache(&pair, "uwsgi_cache").len(), 10 * FAULTS.len() - 8);
}

/// "error" is also when all servers are known to be down.
#[test]
fn stale_when_no_server_is_live() {
    let pair = cached_in(
        Nginx::builder().http("upstream dead { server 127.0.0.1:1 down; }"),
        ZONE,
        "uwsgi_cache uwsgi_zone; uwsgi_cache_key $uri;
        set $to @pass@; if ($arg_dead) { set $to dead; }
        location /error { uwsgi_cache_use_stale error; uwsgi_pass $to; }
        location /timeout { uwsgi_cache_use_stale timeout; uwsgi_pass $to; }",
    );
    let steps: [Step; 4] = [
        ("GET /error", Says(EXPIRED), "200 MISS old"),
        ("GET /error?dead=1", Nothing, "200 STALE old"),
        ("GET /timeout", Says(EXPIRED), "200 MISS old"),
        ("GET /timeout?dead=1", Nothing, "502 EXPIRED …"),
    ];
    run(&pair, "no live server", &steps);
}

/// The server's own permission, in Cache-Control.
#[test]
fn stale_if_error() {
    let pair = cached("uwsgi_cache uwsgi_zone; location / { uwsgi_pass @pass@; }");
    const GOOD: &str = "HTTP/1.1 200 OK\nCache-Control: max-age=1, stale-if-error=1000\n\
        Content-Length: 3\n\nold";
    run(&pair, "stale-if-error", &[("GET /a", Says(GOOD), "200 MISS old")]);
    wait_expired(&pair, "/a");
    let steps: [Step; 2] = [
        ("GET /a", Closes, "200 STALE old"),
        ("GET /a", Says("HTTP/1.1 404 No\nContent-Length: 2\n\nno"), "404 EXPIRED no"),
    ];
    run(&pair, "stale-if-error", &steps);
}

/// Waits until what the cache has for `path` is out of date on both sides; the backend closes
/// until then.
fn wait_expired(pair: &Pair, path: &str) {
    pair.backend.set_script(|peer| {
        peer.read_request()?;
        peer.close();
        Ok(())
    });
    for side in SIDES {
        wait_for("the response to expire", || {
            let verdict = summary(&get(pair.address(side), path));
            (!verdict.starts_with("200 HIT")).then_some(())
        });
    }
}

/// What each side's clients saw, and how often the backend was asked.
type Seen = (Vec<String>, usize);

/// Stock's result of `scene`, which must be ours, too.
fn same_on_both(pair: &Pair, scene: impl Fn(&Pair, Side) -> Seen) -> Seen {
    let [stock, ours] = SIDES.map(|side| scene(pair, side));
    assert_eq!(stock, ours, "left stock, right ours");
    stock
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn expired_in(pair: &Pair, side: Side, path: &str) {
    pair.backend.set_script(|peer| peer.answer(&answer(EXPIRED)));
    assert_eq!(summary(&get(pair.address(side), path)), "200 MISS old");
}

#[test]
fn updating() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone;
        location /stale { uwsgi_cache_use_stale updating; uwsgi_pass @pass@; }
        location /wait { uwsgi_pass @pass@; }",
    );
    for (path, second, asked) in
        [("/stale", "200 UPDATING old", 1), ("/wait", "200 EXPIRED new", 2)]
    {
        let seen = same_on_both(&pair, |pair, side| {
            expired_in(pair, side, path);
            let gate = Gate::new(pair, NEW, NEW);
            let mut first = begin(pair.address(side), path);
            gate.wait_asked(pair, 1);
            let second = summary(&get(pair.address(side), path));
            gate.open();
            (vec![end(&mut first), second], gate.asked(pair))
        });
        assert_eq!(seen, (texts(&["200 EXPIRED new", second]), asked), "{path}");
    }
}

#[test]
fn background_update() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_use_stale updating;
        location /on { uwsgi_cache_background_update on; uwsgi_pass @pass@; }
        location /off { uwsgi_cache_background_update off; uwsgi_pass @pass@; }",
    );
    let seen = same_on_both(&pair, |pair, side| {
        let to = pair.address(side);
        expired_in(pair, side, "/on");
        let gate = Gate::new(pair, NEW, EXPIRED);
        // The client does not wait for the server, which is asked all the same.
        let first = summary(&exchange(to, &wire("GET /on")));
        gate.wait_asked(pair, 1);
        let second = summary(&get(to, "/on"));
        gate.open();
        let last = wait_for("the update in the background", || {
            Some(summary(&get(to, "/on"))).filter(|seen| !seen.contains("UPDATING"))
        });
        (vec![first, second, last], gate.asked(pair))
    });
    assert_eq!(seen, (texts(&["200 STALE old", "200 UPDATING old", "200 HIT new"]), 1));

    let seen = same_on_both(&pair, |pair, side| {
        expired_in(pair, side, "/off");
        let gate = Gate::new(pair, NEW, EXPIRED);
        gate.open();
        (vec![summary(&get(pair.address(side), "/off"))], gate.asked(pair))
    });
    assert_eq!(seen, (texts(&["200 EXPIRED new"]), 1));
}

/// The server's own permission again: no uwsgi_cache_use_stale is needed.
#[test]
fn stale_while_revalidate() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_background_update on;
        location / { uwsgi_pass @pass@; }",
    );
    const GOOD: &str = "HTTP/1.1 200 OK\nCache-Control: max-age=1, stale-while-revalidate=1000\n\
        Content-Length: 3\n\nold";
    run(&pair, "stale-while-revalidate", &[("GET /a", Says(GOOD), "200 MISS old")]);
    let seen = same_on_both(&pair, |pair, side| {
        let gate = Gate::new(pair, NEW, NEW);
        let to = pair.address(side);
        let fresh_no_more = || Some(summary(&get(to, "/a"))).filter(|seen| !seen.contains("HIT"));
        let first = wait_for("the response to expire", fresh_no_more);
        gate.wait_asked(pair, 1);
        gate.open();
        let last = wait_for("the update in the background", || {
            Some(summary(&get(to, "/a"))).filter(|seen| seen.ends_with("new"))
        });
        (vec![first, last], gate.asked(pair))
    });
    assert_eq!(seen, (texts(&["200 STALE old", "200 HIT new"]), 1));
}

#[test]
fn revalidate() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 200 10m;
        location /on { uwsgi_cache_revalidate on; uwsgi_pass @pass@; }
        location /off { uwsgi_pass @pass@; }
        location /bare {
            uwsgi_cache_revalidate on; uwsgi_pass_request_headers off; uwsgi_pass @pass@;
        }
        location /own {
            uwsgi_cache_revalidate on;
            uwsgi_param HTTP_IF_NONE_MATCH \"own\";
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_pass @pass@;
        }",
    );
    const OLD: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: @1\nETag: \"one\"\n\
        Last-Modified: Mon, 28 Sep 1970 06:00:00 GMT\nContent-Length: 3\n\nold";
    const SAME: &str = "HTTP/1.1 304 Not Modified\nX-Accel-Expires: 30\nX-New: 1\n\n";
    const SAME_BY_DEFAULT: &str = "Status: 304 Not Modified\n\n";
    let steps: [Step; 14] = [
        ("GET /on\nIf-None-Match: \"client\"", Says(OLD), "200 MISS old"),
        ("GET /on\nIf-None-Match: \"client\"", Says(SAME), "200 REVALIDATED old"),
        ("GET /on", Nothing, "200 HIT old"),
        ("GET /on\nIf-None-Match: \"one\"", Nothing, "304 HIT "),
        ("GET /on?2", Says(OLD), "200 MISS old"),
        ("GET /on?2\nIf-None-Match: \"one\"", Says(SAME_BY_DEFAULT), "304 REVALIDATED "),
        ("GET /on?3", Says(OLD), "200 MISS old"),
        ("GET /on?3", Says(NEW), "200 EXPIRED new"),
        ("GET /off", Says(OLD), "200 MISS old"),
        ("GET /off", Says(NEW), "200 EXPIRED new"),
        ("GET /bare", Says(OLD), "200 MISS old"),
        ("GET /bare", Says(SAME), "200 REVALIDATED old"),
        ("GET /own", Says(OLD), "200 MISS old"),
        ("GET /own", Says(SAME), "200 REVALIDATED old"),
    ];
    let outcomes = run(&pair, "revalidate", &steps);
    let date = "Mon, 28 Sep 1970 06:00:00 GMT";
    let asked: [(usize, Option<&str>, Option<&str>); 6] = [
        (0, None, None),
        (1, Some("\"one\""), Some(date)),
        (7, Some("\"one\""), Some(date)),
        (9, None, None),
        (11, Some("\"one\""), Some(date)),
        (13, Some("own"), Some(date)),
    ];
    for (index, etag, modified) in asked {
        let packet = packets(&outcomes[index]).remove(0);
        let get = |name: &str| packet.get(name).filter(|value| !value.is_empty());
        assert_eq!(get("HTTP_IF_NONE_MATCH").as_deref(), etag, "{index}");
        assert_eq!(get("HTTP_IF_MODIFIED_SINCE").as_deref(), modified, "{index}");
    }
    let files = same_cache(&pair, "uwsgi_cache");
    let valid = |uri: &str| files.values().find(|file| file.key() == uri).unwrap().valid;
    assert_eq!(valid("/on"), Valid::For(30));
    // Where the 304 says nothing, what the kept response says decides again.
    assert_eq!(valid("/on?2"), Valid::At(1));
}

/// Two requests for what the cache does not have: with the lock the second waits for the first
/// one's response, at most for the lock's timeout, and for no more than the age of the first.
#[test]
fn lock() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone;
        location /off { uwsgi_pass @pass@; }
        location /on { uwsgi_cache_lock on; uwsgi_pass @pass@; }
        location /timeout {
            uwsgi_cache_lock on; uwsgi_cache_lock_timeout 50ms; uwsgi_pass @pass@;
        }
        location /age {
            uwsgi_cache_lock on; uwsgi_cache_lock_age 50ms; uwsgi_pass @pass@;
        }",
    );
    const FIRST: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: 600\nContent-Length: 3\n\n1st";
    const LATER: &str = "HTTP/1.1 200 OK\nX-Accel-Expires: 600\nContent-Length: 3\n\n2nd";
    // What the first, the second, and then a third client see, and how often the backend is asked;
    // whether the second waits for the first.
    let cases: [(&str, [&str; 3], usize, bool); 4] = [
        ("/off", ["200 MISS 1st", "200 MISS 2nd", "200 HIT 1st"], 2, false),
        ("/on", ["200 MISS 1st", "200 HIT 1st", "200 HIT 1st"], 1, true),
        ("/timeout", ["200 MISS 1st", "200 MISS 2nd", "200 HIT 1st"], 2, false),
        ("/age", ["200 MISS 1st", "200 MISS 2nd", "200 HIT 1st"], 2, false),
    ];
    for (path, expected, asked, waits) in cases {
        let seen = same_on_both(&pair, |pair, side| {
            let to = pair.address(side);
            let gate = Gate::new(pair, FIRST, LATER);
            let mut first = begin(to, path);
            gate.wait_asked(pair, 1);
            let mut second = begin(to, path);
            let second_seen = (!waits).then(|| end(&mut second));
            if path == "/age" {
                // The second took the lock over, and its response is kept at once.
                assert_eq!(summary(&get(to, path)), "200 HIT 2nd", "{side:?}");
            }
            gate.open();
            let first_seen = end(&mut first);
            let second_seen = second_seen.unwrap_or_else(|| end(&mut second));
            (vec![first_seen, second_seen, summary(&get(to, path))], gate.asked(pair))
        });
        assert_eq!(seen, (texts(&expected), asked), "{path}");
    }
}
