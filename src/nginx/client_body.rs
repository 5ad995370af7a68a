//! What nginx has of a client's body when a location is to pass it on, and the rest of a body that
//! was begun elsewhere.
//!
//! nginx reads a body once. A request that comes to a location by way of another one (`error_page`,
//! `X-Accel-Redirect`, a subrequest) finds what that one has left: all of it, the beginning, or, where
//! it was passed on while it was being read, nothing or any part. `ngx_http_read_client_request_body`
//! says of each that it is the body.

use core::ffi::c_int;

use super::callbacks::{self, Next};
use super::chain::Chain;
use super::module::Handler;
use super::request::{go_on, hold, let_go};
use super::status::{BAD_GATEWAY, DONE, OK, SPECIAL_RESPONSE};
use super::sys::{
    ngx_http_read_unbuffered_request_body, ngx_http_request_body_t, ngx_http_request_empty_handler,
    ngx_http_request_t, ngx_int_t, ngx_uint_t, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_VERSION_20,
};
use super::{bytes_of, Request};

/// From here on bodies come in frames, and nginx counts what it received.
const HTTP_2: ngx_uint_t = NGX_HTTP_VERSION_20 as ngx_uint_t;

/// What there is of a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBody {
    /// Nobody has begun to read it, or there is none.
    Unread,
    /// All of it.
    Whole,
    /// The beginning; the client is still sending the rest, and nothing was given away.
    Begun,
    /// Not all: the rest was given away, thrown away, or could not be read.
    Cut {
        /// Bytes that are left.
        left: u64,
        /// Bytes that the client sends, where it has said how many.
        of: Option<u64>,
    },
}

impl Request<'_> {
    /// What there is of the client's body.
    #[inline]
    pub fn client_body(self) -> ClientBody {
        let is_main = field!(self, main) == self.as_ptr();
        let is_untouched =
            field!(self, request_body).is_null() && flag_of!(self, discard_body) == 0;
        // what was thrown away is subtracted from the length
        if is_main && is_untouched && field!(self, headers_in.content_length_n) != 0 {
            return ClientBody::Unread;
        }
        self.client_body_so_far()
    }

    #[inline(never)]
    fn client_body_so_far(self) -> ClientBody {
        let main = field!(self, main);
        let body = field!(self, request_body);
        if body.is_null() {
            return match self.announces_body() {
                true => ClientBody::Cut { left: 0, of: self.content_length() },
                false => ClientBody::Unread,
            };
        }
        // SAFETY: a request has a main request, itself as a rule.
        let (mains, headers, version) =
            unsafe { ((*main).request_body, &raw mut (*main).headers_in, (*main).http_version) };
        if body != mains {
            // made for this subrequest by who made the subrequest
            return ClientBody::Whole;
        }
        let has_frames = version >= HTTP_2;
        // SAFETY: a body is valid as long as its request, and so are the main request's headers.
        let (left, rest, is_saved, received, length, is_chunked) = unsafe {
            (
                readable(body),
                (*body).rest,
                flag!(body, last_saved) != 0,
                (*body).received,
                (*headers).content_length_n,
                flag!(headers, chunked) != 0,
            )
        };
        if length < 0 && !is_chunked && !self.announces_body() {
            // there is none: nginx has "read" it all the same, for who had asked for it
            return ClientBody::Whole;
        }
        // HTTP/1's chunks are added up in the length.
        let is_length_known = length >= 0 && !is_chunked;
        let taken = match (has_frames, is_chunked) {
            (true, _) => received,
            (false, true) => length,
            (false, false) => length - rest.max(0),
        };
        let is_whole = match is_length_known {
            true => left >= length,
            false => rest == 0 && is_saved && left >= taken,
        };
        if is_whole {
            return ClientBody::Whole;
        }
        let is_being_read = main == self.as_ptr()
            && flag_of!(self, reading_body) != 0
            && flag_of!(self, post_action) == 0;
        // `read_rest` needs HTTP/1, `pass_rest` a length
        if is_being_read && left >= taken && (is_length_known || !has_frames) {
            return ClientBody::Begun;
        }
        let count = |bytes| u64::try_from(bytes).unwrap_or(0);
        ClientBody::Cut { left: count(left), of: is_length_known.then(|| count(length)) }
    }

    /// Does the head announce a body that is not empty? The length that nginx keeps shrinks while a
    /// body is thrown away.
    fn announces_body(self) -> bool {
        let header = field!(self, headers_in.content_length);
        // SAFETY: null, or a header line of the request.
        let length = unsafe { header.as_ref().map(|header| bytes_of(header.value)) };
        self.is_chunked() || length.is_some_and(|digits| digits.iter().any(|digit| *digit != b'0'))
    }

    /// Can [`Self::read_rest`] read the rest of a body? In HTTP/2 and 3 nginx keeps the client from sending
    /// more than fits into the buffer that it chose for a body to be passed on.
    pub fn can_read_rest(self) -> bool {
        field!(self, http_version) < HTTP_2
    }

    /// Did the body get lost before nginx was asked to read it (HTTP/2's, where it was thrown away)?
    pub fn has_lost_body(self) -> bool {
        let is_main = field!(self, main) == self.as_ptr();
        is_main && self.content_length().is_some_and(|length| length > 0)
    }

    /// Is it the page for an error, whose status the client gets whatever the server answers?
    pub fn is_error_page(self) -> bool {
        let is_safe = field!(self, method) as u32 & (NGX_HTTP_GET | NGX_HTTP_HEAD) != 0;
        is_safe && matches!(field!(self, err_status), 400..=599)
    }

    /// The status for a request whose body was cut: that of the error which brought it here, else 502.
    pub fn cut_status(self) -> ngx_int_t {
        match field!(self, err_status) {
            status @ 400..=599 => status as ngx_int_t,
            _ => BAD_GATEWAY,
        }
    }
}

/// Passes on a body that was [begun](ClientBody::Begun), the rest as it comes. The status is the
/// content handler's.
///
/// # Safety
///
/// `r` must be nginx's request, which may be gone after this.
pub(super) unsafe fn pass_rest<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        hold(r);
        flag!(r, request_body_no_buffering = 1);
        callbacks::body_ready::<H>(r);
    }
    DONE
}

/// Reads a body that was [begun](ClientBody::Begun) to its end, and goes on with
/// [`RequestHandler::body_ready`](callbacks::RequestHandler::body_ready). The status is the content handler's.
///
/// # Safety
///
/// As for [`pass_rest`].
pub(super) unsafe fn read_rest<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise; the request has a body that nginx stopped to read between two
    // pieces. From here on it is read as a buffered one is, to a file where it outgrows the memory.
    unsafe {
        hold(r);
        flag!(r, request_body_no_buffering = 0);
        (*(*r).request_body).post_handler = Some(nothing);
        (*r).read_event_handler = Some(read_more::<H>);
        (*r).write_event_handler = Some(ngx_http_request_empty_handler);
        let status = read_some::<H>(r);
        if status >= SPECIAL_RESPONSE {
            let_go(r);
            return status;
        }
    }
    DONE
}

/// `r->read_event_handler`, as `ngx_http_read_client_request_body_handler`: more of the body has come,
/// or the time is up for it.
unsafe extern "C" fn read_more<H: Handler>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls with a live request, whose body `read_rest` began to read.
    unsafe {
        let status = read_some::<H>(r);
        if status >= SPECIAL_RESPONSE {
            go_on(r, Next::Finalize(status));
        }
    }
}

/// Reads what has come of the body. The request may be gone after it, but for an error.
///
/// # Safety
///
/// `r` must be a live request whose body [`read_rest`] began to read.
unsafe fn read_some<H: Handler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise. At the end nginx calls `nothing`, which leaves the request alive.
    unsafe {
        let status = ngx_http_read_unbuffered_request_body(r);
        if status == OK {
            callbacks::body_ready::<H>(r);
            return DONE;
        }
        status
    }
}

/// nginx touches the request after its call of `rb->post_handler`, which therefore must not end it.
unsafe extern "C" fn nothing(_: *mut ngx_http_request_t) {}

/// The bytes of a body that can be sent. nginx closes the file of one when it passes the response on.
///
/// # Safety
///
/// `body` must be valid.
unsafe fn readable(body: *mut ngx_http_request_body_t) -> i64 {
    const CLOSED: c_int = -1;
    // SAFETY: the caller's promise; the file is null or valid as long as the body.
    let (chain, is_closed) = unsafe {
        let file = (*body).temp_file.as_ref();
        (Chain::from_ptr((*body).bufs), file.is_some_and(|file| file.file.fd == CLOSED))
    };
    match is_closed {
        true => 0,
        false => i64::try_from(chain.size()).unwrap_or(i64::MAX),
    }
}
