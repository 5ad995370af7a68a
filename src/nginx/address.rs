//! Addresses of servers, and those that variables yield: `ngx_url_t`, `ngx_http_upstream_resolved_t`.

use core::ffi::CStr;
use core::ptr::{self, NonNull};

use super::module::Module;
use super::sys::{
    ngx_http_upstream_create_round_robin_peer, ngx_http_upstream_resolved_t, ngx_parse_url,
    ngx_pcalloc, ngx_uint_t, ngx_url_t,
};
use super::{ok, str_of, Brand, Error, Pool, Request, Upstream};

/// An address for nginx's parser, which must not look names up.
pub(super) fn url_of(address: &[u8]) -> ngx_url_t {
    // SAFETY: an ngx_url_t of zeros is how nginx itself begins.
    let mut url: ngx_url_t = unsafe { core::mem::zeroed() };
    url.url = str_of(address);
    // SAFETY: it is valid, and nobody else has it.
    unsafe { flag!(&raw mut url, no_resolve = 1) };
    url
}

/// The words of nginx for what is wrong with an address.
fn url_error<'a>(url: &ngx_url_t) -> Option<&'a str> {
    if url.err.is_null() {
        return None;
    }
    // SAFETY: nginx points it at a C string literal of its own.
    unsafe { CStr::from_ptr(url.err.cast_const()) }.to_str().ok()
}

/// An address that variables yielded.
#[derive(Clone, Copy)]
pub struct Address<'a> {
    ptr: NonNull<ngx_http_upstream_resolved_t>,
    _life: Brand<'a>,
}

impl Address<'_> {
    /// Can it be connected to? A host has to be looked up first, and may lack a port.
    fn is_complete(self) -> bool {
        let (address, port) = (field!(self, sockaddr), field!(self, port));
        // SAFETY: null, or an address that nginx parsed.
        unsafe { address.as_ref() }
            .is_some_and(|address| port != 0 || i32::from(address.sa_family) == libc::AF_UNIX)
    }
}

/// Why an address is none. Kept with the address, for the log.
#[derive(Debug)]
pub struct BadAddress<'a> {
    /// nginx's own words, where it has any ("invalid port" …).
    pub reason: Option<&'a str>,
}

impl<'a> Upstream<'a> {
    /// Sends the request to an address that is known only now: a socket, a name to resolve, or the
    /// name of an `upstream` block. nginx finds out which.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] when it is none of these.
    pub fn resolve(self, pool: Pool<'a>, address: &'a [u8]) -> Result<(), BadAddress<'a>> {
        let mut url = url_of(address);
        // SAFETY: pool and url are valid.
        if ok(unsafe { ngx_parse_url(pool.as_ptr(), &raw mut url) }).is_err() {
            return Err(BadAddress { reason: url_error(&url) });
        }

        // SAFETY: the pool is valid.
        let resolved =
            unsafe { ngx_pcalloc(pool.as_ptr(), size_of::<ngx_http_upstream_resolved_t>()) }
                .cast::<ngx_http_upstream_resolved_t>();
        if resolved.is_null() {
            return Err(BadAddress { reason: None });
        }
        // SAFETY: `resolved` is new and zeroed; `addrs`, where nginx set it, has an address.
        unsafe {
            if let Some(address) = url.addrs.as_ref() {
                (*resolved).sockaddr = address.sockaddr;
                (*resolved).socklen = address.socklen;
                (*resolved).name = address.name;
                (*resolved).naddrs = 1;
            }
            (*resolved).host = url.host;
            (*resolved).port = url.port;
            (*resolved).no_port = flag!(&raw mut url, no_port) as ngx_uint_t;
        }
        field!(self, resolved = resolved);
        Ok(())
    }

    /// Takes an address out of nginx's hands that is no name of an upstream: nginx goes on with the
    /// location's own upstream, which is [`Conf::upstream_of_addresses`]. None where there is nothing
    /// to connect to without looking it up or failing, which is nginx's.
    ///
    /// [`Conf::upstream_of_addresses`]: super::Conf::upstream_of_addresses
    pub fn take_address<H: Module>(self, r: Request<'a>) -> Option<Address<'a>> {
        let address = Address { ptr: NonNull::new(field!(self, resolved))?, _life: Brand::NEW };
        if self.servers::<H>(r).is_some() || !address.is_complete() {
            return None;
        }
        field!(self, resolved = ptr::null_mut());
        Some(address)
    }

    /// Makes the address the only server to choose from.
    ///
    /// # Errors
    ///
    /// [`Error`] when memory runs out.
    pub(super) fn choose_from(self, r: Request<'a>, address: Address<'a>) -> Result<(), Error> {
        #[cfg(ngx_feature = "http_ssl")]
        {
            let host = field!(address, host);
            field!(self, ssl_name = host);
        }
        // SAFETY: the request has an upstream, without a choice of servers yet.
        ok(unsafe { ngx_http_upstream_create_round_robin_peer(r.as_ptr(), address.ptr.as_ptr()) })
    }
}
