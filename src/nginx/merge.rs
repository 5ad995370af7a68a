//! Inheritance from block to block, as nginx's `ngx_conf_merge_…_value` macros have it.

use core::ffi::CStr;

use super::conf::string;
use super::sys::{ngx_flag_t, ngx_str_t, ngx_uint_t, off_t, NGX_CONF_BITMASK_SET};
use super::unset_pointer;

/// What nginx takes for "not configured" in a value of this type.
pub trait Unset: Copy + PartialEq {
    /// `NGX_CONF_UNSET…`.
    const UNSET: Self;
    /// Zero, or no pointer: a default that means "none".
    const NONE: Self;
}

impl Unset for ngx_flag_t {
    const UNSET: Self = super::NGX_CONF_UNSET;
    const NONE: Self = 0;
}

impl Unset for off_t {
    const UNSET: Self = super::NGX_CONF_UNSET as off_t;
    const NONE: Self = 0;
}

impl<T> Unset for *mut T {
    const UNSET: Self = unset_pointer();
    const NONE: Self = core::ptr::null_mut();
}

/// Numbers, sizes and times in milliseconds are all of this type.
impl Unset for ngx_uint_t {
    const UNSET: Self = super::NGX_CONF_UNSET_UINT;
    const NONE: Self = 0;
}

/// The value of this block, else of the block around it, else the default.
pub fn inherit<T: Unset>(own: &mut T, outer: T, default: T) {
    if *own == T::UNSET {
        *own = if outer == T::UNSET { default } else { outer };
    }
}

/// The same for bits, of which one is always set once they are configured.
pub fn inherit_mask(own: &mut ngx_uint_t, outer: ngx_uint_t, default: ngx_uint_t) {
    if *own == 0 {
        *own = if outer == 0 { MASK_SET | default } else { outer };
    }
}

/// The same for strings.
pub fn inherit_string(own: &mut ngx_str_t, outer: ngx_str_t, default: &'static CStr) {
    if own.data.is_null() {
        *own = if outer.data.is_null() { string(default) } else { outer };
    }
}

/// The bit that says that a mask is configured.
pub const MASK_SET: ngx_uint_t = NGX_CONF_BITMASK_SET as ngx_uint_t;
