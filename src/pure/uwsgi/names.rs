//! How things are called: header names as vars, the standard parameters, modifiers by name, and the
//! vars that no client may choose.
//!
//! Mirrors the naming rules of nginx's `ngx_http_uwsgi_create_request` and
//! `ngx_http_uwsgi_init_params`, the file `conf/uwsgi_params`, and uWSGI's table of modifiers.

/// What a client's header is called in the vars: this, then its name through [`upcase`].
pub const HTTP_PREFIX: &[u8] = b"HTTP_";

/// Hop-by-hop headers (RFC 9110 section 7.6.1) and httpoxy's `Proxy`: by default they do not
/// reach the application.
pub const DEFAULT_DROP_HEADERS: &[&str] = &[
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Proxy",
];

/// Headers that do reach the application when the client asks for an upgrade, dropped or not.
pub const UPGRADE_HEADERS: &[&str] = &["Connection", "Upgrade"];

/// What is sent when no parameter is configured: the pairs of nginx's `conf/uwsgi_params`, in its
/// order, as (var, value with nginx variables, `if_not_empty`).
pub const STANDARD_PARAMS: &[(&str, &str, bool)] = &[
    ("QUERY_STRING", "$query_string", false),
    ("REQUEST_METHOD", "$request_method", false),
    ("CONTENT_TYPE", "$content_type", false),
    ("CONTENT_LENGTH", "$content_length", false),
    ("REQUEST_URI", "$request_uri", false),
    ("PATH_INFO", "$document_uri", false),
    ("DOCUMENT_ROOT", "$document_root", false),
    ("SERVER_PROTOCOL", "$server_protocol", false),
    ("REQUEST_SCHEME", "$scheme", false),
    ("HTTPS", "$https", true),
    ("REMOTE_ADDR", "$remote_addr", false),
    ("REMOTE_PORT", "$remote_port", false),
    ("SERVER_PORT", "$server_port", false),
    ("SERVER_NAME", "$server_name", false),
];

/// Modifiers (modifier1) by name, after uWSGI's table of packet types. Without those whose answer is a packet
/// and no response: "ping" and "response".
pub const MODIFIERS: &[(&str, u8)] = &[
    ("wsgi", 0),
    ("python", 0),
    ("psgi", 5),
    ("lua", 6),
    ("rack", 7),
    ("jvm", 8),
    ("cgi", 9),
    ("admin", 10),
    ("php", 14),
    ("mono", 15),
    ("spooler", 17),
    ("symcall", 18),
    ("eval", 22),
    ("xslt", 23),
    ("v8", 24),
    ("gridfs", 25),
    ("glusterfs", 26),
    ("rados", 28),
    ("mount", 30),
    ("brutal_reload", 97),
    ("reload", 98),
    ("config", 99),
    ("echo", 101),
    ("legion", 109),
    ("signal", 110),
    ("cache", 111),
    ("rpc", 173),
    ("subscription", 224),
];

/// Vars by which uWSGI loads code or changes how it runs: a configuration must not fill them from
/// a request without saying so. Compared byte for byte, as uWSGI does.
pub const DANGEROUS_VARS: &[&str] = &[
    "UWSGI_FILE",
    "UWSGI_SCRIPT",
    "UWSGI_MODULE",
    "UWSGI_CALLABLE",
    "UWSGI_HOME",
    "UWSGI_PYHOME",
    "UWSGI_SETENV",
    "UWSGI_POSTFILE",
    "UWSGI_CHDIR",
    "UWSGI_TOUCH_RELOAD",
    "UWSGI_APPID",
    "UWSGI_CACHE_GET",
];

/// A modifier as the configuration or a variable gives it: plain decimal digits that make 0 to
/// 255 (no sign, no blanks), or a name of [`MODIFIERS`] in any case, as nginx reads its own enums.
pub fn parse_modifier(text: &[u8]) -> Option<u8> {
    if text.first()?.is_ascii_digit() {
        return text.iter().try_fold(0_u8, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
            number.checked_mul(10)?.checked_add(digit)
        });
    }
    MODIFIERS
        .iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text))
        .map(|(_, modifier)| *modifier)
}

/// Does this modifier1 run code in the server or control it? Such a one may stand in the
/// configuration, but never come out of a variable.
pub fn is_control_modifier(modifier1: u8) -> bool {
    matches!(modifier1, 10 | 17 | 18 | 22 | 97 | 98 | 110 | 111 | 173 | 224)
}

/// Is this var one of [`DANGEROUS_VARS`]?
pub fn is_dangerous_var(name: &[u8]) -> bool {
    DANGEROUS_VARS.iter().any(|var| var.as_bytes() == name)
}

/// What joins the values of a repeated header: `"; "` for Cookie (RFC 9113 section 8.2.3), else
/// `", "` (RFC 9110 section 5.2), as nginx from 1.23.0 on.
pub fn separator(name: &[u8]) -> &'static [u8] {
    if name.eq_ignore_ascii_case(b"Cookie") {
        b"; "
    } else {
        b", "
    }
}

/// One byte of a header name as it stands in a var: `a-z` become `A-Z`, `-` becomes `_`, any other
/// byte stays.
pub const fn upcase(byte: u8) -> u8 {
    // Without branches, so that the compiler finds instructions that do it to many bytes at once. Small
    // letters become the uppermost of the signed bytes: SSE2 compares no others.
    let is_small = byte.wrapping_add(0x7f - b'z') as i8 > (0x7f - 26);
    let case = if is_small { b'a' ^ b'A' } else { 0 };
    let dash = if byte == b'-' { b'-' ^ b'_' } else { 0 };
    byte ^ (case | dash)
}

/// [`upcase`] on the first `count` bytes, sixteen at a time: one instruction of SSE2, which every
/// x86-64 has, does a step of it for all sixteen. Up to sixteen bytes behind them may be changed,
/// too; where there are as many, there is no remainder to treat one by one.
#[inline(always)]
pub fn upcase_first(bytes: &mut [u8], count: usize) {
    let Some((chunk, rest)) = bytes.split_first_chunk_mut::<16>() else {
        return upcase_rest(bytes, count);
    };
    chunk.iter_mut().for_each(|byte| *byte = upcase(*byte));
    if count <= 16 {
        return;
    }
    let Some((chunk, rest)) = rest.split_first_chunk_mut::<16>() else {
        return upcase_rest(rest, count - 16);
    };
    chunk.iter_mut().for_each(|byte| *byte = upcase(*byte));
    if count > 32 {
        upcase_rest(rest, count - 32);
    }
}

/// Out of line: most names have no more than thirty-two bytes.
#[cold]
fn upcase_rest(bytes: &mut [u8], count: usize) {
    for chunk in bytes.chunks_mut(16).take(count.div_ceil(16)) {
        match chunk.first_chunk_mut::<16>() {
            Some(chunk) => chunk.iter_mut().for_each(|byte| *byte = upcase(*byte)),
            None => chunk.iter_mut().for_each(|byte| *byte = upcase(*byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_upcased_in_every_place() {
        for (length, behind) in (0..40).flat_map(|length| [(length, 0), (length, 3), (length, 40)])
        {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut name = vec![b'x'; length + behind];
                    name[place] = byte;
                    upcase_first(&mut name, length);
                    let mut expected = vec![b'X'; length];
                    expected[place] = match byte {
                        b'a'..=b'z' => byte - 32,
                        b'-' => b'_',
                        other => other,
                    };
                    assert_eq!(name[..length], expected, "byte {byte:#04x} at {place} of {length}");
                    let untouched = name.get(length + 15..).unwrap_or_default();
                    assert!(untouched.iter().all(|byte| *byte == b'x'));
                }
            }
        }
    }

    #[test]
    fn modifiers_are_numbers_or_names() {
        for number in 0..=255_u8 {
            assert_eq!(parse_modifier(number.to_string().as_bytes()), Some(number));
        }
        for (name, modifier) in MODIFIERS {
            assert_eq!(parse_modifier(name.as_bytes()), Some(*modifier));
            assert_eq!(parse_modifier(name.to_uppercase().as_bytes()), Some(*modifier));
        }
        assert_eq!(parse_modifier(b"005"), Some(5));
        for wrong in
            ["", "256", "1000", "99999999999", "-1", "+1", " 1", "1 ", "0x1", "1a", "wsg", "wsgii"]
        {
            assert_eq!(parse_modifier(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn control_modifiers_are_those_that_run_code() {
        let control: Vec<u8> = (0..=255).filter(|byte| is_control_modifier(*byte)).collect();
        assert_eq!(control, [10, 17, 18, 22, 97, 98, 110, 111, 173, 224]);
    }

    #[test]
    fn dangerous_vars_are_matched_exactly() {
        assert!(DANGEROUS_VARS.iter().all(|var| is_dangerous_var(var.as_bytes())));
        for harmless in ["UWSGI_FIL", "UWSGI_FILES", "uwsgi_file", "HTTP_UWSGI_FILE", ""] {
            assert!(!is_dangerous_var(harmless.as_bytes()), "{harmless}");
        }
    }

    #[test]
    fn cookies_are_joined_by_semicolons() {
        for name in ["Cookie", "cookie", "COOKIE"] {
            assert_eq!(separator(name.as_bytes()), b"; ");
        }
        for name in ["Cookie2", "Set-Cookie", "Accept", ""] {
            assert_eq!(separator(name.as_bytes()), b", ");
        }
    }
}
