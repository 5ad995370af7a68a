//! The cache: what is kept, under which key, for how long, and when it is served. Stock and ours
//! have a zone each; client, backend, error log and the files of the cache must agree.
//!
//! Mirrors the cache directives of nginx's ngx_http_uwsgi_module.

use crate::cached::{
    cached, packets, run, same_cache, CacheFile, Does::Nothing, Does::Says, Step, Valid, NEW,
};
use crate::prelude::*;
use std::collections::BTreeSet;

const PLAIN: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";
const CACHED: &str =
    "location / { uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m; uwsgi_pass @pass@; }";

#[test]
fn hit_and_miss() {
    let pair = cached(CACHED);
    let steps: [Step; 6] = [
        ("GET /a", Says(PLAIN), "200 MISS ok"),
        ("GET /a", Nothing, "200 HIT ok"),
        ("GET /a?b", Says(PLAIN), "200 MISS ok"),
        ("GET /a?b\nX-Other: 1", Nothing, "200 HIT ok"),
        ("GET /none", Says("Status: 404 No\nContent-Length: 2\n\nno"), "404 MISS no"),
        ("GET /none", Says("Status: 404 No\nContent-Length: 2\n\nno"), "404 MISS no"),
    ];
    run(&pair, "hit and miss", &steps);
    let files = same_cache(&pair, "uwsgi_cache");
    assert_eq!(files.values().map(CacheFile::key).collect::<BTreeSet<_>>(), ["/a", "/a?b"].into());
    assert!(files.values().all(|file| file.valid == Valid::For(600)));
}

#[test]
fn the_zone() {
    let server = "uwsgi_cache_valid any 10m; set $zone uwsgi_zone;
        if ($arg_zone) { set $zone $arg_zone; }
        uwsgi_cache uwsgi_zone;
        location /inherited { uwsgi_pass @pass@; }
        location /off { uwsgi_cache off; uwsgi_pass @pass@; }
        location /variable { uwsgi_cache $zone; uwsgi_pass @pass@; }
        location /store { uwsgi_store @dir@/uwsgi_files$uri; uwsgi_pass @pass@; }";
    let pair = cached(server);
    let steps: [Step; 9] = [
        ("GET /inherited", Says(PLAIN), "200 MISS ok"),
        ("GET /inherited", Nothing, "200 HIT ok"),
        ("GET /off", Says(PLAIN), "200 - ok"),
        ("GET /off", Says(PLAIN), "200 - ok"),
        ("GET /variable", Says(PLAIN), "200 MISS ok"),
        ("GET /variable", Nothing, "200 HIT ok"),
        ("GET /variable?zone=off", Says(PLAIN), "200 - ok"),
        // A block that stores does not cache.
        ("GET /store", Says(PLAIN), "200 - ok"),
        ("GET /store", Says(PLAIN), "200 - ok"),
    ];
    run(&pair, "zones", &steps);
    assert_eq!(same_cache(&pair, "uwsgi_cache").len(), 2);

    let (stock, ours) = pair.both(b"GET /variable?zone=none HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(stock.response.unwrap().status, 500);
    assert_eq!(ours.response.unwrap().status, 500);
    assert_eq!(stock.log, ours.log);
    assert!(stock.log[0].contains("cache \"none\" not found"), "{:?}", stock.log);
}

#[test]
fn the_key() {
    let server = "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location /one { uwsgi_cache_key one; uwsgi_pass @pass@; }
        location /each { uwsgi_cache_key $request_method$http_x_key; uwsgi_pass @pass@; }
        location /long {
            uwsgi_cache_key $http_x_key$http_x_key$http_x_key$http_x_key;
            uwsgi_buffer_size 4k;
            uwsgi_pass @pass@;
        }";
    let pair = cached(server);
    let long = format!("GET /long\nX-Key: {}", "k".repeat(1000));
    let steps: [Step; 8] = [
        ("GET /one/a", Says(PLAIN), "200 MISS ok"),
        ("GET /one/b", Nothing, "200 HIT ok"),
        ("GET /each\nX-Key: 1", Says(PLAIN), "200 MISS ok"),
        ("GET /each\nX-Key: 2", Says(PLAIN), "200 MISS ok"),
        ("GET /each\nX-Key: 1", Nothing, "200 HIT ok"),
        ("GET /long\nX-Key: k", Says(PLAIN), "200 MISS ok"),
        // The key has to fit into the buffer, in front of the response.
        (&long, Says(PLAIN), "200 - ok"),
        (&long, Says(PLAIN), "200 - ok"),
    ];
    let outcomes = run(&pair, "keys", &steps);
    assert!(outcomes[6].log[0].contains("is not enough for cache key"), "{:?}", outcomes[6].log);
    let files = same_cache(&pair, "uwsgi_cache");
    let mut keys: Vec<_> = files.values().map(|file| file.key()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["GET1", "GET2", "kkkk", "one"]);
}

/// Says "no key" once at the start, and all requests share one response.
#[test]
fn without_a_key() {
    let http = "uwsgi_cache_path @dir@/uwsgi_cache keys_zone=uwsgi_zone:1m;
        server { listen unix:@dir@/uwsgi_s; uwsgi_cache uwsgi_zone; uwsgi_cache_valid 1m;
            location / { uwsgi_pass unix:@dir@/none; } }";
    let [stock, ours] = [http.to_string(), translated(http)]
        .map(|http| Nginx::builder().http(&http).check().stderr.replace("rs_uwsgi_", "uwsgi_"));
    assert_eq!(stock, ours);
    assert!(stock.contains("no \"uwsgi_cache_key\" for \"uwsgi_cache\""), "{stock}");
}

#[test]
fn bypass_and_no_cache() {
    let server = "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        uwsgi_cache_bypass $cookie_nocache $arg_bypass;
        uwsgi_no_cache $arg_nostore $http_x_private;
        uwsgi_cache_key $uri;
        location / { uwsgi_pass @pass@; }";
    let pair = cached(server);
    let steps: [Step; 10] = [
        ("GET /a?nostore=1", Says(PLAIN), "200 MISS ok"),
        ("GET /a\nX-Private: yes", Says(PLAIN), "200 MISS ok"),
        ("GET /a?nostore=0", Says(PLAIN), "200 MISS ok"),
        ("GET /a?nostore=1", Nothing, "200 HIT ok"),
        ("GET /a?bypass=0", Nothing, "200 HIT ok"),
        // What was fetched around the cache replaces what is in it.
        ("GET /a?bypass=1\nIf-None-Match: \"x\"", Says(NEW), "200 BYPASS new"),
        ("GET /a", Nothing, "200 HIT new"),
        ("GET /a\nCookie: nocache=true", Says(PLAIN), "200 BYPASS ok"),
        ("GET /a?bypass=1&nostore=1", Says(NEW), "200 BYPASS new"),
        ("GET /a", Nothing, "200 HIT ok"),
    ];
    run(&pair, "bypass and no_cache", &steps);
    same_cache(&pair, "uwsgi_cache");
}

/// Each status with how long it is kept; none means not at all.
#[test]
fn valid_times_by_status() {
    let cases: [(&str, [Option<i64>; 5]); 5] = [
        ("uwsgi_cache_valid 10m;", [Some(600), Some(600), Some(600), None, None]),
        ("uwsgi_cache_valid 200 404 1m;", [Some(60), None, None, Some(60), None]),
        (
            "uwsgi_cache_valid 301 1h; uwsgi_cache_valid any 5s;",
            [Some(5), Some(3600), Some(5), Some(5), Some(5)],
        ),
        (
            "uwsgi_cache_valid 302 0; uwsgi_cache_valid 2m;",
            [Some(120), Some(120), None, None, None],
        ),
        ("", [None; 5]),
    ];
    let locations = cases.iter().enumerate().map(|(number, (valid, _))| {
        format!("location /{number} {{ uwsgi_cache uwsgi_zone; {valid} uwsgi_pass @pass@; }}")
    });
    let pair = cached(&locations.collect::<String>());
    let answers = [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 301 Moved\nLocation: /x\nContent-Length: 0\n\n",
        "HTTP/1.1 302 Found\nLocation: /x\nContent-Length: 0\n\n",
        "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n",
        "HTTP/1.1 503 Busy\nContent-Length: 0\n\n",
    ];
    let mut kept = Vec::new();
    for (number, (_, valid)) in cases.iter().enumerate() {
        for (answer, valid) in answers.iter().zip(valid) {
            let status = &answer[9..12];
            let request = format!("GET /{number}/{status}");
            let (miss, hit) = (format!("{status} MISS "), format!("{status} HIT "));
            run(&pair, "cache_valid", &[(&request, Says(answer), &miss)]);
            let again: Step = match valid {
                Some(_) => (&request, Nothing, &hit),
                None => (&request, Says(answer), &miss),
            };
            run(&pair, "cache_valid", &[again]);
            kept.extend(valid.map(|valid| (format!("/{number}/{status}"), Valid::For(valid))));
        }
    }
    assert_eq!(valid_by_key(&pair), kept);
}

/// Keys in order, and how long their responses are valid.
fn valid_by_key(pair: &Pair) -> Vec<(String, Valid)> {
    let files = same_cache(pair, "uwsgi_cache")
        .into_values()
        .map(|file| (file.key().to_string(), file.valid));
    let mut files: Vec<_> = files.collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

#[test]
fn min_uses() {
    let pair = cached(
        "location / { uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m; uwsgi_cache_min_uses 3;
            uwsgi_pass @pass@; }",
    );
    let steps: [Step; 4] = [
        // Not to be kept yet: the server gets the request as it is.
        ("GET /a\nIf-None-Match: \"x\"", Says(PLAIN), "200 MISS ok"),
        ("GET /a", Says(PLAIN), "200 MISS ok"),
        ("GET /a\nIf-None-Match: \"x\"", Says(PLAIN), "200 MISS ok"),
        ("GET /a", Nothing, "200 HIT ok"),
    ];
    let outcomes = run(&pair, "min_uses", &steps);
    let etags = [0, 2].map(|step| packets(&outcomes[step]).remove(0).get("HTTP_IF_NONE_MATCH"));
    assert_eq!(etags, [Some("\"x\"".to_string()), None]);
}

#[test]
fn methods() {
    let pair = cached(
        "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m; uwsgi_cache_key $uri;
        location /default { uwsgi_pass @pass@; }
        location /post { uwsgi_cache_methods POST; uwsgi_pass @pass@; }",
    );
    let steps: [Step; 10] = [
        ("POST /default\nContent-Length: 0", Says(PLAIN), "200 - ok"),
        ("POST /default\nContent-Length: 0", Says(PLAIN), "200 - ok"),
        ("POST /post\nContent-Length: 0", Says(PLAIN), "200 MISS ok"),
        ("POST /post\nContent-Length: 0", Nothing, "200 HIT ok"),
        // GET and HEAD are always among them.
        ("GET /post", Nothing, "200 HIT ok"),
        ("HEAD /post", Nothing, "200 HIT "),
        // The cache has no way to be purged by a client.
        ("PURGE /post", Says(PLAIN), "200 - ok"),
        ("DELETE /post", Says(PLAIN), "200 - ok"),
        ("GET /post", Nothing, "200 HIT ok"),
        ("GET /default", Says(NEW), "200 MISS new"),
    ];
    run(&pair, "methods", &steps);
}

/// The packet of a request whose response is to be cached has none of the headers that ask for
/// less than the whole response, whatever the client sent.
#[test]
fn conditional_requests_and_ranges() {
    let server = "uwsgi_cache uwsgi_zone; uwsgi_cache_valid 10m;
        location / { uwsgi_pass @pass@; }
        location /own {
            uwsgi_param HTTP_IF_NONE_MATCH \"own\";
            uwsgi_param HTTP_IF_MODIFIED_SINCE $http_if_modified_since;
            uwsgi_param HTTP_RANGE $http_range if_not_empty;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_pass @pass@;
        }
        location /uncached { uwsgi_cache off; uwsgi_pass @pass@; }
        location /offset { uwsgi_cache_max_range_offset 5; uwsgi_pass @pass@; }
        location /none { uwsgi_cache_max_range_offset 0; uwsgi_pass @pass@; }";
    let pair = cached(server);
    const TEN: &str = "HTTP/1.1 200 OK\nAccept-Ranges: bytes\nContent-Length: 10\nETag: \"e\"\n\
        Last-Modified: Mon, 28 Sep 1970 06:00:00 GMT\n\n0123456789";
    const PART: &str = "HTTP/1.1 206 Partial Content\nContent-Length: 2\n\
        Content-Range: bytes 8-9/10\n\n89";
    let all = "If-Modified-Since: Mon, 28 Sep 1970 06:00:00 GMT\n\
        If-Unmodified-Since: Mon, 28 Sep 1970 06:00:00 GMT\n\
        If-None-Match: \"no\"\nIf-Match: *\nRange: bytes=2-3\nIf-Range: \"e\"";
    let [root, own, uncached] =
        ["/a", "/own", "/uncached"].map(|path| format!("GET {path}\n{all}"));
    let steps: [Step; 11] = [
        (&root, Says(TEN), "206 MISS 23"),
        ("GET /a\nRange: bytes=2-3", Nothing, "206 HIT 23"),
        ("GET /b\nRange: bytes=-2", Says(TEN), "206 MISS 89"),
        ("GET /b\nIf-None-Match: \"e\"", Nothing, "304 HIT "),
        ("GET /b\nRange: bytes=20-", Nothing, "416 HIT …"),
        (&own, Says(TEN), "206 MISS 23"),
        (&uncached, Says(PART), "206 - 89"),
        ("GET /offset\nRange: bytes=8-9", Says(PART), "206 MISS 89"),
        ("GET /offset\nRange: bytes=8-9", Says(PART), "206 MISS 89"),
        ("GET /offset\nRange: bytes=1-2", Says(TEN), "206 MISS 12"),
        ("GET /offset\nRange: bytes=8-9", Nothing, "206 HIT 89"),
    ];
    let outcomes = run(&pair, "conditions and ranges", &steps);
    // A large head is looked at earlier, but not sent otherwise.
    let long: String = (0..3).map(|n| format!("\nX-{n}: {}", "v".repeat(7000))).collect();
    let long = format!("GET /long\n{all}{long}");
    run(
        &pair,
        "a large head",
        &[(&long, Says(TEN), "206 MISS 23"), (&long, Nothing, "206 HIT 23")],
    );
    let names = ["IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "IF_NONE_MATCH", "IF_MATCH", "RANGE"];
    let sent = |index: usize| {
        let packet = packets(&outcomes[index]).remove(0);
        names.map(|name| packet.get(&format!("HTTP_{name}")).unwrap_or_default())
    };
    assert_eq!(sent(0), [""; 5]);
    let date = "Mon, 28 Sep 1970 06:00:00 GMT";
    assert_eq!(sent(5), [date, "", "own", "", "bytes=2-3"]);
    assert_eq!(sent(6), [date, date, "\"no\"", "*", "bytes=2-3"]);
    assert_eq!(sent(7)[4], "bytes=8-9");
    assert_eq!(sent(9)[4], "");
    run(&pair, "no offset", &[("GET /none\nRange: bytes=1-2", Says(PART), "206 MISS 89")]);
}
