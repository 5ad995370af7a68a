//! `rs_uwsgi_queue`: how many may wait and for how long, and what the others are told.

use super::{
    answers, assert_tokens, hint, send, site, site_with, tokens, wait_busy, Full, Stopped,
};
use crate::support::client::Response;
use crate::support::wait_for;

/// 503, and when to come again.
fn assert_refused(answer: &Response) {
    assert_eq!(answer.status, 503);
    let seconds = answer.header("Retry-After").expect("no Retry-After");
    assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{seconds:?}");
}

/// Those beyond the queue are refused while those in it wait, who are answered all the same.
#[test]
fn full() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "rs_uwsgi_queue 5;");
    let waiting = send(nginx.address(), &tokens(0..5));
    wait_busy(&nginx, 5);
    for answer in answers(send(nginx.address(), &tokens(5..30))) {
        assert_refused(&answer);
    }
    wait_busy(&nginx, 5);
    server.resume();
    assert_tokens(waiting, 0..5);
    let text = format!("queue for \"{}\" is full", server.uwsgi.address());
    let lines: Vec<_> = nginx.logged(&text).into_iter().map(|line| line.level).collect();
    assert_eq!(lines, ["error"; 25], "one line for each");
    // There is room again.
    assert_tokens(send(nginx.address(), &tokens(0..3)), 0..3);
    assert_eq!(nginx.logged(&hint(server.uwsgi.address())).len(), 1);
    nginx.quit();
}

/// Without a queue nobody waits.
#[test]
fn none() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "rs_uwsgi_queue 0;");
    for answer in answers(send(nginx.address(), &tokens(0..3))) {
        assert_refused(&answer);
    }
    server.resume();
    wait_for("room at the server", || {
        let answer = answers(send(nginx.address(), &tokens(0..1))).remove(0);
        (answer.status == 200).then_some(())
    });
}

/// A client that leaves the queue makes room in it.
#[test]
fn full_until_somebody_leaves() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "rs_uwsgi_queue 3;");
    let mut waiting = send(nginx.address(), &tokens(0..3));
    wait_busy(&nginx, 3);
    assert_refused(&answers(send(nginx.address(), &tokens(3..4)))[0]);
    waiting.remove(1);
    wait_busy(&nginx, 2);
    waiting.extend(send(nginx.address(), &tokens(4..5)));
    wait_busy(&nginx, 3);
    server.resume();
    let bodies: Vec<_> = answers(waiting).iter().map(Response::text).collect();
    assert_eq!(bodies, ["0", "2", "4"]);
}

/// The connect timeout, which is long, has no say where the queue has one of its own.
#[test]
fn timeout() {
    let mut server = Stopped::new();
    let nginx = site(
        server.uwsgi.address(),
        "rs_uwsgi_queue 100 timeout=200ms; rs_uwsgi_connect_timeout 1h;",
    );
    for answer in answers(send(nginx.address(), &tokens(0..20))) {
        assert_refused(&answer);
    }
    wait_busy(&nginx, 0);
    let lines = nginx.logged(&hint(server.uwsgi.address()));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0].level, "warn");
    server.resume();
    assert_tokens(send(nginx.address(), &tokens(0..3)), 0..3);
}

/// Who waits for one server takes no place before another.
#[test]
fn each_server_has_its_own() {
    let fulls = [Full::new(), Full::new()];
    let settings = fulls.iter().enumerate().map(|(number, full)| {
        format!("location /{number}/ {{ rs_uwsgi_queue 2; rs_uwsgi_pass {}; }}", full.address)
    });
    let pass = fulls[0].address.to_string();
    let nginx = site_with(1, "", &settings.collect::<String>(), &pass);
    let mut waiting = Vec::new();
    for number in 0..2 {
        let requests = vec![super::get(&format!("/{number}/")); 2];
        waiting.push(send(nginx.address(), &requests));
        wait_busy(&nginx, 2 * (number + 1));
        assert_refused(&answers(send(nginx.address(), &requests[..1]))[0]);
    }
    wait_busy(&nginx, 4);
    // The log tells of each when the wait is over.
    drop(waiting);
    for full in &fulls {
        nginx.wait_logged(&hint(&full.address));
    }
}

/// In a block, and for all its servers.
#[test]
fn in_an_upstream_block() {
    let full = Full::new();
    let nginx = site_with(
        1,
        &format!("upstream app {{ server {} max_fails=0; rs_uwsgi_queue 2; }}", full.address),
        "",
        "app",
    );
    let _waiting = send(nginx.address(), &tokens(0..2));
    wait_busy(&nginx, 2);
    assert_refused(&answers(send(nginx.address(), &tokens(2..3)))[0]);
    wait_busy(&nginx, 2);
}
