//! Counts what was compared with stock, and prints the sum after the test runner's own summary: the
//! harness hides what passing tests print.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Once;

static COMPARED: AtomicUsize = AtomicUsize::new(0);
static AT_EXIT: Once = Once::new();

/// Counts one comparison of stock and ours.
pub fn compared() {
    COMPARED.fetch_add(1, Ordering::Relaxed);
    AT_EXIT.call_once(|| {
        // SAFETY: atexit keeps a pointer to a function that lives as long as the program.
        unsafe { libc::atexit(print) };
    });
}

extern "C" fn print() {
    println!("comparisons with stock uwsgi_pass: {}", COMPARED.load(Ordering::Relaxed));
}
