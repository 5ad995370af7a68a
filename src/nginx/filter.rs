//! The body of a response on its way through nginx, where it is not passed on as it comes: chunks
//! are decoded in the buffers that nginx read them into.
//!
//! nginx calls one filter for buffered bodies (`ngx_event_pipe_t`) and another one for unbuffered. A
//! body that has come whole with its head needs neither.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::{self, NonNull};

use super::callbacks::with_step;
use super::module::{Handler, Module};
use super::status::{ERROR, OK};
use super::sys::{
    ngx_buf_t, ngx_chain_get_free_buf, ngx_chain_t, ngx_event_pipe_add_free_buf, ngx_event_pipe_t,
    ngx_http_output_filter, ngx_http_request_t, ngx_int_t, off_t,
};
use super::{slice_of, Error, Request};

/// What a module does with a chunked body.
pub trait ChunkDecoder: Module {
    /// More of the body was read; `data` gets the ranges of `bytes` that are data. Returns the least number
    /// of bytes that must still come; 0 at the end.
    ///
    /// # Errors
    ///
    /// With a line in the log: malformed chunks. [`Error`] of `data`.
    fn decode_chunks(
        r: Request<'_>,
        bytes: &[u8],
        data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<u64, Error>;
}

/// `pipe->input_filter`: a buffer of a chunked body was filled. Its data become buffers of their own
/// in `p->in`, shadows of the one that was read; nginx uses that one again when the last of them was
/// sent.
pub(super) unsafe extern "C" fn buffered<H: Handler>(
    p: *mut ngx_event_pipe_t,
    raw: *mut ngx_buf_t,
) -> ngx_int_t {
    // SAFETY: nginx calls with its pipe, whose context `Upstream::wire` set to the request.
    let r = unsafe { (*p).input_ctx.cast::<ngx_http_request_t>() };
    with_step::<H, _>(r, "decode_chunks", ERROR, |r| {
        // SAFETY: as above, and with a buffer that was read into.
        match unsafe { decode_buffered::<H>(r, p, raw) } {
            Ok(()) => OK,
            Err(_) => ERROR,
        }
    })
}

/// # Safety
///
/// `p` and `raw` must be what nginx gave to the filter.
unsafe fn decode_buffered<H: Handler>(
    r: Request<'_>,
    p: *mut ngx_event_pipe_t,
    raw: *mut ngx_buf_t,
) -> Result<(), Error> {
    // SAFETY: nginx read `pos..last`, and writes there again only when all shadows are gone. The
    // buffers from the pipe's free list are new or free, and of the pipe's memory.
    unsafe {
        let start = (*raw).pos;
        let bytes = slice_of(start, (*raw).last as usize - start as usize);
        if bytes.is_empty() {
            return Ok(());
        }
        let mut last_shadow: *mut ngx_buf_t = ptr::null_mut();
        let at_least = H::decode_chunks(r, bytes, &mut |range: Range<usize>| {
            let link = ngx_chain_get_free_buf((*p).pool, &raw mut (*p).free);
            let link = NonNull::new(link).ok_or(Error::Failed)?.as_ptr();
            let b = (*link).buf;
            ptr::write_bytes(b, 0, 1);
            (*b).pos = start.add(range.start);
            (*b).last = start.add(range.end);
            (*b).start = (*raw).start;
            (*b).end = (*raw).end;
            (*b).tag = (*p).tag;
            flag!(b, temporary = 1);
            flag!(b, recycled = 1);
            (*b).num = (*raw).num;

            if last_shadow.is_null() {
                (*raw).shadow = b;
            } else {
                (*last_shadow).shadow = b;
            }
            last_shadow = b;

            if (*p).in_.is_null() {
                (*p).in_ = link;
            } else {
                *(*p).last_in = link;
            }
            (*p).last_in = &raw mut (*link).next;
            Ok(())
        })?;
        (*raw).pos = (*raw).last;
        // the least that nginx waits for before it gives us a buffer that is not full
        (*p).length = off_t::try_from(at_least).unwrap_or(off_t::MAX);

        if let Some(last) = last_shadow.as_mut() {
            last.shadow = raw;
            flag!(ptr::from_mut(last), last_shadow = 1);
            return Ok(());
        }
        super::ok(ngx_event_pipe_add_free_buf(p, raw))
    }
}

/// `u->input_filter`: `count` bytes of a chunked body were read behind `u->buffer.last`. Their data
/// become buffers of `u->out_bufs`.
pub(super) unsafe extern "C" fn unbuffered<H: Handler>(
    data: *mut c_void,
    count: isize,
) -> ngx_int_t {
    with_step::<H, _>(data.cast(), "decode_chunks", ERROR, |r| {
        // SAFETY: nginx calls with the context that `Upstream::wire` set to the request.
        match unsafe { decode_unbuffered::<H>(r, count) } {
            Ok(()) => OK,
            Err(_) => ERROR,
        }
    })
}

/// # Safety
///
/// `count` must be what nginx gave to the filter.
unsafe fn decode_unbuffered<H: Handler>(r: Request<'_>, count: isize) -> Result<(), Error> {
    // SAFETY: the request has an upstream, which read `count` bytes behind `last`; nginx writes
    // there again only when all of `out_bufs` was sent. The buffers are new or free.
    unsafe {
        let u = (*r.as_ptr()).upstream;
        let start = (*u).buffer.last;
        let bytes = slice_of(start, usize::try_from(count).unwrap_or(0));
        (*u).buffer.pos = start;
        (*u).buffer.last = start.add(bytes.len());

        let mut place: *mut *mut ngx_chain_t = &raw mut (*u).out_bufs;
        while !(*place).is_null() {
            place = &raw mut (**place).next;
        }
        let pool = r.pool().as_ptr();
        let at_least = H::decode_chunks(r, bytes, &mut |range: Range<usize>| {
            let link = ngx_chain_get_free_buf(pool, &raw mut (*u).free_bufs);
            let link = NonNull::new(link).ok_or(Error::Failed)?.as_ptr();
            let b = (*link).buf;
            flag!(b, flush = 1);
            flag!(b, memory = 1);
            (*b).pos = start.add(range.start);
            (*b).last = start.add(range.end);
            (*b).tag = (*u).output.tag;
            *place = link;
            place = &raw mut (*link).next;
            Ok(())
        })?;
        (*u).length = off_t::from(at_least > 0);
        Ok(())
    }
}

/// A pipe that tells nginx that there is nothing left to send. nginx looks into it, and at most forgets
/// the connection of it, which is null.
struct Ended(UnsafeCell<MaybeUninit<ngx_event_pipe_t>>);

// SAFETY: a worker handles requests in one thread.
unsafe impl Sync for Ended {}

static ENDED: Ended = Ended(UnsafeCell::new(MaybeUninit::zeroed()));

/// `u->input_filter` of a body that is whole ([`super::Upstream::prepare_body`]): it is sent at once, with
/// the mark of its end, in place of what nginx would send after it.
pub(super) unsafe extern "C" fn whole(data: *mut c_void, count: isize) -> ngx_int_t {
    let r = data.cast::<ngx_http_request_t>();
    // SAFETY: nginx calls with the context that `Upstream::wire` set to the request, whose upstream has
    // `count` bytes behind `last`; nobody reads or writes there any more, so that the upstream's own
    // buffer can be what is sent. It lives as long as the request. The pipe is zeroes, all of which are
    // valid.
    unsafe {
        let u = (*r).upstream;
        let b = &raw mut (*u).buffer;
        (*b).pos = (*b).last;
        (*b).last = (*b).last.offset(count);
        flag!(b, last_buf = 1);
        flag!(b, last_in_chain = 1);
        let mut out = ngx_chain_t { buf: b, next: ptr::null_mut() };
        // nothing is left to come, nor to be sent
        (*u).length = 0;
        (*u).pipe = ENDED.0.get().cast();
        flag!((*u).pipe, downstream_error = 1);
        match ngx_http_output_filter(r, &raw mut out) {
            ERROR => ERROR,
            // what the client does not take now, nginx has kept
            _ => OK,
        }
    }
}
