//! The rows of the directive table. Those that set a plain value have nginx's own
//! `ngx_conf_set_…_slot` functions, with the value added to the message where nginx would leave it out
//! ("invalid value").

use core::ffi::{c_char, c_void, CStr};
use core::ptr::{self, NonNull};

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};

use super::conf::{one_of, result_in, string, Conf, Error, A_NUMBER, A_SIZE, A_TIME};
use super::log::Printable;
use super::module::{with_conf, Module, ModuleConf};
use super::sys::{
    ngx_command_t, ngx_conf_bitmask_t, ngx_conf_set_access_slot, ngx_conf_set_bitmask_slot,
    ngx_conf_set_bufs_slot, ngx_conf_set_flag_slot, ngx_conf_set_keyval_slot,
    ngx_conf_set_msec_slot, ngx_conf_set_num_slot, ngx_conf_set_off_slot, ngx_conf_set_path_slot,
    ngx_conf_set_size_slot, ngx_conf_set_str_array_slot, ngx_conf_set_str_slot, ngx_conf_t,
    ngx_http_set_complex_value_size_slot, ngx_http_set_complex_value_slot,
    ngx_http_set_complex_value_zero_slot, ngx_http_set_predicate_slot,
    ngx_http_upstream_bind_set_slot, ngx_http_upstream_ignore_headers_masks, ngx_str_t, ngx_uint_t,
    NGX_HTTP_LOC_CONF_OFFSET,
};
use super::{bytes_of, slice_of};

/// A row of the directive table.
pub type Directive = ngx_command_t;

/// The directive table.
pub struct Directives(pub &'static [Directive]);

// SAFETY: the rows are constants that point to constants; nginx reads them only.
unsafe impl Sync for Directives {}

/// Tables that make up the directive table ([`joined`]).
pub struct Tables(pub &'static [&'static [Directive]]);

// SAFETY: as those of `Directives`.
unsafe impl Sync for Tables {}

impl Tables {
    /// The number of rows of the directive table: all of theirs, and the empty one at its end.
    // nginx has no directive table without rows
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        let (mut tables, mut sum) = (self.0, 1);
        while let [table, others @ ..] = tables {
            (tables, sum) = (others, sum + table.len());
        }
        sum
    }
}

/// The rows of all tables in one, with the empty row that nginx's tables end with. `N` is
/// [`Tables::len`].
pub const fn joined<const N: usize>(tables: &Tables) -> [Directive; N] {
    let mut all = [Directive::empty(); N];
    let mut tables = tables.0;
    let mut places: &mut [Directive] = &mut all;
    while let [table, others @ ..] = tables {
        let mut rows = *table;
        while let [row, other_rows @ ..] = rows {
            let [place, other_places @ ..] = places else { panic!("N is less than the rows") };
            *place = *row;
            (rows, places) = (other_rows, other_places);
        }
        tables = others;
    }
    all
}

/// The function behind a directive that is not a plain value.
pub type Setter<H> = fn(Conf<'_>, &mut <H as Module>::Location) -> Result<(), Error>;

/// The function behind a directive that an "upstream" block may have as well.
pub type SharedSetter<H> = fn(Conf<'_>, &mut <H as Module>::Block) -> Result<(), Error>;

/// A row for a directive with a setter of its own.
pub const fn own<H: Module>(
    name: &'static CStr,
    context: u32,
    setter: &'static Setter<H>,
) -> Directive {
    row(name, context, set_own::<H>, 0, ptr::from_ref(setter).cast_mut().cast())
}

/// `cmd->set`.
type RawSetter =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// Any row of a location's directive. `offset` and `post` are for the setter.
const fn row(
    name: &'static CStr,
    context: u32,
    set: RawSetter,
    offset: usize,
    post: *mut c_void,
) -> Directive {
    ngx_command_t {
        name: string(name),
        type_: context as ngx_uint_t,
        set: Some(set),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset,
        post,
    }
}

/// One of nginx's setters.
trait Slot {
    const SET: RawSetter;
    /// What a message says of a value that it does not take; nothing where nginx says it.
    const EXPECTED: &str = "";
}

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident, $slot:ident, $set:ident $(, $expected:expr)?;)*) => { $(
        enum $slot {}

        impl Slot for $slot {
            const SET: RawSetter = $set;
            $(const EXPECTED: &str = $expected;)?
        }

        $(#[$doc])*
        pub const fn $name(name: &'static CStr, context: u32, offset: usize) -> Directive {
            row(name, context, set::<$slot>, offset, ptr::null_mut())
        }
    )* };
}

slots! {
    /// A row for "on" or "off".
    flag, Flag, ngx_conf_set_flag_slot;
    /// A row for a number.
    num, Num, ngx_conf_set_num_slot, A_NUMBER;
    /// A row for a time in milliseconds.
    msec, Msec, ngx_conf_set_msec_slot, A_TIME;
    /// A row for a size in bytes.
    size, Size, ngx_conf_set_size_slot, A_SIZE;
    /// A row for a number of buffers and their size.
    bufs, Bufs, ngx_conf_set_bufs_slot, "it must be a number and a size such as \"8 8k\"";
    /// A row for a string.
    str, Str, ngx_conf_set_str_slot;
    /// A row for strings that add up.
    str_array, StrArray, ngx_conf_set_str_array_slot;
    /// A row for a path with levels of folders.
    path, Path, ngx_conf_set_path_slot;
    /// A row for the access rights of files.
    access, Access, ngx_conf_set_access_slot;
    /// A row for an offset in bytes.
    off, Off, ngx_conf_set_off_slot, A_SIZE;
    /// A row for a local address, with or without "transparent".
    bind, Bind, ngx_http_upstream_bind_set_slot;
    /// A row for conditions.
    predicates, Predicates, ngx_http_set_predicate_slot;
    /// A row for a value with variables.
    complex, Complex, ngx_http_set_complex_value_slot;
    /// A row for a value with variables, or an empty one, which ends inheritance.
    complex_or_none, ComplexOrNone, ngx_http_set_complex_value_zero_slot;
    /// A row for a size with variables.
    complex_size, ComplexSize, ngx_http_set_complex_value_size_slot;
    /// A row for a name and a value.
    key_value, KeyValue, ngx_conf_set_keyval_slot;
}

enum Bitmask {}

impl Slot for Bitmask {
    const SET: RawSetter = set_bits;
}

/// nginx's `ngx_conf_set_bitmask_slot`, but for what it says of a word that is none: here with those that are.
unsafe extern "C" fn set_bits(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let checked = with_conf(cf, |cf| {
        // SAFETY: nginx calls with a row of the table; its `post` is a table of masks in static memory, whose
        // last row has no name.
        let masks = unsafe {
            let first = (*cmd).post.cast::<ngx_conf_bitmask_t>().cast_const();
            let count = (0..).take_while(|n| (*first.add(*n)).name.len > 0).count();
            slice_of(first, count)
        };
        // SAFETY: names are constants.
        let names = || masks.iter().map(|mask| unsafe { bytes_of(mask.name) });
        let is_known = |word: &[u8]| names().any(|name| name.eq_ignore_ascii_case(word));
        match cf.words().skip(1).find(|word| !is_known(word)) {
            Some(word) => Err(cf.error(format_args!(
                "invalid value \"{}\", {}",
                Printable(word),
                one_of(names())
            ))),
            None => Ok(()),
        }
    });
    match checked {
        // SAFETY: as nginx calls it.
        Ok(()) => unsafe { ngx_conf_set_bitmask_slot(cf, cmd, conf) },
        Err(_) => NGX_CONF_ERROR,
    }
}

/// The words of a bitmask directive and their bits; the last row is [`END_OF_MASKS`].
pub struct Masks(&'static [ngx_conf_bitmask_t]);

// SAFETY: constants, made of literals, that nginx only reads.
unsafe impl Sync for Masks {}

impl Masks {
    /// The words and their bits.
    pub const fn new(masks: &'static [ngx_conf_bitmask_t]) -> Self {
        Masks(masks)
    }
}

/// A word of a bitmask directive.
pub const fn mask(word: &'static CStr, bits: u32) -> ngx_conf_bitmask_t {
    ngx_conf_bitmask_t { name: string(word), mask: bits as ngx_uint_t }
}

/// What a table of masks ends with.
pub const END_OF_MASKS: ngx_conf_bitmask_t =
    ngx_conf_bitmask_t { name: ngx_str_t { len: 0, data: ptr::null_mut() }, mask: 0 };

/// A row for words, each of which sets a bit.
pub const fn bitmask(
    name: &'static CStr,
    context: u32,
    offset: usize,
    masks: &'static Masks,
) -> Directive {
    row(name, context, set::<Bitmask>, offset, masks.0.as_ptr().cast_mut().cast())
}

/// A row for names of response headers that nginx itself acts on, its own table.
pub const fn ignored_headers(name: &'static CStr, context: u32, offset: usize) -> Directive {
    let masks = &raw mut ngx_http_upstream_ignore_headers_masks;
    row(name, context, set::<Bitmask>, offset, masks.cast())
}

#[cfg(ngx_feature = "http_cache")]
pub use for_cache::*;

/// The slots of the cache's directives, which an nginx may lack.
#[cfg(ngx_feature = "http_cache")]
mod for_cache {
    use core::mem::offset_of;

    use super::*;
    use crate::nginx::module::{buffer_tag, MainConf};
    use crate::nginx::sys::{
        ngx_http_file_cache_set_slot, ngx_http_file_cache_valid_set_slot,
        ngx_http_upstream_cache_method_mask, NGX_HTTP_MAIN_CONF_OFFSET,
    };

    slots! {
        /// A row for statuses and a time.
        valid_times, ValidTimes, ngx_http_file_cache_valid_set_slot;
    }

    enum CachePath {}

    impl Slot for CachePath {
        const SET: RawSetter = ngx_http_file_cache_set_slot;
    }

    /// The row that defines caches, in the main configuration.
    pub const fn cache_path<H: Module>(name: &'static CStr, context: u32) -> Directive {
        Directive {
            conf: NGX_HTTP_MAIN_CONF_OFFSET,
            ..row(
                name,
                context,
                set::<CachePath>,
                offset_of!(MainConf<H>, caches),
                buffer_tag::<H>(),
            )
        }
    }

    /// A row for HTTP methods, nginx's own table.
    pub const fn methods(name: &'static CStr, context: u32, offset: usize) -> Directive {
        let masks = &raw mut ngx_http_upstream_cache_method_mask;
        row(name, context, set::<Bitmask>, offset, masks.cast())
    }
}

/// A row for what all who pass to an upstream share, and its block may say.
pub const fn shared<H: ModuleConf>(
    name: &'static CStr,
    context: u32,
    setter: &'static SharedSetter<H>,
) -> Directive {
    row(name, context, set_shared::<H>, 0, ptr::from_ref(setter).cast_mut().cast())
}

/// `cmd->set` of [`own`].
unsafe extern "C" fn set_own<H: Module>(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `own` put a `Setter` there; `conf` came from `create_loc_conf`, and nobody else uses it now.
    unsafe { set_by(cf, cmd, |_| conf.cast::<H::Location>().as_mut()) }
}

/// `cmd->set` of [`shared`].
unsafe extern "C" fn set_shared<H: ModuleConf>(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `shared` put a `SharedSetter` there; `conf` came from `create_loc_conf`, or is not looked at:
    // in "upstream" it is another's. Nobody else uses either, or the block's settings, now.
    unsafe {
        set_by(cf, cmd, |cf| {
            let own = || conf.cast::<H::Location>().as_mut().map(H::shared);
            cf.upstream_settings::<H>().or_else(own)
        })
    }
}

/// Calls the setter of a row for what `target` finds.
///
/// # Safety
///
/// Called by nginx while it reads the configuration; `cmd->post` must be null or a setter of a `T`, in
/// static memory.
unsafe fn set_by<T: 'static>(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    target: impl for<'c> FnOnce(Conf<'c>) -> Option<&'c mut T>,
) -> *mut c_char {
    let set = with_conf(cf, |cf| {
        // SAFETY: the caller's promise.
        let setter =
            unsafe { (*cmd).post.cast::<fn(Conf<'_>, &mut T) -> Result<(), Error>>().as_ref() };
        match (setter, target(cf)) {
            (Some(setter), Some(target)) => setter(cf, target),
            _ => Err(Error::Logged),
        }
    });
    result_in(cf, set)
}

/// Lets nginx set the value; where it says only that it is invalid, says which value.
unsafe extern "C" fn set<S: Slot>(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: called by nginx, with what it would have called its own slot function.
    let result = unsafe { S::SET(cf, cmd, conf) };
    if result == NGX_CONF_OK || result == NGX_CONF_ERROR {
        return result;
    }
    let Some(handle) = NonNull::new(cf) else { return result };
    // SAFETY: nginx's slot functions return a C string literal; the parser is valid.
    let (reason, handle) =
        unsafe { (CStr::from_ptr(result).to_string_lossy(), Conf::from_ptr(handle)) };
    if !reason.starts_with("invalid") {
        return result;
    }
    let before = if S::EXPECTED.is_empty() { "" } else { ", " };
    let values = handle.quoted_values();
    let message = format!("{reason} {values}{before}{}", S::EXPECTED);
    result_in(cf, Err(Error::Directive(message.into())))
}
