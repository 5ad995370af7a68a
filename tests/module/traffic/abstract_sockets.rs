//! `unix:@name`: sockets that have a name in Linux's abstract namespace and no file. Stock looks for a
//! file "@name", so there is nothing to compare with.

use super::OK;
use crate::prelude::*;
use crate::support::nginx::prefix;
use socket2::SockAddr;

/// A name that no other test has, nor another run of this one.
fn name(of: &str) -> String {
    format!("rs-uwsgi-{of}-{}", std::process::id())
}

/// Listens on the name, whose every byte is `bytes`.
fn backend(name: &str, bytes: &str, script: fn(&mut Peer) -> std::io::Result<()>) -> Backend {
    let bytes = SockAddr::unix(format!("\0{bytes}")).unwrap();
    Backend::listen(Address::Unix(format!("@{name}").into()), &bytes, 128, Arc::new(script))
}

/// A real uWSGI with `socket = @name`, whose name ends with a NUL.
#[test]
fn uwsgi() {
    let application = root().join("tests/support/application.py");
    let arguments = ["--wsgi-file", application.to_str().unwrap()];
    let address = Address::Unix(format!("@{}", name("uwsgi")).into());
    let uwsgi = Uwsgi::start(prefix(), address, &arguments);
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", uwsgi.address()));
    let response = get(nginx.address(), "/environ/a");
    assert_eq!(response.status, 200, "{:#?}", nginx.error_log());
    assert!(response.text().contains("PATH_INFO=/environ/a"), "{}", response.text());
}

/// Every place that an address can stand in, for servers that end the name with a NUL and for those
/// that do not; connections are used again, and the log and the variables say the name as it was
/// written.
#[test]
fn everywhere() {
    for (kind, end) in [("ended", "\0"), ("exact", "")] {
        let name = name(kind);
        let backend = backend(&name, &format!("{name}{end}"), |peer| loop {
            peer.read_request()?;
            peer.write(
                b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            )?;
        });
        let nginx = Nginx::builder()
            .http(&format!(
                "upstream block {{ server unix:@{name}; }}
                 map $arg_to $address {{ block block; default unix:@{name}; }}
                 server {{ listen 127.0.0.1:@port@;
                   add_header X-Server $upstream_addr;
                   add_header X-Connection $rs_uwsgi_connection;
                   location /plain {{ rs_uwsgi_pass unix:@{name}; }}
                   location /scheme {{ rs_uwsgi_pass uwsgi://unix:@{name}:; }}
                   location /block {{ rs_uwsgi_pass block; }}
                   location /variable {{ rs_uwsgi_pass $address; }}
                   location /part {{ rs_uwsgi_pass unix:@$arg_name; }}
                 }}"
            ))
            .start();
        let part = format!("/part?name={name}");
        for path in ["/plain", "/scheme", "/block", "/variable", "/variable?to=block", &part] {
            for _ in 0..2 {
                let response = get(nginx.address(), path);
                assert_eq!(response.status, 200, "{path} {kind}: {:#?}", nginx.error_log());
                assert_eq!(response.header("X-Server"), Some(&*format!("unix:@{name}")));
            }
            let response = get(nginx.address(), path);
            assert_eq!(response.header("X-Connection"), Some("reused"), "{path} {kind}");
        }
        assert_eq!(backend.requests().len(), 18);
    }
}

/// Nobody listens: one line, and no advice about the permissions of a file. The server may come later.
#[test]
fn nobody_listens() {
    let name = name("nobody");
    let nginx = Nginx::serve(&format!(
        "location / {{ rs_uwsgi_pass unix:@{name}; }}
         location /later {{ rs_uwsgi_connect_retry 1h; rs_uwsgi_pass unix:@{name}; }}"
    ));
    assert_eq!(get(nginx.address(), "/").status, 502);
    let failed = format!("connect() to unix:@{name} failed (111: Connection refused)");
    assert_eq!(nginx.logged(&failed).len(), 1, "{:#?}", nginx.error_log());
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| get(nginx.address(), "/later").status);
        nginx.wait_logged("refuses connections, requests wait for it");
        let backend = backend(&name, &format!("{name}\0"), |peer| peer.answer(OK));
        wait_for("the request", || (!backend.requests().is_empty()).then_some(()));
        assert_eq!(answer.join().unwrap(), 200);
    });
}

#[test]
fn names_that_cannot_be() {
    let check = |pass: &str| {
        let server = format!("location / {{ rs_uwsgi_pass {pass}; }}");
        let http = format!("server {{ listen 127.0.0.1:@port@; {server} }}");
        let check = Nginx::builder().http(&http).check();
        (check.status.success(), check.stderr)
    };
    for pass in ["unix:@", "uwsgi://unix:@", "unix:@:"] {
        let (accepted, said) = check(pass);
        assert!(!accepted, "{pass}");
        assert!(said.contains("no name in the abstract unix domain socket"), "{pass}: {said}");
    }
    // with the byte in front and the one behind as long as an address may be
    let (longest, longer) = ("n".repeat(106), "n".repeat(107));
    assert!(check(&format!("unix:@{longest}")).0);
    let (accepted, said) = check(&format!("unix:@{longer}"));
    assert!(!accepted && said.contains("too long path in the unix domain socket"), "{said}");

    let backend = backend(&longest, &format!("{longest}\0"), |peer| peer.answer(OK));
    let nginx = Nginx::builder()
        .http(
            "upstream nameless { server unix:@; }
             server { listen 127.0.0.1:@port@;
               location / { rs_uwsgi_pass unix:@$arg_name; }
               location /block { rs_uwsgi_pass nameless; } }",
        )
        .expects("connect() to unix:@ failed")
        .start();
    assert_eq!(get(nginx.address(), &format!("/?name={longest}")).status, 200);
    assert_eq!(backend.requests().len(), 1);
    assert_eq!(get(nginx.address(), "/").status, 500);
    nginx.wait_logged("no name in the abstract unix domain socket in upstream \"unix:@\"");
    assert_eq!(get(nginx.address(), &format!("/?name={longer}")).status, 500);
    nginx.wait_logged("too long path in the unix domain socket in upstream");
    assert_eq!(get(nginx.address(), "/block").status, 502);
    nginx.wait_logged("connect() to unix:@ failed (22: Invalid argument)");
}
