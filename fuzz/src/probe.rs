//! Answers to probes: a ping's against a model, a response's against what must be true of any, and against heads that
//! are made to be right.

use super::Input;
use ngx_http_rs_uwsgi_module::pure::health::answer::MOST_ANSWER;

use ngx_http_rs_uwsgi_module::pure::health::{Check, Failure, Reading};

/// The first byte says what is fuzzed, the rest is the answer.
pub fn fuzz(input: &[u8]) {
    let Some((what, answer)) = input.split_first() else { return };
    match what % 3 {
        0 => pong(answer),
        1 => response(answer),
        _ => right_head(Input(answer)),
    }
}

fn check(parameters: &[&[u8]]) -> Check {
    Check::parse(parameters.iter().copied(), |_| None)
        .unwrap_or_else(|wrong| panic!("parameters that are right: {wrong}"))
}

/// Each beginning of the answer to a ping.
fn pong(answer: &[u8]) {
    let check = check(&[b"ping"]);
    for (bytes, ended) in beginnings(answer) {
        let expected = model(bytes, ended);
        assert_eq!(check.read(bytes, ended), expected, "{} {ended}", bytes.escape_ascii());
    }
}

/// All beginnings of what is kept, each with the end and without.
fn beginnings(answer: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let kept = &answer[..answer.len().min(MOST_ANSWER)];
    (0..=kept.len()).flat_map(|size| [(&kept[..size], false), (&kept[..size], true)])
}

/// What the uwsgi protocol says of modifier 100: a header of four bytes and a text.
fn model(bytes: &[u8], ended: bool) -> Reading {
    let Some((header, text)) = bytes.split_at_checked(4) else {
        return match (bytes.first(), ended) {
            (None, true) => Reading::Reached,
            (Some(first), _) if *first != 100 => Reading::Failed(Failure::NotPong),
            (_, true) => Reading::Failed(Failure::Closed),
            (_, false) => Reading::More,
        };
    };
    let size = usize::from(header[1]) + 256 * usize::from(header[2]);
    if header[0] != 100 || header[3] != 1 || text.len() > size {
        return Reading::Failed(Failure::NotPong);
    }
    match (size, text.len() < size) {
        (0, _) => Reading::Passed,
        (_, true) if !ended && bytes.len() < MOST_ANSWER => Reading::More,
        _ => Reading::Failed(Failure::Warning(text.to_vec())),
    }
}

/// Each beginning of any answer to a request: what was decided stays, whatever follows.
fn response(answer: &[u8]) {
    let check = check(&[b"uri=/", b"status=200-399"]);
    let mut decided = None;
    for (bytes, ended) in beginnings(answer) {
        let reading = check.read(bytes, ended);
        let shown = format!("{} {ended}: {reading:?}", bytes.escape_ascii());
        if let Some(before) = &decided {
            assert_eq!(&reading, before, "{shown}");
            continue;
        }
        match &reading {
            Reading::More => assert!(!ended && bytes.len() < MOST_ANSWER, "{shown}"),
            Reading::Failed(Failure::Closed) => assert!(ended, "{shown}"),
            Reading::Failed(Failure::TooLarge) => assert!(bytes.len() >= MOST_ANSWER, "{shown}"),
            // an empty line has come, and the status is none that goes on
            Reading::Passed => assert!(has_empty_line(bytes), "{shown}"),
            Reading::Failed(Failure::Status(status)) => {
                assert!(matches!(status, 101 | 400..=599), "{shown}");
                assert!(has_empty_line(bytes), "{shown}");
            }
            Reading::Failed(Failure::NotResponse) => {}
            _ => panic!("{shown}"),
        }
        let is_final = !matches!(
            reading,
            Reading::More | Reading::Failed(Failure::Closed | Failure::TooLarge)
        );
        decided = is_final.then_some(reading);
    }
}

fn has_empty_line(bytes: &[u8]) -> bool {
    let has = |end: &[u8]| bytes.windows(end.len()).any(|window| window == end);
    has(b"\n\n") || has(b"\n\r\n") || bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n")
}

/// Interim responses and a final one, as a server sends them, cut anywhere.
fn right_head(mut input: Input<'_>) {
    let interim = input.byte() % 3;
    let status = 200 + u16::from(input.byte()) % 400;
    let style = input.byte() % 3;
    let mut head = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(interim.into());
    head += &match style {
        0 => format!("HTTP/1.1 {status} Something\r\nX-A: b\r\n\r\n"),
        1 => format!("HTTP/1.0 {status}\nX-A: b\n\n"),
        _ => format!("Status: {status} Something\r\nX-A: b\r\n\r\n"),
    };
    let check = check(&[b"uri=/", b"status=200-399"]);
    let expected = match status {
        200..=399 => Reading::Passed,
        _ => Reading::Failed(Failure::Status(status)),
    };
    for size in 0..head.len() {
        let shown = &head[..size];
        assert_eq!(check.read(shown.as_bytes(), false), Reading::More, "{shown}");
        let cut = check.read(shown.as_bytes(), true);
        assert_eq!(cut, Reading::Failed(Failure::Closed), "{shown}");
    }
    assert_eq!(check.read(head.as_bytes(), false), expected, "{head}");
    // the body says nothing
    head += "HTTP/1.1 500 No\r\n\r\n";
    assert_eq!(check.read(head.as_bytes(), true), expected, "{head}");
}
