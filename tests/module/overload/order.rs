//! Who of those who wait is served first: `rs_uwsgi_queue … order=` and `rs_uwsgi_priority`, behind a server
//! that answers one request at a time, and only when it may.

use super::max_connections::CLOSED;
use super::workers::{queued, site};
use super::{answers, get};
use crate::status::Metrics;
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::nginx::{self, Nginx};
use crate::support::wait_for;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// More than a client may wait and have left for any reason (`overload::IMPATIENCE`).
const TOO_LONG: Duration = Duration::from_millis(400);
/// After this the order is that of arrival again (`overload::HOLD`).
const OVER: Duration = Duration::from_secs(2);

/// A server that answers one request for each permit that it has.
struct Door {
    backend: Backend,
    permits: Arc<(Mutex<usize>, Condvar)>,
    _dir: TempDir,
}

impl Door {
    fn new() -> Door {
        let dir = nginx::prefix();
        let permits = Arc::<(Mutex<usize>, Condvar)>::default();
        let door = permits.clone();
        let backend = Backend::unix(&dir.path().join("b"), move |peer| {
            peer.read_request()?;
            let shut = |permits: &mut usize| *permits == 0;
            *door.1.wait_while(door.0.lock().unwrap(), shut).unwrap() -= 1;
            peer.write(CLOSED)
        });
        Door { backend, permits, _dir: dir }
    }

    fn let_through(&self, count: usize) {
        *self.permits.0.lock().unwrap() += count;
        self.permits.1.notify_all();
    }

    /// The paths that have come, in their order.
    fn served(&self) -> Vec<String> {
        let uri = |request: &crate::support::backend::Request| {
            request.packet.get("REQUEST_URI").unwrap().to_string()
        };
        self.backend.requests().iter().map(uri).collect()
    }

    /// Sends requests, each of which waits before the next one is sent; the very first has the server.
    fn send(&self, nginx: &Nginx, paths: &[String]) -> Vec<Client> {
        let mut clients = Vec::new();
        for path in paths {
            let (before, is_first) = (queued(nginx), self.backend.connection_count() == 0);
            let mut client = Client::connect(nginx.address());
            client.send(&get(path));
            clients.push(client);
            match is_first {
                true => drop(self.backend.wait_request(0)),
                false => wait_for("it to wait", || (queued(nginx) > before).then_some(())),
            }
        }
        clients
    }
}

fn paths(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("/{number}")).collect()
}

#[test]
fn newest_first() {
    for (workers, zone) in [(1, ""), (4, ""), (1, "rs_uwsgi_zone off;")] {
        let door = Door::new();
        let pass = door.backend.address().to_string();
        let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_queue 100 order=newest;";
        let nginx = site(workers, zone, &pass, settings);
        let paths = paths(0..25);
        let clients = door.send(&nginx, &paths);
        door.let_through(paths.len());
        answers(clients);
        let mut expected = paths;
        expected[1..].reverse();
        assert_eq!(door.served(), expected, "{workers} workers, {zone}");
    }
}

/// Two clients leave that have waited too long: the newest are served first, by whichever worker, and
/// in the order of arrival again when nobody has left for a while.
#[test]
fn fair() {
    for (workers, zone) in [(1, ""), (4, ""), (1, "rs_uwsgi_zone off;")] {
        let door = Door::new();
        let pass = door.backend.address().to_string();
        let nginx = site(workers, zone, &pass, "rs_uwsgi_max_connections 1;");
        let all = paths(0..20);
        let mut clients = door.send(&nginx, &all);
        std::thread::sleep(TOO_LONG);
        drop(clients.drain(5..7));
        let line = nginx.wait_logged("the newest requests are served first");
        assert_eq!(line.level, "info");
        door.let_through(2);
        wait_for("two more", || (door.served().len() == 3).then_some(()));
        assert_eq!(door.served()[1..], ["/19", "/18"], "{workers} workers, {zone}");
        std::thread::sleep(OVER);
        door.let_through(all.len());
        clients.truncate(16);
        clients.iter_mut().for_each(|client| drop(client.response(false).unwrap()));
        let mut rest = all;
        rest.drain(5..7);
        assert_eq!(door.served()[3..], rest[1..16], "{workers} workers, {zone}");
    }
}

/// Two clients leave as soon as it is their turn, after they have waited too long, and nobody leaves the queue.
#[test]
fn those_who_leave_the_server_say_so_too() {
    for workers in [1, 4] {
        let door = Door::new();
        let pass = door.backend.address().to_string();
        let nginx = site(workers, "", &pass, "rs_uwsgi_max_connections 1;");
        let mut clients: Vec<_> = door.send(&nginx, &paths(0..10)).into_iter().map(Some).collect();
        std::thread::sleep(TOO_LONG);
        door.let_through(1);
        for next in [1, 2] {
            door.backend.wait_request(next);
            clients[next] = None;
        }
        nginx.wait_logged("the newest requests are served first");
        door.backend.wait_request(3);
        assert_eq!(door.served(), ["/0", "/1", "/2", "/9"], "{workers} workers");
        door.let_through(20);
        answers(clients.into_iter().flatten().collect());
    }
}

/// Clients that leave early do not say that the wait is too long.
#[test]
fn closed_tabs() {
    let door = Door::new();
    let pass = door.backend.address().to_string();
    let nginx = site(1, "", &pass, "rs_uwsgi_max_connections 1;");
    // the first two are served, and the second has waited for so long that others may leave at any time
    let mut clients = door.send(&nginx, &paths(0..4));
    std::thread::sleep(20 * TOO_LONG);
    door.let_through(1);
    wait_for("the second", || (door.served().len() == 2).then_some(()));
    let more = door.send(&nginx, &paths(4..20));
    let left = 10;
    let (leaving, staying): (Vec<_>, Vec<_>) =
        more.into_iter().enumerate().partition(|(number, _)| *number < left);
    drop(leaving);
    nginx.wait_requests(1 + left);
    door.let_through(30);
    clients.extend(staying.into_iter().map(|(_, client)| client));
    answers(clients);
    let expected = [paths(0..4), paths(4 + left..20)].concat();
    assert_eq!(door.served(), expected);
    assert_eq!(nginx.logged("the newest requests are served first").len(), 0);
}

/// Those whose time in the queue is up have waited too long as well.
#[test]
fn timeouts_say_so_too() {
    let door = Door::new();
    let pass = door.backend.address().to_string();
    let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_queue 100 timeout=1s;";
    let nginx = site(1, "", &pass, settings);
    let clients = door.send(&nginx, &paths(0..4));
    nginx.expects("timed out after");
    nginx.wait_logged("the newest requests are served first");
    door.let_through(10);
    let statuses: Vec<_> = answers(clients).iter().map(|answer| answer.status).collect();
    assert_eq!(statuses[..3], [200, 503, 503]);
}

/// They wait, whoever leaves.
#[test]
fn always_in_the_order_of_arrival() {
    let door = Door::new();
    let pass = door.backend.address().to_string();
    let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_queue 100 order=arrival;";
    let nginx = site(1, "", &pass, settings);
    let all = paths(0..20);
    let mut clients = door.send(&nginx, &all);
    std::thread::sleep(TOO_LONG);
    drop(clients.drain(5..10));
    nginx.wait_requests(5);
    door.let_through(all.len());
    answers(clients);
    let mut expected = all;
    expected.drain(5..10);
    assert_eq!(door.served(), expected);
}

/// Higher classes first, in each of them in the order of arrival, over all workers.
#[test]
fn priorities() {
    for (workers, zone) in [(1, ""), (4, ""), (1, "rs_uwsgi_zone off;")] {
        let door = Door::new();
        let pass = door.backend.address().to_string();
        let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_priority $arg_p;";
        let nginx = site(workers, zone, &pass, settings);
        let priorities = ["", "1", "5", "9", "", "1", "7", "12", "9"];
        let number = |(number, priority)| format!("/{number}?p={priority}");
        let all: Vec<_> = priorities.iter().enumerate().map(number).collect();
        let clients = door.send(&nginx, &all);
        door.let_through(all.len());
        answers(clients);
        let expected = [
            "/0?p=", "/3?p=9", "/8?p=9", "/6?p=7", "/2?p=5", "/4?p=", "/7?p=12", "/1?p=1", "/5?p=1",
        ];
        assert_eq!(door.served(), expected, "{workers} workers, {zone}");
        let line = nginx.wait_logged("\"rs_uwsgi_priority\" evaluates to \"12\"");
        assert_eq!(line.level, "warn");
        assert_eq!(nginx.logged("\"rs_uwsgi_priority\"").len(), 1);
    }
}

/// Of ten turns one goes to a lower class, and the lower ones take turns.
#[test]
fn nobody_starves() {
    for (workers, zone) in [(1, ""), (4, ""), (1, "rs_uwsgi_zone off;")] {
        let door = Door::new();
        let pass = door.backend.address().to_string();
        let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_priority $arg_p;";
        let nginx = site(workers, zone, &pass, settings);
        let of = |count, priority| (0..count).map(move |number| format!("/{number}?p={priority}"));
        let all: Vec<_> =
            of(1, "").chain(of(4, "0")).chain(of(4, "4")).chain(of(40, "9")).collect();
        let clients = door.send(&nginx, &all);
        door.let_through(all.len());
        answers(clients);
        let served = door.served();
        let turns: Vec<_> = served[1..].iter().map(|path| path.ends_with("=9")).collect();
        for begin in (0..40).step_by(10) {
            let lower = turns[begin..begin + 10].iter().filter(|is_high| !**is_high).count();
            assert_eq!(lower, 1, "{workers} workers, {zone}: {served:#?}");
        }
        let lower: Vec<_> = served[1..41].iter().filter(|path| !path.ends_with("=9")).collect();
        let classes = |end: &str| lower.iter().filter(|path| path.ends_with(end)).count();
        // several workers take turns as well, each with the class that it served the longest time ago
        let expected = if workers == 1 { (2, 2) } else { (classes("=0"), 4 - classes("=0")) };
        assert_eq!((classes("=0"), classes("=4")), expected, "{workers} workers: {lower:?}");
    }
}

/// Who would wait for longer than it may is refused at once, and told when to come again.
#[test]
fn refused_in_time() {
    let dir = nginx::prefix();
    let backend = Backend::unix(&dir.path().join("b"), |peer| {
        peer.read_request()?;
        std::thread::sleep(Duration::from_millis(100));
        peer.write(CLOSED)
    });
    let pass = backend.address().to_string();
    let settings = "rs_uwsgi_max_connections 1; rs_uwsgi_queue 1000 timeout=10s;
        location /status/ { rs_uwsgi_status; }";
    let nginx = site(1, "", &pass, settings);
    nginx.expects("is too long");
    let clients = super::send(nginx.address(), &vec![get("/"); 300]);
    let refused = wait_for("a refusal", || {
        let mut client = Client::connect(nginx.address());
        client.send(&get("/more"));
        nginx.logged("is too long").first()?;
        client.response(false).ok()
    });
    assert_eq!(refused.status, 503);
    let again: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!(again >= 10, "it takes some 30 s: {again}");
    let line = nginx.wait_logged("is too long");
    assert_eq!(line.level, "error");
    let begin = format!("queue for \"{pass}\" is too long: ");
    assert!(line.text.starts_with(&begin), "{}", line.text);
    assert!(line.text.contains(" ms of 10000 ms: 1 refused"), "{}", line.text);
    drop(clients);
    assert_eq!(nginx.logged("is too long").len(), 1, "one a minute");
    let ends = Metrics::of(&nginx).by_label("upstream_queue_requests_total");
    // some may have come before the line was in the log
    assert!(ends.get("expected").is_some_and(|count| *count >= 1.0), "{ends:?}");
}
