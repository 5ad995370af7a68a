//! The headers of a response on their way into nginx's list, and the ones that nginx acts on.

use core::ffi::c_void;
#[cfg(nginx1_23_0)]
use core::ptr;

use ngx::http::{HttpModuleMainConf, NgxHttpUpstreamModule};

use super::sys::{
    ngx_hash_elt_t, ngx_hash_find, ngx_hash_t, ngx_http_header_handler_pt,
    ngx_http_upstream_header_t, ngx_list_push, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
use super::{module, ok, slice_of, Error, Request, Upstream};
use crate::uwsgi::head::plain::{self, Field, Names, Read};

/// The headers of responses that nginx acts on: what `umcf->headers_in_hash` has, without the cost of
/// `ngx_hash_find`.
pub type KnownHeaders = Names<Act>;

/// What nginx does with a header.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    handler: ngx_http_header_handler_pt,
    offset: ngx_uint_t,
}

impl Act {
    /// # Safety
    ///
    /// `known` must be null or valid.
    unsafe fn of(known: *const c_void) -> Option<Self> {
        // SAFETY: the caller's promise.
        let known = unsafe { known.cast::<ngx_http_upstream_header_t>().as_ref() };
        known.map(|known| Act { handler: known.handler, offset: known.offset })
    }
}

/// Takes all of nginx's names. None where one is not of the kind that [`Names`] can know.
///
/// # Safety
///
/// `hash` must be of `ngx_hash_init`, with `ngx_http_upstream_header_t` for its values.
pub(super) unsafe fn learn(hash: ngx_hash_t) -> Option<KnownHeaders> {
    let mut names = Vec::new();
    // SAFETY: the hash has `size` buckets. A bucket is null or a row of elements, each a structure with
    // its name behind it, aligned as pointers are; one that has nothing but a value, null, ends it.
    unsafe {
        for bucket in slice_of(hash.buckets, hash.size) {
            let mut element: *const ngx_hash_elt_t = *bucket;
            while !element.is_null() {
                let Some(act) = Act::of((*element).value) else { break };
                let (name, length) = ((&raw const (*element).name).cast(), (*element).len.into());
                names.push((slice_of::<u8>(name, length), act));
                let end = name.add(length);
                element = end.add(end.align_offset(align_of::<*const u8>())).cast();
            }
        }
    }
    Names::new(names)
}

impl<'a> Upstream<'a> {
    /// The headers that nginx acts on. None where [`Self::push_header`] has to ask nginx for each.
    pub fn known_headers(self, r: Request<'a>) -> Option<&'a KnownHeaders> {
        module::main_conf(r).known_headers.as_ref()
    }

    /// Adds headers to the response that [`plain::read`] found in `lines`, as [`Self::push_header`]
    /// does with one. Costs a third of that, because there is one piece of memory for all, copied at
    /// once, and nginx's hash is not asked.
    ///
    /// Names and values cannot stay where they were read: nginx uses `u->buffer` again for the body, or
    /// frees it, long before variables such as `$upstream_http_…` are written to a log.
    ///
    /// # Errors
    ///
    /// As of [`Self::push_header`].
    pub fn push_headers(
        self,
        r: Request<'a>,
        lines: &[u8],
        read: &Read<'_, 'a, Act>,
    ) -> Result<(), Error> {
        // The names that nginx knows have their lower case in the configuration.
        let (copy, mut room) = r.pool().copy_and_reserve(lines, read.others)?;
        let start = copy.as_mut_ptr();

        for field in read.fields {
            let Field { start: name, colon, value, end, hash, known } = *field;
            if !(name <= colon && colon < value && value <= end && end < lines.len()) {
                return Err(Error::Failed);
            }
            // SAFETY: all are offsets into the copy, in this order.
            let (key, value) = unsafe {
                // The NULs that nginx's handlers count on, where the colon was, and the line's end.
                *start.add(colon) = b'\0';
                *start.add(end) = b'\0';
                (
                    ngx_str_t { len: colon - name, data: start.add(name) },
                    ngx_str_t { len: end - value, data: start.add(value) },
                )
            };
            let (lowcase_key, act) = match known {
                Some(name) => (name.lowered().as_ptr().cast_mut(), Some(name.stands_for())),
                None => {
                    let (place, rest) = room.split_at_mut_checked(key.len).ok_or(Error::Failed)?;
                    room = rest;
                    for (to, byte) in place.iter_mut().zip(plain::lowered(field.name_in(lines))) {
                        to.write(byte);
                    }
                    (place.as_mut_ptr().cast(), None)
                }
            };
            // SAFETY: the strings are the request's memory or the configuration's.
            unsafe { self.push(r, hash, key, value, lowcase_key, act)? };
        }
        Ok(())
    }

    /// Adds a header to the response, and lets nginx act on it where it knows it (Content-Length,
    /// X-Accel-Redirect …). The name's `hash` is nginx's.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out, else what nginx's handler of this header returned.
    pub fn push_header(
        self,
        r: Request<'a>,
        name: &[u8],
        value: &[u8],
        hash: ngx_uint_t,
    ) -> Result<(), Error> {
        // One piece of memory for the three, with the NULs that nginx's handlers count on.
        let copy = r.pool().concat([name, b"\0", value, b"\0", name])?;
        let (key, rest) = copy.split_at_mut(name.len() + 1);
        let (text, lowcase_key) = rest.split_at_mut(value.len() + 1);
        lowcase_key.make_ascii_lowercase();

        let key = ngx_str_t { len: name.len(), data: key.as_mut_ptr() };
        let value = ngx_str_t { len: value.len(), data: text.as_mut_ptr() };
        // SAFETY: the strings are the request's memory. The request is valid, so it has a main
        // configuration of the upstream module, with the hash of known headers, whose values are
        // `ngx_http_upstream_header_t`.
        unsafe {
            let conf = NgxHttpUpstreamModule::main_conf(&*r.as_ptr()).ok_or(Error::Failed)?;
            let hashes = (&raw const conf.headers_in_hash).cast_mut();
            let lowcase_key = lowcase_key.as_mut_ptr();
            let act = Act::of(ngx_hash_find(hashes, hash, lowcase_key, name.len()));
            self.push(r, hash, key, value, lowcase_key, act.as_ref())
        }
    }

    /// Adds a header to the list, and lets nginx act on it.
    ///
    /// # Safety
    ///
    /// The strings must live as long as the request.
    #[inline(always)]
    unsafe fn push(
        self,
        r: Request<'a>,
        hash: ngx_uint_t,
        key: ngx_str_t,
        value: ngx_str_t,
        lowcase_key: *mut u8,
        act: Option<&Act>,
    ) -> Result<(), Error> {
        // SAFETY: nginx initialised the list, of `ngx_table_elt_t`, before it read the response. The
        // new element is for us to fill.
        let element = unsafe {
            let list = &raw mut (*self.ptr.as_ptr()).headers_in.headers;
            let last = (*list).last;
            // as in ngx_list_push, which most headers need not be asked
            let element = if (*last).nelts < (*list).nalloc {
                let element = (*last).elts.cast::<ngx_table_elt_t>().add((*last).nelts);
                (*last).nelts += 1;
                element
            } else {
                ngx_list_push(list).cast::<ngx_table_elt_t>()
            };
            if element.is_null() {
                return Err(Error::Failed);
            }
            element.write(ngx_table_elt_t {
                hash,
                key,
                value,
                lowcase_key,
                #[cfg(nginx1_23_0)]
                next: ptr::null_mut(),
            });
            element
        };
        match act {
            Some(Act { handler: Some(handler), offset }) => {
                // SAFETY: the request is valid, the header is in its list.
                ok(unsafe { handler(r.as_ptr(), element, *offset) })
            }
            _ => Ok(()),
        }
    }
}
