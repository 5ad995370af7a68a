//! A request and nginx's cache.

use super::Request;
#[cfg(ngx_feature = "http_cache")]
use super::{
    str_of,
    sys::{
        ngx_array_push, ngx_str_t, ngx_uint_t, NGX_HTTP_CACHE_EXPIRED, NGX_HTTP_UPSTREAM_FT_ERROR,
        NGX_HTTP_UPSTREAM_FT_TIMEOUT,
    },
    Error,
};

impl<'a> Request<'a> {
    /// Does the response come from the cache?
    pub fn is_cached(self) -> bool {
        #[cfg(ngx_feature = "http_cache")]
        return flag_of!(self, cached) != 0;
        #[cfg(not(ngx_feature = "http_cache"))]
        false
    }

    /// Is there an old response in the cache that may be used where the server does not answer in time
    /// (`rs_uwsgi_cache_use_stale timeout`)?
    pub fn has_stale_response(self) -> bool {
        #[cfg(ngx_feature = "http_cache")]
        return self.has_stale_response_for(NGX_HTTP_UPSTREAM_FT_TIMEOUT);
        #[cfg(not(ngx_feature = "http_cache"))]
        false
    }

    /// As [`Self::has_stale_response`], for a server that closes the connection.
    pub fn has_stale_response_for_error(self) -> bool {
        #[cfg(ngx_feature = "http_cache")]
        return self.has_stale_response_for(NGX_HTTP_UPSTREAM_FT_ERROR);
        #[cfg(not(ngx_feature = "http_cache"))]
        false
    }

    #[cfg(ngx_feature = "http_cache")]
    fn has_stale_response_for(self, failure: u32) -> bool {
        self.upstream().is_some_and(|u| {
            let conf = field!(u, conf);
            // SAFETY: the configuration of the location, as long as the request.
            let may_be_stale = unsafe { (*conf).cache_use_stale };
            flag_of!(u, cache_status) == NGX_HTTP_CACHE_EXPIRED
                && may_be_stale & failure as ngx_uint_t != 0
        })
    }

    /// Adds to the key under which the response is cached.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    #[cfg(ngx_feature = "http_cache")]
    pub fn push_cache_key(self, key: &'a [u8]) -> Result<(), Error> {
        // SAFETY: nginx asks for a key only after it made the request's cache structure, in which
        // `keys` is an array of strings. The key lives as long as the request.
        unsafe {
            let place = ngx_array_push(&raw mut (*(*self.as_ptr()).cache).keys)
                .cast::<ngx_str_t>()
                .as_mut()
                .ok_or(Error::Failed)?;
            *place = str_of(key);
        }
        Ok(())
    }
}
