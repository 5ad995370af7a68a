//! The configuration while it is being read: `ngx_conf_t`.

use core::ffi::{c_char, CStr};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use std::borrow::Cow;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::http::{HttpModuleLocationConf, HttpModuleServerConf, NgxHttpCoreModule};

use super::callbacks;
use super::log::{with_text, Printable};
use super::module::Handler;
use super::status::ERROR;
use super::sys::{
    ngx_array_t, ngx_conf_log_error, ngx_conf_t, ngx_event_conf_t, ngx_event_core_module,
    ngx_events_module, ngx_http_core_loc_conf_t, ngx_http_get_variable_index,
    ngx_http_script_variables_count, ngx_str_t, ngx_uint_t, NGX_HTTP_MAIN_CONF, NGX_HTTP_UPS_CONF,
    NGX_LOG_EMERG, NGX_LOG_WARN,
};
use super::{bytes_of, slice_of, str_of, Log, Pool};

/// Why the configuration is refused.
#[derive(Debug)]
pub enum Error {
    /// The reason was logged, with file and line.
    Logged,
    /// To be logged by nginx as `"DIRECTIVE" directive REASON in FILE:LINE`.
    Directive(Cow<'static, str>),
}

/// Where something is configured.
#[derive(Clone, Debug)]
pub struct ConfPosition {
    /// The directive with its arguments.
    pub directive: String,
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: ngx_uint_t,
    /// The kind of block.
    pub level: Level,
}

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// "http": for all upstreams.
    Http,
    /// "upstream".
    Upstream,
    /// "server", "location", "if in location".
    Location,
}

/// The state of nginx's configuration parser.
#[derive(Clone, Copy)]
pub struct Conf<'a> {
    pub(super) ptr: NonNull<ngx_conf_t>,
    life: PhantomData<&'a ngx_conf_t>,
}

impl<'a> Conf<'a> {
    /// A handle on nginx's parser.
    ///
    /// # Safety
    ///
    /// `cf` must be valid for `'a`.
    pub(super) unsafe fn from_ptr(cf: NonNull<ngx_conf_t>) -> Self {
        Conf { ptr: cf, life: PhantomData }
    }

    pub(super) fn as_ptr(self) -> *mut ngx_conf_t {
        self.ptr.as_ptr()
    }

    /// The log of the configuration.
    pub fn log(self) -> Log<'a> {
        let log = field!(self, log);
        // SAFETY: the parser has a log.
        unsafe { Log::from_ptr(NonNull::new_unchecked(log)) }
    }

    /// Memory that lives as long as the configuration.
    pub fn pool(self) -> Pool<'a> {
        let pool = field!(self, pool);
        // SAFETY: the parser has a pool, the new configuration's.
        unsafe { Pool::from_ptr(NonNull::new_unchecked(pool)) }
    }

    /// The directive's name and its arguments.
    pub fn words(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let args: *const ngx_array_t = field!(self, args);
        // SAFETY: while a directive is being set, `args` holds its words.
        unsafe {
            slice_of((*args).elts.cast::<ngx_str_t>(), (*args).nelts)
                .iter()
                .map(|word| bytes_of(*word))
        }
    }

    /// An argument of the directive, from 1; empty where there is none.
    pub fn arg(self, n: usize) -> &'a [u8] {
        self.words().nth(n).unwrap_or_default()
    }

    /// The arguments of the directive, each in quotes.
    pub fn quoted_values(self) -> String {
        let values: Vec<_> =
            self.words().skip(1).map(|value| format!("\"{}\"", Printable(value))).collect();
        values.join(" ")
    }

    /// Where the directive stands that is being set.
    pub fn position(self) -> ConfPosition {
        let directive = self.words().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        let level = match field!(self, cmd_type) as u32 {
            NGX_HTTP_MAIN_CONF => Level::Http,
            NGX_HTTP_UPS_CONF => Level::Upstream,
            _ => Level::Location,
        };
        let file = field!(self, conf_file);
        // SAFETY: while a directive is being set there is a file, or the command line, which has no
        // name.
        let (file, line) = unsafe { (bytes_of((*file).file.name), (*file).line) };
        ConfPosition { directive, file: String::from_utf8_lossy(file).into_owned(), line, level }
    }

    /// Logs an error with file and line.
    pub fn error(self, message: fmt::Arguments<'_>) -> Error {
        self.log_at_line(NGX_LOG_EMERG, message);
        Error::Logged
    }

    /// `worker_connections` of all workers together. None where "events" has not been read yet.
    pub fn connections_of_all_workers(self) -> Option<usize> {
        let cycle = field!(self, cycle);
        // SAFETY: the cycle that is being made has a place for each core module's configuration: that of
        // "events" is null, or has one for each of its modules.
        let connections = unsafe {
            let events = *(*cycle).conf_ctx.add(ngx_events_module.index);
            let events = events.cast::<*mut *mut ngx_event_conf_t>().as_ref()?;
            (*events.add(ngx_event_core_module.ctx_index)).as_ref()?.connections
        };
        connections.checked_mul(self.worker_processes())
    }

    /// Logs that two places contradict each other, and why they may not, with file and line of both.
    pub fn contradiction(
        self,
        here: &ConfPosition,
        there: &ConfPosition,
        why: fmt::Arguments<'_>,
    ) -> Error {
        self.log().emerg(format_args!(
            "\"{}\" in {}:{} and \"{}\" in {}:{} contradict each other: {why}",
            here.directive, here.file, here.line, there.directive, there.file, there.line,
        ));
        Error::Logged
    }

    /// Logs a warning with file and line.
    pub fn warn(self, message: fmt::Arguments<'_>) {
        self.log_at_line(NGX_LOG_WARN, message);
    }

    fn log_at_line(self, level: u32, message: fmt::Arguments<'_>) {
        with_text(message, |text| {
            // SAFETY: the parser is valid, and the format takes a length and as many bytes.
            unsafe {
                ngx_conf_log_error(
                    level as ngx_uint_t,
                    self.as_ptr(),
                    0,
                    c"%*s".as_ptr(),
                    text.len(),
                    text.as_ptr(),
                );
            }
        });
    }

    /// The number of variables in a value. nginx counts each "$".
    pub fn variables_in(self, value: &[u8]) -> usize {
        // SAFETY: only reads the bytes.
        unsafe { ngx_http_script_variables_count(&mut str_of(value)) }
    }

    /// The index of a variable, which makes nginx evaluate it on demand. It fails the configuration
    /// later where no module defines the variable.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`].
    pub fn variable(self, name: &'a [u8]) -> Result<ngx_uint_t, Error> {
        // SAFETY: the parser is valid; nginx copies the name, or keeps it as long as the
        // configuration.
        let index = unsafe { ngx_http_get_variable_index(self.as_ptr(), &mut str_of(name)) };
        if index == ERROR {
            return Err(Error::Logged);
        }
        ngx_uint_t::try_from(index).map_err(|_| Error::Logged)
    }

    pub(super) fn core_loc_conf(self) -> Option<NonNull<ngx_http_core_loc_conf_t>> {
        // SAFETY: in a location (or server, or http) block the core module has its configuration.
        NgxHttpCoreModule::location_conf_mut(unsafe { self.ptr.as_ref() }).map(NonNull::from)
    }

    /// The first name of the server that the location is in.
    pub fn server_name(self) -> &'a [u8] {
        // SAFETY: in a location the core module has a configuration of its server, which lives as long.
        unsafe {
            NgxHttpCoreModule::server_conf(self.ptr.as_ref())
                .map_or(&[][..], |server| bytes_of(server.server_name))
        }
    }

    /// What `$document_root` is in the location; None where `root` or `alias` has variables.
    pub fn document_root(self) -> Option<&'a [u8]> {
        let core = self.core_loc_conf()?;
        // SAFETY: just got, and merged before this module's; its strings live as long as the configuration.
        unsafe {
            let core = core.as_ptr();
            (*core).root_lengths.is_null().then(|| bytes_of((*core).root))
        }
    }

    /// Makes `H` the content handler of the location.
    pub fn set_content_handler<H: Handler>(self) {
        if let Some(core) = self.core_loc_conf() {
            // SAFETY: just got, and only one field is written.
            unsafe { (*core.as_ptr()).handler = Some(callbacks::content::<H>) };
        }
    }

    /// Has the location a content handler, ours or another module's?
    pub fn has_content_handler(self) -> bool {
        // SAFETY: just got, and only one field is read.
        self.core_loc_conf().is_some_and(|core| unsafe { (*core.as_ptr()).handler.is_some() })
    }

    /// Redirects `/name` to `/name/` where the location is a prefix ending in a slash, as every
    /// `…_pass` directive does.
    pub fn set_auto_redirect(self) {
        let Some(core) = self.core_loc_conf() else { return };
        // SAFETY: just got; the name is the location's and lives as long.
        unsafe {
            if bytes_of((*core.as_ptr()).name).ends_with(b"/") {
                flag!(core.as_ptr(), auto_redirect = 1);
            }
        }
    }

    /// Is this the block of an `if` or `limit_except`, which has no name of its own?
    pub fn is_nameless(self) -> bool {
        // SAFETY: just got, and only one field is read.
        self.core_loc_conf().is_some_and(|core| unsafe { flag!(core.as_ptr(), noname) != 0 })
    }

    /// Is this the block of a `limit_except`?
    pub fn is_limit_except(self) -> bool {
        // SAFETY: just got, and only one field is read.
        self.core_loc_conf().is_some_and(|core| unsafe { flag!(core.as_ptr(), lmt_excpt) != 0 })
    }
}

/// What a message says of a value that is no number.
pub const A_NUMBER: &str = "it must be a whole number";
/// What a message says of a value that is no size.
pub const A_SIZE: &str = "it must be a size such as \"8k\" or \"1m\"";
/// What a message says of a value that is no time.
pub const A_TIME: &str = "it must be a time such as \"30s\" or \"500ms\"";

/// What a message says of a value that is none of these words.
pub fn one_of<'a>(words: impl Iterator<Item = &'a [u8]>) -> String {
    let words: Vec<_> = words.map(|word| format!("\"{}\"", Printable(word))).collect();
    format!("it must be one of {}", words.join(", "))
}

/// A string literal in nginx's form.
pub const fn string(literal: &'static CStr) -> ngx_str_t {
    str_of(literal.to_bytes())
}

/// What nginx takes for a string that was not configured.
pub const UNSET_STRING: ngx_str_t = ngx_str_t { len: 0, data: ptr::null_mut() };

/// The bytes of a string that one of nginx's setters wrote.
pub fn bytes(string: &ngx_str_t) -> &[u8] {
    // SAFETY: nginx's setter pointed it at an argument, which lives as long as the configuration.
    unsafe { bytes_of(*string) }
}

/// A decimal number (`ngx_atoi`).
pub fn parse_number(digits: &[u8]) -> Option<ngx_uint_t> {
    // SAFETY: only reads the bytes.
    let number = unsafe { super::sys::ngx_atoi(digits.as_ptr().cast_mut(), digits.len()) };
    ngx_uint_t::try_from(number).ok()
}

/// A size such as "10m", in bytes (`ngx_parse_size`).
pub fn parse_size(size: &[u8]) -> Option<usize> {
    // SAFETY: only reads the bytes.
    usize::try_from(unsafe { super::sys::ngx_parse_size(&mut str_of(size)) }).ok()
}

/// A time such as "10m", in seconds (`ngx_parse_time`).
pub fn parse_seconds(time: &[u8]) -> Option<super::sys::time_t> {
    // SAFETY: only reads the bytes.
    let seconds = unsafe { super::sys::ngx_parse_time(&mut str_of(time), 1) };
    super::sys::time_t::try_from(seconds).ok().filter(|seconds| *seconds >= 0)
}

/// A time such as "500ms", in milliseconds (`ngx_parse_time`).
pub fn parse_milliseconds(time: &[u8]) -> Option<ngx_uint_t> {
    // SAFETY: only reads the bytes.
    ngx_uint_t::try_from(unsafe { super::sys::ngx_parse_time(&mut str_of(time), 0) }).ok()
}

/// What a setter returns to nginx.
pub(super) fn result_in(cf: *mut ngx_conf_t, result: Result<(), Error>) -> *mut c_char {
    match result {
        Ok(()) => NGX_CONF_OK,
        Err(Error::Logged) => NGX_CONF_ERROR,
        Err(Error::Directive(reason)) => {
            let Some(cf) = NonNull::new(cf) else { return NGX_CONF_ERROR };
            // SAFETY: nginx's parser, valid during the callback.
            let pool = unsafe { Conf::from_ptr(cf) }.pool();
            pool.concat([reason.as_bytes(), b"\0"])
                .map_or(NGX_CONF_ERROR, |text| text.as_mut_ptr().cast())
        }
    }
}
