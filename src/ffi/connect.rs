//! Connections that this module makes itself, as `ngx_event_connect_peer` of nginx's
//! src/event/ngx_event_connect.c does, and requests that wait for one.
//!
//! For nginx a request that waits is one whose connection is being made: `peer.get` returns NGX_AGAIN
//! and a connection, of whose socket epoll does not know yet. nginx has nothing to do then but to wait
//! for its write event, for as long as the client and `rs_uwsgi_connect_timeout` do. The event comes
//! when the request has got its connection ([`Waiter::proceed`], [`Waiter::attach`]), and the timer is
//! ours.

use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_int, c_void};
use core::mem::{offset_of, zeroed};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::callbacks::{log_panic, with_request};
use super::connection::{close, Idle};
use super::peer::Peer;
use super::servers::Servers;
use super::sys::{
    ngx_add_timer, ngx_connection_counter, ngx_connection_t,
    ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_DISABLED, ngx_current_msec, ngx_cycle,
    ngx_del_timer, ngx_delete_posted_event, ngx_event_actions, ngx_event_handler_pt, ngx_event_t,
    ngx_get_connection, ngx_handle_read_event, ngx_handle_write_event, ngx_io, ngx_msec_t,
    ngx_post_event, ngx_posted_events, ngx_socket_errno, NGX_OK,
};
use super::{bytes_of, Error, Log, Request};
use crate::handler::UpstreamHandler;

/// NGX_TCP_NOPUSH_DISABLED and NGX_TCP_NODELAY_DISABLED.
const DISABLED: u32 = ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_DISABLED;

/// How far an attempt to connect has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a connection.
    Connected,
    /// The server has not answered yet.
    Pending,
}

/// Why something failed: a number of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl<'a> Peer<'a> {
    /// Is its address that of a unix socket?
    pub fn is_unix(self) -> bool {
        let address = field!(self, sockaddr);
        // SAFETY: the balancer has chosen a server.
        unsafe { c_int::from((*address).sa_family) == libc::AF_UNIX }
    }

    /// Its name in the log: "unix:/path" or "address:port".
    pub fn name(self) -> &'a [u8] {
        let name = field!(self, name);
        // SAFETY: the balancer has chosen a server, whose name lives longer than the try.
        unsafe { name.as_ref().map_or(&[], |name| bytes_of(*name)) }
    }

    /// Can another server be asked after this one?
    pub fn has_others(self) -> bool {
        field!(self, tries) > 1
    }

    /// Makes a socket, with the options that are configured.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]; the log says why, in nginx's words.
    pub fn open(self) -> Result<(), Error> {
        let address = field!(self, sockaddr);
        let log = self.log();
        // SAFETY: the balancer has chosen a server. The socket becomes the connection's, or is closed.
        let c = unsafe {
            let family = (*address).sa_family.into();
            let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            if fd == -1 {
                log.alert_of(ngx_socket_errno(), format_args!("socket() failed"));
                return Err(Error::Failed);
            }
            NonNull::new(ngx_get_connection(fd, log.as_ptr())).ok_or_else(|| {
                libc::close(fd);
                Error::Failed
            })?
        };
        // SAFETY: a new connection, of which only we know.
        unsafe { prepare(c.as_ptr(), self.ptr.as_ptr()) };
        field!(self, connection = c.as_ptr());
        self.bind(c).inspect_err(|_| self.discard())
    }

    /// Sets what may differ from address to address.
    fn bind(self, c: NonNull<ngx_connection_t>) -> Result<(), Error> {
        // SAFETY: an open connection.
        let fd = unsafe { (*c.as_ptr()).fd };
        let log = self.log();
        let rcvbuf = field!(self, rcvbuf);
        if rcvbuf != 0 && set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, rcvbuf).is_err() {
            log.alert_of(ngx_socket_errno(), format_args!("setsockopt(SO_RCVBUF) failed"));
            return Err(Error::Failed);
        }
        let keepalive = field!(self, so_keepalive()) != 0;
        if keepalive && set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).is_err() {
            log.alert_of(
                ngx_socket_errno(),
                format_args!("setsockopt(SO_KEEPALIVE) failed, ignored"),
            );
        }
        let local = field!(self, local);
        // SAFETY: null, or an address of nginx's, as long as the request.
        let Some(local) = (unsafe { local.as_ref() }) else { return Ok(()) };
        if field!(self, transparent()) != 0 {
            self.set_transparent(fd)?;
        }
        // SAFETY: an address of nginx's.
        let port = unsafe { super::sys::ngx_inet_get_port(local.sockaddr) };
        if port == 0 && !self.is_unix() {
            // The port is chosen when connecting, so that there can be as many connections from one
            // address as there are ports to each server. Not every kernel can do it.
            let _ = set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        }
        // SAFETY: an open socket, and an address of nginx's with its length.
        if unsafe { libc::bind(fd, local.sockaddr.cast(), local.socklen) } == -1 {
            let errno = ngx_socket_errno();
            // SAFETY: an address has a name.
            let name = unsafe { bytes_of(local.name) };
            log.crit_of(errno, format_args!("bind({}) failed", super::log::Printable(name)));
            return Err(Error::Failed);
        }
        Ok(())
    }

    /// Lets the socket have an address that is not this machine's.
    fn set_transparent(self, fd: c_int) -> Result<(), Error> {
        let address = field!(self, sockaddr);
        // SAFETY: the balancer has chosen a server.
        let (level, option, name) = match c_int::from(unsafe { (*address).sa_family }) {
            libc::AF_INET => (libc::IPPROTO_IP, libc::IP_TRANSPARENT, "IP_TRANSPARENT"),
            libc::AF_INET6 => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, "IPV6_TRANSPARENT"),
            _ => return Ok(()),
        };
        set(fd, level, option, 1).map_err(|()| {
            self.log().alert_of(ngx_socket_errno(), format_args!("setsockopt({name}) failed"));
            Error::Failed
        })
    }

    /// Tries to connect the socket that [`Self::open`] made, once more if it was tried before.
    ///
    /// # Errors
    ///
    /// What connect(2) failed with.
    pub fn connect(self) -> Result<Progress, Errno> {
        let Some(c) = NonNull::new(field!(self, connection)) else {
            return Err(Errno(libc::EBADF));
        };
        let (address, length) = (field!(self, sockaddr), field!(self, socklen));
        // SAFETY: an open connection, and the balancer's address with its length.
        unsafe {
            let (c, read) = (c.as_ptr(), (*c.as_ptr()).read);
            if (*read).active() != 0 {
                // an attempt that has failed: forgotten by connecting to nothing
                let mut nothing = zeroed::<libc::sockaddr>();
                nothing.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
                libc::connect((*c).fd, &raw const nothing, size_of::<libc::sockaddr>() as u32);
            }
            self.log().debug(format_args!(
                "http rs_uwsgi connect to {}, fd:{}",
                super::log::Printable(self.name()),
                (*c).fd
            ));
            let progress = match libc::connect((*c).fd, address.cast(), length) {
                0 => Progress::Connected,
                _ => match ngx_socket_errno() {
                    libc::EINPROGRESS => Progress::Pending,
                    errno => return Err(Errno(errno)),
                },
            };
            if (*read).active() == 0 {
                watch(c, progress).map_err(|()| Errno(ngx_socket_errno()))?;
            }
            if progress == Progress::Connected {
                (*(*c).write).set_ready(1);
            }
            Ok(progress)
        }
    }

    /// What has become of an attempt that was pending.
    ///
    /// # Errors
    ///
    /// What it failed with.
    pub fn outcome(self) -> Result<Progress, Errno> {
        let c = field!(self, connection);
        let (mut errno, mut size) = (0, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: an open connection, and room for the number and for an address.
        unsafe {
            let value = (&raw mut errno).cast();
            let fd = (*c).fd;
            if libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut size) != 0 {
                return Err(Errno(ngx_socket_errno()));
            }
            if errno != 0 {
                return Err(Errno(errno));
            }
            let mut address = zeroed::<libc::sockaddr_storage>();
            let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            // the event may be that of an earlier attempt
            match libc::getpeername(fd, (&raw mut address).cast(), &raw mut size) {
                0 => Ok(Progress::Connected),
                _ => Ok(Progress::Pending),
            }
        }
    }

    /// Closes the connection that [`Self::open`] made.
    pub fn discard(self) {
        let c = field!(self, connection);
        field!(self, connection = ptr::null_mut());
        if !c.is_null() {
            // SAFETY: an open connection of this try alone.
            unsafe { close(c) };
        }
    }

    fn log(self) -> Log<'a> {
        let log = field!(self, log);
        // SAFETY: nginx's peer has the log of the client's connection.
        unsafe { Log::from_ptr(NonNull::new_unchecked(log)) }
    }

    /// Lets the request wait for a connection for up to `limit` milliseconds. [`Self::open`] has made
    /// what nginx takes for the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn wait(self, r: Request<'a>, limit: ngx_msec_t) -> Result<&'a Waiter<'a>, Error> {
        let c = field!(self, connection);
        // SAFETY: all zeros is an event that nobody waits for.
        let mut event = unsafe { zeroed::<ngx_event_t>() };
        event.data = c.cast();
        event.log = field!(self, log);
        event.handler = Some(self.hooks.on_waiter);
        let waiter = Waiter {
            r,
            peer: self,
            event: UnsafeCell::new(event),
            handler: Cell::new(None),
            since: super::now(),
            limit,
            pending: Cell::new(false),
        };
        let waiter = r.pool().place(waiter)?;
        // SAFETY: just placed, in memory that lives as long as the request. The event is deleted when
        // the try is over (`Waiter::leave`).
        unsafe {
            let waiter = waiter.as_ref();
            // when nginx is done with setting up the connection
            ngx_post_event(waiter.event.get(), &raw mut ngx_posted_events);
            Ok(waiter)
        }
    }
}

/// Sets a socket's option.
fn set(fd: c_int, level: c_int, option: c_int, value: c_int) -> Result<(), ()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the value is valid for the call.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(()),
    }
}

/// Fills in a new connection, as `ngx_event_connect_peer` does.
///
/// # Safety
///
/// `c` must be new, and `pc` a peer that a server was chosen for.
unsafe fn prepare(c: *mut ngx_connection_t, pc: *mut super::sys::ngx_peer_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*c).type_ = libc::SOCK_STREAM;
        (*c).recv = ngx_io.recv;
        (*c).send = ngx_io.send;
        (*c).recv_chain = ngx_io.recv_chain;
        (*c).send_chain = ngx_io.send_chain;
        (*c).set_sendfile(1);
        if c_int::from((*(*pc).sockaddr).sa_family) == libc::AF_UNIX {
            (*c).set_tcp_nopush(DISABLED);
            (*c).set_tcp_nodelay(DISABLED);
        }
        (*c).set_log_error((*pc).log_error());
        (*(*c).read).log = (*pc).log;
        (*(*c).write).log = (*pc).log;
        let counter = AtomicUsize::from_ptr(ngx_connection_counter.cast::<usize>());
        (*c).number = counter.fetch_add(1, Ordering::Relaxed) as super::sys::ngx_atomic_uint_t;
        (*c).start_time = ngx_current_msec;
    }
}

/// Lets nginx's event method watch a connection.
///
/// # Safety
///
/// `c` must be an open connection that is not watched.
unsafe fn watch(c: *mut ngx_connection_t, progress: Progress) -> Result<(), ()> {
    // SAFETY: the caller's promise; nginx's methods are set before any request comes.
    let status = unsafe {
        if let Some(add_conn) = ngx_event_actions.add_conn {
            add_conn(c)
        } else {
            // methods that watch reading and writing apart
            let read = ngx_handle_read_event((*c).read, 0);
            match progress {
                Progress::Pending if read == NGX_OK as isize => {
                    ngx_handle_write_event((*c).write, 0)
                }
                _ => read,
            }
        }
    };
    if status == NGX_OK as isize {
        Ok(())
    } else {
        Err(())
    }
}

/// What stands between a request that waits and its connection. In the request's memory.
pub struct Waiter<'a> {
    r: Request<'a>,
    peer: Peer<'a>,
    /// Posted once nginx is done with setting up the connection, and then the timer.
    event: UnsafeCell<ngx_event_t>,
    /// nginx's handler of the connection's events, while ours stands in its place.
    handler: Cell<ngx_event_handler_pt>,
    since: usize,
    limit: ngx_msec_t,
    pending: Cell<bool>,
}

impl<'a> Waiter<'a> {
    /// The server that it waits for.
    pub fn peer(&self) -> Peer<'a> {
        self.peer
    }

    /// Has an attempt to connect been begun, of which the outcome is not known?
    pub fn is_pending(&self) -> bool {
        self.pending.get()
    }

    /// One has, or its outcome is known.
    pub fn set_pending(&self, pending: bool) {
        self.pending.set(pending);
    }

    /// For how long it has waited, in milliseconds.
    pub fn time(&self) -> usize {
        super::now().wrapping_sub(self.since)
    }

    fn connection(&self) -> *mut ngx_connection_t {
        field!(self.peer, connection)
    }

    /// Puts our handlers in the place of nginx's, and our timer.
    ///
    /// # Safety
    ///
    /// nginx must be done with setting up the connection.
    unsafe fn settle(&self) {
        let c = self.connection();
        // SAFETY: an open connection, that of this try.
        unsafe {
            let (read, write) = ((*c).read, (*c).write);
            if self.handler.get().is_some() {
                return;
            }
            self.handler.set((*write).handler);
            (*read).handler = Some(self.peer.hooks.on_connection);
            (*write).handler = Some(self.peer.hooks.on_connection);
            if (*write).timer_set() != 0 {
                ngx_del_timer(write);
            }
            let left = (self.since + self.limit).saturating_sub(super::now());
            ngx_add_timer(self.event.get(), left);
        }
    }

    /// Gives the connection back to nginx's handlers, and ends the wait.
    fn end(&self) {
        self.leave();
        let c = self.connection();
        // SAFETY: an open connection, that of this try.
        unsafe {
            if let Some(handler) = self.handler.take() {
                (*(*c).read).handler = Some(handler);
                (*(*c).write).handler = Some(handler);
            }
        }
    }

    /// Ends the wait, whatever becomes of the connection.
    pub fn leave(&self) {
        let event = self.event.get();
        // SAFETY: the waiter's own event.
        unsafe {
            if (*event).timer_set() != 0 {
                ngx_del_timer(event);
            }
            if (*event).posted() != 0 {
                ngx_delete_posted_event(event);
            }
        }
    }

    fn post_write(&self) {
        // SAFETY: an open connection, that of this try.
        unsafe {
            let write = (*self.connection()).write;
            ngx_post_event(write, &raw mut ngx_posted_events);
        }
    }

    /// The connection is there, or will be: the request goes on.
    pub fn proceed(&self, progress: Progress) {
        self.end();
        match progress {
            Progress::Connected => self.post_write(),
            Progress::Pending => {
                let timeout = self.r.loc_conf().upstream.connect_timeout;
                // SAFETY: an open connection, that of this try.
                unsafe { ngx_add_timer((*self.connection()).write, timeout) };
            }
        }
    }

    /// The request gets a connection from the pool. `again`: if it turns out to be dead, nginx tries
    /// once more.
    pub fn attach(&self, idle: Idle, again: bool) {
        self.end();
        let old = self.connection();
        self.peer.attach(idle, again);
        let new = self.connection();
        // SAFETY: two open connections. What nginx has set in the one that it took for the request's,
        // in ngx_http_upstream_connect, is set in the other.
        unsafe {
            (*new).data = (*old).data;
            (*(*new).read).handler = (*(*old).read).handler;
            (*(*new).write).handler = (*(*old).write).handler;
            (*new).requests += 1;
            (*new).set_sendfile((*new).sendfile() & (*old).sendfile());
            if (*old).tcp_nopush() == DISABLED {
                (*new).set_tcp_nopush(DISABLED);
            }
            let r = self.r.as_ptr();
            let u = (*r).upstream;
            (*u).output.set_sendfile((*new).sendfile());
            (*u).writer.connection = new;
            close(old);
        }
        self.post_write();
    }

    /// The server cannot be connected to; the log says so. nginx asks the next one or answers 502.
    pub fn fail(&self) {
        self.end();
        let c = self.connection();
        // nginx looks at the socket itself, and must find that it failed. The log line for it,
        // which would tell of a reset that never was, is one that can be switched off.
        // SAFETY: an open connection, that of this try.
        unsafe {
            break_socket((*c).fd);
            (*c).set_log_error(super::sys::ngx_connection_log_error_e_NGX_ERROR_IGNORE_ECONNRESET);
        }
        self.post_write();
    }

    /// The wait is over for nginx: it asks the next server or answers 504.
    pub fn time_out(&self) {
        self.end();
        // SAFETY: an open connection, that of this try.
        unsafe { (*(*self.connection()).write).set_timedout(1) };
        self.post_write();
    }
}

/// Puts a socket in this one's place that was reset by its other end.
///
/// # Safety
///
/// `fd` must be a socket of which epoll does not know, or needs not to know any more.
unsafe fn break_socket(fd: c_int) {
    let mut pair = [0; 2];
    // SAFETY: room for two numbers, and descriptors that are ours.
    unsafe {
        if libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
            0,
            pair.as_mut_ptr(),
        ) == -1
        {
            return;
        }
        // an end that is closed with bytes unread resets the other one
        libc::write(pair[0], b"x".as_ptr().cast(), 1);
        libc::close(pair[1]);
        libc::dup2(pair[0], fd);
        libc::close(pair[0]);
    }
}

/// A request in the queue. It is there as long as its try waits: whoever ends the try takes it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    waiter: NonNull<Waiter<'static>>,
}

impl Waiting {
    /// The entry of a request that begins to wait.
    pub fn of(waiter: &Waiter<'_>) -> Waiting {
        Waiting { waiter: NonNull::from(waiter).cast() }
    }

    /// Runs safe code on the request. None where it panicked.
    pub fn with<T>(&self, run: impl for<'a> FnOnce(Request<'a>, &'a Waiter<'a>) -> T) -> Option<T> {
        let waiter = self.waiter.as_ptr().cast::<Waiter<'_>>();
        // SAFETY: the request waits, so it is alive, and with it its memory; nginx is done with
        // setting up its connection, since other events are handled.
        unsafe {
            (*waiter).settle();
            let r = (*waiter).r;
            r.make_current();
            with_request(r.as_ptr(), None, |_| Some(run(r, &*waiter)))
        }
    }
}

/// The event of the connection that nginx takes for a waiting request's.
pub(super) unsafe extern "C" fn on_connection<H: UpstreamHandler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with an event of a connection that `settle` has changed, whose data nginx
    // has set to the request.
    let (r, leaving) = unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        ((*c).data.cast(), (*c).close() != 0)
    };
    run(r, |r| match leaving {
        // the worker is leaving, and waits no longer
        true => H::waited_in_vain(r),
        false => H::connection_made(r),
    });
}

/// The event of a waiter.
pub(super) unsafe extern "C" fn on_waiter<H: UpstreamHandler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of a waiter, whose data are the connection, whose data nginx
    // has set to the request.
    let r = unsafe { (*(*event).data.cast::<ngx_connection_t>()).data.cast() };
    run(r, |r| {
        let Some(waiter) = r.context().and_then(|context| context.waiter.get()) else { return };
        // SAFETY: events are handled when nginx is done with what it did before.
        unsafe { waiter.settle() };
        if waiter.time() >= waiter.limit {
            H::waited_in_vain(r);
        }
    });
}

/// Runs safe code on a request, from an event that is not of its client.
fn run(r: *mut super::sys::ngx_http_request_t, run: impl FnOnce(Request<'_>)) {
    with_request(r, (), |r| {
        r.make_current();
        let client = r.client();
        run(r);
        client.run_posted();
    });
}

/// The event at which the requests of an upstream look for connections again.
pub(super) struct Wake {
    event: UnsafeCell<ngx_event_t>,
    data: UnsafeCell<WakeData>,
}

/// What the event points to. nginx's debug log looks for a descriptor there, as in a connection.
#[repr(C)]
struct WakeData {
    servers: *const Servers,
    _unused: [*mut c_void; 2],
    fd: c_int,
}

const _: () = assert!(offset_of!(WakeData, fd) == offset_of!(ngx_connection_t, fd));

impl Wake {
    pub(super) fn new<H: UpstreamHandler>() -> Wake {
        // SAFETY: all zeros is an event that nobody waits for.
        let mut event = unsafe { zeroed::<ngx_event_t>() };
        event.handler = Some(on_wake::<H>);
        let data = WakeData { servers: ptr::null(), _unused: [ptr::null_mut(); 2], fd: -1 };
        Wake { event: UnsafeCell::new(event), data: UnsafeCell::new(data) }
    }
}

impl Servers {
    /// The event, ready for use.
    fn wake_event(&self) -> *mut ngx_event_t {
        let (event, data) = (self.wake.event.get(), self.wake.data.get());
        // SAFETY: the event is this upstream's, which does not move any more; a worker has a cycle,
        // and a cycle a log.
        unsafe {
            (*data).servers = ptr::from_ref(self);
            (*event).data = data.cast();
            (*event).log = (*ngx_cycle).log;
        }
        event
    }

    /// Lets the requests that wait look for connections, after the event that is being handled.
    pub fn wake_soon(&self) {
        // SAFETY: see `wake_event`.
        unsafe { ngx_post_event(self.wake_event(), &raw mut ngx_posted_events) };
    }

    /// Lets them look in so many milliseconds.
    pub fn wake_in(&self, pause: ngx_msec_t) {
        let event = self.wake_event();
        // SAFETY: see `wake_event`.
        unsafe {
            if (*event).timer_set() != 0 {
                // nginx would leave it as it is: it takes so short times for the same
                ngx_del_timer(event);
            }
            ngx_add_timer(event, pause);
        }
    }

    /// Nobody waits any more.
    pub fn let_sleep(&self) {
        let event = self.wake_event();
        // SAFETY: see `wake_event`.
        unsafe {
            if (*event).timer_set() != 0 {
                ngx_del_timer(event);
            }
            if (*event).posted() != 0 {
                ngx_delete_posted_event(event);
            }
        }
    }
}

unsafe extern "C" fn on_wake<H: UpstreamHandler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of an upstream, which `wake_event` made ready, and which
    // lives as long as requests wait.
    let servers = unsafe { &*(*(*event).data.cast::<WakeData>()).servers };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| H::wake(servers))) {
        // SAFETY: a worker has a cycle, and a cycle a log.
        let log = unsafe { Log::from_ptr(NonNull::new_unchecked((*ngx_cycle).log)) };
        log_panic(log, &*panic);
    }
}
