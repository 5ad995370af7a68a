//! Variables, and values with variables in them, `ngx_http_complex_value_t`.

use core::ptr;

use super::conf::{Conf, Error};
use super::connection;
use super::sys::{
    ngx_connection_local_sockaddr, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_variable_value_t, ngx_inet_get_port, ngx_str_t, ngx_uint_t,
};
use super::{bytes_of, ok, str_of, version, Request};

/// A value with variables, compiled when the configuration is read. A plain pointer into the
/// configuration's memory.
#[derive(Clone, Copy, Debug)]
pub struct ComplexValue(*mut ngx_http_complex_value_t);

impl ComplexValue {
    /// Compiles a value.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], for example for an invalid variable name.
    pub fn compile(cf: Conf<'_>, value: &[u8]) -> Result<ComplexValue, Error> {
        // The source must live as long as the compiled value, which refers to pieces of it. nginx looks at
        // the byte behind a `$`, which may be the last one: its own strings end with a NUL.
        let source = cf.pool().concat([value, b"\0"]).map_err(|_| Error::Logged)?;
        let value = source.get(..value.len()).ok_or(Error::Logged)?;
        // SAFETY: structures of zeros are how nginx itself begins.
        let (compiled, mut compile): (ngx_http_complex_value_t, ngx_http_compile_complex_value_t) =
            unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
        let place = cf.pool().place(compiled).map_err(|_| Error::Logged)?.as_ptr();
        let mut source = str_of(value);
        compile.cf = cf.as_ptr();
        compile.value = &raw mut source;
        compile.complex_value = place;
        // SAFETY: all pointers are valid; nginx copies the string's pointer and length.
        ok(unsafe { ngx_http_compile_complex_value(&raw mut compile) })
            .map_err(|_| Error::Logged)?;
        Ok(ComplexValue(place))
    }

    /// A value that one of nginx's setters compiled.
    ///
    /// # Safety
    ///
    /// `value` must be valid, and of the configuration of the requests that it is evaluated for.
    #[cfg(ngx_feature = "http_ssl")]
    pub(super) unsafe fn from_ptr(value: *mut ngx_http_complex_value_t) -> ComplexValue {
        ComplexValue(value)
    }

    /// nginx's own view of it.
    #[cfg(ngx_feature = "http_cache")]
    pub(crate) fn as_ptr(self) -> *mut ngx_http_complex_value_t {
        self.0
    }

    /// The value for a request. None when an evaluation failed, for lack of memory as a rule.
    pub fn evaluate(self, r: Request<'_>) -> Option<&[u8]> {
        let mut value = ngx_str_t { len: 0, data: core::ptr::null_mut() };
        // SAFETY: compiled by `compile`, for the configuration that the request runs under.
        ok(unsafe { ngx_http_complex_value(r.as_ptr(), self.0, &raw mut value) }).ok()?;
        // SAFETY: nginx keeps the value in the request's or the configuration's memory.
        Some(unsafe { bytes_of(value) })
    }
}

/// A variable of nginx's by its index, `ngx_http_get_flushed_variable`.
///
/// nginx calls two functions and a getter for each variable that it has not kept. For those that are a
/// field of the request, or next to it, the same is done here without a call: with the standard
/// parameters that saves 1500 instructions a request, of 5200 for its packet. What nginx keeps with the
/// request is looked at first and written as nginx's function would write it, so that nobody can tell
/// the difference.
///
/// That a name means what it means in nginx's table (`ngx_http_core_variables` in
/// src/http/ngx_http_variables.c, the same in all versions from 1.22 to 1.28) is certain: of those
/// below none is NGX_HTTP_VAR_CHANGEABLE, and `ngx_http_add_variable` refuses to define such a
/// one again, for `set` and `map` as for any module.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    index: ngx_uint_t,
    source: Source,
    /// What nginx notes beside a value: [`NO_CACHEABLE`], or nothing.
    note: u32,
}

/// Where the value of a variable comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Args,
    ContentLength,
    ContentType,
    DocumentRoot,
    Https,
    Method,
    Protocol,
    RemoteAddr,
    RemotePort,
    Scheme,
    ServerName,
    ServerPort,
    UnparsedUri,
    Uri,
    /// Only nginx knows.
    Nginx,
}

/// The names for which [`Source`] stands, and the note with which nginx keeps them.
const SOURCES: &[(&str, Source, u32)] = &[
    ("content_length", Source::ContentLength, 0),
    ("content_type", Source::ContentType, 0),
    ("document_root", Source::DocumentRoot, NO_CACHEABLE),
    ("document_uri", Source::Uri, NO_CACHEABLE),
    ("https", Source::Https, 0),
    ("query_string", Source::Args, NO_CACHEABLE),
    ("remote_addr", Source::RemoteAddr, 0),
    ("remote_port", Source::RemotePort, 0),
    ("request_method", Source::Method, NO_CACHEABLE),
    ("request_uri", Source::UnparsedUri, 0),
    ("scheme", Source::Scheme, 0),
    ("server_name", Source::ServerName, 0),
    ("server_port", Source::ServerPort, 0),
    ("server_protocol", Source::Protocol, 0),
    ("uri", Source::Uri, NO_CACHEABLE),
];

// The bits beside the length in the first word of `ngx_variable_value_t`, as compilers for
// little-endian machines lay them out: bindgen's accessors take them one by one, at ten times the cost.
const LENGTH: u32 = (1 << 28) - 1;
const VALID: u32 = 1 << 28;
const NO_CACHEABLE: u32 = 1 << 29;
const NOT_FOUND: u32 = 1 << 30;
const LAYOUT_IS_KNOWN: bool = cfg!(target_endian = "little")
    && size_of::<ngx_http_variable_value_t>() == 2 * size_of::<usize>()
    && core::mem::offset_of!(ngx_http_variable_value_t, data) == size_of::<usize>()
    && is_at(flag_bits!(ngx_http_variable_value_t, len), LENGTH)
    && is_at(flag_bits!(ngx_http_variable_value_t, valid), VALID)
    && is_at(flag_bits!(ngx_http_variable_value_t, no_cacheable), NO_CACHEABLE)
    && is_at(flag_bits!(ngx_http_variable_value_t, not_found), NOT_FOUND);

/// Are a bit-field's bits (`flag_bits!`) these of a structure's first word?
const fn is_at((offset, mask): (usize, u64), bits: u32) -> bool {
    offset < size_of::<u32>() && mask << (8 * offset) == bits as u64
}

/// No value.
const NOTHING: ngx_str_t = ngx_str_t { len: 0, data: ptr::null_mut() };

impl Variable {
    /// The variable of this name, without "$".
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    pub fn of_name(cf: Conf<'_>, name: &[u8]) -> Result<Variable, Error> {
        let known = |(known, ..): &&(&str, Source, u32)| {
            LAYOUT_IS_KNOWN && known.as_bytes().eq_ignore_ascii_case(name)
        };
        let (source, note) =
            SOURCES.iter().find(known).map_or((Source::Nginx, 0), |known| (known.1, known.2));
        let name = cf.pool().copy(name).map_err(|_| Error::Logged)?;
        Ok(Variable { index: cf.variable(name)?, source, note })
    }

    /// The value for a request, taken anew where it must not be kept. Empty where it has none or an
    /// evaluation failed; nginx's scripts take all three for the same.
    #[inline(always)]
    pub fn evaluate<'a>(&self, r: Request<'a>) -> &'a [u8] {
        // SAFETY: the request has a value for each variable of the configuration, from which the
        // index is (`of_name`); the first word is read and written as one.
        unsafe {
            let place = (*r.as_ptr()).variables.add(self.index);
            let bits = place.cast::<u32>().read();
            // Mostly none of the flags is set: one comparison.
            if bits > LENGTH && is_kept(bits) {
                return self.ask_nginx(r);
            }
            let Some(value) = self.source.find(r) else { return self.ask_nginx(r) };
            // As `ngx_http_variable_request`: no pointer, no value.
            if value.data.is_null() {
                place.cast::<u32>().write(NOT_FOUND | self.note);
                return &[];
            }
            place.cast::<u32>().write(value.len as u32 & LENGTH | VALID | self.note);
            (*place).data = value.data;
            bytes_of(value)
        }
    }

    #[inline(never)]
    fn ask_nginx<'a>(&self, r: Request<'a>) -> &'a [u8] {
        r.variable(self.index).unwrap_or_default()
    }
}

/// Does nginx hold a value with these bits, and may it be used again?
#[cold]
fn is_kept(bits: u32) -> bool {
    bits & NO_CACHEABLE == 0 && bits & (VALID | NOT_FOUND) != 0
}

impl Source {
    /// The getters of nginx's src/http/ngx_http_variables.c: a value, a null pointer where there is
    /// none, or None where nginx has to be asked.
    ///
    /// # Safety
    ///
    /// `r` must be a valid request.
    #[inline(always)]
    unsafe fn find(self, r: Request<'_>) -> Option<ngx_str_t> {
        let string = |value: &'static [u8]| Some(str_of(value));
        let (request, r) = (r, r.as_ptr());
        // SAFETY: a request is valid with its connection, its configuration, its main request, and
        // the headers that it points to; what their strings refer to lives as long as the request.
        unsafe {
            match self {
                Source::Args => Some((*r).args),
                Source::Uri => Some((*r).uri),
                Source::UnparsedUri => Some((*r).unparsed_uri),
                Source::Protocol => Some((*r).http_protocol),
                Source::Method => Some((*(*r).main).method_name),
                Source::ContentLength => match (*r).headers_in.content_length.as_ref() {
                    Some(header) => Some(header.value),
                    None if (*r).headers_in.content_length_n < 0
                        && flag!(&raw mut (*r).headers_in, chunked) == 0
                        && flag!(r, reading_body) == 0 =>
                    {
                        Some(NOTHING)
                    }
                    None => None,
                },
                Source::ContentType => match (*r).headers_in.content_type.as_ref() {
                    // Several are joined.
                    Some(header) if version::is_joined(header) => None,
                    Some(header) => Some(header.value),
                    None => Some(NOTHING),
                },
                Source::RemoteAddr => Some((*(*r).connection).addr_text),
                Source::RemotePort => Some(remote_port(request)),
                Source::ServerPort => Some(server_port(request)),
                Source::Https if is_tls(request) => string(b"on"),
                Source::Https => string(b""),
                Source::Scheme if is_tls(request) => string(b"https"),
                Source::Scheme => string(b"http"),
                Source::DocumentRoot => {
                    let index = ngx_http_core_module.ctx_index;
                    let conf = (*(*r).loc_conf.add(index)).cast::<ngx_http_core_loc_conf_t>();
                    if (*conf).root_lengths.is_null() {
                        Some((*conf).root)
                    } else {
                        None
                    }
                }
                Source::ServerName => {
                    let index = ngx_http_core_module.ctx_index;
                    let conf = (*(*r).srv_conf.add(index)).cast::<ngx_http_core_srv_conf_t>();
                    Some((*conf).server_name)
                }
                Source::Nginx => None,
            }
        }
    }
}

/// `$remote_port`. A function of its own, so that the common ones need not save registers.
#[inline(never)]
fn remote_port(r: Request<'_>) -> ngx_str_t {
    // SAFETY: a request has a connection, and that has the client's address.
    port(r, unsafe { ngx_inet_get_port((*(*r.as_ptr()).connection).sockaddr) })
}

/// `$server_port`.
#[inline(never)]
fn server_port(r: Request<'_>) -> ngx_str_t {
    // SAFETY: a request has a connection; where the call succeeds, that has the server's address.
    unsafe {
        let connection = (*r.as_ptr()).connection;
        match ok(ngx_connection_local_sockaddr(connection, ptr::null_mut(), 0)) {
            Ok(()) => port(r, ngx_inet_get_port((*connection).local_sockaddr)),
            Err(_) => NOTHING,
        }
    }
}

/// A port, where there is one, in digits. Nothing where memory runs out: so does nginx.
#[inline(always)]
fn port(r: Request<'_>, port: u16) -> ngx_str_t {
    if port == 0 {
        return str_of(b"");
    }
    // All in one number, which is one store; the first digit is the lowest byte. The last four are
    // two pairs that are divided at once: 103 / 1024 is a tenth of what has two digits.
    let (first, rest) = (port / 10_000, port % 10_000);
    let pairs = u64::from(rest / 100) | u64::from(rest % 100) << 16;
    let tens = (pairs * 103) >> 10 & 0x000f_000f;
    let digits = u64::from(first) | (tens | (pairs - 10 * tens) << 8) << 8;
    let zeros = digits.trailing_zeros() as usize / 8;
    match r.pool().copy(&(digits | 0x30_3030_3030).to_le_bytes()) {
        Ok(digits) => str_of(digits.get(zeros..5).unwrap_or_default()),
        Err(_) => NOTHING,
    }
}

/// Did the request come over TLS?
fn is_tls(r: Request<'_>) -> bool {
    // SAFETY: a request has a connection.
    unsafe { connection::is_tls((*r.as_ptr()).connection) }
}
