//! The cache on disk, and what is refused when the configuration is read.
//!
//! Mirrors uwsgi_cache_path: `ngx_http_file_cache_set_slot` and the cache manager of nginx's
//! src/http/ngx_http_file_cache.c.

use crate::cached::{
    answer, begin, cached_in, end, files, run, same_cache, summary, Does::Nothing, Does::Says,
    Step, NEW, SIDES,
};
use crate::conf_errors::without_remedies;
use crate::prelude::*;

const SERVER: &str = "location / { uwsgi_cache uwsgi_zone; uwsgi_pass @pass@; }";

/// The zones' directives, with `path` as the parameters that matter.
fn zone(path: &str) -> String {
    format!("uwsgi_cache_path @dir@/uwsgi_cache keys_zone=uwsgi_zone:1m {path};")
}

fn cached_with(path: &str, server: &str) -> Pair {
    cached_in(Nginx::builder(), &zone(path), server)
}

#[test]
fn levels() {
    let shapes =
        [("", vec![32]), ("levels=1:2", vec![1, 2, 32]), ("levels=2:1:2", vec![2, 1, 2, 32])];
    for (levels, shape) in shapes {
        let pair = cached_with(levels, SERVER);
        run(
            &pair,
            levels,
            &[("GET /a", Says(NEW), "200 MISS new"), ("GET /a", Nothing, "200 HIT new")],
        );
        let files = same_cache(&pair, "uwsgi_cache");
        let path = files.keys().next().unwrap();
        assert_eq!(path.split('/').map(str::len).collect::<Vec<_>>(), shape, "{path}");
    }
}

/// While a response comes, what there is of it lies in a temporary file: below uwsgi_temp_path,
/// or beside where it will be kept.
#[test]
fn temporary_files() {
    for (path, name, shape) in [
        ("use_temp_path=on", "uwsgi_tmp", vec![1, 2, 10]),
        ("", "uwsgi_tmp", vec![1, 2, 10]),
        ("use_temp_path=off levels=2", "uwsgi_cache", vec![2, 32 + 1 + 10]),
    ] {
        let pair = cached_with(path, &format!("uwsgi_temp_path @dir@/uwsgi_tmp 1 2; {SERVER}"));
        for side in SIDES {
            let (go, wait) = channel::<()>();
            let wait = Mutex::new(wait);
            pair.backend.set_script(move |peer| {
                peer.answer(
                    b"HTTP/1.1 200 OK\r\nX-Accel-Expires: 9\r\nContent-Length: 60000\r\n\r\n",
                )?;
                peer.write(&[b'x'; 50_000])?;
                // An error: the test failed before.
                let _ = wait.lock().unwrap().recv_timeout(crate::support::DEADLINE);
                peer.write(&[b'x'; 10_000])
            });
            let mut client = begin(pair.address(side), "/a");
            let found =
                wait_for("a temporary file", || files(&pair, side, name).into_keys().next());
            assert_eq!(found.split('/').map(str::len).collect::<Vec<_>>(), shape, "{found}");
            let kept = files(&pair, side, "uwsgi_cache").len();
            assert_eq!(kept, usize::from(name == "uwsgi_cache"), "{side:?} {path}");
            go.send(()).unwrap();
            assert_eq!(end(&mut client), "200 MISS …", "{side:?} {path}");
            assert_eq!(summary(&get(pair.address(side), "/a")), "200 HIT …", "{side:?} {path}");
            assert_eq!(files(&pair, side, "uwsgi_tmp").len(), 0, "{side:?} {path}");
        }
        assert_eq!(same_cache(&pair, "uwsgi_cache").len(), 1);
    }
}

/// The cache manager removes what nobody asked for, and what is too much, from both caches. It
/// looks when it starts, and a reload starts one.
#[test]
fn the_manager_removes_files() {
    let body: &'static str = format!(
        "HTTP/1.1 200 OK\nX-Accel-Expires: 600\nContent-Length: 3000\n\n{}",
        "x".repeat(3000)
    )
    .leak();
    for (path, remain) in [
        ("inactive=2s", 0),
        ("max_size=12k", 2),
        ("min_free=1000000g", 0),
        ("inactive=1h max_size=1g min_free=1k", 6),
    ] {
        let mut builder = Nginx::builder();
        if path.starts_with("min_free=1000000g") {
            // Here the first manager, too, removes whatever it finds, and may come upon a response
            // that is just being fetched, which it calls an alert.
            builder = builder.expects("ignore long locked inactive cache entry");
        }
        let pair = cached_in(builder, &zone(path), SERVER);
        let requests = ["GET /1", "GET /2", "GET /3", "GET /4", "GET /5", "GET /6"];
        let steps = requests.map(|request| -> Step { (request, Says(body), "200 MISS …") });
        run(&pair, path, &steps);
        pair.nginx.reload();
        for side in SIDES {
            wait_for(&format!("{side:?}: {path}"), || {
                (files(&pair, side, "uwsgi_cache").len() <= remain).then_some(())
            });
        }
        // Where some remain they are the same: those that were used last.
        let kept: Vec<_> = same_cache(&pair, "uwsgi_cache").into_values().collect();
        assert_eq!(kept.len(), remain, "{path}");
        assert_eq!(kept.iter().any(|file| file.key() == "/1"), remain == 6, "{path}");
        let again =
            if remain > 0 { (Nothing, "200 HIT …") } else { (Says(body), "200 MISS …") };
        run(&pair, path, &[("GET /6", again.0, again.1)]);
    }
}

/// A cache outlives its nginx, and is the same for both: who changes from one module to the other
/// keeps it.
#[test]
fn stock_fills_and_ours_serves() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| peer.answer(&answer(NEW)));
    let text = |side: Side| {
        let text = format!(
            "{STANDARD_PARAMS} uwsgi_cache_path {}/cache levels=1:2 keys_zone=zone:1m;
            server {{ listen 127.0.0.1:@port@; add_header X-Cache $upstream_cache_status;
                location / {{ uwsgi_cache zone; uwsgi_cache_key $uri; uwsgi_pass {}; }} }}",
            dir.path().display(),
            backend.address()
        );
        if side == Side::Ours {
            translated(&text)
        } else {
            text
        }
    };
    for (number, (fills, serves)) in
        [(Side::Stock, Side::Ours), (Side::Ours, Side::Stock)].into_iter().enumerate()
    {
        let path = format!("/{number}");
        for (side, expected) in [(fills, "200 MISS new"), (serves, "200 HIT new")] {
            let nginx = Nginx::start(&text(side));
            assert_eq!(summary(&get(nginx.address(), &path)), expected, "{side:?}");
            nginx.quit();
        }
    }
    assert_eq!(backend.connection_count(), 2);
}

/// Every step of the cache's life reads its file: one that was damaged is not served.
#[test]
fn a_damaged_file() {
    let pair = cached_with("", SERVER);
    pair.nginx.expects("contains invalid header");
    run(&pair, "damaged", &[("GET /a", Says(NEW), "200 MISS new")]);
    for side in SIDES {
        damage(&pair, side).unwrap();
    }
    let (stock, ours) = pair.both(b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n");
    crate::pair::assert_responses("damaged", &stock.response, &ours.response);
    let without_path = |log: Vec<String>| -> Vec<_> {
        log.into_iter().map(|line| line.replace("uwsgi_cache", "cache")).collect()
    };
    assert_eq!(without_path(stock.log), without_path(ours.log));
    assert_eq!(summary(&stock.response.unwrap()), "200 MISS new");
    same_cache(&pair, "uwsgi_cache");
}

fn damage(pair: &Pair, side: Side) -> io::Result<()> {
    let root = pair.nginx.path(&crate::cached::side_name(side, "uwsgi_cache"));
    for path in files(pair, side, "uwsgi_cache").into_keys() {
        let path = root.join(path);
        let mut bytes = std::fs::read(&path)?;
        // Within the key, which is behind the header.
        bytes[345] ^= 1;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// Configurations that are wrong or suspicious: stock and ours say the same.
const WRONG: [(&str, &str); 30] = [
    ("uwsgi_cache_path;", "invalid number of arguments"),
    ("uwsgi_cache_path /x;", "invalid number of arguments"),
    ("uwsgi_cache_path /x levels=1;", "must have \"keys_zone\""),
    ("uwsgi_cache_path /x keys_zone=z;", "invalid keys zone size"),
    ("uwsgi_cache_path /x keys_zone=z:1k;", "too small"),
    ("uwsgi_cache_path /x keys_zone=z:1m levels=3;", "invalid \"levels\""),
    ("uwsgi_cache_path /x keys_zone=z:1m levels=1:1:1:1;", "invalid \"levels\""),
    ("uwsgi_cache_path /x keys_zone=z:1m inactive=x;", "invalid inactive value"),
    ("uwsgi_cache_path /x keys_zone=z:1m max_size=x;", "invalid max_size value"),
    ("uwsgi_cache_path /x keys_zone=z:1m min_free=x;", "invalid min_free value"),
    ("uwsgi_cache_path /x keys_zone=z:1m use_temp_path=x;", "invalid use_temp_path value"),
    ("uwsgi_cache_path /x keys_zone=z:1m loader_files=x;", "invalid loader_files value"),
    ("uwsgi_cache_path /x keys_zone=z:1m loader_sleep=x;", "invalid loader_sleep value"),
    ("uwsgi_cache_path /x keys_zone=z:1m manager_threshold=x;", "invalid manager_threshold"),
    ("uwsgi_cache_path /x keys_zone=z:1m else;", "invalid parameter"),
    ("uwsgi_cache_path /x keys_zone=z:1m; uwsgi_cache_path /y keys_zone=z:1m;", "duplicate zone"),
    ("server { uwsgi_cache_path /x keys_zone=z:1m; }", "not allowed here"),
    ("uwsgi_cache none;", "zone \"none\" is unknown"),
    ("uwsgi_cache a b;", "invalid number of arguments"),
    ("uwsgi_cache off; uwsgi_cache off;", "is duplicate"),
    ("uwsgi_cache \"\";", ""),
    ("uwsgi_cache $no_such;", "unknown \"no_such\" variable"),
    ("uwsgi_cache_key a; uwsgi_cache_key b;", "is duplicate"),
    (
        "uwsgi_cache_path @dir@/x keys_zone=z:1m; uwsgi_cache z; uwsgi_store on;",
        "incompatible with",
    ),
    (
        "uwsgi_cache_path @dir@/x keys_zone=z:1m; uwsgi_store on; uwsgi_cache z;",
        "incompatible with",
    ),
    ("uwsgi_store on; uwsgi_store off;", "is duplicate"),
    ("uwsgi_store_access user:x;", "invalid value"),
    ("uwsgi_cache_valid 99 1m;", "invalid status"),
    ("uwsgi_cache_methods GET SEND;", "invalid value"),
    ("uwsgi_cache_use_stale non_such;", "invalid value"),
];

/// What `nginx -t` says to `http`, in stock's names, and whether it accepts it.
fn said(http: &str) -> (bool, String) {
    let check = Nginx::builder().http(&format!("{http} server {{ listen unix:@dir@/s; }}")).check();
    (check.status.success(), without_remedies(&check.stderr).replace("rs_uwsgi", "uwsgi"))
}

#[test]
fn what_is_refused() {
    for (text, expected) in WRONG {
        let (stock, ours) = (said(text), said(&translated(text)));
        assert_eq!(stock, ours, "{text}");
        assert!(stock.1.contains(expected), "{text}: {}", stock.1);
        tally::compared();
    }
}

/// The two have zones of their own: neither can use the other's.
#[test]
fn zones_are_not_shared() {
    for (path, cache) in [("uwsgi", "rs_uwsgi"), ("rs_uwsgi", "uwsgi"), ("proxy", "rs_uwsgi")] {
        let text = format!(
            "{path}_cache_path @dir@/x keys_zone=z:1m;
            server {{ listen unix:@dir@/s; {cache}_cache z; }}"
        );
        let check = Nginx::builder().http(&text).check();
        assert!(!check.status.success(), "{text}");
        let expected = "the shared memory zone \"z\" is already declared for a different use";
        assert!(check.stderr.contains(expected), "{text}: {}", check.stderr);
    }
}
