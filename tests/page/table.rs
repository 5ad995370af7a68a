//! The table: its numbers, its order, its filter, and its rows by keyboard.

use crate::browser::{ENTER, TAB};
use crate::document::{Document, Server};
use crate::scripted::Scene;

fn three() -> Document {
    Document::new()
        .with("middle", &[Server::busy("unix:/run/m.sock", 50, [20.0, 40.0, 60.0])])
        .with("slow", &[Server::busy("127.0.0.1:1", 7, [1500.0, 2500.0, 61000.0])])
        .with("quick", &[Server::busy("127.0.0.1:2", 900, [0.4, 1.5, 9.25])])
}

#[test]
fn numbers() {
    let mut server = Server::busy("unix:/run/app.sock", 80, [12.4, 950.0, 1234.0]);
    server.active = 4;
    server.limit = Some(4);
    server.waiting = 1234;
    server.errors = 2;
    let document =
        Document::new().with("app", &[server]).with("other", &[Server::idle("127.0.0.1:3031")]);
    let scene = Scene::open(document);
    let row = |name: &str| {
        let find =
            "[...document.querySelectorAll('.main')].find((row) => row.querySelector('.name')";
        let cells = "].map((cell) => cell.textContent).slice(0, 9).join(' | ')";
        scene.browser.text(&format!("[...{find}.textContent === '{name}').cells{cells}"))
    };
    assert_eq!(
        row("app"),
        "appunix:/run/app.sock | up | 80 | 4 of 4 | 1,234 | 1,200 | 12 ms | 950 ms | 1.23 s"
    );
    assert_eq!(row("other"), "other127.0.0.1:3031 | up | 0 | 0 | 0 | 0 | – | – | –");
    // Several servers: their sum, and of times the longest.
    scene.change(|document| {
        let mut gone = Server::busy("127.0.0.1:2", 20, [30.0, 50.0, 70.0]);
        gone.state = "unavail";
        let servers = [Server::busy("127.0.0.1:1", 10, [20.0, 60.0, 65.0]), gone];
        document.upstreams.push(("both".to_string(), servers.to_vec()));
    });
    // One of them is new: what it did in the minutes before is known to nginx, and asked for by a new look.
    scene.browser.open(&scene.browser.text("location.href"));
    scene.browser.wait("document.querySelectorAll('.main').length === 5");
    assert_eq!(row("both"), "both2 servers | 1 of 2 up | 30 | 0 | 0 | 0 | 30 ms | 60 ms | 70 ms");
    assert_eq!(
        row("127.0.0.1:2"),
        "127.0.0.1:2 | not reachable | 20 | 0 | 0 | 0 | 30 ms | 50 ms | 70 ms"
    );
    scene.end();
}

#[test]
fn sorted_by_any_column_and_back() {
    let scene = Scene::open(three());
    assert_eq!(scene.names(), ["middle", "quick", "slow"]);
    let aria = |column: &str| {
        scene.browser.text(&format!("document.querySelector('th.{column}').ariaSort"))
    };
    for (column, down, names) in [
        ("rate", "descending", ["quick", "middle", "slow"]),
        ("rate", "ascending", ["slow", "middle", "quick"]),
        ("p99", "descending", ["slow", "middle", "quick"]),
        ("name", "ascending", ["middle", "quick", "slow"]),
        ("name", "descending", ["slow", "quick", "middle"]),
    ] {
        scene.browser.click(&format!("th.{column} button"));
        assert_eq!(
            (scene.names(), aria(column)),
            (names.map(String::from).to_vec(), down.to_string())
        );
        scene.refresh();
        assert_eq!(scene.names(), names, "after a refresh");
    }
    assert_eq!(scene.browser.text("document.querySelectorAll('[aria-sort]').length"), "1");
    scene.end();
}

#[test]
fn order_follows_the_numbers_but_not_under_the_pointer() {
    let scene = Scene::open(three());
    scene.browser.click("th.rate button");
    assert_eq!(scene.names(), ["quick", "middle", "slow"]);
    let place =
        scene.browser.run("return document.querySelector('.main').getBoundingClientRect().top + 5");
    scene.browser.point(300, place.as_f64().unwrap() as i64);
    scene.change(|document| document.upstreams[0].1[0].requests = 5000);
    // A row that runs away from under a finger is opened by mistake.
    assert_eq!(scene.names(), ["quick", "middle", "slow"]);
    scene.browser.point(300, 5);
    scene.browser.wait("document.querySelector('.main .name').textContent === 'middle'");
    assert_eq!(scene.names(), ["middle", "quick", "slow"]);
    scene.end();
}

#[test]
fn hundreds_of_servers_are_filtered() {
    let mut document = Document::new();
    for number in 0..300 {
        let mut server = Server::busy(&format!("10.0.0.{number}:3031"), number, [1.0, 2.0, 3.0]);
        if number == 7 {
            server.state = "unavail";
        }
        document = document.with(&format!("shop{number}"), &[server]);
    }
    let document = document.problem("warning", "shop123", "10.0.0.123:3031", "1 request waits");
    let scene = Scene::open(document);
    let shown = || scene.browser.text("document.querySelector('#shown').textContent");
    assert_eq!((scene.names().len(), shown().as_str()), (300, ""));
    scene.browser.click("#filter");
    scene.browser.press("SHOP29");
    let found: Vec<_> =
        ["shop29".to_string()].into_iter().chain((290..300).map(|n| format!("shop{n}"))).collect();
    assert_eq!((scene.names(), shown()), (found.clone(), "11 of 300 servers".to_string()));
    scene.refresh();
    assert_eq!(scene.names(), found);
    // All words have to be there: of the name, the address, the state.
    scene.browser.press(" 0.295:");
    assert_eq!(scene.names(), ["shop295"]);
    scene.browser.press("x");
    assert_eq!(scene.browser.text("document.querySelector('#nothing').checkVisibility()"), "true");
    scene.browser.run("const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input'))");
    scene.browser.click("#troubled");
    assert_eq!(scene.names(), ["shop123", "shop7"]);
    scene.end();
}

#[test]
fn a_row_opens_by_keyboard_and_keeps_the_focus() {
    let mut document = three();
    let server = &mut document.upstreams[0].1[0];
    server.failures = vec![("no_socket", 3), ("cut_short", 12)];
    server.closed = vec![("did_not_say_keepalive", 4711)];
    server.advice = vec!["its 4 connections are all busy: more workers would help".to_string()];
    let scene = Scene::open(document);
    let focused = || scene.browser.text("document.activeElement.textContent");
    scene.browser.click("#troubled");
    scene.browser.click("#troubled");
    // Past the buttons of nine columns to the first row.
    scene.browser.press(&TAB.repeat(9));
    assert_eq!(focused(), "p99");
    scene.browser.press(ENTER);
    assert_eq!(scene.names(), ["slow", "middle", "quick"]);
    assert_eq!(focused(), "p99");
    scene.browser.press(&TAB.repeat(2));
    assert_eq!(focused(), "middle");
    scene.browser.press(ENTER);
    let expanded = || scene.browser.text("document.activeElement.ariaExpanded");
    assert_eq!((focused(), expanded()), ("middle".to_string(), "true".to_string()));
    let detail = scene
        .browser
        .text("document.activeElement.closest('tbody').querySelector('.detail').innerText");
    for text in [
        "its 4 connections are all busy: more workers would help",
        "the response was cut short\n12",
        "no such socket file\n3",
        "The server has not started, or its socket has another path.",
        "the server did not say keep-alive\n4,711",
        "the most that ever waited\n312",
        "… of these 404\n160",
    ] {
        assert!(detail.contains(text), "{text}\nin\n{detail}");
    }
    assert!(!detail.contains("connection refused"), "{detail}");
    // The pointer is elsewhere, however the page was scrolled.
    scene.browser.point(1, 1);
    // The row moves to the top with the focus on it.
    scene.browser.run("window.focusedBefore = document.activeElement");
    scene.change(|document| document.upstreams[0].1[0].times = [1e5, 1e5, 1e5]);
    scene.browser.wait("document.querySelector('.main .name').textContent === 'middle'");
    assert_eq!(scene.browser.run("return document.activeElement === window.focusedBefore"), true);
    scene.browser.press(ENTER);
    assert_eq!(expanded(), "false");
    scene.end();
}

#[test]
fn a_problem_leads_to_its_row() {
    let servers: Vec<_> = (0..40).map(|n| Server::idle(&format!("10.0.0.{n}:3031"))).collect();
    let document = Document::new().with("app", &servers).problem(
        "error",
        "app",
        "10.0.0.31:3031",
        "connection refused: nothing listens there",
    );
    let scene = Scene::open(document);
    scene.browser.click("#filter");
    scene.browser.press("10.0.0.5:");
    scene.browser.click("#problems button");
    assert_eq!(scene.browser.text("document.activeElement.textContent"), "10.0.0.31:3031");
    assert_eq!(scene.browser.text("document.activeElement.ariaExpanded"), "true");
    let top = "document.activeElement.getBoundingClientRect().top";
    assert_eq!(scene.browser.text(&format!("{top} > 0 && {top} < innerHeight")), "true");
    scene.end();
}
