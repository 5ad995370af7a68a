//! Buffers of a buffered response that grow by themselves, where nothing is configured of them.
//!
//! stock's default is 8 buffers of 4k, of which the client is sent 8k at a time: much of what a large response
//! costs are the system calls for that. A response that is announced to be long begins with as much
//! memory in larger pieces. Where its client takes what comes without a pause, it gets more of them;
//! where it turns out to be slow, they are given back as they come free. nginx allocates a buffer when it needs
//! one, so that all there is to do is to say how large the next one is, and how many there may be
//! (`ngx_event_pipe_read_upstream`).
//!
//! What costs most is the temporary file. nginx writes to it whenever the buffers are full and the client's socket
//! is, and so does it for a client that is merely not as fast as the server. One that has shown to be fast
//! is waited for instead, for a moment: without a file, nginx reads on when the client has taken something. Where
//! a moment is over in which it has not taken much, there is a file again, and the server is free as
//! soon as with stock's.

use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_int, c_void};
use core::mem::{offset_of, zeroed};
use core::ptr;

use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use super::filter;
use super::module::Handler;
use super::status::ERROR;
use super::sys::{
    ngx_add_timer, ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_event_pipe_copy_input_filter,
    ngx_event_pipe_output_filter_pt, ngx_event_pipe_t, ngx_event_t, ngx_http_request_t,
    ngx_http_upstream_conf_t, ngx_http_upstream_t, ngx_int_t, ngx_msec_t, ngx_pfree,
    ngx_post_event, ngx_posted_events, ngx_uint_t, off_t, NGX_HTTP_VERSION_11,
};
use super::{wake, Error, Request, Upstream};

/// One of the first buffers, in bytes.
const SIZE: usize = 16 * 1024;
/// As many bytes as stock's 8 buffers of 4k.
const FIRST: isize = 2;

/// The buffers that there are for a client that takes what comes.
struct Step {
    /// So many bytes come first.
    after: off_t,
    /// One more buffer, in bytes.
    size: usize,
    /// So many there may be.
    count: isize,
}

/// Of the first bytes much is in the sockets' buffers. Larger buffers from the beginning would cost more than they
/// gain: their memory pages are new.
const STEPS: [Step; 2] = [
    Step { after: 256 * 1024, size: SIZE, count: 8 },
    Step { after: 4 << 20, size: LARGEST, count: 8 },
];
const LARGEST: usize = 64 * 1024;
/// For how long a client is waited for, in milliseconds.
const MOMENT: ngx_msec_t = 20;
/// What a fast client takes in a moment, in bytes: 50 MB a second.
const FAST: off_t = 1 << 20;

/// Could the buffers of a location's responses grow, as far as other sizes are concerned? Where no files are
/// written, nobody could tell that a client is slow. The buffer of the head, which nginx reads into as well, is of
/// another size: where memory pages are as large, so are stock's buffers.
pub fn suits(conf: &ngx_http_upstream_conf_t) -> bool {
    conf.buffer_size < SIZE && conf.max_temp_file_size >= FIRST as usize * SIZE
}

/// The buffers of a response. In the request's memory.
#[repr(C)]
pub(super) struct Growth {
    u: *mut ngx_http_upstream_t,
    // nginx's debug log looks for a descriptor in what an event points to, as in a connection
    _unused: [*mut c_void; 2],
    fd: c_int,
    /// The timer of a moment. It is cancelled when the upstream is finalized.
    event: UnsafeCell<ngx_event_t>,
    /// May a fast client be waited for?
    waits: bool,
    /// How large the file may be where there is one.
    file_size: off_t,
    /// How many of the steps were taken.
    steps: Cell<usize>,
    /// How many there are of stock's size.
    small: Cell<isize>,
    /// How many bytes had come when the client was slow last.
    slow_at: Cell<off_t>,
    /// After so many more the first step is taken.
    tried: Cell<off_t>,
    /// How many bytes had come when the moment began.
    come: Cell<off_t>,
    /// nginx's own `pipe->output_filter`, once ours is in its place.
    output: Cell<ngx_event_pipe_output_filter_pt>,
}

impl<'a> Upstream<'a> {
    /// Lets the buffers of this response grow. `length`: what is announced of it; −1 where nothing is. To be
    /// called when nginx begins with the body, and only where no size is configured.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn let_buffers_grow<H: Handler>(self, r: Request<'a>, length: off_t) -> Result<(), Error> {
        let pipe = field!(self, pipe);
        if pipe.is_null() || (0..=FIRST as off_t * SIZE as off_t).contains(&length) {
            return Ok(());
        }
        let Some(state) = self.state::<H>() else { return Ok(()) };
        // SAFETY: what `add_pipe` made, which nginx has not read into yet; all zeros is an event that nobody
        // waits for.
        let growth = unsafe {
            let mut event = zeroed::<ngx_event_t>();
            event.log = (*pipe).log;
            event.handler = Some(on_moment);
            Growth {
                u: self.as_ptr(),
                _unused: [ptr::null_mut(); 2],
                fd: -1,
                event: UnsafeCell::new(event),
                waits: may_wait(r, pipe),
                file_size: (*pipe).max_temp_file_size,
                steps: Cell::new(0),
                small: Cell::new(0),
                slow_at: Cell::new(0),
                tried: Cell::new(STEPS[0].after),
                come: Cell::new(0),
                output: Cell::new(None),
            }
        };
        let growth = r.pool().share(growth)?;
        const { assert!(offset_of!(Growth, fd) == offset_of!(ngx_connection_t, fd)) };
        let chunked = self.is_chunked();
        // SAFETY: as above, and an event that is this response's own.
        unsafe {
            (*growth.event.get()).data = ptr::from_ref(growth).cast_mut().cast();
            (*pipe).input_filter = Some(if chunked { chunks::<H> } else { copy::<H> });
            if length > 0 {
                set(pipe, SIZE, FIRST);
            }
        }
        state.growth.set(Some(growth));
        Ok(())
    }
}

/// May a fast client be waited for? Not where another rate is wanted, where the response is kept in the file, and
/// where the client's part is more than a socket: another protocol than HTTP/1, another request's response.
///
/// # Safety
///
/// `p` must be the pipe of this request's response.
unsafe fn may_wait(r: Request<'_>, p: *const ngx_event_pipe_t) -> bool {
    const HTTP_1_1: ngx_uint_t = NGX_HTTP_VERSION_11 as ngx_uint_t;
    let r = r.as_ptr();
    // SAFETY: the caller's promise; a location has a configuration of the core module.
    unsafe {
        let is_plain = r == (*r).main && (*r).http_version <= HTTP_1_1;
        let has_rate = (*r).limit_rate != 0 || (*p).limit_rate != 0;
        let is_kept = flag!(p.cast_mut(), cacheable) | flag!(p.cast_mut(), cyclic_temp_file) != 0;
        let core = NgxHttpCoreModule::location_conf(&*r);
        let is_simple = core.is_some_and(|core| core.limit_rate.is_null() && core.aio == 0);
        is_plain && !has_rate && !is_kept && is_simple
    }
}

/// So many buffers, of which the client is sent all but one at a time, or half of them.
///
/// # Safety
///
/// `p` must be a pipe.
unsafe fn set(p: *mut ngx_event_pipe_t, size: usize, count: isize) {
    // SAFETY: the caller's promise.
    unsafe {
        (*p).bufs.num = count as _;
        (*p).bufs.size = size;
        (*p).busy_size = (size * count as usize / 2) as _;
        // nginx writes whole buffers
        (*p).temp_file_write_size = LARGEST as _;
    }
}

/// `pipe->input_filter` of a body that is passed on as it is.
unsafe extern "C" fn copy<H: Handler>(p: *mut ngx_event_pipe_t, raw: *mut ngx_buf_t) -> ngx_int_t {
    // SAFETY: what nginx called with.
    unsafe {
        grow::<H>(p);
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
        grow::<H>(p);
        filter::buffered::<H>(p, raw)
    }
}

/// The buffers of the response that a pipe is for.
///
/// # Safety
///
/// `p` must be a pipe that [`Upstream::let_buffers_grow`] was given.
unsafe fn growth_of<'a, H: Handler>(p: *const ngx_event_pipe_t) -> Option<&'a Growth> {
    // SAFETY: nginx sets the request, which has an upstream as long as it has a pipe.
    unsafe {
        let r = (*p).output_ctx.cast::<ngx_http_request_t>();
        let u = ptr::NonNull::new((*r).upstream)?;
        Upstream::from_ptr(u).state::<H>()?.growth.get()
    }
}

/// Does nginx wait for the client before it can send more?
///
/// # Safety
///
/// `p` must be the pipe of a response that nginx reads.
unsafe fn is_blocked(p: *const ngx_event_pipe_t) -> bool {
    // SAFETY: the caller's promise. The client's connection lasts as long as its request.
    unsafe {
        let c = (*p).downstream;
        let write = (*c).write;
        flag!(write, ready) == 0 || flag!(write, delayed) != 0 || (*c).data != (*p).output_ctx
    }
}

/// Has the server said all that it will?
///
/// # Safety
///
/// `p` must be a pipe.
unsafe fn is_over(p: *mut ngx_event_pipe_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { flag!(p, upstream_done) | flag!(p, upstream_eof) | flag!(p, upstream_error) != 0 }
}

impl Growth {
    /// Is the client slower than the server, as far as can be seen?
    ///
    /// # Safety
    ///
    /// `p` must be the pipe of a response that nginx reads.
    unsafe fn is_slow(&self, p: *const ngx_event_pipe_t) -> bool {
        // SAFETY: the caller's promise. The pipe has the file that it would write to.
        unsafe {
            let file = (*p).temp_file;
            let in_file =
                !(*p).out.is_null() || file.is_null() || (*file).offset != 0 && !self.waits;
            is_blocked(p) || in_file
        }
    }

    /// A moment begins, if none has, in which the client may take something.
    ///
    /// # Safety
    ///
    /// `p` must be the pipe of this response.
    unsafe fn wait(&self, p: *mut ngx_event_pipe_t) {
        let event = self.event.get();
        // SAFETY: the upstream and its pipe are in the request's memory, as this is.
        unsafe {
            let is_open = !(*self.u).peer.connection.is_null() && !is_over(p);
            if is_open && flag!(event, timer_set) == 0 {
                self.come.set((*p).read_length);
                ngx_add_timer(event, MOMENT);
            }
        }
    }

    /// The moment does not end any more. To be called when the upstream is over.
    pub(super) fn cancel(&self) {
        // SAFETY: this response's own event.
        unsafe { wake::cancel(self.event.get()) };
    }
}

/// A moment is over.
unsafe extern "C" fn on_moment(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of a response, which is cancelled when its upstream is over. Until then,
    // upstream, pipe and connection are there.
    unsafe {
        let growth = &*(*event).data.cast::<Growth>();
        let (c, p) = ((*growth.u).peer.connection, (*growth.u).pipe);
        if c.is_null() || p.is_null() || is_over(p) {
            return;
        }
        if growth.steps.get() == 0 {
            // what was in its buffers is in the file
            return shrink(p, ptr::null());
        }
        if !is_blocked(p) {
            return;
        }
        if (*p).read_length - growth.come.get() >= FAST {
            return growth.wait(p);
        }
        growth.steps.set(0);
        growth.slow_at.set((*p).read_length);
        growth.tried.set(FAST);
        (*p).max_temp_file_size = growth.file_size;
        shrink(p, ptr::null());
        ngx_post_event((*c).read, &raw mut ngx_posted_events);
        ngx_post_event(event, &raw mut ngx_posted_events);
    }
}

/// Allows more buffers to a client that takes what comes.
///
/// # Safety
///
/// `p` must be the pipe of a response that nginx reads.
unsafe fn grow<H: Handler>(p: *mut ngx_event_pipe_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(growth) = growth_of::<H>(p) else { return };
        let taken = growth.steps.get();
        let Some(step) = STEPS.get(taken) else { return };
        if taken == 0 && growth.is_slow(p) {
            growth.slow_at.set((*p).read_length);
            return;
        }
        let after = if taken == 0 { growth.tried.get() } else { step.after };
        if (*p).read_length - growth.slow_at.get() < after {
            return;
        }
        if growth.output.get().is_none() {
            growth.output.set((*p).output_filter);
            (*p).output_filter = Some(send::<H>);
            // of stock's size, where nothing was announced
            growth.small.set(if (*p).bufs.size == SIZE { 0 } else { (*p).allocated });
        }
        let had = if taken == 0 { growth.small.get() as _ } else { (*p).bufs.num };
        set(p, step.size, step.count);
        (*p).bufs.num += had;
        growth.steps.set(taken + 1);
        if growth.waits {
            (*p).max_temp_file_size = 0;
        }
    }
}

/// `pipe->output_filter`, once there may be more buffers.
unsafe extern "C" fn send<H: Handler>(data: *mut c_void, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: nginx calls with the request, whose upstream has this pipe, as its own filter expects, too. A filter
    // may end the upstream, but not the request.
    unsafe {
        let pipe = (*(*data.cast::<ngx_http_request_t>()).upstream).pipe;
        let Some(growth) = growth_of::<H>(pipe) else { return ERROR };
        let Some(output) = growth.output.get() else { return ERROR };
        if growth.steps.get() != 0 && !growth.waits && growth.is_slow(pipe) {
            growth.steps.set(0);
            growth.slow_at.set((*pipe).read_length);
        }
        if growth.steps.get() == 0 && !is_over(pipe) {
            shrink(pipe, chain);
        }
        let status = output(data, chain);
        if growth.steps.get() != 0 && growth.waits && is_blocked(pipe) {
            growth.wait(pipe);
        }
        status
    }
}

/// Gives back the buffers that are free, down to the first ones, as nginx itself does in the end. `sent` are about to
/// be sent.
///
/// nginx relies on it that not all buffers are on their way to the client when it looks for one to read into,
/// or for one to write into the file: so one stays free, or one more may be allocated, and from now on the
/// client is sent no more at a time than the largest one that is left.
///
/// # Safety
///
/// `p` must be a pipe that nginx reads on into, whose free buffers nobody uses; `sent` buffers of it.
unsafe fn shrink(p: *mut ngx_event_pipe_t, sent: *const ngx_chain_t) {
    // SAFETY: the caller's promise. A buffer of the list `free_raw_bufs` is in no other one, and without a
    // shadow nothing refers to its memory; one that is filled in part, which is the first, is left.
    unsafe {
        set(p, SIZE, FIRST);
        let free = (*p).free_raw_bufs;
        // the larger ones first
        for least in [LARGEST, SIZE] {
            let Some(first) = free.as_mut() else { break };
            let mut place = &raw mut first.next;
            while !(*place).is_null() && (*p).allocated > FIRST {
                let (link, buf) = (*place, (**place).buf);
                if buffer_size(buf) >= least && (*buf).pos == (*buf).last && (*buf).shadow.is_null()
                {
                    *place = (*link).next;
                    (*p).allocated -= 1;
                    ngx_pfree((*p).pool, (*buf).start.cast());
                } else {
                    place = &raw mut (*link).next;
                }
            }
        }
        let lists = [free.cast_const(), (*p).in_, (*p).busy, sent];
        let largest = lists.map(|list| largest_of(list)).into_iter().max();
        (*p).busy_size = largest.unwrap_or(0).max(SIZE) as _;
        (*p).bufs.num = (*p).allocated + isize::from(free.is_null());
    }
}

/// How large the largest buffer of a list is.
///
/// # Safety
///
/// `list` must be null or valid.
unsafe fn largest_of(mut list: *const ngx_chain_t) -> usize {
    let mut largest = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while let Some(link) = list.as_ref() {
            largest = largest.max(buffer_size(link.buf));
            list = link.next;
        }
    }
    largest
}

/// How large a buffer is. One that is in a file has no size.
///
/// # Safety
///
/// `buf` must be valid.
unsafe fn buffer_size(buf: *const ngx_buf_t) -> usize {
    // SAFETY: the caller's promise.
    unsafe { ((*buf).end as usize).saturating_sub((*buf).start as usize) }
}
