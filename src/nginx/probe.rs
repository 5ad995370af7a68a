//! Probes: a connection of its own to a server that is checked, from time to time, with none of a request's
//! machinery.

use core::cell::{Cell, RefCell, UnsafeCell};
use core::ffi::{c_int, c_void};
use core::mem::{offset_of, zeroed};
use core::ptr;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::callbacks::log_panic;
use super::connect::{connect_socket, outcome, watch, Errno, Progress};
use super::connection::close;
use super::module::{Handler, Module};
use super::own::{connection_of_its_own, receive, send, Moved};
use super::resolved::Current;
use super::servers::Servers;
use super::shake::{self, Shaken, TlsClient};
use super::status::OK;
use super::sys::{
    ngx_add_timer, ngx_connection_t, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event,
    ngx_log_t, ngx_socket_errno,
};
use super::wake::cancel;
use super::Log;
use crate::pure::health::answer::MOST_ANSWER;
use crate::pure::health::{Failure, Phase, Reading};

/// What a module does with probes.
pub trait Prober: Module {
    /// A worker begins, or the servers are others. Returns those that it probes from now on.
    fn probed(servers: &Servers<Self>, now: Vec<Current>) -> Vec<Probed<Self>>;
    /// It is time for a probe.
    fn probe_turn(servers: &Servers<Self>, server: &Self::Probed) -> Turn;
    /// How the servers speak TLS; None where they do not, or it does not matter.
    fn probe_tls(servers: &Servers<Self>) -> Option<&TlsClient>;
    /// What a probe sends; where this is nothing, it ends when it is connected.
    fn probe_packet(servers: &Servers<Self>) -> &[u8];
    /// Is an answer read to its end, also when it is known what it says?
    fn reads_on(servers: &Servers<Self>) -> bool;
    /// What the server has answered so far, and whether this is all.
    fn read_probe(servers: &Servers<Self>, bytes: &[u8], ended: bool) -> Reading;
    /// A probe has ended. Returns the pause until the next, in milliseconds.
    fn probe_ended(
        servers: &Servers<Self>,
        server: &Self::Probed,
        result: Result<Well, Failure>,
    ) -> usize;
    /// This worker will not probe any more.
    fn leave_probes(servers: &Servers<Self>);
}

/// A server that a worker probes.
pub struct Probed<H: Module> {
    /// What the module knows it by.
    pub server: H::Probed,
    /// Its address.
    pub address: Box<[u8]>,
    /// After which pause it is probed for the first time, in milliseconds.
    pub pause: usize,
}

/// What a worker does when it is time for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It probes, for so many milliseconds at most.
    Probe(usize),
    /// It looks again in so many milliseconds.
    Wait(usize),
}

/// How a probe has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Well {
    /// The server has answered as it should.
    Passed,
    /// See [`Reading::Reached`].
    Reached,
}

/// A server that is probed, by one worker.
#[repr(C)]
pub(super) struct Probe<H: Module> {
    servers: *const Servers<H>,
    // nginx's debug log looks for a descriptor in what a timer points to, as in a connection
    _unused: [*mut c_void; 2],
    fd: c_int,
    server: H::Probed,
    address: Box<[u8]>,
    /// The next probe, or the end of the time of the one in hand.
    timer: UnsafeCell<ngx_event_t>,
    connection: Cell<*mut ngx_connection_t>,
    phase: Cell<Phase>,
    sent: Cell<usize>,
    answer: RefCell<Vec<u8>>,
    /// Bytes that came after it was decided.
    surplus: Cell<usize>,
    result: Cell<Option<Result<Well, Failure>>>,
}

/// A response is read to its end, so that the application can write it; but not more of it than this.
const MOST_SURPLUS: usize = 1 << 16;

impl<H: Module> Probe<H> {
    /// Nothing happens any more.
    fn stop(&self) {
        // SAFETY: a timer that nginx may know.
        unsafe { cancel(self.timer.get()) };
        self.disconnect();
    }

    fn disconnect(&self) {
        let c = self.connection.replace(ptr::null_mut());
        if !c.is_null() {
            // SAFETY: an open connection of this probe alone, without a pool.
            unsafe { close(c) };
        }
    }
}

impl<H: Module> Drop for Probe<H> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<H: Handler> Probe<H> {
    /// Of one server, from the end of its first pause on.
    pub(super) fn begin(servers: &Servers<H>, probed: Probed<H>, log: *mut ngx_log_t) -> Box<Self> {
        let pause = probed.pause;
        let probe = Box::new(Probe::new(servers, probed, log));
        probe.look_in(pause);
        probe
    }

    fn new(servers: &Servers<H>, probed: Probed<H>, log: *mut ngx_log_t) -> Self {
        let Probed { server, address, .. } = probed;
        const { assert!(offset_of!(Probe<H>, fd) == offset_of!(ngx_connection_t, fd)) };
        // SAFETY: all zeros is an event that nobody waits for.
        let mut timer = unsafe { zeroed::<ngx_event_t>() };
        timer.handler = Some(on_timer::<H>);
        timer.log = log;
        // SAFETY: it is valid, and nobody else has it. A worker that is to end does not wait for it.
        unsafe { flag!(&raw mut timer, cancelable = 1) };
        Probe {
            servers: ptr::from_ref(servers),
            _unused: [ptr::null_mut(); 2],
            fd: -1,
            server,
            address,
            timer: UnsafeCell::new(timer),
            connection: Cell::new(ptr::null_mut()),
            phase: Cell::new(Phase::Connecting),
            sent: Cell::new(0),
            answer: RefCell::default(),
            surplus: Cell::new(0),
            result: Cell::new(None),
        }
    }

    fn servers(&self) -> &Servers<H> {
        // SAFETY: the servers have the probe, and do not move.
        unsafe { &*self.servers }
    }

    /// Sets the timer.
    fn look_in(&self, pause: usize) {
        let timer = self.timer.get();
        // SAFETY: the probe has its place in memory until it is dropped, which takes the timer away.
        unsafe {
            (*timer).data = ptr::from_ref(self).cast_mut().cast();
            cancel(timer);
            ngx_add_timer(timer, pause);
        }
    }

    /// The timer has ended.
    fn on_time(&self) {
        if !self.connection.get().is_null() {
            let result = self.result.take();
            return self.finish(result.unwrap_or(Err(Failure::TimedOut(self.phase.get()))));
        }
        if super::is_exiting() {
            return H::leave_probes(self.servers());
        }
        match H::probe_turn(self.servers(), &self.server) {
            Turn::Wait(pause) => self.look_in(pause),
            Turn::Probe(timeout) => {
                self.look_in(timeout);
                match self.connect() {
                    Ok(Some(Progress::Connected)) => self.connected(),
                    // without a connection this worker is to blame; the log has the reason
                    Ok(Some(Progress::Pending) | None) => {}
                    Err(Errno(errno)) => {
                        self.finish(Err(Failure::System(Phase::Connecting, errno)));
                    }
                }
            }
        }
    }

    /// Begins to connect. None where this worker has no connection to spare: the timer ends the probe then,
    /// and it is as if there had been none.
    fn connect(&self) -> Result<Option<Progress>, Errno> {
        self.phase.set(Phase::Connecting);
        self.sent.set(0);
        self.answer.borrow_mut().clear();
        self.surplus.set(0);
        self.result.set(None);
        // SAFETY: the worker's log. The connection is this probe's, which takes its events.
        unsafe {
            let c = match connection_of_its_own(&self.address, (*self.timer.get()).log) {
                Ok(Some(c)) => c.as_ptr(),
                Ok(None) => return Ok(None),
                Err(Errno(errno)) => {
                    Log::of_worker().alert_of(errno, format_args!("socket() failed"));
                    return Ok(None);
                }
            };
            self.connection.set(c);
            (*c).data = ptr::from_ref(self).cast_mut().cast();
            self.take_events();
            let progress = connect_socket((*c).fd, &self.address)?;
            watch(c, progress).map_err(|()| Errno(ngx_socket_errno()))?;
            Ok(Some(progress))
        }
    }

    /// Has this probe told of what happens to its connection.
    ///
    /// # Safety
    ///
    /// There must be one, and it must be open.
    unsafe fn take_events(&self) {
        let c = self.connection.get();
        // SAFETY: the caller's promise; an open connection has both events.
        unsafe {
            for event in [(*c).read, (*c).write] {
                (*event).handler = Some(on_event::<H>);
            }
        }
    }

    /// Something has happened to the connection.
    fn on_event(&self) {
        if super::is_exiting() {
            self.stop();
            return H::leave_probes(self.servers());
        }
        if self.phase.get() == Phase::Connecting {
            // SAFETY: an open connection.
            match outcome(unsafe { (*self.connection.get()).fd }) {
                Ok(Progress::Connected) => return self.connected(),
                Ok(Progress::Pending) => return,
                Err(Errno(errno)) => {
                    return self.finish(Err(Failure::System(Phase::Connecting, errno)));
                }
            }
        }
        self.go_on();
    }

    /// The connection is made.
    fn connected(&self) {
        let servers = self.servers();
        if H::probe_packet(servers).is_empty() {
            return self.finish(Ok(Well::Passed));
        }
        if let Some(tls) = H::probe_tls(servers) {
            self.phase.set(Phase::Handshaking);
            // SAFETY: an open connection without a pool, whose data is this probe.
            let shaken = unsafe {
                shake::begin(tls, self.connection.get(), servers.host(), Some(on_shaken::<H>))
            };
            return self.shaken(shaken);
        }
        self.phase.set(Phase::Sending);
        self.go_on();
    }

    /// A handshake has come so far.
    fn shaken(&self, shaken: Shaken) {
        match shaken {
            Shaken::Done => {
                // SAFETY: an open connection, whose events nginx had for the handshake.
                unsafe { self.take_events() };
                self.phase.set(Phase::Sending);
                self.go_on();
            }
            Shaken::Pending => {}
            Shaken::Failed(fault) => self.finish(Err(Failure::Tls(fault))),
            // this worker is to blame: the timer ends the probe
            Shaken::Not => self.disconnect(),
        }
    }

    /// Sends and reads what can be.
    fn go_on(&self) {
        self.send();
        match self.phase.get() {
            Phase::Reading => self.receive(),
            _ => self.wait(),
        }
    }

    /// Sends what there is room for. Once that is all, the answer is read.
    fn send(&self) {
        let packet = H::probe_packet(self.servers());
        while self.phase.get() == Phase::Sending {
            let rest = packet.get(self.sent.get()..).unwrap_or_default();
            if rest.is_empty() {
                return self.phase.set(Phase::Reading);
            }
            // SAFETY: an open connection.
            match unsafe { send(self.connection.get(), rest) } {
                Moved::Bytes(count) => self.sent.set(self.sent.get() + count),
                Moved::Not => return,
                // it may have answered before it had read all
                Moved::Failed(_) => self.phase.set(Phase::Reading),
            }
        }
    }

    /// Reads what has come.
    fn receive(&self) {
        let mut buffer = [0_u8; MOST_ANSWER];
        loop {
            // SAFETY: an open connection.
            let bytes = match unsafe { receive(self.connection.get(), &mut buffer) } {
                Moved::Bytes(count) => buffer.get(..count).unwrap_or_default(),
                Moved::Not => return self.wait(),
                Moved::Failed(errno) => {
                    let failed = Err(Failure::System(Phase::Reading, errno));
                    return self.finish(self.result.take().unwrap_or(failed));
                }
            };
            if let Some(result) = self.read(bytes) {
                return self.finish(result);
            }
        }
    }

    /// Reads what has come: nothing at the end. Returns the result where the probe is over.
    fn read(&self, bytes: &[u8]) -> Option<Result<Well, Failure>> {
        let ended = bytes.is_empty();
        if let Some(result) = self.result.take() {
            self.surplus.set(self.surplus.get() + bytes.len());
            if ended || self.surplus.get() > MOST_SURPLUS {
                return Some(result);
            }
            self.result.set(Some(result));
            return None;
        }
        let mut answer = self.answer.borrow_mut();
        let room = MOST_ANSWER - answer.len().min(MOST_ANSWER);
        answer.extend(bytes.iter().take(room));
        let result = match H::read_probe(self.servers(), &answer, ended) {
            Reading::More => return None,
            Reading::Passed => Ok(Well::Passed),
            Reading::Reached => Ok(Well::Reached),
            Reading::Failed(failure) => Err(failure),
        };
        if ended || !H::reads_on(self.servers()) {
            return Some(result);
        }
        self.result.set(Some(result));
        None
    }

    /// Lets nginx say when there is more to do.
    fn wait(&self) {
        let c = self.connection.get();
        let sends = self.phase.get() == Phase::Sending;
        // SAFETY: an open connection, which is watched.
        let watched = unsafe {
            let (read, write) = ((*c).read, (*c).write);
            flag!(read, ready = 0);
            flag!(write, ready = u32::from(!sends));
            ngx_handle_read_event(read, 0) == OK && ngx_handle_write_event(write, 0) == OK
        };
        if !watched {
            self.disconnect();
        }
    }

    /// The probe has ended.
    fn finish(&self, result: Result<Well, Failure>) {
        self.disconnect();
        let pause = H::probe_ended(self.servers(), &self.server, result);
        self.look_in(pause);
    }
}

/// Runs a step of a probe.
fn with<H: Handler>(probe: &Probe<H>, run: impl FnOnce(&Probe<H>)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(probe))) {
        log_panic(Log::of_worker(), &*panic);
        probe.disconnect();
        probe.look_in(1000);
    }
}

unsafe extern "C" fn on_timer<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with the timer of a probe, which `look_in` made ready.
    with(unsafe { &*(*event).data.cast::<Probe<H>>() }, Probe::on_time);
}

unsafe extern "C" fn on_event<H: Handler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls with an event of a connection that `connect` made.
    let probe = unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        &*(*c).data.cast::<Probe<H>>()
    };
    if !probe.connection.get().is_null() {
        with(probe, Probe::on_event);
    }
}

/// A handshake that was pending has ended.
unsafe extern "C" fn on_shaken<H: Handler>(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls with a connection that `connect` made.
    let probe = unsafe { &*(*c).data.cast::<Probe<H>>() };
    let (servers, connection) = (probe.servers(), probe.connection.get());
    if let Some(tls) = H::probe_tls(servers).filter(|_| !connection.is_null()) {
        // SAFETY: it is open until the probe closes it.
        let shaken = unsafe { shake::ended(tls, connection, servers.host()) };
        with(probe, |probe| probe.shaken(shaken));
    }
}
