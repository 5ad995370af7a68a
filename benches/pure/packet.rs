//! Packets of 1 to 100 headers, and of 5 to 100 parameters: the cost of each is that of the first.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ngx_http_rs_uwsgi_module::pure::uwsgi::packet::{Packet, VarName};

/// A request as a browser makes it.
const HEADERS: &[(&str, &str)] = &[
    ("Host", "localhost:8000"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "http://localhost/articles/"),
    ("Cookie", "sessionid=3q2yqvrn5mzs1b9kxh8dm4k0rj1g7c2f; csrftoken=Zx8fP0uQm3Vb7LrTn2Ks"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Priority", "u=0, i"),
];

pub fn measure(criterion: &mut Criterion) {
    let mut packet = Packet::new();

    let mut group = criterion.benchmark_group("packet/headers");
    for count in [1_usize, 9, 100] {
        let headers: Vec<_> = HEADERS.iter().cycle().take(count).collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter(|| {
                packet.clear();
                for (name, value) in &headers {
                    packet.header(black_box(name.as_bytes()), black_box(value.as_bytes()));
                }
                packet.finish(0, 0, usize::MAX).is_ok()
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("packet/params");
    for count in [5_usize, 14, 100] {
        let names: Vec<_> =
            (0..count).map(|i| VarName::new(format!("PARAM_{i}").as_bytes())).collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter(|| {
                packet.clear();
                for name in &names {
                    packet.param(black_box(name), black_box(b"/articles/2026"));
                }
                packet.finish(0, 0, usize::MAX).is_ok()
            });
        });
    }
    group.finish();
}
