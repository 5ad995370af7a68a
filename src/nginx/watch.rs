//! Watches the directives of stock's uwsgi module, and this module's own, while the configuration is read.
//! nginx does not tell a module of another's directives, and stock's configuration of a location does not
//! tell what was written from what is a default.
//!
//! Both modules get a copy of their table of directives for that time, whose setters note what is set
//! and call the real ones (`ngx_conf_handler` in src/core/ngx_conf_file.c reads `module->commands` for each
//! directive). The tables themselves are not touched. The copies go when the "http" block is read, or with
//! the configuration's memory where it is refused.

use core::ffi::{c_char, c_void};
use core::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use ngx::core::NGX_CONF_ERROR;

use super::conf::{Conf, Error};
use super::module::{context_index, with_conf, ModuleConf};
use super::sys::{
    ngx_command_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_module_t, ngx_palloc, ngx_pool_cleanup_add,
};

/// Whose directive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This module's.
    Own,
    /// That of nginx's uwsgi module.
    Stock,
}

/// A module whose table is a copy now. Null where it is not.
struct Watched {
    module: AtomicPtr<ngx_module_t>,
    table: AtomicPtr<ngx_command_t>,
    copy: AtomicPtr<ngx_command_t>,
}

impl Watched {
    const fn new() -> Watched {
        Watched {
            module: AtomicPtr::new(ptr::null_mut()),
            table: AtomicPtr::new(ptr::null_mut()),
            copy: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

// nginx reads its configuration in one thread: the atomics are there because statics have to be safe.
static OWN_TABLE: Watched = Watched::new();
static STOCK_TABLE: Watched = Watched::new();

/// `commands[i].set`.
type Setter = unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

impl Conf<'_> {
    /// Begins to watch. nginx may have no uwsgi module.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`] when memory runs out.
    pub(super) fn watch<H: ModuleConf>(self) -> Result<(), Error> {
        self.watch_module(&OWN_TABLE, H::MODULE, heard::<H, false>)?;
        if let Some(stock) = self.module_named(c"ngx_http_uwsgi_module") {
            self.watch_module(&STOCK_TABLE, stock, heard::<H, true>)?;
        }
        // SAFETY: the pool is valid; no data is asked for.
        let cleanup = unsafe { ngx_pool_cleanup_add(self.pool().as_ptr(), 0).as_mut() };
        let cleanup = cleanup.ok_or(Error::Logged)?;
        cleanup.data = OWN_TABLE.copy.load(Relaxed).cast();
        cleanup.handler = Some(end_of_pool);
        Ok(())
    }

    fn module_named(self, name: &core::ffi::CStr) -> Option<*mut ngx_module_t> {
        let cycle = field!(self, cycle);
        // SAFETY: the list of a cycle's modules ends with null, and all have names.
        unsafe {
            let mut module = (*cycle).modules;
            while !(*module).is_null() {
                if core::ffi::CStr::from_ptr((**module).name) == name {
                    return Some(*module);
                }
                module = module.add(1);
            }
        }
        None
    }

    fn watch_module(
        self,
        watched: &Watched,
        module: *mut ngx_module_t,
        set: Setter,
    ) -> Result<(), Error> {
        // SAFETY: a module's table ends with a row without a name. The copy has as many rows, in memory
        // that lives as long as the configuration, and `unwatch` comes before that ends.
        unsafe {
            let table = (*module).commands;
            let mut rows = 1;
            while (*table.add(rows - 1)).name.len != 0 {
                rows += 1;
            }
            let size = rows * size_of::<ngx_command_t>();
            let copy = ngx_palloc(self.pool().as_ptr(), size).cast::<ngx_command_t>();
            if copy.is_null() {
                return Err(Error::Logged);
            }
            ptr::copy_nonoverlapping(table, copy, rows);
            for row in 0..rows - 1 {
                (*copy.add(row)).set = Some(set);
            }
            watched.module.store(module, Relaxed);
            watched.table.store(table, Relaxed);
            watched.copy.store(copy, Relaxed);
            (*module).commands = copy;
        }
        Ok(())
    }
}

/// Ends watching.
pub(super) fn unwatch() {
    for watched in [&OWN_TABLE, &STOCK_TABLE] {
        let module = watched.module.swap(ptr::null_mut(), Relaxed);
        if !module.is_null() {
            // SAFETY: `watch_module` noted the module and its own table, and the module is still loaded:
            // its library is closed after this, by a cleanup that was added to the pool before.
            unsafe { (*module).commands = watched.table.load(Relaxed) };
            watched.copy.store(ptr::null_mut(), Relaxed);
        }
    }
}

/// The configuration was refused before its end, or ends long after.
unsafe extern "C" fn end_of_pool(copy: *mut c_void) {
    if OWN_TABLE.copy.load(Relaxed).cast() == copy {
        unwatch();
    }
}

/// A setter of the copies: notes a directive, of stock or of this module, and has its real setter run.
unsafe extern "C" fn heard<H: ModuleConf, const STOCK: bool>(
    cf: *mut ngx_conf_t,
    row: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let (watched, whose) =
        if STOCK { (&STOCK_TABLE, Whose::Stock) } else { (&OWN_TABLE, Whose::Own) };
    let noted = with_conf(cf, |cf| {
        let context = field!(cf, ctx).cast::<ngx_http_conf_ctx_t>();
        // SAFETY: in the "http" block the context has a configuration of each module for the block that is
        // being read, ours made by `create_loc_conf`. The reference ends before the setter runs.
        let location = unsafe {
            (*(*context).loc_conf.add(context_index::<H>())).cast::<H::Location>().as_mut()
        };
        if let Some(location) = location {
            H::heard(cf, location, whose);
        }
        Ok(())
    });
    // SAFETY: nginx calls with a row of the copy, which has the same place in the table.
    let row = unsafe {
        let index = row.offset_from(watched.copy.load(Relaxed));
        watched.table.load(Relaxed).offset(index)
    };
    // SAFETY: a row of the module's own table.
    match (noted, unsafe { (*row).set }) {
        // SAFETY: called as nginx would have.
        (Ok(()), Some(set)) => unsafe { set(cf, row, conf) },
        _ => NGX_CONF_ERROR.cast::<c_char>(),
    }
}
