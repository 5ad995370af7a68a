//! Variables, and values with variables in them, `ngx_http_complex_value_t`.

use core::cell::OnceCell;
use core::ptr;

use super::conf::{Conf, Error};
use super::connection;
use super::sys::{
    ngx_connection_local_sockaddr, ngx_connection_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_variable_value_t, ngx_inet_get_port, ngx_str_t, sockaddr,
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
#[derive(Debug)]
pub struct Variable {
    /// Where its value is, from the request's first on: in bytes, which spares a multiplication.
    offset: usize,
    source: Source,
    /// What nginx notes beside a value: [`VALID`], and [`NO_CACHEABLE`] or nothing.
    note: u32,
    /// What it notes where there is none.
    absent: u32,
    /// The port of the server that was asked for first, and its digits: mostly there is no other.
    server_port: OnceCell<(u16, Digits)>,
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

/// Bytes of one of the request's values.
const VALUE_SIZE: usize = size_of::<ngx_http_variable_value_t>();

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
        Ok(Variable {
            offset: cf.variable(name)? * VALUE_SIZE,
            source,
            note: VALID | note,
            absent: NOT_FOUND | note,
            server_port: OnceCell::new(),
        })
    }

    /// None, of which [`Self::quickly`] finds nothing.
    pub const fn none() -> Variable {
        Variable {
            offset: 0,
            source: Source::Nginx,
            note: 0,
            absent: 0,
            server_port: OnceCell::new(),
        }
    }

    /// The value for a request, taken anew where it must not be kept, if that needs nobody else; else
    /// [`Self::evaluate`] has it.
    #[inline(always)]
    pub fn quickly<'a, 'r: 'a>(&'a self, r: Request<'r>) -> Option<&'a [u8]> {
        // SAFETY: the request has a value for each variable of the configuration, from which the
        // offset is (`of_name`), unless it is none, of which nothing is found; the first word is read
        // and written as one.
        unsafe {
            let value = self.find(r)?;
            let place = (*r.as_ptr()).variables.byte_add(self.offset);
            let bits = place.cast::<u32>().read();
            // Mostly none of the flags is set: one comparison.
            if bits > LENGTH && is_kept(bits) {
                return None;
            }
            // As `ngx_http_variable_request`: no pointer, no value.
            if value.data.is_null() {
                place.cast::<u32>().write(self.absent);
                return Some(&[]);
            }
            place.cast::<u32>().write(value.len as u32 & LENGTH | self.note);
            (*place).data = value.data;
            Some(bytes_of(value))
        }
    }

    /// The value for a request, of which nginx is asked. Empty where it has none or an evaluation failed;
    /// nginx's scripts take both for the same.
    pub fn evaluate<'a>(&self, r: Request<'a>) -> &'a [u8] {
        r.variable(self.offset / VALUE_SIZE).unwrap_or_default()
    }
}

/// Does nginx hold a value with these bits, and may it be used again?
#[cold]
fn is_kept(bits: u32) -> bool {
    bits & NO_CACHEABLE == 0 && bits & (VALID | NOT_FOUND) != 0
}

impl Variable {
    /// The getters of nginx's src/http/ngx_http_variables.c: a value, a null pointer where there is
    /// none, or None where nginx has to be asked.
    ///
    /// # Safety
    ///
    /// `r` must be a valid request.
    #[inline(always)]
    unsafe fn find(&self, r: Request<'_>) -> Option<ngx_str_t> {
        let string = |value: &'static [u8]| Some(str_of(value));
        let (request, r) = (r, r.as_ptr());
        // SAFETY: a request is valid with its connection, its configuration, its main request, and
        // the headers that it points to; what their strings refer to lives as long as the request.
        unsafe {
            match self.source {
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
                Source::ServerPort => Some(server_port(request, &self.server_port)),
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
    port_in_digits(r, unsafe { port_of((*(*r.as_ptr()).connection).sockaddr) })
}

/// A port, where there is one, in digits. Nothing where memory runs out: so does nginx.
#[inline(always)]
fn port_in_digits(r: Request<'_>, port: u16) -> ngx_str_t {
    if port == 0 {
        return str_of(b"");
    }
    let digits = Digits::of(port);
    match r.pool().copy(&digits.text) {
        Ok(text) => digits.in_copy(text),
        Err(_) => NOTHING,
    }
}

/// `$server_port`. `first`: the port that was asked for first, and its digits.
#[inline(never)]
fn server_port(r: Request<'_>, first: &OnceCell<(u16, Digits)>) -> ngx_str_t {
    // SAFETY: a request has a connection; where there is a local address, it is valid.
    let port = unsafe {
        let connection = (*r.as_ptr()).connection;
        if !has_local_address(connection)
            && ok(ngx_connection_local_sockaddr(connection, ptr::null_mut(), 0)).is_err()
        {
            return NOTHING;
        }
        port_of((*connection).local_sockaddr)
    };
    match first.get() {
        Some((known, digits)) if *known == port => digits.in_copy(&digits.text),
        None if port != 0 => {
            let (_, digits) = first.get_or_init(|| (port, Digits::of(port)));
            digits.in_copy(&digits.text)
        }
        _ => port_in_digits(r, port),
    }
}

/// Does nginx know the local address of a connection, and which one it is: `ngx_connection_local_sockaddr` has
/// nothing to do? Not said of others than IPv4's.
///
/// # Safety
///
/// The connection must be valid.
#[inline(always)]
unsafe fn has_local_address(connection: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller's promise; an address with a length is valid.
    unsafe {
        let address = (*connection).local_sockaddr;
        (*connection).local_socklen != 0
            && i32::from((*address).sa_family) == libc::AF_INET
            && (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr != 0
    }
}

/// `ngx_inet_get_port`, without a call for IPv4.
///
/// # Safety
///
/// The address must be valid.
#[inline(always)]
unsafe fn port_of(address: *mut sockaddr) -> u16 {
    // SAFETY: the caller's promise; an address is as long as its family says.
    unsafe {
        if i32::from((*address).sa_family) == libc::AF_INET {
            return u16::from_be((*address.cast::<libc::sockaddr_in>()).sin_port);
        }
        ngx_inet_get_port(address)
    }
}

/// A port in digits.
#[derive(Clone, Copy, Debug)]
struct Digits {
    /// Five of them, and three bytes more.
    text: [u8; 8],
    /// How many of them are zeros before the first other one.
    zeros: usize,
}

impl Digits {
    /// Of a port that is not zero.
    #[inline(always)]
    fn of(port: u16) -> Digits {
        // All in one number, which is one store; the first digit is the lowest byte. The last four are
        // two pairs that are divided at once: 103 / 1024 is a tenth of what has two digits.
        let (first, rest) = (port / 10_000, port % 10_000);
        let pairs = u64::from(rest / 100) | u64::from(rest % 100) << 16;
        let tens = (pairs * 103) >> 10 & 0x000f_000f;
        let digits = u64::from(first) | (tens | (pairs - 10 * tens) << 8) << 8;
        let zeros = digits.trailing_zeros() as usize / 8;
        Digits { text: (digits | 0x30_3030_3030).to_le_bytes(), zeros }
    }

    /// Those of a copy of the text, which lives longer.
    #[inline(always)]
    fn in_copy(&self, text: &[u8]) -> ngx_str_t {
        str_of(text.get(self.zeros..5).unwrap_or_default())
    }
}

/// Did the request come over TLS?
fn is_tls(r: Request<'_>) -> bool {
    // SAFETY: a request has a connection.
    unsafe { connection::is_tls((*r.as_ptr()).connection) }
}
