//! How things are called, against the words of the standard library.

use ngx_http_rs_uwsgi_module::pure::uwsgi::names::{
    is_control_modifier, is_dangerous_var, parse_modifier, separator, upcase_first, DANGEROUS_VARS,
    MODIFIERS,
};

/// A name, or a modifier in words. The first byte says how many bytes stand behind the name.
pub fn fuzz(input: &[u8]) {
    let Some((behind, name)) = input.split_first() else { return };
    check_upcase(name, (behind % 64).into());
    assert_eq!(parse_modifier(name), modifier(name), "{}", name.escape_ascii());
    let lossy = String::from_utf8_lossy(name);
    assert_eq!(is_dangerous_var(name), DANGEROUS_VARS.contains(&&*lossy));
    let is_cookie = lossy.to_lowercase() == "cookie" && name.is_ascii();
    assert_eq!(separator(name), if is_cookie { b"; " } else { b", " });
    if let Some(modifier) = parse_modifier(name) {
        let control = [10, 17, 18, 22, 97, 98, 110, 111, 173, 224];
        assert_eq!(is_control_modifier(modifier), control.contains(&modifier));
    }
}

fn modifier(text: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        // the standard library takes a sign, too, but not behind the first digit
        return text.parse().ok();
    }
    let named = MODIFIERS.iter().find(|(name, _)| *name == text.to_ascii_lowercase());
    named.map(|(_, modifier)| *modifier)
}

fn check_upcase(name: &[u8], behind: usize) {
    let mut bytes = [name, &vec![b'x'; behind]].concat();
    upcase_first(&mut bytes, name.len());
    let expected = name.iter().map(|byte| match byte {
        b'-' => b'_',
        byte => byte.to_ascii_uppercase(),
    });
    assert!(bytes[..name.len()].iter().copied().eq(expected), "{}", name.escape_ascii());
    let untouched = bytes.get(name.len() + 16..).unwrap_or_default();
    assert!(untouched.iter().all(|byte| *byte == b'x'));
}
