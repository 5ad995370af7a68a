//! Each intended difference from stock, one test each.

use crate::prelude::*;

/// One server; where `server` has no location, `location /` passes everything.
pub fn serving(server: &str) -> Site {
    serving_on("listen 127.0.0.1:@port@;", server)
}

/// As `serving`, with a `listen` directive of its own.
fn serving_on(listen: &str, server: &str) -> Site {
    let pass =
        if server.contains("location") { "" } else { "location / { rs_uwsgi_pass @pass@; }" };
    Site::answering(&format!(
        "server {{ {listen} large_client_header_buffers 8 64k; {server} {pass} }}"
    ))
}

/// The one line of level error or above that `request` leaves, and the response.
fn refused(site: &Site, request: &str) -> (Response, String) {
    let severe = || {
        let lines = site.nginx.error_log().into_iter();
        lines.filter(|line| ["error", "crit", "alert", "emerg"].contains(&line.level.as_str()))
    };
    let (lines, connections) = (severe().count(), site.backend.connection_count());
    let requests = site.nginx.access_log().len();
    let response = exchange(site.nginx.address(), request.as_bytes());
    site.nginx.wait_requests(requests + 1);
    let new: Vec<_> = severe().skip(lines).collect();
    assert_eq!(new.len(), 1, "{request}: {new:#?}");
    assert_eq!(site.backend.connection_count(), connections, "the backend was connected to");
    (response, new[0].text.clone())
}

#[test]
fn standard_params_when_none_is_configured() {
    let site = serving("server_name site.test;");
    let request = "POST /a%20b//c?d=e HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nhi";
    let packet = site.packet(request);
    let address = site.nginx.address();
    let root = format!("{}", site.nginx.path("html").display());
    let port = address.port().to_string();
    let expected = [
        ("QUERY_STRING", "d=e"),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_TYPE", "text/x"),
        ("CONTENT_LENGTH", "2"),
        ("REQUEST_URI", "/a%20b//c?d=e"),
        ("PATH_INFO", "/a b/c"),
        ("DOCUMENT_ROOT", root.as_str()),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("SERVER_PORT", port.as_str()),
        ("SERVER_NAME", "site.test"),
        ("HTTP_HOST", "site.test"),
    ];
    for (name, value) in expected {
        assert_eq!(packet.get(name).as_deref(), Some(value), "{name}");
    }
    assert!(packet.get("REMOTE_PORT").unwrap().parse::<u16>().unwrap() > 0);
    assert_eq!(packet.get("HTTPS"), None);
    // One param of one's own is a set of one's own.
    let own = serving("rs_uwsgi_param ONLY this;");
    assert_eq!(own.get("/").names(), ["ONLY", "HTTP_HOST"]);
}

#[test]
fn host_is_the_one_that_nginx_acts_on() {
    let site = serving("rs_uwsgi_param A b;");
    for (request, names, host) in [
        (
            "GET http://a:81/x HTTP/1.1\r\nX-A: 1\r\nHost: b\r\n\r\n",
            &["A", "HTTP_X_A", "HTTP_HOST"][..],
            "a:81",
        ),
        ("GET http://a/x HTTP/1.1\r\nHost: b:82\r\n\r\n", &["A", "HTTP_HOST"], "a"),
        ("GET http://a:81?q HTTP/1.0\r\nX-A: 1\r\n\r\n", &["A", "HTTP_HOST", "HTTP_X_A"], "a:81"),
        ("GET http://[::1]:81/ HTTP/1.1\r\nHost: b\r\n\r\n", &["A", "HTTP_HOST"], "[::1]:81"),
        ("GET / HTTP/1.1\r\nHost: b:82\r\n\r\n", &["A", "HTTP_HOST"], "b:82"),
    ] {
        let packet = site.packet(request);
        assert_eq!(packet.names(), names, "{request}");
        assert_eq!(packet.get("HTTP_HOST").as_deref(), Some(host), "{request}");
    }
    // nginx moves a request line that outgrows its first buffer while parsing it.
    for size in [900, 1000, 1020, 1024, 2000, 30_000] {
        let path = "p".repeat(size);
        let packet = site.packet(&format!("GET http://a:81/{path} HTTP/1.1\r\nHost: b\r\n\r\n"));
        assert_eq!(packet.get("HTTP_HOST").as_deref(), Some("a:81"), "{size} bytes of path");
    }
    assert_eq!(site.packet("GET / HTTP/1.0\r\n\r\n").names(), ["A"]);
}

#[test]
fn repeated_headers_are_joined() {
    let site = serving("");
    let packet = site.packet(
        "GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nCookie: a=1\r\nAccept: x\r\nx-a: 2\r\ncookie: b=2\r\nX-A:\r\n\r\n",
    );
    assert_eq!(packet.get("HTTP_X_A").as_deref(), Some("1, 2, "));
    assert_eq!(packet.get("HTTP_COOKIE").as_deref(), Some("a=1; b=2"));
    let headers: Vec<_> =
        packet.names().into_iter().filter(|name| name.starts_with("HTTP_")).collect();
    assert_eq!(headers, ["HTTP_HOST", "HTTP_X_A", "HTTP_COOKIE", "HTTP_ACCEPT"]);
}

const HOP_BY_HOP: &str =
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\nKeep-Alive: 1\r\nProxy-Connection: y\r\n\
    TE: trailers\r\nTrailer: z\r\nProxy: http://evil\r\nX-A: 1\r\n\r\n";

#[test]
fn dropped_headers() {
    for (directive, expected) in [
        ("", &["HTTP_HOST", "HTTP_X_A"][..]),
        (
            "rs_uwsgi_drop_headers off;",
            &[
                "HTTP_HOST",
                "HTTP_CONNECTION",
                "HTTP_KEEP_ALIVE",
                "HTTP_PROXY_CONNECTION",
                "HTTP_TE",
                "HTTP_TRAILER",
                "HTTP_PROXY",
                "HTTP_X_A",
            ],
        ),
        (
            "rs_uwsgi_drop_headers x-a Proxy te;",
            &[
                "HTTP_HOST",
                "HTTP_CONNECTION",
                "HTTP_KEEP_ALIVE",
                "HTTP_PROXY_CONNECTION",
                "HTTP_TRAILER",
            ],
        ),
    ] {
        let site = serving(&format!("rs_uwsgi_param A b; {directive}"));
        assert_eq!(site.packet(HOP_BY_HOP).names()[1..], *expected, "{directive}");
    }
    let site = serving("rs_uwsgi_param A b;");
    let chunked =
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let before = site.backend.requests().len();
    assert_eq!(exchange(site.nginx.address(), chunked.as_bytes()).status, 200);
    let request = site.backend.wait_request(before);
    assert_eq!(request.packet.get("HTTP_TRANSFER_ENCODING"), None);
    assert_eq!(request.body, b"hi");
}

#[test]
fn an_upgrade_request_keeps_its_headers() {
    let site = serving("rs_uwsgi_param A b;");
    let packet = site.packet(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, Keep-Alive\r\nUpgrade: websocket\r\nKeep-Alive: 1\r\n\r\n",
    );
    assert_eq!(packet.names(), ["A", "HTTP_HOST", "HTTP_CONNECTION", "HTTP_UPGRADE"]);
    assert_eq!(packet.get("HTTP_CONNECTION").as_deref(), Some("Upgrade, Keep-Alive"));
    let kept = serving("rs_uwsgi_param A b; rs_uwsgi_drop_headers Upgrade Connection;");
    let packet =
        kept.packet("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(packet.names(), ["A", "HTTP_HOST", "HTTP_CONNECTION", "HTTP_UPGRADE"]);
}

/// What CONTENT_LENGTH says, whatever the configuration says.
#[test]
fn content_length_is_the_body_that_follows() {
    let standard = "rs_uwsgi_param CONTENT_LENGTH $content_length;";
    for (params, length, body, expected) in [
        (standard, "4", "body", Some("4")),
        (standard, "0004", "body", Some("4")),
        (standard, "0", "", Some("0")),
        ("rs_uwsgi_param CONTENT_LENGTH 999;", "4", "body", Some("4")),
        ("rs_uwsgi_param CONTENT_LENGTH \"\";", "4", "body", Some("4")),
        ("rs_uwsgi_param CONTENT_LENGTH $http_x if_not_empty;", "4", "body", Some("4")),
        (
            "rs_uwsgi_param CONTENT_LENGTH 1; rs_uwsgi_param CONTENT_LENGTH 2;",
            "4",
            "body",
            Some("4"),
        ),
        ("rs_uwsgi_param A b;", "4", "body", Some("4")),
        (
            "rs_uwsgi_param CONTENT_LENGTH $content_length; rs_uwsgi_request_buffering off;",
            "4",
            "body",
            Some("4"),
        ),
    ] {
        let site = serving(params);
        let request =
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}");
        let packet = site.packet(&request);
        // Packet::get panics when it is there twice.
        assert_eq!(packet.get("CONTENT_LENGTH").as_deref(), expected, "{params} {length}");
        assert_eq!(site.backend.wait_request(0).body, body.as_bytes(), "{params} {length}");
    }
}

/// HTTP/2 has bodies of unknown length without a word for it in the head. They are read to their end
/// first, even where buffering is off.
#[test]
fn content_length_of_an_http2_body_that_says_none() {
    let site = serving_on("listen 127.0.0.1:@port@ http2;", "rs_uwsgi_request_buffering off;");
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")];
    let body = vec![b'b'; 40_000];
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let answer = h2::exchange(local, site.nginx.address(), &fields, Some(&body)).unwrap();
    assert_eq!(answer.status, Some(200));
    let request = site.backend.wait_request(0);
    assert_eq!(request.packet.get("CONTENT_LENGTH").as_deref(), Some("40000"));
    assert!(request.body == body);
}

/// Interim responses are consumed: stock takes the first of them for the final one.
#[test]
fn interim_responses_are_not_the_final_one() {
    let site = serving("");
    let last = "HTTP/1.1 200 OK\r\nX-Of: the last\r\nContent-Length: 5\r\n\r\nhello";
    for first in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Of: the second\r\n\r\n",
    ] {
        site.backend.set_script(move |peer| peer.answer(format!("{first}{last}").as_bytes()));
        let response = get(site.nginx.address(), "/");
        assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]), "{first}");
        assert_eq!(response.header("X-Of"), Some("the last"), "{first}");
        assert_eq!(response.header("Link"), None, "{first}");
    }
}

/// Chunks are decoded: clients of stock get the marks as text. A client of HTTP/1.0, which knows no
/// chunks, shows what is inside of those that nginx makes itself.
#[test]
fn chunks_are_decoded() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n\
        5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: c\r\n\r\n";
    for buffering in ["on", "off"] {
        let site = serving(&format!("rs_uwsgi_buffering {buffering};"));
        site.backend.set_script(|peer| peer.answer(response.as_bytes()));
        for version in ["1.0", "1.1"] {
            let request = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
            let response = exchange(site.nginx.address(), request.as_bytes());
            assert_eq!((response.status, response.text().as_str()), (200, "hello world"));
            assert_eq!(response.header("X-A"), Some("b"));
            assert_eq!(response.header("X-Trailer"), None);
        }
    }
}

#[test]
fn content_length_without_a_body() {
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for (params, expected) in [
        ("", Some("")),
        ("rs_uwsgi_param A b;", None),
        ("rs_uwsgi_param CONTENT_LENGTH $content_length if_not_empty;", None),
    ] {
        let packet = serving(params).packet(get);
        assert_eq!(packet.get("CONTENT_LENGTH").as_deref(), expected, "{params:?}");
    }
    // A wrong value would announce a body that does not follow.
    let packet = serving("rs_uwsgi_param CONTENT_LENGTH 5;").packet(get);
    let length = packet.get("CONTENT_LENGTH");
    assert!(matches!(length.as_deref(), None | Some("" | "0")), "{length:?}");
}

#[test]
fn content_length_when_the_body_is_not_passed() {
    for params in
        ["", "rs_uwsgi_param CONTENT_LENGTH $content_length;", "rs_uwsgi_request_buffering off;"]
    {
        let site = serving(&format!("{params} rs_uwsgi_pass_request_body off;"));
        let response = post(site.nginx.address(), "/", b"not passed");
        assert_eq!(response.status, 200);
        let received = site.backend.take_ended(0, 1).remove(0);
        let (packet, rest) = Packet::parse(&received).unwrap();
        assert_eq!(packet.get("CONTENT_LENGTH").as_deref(), Some("0"), "{params}");
        assert_eq!(rest, b"", "{params}");
    }
}

#[test]
fn modifiers_by_number_name_and_variable() {
    for (value, expected) in [
        ("5", 5),
        ("255", 255),
        ("wsgi", 0),
        ("psgi", 5),
        ("lua", 6),
        ("rack", 7),
        ("cgi", 9),
        ("php", 14),
        ("22", 22),
        ("$arg_m", 14),
        ("1$arg_m", 114),
    ] {
        let packet = serving(&format!("rs_uwsgi_modifier1 {value};")).get("/?m=14");
        assert_eq!((packet.modifier1, packet.modifier2), (expected, 0), "{value}");
    }
    let packet = serving("rs_uwsgi_modifier2 $arg_m;").get("/?m=255");
    assert_eq!((packet.modifier1, packet.modifier2), (0, 255));
}

#[test]
fn modifiers_that_no_variable_may_choose() {
    let site = serving("rs_uwsgi_modifier1 $arg_m; rs_uwsgi_modifier2 $arg_n;");
    let control = ["10", "17", "18", "22", "97", "98", "110", "111", "173", "224"];
    for wrong in
        ["256", "-1", "abc", "", "1x", "%20", "99999999999", "spooler"].iter().chain(&control)
    {
        let request = format!("GET /?m={wrong}&n=0 HTTP/1.1\r\nHost: h\r\n\r\n");
        let (response, line) = refused(&site, &request);
        assert_eq!(response.status, 500, "{wrong:?}");
        assert!(line.contains("rs_uwsgi_modifier1"), "{line}");
        assert!(line.contains(&format!("\"{wrong}\"")) || *wrong == "spooler", "{wrong:?}: {line}");
    }
    let (response, line) = refused(&site, "GET /?m=0&n=256 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(response.status, 500);
    assert!(line.contains("rs_uwsgi_modifier2") && line.contains("256"), "{line}");
    assert_eq!(site.get("/?m=5&n=6").modifier2, 6);
}

#[test]
fn dangerous_vars_only_by_an_explicit_word() {
    let site = serving("rs_uwsgi_param UWSGI_FILE $arg_f unsafe; rs_uwsgi_param UWSGI_CHDIR /srv;");
    let packet = site.get("/?f=app.py");
    assert_eq!(packet.get("UWSGI_FILE").as_deref(), Some("app.py"));
    assert_eq!(packet.get("UWSGI_CHDIR").as_deref(), Some("/srv"));
    for name in [
        "FILE",
        "SCRIPT",
        "MODULE",
        "CALLABLE",
        "HOME",
        "PYHOME",
        "SETENV",
        "POSTFILE",
        "CHDIR",
        "TOUCH_RELOAD",
        "APPID",
        "CACHE_GET",
    ] {
        let conf = format!("server {{ rs_uwsgi_param UWSGI_{name} $arg_f; }}");
        let check = Nginx::builder().http(&conf).check();
        assert_eq!(check.status.code(), Some(1), "UWSGI_{name}");
        assert!(check.stderr.contains(&format!("UWSGI_{name}")), "{}", check.stderr);
    }
    // A client's header of that name is another var.
    let packet = serving("").packet("GET / HTTP/1.1\r\nHost: h\r\nUwsgi-File: x\r\n\r\n");
    assert_eq!(packet.get("UWSGI_FILE"), None);
    assert_eq!(packet.get("HTTP_UWSGI_FILE").as_deref(), Some("x"));
}

#[test]
fn vars_too_large_for_the_protocol() {
    let site = serving("");
    let value = "v".repeat(40_000);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Small: 1\r\nX-Big: {value}x\r\nX-Next: {value}\r\n\r\n"
    );
    let (response, line) = refused(&site, &request);
    assert_eq!(response.status, 431);
    assert!(line.contains("HTTP_X_BIG"), "{line}");
    let sizes: Vec<usize> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(sizes.iter().any(|&size| size > 80_000 && size < 81_000), "no size in {line}");
    // One var that alone is larger than any length field.
    let query = "q".repeat(64_000);
    let long = serving("rs_uwsgi_param TWICE $args$args;");
    let (response, _) = refused(&long, &format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(response.status, 431);
}

#[test]
fn vars_up_to_the_last_byte() {
    // The vars are exactly as large as wanted: one param and one header of known size.
    let site = serving("rs_uwsgi_param A b; rs_uwsgi_max_vars 65535;");
    let fixed = (2 + 1 + 2 + 1) + (2 + "HTTP_HOST".len() + 2 + 1) + 2 * (2 + "HTTP_X_A".len() + 2);
    let request = |size: usize| {
        let (first, second) = (40_000, size - fixed - 40_000);
        let (a, b) = ("v".repeat(first), "v".repeat(second));
        format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: {a}\r\nX-B: {b}\r\n\r\n")
    };
    let packet = site.packet(&request(65_535));
    assert_eq!(packet.raw.len(), 65_535);
    let (response, line) = refused(&site, &request(65_536));
    assert_eq!(response.status, 431);
    assert!(line.contains("65536") && line.contains("65535"), "{line}");
}

#[test]
fn max_vars() {
    let site = serving("rs_uwsgi_param A b; rs_uwsgi_max_vars 100;");
    assert_eq!(get(site.nginx.address(), "/").status, 200);
    let value = "v".repeat(100);
    let (response, line) =
        refused(&site, &format!("GET / HTTP/1.1\r\nHost: h\r\nX-Mine: {value}\r\n\r\n"));
    assert_eq!(response.status, 431);
    assert!(line.contains("100") && line.contains("HTTP_X_MINE"), "{line}");
    assert!(!line.contains(&value[..50]), "the value itself may be a secret: {line}");
}

#[test]
fn mount_splits_the_path() {
    let site = serving(
        "location /app { rs_uwsgi_mount /app; rs_uwsgi_pass @pass@; }
        location /own { rs_uwsgi_mount /own/; rs_uwsgi_param SCRIPT_NAME x; rs_uwsgi_param PATH_INFO $uri; rs_uwsgi_pass @pass@; }
        location / { rs_uwsgi_pass @pass@; }",
    );
    for (path, script_name, path_info) in [
        ("/app", Some("/app"), ""),
        ("/app/", Some("/app"), "/"),
        ("/app/x/y?z", Some("/app"), "/x/y"),
        ("/app/a%20b", Some("/app"), "/a b"),
        ("/own/x", Some("/own"), "/x"),
        ("/other", None, "/other"),
    ] {
        let packet = site.get(path);
        assert_eq!(packet.get("SCRIPT_NAME").as_deref(), script_name, "{path}");
        assert_eq!(packet.get("PATH_INFO").as_deref(), Some(path_info), "{path}");
    }
    // /application is not below /app.
    let packet = site.get("/application");
    assert!(matches!(packet.get("SCRIPT_NAME").as_deref(), None | Some("")), "{packet:?}");
    assert_eq!(packet.get("PATH_INFO").as_deref(), Some("/application"));
}

/// A header with `HTTP_` param of the same name is replaced, also when it is repeated.
#[test]
fn params_replace_headers() {
    let site = serving("rs_uwsgi_param HTTP_X_REAL $remote_addr; rs_uwsgi_param HTTP_X_GONE \"\";");
    let before = site.backend.requests().len();
    get_with(
        site.nginx.address(),
        "/",
        "X-Real: spoofed\r\nx-real: again\r\nX-Gone: 1\r\nConnection: close\r\n",
    );
    let packet = site.backend.wait_request(before).packet;
    assert_eq!(packet.get("HTTP_X_REAL").as_deref(), Some("127.0.0.1"));
    assert_eq!(packet.get("HTTP_X_GONE"), None);
}
