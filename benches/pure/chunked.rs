//! Chunked bodies, in chunks of several sizes, with nothing done to the data.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ngx_http_rs_uwsgi_module::pure::uwsgi::chunked::{Decoder, Piece};

const BODY: usize = 64 * 1024;

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for size in [16, 1024, BODY] {
        let mut body = Vec::new();
        for _ in 0..BODY / size {
            body.extend(format!("{size:x}\r\n").bytes());
            body.extend(std::iter::repeat_n(b'x', size));
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        group.throughput(Throughput::Bytes(BODY as u64));
        group.bench_function(format!("of {size}"), |bencher| {
            bencher.iter(|| decode(black_box(&body)));
        });
    }
    group.finish();
}

/// As body.rs decodes. Returns the bytes of data.
fn decode(mut body: &[u8]) -> usize {
    let mut decoder = Decoder::default();
    let mut data = 0;
    while let Ok((skipped, piece)) = decoder.next(body) {
        let taken = match piece {
            Piece::Data(length) => length,
            Piece::End | Piece::Again => break,
        };
        data += taken;
        body = body.get(skipped + taken..).unwrap_or_default();
    }
    data
}
