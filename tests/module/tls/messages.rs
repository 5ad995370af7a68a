//! Configurations that cannot work: stock's messages, with our names.

use super::builder;
use crate::conf_errors::without_remedies;
use crate::prelude::*;

const ROWS: &[(&str, &str)] = &[
    // what cannot be read
    (
        "uwsgi_ssl_certificate @dir@/none.pem; uwsgi_ssl_certificate_key @dir@/tls/alice.key;",
        "cannot load certificate \"@dir@/none.pem\"",
    ),
    (
        "uwsgi_ssl_certificate tls/alice.pem; uwsgi_ssl_certificate_key none.key;",
        "cannot load certificate key \"@dir@/none.key\"",
    ),
    (
        "uwsgi_ssl_certificate tls/garbage; uwsgi_ssl_certificate_key tls/alice.key;",
        "cannot load certificate \"@dir@/tls/garbage\"",
    ),
    (
        "uwsgi_ssl_certificate tls/alice.pem; uwsgi_ssl_certificate_key tls/bob.key;",
        "key values mismatch",
    ),
    (
        "uwsgi_ssl_certificate tls/locked.pem; uwsgi_ssl_certificate_key tls/locked.key;
        uwsgi_ssl_password_file tls/wrong-passwords;",
        "cannot load certificate key",
    ),
    ("uwsgi_ssl_password_file none;", "open() \"@dir@/none\" failed"),
    ("uwsgi_ssl_verify on; uwsgi_ssl_trusted_certificate none;", "@dir@/none"),
    ("uwsgi_ssl_verify on; uwsgi_ssl_trusted_certificate tls/garbage;", "@dir@/tls/garbage"),
    (
        "uwsgi_ssl_verify on; uwsgi_ssl_trusted_certificate tls/ca.pem; uwsgi_ssl_crl none;",
        "@dir@/none",
    ),
    // what is missing
    ("uwsgi_ssl_certificate tls/alice.pem;", "no \"rs_uwsgi_ssl_certificate_key\" is defined"),
    ("uwsgi_ssl_certificate tls/$arg_a.pem;", "for certificate \"tls/$arg_a.pem\""),
    ("uwsgi_ssl_verify on;", "no rs_uwsgi_ssl_trusted_certificate for rs_uwsgi_ssl_verify"),
    // wrong values
    ("uwsgi_ssl_protocols TLSv1.4;", "invalid value \"TLSv1.4\""),
    ("uwsgi_ssl_protocols;", "invalid number of arguments"),
    ("uwsgi_ssl_ciphers NO-SUCH-CIPHER;", "SSL_CTX_set_cipher_list(\"NO-SUCH-CIPHER\") failed"),
    ("uwsgi_ssl_verify maybe;", "invalid value \"maybe\""),
    ("uwsgi_ssl_verify_depth deep;", "invalid number"),
    ("uwsgi_ssl_session_reuse 1;", "invalid value \"1\""),
    ("uwsgi_ssl_server_name name;", "invalid value \"name\""),
    ("uwsgi_ssl_name $no_such_variable;", "unknown \"no_such_variable\" variable"),
    (
        "uwsgi_ssl_certificate $no_such_variable; uwsgi_ssl_certificate_key tls/alice.key;",
        "unknown \"no_such_variable\" variable",
    ),
    ("uwsgi_ssl_conf_command NoSuch value;", "SSL_CONF_cmd(\"NoSuch\", \"value\") failed"),
    ("uwsgi_ssl_conf_command Ciphersuites;", "invalid number of arguments"),
    // only from nginx 1.27.4 on
    ("uwsgi_ssl_certificate_cache;", ""),
    ("uwsgi_ssl_certificate_cache valid=1s;", ""),
    ("uwsgi_ssl_certificate_cache max=0;", ""),
    ("uwsgi_ssl_certificate_cache max=x;", ""),
    ("uwsgi_ssl_certificate_cache max=-1;", ""),
    ("uwsgi_ssl_certificate_cache max=1 valid=x;", ""),
    ("uwsgi_ssl_certificate_cache max=1 valid=;", ""),
    ("uwsgi_ssl_certificate_cache max=1 inactive=1x;", ""),
    ("uwsgi_ssl_certificate_cache max=1 inactive=1s often;", ""),
    ("uwsgi_ssl_certificate_cache on;", ""),
    ("uwsgi_ssl_certificate_cache off; uwsgi_ssl_certificate_cache max=1;", ""),
    ("uwsgi_ssl_certificate_cache max=1; uwsgi_ssl_certificate_cache max=1;", ""),
];

const TWICE: [&str; 13] = [
    "session_reuse on",
    "protocols TLSv1.2",
    "ciphers HIGH",
    "name a",
    "server_name on",
    "verify off",
    "verify_depth 1",
    "trusted_certificate tls/ca.pem",
    "crl tls/crl.pem",
    "certificate tls/$arg_a.pem",
    "certificate_key tls/$arg_a.key",
    "password_file tls/passwords",
    "conf_command MaxProtocol TLSv1.3",
];

/// Stock and ours on the same text; returns what ours said, or nothing when it is content.
fn said(http: &str) -> Option<String> {
    let stock = builder().without_module().http(http).check();
    let ours = builder().http(&translated(http)).check();
    assert_eq!(stock.status.code(), ours.status.code(), "{http}\n{}", ours.stderr);
    let (mut expected, said) =
        (without_remedies(&translated(&stock.stderr)), without_remedies(&ours.stderr));
    if ours.stderr.contains("directive invalid ") {
        // ours adds the value
        expected = said.clone();
        let (stock, ours) = (translated(&stock.stderr), &ours.stderr);
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let ours = words(ours);
        assert!(words(&stock).iter().all(|word| ours.contains(word)), "{stock}\n{ours:?}");
    }
    assert_eq!(expected, said, "{http}");
    tally::compared();
    (!ours.status.success()).then_some(ours.stderr)
}

fn location(text: &str) -> String {
    format!("server {{ listen 127.0.0.1:@port@;\nlocation / {{\n{text}\n}} }}")
}

#[test]
fn refused_as_stock_does() {
    for (text, expected) in ROWS {
        for pass in ["suwsgi://127.0.0.1:1", "$host"] {
            let said = said(&location(&format!("{text}\nuwsgi_pass {pass};")));
            let said = said.unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(said.contains(expected), "{expected:?} is not in {said}");
        }
    }
}

/// What is wrong with TLS matters only where TLS is used.
#[test]
fn unused_settings() {
    for text in ["uwsgi_ssl_verify on;", "uwsgi_ssl_certificate none;", "uwsgi_ssl_ciphers NONE;"] {
        assert_eq!(said(&location(&format!("{text} uwsgi_pass 127.0.0.1:1;"))), None);
        assert_eq!(said(&location(text)), None);
    }
}

#[test]
fn duplicates() {
    for directive in TWICE {
        let line = format!("uwsgi_ssl_{directive};\n");
        let name = directive.split(' ').next().unwrap();
        let twice = said(&location(&format!("{line}{line}uwsgi_pass 127.0.0.1:1;")));
        match name {
            // these add up
            "conf_command" => assert_eq!(twice, None),
            "protocols" => assert!(twice.is_none_or(|said| said.contains("duplicate value"))),
            _ => {
                let expected = format!("\"rs_uwsgi_ssl_{name}\" directive is duplicate");
                assert!(twice.unwrap().contains(&expected), "{name}");
            }
        }
    }
}

#[test]
fn wrong_contexts() {
    for directive in TWICE {
        let line = format!("uwsgi_ssl_{directive};");
        for text in [
            location(&format!("if ($arg_a) {{ {line} }}")),
            location(&format!("limit_except GET {{ {line} }}")),
            format!("upstream u {{ server 127.0.0.1:1; {line} }}"),
        ] {
            let said = said(&text).unwrap();
            assert!(said.contains("directive is not allowed here"), "{said}");
        }
    }
}

#[test]
fn addresses() {
    for address in ["suwsgi://", "suwsgi://127.0.0.1:x", "suwsgi://unix:", "suwsgi://[::1]:x"] {
        assert!(said(&location(&format!("uwsgi_pass {address};"))).is_some(), "{address}");
    }
    for address in ["SUWSGI://127.0.0.1:1", "suwsgi://unix:/tmp/s", "suwsgi://[::1]:1"] {
        assert_eq!(said(&location(&format!("uwsgi_pass {address};"))), None, "{address}");
    }
}
