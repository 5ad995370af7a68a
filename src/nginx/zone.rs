//! The zone of memory that all workers share (`ngx_shared_memory_add`), and the worker's cells in it.
//!
//! What is in the zone, and by which rules, says [`crate::pure::zone`].

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::io;

use super::bell;
use super::conf::{Conf, Error};
use super::module::{buffer_tag, context_index, MainConf, Module};
use super::probe::Prober;
use super::servers::Servers;
use super::status::{ERROR, OK};
use super::sys::{
    ngx_close_connection, ngx_connection_t, ngx_core_conf_t, ngx_core_module, ngx_cycle_t,
    ngx_http_conf_ctx_t, ngx_http_module, ngx_int_t, ngx_process, ngx_shared_memory_add,
    ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_page_t, ngx_slab_pool_t, NGX_PROCESS_SINGLE,
    NGX_PROCESS_WORKER,
};
use super::{str_of, Log};
use crate::pure::zone::{
    Busy, Generation, Host, Layout, Process, Rung, Shape, SlotId, Worker, Zone,
};

/// What a module does when another worker has rung.
pub trait ZoneOwner: Module {
    /// A configuration is in force: makes the slots of its servers, as far as their keys are known, and keeps
    /// those that there are.
    fn keep_slots(servers: &Servers<Self>, zone: &Zone<'_>, generation: Generation);

    /// Another worker has something for the requests that wait here, or asks for an idle connection.
    fn on_ring(servers: &Servers<Self>, rung: Rung);
}

/// `…_zone SIZE | off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// There is no zone.
    Off,
    /// So many bytes.
    Bytes(usize),
}

/// The zone of a configuration.
#[derive(Debug, Default)]
pub struct ZoneConf {
    /// Its size, where it is configured.
    pub size: Option<Size>,
    layout: Option<Layout>,
    memory: Cell<Option<Memory>>,
}

/// The zone's memory, and the number of the configuration in it.
#[derive(Clone, Copy, Debug)]
struct Memory {
    words: NonNull<[AtomicU64]>,
    generation: Generation,
}

/// Workers and servers are rounded up, so that few reloads need a new zone.
fn shape(workers: usize, servers: usize, counters: usize, shared: usize) -> Shape {
    Shape {
        // those of before a reload are there for a while
        workers: (2 * workers + 8).next_power_of_two().clamp(16, Shape::MOST_WORKERS),
        servers: (2 * servers).next_power_of_two().clamp(64, Shape::MOST_SERVERS),
        counters,
        shared,
    }
}

/// What nginx's allocator keeps of a zone for itself: a descriptor for each page, and its head, in bytes.
const DESCRIPTOR: usize = size_of::<ngx_slab_page_t>();
const HEAD: usize = 4096;

/// The bytes of a zone in which so many can be used.
fn with_overhead(bytes: usize) -> usize {
    let page = super::page_size();
    let pages = bytes.div_ceil(page) + 1;
    (pages * (page + DESCRIPTOR) + HEAD).next_multiple_of(page)
}

/// The bytes that can be used in a zone of so many.
fn usable(bytes: usize) -> usize {
    let page = super::page_size();
    (bytes.saturating_sub(HEAD) / (page + DESCRIPTOR)).saturating_sub(1) * page
}

impl Conf<'_> {
    /// Adds the zone to the configuration, with room for so many servers, and for so many others that have a
    /// place as servers have, each with counters of a worker and words of all workers, unless it is switched
    /// off.
    ///
    /// # Errors
    ///
    /// A size that is too small for them.
    pub fn add_zone<H: Module>(
        self,
        servers: usize,
        others: usize,
        counters: usize,
        shared: usize,
    ) -> Result<(), Error> {
        let places = servers + others;
        let size = self.with_main_conf::<H, _>(|main| main.zone.size);
        if size == Some(Size::Off) {
            return Ok(());
        }
        let mut shape = shape(self.worker_processes(), places, counters, shared);
        let layout = Layout::new(shape).ok_or(Error::Logged)?;
        let bytes = match size {
            Some(Size::Bytes(bytes)) => {
                shape.servers = layout.servers_in(usable(bytes));
                if shape.servers < places.max(1) {
                    let needed = Layout::new(Shape { servers: places.max(1), ..shape });
                    return Err(self.error(format_args!(
                        "\"rs_uwsgi_zone\" of {bytes} bytes is too small for {servers} servers, {} would \
                         do",
                        needed.map_or(0, |layout| with_overhead(layout.bytes())),
                    )));
                }
                bytes
            }
            _ => with_overhead(layout.bytes()),
        };
        let layout = Layout::new(shape).ok_or(Error::Logged)?;
        // of another shape, it is another zone; the blank is in no name of a configuration
        let name = format!("rs_uwsgi {}/{}/{counters}/{shared}", shape.workers, shape.servers);
        let name = self.pool().copy(name.as_bytes()).map_err(|_| Error::Logged)?;
        let tag = buffer_tag::<H>();
        // SAFETY: the parser is valid, and the name lives as long as the configuration.
        let zone = unsafe { ngx_shared_memory_add(self.as_ptr(), &mut str_of(name), bytes, tag) };
        let Some(zone) = NonNull::new(zone) else { return Err(Error::Logged) };
        let main = self.with_main_conf::<H, _>(|main| {
            main.zone.layout = Some(layout);
            ptr::from_mut(main)
        });
        // SAFETY: just got; the main configuration lives as long as the zone of it.
        unsafe {
            (*zone.as_ptr()).init = Some(init_zone::<H>);
            (*zone.as_ptr()).data = main.cast();
        }
        Ok(())
    }

    /// Sets the size of the zone.
    ///
    /// # Errors
    ///
    /// A second time.
    pub fn set_zone_size<H: Module>(self, size: Size) -> Result<(), Error> {
        self.with_main_conf::<H, _>(|main| match main.zone.size.replace(size) {
            None => Ok(()),
            Some(_) => Err(Error::Directive("is duplicate".into())),
        })
    }

    /// `worker_processes`, as far as it has been read.
    pub(super) fn worker_processes(self) -> usize {
        let cycle = field!(self, cycle);
        // SAFETY: the cycle that is being made has a configuration of the core module.
        let processes = unsafe {
            let conf = *(*cycle).conf_ctx.add(ngx_core_module.index);
            conf.cast::<ngx_core_conf_t>().as_ref().map_or(1, |core| core.worker_processes)
        };
        usize::try_from(processes).unwrap_or(1).max(1)
    }
}

/// `zone->init`: the zone's memory is there, new or that of the configuration before.
unsafe extern "C" fn init_zone<H: Module>(
    zone: *mut ngx_shm_zone_t,
    before: *mut c_void,
) -> ngx_int_t {
    // SAFETY: `add_zone` set the data; nginx calls in one thread, with memory that it has mapped and made
    // a slab pool of.
    let (zone, main) = unsafe { (&*zone, &*(*zone).data.cast::<MainConf<H>>()) };
    let Some(layout) = main.zone.layout else { return ERROR };
    let pool = zone.shm.addr.cast::<ngx_slab_pool_t>();
    // SAFETY: as above. The words are aligned to a page, and are atomic for whoever maps them. Nobody
    // takes them back from the pool.
    let words = unsafe {
        let is_there = !before.is_null() || zone.shm.exists != 0;
        if !is_there {
            let memory = ngx_slab_alloc(pool, layout.bytes());
            if memory.is_null() {
                return ERROR;
            }
            // fresh pages are zeros, unless nginx was built to fill what it gives away
            if *memory.cast::<u64>() != 0 {
                memory.cast::<u64>().write_bytes(0, layout.words());
            }
            (*pool).data = memory;
        }
        core::slice::from_raw_parts((*pool).data.cast::<AtomicU64>().cast_const(), layout.words())
    };
    let host = host();
    let opened = Zone::open(words, host).filter(|zone| zone.layout() == layout);
    let made = || {
        let made = Zone::format(words, layout, random(), host)?;
        made.set_since(super::now() as u64);
        Some(made)
    };
    let Some(opened) = opened.or_else(made) else { return ERROR };
    let Ok(generation) = patiently(|| opened.begin_generation()) else { return ERROR };
    main.zone.memory.set(Some(Memory { words: NonNull::from(words), generation }));
    OK
}

/// A number that clients do not know.
pub fn random() -> u64 {
    let mut seed = [0; 8];
    // SAFETY: room for so many bytes. Where the kernel has none to give, the clock and an address do.
    let count = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if count == 8 {
        return u64::from_ne_bytes(seed);
    }
    super::monotonic_nanoseconds().get() ^ (&raw const THIS).addr() as u64
}

/// Tries again what fails only while another process is at it, for some microseconds.
///
/// # Errors
///
/// Those of the last attempt: with any other reason than [`Busy`], of the first.
pub fn patiently<T, E: PartialEq + From<Busy>>(attempt: impl Fn() -> Result<T, E>) -> Result<T, E> {
    let mut result = attempt();
    for _ in 0..1000 {
        match &result {
            Err(reason) if *reason == E::from(Busy) => std::thread::yield_now(),
            _ => break,
        }
        result = attempt();
    }
    result
}

/// This process.
fn host() -> Host {
    Host {
        me: Process::new(std::process::id(), started("self").unwrap_or(0)),
        is_alive,
        ring: bell::ring,
    }
}

/// Is the process there? One that has ended and is not waited for is not.
fn is_alive(process: Process) -> bool {
    let pid = process.pid();
    // SAFETY: asks only whether there is such a process.
    let is_there = unsafe { libc::kill(pid as libc::pid_t, 0) } == 0
        || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    // proc(5) may hide the processes of others: then its word is enough that there is one
    is_there
        && started(&pid.to_string())
            .is_none_or(|started| process.started() == 0 || process == Process::new(pid, started))
}

/// When a process was started, in clock ticks since the system was (proc(5), /proc/PID/stat, field 22);
/// one that has ended: never, which no other says. None where that cannot be read.
fn started(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may hold any byte
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => Some(u64::MAX),
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// This worker's cells.
struct ThisWorker {
    worker: Worker<'static>,
    generation: Generation,
    bell: *mut ngx_connection_t,
}

/// Null outside of workers. Not a thread-local, which a library finds by a call: a worker has one thread that
/// comes here.
static THIS: AtomicPtr<ThisWorker> = AtomicPtr::new(ptr::null_mut());

/// This worker, and the number of its configuration. None without a zone, and outside of workers.
#[inline]
pub fn this_worker() -> Option<(&'static Worker<'static>, Generation)> {
    // SAFETY: null, or what `enter` has made, which is never freed and never written to again.
    let this: &'static ThisWorker = unsafe { THIS.load(Ordering::Relaxed).as_ref() }?;
    Some((&this.worker, this.generation))
}

/// This worker, and the slot of a server that has one.
pub type InZone = (&'static Worker<'static>, SlotId);

/// The same where this process is a worker, and the server has a slot.
#[inline(always)]
pub fn at(slot: Option<SlotId>) -> Option<InZone> {
    slot.zip(this_worker()).map(|(slot, (worker, _))| (worker, slot))
}

/// `init_module`: the configuration is in force. Makes the bells that there are not yet.
pub(super) fn begin<H: ZoneOwner + Prober>(cycle: NonNull<ngx_cycle_t>, log: Log<'_>) {
    // SAFETY: nginx's cycle, with its configuration.
    let Some(main) = (unsafe { main_conf_of::<H>(cycle.as_ptr()) }) else { return };
    if main.zone.size == Some(Size::Off) && !main.upstreams.is_empty() {
        log.notice(format_args!("\"rs_uwsgi_zone\" is off, limits are each worker's"));
    }
    let Some((zone, generation)) = main.zone.open() else { return leave() };
    main.upstreams.iter().for_each(|servers| H::keep_slots(servers, &zone, generation));
    let _ = patiently(|| {
        zone.want(generation, |upstream, server| {
            main.upstreams.iter().any(|servers| servers.has(upstream, server))
        })
    });
    let _ = patiently(|| zone.end_generation(generation));
    if let Err(errno) = bell::make(zone.layout().shape().workers) {
        log.alert_of(errno, format_args!("eventfd() failed"));
        return;
    }
    // one process does it all ("master_process off"), and nginx frees the zone of before next
    if this_worker().is_some() {
        leave();
        enter::<H>(cycle, log);
    }
}

impl ZoneConf {
    /// The zone in the hands of this process.
    fn open(&self) -> Option<(Zone<'static>, Generation)> {
        let Memory { words, generation } = self.memory.get()?;
        // SAFETY: nginx has mapped the memory for as long as the configuration is in force, and a worker
        // ends before its configuration does.
        let words: &'static [AtomicU64] = unsafe { words.as_ref() };
        Some((Zone::open(words, host())?, generation))
    }
}

/// `init_process`: a worker begins. It takes a free cell, after those of workers that are gone.
pub(super) fn enter<H: ZoneOwner>(cycle: NonNull<ngx_cycle_t>, log: Log<'_>) {
    // SAFETY: nginx has set it for this process; its cycle has a configuration.
    let main = unsafe {
        let is_worker = [NGX_PROCESS_WORKER, NGX_PROCESS_SINGLE].contains(&(ngx_process as u32));
        is_worker.then(|| main_conf_of::<H>(cycle.as_ptr())).flatten()
    };
    let Some((zone, generation)) = main.and_then(|main| main.zone.open()) else { return };
    let _ = patiently(|| zone.sweep());
    let Some(worker) = zone.enter() else {
        log.warn(format_args!(
            "rs_uwsgi zone has no room for more than {} workers, limits are each worker's",
            zone.layout().shape().workers
        ));
        return;
    };
    // SAFETY: the worker's own cycle.
    let bell = unsafe { bell::watch::<H>(worker.id(), (*cycle.as_ptr()).log) };
    let this = Box::leak(Box::new(ThisWorker { worker, generation, bell }));
    THIS.store(this, Ordering::Relaxed);
}

/// `exit_process`: the worker ends.
pub(super) fn leave() {
    // SAFETY: as in `this_worker`.
    let this = unsafe { THIS.swap(ptr::null_mut(), Ordering::Relaxed).as_ref() };
    let Some(this) = this else { return };
    this.worker.leave();
    if !this.bell.is_null() {
        // SAFETY: the connection that [`bell::watch`] made, of which only its own event knows.
        unsafe { ngx_close_connection(this.bell) };
    }
}

/// The main configuration of a cycle; None where it has no "http", and where this module, as it is loaded now, is not
/// among its modules: one that was begun before a reload loaded the module has no place for it.
///
/// # Safety
///
/// `cycle` must be valid, with its configuration if it has one.
pub(super) unsafe fn main_conf_of<'a, H: Module>(
    cycle: *mut ngx_cycle_t,
) -> Option<&'a MainConf<H>> {
    // SAFETY: the caller's promise; nginx has `modules_n` pointers in `modules`, or null. The HTTP module has null or
    // its context, in which a module of the cycle has what `place_main_conf` made.
    unsafe {
        let (modules, count) = ((*cycle).modules, (*cycle).modules_n);
        // the first cycle of all has neither
        if modules.is_null() || (*cycle).conf_ctx.is_null() {
            return None;
        }
        if !core::slice::from_raw_parts(modules, count).contains(&H::MODULE) {
            return None;
        }
        let http = *(*cycle).conf_ctx.add(ngx_http_module.index);
        let context = http.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        (*context.main_conf.add(context_index::<H>())).cast::<MainConf<H>>().as_ref()
    }
}
