//! Bit-fields of nginx's structures, where the C compiler has put them.
//!
//! nginx-sys has methods for them, but has looked for some in wrong places: those of
//! `ngx_http_request_t` since nginx 1.29.3. Here their bits were measured when the module was built, in
//! the headers that it is built against (build/layout.rs), and so were the places of all members
//! of whole bytes: where Rust would look for one elsewhere, the build fails with its name.

#![allow(missing_docs, non_camel_case_types, clippy::missing_safety_doc)]

use core::mem::offset_of;

use super::sys;

/// Reads (`flag!(pointer, name)`) or writes (`flag!(pointer, name = value)`) a bit-field of the
/// structure at a pointer, which must be valid. [`flag_of!`] does the same with a handle.
macro_rules! flag {
    ($pointer:expr, $name:ident) => {
        $crate::nginx::layout::flags::$name::get($pointer)
    };
    ($pointer:expr, $name:ident = $value:expr) => {
        $crate::nginx::layout::flags::$name::set($pointer, $value)
    };
}

/// [`flag!`] with the structure behind a handle, or one that stands in it.
macro_rules! flag_of {
    ($handle:expr, $name:ident $(= $value:expr)?) => {
        // SAFETY: as in `field!`.
        unsafe { flag!($handle.ptr.as_ptr(), $name $(= $value)?) }
    };
    ($handle:expr, $member:ident.$name:ident $(= $value:expr)?) => {
        // SAFETY: as in `field!`.
        unsafe { flag!(&raw mut (*$handle.ptr.as_ptr()).$member, $name $(= $value)?) }
    };
}

/// Where a bit-field is: its first byte, and its bits of the bytes from there on.
macro_rules! flag_bits {
    ($structure:ty, $name:ident) => {
        <*mut $structure as $crate::nginx::layout::flags::$name>::BITS
    };
}

/// The methods of a bit-field's trait, which is for pointers to the structures that have one of its name.
macro_rules! flag_methods {
    () => {
        const BITS: (usize, u64);

        /// # Safety
        ///
        /// The structure must be valid.
        unsafe fn get(self) -> u32;

        /// # Safety
        ///
        /// The structure must be valid, and nobody may have a reference to it.
        unsafe fn set(self, value: u32);
    };
}

/// The methods for the bits `$mask` of the `$bytes` bytes from `$offset` on.
macro_rules! flag_at {
    ($offset:expr, $bytes:expr, $mask:expr) => {
        const BITS: (usize, u64) = ($offset, $mask);

        #[inline(always)]
        unsafe fn get(self) -> u32 {
            // SAFETY: the bytes are the structure's, which is valid, says the caller.
            let all = unsafe { read::<$bytes>(self.cast::<u8>().add($offset)) };
            ((all & $mask) >> u64::trailing_zeros($mask)) as u32
        }

        #[inline(always)]
        unsafe fn set(self, value: u32) {
            let value = u64::from(value) << u64::trailing_zeros($mask);
            // SAFETY: as above.
            unsafe {
                let at = self.cast::<u8>().add($offset);
                write::<$bytes>(at, read::<$bytes>(at) & !$mask | value & $mask);
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// Some bytes, at most eight, as one number in the machine's order.
///
/// # Safety
///
/// `at` must be valid for `N` bytes.
#[inline(always)]
unsafe fn read<const N: usize>(at: *const u8) -> u64 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { at.cast::<[u8; N]>().read() };
    let add = |value, byte: &u8| value << 8 | u64::from(*byte);
    match cfg!(target_endian = "big") {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    }
}

/// Puts back what [`read`] has read.
///
/// # Safety
///
/// `at` must be valid for `N` bytes, and nobody may have a reference to them.
#[inline(always)]
unsafe fn write<const N: usize>(at: *mut u8, mut value: u64) {
    let mut bytes = [0; N];
    let mut put = |byte: &mut u8| {
        *byte = value as u8;
        value >>= 8;
    };
    match cfg!(target_endian = "big") {
        true => bytes.iter_mut().rev().for_each(&mut put),
        false => bytes.iter_mut().for_each(&mut put),
    }
    // SAFETY: the caller's promise.
    unsafe { at.cast::<[u8; N]>().write(bytes) };
}
