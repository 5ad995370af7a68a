//! Any headers: what `finish` lets through is read back, one var for each.
#![no_main]

use ngx_http_rs_uwsgi_module::uwsgi::packet::{Packet, HEADER_SIZE};
use ngx_http_rs_uwsgi_module::uwsgi::vars::Vars;

type Input<'a> = (Vec<(&'a [u8], &'a [u8])>, u16);

libfuzzer_sys::fuzz_target!(|input: Input| {
    let (headers, max_vars) = input;
    let mut packet = Packet::new();
    headers.iter().for_each(|(name, value)| packet.header(name, value));
    if let Ok(bytes) = packet.finish(0, 0, max_vars.into()) {
        let mut values = Vars::new(&bytes[HEADER_SIZE..]).map(|var| var.unwrap().1);
        assert!(headers.iter().all(|(_, value)| values.next() == Some(*value)));
    }
});
