//! The names of headers: made upper case, and looked for among those to drop.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ngx_http_rs_uwsgi_module::pure::uwsgi::header_set::HeaderSet;
use ngx_http_rs_uwsgi_module::pure::uwsgi::names::{upcase_first, DEFAULT_DROP_HEADERS};

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("names/upcase");
    for length in [4_usize, 15, 25, 64] {
        let mut name = vec![b'n'; length + 16];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(length.to_string(), |bencher| {
            bencher.iter(|| upcase_first(black_box(&mut name), black_box(length)));
        });
    }
    group.finish();

    let dropped: HeaderSet = DEFAULT_DROP_HEADERS.iter().collect();
    let mut group = criterion.benchmark_group("names/dropped");
    for name in ["Accept", "Connection", "Upgrade-Insecure-Requests"] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| dropped.contains(black_box(name.as_bytes())));
        });
    }
    group.finish();
}
