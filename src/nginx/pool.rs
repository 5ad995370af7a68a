//! Memory of nginx's pools: freed when its request, or its configuration, is.

use core::ptr::NonNull;
use core::slice::from_raw_parts_mut;

use super::sys::{ngx_palloc, ngx_pnalloc, ngx_pool_t};
use super::{Brand, Error};

/// A pool of nginx's.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    ptr: NonNull<ngx_pool_t>,
    _life: Brand<'a>,
}

impl<'a> Pool<'a> {
    /// A handle on nginx's pool.
    ///
    /// # Safety
    ///
    /// `pool` must be valid for `'a`.
    pub(super) unsafe fn from_ptr(pool: NonNull<ngx_pool_t>) -> Self {
        Pool { ptr: pool, _life: Brand::NEW }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_pool_t {
        self.ptr.as_ptr()
    }

    /// Copies the parts, one after the other, into one piece of the pool's memory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn concat<const N: usize>(self, parts: [&[u8]; N]) -> Result<&'a mut [u8], Error> {
        let size = parts.iter().map(|part| part.len()).sum();
        // SAFETY: the pool is valid (see `from_ptr`).
        let start = unsafe { ngx_pnalloc(self.as_ptr(), size) }.cast::<u8>();
        if start.is_null() {
            return Err(Error::Failed);
        }
        let mut at = start;
        for part in parts {
            // SAFETY: the memory is new and as long as all parts together, of which this one is
            // next, so it does not overlap with any and `at` stays inside.
            unsafe {
                core::ptr::copy_nonoverlapping(part.as_ptr(), at, part.len());
                at = at.add(part.len());
            }
        }
        // SAFETY: all `size` bytes were written above, nobody else knows of them, and the pool's
        // memory lives as long as the pool.
        Ok(unsafe { from_raw_parts_mut(start, size) })
    }

    /// Copies bytes into the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn copy(self, bytes: &[u8]) -> Result<&'a mut [u8], Error> {
        self.concat([bytes])
    }

    /// Moves a value into the pool, where it is never dropped: a type that would need it does not
    /// compile.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn place<T>(self, value: T) -> Result<NonNull<T>, Error> {
        let place = self.room::<T>()?;
        // SAFETY: new memory of the right size.
        unsafe { place.write(value) };
        Ok(place)
    }

    /// Moves a value into the pool, as [`Self::place`] does, to be shared from then on.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn share<T: 'a>(self, value: T) -> Result<&'a T, Error> {
        // SAFETY: just placed, in memory that lives as long as the pool, and nobody else knows of it.
        self.place(value).map(|place| unsafe { place.as_ref() })
    }

    /// Makes two values in one piece of the pool's memory, to be shared from then on; the second knows the
    /// first. As [`Self::place`].
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    #[inline(always)]
    pub fn share_both<A: 'a, B: 'a>(
        self,
        first: impl FnOnce() -> A,
        second: impl FnOnce(&'a A) -> B,
    ) -> Result<&'a B, Error> {
        let place = self.room::<(A, B)>()?.as_ptr();
        // SAFETY: new memory of the right size, which lives as long as the pool and which nobody else knows
        // of; both are written before they are shared.
        unsafe {
            (&raw mut (*place).0).write(first());
            (&raw mut (*place).1).write(second(&(*place).0));
            Ok(&(*place).1)
        }
    }

    /// New memory for a value, not written. Aligned as all of `ngx_palloc`'s is (`NGX_ALIGNMENT`).
    #[inline(always)]
    pub(super) fn room<T>(self) -> Result<NonNull<T>, Error> {
        const { assert!(!core::mem::needs_drop::<T>(), "nobody would drop it") };
        // SAFETY: the pool is valid (see `from_ptr`).
        let place = unsafe { ngx_palloc(self.as_ptr(), size_of::<T>()) }.cast::<T>();
        NonNull::new(place).ok_or(Error::Failed)
    }
}
