//! A response head, line by line: never a panic, and never a step beyond the bytes there are.
#![no_main]

use ngx_http_rs_uwsgi_module::uwsgi::head::{header_line, status_line, Line, Parsed};

libfuzzer_sys::fuzz_target!(|head: &[u8]| {
    let mut rest = head;
    if let Ok(Parsed::Complete(_, taken)) = status_line(rest) {
        rest = &rest[taken..];
    }
    while let Ok(Parsed::Complete(Line::Header(_) | Line::Ignored, taken)) = header_line(rest) {
        assert_ne!(taken, 0);
        rest = &rest[taken..];
    }
});
