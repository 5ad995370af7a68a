//! JSON for the page, made from docs/status.example.json, so that it has all that nginx says.

use crate::support::root;
use serde_json::{json, Map, Value};
use std::fs;

/// What the page is told. Histories are made when it is asked for, up to that moment.
pub struct Document {
    example: Value,
    /// Names, and servers of each.
    pub upstreams: Vec<(String, Vec<Server>)>,
    /// Severity, upstream, server, text.
    pub problems: Vec<(&'static str, String, String, String)>,
    /// Are there zones of `rs_uwsgi_status_zone`?
    pub zones: bool,
}

/// A server, and in what it differs from the one in the example.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    pub state: &'static str,
    /// In each second: requests, errors, and the response time's p50, p95 and p99 in milliseconds.
    pub requests: u64,
    pub errors: u64,
    pub times: [f64; 3],
    pub active: u64,
    pub limit: Option<u64>,
    pub waiting: u64,
    pub failures: Vec<(&'static str, u64)>,
    pub closed: Vec<(&'static str, u64)>,
    pub advice: Vec<String>,
}

impl Server {
    /// One that is up and does nothing.
    pub fn idle(address: &str) -> Server {
        Server {
            address: address.to_string(),
            state: "up",
            requests: 0,
            errors: 0,
            times: [0.0; 3],
            active: 0,
            limit: None,
            waiting: 0,
            failures: Vec::new(),
            closed: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// One with so many requests a second, which take this long.
    pub fn busy(address: &str, requests: u64, times: [f64; 3]) -> Server {
        Server { requests, times, ..Server::idle(address) }
    }

    fn json(&self, example: &Value, id: usize, end: u64, seconds: u64) -> Value {
        let mut peer = example.clone();
        peer["id"] = json!(id);
        peer["server"] = json!(self.address);
        peer["name"] = json!(self.address);
        peer["state"] = json!(self.state);
        peer["active"] = json!(self.active);
        peer["connections"]["limit"] = json!(self.limit);
        peer["queue"]["size"] = json!(self.waiting);
        peer["advice"] = json!(self.advice);
        for (part, counts) in [("failures", &self.failures), ("closed", &self.closed)] {
            let all =
                if part == "closed" { &mut peer["connections"][part] } else { &mut peer[part] };
            all.as_object_mut().unwrap().values_mut().for_each(|count| *count = json!(0));
            counts.iter().for_each(|(reason, count)| all[*reason] = json!(count));
        }
        let of = |value: Value| json!(vec![value; usize::try_from(seconds).unwrap()]);
        let times =
            self.times.map(|time| if self.requests == 0 { Value::Null } else { json!(time) });
        peer["history"] = json!({"interval": 1, "end": end, "requests": of(json!(self.requests)),
            "errors": of(json!(self.errors)), "waiting": of(json!(self.waiting)),
            "in_flight": of(json!(self.active)), "p50": of(times[0].clone()), "p95": of(times[1].clone()),
            "p99": of(times[2].clone()), "queue_p95": of(Value::Null)});
        peer
    }
}

impl Document {
    /// Without an upstream.
    pub fn new() -> Document {
        let text = fs::read_to_string(root().join("docs/status.example.json")).unwrap();
        Document {
            example: serde_json::from_str(&text).unwrap(),
            upstreams: Vec::new(),
            problems: Vec::new(),
            zones: false,
        }
    }

    /// With one more upstream.
    pub fn with(mut self, name: &str, servers: &[Server]) -> Document {
        self.upstreams.push((name.to_string(), servers.to_vec()));
        self
    }

    /// With one more problem of a server.
    pub fn problem(
        mut self,
        severity: &'static str,
        upstream: &str,
        server: &str,
        text: &str,
    ) -> Document {
        self.problems.push((severity, upstream.to_string(), server.to_string(), text.to_string()));
        self
    }

    /// The JSON at a second, for a request with these arguments: "history=30" is the last 30 seconds.
    pub fn at(&self, second: u64, arguments: &str) -> String {
        let seconds =
            arguments.strip_prefix("history=").map_or(600, |count| count.parse().unwrap());
        let mut all = self.example.clone();
        all["time"] = json!(second as f64 + 0.5);
        let upstream = self.example["upstreams"]["app"].clone();
        let upstreams = self.upstreams.iter().map(|(name, servers)| {
            let mut one = upstream.clone();
            let peers = servers.iter().enumerate();
            let peers = peers
                .map(|(id, server)| server.json(&upstream["peers"][0], id, second - 1, seconds));
            one["peers"] = peers.collect();
            (name.clone(), one)
        });
        all["upstreams"] = Value::Object(upstreams.collect::<Map<_, _>>());
        let problems = self.problems.iter().map(|(severity, upstream, server, text)| {
            json!({"severity": severity, "upstream": upstream, "server": server, "text": text})
        });
        if !self.zones {
            all["location_zones"] = json!({});
        }
        all["problems"] = problems.collect();
        all.to_string()
    }
}
