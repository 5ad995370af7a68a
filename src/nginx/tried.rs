//! Requests that are with a server, for whoever finds out that it does not answer.

use core::ptr::NonNull;

use super::callbacks::with_request;
use super::sys::{ngx_http_request_t, ngx_post_event, ngx_posted_events};
use super::{Request, Upstream};

/// A request that is with a server. It is there as long as its try: whoever ends the try takes it out.
pub struct Tried(NonNull<ngx_http_request_t>);

impl Tried {
    /// The entry of a request whose try begins.
    pub fn of(r: Request<'_>) -> Tried {
        Tried(r.ptr)
    }

    /// Runs safe code on the request. None where it panicked.
    pub fn with<T>(&self, run: impl FnOnce(Request<'_>) -> T) -> Option<T> {
        // the request is alive, as its try has not ended
        with_request(self.0.as_ptr(), None, |r| Some(run(r)))
    }
}

impl Upstream<'_> {
    /// The server has taken too long. nginx finds that once this is done, and asks the next one, or answers 504.
    pub fn time_out(self) {
        let c = field!(self, peer.connection);
        if c.is_null() {
            return;
        }
        // SAFETY: open until nginx ends the try, with both events. One that is posted goes with its connection.
        unsafe {
            flag!((*c).read, timedout = 1);
            ngx_post_event((*c).read, &raw mut ngx_posted_events);
        }
    }

    /// When the first try of the request began, in milliseconds of nginx's clock.
    pub fn tried_since(self) -> usize {
        field!(self, peer.start_time)
    }
}
