//! `rs_uwsgi_queue`: how many may wait and for how long, and what the others are told.

use super::{
    answers, assert_tokens, hint, send, site, site_with, tokens, wait_busy, Full, Stopped,
};
use crate::prelude::*;

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
    let name = server.uwsgi.address().to_string();
    let begin = format!("queue for \"{name}\" ");
    let lines: Vec<_> =
        nginx.error_log().into_iter().filter(|line| line.text.starts_with(&begin)).collect();
    assert!(lines.iter().all(|line| line.level == "error"), "{lines:#?}");
    let text = "is full: 5 requests wait for a connection, 1 refused: the listen queue of the server is full";
    assert!(lines[0].text.starts_with(&format!("{begin}{text}")), "{lines:#?}");
    assert!(lines.len() <= 15, "one a second: {lines:#?}");
    assert_eq!(lines.iter().map(|line| refused(&line.text)).sum::<usize>(), 25, "{lines:#?}");
    // There is room again.
    assert_tokens(send(nginx.address(), &tokens(0..3)), 0..3);
    assert_eq!(nginx.logged(&hint(server.uwsgi.address())).len(), 1);
    nginx.quit();
}

/// How many a line says were refused.
fn refused(line: &str) -> usize {
    let before = line.split(" refused").next().unwrap().trim_end_matches(" more requests");
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

/// How long they waited is told when it is over, and once while it is not.
#[test]
fn what_is_logged_of_a_long_wait() {
    let mut server = Stopped::new();
    let nginx = site(server.uwsgi.address(), "");
    let waiting = send(nginx.address(), &tokens(0..3));
    let name = server.uwsgi.address().to_string();
    let going_on = nginx.wait_logged(&format!(
        "listen queue of \"{name}\" is full: 3 requests wait for a connection, the first of them for "
    ));
    assert_eq!(going_on.level, "warn");
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.resume();
    assert_tokens(waiting, 0..3);
    let over = nginx.wait_logged(&hint(server.uwsgi.address()));
    assert_eq!(over.level, "warn");
    let text = "was full: 3 requests waited for a connection, up to ";
    let longest = over.text.split(text).nth(1).unwrap().split(' ').next().unwrap();
    assert!(longest.parse::<usize>().unwrap() >= 1400, "{}", over.text);
    assert_eq!(nginx.logged(&format!("listen queue of \"{name}\"")).len(), 2);
}

/// What was not sent has no size and no connection, and the time in the queue is not the server's.
#[test]
fn variables_of_what_waited() {
    let mut server = Stopped::new();
    let full = Full::new();
    let nginx = site_with(
        1,
        "log_format v '$uri=$status;$rs_uwsgi_connection;$rs_uwsgi_vars_size;$rs_uwsgi_queue_time;\
            $upstream_connect_time;$upstream_header_time;$upstream_response_time';",
        &format!(
            "access_log @dir@/v v;
            location /refused {{ rs_uwsgi_queue 0; rs_uwsgi_pass {0}; }}
            location /in-vain {{ rs_uwsgi_queue 10 timeout=300ms; rs_uwsgi_pass {0}; }}",
            full.address
        ),
        &server.uwsgi.address().to_string(),
    );
    for path in ["/refused", "/in-vain"] {
        assert_refused(&answers(send(nginx.address(), &[super::get(path)])).remove(0));
    }
    let waiting = send(nginx.address(), &tokens(0..1));
    wait_busy(&nginx, 1);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    server.resume();
    assert_tokens(waiting, 0..1);
    let line = |path: &str| {
        let line = wait_for("the access log", || {
            let log = std::fs::read_to_string(nginx.path("v")).unwrap_or_default();
            log.lines().find(|line| line.starts_with(path)).map(str::to_string)
        });
        line.split(['=', ';']).skip(1).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(line("/refused")[..4], ["503", "-", "-", "0.000"]);
    let in_vain = line("/in-vain");
    assert_eq!(in_vain[..3], ["503", "-", "-"]);
    assert!(in_vain[3].parse::<f64>().unwrap() >= 0.3, "{in_vain:?}");
    assert_eq!(in_vain[4..6], ["-", "-"]);
    let served = line("/token");
    assert_eq!(served[..2], ["200", "new"]);
    assert!(served[2].parse::<usize>().unwrap() > 100, "{served:?}");
    let times: Vec<f64> = served[3..].iter().map(|time| time.parse().unwrap()).collect();
    assert!(times[0] >= 1.5, "{times:?}");
    // the server has been waiting for so long; it answers in a few milliseconds
    assert!(times[1] < 1.0 && times[2] < 1.5 && times[3] < 1.5, "{times:?}");
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
