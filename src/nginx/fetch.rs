//! Reads what a server says on a connection of its own until it closes it: for what is not about a request, with
//! no request that waits for it. In nginx's event loop, so that nothing blocks; nothing of it is logged, as whoever
//! asked is told.

use core::ffi::{c_void, CStr};
use core::fmt;
use core::ptr::NonNull;
use core::slice;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;

use super::address::url_of;
use super::callbacks::log_panic;
use super::conf::{Conf, ConfPosition, Error};
use super::connect::{connect_socket, watch, Errno};
use super::module::{main_conf, Module};
use super::own::{connection_of_its_own, receive, send, Moved};
use super::status::OK;
use super::sys::{
    ngx_add_timer, ngx_close_connection, ngx_connection_t, ngx_cycle, ngx_event_t,
    ngx_handle_read_event, ngx_msec_t, ngx_parse_url, ngx_socket_errno,
};
use super::{Log, Request};

/// An address to read from.
#[derive(Debug)]
pub struct Target {
    /// As it is configured.
    pub name: Vec<u8>,
    /// A `sockaddr`.
    address: Box<[u8]>,
}

/// An address that is said of an upstream by its name.
#[derive(Debug)]
pub struct NamedTarget {
    /// The upstream's.
    pub name: Box<[u8]>,
    /// The address.
    pub number: usize,
    /// Where this is said.
    pub position: Rc<ConfPosition>,
}

/// How much, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub most: usize,
    /// Milliseconds, connecting included.
    pub time: ngx_msec_t,
    /// After so many milliseconds without a byte, the server is told that somebody waits ([`ASK`]).
    pub patience: ngx_msec_t,
}

/// What a server is sent that says nothing by itself, since it speaks HTTP. One that does say something is sent
/// nothing: it would close the connection with bytes unread, and what is on its way could be lost.
const ASK: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no connection, or it broke before the first byte.
    Connect(Errno),
    /// Nothing came in time, or not all of it.
    Time(ngx_msec_t),
    /// More came than should, in bytes.
    Size(usize),
    /// This worker has no connection to spare, or no memory.
    Worker,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(Errno(errno)) => {
                let text = std::io::Error::from_raw_os_error(*errno).to_string();
                let text = text.split(" (os error").next().unwrap_or_default().to_owned();
                write!(f, "no connection to it ({errno}: {text})")
            }
            Failure::Time(time) => write!(f, "no complete answer within {time} ms"),
            Failure::Size(most) => write!(f, "its answer is longer than {most} bytes"),
            Failure::Worker => f.write_str("nginx's worker has no connection to spare"),
        }
    }
}

/// Who is told what was read.
type Done = Box<dyn FnOnce(Result<Vec<u8>, Failure>)>;

/// A connection that is being read from. It is the connection's `data`.
struct Reading {
    bytes: Vec<u8>,
    limits: Limits,
    asked: bool,
    done: Done,
}

impl Conf<'_> {
    /// Notes that an address is said of an upstream.
    pub fn name_target<H: Module>(self, target: NamedTarget) {
        self.with_main_conf::<H, _>(|main| main.named_targets.push(target));
    }

    /// Those that were noted.
    pub fn take_named_targets<H: Module>(self) -> Vec<NamedTarget> {
        self.with_main_conf::<H, _>(|main| core::mem::take(&mut main.named_targets))
    }

    /// Notes an address that can be read from, and returns its number.
    ///
    /// # Errors
    ///
    /// What nginx finds wrong with it.
    pub fn add_target<H: Module>(self, name: &[u8]) -> Result<usize, Error> {
        let copy = self.pool().copy(name).map_err(|_| Error::Logged)?;
        let mut url = url_of(copy);
        // A name is looked up now, and never again.
        // SAFETY: it is valid, and nobody else has it.
        unsafe { flag!(&raw mut url, no_resolve = 0) };
        // SAFETY: pool and url are valid.
        let status = unsafe { ngx_parse_url(self.pool().as_ptr(), &raw mut url) };
        // SAFETY: nginx points it at a C string literal of its own, or leaves it null. What it has found are
        // addresses, `naddrs` of them.
        let (words, first) = unsafe {
            let words = (!url.err.is_null()).then(|| CStr::from_ptr(url.err.cast_const()));
            (words, url.addrs.as_ref().filter(|_| url.naddrs > 0))
        };
        // SAFETY: the macro only reads a bit.
        let no_port = unsafe { flag!(&raw mut url, no_port) } != 0;
        let first = first.filter(|_| status == OK && !no_port);
        let Some(first) = first else {
            let words = words.and_then(|words| words.to_str().ok()).unwrap_or("no port");
            let name = super::log::Printable(name);
            return Err(self
                .error(format_args!("{words} in \"{name}\" of the \"rs_uwsgi_stats\" directive")));
        };
        // SAFETY: an address of nginx's, with its length.
        let address =
            unsafe { slice::from_raw_parts(first.sockaddr.cast::<u8>(), first.socklen as usize) };
        let target = Target { name: name.to_vec(), address: address.into() };
        Ok(self.with_main_conf::<H, _>(|main| {
            let known = main.targets.iter().position(|known| known.address == target.address);
            known.unwrap_or_else(|| {
                main.targets.push(target);
                main.targets.len() - 1
            })
        }))
    }
}

impl Target {
    /// The one with this number, of the configuration that a request runs under.
    pub fn find<H: Module>(r: Request<'_>, number: usize) -> Option<&Target> {
        main_conf::<H>(r).targets.get(number)
    }

    /// Begins to read. `done` is told what came, later or at once.
    pub fn fetch(&self, limits: Limits, done: Done) {
        match self.connect() {
            Err(failure) => done(Err(failure)),
            Ok(c) => {
                let reading = Box::new(Reading { bytes: Vec::new(), limits, asked: false, done });
                // SAFETY: a new connection with both events, which `on_event` closes; until then it has the box.
                unsafe {
                    let c = c.as_ptr();
                    (*c).data = Box::into_raw(reading).cast::<c_void>();
                    let (read, write) = ((*c).read, (*c).write);
                    (*read).handler = Some(on_event);
                    (*write).handler = Some(on_event);
                    ngx_add_timer(read, limits.patience.min(limits.time));
                }
            }
        }
    }

    /// Makes a socket and begins to connect it.
    fn connect(&self) -> Result<NonNull<ngx_connection_t>, Failure> {
        // SAFETY: the worker's log. The connection is closed where it is not returned.
        unsafe {
            let c = connection_of_its_own(&self.address, (*ngx_cycle).log)
                .map_err(Failure::Connect)?
                .ok_or(Failure::Worker)?;
            let watched = connect_socket((*c.as_ptr()).fd, &self.address).and_then(|progress| {
                watch(c.as_ptr(), progress).map_err(|()| Errno(ngx_socket_errno()))
            });
            watched.map(|()| c).map_err(|errno| {
                ngx_close_connection(c.as_ptr());
                Failure::Connect(errno)
            })
        }
    }
}

/// Something came, or the time is up.
unsafe extern "C" fn on_event(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with an event of a connection that `fetch` made, which has the box until it is closed
    // below. Nobody else refers to the box.
    unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        let reading = (*c).data.cast::<Reading>();
        let Some(result) = go_on(c, &mut *reading, flag!(event, timedout) != 0) else { return };
        let Reading { bytes, done, .. } = *Box::from_raw(reading);
        ngx_close_connection(c);
        let told = catch_unwind(AssertUnwindSafe(|| done(result.map(|()| bytes))));
        if let Err(panic) = told {
            log_panic(Log::of_worker(), &*panic);
        }
    }
}

/// Reads what there is. None: more may come.
///
/// # Safety
///
/// `c` must be an open connection.
unsafe fn go_on(
    c: *mut ngx_connection_t,
    reading: &mut Reading,
    timed_out: bool,
) -> Option<Result<(), Failure>> {
    let limits = reading.limits;
    let mut piece = [0_u8; 16 * 1024];
    // SAFETY: an open connection with its event, and a piece of memory with its length.
    unsafe {
        let read = (*c).read;
        loop {
            match receive(c, &mut piece) {
                Moved::Bytes(0) => return Some(Ok(())),
                Moved::Bytes(count) => {
                    reading.bytes.extend(piece.iter().take(count));
                    if reading.bytes.len() > limits.most {
                        return Some(Err(Failure::Size(limits.most)));
                    }
                }
                Moved::Not => break,
                // A server that closes without having read what it was sent, after its answer.
                Moved::Failed(_) if !reading.bytes.is_empty() => return Some(Ok(())),
                Moved::Failed(errno) => return Some(Err(Failure::Connect(Errno(errno)))),
            }
        }
        flag!(read, ready = 0);
        if timed_out {
            if reading.asked || limits.patience >= limits.time {
                return Some(Err(Failure::Time(limits.time)));
            }
            reading.asked = true;
            if reading.bytes.is_empty() {
                // It fails where there is no connection yet, and the next event says why there is none.
                let _ = send(c, ASK);
            }
            flag!(read, timedout = 0);
            ngx_add_timer(read, limits.time - limits.patience);
        }
        match ngx_handle_read_event(read, 0) {
            OK => None,
            _ => Some(Err(Failure::Worker)),
        }
    }
}
