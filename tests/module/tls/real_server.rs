//! Real servers that speak TLS themselves, behind stock and ours: uWSGI's `suwsgi-socket`, and
//! gunicorn, which demands a certificate of nginx as well.

use super::{builder, pki, VERIFY};
use crate::prelude::*;

const ALICE: &str = "uwsgi_ssl_certificate @dir@/tls/alice.pem;
    uwsgi_ssl_certificate_key @dir@/tls/alice.key;";

#[test]
fn uwsgi() {
    let app = &pki().app;
    let application = root().join("tests/support/application.py");
    let uwsgi = Uwsgi::tls(&application, &app.pem, &app.key_pem());
    serves(&uwsgi.address().to_string(), "", || uwsgi.log());
}

#[test]
fn gunicorn() {
    let (app, ca) = (&pki().app, pki().ca.pem());
    let application = root().join("tests/support/application.py");
    for worker in ["sync", "gthread"] {
        let gunicorn = Gunicorn::start(
            &application,
            &[
                "--worker-class",
                worker,
                "--certfile=pem",
                "--keyfile=key",
                "--ca-certs=ca",
                "--cert-reqs=2",
            ],
            &[("pem", &app.pem), ("key", &app.key_pem()), ("ca", &ca)],
        );
        serves(&gunicorn.address().to_string(), ALICE, || gunicorn.log());
    }
}

/// The application works through both sides, wrong names are noticed, and it does not work without
/// TLS. `settings` are what the server wants to see.
fn serves(address: &str, settings: &str, log: impl Fn() -> String) {
    let server = format!(
        "{STANDARD_PARAMS} client_max_body_size 0; {settings}
        location / {{ {VERIFY} uwsgi_pass suwsgi://{address}; }}
        location /wrong {{ {wrong} uwsgi_pass suwsgi://{address}; }}
        location /plain {{ uwsgi_pass {address}; }}",
        wrong = VERIFY.replace("app.test", "other.test"),
    );
    let nginx = builder()
        .http(&format!("server {{ listen 127.0.0.1:@port@; {server} }}"))
        .http(&format!("server {{ listen 127.0.0.2:@port@; {} }}", translated(&server)))
        .start();
    let body = Random::new(41).bytes(1 << 20);
    let environs = SIDES.map(|side| {
        let address = nginx.address_of(0, [127, 0, 0, 1 + side as u8]);
        for size in [0, 1, 20_000, body.len()] {
            let echoed = post(address, "/echo", &body[..size]);
            assert_eq!(echoed.status, 200, "{side:?}: {}", log());
            assert!(echoed.body == body[..size], "{side:?}: {size} bytes");
        }
        let lines: String = (0..10).map(|i| format!("line {i}\n")).collect();
        assert_eq!(get(address, "/stream").text(), lines, "{side:?}: {}", log());
        assert_eq!(get(address, "/wrong").status, 502, "{side:?}");
        assert_eq!(get(address, "/plain").status, 502, "{side:?}");
        let environ = get(address, "/environ/a?b=c");
        assert_eq!(environ.status, 200, "{side:?}: {}", log());
        // the last one never reaches the application through ours
        let apart = ["REMOTE_PORT=", "SERVER_NAME=", "uwsgi.core=", "HTTP_CONNECTION="];
        let text = environ.text();
        let same = text.lines().filter(|line| !apart.iter().any(|p| line.starts_with(p)));
        same.map(str::to_string).collect::<Vec<_>>()
    });
    assert_eq!(environs[0], environs[1]);
    assert!(environs[0].iter().any(|line| line == "QUERY_STRING=b=c"), "{:?}", environs[0]);
    assert_eq!(nginx.logged("does not match \"other.test\"").len(), 2);
}

/// A server that answers without reading the body (`early`): the answer arrives as far as the server
/// got it out, and a request never hangs. uWSGI loses the body of many: its kernel holds it back
/// (Nagle's algorithm) and drops it when the socket is closed with bytes unread.
#[test]
fn early_answers() {
    let app = &pki().app;
    let uwsgi = Uwsgi::tls(&root().join("tests/support/early.py"), &app.pem, &app.key_pem());
    let nginx = builder()
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@; client_max_body_size 0;
                location / {{ rs_uwsgi_pass suwsgi://{address}; }}
                location /unbuffered {{ rs_uwsgi_request_buffering off;
                    rs_uwsgi_pass suwsgi://{address}; }} }}",
            address = uwsgi.address()
        ))
        .start();
    let body = vec![b'x'; 2_000_000];
    let expected = "413 early\n".repeat(500);
    let mut whole = 0;
    for path in ["/413/sized", "/unbuffered/413/sized"] {
        for _ in 0..20 {
            let got = post(nginx.address(), path, &body);
            assert!([413, 502].contains(&got.status), "{path}: {}", got.status);
            if got.status == 413 && got.end == End::Length {
                assert_eq!(got.text(), expected, "{path}");
                whole += 1;
            }
        }
    }
    eprintln!("early answers over TLS: {whole} of 40 whole");
    assert!(whole > 0);
}
