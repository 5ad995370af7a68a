//! Many requests in one go on one client connection: each gets its own answer, in order, whatever
//! the one before it was.

use super::{everything, get, request};
use crate::prelude::*;

#[test]
fn mixed_requests_at_once() {
    let pair = everything("large_client_header_buffers 8 16k;");
    // The path says how to answer.
    pair.backend.set_script(|peer| {
        let request = peer.read_request()?;
        let uri = request.packet.get("REQUEST_URI").unwrap();
        let text = format!("{uri} {}", String::from_utf8_lossy(&request.body));
        let length = format!("Content-Length: {}\r\n", text.len());
        match uri.split('/').nth(1).unwrap() {
            "length" => peer.write(format!("HTTP/1.1 200 OK\r\n{length}\r\n{text}").as_bytes()),
            "end" => peer.write(format!("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n{text}").as_bytes()),
            "cgi" => peer.write(format!("Status: 404 No\r\n\r\n{text}").as_bytes()),
            "none" => peer.write(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "large" => {
                peer.write(b"HTTP/1.1 200 OK\r\n\r\n")?;
                peer.write(text.repeat(20_000).as_bytes())
            }
            "broken" => peer.write(b"HTTP/1.1 2"),
            kind => panic!("{kind}"),
        }
    });
    let kinds = ["length", "end", "cgi", "none", "large", "broken"];
    let mut wire = Vec::new();
    let mut methods = Vec::new();
    for number in 0..60 {
        let kind = kinds[number % kinds.len()];
        let path = format!("/{kind}/{number}");
        let method = ["GET", "POST", "HEAD", "PUT"][number / kinds.len() % 4];
        let body =
            if matches!(method, "POST" | "PUT") { "b".repeat(number * 50) } else { String::new() };
        wire.extend(request(method, &path, body.as_bytes()));
        methods.push(method);
    }
    wire.extend(get("/length/last"));
    methods.push("GET");
    let answers = SIDES.map(|side| {
        let mut client = Client::connect(pair.address(side));
        std::thread::scope(|scope| {
            // nginx does not read on while it answers, so that sending and reading must overlap.
            let mut sender = client.another_end();
            let wire = &wire;
            scope.spawn(move || sender.send(wire));
            let answer = |method: &&str| {
                let response = client.response(*method == "HEAD").unwrap();
                (response.undated(), response.text())
            };
            methods.iter().map(answer).collect::<Vec<_>>()
        })
    });
    for (number, (stock, ours)) in answers[0].iter().zip(&answers[1]).enumerate() {
        assert_eq!(stock, ours, "request {number}");
    }
    assert_eq!(answers[1].last().unwrap().1, "/length/last ");
    // the master logs it when the worker may already be serving
    pair.nginx.wait_logged("start worker process ");
    let pid = pair.nginx.logged("start worker process ").len();
    assert_eq!(pid, 1, "a worker was replaced");
}
