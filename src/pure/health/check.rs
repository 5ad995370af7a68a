//! What is asked of a server, and how often: the parameters of `rs_uwsgi_health_check`.

use super::request::{Made, Place, Target, MARK};
use super::Rules;

/// What a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection, and nothing else.
    Connect,
    /// uWSGI's own ping.
    Ping,
    /// A request.
    Uri,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What a probe is.
    pub kind: Kind,
    /// What a request asks for.
    pub target: Option<Target>,
    /// What it sends.
    pub packet: Vec<u8>,
    /// The time from the end of one probe to the next, in milliseconds.
    pub interval: u64,
    /// Up to so many milliseconds more, by chance.
    pub jitter: u64,
    /// How long one may take, in milliseconds.
    pub timeout: u64,
    /// How many results change a state.
    pub rules: Rules,
    /// The statuses of responses that count as a pass: from, to.
    pub statuses: Vec<(u16, u16)>,
    /// Are requests refused while all servers are down?
    pub mandatory: bool,
}

/// uWSGI's ping: modifier1 100, no vars.
const PING: [u8; 4] = [100, 0, 0, 0];
/// What is said so far.
#[derive(Default)]
struct Said<'a> {
    ping: bool,
    uri: Option<&'a [u8]>,
    interval: Option<u64>,
    jitter: Option<u64>,
    timeout: Option<u64>,
    fails: Option<u32>,
    passes: Option<u32>,
    statuses: Option<Vec<(u16, u16)>>,
    host: Option<&'a [u8]>,
    headers: Vec<(&'a [u8], &'a [u8])>,
    mandatory: bool,
}

impl Check {
    /// A check of its parameters. `time` reads a time, in milliseconds.
    ///
    /// # Errors
    ///
    /// What is wrong, as a directive's error says it.
    pub fn parse<'a>(
        words: impl Iterator<Item = &'a [u8]>,
        time: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Check, String> {
        let mut said = Said::default();
        for word in words {
            said.read(word, &time)?;
        }
        said.check()
    }

    /// The same check in another place than an upstream, and the names of params that its requests are without
    /// ([`Made::left_out`]).
    ///
    /// # Errors
    ///
    /// As of [`parse`](Self::parse).
    pub fn placed(&self, place: &Place<'_>) -> Result<(Check, Vec<Vec<u8>>), String> {
        let Some(target) = &self.target else { return Ok((self.clone(), Vec::new())) };
        let Made { packet, left_out } = target.request(place).map_err(too_large)?;
        Ok((Check { packet, ..self.clone() }, left_out))
    }

    /// Do the two differ in nothing but in what they send?
    pub fn is_same_but_for_params(&self, other: &Check) -> bool {
        *self == Check { packet: self.packet.clone(), ..other.clone() }
    }
}

fn too_large(size: usize) -> String {
    format!("makes a request of {size} bytes of vars")
}

impl<'a> Said<'a> {
    fn read(
        &mut self,
        word: &'a [u8],
        time: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<(), String> {
        let shown = word.escape_ascii();
        let twice = || format!("has \"{shown}\", which is said before");
        let (name, value) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (word.get(..at).unwrap_or(word), word.get(at + 1..)),
            None => (word, None),
        };
        let wrong = |what: &str| format!("invalid value \"{shown}\", it must be {what}");
        let span = |value: &[u8], least: u64| {
            let span = time(value).map(|time| time as u64);
            span.filter(|span| (least..=DAY).contains(span))
                .ok_or_else(|| wrong(&format!("a time from {least}ms to a day, such as \"5s\"")))
        };
        let number = |value: &[u8]| {
            let number = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
            let number = number.and_then(|text| text.parse().ok());
            number
                .filter(|number| (1..=1000).contains(number))
                .ok_or_else(|| wrong("a number from 1 to 1000"))
        };
        let is_new = match (name, value) {
            (b"ping", None) => !std::mem::replace(&mut self.ping, true),
            (b"mandatory", None) => !std::mem::replace(&mut self.mandatory, true),
            (b"uri", Some(value)) => {
                if !is_uri(value) {
                    return Err(wrong("a path such as \"/health\""));
                }
                self.uri.replace(value).is_none()
            }
            (b"interval", Some(value)) => self.interval.replace(span(value, 10)?).is_none(),
            (b"jitter", Some(value)) => self.jitter.replace(span(value, 0)?).is_none(),
            (b"timeout", Some(value)) => self.timeout.replace(span(value, 1)?).is_none(),
            (b"fails", Some(value)) => self.fails.replace(number(value)?).is_none(),
            (b"passes", Some(value)) => self.passes.replace(number(value)?).is_none(),
            (b"status", Some(value)) => {
                let statuses = statuses(value)
                    .ok_or_else(|| wrong("statuses from 100 to 599 such as \"200-399,404\""))?;
                self.statuses.replace(statuses).is_none()
            }
            (b"host", Some(value)) => {
                if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
                    return Err(wrong("a name"));
                }
                self.host.replace(value).is_none()
            }
            (b"header", Some(value)) => {
                let header = header(value).ok_or_else(|| wrong("such as \"Name:value\""))?;
                self.headers.push(header);
                true
            }
            _ => {
                return Err(format!(
                    "invalid parameter \"{shown}\", it must be one of \"ping\", \"mandatory\", \"uri=\", \
                     \"interval=\", \"jitter=\", \"timeout=\", \"fails=\", \"passes=\", \"status=\", \"host=\", \
                     \"header=\""
                ))
            }
        };
        if is_new {
            Ok(())
        } else {
            Err(twice())
        }
    }

    fn check(self) -> Result<Check, String> {
        let kind = match (self.ping, self.uri) {
            (true, Some(_)) => return Err("has both \"ping\" and \"uri\"".into()),
            (true, None) => Kind::Ping,
            (false, Some(_)) => Kind::Uri,
            (false, None) => Kind::Connect,
        };
        let of_requests =
            self.statuses.is_some() || self.host.is_some() || !self.headers.is_empty();
        if kind != Kind::Uri && of_requests {
            return Err("has \"status\", \"host\" or \"header\" without \"uri\"".into());
        }
        let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        let target = self.uri.map(|uri| Target {
            uri: uri.to_vec(),
            host: self.host.map(<[u8]>::to_vec),
            headers: self.headers.into_iter().map(owned).collect(),
        });
        let packet = match (kind, &target) {
            (Kind::Uri, Some(target)) => {
                target.request(&Place::upstream()).map_err(too_large)?.packet
            }
            (Kind::Ping, _) => PING.to_vec(),
            _ => Vec::new(),
        };
        Ok(Check {
            kind,
            target,
            packet,
            interval: self.interval.unwrap_or(5000),
            jitter: self.jitter.unwrap_or(0),
            timeout: self.timeout.unwrap_or(1000),
            rules: Rules { fails: self.fails.unwrap_or(3), passes: self.passes.unwrap_or(2) },
            statuses: self.statuses.unwrap_or_else(|| vec![(200, 399)]),
            mandatory: self.mandatory,
        })
    }
}

/// A day, in milliseconds: the longest time.
const DAY: u64 = 86_400_000;

/// The target of a request: a path of visible characters, and a query or none (RFC 9112, 3.2.1).
fn is_uri(uri: &[u8]) -> bool {
    let is_escape = |at: usize| {
        let digits = uri.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    uri.starts_with(b"/")
        && uri.iter().enumerate().all(|(at, byte)| match byte {
            b'%' => is_escape(at),
            b'#' => false,
            byte => byte.is_ascii_graphic(),
        })
}

/// "200-399,404".
fn statuses(list: &[u8]) -> Option<Vec<(u16, u16)>> {
    let status = |digits: &[u8]| {
        let is_status = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(digits).ok().filter(|_| is_status)?.parse().ok()?;
        (100..=599).contains(&number).then_some(number)
    };
    let range = |range: &[u8]| {
        let mut ends = range.splitn(2, |byte| *byte == b'-').map(status);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        (first <= last).then_some((first, last))
    };
    list.split(|byte| *byte == b',').map(range).collect()
}

/// "Name:value": a token (RFC 9110, 5.6.2), and visible characters with blanks between them.
fn header(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (name, value) = (text.get(..colon)?, text.get(colon + 1..)?.trim_ascii());
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let is_own = [&b"Host"[..], MARK, b"Connection", b"Content-Length", b"Transfer-Encoding"]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name));
    let is_header = !name.is_empty() && name.iter().all(is_token) && value.iter().all(is_text);
    (is_header && !is_own).then_some((name, value))
}
