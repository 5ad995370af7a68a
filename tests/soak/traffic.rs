//! One client of the soak: requests of every kind, each with a token of its own, which everything that
//! comes back is held against.

use crate::site::{LIMITED, OTHERS};
use crate::support::client::{Client, End};
use crate::support::h2;
use crate::support::random::Random;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How requests ended, by what is printed of each: a status, "aborted", "cut", "closed".
pub type Ends = BTreeMap<String, usize>;

/// What one client does and saw.
pub struct Traffic {
    /// Where nginx speaks HTTP/1.1, and HTTP/2.
    pub to: [SocketAddr; 2],
    /// Decides everything.
    pub random: Random,
    /// How requests ended so far.
    pub ends: Ends,
}

struct Request {
    method: &'static str,
    path: String,
    token: String,
    /// Whole lines that the honest servers answer a GET with, none where that is not known.
    lines: Option<usize>,
    body: Vec<u8>,
    chunked: bool,
    headers: String,
}

impl Traffic {
    /// One connection with some requests. Panics where anything is lost or somebody else's.
    pub fn step(&mut self) {
        match self.random.below(10) {
            0 => self.http2(),
            1 | 2 => self.abort(),
            _ => self.connection(),
        }
    }

    fn connection(&mut self) {
        let mut client = Client::connect(self.to[0]);
        for number in 0..1 + self.random.below(5) {
            let request = self.request();
            client.send(&request.bytes());
            let what = format!("{} {}", request.method, request.path);
            let response = match client.response(request.method == "HEAD") {
                Ok(response) => response,
                // A connection that was idle may be closed at the same moment.
                Err(_) if number > 0 => return self.count("closed"),
                Err(error) => panic!("{what}: lost: {error}"),
            };
            request.check(&response.head);
            request.check(&response.body);
            let honest = response.status == 200 && response.end != End::Cut;
            if let Some(lines) = request.lines.filter(|_| honest && request.method == "GET") {
                let expected = format!("{}\n", request.token).repeat(lines);
                // Without a length the end of the connection ends it, also where the server was killed.
                let whole = match what.contains("/stream/") {
                    true => expected.as_bytes().starts_with(&response.body),
                    false => expected.as_bytes() == response.body,
                };
                let (end, got) = (response.end, response.body.len());
                assert!(whole, "{what}: {end:?}, {got} bytes of {}", expected.len());
            }
            self.count(&response.status.to_string());
            if response.end == End::Cut {
                return self.count("cut");
            }
            let close = response.header("Connection") == Some("close");
            if close || response.end == End::Close {
                return;
            }
        }
    }

    fn http2(&mut self) {
        let request = self.request();
        let fields: [(&[u8], &[u8]); 4] = [
            (b":method", request.method.as_bytes()),
            (b":scheme", b"http"),
            (b":authority", b"t"),
            (b":path", request.path.as_bytes()),
        ];
        let body = (request.method == "POST").then_some(&request.body[..]);
        let what = format!("HTTP/2 {} {}", request.method, request.path);
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let answer = h2::exchange(local, self.to[1], &fields, body);
        let answer = answer.unwrap_or_else(|error| panic!("{what}: lost: {error}"));
        request.check(&answer.body);
        assert!(answer.status.is_some() || answer.error.is_some(), "{what}: lost");
        self.count(&format!("HTTP/2 {:?} {:?}", answer.status, answer.error));
    }

    /// Sends a request or a part of it, and leaves at some moment.
    fn abort(&mut self) {
        let mut client = Client::connect(self.to[0]);
        let bytes = self.request().bytes();
        let sent = match self.random.once_in(2) {
            true => bytes.len(),
            false => self.random.below(bytes.len()),
        };
        client.send(&bytes[..sent]);
        std::thread::sleep(Duration::from_millis(self.random.below(40) as u64));
        if self.random.once_in(3) {
            client.half_close();
        }
        self.count("aborted");
    }

    fn request(&mut self) -> Request {
        let places = [&LIMITED[..], &OTHERS[..]].concat();
        let place = places[self.random.below(places.len())];
        let kind = match place {
            "ssi" => "include",
            _ => self.random.pick(&["length", "length", "length", "stream", "slow"]),
        };
        // What is cached is the same for all who ask for it.
        let token = match place.starts_with("cache") {
            true => format!("tok-{:016x}", self.random.below(50)),
            false => format!("tok-{:016x}", self.random.next()),
        };
        let most = if self.random.once_in(10) { 20_000 } else { 50 };
        let count = self.random.below(most) + 1;
        let method = *self.random.pick(&[&"GET", &"GET", &"GET", &"POST", &"HEAD"]);
        let most = if self.random.once_in(5) { 5_000 } else { 20 };
        let length = self.random.below(most);
        let body = match method {
            "POST" => format!("{token}\n").repeat(length).into_bytes(),
            _ => Vec::new(),
        };
        let headers = match self.random.below(12) {
            0 => "If-Match: \"nope\"\r\n",
            1 => "If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT\r\n",
            2 => "If-None-Match: *\r\n",
            3 => "Range: bytes=0-20\r\n",
            _ => "",
        };
        let known = LIMITED.contains(&place) || place == "auth";
        Request {
            method,
            path: format!("/{place}/{kind}/{token}?{count}"),
            token,
            lines: known.then_some(count),
            body,
            chunked: self.random.once_in(3),
            headers: headers.to_string(),
        }
    }

    fn count(&mut self, end: &str) {
        *self.ends.entry(end.to_string()).or_default() += 1;
    }
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let Request { method, path, headers, body, .. } = self;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}");
        match (*method, self.chunked) {
            ("POST", true) => {
                let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
                let chunk = |part: &[u8]| {
                    [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
                };
                let chunks = body.chunks(3000).flat_map(chunk);
                head.into_bytes().into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect()
            }
            ("POST", false) => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                [head.as_bytes(), body].concat()
            }
            _ => format!("{head}\r\n").into_bytes(),
        }
    }

    /// Every token in `bytes` is this request's, and no server was given another's body.
    fn check(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let what = format!("{} {}", self.method, self.path);
        assert!(
            !text.contains("X-Mixed"),
            "{what}: the server got a body of somebody else: {text}"
        );
        for (at, _) in text.match_indices("tok-") {
            // One that is cut off may only be a part.
            let end = text.len().min(at + self.token.len());
            assert!(self.token.starts_with(&text[at..end]), "{what}: got {}", &text[at..end]);
        }
    }
}
