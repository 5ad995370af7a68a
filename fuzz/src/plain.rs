//! The parser of plain headers against the one of any line.

use ngx_http_rs_uwsgi_module::pure::uwsgi::head::plain::{self, Field, Names};
use ngx_http_rs_uwsgi_module::pure::uwsgi::head::{self, Line, Parsed};

/// Lines of a head, or what is left of it from the beginning of each, whole and cut off: the second
/// byte says where. The first chooses between the names that nginx knows and a table made of the
/// first line.
pub fn fuzz(input: &[u8]) {
    let [kind, cut, rest @ ..] = input else { return };
    let cut = usize::from(*cut);
    if kind % 4 > 0 {
        return check_lines(rest, cut, check_known);
    }
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let list: Vec<&[u8]> = rest[..end].split(|byte| *byte == b',').collect();
    let table = Names::new(list.iter().enumerate().map(|(place, name)| (*name, place)));
    // names that end alike make none, though each is right
    let Some(table) = table else { return };
    for (place, name) in list.iter().enumerate() {
        assert!((1..=24).contains(&name.len()) && !list[..place].contains(name));
        let is_part = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        assert!(name.iter().all(is_part), "{}", name.escape_ascii());
        check_plain(&[name, &b": v\r\n"[..]].concat(), &table, &list);
        check_plain(&[&name.to_ascii_uppercase(), &b":v\n"[..]].concat(), &table, &list);
    }
    let after = rest.get(end + 1..).unwrap_or_default();
    check_lines(after, cut, |line| check_plain(line, &table, &list));
}

fn check_lines(lines: &[u8], cut: usize, check: impl Fn(&[u8])) {
    let mut rest = lines;
    loop {
        check(rest);
        check(&rest[..cut.min(rest.len())]);
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
        rest = &rest[end + 1..];
    }
}

/// The headers of responses that nginx acts on, in lower case.
pub const KNOWN: [&[u8]; 27] = [
    b"status",
    b"content-type",
    b"content-length",
    b"date",
    b"last-modified",
    b"etag",
    b"server",
    b"www-authenticate",
    b"location",
    b"refresh",
    b"set-cookie",
    b"content-disposition",
    b"cache-control",
    b"expires",
    b"accept-ranges",
    b"content-range",
    b"connection",
    b"keep-alive",
    b"vary",
    b"link",
    b"x-accel-expires",
    b"x-accel-redirect",
    b"x-accel-limit-rate",
    b"x-accel-buffering",
    b"x-accel-charset",
    b"transfer-encoding",
    b"content-encoding",
];

/// [`check_plain`] with the names that nginx knows.
pub fn check_known(bytes: &[u8]) {
    thread_local! {
        // one for all, so that it has read other lines before
        static NAMES: Names<usize> =
            Names::new(KNOWN.iter().enumerate().map(|(place, name)| (*name, place))).unwrap();
    }
    NAMES.with(|names| check_plain(bytes, names, &KNOWN));
}

/// Is there a line at the beginning that the parser of plain headers must not leave out?
fn is_plain(bytes: &[u8]) -> bool {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let line = lines.next().and_then(|line| line.strip_suffix(b"\n"));
    let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let parts = line.and_then(|line| {
        line.iter().position(|byte| *byte == b':').map(|colon| (&line[..colon], &line[colon + 1..]))
    });
    let Some((name, value)) = parts else { return false };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    (1..64).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && value.iter().all(|byte| (b' '..0x80).contains(byte))
        && value.trim_ascii() == value
}

/// A plain header against what is read of any line: the same, or it is no plain header. `list` are
/// the names of the table, in their order.
fn check_plain(bytes: &[u8], names: &Names<usize>, list: &[&[u8]]) {
    let shown = bytes.escape_ascii();
    check_read_again(bytes, names);
    let Some(field) = plain::read(bytes, names) else {
        assert!(!is_plain(bytes), "left out: {shown}");
        return;
    };
    let Ok(Parsed::Complete(Line::Header(header), taken)) = head::header_line(bytes) else {
        panic!("taken for a header: {shown}");
    };
    assert_eq!(field.name_in(bytes), header.name, "{shown}");
    assert_eq!(field.value_in(bytes), header.value, "{shown}");
    assert_eq!((field.size, field.hash), (taken, header.hash), "{shown}");
    assert!(field.colon < field.value && field.end < taken, "{shown}");
    let name = header.name.to_ascii_lowercase();
    assert_eq!(
        field.known.map(|name| (name.lowered(), *name.value())),
        list.iter().position(|known| *known == name).map(|place| (&name[..], place)),
        "{shown}"
    );
}

/// A line is read alike whether it was read before or not. It is not kept each time.
fn check_read_again(bytes: &[u8], names: &Names<usize>) {
    let parts = |field: Option<Field<'_, usize>>| {
        field.map(|Field { colon, value, end, size, hash, known }| {
            (colon, value, end, size, hash, known.map(|name| *name.value()))
        })
    };
    let (mut reader, wanted) = (names.reader().unwrap(), parts(plain::read(bytes, names)));
    for _ in 0..4 {
        assert_eq!(parts(reader.read(bytes)), wanted, "{}", bytes.escape_ascii());
    }
}
