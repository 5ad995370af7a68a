//! Trailers against a reader of whole lines.

use ngx_http_rs_uwsgi_module::pure::uwsgi::trailers::{are_taken, fields};

/// All fields of the input, and the input as a TE header.
pub fn fuzz(input: &[u8]) {
    let found: Vec<_> =
        fields(input).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(found, model(input), "{}", input.escape_ascii());
    for (name, value) in &found {
        // what goes into a head must not end it
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic) && !name.contains(&b':'));
        assert!(value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()));
    }
    let said = String::from_utf8_lossy(input).to_ascii_lowercase();
    if are_taken(input) {
        assert!(said.contains("trailers"));
    }
}

/// The model: knows lines by their end, CR LF, and drops those that another continues.
fn model(input: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(line) = line.strip_suffix(b"\r") else { continue };
        let next = lines.get(number + 1).and_then(|next| next.first());
        let (Some(at), false) =
            (line.iter().position(|byte| *byte == b':'), matches!(next, Some(b' ' | b'\t')))
        else {
            continue;
        };
        let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
        let is_token =
            |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
        let is_clean = value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t');
        if !name.is_empty() && name.iter().all(is_token) && is_clean && !is_forbidden(name) {
            found.push((name.to_vec(), value.to_vec()));
        }
    }
    found
}

fn is_forbidden(name: &[u8]) -> bool {
    const NAMES: &str = " age authentication-info authorization cache-control connection content-encoding \
        content-length content-location content-range content-type cookie date expect expires host keep-alive \
        location max-forwards pragma proxy-authenticate proxy-authentication-info proxy-authorization \
        proxy-connection range retry-after set-cookie status te trailer transfer-encoding upgrade vary warning \
        www-authenticate ";
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    NAMES.contains(&format!(" {name} ")) || name.starts_with("if-") || name.starts_with("x-accel-")
}
