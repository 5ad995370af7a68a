//! Every way for a try with a server to end gives its connection's place up, and wakes who waits for
//! it: here `rs_uwsgi_max_connections` is 1, a second request waits while the first one ends, and it
//! is served at once, and so is a third one after it.
//!
//! nginx ends a try in two ways. `ngx_http_upstream_next` calls `peer.free` when another server may be
//! asked, and then asks it or goes on to the second, `ngx_http_upstream_finalize_request`, which calls
//! `peer.free` unless that was done. Who calls these, and the tests of it:
//!
//! | who | when | tests |
//! |---|---|---|
//! | `ngx_http_upstream_process_non_buffered_downstream` | a body that came with its head | `whole`, `kept`, `early` |
//! | | a body as it comes | `unbuffered`, `unbuffered_chunked` |
//! | | its end is no end | `cut_unbuffered`, `silent_in_an_unbuffered_body` |
//! | `ngx_http_upstream_process_request` (pipe) | a buffered body ends | `in_pieces`, `chunked`, `until_close`, `cached`, `stored` |
//! | | it is cut, late or malformed | `cut`, `silent_in_the_body`, `bad_chunks` |
//! | | the client leaves | `client_leaves_in_the_body`, `client_leaves_in_a_large_body` |
//! | `ngx_http_upstream_send_response` | no body | `head`, `no_content` |
//! | | a filter ends the request, and clears what modules keep with it | `failed_precondition`, `modified_since`, `image_filter`, `xslt_filter`, `filter_then_page`, `filter_then_named`, `filter_then_the_same_server` |
//! | | a filter fails | `filter_that_fails` |
//! | `ngx_http_upstream_process_headers` | X-Accel-Redirect | `redirect_to_a_file`, `redirect_to_the_same_server`, `redirect_to_named` |
//! | `ngx_http_upstream_intercept_errors` | `error_page` | `page_from_a_file`, `page_from_the_same_server` |
//! | `ngx_http_upstream_process_header` → `next` | no head | `closed`, `reset`, `invalid_head`, `too_large_head`, `silent` |
//! | `ngx_http_upstream_test_next` | a status of `rs_uwsgi_next_upstream` | `next_by_status` |
//! | `ngx_http_upstream_test_next`, `next` | the cache has an older response | `stale_after_an_error`, `stale_after_a_status`, `not_modified` |
//! | `ngx_http_upstream_send_request` → `next` | the request is not taken | `upload_not_taken` |
//! | `ngx_http_upstream_send_request_handler` → `next` | in time | `upload_not_taken_in_time` |
//! | `ngx_http_upstream_read_request_handler` | the client stops its upload | `client_leaves_in_the_upload` |
//! | `ngx_http_upstream_check_broken_connection` | the client leaves before the head | `client_leaves`, `client_leaves_in_the_line`, `client_leaves_while_connecting` |
//! | `ngx_http_upstream_connect` → `next` | no connection | `refused` |
//! | | a used connection turns out to be dead | `dead_connection` |
//! | `ngx_http_upstream_process_upgraded` | either side closes | `upgraded_and_closed_by_the_server`, `upgraded_and_closed_by_the_client` |
//! | `ngx_http_upstream_cleanup` | the wait is over: full, or too long | `queue_is_full`, `waited_in_vain` |
//! | | the request gets another upstream | `filter_then_the_same_server` |
//! | | the client's connection fails | `client_leaves_in_a_large_body` |
//! | subrequests | as theirs | `included`, `authorized`, `refused_by_authorization` |
//! | background requests | as theirs | `background_update` |
//! | `post_action` | as theirs | `post_action` |
//! | `ngx_http_upstream_resolve_handler` | the server's name has an address, or none; there is no limit then | `resolved`, `not_resolved` |
//! | the worker leaves | when its requests are done | `reload` |
//! | | when it was given time for them, which is up | `shutdown_timeout` |
//! | | at once, and all that it knows with it | `terminated` |
//! | any of them | a step of ours panics | `a_step_that_panics`, `a_step_of_a_request_that_waits`, `the_answer_to_a_request_that_is_too_large` |
//!
//! A panic of this module's ends in nginx/callbacks.rs and fails the request. Where it happens while a
//! try is being ended, the place is given up all the same, by a value that is dropped
//! (`finalize::release`).

mod connections;
mod faults;
mod filters;
mod redirects;
mod responses;
mod subrequests;

use crate::prelude::*;
use crate::site;
use std::ops::Deref;

/// What the requests that wait get.
const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

/// A server that holds back what it does until a second request waits, and nginx before it.
struct OnePlace {
    site: Site,
    open: Arc<AtomicBool>,
    /// The paths that were asked for, in order.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Deref for OnePlace {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl OnePlace {
    /// `locations` stand beside `/next`; `@pass@` is the server, which does as `script` says, with the
    /// request's vars, but for `/next`.
    fn new(
        locations: &str,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        OnePlace::build("", locations, script)
    }

    /// Of the module whose steps fail where a request asks for it.
    fn with_faults(
        locations: &str,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        OnePlace::before(Nginx::builder().with_faults(), locations, script)
    }

    /// With more in the main context.
    fn build(
        main: &str,
        locations: &str,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        OnePlace::before(Nginx::builder().main(main), locations, script)
    }

    fn before(
        nginx: Builder,
        locations: &str,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        OnePlace::start(Site::builder().nginx(files(nginx)), "@pass@", locations, script)
    }

    fn start(
        site: site::Builder,
        server: &str,
        locations: &str,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        let (open, seen) = <(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>)>::default();
        let script = gated(open.clone(), seen.clone(), script);
        let site = site.http(&http(server, locations)).script(script).start();
        site.nginx.worker_ids();
        OnePlace { site, open, seen }
    }

    /// nginx looks up the server's name for each request.
    fn resolved(
        dns: &Dns,
        script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
    ) -> OnePlace {
        let resolver = format!(
            "resolver {} ipv6=off; set $name app.test; set $none none.test;
            location /none {{ rs_uwsgi_pass $none:@pass_port@; }} {PLAIN}",
            dns.address()
        );
        OnePlace::start(
            Site::builder().nginx(files(Nginx::builder())).tcp(true),
            "$name:@pass_port@",
            &resolver,
            script,
        )
    }

    fn send(&self, request: &str) -> Client {
        let mut client = Client::connect(self.nginx.address());
        client.send(request.as_bytes());
        client
    }

    /// Waits until the server has been asked for so much.
    fn wait_seen(&self, count: usize) {
        wait_for("the server to be asked", || {
            (self.seen.lock().unwrap().len() >= count).then_some(())
        });
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// The first request is on its way, the second one waits; then the server goes on, and `end` makes
    /// the first one end.
    fn end_by<T>(&self, request: &str, end: impl FnOnce(Client) -> T) -> T {
        let client = self.send(request);
        self.wait_seen(1);
        let next = self.wait_behind(1);
        assert_eq!(self.seen.lock().unwrap().len(), 1, "it does not wait");
        self.open();
        let result = end(client);
        self.assert_next(next);
        result
    }

    /// As `end_by`: the response ends it.
    fn end(&self, request: &str) -> Response {
        self.end_by(request, |mut client| client.response(request.starts_with("HEAD")).unwrap())
    }

    /// A request that waits behind so many.
    fn wait_behind(&self, count: usize) -> Client {
        let next = self.send(&get("/next"));
        wait_busy(&self.nginx, count + 1);
        next
    }

    /// The request that has waited is served, and so is one more.
    fn assert_next(&self, mut waiting: Client) {
        let response = waiting.response(false).expect("the request that waited is not served");
        assert_eq!((response.status, response.text()), (200, "next".to_string()));
        self.assert_free();
    }

    /// One more request is served at once.
    fn assert_free(&self) {
        let response = client::get(self.nginx.address(), "/next");
        assert_eq!((response.status, response.text()), (200, "next".to_string()));
        wait_busy(&self.nginx, 0);
    }
}

/// What a server does: as `script` says when the gate is open, but for `/next`.
fn gated(
    gate: Arc<AtomicBool>,
    paths: Arc<Mutex<Vec<String>>>,
    script: impl Fn(&mut Peer, &Packet) -> io::Result<()> + Send + Sync + 'static,
) -> impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static {
    move |peer| loop {
        let packet = peer.read_packet()?;
        let path = packet.get("REQUEST_URI").unwrap_or_default();
        paths.lock().unwrap().push(path.clone());
        if path.starts_with("/next") {
            return peer.write(NEXT);
        }
        wait_for("the gate", || gate.load(Ordering::SeqCst).then_some(()));
        script(peer, &packet)?;
    }
}

/// nginx with ours before `server`.
fn start(server: &Address, locations: &str) -> Nginx {
    let nginx = files(Nginx::builder()).http(&http(&server.to_string(), locations)).start();
    nginx.worker_ids();
    nginx
}

/// One connection to `server`, and a line to wait in for longer than a test does.
fn http(server: &str, locations: &str) -> String {
    format!(
        "rs_uwsgi_cache_path @dir@/cache keys_zone=zone:1m;
        server {{
            listen 127.0.0.1:@port@;
            rs_uwsgi_max_connections 1;
            rs_uwsgi_queue 100 timeout={timeout}s;
            rs_uwsgi_next_upstream_tries 1;
            location = /busy {{ stub_status; }}
            location = /file {{ internal; return 200 file; }}
            location /next {{ rs_uwsgi_pass {server}; }}
            {locations}
        }}",
        timeout = 3 * DEADLINE.as_secs(),
        locations = locations.replace("@pass@", server),
    )
}

fn files(nginx: Builder) -> Builder {
    nginx.file("html/page", b"page").file("html/sheet", STYLESHEET)
}

/// Waits until nginx is busy with so many requests.
fn wait_busy(nginx: &Nginx, count: usize) {
    wait_for(&format!("{count} requests in nginx"), || {
        let status = client::get(nginx.address(), "/busy").text();
        let writing = status.split("Writing: ").nth(1)?.split(' ').next()?;
        (writing.parse() == Ok(count + 1)).then_some(())
    });
}

fn get(path: &str) -> String {
    get_with(path, "")
}

fn get_with(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n")
}

fn post(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
}

const STYLESHEET: &[u8] =
    b"<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'/>";

const PLAIN: &str = "location / { rs_uwsgi_pass @pass@; }";
