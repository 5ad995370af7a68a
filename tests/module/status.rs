//! `rs_uwsgi_status` and `rs_uwsgi_status_zone`: what is answered, and that every number in it is the one that
//! the test knows.

mod ends;
mod exact;
mod health;
mod page;
mod shipped;
mod slots;
mod tools;
mod zones;

use crate::prelude::*;
use std::collections::BTreeMap;

/// A location that shows the state, and one that every worker may be asked in.
const STATUS: &str = "location /status/ { rs_uwsgi_status; }";

/// A server with this content, before a backend that answers "ok".
fn answering_server(server: &str) -> Site {
    Site::answering(&format!("server {{ listen 127.0.0.1:@port@; {server} }}"))
}

/// Names with their numbers, as [`Metrics::by_label`] has them.
fn numbers(rows: &[(&str, f64)]) -> BTreeMap<String, f64> {
    rows.iter().map(|(name, number)| (name.to_string(), *number)).collect()
}

/// The metrics, by name and labels.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn of(nginx: &Nginx) -> Metrics {
        let response = get(nginx.address(), "/status/metrics");
        assert_eq!(response.status, 200);
        let text = response.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        });
        Metrics(samples.collect())
    }

    /// The sum of all samples of a metric that have these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.0.iter().filter(|(sample, _)| {
            let (own, of) = sample.split_once('{').unwrap_or((sample, ""));
            own == format!("rs_uwsgi_{name}") && labels.iter().all(|label| of.contains(label))
        });
        samples.map(|(_, value)| value).sum()
    }

    /// The samples of a metric that are not zero, by what the last label says.
    pub fn by_label(&self, name: &str) -> BTreeMap<String, f64> {
        let begin = format!("rs_uwsgi_{name}{{");
        let mut found = BTreeMap::new();
        for (sample, value) in self.0.iter().filter(|(sample, _)| sample.starts_with(&begin)) {
            let label = sample.rsplit("=\"").next().unwrap().trim_end_matches("\"}");
            *found.entry(label.to_owned()).or_insert(0.0) += value;
        }
        found.retain(|_, value| *value != 0.0);
        found
    }
}
