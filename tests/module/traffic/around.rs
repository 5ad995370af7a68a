//! What other modules of nginx do around ours: subrequests, internal redirects, access checks,
//! filters over the response. Client and server see the same as with stock.

use super::{get, request, same};
use crate::prelude::*;
use crate::support::nginx::NO_SOCKET;

/// Answers with what was asked. In the query `s=503` is the status to answer with, `to=/x` an
/// X-Accel-Redirect.
fn telling(peer: &mut Peer) -> io::Result<()> {
    let request = peer.read_request()?;
    let var = |name: &str| request.packet.get(name).unwrap_or_default();
    let query = var("QUERY_STRING");
    let argument = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_string)
    };
    let denied = var("PATH_INFO") == "/auth" && var("REQUEST_URI").contains("denied");
    let status = if denied { "403".to_string() } else { argument("s").unwrap_or("200".into()) };
    // Only the first of a chain of internal redirects leads on: a named location keeps the query.
    let to = argument("to").filter(|_| var("WHERE").is_empty());
    let redirect = to.map_or(String::new(), |to| format!("X-Accel-Redirect: {to}\r\n"));
    let told = ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "WHERE", "USER"]
        .map(|name| format!("{name}={}", var(name)));
    let body = format!("[app {} {}]", told.join(" "), String::from_utf8_lossy(&request.body));
    peer.write(
        format!(
            "Status: {status} Chosen\r\nContent-Type: text/html\r\nX-User: somebody\r\n{redirect}\r\n{body}"
        )
        .as_bytes(),
    )
}

/// `server`, in which `@params@` stands for the standard params, behind a backend that tells.
fn site(builder: crate::support::nginx::Builder, server: &str) -> Pair {
    let server = format!("{STANDARD_PARAMS} {}", server.replace("@params@", STANDARD_PARAMS));
    let pair = Pair::builder(&server).nginx(builder).start();
    pair.backend.set_script(telling);
    pair
}

/// A path, the status, and what the body contains.
type Row<'a> = (&'a str, u16, &'a str);

fn check(pair: &Pair, rows: &[Row]) {
    for (path, status, part) in rows {
        for method in ["GET", "POST", "HEAD"] {
            let body: &[u8] = if method == "POST" { b"posted" } else { b"" };
            let name = format!("{method} {path}");
            let (response, log) = same(pair, &name, &request(method, path, body));
            assert_eq!(response.status, *status, "{name} {log:?}");
            let text = response.text();
            assert!(method == "HEAD" || text.contains(part), "{name}: {part:?} is not in {text}");
        }
    }
}

#[test]
fn internal_redirects() {
    let pair = site(
        Nginx::builder().file("html/files/there.txt", b"from disk").expects(NO_SOCKET),
        "root @dir@/html;
        location /app/ { uwsgi_pass @pass@; }
        location /named { error_page 404 503 @fallback; uwsgi_intercept_errors on; uwsgi_pass @pass@; }
        location /kept { error_page 404 @fallback; uwsgi_pass @pass@; }
        location /replaced { error_page 500 =201 /app/instead?x=y; uwsgi_intercept_errors on; uwsgi_pass @pass@; }
        location /passed { error_page 500 = /app/instead?s=418; uwsgi_intercept_errors on; uwsgi_pass @pass@; }
        location /broken { error_page 502 504 = @fallback; uwsgi_pass unix:@dir@/none; }
        location /twice {
            recursive_error_pages on; uwsgi_intercept_errors on;
            error_page 404 = /twice/again?s=503; error_page 503 = @fallback;
            uwsgi_pass @pass@;
        }
        location /files/ { try_files $uri $uri.txt @fallback; }
        location /tried { try_files /none /app/tried?a=b; }
        location /redirecting { uwsgi_pass @pass@; }
        location /rewritten { rewrite ^/rewritten/(.*) /app/$1?z=1 last; }
        location @fallback { @params@ uwsgi_param WHERE fallback; uwsgi_pass @pass@; }",
    );
    check(
        &pair,
        &[
            ("/named?s=404", 404, "WHERE=fallback"),
            ("/named?s=503", 503, "WHERE=fallback"),
            ("/named?s=500", 500, "PATH_INFO=/named"),
            ("/kept?s=404", 404, "PATH_INFO=/kept"),
            ("/replaced?s=500", 201, "PATH_INFO=/app/instead QUERY_STRING=x=y"),
            ("/passed?s=500", 418, "PATH_INFO=/app/instead"),
            ("/broken?a", 200, "PATH_INFO=/broken QUERY_STRING=a"),
            ("/twice?s=404", 503, "WHERE=fallback"),
            ("/files/none?q", 200, "PATH_INFO=/files/none QUERY_STRING=q"),
            ("/tried", 200, "PATH_INFO=/app/tried QUERY_STRING=a=b"),
            ("/redirecting?to=/app/target", 200, "PATH_INFO=/app/target QUERY_STRING= "),
            ("/redirecting?to=/app/target?c=d", 200, "PATH_INFO=/app/target QUERY_STRING=c=d"),
            ("/redirecting?to=@fallback", 200, "WHERE=fallback"),
            ("/redirecting?s=404&to=/app/target", 200, "PATH_INFO=/app/target"),
            ("/rewritten/x?b", 200, "PATH_INFO=/app/x QUERY_STRING=z=1&b"),
        ],
    );
    let (response, _) = same(&pair, "a file", &get("/files/there"));
    assert_eq!(response.text(), "from disk");
}

/// A header of the first response that must outlive an intercepted 401.
#[test]
fn intercepted_401() {
    let pair = site(
        Nginx::builder(),
        "uwsgi_intercept_errors on; error_page 401 /page;
        location / { uwsgi_pass @pass@; } location /page { internal; return 200 \"log in\"; }",
    );
    pair.backend.set_script(|peer| {
        peer.answer(b"Status: 401 No\r\nWWW-Authenticate: Basic realm=\"r\"\r\nX-A: b\r\n\r\nno")
    });
    let (response, _) = same(&pair, "401", &get("/"));
    assert_eq!((response.status, response.text().as_str()), (401, "log in"));
    assert_eq!(response.header("WWW-Authenticate"), Some("Basic realm=\"r\""));
    assert_eq!(response.header("X-A"), None);
}

#[test]
fn access_checks() {
    let pair = site(
        Nginx::builder(),
        "location / { uwsgi_pass @pass@; }
        location /any/address { satisfy any; allow 127.0.0.0/8; deny all; auth_request /auth; uwsgi_pass @pass@; }
        location /any/asked { satisfy any; deny all; auth_request /auth; uwsgi_pass @pass@; }
        location /all/address { satisfy all; deny all; auth_request /auth; uwsgi_pass @pass@; }
        location /all/asked { satisfy all; allow all; auth_request /auth; uwsgi_pass @pass@; }
        location /user {
            auth_request /auth; auth_request_set $user $upstream_http_x_user;
            @params@ uwsgi_param USER $user; uwsgi_pass @pass@;
        }
        location = /auth {
            # stock announces a length all the same, unless told not to
            internal; uwsgi_pass_request_body off;
            uwsgi_param REQUEST_URI $request_uri; uwsgi_param PATH_INFO $document_uri;
            uwsgi_param CONTENT_LENGTH \"\"; uwsgi_pass @pass@;
        }",
    );
    check(
        &pair,
        &[
            ("/any/address?denied", 200, "PATH_INFO=/any/address"),
            ("/any/asked", 200, "PATH_INFO=/any/asked"),
            ("/any/asked?denied", 403, ""),
            ("/all/address", 403, ""),
            ("/all/asked", 200, "PATH_INFO=/all/asked"),
            ("/all/asked?denied", 403, ""),
            ("/user", 200, "USER=somebody"),
        ],
    );
    // The body goes to the application alone, whole, and the check is told of none.
    let before = pair.backend.requests().len();
    same(&pair, "a body", &request("POST", "/user", b"posted"));
    let requests = pair.backend.requests().split_off(before);
    assert_eq!(requests.len(), 4);
    for (checked, passed) in [(&requests[0], &requests[1]), (&requests[2], &requests[3])] {
        assert_eq!(checked.packet.get("REQUEST_URI").as_deref(), Some("/user"));
        assert_eq!((checked.body.as_slice(), passed.body.as_slice()), (&b""[..], &b"posted"[..]));
    }
}

#[test]
fn filters() {
    let compress = "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; gzip_vary on;";
    let pair = site(
        Nginx::builder(),
        &format!(
            "location / {{ uwsgi_pass @pass@; }}
            location /gzip {{ {compress} uwsgi_pass @pass@; }}
            location /gzip/unbuffered {{ {compress} uwsgi_buffering off; uwsgi_pass @pass@; }}
            location /sub {{ sub_filter app APPLICATION; sub_filter_once off; uwsgi_pass @pass@; }}
            location /both {{ {compress} sub_filter PATH PFAD; uwsgi_pass @pass@; }}
            location /charset {{ charset koi8-r; uwsgi_pass @pass@; }}
            location /added {{ add_before_body /first; add_after_body /last; uwsgi_pass @pass@; }}
            location /headers {{ add_header X-B c always; expires 1h; etag on; uwsgi_pass @pass@; }}
            location /mirrored {{ mirror /mirror; uwsgi_pass @pass@; }}
            location = /mirror {{ internal; uwsgi_pass @pass@; }}"
        ),
    );
    check(
        &pair,
        &[
            ("/sub", 200, "[APPLICATION "),
            ("/sub?s=404", 404, "[APPLICATION "),
            ("/both", 200, "PFAD_INFO=/both"),
            ("/charset", 200, "PATH_INFO=/charset"),
            ("/added", 200, "PATH_INFO=/last QUERY_STRING= "),
            ("/headers", 200, "[app "),
            ("/headers?s=404", 404, "[app "),
        ],
    );
    for path in ["/gzip", "/gzip/unbuffered", "/both"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
        let (response, _) = same(&pair, path, request.as_bytes());
        assert_eq!(response.header("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(&response.body[..2], b"\x1f\x8b", "{path}");
    }
    let before = pair.backend.requests().len();
    for side in SIDES {
        let response = crate::support::client::post(pair.address(side), "/mirrored", b"both");
        assert_eq!(response.status, 200, "{side:?}");
    }
    let mirrored = |index| pair.backend.wait_request(before + index);
    let mut seen: Vec<_> = (0..4)
        .map(mirrored)
        .map(|request| (request.packet.get("PATH_INFO").unwrap(), request.body))
        .collect();
    seen.sort();
    let expected = ["/mirror", "/mirror", "/mirrored", "/mirrored"];
    assert_eq!(seen, expected.map(|path| (path.to_string(), b"both".to_vec())));
}

/// The server compresses, the client cannot read that, and nginx unpacks.
#[test]
fn gunzip() {
    let pair = site(
        Nginx::builder(),
        "location / { gunzip on; uwsgi_pass @pass@; }
        location /pack { gzip on; gzip_types *; gzip_min_length 1; uwsgi_pass @pass@; }",
    );
    let headers = "Accept-Encoding: gzip\r\nConnection: close\r\n";
    let packed = get_with(pair.address(SIDES[0]), "/pack", headers).body;
    assert_eq!(&packed[..2], b"\x1f\x8b");
    pair.backend.set_script(move |peer| {
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")?;
        peer.write(&packed)
    });
    let (response, _) = same(&pair, "gunzip", &get("/"));
    assert!(response.text().contains("PATH_INFO=/pack"), "{}", response.text());
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n";
    assert_eq!(same(&pair, "packed", request).0.header("Content-Encoding"), Some("gzip"));
}

/// Pages with SSI commands, from the application itself; subrequests into it, into memory, failing.
#[test]
fn server_side_includes() {
    // No stub for the empty answer: nginx, with either module, puts it there once or twice, as the
    // end of the answer comes with its head or after it.
    let page = "<!--# include virtual=\"/app/one?a\" -->\n\
        <!--# include virtual=\"/app/none?s=404\" -->\n\
        <!--# include virtual=\"/app/kept\" set=\"kept\" --><!--# echo var=\"kept\" encoding=\"none\" -->\n\
        <!--# block name=\"stub\" -->a stub<!--# endblock -->\
        <!--# include virtual=\"/broken\" stub=\"stub\" -->\n\
        <!--# include virtual=\"/app/empty\" wait=\"yes\" -->\n\
        <!--# include virtual=\"/unbuffered\" -->\n\
        <!--# include virtual=\"/nested\" -->end";
    let pair = site(
        Nginx::builder().expects(NO_SOCKET),
        "ssi on; ssi_value_length 4096;
        location / { uwsgi_pass @pass@; }
        location /unbuffered { uwsgi_buffering off; uwsgi_pass @pass@; }
        location /broken { uwsgi_pass unix:@dir@/none; }",
    );
    pair.backend.set_script(move |peer| {
        let head = "Status: 200 OK\r\nContent-Type: text/html\r\n\r\n";
        // The packet is known only after reading it, and `telling` reads it itself.
        let request = peer.read_request()?;
        let path = request.packet.get("PATH_INFO").unwrap();
        let body = match path.as_str() {
            "/" => page.to_string(),
            "/nested" => "(<!--# include virtual=\"/app/deep\" -->)".to_string(),
            "/app/empty" => String::new(),
            _ => format!("[{path} {}]", request.packet.get("QUERY_STRING").unwrap()),
        };
        peer.write(format!("{head}{body}").as_bytes())
    });
    for method in ["GET", "POST"] {
        let body: &[u8] = if method == "POST" { b"posted" } else { b"" };
        let [stock, ours] = SIDES.map(|side| {
            crate::support::client::exchange(pair.address(side), &request(method, "/", body))
        });
        assert_eq!(stock.text(), ours.text(), "{method}");
        assert_eq!(stock.undated(), ours.undated(), "{method}");
        let text = ours.text();
        for part in [
            "[/app/one a]",
            "[/app/none s=404]",
            "[/app/kept ]",
            "a stub",
            "[/unbuffered ]",
            "([/app/deep ])end",
        ] {
            assert!(text.contains(part), "{method}: {part:?} is not in {text}");
        }
    }
}

/// A large response in slices: the slice filter makes a subrequest for each range.
#[test]
fn slices() {
    let pair = site(
        Nginx::builder(),
        "location / { slice 4; @params@ uwsgi_param HTTP_RANGE $slice_range; uwsgi_pass @pass@; }",
    );
    pair.backend.set_script(|peer| {
        let range = peer.read_request()?.packet.get("HTTP_RANGE").unwrap();
        let (from, _) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let content = "0123456789";
        let part = &content[from..content.len().min(from + 4)];
        peer.write(
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/10\r\n\
                ETag: \"e\"\r\nContent-Length: {}\r\n\r\n{part}",
                from + part.len() - 1,
                part.len()
            )
            .as_bytes(),
        )
    });
    let (response, _) = same(&pair, "all slices", &get("/"));
    assert_eq!((response.status, response.text().as_str()), (200, "0123456789"));
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=3-8\r\n\r\n";
    let (response, _) = same(&pair, "some slices", request);
    assert_eq!((response.status, response.text().as_str()), (206, "345678"));
}
