//! How things are called: header names as vars, sets of header names, the standard parameters,
//! modifiers by name, and the vars that no client may choose.
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

/// Modifiers (modifier1) by name, after uWSGI's table of packet types.
pub const MODIFIERS: &[(&str, u8)] = &[
    ("wsgi", 0),
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
    ("ping", 100),
    ("echo", 101),
    ("legion", 109),
    ("signal", 110),
    ("cache", 111),
    ("rpc", 173),
    ("subscription", 224),
    ("response", 255),
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
    // Without branches, so that the compiler finds instructions that do it to many bytes at once.
    let case = if byte.is_ascii_lowercase() { b'a' ^ b'A' } else { 0 };
    let dash = if byte == b'-' { b'-' ^ b'_' } else { 0 };
    byte ^ (case | dash)
}

/// [`upcase`] on the first `count` bytes, sixteen at a time: one instruction of SSE2, which every
/// x86-64 has, does a step of it for all sixteen. Up to fifteen bytes behind them may be changed,
/// too; where there are as many, there is no remainder to treat one by one.
#[inline(always)]
pub fn upcase_first(bytes: &mut [u8], count: usize) {
    match bytes.split_first_chunk_mut::<16>() {
        Some((chunk, rest)) => {
            chunk.iter_mut().for_each(|byte| *byte = upcase(*byte));
            if count > 16 {
                upcase_rest(rest, count - 16);
            }
        }
        None => bytes.iter_mut().for_each(|byte| *byte = upcase(*byte)),
    }
}

/// Out of line: most names have no more than sixteen bytes.
#[inline(never)]
fn upcase_rest(bytes: &mut [u8], count: usize) {
    for chunk in bytes.chunks_mut(16).take(count.div_ceil(16)) {
        match chunk.first_chunk_mut::<16>() {
            Some(chunk) => chunk.iter_mut().for_each(|byte| *byte = upcase(*byte)),
            None => chunk.iter_mut().for_each(|byte| *byte = upcase(*byte)),
        }
    }
}

/// One byte of a header name in the form in which names are compared: `A-Z` become `a-z`, `-`
/// becomes `_`.
const fn lowcase(byte: u8) -> u8 {
    match byte {
        b'-' => b'_',
        _ => byte.to_ascii_lowercase(),
    }
}

/// [`lowcase`] on the eight bytes of a number at once: the uppermost bit of each byte is free to hold
/// what is known of its other seven.
const fn lowcase_word(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let low = word & !HIGH;
    let letters = (low + (0x80 - b'A' as u64) * EACH) ^ (low + (0x7f - b'Z' as u64) * EACH);
    let others = (low ^ (b'-' as u64 * EACH)) + 0x7f * EACH;
    let case = (letters & !word & HIGH) >> 2;
    let dash = (!(others | word) & HIGH) >> 7;
    word ^ case ^ (dash * (b'-' ^ b'_') as u64)
}

/// The first and the last eight bytes of a name, or all of a shorter one, through [`lowcase_word`].
#[inline(always)]
fn ends(name: &[u8]) -> [u64; 2] {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => {
            [first, last].map(|end| lowcase_word(u64::from_le_bytes(*end)))
        }
        _ => [lowcase_word(name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))), 0],
    }
}

/// What is between the [`ends`] of a long name.
fn middle(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let bytes = name.get(8..name.len().saturating_sub(8)).unwrap_or_default();
    bytes.iter().map(|byte| lowcase(*byte))
}

/// A header name (or what follows `HTTP_` in a parameter) in the form in which nginx compares the
/// two: `X-Real-IP`, `x_real_ip` and `X_REAL_IP` are one var to the application.
pub fn lowcase_var(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| lowcase(*byte)).collect()
}

/// A set of header names, blind to case and to the difference of `-` and `_`, as the names of vars
/// are. Built when the configuration is read; asked for every header of every request, and most
/// answers are no.
#[derive(Clone, Debug, Default)]
pub struct HeaderSet {
    /// By length ([`HeaderSet::place`]), which first bytes names in the set have: where the bit is
    /// clear, a name is not in it.
    filter: [u32; 32],
    /// In the order in which they came.
    names: Vec<Known>,
    /// Numbers of names, from 1, each at the place of its hash or behind it; 0 where there is none. A
    /// hundred names may look alike to the filter.
    slots: Vec<u32>,
}

/// A name in a set.
#[derive(Clone, Debug)]
struct Known {
    ends: [u64; 2],
    /// By [`lowcase_var`].
    name: Vec<u8>,
}

impl HeaderSet {
    /// An empty set.
    pub fn new() -> HeaderSet {
        HeaderSet::default()
    }

    /// Adds a name; false if it was there already, in whatever spelling.
    pub fn insert(&mut self, name: &[u8]) -> bool {
        if self.contains(name) {
            return false;
        }
        let first = name.first().copied();
        // these two are one to the set, and two to the filter
        let dashes = [Some(b'-'), Some(b'_')];
        let firsts = if dashes.contains(&first) { dashes } else { [first; 2] };
        for (length, bit) in firsts.map(|first| Self::place(name.len(), first)) {
            if let Some(bits) = self.filter.get_mut(length) {
                *bits |= bit;
            }
        }
        self.names.push(Known { ends: ends(name), name: lowcase_var(name) });
        self.fill_slots();
        true
    }

    /// Makes the table anew, of twice as many slots as there are names or more.
    fn fill_slots(&mut self) {
        let size = (2 * self.names.len()).next_power_of_two();
        self.slots = vec![0; size];
        for (number, name) in (1..).zip(&self.names) {
            let mut place = Self::hash(name.ends, &name.name);
            while let Some(slot) = self.slots.get_mut(place & (size - 1)) {
                if *slot == 0 {
                    *slot = number;
                    break;
                }
                place += 1;
            }
        }
    }

    /// Is this name in the set, in whatever spelling?
    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        let Some(first) = name.first() else { return self.holds(name) };
        let (length, bit) = Self::place(name.len(), Some(*first));
        self.filter.get(length).is_some_and(|bits| bits & bit != 0) && self.holds(name)
    }

    #[inline(never)]
    fn holds(&self, name: &[u8]) -> bool {
        let ends = ends(name);
        let mut place = Self::hash(ends, name);
        loop {
            let slot = self.slots.get(place & self.slots.len().wrapping_sub(1)).copied();
            let number = slot.unwrap_or(0) as usize;
            let Some(known) = number.checked_sub(1).and_then(|n| self.names.get(n)) else {
                return false;
            };
            // The ends of most names are all of them.
            if known.ends == ends
                && known.name.len() == name.len()
                && (name.len() <= 16 || middle(name).eq(middle(&known.name)))
            {
                return true;
            }
            place += 1;
        }
    }

    fn hash(ends: [u64; 2], name: &[u8]) -> usize {
        let mix =
            |hash: u64, part: u64| (hash.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [first, last] = ends;
        let hash = middle(name).map(u64::from).fold(first, mix);
        (mix(hash, last) >> 40) as usize
    }

    /// Has nothing been inserted?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The names by [`lowcase_var`], in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|known| known.name.as_slice())
    }

    /// Index and bit for names of a length with a first byte. Letters that differ in case differ in
    /// nothing but a bit that is not looked at.
    fn place(length: usize, first: Option<u8>) -> (usize, u32) {
        (length % 32, 1 << (first.unwrap_or(0) % 32))
    }
}

impl<N: AsRef<[u8]>> FromIterator<N> for HeaderSet {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> HeaderSet {
        let mut set = HeaderSet::new();
        for name in names {
            set.insert(name.as_ref());
        }
        set
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
    fn every_byte_of_a_word_is_lowcased_for_itself() {
        for (place, byte) in (0..8).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
            for around in [0, b'-', b'@', b'Z', b'_', 0x7f, 0x80, 0xff] {
                let mut word = [around; 8];
                word[place] = byte;
                let lowcased = lowcase_word(u64::from_le_bytes(word)).to_le_bytes();
                assert_eq!(lowcased, word.map(lowcase), "{word:x?}");
            }
        }
    }

    #[test]
    fn a_name_is_told_from_those_that_differ_in_one_byte() {
        for length in 1..40 {
            let name = vec![b'n'; length];
            let set = HeaderSet::from_iter([&name]);
            assert!(set.contains(&name) && set.contains(&name.to_ascii_uppercase()));
            for place in 0..length {
                let mut other = name.clone();
                other[place] = b'm';
                assert!(!set.contains(&other), "byte {place} of {length}");
            }
            assert!(!set.contains(&name[1..]) && !set.contains(&[&name[..], b"n"].concat()));
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
    fn default_drops_are_found_in_any_spelling() {
        let drops: HeaderSet = DEFAULT_DROP_HEADERS.iter().collect();
        assert_eq!(drops.len(), DEFAULT_DROP_HEADERS.len());
        for name in ["te", "TE", "keep-alive", "KEEP_ALIVE", "Transfer_Encoding", "proxy"] {
            assert!(drops.contains(name.as_bytes()), "{name}");
        }
        for name in ["", "T", "Host", "Cookie", "Upgrade", "Accept", "Prox", "Proxyy", "TF"] {
            assert!(!drops.contains(name.as_bytes()), "{name}");
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
