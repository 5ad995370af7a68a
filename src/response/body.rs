//! The body of the response: where it ends.
//!
//! Mirrors `ngx_http_uwsgi_input_filter_init` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::ops::Range;

use crate::module::{State, Uwsgi};
use crate::nginx::log::debug;
use crate::nginx::sys::NGX_HTTP_SPECIAL_RESPONSE;
use crate::nginx::{Error, Request};
use crate::pure::stats::Failure;
use crate::pure::uwsgi::chunked::{Decoder, Piece};
use crate::pure::uwsgi::framing::Chunks;
use crate::pure::uwsgi::trailers;
use crate::state::{Answer, Body, RequestState, Trailers};

/// Says how long the body is: none for the statuses without one, else as the server said, else until
/// it closes the connection.
///
/// A response to HEAD ends with its head. A server may send a body all the same (uWSGI does) or not, and
/// may close or not: nobody waits to find out. The cache and the store get what has come with the head
/// and is whole, or else nothing.
///
/// Chunks are decoded, which stock does not do: its clients get the chunk marks as text.
///
/// # Errors
///
/// [`Error::Failed`] where the request has no upstream any more, or the response no head yet.
pub fn start(r: Request<'_>) -> Result<(), Error> {
    let u = r.upstream().ok_or(Error::Failed)?;
    let state = RequestState::of(r).ok_or(Error::Failed)?;
    let response = &state.attempt().response;
    let head = response.head().ok_or(Error::Failed)?;
    let body = Body { chunks: Chunks::Open, decoder: Decoder::default() };
    response.answer.set(Answer::Body(head, body));

    if u.is_request_cut() || !u.is_buffered() {
        // An answer to a part of a request; or one that nginx does not keep because it is passed on as
        // it comes, but for whose cache it would go on when the client has left.
        u.forbid_caching();
    }

    if state.body_length(r) > 0 {
        // The server may close with a part of the request unread, which may cost the end of its
        // response. What has no other end than that is complete enough as an error page or a redirect.
        let ends_by_close = u.content_length() == -1 && !u.is_chunked();
        u.expect_reset(!ends_by_close || u.status() >= NGX_HTTP_SPECIAL_RESPONSE as usize);
    }

    let length = if u.is_bodiless() {
        0
    } else if r.is_head() && !u.is_whole() {
        u.drop_body();
        0
    } else if u.is_chunked() {
        u.decode_chunks::<Uwsgi>(Decoder::default().at_least());
        if state.conf.buffers_grow {
            u.let_buffers_grow::<Uwsgi>(r, -1)?;
        }
        debug!(r.log(), "http rs_uwsgi filter init s:{} chunked", u.status());
        return Ok(());
    } else {
        u.content_length()
    };
    u.set_length(length);
    if state.conf.buffers_grow {
        u.let_buffers_grow::<Uwsgi>(r, length)?;
    }
    debug!(r.log(), "http rs_uwsgi filter init s:{} l:{length}", u.status());
    Ok(())
}

/// Decodes the next bytes of a chunked body. Returns the least number of bytes that must still come;
/// 0 at the end.
///
/// # Errors
///
/// With a line in the log: malformed chunks, which end the client's connection before its
/// response is complete. [`Error`] of `data`.
pub fn decode(
    r: Request<'_>,
    bytes: &[u8],
    data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
) -> Result<u64, Error> {
    let state = RequestState::of(r).ok_or(Error::Failed)?;
    let response = &state.attempt().response;
    let Answer::Body(head, Body { mut chunks, mut decoder }) = response.answer.get() else {
        return Err(Error::Failed);
    };
    let mut at = 0;
    while !decoder.is_done() {
        let rest = bytes.get(at..).unwrap_or_default();
        let decoder_before = decoder;
        let (skipped, piece) = decoder.next(rest).map_err(|malformed| {
            r.log().error(format_args!("upstream sent invalid chunked response: {malformed}"));
            state.attempt().failure.set(Some(Failure::InvalidBody));
            Error::Failed
        })?;
        let before = decoder_before.trailers();
        at += skipped;
        if decoder.trailers() > before {
            keep_trailers(r, state, bytes.get(..at), decoder.trailers() - before)?;
        }
        match piece {
            Piece::Data(length) => {
                data(at..at + length)?;
                at += length;
            }
            Piece::Again => break,
            Piece::End => {
                chunks = Chunks::Ended;
                pass_trailers(r, state)?;
            }
        }
    }
    if decoder.is_done() && at < bytes.len() && chunks != Chunks::Surplus {
        chunks = Chunks::Surplus;
        r.log().warn(format_args!("upstream sent data after the last chunk"));
    }
    response.answer.set(Answer::Body(head, Body { chunks, decoder }));
    Ok(decoder.at_least())
}

/// Keeps what has come of the trailers, the last `count` bytes of what was `skipped`. nginx uses its buffer
/// again before they are complete.
#[cold]
fn keep_trailers<'a>(
    r: Request<'a>,
    state: &State<'a>,
    skipped: Option<&[u8]>,
    count: usize,
) -> Result<(), Error> {
    let skipped = skipped.unwrap_or_default();
    let more = skipped.get(skipped.len().saturating_sub(count)..).unwrap_or_default();
    let response = &state.attempt().response;
    let kept = match response.trailers.get() {
        Some(kept) => kept,
        // mostly there are none
        None if b"\r\n".starts_with(more) => return Ok(()),
        None if state.upstream.is_kept() || !r.takes_trailers() => return Ok(()),
        None => r.pool().share(Trailers::new())?,
    };
    response.trailers.set(Some(kept));
    kept.push(more);
    Ok(())
}

/// Gives nginx the trailers that the client may have, before it sends the end of the body.
fn pass_trailers(r: Request<'_>, state: &State<'_>) -> Result<(), Error> {
    let Some(kept) = state.attempt().response.trailers.get() else { return Ok(()) };
    trailers::fields(&kept.bytes()).try_for_each(|(name, value)| r.push_trailer(name, value))
}
