//! A real uWSGI with a Python application behind the module, over a unix socket and over TCP.

use crate::prelude::*;

/// The module before each application server: nginx and uWSGI.
fn sites(extra: &str) -> [(Nginx, Uwsgi); 2] {
    let application = root().join("tests/support/application.py");
    [Uwsgi::unix(&application), Uwsgi::tcp(&application)].map(|uwsgi| {
        let server = format!(
            "client_max_body_size 0; {extra} location / {{ rs_uwsgi_pass {}; }}",
            uwsgi.address()
        );
        (Nginx::serve(&server), uwsgi)
    })
}

#[test]
fn environment_of_the_application() {
    for (nginx, uwsgi) in sites("") {
        let response = get_with(
            nginx.address(),
            "/environ/a%20b?c=d",
            "X-A: 1\r\nX-A: 2\r\nProxy: evil\r\nConnection: close\r\n",
        );
        assert_eq!(response.status, 200, "{}", uwsgi.log());
        let environ = response.text();
        for line in [
            "PATH_INFO=/environ/a b",
            "QUERY_STRING=c=d",
            "REQUEST_METHOD=GET",
            "HTTP_X_A=1, 2",
            "HTTP_HOST=t",
            "SERVER_PROTOCOL=HTTP/1.1",
            "REMOTE_ADDR=127.0.0.1",
            "wsgi.url_scheme=http",
        ] {
            assert!(environ.lines().any(|l| l == line), "{line} is not in\n{environ}");
        }
        assert!(!environ.contains("evil"), "{environ}");
    }
}

#[test]
fn bodies_come_back() {
    let body = Random::new(20).bytes(5 << 20);
    for extra in ["", "rs_uwsgi_request_buffering off; rs_uwsgi_buffering off;"] {
        for (nginx, uwsgi) in sites(extra) {
            for size in [0, 1, 10_000, body.len()] {
                let response = post(nginx.address(), "/echo", &body[..size]);
                assert_eq!(response.status, 200, "{}", uwsgi.log());
                assert!(response.body == body[..size], "{size} bytes, {extra}");
            }
            let chunked = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
            assert_eq!(exchange(nginx.address(), chunked).text(), "abcdefg");
        }
    }
}

#[test]
fn streamed_and_empty_answers() {
    for (nginx, uwsgi) in sites("") {
        let streamed = get(nginx.address(), "/stream");
        assert_eq!(streamed.end, End::Chunked, "{}", uwsgi.log());
        assert_eq!(streamed.text(), (0..10).map(|i| format!("line {i}\n")).collect::<String>());
        let cookies = get(nginx.address(), "/cookies");
        let set: Vec<_> = cookies.headers.iter().filter(|(name, _)| name == "Set-Cookie").collect();
        assert_eq!(set.len(), 2, "{cookies:?}");
        for (path, status) in
            [("/status/204", 204), ("/status/304", 304), ("/status/404", 404), ("/status/503", 503)]
        {
            assert_eq!(get(nginx.address(), path).status, status, "{path}");
        }
        let mut client = Client::connect(nginx.address());
        for method in ["HEAD", "GET"] {
            client.send(format!("{method} /echo HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            assert_eq!(client.response(method == "HEAD").unwrap().status, 200, "{method}");
        }
    }
}

/// uWSGI echoes SERVER_PROTOCOL in its status line: `HTTP/2.0 200 OK`.
#[test]
fn http2_to_the_application() {
    let uwsgi = Uwsgi::unix(&root().join("tests/support/application.py"));
    let nginx = Nginx::start(&format!(
        "server {{ listen 127.0.0.1:@port@ http2; location / {{ rs_uwsgi_pass {}; }} }}",
        uwsgi.address()
    ));
    let answer = curl::http2(nginx.address(), "/environ/", &["--data", "a=b"]);
    assert_eq!(answer.head[0].trim_end(), "HTTP/2 200");
    let environ = String::from_utf8(answer.body).unwrap();
    assert!(environ.contains("SERVER_PROTOCOL=HTTP/2.0\n"), "{environ}");
    assert!(environ.contains("CONTENT_LENGTH=3\n"), "{environ}");
}

/// Larger than uWSGI's buffer (it resets) but within the protocol: an error, and life goes on.
#[test]
fn vars_too_large_for_the_server() {
    for (nginx, _uwsgi) in sites("large_client_header_buffers 8 64k; rs_uwsgi_max_vars 4k;") {
        let header = format!("X-A: {}\r\nConnection: close\r\n", "a".repeat(6000));
        assert_eq!(get_with(nginx.address(), "/echo", &header).status, 431);
        assert_eq!(get(nginx.address(), "/echo").status, 200);
    }
}
