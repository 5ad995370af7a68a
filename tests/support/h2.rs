//! The least HTTP/2 client (RFC 9113) that can send any header field as it is: one request on a
//! connection of its own, or several at once on one, fields as HPACK literals (RFC 7541, never
//! Huffman coded). Of a response it knows status, body and end; curl shows the rest. The crate h2 refuses
//! to send what nginx has to refuse, as `connection` and names in capitals.

use super::DEADLINE;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `:status`, or None when the stream was reset or the connection ended without one.
    pub status: Option<u16>,
    /// All DATA.
    pub body: Vec<u8>,
    /// The error code of RST_STREAM or GOAWAY; None after END_STREAM.
    pub error: Option<u32>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The default and least maximum frame size.
const FRAME: usize = 16384;

/// Sends one request from `local`: `fields` in order, pseudo-header fields first, and `body` when
/// there is one (a body of no bytes is an empty DATA frame).
pub fn exchange(
    local: SocketAddr,
    to: SocketAddr,
    fields: &[(&[u8], &[u8])],
    body: Option<&[u8]>,
) -> io::Result<Answer> {
    watched(local, to, fields, body, |_| {})
}

/// The same; `watch` sees what has come after each frame.
pub fn watched(
    local: SocketAddr,
    to: SocketAddr,
    fields: &[(&[u8], &[u8])],
    body: Option<&[u8]>,
    watch: impl FnMut(&Answer),
) -> io::Result<Answer> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.connect(&to.into())?;
    socket.set_nodelay(true)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut exchange = Exchange {
        stream,
        connection_window: 65535,
        stream_window: 65535,
        initial_window: 65535,
        answer: Answer { status: None, body: Vec::new(), error: None },
        ended: false,
    };
    exchange.run(fields, body, watch)?;
    Ok(exchange.answer)
}

struct Exchange {
    stream: TcpStream,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    answer: Answer,
    ended: bool,
}

impl Exchange {
    fn run(
        &mut self,
        fields: &[(&[u8], &[u8])],
        body: Option<&[u8]>,
        mut watch: impl FnMut(&Answer),
    ) -> io::Result<()> {
        let block = field_block(fields);
        let mut opening = opening();
        let end_stream = if body.is_none() { END_STREAM } else { 0 };
        let pieces: Vec<&[u8]> = block.chunks(FRAME).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let last = if i + 1 == pieces.len() { END_HEADERS } else { 0 };
            match i {
                0 => frame(&mut opening, HEADERS, last | end_stream, 1, piece),
                _ => frame(&mut opening, CONTINUATION, last, 1, piece),
            }
        }
        self.stream.write_all(&opening)?;
        if let Some(body) = body {
            self.send_body(body)?;
        }
        while !self.ended {
            self.read_frame()?;
            watch(&self.answer);
        }
        Ok(())
    }

    fn send_body(&mut self, mut body: &[u8]) -> io::Result<()> {
        loop {
            let window = self.connection_window.min(self.stream_window).max(0) as usize;
            let size = body.len().min(window).min(FRAME);
            if size == 0 && !body.is_empty() {
                self.read_frame()?;
                if self.ended {
                    return Ok(());
                }
                continue;
            }
            let (piece, rest) = body.split_at(size);
            let mut bytes = Vec::with_capacity(size + 9);
            frame(&mut bytes, DATA, if rest.is_empty() { END_STREAM } else { 0 }, 1, piece);
            if self.stream.write_all(&bytes).is_err() {
                return Ok(()); // refused early; the answer says why
            }
            self.connection_window -= size as i64;
            self.stream_window -= size as i64;
            body = rest;
            if body.is_empty() {
                return Ok(());
            }
        }
    }

    fn read_frame(&mut self) -> io::Result<()> {
        let Frame { kind, flags, stream, payload } = read_frame(&mut self.stream)?;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            DATA => self.answer.body.extend_from_slice(&payload),
            HEADERS => self.answer.status = status(&payload),
            RST_STREAM => self.answer.error = Some(number(0)),
            GOAWAY if number(4) != 0 => self.answer.error = Some(number(4)),
            WINDOW_UPDATE if stream == 0 => self.connection_window += i64::from(number(0)),
            WINDOW_UPDATE => self.stream_window += i64::from(number(0)),
            SETTINGS if flags & 1 == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[1] == 4 {
                        let size = i64::from(u32::from_be_bytes(setting[2..6].try_into().unwrap()));
                        self.stream_window += size - self.initial_window;
                        self.initial_window = size;
                    }
                }
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, 1, 0, &[]);
                self.stream.write_all(&ack)?;
            }
            _ => {}
        }
        self.ended |= self.answer.error.is_some();
        self.ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        Ok(())
    }
}

/// Sends requests without bodies on one connection, each on a stream of its own, all of them before
/// anything is read; the answers in the order of the requests.
pub fn concurrent(to: SocketAddr, requests: &[Vec<(&[u8], &[u8])>]) -> io::Result<Vec<Answer>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut bytes = opening();
    for (fields, number) in requests.iter().zip((1..).step_by(2)) {
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, number, &field_block(fields));
    }
    stream.write_all(&bytes)?;
    let empty = Answer { status: None, body: Vec::new(), error: None };
    let mut answers = vec![empty; requests.len()];
    let mut open = requests.len();
    while open > 0 {
        let Frame { kind, flags, stream: number, payload } = read_frame(&mut stream)?;
        let code = || u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap());
        match (kind, number) {
            (GOAWAY, _) => return Err(io::Error::other("the connection was given up")),
            (SETTINGS, 0) if flags & 1 == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, 1, 0, &[]);
                stream.write_all(&ack)?;
            }
            (_, 0) => {}
            (_, number) => {
                let answer = &mut answers[(number as usize - 1) / 2];
                match kind {
                    DATA => answer.body.extend_from_slice(&payload),
                    HEADERS => answer.status = status(&payload),
                    RST_STREAM => answer.error = Some(code()),
                    _ => {}
                }
                let data = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
                open -= usize::from(data || kind == RST_STREAM);
            }
        }
    }
    Ok(answers)
}

/// The connection preface, with windows as large as they go, so that no response is held back.
fn opening() -> Vec<u8> {
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut opening, SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frame(&mut opening, WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes());
    opening
}

fn field_block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // literal, not indexed, new name
        for part in [name, value] {
            integer(&mut block, part.len());
            block.extend_from_slice(part);
        }
    }
    block
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload)?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// An HPACK integer with a prefix of seven bits.
fn integer(out: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// nginx puts `:status` first: indexed from the static table, or as three plain digits.
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let mut fields = block.iter().copied().skip_while(|b| b & 0xe0 == 0x20);
    match fields.next()? {
        first @ 0x88..=0x8e => Some(INDEXED[usize::from(first - 0x88)]),
        0x48 | 0x08 if fields.next()? == 3 => {
            String::from_utf8(fields.take(3).collect()).ok()?.parse().ok()
        }
        _ => None,
    }
}
