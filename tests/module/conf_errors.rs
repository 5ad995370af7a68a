//! Wrong configuration values: an nginx-style message with directive, value, file and line, and
//! never a crash. Where stock has the directive, the message expected is what stock says to the
//! same text.

use crate::prelude::*;

/// Directives with a valid value each, in stock's names without `uwsgi_`.
const DIRECTIVES: [(&str, &str); 28] = [
    ("modifier1", "0"),
    ("modifier2", "0"),
    ("param", "A b"),
    ("string", "s"),
    ("buffering", "on"),
    ("request_buffering", "on"),
    ("ignore_client_abort", "on"),
    ("pass_request_headers", "on"),
    ("pass_request_body", "on"),
    ("intercept_errors", "on"),
    ("connect_timeout", "1s"),
    ("send_timeout", "1s"),
    ("read_timeout", "1s"),
    ("next_upstream_timeout", "1s"),
    ("next_upstream_tries", "2"),
    ("buffer_size", "8k"),
    ("buffers", "8 8k"),
    ("busy_buffers_size", "16k"),
    ("max_temp_file_size", "1m"),
    ("temp_file_write_size", "64k"),
    ("temp_path", "@dir@/temp/other 1 2"),
    ("next_upstream", "error http_500"),
    ("pass_header", "Server"),
    ("hide_header", "X-A"),
    ("ignore_headers", "Vary"),
    ("max_temp_file_size", "0"),
    ("next_upstream", "off"),
    ("read_timeout", "100ms"),
];

const FLAGS: [&str; 6] = [
    "buffering",
    "request_buffering",
    "ignore_client_abort",
    "pass_request_headers",
    "pass_request_body",
    "intercept_errors",
];
const TIMES: [&str; 4] =
    ["connect_timeout", "send_timeout", "read_timeout", "next_upstream_timeout"];
const SIZES: [&str; 4] =
    ["buffer_size", "busy_buffers_size", "max_temp_file_size", "temp_file_write_size"];

const WRONG_FLAGS: [&str; 6] = ["", "maybe", "1", "\"\"", "on off", "$flag"];
const WRONG_TIMES: [&str; 10] =
    ["", "abc", "-1", "1x", "1.5s", "\"\"", "1 2", "1s1m", "99999999999999999999", "$time"];
const WRONG_SIZES: [&str; 9] =
    ["", "abc", "-1", "1x", "1.5k", "\"\"", "1k 2k", "5g", "99999999999999999999"];

/// Other directives with values that stock refuses or accepts in a way of its own.
const ROWS: [(&str, &[&str]); 16] = [
    ("next_upstream_tries", &["", "abc", "-1", "1k", "\"\"", "1 2", "99999999999999999999"]),
    (
        "buffers",
        &["", "8", "8 4k 4k", "0 4k", "1 4k", "8 0", "x 4k", "8 x", "-1 4k", "2 4k", "8 1"],
    ),
    ("next_upstream", &["", "sometimes", "http_502", "error error", "off error", "\"\"", "ERROR"]),
    ("ignore_headers", &["", "X-Else", "Vary Vary", "\"\"", "vary"]),
    ("hide_header", &["", "a b"]),
    ("pass_header", &["", "a b"]),
    ("string", &["", "a b"]),
    (
        "param",
        &[
            "",
            "A",
            "A b c",
            "A b if_not_empty x y",
            "A $no_such_variable",
            "A ${",
            "A \"${x\"",
            "A $",
            "A b IF_NOT_EMPTY",
        ],
    ),
    ("temp_path", &["", "/x 1 2 3 4", "/x 9 9 9", "/x a", "/x 0", "/x 1 a"]),
    ("buffer_size", &["64k"]),
    ("busy_buffers_size", &["1k", "64k"]),
    ("temp_file_write_size", &["1k"]),
    ("max_temp_file_size", &["1k"]),
    ("modifier1", &["", "1 2"]),
    ("modifier2", &["", "1 2"]),
    ("no_such_directive", &["on"]),
];

/// Combinations that only the end of a block shows to be wrong.
const CROSS_CHECKS: [&str; 7] = [
    "uwsgi_buffers 4 4k; uwsgi_busy_buffers_size 16k;",
    "uwsgi_buffers 4 4k; uwsgi_buffer_size 16k;",
    "uwsgi_buffers 2 8k;",
    "uwsgi_buffer_size 64k; uwsgi_buffers 8 64k; uwsgi_temp_file_write_size 32k;",
    "uwsgi_buffer_size 64k; uwsgi_buffers 8 64k; uwsgi_max_temp_file_size 32k;",
    "uwsgi_buffer_size 64k; uwsgi_buffers 8 64k; uwsgi_busy_buffers_size 32k;",
    "uwsgi_buffers 3 4k; uwsgi_busy_buffers_size 8k; uwsgi_buffer_size 4k;",
];

const WRONG_ADDRESSES: [&str; 25] = [
    "",
    "a b",
    "unix:",
    "127.0.0.1:99999",
    "127.0.0.1:0",
    "127.0.0.1:x",
    "127.0.0.1:",
    "[::1:80",
    "[::1]:x",
    "[zz]:1",
    "[::1]",
    "uwsgi://",
    "uwsgi://127.0.0.1:x",
    "UWSGI://127.0.0.1:x",
    ":8080",
    "1.2.3.4:5:6",
    "127.0.0.1:80/x",
    "127.0.0.1",
    "$no_such_variable",
    "${",
    "unix:/a:/b",
    "\"\"",
    "http://127.0.0.1:1",
    "unix:$no_such_variable",
    "127.0.0.1:-1",
];

/// The lines without what a value must be: stock says it of some, ours of all, `messages_name_what_is_valid`.
pub fn without_remedies(stderr: &str) -> String {
    let without = |line: &str| {
        let begin = line.find(", it must be ")?;
        let end = begin + line[begin..].find(" in @dir@/")?;
        Some(format!("{}{}", &line[..begin], &line[end..]))
    };
    let lines = stderr.split_inclusive('\n');
    lines.map(|line| without(line).unwrap_or_else(|| line.to_string())).collect()
}

/// `http` is in stock's names. Stock and ours must agree in status and message; returns ours.
fn same_verdict(http: &str) -> Check {
    same_verdict_on(http, "")
}

/// As `same_verdict`; where stock says only that a value is invalid, ours says which.
pub fn same_verdict_on(http: &str, value: &str) -> Check {
    same_verdict_in(http, value, |builder, text| builder.http(text))
}

/// As `same_verdict_on`, with a configuration that `build` makes of the text.
pub fn same_verdict_in(http: &str, value: &str, build: fn(Builder, &str) -> Builder) -> Check {
    let stock = build(Nginx::builder().without_module(), http).check();
    let ours = build(Nginx::builder(), &translated(http)).check();
    assert!(
        ours.status.code().is_some(),
        "nginx -t crashed: {:?} on\n{http}\n{}",
        ours.status,
        ours.stderr
    );
    let mut expected = without_remedies(&translated(&stock.stderr));
    for unsaid in ["directive invalid value", "directive invalid number"] {
        let words = value.split(' ').map(|word| format!("\"{}\"", word.trim_matches('"')));
        let words = words.collect::<Vec<_>>().join(" ");
        expected = expected.replace(&format!("{unsaid} in"), &format!("{unsaid} {words} in"));
    }
    // stock has no word about parameters with which applications fail
    let of_ours = |line: &&str| !line.contains("no \"rs_uwsgi_param\" REQUEST_METHOD");
    let said: String = ours.stderr.split_inclusive('\n').filter(of_ours).collect();
    let said = without_remedies(&said);
    assert_eq!(expected, said, "left expected after stock, right ours, for\n{http}");
    assert_eq!(stock.status.code(), ours.status.code(), "{http}");
    // nginx finds unknown variables only after it has read everything, and then uses what it read.
    let read = ["unknown \"", "syntax is ok"].iter().any(|said| ours.stderr.contains(said));
    if !ours.status.success() && !read {
        assert!(ours.stderr.contains(" in @dir@/nginx.conf:"), "no place: {}", ours.stderr);
    }
    tally::compared();
    ours
}

/// A configuration with `text` in the http, server or location block.
pub fn in_block(block: &str, text: &str) -> String {
    let at = |name| if name == block { text } else { "" };
    format!(
        "{}\nserver {{\nlisten 127.0.0.1:@port@;\n{}\nlocation / {{\n{}\nuwsgi_pass unix:/tmp/s;\n}}\n}}",
        at("http"), at("server"), at("location")
    )
}

fn all_same(directives: &[&str], values: &[&str]) {
    for directive in directives {
        for value in values {
            same_verdict_on(&in_block("location", &format!("uwsgi_{directive} {value};")), value);
        }
    }
}

#[test]
fn valid_values_everywhere() {
    for (directive, value) in DIRECTIVES {
        for block in ["http", "server", "location"] {
            // The harness sets the path at the http level itself.
            if (directive, block) != ("temp_path", "http") {
                let text = in_block(block, &format!("uwsgi_{directive} {value};"));
                let check = same_verdict(&text);
                assert!(check.status.success(), "{}", check.stderr);
            }
        }
    }
}

#[test]
fn duplicates() {
    for (directive, value) in DIRECTIVES {
        same_verdict(&in_block(
            "server",
            &format!("uwsgi_{directive} {value};\nuwsgi_{directive} {value};"),
        ));
    }
    same_verdict(&in_block("location", "uwsgi_pass unix:/tmp/other;"));
    same_verdict(&in_block("location", "uwsgi_pass $host;"));
}

#[test]
fn wrong_contexts() {
    for (directive, value) in DIRECTIVES.iter().chain(&[("pass", "unix:/tmp/s")]) {
        let line = format!("uwsgi_{directive} {value};");
        for text in [
            in_block("location", &format!("if ($arg_a) {{ {line} }}")),
            in_block("location", &format!("limit_except GET {{ {line} }}")),
            in_block("server", &format!("if ($arg_a) {{ {line} }}")),
            format!("upstream u {{ server 127.0.0.1:1; {line} }}"),
            format!("types {{ {line} }}"),
        ] {
            same_verdict(&text);
        }
    }
    same_verdict(&in_block("server", "uwsgi_pass unix:/tmp/s;"));
    same_verdict(&in_block("http", "uwsgi_pass unix:/tmp/s;"));
    same_verdict(&in_block("location", "uwsgi_buffering { }"));
    for main in ["uwsgi_buffering on;", "uwsgi_pass unix:/tmp/s;"] {
        let stock = Nginx::builder().without_module().main(main).check();
        let ours = Nginx::builder().main(&translated(main)).check();
        assert_eq!(translated(&stock.stderr), ours.stderr, "{main}");
        assert!(!ours.status.success(), "{main}");
    }
}

#[test]
fn wrong_flags() {
    all_same(&FLAGS, &WRONG_FLAGS);
}

#[test]
fn wrong_times() {
    all_same(&TIMES, &WRONG_TIMES);
}

#[test]
fn wrong_sizes() {
    all_same(&SIZES, &WRONG_SIZES);
}

#[test]
fn other_wrong_values() {
    for (directive, values) in ROWS {
        all_same(&[directive], values);
    }
}

#[test]
fn cross_checks() {
    for text in CROSS_CHECKS {
        for block in ["http", "server", "location"] {
            same_verdict(&in_block(block, text));
        }
    }
    // Each part in another block: the check is of what is in effect.
    let split = "uwsgi_buffers 4 4k;\nserver { listen 127.0.0.1:@port@; uwsgi_buffer_size 16k;
        location / { uwsgi_pass unix:/tmp/s; } }";
    assert!(!same_verdict(split).status.success());
}

#[test]
fn wrong_addresses() {
    for address in WRONG_ADDRESSES {
        same_verdict(&format!(
            "server {{\nlisten 127.0.0.1:@port@;\nlocation / {{\nuwsgi_pass {address};\n}}\n}}"
        ));
    }
    // Two uses of one upstream block, one with a port.
    same_verdict(
        "upstream u { server 127.0.0.1:1; }\nserver { listen 127.0.0.1:@port@;
        location /a { uwsgi_pass u; }\nlocation /b { uwsgi_pass u:81; } }",
    );
}

/// What stock does not have, or words differently, and what is expected instead.
#[test]
fn messages_of_our_own() {
    let rows: &[(&str, &[&str])] = &[
        ("modifier1 256;", &["rs_uwsgi_modifier1", "\"256\"", "0 to 255"]),
        ("modifier1 -1;", &["rs_uwsgi_modifier1", "\"-1\""]),
        ("modifier1 perl;", &["rs_uwsgi_modifier1", "\"perl\""]),
        // answered with a packet, which is no response
        ("modifier1 ping;", &["rs_uwsgi_modifier1", "\"ping\""]),
        ("modifier1 response;", &["rs_uwsgi_modifier1", "\"response\""]),
        ("modifier1 \"\";", &["rs_uwsgi_modifier1", "\"\""]),
        ("modifier1 $no_such_variable;", &["unknown \"no_such_variable\" variable"]),
        ("modifier2 256;", &["rs_uwsgi_modifier2", "\"256\""]),
        ("modifier2 x;", &["rs_uwsgi_modifier2", "\"x\""]),
        ("modifier1 1;\nrs_uwsgi_modifier1 2;", &["\"rs_uwsgi_modifier1\" directive is duplicate"]),
        ("param UWSGI_FILE $arg_f;", &["rs_uwsgi_param", "UWSGI_FILE", "$arg_f", "unsafe"]),
        ("param UWSGI_SETENV \"A=$http_a\";", &["rs_uwsgi_param", "UWSGI_SETENV", "A=$http_a"]),
        ("param UWSGI_CHDIR ${uri} if_not_empty;", &["rs_uwsgi_param", "UWSGI_CHDIR"]),
        ("param A b never;", &["\"never\""]),
        ("param A b unsafe unsafe;", &["\"unsafe\""]),
        ("max_vars abc;", &["rs_uwsgi_max_vars", "invalid value"]),
        ("max_vars 65536;", &["rs_uwsgi_max_vars", "65536", "65535"]),
        ("max_vars;", &["invalid number of arguments in \"rs_uwsgi_max_vars\" directive"]),
        ("max_vars 1k;\nrs_uwsgi_max_vars 2k;", &["\"rs_uwsgi_max_vars\" directive is duplicate"]),
        ("mount app;", &["rs_uwsgi_mount", "\"app\""]),
        ("mount /;", &["rs_uwsgi_mount", "\"/\""]),
        ("mount \"\";", &["rs_uwsgi_mount", "\"\""]),
        ("mount /a /b;", &["invalid number of arguments in \"rs_uwsgi_mount\" directive"]),
        ("mount /a;\nrs_uwsgi_mount /b;", &["\"rs_uwsgi_mount\" directive is duplicate"]),
        ("status on;", &["invalid number of arguments in \"rs_uwsgi_status\" directive"]),
        ("status;\nrs_uwsgi_status;", &["\"rs_uwsgi_status\" directive is duplicate"]),
        ("status;\nrs_uwsgi_pass unix:/s;", &["\"rs_uwsgi_status\" and \"rs_uwsgi_pass\""]),
        ("pass unix:/s;\nrs_uwsgi_status;", &["\"rs_uwsgi_status\" and \"rs_uwsgi_pass\""]),
        ("status_zone;", &["invalid number of arguments in \"rs_uwsgi_status_zone\" directive"]),
        (
            "status_zone a b;",
            &["invalid number of arguments in \"rs_uwsgi_status_zone\" directive"],
        ),
        ("status_zone \"\";", &["\"rs_uwsgi_status_zone\" directive has an empty name"]),
        ("status_zone $no_such_variable;", &["unknown \"no_such_variable\" variable"]),
        (
            "status_zone a;\nrs_uwsgi_status_zone b;",
            &["\"rs_uwsgi_status_zone\" directive is duplicate"],
        ),
        ("priority 10;", &["rs_uwsgi_priority", "\"10\"", "from 0 to 9"]),
        ("priority high;", &["rs_uwsgi_priority", "\"high\""]),
        ("priority -1;", &["rs_uwsgi_priority", "\"-1\""]),
        ("priority \"\";", &["rs_uwsgi_priority", "\"\""]),
        ("priority 1;\nrs_uwsgi_priority 2;", &["\"rs_uwsgi_priority\" directive is duplicate"]),
        ("drop_headers;", &["invalid number of arguments in \"rs_uwsgi_drop_headers\" directive"]),
        ("drop_headers off X-A;", &["rs_uwsgi_drop_headers", "\"off\""]),
        ("drop_headers X-A \"\";", &["rs_uwsgi_drop_headers", "\"\""]),
        (
            "drop_headers A;\nrs_uwsgi_drop_headers B;",
            &["\"rs_uwsgi_drop_headers\" directive is duplicate"],
        ),
    ];
    for (text, expected) in rows {
        let check = Nginx::builder()
            .http(&translated(&in_block("location", &format!("rs_uwsgi_{text}"))))
            .check();
        assert_eq!(check.status.code(), Some(1), "{text}: {:?}", check.stderr);
        let message =
            check.stderr.lines().find(|line| line.contains("[emerg]")).unwrap_or_default();
        for part in *expected {
            assert!(message.contains(part), "{text}: {part:?} is not in {:?}", check.stderr);
        }
        let place = message.contains("@dir@/nginx.conf:") || message.contains("unknown \"");
        assert!(place, "{text}: no file and line in {:?}", check.stderr);
    }
    for block in ["http", "server"] {
        let check =
            Nginx::builder().http(&translated(&in_block(block, "rs_uwsgi_mount /a;"))).check();
        let expected = "\"rs_uwsgi_mount\" directive is not allowed here";
        assert!(check.stderr.contains(expected), "{block}: {}", check.stderr);
    }
}

#[test]
fn valid_values_of_our_own() {
    for text in [
        "modifier1 0;",
        "modifier1 255;",
        "modifier1 wsgi;",
        "modifier1 psgi;",
        "modifier1 rack;",
        "modifier1 php;",
        "modifier1 cgi;",
        "modifier1 lua;",
        "modifier1 python;",
        "modifier1 $arg_m;",
        "modifier1 22;",
        "modifier2 $arg_m;",
        "modifier2 255;",
        "param UWSGI_FILE /srv/app.py;",
        "param UWSGI_FILE $arg_f unsafe;",
        "param UWSGI_FILE $arg_f if_not_empty unsafe;",
        "param uwsgi_file $arg_f;",
        "param A b if_not_empty;",
        "max_vars 4k;",
        "max_vars 65535;",
        "mount /app;",
        "mount /a/b;",
        "status_zone shop;",
        "status_zone $host;",
        "priority 0;",
        "priority 9;",
        "priority $arg_p;",
        "drop_headers off;",
        "drop_headers X-A X-B;",
    ] {
        let conf = translated(&in_block("location", &format!("rs_uwsgi_{text}")));
        let check = Nginx::builder().http(&conf).check();
        assert!(check.status.success(), "{text}: {}", check.stderr);
    }
}
