//! The body of a response: what nginx is told of its length and its filter, and the pipe of one that
//! is buffered.

use core::ptr;

use super::headers::Place;
use super::log::debug;
use super::module::Handler;
use super::sys::{
    ngx_event_pipe_copy_input_filter, ngx_event_pipe_t, ngx_http_upstream_non_buffered_filter,
    ngx_pcalloc, off_t, NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING,
};
use super::{bytes_of, filter, Error, Request, Upstream};

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
    pub fn decode_chunks<H: Handler>(self, at_least: u64) {
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

    /// Takes back what [`Self::prepare_body`], an event stream or X-Accel-Buffering has decided for the
    /// response of another server, which the client does not get.
    pub fn forget_body(self) {
        let conf = field!(self, conf);
        // SAFETY: `wire` put the location's configuration there.
        let buffering = unsafe { (*conf).buffering } != 0;
        flag_of!(self, buffering = buffering.into());
        field!(self, input_filter = Some(ngx_http_upstream_non_buffered_filter));
    }

    /// Is the response kept, in the cache or the store?
    pub fn is_kept(self) -> bool {
        flag_of!(self, cacheable) != 0 || flag_of!(self, store) != 0
    }

    /// Is the response buffered, which it must be to be kept?
    pub fn is_buffered(self) -> bool {
        flag_of!(self, buffering) != 0
    }

    /// Has all of the body that is announced come with the head? For the time when nginx begins with it.
    pub fn is_whole(self) -> bool {
        let pipe = field!(self, pipe);
        // SAFETY: null, or what `add_pipe` made.
        let preread = unsafe { pipe.as_ref() }.and_then(|pipe| pipe.preread_size.try_into().ok());
        match (self.is_buffered(), self.content_length().try_into().ok()) {
            (true, Some(length)) => preread.is_some_and(|preread: u64| preread >= length),
            _ => false,
        }
    }

    /// Leaves out the body and keeps nothing of it: what has come of it is forgotten.
    pub fn drop_body(self) {
        flag_of!(self, cacheable = 0);
        flag_of!(self, store = 0);
        let pos = field!(self, buffer.pos);
        field!(self, buffer.last = pos);
        let pipe = field!(self, pipe);
        if !pipe.is_null() {
            // SAFETY: what `add_pipe` made. The file that it would have written has not been opened.
            unsafe {
                (*pipe).preread_size = 0;
                flag!(pipe, cacheable = 0);
                (*pipe).buf_to_file = ptr::null_mut();
            }
        }
    }

    /// Is the response a stream of events (`text/event-stream` of the HTML standard, 9.2.5)?
    pub fn is_event_stream(self) -> bool {
        const TYPE: &[u8] = b"text/event-stream";
        let header = field!(self, headers_in.content_type);
        // SAFETY: null, or a header of the response's list, with a value in the request's memory.
        let value = unsafe { header.as_ref().map(|header| bytes_of(header.value)) };
        let Some(value) = value else { return false };
        // one look rules almost every other type out
        matches!(value.get(5), Some(b'e' | b'E'))
            && value.split_at_checked(TYPE.len()).is_some_and(|(name, rest)| {
                let is_end = matches!(rest.first(), None | Some(b';' | b' ' | b'\t'));
                is_end && name.eq_ignore_ascii_case(TYPE)
            })
    }

    /// Turns buffering off for this response, unless its X-Accel-Buffering asks for it.
    pub fn pass_on_at_once(self, r: Request<'a>) {
        let conf = field!(self, conf);
        // SAFETY: `wire` put the location's configuration there.
        let ignores =
            unsafe { (*conf).ignore_headers } & NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING as usize;
        // as in ngx_http_upstream_process_buffering: the last one that says either
        let mut asks = false;
        for line in self.headers() {
            if line.name.eq_ignore_ascii_case(b"X-Accel-Buffering") {
                asks = match () {
                    () if line.value.eq_ignore_ascii_case(b"yes") => true,
                    () if line.value.eq_ignore_ascii_case(b"no") => false,
                    () => asks,
                };
            }
        }
        if !asks || ignores != 0 {
            flag_of!(self, buffering = 0);
            debug!(r.log(), "http rs_uwsgi event stream is not buffered");
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
