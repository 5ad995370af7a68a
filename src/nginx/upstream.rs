//! The request's upstream: `ngx_http_upstream_t`, which does all I/O.

use core::ptr::{self, NonNull};

use super::chain::Chain;
use super::connection::Connection;
use super::module::{self, Handler, Module};
use super::servers::Servers;
use super::state::State;
use super::sys::{
    ngx_http_upstream_conf_t, ngx_http_upstream_non_buffered_filter, ngx_http_upstream_t,
    ngx_msec_t, ngx_peer_connection_t, ngx_uint_t, NGX_HTTP_NOT_MODIFIED, NGX_HTTP_NO_CONTENT,
};
use super::upstream_conf::{self, Switch};
use super::{bytes_of, callbacks, early, slice_of, str_of, Brand, Error, Request};

/// The upstream of a request.
#[derive(Clone, Copy)]
pub struct Upstream<'a> {
    pub(super) ptr: NonNull<ngx_http_upstream_t>,
    _life: Brand<'a>,
}

/// What nginx has measured of a try: times in milliseconds, without those in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Until there was a connection.
    pub connect: Option<u64>,
    /// Until the head of the response was read.
    pub header: Option<u64>,
    /// Until now.
    pub time: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

impl<'a> Upstream<'a> {
    /// A handle on nginx's upstream.
    ///
    /// # Safety
    ///
    /// `u` must be valid for `'a`.
    pub(super) unsafe fn from_ptr(u: NonNull<ngx_http_upstream_t>) -> Self {
        Upstream { ptr: u, _life: Brand::NEW }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_http_upstream_t {
        self.ptr.as_ptr()
    }

    /// Puts the callbacks of `H` in their places, with nginx's own event pipe for buffered and its
    /// own filter for unbuffered bodies.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn wire<H: Handler>(
        self,
        r: Request<'a>,
        conf: &'a ngx_http_upstream_conf_t,
        state: &'a State<'a, H>,
    ) -> Result<(), Error> {
        // SAFETY: the upstream is valid and belongs to this request alone. nginx reads the
        // configuration through its mutable pointer and does not write to it; of the state, which
        // only our own callback looks at, it knows the address alone.
        unsafe {
            let u = self.ptr.as_ptr();
            (*u).output.tag = module::buffer_tag::<H>();
            (*u).output.output_filter = Some(early::send::<H>);
            (*u).output.filter_ctx = ptr::from_ref(state).cast_mut().cast();
            (*u).conf = ptr::from_ref(conf).cast_mut();
            flag!(u, buffering = (conf.buffering != 0).into());

            #[cfg(ngx_feature = "http_cache")]
            {
                (*u).caches = module::caches::<H>(r);
                (*u).create_key = Some(callbacks::create_key::<H>);
            }
            (*u).create_request = Some(callbacks::create_request::<H>);
            (*u).reinit_request = Some(callbacks::reinit_request::<H>);
            (*u).process_header = Some(callbacks::process_header::<H>);
            (*u).abort_request = Some(callbacks::abort_request::<H>);
            (*u).finalize_request = Some(callbacks::finalize_request::<H>);

            (*u).input_filter_init = Some(callbacks::input_filter_init::<H>);
            (*u).input_filter = Some(ngx_http_upstream_non_buffered_filter);
            (*u).input_filter_ctx = r.as_ptr().cast();
        }
        // nginx looks into the pipe of a response that it may cache or store, buffered or not
        let keeps = upstream_conf::store(conf) != Switch::Off;
        #[cfg(ngx_feature = "http_cache")]
        let keeps = keeps || upstream_conf::cache(conf) != Switch::Off;
        if keeps {
            self.add_pipe(r)?;
        }
        Ok(())
    }

    /// Has nginx given up a buffered response, of which its client would take more and its server has not failed? As
    /// where no temporary file can be written. To be asked when the request is finalized with an error.
    pub fn is_given_up(self) -> bool {
        let pipe = field!(self, pipe);
        // SAFETY: null, or the response's own, which has a temporary file, open or not, once nginx has begun with
        // the body.
        unsafe {
            pipe.as_ref().is_some_and(|pipe| !pipe.temp_file.is_null())
                && flag!(pipe, upstream_error) | flag!(pipe, downstream_error) == 0
        }
    }

    /// The scheme that `$upstream_…` variables and redirects see.
    pub fn set_schema(self, schema: &'a [u8]) {
        field!(self, schema = str_of(schema));
    }

    /// The servers that nginx will choose from, as far as they are configured: `ngx_http_upstream_init`
    /// looks for an upstream of the name that variables yield.
    pub fn servers<H: Module>(self, r: Request<'a>) -> Option<&'a Servers<H>> {
        let (conf, resolved) = (field!(self, conf), field!(self, resolved));
        // SAFETY: null, or what `resolve` made.
        let Some(resolved) = (unsafe { resolved.as_ref() }) else {
            // SAFETY: `wire` put the location's configuration there.
            return Servers::find(r, unsafe { (*conf).upstream });
        };
        // SAFETY: the name is the request's.
        let host = unsafe { bytes_of(resolved.host) };
        Servers::<H>::all(r).find(|servers| {
            let (name, port) = (servers.host(), servers.port());
            let same_port = port == resolved.port || port == 0 && resolved.no_port != 0;
            same_port && name.eq_ignore_ascii_case(host)
        })
    }

    /// Is the response to be cached, so that it must suit all clients?
    pub fn is_cacheable(self) -> bool {
        flag_of!(self, cacheable) != 0
    }

    /// Makes the connection a TLS one.
    pub fn enable_tls(self) {
        flag_of!(self, ssl = 1);
    }

    /// Sets what is sent to the server. The chain's memory must be the request's.
    pub fn set_request(self, chain: Chain<'a>) {
        field!(self, request_bufs = chain.as_ptr());
    }

    /// The client's body as nginx has it ready to be passed on.
    pub fn request(self) -> Chain<'a> {
        let chain = field!(self, request_bufs);
        // SAFETY: nginx put the request's body there, which lives as long as the request.
        unsafe { Chain::from_ptr(chain) }
    }

    /// What was read of the response and not yet parsed. Valid until nginx reads more.
    pub fn unparsed(self) -> &'a [u8] {
        let (pos, last) = (field!(self, buffer.pos), field!(self, buffer.last));
        // SAFETY: nginx read `pos..last` into its buffer; nobody writes there during a callback.
        unsafe { slice_of(pos, (last as usize).saturating_sub(pos as usize)) }
    }

    /// Marks bytes at the beginning of [`Self::unparsed`] as parsed.
    pub fn consume(self, bytes: usize) {
        let bytes = bytes.min(self.unparsed().len());
        let pos = field!(self, buffer.pos);
        // SAFETY: stays inside of `pos..last`.
        let pos = unsafe { pos.add(bytes) };
        field!(self, buffer.pos = pos);
    }

    /// Sets the response's status and, where the server gave one, its line ("200 OK").
    pub fn set_status(self, code: u16, line: Option<&'a [u8]>) {
        field!(self, headers_in.status_n = code.into());
        if let Some(line) = line {
            field!(self, headers_in.status_line = str_of(line));
        }
    }

    /// Back to a response of which nothing is known; its headers stay.
    pub fn clear_status(self) {
        self.set_status(0, Some(b""));
    }

    /// Tells `$upstream_status` of the response's status, unless it knows one.
    pub fn report_status(self) {
        let state = field!(self, state);
        // SAFETY: null, or valid as long as the request; nginx made it for this upstream.
        if let Some(state) = unsafe { state.as_mut() } {
            if state.status == 0 {
                state.status = self.status();
            }
        }
    }

    /// The response's status; 0 while there is none.
    pub fn status(self) -> ngx_uint_t {
        field!(self, headers_in.status_n)
    }

    /// Is it a status whose responses have no body (RFC 9110, 6.4.1)?
    pub fn is_bodiless(self) -> bool {
        [NGX_HTTP_NO_CONTENT, NGX_HTTP_NOT_MODIFIED].contains(&(self.status() as u32))
    }

    /// The value of the response's Status header, a CGI program's status line.
    pub fn status_header(self) -> Option<&'a [u8]> {
        let header = field!(self, headers_in.status);
        // SAFETY: null, or a header of the response's list, with a value in the request's memory.
        unsafe { header.as_ref().map(|header| bytes_of(header.value)) }
    }

    /// Has the response a Location header?
    pub fn has_location(self) -> bool {
        !field!(self, headers_in.location).is_null()
    }

    /// Lets nginx pass bytes both ways after this response (101 Switching Protocols).
    pub fn upgrade(self) {
        flag_of!(self, upgrade = 1);
    }

    /// The server may close with a reset, because it has not read all of the request. `is_end`: is that
    /// an end like any other, but for the cache, or an error?
    pub fn expect_reset(self, is_end: bool) {
        let Some(c) = self.connection() else { return };
        // SAFETY: nginx's connection of this try; the pool unwatches what it keeps.
        unsafe {
            if is_end {
                early::watch::<true>(c.as_ptr());
            } else {
                early::watch::<false>(c.as_ptr());
            }
        }
    }

    /// What the cache had, by nginx's number; 0 without a cache.
    pub fn cache_status(self) -> usize {
        #[cfg(ngx_feature = "http_cache")]
        return flag_of!(self, cache_status) as usize;
        #[cfg(not(ngx_feature = "http_cache"))]
        0
    }

    /// Keeps the response out of the cache.
    pub fn forbid_caching(self) {
        flag_of!(self, cacheable = 0);
    }

    /// What nginx has measured of the try in hand.
    pub fn measured(self) -> Measured {
        let (state, since) = (field!(self, state), field!(self, start_time));
        let time = |time: ngx_msec_t| (time != ngx_msec_t::MAX).then_some(time as u64);
        let bytes = |bytes| u64::try_from(bytes).unwrap_or(0);
        // SAFETY: null, or valid as long as the request; nginx made it for this try.
        let state = unsafe { state.as_ref() };
        state.map_or(Measured::default(), |state| Measured {
            connect: time(state.connect_time),
            header: time(state.header_time),
            time: super::now().saturating_sub(since) as u64,
            sent: bytes(state.bytes_sent),
            received: bytes(state.bytes_received),
        })
    }

    /// The try begins now, as far as `$upstream_connect_time` and its kin know.
    pub fn restart_clock(self) {
        field!(self, start_time = super::now());
    }

    /// Does what was read of the response fill the buffer for its head (`rs_uwsgi_buffer_size`)?
    pub fn is_head_too_big(self) -> bool {
        field!(self, buffer.last) == field!(self, buffer.end)
    }

    /// Was the request sent, or at least its beginning?
    pub fn is_request_begun(self) -> bool {
        flag_of!(self, request_sent) != 0
    }

    /// Has the server closed the connection before all of the request was sent?
    pub fn is_request_cut(self) -> bool {
        self.connection().is_some_and(Connection::has_failed_to_send)
    }

    /// The connection of this try.
    fn connection(self) -> Option<Connection<'a>> {
        let c = NonNull::new(field!(self, peer.connection))?;
        // SAFETY: open until nginx ends the try.
        Some(unsafe { Connection::from_ptr(c) })
    }

    /// Was all of the request sent, its body included? nginx says so of one that was cut, too.
    pub fn is_request_written(self) -> bool {
        flag_of!(self, request_body_sent) != 0
    }

    /// This module's state of the upstream. None where it is another module's.
    pub fn state<H: Module>(self) -> Option<&'a State<'a, H>> {
        if field!(self, output.tag) != module::buffer_tag::<H>() {
            return None;
        }
        let state = field!(self, output.filter_ctx).cast::<State<'a, H>>();
        // SAFETY: `wire` put it there, in the request's memory; it is only ever shared (`State` has
        // cells).
        unsafe { state.as_ref() }
    }

    /// How long connecting may take, in milliseconds.
    pub(super) fn connect_timeout(self) -> ngx_msec_t {
        let conf = field!(self, conf);
        // SAFETY: `wire` put the location's configuration there.
        unsafe { (*conf).connect_timeout }
    }

    /// Is the number of tries configured (`…_next_upstream_tries`)?
    pub(super) fn bounds_tries(self) -> bool {
        let conf = field!(self, conf);
        // SAFETY: `wire` put the location's configuration there.
        unsafe { (*conf).next_upstream_tries != 0 }
    }

    /// The server that nginx chooses or has chosen.
    pub(super) fn peer(self) -> *mut ngx_peer_connection_t {
        // SAFETY: a part of the upstream, of which only the address is taken.
        unsafe { &raw mut (*self.ptr.as_ptr()).peer }
    }

    /// Takes back nginx's leave to send the request again because its connection was a used one.
    pub fn forget_cached_connection(self) {
        flag_of!(self, peer.cached = 0);
    }

    /// Runs `run` while the upstream looks as if its response had ended well and its server would
    /// keep the connection.
    pub(super) fn as_finished(self, run: impl FnOnce()) {
        let before = (flag_of!(self, keepalive), flag_of!(self, request_body_sent));
        flag_of!(self, keepalive = 1);
        flag_of!(self, request_body_sent = 1);
        run();
        flag_of!(self, keepalive = before.0);
        flag_of!(self, request_body_sent = before.1);
    }

    /// Is the local address of connections chosen for each request (`rs_uwsgi_bind` with variables)?
    pub(super) fn local_address_varies(self) -> bool {
        let conf = field!(self, conf);
        // SAFETY: `wire` put the location's configuration there, in which `local` is null or valid.
        unsafe { (*conf).local.as_ref() }.is_some_and(|local| !local.value.is_null())
    }

    /// What tells this TLS connection from others to the same address: the context, with all that is
    /// configured of it, the names that are verified and sent, and a certificate that variables choose.
    /// Empty without TLS; None where a value cannot be evaluated.
    #[cfg(ngx_feature = "http_ssl")]
    #[inline(always)]
    pub(super) fn tls_identity(self, r: Request<'a>) -> Option<&'a [u8]> {
        match flag_of!(self, ssl) {
            0 => Some(&[]),
            _ => self.make_tls_identity(r),
        }
    }

    /// The same with TLS.
    #[cfg(ngx_feature = "http_ssl")]
    #[inline(never)]
    fn make_tls_identity(self, r: Request<'a>) -> Option<&'a [u8]> {
        let (conf, own_name) = (field!(self, conf), field!(self, ssl_name));
        // SAFETY: `wire` put the location's configuration there.
        let conf = unsafe { &*conf };
        let text = |value: *mut super::sys::ngx_http_complex_value_t| match value.is_null() {
            true => Some(&[][..]),
            // SAFETY: compiled by nginx's setter, for the configuration that the request runs under.
            false => unsafe { super::value::ComplexValue::from_ptr(value) }.evaluate(r),
        };
        let name = match conf.ssl_name.is_null() {
            // SAFETY: nginx's name of the upstream, as long as the request.
            true => unsafe { bytes_of(own_name) },
            false => text(conf.ssl_name)?,
        };
        let (certificate, key) = (text(conf.ssl_certificate)?, text(conf.ssl_certificate_key)?);
        let mut identity = Vec::with_capacity(128);
        identity.extend((conf.ssl as usize).to_ne_bytes());
        identity.extend([conf.ssl_verify as u8, conf.ssl_server_name as u8]);
        for part in [name, certificate, key] {
            identity.extend(part.len().to_ne_bytes());
            identity.extend(part);
        }
        r.pool().copy(&identity).ok().map(|identity| &*identity)
    }

    /// Without TLS there is nothing to tell connections apart.
    #[cfg(not(ngx_feature = "http_ssl"))]
    pub(super) fn tls_identity(self, _: Request<'a>) -> Option<&'a [u8]> {
        Some(&[])
    }
}
