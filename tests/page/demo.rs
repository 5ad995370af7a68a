//! The demo's pages (examples/demo) on screens of several widths, in the light and in the dark, and its buttons.

use crate::browser::Browser;
use crate::support::nginx::{free_port, prefix};
use crate::support::process::{command, Process};
use crate::support::{root, wait_for, DEADLINE};
use std::fs;
use std::process::Stdio;
use tempfile::TempDir;

/// A running demo.
struct Demo {
    url: String,
    process: Process,
    _log: TempDir,
}

impl Demo {
    fn start() -> Demo {
        let (dir, port) = (prefix(), free_port());
        let log = dir.path().join("log");
        let mut demo = command(root().join("examples/demo"));
        demo.args(["--port", &port.to_string()]).stdin(Stdio::null());
        let output = fs::File::create(&log).unwrap();
        demo.stdout(output.try_clone().unwrap()).stderr(output);
        let mut process = Process::spawn(demo).unwrap();
        wait_for("the demo to start", || {
            let said = fs::read_to_string(&log).unwrap();
            assert!(process.ended().is_none(), "{said}");
            said.contains("The access log:").then_some(())
        });
        Demo { url: format!("http://127.0.0.1:{port}"), process, _log: dir }
    }

    fn end(mut self) {
        self.process.signal(libc::SIGTERM);
        assert!(self.process.wait(DEADLINE).is_some_and(|status| status.success()));
    }
}

/// Addresses, and what a page says of how nginx came to it.
const PAGES: [(&str, &str); 13] = [
    ("/", "made a new connection"),
    ("/form/", "made a new connection"),
    ("/login/", "made a new connection"),
    ("/upload/", "made a new connection"),
    ("/api/echo?colour=blue", "made a new connection"),
    ("/stream/", "made a new connection"),
    ("/app1/", "made a new connection"),
    ("/app2/echo/some/path", "made a new connection"),
    ("/balanced/", "made a new connection"),
    ("/show/", "asked no server"),
    // twice, because the first may be the one that makes the connection
    ("/gunicorn/", "connection to the server"),
    ("/gunicorn/form/", "connection to the server"),
    ("/gunicorn/", "used a connection to the server again"),
];

#[test]
fn pages_look_good_on_any_screen() {
    let (demo, browser) = (Demo::start(), Browser::start());
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for (path, told) in PAGES {
            for width in [1440, 360] {
                browser.set_size(width, 900);
                browser.open(&format!("{}{path}", demo.url));
                browser.wait("document.readyState === 'complete'");
                let timing = browser.text("document.querySelector('#timing').innerText");
                assert!(timing.contains(told), "{path}: {timing}");
                assert!(told == "asked no server" || timing.contains("waited 0."), "{timing}");
                assert_eq!(browser.wide(width), Vec::<String>::new(), "{path}");
                let scrolled = browser.text("document.documentElement.scrollWidth");
                assert_eq!(scrolled, width.to_string(), "{path}");
                assert_eq!(browser.faint(), Vec::<String>::new(), "{path}, {scheme}");
                let home = browser.text("document.querySelector('header a').getAttribute('href')");
                assert!(["/", "/gunicorn/"].contains(&home.as_str()), "{path}: {home}");
                assert_eq!(browser.console(), Vec::<String>::new(), "{path}");
                let name = path.split(['/', '?']).find(|part| !part.is_empty());
                browser.screenshot(&format!("demo-{}-{scheme}-{width}", name.unwrap_or("index")));
            }
        }
        backgrounds.push(browser.text("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    demo.end();
}

/// What the two sides say, and do not, after each button.
const BUTTONS: [(&str, [&str; 2]); 7] = [
    ("burst", ["× 502", "400 of 400 as they should be"]),
    ("upload", ["of 8 as they should be", "8 of 8 as they should be"]),
    ("chunked", ["“0 bytes”", "“100000 bytes”"]),
    ("cookie", ["1 × 502", "the largest is \"HTTP_COOKIE\""]),
    ("restart", ["× 502", "it is back"]),
    ("connections", ["100 connections made, 0 times", "times one used again"]),
    ("mix", ["160 of 160 as they should be", "160 of 160 as they should be"]),
];

#[test]
fn buttons_show_both_ways() {
    let (demo, browser) = (Demo::start(), Browser::start());
    browser.open(&format!("{}/show/", demo.url));
    let side =
        |n: usize| browser.text(&format!("document.querySelectorAll('.result')[{n}].innerText"));
    for (what, wanted) in BUTTONS {
        browser.click(&format!("[data-what={what}]"));
        browser.wait(&format!("document.querySelector('#about').dataset.done === '{what}'"));
        let sides = [side(0), side(1)];
        for (said, wanted) in sides.iter().zip(wanted) {
            assert!(said.contains(wanted), "{what}: {sides:?}");
        }
        assert!(!sides[1].contains("502"), "{what}: {sides:?}");
        for (scheme, width) in [("light", 1440), ("dark", 360)] {
            browser.prefer(scheme);
            browser.set_size(width, 900);
            assert_eq!(browser.wide(width), Vec::<String>::new(), "{what}");
            assert_eq!(browser.faint(), Vec::<String>::new(), "{what}, {scheme}");
            browser.screenshot(&format!("demo-show-{what}-{scheme}"));
        }
        if what == "burst" {
            // for examples/README.md (scripts/screenshots)
            browser.prefer("light");
            browser.set_size(1000, 820);
            browser.screenshot("readme-demo");
        }
    }
    assert_eq!(browser.console(), Vec::<String>::new());
    demo.end();
}
