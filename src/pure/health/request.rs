//! The request of a probe: a GET with the params of the place that its check is said in. There is no client, so
//! that variables have the values that stand here.

use crate::pure::uwsgi::mount;
use crate::pure::uwsgi::names::STANDARD_PARAMS;
use crate::pure::uwsgi::packet::{Packet, MAX_VARS};

/// The header that tells an application what a request is.
pub const MARK: &[u8] = b"X-Rs-Uwsgi-Health-Check";

/// What is asked for, as `rs_uwsgi_health_check` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, and a query or none.
    pub uri: Vec<u8>,
    /// The host, with a port or without.
    pub host: Option<Vec<u8>>,
    /// Other headers: names and values.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A param as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// The var's name.
    pub name: &'a [u8],
    /// Its value, which may have variables.
    pub value: &'a [u8],
    /// Leave the var out where its value is empty.
    pub if_not_empty: bool,
}

/// The place that a check is said in.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Its params.
    pub params: Vec<Param<'a>>,
    /// The first name of its server; None in an upstream, which has none.
    pub server_name: Option<&'a [u8]>,
    /// `$document_root`, where that has no variables.
    pub document_root: Option<&'a [u8]>,
    /// `rs_uwsgi_mount`.
    pub mount: Option<&'a [u8]>,
    /// `rs_uwsgi_string`.
    pub string: &'a [u8],
    /// The modifiers.
    pub modifiers: (u8, u8),
}

impl Place<'_> {
    /// An upstream: the standard params, and nothing else.
    pub fn upstream() -> Place<'static> {
        let params = STANDARD_PARAMS.iter().map(|(name, value, if_not_empty)| Param {
            name: name.as_bytes(),
            value: value.as_bytes(),
            if_not_empty: *if_not_empty,
        });
        Place {
            params: params.collect(),
            server_name: None,
            document_root: Some(b""),
            mount: None,
            string: b"",
            modifiers: (0, 0),
        }
    }
}

/// A request, and the names of params that it is without: there is no value for a variable in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The packet.
    pub packet: Vec<u8>,
    /// The params.
    pub left_out: Vec<Vec<u8>>,
}

impl Target {
    /// Makes the request.
    ///
    /// # Errors
    ///
    /// Vars of more bytes than the protocol allows: how many these are.
    pub fn request(&self, place: &Place<'_>) -> Result<Made, usize> {
        let known = Known::new(self, place);
        let (script_name, path_info) = match place.mount {
            Some(mount) => mount::split(mount, &known.path),
            None => (&b""[..], &known.path[..]),
        };
        let mut packet = Packet::new();
        let (mut left_out, mut has_script_name) = (Vec::new(), false);
        for Param { name, value, if_not_empty } in &place.params {
            // of a header, no value means: not at all
            if name.starts_with(b"HTTP_") && value.is_empty() {
                continue;
            }
            let value = match (*name, place.mount) {
                (b"SCRIPT_NAME", Some(_)) => {
                    has_script_name = true;
                    Some(script_name.to_vec())
                }
                (b"PATH_INFO", Some(_)) => Some(path_info.to_vec()),
                // there is no body
                (b"CONTENT_LENGTH", _) => known.expand(value).map(|value| match value.is_empty() {
                    true => value,
                    false => b"0".to_vec(),
                }),
                _ => known.expand(value),
            };
            match value {
                None => left_out.push(name.to_vec()),
                Some(value) if value.is_empty() && *if_not_empty => {}
                Some(value) => packet.var(name, &value),
            }
        }
        if place.mount.is_some() && !has_script_name {
            packet.var(b"SCRIPT_NAME", script_name);
        }
        let host = known.host;
        // no connection is kept for the next probe
        let own = [(&b"Host"[..], host), (MARK, b"1"), (b"Connection", b"close")];
        let said = self.headers.iter().map(|(name, value)| (&name[..], &value[..]));
        for (name, value) in own.into_iter().chain(said) {
            if !place.params.iter().any(|param| replaces(param.name, name)) {
                packet.header(name, value);
            }
        }
        packet.raw(place.string);
        let size = packet.vars_size();
        let packet = packet.finish(place.modifiers.0, place.modifiers.1, MAX_VARS);
        packet.map(|packet| Made { packet: packet.to_vec(), left_out }).map_err(|_| size)
    }
}

/// Is it the var of this header?
fn replaces(var: &[u8], header: &[u8]) -> bool {
    let Some(name) = var.strip_prefix(b"HTTP_") else { return false };
    let upcase = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    name.iter().copied().eq(header.iter().map(upcase))
}

/// What variables stand for.
struct Known<'a> {
    target: &'a Target,
    place: &'a Place<'a>,
    /// The path, without its escapes.
    path: Vec<u8>,
    query: &'a [u8],
    host: &'a [u8],
}

impl<'a> Known<'a> {
    fn new(target: &'a Target, place: &'a Place<'a>) -> Self {
        let at = target.uri.iter().position(|byte| *byte == b'?').unwrap_or(target.uri.len());
        let (path, query) = target.uri.split_at(at);
        let is_host = |name: &&[u8]| {
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
            !name.is_empty() && !name.starts_with(b".") && name.iter().all(is_plain)
        };
        // "_" is what is written where a server has no name
        let own = place.server_name.filter(is_host).filter(|name| *name != b"_");
        Known {
            target,
            place,
            path: decoded(path),
            query: query.strip_prefix(b"?").unwrap_or_default(),
            host: target.host.as_deref().or(own).unwrap_or(b"localhost"),
        }
    }

    /// A value with its variables replaced. None where one of them has no value.
    fn expand(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(value.len());
        let mut rest = value;
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            out.extend(rest.get(..at)?);
            let name = rest.get(at + 1..)?;
            let (name, after) = match name.strip_prefix(b"{") {
                Some(braced) => {
                    let end = braced.iter().position(|byte| *byte == b'}')?;
                    (braced.get(..end)?, braced.get(end + 1..)?)
                }
                None => {
                    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                    let end = name.iter().position(|byte| !is_name(byte)).unwrap_or(name.len());
                    name.split_at(end)
                }
            };
            out.extend(self.variable(&name.to_ascii_lowercase())?);
            rest = after;
        }
        out.extend(rest);
        Some(out)
    }

    fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        Some(match name {
            b"query_string" | b"args" => self.query,
            b"is_args" if self.query.is_empty() => b"",
            b"is_args" => b"?",
            b"request_method" => b"GET",
            b"request_uri" => &self.target.uri,
            b"document_uri" | b"uri" => &self.path,
            b"document_root" => self.place.document_root?,
            b"server_protocol" => b"HTTP/1.1",
            b"scheme" => b"http",
            b"remote_addr" | b"server_addr" | b"realip_remote_addr" => b"127.0.0.1",
            b"proxy_add_x_forwarded_for" => b"127.0.0.1",
            b"remote_port" => b"0",
            b"server_port" => b"80",
            b"server_name" => self.place.server_name.unwrap_or_else(|| without_port(self.host)),
            b"host" => without_port(self.host),
            b"http_host" => self.host,
            b"content_type" | b"content_length" | b"https" | b"remote_user" => b"",
            _ if name.starts_with(b"http_") => {
                let var = name.to_ascii_uppercase();
                let said = self.target.headers.iter().find(|(header, _)| replaces(&var, header));
                said.map_or(b"", |(_, value)| value)
            }
            _ if name.starts_with(b"cookie_") || name.starts_with(b"ssl_") => b"",
            _ => return None,
        })
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

/// A path without its escapes.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut rest = path;
    let mut out = Vec::with_capacity(path.len());
    while let [byte, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low) as u8)
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*byte));
        rest = match escaped {
            Some(_) => rest.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    out
}
