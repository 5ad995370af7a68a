//! Buffers of a buffered response that grow by themselves, where nothing is configured of them.
//!
//! stock's default is 8 buffers of 4k, of which the client is sent 8k at a time: much of what a large response
//! costs are the system calls for that. A response that is announced to be long begins with as much
//! memory in larger pieces. Where its client takes what comes without a pause, it gets more of them;
//! where it turns out to be slow, they are given back as they come free. nginx allocates a buffer when it needs
//! one, so that all there is to do is to say how large the next one is, and how many there may be
//! (`ngx_event_pipe_read_upstream`).

use core::ffi::c_void;
use std::sync::OnceLock;

use super::filter;
use super::module::Handler;
use super::status::ERROR;
use super::sys::{
    ngx_buf_t, ngx_chain_t, ngx_event_pipe_copy_input_filter, ngx_event_pipe_t, ngx_http_request_t,
    ngx_http_upstream_conf_t, ngx_int_t, ngx_pfree, off_t,
};
use super::Upstream;

/// One buffer, in bytes.
const SIZE: usize = 16 * 1024;
/// As many bytes as stock's 8 buffers of 4k.
const FIRST: isize = 2;
/// How many there may be for a client that takes what comes: more gain nothing.
const MOST: isize = 8;
/// So many bytes come before more buffers do. Much of them is in the sockets' buffers.
const TRIED: off_t = 256 * 1024;

/// Could the buffers of a location's responses grow, as far as other sizes are concerned? Where no files are
/// written, nobody could tell that a client is slow. The buffer of the head, which nginx reads into as well, is of
/// another size: where memory pages are as large, so are stock's buffers.
pub fn suits(conf: &ngx_http_upstream_conf_t) -> bool {
    conf.buffer_size < SIZE && conf.max_temp_file_size >= FIRST as usize * SIZE
}

impl Upstream<'_> {
    /// Lets the buffers of this response grow. `length`: what is announced of it; −1 where nothing is. To be
    /// called when nginx begins with the body, and only where no size is configured.
    pub fn let_buffers_grow<H: Handler>(self, length: off_t) {
        let pipe = field!(self, pipe);
        if pipe.is_null() || (0..=FIRST as off_t * SIZE as off_t).contains(&length) {
            return;
        }
        let chunked = self.is_chunked();
        // SAFETY: what `add_pipe` made, which nginx has not read into yet.
        unsafe {
            (*pipe).input_filter = Some(if chunked { chunks::<H> } else { copy });
            if length > 0 {
                set(pipe, FIRST);
            }
        }
    }
}

/// So many buffers, of which the client is sent all but one at a time, or half of them.
///
/// # Safety
///
/// `p` must be a pipe.
unsafe fn set(p: *mut ngx_event_pipe_t, count: isize) {
    let size = count as usize * SIZE;
    // SAFETY: the caller's promise.
    unsafe {
        (*p).bufs.num = count as _;
        (*p).bufs.size = SIZE;
        (*p).busy_size = (size / 2) as _;
        (*p).temp_file_write_size = (FIRST as usize * SIZE) as _;
    }
}

/// `pipe->input_filter` of a body that is passed on as it is.
unsafe extern "C" fn copy(p: *mut ngx_event_pipe_t, raw: *mut ngx_buf_t) -> ngx_int_t {
    // SAFETY: what nginx called with.
    unsafe {
        grow(p);
        ngx_event_pipe_copy_input_filter(p, raw)
    }
}

/// `pipe->input_filter` of a chunked body.
unsafe extern "C" fn chunks<H: Handler>(
    p: *mut ngx_event_pipe_t,
    raw: *mut ngx_buf_t,
) -> ngx_int_t {
    // SAFETY: what nginx called with.
    unsafe {
        grow(p);
        filter::buffered::<H>(p, raw)
    }
}

/// Is the client slower than the server, as far as can be seen?
///
/// # Safety
///
/// `p` must be the pipe of a response that nginx reads.
unsafe fn is_slow(p: *const ngx_event_pipe_t) -> bool {
    // SAFETY: the caller's promise. The client's connection lasts as long as its request, and the pipe has the
    // file that it would write to.
    unsafe {
        let (write, file) = ((*(*p).downstream).write, (*p).temp_file);
        let waits = flag!(write, ready) == 0 || flag!(write, delayed) != 0;
        waits || !(*p).out.is_null() || file.is_null() || (*file).offset != 0
    }
}

/// Allows more buffers, once, to a client that takes what comes.
///
/// # Safety
///
/// `p` must be the pipe of a response that nginx reads.
unsafe fn grow(p: *mut ngx_event_pipe_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let has_grown = (*p).busy_size as usize > FIRST as usize * SIZE;
        if has_grown || (*p).read_length < TRIED || is_slow(p) {
            return;
        }
        let Some(output) = (*p).output_filter else { return };
        // smaller ones, where nothing was announced
        let had = if (*p).bufs.size == SIZE { 0 } else { (*p).allocated };
        set(p, MOST);
        (*p).bufs.num += had;
        let _ = OUTPUT.set(output);
        (*p).output_filter = Some(send);
    }
}

type Output = unsafe extern "C" fn(*mut c_void, *mut ngx_chain_t) -> ngx_int_t;

/// `ngx_http_upstream_output_filter`, the same for all pipes.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// `pipe->output_filter`, once there may be more buffers.
unsafe extern "C" fn send(data: *mut c_void, chain: *mut ngx_chain_t) -> ngx_int_t {
    let Some(output) = OUTPUT.get() else { return ERROR };
    // SAFETY: nginx calls with the request, whose upstream has this pipe, as its own filter expects, too.
    unsafe {
        let u = (*data.cast::<ngx_http_request_t>()).upstream;
        let pipe = (*u).pipe;
        if !pipe.is_null() && is_slow(pipe) {
            shrink(pipe);
        }
        output(data, chain)
    }
}

/// Gives back the buffers that are free, down to the first ones, as nginx itself does in the end.
///
/// nginx relies on it that not all buffers are on their way to the client when it looks for one to read into,
/// or for one to write into the file: so one stays free, or one more may be allocated, and from now on the
/// client is sent no more at a time than the first ones allow.
///
/// # Safety
///
/// `p` must be a pipe, whose free buffers nobody uses.
unsafe fn shrink(p: *mut ngx_event_pipe_t) {
    // SAFETY: the caller's promise. A buffer of the list `free_raw_bufs` is in no other one, and without a
    // shadow nothing refers to its memory; one that is filled in part, which is the first, is left.
    unsafe {
        set(p, FIRST);
        if (*p).free_raw_bufs.is_null() {
            (*p).bufs.num = (*p).allocated + 1;
            return;
        }
        let mut place = &raw mut (*(*p).free_raw_bufs).next;
        while !(*place).is_null() && (*p).allocated > FIRST {
            let (link, buf) = (*place, (**place).buf);
            let size = ((*buf).end as usize).saturating_sub((*buf).start as usize);
            if size == SIZE && (*buf).pos == (*buf).last && (*buf).shadow.is_null() {
                *place = (*link).next;
                (*p).allocated -= 1;
                ngx_pfree((*p).pool, (*buf).start.cast());
            } else {
                place = &raw mut (*link).next;
            }
        }
        (*p).bufs.num = (*p).allocated;
    }
}
