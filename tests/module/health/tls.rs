//! Probes of servers that speak TLS.

use super::{check, wait_lines, DOWN, SOON, UP};
use crate::prelude::*;
use crate::status::Metrics;

/// Certificates, and an nginx that knows them.
fn identities(names: &[&str]) -> (Builder, Vec<Identity>) {
    let ca = Authority::root("ca");
    let builder = Nginx::builder().file("tls/ca.pem", ca.pem().as_bytes());
    (builder, names.iter().map(|name| ca.issue(name)).collect())
}

fn location(address: &str, check: &str, settings: &str) -> String {
    format!(
        "server {{
            listen 127.0.0.1:@port@;
            location / {{
                rs_uwsgi_pass suwsgi://{address};
                rs_uwsgi_health_check {check} {SOON};
                {settings}
            }}
            location /status/ {{ rs_uwsgi_status; }}
         }}"
    )
}

const VERIFY: &str = "rs_uwsgi_ssl_verify on; rs_uwsgi_ssl_trusted_certificate @dir@/tls/ca.pem;";

/// Probes pass, and none has failed.
fn wait_passed(nginx: &Nginx) {
    let count = |result| {
        let metrics = Metrics::of(nginx);
        metrics.sum("upstream_health_checks_total", &[&format!("result=\"{result}\"")])
    };
    wait_for("probes that pass", || (count("passed") > 1.0).then_some(()));
    assert_eq!(count("failed"), 0.0);
}

/// uWSGI and gunicorn with a socket that speaks TLS.
#[test]
fn real_servers() {
    let (_, identities) = identities(&["app.test"]);
    let (app, application) = (&identities[0], root().join("tests/support/application.py"));
    let uwsgi = Uwsgi::tls_with(&application, &app.pem, &app.key_pem(), &["--plugin", "ping"]);
    let arguments = ["--worker-class", "gthread", "--certfile=pem", "--keyfile=key"];
    let files = [("pem", app.pem.as_str()), ("key", &app.key_pem())];
    let gunicorn = Gunicorn::start(&application, &arguments, &files);
    let (uwsgi_at, gunicorn_at) = (uwsgi.address().to_string(), gunicorn.address().to_string());
    let cases =
        [(&uwsgi_at, "ping"), (&uwsgi_at, "uri=/"), (&gunicorn_at, "uri=/"), (&uwsgi_at, "")];
    let sites = cases.map(|(address, check)| {
        let nginx = Nginx::start(&location(address, check, ""));
        wait_passed(&nginx);
        nginx
    });
    drop((uwsgi, gunicorn));
    for (nginx, (_, check)) in sites.iter().zip(cases) {
        wait_lines(nginx, DOWN, 1);
        assert_eq!(nginx.logged(UP).len(), 0, "{check}");
    }
}

/// What is verified, and the name that is asked for, are those of the location.
#[test]
fn names_and_certificates() {
    let (builder, identities) = identities(&["app.test", "other.test"]);
    let stranger = Authority::root("stranger").issue("app.test");
    let other_name = "its certificate is for another name than \"rs_uwsgi_ssl_name\"";
    for (identity, settings, asked, expected) in [
        (&identities[0], "", None, ""),
        (&stranger, "rs_uwsgi_ssl_name app.test;", None, ""),
        (
            &identities[0],
            "rs_uwsgi_ssl_name app.test:1; rs_uwsgi_ssl_server_name on;",
            Some("app.test"),
            "",
        ),
        (&identities[0], "rs_uwsgi_ssl_server_name on;", None, ""),
        (&identities[0], &format!("rs_uwsgi_ssl_name app.test; {VERIFY}"), None, ""),
        (&identities[1], &format!("rs_uwsgi_ssl_name app.test; {VERIFY}"), None, other_name),
        (&identities[0], VERIFY, None, other_name),
        (
            &stranger,
            &format!("rs_uwsgi_ssl_name app.test; {VERIFY}"),
            None,
            "its certificate is not verified (21: unable to verify the first certificate)",
        ),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handshakes, config) = (seen.clone(), identity.server());
        let backend = Backend::tcp(move |peer| {
            let handshake = peer.start_tls(&config)?;
            handshakes.lock().unwrap().push(handshake.server_name);
            peer.read_request()?;
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        });
        let address = backend.address().to_string();
        let nginx = builder.clone().http(&location(&address, "uri=/", settings)).start();
        if expected.is_empty() {
            wait_passed(&nginx);
            let seen = seen.lock().unwrap();
            assert_eq!(seen.first(), Some(&asked.map(String::from)), "{settings}");
        } else {
            let line = nginx.wait_logged(DOWN);
            assert!(line.text.contains(expected), "{settings}: {}", line.text);
            assert_eq!(backend.requests().len(), 0, "nothing is sent to it");
        }
    }
}

/// A server that does not speak TLS, one that says nothing, and one that leaves: the probe fails, and a worker goes
/// on without them.
#[test]
fn handshakes_that_fail() {
    let (builder, identities) = identities(&["app.test"]);
    let config = identities[0].server();
    type Script = Box<dyn Fn(&mut Peer) -> io::Result<()> + Send + Sync>;
    let scripts: [(&str, Script); 4] = [
        (
            "the TLS handshake failed",
            Box::new(|peer| peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ),
        ("timed out while SSL handshaking", Box::new(|peer| peer.wait_hangup())),
        (
            "the TLS handshake failed",
            Box::new(|peer| {
                peer.read_some(&mut [0])?;
                peer.reset()
            }),
        ),
        (
            "timed out while waiting for the answer",
            Box::new(move |peer| {
                peer.start_tls(&config)?;
                peer.wait_hangup()
            }),
        ),
    ];
    for (expected, script) in scripts {
        let backend = Backend::tcp(script);
        let check = "ping interval=30ms timeout=200ms fails=2";
        let nginx = builder
            .clone()
            .http(&location(&backend.address().to_string(), check, "").replace(SOON, ""))
            .start();
        let line = nginx.wait_logged(DOWN);
        assert!(line.text.contains(expected), "{expected}: {}", line.text);
        let ended = backend.connection_count();
        wait_for("more probes", || (backend.connection_count() > ended + 3).then_some(()));
        wait_for("their connections to end", || {
            let open = backend.connections().iter().filter(|connection| !connection.ended).count();
            (open <= 1).then_some(())
        });
    }
}

/// A block that locations pass to over TLS; and what cannot be.
#[test]
fn in_a_block() {
    let (builder, identities) = identities(&["app.test"]);
    let config = identities[0].server();
    let backend = Backend::tcp(move |peer| {
        peer.start_tls(&config)?;
        peer.read_request()?;
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let http = |locations: &str| {
        format!(
            "upstream app.test {{ server {}; rs_uwsgi_health_check uri=/ {SOON}; }}
             server {{ listen 127.0.0.1:@port@; location /status/ {{ rs_uwsgi_status; }} {locations} }}",
            backend.address()
        )
    };
    // the name is the block's
    let tls = format!("location / {{ rs_uwsgi_pass suwsgi://app.test; {VERIFY} }}");
    let nginx = builder.http(&http(&tls)).start();
    wait_passed(&nginx);
    let tls = "location / { rs_uwsgi_pass suwsgi://app.test; }";
    let plain = "location /plain { rs_uwsgi_pass app.test; }";
    let name = "location / { rs_uwsgi_pass suwsgi://app.test; rs_uwsgi_ssl_name $host; }";
    for (locations, expected) in [
        (format!("{tls} {plain}"), "with which some locations speak TLS and others do not"),
        (name.to_owned(), "whose \"rs_uwsgi_ssl_name\" has variables, which a probe cannot have"),
    ] {
        let said = check(&http(&locations));
        assert_eq!(said.status.code(), Some(1), "{locations}");
        assert!(said.stderr.contains(expected), "{locations}: {}", said.stderr);
    }
    for locations in [format!("{tls} {plain}"), name.to_owned()] {
        let said = check(&http(&locations).replace("uri=/", ""));
        assert!(said.status.success(), "{locations}: {}", said.stderr);
    }
}
