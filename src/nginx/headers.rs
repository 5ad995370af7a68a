//! The headers of a response on their way into nginx's list, and the ones that nginx acts on.

use core::ffi::c_void;

use ngx::http::{HttpModuleMainConf, NgxHttpUpstreamModule};

use super::module::{self, Module};
use super::request::{lines_of, HeaderLine};
use super::sys::{
    ngx_hash_elt_t, ngx_hash_find, ngx_hash_t, ngx_http_header_handler_pt,
    ngx_http_upstream_header_t, ngx_list_push, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
use super::{ok, slice_of, version, Conf, Error, Request, Upstream};
use crate::pure::uwsgi::framing::FramingHeader;
use crate::pure::uwsgi::head::plain::{Field, Names, Reader};

/// The headers of responses that nginx acts on: what `umcf->headers_in_hash` has, without the cost of
/// `ngx_hash_find`.
pub type KnownHeaders = Names<HeaderAction>;

/// What nginx does with a header.
#[derive(Clone, Copy, Debug)]
pub struct HeaderAction {
    handler: ngx_http_header_handler_pt,
    offset: ngx_uint_t,
    framing: Option<FramingHeader>,
}

impl HeaderAction {
    /// Nothing: the name is only known.
    const NOTHING: HeaderAction = HeaderAction { handler: None, offset: 0, framing: None };

    /// What the header tells of the response's end.
    #[inline]
    pub fn framing(&self) -> Option<FramingHeader> {
        self.framing
    }

    /// # Safety
    ///
    /// `known` must be null or valid.
    unsafe fn of(known: *const c_void) -> Option<Self> {
        // SAFETY: the caller's promise.
        let known = unsafe { known.cast::<ngx_http_upstream_header_t>().as_ref() };
        known.map(|known| HeaderAction {
            handler: known.handler,
            offset: known.offset,
            framing: None,
        })
    }
}

/// Takes all of nginx's names. None where one is not of the kind that [`Names`] can know.
///
/// # Safety
///
/// `hash` must be of `ngx_hash_init`, with `ngx_http_upstream_header_t` for its values.
unsafe fn index(hash: ngx_hash_t) -> Option<KnownHeaders> {
    let mut names = Vec::new();
    // SAFETY: the hash has `size` buckets. A bucket is null or a row of elements, each a structure with
    // its name behind it, aligned as pointers are; one that has nothing but a value, null, ends it.
    unsafe {
        for bucket in slice_of(hash.buckets, hash.size) {
            let mut element: *const ngx_hash_elt_t = *bucket;
            while !element.is_null() {
                let Some(action) = HeaderAction::of((*element).value) else { break };
                let start = (&raw const (*element).name).cast::<u8>();
                let name = slice_of(start, (*element).len.into());
                names.push((name, HeaderAction { framing: FramingHeader::of(name), ..action }));
                let end = start.add(name.len());
                element = end.add(end.align_offset(align_of::<*const u8>())).cast();
            }
        }
    }
    for common in COMMON_HEADERS {
        if names.iter().all(|(name, _)| *name != common.as_bytes()) {
            names.push((common.as_bytes(), HeaderAction::NOTHING));
        }
    }
    Names::new(names)
}

/// Headers that applications often send and nginx does nothing with: where they are known, they need
/// neither a hash nor their lower case, which saves 120 instructions each. Django's security
/// middleware sends three of them with every response.
const COMMON_HEADERS: [&str; 8] = [
    "allow",
    "content-language",
    "pragma",
    "referrer-policy",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
    "x-xss-protection",
];

/// Where the headers of a response are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where they were read, in `u->buffer`, until [`Upstream::prepare_body`] knows better.
    Buffer,
    /// In memory of their own: the head in the buffer will go into a cache, or comes from one.
    Own,
}

impl Conf<'_> {
    /// Finds out which headers of responses nginx acts on, for all requests.
    pub fn index_known_headers<H: Module>(self) {
        // SAFETY: the parser is valid; the upstream module made its hash before this one is asked to
        // end the configuration.
        let known = unsafe {
            NgxHttpUpstreamModule::main_conf(self.ptr.as_ref())
                .and_then(|main| index(main.headers_in_hash))
        };
        self.with_main_conf::<H, _>(|main| main.known_headers = known);
    }
}

impl<'a> Upstream<'a> {
    /// The headers that nginx acts on. None where [`Self::push_header`] has to ask nginx for each.
    pub fn known_headers<H: Module>(self, r: Request<'a>) -> Option<&'a KnownHeaders> {
        module::main_conf::<H>(r).known_headers.as_ref()
    }

    /// Where [`Self::push_plain_headers`] may keep headers.
    pub fn place_for_headers(self, r: Request<'a>) -> Place {
        #[cfg(ngx_feature = "http_cache")]
        if !field!(r, cache).is_null() {
            return Place::Own;
        }
        let _ = r;
        Place::Buffer
    }

    /// Takes plain headers ([`Reader::read`]) off the beginning of [`Self::unparsed`], up to a line that is none, and
    /// adds them to the response, as [`Self::push_header`] does. Each costs a quarter of that, because names and
    /// values stay where they are, and nginx's hash is not asked. `see` looks at each, and at what was read from
    /// its line on. Takes the end of the head as well, and says whether it has come.
    ///
    /// # Errors
    ///
    /// As of [`Self::push_header`].
    #[inline]
    pub fn push_plain_headers(
        self,
        r: Request<'a>,
        reader: &mut Reader<'a, HeaderAction>,
        mut see: impl FnMut(&Field<'a, HeaderAction>, &'a [u8]),
    ) -> Result<bool, Error> {
        const END: &[u8] = b"\r\n";
        let place = self.place_for_headers(r);
        let (mut pos, mut line) = (field!(self, buffer.pos), self.unparsed());
        let ended = loop {
            let Some(field) = reader.read(line) else {
                break line.starts_with(END);
            };
            let Some(rest) = line.get(field.size..) else { return Err(Error::Failed) };
            see(&field, line);
            // SAFETY: the field was read from `line`, which begins at `pos` in nginx's buffer.
            unsafe {
                self.push_plain_header(r, &field, pos, place)?;
                pos = pos.add(field.size);
            }
            line = rest;
        };
        field!(self, buffer.pos = pos);
        if ended {
            self.consume(END.len());
        }
        Ok(ended)
    }

    /// Adds the header that [`Reader::read`] found at `pos`.
    ///
    /// # Safety
    ///
    /// It must have been found there, in what nginx has read into its buffer.
    #[inline(always)]
    unsafe fn push_plain_header(
        self,
        r: Request<'a>,
        field: &Field<'a, HeaderAction>,
        pos: *mut u8,
        place: Place,
    ) -> Result<(), Error> {
        let Field { colon, value, end, size, hash, known } = *field;
        // SAFETY: the caller's promise: the line is that long.
        let line = || unsafe { slice_of(pos.cast_const(), size) };
        let lowcase_key = match known {
            Some(name) => name.lowered().as_ptr().cast_mut(),
            None => {
                let lowered = r.pool().copy(field.name_in(line()))?;
                lowered.make_ascii_lowercase();
                lowered.as_mut_ptr()
            }
        };
        let start = match place {
            Place::Buffer => pos,
            Place::Own => r.pool().copy(line())?.as_mut_ptr(),
        };
        // SAFETY: the offsets are inside of the line, in this order; nobody but us reads what is parsed
        // of the buffer. The strings are the request's memory or the configuration's; `prepare_body`
        // moves them before nginx uses or frees the buffer.
        unsafe {
            // The NULs that nginx's handlers count on, where the colon was, and the line's end.
            *start.add(colon) = b'\0';
            *start.add(end) = b'\0';
            let key = ngx_str_t { len: colon, data: start };
            let value = ngx_str_t { len: end - value, data: start.add(value) };
            self.push(r, hash, key, value, lowcase_key, known.map(|name| name.value()))
        }
    }

    /// Moves headers out of `u->buffer`, which nginx uses again for the body, or frees, long before
    /// variables such as `$upstream_http_…` are written to a log.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub(super) fn move_headers(self, r: Request<'a>) -> Result<(), Error> {
        let (start, pos) = (field!(self, buffer.start), field!(self, buffer.pos));
        let parsed = start as usize..pos as usize;
        // SAFETY: nginx read the head there.
        let copy = r.pool().copy(unsafe { slice_of(start, parsed.len()) })?.as_mut_ptr();
        // SAFETY: the first part of the list stands in the list itself; a part is null or valid, with
        // `nelts` headers. Their strings stay inside of what was copied.
        unsafe {
            let mut part = &raw mut (*self.ptr.as_ptr()).headers_in.headers.part;
            while !part.is_null() {
                let headers = (*part).elts.cast::<ngx_table_elt_t>();
                for number in 0..(*part).nelts {
                    let header = headers.add(number);
                    for text in [&raw mut (*header).key, &raw mut (*header).value] {
                        if parsed.contains(&((*text).data as usize)) {
                            (*text).data = copy.add((*text).data as usize - parsed.start);
                        }
                    }
                }
                part = (*part).next;
            }
        }
        Ok(())
    }

    /// The header lines of the response so far, in order. None may be added while they are read.
    pub(super) fn headers(self) -> impl Iterator<Item = HeaderLine<'a>> {
        // SAFETY: the list is valid, and its strings are while the response is read.
        unsafe { lines_of(&raw const (*self.ptr.as_ptr()).headers_in.headers) }
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
        let (key, value, lowcase_key) = copied(r, name, value)?;
        // SAFETY: the strings are the request's memory. The request is valid, so it has a main
        // configuration of the upstream module, with the hash of known headers, whose values are
        // `ngx_http_upstream_header_t`.
        unsafe {
            let conf = NgxHttpUpstreamModule::main_conf(&*r.as_ptr()).ok_or(Error::Failed)?;
            let hashes = (&raw const conf.headers_in_hash).cast_mut();
            let action = HeaderAction::of(ngx_hash_find(hashes, hash, lowcase_key, name.len()));
            self.push(r, hash, key, value, lowcase_key, action.as_ref())
        }
    }

    /// Adds a header of an interim response that is passed on: nginx acts on none of them.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn push_hint(
        self,
        r: Request<'a>,
        name: &[u8],
        value: &[u8],
        hash: ngx_uint_t,
    ) -> Result<(), Error> {
        let (key, value, lowcase_key) = copied(r, name, value)?;
        // SAFETY: the strings are the request's memory.
        unsafe { self.push(r, hash, key, value, lowcase_key, None) }
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
        action: Option<&HeaderAction>,
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
            element.write(version::header(hash, key, value, lowcase_key));
            element
        };
        match action {
            Some(HeaderAction { handler: Some(handler), offset, .. }) => {
                // SAFETY: the request is valid, the header is in its list.
                ok(unsafe { handler(r.as_ptr(), element, *offset) })
            }
            _ => Ok(()),
        }
    }
}

impl Request<'_> {
    /// Adds a trailer to the response that the client gets. nginx sends it behind a body in chunks, and behind
    /// every body of HTTP/2 and 3.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn push_trailer(self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let (key, value, lowcase_key) = copied(self, name, value)?;
        // SAFETY: nginx initialised the list, of `ngx_table_elt_t`, with the request; the strings are the
        // request's memory. The new element is for us to fill.
        unsafe {
            let list = &raw mut (*self.as_ptr()).headers_out.trailers;
            let element = ngx_list_push(list).cast::<ngx_table_elt_t>();
            if element.is_null() {
                return Err(Error::Failed);
            }
            element.write(version::header(1, key, value, lowcase_key));
        }
        Ok(())
    }
}

/// A header's name and value, and its name in lower case, in one piece of the request's memory, with the
/// NULs that nginx's handlers count on.
fn copied(
    r: Request<'_>,
    name: &[u8],
    value: &[u8],
) -> Result<(ngx_str_t, ngx_str_t, *mut u8), Error> {
    let copy = r.pool().concat([name, b"\0", value, b"\0", name])?;
    let (key, rest) = copy.split_at_mut(name.len() + 1);
    let (text, lowcase_key) = rest.split_at_mut(value.len() + 1);
    lowcase_key.make_ascii_lowercase();
    let key = ngx_str_t { len: name.len(), data: key.as_mut_ptr() };
    let value = ngx_str_t { len: value.len(), data: text.as_mut_ptr() };
    Ok((key, value, lowcase_key.as_mut_ptr()))
}
