//! The head of the response: of the null backend of `make bench`, of Django's smallest page, and one of
//! 100 headers; as plain headers, and line by line, as they are where something is unusual.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ngx_http_rs_uwsgi_module::pure::uwsgi::head::plain::Names;
use ngx_http_rs_uwsgi_module::pure::uwsgi::head::{header_line, status_line, Line, Parsed};

const SEVEN: &str = "HTTP/1.1 200 OK\r\n\
    Server: null\r\n\
    Date: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    X-Frame-Options: DENY\r\n\
    Vary: Cookie\r\n\r\n";

const DJANGO: &str = "HTTP/1.1 200 OK\r\n\
    Server: gunicorn\r\n\
    Date: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    X-Frame-Options: DENY\r\n\
    Content-Length: 1024\r\n\
    Vary: Cookie\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: same-origin\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Set-Cookie: csrftoken=Zx8fP0uQm3Vb7LrTn2Ks; expires=Mon, 04 Jan 2027 10:00:00 GMT; \
    Max-Age=31449600; Path=/; SameSite=Lax\r\n\r\n";

/// Some of the names that nginx knows: more change nothing.
const KNOWN: [&str; 8] = [
    "server",
    "date",
    "content-type",
    "content-length",
    "connection",
    "vary",
    "set-cookie",
    "transfer-encoding",
];

pub fn measure(criterion: &mut Criterion) {
    let hundred: String = (0..100).map(|n| format!("X-Header-Number-{n}: its value\r\n")).collect();
    let hundred = format!("HTTP/1.1 200 OK\r\n{hundred}\r\n");
    let names = Names::new(KNOWN.iter().map(|name| (name.as_bytes(), ())));
    let Some(names) = names else { return };
    for (name, head) in [("7 headers", SEVEN), ("django", DJANGO), ("100 headers", &hundred)] {
        let mut group = criterion.benchmark_group(format!("head/{name}"));
        group.throughput(Throughput::Bytes(head.len() as u64));
        let head = head.as_bytes();
        group.bench_function("plain", |bencher| {
            bencher.iter(|| plain_first(black_box(head), &names));
        });
        group.bench_function("line by line", |bencher| {
            bencher.iter(|| line_by_line(black_box(head)));
        });
        group.finish();
    }
}

/// As response.rs reads a head. Returns the number of headers.
fn plain_first(head: &[u8], names: &Names<()>) -> usize {
    let (mut rest, mut count) = (after_status_line(head), 0);
    let Some(mut reader) = names.reader() else { return 0 };
    while let Some(field) = reader.read(rest) {
        rest = rest.get(field.size..).unwrap_or_default();
        black_box(field);
        count += 1;
    }
    count + lines(rest)
}

fn line_by_line(head: &[u8]) -> usize {
    lines(after_status_line(head))
}

fn after_status_line(head: &[u8]) -> &[u8] {
    match status_line(head) {
        Ok(Parsed::Complete(_, size)) => head.get(size..).unwrap_or_default(),
        _ => head,
    }
}

fn lines(mut rest: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Parsed::Complete(Line::Header(header), size)) = header_line(rest) {
        black_box(header);
        rest = rest.get(size..).unwrap_or_default();
        count += 1;
    }
    count
}
