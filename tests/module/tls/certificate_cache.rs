//! `rs_uwsgi_ssl_certificate_cache`, from nginx 1.27.4 on: certificates with variables in their
//! names are read once.

use super::{pki, single, stock_has, TlsPair};
use crate::prelude::*;

const CHOSEN: &str = "uwsgi_ssl_certificate @dir@/tls/$arg_who.pem;
    uwsgi_ssl_certificate_key @dir@/tls/$arg_who.key;";

fn site<'a>(settings: impl IntoIterator<Item = &'a str>) -> Option<TlsPair> {
    let supported = stock_has("uwsgi_ssl_certificate_cache off;");
    supported
        .then(|| TlsPair::locations(&format!("uwsgi_ssl_protocols TLSv1.2; {CHOSEN}"), settings))
}

/// Puts `identity` where `who=changing` looks, as new files: nginx tells files apart by their inodes
/// and the seconds of their times.
fn change(site: &TlsPair, identity: &Identity) {
    for (name, content) in [("key", identity.key_pem()), ("pem", identity.pem.clone())] {
        let path = site.pair.nginx.path(&format!("tls/changing.{name}"));
        fs::write(path.with_extension("new"), content).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

/// Whom nginx shows itself as.
fn shown(site: &TlsPair, path: &str) -> Vec<u8> {
    let demanding = pki().app.demanding_server(&pki().ca);
    site.visit(path, &demanding).served().client.unwrap()
}

#[test]
fn files_are_read_once() {
    let Some(site) = site([
        "",
        "uwsgi_ssl_certificate_cache max=10;",
        "uwsgi_ssl_certificate_cache max=2;",
        "uwsgi_ssl_certificate_cache max=10 valid=1h; location /3/off {
            uwsgi_ssl_certificate_cache off; uwsgi_pass suwsgi://@pass@; }",
        "uwsgi_ssl_certificate_cache off;",
    ]) else {
        return;
    };
    let (alice, bob) = (pki().alice.der(), pki().bob.der());
    let kept = [
        ("/0", false),
        ("/1", true),
        ("/2", false),
        ("/3", true),
        ("/3/off", false),
        ("/4", false),
    ];
    change(&site, &pki().alice);
    for (path, _) in kept {
        assert_eq!(shown(&site, &format!("{path}?who=changing")), alice, "{path}");
    }
    // room for one certificate and its key: another one takes their places
    assert_eq!(shown(&site, "/1?who=bob"), bob);
    assert_eq!(shown(&site, "/2?who=bob"), bob);
    change(&site, &pki().bob);
    for (path, kept) in kept {
        let expected = if kept { alice } else { bob };
        assert_eq!(shown(&site, &format!("{path}?who=changing")), expected, "{path}");
    }
}

/// After `valid` the files are looked at again.
#[test]
fn validity_ends() {
    let Some(site) = site(["uwsgi_ssl_certificate_cache max=10 inactive=1h valid=1s;"]) else {
        return;
    };
    change(&site, &pki().alice);
    assert_eq!(shown(&site, "/0?who=changing"), pki().alice.der());
    change(&site, &pki().bob);
    for side in SIDES {
        wait_for("the new certificate", || (whom(&site, side) == pki().bob.der()).then_some(()));
    }
}

/// Whom one side alone shows itself as.
fn whom(site: &TlsPair, side: Side) -> Vec<u8> {
    let demanding = pki().app.demanding_server(&pki().ca);
    let address = site.pair.address(side);
    let (status, handshake) = single(&site.pair.backend, address, "/0?who=changing", &demanding);
    assert_eq!(status, 200);
    handshake.unwrap().client.unwrap()
}
