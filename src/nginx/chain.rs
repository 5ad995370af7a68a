//! Chains of buffers: what is sent to the upstream, and the client's body.

use core::mem::zeroed;
use core::ptr;

use super::sys::{ngx_buf_t, ngx_chain_t};
use super::{Brand, Error, Pool};

/// A chain of buffers that somebody else owns.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    first: *mut ngx_chain_t,
    _life: Brand<'a>,
}

impl<'a> Chain<'a> {
    /// No buffer.
    pub fn empty() -> Self {
        Chain { first: ptr::null_mut(), _life: Brand::NEW }
    }

    /// A handle on nginx's chain.
    ///
    /// # Safety
    ///
    /// `first` must be null or a chain whose links and buffers are valid for `'a`.
    pub(super) unsafe fn from_ptr(first: *mut ngx_chain_t) -> Self {
        Chain { first, _life: Brand::NEW }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_chain_t {
        self.first
    }

    /// The bytes in all buffers, in memory and in files.
    pub fn size(self) -> u64 {
        self.buffers().map(size_of_buffer).sum()
    }

    fn buffers(self) -> impl Iterator<Item = *mut ngx_buf_t> + 'a {
        let mut link = self.first;
        core::iter::from_fn(move || {
            // SAFETY: the chain is valid (see `from_ptr`).
            let current = unsafe { link.as_ref() }?;
            link = current.next;
            Some(current.buf)
        })
    }
}

/// A chain under construction, in a pool. Its buffers refer to the bytes, they do not copy them.
pub struct ChainBuilder<'a> {
    pool: Pool<'a>,
    first: *mut ngx_chain_t,
    last: *mut ngx_chain_t,
}

impl<'a> ChainBuilder<'a> {
    /// An empty chain.
    pub fn new(pool: Pool<'a>) -> Self {
        ChainBuilder { pool, first: ptr::null_mut(), last: ptr::null_mut() }
    }

    /// Appends a buffer over bytes of the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn push(&mut self, bytes: &'a [u8]) -> Result<(), Error> {
        self.push_buffer(|| {
            // SAFETY: a buffer of zeros is how nginx itself begins.
            let mut buffer = unsafe { zeroed::<ngx_buf_t>() };
            // nginx does not write into the bytes: an output chain only reads, from `pos` on, and starts
            // again at `start` for the next upstream.
            let range = bytes.as_ptr_range();
            (buffer.start, buffer.end) = (range.start.cast_mut(), range.end.cast_mut());
            (buffer.pos, buffer.last) = (buffer.start, buffer.end);
            // SAFETY: it is valid, and nobody else has it.
            unsafe { flag!(&raw mut buffer, temporary = 1) };
            buffer
        })
    }

    /// Appends copies of a chain's buffers (not of their bytes), so that sending them, which moves
    /// `pos`, leaves the original as it is for a subrequest or a second use.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn push_chain(&mut self, chain: Chain<'a>) -> Result<(), Error> {
        for original in chain.buffers() {
            // SAFETY: a link of a valid chain has a valid buffer.
            self.push_buffer(|| unsafe { original.read() })?;
        }
        Ok(())
    }

    /// The chain; its last buffer makes nginx send at once.
    pub fn finish(self) -> Chain<'a> {
        // SAFETY: `last` is null or the last link, with a buffer.
        if let Some(last) = unsafe { self.last.as_ref() } {
            // SAFETY: as above.
            unsafe { flag!(last.buf, flush = 1) };
        }
        Chain { first: self.first, _life: Brand::NEW }
    }

    /// The link and its buffer are one piece of memory, which saves 70 instructions.
    #[inline(always)]
    fn push_buffer(&mut self, buffer: impl FnOnce() -> ngx_buf_t) -> Result<(), Error> {
        let place = self.pool.room::<(ngx_chain_t, ngx_buf_t)>()?.as_ptr();
        // SAFETY: the place is new; `last`, where there is one, is the chain's last link.
        unsafe {
            let link = &raw mut (*place).0;
            (&raw mut (*place).1).write(buffer());
            link.write(ngx_chain_t { buf: &raw mut (*place).1, next: ptr::null_mut() });
            if self.last.is_null() {
                self.first = link;
            } else {
                (*self.last).next = link;
            }
            self.last = link;
        }
        Ok(())
    }
}

/// `ngx_buf_size`: the bytes of one buffer.
fn size_of_buffer(buffer: *mut ngx_buf_t) -> u64 {
    // SAFETY: a link of a valid chain has a valid buffer.
    let (buffer, in_memory) = unsafe {
        let in_memory = flag!(buffer, temporary) | flag!(buffer, memory) | flag!(buffer, mmap);
        (&*buffer, in_memory != 0)
    };
    if in_memory {
        (buffer.last as usize).saturating_sub(buffer.pos as usize) as u64
    } else {
        u64::try_from(buffer.file_last.saturating_sub(buffer.file_pos)).unwrap_or(0)
    }
}
