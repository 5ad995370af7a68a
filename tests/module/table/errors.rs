//! Every directive of the table written wrongly: too few and too many arguments, twice, in the
//! wrong place, with nonsense. Stock's verdict on the same text is the message expected.

use super::read::{self, Directive};
use super::rows::{row, Row, ROWS};
use crate::conf_errors::{same_verdict_in, same_verdict_on};
use crate::prelude::*;
use crate::support::programs::is_sanitized;

/// Values that make no sense for most directives.
const NONSENSE: [&str; 7] =
    ["nonsense", "-1", "\"\"", "1x", "99999999999999999999", "$nonsense", "@dir@/no/such/file"];

/// Values with a grammar of their own, wrong in ways of their own.
const WRONG: [(&str, &[&str]); 12] = [
    ("store_access", &["user", "user:", "user:x", "other:r", "user:rw user:r", "group:rw all:r"]),
    ("store", &["/a${", "/a$no_such_variable"]),
    (
        "bind",
        &["256.0.0.1", "127.0.0.1:99999", "127.0.0.1 transparently", "off transparent", "::1"],
    ),
    ("limit_rate", &["1x", "-1k", "1k 2k"]),
    ("cache", &["no_such_zone", "$no_such_variable", "${", "zone other"]),
    (
        "cache_path",
        &[
            "@dir@/c levels=1:2",
            "@dir@/c keys_zone=a",
            "@dir@/c keys_zone=:1m",
            "@dir@/c keys_zone=a:1",
            "@dir@/c keys_zone=a:x",
            "@dir@/c levels=1:2:2:2 keys_zone=a:1m",
            "@dir@/c levels=3 keys_zone=a:1m",
            "@dir@/c levels=0 keys_zone=a:1m",
            "@dir@/c keys_zone=a:1m inactive=x",
            "@dir@/c keys_zone=a:1m max_size=x",
            "@dir@/c keys_zone=a:1m min_free=x",
            "@dir@/c keys_zone=a:1m use_temp_path=maybe",
            "@dir@/c keys_zone=a:1m loader_files=x",
            "@dir@/c keys_zone=a:1m loader_sleep=x",
            "@dir@/c keys_zone=a:1m loader_threshold=x",
            "@dir@/c keys_zone=a:1m manager_files=x",
            "@dir@/c keys_zone=a:1m manager_sleep=x",
            "@dir@/c keys_zone=a:1m manager_threshold=x",
            "@dir@/c keys_zone=a:1m purger=on",
            "@dir@/cache keys_zone=zone:1m",
            "@dir@/c keys_zone=zone:2m",
        ],
    ),
    ("cache_valid", &["any", "200 x", "99 1m", "600 1m", "200", "x 1m", "any 1m 2m"]),
    ("cache_methods", &["GET GET", "get", "PATCH", "GET HEAD POST"]),
    ("cache_use_stale", &["error error", "non_idempotent", "http_404 http_502", "off error"]),
    ("cache_min_uses", &["0", "1k"]),
    ("cache_max_range_offset", &["1x", "-5"]),
    (
        "ssl_certificate_cache",
        &["max=0", "max=x", "inactive=1m", "max=1 valid=x", "off max=1", "max=1 x=2"],
    ),
];

/// Directives that are wrong, or strange, only together.
const TOGETHER: [&str; 9] = [
    "uwsgi_cache zone; uwsgi_store on;",
    "uwsgi_store on; uwsgi_cache zone;",
    "uwsgi_store off; uwsgi_cache zone;",
    "uwsgi_cache off; uwsgi_store on;",
    "uwsgi_cache zone;",
    "uwsgi_cache $host;",
    "uwsgi_cache zone; uwsgi_cache_key $no_such_variable;",
    "uwsgi_no_cache $arg_a; uwsgi_no_cache $arg_b;",
    "uwsgi_cache_valid 200 1m; uwsgi_cache_valid 200 302 2m;",
];

/// Where ours answers a wrong value otherwise than stock, on purpose: the directives, the one value
/// if it is only one, what is different, and the test that shows it.
pub const DIFFERENT: [(&[&str], Option<&str>, &str, &str); 3] = [
    (
        &["modifier1", "modifier2"],
        None,
        "what is neither a number nor a name nor a variable is refused in words of its own",
        "conf_errors::messages_of_our_own",
    ),
    (
        &["store"],
        Some("\"\""),
        "an empty path is refused on every version, not only since 1.27.3: nginx reads beyond it",
        "table::errors::an_empty_path_to_store_at",
    ),
    (
        &[],
        None,
        "of a wrong value the message also says what it must be; where stock says only `invalid value` or `invalid number`, the value is named",
        "table::errors::nonsense",
    ),
];

/// The rows that the nginx under test has, with what its table says.
fn directives() -> impl Iterator<Item = (&'static Row, &'static Directive)> {
    read::tables().stock.iter().map(|directive| (row(&directive.name), directive))
}

/// The http block with `text` in the innermost block where the directive may stand.
fn placed(directive: &Directive, text: &str) -> String {
    around(if directive.allowed_in("location") { "location" } else { "http" }, text)
}

fn around(block: &str, text: &str) -> String {
    let (location, http) = if block == "location" { (text, "") } else { ("", text) };
    // An nginx may be built without a cache.
    let zone = match read::tables().stock.iter().any(|directive| directive.name == "cache_path") {
        true => "uwsgi_cache_path @dir@/cache keys_zone=zone:1m;",
        false => "",
    };
    format!(
        "{zone}\n{http}\nserver {{\nlisten 127.0.0.1:@port@;\nlocation / {{\n{location}\n}}\n}}"
    )
}

fn check(directive: &Directive, arguments: &str) -> Check {
    let text = format!("uwsgi_{} {arguments};", directive.name);
    same_verdict_on(&placed(directive, &text), arguments)
}

fn assert_says(check: &Check, message: &str) {
    assert!(check.stderr.contains(message), "{message:?} expected, got {}", check.stderr);
}

/// So that a wrong value is what the other tests of this file are about.
#[test]
fn the_values_of_the_rows_are_right() {
    for (row, directive) in directives() {
        let check = check(directive, row.value);
        assert!(check.status.success(), "{} {}: {}", row.name, row.value, check.stderr);
    }
    assert!(ROWS.windows(2).all(|pair| pair[0].name != pair[1].name));
}

#[test]
fn too_few_and_too_many_arguments() {
    for (row, directive) in directives() {
        let (least, most) = directive.argument_counts();
        let words: Vec<_> = row.value.split(' ').collect();
        let mut wrong = vec![words[..least - 1].join(" ")];
        if let Some(most) = most {
            // Stock's largest number is not ours where the table of intended differences says so.
            let ours = super::intended(directive).argument_counts().1.unwrap_or(most);
            let mut many = words.clone();
            many.resize(ours + 1, "more");
            wrong.push(many.join(" "));
        }
        for arguments in wrong {
            let check = check(directive, &arguments);
            let name = &directive.name;
            assert_says(
                &check,
                &format!("invalid number of arguments in \"rs_uwsgi_{name}\" directive"),
            );
        }
    }
}

/// Most refuse a second one, some add to the first: as stock does.
#[test]
fn twice_in_one_block() {
    let mut duplicate = 0;
    for (row, directive) in directives() {
        let line = format!("uwsgi_{} {};", row.name, row.value);
        let check = same_verdict_on(&placed(directive, &format!("{line}\n{line}")), row.value);
        duplicate += usize::from(check.stderr.contains("is duplicate"));
    }
    assert!(duplicate > 40, "only {duplicate} directives refuse a second one");
}

#[test]
fn in_the_wrong_place() {
    /// A place's name in the table, and the http block with the directive in it. That the other
    /// places are stock's is what the table itself shows.
    const PLACES: [(&str, &str); 5] = [
        ("http", "@@"),
        ("server", "server {\n@@\n}"),
        ("location", "server {\nlocation / {\n@@\n}\n}"),
        ("upstream", "upstream app {\n@@\nserver 127.0.0.1:1;\n}"),
        ("if-in-location", "server {\nlocation / {\nif ($host) {\n@@\n}\n}\n}"),
    ];
    for (row, directive) in directives() {
        let line = format!("uwsgi_{} {};", row.name, row.value);
        let message = format!("\"rs_uwsgi_{}\" directive is not allowed here", row.name);
        for (place, block) in PLACES {
            if !directive.allowed_in(place) {
                assert_says(&same_verdict_on(&block.replace("@@", &line), ""), &message);
            }
        }
        let in_main = same_verdict_in(&line, "", |builder, line| builder.main(line));
        assert_says(&in_main, &message);
        let in_events = same_verdict_in(&line, "", |builder, line| {
            builder.main(&format!("events {{\n{line}\n}}"))
        });
        assert_says(&in_events, &message);
    }
}

#[test]
fn nonsense() {
    for (row, directive) in directives() {
        let least = directive.argument_counts().0;
        for value in NONSENSE {
            let different = DIFFERENT.iter().any(|(names, only, ..)| {
                names.contains(&row.name) && only.is_none_or(|only| only == value)
            });
            let is_fatal = is_sanitized() && reads_before_an_empty_path(row.name, value);
            if !different && !is_fatal {
                check(directive, &vec![value; least].join(" "));
            }
        }
    }
}

/// nginx's own setters of paths look at the last byte of one that is empty: `ngx_http_file_cache_set_slot`,
/// `ngx_conf_set_path_slot`. Stock's directives do so as well.
fn reads_before_an_empty_path(name: &str, value: &str) -> bool {
    ["cache_path", "temp_path"].contains(&name) && value == "\"\""
}

#[test]
fn an_empty_path_to_store_at() {
    let check = Nginx::builder().http("rs_uwsgi_store \"\";").check();
    assert_eq!(check.status.code(), Some(1));
    assert_says(&check, "empty path in \"rs_uwsgi_store\" directive in @dir@/nginx.conf:");
}

#[test]
fn wrong_values_of_their_own() {
    for (name, values) in WRONG {
        // A directive that this nginx does not have is unknown to both.
        for value in values {
            let block = if name == "cache_path" { "http" } else { "location" };
            same_verdict_on(&around(block, &format!("uwsgi_{name} {value};")), value);
        }
    }
}

#[test]
fn wrong_together() {
    for text in TOGETHER {
        for block in ["http", "location"] {
            same_verdict_on(&around(block, text), "");
        }
    }
}
