//! The request to the server: parameters and headers become a packet, the packet and the client's
//! body a chain of buffers.
//!
//! Mirrors `ngx_http_uwsgi_create_request` of nginx's src/http/modules/ngx_http_uwsgi_module.c. The
//! packets are byte for byte stock's, but for the differences that the documentation lists.

use std::cell::Cell;

use crate::conf::modifiers::Modifier;
use crate::conf::mount;
use crate::conf::params::{HeaderFilter, Param, Role, Value, Vars};
use crate::conf::{Encoding, LocConf};
use crate::ffi::chain::ChainBuilder;
use crate::ffi::log::Printable;
use crate::ffi::request::HeaderLine;
use crate::ffi::sys::{ngx_int_t, NGX_HTTP_INTERNAL_SERVER_ERROR};
use crate::ffi::{Error, Request};
use crate::uwsgi::packet::{Packet, TooLarge};

/// "Request Header Fields Too Large", RFC 6585, 5.
const REQUEST_HEADER_FIELDS_TOO_LARGE: ngx_int_t = 431;
const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

thread_local! {
    /// The buffer that packets are written into before their size is known; a packet of the right
    /// size is then copied from it. It stays with the worker, so a request costs one allocation.
    static SCRATCH: Cell<Option<Packet>> = const { Cell::new(None) };
}

/// Writes the packet before nginx starts the upstream, because [`create`] can fail with nothing but
/// 500, and a request that is too large deserves a better answer.
///
/// With a cache, only [`create`] knows whether a packet is needed, and which; before it, only heads
/// of a suspicious size are looked at. The standard parameters repeat the URI, hence a quarter.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
pub fn prepare(r: Request<'_>) -> Result<(), ngx_int_t> {
    let conf = r.loc_conf();
    if conf.caches() && head_size(r) < conf.max_vars / 4 {
        return Ok(());
    }
    encode(r, conf.encoding.as_ref())
}

fn head_size(r: Request<'_>) -> usize {
    let headers = r.headers().map(|line| line.name.len() + line.value.len());
    r.request_line().len() + headers.sum::<usize>()
}

/// Gives the request to nginx: the packet, and the body behind it.
///
/// # Errors
///
/// [`Error::Failed`]; the reason is in the log.
pub fn create(r: Request<'_>) -> Result<(), Error> {
    let conf = r.loc_conf();
    let u = r.upstream().ok_or(Error::Failed)?;
    let context = r.context().ok_or(Error::Failed)?;

    let is_cacheable = u.is_cacheable();
    if is_cacheable || context.packet.get().is_empty() {
        let encoding = if is_cacheable { &conf.cached_encoding } else { &conf.encoding };
        encode(r, encoding.as_ref()).map_err(|_| Error::Failed)?;
    }

    let mut chain = ChainBuilder::new(r.pool());
    chain.push(context.packet.get())?;
    // An unbuffered body is added by nginx as it comes.
    if !r.is_body_unbuffered() && conf.upstream.pass_request_body != 0 {
        chain.push_chain(u.request())?;
    }
    u.set_request(chain.finish());
    Ok(())
}

/// Encodes the vars and keeps the packet with the request.
fn encode<'a>(r: Request<'a>, encoding: Option<&'a Encoding>) -> Result<(), ngx_int_t> {
    let mut packet = SCRATCH.take().unwrap_or_default();
    packet.clear();
    let result = match encoding {
        Some(encoding) => encode_into(r, encoding, &mut packet),
        None => Err(INTERNAL_SERVER_ERROR),
    };
    SCRATCH.set(Some(packet));
    result
}

fn encode_into<'a>(
    r: Request<'a>,
    encoding: &'a Encoding,
    packet: &mut Packet,
) -> Result<(), ngx_int_t> {
    let conf = r.loc_conf();
    let context = r.context().ok_or(INTERNAL_SERVER_ERROR)?;

    let modifier1 = Modifier::evaluate(conf.modifier1, "rs_uwsgi_modifier1", r);
    let modifier2 = Modifier::evaluate(conf.modifier2, "rs_uwsgi_modifier2", r);
    let (Some(modifier1), Some(modifier2)) = (modifier1, modifier2) else {
        return Err(INTERNAL_SERVER_ERROR);
    };

    write_params(r, conf, &encoding.vars, packet)?;
    if conf.upstream.pass_request_headers != 0 {
        write_headers(r, &encoding.header_filter, packet);
    }
    packet.raw(conf.string());

    let bytes = packet.finish(modifier1, modifier2, conf.max_vars).map_err(|too_large| {
        log_too_large(r, conf, &too_large);
        REQUEST_HEADER_FIELDS_TOO_LARGE
    })?;
    let bytes = r.pool().copy(bytes).map_err(|_| INTERNAL_SERVER_ERROR)?;
    context.packet.set(bytes);
    Ok(())
}

fn log_too_large(r: Request<'_>, conf: &LocConf, too_large: &TooLarge) {
    r.log().error(format_args!(
        "client sent too large request: its vars are {} bytes, \"rs_uwsgi_max_vars\" allows {}, the \
         largest is \"{}\" of {} bytes",
        too_large.size,
        conf.max_vars,
        Printable(&too_large.largest_name),
        too_large.largest_size,
    ));
}

/// The number of body bytes that follow the packet.
pub fn body_length(r: Request<'_>, conf: &LocConf) -> u64 {
    if r.is_body_unbuffered() {
        r.content_length().unwrap_or(0)
    } else if conf.upstream.pass_request_body != 0 {
        r.body().size()
    } else {
        0
    }
}

fn write_params<'a>(
    r: Request<'a>,
    conf: &'a LocConf,
    vars: &'a Vars,
    packet: &mut Packet,
) -> Result<(), ngx_int_t> {
    let length = body_length(r, conf);
    let mut length_written = false;
    let mut script_name_written = false;
    let mounted = conf.mount.as_deref().map(|mount| mount::split(mount, r.uri()));

    for param in &vars.params {
        match (param.role, mounted) {
            (Role::ContentLength, _) if length_written => {}
            (Role::ContentLength, _) => {
                let empty = param.evaluate(r)?.is_empty();
                length_written = write_content_length(packet, param, length, empty);
            }
            (Role::ScriptName, Some((script_name, _))) => {
                packet.var(&param.name, script_name);
                script_name_written = true;
            }
            (Role::PathInfo, Some((_, path_info))) => packet.var(&param.name, path_info),
            _ => {
                let value = param.evaluate(r)?;
                if !(param.if_not_empty && value.is_empty()) {
                    packet.var(&param.name, value);
                }
            }
        }
    }

    // Where the configuration names neither, the server would not know.
    if length > 0 && !length_written {
        packet.var(b"CONTENT_LENGTH", Decimal::new(length).digits());
    }
    if let (Some((script_name, _)), false) = (mounted, script_name_written) {
        packet.var(b"SCRIPT_NAME", script_name);
    }
    Ok(())
}

/// CONTENT_LENGTH is the length of the body that follows, whatever was configured: any other value
/// would let a client smuggle a request into a connection that stays open. For no body it is empty
/// where it was configured to be.
fn write_content_length(packet: &mut Packet, param: &Param, length: u64, empty: bool) -> bool {
    if length == 0 && empty {
        if param.if_not_empty {
            return false;
        }
        packet.var(&param.name, b"");
    } else {
        packet.var(&param.name, Decimal::new(length).digits());
    }
    true
}

/// A number in plain digits.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            start = place;
            if number == 0 {
                break;
            }
        }
        Decimal { digits, start }
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

impl Param {
    fn evaluate<'a>(&'a self, r: Request<'a>) -> Result<&'a [u8], ngx_int_t> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Variable(index) => Ok(r.variable(*index).unwrap_or_default()),
            Value::Script(script) => script.evaluate(r).ok_or(INTERNAL_SERVER_ERROR),
        }
    }
}

/// Each header as HTTP_NAME, at the place of the first of its name; more of the same name are joined
/// to it (RFC 9110, 5.3; for Cookie RFC 6265, 5.4).
fn write_headers(r: Request<'_>, filter: &HeaderFilter, packet: &mut Packet) {
    let dropped = filter.dropped(r.is_upgrade());

    // The host that nginx acts on is the one of the request line, where that has one.
    let authority = r.target_authority();
    if let Some(authority) = authority {
        if !r.headers().any(|line| is_host(line.name)) && !dropped.contains(HOST) {
            packet.header(HOST, authority);
        }
    }

    let repeated = RepeatedNames::among(r.headers());
    for (position, line) in r.headers().enumerate() {
        if dropped.contains(line.name) {
            continue;
        }
        match authority {
            Some(authority) if is_host(line.name) => packet.header(line.name, authority),
            _ if repeated.may_contain(&line) => write_repeated(r, &line, position, packet),
            _ => packet.header(line.name, line.value),
        }
    }
}

/// A header whose name may be there more than once: nothing, unless it is the first of its name.
fn write_repeated(r: Request<'_>, line: &HeaderLine<'_>, position: usize, packet: &mut Packet) {
    let same = |other: &HeaderLine<'_>| {
        other.hash == line.hash && other.name.eq_ignore_ascii_case(line.name)
    };
    if !r.headers().take(position).any(|earlier| same(&earlier)) {
        let values = r.headers().skip(position).filter(same).map(|other| other.value);
        packet.header_joined(line.name, values);
    }
}

/// The names that are there more than once, or might be: a filter over nginx's hashes, which keeps
/// the cost of ordinary requests in proportion to their headers.
#[derive(Default)]
struct RepeatedNames {
    once: [u64; 8],
    again: [u64; 8],
}

impl RepeatedNames {
    fn among<'a>(lines: impl Iterator<Item = HeaderLine<'a>>) -> Self {
        let mut names = RepeatedNames::default();
        for line in lines {
            let (word, bit) = Self::place(&line);
            if let (Some(once), Some(again)) = (names.once.get_mut(word), names.again.get_mut(word))
            {
                *again |= *once & bit;
                *once |= bit;
            }
        }
        names
    }

    fn may_contain(&self, line: &HeaderLine<'_>) -> bool {
        let (word, bit) = Self::place(line);
        self.again.get(word).is_some_and(|again| again & bit != 0)
    }

    fn place(line: &HeaderLine<'_>) -> (usize, u64) {
        (line.hash / 64 % 8, 1 << (line.hash % 64))
    }
}

const HOST: &[u8] = b"Host";

fn is_host(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(HOST)
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn numbers_are_plain_digits() {
        for number in [0, 1, 9, 10, 42, 99_999, u64::MAX] {
            assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
        }
    }
}
