//! The body of a response: what nginx is told of its length and its filter, and the pipe of one that
//! is buffered.

use core::ffi::c_void;
use core::ptr;

use super::headers::Place;
use super::sys::{
    ngx_event_pipe_copy_input_filter, ngx_event_pipe_t, ngx_http_upstream_non_buffered_filter,
    ngx_int_t, ngx_pcalloc, off_t,
};
use super::{filter, Error, Request, Upstream};
use crate::handler::UpstreamHandler;

impl<'a> Upstream<'a> {
    /// Gives the upstream a pipe, for a buffered body, unless it has one. Most requests do without
    /// ([`Self::prepare_body`]); its 304 bytes would cost them 60 instructions, and a part of a block
    /// of the pool's, 600 each.
    pub(super) fn add_pipe(self, r: Request<'a>) -> Result<(), Error> {
        if !field!(self, pipe).is_null() {
            return Ok(());
        }
        // SAFETY: the pool is valid.
        let pipe = unsafe { ngx_pcalloc(r.pool().as_ptr(), size_of::<ngx_event_pipe_t>()) }
            .cast::<ngx_event_pipe_t>();
        if pipe.is_null() {
            return Err(Error::Failed);
        }
        // SAFETY: the pipe is new, and zeroed.
        unsafe {
            (*pipe).input_filter = Some(ngx_event_pipe_copy_input_filter);
            (*pipe).input_ctx = r.as_ptr().cast();
        }
        field!(self, pipe = pipe);
        Ok(())
    }

    /// The Content-Length of the response in bytes; −1 where it has none.
    pub fn content_length(self) -> off_t {
        field!(self, headers_in.content_length_n)
    }

    /// Is the body in chunks, as nginx understood the head?
    pub fn is_chunked(self) -> bool {
        flag_of!(self, headers_in.chunked) != 0
    }

    /// Forgets a Content-Length that chunks override.
    pub fn clear_content_length(self) {
        field!(self, headers_in.content_length_n = -1);
    }

    /// Says how long the body is, to the buffered and the unbuffered path alike; −1: until the
    /// server closes.
    pub fn set_length(self, length: off_t) {
        field!(self, length = length);
        let pipe = field!(self, pipe);
        // SAFETY: null, or what `add_pipe` made.
        if let Some(pipe) = unsafe { pipe.as_mut() } {
            pipe.length = length;
        }
    }

    /// Has chunks decoded by `H`, buffered or not. `at_least`: the fewest bytes of a chunked body.
    pub fn decode_chunks<H: UpstreamHandler>(self, at_least: u64) {
        let pipe = field!(self, pipe);
        field!(self, input_filter = Some(filter::unbuffered::<H>));
        // not zero, which would be the end; the number itself does not matter
        field!(self, length = 1);
        // SAFETY: null, or what `add_pipe` made.
        if let Some(pipe) = unsafe { pipe.as_mut() } {
            pipe.input_filter = Some(filter::buffered::<H>);
            pipe.length = off_t::try_from(at_least).unwrap_or(off_t::MAX);
        }
    }

    /// The head is done: makes ready for the body.
    ///
    /// Sends the body as it is, where all of it has come with its head: without a pipe, and without the
    /// buffer that nginx would mark its end with. Nobody can tell, and it saves 2,300 instructions; the
    /// headers can stay where they are, because nothing more is read. nginx does not limit the rate of
    /// what is not buffered, nor cache or store it, and subrequests end in another way: such responses,
    /// and all others that need the pipe, are left to it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn prepare_body(self, r: Request<'a>) -> Result<(), Error> {
        let length = self.content_length();
        let is_whole = length > 0 && usize::try_from(length) == Ok(self.unparsed().len());
        let needs_pipe = self.is_bodiless()
            || flag_of!(self, buffering) == 0
            || flag_of!(self, cacheable) != 0
            || flag_of!(self, store) != 0
            || flag_of!(self, upgrade) != 0;
        if is_whole && !needs_pipe && r.is_sent_unlimited() {
            flag_of!(self, buffering = 0);
            field!(self, input_filter = Some(filter::whole));
            return Ok(());
        }
        if flag_of!(self, buffering) != 0 {
            self.add_pipe(r)?;
        }
        match self.place_for_headers(r) {
            Place::Buffer => self.move_headers(r),
            Place::Own => Ok(()),
        }
    }

    /// Takes back what [`Self::prepare_body`] has decided for the response of another server, which the
    /// client does not get.
    pub fn forget_body(self) {
        let whole: unsafe extern "C" fn(*mut c_void, isize) -> ngx_int_t = filter::whole;
        let filter = field!(self, input_filter);
        if filter.is_some_and(|filter| ptr::fn_addr_eq(filter, whole)) {
            flag_of!(self, buffering = 1);
            field!(self, input_filter = Some(ngx_http_upstream_non_buffered_filter));
        }
    }

    /// The bytes that came after the head, once nginx reads the body.
    pub fn body_received(self) -> u64 {
        let received = if flag_of!(self, buffering) != 0 {
            let pipe = field!(self, pipe);
            // SAFETY: null, or what `add_pipe` made.
            unsafe { pipe.as_ref() }.map_or(0, |pipe| pipe.read_length)
        } else {
            let state = field!(self, state);
            // SAFETY: null, or valid as long as the request; nginx made it for this upstream.
            unsafe { state.as_ref() }.map_or(0, |state| state.response_length)
        };
        u64::try_from(received).unwrap_or(0)
    }
}
