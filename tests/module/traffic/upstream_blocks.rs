//! Blocks of `upstream {}`: which server of them gets a request, by weight, failures, state in a
//! zone and the balancing methods. Stock and ours go the same way, request for request.

use super::{get, same, OK};
use crate::prelude::*;

/// Three servers, the third of which fails after it has read the request.
struct Blocks {
    pair: Pair,
    servers: [Backend; 3],
    _dir: TempDir,
}

impl Blocks {
    /// Each of `blocks` becomes the blocks `uwsgi_N` and `rs_uwsgi_N`, with `@a@`, `@b@` and
    /// `@failing@` in it, and is what the location `/N` passes to.
    fn new(blocks: &[&str]) -> Blocks {
        let dir = nginx::prefix();
        let listen = |name: &str| Backend::unix(&dir.path().join(name), |peer| peer.answer(OK));
        let servers = ["a", "b", "failing"].map(listen);
        servers[2].set_script(|peer| peer.read_request().map(drop));
        let mut builder = Nginx::builder();
        let mut server = format!("{STANDARD_PARAMS} add_header X-Addr $upstream_addr always;");
        for (number, block) in blocks.iter().enumerate() {
            server += &format!("location /{number} {{ uwsgi_pass uwsgi_{number}; }}\n");
            for prefix in ["", "rs_"] {
                let name = format!("{prefix}uwsgi_{number}");
                let block = block
                    .replace("@zone@", &format!("zone {name} 64k;"))
                    .replace("@a@", &servers[0].address().to_string())
                    .replace("@b@", &servers[1].address().to_string())
                    .replace("@failing@", &servers[2].address().to_string());
                builder = builder.http(&format!("upstream {name} {{ {block} }}"));
            }
        }
        Blocks { pair: Pair::builder(&server).nginx(builder).start(), servers, _dir: dir }
    }

    /// The servers that a request for `path` goes to, by the first letters of their names; the
    /// same through both sides.
    fn way(&self, path: &str) -> String {
        let (response, _) = same(&self.pair, path, &get(path));
        letters(&response.header("X-Addr").map(String::from).unwrap_or_default())
    }

    /// The ways of `count` requests, one after the other.
    fn ways(&self, path: &str, count: usize) -> String {
        (0..count).map(|_| self.way(path)).collect::<Vec<_>>().join(" ")
    }
}

/// "unix:/dir/failing, unix:/dir/a" is "fa"; a name without a directory is that of the block.
fn letters(way: &str) -> String {
    way.split(", ")
        .map(|address| match address.rsplit_once('/') {
            Some((_, file)) => file[..1].to_string(),
            None => "-".to_string(),
        })
        .collect()
}

#[test]
fn ways() {
    let rows = [
        ("server @a@; server @b@;", "a b a b a b"),
        ("server @a@ weight=2; server @b@;", "a b a a b a"),
        ("server @a@ down; server @b@;", "b b b b b b"),
        ("server @a@; server @b@ backup;", "a a a a a a"),
        // One failure, and the server is not asked for the next minute.
        ("server @failing@ fail_timeout=60s; server @a@;", "fa a a a a a"),
        ("server @failing@ max_fails=2 fail_timeout=60s; server @a@;", "fa a fa a a a"),
        ("server @failing@ max_fails=0; server @a@;", "fa a fa a fa a"),
        ("server @failing@ fail_timeout=60s; server @b@ backup;", "fb b b b b b"),
        ("@zone@ server @failing@ fail_timeout=60s; server @a@;", "fa a a a a a"),
        ("@zone@ server @a@ weight=2; server @b@;", "a b a a b a"),
        ("least_conn; server @a@; server @b@;", "a b a b a b"),
        ("least_conn; server @failing@ fail_timeout=60s; server @a@;", "fa a a a a a"),
        ("random; server @a@; server @failing@ down;", "a a a a a a"),
    ];
    let blocks = Blocks::new(&rows.map(|(block, _)| block));
    for (number, (block, expected)) in rows.iter().enumerate() {
        assert_eq!(blocks.ways(&format!("/{number}"), 6), *expected, "{block}");
    }
}

#[test]
fn hashes() {
    let blocks = Blocks::new(&[
        "hash $arg_k; server @a@; server @b@;",
        "hash $arg_k consistent; server @a@; server @b@;",
        "ip_hash; server @a@; server @b@;",
    ]);
    for block in 0..2 {
        let once: Vec<_> = (0..12).map(|key| blocks.way(&format!("/{block}?k={key}"))).collect();
        let again: Vec<_> = (0..12).map(|key| blocks.way(&format!("/{block}?k={key}"))).collect();
        assert_eq!(once, again);
        assert!(["a", "b"].iter().all(|name| once.iter().any(|way| way == name)), "{once:?}");
    }
    let ways = blocks.ways("/2", 3);
    assert!(["a a a", "b b b"].contains(&ways.as_str()), "{ways}");
}

/// `max_conns`: a server that has as many connections as it may is not asked; when all have, the
/// client gets 502.
#[test]
fn max_conns() {
    let blocks = Blocks::new(&["@zone@ server @a@ max_conns=1; server @b@ max_conns=1;"]);
    for side in SIDES {
        let mut held = Vec::new();
        let mut release = Vec::new();
        for server in &blocks.servers[..2] {
            let (go, wait) = channel::<()>();
            let wait = Mutex::new(wait);
            server.set_script(move |peer| {
                peer.read_request()?;
                let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
                peer.write(OK)
            });
            let before = server.requests().len();
            let mut client = Client::connect(blocks.pair.address(side));
            client.send(&get("/0"));
            server.wait_request(before);
            held.push(client);
            release.push(go);
        }
        let refused = crate::support::client::exchange(blocks.pair.address(side), &get("/0"));
        assert_eq!(refused.status, 502, "{side:?}");
        drop(release);
        for mut client in held {
            assert_eq!(client.response(false).unwrap().text(), "ok", "{side:?}");
        }
        // Both are free again.
        for server in &blocks.servers[..2] {
            server.set_script(|peer| peer.answer(OK));
        }
        let free = crate::support::client::exchange(blocks.pair.address(side), &get("/0"));
        assert_eq!(free.status, 200, "{side:?}");
    }
    let lines = blocks.pair.nginx.logged("no live upstreams while connecting to upstream");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let ours = lines.iter().filter(|line| line.text.contains("rs_uwsgi_0")).count();
    assert_eq!(ours, 1, "{lines:?}; {:?}", Side::Ours);
}
