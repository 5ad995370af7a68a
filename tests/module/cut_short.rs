//! Responses that nginx cannot keep for a slow client: the log says so, and the client can tell.

use crate::prelude::*;
use std::io::{Read, Write};
use std::net::TcpStream;

const LENGTH: usize = 32 << 20;

/// What a client gets that reads when nginx has given up, and how that ends: a response of 32 MB with these headers.
fn response(headers: &str, request: &[u8]) -> (Vec<u8>, io::Result<usize>) {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
    let answer = [head.as_bytes(), &vec![b'x'; LENGTH]].concat();
    let backend = Backend::tcp(move |peer| {
        peer.read_request()?;
        peer.write(&answer)
    });
    let nginx = Nginx::builder()
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@; location / {{
                rs_uwsgi_temp_path @dir@/temp/pages; rs_uwsgi_pass {}; }} }}",
            backend.address()
        ))
        .expects("open() \"")
        .start();
    // what should be a folder is a file
    let folder = nginx.path("temp/pages");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    let mut client = TcpStream::connect(nginx.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(request).unwrap();
    let said = nginx.wait_logged("response is cut short");
    assert_eq!(said.level, "error");
    let text = "response is cut short: nginx could not keep what its client has not read yet";
    assert!(said.text.starts_with(text), "{}", said.text);
    let mut bytes = Vec::new();
    let end = client.read_to_end(&mut bytes);
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && bytes.len() < LENGTH);
    (bytes, end)
}

#[test]
fn an_announced_length_is_missed() {
    let length = format!("Content-Length: {LENGTH}\r\n");
    let (bytes, _) = response(&length, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(memchr::memmem::find(&bytes, length.as_bytes()).is_some());
}

#[test]
fn the_last_chunk_is_missing() {
    let (bytes, _) = response("", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(memchr::memmem::find(&bytes, b"Transfer-Encoding: chunked\r\n").is_some());
    assert!(!bytes.ends_with(b"\r\n0\r\n\r\n"));
}

#[test]
fn a_connection_that_alone_ends_the_response_is_reset() {
    let (_, end) = response("", b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
