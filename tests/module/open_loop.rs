//! `make bench-overload`, its open loop: are the clients honest that it measures with
//! (benches/overload/arrivals.py)? And its quick form, from end to end.

use crate::prelude::*;
use crate::support::process::{self, Process};
use crate::support::programs::nginx_path;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;

/// What a client is to get: arrivals.body.
fn body(number: usize) -> Vec<u8> {
    format!("{number}\n").repeat(200).into_bytes()
}

fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// A server on 127.0.0.1 that has `serve` deal with the client of each number. Returns its address, and
/// where the numbers come out.
fn server(serve: fn(usize, &mut TcpStream)) -> (SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (asked, numbers)) = (listener.local_addr().unwrap(), channel());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, asked) = (stream.unwrap(), asked.clone());
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let line = lines.next().unwrap().unwrap();
                let number = line.split(['?', ' ']).nth(2).unwrap().parse().unwrap();
                assert!(lines.any(|line| line.unwrap().is_empty()));
                // The test may be over.
                let _ = asked.send(number);
                serve(number, &mut stream);
            });
        }
    });
    (address, numbers)
}

/// Returns when the client has closed the connection.
fn hold(stream: &mut TcpStream) {
    let _ = io::copy(stream, &mut io::sink());
}

struct Clients {
    process: Process,
    output: std::path::PathBuf,
    _folder: TempDir,
}

/// Clients who are due for `seconds`, 50 a second.
fn clients(address: SocketAddr, seconds: &str, patience: &str) -> Clients {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("outcome");
    let mut command = process::command("/usr/bin/python3");
    command.arg(root().join("benches/overload/arrivals.py")).arg(address.to_string());
    command.args(["--rate", "50", "--seconds", seconds, "--patience", patience]);
    command.arg("--output").arg(&output).env("PYTHONDONTWRITEBYTECODE", "1");
    Clients { process: Process::spawn(command).unwrap(), output, _folder: folder }
}

impl Clients {
    fn outcome(mut self) -> Value {
        wait_for("the clients' end", || self.process.ended());
        serde_json::from_slice(&fs::read(&self.output).unwrap()).unwrap()
    }
}

/// Nobody is ever answered, and all come nevertheless, in their order; each leaves, and no one is left out
/// of the count.
#[test]
fn arrivals_do_not_wait_for_answers() {
    let (address, numbers) = server(|_, stream| hold(stream));
    let outcome = clients(address, "2", "1").outcome();
    // Two seconds, and one more for the patience of the last.
    assert_eq!((&outcome["scheduled"], &outcome["came"]), (&Value::from(150), &Value::from(150)));
    assert_eq!((&outcome["clients"], &outcome["left"]), (&Value::from(100), &Value::from(100)));
    assert_eq!((&outcome["in_time"], &outcome["answered"]), (&Value::from(0), &Value::from(0)));
    assert_eq!((&outcome["p50"], &outcome["p99"]), (&Value::Null, &Value::Null));
    let mut came: Vec<_> = numbers.try_iter().collect();
    came.sort();
    assert_eq!(came, (0..150).collect::<Vec<_>>());
}

/// What the server sends to the client of a number: only the last of these is an answer in time.
fn all_kinds(number: usize, stream: &mut TcpStream) {
    let (right, other) = (body(number), body(number ^ 1));
    let parts = match number % 7 {
        // all but the last byte
        0 => vec![answer("200 OK", right.len(), &right[..right.len() - 1])],
        1 => vec![answer("200 OK", other.len(), &other)],
        2 => vec![answer("503 Busy", 0, b"")],
        // closed too early
        3 => vec![answer("200 OK", right.len(), &right[..right.len() - 1])],
        4 => vec![b"HTTP/1.1 200 OK\r\nContent-".to_vec()],
        // no length: who could say that it is whole?
        5 => vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), right],
        _ => vec![answer("200 OK", right.len(), b""), right],
    };
    for part in parts {
        stream.write_all(&part).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    if number % 7 == 0 {
        hold(stream);
    }
}

#[test]
fn an_answer_is_in_time_when_its_whole_body_is_there_and_right() {
    let (address, _numbers) = server(all_kinds);
    let outcome = clients(address, "1.4", "5").outcome();
    assert_eq!(outcome["clients"], 70);
    for (name, count) in [("in_time", 10), ("left", 10), ("wrong", 20), ("cut", 20)] {
        assert_eq!(outcome[name], count, "{name}: {outcome}");
    }
    assert_eq!(outcome["refused"], serde_json::json!({ "503": 10 }));
    assert!(outcome["p50"].as_f64() <= outcome["p99"].as_f64(), "{outcome}");
    assert!(outcome["p50"].as_f64() > Some(0.0), "{outcome}");
}

/// Where the program itself stands still, those who were due meanwhile have waited since then: the answers
/// come at once, and too late.
#[test]
fn time_begins_when_a_client_is_due() {
    let (address, numbers) = server(|number, stream| {
        let right = body(number);
        let _ = stream.write_all(&answer("200 OK", right.len(), &right));
        hold(stream);
    });
    let clients = clients(address, "4", "1");
    numbers.recv_timeout(DEADLINE).unwrap();
    clients.process.pause();
    thread::sleep(Duration::from_secs(2));
    clients.process.resume();
    let outcome = clients.outcome();
    assert_eq!((&outcome["came"], &outcome["clients"]), (&Value::from(250), &Value::from(200)));
    // The next one was due within a second, and so were some twenty.
    assert!(outcome["late_max"].as_f64() > Some(1.0), "{outcome}");
    assert!(outcome["left"].as_u64() > Some(5), "{outcome}");
    assert_eq!(outcome["left"].as_u64().unwrap() + outcome["in_time"].as_u64().unwrap(), 200);
}

/// Everything that `make bench-overload PART=open-quick` runs; what it measures is not judged.
#[test]
fn the_quick_bench() {
    let results = TempDir::new().unwrap();
    let log = fs::File::create(results.path().join("log")).unwrap();
    let mut command = process::command("/usr/bin/python3");
    command.arg(root().join("benches/overload")).arg("open-quick");
    command.arg("--results").arg(results.path()).stdin(Stdio::null());
    command.env("RS_UWSGI_MODULE", module_path());
    command.env("RS_UWSGI_NGINX", nginx_path());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut bench = Process::spawn(command).unwrap();
    let status = bench.wait(Duration::from_secs(120));
    let read =
        |name: &str| fs::read_to_string(results.path().join(Path::new(name))).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", read("log"));
    let (report, plot) = (read("open-loop.md"), read("open-loop.svg"));
    let kept = read("open-loop-quick.jsonl");
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for front in ["stock", "ours", "ours, limit 4"] {
        for load in [0.5, 2.5] {
            let name = format!("{front}, 1 worker");
            assert!(report.contains(&format!("| {load}, 1 s, {name} ")), "{name}: {report}");
            assert!(plot.contains(&format!(">{name}</text>")), "{name}: {plot}");
            let is_its = |each: &&Value| each["key"] == serde_json::json!([front, 1, load, 1, 1]);
            let each = kept.iter().find(is_its).unwrap();
            let number = |name: &str| each[name].as_u64().unwrap();
            assert_eq!(number("came"), number("scheduled"), "{each}");
            assert!(number("finished") > 0, "{each}");
            assert_eq!((number("cut"), number("wrong")), (0, 0), "{each}");
            let refused = each["refused"].as_object().unwrap().values();
            let refused: u64 = refused.map(|count| count.as_u64().unwrap()).sum();
            let all = number("in_time") + number("left") + refused;
            assert_eq!(all, number("clients"), "{each}");
        }
    }
    // More came than could be served, whoever was in front.
    let over = kept.iter().filter(|each| each["key"][2] == 2.5);
    assert!(over.clone().count() >= 3);
    for each in over {
        assert!(each["in_time"].as_u64() < each["clients"].as_u64(), "{each}");
    }
}

/// The plot of the documentation shows the run that the tables beside it are of, and each of its lines.
#[test]
fn the_documented_plot_and_tables_are_of_one_run() {
    let text = fs::read_to_string(root().join("docs/tuning.md")).unwrap();
    let plot = fs::read_to_string(root().join("docs/overload.svg")).unwrap();
    let section = text.split_once("<!-- open loop: written by make, do not edit -->").unwrap().1;
    let section = section.split_once("<!-- /open loop -->").unwrap().0;
    // "2026-11-26 20:07 to 20:12 UTC, …"
    let date = section.trim_start().split(' ').next().unwrap();
    assert!(plot.contains(&format!(">{date}, ")), "{date}");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let names: Vec<_> = rows.map(|row| row.split(" | ").next().unwrap().trim_end()).collect();
    let is_line = |name: &&&str| name.starts_with("ours") || name.starts_with("stock");
    assert!(names.iter().filter(is_line).count() >= 6, "{names:?}");
    for name in names.iter().filter(is_line) {
        assert!(plot.contains(&format!(">{name}</text>")), "{name}");
    }
}
