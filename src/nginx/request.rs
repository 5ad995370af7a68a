//! A client's request: `ngx_http_request_t` and what nginx's HTTP core does with it.

use core::ptr::NonNull;

use ngx::http::{HttpModuleLocationConf, HttpModuleServerConf, NgxHttpCoreModule};

use super::callbacks::{self, Next};
use super::chain::Chain;
use super::module::{self, Handler, Module};
use super::state::State;
use super::status::{DONE, SPECIAL_RESPONSE};
use super::sys::{
    ngx_connection_t, ngx_http_finalize_request, ngx_http_get_flushed_variable, ngx_http_log_ctx_t,
    ngx_http_read_client_request_body, ngx_http_request_t, ngx_http_run_posted_requests,
    ngx_http_upstream_create, ngx_http_upstream_init, ngx_int_t, ngx_list_push, ngx_list_t,
    ngx_str_t, ngx_table_elt_t, ngx_uint_t, NGX_HTTP_COPY, NGX_HTTP_DELETE, NGX_HTTP_GET,
    NGX_HTTP_HEAD, NGX_HTTP_LOCK, NGX_HTTP_MKCOL, NGX_HTTP_MOVE, NGX_HTTP_OPTIONS, NGX_HTTP_PATCH,
    NGX_HTTP_POST, NGX_HTTP_PROPFIND, NGX_HTTP_PROPPATCH, NGX_HTTP_PUT, NGX_HTTP_TRACE,
    NGX_HTTP_UNLOCK, NGX_HTTP_VERSION_11,
};
use super::{bytes_of, ok, slice_of, str_of, version, Brand, Error, Log, Pool, Upstream};
use crate::pure::uwsgi::trailers;

/// A request of a client's, or a subrequest.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) ptr: NonNull<ngx_http_request_t>,
    _life: Brand<'a>,
}

/// One line of a head.
#[derive(Clone, Copy)]
pub struct HeaderLine<'a> {
    /// As it was sent, HTTP/2's in lower case.
    pub name: &'a [u8],
    /// Its first byte; 0 where it is empty.
    pub first: u8,
    /// Without the white space around it.
    pub value: &'a [u8],
    /// nginx's hash of the lowered name.
    pub hash: ngx_uint_t,
}

/// The header lines of a list, in order.
///
/// # Safety
///
/// The list must be valid, its elements header lines, and none of them may change during `'a`.
#[inline]
pub(super) unsafe fn lines_of<'a>(
    list: *const ngx_list_t,
) -> impl Iterator<Item = HeaderLine<'a>> + Clone {
    // SAFETY: the first part of the list stands in the list itself, with `nelts` header lines.
    let (mut part, first) = unsafe {
        let first = &raw const (*list).part;
        (
            (*first).next.cast_const(),
            slice_of((*first).elts.cast::<ngx_table_elt_t>(), (*first).nelts),
        )
    };
    let mut lines = first.iter();
    core::iter::from_fn(move || loop {
        if let Some(line) = lines.next() {
            let (name, first) = match line.key.len {
                0 => (&[][..], 0),
                // SAFETY: a name that is not empty is there, and the caller says that it stays.
                len => unsafe {
                    core::hint::assert_unchecked(!line.key.data.is_null());
                    (core::slice::from_raw_parts(line.key.data, len), *line.key.data)
                },
            };
            // SAFETY: the caller says that the string stays.
            let value = unsafe { bytes_of(line.value) };
            return Some(HeaderLine { name, first, value, hash: line.hash });
        }
        // SAFETY: a part is null or valid, with `nelts` header lines.
        let next = unsafe { part.as_ref() }?;
        // SAFETY: as above.
        lines = unsafe { slice_of(next.elts.cast::<ngx_table_elt_t>(), next.nelts) }.iter();
        part = next.next;
    })
}

/// The connection of a client.
#[derive(Clone, Copy)]
pub(super) struct Client(*mut ngx_connection_t);

impl Client {
    /// Goes on with what other requests of this client have to do (`ngx_http_run_posted_requests`).
    pub(super) fn run_posted(self) {
        // SAFETY: the connection's memory is nginx's, as long as the worker; nginx looks whether it was
        // closed.
        unsafe { ngx_http_run_posted_requests(self.0) };
    }
}

impl<'a> Request<'a> {
    /// A handle on nginx's request.
    ///
    /// # Safety
    ///
    /// `r` must be valid for `'a`, with a connection that has a log.
    pub unsafe fn from_ptr(r: NonNull<ngx_http_request_t>) -> Self {
        Request { ptr: r, _life: Brand::NEW }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_http_request_t {
        self.ptr.as_ptr()
    }

    /// The client connection's log.
    pub fn log(self) -> Log<'a> {
        // SAFETY: a request has a connection and a connection has a log, for as long as they live.
        unsafe { Log::from_ptr(NonNull::new_unchecked((*(*self.as_ptr()).connection).log)) }
    }

    /// The request's memory.
    pub fn pool(self) -> Pool<'a> {
        // SAFETY: a request has a pool that lives as long as it.
        unsafe { Pool::from_ptr(NonNull::new_unchecked((*self.as_ptr()).pool)) }
    }

    /// This module's configuration of the location.
    pub fn location<H: Module>(self) -> &'a H::Location {
        // SAFETY: nginx filled the slot of this module in every location with what
        // `module::create_loc_conf` made, which outlives the requests. After the configuration is
        // read it is only ever shared: what is still written to is in cells.
        unsafe { &*(*(*self.as_ptr()).loc_conf.add(module::context_index::<H>())).cast() }
    }

    /// This module's state of the request's upstream, whatever has become of the request's other
    /// state. None where the upstream is another module's.
    pub fn state<H: Module>(self) -> Option<&'a State<'a, H>> {
        self.upstream()?.state()
    }

    /// Gives the request an upstream, in place of any it had (`ngx_http_upstream_create`).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn create_upstream(self) -> Result<Upstream<'a>, Error> {
        // SAFETY: the request is valid.
        ok(unsafe { ngx_http_upstream_create(self.as_ptr()) })?;
        self.upstream().ok_or(Error::Failed)
    }

    /// The upstream, once there is one.
    pub fn upstream(self) -> Option<Upstream<'a>> {
        // SAFETY: a request's upstream lives as long as the request.
        NonNull::new(field!(self, upstream)).map(|u| unsafe { Upstream::from_ptr(u) })
    }

    /// Makes it the request that lines of its connection's log are about, as nginx does before it
    /// handles an event of an upstream.
    pub(super) fn make_current(self) {
        // SAFETY: a request has a connection with a log, whose data the HTTP module has set.
        unsafe {
            let log = (*(*self.as_ptr()).connection).log;
            if let Some(context) = (*log).data.cast::<ngx_http_log_ctx_t>().as_mut() {
                context.current_request = self.as_ptr();
            }
        }
    }

    /// The client's connection, which may outlive the request.
    pub(super) fn client(self) -> Client {
        Client(field!(self, connection))
    }

    /// The lines of the request's head, in order.
    #[inline]
    pub fn headers(self) -> impl Iterator<Item = HeaderLine<'a>> + Clone {
        // SAFETY: the list is complete before any content handler runs. nginx's parser points names and
        // values at the request's head, which is kept until the request is freed.
        unsafe { lines_of(&raw const (*self.as_ptr()).headers_in.headers) }
    }

    /// May names of headers have underscores (`underscores_in_headers on`, `ignore_invalid_headers off`)?
    pub fn may_have_underscores(self) -> bool {
        // SAFETY: the request is valid; its server has a configuration of the core module.
        let server = unsafe { NgxHttpCoreModule::server_conf(&*self.as_ptr()) };
        server.is_none_or(|server| {
            server.underscores_in_headers != 0 || server.ignore_invalid_headers == 0
        })
    }

    /// Host and port of an absolute request target (`GET http://host:port/ …`, RFC 9112, 3.2.2), or
    /// HTTP/2's `:authority`: nginx acts on this one, whatever the Host header says.
    pub fn target_authority(self) -> Option<&'a [u8]> {
        let (start, end) = (field!(self, host_start), field!(self, host_end));
        if start.is_null() || end.is_null() {
            return None;
        }
        // SAFETY: nginx's parser set these to the host in the request line or in a header, start
        // before end, which are kept, as `$request_uri` is, until the request is freed.
        let host = unsafe { slice_of(start, (end as usize).saturating_sub(start as usize)) };

        let line = self.request_line();
        // In the request line nginx leaves the port out of the host.
        let begin = (start as usize).wrapping_sub(line.as_ptr() as usize);
        let Some(authority) = line.get(begin..) else { return Some(host) };
        let port = authority.get(host.len()..).and_then(|rest| rest.strip_prefix(b":"));
        let digits = port.map_or(0, |port| port.iter().take_while(|c| c.is_ascii_digit()).count());
        let port = if digits > 0 { 1 + digits } else { 0 };
        authority.get(..host.len() + port)
    }

    /// The request line without its end; in HTTP/2 what nginx makes of the pseudo-headers.
    pub fn request_line(self) -> &'a [u8] {
        let line = field!(self, request_line);
        // SAFETY: the request line is kept, as `$request_uri` is, until the request is freed.
        unsafe { bytes_of(line) }
    }

    /// Can the client be sent trailers? HTTP/2's and 3's can, and one of HTTP/1.1 that says so (RFC 9110,
    /// 6.5.1). What a subrequest is answered is a part of a response.
    pub fn takes_trailers(self) -> bool {
        const HTTP_1_1: ngx_uint_t = NGX_HTTP_VERSION_11 as ngx_uint_t;
        if self.as_ptr() != field!(self, main) {
            return false;
        }
        match field!(self, http_version) {
            version if version > HTTP_1_1 => true,
            HTTP_1_1 => self.headers().any(|line| {
                line.name.eq_ignore_ascii_case(b"TE") && trailers::are_taken(line.value)
            }),
            _ => false,
        }
    }

    /// Does the client ask for another protocol (header Upgrade)?
    pub fn is_upgrade(self) -> bool {
        !field!(self, headers_in.upgrade).is_null()
    }

    /// Is it a HEAD request?
    pub fn is_head(self) -> bool {
        field!(self, method) == NGX_HTTP_HEAD as ngx_uint_t
    }

    /// May the request be sent twice (RFC 9110, 9.2.2, and RFC 4918)? A subrequest is one with the
    /// method of its main request, which is what the server is told. A method that nginx does not
    /// know may do anything.
    pub fn is_idempotent(self) -> bool {
        const IDEMPOTENT: u32 = NGX_HTTP_GET
            | NGX_HTTP_HEAD
            | NGX_HTTP_PUT
            | NGX_HTTP_DELETE
            | NGX_HTTP_OPTIONS
            | NGX_HTTP_TRACE
            | NGX_HTTP_MKCOL
            | NGX_HTTP_COPY
            | NGX_HTTP_MOVE
            | NGX_HTTP_PROPFIND
            | NGX_HTTP_PROPPATCH
            | NGX_HTTP_UNLOCK;
        let main = field!(self, main);
        // SAFETY: a request has a main request, itself as a rule.
        (field!(self, method) | unsafe { (*main).method }) & !(IDEMPOTENT as ngx_uint_t) == 0
    }

    /// Is it one that nginx does not send to another server after it was sent to one, unless
    /// `non_idempotent` allows it (`ngx_http_upstream_next`)?
    pub fn is_held_back(self) -> bool {
        const HELD_BACK: u32 = NGX_HTTP_POST | NGX_HTTP_LOCK | NGX_HTTP_PATCH;
        field!(self, method) & HELD_BACK as ngx_uint_t != 0
    }

    /// Is the response to this request what the client gets, at any rate (`limit_rate`), from its
    /// server and no cache?
    pub(super) fn is_sent_unlimited(self) -> bool {
        let r = self.as_ptr();
        // SAFETY: the request is valid; its location has a configuration of the core module.
        unsafe {
            let core = NgxHttpCoreModule::location_conf(&*r);
            let is_limited =
                flag!(r, limit_rate_set) != 0 || core.is_none_or(|core| !core.limit_rate.is_null());
            let is_plain = r == (*r).main && flag!(r, post_action) == 0 && !self.is_head();
            #[cfg(ngx_feature = "http_cache")]
            let is_plain = is_plain && (*r).cache.is_null();
            is_plain && !is_limited
        }
    }

    /// Is the client's body in chunks, of a length that is known only at its end?
    pub fn is_chunked(self) -> bool {
        flag_of!(self, headers_in.chunked) != 0
    }

    /// Does the client send a body?
    pub fn has_body(self) -> bool {
        self.is_chunked() || self.content_length().is_some_and(|length| length > 0)
    }

    /// The length of the client's body in bytes, as nginx understood the head.
    pub fn content_length(self) -> Option<u64> {
        u64::try_from(field!(self, headers_in.content_length_n)).ok()
    }

    /// Lets the body be passed on while it is still being read.
    pub fn disable_body_buffering(self) {
        flag_of!(self, request_body_no_buffering = 1);
    }

    /// Is the body passed on while it is still being read?
    pub fn is_body_unbuffered(self) -> bool {
        flag_of!(self, request_body_no_buffering) != 0
    }

    /// The body as read; empty where there is none or where it is not buffered.
    pub fn body(self) -> Chain<'a> {
        let body = field!(self, request_body);
        if body.is_null() {
            return Chain::empty();
        }
        // SAFETY: a request's body is valid for as long as the request.
        unsafe { Chain::from_ptr((*body).bufs) }
    }

    /// The decoded path, `$uri`.
    pub fn uri(self) -> &'a [u8] {
        let uri = field!(self, uri);
        // SAFETY: the URI is the request's, kept in its memory.
        unsafe { bytes_of(uri) }
    }

    /// The value of an indexed variable, taken anew where it must not be cached. None where it has
    /// none or an evaluation failed; nginx's scripts take both for the empty string.
    pub fn variable(self, index: ngx_uint_t) -> Option<&'a [u8]> {
        // SAFETY: the request is valid, and so is the index: it came from this nginx's
        // configuration (`Conf::variable`).
        let value = NonNull::new(unsafe { ngx_http_get_flushed_variable(self.as_ptr(), index) })?;
        let value = value.as_ptr();
        // SAFETY: the value is the request's; one that was found has `len` bytes, kept as long.
        unsafe {
            (flag!(value, not_found) == 0)
                .then(|| slice_of((*value).data, flag!(value, len) as usize))
        }
    }
}

/// Reads the client's body, or its beginning where it is not buffered, and goes on with
/// [`RequestHandler::body_ready`](callbacks::RequestHandler::body_ready). The status is the content handler's.
///
/// # Safety
///
/// `r` must be nginx's request in its content handler. It may be gone after this.
pub(super) unsafe fn read_body<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise; a request has a main request, itself as a rule, and the callback
    // takes a request.
    let status = unsafe {
        // What nginx does without a body, but for the memory of one: 100 instructions. Where the
        // client waits for "100 Continue", nginx sends it.
        let head = &raw mut (*r).headers_in;
        let is_without =
            (*head).content_length_n < 0 && flag!(head, chunked) == 0 && (*head).expect.is_null();
        if is_without {
            hold(r);
            flag!(r, request_body_no_buffering = 0);
            callbacks::body_ready::<H>(r);
            return DONE;
        }
        ngx_http_read_client_request_body(r, Some(callbacks::body_ready::<H>))
    };
    if status >= SPECIAL_RESPONSE {
        status
    } else {
        DONE
    }
}

/// Does what a step has said.
///
/// # Safety
///
/// `r` must be nginx's request. It may be gone after this.
#[inline]
pub(super) unsafe fn go_on(r: *mut ngx_http_request_t, next: Next) {
    // SAFETY: the caller's promise.
    unsafe {
        match next {
            Next::Wait => {}
            Next::StartUpstream => ngx_http_upstream_init(r),
            Next::Finalize(status) => ngx_http_finalize_request(r, status),
            Next::Refuse { status, retry_after } => refuse(r, status, retry_after),
        }
    }
}

/// Lets the request wait for one end more (`r->main->count`): each takes one such reference away.
///
/// # Safety
///
/// `r` must be nginx's request.
pub(super) unsafe fn hold(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise; a request has a main request, itself as a rule.
    unsafe {
        let main = (*r).main;
        flag!(main, count = flag!(main, count) + 1);
    }
}

/// Takes [`hold`] back.
///
/// # Safety
///
/// As for [`hold`].
pub(super) unsafe fn let_go(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise; a request has a main request, itself as a rule.
    unsafe {
        let main = (*r).main;
        flag!(main, count = flag!(main, count) - 1);
    }
}

/// Answers with a status and, perhaps, a Retry-After of so many seconds (RFC 9110, 10.2.3), and drops the
/// upstream.
///
/// # Safety
///
/// `r` must be nginx's request, with an upstream. It may be gone after this.
#[cold]
unsafe fn refuse(r: *mut ngx_http_request_t, status: ngx_int_t, retry_after: Option<u64>) {
    // SAFETY: the caller's promise; `cleanup` is null, or where nginx keeps the callback that ends the
    // upstream (ngx_http_upstream_cleanup). This takes the reference to the request away that the
    // upstream has, so that the one for what follows comes first.
    unsafe {
        let pool = Pool::from_ptr(NonNull::new_unchecked((*r).pool));
        let value = retry_after.and_then(|seconds| pool.copy(seconds.to_string().as_bytes()).ok());
        hold(r);
        let u = (*r).upstream;
        if let Some(state) = (*u).state.as_mut() {
            state.status = status as ngx_uint_t;
        }
        if let Some(end) = (*u).cleanup.as_ref().copied().flatten() {
            end(r.cast());
        }
        let header = || ngx_list_push(&raw mut (*r).headers_out.headers);
        if let Some((value, header)) =
            value.map(|value| (value, header().cast::<ngx_table_elt_t>()))
        {
            if !header.is_null() {
                let value = ngx_str_t { len: value.len(), data: value.as_mut_ptr() };
                let key = str_of(b"Retry-After");
                header.write(version::header(1, key, value, core::ptr::null_mut()));
            }
        }
        ngx_http_finalize_request(r, status);
    }
}
