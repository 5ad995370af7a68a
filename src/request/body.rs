//! What there is of the client's body when the request reaches a location, and whether it may be passed on.
//! The length of what is passed on is [`RequestState::body_length`].

use crate::conf::LocConf;
use crate::nginx::callbacks::Content;
use crate::nginx::client_body::ClientBody;
use crate::nginx::sys::ngx_int_t;
use crate::nginx::Request;
use crate::state::RequestState;

/// Goes on with `body_ready` when the client's body was read, or its beginning. What other locations
/// have left of it must be all that the client sends: the server would take less for all.
#[inline(always)]
pub fn read(r: Request<'_>) -> Content {
    let conf = LocConf::of(r);
    if conf.upstream.pass_request_body == 0 {
        return Content::ReadBody;
    }
    match r.client_body() {
        ClientBody::Unread => {
            // Its length goes in front of the body: one of unknown length has to be read to its end
            // first. nginx calls HTTP/2's and HTTP/3's without a Content-Length chunked, too.
            if conf.upstream.request_buffering == 0 && !r.is_chunked() {
                r.disable_body_buffering();
            }
            Content::ReadBody
        }
        ClientBody::Whole => Content::ReadBody,
        ClientBody::Begun => match conf.upstream.request_buffering != 0 || r.is_chunked() {
            true if r.can_read_rest() => Content::ReadRest,
            _ => Content::PassRest,
        },
        ClientBody::Cut { left, of } => match go_without(r, left, of) {
            Ok(()) => Content::ReadBody,
            Err(status) => Content::Ended(status),
        },
    }
}

/// The client's body was cut, so none of it may be passed on. Only the page for an error does without.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
#[cold]
fn go_without(r: Request<'_>, left: u64, of: Option<u64>) -> Result<(), ngx_int_t> {
    if let (Some(state), true) = (RequestState::of(r), r.is_error_page()) {
        state.without_body.set(true);
        return Ok(());
    }
    let of = of.map_or(String::new(), |of| format!("of {of} "));
    r.log().error(format_args!(
        "{left} {of}bytes of client request body are left, the others were passed on or discarded \
         before: \"rs_uwsgi_pass_request_body off\" would pass the request without its body"
    ));
    Err(r.cut_status())
}

/// The body is read, or its beginning: a request without one goes on only where the client has sent none.
///
/// # Errors
///
/// The status to answer with; the reason is in the log.
pub fn check(r: Request<'_>) -> Result<(), ngx_int_t> {
    match r.has_lost_body() && LocConf::of(r).upstream.pass_request_body != 0 {
        true => go_without(r, 0, r.content_length()),
        false => Ok(()),
    }
}
