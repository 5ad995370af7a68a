//! Which servers are believed: verification, its authority, depth, name and revocation list.

use super::{pki, single, TlsPair, VERIFY};
use crate::prelude::*;

/// Settings, the server's certificate, and why it is refused (None: it is not).
type Row<'a> = (&'a str, &'a Identity, Option<&'a str>);

fn check(rows: &[Row]) {
    let site = TlsPair::locations("", rows.iter().map(|row| row.0));
    for (index, (settings, identity, reason)) in rows.iter().enumerate() {
        println!("{settings}: {reason:?}");
        let visit = site.visit(&format!("/{index}"), &identity.server());
        match reason {
            Some(reason) => visit.refused(reason),
            None => drop(visit.served()),
        }
    }
}

const UNKNOWN_ISSUER: &str =
    "upstream SSL certificate verify error: (21:unable to verify the first \
     certificate) while SSL handshaking to upstream";
const WRONG_NAME: &str =
    "upstream SSL certificate does not match \"app.test\" while SSL handshaking to upstream";

#[test]
fn authority_name_and_time() {
    let pki = pki();
    let stranger = VERIFY.replace("ca.pem", "stranger.pem");
    let unnamed = VERIFY.replace("uwsgi_ssl_name app.test;", "");
    check(&[
        ("", &pki.app, None),
        (VERIFY, &pki.app, None),
        // without verification anything goes
        ("", &pki.strange, None),
        ("", &pki.expired, None),
        ("uwsgi_ssl_verify off; uwsgi_ssl_name app.test;", &pki.other_name, None),
        (VERIFY, &pki.strange, Some(UNKNOWN_ISSUER)),
        (&stranger, &pki.app, Some(UNKNOWN_ISSUER)),
        (&stranger, &pki.strange, None),
        (VERIFY, &pki.other_name, Some(WRONG_NAME)),
        // the name is that of the address, where no other is configured
        (&unnamed, &pki.app, Some("does not match \"127.0.0.1\"")),
        (VERIFY, &pki.expired, Some("verify error: (10:certificate has expired)")),
    ]);
}

#[test]
fn depth() {
    let pki = pki();
    let depth = |depth: u8| format!("{VERIFY} uwsgi_ssl_verify_depth {depth};");
    let (none, two) = (depth(0), depth(2));
    // OpenSSL stops before it comes to the root
    let too_long = Some("verify error: (20:unable to get local issuer certificate)");
    check(&[
        (&none, &pki.app, None),
        (&none, &pki.deep, too_long),
        // the default is 1
        (VERIFY, &pki.deep, None),
        (VERIFY, &pki.deeper, too_long),
        (&two, &pki.deeper, None),
    ]);
}

#[test]
fn revocation() {
    let pki = pki();
    let listed = format!("{VERIFY} uwsgi_ssl_crl @dir@/tls/crl.pem;");
    check(&[
        (VERIFY, &pki.revoked, None),
        (&listed, &pki.revoked, Some("verify error: (23:certificate revoked)")),
        (&listed, &pki.app, None),
        // no list says anything about its issuer
        (&listed, &pki.deep, Some("verify error: (3:unable to get certificate CRL)")),
        ("uwsgi_ssl_crl @dir@/tls/crl.pem;", &pki.revoked, None),
    ]);
}

/// `ssl_name` may have variables, and a port in it is not part of the name.
#[test]
fn name_from_the_request() {
    let settings = VERIFY.replace("app.test", "$arg_name");
    let site = TlsPair::locations("", [settings.as_str()]);
    let server = pki().app.server();
    site.visit("/0?name=app.test", &server).served();
    site.visit("/0?name=app.test:8443", &server).served();
    site.visit("/0?name=APP.test", &server).served();
    site.visit("/0?name=other.test", &server).refused("does not match \"other.test\"");
    site.visit("/0?name=sub.app.test", &server).refused("does not match \"sub.app.test\"");
    site.visit("/0", &server).refused("does not match \"\"");
    site.visit("/0?name=other.test", &pki().other_name.server()).served();
}

/// Without a name of its own a location asks for that of its upstream block.
#[test]
fn name_of_an_upstream_block() {
    let unnamed = VERIFY.replace("uwsgi_ssl_name app.test;", "uwsgi_ssl_server_name on;");
    let site = TlsPair::with_http(
        "upstream uwsgi_app { server @pass@; }",
        &format!("location / {{ {unnamed} uwsgi_pass suwsgi://uwsgi_app; }}"),
    );
    // The blocks of the two sides differ in their names, so each has a server of its own.
    for (side, name) in SIDES.into_iter().zip(["uwsgi_app", "rs_uwsgi_app"]) {
        for (identity, status) in [(pki().ca.issue(name), 200), (pki().ca.issue("app.test"), 502)] {
            let address = site.pair.address(side);
            let (got, handshake) = single(&site.pair.backend, address, "/", &identity.server());
            assert_eq!(got, status, "{side:?}");
            assert_eq!(handshake.unwrap().server_name.as_deref(), Some(name), "{side:?}");
        }
        site.pair.nginx.wait_logged(&format!("does not match \"{name}\""));
    }
}
