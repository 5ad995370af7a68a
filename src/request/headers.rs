//! The request's headers in the packet.

use crate::conf::params::HeaderFilter;
use crate::nginx::request::HeaderLine;
use crate::nginx::Request;
use crate::pure::uwsgi::header_set::{is_same_var, HeaderSet};
use crate::pure::uwsgi::packet::Packet;

/// Each header as HTTP_NAME, at the place of the first of its name; more of the same name are joined
/// to it (RFC 9110, 5.3; for Cookie RFC 6265, 5.4).
///
/// Of names that become one var and are spelled differently, those with an underscore are left out: a
/// client could add to what a proxy before nginx has set.
///
/// Ordinary requests repeat no header, and spell none in two ways: one pass writes them all, and only where
/// it meets a repeated one, the work is begun anew.
#[inline(never)]
pub fn write_headers(r: Request<'_>, filter: &HeaderFilter, packet: &mut Packet) {
    let dropped = filter.dropped(r.is_upgrade());
    // The host that nginx acts on is the one of the request line, where that has one.
    let authority = r.target_authority();
    if let Some(authority) = authority {
        if !r.headers().any(|line| is_host(line.name)) && !dropped.contains(HOST) {
            packet.header(HOST, authority);
        }
    }

    if r.may_have_underscores() && r.headers().any(|line| is_respelled(r, &line)) {
        return write_headers_joined(r, dropped, authority, packet);
    }
    let start = packet.end();
    let is_repeated = match authority {
        None => write_each(r, dropped, packet, |line| line.value),
        Some(_) => {
            write_each(r, dropped, packet, |line| host_or_value(line.name, line.value, authority))
        }
    };
    if is_repeated {
        packet.rewind(start);
        write_headers_joined(r, dropped, authority, packet);
    }
}

/// Writes the headers one after the other, as long as none is repeated. Is one?
#[inline(always)]
fn write_each<'a>(
    r: Request<'a>,
    dropped: &HeaderSet,
    packet: &mut Packet,
    value_of: impl Fn(&HeaderLine<'a>) -> &'a [u8],
) -> bool {
    let mut names = HeaderBloom::default();
    let mut lines = r.headers();
    loop {
        let stopped = packet.quickly(|quick| {
            while let Some(line) = lines.next() {
                if dropped.contains_by(line.first, line.name) {
                    continue;
                }
                if names.insert(&line) && has_earlier(r, line, lines.clone().count()) {
                    return Some(Stopped::Repeated);
                }
                let value = value_of(&line);
                if !quick.header(line.name, value) {
                    return Some(Stopped::Large { name: line.name, value });
                }
            }
            None
        });
        match stopped {
            None => return false,
            Some(Stopped::Large { name, value }) => packet.header(name, value),
            Some(Stopped::Repeated) => return true,
        }
    }
}

/// Why headers are not written one after the other.
enum Stopped<'a> {
    /// There is no room for this one.
    Large { name: &'a [u8], value: &'a [u8] },
    /// One of the same name was written before.
    Repeated,
}

/// Is there one of the same name before this line, which so many follow?
#[cold]
fn has_earlier(r: Request<'_>, line: HeaderLine<'_>, following: usize) -> bool {
    let position = r.headers().count().saturating_sub(following + 1);
    r.headers().take(position).any(|earlier| earlier.is_same(&line))
}

#[cold]
fn write_headers_joined(
    r: Request<'_>,
    dropped: &HeaderSet,
    authority: Option<&[u8]>,
    packet: &mut Packet,
) {
    let (mut names, mut repeated) = (HeaderBloom::default(), HeaderBloom::default());
    for line in r.headers() {
        if names.insert(&line) {
            repeated.insert(&line);
        }
    }
    let may_have_underscores = r.may_have_underscores();
    for (position, line) in r.headers().enumerate() {
        if dropped.contains(line.name) || may_have_underscores && is_respelled(r, &line) {
            continue;
        }
        if !repeated.may_hold(&line) || authority.is_some() && is_host(line.name) {
            packet.header(line.name, host_or_value(line.name, line.value, authority));
        } else {
            write_repeated(r, &line, position, packet);
        }
    }
}

/// Has the name an underscore, and does another one, spelled differently, become the same var?
#[inline(never)]
fn is_respelled(r: Request<'_>, line: &HeaderLine<'_>) -> bool {
    line.name.contains(&b'_')
        && r.headers().any(|other| is_same_var(other.name, line.name) && !other.is_same(line))
}

#[inline(always)]
fn host_or_value<'a>(name: &[u8], value: &'a [u8], authority: Option<&'a [u8]>) -> &'a [u8] {
    match authority {
        Some(authority) if is_host(name) => authority,
        _ => value,
    }
}

/// A header whose name may be there more than once: nothing, unless it is the first of its name.
fn write_repeated(r: Request<'_>, line: &HeaderLine<'_>, position: usize, packet: &mut Packet) {
    if !r.headers().take(position).any(|earlier| earlier.is_same(line)) {
        let same = r.headers().skip(position).filter(|other| other.is_same(line));
        packet.header_joined(line.name, same.map(|other| other.value));
    }
}

impl HeaderLine<'_> {
    /// Have both the same name?
    fn is_same(&self, other: &HeaderLine<'_>) -> bool {
        self.hash == other.hash && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// A Bloom filter of names of headers, over nginx's hashes: it may hold more than it was given. It keeps
/// the cost of ordinary requests in proportion to their headers.
#[derive(Default)]
struct HeaderBloom([u64; 32]);

impl HeaderBloom {
    /// Adds a name. May it have been there before?
    fn insert(&mut self, line: &HeaderLine<'_>) -> bool {
        let (word, bit) = Self::place(line);
        let Some(word) = self.0.get_mut(word) else { return true };
        let was_there = *word & bit != 0;
        *word |= bit;
        was_there
    }

    fn may_hold(&self, line: &HeaderLine<'_>) -> bool {
        let (word, bit) = Self::place(line);
        self.0.get(word).is_none_or(|word| word & bit != 0)
    }

    fn place(line: &HeaderLine<'_>) -> (usize, u64) {
        (line.hash / 64 % 32, 1 << (line.hash % 64))
    }
}

const HOST: &[u8] = b"Host";

#[inline(never)]
fn is_host(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(HOST)
}
