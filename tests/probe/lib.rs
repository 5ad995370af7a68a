//! A module for tests: it writes down the directive tables of the nginx that loads it, and makes its
//! sockets take less at once.
//!
//! Debian ships nginx's headers and no .c files, so stock's table is read where it surely is: in the
//! running binary. The directive `probe_directives FILE` writes one line for each directive of every
//! HTTP module in `cycle->modules`, with the words that the bits of `ngx_command_t.type` (nginx's
//! src/core/ngx_conf_file.h, src/http/ngx_http_config.h) stand for, separated by tabs:
//!
//! ```text
//! MODULE  DIRECTIVE  CONTEXTS  ARGUMENTS  CONFIGURATION
//! ngx_http_uwsgi_module  uwsgi_store_access  http server location  1 2 3  location
//! ```
//!
//! CONFIGURATION is the one of an HTTP module's three that the setter gets. Bits without a word are
//! written as a number.
//!
//! `probe_send_limit BYTES` is the most that is sent to a socket in one step, as if its buffer were as
//! small: a packet of uwsgi fits into every real one.
//!
//! Built by `make probe`, for the nginx that the module is built for.

use core::ffi::{c_char, c_void, CStr};
use core::mem::offset_of;
use core::{ptr, slice};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::OnceLock;

use nginx_sys::*;

/// Where a directive may stand.
const CONTEXTS: [(u32, &str); 7] = [
    (NGX_HTTP_MAIN_CONF, "http"),
    (NGX_HTTP_SRV_CONF, "server"),
    (NGX_HTTP_LOC_CONF, "location"),
    (NGX_HTTP_UPS_CONF, "upstream"),
    (NGX_HTTP_SIF_CONF, "if-in-server"),
    (NGX_HTTP_LIF_CONF, "if-in-location"),
    (NGX_HTTP_LMT_CONF, "limit_except"),
];

/// What may follow it.
const ARGUMENTS: [(u32, &str); 13] = [
    (NGX_CONF_NOARGS, "0"),
    (NGX_CONF_TAKE1, "1"),
    (NGX_CONF_TAKE2, "2"),
    (NGX_CONF_TAKE3, "3"),
    (NGX_CONF_TAKE4, "4"),
    (NGX_CONF_TAKE5, "5"),
    (NGX_CONF_TAKE6, "6"),
    (NGX_CONF_TAKE7, "7"),
    (NGX_CONF_BLOCK, "block"),
    (NGX_CONF_FLAG, "flag"),
    (NGX_CONF_ANY, "0+"),
    (NGX_CONF_1MORE, "1+"),
    (NGX_CONF_2MORE, "2+"),
];

#[no_mangle]
static mut ngx_probe_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const CONTEXT).cast_mut().cast::<c_void>(),
    commands: (&raw const COMMANDS).cast_mut().cast::<ngx_command_t>(),
    type_: NGX_CORE_MODULE as usize,
    ..ngx_module_t::default()
};

#[no_mangle]
static mut ngx_modules: [*const ngx_module_t; 2] = [&raw const ngx_probe_module, ptr::null()];

#[no_mangle]
static mut ngx_module_names: [*const c_char; 2] = [c"ngx_probe_module".as_ptr(), ptr::null()];

#[no_mangle]
static mut ngx_module_order: [*const c_char; 1] = [ptr::null()];

static mut CONTEXT: ngx_core_module_t =
    ngx_core_module_t { name: text(c"probe"), create_conf: None, init_conf: None };

static mut COMMANDS: [ngx_command_t; 3] = [
    command(c"probe_directives", write_tables),
    command(c"probe_send_limit", limit_sends),
    ngx_command_t::empty(),
];

type Setter = extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// A directive with one argument, outside of all blocks.
const fn command(name: &'static CStr, set: Setter) -> ngx_command_t {
    ngx_command_t {
        name: text(name),
        type_: (NGX_MAIN_CONF | NGX_DIRECT_CONF | NGX_CONF_TAKE1) as usize,
        set: Some(set),
        conf: 0,
        offset: 0,
        post: ptr::null_mut(),
    }
}

const fn text(text: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

/// The setter of `probe_directives`.
extern "C" fn write_tables(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this with its parser; the modules' tables are static.
    let (path, tables) = unsafe { (argument(cf), tables((*cf).cycle)) };
    match fs::write(OsStr::from_bytes(path), tables) {
        Ok(()) => ptr::null_mut(),
        Err(_) => c"cannot write its file".as_ptr().cast_mut(),
    }
}

/// # Safety
///
/// `cf` must be nginx's parser in a setter of a directive with one argument.
unsafe fn argument<'a>(cf: *mut ngx_conf_t) -> &'a [u8] {
    // SAFETY: `args` are the directive and its argument.
    unsafe {
        let argument = &*(*(*cf).args).elts.cast::<ngx_str_t>().add(1);
        slice::from_raw_parts(argument.data, argument.len)
    }
}

/// What `probe_send_limit` says, in bytes.
static LIMIT: AtomicI64 = AtomicI64::new(0);
/// What nginx sends with.
static SEND_CHAIN: OnceLock<ngx_send_chain_pt> = OnceLock::new();

/// The setter of `probe_send_limit`.
extern "C" fn limit_sends(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this with its parser.
    let limit = std::str::from_utf8(unsafe { argument(cf) });
    let Some(limit) = limit.ok().and_then(|limit| limit.parse().ok()) else {
        return c"invalid value".as_ptr().cast_mut();
    };
    LIMIT.store(limit, Relaxed);
    // SAFETY: nginx has set it when it started, and reads it for each new connection, in one thread.
    unsafe {
        SEND_CHAIN.get_or_init(|| ngx_os_io.send_chain);
        ngx_os_io.send_chain = Some(send_little);
    }
    ptr::null_mut()
}

/// `c->send_chain`.
unsafe extern "C" fn send_little(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let most = LIMIT.load(Relaxed);
    let limit = if limit == 0 { most } else { limit.min(most) };
    match SEND_CHAIN.get().copied().flatten() {
        // SAFETY: nginx's own function, with what nginx has given us.
        Some(send) => unsafe { send(c, chain, limit) },
        None => chain,
    }
}

/// # Safety
///
/// `cycle` must be the valid cycle that is being configured.
unsafe fn tables(cycle: *mut ngx_cycle_t) -> Vec<u8> {
    let mut lines = Vec::new();
    // SAFETY: the modules of a cycle, their tables of directives (null, or ended by an empty name)
    // and their names, C strings, live as long as the process.
    unsafe {
        for module in slice::from_raw_parts((*cycle).modules, (*cycle).modules_n) {
            if (**module).type_ != NGX_HTTP_MODULE as usize {
                continue;
            }
            let mut command = (**module).commands;
            while !command.is_null() && (*command).name.len > 0 {
                let name = &(*command).name;
                lines.extend(CStr::from_ptr((**module).name).to_bytes());
                lines.push(b'\t');
                lines.extend(slice::from_raw_parts(name.data, name.len));
                lines.extend(described(&*command).into_bytes());
                command = command.add(1);
            }
        }
    }
    lines
}

/// The rest of a line.
fn described(command: &ngx_command_t) -> String {
    let mut rest = command.type_;
    let mut words = |table: &[(u32, &'static str)]| {
        let known: Vec<_> =
            table.iter().filter(|(bit, _)| command.type_ & *bit as usize != 0).collect();
        rest = known.iter().fold(rest, |rest, (bit, _)| rest & !(*bit as usize));
        known.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
    };
    let (contexts, arguments) = (words(&CONTEXTS), words(&ARGUMENTS));
    let unknown = match rest {
        0 => String::new(),
        bits => format!(" {bits:#x}"),
    };
    let configuration = match command.conf {
        conf if conf == offset_of!(ngx_http_conf_ctx_t, main_conf) => "main",
        conf if conf == offset_of!(ngx_http_conf_ctx_t, srv_conf) => "server",
        conf if conf == offset_of!(ngx_http_conf_ctx_t, loc_conf) => "location",
        _ => "other",
    };
    format!("\t{contexts}\t{arguments}{unknown}\t{configuration}\n")
}
