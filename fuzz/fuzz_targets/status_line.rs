#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::head::fuzz_status_line(input));
