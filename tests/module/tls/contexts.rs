//! Where TLS settings hold: blocks that share a context and blocks with their own, addresses with
//! variables, and the blocks of `if` and `limit_except`.

use super::{pki, TlsPair, OK, VERIFY};

const AES: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
const CHACHA: &str = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
const STRONG: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

#[test]
fn levels() {
    let site = TlsPair::with_http(
        "uwsgi_ssl_protocols TLSv1.2; uwsgi_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;",
        "location /http { uwsgi_pass suwsgi://@pass@; }
        location /http/again { uwsgi_pass suwsgi://@pass@; }
        location /own {
            uwsgi_ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305;
            uwsgi_pass suwsgi://@pass@;
            location /own/nested { uwsgi_pass suwsgi://@pass@; }
            location /own/nested/own {
                uwsgi_ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384; uwsgi_pass suwsgi://@pass@;
            }
            location /own/nested/new {
                uwsgi_ssl_protocols TLSv1.2 TLSv1.3; uwsgi_ssl_conf_command MaxProtocol TLSv1.2;
                uwsgi_pass suwsgi://@pass@;
            }
        }
        location /outer {
            uwsgi_ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305;
            location /outer/inner { uwsgi_pass suwsgi://@pass@; }
        }
        location /elsewhere { uwsgi_pass suwsgi://@pass@; uwsgi_read_timeout 5s; }",
    );
    for (path, cipher) in [
        ("/http", AES),
        ("/http/again", AES),
        ("/own", CHACHA),
        ("/own/nested", CHACHA),
        ("/own/nested/own", STRONG),
        ("/own/nested/new", CHACHA),
        ("/outer/inner", CHACHA),
        ("/elsewhere", AES),
    ] {
        assert_eq!(site.visit(path, &pki().app.server()).served().cipher, cipher, "{path}");
    }
}

/// What the server block says, and a location takes back.
#[test]
fn verification_per_level() {
    let server = format!(
        "{VERIFY}
        location /server {{ uwsgi_pass suwsgi://@pass@; }}
        location /off {{ uwsgi_ssl_verify off; uwsgi_pass suwsgi://@pass@;
            location /off/on {{ uwsgi_ssl_verify on; uwsgi_pass suwsgi://@pass@; }} }}
        location /other {{ uwsgi_ssl_trusted_certificate @dir@/tls/stranger.pem;
            uwsgi_pass suwsgi://@pass@; }}
        location /crl {{ uwsgi_ssl_crl @dir@/tls/crl.pem; uwsgi_pass suwsgi://@pass@; }}
        location /depth {{ uwsgi_ssl_verify_depth 0; uwsgi_pass suwsgi://@pass@; }}
        location /name {{ uwsgi_ssl_name other.test; uwsgi_pass suwsgi://@pass@; }}"
    );
    let site = TlsPair::new(&server);
    let pki = pki();
    for (path, identity, status) in [
        ("/server", &pki.app, 200),
        ("/server", &pki.strange, 502),
        ("/off", &pki.strange, 200),
        ("/off/on", &pki.app, 200),
        ("/off/on", &pki.strange, 502),
        ("/other", &pki.app, 502),
        ("/other", &pki.strange, 200),
        ("/server", &pki.revoked, 200),
        ("/crl", &pki.app, 200),
        ("/crl", &pki.revoked, 502),
        ("/server", &pki.deep, 200),
        ("/depth", &pki.deep, 502),
        ("/name", &pki.app, 502),
        ("/name", &pki.other_name, 200),
    ] {
        assert_eq!(site.visit(path, &identity.server()).status, status, "{path}");
    }
}

/// `if` and `limit_except` make locations of their own, which know of TLS what theirs knows.
#[test]
fn nameless_blocks() {
    let server = format!(
        "location /if {{ {VERIFY} uwsgi_pass suwsgi://@pass@; if ($arg_x) {{ set $y 1; }} }}
        location /pass {{ {VERIFY} if ($arg_x) {{ uwsgi_pass suwsgi://@pass@; }} }}
        location /limit {{ {VERIFY} uwsgi_pass suwsgi://@pass@; limit_except POST {{ allow all; }} }}
        location /variable {{ {VERIFY} set $to suwsgi://@pass@; uwsgi_pass $to;
            if ($arg_x) {{ set $y 1; }} }}
        location /plain {{ uwsgi_pass uwsgi://@pass@; if ($arg_x) {{ set $y 1; }} }}
        location /to_tls {{ {VERIFY} uwsgi_pass @pass@;
            if ($arg_x) {{ uwsgi_pass suwsgi://@pass@; }} }}
        location /to_plain {{ {VERIFY} uwsgi_pass suwsgi://@pass@;
            if ($arg_x) {{ uwsgi_pass @pass@; }} }}"
    );
    let site = TlsPair::new(&server);
    for path in [
        "/if",
        "/if?x=1",
        "/pass?x=1",
        "/limit",
        "/variable",
        "/variable?x=1",
        "/to_tls?x=1",
        "/to_plain",
    ] {
        site.visit(path, &pki().app.server()).served();
        site.visit(path, &pki().strange.server()).refused("verify error");
    }
    for path in ["/plain", "/plain?x=1", "/to_tls", "/to_plain?x=1"] {
        let plain = site.visit_with(path, |peer, _| peer.answer(OK));
        assert_eq!((plain.status, plain.handshakes.len()), (200, 0), "{path}");
    }
}

/// With variables the scheme decides for each request.
#[test]
fn scheme_in_variables() {
    let site = TlsPair::with_http(
        "upstream uwsgi_app { server @pass@; }",
        &format!(
            "set $address @pass@; {VERIFY}
            location /scheme {{ set $to $arg_scheme$address; uwsgi_pass $to; }}
            location /tls {{ uwsgi_pass suwsgi://$address; }}
            location /block {{ set $to suwsgi://uwsgi_app; uwsgi_pass $to; }}
            location /none {{ set $to $address; uwsgi_pass $to; }}"
        ),
    );
    for path in ["/scheme?scheme=suwsgi://", "/scheme?scheme=SUWSGI://", "/tls", "/block"] {
        site.visit(path, &pki().app.server()).served();
        site.visit(path, &pki().strange.server()).refused("verify error");
    }
    for path in ["/scheme?scheme=uwsgi://", "/scheme?scheme=", "/none"] {
        let plain = site.visit_with(path, |peer, _| peer.answer(OK));
        assert_eq!((plain.status, plain.handshakes.len()), (200, 0), "{path}");
    }
    // and the wrong one is noticed by the other end
    site.visit("/none", &pki().app.server()).refused("upstream");
}

/// A new configuration has contexts of its own, and the old ones are freed once.
#[test]
fn reload() {
    let site = TlsPair::locations(
        VERIFY,
        ["", "", "uwsgi_ssl_protocols TLSv1.2;", "uwsgi_ssl_ciphers HIGH;"],
    );
    for _ in 1..=2 {
        for path in ["/0", "/1", "/2", "/3"] {
            site.visit(path, &pki().app.server()).served();
            site.visit(path, &pki().strange.server()).refused("verify error");
        }
        site.pair.nginx.reload();
    }
    site.visit("/0", &pki().app.server()).served();
}
