//! What is in effect where: levels of configuration, redefined params, upstream names and
//! variables in `rs_uwsgi_pass`, and the blocks that make locations of their own.

use crate::prelude::*;
use std::net::Ipv4Addr;

fn answer(peer: &mut Peer) -> io::Result<()> {
    peer.answer(OK)
}

fn answering_server(server: &str) -> Site {
    Site::builder().script(answer).server(server).start()
}

#[test]
fn params_are_inherited_as_a_set() {
    let site = Site::answering(
        "rs_uwsgi_param FROM http; rs_uwsgi_param HTTP_X_A http;
        server {
            listen 127.0.0.1:@port@;
            location / { rs_uwsgi_pass @pass@; }
            location /own {
                rs_uwsgi_param FROM location;
                rs_uwsgi_pass @pass@;
                location /own/nested { rs_uwsgi_pass @pass@; }
                location /own/nested/own { rs_uwsgi_param DEEP 1; rs_uwsgi_pass @pass@; }
            }
        }
        server {
            listen 127.0.0.1:@port2@;
            rs_uwsgi_param FROM server;
            rs_uwsgi_param EMPTY $arg_e if_not_empty;
            rs_uwsgi_param KEPT $arg_e;
            location / { rs_uwsgi_pass @pass@; }
        }",
    );
    for (path, expected) in [
        ("/", &["FROM", "HTTP_X_A", "HTTP_HOST"][..]),
        ("/own", &["FROM", "HTTP_HOST"]),
        ("/own/nested", &["FROM", "HTTP_HOST"]),
        ("/own/nested/own", &["DEEP", "HTTP_HOST"]),
    ] {
        assert_eq!(site.get(path).names(), expected, "{path}");
    }
    assert_eq!(site.get("/own/nested").get("FROM").as_deref(), Some("location"));
    let second = site.nginx.address_of(1, [127, 0, 0, 1]);
    let before = site.backend.requests().len();
    get(second, "/");
    get(second, "/?e=x");
    let empty = site.backend.wait_request(before).packet;
    let full = site.backend.wait_request(before + 1).packet;
    assert_eq!(empty.names(), ["FROM", "KEPT", "HTTP_HOST"]);
    assert_eq!(full.names(), ["FROM", "EMPTY", "KEPT", "HTTP_HOST"]);
    assert_eq!(full.get("EMPTY").as_deref(), Some("x"));
}

#[test]
fn single_values_are_inherited_and_overridden() {
    let site = Site::answering(
        "rs_uwsgi_modifier1 5; rs_uwsgi_modifier2 6; rs_uwsgi_pass_request_headers off;
        server {
            listen 127.0.0.1:@port@;
            rs_uwsgi_modifier2 7;
            location / { rs_uwsgi_pass @pass@; }
            location /own {
                rs_uwsgi_modifier1 9; rs_uwsgi_pass_request_headers on;
                rs_uwsgi_pass @pass@;
                location /own/nested { rs_uwsgi_modifier2 8; rs_uwsgi_pass @pass@; }
            }
        }",
    );
    for (path, modifiers, headers) in
        [("/", (5, 7), false), ("/own", (9, 7), true), ("/own/nested", (9, 8), true)]
    {
        let packet = site.get(path);
        assert_eq!((packet.modifier1, packet.modifier2), modifiers, "{path}");
        assert_eq!(packet.names().iter().any(|name| name == "HTTP_HOST"), headers, "{path}");
    }
}

#[test]
fn named_upstreams_before_and_after() {
    let site = Site::answering(
        "upstream before { server @pass@; }
        server {
            listen 127.0.0.1:@port@;
            location /before { rs_uwsgi_pass before; }
            location /after { rs_uwsgi_pass uwsgi://after; }
            location /mixed { rs_uwsgi_pass UWSGI://before; }
        }
        upstream after { server @pass@; }",
    );
    for path in ["/before", "/after", "/mixed"] {
        assert_eq!(site.get(path).get("REQUEST_URI").as_deref(), Some(path));
    }
}

#[test]
fn addresses_of_every_form() {
    let dir = nginx::prefix();
    let socket = dir.path().join("b");
    let unix = Backend::unix(&socket, answer);
    let tcp = Backend::tcp(answer);
    let (unix_address, tcp_address) = (unix.address().to_string(), tcp.address().to_string());
    let port = tcp_address.rsplit(':').next().unwrap();
    let forms = [
        unix_address.clone(),
        format!("{unix_address}:"),
        format!("uwsgi://{unix_address}"),
        format!("uwsgi://{unix_address}:"),
        tcp_address.clone(),
        format!("uwsgi://{tcp_address}"),
        format!("localhost:{port}"),
    ];
    let locations: String = forms
        .iter()
        .enumerate()
        .map(|(i, form)| format!("location /{i} {{ rs_uwsgi_pass {form}; }}\n"))
        .collect();
    let nginx = Nginx::serve(&locations);
    for (i, form) in forms.iter().enumerate() {
        assert_eq!(get(nginx.address(), &format!("/{i}")).text(), "ok", "{form}");
    }
    assert_eq!(unix.requests().len() + tcp.requests().len(), forms.len());
}

#[test]
fn ipv6_addresses() {
    use crate::support::backend::Address;
    use std::net::{Ipv6Addr, SocketAddr};
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if std::net::TcpListener::bind(any).is_err() {
        println!("no IPv6 loopback here: nothing to test");
        return;
    }
    let backend = Backend::listen(Address::Tcp(any), &any.into(), 16, std::sync::Arc::new(answer));
    let nginx = Nginx::serve(&format!("location / {{ rs_uwsgi_pass {}; }}", backend.address()));
    assert_eq!(get(nginx.address(), "/").text(), "ok");
}

#[test]
fn variables_in_the_address() {
    let site = Site::answering(
        "upstream app { server @pass@; }
        map $arg_to $to { default app; u @pass@; s uwsgi://@pass@; n nowhere:1; b \"bad:port\"; }
        server {
            listen 127.0.0.1:@port@;
            location / { rs_uwsgi_pass $to; }
            location /part { rs_uwsgi_pass uwsgi://$to; }
        }",
    );
    for path in ["/", "/?to=u", "/?to=s", "/part", "/part?to=u"] {
        assert_eq!(site.get(path).get("REQUEST_URI").as_deref(), Some(path));
    }
    // No such upstream, and no resolver to ask; and a port that is none.
    assert_eq!(get(site.nginx.address(), "/?to=n").status, 502);
    assert!(site.nginx.wait_logged("no resolver defined to resolve nowhere").level == "error");
    assert_eq!(get(site.nginx.address(), "/?to=b").status, 500);
    assert!(site.nginx.wait_logged("invalid port in upstream \"bad:port\"").level == "error");
}

#[test]
fn resolver() {
    let dns = Dns::start(&[("app.test", Ipv4Addr::LOCALHOST)]);
    let backend = Backend::tcp(answer);
    let address = backend.address().to_string();
    let port = address.rsplit(':').next().unwrap();
    let server = format!(
        "resolver {} ipv6=off; resolver_timeout 5s; set $name app.test; set $none none.test;
        location / {{ uwsgi_pass $name:{port}; }}
        location /none {{ uwsgi_pass $none:{port}; }}",
        dns.address()
    );
    let ours = translated(&server);
    let nginx = Nginx::start(&format!(
        "server {{ listen 127.0.0.1:@port@; {server} }} server {{ listen 127.0.0.2:@port@; {ours} }}"
    ));
    let both = |path: &str| [1, 2].map(|host| get(nginx.address_of(0, [127, 0, 0, host]), path));
    assert_eq!(both("/").map(|response| response.text()), ["ok", "ok"]);
    assert_eq!(both("/none").map(|response| response.status), [502, 502]);
    assert!(dns.asked().contains(&"app.test".to_string()));
    assert_eq!(nginx.logged("none.test could not be resolved").len(), 2);
}

#[test]
fn blocks_that_make_locations() {
    let site = answering_server(
        "rs_uwsgi_param WHERE server;
        location /if {
            rs_uwsgi_param WHERE location;
            if ($arg_x = 1) { rs_uwsgi_pass @pass@; }
            rs_uwsgi_pass @pass@;
        }
        location /only-if {
            if ($arg_x = 1) { rs_uwsgi_pass @pass@; break; }
            return 403;
        }
        location /except {
            limit_except GET { deny all; }
            rs_uwsgi_pass @pass@;
        }
        location ~ ^/re/(?<part>.*)$ { rs_uwsgi_param PART $part; rs_uwsgi_pass @pass@; }
        location = /exact { rs_uwsgi_pass @pass@; }
        location @named { rs_uwsgi_param WHERE named; rs_uwsgi_pass @pass@; }
        location /fallback { try_files /none @named; }
        location /rewritten { rewrite ^/rewritten(.*)$ /exact break; rs_uwsgi_pass @pass@; }",
    );
    let place = |path: &str| site.get(path).get("WHERE");
    assert_eq!(place("/if?x=1").as_deref(), Some("location"));
    assert_eq!(place("/if").as_deref(), Some("location"));
    assert_eq!(place("/only-if?x=1").as_deref(), Some("server"));
    assert_eq!(get(site.nginx.address(), "/only-if").status, 403);
    assert_eq!(place("/except").as_deref(), Some("server"));
    let post = crate::support::client::post(site.nginx.address(), "/except", b"x");
    assert_eq!(post.status, 403);
    assert_eq!(site.get("/re/a/b").get("PART").as_deref(), Some("a/b"));
    assert_eq!(place("/exact").as_deref(), Some("server"));
    assert_eq!(place("/fallback/x").as_deref(), Some("named"));
    assert_eq!(place("/rewritten/y").as_deref(), Some("server"));
}

/// A location whose name ends in a slash redirects the name without it, as with stock.
#[test]
fn automatic_redirect() {
    let site = answering_server("location /app/ { rs_uwsgi_pass @pass@; }");
    let redirect = |response: &Response| response.header("Location").map(str::to_string);
    let response = get(site.nginx.address(), "/app?x=1");
    assert_eq!(response.status, 301);
    assert!(redirect(&response).unwrap().ends_with("/app/?x=1"), "{response:?}");
    let served = get_with(site.nginx.address(), "/app/", "Connection: close\r\n");
    assert_eq!(served.text(), "ok");
}

/// The module may be loaded and not used, and used beside stock in one location tree.
#[test]
fn beside_stock() {
    let site = answering_server(
        "location /stock { uwsgi_param WHO stock; uwsgi_pass @pass@; }
        location /ours { rs_uwsgi_param WHO ours; rs_uwsgi_pass @pass@; }",
    );
    assert_eq!(site.get("/stock").get("WHO").as_deref(), Some("stock"));
    assert_eq!(site.get("/ours").get("WHO").as_deref(), Some("ours"));
}
