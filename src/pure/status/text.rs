//! Numbers and texts, written to the end of what is there.

/// Writes a number.
pub fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a number of thousandths, without zeros at its end.
pub fn thousandths(out: &mut Vec<u8>, thousandths: u64) {
    number(out, thousandths / 1000);
    let rest = thousandths % 1000;
    if rest > 0 {
        let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
        let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        out.push(b'.');
        out.extend(digits.iter().take(length));
    }
}

/// Writes a number with three decimal places at most.
pub fn decimal(out: &mut Vec<u8>, value: f64) {
    thousandths(out, (value.max(0.0) * 1000.0).round() as u64);
}

/// Writes a text between quotes, as JSON has it (RFC 8259, 7). What is no UTF-8 becomes U+FFFD, and what HTML
/// acts on is escaped as well: the document may be put into a page.
pub fn json(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            '\0'..='\u{1f}' | '\u{7f}' | '<' | '>' | '&' | '\'' | '\u{2028}' | '\u{2029}' => {
                out.extend(format!("\\u{:04x}", u32::from(c)).bytes());
            }
            _ => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out.push(b'"');
}

/// Writes the value of a label of Prometheus' between quotes. What is no UTF-8 becomes U+FFFD.
pub fn label(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            '\n' => out.extend(b"\\n"),
            _ => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out.push(b'"');
}
