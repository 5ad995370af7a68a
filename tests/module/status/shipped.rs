//! The alert rules and the dashboard in docs/monitoring: what they ask for is what is served.

use super::STATUS;
use crate::prelude::*;
use crate::support::process::command;
use std::collections::BTreeSet;

const FOLDER: &str = "docs/monitoring";

fn file(name: &str) -> String {
    fs::read_to_string(root().join(FOLDER).join(name)).unwrap()
}

fn promtool(arguments: &[&str]) -> String {
    let mut command = command("promtool");
    let output = command.args(arguments).current_dir(root().join(FOLDER)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("rs_uwsgi_") {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !text[..at].ends_with(is_word) {
            names.insert(text[at..].split(|c| !is_word(c)).next().unwrap().to_string());
        }
    }
    names
}

/// The queries of the dashboard's panels.
fn queries() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_string()).collect()
}

#[test]
fn rules_are_right() {
    assert!(promtool(&["check", "rules", "alerts.yml"]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
}

/// What docs/monitoring.md has for the configuration of Prometheus, and the queries in its text.
#[test]
fn what_the_page_says_is_right() {
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let (_, config) = page.split_once("```yaml\n").unwrap();
    let dir = nginx::prefix();
    let path = dir.path().join("prometheus.yml");
    fs::write(&path, config.split("```").next().unwrap()).unwrap();
    assert!(promtool(&["check", "config", path.to_str().unwrap()]).contains("SUCCESS"));
    let is_query = |span: &&str| span.contains("rs_uwsgi_") && span.contains(['(', '!']);
    let spans = page.split('`').skip(1).step_by(2).filter(is_query);
    let queries: Vec<_> = spans.filter(|span| !span.ends_with(';')).map(str::to_string).collect();
    assert!(queries.len() >= 3, "{queries:?}");
    are_right(&queries);
}

#[test]
fn queries_of_the_dashboard_are_right() {
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    are_right(&queries);
}

fn are_right(queries: &[String]) {
    let rules = queries.iter().enumerate().map(|(n, query)| {
        let query = query.replace("$__rate_interval", "5m");
        format!("      - {{record: 'q:{n}', expr: '{query}'}}\n")
    });
    let text = format!("groups:\n  - name: dashboard\n    rules:\n{}", rules.collect::<String>());
    let dir = nginx::prefix();
    let path = dir.path().join("rules.yml");
    fs::write(&path, text).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()]);
}

#[test]
fn what_they_ask_for_is_served() {
    let site = Site::answering(&format!(
        "server {{ listen 127.0.0.1:@port@; location / {{ rs_uwsgi_pass @pass@; }} {STATUS} }}"
    ));
    assert_eq!(get(site.nginx.address(), "/").status, 200);
    let text = get(site.nginx.address(), "/status/metrics").text();
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<_> = described.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(served.len() > 30, "{served:?}");
    let asked = named(&[file("alerts.yml"), queries().join("\n")].concat());
    assert!(asked.len() > 25, "{asked:?}");
    for name in asked.iter().filter(|name| !["rs_uwsgi_max_vars"].contains(&name.as_str())) {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(served.contains(name), "{name} is not served");
    }
}
