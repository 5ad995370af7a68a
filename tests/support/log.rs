//! nginx's error log, line by line: `date time [level] pid#tid: *connection message, client: …`.

/// One line of the error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `debug`, `info`, `notice`, `warn`, `error`, `crit`, `alert` or `emerg`.
    pub level: String,
    /// The number of the client connection, where the line belongs to one.
    pub connection: Option<u64>,
    /// The rest of the line: message and context (`client:`, `upstream:` …).
    pub text: String,
}

/// The bytes of a log as text: those above ASCII are shown as `\\xNN`, as some of nginx's messages
/// do themselves.
pub fn text(log: &[u8]) -> String {
    let show = |byte: &u8| match byte.is_ascii() {
        true => char::from(*byte).to_string(),
        false => format!("\\x{byte:02x}"),
    };
    log.iter().map(show).collect()
}

/// Splits a log into lines; text that is not in nginx's format (a panic message, output of a
/// library) becomes a line of level `raw`.
pub fn parse(log: &str) -> Vec<Line> {
    log.lines().map(|line| parse_line(line).unwrap_or_else(|| raw(line))).collect()
}

/// Levels and texts that no test may cause unless it says so.
pub fn is_alarming(line: &Line) -> bool {
    const TEXTS: [&str; 3] = ["exited on signal", "panicked", "rs_uwsgi module failed"];
    matches!(line.level.as_str(), "crit" | "alert" | "emerg" | "raw")
        || TEXTS.iter().any(|text| line.text.contains(text))
}

/// What a sanitizer or valgrind reported in `log`, which nginx's standard error goes to: nothing but
/// a fault of memory has these words, so no test may ask for it.
pub fn sanitizer_report(log: &str) -> Option<&str> {
    const REPORTS: [&str; 8] = [
        "ERROR: AddressSanitizer",
        "ERROR: LeakSanitizer",
        "runtime error: ",
        "== Invalid ",
        "== Conditional jump",
        "== Use of uninitialised",
        "== Syscall param",
        "== Source and destination overlap",
    ];
    log.lines().find(|line| REPORTS.iter().any(|report| line.contains(report)))
}

fn parse_line(line: &str) -> Option<Line> {
    let (_, rest) = line.split_once(" [")?;
    let (level, rest) = rest.split_once("] ")?;
    let (process, mut text) = rest.split_once(": ")?;
    if !process.bytes().all(|b| b.is_ascii_digit() || b == b'#') {
        return None;
    }
    let mut connection = None;
    if let Some((number, after)) = text.strip_prefix('*').and_then(|t| t.split_once(' ')) {
        if let Ok(number) = number.parse() {
            connection = Some(number);
            text = after;
        }
    }
    Some(Line { level: level.to_string(), connection, text: text.to_string() })
}

fn raw(line: &str) -> Line {
    Line { level: "raw".to_string(), connection: None, text: line.to_string() }
}
