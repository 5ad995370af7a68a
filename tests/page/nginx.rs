//! The page as nginx serves it, before a real uWSGI that has to work.

use crate::browser::Browser;
use crate::support::client::{get, Client};
use crate::support::nginx::Nginx;
use crate::support::uwsgi::Uwsgi;
use crate::support::{root, wait_for};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// nginx with two workers before a uWSGI, and before a server that is not there.
fn site(uwsgi: &Uwsgi) -> Nginx {
    let http = "
        upstream app { server @pass@; rs_uwsgi_max_connections 1; }
        upstream gone { server unix:@dir@/none; }
        server {
            listen 127.0.0.1:@port@;
            keepalive_requests 1000000;
            location / { rs_uwsgi_pass app; }
            location /gone { rs_uwsgi_pass gone; }
            location /status { rs_uwsgi_status; }
        }";
    Nginx::builder()
        .http(&http.replace("@pass@", &uwsgi.address().to_string()))
        .workers(2)
        .expects("No such file or directory")
        .start()
}

fn json(nginx: &Nginx) -> Value {
    serde_json::from_slice(&get(nginx.address(), "/status/json").body).unwrap()
}

#[test]
fn numbers_are_right_while_there_is_load() {
    let uwsgi = Uwsgi::unix(&root().join("tests/support/application.py"));
    let nginx = site(&uwsgi);
    let browser = Browser::start();
    browser.open(&format!("http://{}/status", nginx.address()));
    browser.wait("document.querySelectorAll('.main').length === 2");
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (to, stop) = (nginx.address(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut count = 0;
                let mut client = Client::connect(to);
                while !stop.load(Ordering::Relaxed) {
                    client.send(b"GET /environ/ HTTP/1.1\r\nHost: h\r\n\r\n");
                    assert_eq!(client.response(false).unwrap().status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(get(nginx.address(), "/gone").status, 502);
    }
    let cell = |row: &str, column: usize| {
        let find = format!("[...document.querySelectorAll('.main')].find((row) => row.innerText.includes('{row}'))");
        browser.text(&format!("{find}.cells[{column}].innerText"))
    };
    wait_for("the page to show that requests come", || (cell("app", 2) != "0").then_some(()));
    wait_for("the page to show how long they take", || {
        cell("app", 6).ends_with("ms").then_some(())
    });
    assert!(cell("app", 3).ends_with("of 1"), "{}", cell("app", 3));
    wait_for("the page to show what fails", || (cell("gone", 5) != "0").then_some(()));
    assert_eq!(cell("gone", 1), "not reachable");
    browser.wait("document.querySelector('#problems').innerText.includes('gone')");
    browser.screenshot("page-under-load");
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    // Opened, the row has what nginx counted, which is what was sent.
    browser.run("document.querySelectorAll('.main button').forEach((button) => button.click())");
    let value = |row: usize, name: &str| {
        browser.text(&format!(
            "[...document.querySelectorAll('.detail')[{row}].querySelectorAll('dt')].find((dt) => dt.innerText === '{name}').nextSibling.innerText"
        ))
    };
    let app = (0..2).find(|row| {
        browser.text(&format!("document.querySelectorAll('.main .name')[{row}].innerText")) == "app"
    });
    let app = app.unwrap();
    let digits = |text: String| text.replace(',', "").parse::<u64>().unwrap();
    wait_for("the page to show all that was sent", || {
        (digits(value(app, "sent to it")) == sent).then_some(())
    });
    assert_eq!(digits(value(app, "2xx")), sent);
    assert_eq!(json(&nginx)["upstreams"]["app"]["peers"][0]["requests"], sent);
    assert_eq!(value(1 - app, "no such socket file"), "3");
    // Ten minutes have 600 places, of which the last seconds have something.
    let points = browser.text("document.querySelector('#totals path:not(.area)').parentNode.lastChild.previousSibling.getAttribute('d')");
    assert_eq!(points.split(['M', 'L']).skip(1).count(), 600);
    assert_eq!(browser.console(), Vec::<String>::new());
    let asked = browser.text("performance.getEntriesByType('resource').every((entry) => entry.name.startsWith(location.origin))");
    assert_eq!(asked, "true");
}

#[test]
fn names_of_a_configuration_are_text() {
    let nginx = Nginx::builder()
        .http(
            "upstream '<img src=x onerror=window.hacked=1>' { server unix:@dir@/<b>none; }
            server {
                listen 127.0.0.1:@port@;
                location / { rs_uwsgi_pass '<img src=x onerror=window.hacked=1>'; }
                location /status/ { rs_uwsgi_status; }
            }",
        )
        .expects("No such file or directory")
        .start();
    assert_eq!(get(nginx.address(), "/").status, 502);
    let browser = Browser::start();
    browser.open(&format!("http://{}/status/", nginx.address()));
    browser.wait("document.querySelector('.main .name')?.innerText === '<img src=x onerror=window.hacked=1>'");
    browser.wait("document.querySelector('#problems button') !== null");
    browser.click("#problems button");
    browser.wait("document.querySelector('#problems').innerText.includes('/<b>none')");
    assert_eq!(browser.text("window.hacked"), "undefined");
    assert_eq!(browser.text("document.querySelectorAll('img, b:not(figcaption b)').length"), "0");
    assert_eq!(browser.console(), Vec::<String>::new());
}
