//! TLS on connections of the worker's own.
//!
//! Mirrors what nginx does with those of requests (`ngx_http_upstream_ssl_init_connection` and the functions after it
//! in src/http/ngx_http_upstream.c), without sessions.

#[cfg(ngx_feature = "http_ssl")]
pub use with_tls::TlsClient;
#[cfg(ngx_feature = "http_ssl")]
pub(super) use with_tls::{begin, ended};
#[cfg(not(ngx_feature = "http_ssl"))]
pub use without::TlsClient;
#[cfg(not(ngx_feature = "http_ssl"))]
pub(super) use without::{begin, ended};

use crate::pure::health::TlsFault;

/// How far a handshake has come.
#[cfg_attr(
    not(ngx_feature = "http_ssl"),
    allow(dead_code, reason = "without TLS there is no handshake")
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    /// It is over: what is sent is encrypted.
    Done,
    /// nginx goes on with it, and says when it has ended.
    Pending,
    /// The server is not as it should be.
    Failed(TlsFault),
    /// This worker has not the memory.
    Not,
}

#[cfg(ngx_feature = "http_ssl")]
mod with_tls {
    use core::ptr::NonNull;
    use std::ffi::{CStr, CString};
    use std::net::IpAddr;

    use super::Shaken;
    use crate::nginx::status::{AGAIN, OK};
    use crate::nginx::sys::{
        ngx_connection_handler_pt, ngx_connection_log_error_e_NGX_ERROR_INFO, ngx_connection_t,
        ngx_create_pool, ngx_http_complex_value_t, ngx_http_upstream_conf_t, ngx_int_t,
        ngx_ssl_check_host, ngx_ssl_create_connection, ngx_ssl_handshake, ngx_ssl_t, ngx_uint_t,
        SSL_ctrl, SSL_get_verify_result, X509_verify_cert_error_string, NGX_SSL_CLIENT,
    };
    use crate::nginx::{str_of, tls};
    use crate::pure::health::TlsFault;

    /// OpenSSL's `SSL_CTRL_SET_TLSEXT_HOSTNAME` and `TLSEXT_NAMETYPE_host_name`: numbers of its interface.
    const SET_HOST_NAME: (i32, i64) = (55, 0);

    /// Bytes of the pool of a connection.
    const POOL: usize = 256;

    /// How a location speaks TLS with the servers of an upstream, as far as it does not depend on a request.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TlsClient {
        context: NonNull<ngx_ssl_t>,
        /// `rs_uwsgi_ssl_name`.
        name: Option<Box<[u8]>>,
        /// `rs_uwsgi_ssl_server_name`.
        sends_name: bool,
        /// `rs_uwsgi_ssl_verify`.
        verifies: bool,
    }

    impl TlsClient {
        /// What is configured; None where there is no context.
        ///
        /// # Errors
        ///
        /// The directive whose value is known only with a request.
        pub fn of(conf: &ngx_http_upstream_conf_t) -> Result<Option<TlsClient>, &'static str> {
            let Some(context) = NonNull::new(conf.ssl) else { return Ok(None) };
            let value =
                |value: *mut ngx_http_complex_value_t, name| match tls::configured_value(value) {
                    Some(value) if value.has_variables() => Err(name),
                    value => Ok(value),
                };
            value(conf.ssl_certificate, "rs_uwsgi_ssl_certificate")?;
            value(conf.ssl_certificate_key, "rs_uwsgi_ssl_certificate_key")?;
            let name = value(conf.ssl_name, "rs_uwsgi_ssl_name")?;
            Ok(Some(TlsClient {
                context,
                name: name.map(|name| name.text().into()),
                sends_name: conf.ssl_server_name == 1,
                verifies: conf.ssl_verify == 1,
            }))
        }

        /// The name that the server's certificate is for. `host`: that of the upstream.
        fn name<'n>(&'n self, host: &'n [u8]) -> &'n [u8] {
            without_port(self.name.as_deref().unwrap_or(host))
        }
    }

    /// A name as nginx takes it: it may have come with a port.
    fn without_port(name: &[u8]) -> &[u8] {
        let colon = name.iter().rposition(|byte| *byte == b':');
        match (name.first(), colon) {
            // an IPv6 address in brackets, as it stands
            (Some(b'['), _) => {
                let end = name.iter().rposition(|byte| *byte == b']');
                end.and_then(|end| name.get(..=end)).unwrap_or(name)
            }
            (_, Some(colon)) => name.get(..colon).unwrap_or(name),
            (_, None) => name,
        }
    }

    /// Begins TLS on a connection, on which nothing has been sent. `ended` is called when a handshake that is pending
    /// has ended.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection without a pool, and the context's configuration in force.
    pub unsafe fn begin(
        tls: &TlsClient,
        c: *mut ngx_connection_t,
        host: &[u8],
        ended: ngx_connection_handler_pt,
    ) -> Shaken {
        // SAFETY: the caller's promise. What is made here is the connection's, and is freed with it.
        unsafe {
            (*c).pool = ngx_create_pool(POOL, (*c).log);
            let (context, flags) = (tls.context.as_ptr(), NGX_SSL_CLIENT as ngx_uint_t);
            if (*c).pool.is_null() || ngx_ssl_create_connection(context, c, flags) != OK {
                return Shaken::Not;
            }
            // what the peer does wrong is told as a failure of the probe
            flag!(c, log_error = ngx_connection_log_error_e_NGX_ERROR_INFO);
            if tls.sends_name && !send_name(tls, c, host) {
                return Shaken::Not;
            }
            match ngx_ssl_handshake(c) {
                AGAIN => {
                    (*(*c).ssl).handler = ended;
                    Shaken::Pending
                }
                _ => self::ended(tls, c, host),
            }
        }
    }

    /// # Safety
    ///
    /// As for [`begin`]; with OpenSSL's part of the connection.
    unsafe fn send_name(tls: &TlsClient, c: *mut ngx_connection_t, host: &[u8]) -> bool {
        let name = tls.name(host);
        let text = std::str::from_utf8(name).unwrap_or_default();
        // RFC 6066, 3: no addresses
        if name.is_empty() || name.starts_with(b"[") || text.parse::<IpAddr>().is_ok() {
            return true;
        }
        let (Ok(name), (command, kind)) = (CString::new(name), SET_HOST_NAME) else { return true };
        // SAFETY: OpenSSL copies the name.
        unsafe {
            SSL_ctrl((*(*c).ssl).connection, command, kind, name.as_ptr().cast_mut().cast()) == 1
        }
    }

    /// What a handshake that has ended has come to.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection that [`begin`] was called with.
    pub unsafe fn ended(tls: &TlsClient, c: *mut ngx_connection_t, host: &[u8]) -> Shaken {
        // SAFETY: the caller's promise; nginx only reads the name.
        unsafe {
            if flag!((*c).ssl, handshaked) == 0 {
                return Shaken::Failed(TlsFault::Handshake);
            }
            if !tls.verifies {
                return Shaken::Done;
            }
            let result = SSL_get_verify_result((*(*c).ssl).connection);
            if result != 0 {
                // a string of OpenSSL's own for every number
                let text = CStr::from_ptr(X509_verify_cert_error_string(result));
                let text = text.to_string_lossy().into_owned();
                return Shaken::Failed(TlsFault::Unverified(result, text));
            }
            let mut name = str_of(tls.name(host));
            match ngx_ssl_check_host(c, &raw mut name) as ngx_int_t {
                OK => Shaken::Done,
                _ => Shaken::Failed(TlsFault::OtherName),
            }
        }
    }
}

#[cfg(not(ngx_feature = "http_ssl"))]
mod without {
    use super::Shaken;
    use crate::nginx::sys::{
        ngx_connection_handler_pt, ngx_connection_t, ngx_http_upstream_conf_t,
    };

    /// There is none: this nginx has no TLS.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum TlsClient {}

    impl TlsClient {
        /// There is none.
        ///
        /// # Errors
        ///
        /// None.
        pub fn of(_: &ngx_http_upstream_conf_t) -> Result<Option<TlsClient>, &'static str> {
            Ok(None)
        }
    }

    /// Cannot be called.
    ///
    /// # Safety
    ///
    /// Whatever is passed.
    pub unsafe fn begin(
        tls: &TlsClient,
        _: *mut ngx_connection_t,
        _: &[u8],
        _: ngx_connection_handler_pt,
    ) -> Shaken {
        match *tls {}
    }

    /// Cannot be called.
    ///
    /// # Safety
    ///
    /// Whatever is passed.
    pub unsafe fn ended(tls: &TlsClient, _: *mut ngx_connection_t, _: &[u8]) -> Shaken {
        match *tls {}
    }
}
