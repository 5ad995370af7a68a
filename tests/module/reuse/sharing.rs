//! Who shares connections with whom: locations that pass to one upstream do, whatever balances it;
//! other modules, other local addresses and other TLS settings do not.

use super::{Answers, Site, GET, KEPT, PARKED};
use crate::prelude::*;
use crate::version::version_number;
use std::collections::HashMap;
use std::net::Ipv4Addr;

const BOUND: &str = "\"rs_uwsgi_bind\" chose its address for one request";

fn path(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").into_bytes()
}

/// The connection that each request comes on; all of them are parked.
pub fn connections(site: &Site, paths: &[&str]) -> Vec<usize> {
    let visit = |p: &&str| {
        let visit = site.visit(&path(p));
        assert_eq!((visit.response.text().as_str(), visit.verdict.as_str()), ("ok", PARKED), "{p}");
        visit.connection
    };
    paths.iter().map(visit).collect()
}

#[test]
fn locations_and_servers_of_one_address() {
    for tcp in [false, true] {
        let site = Site::builder()
            .visits()
            .http("server { listen 127.0.0.3:@port@; location / { rs_uwsgi_pass @pass@; } }")
            .server(
                "location /a { rs_uwsgi_pass @pass@; }
             location /b { rs_uwsgi_pass uwsgi://@pass@; rs_uwsgi_buffering off; }
             location /c { if ($arg_x) { rs_uwsgi_pass @pass@; } }",
            )
            .tcp(tcp)
            .start();
        assert_eq!(connections(&site, &["/a", "/b", "/c?x=1", "/a"]), [0; 4]);
        let other = site.nginx.address_of(0, [127, 0, 0, 3]);
        assert_eq!(site.visit_with(|_| exchange(other, GET)).connection, 0);
    }
}

#[test]
fn upstream_blocks_with_any_balancing() {
    let one = "server @pass@;";
    let backup = "server 127.0.0.1:1 down; server @pass@ backup;";
    for block in [
        one.to_string(),
        format!("least_conn; {one}"),
        format!("ip_hash; {one}"),
        format!("hash $uri; {one}"),
        format!("hash $uri consistent; {one}"),
        format!("random; {one}"),
        format!("random two least_conn; {one}"),
        format!("zone z 64k; {one}"),
        format!("zone z 64k; least_conn; {one}"),
        format!("{one} keepalive 4;"),
        format!("least_conn; {one} keepalive 4;"),
        format!("zone z 64k; {one} keepalive 4;"),
        "server @pass@ max_conns=1;".to_string(),
        "zone z 64k; server @pass@ max_conns=1; keepalive 4;".to_string(),
        "server @pass@ weight=3 max_fails=0;".to_string(),
        backup.to_string(),
        format!("zone z 64k; {backup}"),
        "server 127.0.0.1:1 down; server @pass@;".to_string(),
    ] {
        let site = Site::builder()
            .visits()
            .http(&format!("upstream u {{ {block} }}"))
            .server("location / { rs_uwsgi_pass u; } location /v { set $u u; rs_uwsgi_pass $u; }")
            .start();
        assert_eq!(connections(&site, &["/", "/v", "/", "/v", "/"]), [0; 5], "{block}");
        assert!(site.log().is_empty(), "{block}: {:?}", site.log());
    }
}

#[test]
fn the_servers_of_a_block_each_have_their_own() {
    let answers = Answers::new();
    let script = answers.script();
    let other = Backend::tcp(move |peer| script(peer));
    let site = Site::builder()
        .visits()
        .http(&format!("upstream u {{ server @pass@; server {}; }}", other.address()))
        .server("location / { rs_uwsgi_pass u; }")
        .tcp(true)
        .start();
    answers.set_bytes(KEPT);
    for number in 0..10 {
        assert_eq!(get(site.address(), "/").text(), "ok");
        site.wait_verdict(number);
    }
    assert_eq!((site.backend.connection_count(), other.connection_count()), (1, 1));
    assert_eq!((site.backend.requests().len(), other.requests().len()), (5, 5));
    assert!(site.verdicts().iter().all(|verdict| verdict == PARKED));
}

/// A server that speaks HTTP and uwsgi, whichever a connection begins with; what the connections
/// spoke, and whether one spoke both.
fn bilingual(backend: &Backend) -> Spoken {
    let spoken = Spoken::default();
    let record = spoken.clone();
    backend.set_script(move |peer| loop {
        let begin = peer.read_exact(4)?;
        let language = if begin == b"GET " { "http" } else { "uwsgi" };
        record.lock().unwrap().entry(peer.number).or_default().push(language);
        if language == "http" {
            let mut head = begin;
            while !head.ends_with(b"\r\n\r\n") {
                head.extend(peer.read_exact(1)?);
            }
        } else {
            peer.read_exact(usize::from(u16::from_le_bytes([begin[1], begin[2]])))?;
        }
        peer.write(KEPT)?;
    });
    spoken
}

type Spoken = Arc<Mutex<HashMap<usize, Vec<&'static str>>>>;

#[test]
fn proxy_pass_to_the_same_block_has_connections_of_its_own() {
    for server in
        ["server @pass@;", "zone z 64k; server @pass@ max_conns=1;", "least_conn; server @pass@;"]
    {
        let site = Site::builder()
            .visits()
            .http(&format!("upstream u {{ {server} keepalive 4; }}"))
            .server(
                "location / { rs_uwsgi_pass u; }
             location /proxy { proxy_pass http://u; proxy_http_version 1.1;
                 proxy_set_header Connection \"\"; }",
            )
            .tcp(true)
            .start();
        let spoken = bilingual(&site.backend);
        let mut ended = 0;
        for p in ["/", "/proxy", "/", "/proxy", "/proxy", "/", "/", "/proxy", "/"].repeat(3) {
            assert_eq!(get(site.address(), p).text(), "ok", "{server} {p}");
            // the connection is parked before the next request looks for it
            ended += 1;
            site.nginx.wait_requests(ended);
        }
        let spoken = spoken.lock().unwrap();
        assert_eq!(spoken.len(), 2, "{server}: one connection each: {spoken:?}");
        for languages in spoken.values() {
            assert!(languages.iter().all(|language| *language == languages[0]), "{spoken:?}");
        }
        assert!(site.log().is_empty(), "{:?}", site.log());
    }
}

/// `proxy_pass` with stock `keepalive` and ours use a block whose name stands for another address every now and
/// then (nginx from 1.27.3 on): what describes the servers that are gone is freed, also while requests are on
/// their way to them.
#[test]
fn proxy_pass_to_the_same_block_whose_servers_change() {
    let hosts = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let dns = Dns::start(&[("app.test", hosts[0])]);
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let script = |_: &mut Peer| Ok(());
    let backend = Backend::listen(Address::Tcp(any), &any.into(), 128, Arc::new(script));
    let spoken = bilingual(&backend);
    let Address::Tcp(address) = *backend.address() else { unreachable!() };
    let http = format!(
        "log_format servers $upstream_addr;
        upstream u {{ zone z 128k; server app.test:{port} resolve max_fails=1; keepalive 4;
            resolver {dns} valid=1s ipv6=off; }}
        server {{
            listen 127.0.0.1:@port@; access_log @dir@/servers.log servers;
            location / {{ rs_uwsgi_pass u; }}
            location /proxy {{ proxy_pass http://u; proxy_http_version 1.1;
                proxy_set_header Connection \"\"; }}
        }}",
        port = address.port(),
        dns = dns.address(),
    );
    let builder = || Nginx::builder().http(&http);
    if version_number() < 1_027_003 {
        // this nginx looks names up once
        let check = builder().check();
        let is_refused = !check.status.success() && check.stderr.contains("invalid parameter");
        assert!(is_refused, "{}", check.stderr);
        return;
    }
    let nginx = builder().start();
    // until the name was looked up there is no server, which is an error
    wait_for("the servers", || (get(nginx.address(), "/").status == 200).then_some(()));
    let before = nginx.logged("").len();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for first in ["/", "/proxy"] {
            let (nginx, is_over) = (&nginx, &is_over);
            scope.spawn(move || {
                let mut paths = ["/", "/proxy", "/proxy", "/", "/"].iter().cycle();
                let mut path = first;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(get(nginx.address(), path).text(), "ok", "{path}");
                    path = paths.next().unwrap();
                }
            });
        }
        for change in 1..=6 {
            let host = hosts[change % 2];
            dns.set("app.test", host);
            // the first to be asked for there is the last change
            let addresses = || std::fs::read_to_string(nginx.path("servers.log")).unwrap();
            let server = format!("{host}:{}", address.port());
            wait_for(&server, || (addresses().lines().last()? == server).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // none but the two, whole, and each connection in one language
    let known = hosts.map(|host| format!("{host}:{}", address.port()));
    let log = std::fs::read_to_string(nginx.path("servers.log")).unwrap();
    let asked = log.lines().skip_while(|line| *line == "u");
    assert!(asked.clone().count() > 0, "{log}");
    assert!(asked.into_iter().all(|line| known.iter().any(|known| known == line)), "{log}");
    for languages in spoken.lock().unwrap().values() {
        assert!(languages.iter().all(|language| *language == languages[0]), "{languages:?}");
    }
    let lines = nginx.logged("");
    assert!(lines[before..].iter().all(|line| !["error", "warn"].contains(&&*line.level)));
    nginx.quit();
}

#[test]
fn local_addresses_are_not_mixed() {
    let site = Site::builder()
        .visits()
        .server(
            "location /0 { rs_uwsgi_pass @pass@; }
         location /1 { rs_uwsgi_pass @pass@; rs_uwsgi_bind 127.0.0.1; }
         location /2 { rs_uwsgi_pass @pass@; rs_uwsgi_bind 127.0.0.2; }
         location /same { rs_uwsgi_pass @pass@; rs_uwsgi_bind 127.0.0.2; }
         location /v { rs_uwsgi_pass @pass@; rs_uwsgi_bind $arg_a; }",
        )
        .tcp(true)
        .start();
    let paths = ["/0", "/1", "/2", "/same", "/1", "/0", "/2"];
    assert_eq!(connections(&site, &paths), [0, 1, 2, 2, 1, 0, 2]);
    // one that is chosen for each request is not kept
    let visits = ["/v?a=127.0.0.2", "/v?a=127.0.0.2"].map(|p| site.visit(&path(p)));
    assert_eq!(visits.each_ref().map(|visit| visit.connection), [3, 4]);
    assert!(visits.iter().all(|visit| visit.verdict == BOUND), "{visits:?}");
}

#[test]
fn addresses_that_variables_name() {
    let site = Site::serve(
        "location / { set $a @pass@; rs_uwsgi_pass $a; }
         location /unknown {
             set $a @pass@;
             if ($a ~ ^unix:(.*)$) { set $a unix:/.$1; }
             rs_uwsgi_pass $a;
         }",
    );
    // stock's location names the first, so that nginx knows it as an upstream
    assert_eq!(connections(&site, &["/", "/"]), [0, 0]);
    for number in 2..4 {
        assert_eq!(get(site.address(), "/unknown").text(), "ok");
        site.nginx.wait_requests(number + 1);
    }
    let requests = site.backend.requests();
    let connections = requests.iter().map(|request| request.connection);
    assert_eq!(connections.collect::<Vec<_>>(), [0, 0, 1, 1], "{:?}", site.verdicts());
}

#[test]
fn stock_locations_are_left_alone() {
    let site = Site::builder()
        .visits()
        .http("upstream u { server @pass@; }")
        .server(
            "location / { rs_uwsgi_pass u; }
         location /stock { uwsgi_pass u; uwsgi_param REQUEST_METHOD GET; }",
        )
        .start();
    assert_eq!(site.next_connection(), 0);
    for number in 1..4 {
        assert_eq!(get(site.address(), "/stock").text(), "ok");
        site.nginx.wait_requests(number + 1);
    }
    assert_eq!(site.next_connection(), 0);
    assert_eq!(site.backend.connection_count(), 4);
    let ended = || site.backend.connections().iter().skip(1).all(|connection| connection.ended);
    wait_for("stock's connections to end", || ended().then_some(()));
}
