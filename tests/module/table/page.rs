//! docs/parity.md: the table of parity, written from what the tests find out. Each version of nginx
//! has a column, which a run against that version writes or checks; what only another version has
//! stays as it is.

use super::read::{self, Directive};
use super::rows::ROWS;
use super::{errors, intended, DIFFERENT, OWN};
use crate::prelude::*;
use std::process::Command;
use std::sync::OnceLock;

const PAGE: &str = "docs/parity.md";

/// The versions that have a column.
const VERSIONS: [&str; 6] = ["1.22.1", "1.24.0", "1.26.3", "1.28.3", "1.30.4", "1.31.5"];

/// What was run with each version: a row of docs/versions.tsv, which `scripts/versions` writes.
fn runs() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/versions.tsv")).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

/// What else is known of versions, and of what the later ones brought to upstreams.
const UNTESTED: &str = "\
1.22 is Debian 12's, 1.24 Ubuntu 24.04's, 1.26 Debian 13's, 1.30 nginx.org's stable and 1.31 its mainline; \
what is not an installed package was built from the sources named, with Debian's options. A version that was \
not run is covered by what `build.rs` asks of its number and by the check of its \
structures, which is part of each build and ends it where the module would look elsewhere than nginx. Forks are \
not supported: with freenginx 1.27.2 the module builds, and 723 of 740 tests passed on 2026-11-27, of the others those \
that were looked at for what it does with headers without a colon, and for its lines of the log; with Angie 1.12.1 it does not build, because \
the crate nginx-sys 0.5.0 expects a member of `ngx_module_s` that Angie has not. HTTP/3 in front was compared with stock (`make test-http3`: nginx 1.28.3 built with it, \
OpenSSL 3.0, the client aioquic): requests, responses, and clients that leave. Not run over HTTP/3: other versions, \
1xx responses, several requests on one connection, early data, a client that changes its address.

What later versions of nginx brought around upstreams, as `reuse::newer` and `reuse::balancers` show it:

- `service=` (1.27.3): a server that an SRV record names is reached on its port, and its connections are kept; \
when the record names another server, requests go there.
- `sticky` (1.29.6): with `cookie`, `route` and `learn` clients come back to their server, on kept connections \
too, and a session is learned also when a kept connection was dead and the request was sent again.
- `drain` (1.29.6): such a server gets the requests that `sticky` sends it, on kept connections, and no others.
- `least_time` (1.31.0): requests are served with `header`, `last_byte` and `inflight`, beside nginx's \
`keepalive` as well; which server it prefers was not measured.
- `keepalive`, on by default from 1.29.7, and its `local`: nginx's cache gets none of this module's connections; \
the pool is `rs_uwsgi_keepalive`'s alone.
- `add_header_inherit` (1.29.3): it holds for this module's responses as for all.
- `client_body_early_read` (1.31.5): nginx has read the body when the request comes to this module, so \
`rs_uwsgi_request_buffering off` is without effect there, and such a request is tried again as a buffered one is.\n";

/// The tests that show what docs/differences.md says: the first cell
/// of its table, and the tests.
const DIFFERENCES: &[(&str, &[&str])] = &[
    ("no `…_param` in effect", &["differences::standard_params_when_none_is_configured"]),
    (
        "HTTP_HOST",
        &["differences::host_is_the_one_that_nginx_acts_on", "oracle_requests::host_by_version"],
    ),
    ("headers that repeat", &["differences::repeated_headers_are_joined"]),
    (
        "Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, TE, Trailer, Proxy",
        &["differences::dropped_headers", "differences::an_upgrade_request_keeps_its_headers"],
    ),
    (
        "CONTENT_LENGTH",
        &[
            "differences::content_length_is_the_body_that_follows",
            "differences::content_length_without_a_body",
            "differences::content_length_when_the_body_is_not_passed",
        ],
    ),
    ("Content-Length", &["header_names::content_length_is_no_header"]),
    (
        "headers that differ in `-` and `_` alone, with `underscores_in_headers on`",
        &["header_names::an_underscore_gives_way_to_another_spelling"],
    ),
    (
        "buffers of a response longer than 32k, none configured",
        &[
            "growing::a_slow_client_gets_the_memory_of_stock",
            "growing::a_client_that_takes_what_comes_gets_more",
            "growing::what_is_configured_stays",
        ],
    ),
    (
        "modifiers",
        &[
            "differences::modifiers_by_number_name_and_variable",
            "differences::modifiers_that_no_variable_may_choose",
        ],
    ),
    (
        "`…_param UWSGI_FILE $arg_f` and its like",
        &["differences::dangerous_vars_only_by_an_explicit_word"],
    ),
    ("vars over 65,535 bytes", &["differences::vars_too_large_for_the_protocol"]),
    (
        "1xx responses before the final one (`103 Early Hints`)",
        &[
            "differences::interim_responses_are_not_the_final_one",
            "traffic::interim::consumed_by_ours",
            "traffic::early_hints::passed_on_where_nginx_can",
        ],
    ),
    ("a chunked response (gunicorn 24 to 26)", &["differences::chunks_are_decoded", "trailers::who_takes_them_gets_them"]),
    (
        "`text/event-stream`",
        &["event_streams::passed_on_at_once", "event_streams::never_kept"],
    ),
    (
        "the answer to HEAD, where there is a cache or store",
        &[
            "response_ends::what_ends_by_its_own_framing_ends_at_once",
            "response_ends::a_head_is_not_kept_for_a_whole_response",
        ],
    ),
    ("the connection to the server", &["reuse::servers::behind_nginx_gunicorn_gthread"]),
    (
        "vars larger than uWSGI's `buffer-size`",
        &["refused::vars_beyond_the_buffer_size_over_unix", "refused::the_limit_is_forgotten"],
    ),
    ("a response head larger than `…_buffer_size`", &["refused::a_response_head_that_is_too_big"]),
    (
        "a server that resets a request with a body before it answers",
        &["refused::a_body_larger_than_uwsgi_takes"],
    ),
    (
        "`$upstream_connect_time`, `$upstream_header_time`, `$upstream_response_time`",
        &["overload::queue::variables_of_what_waited"],
    ),
    ("a listen queue that is full", &["overload::bursts::a_thousand_before_the_default_queue"]),
    (
        "a server that answers and closes before it has read the request's body",
        &["early::what_stock_makes_of_it", "early::answers_that_end_with_the_connection"],
    ),
    (
        "a body that another location has passed on unbuffered (`error_page`, X-Accel-Redirect, SSI, \
         `post_action`)",
        &[
            "bodies::the_rest_follows_where_nothing_was_given_away",
            "bodies::what_was_given_away_is_not_passed_on_for_all",
        ],
    ),
    (
        "a colon at the end of a socket's path, `unix:/path:`",
        &["inheritance::addresses_of_every_form"],
    ),
    ("`unix:@name`", &["traffic::abstract_sockets::everywhere"]),
    ("`…_ssl_certificate \"\"`", &["tls::client_certificate::empty_ends_inheritance"]),
];

/// What each version has: the cells of one row.
struct Line {
    name: &'static str,
    contexts: String,
    arguments: String,
    versions: [String; VERSIONS.len()],
    tests: &'static [&'static str],
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            format!("`uwsgi_{}`", self.name),
            self.contexts.clone(),
            self.arguments.clone(),
            format!("`rs_uwsgi_{}`", self.name),
        ];
        cells.extend(self.versions.clone());
        cells.push(tests(self.tests));
        cells
    }
}

fn tests(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<_> = head.iter().map(|cell| cell.to_string()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows: String = rows.into_iter().map(|cells| line(&cells)).collect();
    line(&head) + &rule + &rows
}

/// The cells of the lines of a table that follow a line, which must be there.
fn cells_after<'a>(text: &'a str, heading: &str) -> impl Iterator<Item = Vec<&'a str>> {
    let (_, text) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let lines = text.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// The names of the columns of the table that follows a line; none where there is no table yet.
fn columns_after<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, text) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let head = text.lines().find(|line| line.starts_with('|')).unwrap_or_default();
    head.trim_matches('|').split(" | ").map(str::trim).collect()
}

/// The lines of the first table: what this nginx has, and of others what `before` says. A version that has
/// no column there yet has `?`.
fn lines(version: &str, before: &str) -> Vec<Line> {
    let stock = &read::tables().stock;
    let columns = columns_after(before, "\n## Directives\n");
    let column = |version: &str| columns.iter().position(|column| *column == version);
    let line = |name: &'static str, tests| {
        let old = cells_after(before, "\n## Directives\n")
            .find(|cells| cells[0] == format!("`uwsgi_{name}`"));
        let old = |at: usize| old.as_ref().map_or("?", |cells| cells[at]).to_string();
        let here = stock.iter().find(|directive| directive.name == name);
        let versions = std::array::from_fn(|i| match (VERSIONS[i] == version, here) {
            (true, Some(here)) => verdict(here),
            (true, None) => "–".to_string(),
            (false, _) => column(VERSIONS[i]).map_or("?".to_string(), old),
        });
        Line {
            name,
            contexts: here.map_or_else(|| old(1), |here| here.contexts.replace(' ', ", ")),
            arguments: here.map_or_else(|| old(2), |here| here.arguments.replace(' ', ", ")),
            versions,
            tests,
        }
    };
    ROWS.iter().map(|row| line(row.name, row.tests)).collect()
}

/// How the twin compares.
fn verdict(stock: &Directive) -> String {
    let intended = intended(stock);
    assert!(read::tables().ours.contains(&intended), "no twin of uwsgi_{}", stock.name);
    match intended == *stock {
        true => "same".to_string(),
        false => format!("takes {}", intended.arguments.replace(' ', ", ")),
    }
}

/// What docs/differences.md says of intended differences, with the tests.
fn differences() -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/differences.md")).unwrap();
    let rows = cells_after(&page, "# Differences from uwsgi_pass\n");
    let rows = rows.map(|cells| {
        let shown = DIFFERENCES.iter().find(|(name, _)| *name == cells[0]);
        let (_, names) = shown.unwrap_or_else(|| panic!("no test for {:?}", cells[0]));
        let mut row: Vec<_> = cells.iter().map(|cell| cell.to_string()).collect();
        row.push(tests(names));
        row
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), DIFFERENCES.len(), "docs/differences.md and the list of tests differ");
    rows
}

fn page(version: &str, before: &str) -> String {
    let mut head = vec!["stock", "contexts", "arguments", "here"];
    head.extend(VERSIONS);
    head.push("shown by");
    let directives = table(&head, lines(version, before).iter().map(Line::cells));
    let differences = table(&["", "stock", "here", "shown by"], differences());
    let own = table(
        &["directive", "shown by"],
        OWN.iter().map(|(name, test)| vec![format!("`rs_uwsgi_{name}`"), tests(&[test])]),
    );
    let messages = table(
        &["directives", "difference", "shown by"],
        errors::DIFFERENT.iter().map(|(names, value, what, test)| {
            let names: Vec<_> = names.iter().map(|name| format!("`rs_uwsgi_{name}`")).collect();
            let which = if names.is_empty() { "all".to_string() } else { names.join(", ") };
            let value = value.map_or(String::new(), |value| format!(" `{value}`"));
            vec![which + &value, what.to_string(), tests(&[test])]
        }),
    );
    let mut runs = runs().into_iter();
    let columns = runs.next().unwrap();
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let runs = table(&columns, runs);
    format!(
        "<!-- Written by `make parity` and `make parity NGINX=vendored`; do not edit. -->\n\
         # Parity with nginx's uwsgi module\n\n\
         What stock's directive tables say was read out of the running nginx of each version \
         (`tests/probe`), and the tests named ran against it: stock and this module side by side, \
         the outcome compared. `tests/module/table.rs` fails where a twin is missing, where its \
         contexts or arguments differ, where a directive has no test, and where this page is out of \
         date.\n\n\
         ## Versions\n\n{runs}\n{UNTESTED}\n\
         ## Directives\n\n\
         Arguments: the numbers that are allowed, `1+` one or more, flag `on` or `off`. \
         In a version's column: how the twin compares, – where that nginx has no such \
         directive. Wrong numbers of arguments, wrong places, second ones in a block and nonsense \
         values are tried with every directive (`table::errors`).\n\n\
         {directives}\n\
         ## Intended differences\n\n{differences}\n\
         ## Intended differences in what `nginx -t` says\n\n{messages}\n\
         ## Directives that stock does not have\n\n{own}"
    )
}

#[test]
fn the_page_is_up_to_date() {
    let (version, path) = (read::version(), root().join(PAGE));
    if !VERSIONS.contains(&version.as_str()) {
        read::note(&format!("nginx {version} has no column in {PAGE}, which is not compared"));
        return;
    }
    let empty = "\n## Directives\n".to_string();
    let before = fs::read_to_string(&path).unwrap_or(empty);
    let now = page(&version, &before);
    if std::env::var_os("RS_UWSGI_PARITY").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &now).unwrap();
        return;
    }
    let differing = now.lines().zip(before.lines()).find(|(now, before)| now != before);
    assert!(
        now == before,
        "{PAGE} is out of date for nginx {version}: make parity (or make parity NGINX=vendored)\n\
         first difference (left now, right in the file): {differing:#?}"
    );
}

/// The tests of this very program.
fn existing() -> &'static str {
    static LIST: OnceLock<String> = OnceLock::new();
    LIST.get_or_init(|| {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).arg("--list").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    })
}

/// A version with a column was run, and says so.
#[test]
fn every_column_has_a_run() {
    for version in VERSIONS {
        let runs = runs();
        let run = runs.iter().find(|row| row[0] == version);
        let is_run = |row: &Vec<String>| row[2] == "yes" && row[3] == "yes" && row[4] != "no";
        assert!(run.is_some_and(is_run), "{version}");
    }
}

#[test]
fn every_directive_is_shown_by_a_test() {
    let known = |name: &str| ROWS.iter().any(|row| row.name == name);
    for directive in &read::tables().stock {
        assert!(known(&directive.name), "uwsgi_{} has no row", directive.name);
    }
    let untested: Vec<_> =
        ROWS.iter().filter(|row| row.tests.is_empty()).map(|row| row.name).collect();
    assert!(untested.is_empty(), "no test shows what these do: {untested:?}");
    for row in ROWS {
        for test in row.tests {
            assert_exists(test);
            assert!(mentions(test, row.name), "{test} does not mention uwsgi_{}", row.name);
        }
    }
}

#[test]
fn every_difference_is_shown_by_a_test() {
    DIFFERENCES.iter().flat_map(|(_, tests)| *tests).for_each(|test| assert_exists(test));
    errors::DIFFERENT.iter().for_each(|(.., test)| assert_exists(test));
    OWN.iter().for_each(|(_, test)| assert_exists(test));
    for (name, ..) in DIFFERENT {
        assert!(ROWS.iter().any(|row| row.name == name), "{name}");
    }
}

fn assert_exists(test: &str) {
    let line = format!("{test}: test");
    assert!(existing().lines().any(|existing| existing == line), "there is no test {test}");
}

/// Does a file that makes up the test speak of the directive?
fn mentions(test: &str, directive: &str) -> bool {
    let modules: Vec<_> = test.split("::").collect();
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (1..modules.len()).any(|depth| {
        let path = root().join("tests/module").join(modules[..depth].join("/"));
        let source = fs::read_to_string(path.with_extension("rs")).unwrap();
        let word = format!("uwsgi_{directive}");
        source.match_indices(&word).any(|(at, _)| ends(&source[at + word.len()..]))
    })
}
