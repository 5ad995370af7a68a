//! Chunked bodies against a reader of whole lines.

use ngx_http_rs_uwsgi_module::pure::uwsgi::chunked::{
    Decoder, Malformed, Piece, MAX_SIZE, MAX_SIZE_LINE, MAX_TRAILERS,
};

use super::Bytes;

/// A body in one buffer, and in buffers of as many bytes as the first byte says.
pub fn fuzz(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let expected = model(bytes);
    let shown = bytes.escape_ascii();
    assert_eq!(decode([bytes], &expected), expected, "{shown}");
    let parts = bytes.chunks(usize::from(*size).max(1));
    assert_eq!(decode(parts, &expected), expected, "{shown}, {size} at a time");
}

/// Decodes buffers, and compares what must still come with what does.
fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>, expected: &Decoded) -> Decoded {
    let mut decoder = Decoder::default();
    let mut decoded = Decoded::default();
    let mut at = 0;
    for part in parts {
        if let Some(Ok(end)) = expected.end {
            assert!(decoder.at_least() <= (end - at) as u64, "after {at} bytes of {end}");
        }
        feed(&mut decoder, part, &mut decoded, at);
        if decoded.end.is_some() {
            break;
        }
        at += part.len();
    }
    decoded
}

/// What came of the bytes of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// All data.
    pub data: Bytes,
    /// Where the response ended, if it did, or that it is malformed.
    pub end: Option<Result<usize, Malformed>>,
}

/// Feeds `decoder` with `bytes` in one buffer, as the module does, and counts what it takes; the
/// rules that hold for every call are checked on the way.
pub fn feed(decoder: &mut Decoder, bytes: &[u8], into: &mut Decoded, at: usize) {
    let mut rest = bytes;
    loop {
        let Ok((skipped, piece)) = decoder.next(rest) else {
            assert_eq!(decoder.next(b"0\r\n\r\n"), Err(Malformed), "an error is for good");
            into.end = Some(Err(Malformed));
            return;
        };
        let before = rest.len();
        rest = &rest[skipped..];
        assert_eq!(decoder.is_done(), piece == Piece::End);
        assert_eq!(decoder.at_least() == 0, piece == Piece::End);
        match piece {
            Piece::Data(taken) => {
                assert_ne!(taken, 0);
                into.data.extend(&rest[..taken]);
                rest = &rest[taken..];
                assert!(rest.len() < before, "no progress");
            }
            Piece::Again => return assert!(rest.is_empty(), "bytes are left"),
            Piece::End => {
                assert_eq!(decoder.next(rest), Ok((0, Piece::End)), "an end is for good");
                into.end = Some(Ok(at + bytes.len() - rest.len()));
                return;
            }
        }
    }
}

/// The model: knows all bytes from the beginning, and reads a line at a time.
pub fn model(bytes: &[u8]) -> Decoded {
    let mut data = Bytes::new();
    let mut rest = bytes;
    let end = model_end(&mut rest, &mut data);
    let end = end.map(|end| end.map(|()| bytes.len() - rest.len()));
    Decoded { data, end }
}

fn model_end(rest: &mut &[u8], data: &mut Bytes) -> Option<Result<(), Malformed>> {
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&rest[..digits]).unwrap().trim_start_matches('0');
        let size = if size.is_empty() { Ok(0) } else { u64::from_str_radix(size, 16) };
        let Some(size) = size.ok().filter(|size| *size <= MAX_SIZE) else {
            return Some(Err(Malformed));
        };
        match rest.get(digits) {
            None if digits > MAX_SIZE_LINE.into() => return Some(Err(Malformed)),
            None => return None,
            Some(b'\r' | b';' | b' ' | b'\t') if digits > 0 => {}
            Some(_) => return Some(Err(Malformed)),
        }
        if let Err(stop) = model_line(rest, MAX_SIZE_LINE.into()) {
            return stop.map(Err);
        }
        if size == 0 {
            break;
        }
        let taken = rest.len().min(size.try_into().unwrap());
        data.extend(&rest[..taken]);
        *rest = &rest[taken..];
        match rest {
            [b'\r', b'\n', after @ ..] => *rest = after,
            [] | [b'\r'] => return None,
            _ => return Some(Err(Malformed)),
        }
    }
    let mut left = MAX_TRAILERS.into();
    loop {
        match model_line(rest, left) {
            Ok(2) => return Some(Ok(())),
            Ok(length) => left -= length,
            Err(stop) => return stop.map(Err),
        }
    }
}

/// Takes a line with its CR LF; how long it was. The error is None if it has not ended.
fn model_line(rest: &mut &[u8], limit: usize) -> Result<usize, Option<Malformed>> {
    let end = rest.iter().position(|byte| *byte == b'\r' || *byte == b'\n');
    let length = end.unwrap_or(rest.len());
    // Of its end, what there is counts.
    match &rest[length..] {
        [b'\n', ..] => Err(Some(Malformed)),
        [b'\r', byte, ..] if *byte != b'\n' => Err(Some(Malformed)),
        [b'\r', b'\n', after @ ..] if length + 2 <= limit => {
            *rest = after;
            Ok(length + 2)
        }
        end => Err((length + end.len().min(2) > limit).then_some(Malformed)),
    }
}
