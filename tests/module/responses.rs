//! Backend responses for the oracle: what applications and servers send, sensible or not.

use crate::prelude::*;

/// A name for messages, and the bytes the backend sends before it closes.
pub type Row = (&'static str, &'static str);

/// Responses that stock passes on. Line ends are written `\n` and sent as CRLF unless the row's
/// name ends in "(lf)".
pub const ROWS: &[Row] = &[
    ("status line", "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 5\n\nhello"),
    ("no reason", "HTTP/1.1 200\nContent-Length: 5\n\nhello"),
    ("odd reason", "HTTP/1.1 299 Quite  fine!\nContent-Length: 1\n\nx"),
    ("HTTP/1.0", "HTTP/1.0 200 OK\nContent-Length: 5\n\nhello"),
    ("HTTP/2.0 as uWSGI echoes it", "HTTP/2.0 200 OK\nContent-Length: 5\n\nhello"),
    ("HTTP/3.0", "HTTP/3.0 200 OK\nContent-Length: 5\n\nhello"),
    ("HTTP/0.9 in a status line", "HTTP/0.9 200 OK\nContent-Length: 5\n\nhello"),
    ("a version of many digits", "HTTP/11.22 200 OK\nContent-Length: 5\n\nhello"),
    ("line feeds only (lf)", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    ("CGI line feeds only (lf)", "Status: 201 Created\nX-A: b\n\nhello"),
    ("Status", "Status: 404 Not Found\nContent-Type: text/html\n\nmissing"),
    ("Status without reason", "Status: 204\n\n"),
    ("Status after others", "X-A: 1\nStatus: 500 Oops\nContent-Length: 2\n\nno"),
    ("Status of four digits", "Status: 2000 Eh\n\nx"),
    ("Status below 100", "Status: 099 Eh\nContent-Length: 1\n\nx"),
    ("Status twice", "Status: 201 One\nStatus: 202 Two\nContent-Length: 1\n\nx"),
    ("Status and a status line", "HTTP/1.1 200 OK\nStatus: 404 No\nContent-Length: 1\n\nx"),
    ("Status in lower case", "status: 403 Forbidden\nContent-Length: 1\n\nx"),
    ("no status", "Content-Type: text/plain\nContent-Length: 5\n\nhello"),
    ("no status, no length", "X-A: b\n\nhello until the end"),
    ("Location only", "Location: http://elsewhere.example/\n\n"),
    ("Location, relative", "Location: /elsewhere\nContent-Length: 0\n\n"),
    ("Location with a status line", "HTTP/1.1 201 Created\nLocation: /new\nContent-Length: 0\n\n"),
    ("Status and Location", "Status: 303 See Other\nLocation: /new?x\n\n"),
    ("Refresh", "Status: 200 OK\nRefresh: 5; url=/x\n\nx"),
    ("cookies", "HTTP/1.1 200 OK\nSet-Cookie: a=1; Path=/\nSet-Cookie: b=2\nSet-Cookie: a=3\nContent-Length: 1\n\nx"),
    ("many values", "HTTP/1.1 200 OK\nX-A: 1\nX-A: 2\nVary: a\nVary: b\nCache-Control: no-cache\nCache-Control: private\nLink: </a>\nLink: </b>\nContent-Length: 1\n\nx"),
    ("WWW-Authenticate", "HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Basic realm=\"r\"\nWWW-Authenticate: Digest x\nContent-Length: 1\n\nx"),
    ("empty values", "HTTP/1.1 200 OK\nX-Empty:\nX-Blank:   \nServer:\nContent-Length: 1\n\nx"),
    ("blanks around a value", "HTTP/1.1 200 OK\nX-A:   inner  blanks\t \nX-B:\ttab\nContent-Length: 1\n\nx"),
    ("no blank after the colon", "HTTP/1.1 200 OK\nX-A:b\nContent-Length:1\n\nx"),
    ("a line without a colon", "HTTP/1.1 200 OK\nnonsense\nContent-Length: 1\n\nx"),
    ("a header name with a blank", "HTTP/1.1 200 OK\nX A: b\nContent-Length: 1\n\nx"),
    ("a blank before the colon", "HTTP/1.1 200 OK\nX-A : b\nContent-Length: 1\n\nx"),
    ("a folded line", "HTTP/1.1 200 OK\nX-A: b\n c\nContent-Length: 1\n\nx"),
    ("a first header line that begins blank", "HTTP/1.1 200 OK\n X-A: b\nContent-Length: 1\n\nx"),
    ("an underscore in a name", "HTTP/1.1 200 OK\nX_A: b\nContent-Length: 1\n\nx"),
    ("odd characters in a name", "HTTP/1.1 200 OK\nX!#$%&'*+.^`|~A: b\nContent-Length: 1\n\nx"),
    ("bytes above ASCII", "HTTP/1.1 200 \u{e9}t\u{e9}\nX-A: \u{e9}\u{fc}\nX-\u{e9}: b\nContent-Length: 1\n\nx"),
    ("controls in a value", "HTTP/1.1 200 OK\nX-A: a\u{1}b\u{7f}\nContent-Length: 1\n\nx"),
    ("a bare CR in a value", "HTTP/1.1 200 OK\nX-A: a\rb\nContent-Length: 1\n\nx"),
    ("an empty name", "HTTP/1.1 200 OK\n: b\nContent-Length: 1\n\nx"),
    ("no header at all", "HTTP/1.1 200 OK\n\nbody"),
    ("an empty line first", "\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx"),
    ("no body, length 0", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("no body, no length", "HTTP/1.1 200 OK\nX-A: b\n\n"),
    ("length with blanks", "HTTP/1.1 200 OK\nContent-Length:  5 \n\nhello"),
    ("length twice, the same", "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5\n\nhello"),
    ("length twice, different", "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 4\n\nhello"),
    ("length that is no number", "HTTP/1.1 200 OK\nContent-Length: five\n\nhello"),
    ("length negative", "HTTP/1.1 200 OK\nContent-Length: -5\n\nhello"),
    ("length beyond 64 bits", "HTTP/1.1 200 OK\nContent-Length: 99999999999999999999\n\nhello"),
    ("length short", "HTTP/1.1 200 OK\nContent-Length: 3\n\nhello"),
    ("length long", "HTTP/1.1 200 OK\nContent-Length: 50\n\nhello"),
    ("hop-by-hop headers", "HTTP/1.1 200 OK\nConnection: keep-alive, x\nKeep-Alive: timeout=5\nTE: x\nTrailer: y\nUpgrade: z\nContent-Length: 1\n\nx"),
    ("Connection: close", "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 1\n\nx"),
    ("204", "HTTP/1.1 204 No Content\nX-A: b\n\n"),
    ("204 with a length and a body", "HTTP/1.1 204 No Content\nContent-Length: 5\n\nhello"),
    ("304", "HTTP/1.1 304 Not Modified\nETag: \"e\"\nLast-Modified: Thu, 01 Jan 2015 00:00:00 GMT\n\n"),
    ("304 with a length", "HTTP/1.1 304 Not Modified\nContent-Length: 5\nETag: W/\"e\"\n\n"),
    ("205", "HTTP/1.1 205 Reset Content\nContent-Length: 0\n\n"),
    ("ETag", "HTTP/1.1 200 OK\nETag: \"abc\"\nContent-Length: 1\n\nx"),
    ("Last-Modified", "HTTP/1.1 200 OK\nLast-Modified: Thu, 01 Jan 2015 00:00:00 GMT\nContent-Length: 1\n\nx"),
    ("Last-Modified that is no date", "HTTP/1.1 200 OK\nLast-Modified: yesterday\nContent-Length: 1\n\nx"),
    ("Accept-Ranges", "HTTP/1.1 200 OK\nAccept-Ranges: bytes\nContent-Length: 5\n\nhello"),
    ("206", "HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-1/5\nContent-Length: 2\n\nhe"),
    ("Content-Type with charset", "HTTP/1.1 200 OK\nContent-Type: text/html; charset=koi8-r\nContent-Length: 1\n\nx"),
    ("Content-Type with parameters", "HTTP/1.1 200 OK\nContent-Type: text/html; a=b; charset=\"utf-8\"; c\nContent-Length: 1\n\nx"),
    ("Content-Type empty", "HTTP/1.1 200 OK\nContent-Type:\nContent-Length: 1\n\nx"),
    ("Content-Type twice", "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Type: text/plain\nContent-Length: 1\n\nx"),
    ("Content-Encoding", "HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 1\n\nx"),
    ("Server and Date", "HTTP/1.1 200 OK\nServer: app/1\nDate: Thu, 01 Jan 2015 00:00:00 GMT\nX-Powered-By: p\nContent-Length: 1\n\nx"),
    ("Expires and Cache-Control", "HTTP/1.1 200 OK\nExpires: Thu, 01 Jan 2015 00:00:00 GMT\nCache-Control: max-age=5, s-maxage=6\nContent-Length: 1\n\nx"),
    ("X-Accel-Expires", "HTTP/1.1 200 OK\nX-Accel-Expires: 60\nContent-Length: 1\n\nx"),
    ("X-Accel-Expires, a time", "HTTP/1.1 200 OK\nX-Accel-Expires: @1000000\nContent-Length: 1\n\nx"),
    ("X-Accel-Limit-Rate", "HTTP/1.1 200 OK\nX-Accel-Limit-Rate: 100000\nContent-Length: 1\n\nx"),
    ("X-Accel-Limit-Rate that is no number", "HTTP/1.1 200 OK\nX-Accel-Limit-Rate: fast\nContent-Length: 1\n\nx"),
    ("X-Accel-Buffering no", "HTTP/1.1 200 OK\nX-Accel-Buffering: no\nContent-Length: 5\n\nhello"),
    ("X-Accel-Buffering yes", "HTTP/1.1 200 OK\nX-Accel-Buffering: YES\n\nhello"),
    ("X-Accel-Buffering else", "HTTP/1.1 200 OK\nX-Accel-Buffering: maybe\n\nhello"),
    ("X-Accel-Charset", "HTTP/1.1 200 OK\nX-Accel-Charset: koi8-r\nContent-Type: text/html\nContent-Length: 1\n\nx"),
    ("X-Accel-Redirect to a file", "HTTP/1.1 200 OK\nX-Accel-Redirect: /internal/file.txt\nContent-Type: text/csv\nX-A: b\nSet-Cookie: c=d\nContent-Length: 5\n\nhello"),
    ("X-Accel-Redirect with a query", "HTTP/1.1 200 OK\nX-Accel-Redirect: /internal/file.txt?a=b\n\n"),
    ("X-Accel-Redirect to a missing file", "HTTP/1.1 200 OK\nX-Accel-Redirect: /internal/none\n\n"),
    ("X-Accel-Redirect to a named location", "HTTP/1.1 200 OK\nX-Accel-Redirect: @named\n\n"),
    ("X-Accel-Redirect that leaves the tree", "HTTP/1.1 200 OK\nX-Accel-Redirect: /internal/../../x\n\n"),
    ("X-Accel-Redirect with a status", "Status: 404 No\nX-Accel-Redirect: /internal/file.txt\nLast-Modified: Thu, 01 Jan 2015 00:00:00 GMT\n\n"),
    ("X-Accel-Redirect empty", "HTTP/1.1 200 OK\nX-Accel-Redirect:\nContent-Length: 1\n\nx"),
    ("101 unasked", "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: upgrade\n\nbytes"),
    ("301", "HTTP/1.1 301 Moved Permanently\nLocation: https://h/\nContent-Length: 0\n\n"),
    ("400", "HTTP/1.1 400 Bad Request\nContent-Length: 3\n\nbad"),
    ("401", "HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Basic\nContent-Length: 3\n\nbad"),
    ("403", "HTTP/1.1 403 Forbidden\nContent-Length: 3\n\nbad"),
    ("404", "HTTP/1.1 404 Not Found\nContent-Length: 3\n\nbad"),
    ("429", "HTTP/1.1 429 Too Many Requests\nRetry-After: 1\nContent-Length: 3\n\nbad"),
    ("499", "HTTP/1.1 499 Odd\nContent-Length: 3\n\nbad"),
    ("500", "HTTP/1.1 500 Internal Server Error\nContent-Length: 3\n\nbad"),
    ("502", "HTTP/1.1 502 Bad Gateway\nContent-Length: 3\n\nbad"),
    ("503", "HTTP/1.1 503 Service Unavailable\nRetry-After: 1\nContent-Length: 3\n\nbad"),
    ("504", "HTTP/1.1 504 Gateway Timeout\nContent-Length: 3\n\nbad"),
    ("999", "HTTP/1.1 999 Last\nContent-Length: 3\n\nbad"),
];

/// The bytes of a row.
pub fn bytes(row: &Row) -> Vec<u8> {
    let lines =
        if row.0.ends_with("(lf)") { row.1.to_string() } else { row.1.replace('\n', "\r\n") };
    lines.into_bytes()
}

const NAME_BYTES: &[u8] = b"abcXYZ019-_ :\t!.\xe9\x01";
const VALUE_BYTES: &[u8] = b"abc XYZ 019 -_=;,\"'\\()/\t:\xe9\xff\x01";

/// A response whose head is assembled at random, valid more often than not.
pub fn random(random: &mut Random) -> Vec<u8> {
    let size = random.below(3000);
    let body = random.bytes(size);
    let mut head: Vec<u8> = match random.below(5) {
        0 => Vec::new(),
        1 => format!("Status: {} Whatever\r\n", 100 + random.below(500)).into_bytes(),
        2 => format!("HTTP/1.1 {}\r\n", 200 + random.below(400)).into_bytes(),
        _ => b"HTTP/1.1 200 OK\r\n".to_vec(),
    };
    for _ in 0..1 + random.below(10) {
        let (row, line) = (random.below(ROWS.len()), random.below(4));
        match ROWS[row].1.lines().take_while(|line| !line.is_empty()).nth(1 + line) {
            Some(line) if !random.once_in(4) => head.extend_from_slice(line.as_bytes()),
            _ => {
                let (name, value) = (1 + random.below(20), random.below(60));
                // Plain names most of the time, or nearly every head would be refused.
                let alphabet = if random.once_in(8) { NAME_BYTES } else { &NAME_BYTES[..10] };
                head.extend(random.text(name, alphabet));
                head.extend_from_slice(b": ");
                head.extend(random.text(value, VALUE_BYTES));
            }
        }
        head.extend_from_slice(if random.once_in(9) { b"\n" } else { b"\r\n" });
    }
    if random.once_in(2) {
        head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    [head, body].concat()
}
