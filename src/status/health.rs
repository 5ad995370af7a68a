//! `health` below a location of `rs_uwsgi_status`: is there a server that is worth to be asked?

use crate::module::Servers;
use crate::nginx::answer::AnswerHead;
use crate::nginx::status::{HTTP_OK, NOT_FOUND, SERVICE_UNAVAILABLE};
use crate::nginx::sys::ngx_int_t;
use crate::nginx::Request;
use crate::peer::health::count;
use crate::pure::status::health::{answer, Asked};

/// Answers with 200 or 503.
///
/// # Errors
///
/// 404, for an upstream that is none.
pub fn begin(r: Request<'_>, asked: Asked<'_>) -> Result<(AnswerHead, String), ngx_int_t> {
    let upstreams = Servers::all(r).map(|servers| (servers.name.clone(), count(servers)));
    let answer = answer(asked, upstreams).ok_or(NOT_FOUND)?;
    let head = AnswerHead {
        status: if answer.is_well { HTTP_OK } else { SERVICE_UNAVAILABLE },
        content_type: "text/plain; charset=utf-8",
        headers: vec![
            ("Cache-Control", "no-store".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
        ],
    };
    Ok((head, answer.text))
}
