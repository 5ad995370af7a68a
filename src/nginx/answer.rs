//! An answer that this module makes itself, part by part: between two parts the worker has done what else was
//! to do, and the client has taken the one before. After `ngx_http_writer` of nginx's
//! src/http/ngx_http_request.c.

use core::ffi::c_void;
use core::mem::zeroed;
use core::ptr::{self, NonNull};
use std::panic::{catch_unwind, AssertUnwindSafe};

use ngx::http::{HttpModuleLocationConf, HttpModuleMainConf, NgxHttpCoreModule};

use super::callbacks::{log_panic, with_request, with_step};
use super::conf::{Conf, Error};
use super::module::{context_index, Module};
use super::request::hold;
use super::status::{DONE, ERROR, INTERNAL_SERVER_ERROR, OK};
use super::sys::{
    ngx_add_timer, ngx_array_push, ngx_buf_t, ngx_chain_t, ngx_del_timer, ngx_handle_write_event,
    ngx_http_discard_request_body, ngx_http_finalize_request, ngx_http_handler_pt,
    ngx_http_output_filter, ngx_http_phases_NGX_HTTP_LOG_PHASE, ngx_http_request_t,
    ngx_http_send_header, ngx_int_t, ngx_list_push, ngx_pool_cleanup_add, ngx_post_event,
    ngx_posted_next_events, ngx_table_elt_t, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_NOT_ALLOWED,
    NGX_HTTP_REQUEST_TIME_OUT,
};
use super::{str_of, version, Log, Request};

/// What a module answers itself.
pub trait AnswerHandler: Module {
    /// What is left to be written of an answer.
    type Answer: 'static;

    /// A GET or HEAD request has come to a location that this module answers in.
    ///
    /// # Errors
    ///
    /// The status to answer with.
    fn begin_answer(r: Request<'_>) -> Result<(AnswerHead, Self::Answer), ngx_int_t>;
    /// Writes the next part, of some more than `most` bytes. Is there more to come?
    fn next_part(answer: &mut Self::Answer, part: &mut Vec<u8>, most: usize) -> bool;
    /// A request of any location is over.
    fn log_request(r: Request<'_>);
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// Its status.
    pub status: ngx_int_t,
    /// Its Content-Type.
    pub content_type: &'static str,
    /// Other headers.
    pub headers: Vec<(&'static str, String)>,
}

/// The bytes of a part: what a worker writes in much less than a millisecond.
const PART: usize = 64 * 1024;

/// An answer on its way. It is the request's, whose end drops it.
struct Sending<H: AnswerHandler> {
    answer: H::Answer,
    /// What `buf` refers to.
    part: Vec<u8>,
    buf: ngx_buf_t,
    link: ngx_chain_t,
}

impl<H: AnswerHandler> Sending<H> {
    /// Makes the next part, behind which there may be more.
    fn make_part(&mut self, most: usize) -> bool {
        self.part.clear();
        let more = H::next_part(&mut self.answer, &mut self.part, most);
        self.present(more);
        more
    }

    /// Shows the part to nginx.
    fn present(&mut self, more: bool) {
        // SAFETY: zeros are how nginx makes one; the bytes stay until all of it is sent.
        unsafe {
            self.buf = zeroed();
            let range = self.part.as_mut_ptr_range();
            (self.buf.start, self.buf.pos) = (range.start, range.start);
            (self.buf.end, self.buf.last) = (range.end, range.end);
            let buf = &raw mut self.buf;
            flag!(buf, memory = u32::from(range.start != range.end));
            flag!(buf, last_buf = u32::from(!more));
            flag!(buf, last_in_chain = 1);
            flag!(buf, flush = u32::from(more));
            self.link = ngx_chain_t { buf, next: ptr::null_mut() };
        }
    }

    fn is_taken(&self) -> bool {
        self.buf.pos == self.buf.last
    }
}

/// The content handler.
pub(super) unsafe extern "C" fn content<H: AnswerHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx's request, in its content handler.
    unsafe {
        if (*r).method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
            push_header(r, "Allow", "GET, HEAD");
            return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
        }
        let status = ngx_http_discard_request_body(r);
        if status != OK {
            return status;
        }
        let failed = Err(INTERNAL_SERVER_ERROR);
        let begun = with_step::<H, _>(r, "content", failed, |r| {
            let (head, answer) = H::begin_answer(r)?;
            let (buf, link) = (zeroed(), zeroed());
            let mut sending = Box::new(Sending::<H> { answer, part: Vec::new(), buf, link });
            // a part of another response has one piece
            let most = if r.as_ptr() == (*r.as_ptr()).main { PART } else { usize::MAX };
            let more = sending.make_part(most);
            Ok((head, sending, more))
        });
        match begun {
            Ok((head, sending, more)) => send_first(r, &head, sending, more),
            Err(status) => status,
        }
    }
}

/// Sends the head and the first part.
///
/// # Safety
///
/// `r` must be nginx's request, in its content handler.
unsafe fn send_first<H: AnswerHandler>(
    r: *mut ngx_http_request_t,
    head: &AnswerHead,
    sending: Box<Sending<H>>,
    more: bool,
) -> ngx_int_t {
    // SAFETY: the caller's promise. The cleanup has room for a pointer, and drops what it points to with the
    // request's memory; until then nobody but `send_next` uses it.
    unsafe {
        let out = &raw mut (*r).headers_out;
        (*out).status = head.status as usize;
        (*out).content_type = str_of(head.content_type.as_bytes());
        (*out).content_type_len = head.content_type.len();
        (*out).content_length_n = if more { -1 } else { sending.part.len() as i64 };
        if !head.headers.iter().all(|(name, value)| push_header(r, name, value)) {
            return INTERNAL_SERVER_ERROR;
        }
        let status = ngx_http_send_header(r);
        if status == ERROR || status > OK || flag!(r, header_only) != 0 {
            return status;
        }
        let Some(cleanup) = ngx_pool_cleanup_add((*r).pool, 0).as_mut() else { return ERROR };
        let sending = Box::into_raw(sending);
        cleanup.handler = Some(drop_sending::<H>);
        cleanup.data = sending.cast();
        // the box has moved
        (*sending).present(more);
        let status = ngx_http_output_filter(r, &raw mut (*sending).link);
        if !more || status == ERROR {
            return status;
        }
        *(*r).ctx.add(context_index::<H>()) = sending.cast();
        hold(r);
        (*r).write_event_handler = Some(send_next::<H>);
        wait_or_go_on(r, &*sending);
        DONE
    }
}

unsafe extern "C" fn drop_sending<H: AnswerHandler>(data: *mut c_void) {
    // SAFETY: `send_first` put a box there; nginx calls this once, at the request's end.
    drop(unsafe { Box::from_raw(data.cast::<Sending<H>>()) });
}

/// `r->write_event_handler`: the client takes more, or it is time for the next part.
unsafe extern "C" fn send_next<H: AnswerHandler>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls with a live request, whose context is what `send_first` put there, or null where a
    // filter has cleared it.
    unsafe {
        let c = (*r).connection;
        let write = (*c).write;
        if flag!(write, timedout) != 0 {
            flag!(c, timedout = 1);
            return ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
        }
        let context = *(*r).ctx.add(context_index::<H>());
        let Some(sending) = context.cast::<Sending<H>>().as_mut() else {
            return ngx_http_finalize_request(r, ERROR);
        };
        if flag!(write, delayed) != 0 {
            return wait_or_go_on(r, sending);
        }
        if !sending.is_taken() || flag!(c, buffered) != 0 {
            if ngx_http_output_filter(r, ptr::null_mut()) == ERROR {
                return ngx_http_finalize_request(r, ERROR);
            }
            if !sending.is_taken() || flag!(c, buffered) != 0 {
                return wait_or_go_on(r, sending);
            }
        }
        let made = catch_unwind(AssertUnwindSafe(|| sending.make_part(PART)));
        let more = match made {
            Ok(more) => more,
            Err(panic) => {
                log_panic(Log::of_worker(), &*panic);
                return ngx_http_finalize_request(r, ERROR);
            }
        };
        let status = ngx_http_output_filter(r, &raw mut sending.link);
        if !more || status == ERROR {
            return ngx_http_finalize_request(r, status);
        }
        wait_or_go_on(r, sending);
    }
}

/// Goes on with the next part after what else is to be done, or once the client has taken this one.
///
/// # Safety
///
/// `r` must be nginx's request. It may be gone after this.
unsafe fn wait_or_go_on<H: AnswerHandler>(r: *mut ngx_http_request_t, sending: &Sending<H>) {
    // SAFETY: the caller's promise; a request has a connection and a location with a configuration of the core
    // module.
    unsafe {
        let c = (*r).connection;
        let write = (*c).write;
        if sending.is_taken() && flag!(c, buffered) == 0 && flag!(write, delayed) == 0 {
            if flag!(write, timer_set) != 0 {
                ngx_del_timer(write);
            }
            return ngx_post_event(write, &raw mut ngx_posted_next_events);
        }
        let core = NgxHttpCoreModule::location_conf(&*r);
        let (timeout, least) =
            core.map_or((60_000, 0), |core| (core.send_timeout, core.send_lowat));
        if flag!(write, delayed) == 0 {
            ngx_add_timer(write, timeout);
        }
        if ngx_handle_write_event(write, least) != OK {
            ngx_http_finalize_request(r, ERROR);
        }
    }
}

/// Adds a header to the answer. False where memory runs out.
///
/// # Safety
///
/// `r` must be nginx's request.
unsafe fn push_header(r: *mut ngx_http_request_t, name: &'static str, value: &str) -> bool {
    // SAFETY: the caller's promise; the list holds header lines.
    unsafe {
        let pool = Request::from_ptr(NonNull::new_unchecked(r)).pool();
        let Ok(value) = pool.copy(value.as_bytes()) else { return false };
        let place = ngx_list_push(&raw mut (*r).headers_out.headers).cast::<ngx_table_elt_t>();
        if place.is_null() {
            return false;
        }
        place.write(version::header(1, str_of(name.as_bytes()), str_of(value), ptr::null_mut()));
        true
    }
}

/// The names that requests are counted by.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusZones {
    /// How many are configured.
    pub names: usize,
    /// Do variables make others?
    pub has_variables: bool,
}

impl Conf<'_> {
    /// Notes a name that requests are counted by.
    pub fn count_status_zone<H: Module>(self, has_variables: bool) {
        self.with_main_conf::<H, _>(|main| {
            main.status_zones.names += 1;
            main.status_zones.has_variables |= has_variables;
        });
    }

    /// Those that were noted.
    pub fn status_zones<H: Module>(self) -> StatusZones {
        self.with_main_conf::<H, _>(|main| main.status_zones)
    }

    /// Makes `H` answer requests of the location itself.
    pub fn set_answer_handler<H: AnswerHandler>(self) {
        if let Some(core) = self.core_loc_conf() {
            // SAFETY: just got, and only one field is written.
            unsafe { (*core.as_ptr()).handler = Some(content::<H>) };
        }
    }

    /// Lets `H` know when requests are over, of all locations.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    pub fn watch_requests<H: AnswerHandler>(self) -> Result<(), Error> {
        // SAFETY: the parser is valid, and the core module's configuration has an array of handlers for each
        // phase.
        unsafe {
            let main = NgxHttpCoreModule::main_conf_mut(self.ptr.as_ref()).ok_or(Error::Logged)?;
            let phase = main.phases.get_mut(ngx_http_phases_NGX_HTTP_LOG_PHASE as usize);
            let handlers = &raw mut phase.ok_or(Error::Logged)?.handlers;
            let place = ngx_array_push(handlers).cast::<ngx_http_handler_pt>();
            if place.is_null() {
                return Err(Error::Logged);
            }
            place.write(Some(log::<H>));
        }
        Ok(())
    }
}

/// The handler of the phase in which requests are logged.
unsafe extern "C" fn log<H: AnswerHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    with_request(r, (), H::log_request);
    OK
}
