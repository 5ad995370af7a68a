//! Connections over TLS: used again, and never for a request that asks for other verification, other
//! names or another certificate.

use super::framing::SURPLUS;
use super::sharing::connections;
use super::{Site, Visit, GET, KEPT};
use crate::prelude::*;
use rustls::ServerConfig;

fn warned(visit: &Visit) -> bool {
    visit.log.iter().all(|line| line.starts_with("[warn]")) && visit.log.len() == 1
}

fn site(server: &str) -> Site {
    let (ca, names) = (Authority::root("ca"), ["app.test", "alice.test", "bob.test"]);
    let identities = names.map(|name| ca.issue(name));
    let builder: Builder = Nginx::builder().file("tls/ca.pem", ca.pem().as_bytes());
    let builder = names.iter().zip(&identities).fold(builder, |builder, (name, identity)| {
        builder
            .file(&format!("tls/{name}.pem"), identity.pem.as_bytes())
            .file(&format!("tls/{name}.key"), identity.key_pem().as_bytes())
    });
    let site = Site::builder().nginx(builder).visits().server(server).tcp(true).start();
    let config: Arc<ServerConfig> = identities[0].server();
    let answers = site.answers.clone();
    site.backend.set_script(move |peer| {
        peer.start_tls(&config)?;
        answers.serve(peer)
    });
    site
}

/// A visit after whose response the server does something else to the connection, and nginx has seen it.
/// Before, the next request may go to that connection, and come to the server twice.
fn visit_to_the_end(site: &Site) {
    let visit = site.visit(GET);
    assert_eq!(visit.response.text(), "ok", "{visit:?}");
    wait_for("the connection to end", || {
        site.backend.connections()[visit.connection].ended.then_some(())
    });
}

const PASS: &str = "rs_uwsgi_pass suwsgi://@pass@;";

#[test]
fn a_connection_is_used_again() {
    for buffering in ["on", "off"] {
        let site = site(&format!("rs_uwsgi_buffering {buffering}; location / {{ {PASS} }}"));
        assert_eq!(connections(&site, &["/"; 4]), [0; 4]);
        let chunks = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        site.answers.set_bytes(chunks);
        assert_eq!(connections(&site, &["/"; 2]), [0; 2]);
        // surplus in the same record, of which the socket shows nothing
        site.answers.set_bytes(&[KEPT, b"x"].concat());
        let visit = site.visit(GET);
        assert_eq!((visit.response.text().as_str(), visit.verdict.as_str()), ("ok", SURPLUS));
        assert!(warned(&visit), "{:?}", visit.log);
        assert_eq!(site.next_connection(), 1);
        // in a record of its own
        site.answers.set(|peer, _| {
            peer.write(KEPT)?;
            peer.write(b"x")
        });
        visit_to_the_end(&site);
        assert_eq!(site.next_connection(), 2);
        // it ends
        site.answers.set(|peer, _| {
            peer.write(KEPT)?;
            peer.half_close()
        });
        visit_to_the_end(&site);
        assert_eq!(site.next_connection(), 3);
    }
}

#[test]
fn settings_are_not_mixed() {
    let verify = "rs_uwsgi_ssl_verify on; rs_uwsgi_ssl_trusted_certificate @dir@/tls/ca.pem;
        rs_uwsgi_ssl_name app.test;";
    let site = site(&format!(
        "location /plain {{ {PASS} }}
         location /same {{ {PASS} }}
         location /name {{ {PASS} rs_uwsgi_ssl_name app.test; }}
         location /sni {{ {PASS} rs_uwsgi_ssl_name app.test; rs_uwsgi_ssl_server_name on; }}
         location /verify {{ {PASS} {verify} }}
         location /alice {{ {PASS} rs_uwsgi_ssl_certificate @dir@/tls/alice.test.pem;
             rs_uwsgi_ssl_certificate_key @dir@/tls/alice.test.key; }}
         location /chosen {{ {PASS} rs_uwsgi_ssl_certificate @dir@/tls/$arg_c.test.pem;
             rs_uwsgi_ssl_certificate_key @dir@/tls/$arg_c.test.key; }}
         location /named {{ {PASS} rs_uwsgi_ssl_name $arg_n; }}
         location /ciphers {{ {PASS} rs_uwsgi_ssl_protocols TLSv1.2; }}"
    ));
    let paths = [
        "/plain",
        "/name",
        "/sni",
        "/verify",
        "/alice",
        "/chosen?c=alice",
        "/chosen?c=bob",
        "/named?n=a.test",
        "/named?n=b.test",
        "/ciphers",
    ];
    let all: Vec<usize> = (0..paths.len()).collect();
    assert_eq!(connections(&site, &paths), all, "each has its own");
    assert_eq!(connections(&site, &paths), all, "and keeps it");
    // locations that say the same may share, and in any case never with one that does not
    let same = connections(&site, &["/same", "/same"]);
    assert_eq!(same[0], same[1]);
    assert!(same[0] == 0 || same[0] == paths.len(), "{same:?}");
}

#[test]
fn a_connection_that_was_not_verified_is_not_used_where_that_is_asked_for() {
    let site = site(&format!(
        "location /plain {{ {PASS} }}
         location /verify {{ {PASS} rs_uwsgi_ssl_verify on; rs_uwsgi_ssl_name other.test;
             rs_uwsgi_ssl_trusted_certificate @dir@/tls/ca.pem; }}"
    ));
    assert_eq!(connections(&site, &["/plain"]), [0]);
    assert_eq!(get(site.address(), "/verify").status, 502);
    assert_eq!(site.wait_verdict(1), "it failed or was closed");
    assert_eq!(site.backend.requests().len(), 1);
    assert_eq!(connections(&site, &["/plain"]), [0]);
}
