//! What the headers of a response say of its end and of its connection, against a reader of all
//! headers at once.

use ngx_http_rs_uwsgi_module::pure::uwsgi::framing::{Chunks, End, Fields, Framing, Said};

use super::{Bytes, Input};

/// Status and bytes received, then lines: the first byte of each chooses a header's name, the rest is
/// its value.
pub fn fuzz(input: &[u8]) {
    const NAMES: [&str; 7] = [
        "Connection",
        "content-length",
        "Transfer-Encoding",
        "CONTENT-LENGTH",
        "connectioN",
        "tRANSFER-ENCODING",
        "Content_Length",
    ];
    let mut input = Input(input);
    let status = input.one_of(&[200, 204, 304, 199, 205, 404, u16::MAX]);
    let chunks = input.one_of(&[Chunks::Open, Chunks::Ended, Chunks::Surplus]);
    let received = input.one_of(&[0, 1, 2, 5, 10, LARGEST, u64::MAX]);
    let lines = input.0.split(|byte| *byte == b'\n');
    let headers: Vec<(Bytes, Bytes)> = lines
        .filter_map(|line| line.split_first())
        .map(|(kind, value)| {
            let name = NAMES.get(usize::from(*kind) % 8).map_or(value, |name| name.as_bytes());
            (name.to_vec(), value.to_vec())
        })
        .collect();
    check(&headers, status);
    let reversed: Vec<_> = headers.iter().rev().cloned().collect();
    check(&reversed, status);
    let fields = seen(headers.iter().map(|(name, value)| (&name[..], &value[..])));
    check_end(fields.framing(status), received, chunks);
}

/// What the headers say one by one against what they say together.
pub fn check(headers: &[(Bytes, Bytes)], status: u16) {
    let fields = seen(headers.iter().map(|(name, value)| (&name[..], &value[..])));
    let options = options(&values(headers, "connection"));
    let said = if options.iter().any(|option| option == "close") {
        Said::Close
    } else if options.iter().any(|option| option == "keep-alive") {
        Said::KeepAlive
    } else {
        Said::Nothing
    };
    assert_eq!(fields.said(), said, "{headers:?}");
    let length = only(&values(headers, "content-length"), number);
    let coding = only(&values(headers, "transfer-encoding"), |value| {
        value.eq_ignore_ascii_case(b"chunked").then_some(())
    });
    let expected = match (status, length, coding) {
        (204 | 304, Has::None | Has::One(0), Has::None) => Framing::NoBody,
        (204 | 304, ..) => Framing::Uncertain,
        _ => framing(length, coding),
    };
    assert_eq!(fields.framing(status), expected, "{status} {headers:?}");
}

fn check_end(framing: Framing, received: u64, chunks: Chunks) {
    let of_length = |length| match i128::from(received) - i128::from(length) {
        ..=-1 => End::Open,
        0 => End::Clean,
        1.. => End::Surplus,
    };
    let expected = match (framing, chunks) {
        (Framing::NoBody, _) => of_length(0),
        (Framing::Length(length), _) => of_length(length),
        (Framing::Chunked, Chunks::Open) => End::Open,
        (Framing::Chunked, Chunks::Ended) => End::Clean,
        (Framing::Chunked, Chunks::Surplus) => End::Surplus,
        (Framing::Close, _) => End::ByClose,
        (Framing::Uncertain, _) => End::Uncertain,
    };
    assert_eq!(framing.end(received, chunks), expected, "{framing:?} {received} {chunks:?}");
}

/// What a response has of a header that says how its body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Has<T> {
    /// None.
    None,
    /// One that can be understood.
    One(T),
    /// It has one, and nobody can tell what it means.
    Doubt,
}

/// The largest length: nginx counts in an `off_t`.
pub const LARGEST: u64 = i64::MAX as u64;

/// How a body ends of which the headers say this.
pub fn framing(length: Has<u64>, coding: Has<()>) -> Framing {
    match (length, coding) {
        (Has::None, Has::None) => Framing::Close,
        (Has::One(bytes), Has::None) => Framing::Length(bytes),
        (Has::None, Has::One(())) => Framing::Chunked,
        // two answers, or none that can be understood
        _ => Framing::Uncertain,
    }
}

/// What the module makes of headers.
pub fn seen<'a>(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in headers {
        fields.see(name, value);
    }
    fields
}

fn values<'a>(headers: &'a [(Bytes, Bytes)], name: &str) -> Vec<&'a [u8]> {
    let of = |header: &&(Bytes, Bytes)| header.0.eq_ignore_ascii_case(name.as_bytes());
    headers.iter().filter(of).map(|(_, value)| value.as_slice()).collect()
}

/// The one value, if `means` knows what it means.
fn only<T>(values: &[&[u8]], means: impl Fn(&[u8]) -> Option<T>) -> Has<T> {
    match values {
        [] => Has::None,
        [one] => means(one).map_or(Has::Doubt, Has::One),
        _ => Has::Doubt,
    }
}

/// Adds up the digits, in a number that is too wide to overflow as long as no sum that is too large
/// is added to.
fn number(value: &[u8]) -> Option<u64> {
    let mut sum = (!value.is_empty()).then_some(0u128)?;
    for byte in value {
        sum = sum * 10 + u128::from(b"0123456789".iter().position(|digit| digit == byte)? as u64);
        if sum > u128::from(LARGEST) {
            return None;
        }
    }
    u64::try_from(sum).ok()
}

fn options(values: &[&[u8]]) -> Vec<String> {
    let all = values.join(&b',');
    let all = all.iter().map(|byte| char::from(*byte)).collect::<String>();
    let blank = [' ', '\t', '\r', '\n', '\x0c'];
    all.split(',').map(|option| option.trim_matches(blank).to_ascii_lowercase()).collect()
}
