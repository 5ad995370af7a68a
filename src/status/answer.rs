//! What `rs_uwsgi_status` answers, part by part.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::health;
use super::servers::{take_stock, Entry, Inventory};
use crate::nginx::answer::AnswerHead;
use crate::nginx::status::{HTTP_OK, NOT_FOUND};
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{zone, Request};
use crate::pure::stats::history::SECONDS;
use crate::pure::stats::Totals;
use crate::pure::status::ask::{self, Format};
use crate::pure::status::json;
use crate::pure::status::prometheus::{Gathered, Writing};
use crate::pure::status::{About, Upstream};
use crate::pure::{self, page};

/// What is left to be written.
pub enum Answer {
    /// The page, or another text.
    Whole(String),
    /// JSON.
    Json(Box<Json>),
    /// Metrics whose servers are still being read.
    Gathering(Box<Gathering>),
    /// Metrics.
    Metrics(Box<Writing>),
}

/// JSON that is being written.
pub struct Json {
    about: About,
    upstreams: Vec<Upstream>,
    entries: Peekable<IntoIter<Entry>>,
    zones: Vec<(Vec<u8>, Totals)>,
    /// Seconds of history.
    seconds: usize,
    state: Option<json::State>,
    /// The upstream that was begun, or is next.
    upstream: usize,
    is_open: bool,
}

/// Servers that are being read.
pub struct Gathering {
    entries: IntoIter<Entry>,
    gathered: Gathered,
    format: Format,
}

/// How many servers are read at a time.
const AT_A_TIME: usize = 128;

/// Finds out what is asked for.
///
/// # Errors
///
/// 404.
pub fn begin(r: Request<'_>) -> Result<(AnswerHead, Answer), ngx_int_t> {
    if let Some(asked) = pure::status::health::asked(r.location_name(), r.uri()) {
        let (head, text) = health::begin(r, asked)?;
        return Ok((head, Answer::Whole(text)));
    }
    let format = ask::format(r.location_name(), r.uri(), &r.header(b"Accept")).ok_or(NOT_FOUND)?;
    let mut headers = vec![
        ("Cache-Control", "no-store".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("Vary", "Accept".to_owned()),
    ];
    let answer = match format {
        Format::Html => {
            let nonce = format!("{:016x}{:016x}", zone::random(), zone::random());
            headers.push(("Content-Security-Policy", page::policy(&nonce)));
            headers.push(("Referrer-Policy", "no-referrer".to_owned()));
            Answer::Whole(page::document(&nonce))
        }
        Format::Json => {
            let Inventory { about, upstreams, entries, zones } = take_stock(r, true);
            Answer::Json(Box::new(Json {
                about,
                upstreams,
                entries: entries.into_iter().peekable(),
                zones,
                seconds: ask::history(r.args(), SECONDS),
                state: None,
                upstream: 0,
                is_open: false,
            }))
        }
        Format::Prometheus | Format::OpenMetrics => {
            let Inventory { about, upstreams, entries, zones } = take_stock(r, false);
            let upstreams = upstreams.into_iter().map(|upstream| (upstream, 0..0)).collect();
            let gathered = Gathered { about, upstreams, peers: Vec::new(), zones };
            Answer::Gathering(Box::new(Gathering {
                entries: entries.into_iter(),
                gathered,
                format,
            }))
        }
    };
    Ok((AnswerHead { status: HTTP_OK, content_type: format.content_type(), headers }, answer))
}

/// Writes the next part. Is there more?
pub fn next_part(answer: &mut Answer, part: &mut Vec<u8>, most: usize) -> bool {
    match answer {
        Answer::Whole(text) => {
            part.extend(text.bytes());
            false
        }
        Answer::Json(json) => json.write(part, most),
        Answer::Gathering(gathering) => {
            let at_once = if most == usize::MAX { usize::MAX } else { AT_A_TIME };
            let more = gathering.read(at_once);
            if !more {
                let Gathering { gathered, format, .. } = &mut **gathering;
                let mut writing = Writing::new(std::mem::take(gathered), *format);
                let more = writing.write(part, most);
                *answer = Answer::Metrics(Box::new(writing));
                return more;
            }
            more
        }
        Answer::Metrics(writing) => writing.write(part, most),
    }
}

impl Json {
    fn write(&mut self, out: &mut Vec<u8>, most: usize) -> bool {
        let mut state = self.state.take().unwrap_or_else(|| json::begin(out, &self.about));
        let mut read = 0;
        while let Some(upstream) = self.upstreams.get(self.upstream) {
            if out.len() >= most || read >= AT_A_TIME && most != usize::MAX {
                self.state = Some(state);
                return true;
            }
            if !self.is_open {
                json::begin_upstream(out, &mut state, upstream);
                self.is_open = true;
            } else if let Some(entry) =
                self.entries.next_if(|entry| entry.upstream == self.upstream)
            {
                let peer = entry.read(self.seconds);
                json::peer(out, &mut state, &self.about, upstream, &peer);
                read += 1;
            } else {
                json::end_upstream(out, &state, upstream);
                (self.upstream, self.is_open) = (self.upstream + 1, false);
            }
        }
        json::end(out, state, &self.zones);
        false
    }
}

impl Gathering {
    /// Reads so many servers. Are there more?
    fn read(&mut self, count: usize) -> bool {
        for entry in self.entries.by_ref().take(count) {
            let place = self.gathered.peers.len();
            if let Some((_, range)) = self.gathered.upstreams.get_mut(entry.upstream) {
                let begin = if range.start == range.end { place } else { range.start };
                *range = begin..place + 1;
            }
            self.gathered.peers.push(entry.read(0));
        }
        self.entries.len() > 0
    }
}
