//! What the answer to a probe says.

use std::fmt;

use super::check::{Check, Kind};
use crate::pure::uwsgi::head::{cgi_status, header_line, status_line, Line, Parsed};

/// The most bytes of an answer that are kept: nginx's own buffer for a head has as many on most systems.
pub const MOST_ANSWER: usize = 4096;

/// The answer to a ping, with no text.
const PONG: [u8; 4] = [100, 0, 0, 1];

/// What a probe waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A connection.
    Connecting,
    /// The end of a TLS handshake.
    Handshaking,
    /// The server to take the request.
    Sending,
    /// Its answer.
    Reading,
}

/// Why a probe has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A call of the system's failed: a number of errno(3).
    System(Phase, i32),
    /// The time was up.
    TimedOut(Phase),
    /// The connection was closed before there was an answer, or a whole one.
    Closed,
    /// uWSGI has answered a ping with a warning.
    Warning(Vec<u8>),
    /// It has answered a ping with something else.
    NotPong,
    /// It has answered a request with something that is no response.
    NotResponse,
    /// The head of its response is too large.
    TooLarge,
    /// Its response has a status that does not count as a pass.
    Status(u16),
    /// It does not speak TLS as it should.
    Tls(TlsFault),
}

/// What is wrong with the TLS of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The handshake has failed.
    Handshake,
    /// Its certificate is not signed by those that are trusted, or not valid: OpenSSL's number for it (`X509_V_ERR_…`)
    /// and its words.
    Unverified(i64, String),
    /// Its certificate is for another name.
    OtherName,
}

impl Failure {
    /// The [`Self::code`] of a time that was up.
    pub const TIMED_OUT: u8 = 2;

    /// A number for each kind, from 1 on, for the word of the last result.
    pub fn code(&self) -> u8 {
        match self {
            Failure::System(..) => 1,
            Failure::TimedOut(_) => Failure::TIMED_OUT,
            Failure::Closed => 3,
            Failure::Warning(_) => 4,
            Failure::NotPong => 5,
            Failure::NotResponse => 6,
            Failure::TooLarge => 7,
            Failure::Status(_) => 8,
            Failure::Tls(_) => 9,
        }
    }

    /// What a code stands for, in a word; "passed" for 0.
    pub fn name(code: u8) -> &'static str {
        match code {
            0 => "passed",
            1 => "error",
            2 => "timeout",
            3 => "closed",
            4 => "warning",
            5 => "no_pong",
            6 => "no_response",
            7 => "too_large",
            8 => "status",
            _ => "tls",
        }
    }

    /// The same as part of a sentence about health checks.
    pub fn in_words(code: u8) -> &'static str {
        match code {
            0 => "the last health check passed",
            1 => "a health check cannot reach it",
            2 => "it does not answer health checks in time",
            3 => "it closes the connection of a health check without an answer",
            4 => "it answers health checks with a warning",
            5 => "it answers a ping with something else",
            6 => "its answer to a health check is no response",
            7 => "its answer to a health check has too large a head",
            8 => "its answer to a health check has a status that is not expected",
            _ => "it does not speak TLS with a health check as it should",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connecting => "connecting",
            Phase::Handshaking => "SSL handshaking",
            Phase::Sending => "sending the request",
            Phase::Reading => "waiting for the answer",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::System(phase, errno) => {
                write!(f, "{} while {phase}", std::io::Error::from_raw_os_error(*errno))
            }
            Failure::TimedOut(phase) => write!(f, "timed out while {phase}"),
            Failure::Closed => f.write_str("it closed the connection before it had answered"),
            Failure::Warning(text) => write!(f, "it warns: \"{}\"", text.escape_ascii()),
            Failure::NotPong => f.write_str("it answered a ping with something else"),
            Failure::NotResponse => f.write_str("it answered with something that is no response"),
            Failure::TooLarge => f.write_str("it answered with too large a head"),
            Failure::Status(status) => write!(f, "it answered with status {status}"),
            Failure::Tls(TlsFault::Handshake) => f.write_str("the TLS handshake failed"),
            Failure::Tls(TlsFault::Unverified(number, text)) => {
                write!(f, "its certificate is not verified ({number}: {text})")
            }
            Failure::Tls(TlsFault::OtherName) => {
                f.write_str("its certificate is for another name than \"rs_uwsgi_ssl_name\"")
            }
        }
    }
}

/// What the bytes of an answer say so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing yet.
    More,
    /// The server is well.
    Passed,
    /// It has closed the connection on a ping with no answer, as uWSGI does without the plugin for it: it can be
    /// reached, and more is not known.
    Reached,
    /// It is not well.
    Failed(Failure),
}

impl Check {
    /// Reads an answer: all bytes so far, [`MOST_ANSWER`] at most; `ended`: there will be no more.
    pub fn read(&self, bytes: &[u8], ended: bool) -> Reading {
        match self.kind {
            Kind::Connect => Reading::Passed,
            Kind::Ping => read_pong(bytes, ended),
            Kind::Uri => match read_head(bytes) {
                Read::Status(status) if self.counts(status) => Reading::Passed,
                Read::Status(status) => Reading::Failed(Failure::Status(status)),
                Read::Not => Reading::Failed(Failure::NotResponse),
                Read::More if ended => Reading::Failed(Failure::Closed),
                Read::More if bytes.len() >= MOST_ANSWER => Reading::Failed(Failure::TooLarge),
                Read::More => Reading::More,
            },
        }
    }

    fn counts(&self, status: u16) -> bool {
        self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// The answer to a ping is a packet: 100, the size of a text, 1. A text is a warning.
fn read_pong(bytes: &[u8], ended: bool) -> Reading {
    match bytes {
        [] if ended => return Reading::Reached,
        _ if PONG.starts_with(bytes) && bytes.len() < PONG.len() => {}
        [100, low, high, 1, text @ ..] => {
            let size = usize::from(u16::from_le_bytes([*low, *high]));
            if size == 0 && text.is_empty() {
                return Reading::Passed;
            }
            if text.len() > size {
                return Reading::Failed(Failure::NotPong);
            }
            // a part of it says what it is about, too
            if text.len() == size || ended || bytes.len() >= MOST_ANSWER {
                return Reading::Failed(Failure::Warning(text.to_vec()));
            }
        }
        [100, ..] if bytes.len() < PONG.len() => {}
        _ => return Reading::Failed(Failure::NotPong),
    }
    match ended {
        true => Reading::Failed(Failure::Closed),
        false => Reading::More,
    }
}

enum Read {
    More,
    Status(u16),
    Not,
}

/// The status of a response, once its head is complete; those of interim responses are passed over. A CGI
/// style head has to say one, or what it is (RFC 3875, 6.2).
fn read_head(mut rest: &[u8]) -> Read {
    loop {
        let (mut status, mut is_cgi) = (None, false);
        match status_line(rest) {
            Ok(Parsed::Complete(line, size)) => {
                status = Some(line.code);
                rest = rest.get(size..).unwrap_or_default();
            }
            Ok(Parsed::Partial) => return Read::More,
            Err(_) => is_cgi = true,
        }
        loop {
            match header_line(rest) {
                Ok(Parsed::Complete(line, size)) => {
                    rest = rest.get(size..).unwrap_or_default();
                    match line {
                        Line::Header(header) if is_cgi => {
                            status = cgi_says(status, header.name, header.value);
                        }
                        Line::Header(_) | Line::Ignored => {}
                        Line::End => break,
                    }
                }
                Ok(Parsed::Partial) => return Read::More,
                Err(_) => return Read::Not,
            }
        }
        match status {
            Some(100 | 102..=199) => {}
            Some(status @ 100..=599) => return Read::Status(status),
            _ => return Read::Not,
        }
    }
}

/// What a header of a CGI style head says of the status: "Status" more than "Location", and that more than
/// "Content-Type".
fn cgi_says(status: Option<u16>, name: &[u8], value: &[u8]) -> Option<u16> {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    if is(b"Status") {
        return cgi_status(value);
    }
    match status {
        None if is(b"Content-Type") => Some(200),
        None | Some(200) if is(b"Location") => Some(302),
        status => status,
    }
}
