//! The documentation as a site, which `make docs-site` has built: each page in Chromium, its search, and what
//! scripts/check-links finds of a site that is broken. Not part of `make test`: mdbook takes minutes to build.

use crate::browser::Browser;
use crate::support::nginx::{prefix, Nginx};
use crate::support::process::command;
use crate::support::root;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn built() -> PathBuf {
    let html = root().join("target/docs-site/html");
    assert!(html.join("index.html").is_file(), "make docs-site");
    html
}

/// The site behind nginx, which forbids the browser to ask any other host: it would say so in its console.
fn site() -> Nginx {
    Nginx::start(&format!(
        "include /etc/nginx/mime.types;
        server {{
            listen 127.0.0.1:@port@;
            root {};
            add_header Content-Security-Policy \"default-src 'self' 'unsafe-inline' data:\";
        }}",
        built().display()
    ))
}

/// The pages below a folder of the site, by their paths.
fn pages(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => pages(&path, names),
            false if path.extension().is_some_and(|end| end == "html") => {
                names.push(path.strip_prefix(built()).unwrap().display().to_string());
            }
            false => {}
        }
    }
}

#[test]
fn pages_open_on_any_screen() {
    let (nginx, browser) = (site(), Browser::start());
    let mut names = Vec::new();
    pages(&built(), &mut names);
    // what browsers without JavaScript have in place of the contents
    names.retain(|name| name != "toc.html");
    assert!(names.len() > 30, "{names:?}");
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for name in &names {
            browser.set_size(360, 740);
            browser.open(&format!("http://{}/{name}", nginx.address()));
            browser.wait("document.querySelector('#sidebar a.active') !== null");
            assert_ne!(browser.text("document.querySelector('main h1').innerText"), "", "{name}");
            let broken = "[...document.images].filter((image) => !(image.complete && image.naturalWidth)).length";
            browser.wait(&format!("{broken} === 0"));
            assert_eq!(browser.wide(360), Vec::<String>::new(), "{name}");
            let width = browser.text("document.documentElement.scrollWidth");
            assert_eq!(width, "360", "{name}");
            let own = "performance.getEntriesByType('resource').every((entry) => entry.name.startsWith(location.origin))";
            assert_eq!(browser.text(own), "true", "{name}");
            assert_eq!(browser.faint(), Vec::<String>::new(), "{name}, {scheme}");
            assert_eq!(browser.console(), Vec::<String>::new(), "{name}");
        }
        for (width, height, suffix) in [(360, 740, "-narrow"), (1440, 900, "")] {
            browser.set_size(width, height);
            browser.open(&format!("http://{}/docs/tuning.html", nginx.address()));
            browser.screenshot(&format!("site-{scheme}{suffix}"));
        }
        backgrounds
            .push(browser.text("getComputedStyle(document.documentElement).backgroundColor"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
}

/// The first three links that the search finds for some words.
fn found(browser: &Browser, words: &str) -> Vec<String> {
    browser.run(&format!(
        "const bar = document.querySelector('#searchbar');
        bar.value = '{words}';
        bar.dispatchEvent(new KeyboardEvent('keyup', {{ bubbles: true }}));"
    ));
    browser.wait(&format!(
        "document.querySelector('#searchresults-header').innerText.includes(\"'{words}'\")"
    ));
    let link =
        |n| format!("document.querySelectorAll('#searchresults a')[{n}]?.getAttribute('href')");
    (0..3).map(|n| browser.text(&link(n))).collect()
}

/// Each directive and variable is found by its name, and what a log line means by its words.
#[test]
fn search_finds_directives() {
    let (nginx, browser) = (site(), Browser::start());
    browser.open(&format!("http://{}/", nginx.address()));
    browser.wait("document.querySelector('#search-toggle') !== null");
    browser.click("#search-toggle");
    let text = fs::read_to_string(root().join("docs/directives.md")).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(names.len() > 80, "{names:?}");
    for name in names {
        let anchor = name.trim_start_matches('$');
        let found = found(&browser, anchor);
        // not the first alone: "buffers" and "buffering" are one word for the search
        let is_its = |link: &String| {
            link.contains("docs/directives.html?") && link.ends_with(&format!("#{anchor}"))
        };
        assert!(found.iter().any(is_its), "{name}: {found:?}");
    }
    for line in
        ["upstream prematurely closed connection", "no live upstreams", "too many open files"]
    {
        let found = found(&browser, line);
        assert!(found.iter().any(|link| link.contains("docs/troubleshooting.html?")), "{found:?}");
    }
    found(&browser, "rs_uwsgi_queue");
    // and a click leads there
    browser.click("#searchresults a");
    browser.wait("location.pathname.endsWith('/docs/directives.html')");
    browser.wait("document.querySelector(location.hash).getBoundingClientRect().top < innerHeight");
    assert_eq!(browser.console(), Vec::<String>::new());
}

fn check_links(folder: &Path) -> Output {
    command(root().join("scripts/check-links")).arg(folder).output().unwrap()
}

/// What is broken is found, one thing at a time.
#[test]
fn broken_links_are_found() {
    let dir = prefix();
    let top = dir.path().join("html");
    let mut copy = command("/usr/bin/cp");
    assert!(copy.arg("-r").arg(built()).arg(&top).status().unwrap().success());
    let said = check_links(&top);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let page = top.join("docs/install.html");
    let whole = fs::read_to_string(&page).unwrap();
    for (put_in, reason) in [
        ("<a href=\"none.html\">x</a>", "<a> none.html is not there"),
        ("<a href=\"../../outside.html\">x</a>", "<a> ../../outside.html is not there"),
        ("<a href=\"tuning.html#none\">x</a>", "<a> tuning.html#none has no such heading"),
        ("<a href=\"#none\">x</a>", "<a> #none has no such heading"),
        ("<img src=\"none.png\">", "<img> none.png is not there"),
        ("<img srcset=\"none.png 2x\">", "<img> none.png is not there"),
        (
            "<script src=\"https://example.org/x.js\"></script>",
            "<script> https://example.org/x.js asks another host",
        ),
        (
            "<link rel=\"stylesheet\" href=\"//example.org/x.css\">",
            "<link> //example.org/x.css asks another host",
        ),
        (
            "<style>@import 'https://example.org/x.css';</style>",
            "<style> https://example.org/x.css asks another host",
        ),
        ("<p style=\"background: url(none.png)\">", "<p> none.png is not there"),
        ("<a href=\"/docs/install.html\">x</a>", "<a> /docs/install.html is right only where"),
    ] {
        fs::write(&page, whole.replace("</main>", &format!("{put_in}</main>"))).unwrap();
        let said = check_links(&top);
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success(), "{put_in}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(&format!("docs/install.html: {reason}")), "{put_in}: {error}");
    }
    fs::write(&page, &whole).unwrap();
    assert!(check_links(&top).status.success());
    // a page that is gone, which others link to, and the search
    fs::remove_file(&page).unwrap();
    let error = String::from_utf8_lossy(&check_links(&top).stderr).into_owned();
    assert!(error.contains("index.html: <a> docs/install.html is not there"), "{error}");
    assert!(error.contains("<search> docs/install.html"), "{error}");
}
