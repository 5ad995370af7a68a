//! `rs_uwsgi_keepalive…`, `rs_uwsgi_reuse`, `rs_uwsgi_queue` and its kin: values, inheritance, and users
//! of one upstream that contradict each other.

use super::{Site, GET, PARKED};
use crate::prelude::*;

/// Directive, valid values, invalid values, and what nginx says to these.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const NUMBERS: &[&str] = &["", "abc", "-1", "1k", "1.5", "1 2", "99999999999999999999", "$n"];
const TIMES: &[&str] = &["", "abc", "-1", "1x", "1.5s", "1s1m", "1 2", "99999999999999999999"];

const ROWS: &[Row] = &[
    ("rs_uwsgi_keepalive", &["0", "1", "32", "100000"], NUMBERS, "invalid number"),
    ("rs_uwsgi_keepalive_requests", &["1", "1000000"], NUMBERS, "invalid number"),
    ("rs_uwsgi_keepalive_timeout", &["1", "100ms", "1m30s", "1d"], TIMES, "invalid value"),
    ("rs_uwsgi_keepalive_time", &["1", "100ms", "1h", "365d"], TIMES, "invalid value"),
    (
        "rs_uwsgi_reuse",
        &["auto", "on", "off", "puwsgi", "Auto"],
        &["", "yes", "1", "auto on", "$r", "\"\""],
        "invalid value",
    ),
    ("rs_uwsgi_max_connections", LIMITS_OF_ALL_KINDS, LIMITS, "invalid value"),
    ("rs_uwsgi_queue", QUEUES_OF_ALL_KINDS, QUEUES, ""),
    ("rs_uwsgi_slow_start", &["0", "1", "100ms", "1m30s"], TIMES, "invalid value"),
    ("rs_uwsgi_connect_retry", &["0", "1", "100ms", "1m30s"], TIMES, "invalid value"),
];

/// Those that each location may say for its own.
const OWN: [&str; 2] = ["rs_uwsgi_queue", "rs_uwsgi_connect_retry"];

const LIMITS_OF_ALL_KINDS: &[&str] = &["0", "1", "100000", "auto", "auto:1-1", "auto:4-64"];

const LIMITS: &[&str] = &[
    "",
    "abc",
    "-1",
    "1.5",
    "1 2",
    "99999999999999999999",
    "$n",
    "auto:",
    "auto:4",
    "auto:4-",
    "auto:-8",
    "auto:0-8",
    "auto:8-4",
    "auto:4-8-9",
    "auto 4",
    "auto4-8",
];

const QUEUES_OF_ALL_KINDS: &[&str] = &[
    "0",
    "1",
    "5000",
    "1 timeout=1s",
    "0 timeout=1m30s",
    "1 order=fair",
    "1 order=arrival timeout=1s",
    "1 timeout=1s order=newest",
];

const QUEUES: &[&str] = &[
    "",
    "abc",
    "-1",
    "1.5",
    "timeout=1s",
    "1 2",
    "1 timeout=",
    "1 timeout=x",
    "1 timeout=-1",
    "1 timeout=1s 2",
    "1 timeouts=1s",
    "1 order=",
    "1 order=oldest",
    "1 order=fair order=fair",
    "1 timeout=1s timeout=2s",
    "1 timeout=1s order=fair 2",
    "$n",
];

const BLOCKS: [&str; 4] = ["http", "server", "location", "upstream"];

fn in_block(block: &str, text: &str) -> Check {
    let at = |name| if name == block { text } else { "" };
    Nginx::builder()
        .http(&format!(
            "{}\nupstream u {{\nserver 127.0.0.1:1;\n{}\n}}\n
             server {{ listen 127.0.0.1:@port@;\n{}\nlocation / {{\n{}\nrs_uwsgi_pass u;\n}}\n}}",
            at("http"),
            at("upstream"),
            at("server"),
            at("location")
        ))
        .check()
}

fn check(http: &str) -> Check {
    Nginx::builder().http(http).check()
}

#[test]
fn values() {
    for (directive, valid, invalid, message) in ROWS {
        for block in BLOCKS {
            for value in *valid {
                let check = in_block(block, &format!("{directive} {value};"));
                assert!(check.status.success(), "{directive} {value} in {block}: {}", check.stderr);
            }
        }
        for value in *invalid {
            for block in ["upstream", "location"] {
                let said = in_block(block, &format!("{directive} {value};"));
                let about = format!("{directive} {value} in {block}: {}", said.stderr);
                assert_eq!(said.status.code(), Some(1), "{about}");
                assert!(said.stderr.contains(&format!("\"{directive}\" directive")), "{about}");
                assert!(said.stderr.contains(" in @dir@/nginx.conf:"), "{about}");
                let words: Vec<_> = value.split(' ').filter(|word| !word.is_empty()).collect();
                let most = if *directive == "rs_uwsgi_queue" { 3 } else { 1 };
                let right_number = (1..=most).contains(&words.len());
                let expected = if right_number { message } else { "invalid number of arguments" };
                assert!(said.stderr.contains(expected), "{expected}? {about}");
                let named =
                    |word: &&str| said.stderr.contains(&format!("\"{}\"", word.trim_matches('"')));
                assert!(!right_number || words.iter().any(named), "{about}");
            }
        }
    }
}

#[test]
fn duplicates() {
    for (directive, valid, ..) in ROWS {
        for block in BLOCKS {
            let value = valid[0];
            let said = in_block(block, &format!("{directive} {value};\n{directive} {value};"));
            let expected = format!("\"{directive}\" directive is duplicate in @dir@/nginx.conf:");
            assert_eq!(said.status.code(), Some(1), "{directive} in {block}");
            assert!(said.stderr.contains(&expected), "{directive} in {block}: {}", said.stderr);
        }
    }
}

#[test]
fn contexts() {
    for (directive, valid, ..) in ROWS {
        let line = format!("{directive} {};", valid[0]);
        for http in [
            format!(
                "server {{ listen 127.0.0.1:@port@; location / {{ if ($arg_a) {{ {line} }} }} }}"
            ),
            format!("map $a $b {{ {line} }}"),
        ] {
            let said = check(&http);
            assert_eq!(said.status.code(), Some(1), "{http}");
        }
        let said = Nginx::builder().main(&line).check();
        assert!(said.stderr.contains("directive is not allowed here"), "{}", said.stderr);
    }
}

/// The configuration is refused, and the message names both lines.
fn contradict(http: &str, one: &str, other: &str) {
    let said = check(http);
    assert_eq!(said.status.code(), Some(1), "{http}\n{}", said.stderr);
    for directive in [one, other] {
        let line = 1 + line_of(http, directive);
        let named = format!("\"{directive}\" in @dir@/nginx.conf:");
        assert!(said.stderr.contains(&named), "{named}, line {line}?\n{}", said.stderr);
    }
    let places: Vec<_> = said.stderr.match_indices("@dir@/nginx.conf:").collect();
    assert_eq!(places.len(), 2, "{}", said.stderr);
    let numbers = places.iter().map(|(at, name)| {
        let digits = said.stderr[at + name.len()..].chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse::<usize>().unwrap()
    });
    let numbers: Vec<_> = numbers.collect();
    let distance = line_of(http, other).abs_diff(line_of(http, one));
    assert_eq!(numbers[0].abs_diff(numbers[1]), distance, "lines of {}", said.stderr);
    assert!(said.stderr.contains("contradict each other: upstream \""), "{}", said.stderr);
}

fn line_of(text: &str, directive: &str) -> usize {
    text.lines().position(|line| line.contains(&format!("{directive};"))).unwrap()
}

fn agree(http: &str) {
    let said = check(http);
    assert!(said.status.success(), "{http}\n{}", said.stderr);
}

/// Two locations of one server, in lines of their own.
fn locations(http: &str, server: &str, one: &str, other: &str) -> String {
    format!(
        "{http}\nserver {{\nlisten 127.0.0.1:@port@;\n{server}\n
         location /a {{\n{one}\n}}\nlocation /b {{\n{other}\n}}\n}}"
    )
}

#[test]
fn contradictions() {
    let address = "rs_uwsgi_pass 127.0.0.1:1;";
    let block = |settings: &str| format!("upstream u {{ server 127.0.0.1:1;\n{settings}\n}}");
    for (directive, valid, ..) in ROWS.iter().filter(|row| !OWN.contains(&row.0)) {
        let (here, there) =
            (format!("{directive} {}", valid[0]), format!("{directive} {}", valid[1]));
        let with = |line: &str, pass: &str| format!("{line};\n{pass}");
        let plain = address.to_string();

        // location and location, by address
        contradict(
            &locations("", "", &with(&here, address), &with(&there, address)),
            &here,
            &there,
        );
        agree(&locations("", "", &with(&here, address), &with(&here, address)));
        agree(&locations("", "", &with(&here, address), "rs_uwsgi_pass 127.0.0.1:2;"));
        // one inherits
        let http = format!("{here};");
        contradict(&locations(&http, "", &plain, &with(&there, address)), &here, &there);
        contradict(&locations("", &http, &with(&there, address), &plain), &there, &here);
        agree(&locations(&http, "", &plain, &with(&here, address)));
        // one says nothing, and takes what the other says
        agree(&locations("", "", &plain, &with(&here, address)));
        // of two servers
        let server = |settings: &str| {
            format!(
                "server {{\nlisten 127.0.0.1:@port@;\n{settings}\nlocation / {{ {address} }}\n}}"
            )
        };
        let two = format!("{}\n{}", server(&format!("{here};")), server(&format!("{there};")));
        contradict(&two, &here, &there);

        // upstream{} and location
        let pass = "rs_uwsgi_pass u;";
        let upstream = block(&format!("{here};"));
        contradict(&locations(&upstream, "", &with(&there, pass), pass), &here, &there);
        agree(&locations(&upstream, "", &with(&here, pass), pass));
        // upstream{} and server
        contradict(&locations(&upstream, &format!("{there};"), pass, pass), &here, &there);
        // "http" is a default
        agree(&locations(&format!("{there};\n{upstream}"), "", pass, pass));
        // location and location, by name
        let bare = block("");
        contradict(&locations(&bare, "", &with(&here, pass), &with(&there, pass)), &here, &there);
    }
}

#[test]
fn locations_that_differ_in_what_is_their_own() {
    for (directive, valid, ..) in ROWS.iter().filter(|row| OWN.contains(&row.0)) {
        let [here, there] = [0, 1].map(|n| format!("{directive} {}; rs_uwsgi_pass u;", valid[n]));
        let upstream = format!("upstream u {{ server 127.0.0.1:1; {directive} {}; }}", valid[2]);
        agree(&locations(&upstream, "", &here, &there));
    }
}

#[test]
fn inheritance() {
    let off = "reuse is off";
    for (http, server, location, upstream, verdict) in [
        ("", "", "", "", PARKED),
        ("rs_uwsgi_keepalive 0;", "", "", "", off),
        ("rs_uwsgi_keepalive 0;", "rs_uwsgi_keepalive 1;", "", "", PARKED),
        ("rs_uwsgi_keepalive 1;", "rs_uwsgi_keepalive 0;", "", "", off),
        ("", "rs_uwsgi_keepalive 0;", "rs_uwsgi_keepalive 1;", "", PARKED),
        ("", "", "rs_uwsgi_reuse off;", "", off),
        ("", "", "", "rs_uwsgi_reuse off;", off),
        ("rs_uwsgi_reuse off;", "", "", "rs_uwsgi_reuse auto;", PARKED),
        ("rs_uwsgi_reuse auto;", "", "", "rs_uwsgi_keepalive 0;", off),
        ("rs_uwsgi_keepalive 0;", "", "", "rs_uwsgi_reuse on;", off),
    ] {
        let site = Site::builder()
            .visits()
            .http(&format!("{http} upstream u {{ server @pass@; {upstream} }}"))
            .server(&format!("{server} location / {{ {location} rs_uwsgi_pass u; }}"))
            .start();
        let about = format!("{http} | {server} | {location} | {upstream}");
        assert_eq!(site.visit(GET).verdict, verdict, "{about}");
    }
}

#[test]
fn a_location_that_says_nothing_takes_what_others_of_the_upstream_say() {
    let site = Site::serve(
        "location / { rs_uwsgi_pass @pass@; }
         location /other { rs_uwsgi_pass @pass@; rs_uwsgi_keepalive_requests 1; }",
    );
    assert_eq!(site.visit(GET).verdict, "\"rs_uwsgi_keepalive_requests\" is reached");
}

#[test]
fn blocks_inside_of_a_location() {
    let site = Site::serve(
        "location / {
             rs_uwsgi_pass @pass@;
             rs_uwsgi_keepalive_requests 2;
             if ($arg_a) { set $b c; }
             limit_except GET { allow all; }
         }",
    );
    let visits = ["/", "/?a=1", "/"].map(|path| {
        site.visit(
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    });
    let verdicts = visits.each_ref().map(|visit| visit.verdict.as_str());
    assert_eq!(verdicts, [PARKED, "\"rs_uwsgi_keepalive_requests\" is reached", PARKED]);
}
