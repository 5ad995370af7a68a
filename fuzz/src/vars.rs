//! Vars read back, against a reader by offsets.

use ngx_http_rs_uwsgi_module::pure::uwsgi::packet::{Packet, HEADER_SIZE, MAX_VARS};
use ngx_http_rs_uwsgi_module::pure::uwsgi::vars::{Truncated, Vars};

use super::Bytes;

/// Bytes that may be vars; written again they are the same bytes.
pub fn fuzz(bytes: &[u8]) {
    let (expected, end) = model(bytes);
    let mut vars = Vars::new(bytes);
    for (name, value) in &expected {
        assert_eq!(vars.next(), Some(Ok((&name[..], &value[..]))));
    }
    let truncated = (end < bytes.len()).then_some(Err(Truncated));
    assert_eq!(vars.next(), truncated, "{end} of {}", bytes.len());
    assert_eq!((vars.next(), vars.next()), (None, None));
    let mut packet = Packet::new();
    expected.iter().for_each(|(name, value)| packet.var(name, value));
    if end <= MAX_VARS {
        assert_eq!(
            packet.finish(0, 0, MAX_VARS).map(|packet| &packet[HEADER_SIZE..]),
            Ok(&bytes[..end])
        );
    }
}

/// All whole vars, and where they end.
fn model(bytes: &[u8]) -> (Vec<(Bytes, Bytes)>, usize) {
    let (mut vars, mut end) = (Vec::new(), 0);
    let text = |at: usize| {
        let (low, high) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        let length = usize::from(low) + 256 * usize::from(high);
        (at + 2 + length <= bytes.len()).then(|| bytes[at + 2..at + 2 + length].to_vec())
    };
    while let Some(name) = text(end) {
        let Some(value) = text(end + 2 + name.len()) else { break };
        end += 4 + name.len() + value.len();
        vars.push((name, value));
    }
    (vars, end)
}
