//! What a screen reader is told: Chromium's tree of accessible objects.

use crate::document::{Document, Server};
use crate::scripted::Scene;
use serde_json::{json, Value};
use std::collections::HashMap;

/// Role and name of every object that is not ignored.
fn objects(scene: &Scene) -> Vec<(String, String)> {
    let tree = scene.browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let nodes = nodes.filter(|node| node["ignored"] != true);
    let text =
        |node: &Value, part: &str| node[part]["value"].as_str().unwrap_or_default().to_string();
    nodes.map(|node| (text(node, "role"), text(node, "name"))).collect()
}

#[test]
fn a_table_with_rows_headers_and_buttons_that_have_names() {
    let document = Document::new()
        .with("app", &[Server::busy("unix:/run/app.sock", 12, [1.0, 2.0, 3.0])])
        .with("shop", &[Server::idle("127.0.0.1:1"), Server::idle("127.0.0.1:2")])
        .problem("warning", "app", "unix:/run/app.sock", "12 requests wait");
    let scene = Scene::open(document);
    for (width, headers) in [(1280, 10), (360, 0)] {
        scene.browser.set_size(width, 800);
        scene.refresh();
        let objects = objects(&scene);
        let mut roles: HashMap<&str, usize> = HashMap::new();
        for (role, _) in &objects {
            *roles.entry(role).or_default() += 1;
        }
        let count = |role: &str| roles.get(role).copied().unwrap_or_default();
        // A narrow screen has no line of headers, and names what is in each cell instead.
        assert_eq!(count("columnheader"), headers, "{objects:?}");
        assert_eq!((count("table"), count("rowheader"), count("cell")), (1, 4, 36), "{objects:?}");
        assert_eq!(count("row"), 4 + usize::from(headers > 0), "{objects:?}");
        for (role, name) in &objects {
            if ["button", "image", "searchbox", "checkbox", "link", "columnheader", "combobox"]
                .contains(&role.as_str())
            {
                assert!(!name.trim().is_empty(), "{role} without a name: {objects:?}");
            }
        }
        let has = |role: &str, name: &str| objects.iter().any(|(r, n)| r == role && n == name);
        for (role, name) in [
            ("heading", "1 warning"),
            ("button", "shop"),
            ("button", "Pause"),
            ("searchbox", "Filter"),
            ("checkbox", "only with problems"),
            ("table", "Upstreams and servers"),
        ] {
            assert!(has(role, name), "{role} {name}: {objects:?}");
        }
        if headers == 0 {
            assert!(objects.iter().any(|(_, name)| name.contains("Requests/s")), "{objects:?}");
        }
    }
    scene.end();
}

#[test]
fn a_verdict_that_stays_is_read_once() {
    let document = Document::new()
        .with("app", &[Server::busy("unix:/run/app.sock", 12, [1.0, 2.0, 3.0])])
        .problem("warning", "app", "unix:/run/app.sock", "12 requests wait");
    let scene = Scene::open(document);
    scene.browser.run(
        "window.spoken = 0;
        for (const node of document.querySelectorAll('[role=status], [aria-live]')) {
            new MutationObserver(() => window.spoken++).observe(node, { childList: true, subtree: true, characterData: true });
        }",
    );
    scene.change(|document| document.problems[0].3 = "13 requests wait".to_string());
    scene.browser.wait("document.querySelector('#problems').textContent.includes('13 requests')");
    assert_eq!(scene.browser.text("window.spoken"), "0");
    scene.change(|document| document.problems.clear());
    scene.browser.wait("window.spoken === 1");
    scene.end();
}
