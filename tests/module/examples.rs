//! Every configuration in nginx-conf/, started with its paths and port replaced and nothing else
//! changed, in front of real uWSGI servers.

use crate::prelude::*;
use crate::support::nginx::{prefix, user};
use std::collections::HashSet;
use std::path::Path;

/// The configurations that have a test below.
const TESTED: [&str; 5] =
    ["django.conf", "gunicorn.conf", "load-balanced.conf", "minimal.conf", "multiple-apps.conf"];

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
        ("/usr/lib/nginx/modules/ngx_http_rs_uwsgi_module.so", module.as_str()),
        ("/etc/nginx/rs_uwsgi_params", &params),
        ("/run/uwsgi/", &sockets),
        ("/run/gunicorn/", &sockets),
        ("/run/nginx.pid", "@dir@/nginx.pid"),
        ("/var/log/nginx/", "@dir@/"),
        ("/srv/site/", "@dir@/site/"),
        ("user www-data;", user()),
        ("listen 80;", "listen 127.0.0.1:@port@;"),
    ]
    .iter()
    .fold(conf, |conf, (from, to)| conf.replace(from, to));
    Nginx::builder()
        .whole(&conf)
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
    assert_eq!(example.var("/environ/", "HTTP_HOST").as_deref(), Some("t"));
    assert_eq!(post(example.nginx.address(), "/echo", b"form").text(), "form");
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
        client.send(b"GET /token?t=abc HTTP/1.1\r\nHost: h\r\n\r\n");
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
