//! Trailers of chunked responses (RFC 9112, 7.1.2): what comes between the last chunk and the empty line,
//! and which of it may be passed on.

/// Field names that must not come as trailers: those of framing, routing, authentication, of what a recipient
/// has acted on when the body ends, and those of a connection (RFC 9110, 6.5.1 and 7.6.1). In lower case.
const FORBIDDEN: &[&str] = &[
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
];

/// What such names begin with: conditions, and what is meant for nginx itself.
const FORBIDDEN_BEGINNINGS: &[&str] = &["if-", "x-accel-"];

/// The trailers that may be passed on, name and value, of all that followed the last chunk's line. What is no
/// field line is left out, and so is one that a line of white space continues.
pub fn fields(trailers: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut lines = trailers.split(|byte| *byte == b'\n').peekable();
    std::iter::from_fn(move || loop {
        let line = lines.next()?;
        let is_continued =
            lines.peek().is_some_and(|next| matches!(next.first(), Some(b' ' | b'\t')));
        if let Some(field) = field(line).filter(|_| !is_continued) {
            return Some(field);
        }
    })
}

/// A field line (RFC 9112, 5), without its LF.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\r")?;
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let is_fit = !name.is_empty() && name.iter().all(is_token) && value.iter().all(is_text);
    (is_fit && may_be_trailer(name)).then_some((name, value))
}

/// A byte of a token (RFC 9110, 5.6.2).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn may_be_trailer(name: &[u8]) -> bool {
    let begins = |beginning: &&str| {
        name.get(..beginning.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    !FORBIDDEN.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        && !FORBIDDEN_BEGINNINGS.iter().any(begins)
}

/// Does a TE header say that its client takes trailers (RFC 9110, 10.1.4)?
pub fn are_taken(te: &[u8]) -> bool {
    te.split(|byte| *byte == b',').any(|coding| {
        let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(trailers: &str) -> Vec<String> {
        let shown = |(name, value): (&[u8], &[u8])| {
            format!("{}={}", name.escape_ascii(), value.escape_ascii())
        };
        fields(trailers.as_bytes()).map(shown).collect()
    }

    #[test]
    fn fields_that_are_fit() {
        assert_eq!(
            shown("X-Sum: 1\r\nServer-Timing:  a;dur=1 \r\n\r\n"),
            ["X-Sum=1", "Server-Timing=a;dur=1"]
        );
        assert_eq!(shown("\r\n"), [""; 0]);
        assert_eq!(shown("Empty:\r\n\r\n"), ["Empty="]);
    }

    #[test]
    fn fields_that_are_not() {
        for trailer in [
            "no colon",
            ": no name",
            "a b: space",
            "X\0: nul",
            "X: \u{1}",
            "Content-Length: 5",
            "Content-Location: /other",
            "Authentication-Info: a=b",
            "proxy-authentication-INFO: a=b",
            "transfer-ENCODING: chunked",
            "Set-Cookie: a=b",
            "X-Accel-Redirect: /secret",
            "If-Match: x",
            "X: folded\r\n more",
        ] {
            assert_eq!(shown(&format!("{trailer}\r\nA: b\r\n\r\n")), ["A=b"], "{trailer}");
        }
        // the line's end is CR LF
        assert_eq!(shown("X: y\n\r\n"), [""; 0]);
    }

    #[test]
    fn clients_that_take_them() {
        for te in ["trailers", "Trailers", "gzip;q=0.5, trailers", "trailers ; q=1"] {
            assert!(are_taken(te.as_bytes()), "{te}");
        }
        for te in ["", "gzip", "trailers-not", "x;trailers"] {
            assert!(!are_taken(te.as_bytes()), "{te}");
        }
    }
}
