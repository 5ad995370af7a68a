//! Every configuration in nginx-conf/, as a site of an nginx that has loaded the module and has a default site, with
//! its paths and port replaced and nothing else changed, in front of real uWSGI servers.

use crate::prelude::*;
use crate::support::nginx::{prefix, user};
use std::collections::HashSet;
use std::path::Path;

/// The configurations that have a test below.
const TESTED: [&str; 7] = [
    "django.conf",
    "gunicorn.conf",
    "json-log.conf",
    "load-balanced.conf",
    "minimal.conf",
    "multiple-apps.conf",
    "status.conf",
];

/// What a distribution has around a site: Debian's nginx.conf, and its default site.
const AROUND: &str = "
user www-data;
worker_processes auto;
pid @dir@/nginx.pid;
error_log @dir@/error.log;
load_module @module@;
events { worker_connections 768; }
http {
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log @dir@/access.log;
    include site.conf;
    server { listen 127.0.0.1:@port@ default_server; server_name _; return 404; }
}
";

/// `GET path` of the site.
fn get(to: SocketAddr, path: &str) -> Response {
    let head = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    exchange(to, head.as_bytes())
}

/// `POST path` of the site.
fn post(to: SocketAddr, path: &str, body: &[u8]) -> Response {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: {length}\r\n\r\n");
    exchange(to, &[head.as_bytes(), body].concat())
}

/// A running example.
struct Example {
    nginx: Nginx,
    servers: Vec<Uwsgi>,
    _run: TempDir,
}

/// A socket below /run/uwsgi, and the mounts that its server has (none: one application at /).
type Server<'a> = (&'a str, &'a [&'a str]);

impl Example {
    /// Starts the configuration `name` with a uWSGI on each socket.
    fn start(name: &str, servers: &[Server]) -> Example {
        let run = prefix();
        let servers = servers.iter().map(|(socket, mounts)| {
            let address = Address::Unix(run.path().join(socket));
            let application = root().join("tests/support/application.py").display().to_string();
            let mut arguments = Vec::new();
            for mount in *mounts {
                arguments.extend(["--mount".to_string(), format!("{mount}={application}")]);
            }
            if mounts.is_empty() {
                arguments.extend(["--wsgi-file".to_string(), application]);
            }
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            Uwsgi::start(prefix(), address, &arguments)
        });
        let servers = servers.collect();
        Example { nginx: start(name, run.path()), servers, _run: run }
    }

    fn get(&self, path: &str) -> Response {
        get(self.nginx.address(), path)
    }

    /// A var as the application saw it in a request for `path`, which has `/environ/` in it.
    fn var(&self, path: &str, name: &str) -> Option<String> {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let text = response.text();
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    }
}

/// Starts nginx with the configuration `name`, and the sockets of servers below `run`.
fn start(name: &str, run: &Path) -> Nginx {
    assert!(TESTED.contains(&name));
    let directory = root().join("nginx-conf");
    let conf = fs::read_to_string(directory.join(name)).unwrap();
    let module = module_path().display().to_string();
    let params = directory.join("rs_uwsgi_params").display().to_string();
    let sockets = format!("{}/", run.display());
    let conf = [
        ("/etc/nginx/rs_uwsgi_params", params.as_str()),
        ("/run/uwsgi/", &sockets),
        ("/run/gunicorn/", &sockets),
        ("/var/log/nginx/app.error.log", "@dir@/error.log"),
        ("/var/log/nginx/app.access.log", "@dir@/access.log"),
        ("/var/log/nginx/app.json", "@dir@/access.log"),
        ("/srv/site/", "@dir@/site/"),
        ("listen 80;", "listen 127.0.0.1:@port@;"),
    ]
    .iter()
    .fold(conf, |conf, (from, to)| conf.replace(from, to));
    for text in ["load_module", "default_server", "/var/", "/etc/nginx/mime.types"] {
        assert!(!conf.contains(text), "{name}: {text}");
    }
    let around = AROUND.replace("@module@", &module).replace("user www-data;", user());
    // both for nginx's own parser, and for the harness, which knows its names
    Nginx::builder()
        .whole(&around.replace("include site.conf;", &conf))
        .file("site/static/style.css", b"body {}")
        .file("site/media/picture.png", b"\x89PNG")
        .file("site/private/secret", b"for some")
        .start()
}

#[test]
fn every_example_has_a_test() {
    let files = fs::read_dir(root().join("nginx-conf")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".conf")).collect();
    names.sort();
    assert_eq!(names, TESTED);
}

#[test]
fn minimal() {
    let example = Example::start("minimal.conf", &[("app.sock", &[])]);
    assert_eq!(example.var("/environ/x?y", "PATH_INFO").as_deref(), Some("/environ/x"));
    assert_eq!(example.var("/environ/", "HTTP_HOST").as_deref(), Some("example.com"));
    assert_eq!(client::get(example.nginx.address(), "/environ/").status, 404, "the default site");
    assert_eq!(post(example.nginx.address(), "/echo", b"form").text(), "form");
}

/// Who may look is who is allowed to, and nobody else.
#[test]
fn status() {
    let example = Example::start("status.conf", &[("app.sock", &[])]);
    let to = example.nginx.address();
    assert_eq!(example.var("/environ/", "PATH_INFO").as_deref(), Some("/environ/"));
    let all = ["", "json", "metrics", "health"];
    for path in all {
        assert_eq!(example.get(&format!("/status/{path}")).status, 200, "{path}");
    }
    let json = example.get("/status/json?history=0").text();
    assert!(json.contains("\"uwsgi\":{\"address\":\"unix:"), "{json}");
    // from another address
    for path in all {
        let other = SocketAddr::from(([127, 0, 0, 3], 0));
        let mut client = Client::connect_from(other, to).unwrap();
        client.send(format!("GET /status/{path} HTTP/1.1\r\nHost: example.com\r\n\r\n").as_bytes());
        assert_eq!(client.response(false).unwrap().status, 403, "{path}");
    }
}

#[test]
fn a_log_in_json() {
    let example = Example::start("json-log.conf", &[("app.sock", &[])]);
    let asked = "/environ/%22x%22?q=\\\"";
    assert_eq!(example.get(asked).status, 200);
    let line = &example.nginx.wait_requests(1)[0];
    let log: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    assert_eq!(log["status"], 200);
    assert_eq!(log["uri"], asked);
    assert_eq!(log["connection"], "new");
    assert!(log["vars_bytes"].as_str().unwrap().parse::<u32>().unwrap() > 100, "{line}");
    // every variable that the documentation has
    let conf = fs::read_to_string(root().join("nginx-conf/json-log.conf")).unwrap();
    let page = fs::read_to_string(root().join("docs/directives.md")).unwrap();
    let variables: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### $")).collect();
    assert!(variables.len() >= 5, "{variables:?}");
    for name in variables {
        assert!(conf.contains(&format!("\"${name}\"")), "no ${name} in the log");
    }
}

#[test]
fn large_cookies_of_django() {
    let example = Example::start("django.conf", &[("django.sock", &[])]);
    let ask = |size: usize| {
        let cookie = "x".repeat(size);
        let head =
            format!("GET /environ/ HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n");
        exchange(example.nginx.address(), head.as_bytes()).status
    };
    assert_eq!(ask(40_000), 431);
    let said = example.nginx.wait_logged("client sent too large request");
    assert!(said.text.contains("the largest is \"HTTP_COOKIE\""), "{}", said.text);
}

#[test]
fn django() {
    let example = Example::start("django.conf", &[("django.sock", &[])]);
    let style = example.get("/static/style.css");
    assert_eq!((style.status, style.text().as_str()), (200, "body {}"));
    assert_eq!(style.header("Content-Type"), Some("text/css"));
    assert!(style.header("Cache-Control").is_some());
    assert_eq!(example.get("/static/none.css").status, 404);
    let picture = example.get("/media/picture.png");
    assert_eq!(picture.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(example.get("/private/secret").status, 404);
    assert_eq!(example.get("/accel/private/secret").text(), "for some");
    let large = vec![b'x'; 3 << 20];
    assert_eq!(post(example.nginx.address(), "/form", &large).status, 413);
    assert!(post(example.nginx.address(), "/upload/file", &large).body == large);
    for path in ["/environ/", "/events/environ/", "/upload/environ/"] {
        assert_eq!(example.var(path, "PATH_INFO").as_deref(), Some(path));
    }
}

#[test]
fn load_balanced() {
    let servers: [Server; 3] = [("one.sock", &[]), ("two.sock", &[]), ("spare.sock", &[])];
    let mut example = Example::start("load-balanced.conf", &servers);
    let pids = |example: &Example| -> HashSet<String> {
        (0..8).map(|_| example.var("/environ/", "pid").unwrap()).collect()
    };
    let both = pids(&example);
    assert_eq!(both.len(), 2, "{both:?}");
    example.servers[0].stop();
    let left = pids(&example);
    assert!(left.len() == 1 && left.is_subset(&both), "{left:?} of {both:?}");
    example.servers[1].stop();
    let spare = pids(&example);
    assert!(spare.len() == 1 && spare.is_disjoint(&both), "{spare:?}");
}

#[test]
fn gunicorn() {
    let run = prefix();
    let config = root().join("nginx-conf/gunicorn.conf.py").display().to_string();
    let serve = |application: &str, socket: &str| {
        Gunicorn::builder(&root().join("tests/support").join(application))
            .worker_class("gthread")
            .arguments(&["--config", &config])
            .arguments(&["--bind", &format!("unix:{}/{socket}", run.path().display())])
            .start()
    };
    let _servers = [serve("framing.py", "app.sock"), serve("links.py", "shop.sock")];
    let nginx = start("gunicorn.conf", run.path());
    for (path, line) in [
        ("/shop/django/caf%C3%A9", "link=/shop/django/caf%C3%A9"),
        ("/shop/flask/100%2525", "link=/shop/flask/100%2525"),
        ("/shop/flask/x", "REMOTE_ADDR=127.0.0.1"),
    ] {
        let text = get(nginx.address(), path).text();
        assert!(text.lines().any(|found| found == line), "{path}: {text}");
    }
    assert_eq!(get(nginx.address(), "/shop").status, 301);
    let before = 4;
    nginx.wait_requests(before);
    // on one connection, that is to one of nginx's workers: each has its own pool
    let mut client = Client::connect(nginx.address());
    for _ in 0..3 {
        client.send(b"GET /token?t=abc HTTP/1.1\r\nHost: example.com\r\n\r\n");
        assert_eq!(client.response(false).unwrap().text(), "abc");
    }
    let log = nginx.wait_requests(before + 3);
    let chosen = log.iter().skip(before).map(|line| line.split(' ').rev().nth(1).unwrap());
    assert_eq!(chosen.collect::<Vec<_>>(), ["new", "reused", "reused"], "{log:?}");
}

#[test]
fn multiple_applications() {
    let servers: [Server; 3] =
        [("site.sock", &[]), ("apps.sock", &["/shop", "/wiki"]), ("legacy.sock", &["/legacy"])];
    let example = Example::start("multiple-apps.conf", &servers);
    for (path, script_name, path_info) in [
        ("/environ/x", "", "/environ/x"),
        ("/shop/environ/cart?id=1", "/shop", "/environ/cart"),
        ("/wiki/environ/", "/wiki", "/environ/"),
        ("/legacy/environ/x", "/legacy", "/legacy/environ/x"),
    ] {
        assert_eq!(example.var(path, "SCRIPT_NAME").unwrap_or_default(), script_name, "{path}");
        assert_eq!(example.var(path, "PATH_INFO").as_deref(), Some(path_info), "{path}");
    }
    for path in ["/shop", "/wiki", "/legacy"] {
        assert_eq!(example.get(path).status, 301, "{path}");
    }
}
