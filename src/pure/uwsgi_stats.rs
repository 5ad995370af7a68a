//! What uWSGI's stats server says (`stats` and `stats-http`; `uwsgi_master_generate_stats` of its
//! core/master_utils.c): a JSON object for a connection, which ends with it. Sums over the workers are taken
//! from it. The rest, among it the vars of requests that are being served, is left where it is.

use std::fmt;

/// What is said of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// uWSGI's version.
    pub version: String,
    /// Its workers.
    pub workers: u64,
    /// Of them, those that serve a request.
    pub busy: u64,
    /// … that wait for one.
    pub idle: u64,
    /// … that `cheaper` has put to sleep.
    pub cheaped: u64,
    /// Threads or greenlets of all workers.
    pub cores: u64,
    /// Of them, those that serve a request.
    pub cores_busy: u64,
    /// Requests that were served.
    pub requests: u64,
    /// Exceptions that applications did not catch.
    pub exceptions: u64,
    /// Requests that `harakiri` has ended.
    pub harakiris: u64,
    /// How often workers were started again.
    pub respawns: u64,
    /// Resident memory of all workers in bytes; 0 without `memory-report`.
    pub rss: u64,
    /// Address space of all workers in bytes; 0 without `memory-report`.
    pub vsz: u64,
    /// Bytes of responses.
    pub sent: u64,
    /// The mean time of a request in microseconds, as the workers count it: over their last requests.
    pub average: Option<f64>,
    /// Requests that wait in the listen queues, and how many may. Of unix sockets uWSGI knows 0.
    pub listen_queue: u64,
    /// How many may wait in the longest of them.
    pub listen_queue_most: u64,
    /// How often a listen queue was full, where uWSGI noticed.
    pub listen_queue_errors: u64,
}

/// What is known of a stats server.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its address, as configured.
    pub address: Vec<u8>,
    /// How old the answer is, in milliseconds; None before the first.
    pub age: Option<u64>,
    /// The answer, or in words why there is none.
    pub answer: Option<Result<Stats, String>>,
}

/// Why an answer says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no byte.
    Empty,
    /// It is not JSON, or not all of it came.
    NotJson,
    /// It is JSON of something else.
    NotStats,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Empty => "it closed the connection without an answer",
            Fault::NotJson => "its answer is not JSON, or not complete",
            Fault::NotStats => "its answer is not that of uWSGI's stats server",
        })
    }
}

/// Reads an answer, with or without the head that `stats-http` puts before it.
///
/// # Errors
///
/// [`Fault`].
pub fn parse(answer: &[u8]) -> Result<Stats, Fault> {
    let body = match answer.starts_with(b"HTTP/") {
        true => memchr::memmem::find(answer, b"\r\n\r\n").and_then(|at| answer.get(at + 4..)),
        false => Some(answer),
    };
    let body = body.unwrap_or_default().trim_ascii();
    if body.is_empty() {
        return Err(Fault::Empty);
    }
    let mut reader = Reader { rest: body, depth: 0 };
    let (mut stats, mut average, mut has_workers) = (Stats::default(), (0.0, 0.0), false);
    reader.members(|reader, key| {
        match key {
            b"version" => {
                let version = reader.string()?.iter().filter(|byte| byte.is_ascii_graphic());
                stats.version = version.map(|byte| char::from(*byte)).take(40).collect();
            }
            b"listen_queue" => stats.listen_queue = reader.count()?,
            b"listen_queue_errors" => stats.listen_queue_errors = reader.count()?,
            b"sockets" => reader.items(|reader| socket(reader, &mut stats))?,
            b"workers" => {
                has_workers = true;
                reader.items(|reader| worker(reader, &mut stats, &mut average))?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    if !reader.rest.is_empty() {
        return Err(Fault::NotJson);
    }
    if !has_workers {
        return Err(Fault::NotStats);
    }
    stats.average = (average.1 > 0.0).then(|| average.0 / average.1);
    Ok(stats)
}

fn socket(reader: &mut Reader<'_>, stats: &mut Stats) -> Result<(), Fault> {
    reader.members(|reader, key| match key {
        b"max_queue" => {
            stats.listen_queue_most = stats.listen_queue_most.max(reader.count()?);
            Ok(())
        }
        _ => reader.skip(),
    })
}

fn worker(
    reader: &mut Reader<'_>,
    stats: &mut Stats,
    average: &mut (f64, f64),
) -> Result<(), Fault> {
    let (mut requests, mut mean, mut status) = (0, 0, Vec::new());
    reader.members(|reader, key| {
        let sum = match key {
            b"requests" => {
                requests = reader.count()?;
                return Ok(());
            }
            b"avg_rt" => {
                mean = reader.count()?;
                return Ok(());
            }
            b"status" => {
                status = reader.string()?.to_vec();
                return Ok(());
            }
            b"cores" => return reader.items(|reader| core(reader, stats)),
            b"exceptions" => &mut stats.exceptions,
            b"harakiri_count" => &mut stats.harakiris,
            b"respawn_count" => {
                // the first start is counted, too
                stats.respawns = stats.respawns.saturating_add(reader.count()?.saturating_sub(1));
                return Ok(());
            }
            b"rss" => &mut stats.rss,
            b"vsz" => &mut stats.vsz,
            b"tx" => &mut stats.sent,
            _ => return reader.skip(),
        };
        *sum = sum.saturating_add(reader.count()?);
        Ok(())
    })?;
    stats.workers += 1;
    stats.requests = stats.requests.saturating_add(requests);
    if requests > 0 {
        average.0 += mean as f64 * requests as f64;
        average.1 += requests as f64;
    }
    match status.as_slice() {
        b"idle" => stats.idle += 1,
        b"cheap" => stats.cheaped += 1,
        status if status.starts_with(b"busy") => stats.busy += 1,
        _ => {}
    }
    Ok(())
}

fn core(reader: &mut Reader<'_>, stats: &mut Stats) -> Result<(), Fault> {
    stats.cores += 1;
    reader.members(|reader, key| {
        match key {
            b"in_request" => stats.cores_busy += u64::from(reader.count()? > 0),
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads JSON (RFC 8259) from its beginning to its end, and keeps nothing of it.
struct Reader<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl<'a> Reader<'a> {
    /// Nothing that uWSGI says is nested deeper.
    const DEEPEST: u32 = 16;

    fn space(&mut self) {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let length = self.rest.iter().position(|byte| !is_space(byte)).unwrap_or(self.rest.len());
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    /// Takes this mark, if it comes next.
    fn take(&mut self, mark: u8) -> bool {
        self.space();
        match self.rest.split_first() {
            Some((first, rest)) if *first == mark => {
                self.rest = rest;
                self.space();
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, mark: u8) -> Result<(), Fault> {
        self.take(mark).then_some(()).ok_or(Fault::NotJson)
    }

    /// What is between two marks, separated by commas.
    fn list(
        &mut self,
        marks: [u8; 2],
        mut each: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let [begin, end] = marks;
        self.expect(begin)?;
        self.depth += 1;
        if self.depth > Self::DEEPEST {
            return Err(Fault::NotJson);
        }
        if !self.take(end) {
            loop {
                each(self)?;
                if !self.take(b',') {
                    break;
                }
            }
            self.expect(end)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// An object: `each` reads the value of each name.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.list(*b"{}", |reader| {
            let key = reader.string()?;
            reader.expect(b':')?;
            each(reader, key)
        })
    }

    /// An array: `each` reads each value.
    fn items(&mut self, each: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.list(*b"[]", each)
    }

    /// The bytes of a string, with escapes as they are.
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.rest.strip_prefix(b"\"").ok_or(Fault::NotJson)?;
        let mut from = 0;
        loop {
            let found = memchr::memchr2(b'"', b'\\', rest.get(from..).unwrap_or_default());
            let at = from + found.ok_or(Fault::NotJson)?;
            let (before, after) = rest.split_at_checked(at).ok_or(Fault::NotJson)?;
            match after.split_first() {
                Some((b'"', after)) => {
                    self.rest = after;
                    return Ok(before);
                }
                _ => from = at + 2,
            }
        }
    }

    /// A number, as a count: one below 0 is 0.
    fn count(&mut self) -> Result<u64, Fault> {
        self.word()?.parse::<f64>().map(|number| number as u64).map_err(|_| Fault::NotJson)
    }

    /// A number, or `true`, `false`, `null`.
    fn word(&mut self) -> Result<&'a str, Fault> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(length).ok_or(Fault::NotJson)?;
        self.rest = rest;
        let word = std::str::from_utf8(word).map_err(|_| Fault::NotJson)?;
        let is_number = word.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        match is_number && word.parse::<f64>().is_ok() || ["true", "false", "null"].contains(&word)
        {
            true => Ok(word),
            false => Err(Fault::NotJson),
        }
    }

    /// Any value.
    fn skip(&mut self) -> Result<(), Fault> {
        match self.rest.first() {
            Some(b'{') => self.members(|reader, _| reader.skip()),
            Some(b'[') => self.items(Reader::skip),
            Some(b'"') => self.string().map(|_| ()),
            _ => self.word().map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What uWSGI 2.0.21 says of two workers, shortened.
    const TWO: &str = r#"{
	"version":"2.0.21-debian",
	"listen_queue":3,
	"listen_queue_errors":1,
	"signal_queue":0,
	"load":3,
	"pid":100,
	"cwd":"/srv/\"quoted\\",
	"locks":[{"user 0":0},{"signal":0}],
	"sockets":[{"name":"127.0.0.1:3031","proto":"uwsgi","queue":3,"max_queue":100,"shared":0,"can_offload":0}],
	"workers":[
		{"id":1,"pid":101,"accepting":1,"requests":30,"delta_requests":30,"exceptions":2,"harakiri_count":1,
		 "signals":0,"signal_queue":0,"status":"busy","rss":1000,"vsz":5000,"running_time":9,"last_spawn":1700000000,
		 "respawn_count":3,"tx":900,"avg_rt":2000,"apps":[{"id":0,"modifier1":0,"mountpoint":"","startup_time":0}],
		 "cores":[{"id":0,"requests":30,"static_requests":0,"in_request":1,"vars":["HTTP_COOKIE=secret"],"req_info":{}},
		          {"id":1,"requests":0,"in_request":0,"vars":[],"req_info":{}}]},
		{"id":2,"pid":102,"requests":10,"exceptions":0,"harakiri_count":0,"status":"cheap","rss":0,"vsz":0,
		 "respawn_count":1,"tx":100,"avg_rt":6000,"cores":[]}
	]
}"#;

    #[test]
    fn sums_over_workers() {
        let stats = parse(TWO.as_bytes()).unwrap();
        let wanted = Stats {
            version: "2.0.21-debian".to_owned(),
            workers: 2,
            busy: 1,
            idle: 0,
            cheaped: 1,
            cores: 2,
            cores_busy: 1,
            requests: 40,
            exceptions: 2,
            harakiris: 1,
            respawns: 2,
            rss: 1000,
            vsz: 5000,
            sent: 1000,
            average: Some(3000.0),
            listen_queue: 3,
            listen_queue_most: 100,
            listen_queue_errors: 1,
        };
        assert_eq!(stats, wanted);
        let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
        assert_eq!(parse(format!("{head}{TWO}\n").as_bytes()).unwrap(), wanted);
    }

    #[test]
    fn any_part_of_it_is_refused() {
        for length in 1..TWO.len() {
            assert_eq!(parse(&TWO.as_bytes()[..length]), Err(Fault::NotJson), "{length} bytes");
        }
    }

    #[test]
    fn what_is_something_else_is_said() {
        for (answer, fault) in [
            ("", Fault::Empty),
            (" \r\n", Fault::Empty),
            ("HTTP/1.0 200 OK\r\n\r\n", Fault::Empty),
            ("HTTP/1.1 400 Bad Request\r\n\r\n<html>", Fault::NotJson),
            ("<html>", Fault::NotJson),
            ("{}", Fault::NotStats),
            ("{\"workers\":[]} x", Fault::NotJson),
            ("{\"workers\":7}", Fault::NotJson),
            ("{\"workers\":[1]}", Fault::NotJson),
            ("{\"a\":1,}", Fault::NotJson),
            ("{\"a\":tru}", Fault::NotJson),
            ("{\"a\":+1}", Fault::NotJson),
            ("{\"a\\\":1}", Fault::NotJson),
            ("[]", Fault::NotJson),
        ] {
            assert_eq!(parse(answer.as_bytes()), Err(fault), "{answer}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), Err(Fault::NotJson));
    }

    #[test]
    fn numbers_that_no_counter_has_do_not_overflow() {
        let answer = "{\"workers\":[{\"tx\":1e400,\"requests\":-5},{\"tx\":18446744073709551615,\"requests\":1e99}]}";
        let stats = parse(answer.as_bytes()).unwrap();
        assert_eq!((stats.sent, stats.requests), (u64::MAX, u64::MAX));
    }
}
