//! Names and texts of others are text, whatever is in them.

use crate::document::{Document, Server};
use crate::scripted::Scene;

const HOSTILE: [&str; 5] = [
    "<img src=x onerror='window.hacked=1'>",
    "\"><script>window.hacked=1</script>",
    "javascript:window.hacked=1//",
    "${window.hacked=1}{{window.hacked=1}}",
    "__proto__",
];

#[test]
fn markup_in_names_and_texts_is_text() {
    let mut document = Document::new();
    for hostile in HOSTILE {
        let mut server = Server::busy(&format!("unix:/run/{hostile}.sock"), 3, [1.0; 3]);
        server.advice = vec![hostile.to_string()];
        let other = Server::idle("127.0.0.1:1");
        document = document.with(hostile, &[server.clone(), other]);
        document = document.problem("error", hostile, &server.address, hostile);
    }
    let scene = Scene::open(document);
    scene
        .browser
        .run("document.querySelectorAll('.main button').forEach((button) => button.click())");
    scene.refresh();
    scene.browser.click("#filter");
    scene.browser.press("<img src=x onerror='window.hacked=1'>");
    let first = [
        HOSTILE[0].to_string(),
        format!("unix:/run/{}.sock", HOSTILE[0]),
        "127.0.0.1:1".to_string(),
    ];
    assert_eq!(scene.names(), first);
    scene.browser.run("const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input'))");
    let names = scene.names();
    let problems = scene.browser.text("document.querySelector('#problems').innerText");
    let table = scene.browser.text("document.querySelector('#servers').textContent");
    for hostile in HOSTILE {
        let server = format!("unix:/run/{hostile}.sock");
        assert!(
            names.iter().any(|name| name == hostile) && names.contains(&server),
            "{hostile}: {names:?}"
        );
        assert!(
            problems.contains(&format!("{hostile}, {server}: {hostile}")),
            "{hostile}: {problems}"
        );
        assert!(table.matches(hostile).count() >= 3, "{hostile}");
    }
    assert_eq!(scene.browser.text("window.hacked"), "undefined");
    assert_eq!(scene.browser.text("document.querySelectorAll('img').length"), "0");
    assert_eq!(scene.browser.text("document.querySelectorAll('script').length"), "1");
    scene.end();
}

#[test]
fn a_policy_of_the_strictest_kind_is_kept() {
    let scene = Scene::open(Document::new().with("app", &[Server::idle("127.0.0.1:1")]));
    scene.browser.run(
        "window.violations = [];
        document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.effectiveDirective));",
    );
    scene.browser.click(".main button");
    scene.refresh();
    assert_eq!(scene.browser.run("return window.violations"), serde_json::json!([]));
    // The policy is in force: a script inside of the document does not run.
    scene.browser.run(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1'; document.body.append(script);",
    );
    assert_eq!(scene.browser.text("window.hacked"), "undefined");
    scene.browser.wait("window.violations[0] === 'script-src-elem'");
    assert_eq!(scene.browser.console().len(), 1);
    scene.end();
}
