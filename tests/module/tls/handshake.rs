//! What is agreed on: versions, ciphers, OpenSSL's own commands, the name asked for (SNI), and
//! sessions that go on.

use super::{pki, TlsPair};
use crate::prelude::*;

/// The handshakes that locations with these `settings` make.
fn handshakes<const N: usize>(server: &str, settings: [&str; N]) -> [Handshake; N] {
    let site = TlsPair::locations(server, settings);
    let mut index = 0..;
    settings.map(|_| {
        let path = format!("/{}", index.next().unwrap());
        site.visit(&path, &pki().app.server()).served()
    })
}

#[test]
fn protocols() {
    let [default, old, new, both] = handshakes(
        "",
        [
            "",
            "uwsgi_ssl_protocols TLSv1.2;",
            "uwsgi_ssl_protocols TLSv1.3;",
            "uwsgi_ssl_protocols TLSv1.2 TLSv1.3;",
        ],
    );
    // nginx before 1.23.4 does not offer TLS 1.3 unless told to
    assert!(["TLSv1_2", "TLSv1_3"].contains(&default.protocol.as_str()));
    assert_eq!(old.protocol, "TLSv1_2");
    assert_eq!(new.protocol, "TLSv1_3");
    assert_eq!(both.protocol, "TLSv1_3");

    let site = TlsPair::locations("", ["uwsgi_ssl_protocols TLSv1.1;"]);
    site.visit("/0", &pki().app.server()).refused("SSL_do_handshake() failed (SSL: error:");
}

#[test]
fn ciphers() {
    let [first, second] = handshakes(
        "uwsgi_ssl_protocols TLSv1.2;",
        [
            "uwsgi_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;",
            "uwsgi_ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305:!AES;",
        ],
    );
    assert_eq!(first.cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    assert_eq!(second.cipher, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");

    // rustls has no cipher of that kind
    let site = TlsPair::locations("uwsgi_ssl_protocols TLSv1.2;", ["uwsgi_ssl_ciphers kRSA;"]);
    site.visit("/0", &pki().app.server()).refused("alert handshake failure");
}

#[test]
fn conf_commands() {
    let [one, other, two] = handshakes(
        "uwsgi_ssl_protocols TLSv1.2 TLSv1.3; uwsgi_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;",
        [
            "uwsgi_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
            "uwsgi_ssl_conf_command Ciphersuites TLS_CHACHA20_POLY1305_SHA256;",
            "uwsgi_ssl_conf_command MaxProtocol TLSv1.2;
             uwsgi_ssl_conf_command CipherString ECDHE-ECDSA-CHACHA20-POLY1305;",
        ],
    );
    assert_eq!(one.cipher, "TLS13_AES_128_GCM_SHA256");
    assert_eq!(other.cipher, "TLS13_CHACHA20_POLY1305_SHA256");
    assert_eq!(two.cipher, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
}

#[test]
fn server_name() {
    let site = TlsPair::locations(
        "uwsgi_ssl_name $arg_name;",
        ["uwsgi_ssl_server_name on;", "", "uwsgi_ssl_server_name off;"],
    );
    let server = pki().app.server();
    let asked_for = |path: &str| site.visit(path, &server).served().server_name;
    assert_eq!(asked_for("/0?name=one.test").as_deref(), Some("one.test"));
    assert_eq!(asked_for("/0?name=two.test:8443").as_deref(), Some("two.test"));
    // no address and nothing empty is ever asked for (RFC 6066, 3)
    assert_eq!(asked_for("/0?name=127.0.0.1"), None);
    assert_eq!(asked_for("/0?name="), None);
    assert_eq!(asked_for("/1?name=one.test"), None);
    assert_eq!(asked_for("/2?name=one.test"), None);
}

/// A session goes on with the next connection to the same server, unless it was switched off. Each
/// location has a block of its own, for sessions belong to the servers in it.
#[test]
fn session_reuse() {
    let blocks = ["default", "on", "off"];
    let http: String =
        blocks.map(|name| format!("upstream uwsgi_{name} {{ server @pass@; }}\n")).concat();
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let locations = blocks.map(|name| {
            let reuse = match name {
                "default" => String::new(),
                flag => format!("uwsgi_ssl_session_reuse {flag};"),
            };
            format!("location /{name} {{ {reuse} uwsgi_pass suwsgi://uwsgi_{name}; }}")
        });
        let server = format!("uwsgi_ssl_protocols {protocol}; {}", locations.concat());
        let site = TlsPair::with_http(&http, &server);
        let server = pki().app.resuming_server();
        for name in blocks {
            let resumed = || site.visit(&format!("/{name}"), &server).served().resumed;
            let goes_on = name != "off";
            assert_eq!([resumed(), resumed(), resumed()], [false, goes_on, goes_on], "{name}");
        }
    }
}
