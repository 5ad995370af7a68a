//! The client of a request, and what it asks for and gets.

use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use super::sys::{ngx_uint_t, NGX_HTTP_VERSION_10, NGX_HTTP_VERSION_11};
use super::{bytes_of, Request};

impl<'a> Request<'a> {
    /// Has the client left, or the connection to it failed?
    pub fn has_lost_client(self) -> bool {
        let c = field!(self, connection);
        // SAFETY: a request has a connection.
        unsafe { flag!(c, error) | flag!(c, timedout) != 0 }
    }

    /// Lets the client see that a response is not whole whose end is that of its connection, and nothing else:
    /// nginx is about to close it, which resets it now. Over TLS, HTTP/2 and HTTP/3 there are other marks.
    pub fn end_by_reset(self) {
        let has_end = field!(self, headers_out.content_length_n) >= 0
            || flag_of!(self, chunked) != 0
            || !matches!(
                field!(self, http_version) as u32,
                NGX_HTTP_VERSION_10 | NGX_HTTP_VERSION_11
            );
        if has_end {
            return;
        }
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = size_of::<libc::linger>() as libc::socklen_t;
        let c = field!(self, connection);
        // SAFETY: a request has a connection, whose socket is open; the option is read only.
        unsafe {
            let option = (&raw const linger).cast();
            libc::setsockopt((*c).fd, libc::SOL_SOCKET, libc::SO_LINGER, option, size);
        }
    }

    /// The name of the location: its prefix, as a rule.
    pub fn location_name(self) -> &'a [u8] {
        // SAFETY: the request is valid, and its location has a configuration of the core module, which lives
        // longer.
        unsafe {
            let core = NgxHttpCoreModule::location_conf(&*self.as_ptr());
            core.map_or(&[][..], |core| bytes_of(core.name))
        }
    }

    /// The query.
    pub fn args(self) -> &'a [u8] {
        let args = field!(self, args);
        // SAFETY: the request's, kept in its memory.
        unsafe { bytes_of(args) }
    }

    /// The values of a header, joined by commas. `name`: in any case.
    pub fn header(self, name: &[u8]) -> Vec<u8> {
        let lines = self.headers().filter(|line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value).collect::<Vec<_>>().join(&b","[..])
    }

    /// The status that the client got, as nginx's log has it (`$status`).
    pub fn final_status(self) -> ngx_uint_t {
        let (err, status) = (field!(self, err_status), field!(self, headers_out.status));
        if err != 0 {
            err
        } else {
            status
        }
    }

    /// The bytes that the client has sent and got, heads included (`$request_length`, `$bytes_sent`).
    pub fn client_bytes(self) -> (u64, u64) {
        let c = field!(self, connection);
        // SAFETY: a request has a connection.
        let sent = unsafe { (*c).sent };
        let of = |bytes| u64::try_from(bytes).unwrap_or(0);
        (of(field!(self, request_length)), of(sent))
    }
}
