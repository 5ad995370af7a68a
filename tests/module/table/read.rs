//! Reads directive tables: out of the nginx under test, by the module in tests/probe, and out of
//! nginx's source where there is some.

use crate::prelude::*;
use crate::support::log::text;
use crate::support::programs::nginx_path;
use std::io::{stderr, Write};
use std::process::Command;
use std::sync::OnceLock;

const STOCK: (&str, &str) = ("ngx_http_uwsgi_module", "uwsgi_");
const OURS: (&str, &str) = ("ngx_http_rs_uwsgi_module", "rs_uwsgi_");

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Without `uwsgi_` or `rs_uwsgi_`.
    pub name: String,
    /// `http`, `server`, `location`, `if-in-location` …, with spaces between.
    pub contexts: String,
    /// `flag`, or the numbers that are allowed, such as `1 2` or `1+`.
    pub arguments: String,
    /// Which of an HTTP module's configurations it sets: `main`, `server` or `location`.
    pub configuration: String,
}

impl Directive {
    /// May it stand in this context?
    pub fn allowed_in(&self, context: &str) -> bool {
        self.contexts.split(' ').any(|allowed| allowed == context)
    }

    /// The least and, where there is one, the largest number of arguments.
    pub fn argument_counts(&self) -> (usize, Option<usize>) {
        if self.arguments == "flag" {
            return (1, Some(1));
        }
        if let Some(least) = self.arguments.strip_suffix('+') {
            return (least.parse().unwrap(), None);
        }
        let counts = self.arguments.split(' ').map(|count| count.parse().unwrap());
        (counts.clone().min().unwrap(), counts.max())
    }
}

/// Both tables, in their own order.
pub struct Tables {
    /// Those of `ngx_http_uwsgi_module`.
    pub stock: Vec<Directive>,
    /// Those of `ngx_http_rs_uwsgi_module`.
    pub ours: Vec<Directive>,
}

/// The tables of the nginx under test with our module loaded.
pub fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let dir = nginx::prefix();
        let file = dir.path().join("tables");
        let check =
            Nginx::builder().probe(&format!("probe_directives {};", file.display())).check();
        assert!(check.status.success(), "{}", check.stderr);
        let lines = fs::read_to_string(&file).unwrap();
        Tables { stock: rows(&lines, STOCK), ours: rows(&lines, OURS) }
    })
}

fn rows(lines: &str, (module, prefix): (&str, &str)) -> Vec<Directive> {
    let rows = lines.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let rows: Vec<_> = rows
        .filter(|cells| cells[0] == module)
        .map(|cells| Directive {
            name: cells[1].strip_prefix(prefix).unwrap().to_string(),
            contexts: cells[2].to_string(),
            arguments: cells[3].to_string(),
            configuration: cells[4].to_string(),
        })
        .collect();
    assert!(!rows.is_empty(), "no directives of {module}");
    rows
}

/// The version of the nginx under test, such as `1.22.1`.
pub fn version() -> String {
    let output = Command::new(nginx_path()).arg("-v").output().unwrap();
    let said = text(&output.stderr);
    let (_, version) = said.split_once("nginx/").expect("nginx -v names no version");
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// The source of stock's module, where the nginx under test lies in the tree that it was built in.
pub fn source() -> Option<String> {
    let binary = nginx_path();
    let objs = binary.parent().filter(|parent| parent.ends_with("objs"));
    let Some(tree) = objs.and_then(|objs| objs.parent()) else {
        note(&format!("{} has no source beside it: nothing to compare with", binary.display()));
        return None;
    };
    Some(fs::read_to_string(tree.join("src/http/modules/ngx_http_uwsgi_module.c")).unwrap())
}

/// The rows of `ngx_http_uwsgi_commands` as C text has them, one each as
/// `{ ngx_string("NAME"), BITS, setter, configuration, offset, post },`.
pub fn parsed(source: &str) -> Vec<Directive> {
    let (_, table) = source.split_once("ngx_http_uwsgi_commands[] = {").unwrap();
    let (table, _) = table.split_once("ngx_null_command").unwrap();
    table.split("ngx_string(\"").skip(1).map(parsed_row).collect()
}

fn parsed_row(row: &str) -> Directive {
    let (name, rest) = row.split_once("\"),").unwrap();
    let fields: Vec<_> = rest.split(',').map(str::trim).collect();
    let bits: Vec<_> = fields[0].split('|').map(str::trim).collect();
    let words = |of: fn(&str) -> Option<&str>| {
        bits.iter().filter_map(|bit| of(bit)).collect::<Vec<_>>().join(" ")
    };
    let (contexts, arguments) = (words(context), words(argument));
    assert!(
        bits.iter().all(|bit| context(bit).is_some() || argument(bit).is_some()),
        "{name}: {bits:?}"
    );
    Directive {
        name: name.strip_prefix(STOCK.1).unwrap().to_string(),
        contexts,
        arguments,
        configuration: match fields[2] {
            "NGX_HTTP_MAIN_CONF_OFFSET" => "main",
            "NGX_HTTP_SRV_CONF_OFFSET" => "server",
            "NGX_HTTP_LOC_CONF_OFFSET" => "location",
            other => panic!("{name}: {other}"),
        }
        .to_string(),
    }
}

fn context(bit: &str) -> Option<&str> {
    Some(match bit {
        "NGX_HTTP_MAIN_CONF" => "http",
        "NGX_HTTP_SRV_CONF" => "server",
        "NGX_HTTP_LOC_CONF" => "location",
        "NGX_HTTP_LIF_CONF" => "if-in-location",
        _ => return None,
    })
}

fn argument(bit: &str) -> Option<&str> {
    Some(match bit {
        "NGX_CONF_FLAG" => "flag",
        "NGX_CONF_TAKE1" => "1",
        "NGX_CONF_TAKE2" => "2",
        "NGX_CONF_TAKE12" => "1 2",
        "NGX_CONF_TAKE23" => "2 3",
        "NGX_CONF_TAKE123" => "1 2 3",
        "NGX_CONF_TAKE1234" => "1 2 3 4",
        "NGX_CONF_1MORE" => "1+",
        "NGX_CONF_2MORE" => "2+",
        _ => return None,
    })
}

/// Says something in passing: the harness hides what passing tests print, but not what goes to
/// standard error directly.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "note: {text}");
}
