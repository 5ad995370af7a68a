//! Connections, retries, uploads, aborts and what stands around the module in a configuration:
//! stock and ours side by side, their outcomes compared.

mod aborts;
mod abstract_sockets;
mod around;
mod around_limits;
mod early_hints;
mod http2;
mod interim;
mod next_upstream;
mod pipelining;
mod rates;
mod reload;
mod slow_clients;
mod sockets;
mod stress;
mod uploads;
mod upstream_blocks;
mod variables;
mod websocket;

use crate::prelude::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// `GET path` on a connection that stays open.
fn get(path: &str) -> Vec<u8> {
    request("GET", path, b"")
}

/// A request whose body, if it has one, comes with a Content-Length.
fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    [format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{length}\r\n").as_bytes(), body].concat()
}

/// Sends `request` to both sides; panics unless the client, the error log and the number of
/// connections to the backend are the same. Returns what the client got, and the log.
fn same(pair: &Pair, name: &str, request: &[u8]) -> (Response, Vec<String>) {
    let (stock, ours) = pair.both(request);
    assert_responses(name, &stock.response, &ours.response);
    assert_eq!(stock.log, ours.log, "{name}: the error log differs (left stock, right ours)");
    let counts = [&stock, &ours].map(|outcome| outcome.received.len());
    assert_eq!(counts[0], counts[1], "{name}: connections to the backend");
    (ours.response.unwrap_or_else(|e| panic!("{name}: {e}")), ours.log)
}

/// Does the nginx under test, without our module, accept `server` as the content of a server?
fn stock_accepts(server: &str) -> bool {
    let server = format!("server {{ listen 127.0.0.1:@port@; {server} }}");
    Nginx::builder().without_module().http(&server).check().status.success()
}

/// The process id of the worker that was started last. The master logs it when the worker may
/// already be serving.
pub fn worker(nginx: &Nginx) -> u32 {
    let start = "start worker process ";
    nginx.wait_logged(start);
    let lines = nginx.logged(start);
    lines.last().unwrap().text.strip_prefix(start).unwrap().parse().unwrap()
}
