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
use crate::nginx::chain::ChainBuilder;
use crate::nginx::log::Printable;
use crate::nginx::request::HeaderLine;
use crate::nginx::sys::{ngx_int_t, NGX_HTTP_INTERNAL_SERVER_ERROR};
use crate::nginx::{Error, Request};
use crate::pure::uwsgi::decimal::Decimal;
use crate::pure::uwsgi::header_set::{is_same_var, HeaderSet};
use crate::pure::uwsgi::packet::{Packet, TooLarge};

/// "Request Header Fields Too Large", RFC 6585, 5.
pub const REQUEST_HEADER_FIELDS_TOO_LARGE: ngx_int_t = 431;
const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

thread_local! {
    /// The buffer that packets are written into before their size is known; a packet of the right
    /// size is then copied from it. It stays with the worker, so a request costs one allocation.
    /// Taken out and put back by each request. Of a type that is never dropped, because what would
    /// have to be costs some twenty instructions each time.
    static SCRATCH: Cell<Option<&'static mut Packet>> = const { Cell::new(None) };
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
    let passes_body = conf.upstream.pass_request_body != 0 && !context.without_body.get();
    if passes_body && !r.is_body_unbuffered() {
        chain.push_chain(u.request())?;
    }
    u.set_request(chain.finish());
    Ok(())
}

/// Encodes the vars and keeps the packet with the request.
fn encode<'a>(r: Request<'a>, encoding: Option<&'a Encoding>) -> Result<(), ngx_int_t> {
    let packet = SCRATCH.take().unwrap_or_else(|| Box::leak(Box::default()));
    packet.clear();
    let result = match encoding {
        Some(encoding) => encode_into(r, encoding, packet),
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
    if !conf.string().is_empty() {
        packet.raw(conf.string());
    }

    let bytes = packet.finish(modifier1, modifier2, conf.max_vars).map_err(|too_large| {
        log_too_large(r, conf, &too_large);
        context.refused_size.set(u32::try_from(too_large.size).ok());
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
        return r.content_length().unwrap_or(0);
    }
    if conf.upstream.pass_request_body == 0 {
        return 0;
    }
    let size = r.body().size();
    if size > 0 && r.context().is_some_and(|context| context.without_body.get()) {
        return 0;
    }
    size
}

#[inline(never)]
fn write_params<'a>(
    r: Request<'a>,
    conf: &'a LocConf,
    vars: &'a Vars,
    packet: &mut Packet,
) -> Result<(), ngx_int_t> {
    let mut special = Special::new(r, conf);
    for param in &vars.params {
        let mut value = param.evaluate(r)?;
        if param.role != Role::Plain {
            let Some(other) = special.value(param, value) else { continue };
            value = other;
        } else if value.is_empty() && param.if_not_empty {
            continue;
        }
        packet.param(&param.name, value);
    }
    special.write_missing(packet);
    Ok(())
}

/// The values that are more than what was configured.
struct Special<'a> {
    /// The length of the body that follows, where there is one.
    length: Option<Decimal>,
    length_written: bool,
    /// SCRIPT_NAME and PATH_INFO, under `rs_uwsgi_mount`.
    mounted: Option<(&'a [u8], &'a [u8])>,
    script_name_written: bool,
}

impl<'a> Special<'a> {
    fn new(r: Request<'a>, conf: &'a LocConf) -> Self {
        let length = body_length(r, conf);
        Special {
            length: (length > 0).then(|| Decimal::new(length)),
            length_written: false,
            mounted: conf.mount.as_deref().map(|mount| mount::split(mount, r.uri())),
            script_name_written: false,
        }
    }

    /// The value of a parameter with a role, which is `configured` in the configuration. None where
    /// the var is not to be written.
    ///
    /// CONTENT_LENGTH is the length of the body that follows, whatever was configured: any other value
    /// would let a client smuggle a request into a connection that stays open. For no body it is empty
    /// where it was configured to be.
    #[inline(never)]
    fn value<'b>(&'b mut self, param: &Param, configured: &'b [u8]) -> Option<&'b [u8]> {
        let is_written = !(configured.is_empty() && param.if_not_empty);
        match (param.role, self.mounted) {
            (Role::ContentLength, _) if self.length_written => None,
            (Role::ContentLength, _) => {
                self.length_written = is_written || self.length.is_some();
                match &self.length {
                    Some(length) => Some(length.digits()),
                    None if configured.is_empty() => is_written.then_some(b""),
                    None => Some(b"0"),
                }
            }
            (Role::ScriptName, Some((script_name, _))) => {
                self.script_name_written = true;
                Some(script_name)
            }
            (Role::PathInfo, Some((_, path_info))) => Some(path_info),
            _ => is_written.then_some(configured),
        }
    }

    /// Where the configuration names neither, the server would not know.
    fn write_missing(&self, packet: &mut Packet) {
        if let (Some(length), false) = (&self.length, self.length_written) {
            packet.var(b"CONTENT_LENGTH", length.digits());
        }
        if let (Some((script_name, _)), false) = (self.mounted, self.script_name_written) {
            packet.var(b"SCRIPT_NAME", script_name);
        }
    }
}

impl Param {
    #[inline(always)]
    fn evaluate<'a>(&'a self, r: Request<'a>) -> Result<&'a [u8], ngx_int_t> {
        // What most are: found by one comparison. A match of all three would cost 75 instructions a
        // request.
        if let Value::Variable(variable) = &self.value {
            return Ok(variable.evaluate(r));
        }
        self.evaluate_other(r)
    }

    #[inline(never)]
    fn evaluate_other<'a>(&'a self, r: Request<'a>) -> Result<&'a [u8], ngx_int_t> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Variable(variable) => Ok(variable.evaluate(r)),
            Value::Script(script) => script.evaluate(r).ok_or(INTERNAL_SERVER_ERROR),
        }
    }
}

/// Each header as HTTP_NAME, at the place of the first of its name; more of the same name are joined
/// to it (RFC 9110, 5.3; for Cookie RFC 6265, 5.4).
///
/// Of names that become one var and are spelled differently, those with an underscore are left out: a
/// client could add to what a proxy before nginx has set.
///
/// Ordinary requests repeat no header, and spell none in two ways: one pass writes them all, and only where
/// it meets a repeated one, the work is begun anew.
#[inline(never)]
fn write_headers(r: Request<'_>, filter: &HeaderFilter, packet: &mut Packet) {
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
    let mut names = Names::default();
    let mut lines = r.headers();
    while let Some(line) = lines.next() {
        if dropped.contains(line.name) {
            continue;
        }
        if names.insert(&line) && has_earlier(r, line, lines.clone().count()) {
            packet.rewind(start);
            return write_headers_joined(r, dropped, authority, packet);
        }
        packet.header(line.name, host_or_value(line.name, line.value, authority));
    }
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
    let (mut names, mut repeated) = (Names::default(), Names::default());
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

/// A set of names of headers that may hold more than it was given: a filter over nginx's hashes,
/// which keeps the cost of ordinary requests in proportion to their headers.
#[derive(Default)]
struct Names([u64; 32]);

impl Names {
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
