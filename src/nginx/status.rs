//! nginx's statuses in the type that its functions return, and one that it has no name for.

use super::sys::{self, ngx_int_t};

/// `NGX_OK`.
pub const OK: ngx_int_t = sys::NGX_OK as ngx_int_t;
/// `NGX_ERROR`.
pub const ERROR: ngx_int_t = sys::NGX_ERROR as ngx_int_t;
/// `NGX_AGAIN`.
pub const AGAIN: ngx_int_t = sys::NGX_AGAIN as ngx_int_t;
/// `NGX_BUSY`.
pub const BUSY: ngx_int_t = sys::NGX_BUSY as ngx_int_t;
/// `NGX_DONE`.
pub const DONE: ngx_int_t = sys::NGX_DONE as ngx_int_t;
/// `NGX_DECLINED`.
pub const DECLINED: ngx_int_t = sys::NGX_DECLINED as ngx_int_t;

/// The first status that is an error page or a redirect, `NGX_HTTP_SPECIAL_RESPONSE`.
pub const SPECIAL_RESPONSE: ngx_int_t = sys::NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t;
/// 200.
pub const HTTP_OK: ngx_int_t = sys::NGX_HTTP_OK as ngx_int_t;
/// 404.
pub const NOT_FOUND: ngx_int_t = sys::NGX_HTTP_NOT_FOUND as ngx_int_t;
/// 499, "client has closed connection".
pub const CLIENT_CLOSED_REQUEST: ngx_int_t = sys::NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t;
/// 500.
pub const INTERNAL_SERVER_ERROR: ngx_int_t = sys::NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
/// 501.
pub const NOT_IMPLEMENTED: ngx_int_t = sys::NGX_HTTP_NOT_IMPLEMENTED as ngx_int_t;
/// 502.
pub const BAD_GATEWAY: ngx_int_t = sys::NGX_HTTP_BAD_GATEWAY as ngx_int_t;
/// 503.
pub const SERVICE_UNAVAILABLE: ngx_int_t = sys::NGX_HTTP_SERVICE_UNAVAILABLE as ngx_int_t;
/// "Request Header Fields Too Large", RFC 6585, 5.
pub const REQUEST_HEADER_FIELDS_TOO_LARGE: ngx_int_t = 431;
