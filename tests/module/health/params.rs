//! What a probe of a location sends: as a client's request does, with the params of the location.

use super::check;
use crate::prelude::*;

/// The standard params.
fn standard() -> String {
    STANDARD_PARAMS.replace("uwsgi_param", "rs_uwsgi_param")
}

/// The packet of the first probe of a location, and that of a client's request for the same.
fn both(server: &str, location: &str, target: &str, host: &str) -> (Nginx, Packet, Packet) {
    let site = Site::answering(&format!(
        "server {{
            listen 127.0.0.1:@port@; {server}
            location / {{ rs_uwsgi_pass @pass@; {location} }}
         }}"
    ));
    let probe = site.backend.wait_request(0).packet;
    let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(exchange(site.nginx.address(), text.as_bytes()).status, 200);
    let request = site.backend.wait_request(1).packet;
    (site.nginx, probe, request)
}

/// The vars, without those that tell of a client and of a probe.
fn vars(packet: &Packet) -> Vec<(String, Vec<String>)> {
    const OTHER: [&str; 4] =
        ["REMOTE_PORT", "SERVER_PORT", "HTTP_CONNECTION", "HTTP_X_RS_UWSGI_HEALTH_CHECK"];
    let mut names = packet.names();
    names.sort();
    names.dedup();
    names.retain(|name| !OTHER.contains(&name.as_str()));
    names.into_iter().map(|name| (name.clone(), packet.all(&name))).collect()
}

/// The same vars, but for those of the client's connection.
#[test]
fn as_a_client_sends_them() {
    let check = "rs_uwsgi_health_check uri=/app/he%61lth?full=1 interval=1h";
    for (server, location, host) in [
        ("server_name app.test;", String::new(), "app.test"),
        ("server_name app.test;", standard(), "app.test"),
        (
            "server_name app.test other.test; root /srv/www;",
            format!(
                "{} rs_uwsgi_param FILE $document_root${{document_uri}}; rs_uwsgi_param EMPTY '';
                 rs_uwsgi_param WHERE \"$scheme://$host$request_uri $is_args$args\";
                 rs_uwsgi_param NO $https if_not_empty; rs_uwsgi_param HTTP_AUTHORIZATION secret;
                 rs_uwsgi_param HTTP_X_EMPTY ''; rs_uwsgi_param USER $remote_user;
                 rs_uwsgi_param HTTP_X_FORWARDED_FOR $proxy_add_x_forwarded_for;
                 rs_uwsgi_modifier1 psgi; rs_uwsgi_modifier2 3; rs_uwsgi_mount /app;",
                standard()
            ),
            "app.test",
        ),
        (
            "server_name app.test;",
            "rs_uwsgi_param CONTENT_LENGTH 5; rs_uwsgi_param HTTP_HOST fixed.test;
             rs_uwsgi_param HTTP_X_Y $http_x_y; rs_uwsgi_param REQUEST_METHOD $request_method;"
                .to_owned(),
            "app.test",
        ),
        ("server_name *.app.test;", String::new(), "localhost"),
    ] {
        let location = format!("{location} {check};");
        let (_nginx, probe, request) = both(server, &location, "/app/he%61lth?full=1", host);
        let modifiers = |packet: &Packet| (packet.modifier1, packet.modifier2);
        assert_eq!(modifiers(&probe), modifiers(&request), "{location}");
        assert_eq!(vars(&probe), vars(&request), "{location}");
        assert_eq!(probe.get("HTTP_X_RS_UWSGI_HEALTH_CHECK").as_deref(), Some("1"));
        assert_eq!(probe.get("HTTP_CONNECTION").as_deref(), Some("close"));
    }
}

/// A host and headers of the check's own.
#[test]
fn a_host_of_its_own() {
    let check = "rs_uwsgi_health_check uri=/ host=probe.test:81 header=X-Key:k interval=1h;";
    let params = format!("{} rs_uwsgi_param KEY $http_x_key;", standard());
    let (_nginx, probe, _) =
        both("server_name app.test;", &format!("{check} {params}"), "/", "probe.test:81");
    for (name, value) in [
        ("SERVER_NAME", "app.test"),
        ("HTTP_HOST", "probe.test:81"),
        ("HTTP_X_KEY", "k"),
        ("KEY", "k"),
    ] {
        assert_eq!(probe.get(name).as_deref(), Some(value), "{name}");
    }
}

/// A variable that only a client's request has: the param is left out, and the log says so.
#[test]
fn variables_without_a_value() {
    let params = format!(
        "{} rs_uwsgi_param ID \"a $request_id\"; rs_uwsgi_param ARG $arg_x; rs_uwsgi_modifier2 $arg_m;",
        standard()
    );
    let check = "rs_uwsgi_health_check uri=/ interval=1h;";
    let (nginx, probe, request) =
        both("server_name app.test;", &format!("{params} {check}"), "/?m=2", "app.test");
    for name in ["ID", "ARG", "rs_uwsgi_modifier2"] {
        let line = nginx.wait_logged(&format!("sends no \"{name}\""));
        assert_eq!(line.level, "warn");
        assert!(
            line.text.contains("\"rs_uwsgi_health_check uri=/ interval=1h\" in "),
            "{}",
            line.text
        );
        assert_eq!(probe.get(name), None);
    }
    assert!(request.get("ID").is_some());
    assert_eq!((probe.modifier2, request.modifier2), (0, 2));
    // of a connection and of a ping there is nothing to be said
    for kind in ["", "ping"] {
        let said = super::check(&format!(
            "server {{ listen 127.0.0.1:@port@; location / {{
                rs_uwsgi_pass 127.0.0.1:1; rs_uwsgi_param ARG $arg_x; rs_uwsgi_health_check {kind}; }} }}"
        ));
        assert!(said.status.success() && !said.stderr.contains("sends no"), "{}", said.stderr);
    }
}

/// Locations that pass to the same servers agree on what is sent, too.
#[test]
fn locations_that_differ() {
    let http = |check: &str, first: &str, second: &str| {
        check_http(&format!(
            "location /a {{ rs_uwsgi_pass u; {check} {first} }}
            location /b {{ rs_uwsgi_pass u; {check} {second} }}"
        ))
    };
    let uri = "rs_uwsgi_health_check uri=/;";
    let param = "rs_uwsgi_param A b;";
    assert!(http(uri, param, param).status.success());
    assert!(http("rs_uwsgi_health_check;", param, "").status.success());
    let said = http(uri, param, "");
    assert_eq!(said.status.code(), Some(1));
    for text in ["contradict each other", "and the params of the two places differ"] {
        assert!(said.stderr.contains(text), "{}", said.stderr);
    }
    let large = format!("rs_uwsgi_param A {};", "x".repeat(3000));
    let large: String = (0..25).map(|_| large.as_str()).collect();
    let said = http(uri, &large, &large);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("makes a request of 75"), "{}", said.stderr);
}

fn check_http(server: &str) -> Check {
    check(&format!(
        "upstream u {{ server 127.0.0.1:1; }}
         server {{ listen 127.0.0.1:@port@; {server} }}"
    ))
}
