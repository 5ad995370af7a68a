//! A chunked body, cut anywhere: never a panic, always progress, and where it is cut makes no
//! difference.
#![no_main]

use ngx_http_rs_uwsgi_module::uwsgi::chunked::{Decoder, Piece};

/// The data, and where the body ended; if it did not, whether it is malformed.
fn decode<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<usize, bool>) {
    let mut decoder = Decoder::default();
    let mut data = Vec::new();
    let mut taken = 0;
    for mut rest in parts {
        loop {
            let Ok((skipped, piece)) = decoder.next(rest) else {
                return (data, Err(true));
            };
            rest = &rest[skipped..];
            taken += skipped;
            match piece {
                Piece::Data(length) => {
                    assert_ne!(length, 0);
                    data.extend(&rest[..length]);
                    rest = &rest[length..];
                    taken += length;
                }
                Piece::End => return (data, Ok(taken)),
                Piece::Again => break assert!(rest.is_empty() && decoder.at_least() > 0),
            }
        }
    }
    (data, Err(false))
}

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    let whole = decode(std::iter::once(body));
    assert_eq!(whole, decode(body.chunks(usize::from(size).max(1))));
});
