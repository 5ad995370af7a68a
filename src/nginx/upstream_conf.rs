//! `ngx_http_upstream_conf_t`, by which a location configures nginx's upstream machinery.

use core::ptr;

use ngx::core::NGX_CONF_OK;

use super::conf::{string, Error};
#[cfg(ngx_feature = "http_cache")]
use super::module::{buffer_tag, Module};
use super::sys::{
    ngx_conf_merge_path_value, ngx_hash_init_t, ngx_http_script_compile, ngx_http_script_compile_t,
    ngx_http_upstream_conf_t, ngx_http_upstream_hide_headers_hash, ngx_path_init_t, ngx_str_t,
    NGX_HTTP_UWSGI_TEMP_PATH,
};
use super::{ok, str_of, Conf};

/// An upstream configuration of zeros, from which nginx's modules begin.
pub fn zeroed_upstream_conf() -> ngx_http_upstream_conf_t {
    // SAFETY: the structure holds numbers, pointers and structures of these; all may be zero.
    unsafe { core::mem::zeroed() }
}

impl<'a> Conf<'a> {
    /// Compiles the path of `rs_uwsgi_store`, with its terminating NUL, as nginx opens it.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], for example for an invalid variable name.
    pub fn compile_store_path(
        self,
        conf: &mut ngx_http_upstream_conf_t,
        path: &[u8],
    ) -> Result<(), Error> {
        let path = self.pool().concat([path, b"\0"]).map_err(|_| Error::Logged)?;
        let mut source = str_of(path);
        // SAFETY: a structure of zeros is how nginx itself begins.
        let mut compile: ngx_http_script_compile_t = unsafe { core::mem::zeroed() };
        compile.cf = self.as_ptr();
        compile.source = &raw mut source;
        compile.lengths = &raw mut conf.store_lengths;
        compile.values = &raw mut conf.store_values;
        compile.variables = self.variables_in(path);
        // SAFETY: it is valid, and nobody else has it.
        unsafe {
            flag!(&raw mut compile, complete_lengths = 1);
            flag!(&raw mut compile, complete_values = 1);
        }
        // SAFETY: all pointers are valid during the call, and the path lives as long as the
        // configuration.
        ok(unsafe { ngx_http_script_compile(&raw mut compile) }).map_err(|_| Error::Logged)
    }

    /// A cache zone by its name, which `rs_uwsgi_cache_path` may define later.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], for example when another module has a zone of this name.
    #[cfg(ngx_feature = "http_cache")]
    pub fn cache_zone<H: Module>(
        self,
        name: &'a [u8],
    ) -> Result<*mut super::sys::ngx_shm_zone_t, Error> {
        // SAFETY: the parser is valid, and the name lives as long as the configuration.
        let zone = unsafe {
            super::sys::ngx_shared_memory_add(
                self.as_ptr(),
                &mut str_of(name),
                0,
                buffer_tag::<H>(),
            )
        };
        if zone.is_null() {
            return Err(Error::Logged);
        }
        Ok(zone)
    }

    /// Inherits a path of temporary files (`ngx_conf_merge_path_value`); the default is stock
    /// uwsgi's, which the package has made and may write to.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    pub fn merge_temp_path(
        self,
        own: &mut ngx_http_upstream_conf_t,
        outer: &ngx_http_upstream_conf_t,
    ) -> Result<(), Error> {
        let mut default =
            ngx_path_init_t { name: string(NGX_HTTP_UWSGI_TEMP_PATH), level: [1, 2, 0] };
        // SAFETY: all pointers are valid; nginx copies the default's name.
        let merged = unsafe {
            ngx_conf_merge_path_value(
                self.as_ptr(),
                &mut own.temp_path,
                outer.temp_path,
                &raw mut default,
            )
        };
        if merged == NGX_CONF_OK {
            Ok(())
        } else {
            Err(Error::Logged)
        }
    }

    /// Inherits and compiles the set of response headers that the client does not see.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    pub fn merge_hidden_headers(
        self,
        conf: &mut ngx_http_upstream_conf_t,
        outer: &mut ngx_http_upstream_conf_t,
        always: &Strings,
    ) -> Result<(), Error> {
        // SAFETY: an ngx_hash_init_t of zeros, filled in as nginx's own modules do.
        let mut hash: ngx_hash_init_t = unsafe { core::mem::zeroed() };
        hash.max_size = 512;
        // SAFETY: set when nginx started.
        hash.bucket_size = unsafe { super::sys::ngx_cacheline_size }.max(64);
        hash.name = c"rs_uwsgi_hide_headers_hash".as_ptr().cast_mut();
        // SAFETY: all pointers are valid; the list ends in an empty string, and is only read.
        ok(unsafe {
            ngx_http_upstream_hide_headers_hash(
                self.as_ptr(),
                conf,
                outer,
                always.0.as_ptr().cast_mut(),
                &raw mut hash,
            )
        })
        .map_err(|_| Error::Logged)
    }
}

/// A list of strings in nginx's form, ending in an empty one.
pub struct Strings(&'static [ngx_str_t]);

// SAFETY: the strings are constants, made by `strings` of string literals, and never written to.
unsafe impl Sync for Strings {}

impl Strings {
    /// The list of these strings. The last one must be empty.
    pub const fn new(strings: &'static [ngx_str_t]) -> Self {
        Strings(strings)
    }
}

/// A switch in two bits of nginx's: on, off, or not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `NGX_CONF_UNSET`
    Unset,
    /// 0
    Off,
    /// 1
    On,
}

impl Switch {
    /// What a block inherits from one in which this is configured, or is not.
    pub fn or_off(self) -> Switch {
        match self {
            Switch::On => Switch::On,
            Switch::Off | Switch::Unset => Switch::Off,
        }
    }

    /// A bit-field of two bits, whose −1 is read as 3.
    fn from_bits(bits: u32) -> Switch {
        match bits {
            0 => Switch::Off,
            1 => Switch::On,
            _ => Switch::Unset,
        }
    }

    fn bits(self) -> u32 {
        match self {
            Switch::Unset => super::NGX_CONF_UNSET as u32,
            Switch::Off => 0,
            Switch::On => 1,
        }
    }
}

/// Are responses kept as files (`rs_uwsgi_store`)?
pub fn store(conf: &ngx_http_upstream_conf_t) -> Switch {
    // SAFETY: a reference is valid.
    Switch::from_bits(unsafe { flag!(ptr::from_ref(conf).cast_mut(), store) })
}

/// See [`store`].
pub fn set_store(conf: &mut ngx_http_upstream_conf_t, store: Switch) {
    // SAFETY: a reference is valid.
    unsafe { flag!(ptr::from_mut(conf), store = store.bits()) };
}

/// Are responses cached (`rs_uwsgi_cache`)?
#[cfg(ngx_feature = "http_cache")]
pub fn cache(conf: &ngx_http_upstream_conf_t) -> Switch {
    // SAFETY: a reference is valid.
    Switch::from_bits(unsafe { flag!(ptr::from_ref(conf).cast_mut(), cache) })
}

/// See [`cache`].
#[cfg(ngx_feature = "http_cache")]
pub fn set_cache(conf: &mut ngx_http_upstream_conf_t, cache: Switch) {
    // SAFETY: a reference is valid.
    unsafe { flag!(ptr::from_mut(conf), cache = cache.bits()) };
}

/// The name of the configured cache zone, where nothing defined it.
#[cfg(ngx_feature = "http_cache")]
pub fn undefined_cache_zone(conf: &ngx_http_upstream_conf_t) -> Option<&[u8]> {
    // SAFETY: null, or what `Conf::cache_zone` returned, which lives as long as the configuration.
    let zone = unsafe { conf.cache_zone.as_ref() }?;
    // SAFETY: as above, for its name.
    zone.data.is_null().then(|| unsafe { super::bytes_of(zone.shm.name) })
}
