//! An HTTP/1.0 and 1.1 client that sends exactly the bytes it is given, from a chosen local port if
//! asked, and keeps what came back undecoded beside the decoded form (RFC 9112). hyper sends requests that
//! are in order, and does not show a response's bytes.

use super::backend::Address;
use super::{wait_for, DEADLINE};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// One connection to a server.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    eof: bool,
}

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response has no body (HEAD, 1xx, 204, 304).
    NoBody,
    /// Content-Length bytes came.
    Length,
    /// The last chunk came.
    Chunked,
    /// The connection ended and nothing else says where the body ends.
    Close,
    /// The connection ended before the framing was complete.
    Cut,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The head as it came, with the empty line; 1xx heads before it included.
    pub head: Vec<u8>,
    /// The code of the final status line.
    pub status: u16,
    /// Names and values in order.
    pub headers: Vec<(String, String)>,
    /// The body, decoded when chunked.
    pub body: Vec<u8>,
    /// What ended it.
    pub end: End,
}

impl Client {
    /// Connects from any port.
    pub fn connect(to: SocketAddr) -> Client {
        Client::wrap(TcpStream::connect(to).unwrap())
    }

    /// Connects from `local`, which may be in use by another connection at the same time.
    pub fn connect_from(local: SocketAddr, to: SocketAddr) -> io::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.connect(&to.into())?;
        Ok(Client::wrap(socket.into()))
    }

    /// Connects to a server itself, also over a unix socket.
    pub fn connect_to(address: &Address) -> Client {
        Client::wrap(address.connect().unwrap().into())
    }

    fn wrap(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        // A unix socket refuses, and has no such delay.
        let _ = stream.set_nodelay(true);
        Client { stream, buffer: Vec::new(), eof: false }
    }

    /// A second handle of the connection, for sending while this one reads.
    pub fn another_end(&self) -> Client {
        Client::wrap(self.stream.try_clone().unwrap())
    }

    /// The address this end is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends all of `bytes`. A server may answer and close before it has read everything, so a
    /// failure is left to show in the response.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until all that was sent has arrived at the server's host.
    pub fn wait_arrived(&self) {
        wait_for("the server's host to have everything", || {
            let mut unsent: libc::c_int = -1;
            // SAFETY: the number of bytes goes into an int, which is valid for the call (tcp(7)).
            let status =
                unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
            (status == 0 && unsent == 0).then_some(())
        });
    }

    /// Ends the sending direction only.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one response; `head_only` for the answer to HEAD. An error when the connection ends
    /// before the head is complete; a 1xx response is the final one when nothing comes after it.
    pub fn response(&mut self, head_only: bool) -> io::Result<Response> {
        let mut head = Vec::new();
        loop {
            let part = self.read_head()?;
            let status = status_of(&part)?;
            head.extend_from_slice(&part);
            let interim = (100..200).contains(&status) && status != 101;
            if interim && (!self.buffer.is_empty() || self.fill()?) {
                continue;
            }
            let headers = headers_of(&part);
            let (body, end) = self.read_body(status, &headers, head_only)?;
            return Ok(Response { head, status, headers, body, end });
        }
    }

    /// Reads a head, with the empty line that ends it.
    pub fn read_head(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(self.buffer.drain(..at + 4).collect());
            }
            if !self.fill()? {
                let text = format!("connection ended after {:?}", super::show(&self.buffer));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
        }
    }

    /// Reads exactly `size` raw bytes.
    pub fn read_exact(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < size {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..size).collect())
    }

    /// Reads raw bytes until the server closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(true)) {}
        std::mem::take(&mut self.buffer)
    }

    fn read_body(
        &mut self,
        status: u16,
        headers: &[(String, String)],
        head_only: bool,
    ) -> io::Result<(Vec<u8>, End)> {
        if head_only || status < 200 || status == 204 || status == 304 {
            return Ok((Vec::new(), End::NoBody));
        }
        let find = |name: &str| {
            headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
        };
        if find("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.read_chunked();
        }
        let Some(length) = find("Content-Length").and_then(|value| value.parse().ok()) else {
            return Ok((self.read_to_end(), End::Close));
        };
        while self.buffer.len() < length {
            if !self.fill().unwrap_or(false) {
                return Ok((std::mem::take(&mut self.buffer), End::Cut));
            }
        }
        Ok((self.buffer.drain(..length).collect(), End::Length))
    }

    fn read_chunked(&mut self) -> io::Result<(Vec<u8>, End)> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.read_line() else { return Ok((body, End::Cut)) };
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("chunk {line:?}"))
            })?;
            while self.buffer.len() < size + 2 {
                if !self.fill().unwrap_or(false) {
                    body.append(&mut self.buffer);
                    return Ok((body, End::Cut));
                }
            }
            body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
            if size == 0 {
                return Ok((body, End::Chunked));
            }
        }
    }

    fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.fill().unwrap_or(false) {
                return None;
            }
        }
    }

    /// Reads more; false at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        if self.eof {
            return Ok(false);
        }
        let mut bytes = [0; 65536];
        let count = super::uninterrupted(|| self.stream.read(&mut bytes))?;
        self.buffer.extend_from_slice(&bytes[..count]);
        self.eof = count == 0;
        Ok(count > 0)
    }
}

impl Response {
    /// The value of the first header `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The head with the values of Date and Expires blanked, which tell the second: all that may differ between
    /// two equal answers.
    pub fn undated(&self) -> String {
        let head = super::show(&self.head).replace("\\r\\n", "\n");
        let blank = |line: &str| match line.split_once(": ") {
            Some((name @ ("Date" | "Expires"), _)) => format!("{name}: -"),
            _ => line.to_string(),
        };
        head.lines().map(blank).collect::<Vec<_>>().join("\n")
    }
}

/// Sends `request` on a connection of its own and reads the response.
pub fn exchange(to: SocketAddr, request: &[u8]) -> Response {
    let mut client = Client::connect(to);
    client.send(request);
    client.response(request.starts_with(b"HEAD ")).unwrap()
}

/// `GET path` with HTTP/1.1, a Host and no other header.
pub fn get(to: SocketAddr, path: &str) -> Response {
    exchange(to, format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())
}

/// `GET path` with more header lines, each ended by CRLF.
pub fn get_with(to: SocketAddr, path: &str, headers: &str) -> Response {
    exchange(to, format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n").as_bytes())
}

/// `POST path` with a Content-Length body.
pub fn post(to: SocketAddr, path: &str, body: &[u8]) -> Response {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n");
    exchange(to, &[head.as_bytes(), body].concat())
}

fn status_of(head: &[u8]) -> io::Result<u16> {
    let line = String::from_utf8_lossy(head.split(|&b| b == b'\r').next().unwrap_or_default());
    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("status line {line:?}")))
}

fn headers_of(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect()
}
