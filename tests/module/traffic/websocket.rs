//! WebSocket (RFC 6455) through a real application: an echo on the API of Debian's uWSGI 2.0.21.

use crate::prelude::*;

/// Key and answer from RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// A frame as clients send it: masked (RFC 6455, 5.2), its length in the shortest of three forms.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![opcode];
    match payload.len() {
        size @ 0..=125 => frame.push(0x80 | size as u8),
        size @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        size => {
            frame.push(0x80 | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The opcode and the payload of a frame as servers send it: not masked.
fn read_frame(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.read_exact(2).unwrap();
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let size = match head[1] {
        126 => number(client.read_exact(2).unwrap()),
        127 => number(client.read_exact(8).unwrap()),
        size => usize::from(size),
    };
    (head[0], client.read_exact(size).unwrap())
}

#[test]
fn echo_through_an_application() {
    let uwsgi = Uwsgi::unix(&root().join("tests/module/traffic/websocket.py"));
    let server = format!("{STANDARD_PARAMS} location / {{ uwsgi_pass {}; }}", uwsgi.address());
    let nginx = Nginx::builder()
        .http(&format!("server {{ listen 127.0.0.1:@port@; {server} }}"))
        .http(&format!("server {{ listen 127.0.0.2:@port@; {} }}", translated(&server)))
        .start();
    let heads = SIDES.map(|side| {
        let host = if side == Side::Stock { 1 } else { 2 };
        let mut client = Client::connect(nginx.address_of(0, [127, 0, 0, host]));
        client.send(
            format!(
                "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
            )
            .as_bytes(),
        );
        let response = client.response(false).unwrap();
        assert_eq!(response.status, 101, "{side:?}: {}", uwsgi.log());
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT), "{side:?}");
        // One frame of each form of length, each echoed before the next is sent.
        for size in [5, 125, 126, 2000, 70_000] {
            let text: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
            client.send(&frame(TEXT, &text));
            let (opcode, echo) = read_frame(&mut client);
            assert_eq!(opcode, TEXT, "{side:?}");
            assert!(echo == text, "{side:?}: {size} bytes came back changed");
        }
        // Many at once.
        let texts: Vec<_> = (0..200).map(|i| format!("message {i}").into_bytes()).collect();
        let all: Vec<u8> = texts.iter().flat_map(|text| frame(TEXT, text)).collect();
        client.send(&all);
        for text in texts {
            assert_eq!(read_frame(&mut client), (TEXT, text), "{side:?}");
        }
        // The application ends, and nginx passes the end on.
        client.send(&frame(CLOSE, &1000u16.to_be_bytes()));
        client.read_to_end();
        response.undated()
    });
    assert_eq!(heads[0], heads[1], "left stock, right ours");
    assert_eq!(nginx.wait_requests(2).iter().filter(|line| line.contains(" 101 ")).count(), 2);
}
