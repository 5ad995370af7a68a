//! Requests for the oracle: what a client may send, sensible or not, from a repeatable sequence.

use crate::prelude::*;

/// The body and how it is framed.
#[derive(Clone, Debug)]
pub enum Body {
    /// None, and no header that speaks of one.
    None,
    /// Content-Length, written as given.
    Plain(String, Vec<u8>),
    /// Transfer-Encoding: chunked, in chunks of these sizes (the last one repeated).
    Chunked(Vec<usize>, Vec<u8>),
}

/// One request of HTTP/1.
#[derive(Clone, Debug)]
pub struct Request {
    /// As in the request line.
    pub method: String,
    /// As in the request line, absolute form included.
    pub target: Vec<u8>,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: &'static str,
    /// Header lines in order, without those that frame the body.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Body,
}

impl Request {
    /// A GET of HTTP/1.1 with a Host.
    pub fn get(target: &str) -> Request {
        Request {
            method: "GET".to_string(),
            target: target.as_bytes().to_vec(),
            version: "HTTP/1.1",
            headers: vec![(b"Host".to_vec(), b"example.org".to_vec())],
            body: Body::None,
        }
    }

    /// The same with another method.
    pub fn method(mut self, method: &str) -> Request {
        self.method = method.to_string();
        self
    }

    /// The same with another version.
    pub fn version(mut self, version: &'static str) -> Request {
        self.version = version;
        self
    }

    /// The same with another header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The same without any header.
    pub fn bare(mut self) -> Request {
        self.headers.clear();
        self
    }

    /// The same with a body under Content-Length.
    pub fn plain(mut self, body: Vec<u8>) -> Request {
        self.body = Body::Plain(body.len().to_string(), body);
        self
    }

    /// The same with a chunked body.
    pub fn chunked(mut self, chunk: usize, body: Vec<u8>) -> Request {
        self.body = Body::Chunked(vec![chunk], body);
        self
    }

    /// The bytes of the body, decoded.
    pub fn payload(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::Plain(_, bytes) | Body::Chunked(_, bytes) => bytes,
        }
    }

    /// Host and port of a target in absolute form.
    pub fn authority(&self) -> Option<&[u8]> {
        let rest = self.target.strip_prefix(b"http://")?;
        let end = rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len());
        Some(&rest[..end])
    }

    /// The request as sent.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = self.method.as_bytes().to_vec();
        wire.push(b' ');
        wire.extend_from_slice(&self.target);
        wire.extend_from_slice(format!(" {}\r\n", self.version).as_bytes());
        for (name, value) in &self.headers {
            wire.extend_from_slice(&[name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        match &self.body {
            Body::None => wire.extend_from_slice(b"\r\n"),
            Body::Plain(length, body) => {
                wire.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
                wire.extend_from_slice(body);
            }
            Body::Chunked(sizes, body) => {
                wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                let mut sizes = sizes.iter().chain(sizes.last().into_iter().cycle());
                let mut rest = body.as_slice();
                while !rest.is_empty() {
                    let size = *sizes.next().unwrap();
                    let (chunk, after) = rest.split_at(size.clamp(1, rest.len()));
                    wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    wire.extend_from_slice(&[chunk, b"\r\n"].concat());
                    rest = after;
                }
                wire.extend_from_slice(b"0\r\n\r\n");
            }
        }
        wire
    }
}

const METHODS: [&str; 18] = [
    "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    "MKCOL", "LOCK", "REPORT", "M-SEARCH", "X_ODD", "TRACE", "CONNECT",
];

const SEGMENTS: [&str; 30] = [
    "a",
    "index.html",
    "static",
    "%41",
    "%2F",
    "%2f..",
    "%20",
    "+",
    "..",
    ".",
    "",
    "%C3%A9",
    "caf\u{e9}",
    "%00x",
    "%zz",
    "%",
    "a%3Fb",
    "a;b=c",
    "a,b",
    "~user",
    "(x)",
    "a:b",
    "@",
    "$1",
    "&",
    "a%5C..%5Cb",
    "%25",
    "%25%32%46",
    "\"q\"",
    "<x>",
];

const QUERIES: [&str; 14] = [
    "",
    "?",
    "?a=1",
    "?a=1&b=2&a=3",
    "?x=%20y+z",
    "?%",
    "?%zz",
    "??",
    "?a=b?c",
    "?\u{e9}",
    "?a#b",
    "#f",
    "?next=http://h/p",
    "?a=/../b",
];

const NAMES: [&str; 32] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "User-Agent",
    "Referer",
    "Cookie",
    "COOKIE",
    "X-Forwarded-For",
    "X-Real-IP",
    "X-A",
    "x-a",
    "X-a",
    "Authorization",
    "Content-Type",
    "Range",
    "Cache-Control",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Proxy",
    "Upgrade",
    "Expect",
    "X",
    "X-1",
    "X--B",
    "-",
    "Via",
    "Forwarded",
    "If-Range",
    "x_under",
];

const VALUES: [&str; 16] = [
    "",
    "x",
    "text/html;q=0.9, */*",
    "a=1; b=2",
    "\u{e9}\u{fc}",
    "keep-alive",
    "close",
    "Upgrade",
    "websocket",
    "gzip, deflate, br",
    "bytes=0-1",
    "\"quoted\"",
    "a,b,,c",
    "  inner  spaces  ",
    "100-continue",
    "\tafter a tab",
];

const NAME_CHARACTERS: &[u8] = b"ABCXYZabcxyz0189----";
const VALUE_CHARACTERS: &[u8] = b"abcxyzABC019 -_=;,/()[]\"'\\!#$%&*+.:<>?@^`{|}~\t\x80\xe9\xff";

/// A request of HTTP/1, `index`th of its sequence.
pub fn random(random: &mut Random) -> Request {
    let mut request = Request::get("/");
    request.method = random.pick(&METHODS).to_string();
    request.target = target(random);
    if random.once_in(5) {
        request.version = "HTTP/1.0";
    }
    if request.version == "HTTP/1.0" && random.once_in(3) {
        request.headers.clear();
    }
    for _ in 0..random.below(8) {
        let (name, value) = header(random);
        request.headers.push((name, value));
    }
    if random.once_in(12) {
        for i in 0..random.below(100) {
            request.headers.push((format!("X-Many-{i}").into_bytes(), b"v".to_vec()));
        }
    }
    request.body = body(random, &request.method);
    request
}

/// A header field; names of the usual kind, odd ones, and long values among them.
pub fn header(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let name = match random.below(6) {
        0 => {
            let size = 1 + random.below(40);
            random.text(size, NAME_CHARACTERS)
        }
        _ => random.pick(&NAMES).as_bytes().to_vec(),
    };
    let value = match random.below(8) {
        0 => {
            let size = random.below(3000);
            random.text(size, VALUE_CHARACTERS)
        }
        1 | 2 => {
            let size = random.below(60);
            random.text(size, VALUE_CHARACTERS)
        }
        _ => random.pick(&VALUES).as_bytes().to_vec(),
    };
    (name, value)
}

/// A path with a query, long once in a while, in absolute form once in a while.
pub fn target(random: &mut Random) -> Vec<u8> {
    let mut target = String::new();
    if random.once_in(12) {
        target += random.pick(&[
            "http://other.example",
            "http://a:81",
            "http://example.org",
            "http://127.0.0.1:9",
        ]);
    }
    for _ in 0..1 + random.below(5) {
        target += "/";
        target += random.pick(&SEGMENTS);
    }
    if random.once_in(15) {
        target += &"/long%20path".repeat(random.below(500));
    }
    target += random.pick(&QUERIES);
    if random.once_in(15) {
        target += &"&q=v%2F".repeat(random.below(800));
    }
    target.into_bytes()
}

fn body(random: &mut Random, method: &str) -> Body {
    let has_body = matches!(method, "POST" | "PUT" | "PATCH" | "PROPFIND" | "LOCK" | "REPORT");
    if !(has_body || random.once_in(6)) || random.once_in(6) {
        return Body::None;
    }
    let size = match random.below(8) {
        0 => 0,
        1 => 1,
        2 => 4096,
        3 => 16384 + random.below(3),
        4 => random.below(200_000),
        _ => random.below(3000),
    };
    let bytes = random.bytes(size);
    match random.below(3) {
        0 => Body::Chunked((0..5).map(|_| 1 + random.below(size + 100)).collect(), bytes),
        1 if random.once_in(4) => Body::Plain(format!("00{size}"), bytes),
        _ => Body::Plain(size.to_string(), bytes),
    }
}
