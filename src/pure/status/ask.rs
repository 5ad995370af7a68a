//! What is asked for: by the path below the location, the query, and the header Accept.

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The page for browsers.
    Html,
    /// JSON.
    Json,
    /// Prometheus' text format, 0.0.4.
    Prometheus,
    /// OpenMetrics, 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a path below the location of `rs_uwsgi_status` is. None: nothing. `uri` begins with `location`, unless
/// that is a regular expression or has no name of a path; then its last part counts.
pub fn format(location: &[u8], uri: &[u8], accept: &[u8]) -> Option<Format> {
    let last = || uri.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match below(location, uri).unwrap_or_else(last) {
        b"" if prefers(accept, b"application/json", b"text/html") => Some(Format::Json),
        b"" => Some(Format::Html),
        b"json" => Some(Format::Json),
        b"metrics" if prefers(accept, b"application/openmetrics-text", b"text/plain") => {
            Some(Format::OpenMetrics)
        }
        b"metrics" => Some(Format::Prometheus),
        _ => None,
    }
}

/// The path below a location that has one. None where it is a regular expression or has a name.
pub fn below<'a>(location: &[u8], uri: &'a [u8]) -> Option<&'a [u8]> {
    let below = uri.strip_prefix(location).filter(|_| location.starts_with(b"/"))?;
    Some(below.strip_prefix(b"/").unwrap_or(below))
}

/// Does the client accept `this` by name, and like it better than `other` (RFC 9110, 12.5.1)? What comes
/// first counts where both have the same weight.
fn prefers(accept: &[u8], this: &[u8], other: &[u8]) -> bool {
    let weight = |wanted: &[u8]| {
        let ranges = accept.split(|byte| *byte == b',').enumerate();
        ranges
            .filter(|(_, range)| {
                let name = range.split(|byte| *byte == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(wanted)
            })
            .map(|(place, range)| (quality(range), std::cmp::Reverse(place)))
            .max()
            .filter(|(quality, _)| *quality > 0)
    };
    weight(this) > weight(other)
}

/// The weight of one range, in thousandths. One that is none is the least that is one.
fn quality(range: &[u8]) -> u16 {
    let parameters = range.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let q = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    let Some(value) = q.last() else { return 1000 };
    let number = std::str::from_utf8(value).ok().and_then(|value| value.parse::<f32>().ok());
    number.filter(|q| (0.0..=1.0).contains(q)).map_or(1, |q| (q * 1000.0) as u16)
}

/// The number of seconds of history that `?history=N` asks for.
pub fn history(args: &[u8], most: usize) -> usize {
    let value = args.split(|byte| *byte == b'&').find_map(|arg| arg.strip_prefix(b"history="));
    let number = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    number.unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::{format, history, Format};

    #[test]
    fn paths() {
        for (location, uri, expected) in [
            ("/status/", "/status/", Some(Format::Html)),
            ("/status/", "/status/json", Some(Format::Json)),
            ("/status/", "/status/metrics", Some(Format::Prometheus)),
            ("/status", "/status", Some(Format::Html)),
            ("/status", "/status/", Some(Format::Html)),
            ("/status", "/status/json", Some(Format::Json)),
            ("/status", "/statusjson", Some(Format::Json)),
            ("/", "/", Some(Format::Html)),
            ("/", "/metrics", Some(Format::Prometheus)),
            ("/status/", "/status/json/", None),
            ("/status/", "/status//json", Some(Format::Json)),
            ("/status/", "/status/JSON", None),
            ("/status/", "/status/../json", None),
            ("/status/", "/status/json\0", None),
            // a regular expression, and a location with a name
            ("^/s", "/x/json", Some(Format::Json)),
            ("@status", "/", Some(Format::Html)),
            ("@status", "/other", None),
        ] {
            let found = format(location.as_bytes(), uri.as_bytes(), b"");
            assert_eq!(found, expected, "{location} {uri}");
        }
    }

    #[test]
    fn accept() {
        for (accept, page, metrics) in [
            ("", Format::Html, Format::Prometheus),
            ("*/*", Format::Html, Format::Prometheus),
            ("application/json", Format::Json, Format::Prometheus),
            ("text/html,application/json", Format::Html, Format::Prometheus),
            ("application/json, text/html", Format::Json, Format::Prometheus),
            ("text/html;q=0.5, Application/JSON ; q=0.9", Format::Json, Format::Prometheus),
            ("application/json;q=0", Format::Html, Format::Prometheus),
            ("application/json;q=x, text/html", Format::Html, Format::Prometheus),
            // Prometheus 2.42
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                 q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Html,
                Format::OpenMetrics,
            ),
            (",;,=;q=", Format::Html, Format::Prometheus),
        ] {
            let of = |path: &str| format(b"/", path.as_bytes(), accept.as_bytes()).unwrap();
            assert_eq!((of("/"), of("/metrics")), (page, metrics), "{accept}");
        }
    }

    #[test]
    fn seconds_of_history() {
        for (args, expected) in [
            ("", 600),
            ("history=5", 5),
            ("a=b&history=0", 0),
            ("history=9999999999999999999999", 600),
            ("history=700", 600),
            ("history=-1", 600),
            ("xhistory=1", 600),
        ] {
            assert_eq!(history(args.as_bytes(), 600), expected, "{args}");
        }
    }
}
