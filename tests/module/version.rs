//! Which build is it? In the log when nginx starts, and in the file.

use crate::support::nginx::{module_path, Nginx};
use std::fs;

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
