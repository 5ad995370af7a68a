//! Which build is it? In the log when nginx starts, and in the file. And what nginx says to a module that
//! was built for another.

use crate::prelude::*;
use crate::support::process;
use crate::support::programs::nginx_path;

/// What follows a mark in the module's file, up to a byte that ends it.
fn in_file(mark: &str, end: u8) -> String {
    let file = fs::read(module_path()).unwrap();
    let start = memchr::memmem::find(&file, mark.as_bytes());
    let start = start.unwrap_or_else(|| panic!("no {mark:?} in the file")) + mark.len();
    let length = memchr::memchr(end, &file[start..]).unwrap();
    String::from_utf8(file[start..start + length].to_vec()).unwrap()
}

#[test]
fn logged_once() {
    let nginx = Nginx::builder().workers(2).start();
    let said = nginx.wait_logged(" loaded");
    let build = in_file("@(#)ngx_http_rs_uwsgi_module ", 0);
    assert_eq!(said.level, "notice");
    assert_eq!(said.text, format!("rs_uwsgi module {build} loaded"));
    nginx.reload();
    assert_eq!(nginx.logged(" loaded").len(), 1, "{:?}", nginx.logged(" loaded"));
}

/// What docs/install.md has in place of that line, where a log has none.
#[test]
fn said_elsewhere_at_debians_level() {
    let site = "server { listen 127.0.0.1:@port@; location /status/ { rs_uwsgi_status; } }";
    let nginx = Nginx::builder().log_level("error").http(site).start();
    let status = get(nginx.address(), "/status/json").text();
    let of_running = ["version", "commit", "nginx"].map(|name| {
        let (_, after) = status.split_once(&format!("\"{name}\":\"")).expect(&status);
        after.split('"').next().unwrap().to_string()
    });
    let shell = |command: &str| {
        let output = process::command("/bin/sh").args(["-c", command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let file = module_path().display().to_string();
    let of_file = shell(&format!("strings {file} | grep '@(#)'"));
    let [version, commit, for_nginx] = &of_running;
    let build = format!("{version} (commit {commit}, built for nginx {for_nginx})\n");
    assert!(of_file.ends_with(&build), "{of_file}{status}");
    let (program, conf) = (nginx_path().display().to_string(), nginx.path("nginx.conf"));
    let dumped = shell(&format!("{program} -T -c {} 2>&1 | grep load_module", conf.display()));
    assert_eq!(dumped, format!("load_module {file};\n"));
    assert_eq!(nginx.logged(" loaded"), []);
}

/// As a package does it that is installed while nginx runs, and one that is removed.
#[test]
fn loaded_by_a_reload() {
    let backend = Backend::tcp(|peer| peer.answer(b"HTTP/1.1 200 OK\r\n\r\n"));
    let location = format!("location / {{ rs_uwsgi_pass {}; }}", backend.address());
    let nginx = Nginx::builder().without_module();
    let nginx =
        nginx.http("server { listen 127.0.0.1:@port@; location / { return 204; } }").start();
    let path = nginx.path("nginx.conf");
    let stock = fs::read_to_string(&path).unwrap();
    let load = format!("load_module {};\n", module_path().display());
    let ours = format!("{load}{}", stock.replace("location / { return 204; }", &location));
    for (text, status) in [(&ours, 200), (&stock, 204), (&ours, 200)] {
        fs::write(&path, text).unwrap();
        nginx.signal(libc::SIGHUP);
        wait_for("the new configuration", || {
            (get(nginx.address(), "/").status == status).then_some(())
        });
    }
}

#[test]
fn not_logged_by_a_check() {
    let said = Nginx::builder().main("error_log stderr notice;").check().stderr;
    assert!(said.contains("test is successful") && !said.contains(" loaded"), "{said}");
}

#[test]
fn the_note_says_the_same() {
    let build = in_file("@(#)ngx_http_rs_uwsgi_module ", 0);
    let note = in_file("FDO\0", 0);
    let value = |name: &str| {
        let (_, after) = note.split_once(&format!("\"{name}\":\"")).expect(&note);
        after.split('"').next().unwrap().to_string()
    };
    let (version, commit, nginx) = (value("version"), value("commit"), value("nginx"));
    assert_eq!(build, format!("{version} (commit {commit}, built for nginx {nginx})"));
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_ne!(commit, "unknown");
}

/// What nginx says of the module with other bytes in place of these.
fn refusal(bytes: &[u8], other: &[u8]) -> String {
    let mut file = fs::read(module_path()).unwrap();
    let found: Vec<_> = memchr::memmem::find_iter(&file, bytes).collect();
    assert_eq!(found.len(), 1, "{bytes:?} at {found:?}");
    file[found[0]..found[0] + other.len()].copy_from_slice(other);
    let module = "other.so";
    let nginx = Nginx::builder().without_module().file(module, &file);
    let check = nginx.main(&format!("load_module @dir@/{module};")).check();
    assert!(!check.status.success(), "{}", check.stderr);
    let (_, said) = check.stderr.split_once("[emerg] ").expect(&check.stderr);
    let (said, _) = said.split_once(" in @dir@/nginx.conf:").expect(said);
    said.split_once(": ").map_or(said, |(_, said)| said).replace("@dir@/other.so", "…")
}

/// nginx's version as a number, `nginx_version`: 1022001 for 1.22.1.
pub fn version_number() -> usize {
    let build = in_file("built for nginx ", b')');
    build.split('.').fold(0, |number, part| number * 1000 + part.parse::<usize>().unwrap())
}

fn troubleshooting_explains(said: &str) {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    assert!(
        page.contains(&format!("| `{said}` |")),
        "docs/troubleshooting.md does not explain: {said}"
    );
}

#[test]
fn of_another_version() {
    let version = version_number();
    // `NGX_MODULE_V1`: index 0 until it is loaded, then the version
    let of = |version: usize| [[0; 8], version.to_ne_bytes()].concat();
    let said = refusal(&of(version), &of(1_028_002));
    assert_eq!(said, format!("module \"…\" version 1028002 instead of {version}"));
    // the example there is 1.28.3 for 1.22.1
    troubleshooting_explains("module \"…\" version 1028003 instead of 1022001");
}

#[test]
fn of_another_signature() {
    // `NGX_MODULE_SIGNATURE` begins with the sizes of a pointer, of an atomic integer, of a time
    let signature = b"8,4,8,";
    let said = refusal(signature, b"4,4,8,");
    assert_eq!(said, "module \"…\" is not binary compatible");
    troubleshooting_explains(&said);
}
