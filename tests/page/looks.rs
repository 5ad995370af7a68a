//! What a visitor sees: words, plots, both palettes, a narrow screen, and what becomes of it when nginx
//! does not answer.

use crate::document::{Document, Server};
use crate::scripted::Scene;

/// Something of everything, for pictures.
fn everything() -> Document {
    let mut app = Server::busy("unix:/run/app.sock", 80, [48.0, 69.0, 99.0]);
    app.active = 4;
    app.limit = Some(4);
    app.waiting = 312;
    app.advice =
        vec!["312 requests wait, its 4 connections are all busy: more workers would help"
            .to_string()];
    app.failures = vec![("read_timeout", 3), ("cut_short", 6)];
    app.closed = vec![("too_many_requests", 2), ("idle_timeout", 40)];
    let mut gone = Server::idle("10.0.0.3:3031");
    gone.state = "unavail";
    gone.errors = 1;
    let shop = [1, 2]
        .map(|n| Server::busy(&format!("10.0.0.{n}:3031"), 40 * n, [9.0 * n as f64, 31.0, 55.0]));
    let mut document = Document::new();
    document.zones = true;
    document
        .with("app", &[app])
        .with("shop", &[shop.to_vec(), vec![gone]].concat())
        .with("a-name-of-some-length-without-any-space-in-it-that-a-narrow-screen-has-to-break.example.org:3031", &[
            Server::idle("a-name-of-some-length-without-any-space-in-it-that-a-narrow-screen-has-to-break.example.org:3031"),
        ])
        .problem("error", "shop", "10.0.0.3:3031", "connection refused: nothing listens there. Is the server running?")
        .problem("warning", "app", "unix:/run/app.sock", "312 requests wait, its 4 connections are all busy: more workers would help")
}

#[test]
fn words_say_whether_all_is_well() {
    let scene =
        Scene::open(Document::new().with("app", &[Server::busy("127.0.0.1:1", 5, [1.0; 3])]));
    let verdict = || {
        scene.browser.text("document.querySelector('#health').className + ': ' + document.querySelector('#verdict').textContent")
    };
    assert_eq!(verdict(), "banner good: All is well");
    let summary = scene.browser.text("document.querySelector('#summary').textContent");
    assert_eq!(summary, "1 server, 5.0 requests a second, 0 in flight, nobody waits.");
    let text = "312 requests wait, its 4 connections are all busy: more workers would help";
    scene.change(|document| {
        document.problems.push((
            "warning",
            "app".to_string(),
            "127.0.0.1:1".to_string(),
            text.to_string(),
        ));
    });
    assert_eq!(verdict(), "banner warning: 1 warning");
    let problem = scene.browser.text("document.querySelector('#problems').innerText");
    assert_eq!(problem, format!("Warning app, 127.0.0.1:1: {text}"));
    scene.change(|document| {
        let text = "connection refused".to_string();
        document.problems.insert(0, ("error", "app".to_string(), "127.0.0.1:1".to_string(), text));
    });
    assert_eq!(verdict(), "banner error: 1 error, 1 warning");
    assert_eq!(scene.browser.text("document.title.startsWith('(2) rs_uwsgi')"), "true");
    scene.change(|document| document.problems.clear());
    assert_eq!(verdict(), "banner good: All is well");
    assert_eq!(scene.browser.text("document.querySelectorAll('#problems li').length"), "0");
    scene.end();
}

#[test]
fn ten_minutes_are_there_at_the_first_look_and_go_on() {
    let scene = Scene::open(
        Document::new().with("app", &[Server::busy("127.0.0.1:1", 50, [10.0, 20.0, 40.0])]),
    );
    assert_eq!(scene.asked()[0], "history=600");
    // 600 seconds, each at half of the height: the scale ends at a round number.
    let path = |line: usize| {
        scene.browser.text(&format!("document.querySelectorAll('#totals figure')[0].querySelectorAll('path:not(.area)')[{line}].getAttribute('d')"))
    };
    let points = |path: &str| path.split(['M', 'L']).skip(1).map(String::from).collect::<Vec<_>>();
    assert_eq!(scene.browser.text("document.querySelector('#totals .top').textContent"), "50");
    let requests = points(&path(1));
    assert_eq!(requests.len(), 600, "{requests:?}");
    assert_eq!((requests[0].as_str(), requests[599].as_str()), ("0 2.0h0.5", "599 2.0"));
    scene.change(|document| document.upstreams[0].1[0].requests = 100);
    scene.browser.wait("document.querySelector('#totals .top').textContent === '100'");
    let requests = points(&path(1));
    let place = |point: &String| point.split([' ', 'h']).nth(1).unwrap().to_string();
    assert_eq!(
        (place(&requests[0]), place(&requests[599])),
        ("51.0".to_string(), "2.0".to_string())
    );
    // Only the first look asks for all of it.
    let later = scene.asked();
    assert!(
        later.iter().skip(1).all(|arguments| {
            arguments.strip_prefix("history=").unwrap().parse::<u32>().unwrap() < 60
        }),
        "{later:?}"
    );
    let label =
        scene.browser.text("document.querySelector('#totals svg').getAttribute('aria-label')");
    assert_eq!(
        label,
        "Requests a second, the last ten minutes. Now: requests 100, errors 0. Most: 100."
    );
    scene.end();
}

#[test]
fn the_plot_tells_the_second_under_the_pointer() {
    let scene = Scene::open(
        Document::new().with("app", &[Server::busy("127.0.0.1:1", 50, [10.0, 20.0, 40.0])]),
    );
    let middle = |axis: &str| {
        let found = scene.browser.run(&format!(
            "const box = document.querySelector('#totals svg').getBoundingClientRect(); return Math.round(box.{axis})"
        ));
        found.as_i64().unwrap()
    };
    let (x, y) = (middle("left + box.width / 2"), middle("top + box.height / 2"));
    scene.browser.point(x, y);
    let when = scene.browser.text("document.querySelector('#totals .axis').lastChild.textContent");
    assert!(when.len() == 8 && when.contains(':'), "{when}");
    assert!(scene
        .browser
        .text("document.querySelector('#totals .at').getAttribute('d')")
        .starts_with("M300 0"));
    scene.browser.point(x, 2);
    assert_eq!(
        scene.browser.text("document.querySelector('#totals .axis').lastChild.textContent"),
        "now"
    );
    scene.end();
}

#[test]
fn light_and_dark_can_both_be_read() {
    let scene = Scene::open(everything());
    scene.browser.click(".main button");
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        scene.browser.prefer(scheme);
        assert_eq!(scene.browser.faint(), Vec::<String>::new(), "{scheme}");
        backgrounds.push(scene.browser.text("getComputedStyle(document.body).backgroundColor"));
        scene.browser.set_size(1280, 1500);
        scene.browser.screenshot(&format!("page-{scheme}"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    // for the README (scripts/screenshots)
    scene.browser.prefer("light");
    scene.browser.set_size(1180, 900);
    scene.browser.screenshot("readme-light");
    scene.end();
}

#[test]
fn a_narrow_screen_needs_no_scrolling_sideways() {
    let scene = Scene::open(everything());
    scene.browser.set_size(360, 740);
    let fits = || {
        assert_eq!(scene.browser.wide(360), Vec::<String>::new());
        assert_eq!(scene.browser.text("document.documentElement.scrollWidth"), "360");
    };
    fits();
    for row in 0..6 {
        scene.browser.run(&format!("document.querySelectorAll('.main button')[{row}].click()"));
    }
    fits();
    // Sorting has a place there, too.
    let sort = "const sort = document.querySelector('#sort'); sort.value = 'rate'; sort.dispatchEvent(new Event('change'));";
    scene.browser.run(sort);
    assert_eq!(scene.names()[..2], ["shop", "10.0.0.2:3031"]);
    assert_eq!(scene.browser.text("document.querySelector('#sort').checkVisibility()"), "true");
    scene.browser.run(
        "document.querySelectorAll('[aria-expanded=true]').forEach((button) => button.click())",
    );
    scene.browser.set_size(360, 1800);
    scene.browser.screenshot("page-narrow");
    scene.browser.prefer("dark");
    scene.browser.set_size(360, 900);
    scene.browser.screenshot("readme-dark");
    scene.end();
}

#[test]
fn a_refresh_that_changes_nothing_touches_nothing() {
    let scene = Scene::open(everything());
    scene.browser.click(".main button");
    scene.refresh();
    scene.browser.run(
        "window.touched = [];
        new MutationObserver((list) => list.forEach(({ target }) => {
            const element = target.nodeType === 1 ? target : target.parentElement;
            if (!element.closest('#fresh, .spark')) window.touched.push(element.outerHTML.slice(0, 99));
        })).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });",
    );
    scene.refresh();
    assert_eq!(scene.browser.run("return window.touched"), serde_json::json!([]));
    scene.end();
}

#[test]
fn an_answer_that_does_not_come_is_said_and_forgotten() {
    let scene = Scene::open(everything());
    let rows = scene.names();
    for (status, body, words) in [
        (503, "{}", "nginx answers 503; as of"),
        (200, "<html>", "the answer is not JSON; as of"),
        (200, "", "the answer is not JSON; as of"),
    ] {
        scene.fail(Some((status, body)));
        scene
            .browser
            .wait(&format!("document.querySelector('#fresh').textContent.startsWith('{words}')"));
        assert_eq!(scene.names(), rows);
    }
    scene.fail(None);
    scene.browser.wait("document.querySelector('#fresh').textContent.startsWith('as of')");
    // A browser says itself that an answer was 503.
    let console = scene.browser.console();
    assert!(console.iter().all(|line| line.contains("503")), "{console:?}");
    scene.end();
}

#[test]
fn paused_until_it_goes_on() {
    let scene = Scene::open(everything());
    scene.browser.click("#pause");
    assert_eq!(scene.browser.text("document.querySelector('#pause').ariaPressed"), "true");
    scene.browser.wait("document.querySelector('#fresh').textContent.includes('paused')");
    let before = scene.asked().len();
    // The page's own clock goes on meanwhile: three of its seconds.
    scene.browser.run("window.ticks = 0; setInterval(() => window.ticks++, 1000)");
    scene.browser.wait("window.ticks >= 3");
    assert!(scene.asked().len() <= before + 1, "{} of {before}", scene.asked().len());
    scene.browser.click("#pause");
    scene.refresh();
    scene.end();
}

#[test]
fn nothing_to_show_is_said() {
    let scene = Scene::open(Document::new());
    let nothing = scene.browser.text("document.querySelector('#nothing').innerText");
    assert_eq!(nothing, "No location passes requests to a uwsgi server.");
    scene.change(|document| {
        document.upstreams.push(("app".to_string(), vec![Server::idle("127.0.0.1:1")]))
    });
    assert_eq!(scene.names(), ["app"]);
    scene.end();
}
