//! Requests that wait for a connection.
//!
//! For nginx a request that waits is one whose connection is being made: `peer.get` returns NGX_AGAIN
//! and a connection, of whose socket epoll does not know yet. nginx has nothing to do then but to wait
//! for its write event, for as long as the client and `rs_uwsgi_connect_timeout` do. The event comes
//! when the request has got its connection ([`Waiter::proceed`], [`Waiter::attach`]), and the timer is
//! ours.

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_int;
use core::mem::zeroed;
use core::num::NonZeroU64;
use core::ptr::NonNull;

use super::callbacks::{with_request, with_step, Next};
use super::connect::{Progress, DISABLED};
use super::connection::{close, Idle};
use super::module::{Handler, Module};
use super::peer::{IfDead, Peer};
use super::request::go_on;
use super::servers::Servers;
use super::sys::{
    ngx_add_timer, ngx_connection_t, ngx_del_timer, ngx_event_handler_pt, ngx_event_t, ngx_msec_t,
    ngx_post_event, ngx_posted_events,
};
use super::wake::cancel;
use super::{Error, Request};

/// What a module does with requests that wait for a connection.
pub trait QueueHandler: Module {
    /// The connection that a waiting request has been making is there, or it failed.
    fn on_connect_event(r: Request<'_>);
    /// The time is up after which its outcome is looked after ([`Waiter::look_in`]).
    fn on_slow_connect(r: Request<'_>);
    /// The time is up for which a request may wait for a connection.
    fn on_queue_timeout(r: Request<'_>) -> Next;
    /// Requests that wait for a connection may find one now.
    fn wake(servers: &Servers<Self>);
}

/// What stands between a request that waits and its connection. In the request's memory.
pub struct Waiter<'a, H: Module> {
    r: Request<'a>,
    peer: Peer<'a, H>,
    /// Posted once nginx is done with setting up the connection, and then the timer.
    event: UnsafeCell<ngx_event_t>,
    /// nginx's handler of the connection's events, while ours stands in its place.
    handler: Cell<ngx_event_handler_pt>,
    since: usize,
    arrived_at: NonZeroU64,
    limit: Cell<ngx_msec_t>,
    /// When its attempt to connect is looked after, in milliseconds since it began to wait.
    look_at: Cell<Option<ngx_msec_t>>,
    pending: Cell<bool>,
    /// Has it got a connection of the pool, on which it goes on before anything else happens?
    goes_on: Cell<bool>,
}

impl<'a, H: Handler> Peer<'a, H> {
    /// Lets the request wait for a connection for up to `limit` milliseconds. [`Self::open`] has made
    /// what nginx takes for the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when memory runs out.
    pub fn wait(self, r: Request<'a>, limit: ngx_msec_t) -> Result<&'a Waiter<'a, H>, Error> {
        let c = field!(self, connection);
        // SAFETY: all zeros is an event that nobody waits for.
        let mut event = unsafe { zeroed::<ngx_event_t>() };
        event.data = c.cast();
        event.log = field!(self, log);
        event.handler = Some(on_waiter::<H>);
        let waiter = Waiter {
            r,
            peer: self,
            event: UnsafeCell::new(event),
            handler: Cell::new(None),
            since: super::now(),
            arrived_at: super::monotonic_nanoseconds(),
            limit: Cell::new(limit),
            look_at: Cell::new(None),
            pending: Cell::new(false),
            goes_on: Cell::new(false),
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

impl<'a, H: Handler> Waiter<'a, H> {
    /// The server that it waits for.
    pub fn peer(&self) -> Peer<'a, H> {
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

    /// The attempt to connect is looked after in so many milliseconds, if its outcome is not known by then
    /// ([`QueueHandler::on_slow_connect`]).
    pub fn look_in(&self, time: ngx_msec_t) {
        self.look_at.set(Some(self.time() + time));
        if self.handler.get().is_some() {
            // else it is set when nginx is done with setting up the connection
            self.set_timer();
        }
    }

    fn set_timer(&self) {
        let limit = self.limit.get();
        let end = self.look_at.get().map_or(limit, |at| at.min(limit));
        let event = self.event.get();
        // SAFETY: the waiter's own event, and nginx's timers.
        unsafe {
            // nginx leaves a timer as it is where the new one is almost the same
            if flag!(event, timer_set) != 0 {
                ngx_del_timer(event);
            }
            ngx_add_timer(event, end.saturating_sub(self.time()));
        }
    }

    /// It may wait no longer, once nginx is done with setting up its connection.
    pub fn expire(&self) {
        self.limit.set(0);
    }

    /// It may wait no longer, whatever its time.
    pub fn give_up(&self) {
        self.expire();
        // SAFETY: the waiter's own event, which is deleted when the wait is over.
        unsafe { ngx_post_event(self.event.get(), &raw mut ngx_posted_events) };
    }

    /// When it began to wait, by the clock of [`super::monotonic_nanoseconds`].
    pub fn arrived_at(&self) -> NonZeroU64 {
        self.arrived_at
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
    unsafe fn take_over_events(&self) {
        let c = self.connection();
        // SAFETY: an open connection, that of this try.
        unsafe {
            let (read, write) = ((*c).read, (*c).write);
            if self.handler.get().is_some() {
                return;
            }
            self.handler.set((*write).handler);
            (*read).handler = Some(on_connection::<H>);
            (*write).handler = Some(on_connection::<H>);
            if flag!(write, timer_set) != 0 {
                ngx_del_timer(write);
            }
        }
        self.set_timer();
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
        // SAFETY: the waiter's own event.
        unsafe { cancel(self.event.get()) };
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
                let timeout = self.peer.state().upstream.connect_timeout();
                // SAFETY: an open connection, that of this try.
                unsafe { ngx_add_timer((*self.connection()).write, timeout) };
            }
        }
    }

    /// The request gets a connection from the pool.
    pub fn attach(&self, idle: Idle, if_dead: IfDead) {
        self.end();
        let old = self.connection();
        self.peer.attach(idle, if_dead);
        let new = self.connection();
        // SAFETY: two open connections. What nginx has set in the one that it took for the request's,
        // in ngx_http_upstream_connect, is set in the other.
        unsafe {
            (*new).data = (*old).data;
            (*(*new).read).handler = (*(*old).read).handler;
            (*(*new).write).handler = (*(*old).write).handler;
            (*new).requests += 1;
            flag!(new, sendfile = flag!(new, sendfile) & flag!(old, sendfile));
            if flag!(old, tcp_nopush) == DISABLED {
                flag!(new, tcp_nopush = DISABLED);
            }
            let u = self.peer.state().upstream.as_ptr();
            flag!(&raw mut (*u).output, sendfile = flag!(new, sendfile));
            (*u).writer.connection = new;
            close(old);
        }
        self.goes_on.set(true);
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
            flag!(
                c,
                log_error = super::sys::ngx_connection_log_error_e_NGX_ERROR_IGNORE_ECONNRESET
            );
        }
        self.post_write();
    }

    /// The wait is over for nginx: it asks the next server or answers 504.
    pub fn time_out(&self) {
        self.end();
        // SAFETY: an open connection, that of this try.
        unsafe { flag!((*self.connection()).write, timedout = 1) };
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
pub struct Waiting<H: Module> {
    waiter: NonNull<Waiter<'static, H>>,
}

impl<H: Handler> Waiting<H> {
    /// The entry of a request that begins to wait.
    pub fn of(waiter: &Waiter<'_, H>) -> Waiting<H> {
        Waiting { waiter: NonNull::from(waiter).cast() }
    }

    /// Is it this request's?
    pub fn is_of(&self, waiter: &Waiter<'_, H>) -> bool {
        self.waiter == NonNull::from(waiter).cast()
    }

    /// Runs safe code on the request. None where it panicked. Where the request has got a connection of the
    /// pool it goes on, and may be gone after this.
    pub fn with<T>(
        &self,
        run: impl for<'a> FnOnce(Request<'a>, &'a Waiter<'a, H>) -> T,
    ) -> Option<T> {
        let waiter = self.waiter.as_ptr().cast::<Waiter<'_, H>>();
        // SAFETY: the request waits, so it is alive, and with it its memory; nginx is done with
        // setting up its connection, since other events are handled.
        unsafe {
            (*waiter).take_over_events();
            let r = (*waiter).r;
            r.make_current();
            let result = with_request(r.as_ptr(), None, |_| Some(run(r, &*waiter)));
            if (*waiter).goes_on.take() {
                // What a server sends to nobody between the last look at a connection and the request
                // would be the request's answer. So its event is not posted, behind others.
                let write = (*(*waiter).connection()).write;
                if let Some(handler) = (*write).handler {
                    handler(write);
                }
            }
            result
        }
    }
}

/// The event of the connection that nginx takes for a waiting request's.
pub(super) unsafe extern "C" fn on_connection<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with an event of a connection that `take_over_events` has changed, whose data nginx
    // has set to the request.
    let (r, leaving) = unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        ((*c).data.cast(), flag!(c, close) != 0)
    };
    let step = if leaving { "on_queue_timeout" } else { "on_connect_event" };
    run::<H>(r, step, |r| match leaving {
        // the worker is leaving, and waits no longer
        true => H::on_queue_timeout(r),
        false => {
            H::on_connect_event(r);
            Next::Wait
        }
    });
}

/// The event of a waiter.
pub(super) unsafe extern "C" fn on_waiter<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the event of a waiter, whose data are the connection, whose data nginx
    // has set to the request.
    let r = unsafe { (*(*event).data.cast::<ngx_connection_t>()).data.cast() };
    run::<H>(r, "on_queue_timeout", |r| {
        let Some(waiter) = r.state::<H>().and_then(|state| state.waiter.get()) else {
            return Next::Wait;
        };
        // SAFETY: events are handled when nginx is done with what it did before.
        unsafe { waiter.take_over_events() };
        let time = waiter.time();
        if time >= waiter.limit.get() {
            return H::on_queue_timeout(r);
        }
        if waiter.look_at.get().is_some_and(|at| at <= time) {
            waiter.look_at.set(None);
            if waiter.is_pending() {
                H::on_slow_connect(r);
            }
            waiter.set_timer();
        }
        Next::Wait
    });
}

/// Runs safe code on a request, from an event that is not of its client.
fn run<H: Module>(
    r: *mut super::sys::ngx_http_request_t,
    step: &'static str,
    run: impl FnOnce(Request<'_>) -> Next,
) {
    let done = with_step::<H, _>(r, step, None, |r| {
        r.make_current();
        Some((r.client(), run(r)))
    });
    let Some((client, next)) = done else { return };
    // SAFETY: nginx's request, and the last thing that is done with it here.
    unsafe { go_on(r, next) };
    client.run_posted();
}
