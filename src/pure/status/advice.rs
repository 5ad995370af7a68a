//! What is not well with a server, and what would help, in words.

use super::{Peer, State};
use crate::pure::health::Failure as Probe;
use crate::pure::stats::{Closed, Count, Failure, Measure, QueueEnd};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Requests fail.
    Error,
    /// They wait, or may fail.
    Warning,
}

impl Severity {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Over how many seconds errors are looked at.
const RECENT: usize = 60;

/// What is not well now, the worst first.
pub fn problems(peer: &Peer) -> Vec<(Severity, String)> {
    let mut problems = Vec::new();
    match peer.state() {
        State::Unavailable => problems.push((Severity::Error, unreachable(peer))),
        State::Unhealthy => problems.push((Severity::Error, unhealthy(peer))),
        _ => {}
    }
    let recent = peer.history.iter().rev().take(RECENT);
    let (requests, errors) = recent.fold((0_u64, 0_u64), |(requests, errors), second| {
        (requests + u64::from(second.requests), errors + u64::from(second.errors))
    });
    if errors > 0 && errors * 20 >= requests && peer.state() != State::Unavailable {
        let severity = if errors * 2 >= requests { Severity::Error } else { Severity::Warning };
        let most = most_failures(peer).map(|kind| format!(", mostly: {}", in_words(kind)));
        let most = most.unwrap_or_default();
        problems.push((
            severity,
            format!("{errors} of {requests} requests of the last minute failed{most}"),
        ));
    }
    if peer.gauges.waiting > 0 {
        problems.push((Severity::Warning, waiting(peer)));
    }
    problems
}

/// What would help, though nothing may be wrong now.
pub fn advice(peer: &Peer) -> Vec<String> {
    let mut advice: Vec<String> = problems(peer).into_iter().map(|(_, text)| text).collect();
    let totals = &peer.totals;
    let (overflows, timeouts) =
        (totals.queued(QueueEnd::Overflow), totals.queued(QueueEnd::Timeout));
    if overflows + timeouts > 0 {
        advice.push(format!(
            "{overflows} requests were refused because the queue was full, {timeouts} waited in vain: give the \
             server more workers, or raise \"rs_uwsgi_queue\""
        ));
    }
    let full = totals.count(Count::ListenQueueFull);
    if full > 0 {
        advice.push(format!(
            "its listen queue was full {full} times: give it more workers if requests wait too long"
        ));
    }
    let refused = totals.count(Count::VarsRefused);
    if refused > 0 {
        advice.push(format!("{refused} requests were too large for it: raise its \"buffer-size\""));
    }
    let requests = totals.count(Count::Requests);
    let silent = totals.closed(Closed::DidNotSayKeepAlive) + totals.closed(Closed::SaidClose);
    if requests >= 100 && silent * 10 >= requests * 9 {
        advice.push(
            "it closes its connections after each request: gunicorn's gthread worker with \"--protocol uwsgi\" \
             would keep them"
                .to_owned(),
        );
    }
    advice
}

fn waiting(peer: &Peer) -> String {
    let (waiting, busy) = (peer.gauges.waiting, peer.in_flight());
    let wait =
        if waiting == 1 { "1 request waits".into() } else { format!("{waiting} requests wait") };
    let mean = peer.totals.histogram(Measure::Response).mean();
    let each = mean.map_or(String::new(), |mean| format!(" for {} ms each", mean.round()));
    match peer.limit {
        Some(limit) if busy >= limit => format!(
            "{wait}, its {limit} connections are all busy{each}: more workers would help"
        ),
        _ if peer.is_unavailable => format!("{wait} for it to come back"),
        _ if peer.totals.count(Count::ListenQueueFull) > 0 => format!(
            "{wait}, its listen queue is full: more workers, or a longer \"listen\" queue, would help"
        ),
        _ => wait,
    }
}

fn unhealthy(peer: &Peer) -> String {
    let result = peer.health.and_then(|health| health.last).map_or(0, |(_, code)| code);
    match result {
        // requests have failed, or it passes again, but not yet often enough
        0 => "it is taken as down: health checks, or requests, have failed".to_owned(),
        code => format!("it is taken as down: {}", Probe::in_words(code)),
    }
}

fn most_failures(peer: &Peer) -> Option<Failure> {
    let count = |kind: &&Failure| peer.totals.failures(**kind);
    Failure::ALL.iter().max_by_key(count).filter(|kind| count(kind) > 0).copied()
}

fn unreachable(peer: &Peer) -> String {
    const KINDS: [Failure; 5] = [
        Failure::Refused,
        Failure::NoSocket,
        Failure::Permission,
        Failure::ConnectTimeout,
        Failure::ConnectError,
    ];
    let count = |kind: &Failure| peer.totals.failures(*kind);
    let kind = KINDS.into_iter().max_by_key(count).filter(|kind| count(kind) > 0);
    match kind {
        Some(kind) => format!("it cannot be reached: {}", in_words(kind)),
        None => "it cannot be reached".to_owned(),
    }
}

/// A kind of failure.
pub fn in_words(kind: Failure) -> &'static str {
    match kind {
        Failure::Refused => "connections are refused, nobody listens there",
        Failure::NoSocket => "there is no such socket",
        Failure::Permission => "nginx may not connect to the socket",
        Failure::ConnectTimeout => "connecting takes too long",
        Failure::ConnectError => "connecting fails",
        Failure::SendTimeout => "the server does not take the request in time",
        Failure::ReadTimeout => "the server does not answer in time",
        Failure::Reset => "the server resets the connection",
        Failure::ClosedEarly => "the server closes the connection without an answer",
        Failure::InvalidHead => "the answer is no HTTP",
        Failure::HeadTooBig => "the head of the answer is larger than \"rs_uwsgi_buffer_size\"",
        Failure::CutShort => "the answer ends before its end",
        Failure::InvalidBody => "the chunks of the answer are invalid",
        Failure::Other => "other errors",
    }
}
