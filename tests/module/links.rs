//! The path that an application sees and the links that it builds, Django and Flask, with and without a
//! mount, behind uWSGI and behind gunicorn with nginx-conf/gunicorn.conf.py.

use crate::prelude::*;

const FRAMEWORKS: [&str; 2] = ["django", "flask"];

/// Path as it is requested, and what the application sees of it; where that is `None`, the link it builds is
/// the path too.
const PATHS: [(&str, &str, Option<&str>); 8] = [
    ("plain", "plain", None),
    ("caf%C3%A9", "café", None),
    ("café", "café", Some("caf%C3%A9")),
    ("100%25", "100%", None),
    ("100%2525", "100%25", None),
    ("caf%25C3%25A9", "caf%C3%A9", None),
    ("a%20b%3Fc", "a b?c", None),
    ("a%2Fb", "a/b", Some("a/b")),
];

fn application() -> std::path::PathBuf {
    root().join("tests/support/links.py")
}

fn gunicorn(class: &str, version: Version) -> Gunicorn {
    let config = root().join("nginx-conf/gunicorn.conf.py").display().to_string();
    let builder = Gunicorn::builder(&application()).version(version).worker_class(class).unix();
    builder.arguments(&["--config", &config]).start()
}

fn nginx(server: &Address) -> Nginx {
    Nginx::builder()
        .http(&format!(
            "server {{ listen 127.0.0.1:@port@; server_name site.example;
                location / {{ rs_uwsgi_pass {server}; }}
                location /app/ {{ rs_uwsgi_mount /app; rs_uwsgi_pass {server}; }}
                location /two/words/ {{ rs_uwsgi_mount /two/words; rs_uwsgi_pass {server}; }}
                location /old/ {{ rewrite ^/old/(.*)$ /app/$1 last; }}
                location /own/ {{ include {}; rs_uwsgi_param SITE shop; rs_uwsgi_mount /own;
                    rs_uwsgi_pass {server}; }} }}",
            root().join("nginx-conf/rs_uwsgi_params").display()
        ))
        .start()
}

fn get(nginx: &Nginx, path: &str, headers: &str) -> Response {
    let request = format!("GET {path} HTTP/1.0\r\nHost: site.example\r\n{headers}\r\n");
    exchange(nginx.address(), request.as_bytes())
}

fn line(response: &Response, name: &str) -> String {
    let text = response.text();
    let found = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
    found.unwrap_or_else(|| panic!("no {name}: {} {text}", response.status)).1.to_string()
}

/// Everything that holds behind every server.
fn links_are_right(server: &Address) {
    let nginx = nginx(server);
    for framework in FRAMEWORKS {
        for mount in ["", "/app", "/two/words"] {
            for (path, seen, link) in PATHS {
                let asked = format!("{mount}/{framework}/{path}");
                let response = get(&nginx, &format!("{asked}?q=%C3%A9%25&r=1"), "");
                assert_eq!(response.status, 200, "{asked}: {}", response.text());
                assert_eq!(line(&response, "rest"), seen, "{asked}");
                let link = format!("{mount}/{framework}/{}", link.unwrap_or(path));
                assert_eq!(line(&response, "link"), link, "{asked}");
                assert_eq!(line(&response, "query"), "q:é%,r:1", "{asked}");
                assert_eq!(line(&response, "SCRIPT_NAME").replace("none", ""), mount, "{asked}");
            }
            let response = get(&nginx, &format!("{mount}/{framework}/x?y=1"), "");
            let whole = format!("http://site.example{mount}/{framework}/x?y=1");
            assert_eq!(line(&response, "absolute"), whole);
            assert_eq!(line(&response, "REQUEST_URI"), format!("{mount}/{framework}/x?y=1"));
            assert_eq!(line(&response, "REMOTE_ADDR"), "127.0.0.1");
            assert!(line(&response, "REMOTE_PORT").parse::<u16>().is_ok_and(|port| port > 0));
            assert_eq!(line(&response, "SERVER_NAME"), "site.example");
        }
        // slashes that nginx merges, dots that it resolves, and a rewrite
        let response = get(&nginx, &format!("/app//x/../{framework}/./caf%C3%A9"), "");
        assert_eq!(line(&response, "link"), format!("/app/{framework}/caf%C3%A9"));
        let response = get(&nginx, &format!("/old/{framework}/100%2525"), "");
        assert_eq!(line(&response, "link"), format!("/app/{framework}/100%2525"));
        // a var of one's own, and what a client cannot choose
        let forged = "Script-Name: /evil\r\nX-Script-Name: /evil\r\nPath-Info: /evil\r\n\
            Remote-Addr: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n\
            Uwsgi-Vars: /evil\r\n";
        let response = get(&nginx, &format!("/own/{framework}/x"), forged);
        assert_eq!(line(&response, "link"), format!("/own/{framework}/x"));
        assert_eq!(line(&response, "SITE"), "shop");
        assert_eq!(line(&response, "REMOTE_ADDR"), "127.0.0.1");
    }
}

#[test]
fn behind_uwsgi() {
    links_are_right(Uwsgi::unix(&application()).address());
}

#[test]
fn behind_gunicorn() {
    for class in ["gthread", "sync", "gevent"] {
        links_are_right(gunicorn(class, Version::Current).address());
    }
}

#[test]
fn behind_the_gunicorn_that_chunks() {
    links_are_right(gunicorn("gthread", Version::Chunking).address());
}

/// Bytes that are no UTF-8 are the same for the application behind both.
#[test]
fn bytes_that_are_no_text() {
    let (uwsgi, gunicorn) = (Uwsgi::unix(&application()), gunicorn("gthread", Version::Current));
    let [one, other] = [uwsgi.address(), gunicorn.address()].map(nginx);
    for framework in FRAMEWORKS {
        for path in ["%E4", "%FF%FE/x", "a%E4%25E4"] {
            let path = format!("/app/{framework}/{path}");
            let [one, other] = [&one, &other].map(|nginx| get(nginx, &path, ""));
            assert_eq!(one.status, other.status, "{path}");
            for name in ["rest", "link"].iter().filter(|_| one.status == 200) {
                assert_eq!(line(&one, name), line(&other, name), "{path}");
            }
        }
    }
}

/// Why gunicorn needs its part: without it the mount is lost, paths are decoded twice, and nobody asked.
#[test]
fn gunicorn_by_itself() {
    let gunicorn = Gunicorn::builder(&application()).worker_class("gthread").unix().start();
    let nginx = nginx(gunicorn.address());
    let response = get(&nginx, "/app/flask/x", "");
    assert_eq!(line(&response, "link"), "/flask/x");
    assert_eq!(line(&response, "REMOTE_ADDR"), "");
    assert_eq!(line(&get(&nginx, "/flask/100%2525", ""), "rest"), "100%");
    assert_ne!(line(&get(&nginx, "/flask/caf%C3%A9", ""), "rest"), "café");
}
