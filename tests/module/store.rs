//! Responses that become files: for good (uwsgi_store), and for as long as a slow client takes to
//! read them (temporary files).
//!
//! Mirrors `ngx_http_upstream_store` of nginx's src/http/ngx_http_upstream.c and the temporary file
//! of its src/event/ngx_event_pipe.c.

use crate::cached::{
    answer, begin, cached, cached_in, files, run, same_files, side_name, wire, Does::Says, Step,
    SIDES,
};
use crate::prelude::*;
use std::os::unix::fs::MetadataExt;

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";
const NO: &str = "HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno";

#[test]
fn what_is_stored_where() {
    let pair = cached(
        "location /on/ {
            # Without DOCUMENT_ROOT, in which the two differ here.
            uwsgi_param REQUEST_METHOD $request_method;
            root @dir@/uwsgi_files/on; uwsgi_store on; uwsgi_pass @pass@;
        }
        location /path/ { uwsgi_store @dir@/uwsgi_files/path/$arg_x$uri.html; uwsgi_pass @pass@;
            location /path/off/ { uwsgi_store off; uwsgi_pass @pass@; }
            location /path/inherited/ { uwsgi_pass @pass@; }
        }
        location /alias/ {
            uwsgi_param REQUEST_METHOD $request_method;
            alias @dir@/uwsgi_files/alias/; uwsgi_store on; uwsgi_pass @pass@;
        }",
    );
    let steps: [Step; 13] = [
        ("GET /on/a/b", Says(OK), "200 - ok"),
        ("GET /on/again", Says(OK), "200 - ok"),
        ("GET /on/again", Says("HTTP/1.1 200 OK\n\nother"), "200 - other"),
        ("GET /on/none", Says(NO), "404 - no"),
        ("GET /on/short", Says("HTTP/1.1 200 OK\nContent-Length: 9\n\nok"), "200 - ok"),
        (
            "GET /on/dated",
            Says("Status: 200 OK\nLast-Modified: Mon, 28 Sep 1970 06:00:00 GMT\n\nok"),
            "200 - ok",
        ),
        ("HEAD /on/head", Says(OK), "200 - "),
        ("POST /on/post\nContent-Length: 0", Says(OK), "200 - ok"),
        ("GET /path/one?x=sub", Says(OK), "200 - ok"),
        ("GET /path/off/one", Says(OK), "200 - ok"),
        ("GET /path/inherited/one", Says(OK), "200 - ok"),
        ("GET /alias/one%20two?x", Says(OK), "200 - ok"),
        ("GET /alias/", Says(OK), "200 - ok"),
    ];
    // the name of the last one is that of the folder
    pair.nginx.expects("Not a directory");
    run(&pair, "store", &steps);
    let stored = same_files(&pair, "uwsgi_files");
    let paths: Vec<_> = stored.iter().map(|(path, ..)| &path[..]).collect();
    let expected = [
        "alias/one two",
        "on/on/a/b",
        "on/on/again",
        "on/on/dated",
        "on/on/head",
        "on/on/post",
        "path/path/inherited/one.html",
        "path/sub/path/one.html",
    ];
    assert_eq!(paths, expected);
    assert!(stored.iter().all(|(_, mode, _)| *mode == 0o600), "{stored:?}");
    let dated = SIDES.map(|side| files(&pair, side, "uwsgi_files")["on/on/dated"].mtime());
    assert_eq!(dated, [23_349_600; 2]);
}

#[test]
fn store_access() {
    let pair = cached(
        "uwsgi_store @dir@/uwsgi_files$uri; uwsgi_store_access user:rw group:rw all:r;
        location /most { uwsgi_pass @pass@; }
        location /group { uwsgi_store_access group:r; uwsgi_pass @pass@; }
        location /all { uwsgi_store_access all:rw; uwsgi_pass @pass@; }",
    );
    let steps = ["GET /most", "GET /group", "GET /all"]
        .map(|request| -> Step { (request, Says(OK), "200 - ok") });
    run(&pair, "store_access", &steps);
    let modes: Vec<_> =
        same_files(&pair, "uwsgi_files").into_iter().map(|(path, mode, _)| (path, mode)).collect();
    let expected = [("all", 0o606), ("group", 0o640), ("most", 0o664)];
    assert_eq!(modes, expected.map(|(path, mode)| (path.to_string(), mode)));
}

/// The classic use: nginx serves the file where there is one, and makes it where there is none.
#[test]
fn a_mirror_on_demand() {
    let pair = cached(
        "root @dir@/uwsgi_files; default_type text/html;
        location / { error_page 404 = @fetch; log_not_found off; }
        location @fetch { uwsgi_store on; uwsgi_pass @pass@; }",
    );
    pair.backend.set_script(|peer| peer.answer(&answer(OK)));
    for side in SIDES {
        let [first, second] = [1, 2].map(|_| get(pair.address(side), "/dir/page"));
        assert_eq!((first.text(), second.text()), ("ok".to_string(), "ok".to_string()));
        // nginx gives its own files an ETag.
        assert_eq!((first.header("ETag"), second.header("ETag").is_some()), (None, true));
    }
    assert_eq!(pair.backend.connection_count(), 2);
    same_files(&pair, "uwsgi_files");
}

const MEGABYTE: usize = 1 << 20;

/// Both servers with small buffers, for clients that do not read.
fn slow(extra: &str) -> Pair {
    let server = format!(
        "{STANDARD_PARAMS} location = /ping {{ return 204; }}
        uwsgi_temp_path @dir@/uwsgi_tmp 2 1; uwsgi_buffer_size 4k; uwsgi_buffers 16 4k;
        {extra} location / {{ uwsgi_pass @pass@; }}"
    );
    Pair::builder(&server)
        .nginx(Nginx::builder().log_level("debug_event"))
        .listen("sndbuf=8k")
        .start()
}

/// Begins a response of a megabyte that the client does not read yet; the counter says how much of
/// it nginx has taken.
fn unread(pair: &Pair, side: Side) -> (Client, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    pair.backend.set_script(move |peer| {
        peer.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {MEGABYTE}\r\n\r\n").as_bytes())?;
        for _ in 0..MEGABYTE / 1024 {
            peer.write(&[b'x'; 1024])?;
            counter.fetch_add(1024, Ordering::SeqCst);
        }
        Ok(())
    });
    (begin(pair.address(side), "/"), taken)
}

/// Waits until nginx takes no more from the backend: 20 turns of its event loop change nothing.
fn wait_stalled(pair: &Pair, side: Side, taken: &AtomicUsize) -> usize {
    wait_for("nginx to stop reading", || {
        let before = taken.load(Ordering::SeqCst);
        (0..20).for_each(|_| drop(get(pair.address(side), "/ping")));
        (before > 0 && before == taken.load(Ordering::SeqCst)).then_some(before)
    })
}

/// The largest number behind `label` in the debug log after its first `skip` lines.
fn largest(pair: &Pair, skip: usize, label: &str) -> usize {
    let log = pair.nginx.error_log();
    let lines = log.iter().skip(skip).filter_map(|line| line.text.strip_prefix(label));
    lines.filter_map(|number| number.trim().parse().ok()).max().unwrap_or(0)
}

fn finish(side: Side, client: &mut Client) {
    assert_eq!(client.response(false).unwrap().body, [b'x'; MEGABYTE], "{side:?}");
}

/// The server is free as soon as nginx has its response, however slow the client is.
#[test]
fn a_temporary_file_frees_the_server() {
    let pair = slow("uwsgi_temp_file_write_size 32k;");
    for side in SIDES {
        let first = pair.backend.connection_count();
        let lines = pair.nginx.error_log().len();
        let (mut client, _) = unread(&pair, side);
        pair.backend.take_ended(first, 1);
        // nginx unlinks the file as soon as it has it open: only its name is to be seen.
        let dir = format!("{}/", pair.nginx.path(&side_name(side, "uwsgi_tmp")).display());
        let line = pair.nginx.wait_logged(&format!("is buffered to a temporary file {dir}"));
        let path = line.text.split_once(&dir).unwrap().1.split(' ').next().unwrap();
        assert_eq!(path.split('/').map(str::len).collect::<Vec<_>>(), [2, 1, 10], "{path}");
        let write = largest(&pair, lines, "size: ");
        assert!((8 * 1024 + 1..=32 * 1024).contains(&write), "{side:?}: {write} bytes at once");
        finish(side, &mut client);
    }
}

#[test]
fn no_temporary_file() {
    for extra in ["uwsgi_max_temp_file_size 0;", "uwsgi_buffering off;"] {
        let pair = slow(extra);
        for side in SIDES {
            let (mut client, taken) = unread(&pair, side);
            let taken = wait_stalled(&pair, side, &taken);
            assert!(taken < MEGABYTE, "{side:?} {extra}");
            finish(side, &mut client);
        }
        assert_eq!(pair.nginx.logged("is buffered to a temporary file").len(), 0);
    }
}

#[test]
fn a_limited_temporary_file() {
    let pair = slow("uwsgi_max_temp_file_size 64k; uwsgi_temp_file_write_size 4k;");
    for side in SIDES {
        let lines = pair.nginx.error_log().len();
        let (mut client, counted) = unread(&pair, side);
        let taken = wait_stalled(&pair, side, &counted);
        assert!(taken < MEGABYTE, "{side:?}");
        // Where the last piece went, and how large the pieces were. A slow machine is there later.
        wait_for("the file to be full", || {
            (largest(&pair, lines, "pipe offset: ") >= 60 * 1024).then_some(())
        });
        wait_stalled(&pair, side, &counted);
        assert_eq!(largest(&pair, lines, "pipe offset: "), 60 * 1024, "{side:?}");
        assert_eq!(largest(&pair, lines, "size: "), 4 * 1024, "{side:?}");
        finish(side, &mut client);
    }
}

/// What becomes of a temporary file that cannot be made is for the log and the client to see.
#[test]
fn no_place_to_store() {
    let pair = cached_in(
        Nginx::builder()
            .file("uwsgi_files/file", b"x")
            .file("rs_uwsgi_files/file", b"x")
            .expects("Not a directory"),
        "",
        "location / { uwsgi_store @dir@/uwsgi_files/file$uri; uwsgi_pass @pass@; }",
    );
    pair.backend.set_script(|peer| peer.answer(&answer(OK)));
    let (stock, ours) = pair.both(&wire("GET /below"));
    crate::pair::assert_responses("no place", &stock.response, &ours.response);
    assert_eq!(stock.log, ours.log);
    assert!(stock.log.iter().any(|line| line.contains("Not a directory")), "{:?}", stock.log);
    assert_eq!(same_files(&pair, "uwsgi_files").len(), 1);
}
