//! The certificate that nginx shows to the server, from plain and encrypted keys, fixed or chosen
//! by variables.

use super::{pki, single, TlsPair};
use crate::prelude::*;

const ALICE: &str = "uwsgi_ssl_certificate @dir@/tls/alice.pem;
    uwsgi_ssl_certificate_key @dir@/tls/alice.key;";
const CHOSEN: &str = "uwsgi_ssl_certificate @dir@/tls/$arg_who.pem;
    uwsgi_ssl_certificate_key @dir@/tls/$arg_who.key;";
const PROTOCOLS: [&str; 2] = ["uwsgi_ssl_protocols TLSv1.2;", "uwsgi_ssl_protocols TLSv1.3;"];

#[test]
fn demanded_by_the_server() {
    let demanding = pki().app.demanding_server(&pki().ca);
    let by_others = pki().app.demanding_server(&pki().stranger);
    for protocol in PROTOCOLS {
        let site = TlsPair::locations(protocol, ["", ALICE]);
        let alice = Some(pki().alice.der().to_vec());
        assert_eq!(site.visit("/1", &demanding).served().client, alice);
        // with TLS 1.3 nginx learns it after the handshake
        site.visit("/0", &demanding).refused("alert certificate required");
        site.visit("/1", &by_others).refused("alert unknown ca");
        // nobody asked
        assert_eq!(site.visit("/1", &pki().app.server()).served().client, None);
    }
}

#[test]
fn chosen_by_variables() {
    let demanding = pki().app.demanding_server(&pki().ca);
    let site = TlsPair::locations(PROTOCOLS[0], [CHOSEN]);
    for (who, identity) in [("alice", &pki().alice), ("bob", &pki().bob), ("alice", &pki().alice)] {
        let visit = site.visit(&format!("/0?who={who}"), &demanding);
        assert_eq!(visit.served().client.as_deref(), Some(identity.der()), "{who}");
    }
    site.fails("/0?who=carol", "cannot load certificate \"");
}

#[test]
fn encrypted_keys() {
    let demanding = pki().app.demanding_server(&pki().ca);
    let fixed = "uwsgi_ssl_certificate @dir@/tls/locked.pem;
        uwsgi_ssl_certificate_key @dir@/tls/locked.key;";
    let passwords = "uwsgi_ssl_password_file @dir@/tls/passwords;";
    let alice = Some(pki().alice.der().to_vec());
    // in the location, and inherited
    let (fixed_here, chosen_here) =
        (format!("{fixed} {passwords}"), format!("{CHOSEN} {passwords}"));
    for (server, locations) in [
        ("", [fixed_here.as_str(), chosen_here.as_str()]),
        (passwords, [fixed, CHOSEN]),
        (chosen_here.as_str(), [fixed, ""]),
    ] {
        let site = TlsPair::locations(&format!("{} {server}", PROTOCOLS[0]), locations);
        assert_eq!(site.visit("/0", &demanding).served().client, alice);
        assert_eq!(site.visit("/1?who=locked", &demanding).served().client, alice);
        let bob = site.visit("/1?who=bob", &demanding).served().client;
        assert_eq!(bob.as_deref(), Some(pki().bob.der()));
    }
    let wrong = "uwsgi_ssl_password_file @dir@/tls/wrong-passwords;";
    let site = TlsPair::locations(&format!("{} {wrong}", PROTOCOLS[0]), [CHOSEN]);
    site.fails("/0?who=locked", "cannot load certificate key \"");
}

/// Empty strings end inheritance. Stock's uwsgi module takes them for file names in nginx 1.22; the
/// documentation says otherwise, and so do its later versions and ours.
#[test]
fn empty_ends_inheritance() {
    let none = "uwsgi_ssl_certificate \"\"; uwsgi_ssl_certificate_key \"\";";
    let server = format!(
        "{} {ALICE}
        location /alice {{ uwsgi_pass suwsgi://@pass@; }}
        location /nobody {{ {none} uwsgi_pass suwsgi://@pass@; }}",
        PROTOCOLS[0]
    );
    let stock = super::builder()
        .without_module()
        .http(&format!("server {{ {} }}", server.replace("@pass@", "127.0.0.1:1")))
        .check();
    let demanding = pki().app.demanding_server(&pki().ca);
    if stock.status.success() {
        let site = TlsPair::new(&server);
        assert_eq!(
            site.visit("/alice", &demanding).served().client.as_deref(),
            Some(pki().alice.der())
        );
        site.visit("/nobody", &demanding).refused("alert certificate required");
        return;
    }
    assert!(stock.stderr.contains("cannot load certificate"), "{}", stock.stderr);
    let backend = Backend::tcp(|_| Ok(()));
    let ours = translated(&server.replace("@pass@", &backend.address().to_string()));
    let nginx =
        super::builder().http(&format!("server {{ listen 127.0.0.1:@port@; {ours} }}")).start();
    nginx.expects("alert certificate required");
    let visit = |path| single(&backend, nginx.address(), path, &demanding);
    let (status, handshake) = visit("/alice");
    assert_eq!(status, 200);
    assert_eq!(handshake.unwrap().client.as_deref(), Some(pki().alice.der()));
    assert_eq!(visit("/nobody"), (502, None));
    nginx.wait_logged("alert certificate required");
}
