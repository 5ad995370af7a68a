//! The request to the server: parameters and headers become a packet, the packet and the client's
//! body a chain of buffers.
//!
//! Mirrors `ngx_http_uwsgi_create_request` of nginx's src/http/modules/ngx_http_uwsgi_module.c. The
//! packets are byte for byte stock's, but for the differences that the documentation lists.

use std::cell::Cell;

use crate::conf::modifiers::Modifier;
use crate::conf::params::{CompiledParams, Param, Role, Value};
use crate::conf::{Encoding, LocConf};
use crate::module::State;
use crate::nginx::chain::ChainBuilder;
use crate::nginx::log::Printable;
use crate::nginx::status::INTERNAL_SERVER_ERROR;
use crate::nginx::status::REQUEST_HEADER_FIELDS_TOO_LARGE;
use crate::nginx::sys::ngx_int_t;
use crate::nginx::{Error, Request};
use crate::pure::uwsgi::mount;
use crate::pure::uwsgi::packet::{Packet, TooLarge, VarName};
use crate::state::RequestState;

use super::headers::write_headers;

thread_local! {
    /// The buffer that packets are written into before their size is known; a packet of the right
    /// size is then copied from it. It stays with the worker, so a request costs one allocation.
    /// Taken out and put back by each request. `&'static mut`, not `Box`: a thread-local with a
    /// destructor costs about 20 instructions an access.
    static SCRATCH: Cell<Option<&'static mut Packet>> = const { Cell::new(None) };
}

/// Writes the packet before nginx starts the upstream, because [`create`] can fail with nothing but
/// 500, and a request that is too large deserves a better answer.
///
/// With a cache, only [`create`] knows whether a packet is needed, and which; before it, only heads
/// of a suspicious size are looked at. The standard parameters repeat the URI, hence a quarter.
/// `body_length`: of the body that follows, in bytes.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
#[inline(always)]
pub fn prepare<'a>(r: Request<'a>, state: &State<'a>, body_length: u64) -> Result<(), ngx_int_t> {
    let conf = LocConf::of(r);
    if conf.caches() && head_size(r) < conf.max_vars / 4 {
        return Ok(());
    }
    encode(r, state, conf, body_length, conf.encoding.as_ref())
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
    let conf = LocConf::of(r);
    let state = RequestState::of(r).ok_or(Error::Failed)?;
    let u = state.upstream;

    let is_cacheable = u.is_cacheable();
    if is_cacheable || state.packet.get().is_empty() {
        let encoding = if is_cacheable { &conf.cached_encoding } else { &conf.encoding };
        encode(r, state, conf, state.body_length(r), encoding.as_ref())
            .map_err(|_| Error::Failed)?;
    }

    let mut chain = ChainBuilder::new(r.pool());
    chain.push(state.packet.get())?;
    // An unbuffered body is added by nginx as it comes.
    let passes_body = conf.upstream.pass_request_body != 0 && !state.without_body.get();
    if passes_body && !r.is_body_unbuffered() {
        chain.push_chain(u.request())?;
    }
    u.set_request(chain.finish());
    Ok(())
}

/// Encodes the vars and keeps the packet with the request.
#[inline(always)]
fn encode<'a>(
    r: Request<'a>,
    state: &State<'a>,
    conf: &'a LocConf,
    body_length: u64,
    encoding: Option<&'a Encoding>,
) -> Result<(), ngx_int_t> {
    let encoding = encoding.ok_or(INTERNAL_SERVER_ERROR)?;
    let packet = SCRATCH.take().unwrap_or_else(|| Box::leak(Box::default()));
    packet.clear();
    let result = encode_into(r, state, conf, body_length, encoding, packet);
    SCRATCH.set(Some(packet));
    result
}

#[inline(never)]
fn encode_into<'a>(
    r: Request<'a>,
    state: &State<'a>,
    conf: &'a LocConf,
    body_length: u64,
    encoding: &'a Encoding,
    packet: &mut Packet,
) -> Result<(), ngx_int_t> {
    let modifier1 = Modifier::evaluate(conf.modifier1, "rs_uwsgi_modifier1", r);
    let modifier2 = Modifier::evaluate(conf.modifier2, "rs_uwsgi_modifier2", r);
    let (Some(modifier1), Some(modifier2)) = (modifier1, modifier2) else {
        return Err(INTERNAL_SERVER_ERROR);
    };

    write_params(r, body_length, conf, &encoding.vars, packet)?;
    if conf.upstream.pass_request_headers != 0 {
        write_headers(r, &encoding.header_filter, packet);
    }
    if !conf.string().is_empty() {
        packet.raw(conf.string());
    }

    let bytes = packet.finish(modifier1, modifier2, conf.max_vars).map_err(|too_large| {
        log_too_large(r, conf, &too_large);
        state.refused_size.set(u32::try_from(too_large.size).ok());
        REQUEST_HEADER_FIELDS_TOO_LARGE
    })?;
    let bytes = r.pool().copy(bytes).map_err(|_| INTERNAL_SERVER_ERROR)?;
    state.packet.set(bytes);
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

#[inline(always)]
fn write_params<'a>(
    r: Request<'a>,
    body_length: u64,
    conf: &'a LocConf,
    vars: &'a CompiledParams,
    packet: &mut Packet,
) -> Result<(), ngx_int_t> {
    let mut digits = itoa::Buffer::new();
    let mut special = Special {
        length: (body_length > 0).then(|| digits.format(body_length).as_bytes()),
        length_written: false,
        mounted: conf.mount.as_deref().map(|mount| mount::split(mount, r.uri())),
        script_name_written: false,
    };
    let mut params = vars.params.as_slice();
    while let Some(large) = write_quickly(r, params, &mut special, packet)? {
        packet.param(large.name, large.value);
        params = large.others;
    }
    special.write_missing(packet);
    Ok(())
}

/// A parameter that there is no room for.
struct Large<'a> {
    name: &'a VarName,
    value: &'a [u8],
    /// Those that follow it.
    others: &'a [Param],
}

/// Writes parameters up to the first that there is no room for. On its own, so that what it goes round with
/// stays in registers.
#[inline(never)]
fn write_quickly<'a, 'r: 'a>(
    r: Request<'r>,
    params: &'a [Param],
    special: &mut Special<'a>,
    packet: &mut Packet,
) -> Result<Option<Large<'a>>, ngx_int_t> {
    packet.quickly(|quick| {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            let mut value = param.evaluate(r)?;
            if !param.is_plain {
                let Some(other) = special.value(param, value) else { continue };
                value = other;
            }
            if !quick.param(&param.name, value) {
                return Ok(Some(Large { name: &param.name, value, others: params.as_slice() }));
            }
        }
        Ok(None)
    })
}

/// The values that are more than what was configured.
struct Special<'a> {
    /// The length of the body that follows, in digits; None where there is none.
    length: Option<&'a [u8]>,
    length_written: bool,
    /// SCRIPT_NAME and PATH_INFO, under `rs_uwsgi_mount`.
    mounted: Option<(&'a [u8], &'a [u8])>,
    script_name_written: bool,
}

impl<'a> Special<'a> {
    /// The value of a parameter that is not plain, which is `configured` in the configuration. None where
    /// the var is not to be written.
    #[inline(always)]
    fn value(&mut self, param: &Param, configured: &'a [u8]) -> Option<&'a [u8]> {
        let has_role = match param.role {
            Role::Plain => false,
            Role::ContentLength => true,
            Role::ScriptName | Role::PathInfo => self.mounted.is_some(),
        };
        if has_role {
            return self.value_in_role(param, configured);
        }
        let is_written = !(configured.is_empty() && param.if_not_empty);
        is_written.then_some(configured)
    }

    /// CONTENT_LENGTH is the length of the body that follows, whatever was configured: any other value
    /// would let a client smuggle a request into a connection that stays open. For no body it is empty
    /// where it was configured to be.
    #[inline(never)]
    fn value_in_role(&mut self, param: &Param, configured: &'a [u8]) -> Option<&'a [u8]> {
        let is_written = !(configured.is_empty() && param.if_not_empty);
        match (param.role, self.mounted) {
            (Role::ContentLength, _) if self.length_written => None,
            (Role::ContentLength, _) => {
                self.length_written = is_written || self.length.is_some();
                match self.length {
                    None if configured.is_empty() => is_written.then_some(configured),
                    length => Some(length.unwrap_or(b"0")),
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
        if let (Some(length), false) = (self.length, self.length_written) {
            packet.var(b"CONTENT_LENGTH", length);
        }
        if let (Some((script_name, _)), false) = (self.mounted, self.script_name_written) {
            packet.var(b"SCRIPT_NAME", script_name);
        }
    }
}

impl Param {
    #[inline(always)]
    fn evaluate<'a, 'r: 'a>(&'a self, r: Request<'r>) -> Result<&'a [u8], ngx_int_t> {
        // Most parameters are variables that need nobody else.
        match self.variable.quickly(r) {
            Some(value) => Ok(value),
            None => self.evaluate_other(r),
        }
    }

    #[inline(never)]
    fn evaluate_other<'a, 'r: 'a>(&'a self, r: Request<'r>) -> Result<&'a [u8], ngx_int_t> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Variable => Ok(self.variable.evaluate(r)),
            Value::Script(script) => script.evaluate(r).ok_or(INTERNAL_SERVER_ERROR),
        }
    }
}
