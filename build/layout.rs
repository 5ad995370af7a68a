//! Where the members of nginx's structures are: measured by the C compiler, in the headers that the
//! module is built against.
//!
//! Rust takes nginx's structures from nginx-sys, whose bindgen has put bit-fields in wrong places before
//! (two bits too low in `ngx_http_request_t` since nginx 1.29.3, where a 16-bit member stands before
//! them). A C source is therefore generated that has, for each member of each structure, its offset and
//! size or, where it is a bit-field, a structure in which nothing but its bits is set. It is compiled
//! and never run, so that it may be for another machine: what the compiler found is read out of the
//! object. From it come:
//!
//! - an assertion for each structure and each member of whole bytes, by which the build fails with the
//!   member's name where Rust would look for it elsewhere;
//! - a trait for each bit-field that reads and writes it where it is (`flag!` in src/nginx/layout.rs).
//!   What nginx-sys has for bit-fields is used by nobody: [`lint`] fails the build at such a call.
//!
//! All members are measured, not only those that src/nginx uses, so no list of them can be incomplete.

// A build that fails says why and where.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use bindgen::callbacks::{FieldInfo, ParseCallbacks};
use bindgen::FieldVisibilityKind;

const HEADER: &str = "src/nginx/layout.h";

/// Stands before each entry in the object, where the compiler may put the entries in any order.
const MARK: [u8; 16] = *b"rs_uwsgi layout\xff";

/// Where an entry's data stand: after the mark, the entry's number and the size of its data.
const DATA: usize = 32;

/// The members of `ngx_peer_connection_t`, of all versions. src/nginx/balancer.rs hands on what a balancer
/// may set among them: with one that it does not know, the balancer would be called wrongly or not at
/// all, so the build fails.
const PEER_MEMBERS: &[&str] = &[
    "connection",
    "sockaddr",
    "socklen",
    "name",
    "tries",
    "start_time",
    "get",
    "free",
    "notify", // called since 1.29.6
    "data",
    "set_session",
    "save_session",
    "local",
    "type",
    "rcvbuf",
    "sndbuf", // since 1.31
    "log",
    "hint", // since 1.29.6
    "sid",  // since 1.29.6
    "cached",
    "transparent",
    "so_keepalive",
    "down",
    "log_error",
    "spare", // room for what later versions add
];

/// A structure or union of nginx's: its name, and its members in order. Both are C's.
struct Structure {
    name: String,
    members: Vec<Member>,
}

struct Member {
    name: String,
    /// As bindgen calls it, which appends a `_` to what is a word of Rust's.
    rust_name: String,
    is_bits: bool,
}

impl Structure {
    /// As C spells the type: nginx's tags end in `_s`. What has no tag has the name of its typedef.
    fn c_type(&self) -> String {
        match self.name.ends_with("_s") {
            true => format!("struct {}", self.name),
            false => self.name.clone(),
        }
    }

    /// As nginx's sources spell it, for messages.
    fn shown(&self) -> String {
        self.name.strip_suffix("_s").map_or_else(|| self.name.clone(), |stem| format!("{stem}_t"))
    }
}

/// Measures, and writes what src/nginx/layout.rs includes.
pub fn generate(include: &str, cflags: &str, out: &Path) {
    for read in [HEADER, "build", "src/nginx"] {
        println!("cargo::rerun-if-changed={read}");
    }
    let structures = structures(include, cflags);
    let peer = check_peer(&structures);
    if peer.members.iter().any(|member| member.name == "sid") {
        println!("cargo::rustc-cfg=peer_sid");
    }
    let has = |structure: &str, members: [&str; 2]| {
        let found = structures.iter().find(|found| found.name == structure);
        found.is_some_and(|found| {
            members.iter().all(|name| found.members.iter().any(|member| member.name == *name))
        })
    };
    if has("ngx_http_upstream_rr_peers_s", ["resolve", "config"]) {
        println!("cargo::rustc-cfg=peers_config");
    }
    if has("ngx_http_upstream_rr_peers_s", ["resolve", "generation"]) {
        println!("cargo::rustc-cfg=peers_generation");
    }
    let object = measure(&structures, include, cflags, out);
    let mut entries = Entries::of(&object);

    let mut asserts = String::new();
    // by name, as several structures have bit-fields of one name
    let mut flags: BTreeMap<&str, String> = BTreeMap::new();
    for structure in &structures {
        let (rust, shown) = (&structure.name, structure.shown());
        let [size, alignment, _] = entries.numbers();
        let _ = writeln!(
            asserts,
            "const _: () = assert!(size_of::<sys::{rust}>() == {size} \
             && align_of::<sys::{rust}>() == {alignment}, \
             \"{shown} has another size in Rust than in C\");"
        );
        for member in &structure.members {
            let Member { name, rust_name, is_bits } = member;
            if *is_bits {
                let (offset, bytes, mask) = entries.bits();
                assert!(bytes > 0, "{shown}: the bits of \"{name}\" were not found");
                let _ = writeln!(
                    flags.entry(name).or_default(),
                    "impl {} for *mut sys::{rust} {{ flag_at!({offset}, {bytes}, {mask:#x}); }}",
                    trait_name(name)
                );
            } else {
                let [offset, ..] = entries.numbers();
                let _ = writeln!(
                    asserts,
                    "const _: () = assert!(offset_of!(sys::{rust}, {rust_name}) == {offset}, \
                     \"{shown}: \\\"{name}\\\" is elsewhere in Rust than in C\");"
                );
            }
        }
    }
    let mut text = format!("mod asserts {{\nuse super::*;\n{asserts}}}\n/// A trait for each name, whatever is used of them.\n#[allow(dead_code)]\npub mod flags {{\nuse super::*;\n");
    for (name, implementations) in &flags {
        let name = trait_name(name);
        let _ = write!(text, "pub trait {name}: Copy {{ flag_methods!(); }}\n{implementations}");
    }
    text.push_str("}\n");
    let path = out.join("layout.rs");
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));

    lint(&flags.into_keys().collect::<Vec<_>>());
}

/// Reads a header as nginx's own sources read theirs.
pub fn bindings(header: &str, include: &str, cflags: &str) -> bindgen::Builder {
    bindgen::Builder::default()
        .header(header)
        .clang_args(std::env::split_paths(include).map(|dir| format!("-I{}", dir.display())))
        .clang_args(definitions(cflags))
}

/// `-Dname=value` of each definition.
fn definitions(cflags: &str) -> impl Iterator<Item = String> + '_ {
    cflags.split("-D").map(str::trim).filter(|d| !d.is_empty()).map(|d| format!("-D{d}"))
}

/// The structures of nginx's headers. bindgen lists their members; where it puts them is not asked.
fn structures(include: &str, cflags: &str) -> Vec<Structure> {
    type Members = BTreeMap<String, Vec<String>>;
    #[derive(Debug)]
    struct Collect(Rc<RefCell<Members>>);
    impl ParseCallbacks for Collect {
        fn field_visibility(&self, field: FieldInfo<'_>) -> Option<FieldVisibilityKind> {
            let mut members = self.0.borrow_mut();
            members.entry(field.type_name.into()).or_default().push(field.field_name.into());
            None
        }
    }
    let members = Rc::new(RefCell::new(Members::new()));
    let text: String = bindings(HEADER, include, cflags)
        .allowlist_type("ngx_.*")
        .layout_tests(false)
        .formatter(bindgen::Formatter::None)
        .parse_callbacks(Box::new(Collect(Rc::clone(&members))))
        .generate()
        .unwrap_or_else(|e| panic!("{HEADER}: {e}"))
        .to_string()
        .split_whitespace()
        .collect();
    let members = members.take();
    // what is anonymous has no name in C to measure it by
    let is_named = |name: &str| !name.contains("__bindgen_");
    members
        .into_iter()
        .filter(|(name, _)| name.starts_with("ngx_") && is_named(name))
        .map(|(name, members)| {
            let methods = methods_of(&name, &text);
            let members = members
                .into_iter()
                .filter(|member| is_named(member))
                .map(|member| Member {
                    is_bits: methods.contains(&format!("pubfnset_{member}(&mutself,")),
                    name: member.trim_end_matches('_').to_string(),
                    rust_name: member,
                })
                .collect();
            Structure { name, members }
        })
        .collect()
}

/// What bindgen has written, without white space, of a structure's methods: they are for bit-fields.
fn methods_of<'a>(structure: &str, text: &'a str) -> &'a str {
    let head = format!("impl{structure}{{");
    let Some(start) = text.find(&head) else { return "" };
    let methods = &text[start + head.len()..];
    methods.split_once("#[repr(C").map_or(methods, |(methods, _)| methods)
}

/// The name of a bit-field's trait.
fn trait_name(name: &str) -> String {
    let is_keyword = KEYWORDS.contains(&name);
    format!("{name}{}", if is_keyword { "_" } else { "" })
}

const KEYWORDS: [&str; 26] = [
    "abstract", "as", "async", "await", "box", "crate", "dyn", "final", "fn", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "override", "priv", "pub", "ref", "self", "super",
    "trait", "type", "use",
];

/// Is there a member that src/nginx/balancer.rs does not know?
fn check_peer(structures: &[Structure]) -> &Structure {
    let peer = structures.iter().find(|structure| structure.name == "ngx_peer_connection_s");
    let Some(peer) = peer else { panic!("{HEADER} brings no ngx_peer_connection_t") };
    for Member { name, .. } in &peer.members {
        assert!(
            PEER_MEMBERS.contains(&name.as_str()),
            "ngx_peer_connection_t: \"{name}\" is new in this nginx, and src/nginx/balancer.rs does not \
             hand it on to the balancer (see build/layout.rs)"
        );
    }
    peer
}

/// Compiles the source that measures. The object is returned.
fn measure(structures: &[Structure], include: &str, cflags: &str, out: &Path) -> Vec<u8> {
    let (source, object) = (out.join("layout.c"), out.join("layout.o"));
    std::fs::write(&source, c_source(structures))
        .unwrap_or_else(|e| panic!("{}: {e}", source.display()));

    let mut compiler = cc::Build::new();
    compiler.cargo_metadata(false).warnings(false).debug(false).opt_level(0);
    let mut command = compiler.includes(std::env::split_paths(include)).get_compiler().to_command();
    // CFLAGS of packages may ask for objects that are no machine code yet
    command.args(definitions(cflags)).args(["-w", "-fno-lto", "-c", "-o"]);
    let status = command.arg(&object).arg(&source).status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{} cannot be compiled: {status:?}",
        source.display()
    );
    std::fs::read(&object).unwrap_or_else(|e| panic!("{}: {e}", object.display()))
}

fn c_source(structures: &[Structure]) -> String {
    let header = std::fs::read_to_string(HEADER).unwrap_or_else(|e| panic!("{HEADER}: {e}"));
    let mark: Vec<_> = MARK.iter().map(u8::to_string).collect();
    let mut source = format!(
        "{header}\n\
         #include <stdint.h>\n\
         #define MARK {{ {} }}\n\
         #define ENTRY(n, type, ...) \\\n\
         \x20   const struct {{ unsigned char mark[16]; uint64_t number, size; type data; }} \\\n\
         \x20   rs_layout_##n = {{ MARK, n, sizeof(type), __VA_ARGS__ }}; \\\n\
         \x20   _Static_assert(offsetof(__typeof__(rs_layout_##n), data) == {DATA}, \"alignment\");\n\
         typedef struct {{ uint64_t of[3]; }} numbers;\n",
        mark.join(", ")
    );
    let mut n = 0;
    let mut entry = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(source, "ENTRY({n}, {text})");
        n += 1;
    };
    for structure in structures {
        let c = structure.c_type();
        entry(format_args!("numbers, {{ {{ sizeof({c}), _Alignof({c}) }} }}"));
        for Member { name, is_bits, .. } in &structure.members {
            match is_bits {
                true => entry(format_args!("{c}, {{ .{name} = -1 }}")),
                false => entry(format_args!("numbers, {{ {{ offsetof({c}, {name}) }} }}")),
            }
        }
    }
    source
}

/// The data of the entries, by their numbers.
struct Entries<'a> {
    data: BTreeMap<u64, &'a [u8]>,
    next: u64,
    is_big_endian: bool,
}

impl<'a> Entries<'a> {
    fn of(object: &'a [u8]) -> Self {
        let is_big_endian = super::nginx::variable("CARGO_CFG_TARGET_ENDIAN") == "big";
        let mut entries = Entries { data: BTreeMap::new(), next: 0, is_big_endian };
        for (at, window) in object.windows(DATA).enumerate() {
            if window.starts_with(&MARK) {
                let number = entries.integer(&window[16..24]);
                let size = usize::try_from(entries.integer(&window[24..32])).unwrap_or(usize::MAX);
                let data = object.get(at + DATA..).and_then(|rest| rest.get(..size));
                entries.data.insert(number, data.expect("an entry is cut off"));
            }
        }
        entries
    }

    fn next(&mut self) -> &'a [u8] {
        let data = self.data.get(&self.next);
        self.next += 1;
        data.unwrap_or_else(|| panic!("layout.o: entry {} is missing", self.next - 1))
    }

    fn integer(&self, bytes: &[u8]) -> u64 {
        let add = |value, byte: &u8| value << 8 | u64::from(*byte);
        match self.is_big_endian {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        }
    }

    fn numbers(&mut self) -> [u64; 3] {
        let data = self.next();
        [&data[..8], &data[8..16], &data[16..24]].map(|number| self.integer(number))
    }

    /// Where the bits are set: the offset and the number of the bytes that have any, and which bits
    /// they are of these bytes taken as one number.
    fn bits(&mut self) -> (usize, usize, u64) {
        let data = self.next();
        let first = data.iter().position(|byte| *byte != 0).unwrap_or(0);
        let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert!(end - first <= 8, "a bit-field of {} bytes", end - first);
        (first, end - first, self.integer(&data[first..end]))
    }
}

/// Fails the build where src/nginx calls a method of bindgen's for a bit-field. By its name alone, as types
/// are not known here: a function of ours that is called as a bit-field is (`close`) counts only where it
/// is called through a pointer.
fn lint(flags: &[&str]) {
    let sources: Vec<_> = std::fs::read_dir("src/nginx")
        .and_then(|files| files.collect::<Result<Vec<_>, _>>())
        .unwrap_or_else(|e| panic!("src/nginx: {e}"))
        .iter()
        .filter_map(|file| Some((file.path(), std::fs::read_to_string(file.path()).ok()?)))
        .collect();
    // of ours, and of the standard library
    let is_function = |name: &str| {
        ["len", "read", "write", "count"].contains(&name)
            || sources.iter().any(|(_, text)| {
                ["(", "<"].iter().any(|after| text.contains(&format!("fn {name}{after}")))
            })
    };
    let names: Vec<_> = flags
        .iter()
        .flat_map(|name| [(name.to_string(), "()"), (format!("set_{name}"), "(")])
        .map(|(name, after)| format!("{}.{name}{after}", if is_function(&name) { ")" } else { "" }))
        .collect();
    for (path, text) in &sources {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let call = names.iter().find(|name| {
                // of `x.f().name()` and `(*x).name()`, which has the star
                code.find(name.as_str())
                    .is_some_and(|at| !name.starts_with(')') || is_dereference(&code[..at]))
            });
            if let Some(call) = call {
                panic!(
                    "{}:{}: \"{call}\": bit-fields are read and written by flag!, which knows where \
                     they are",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// Does the code end in `(*…`, parentheses in which balance?
fn is_dereference(code: &str) -> bool {
    let mut depth = 0;
    for (at, c) in code.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' if depth == 0 => return code[at..].starts_with("(*"),
            '(' => depth -= 1,
            _ => {}
        }
    }
    false
}
