//! Which build of the module this is: in the log when nginx starts, and readable from the file
//! without loading it, by `strings` and `readelf --notes`.

/// `VERSION (commit COMMIT, built for nginx VERSION)`; build.rs finds out the last two.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("RS_UWSGI_COMMIT"),
    ", built for nginx ",
    env!("RS_UWSGI_NGINX_VERSION"),
    ")"
);

/// The same for `what` and `strings`, which look for this mark, after the module's name.
const TEXT: &str = concat!(
    "\0@(#)",
    env!("CARGO_PKG_NAME"),
    " ",
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("RS_UWSGI_COMMIT"),
    ", built for nginx ",
    env!("RS_UWSGI_NGINX_VERSION"),
    ")\0"
);

/// The same as package metadata, <https://uapi-group.org/specifications/specs/package_metadata_for_executable_files/>:
/// readelf(1) prints them as they are.
const METADATA: &str = concat!(
    "{\"type\":\"nginx-module\",\"name\":\"",
    env!("CARGO_PKG_NAME"),
    "\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"commit\":\"",
    env!("RS_UWSGI_COMMIT"),
    "\",\"nginx\":\"",
    env!("RS_UWSGI_NGINX_VERSION"),
    "\"}\0"
);

/// An ELF note, elf(5): sizes, type, owner, and a text that is a multiple of four bytes.
#[repr(C, align(4))]
struct Note {
    owner_size: u32,
    text_size: u32,
    kind: u32,
    owner: [u8; 4],
    text: [u8; TEXT_SIZE],
}

const TEXT_SIZE: usize = METADATA.len().next_multiple_of(4);

#[used]
static MARK: [u8; TEXT.len()] = bytes(TEXT);

#[used]
#[cfg_attr(target_os = "linux", link_section = ".note.rs_uwsgi")]
static NOTE: Note = Note {
    owner_size: 4,
    text_size: TEXT_SIZE as u32,
    kind: 0xcafe_1a7e,
    owner: *b"FDO\0",
    text: bytes(METADATA),
};

/// The bytes of a text, with zeros up to the length asked for.
const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let text = text.as_bytes();
    let mut at = 0;
    // a const fn has no iterators, and `copy_from_slice` is const since Rust 1.87
    #[allow(clippy::indexing_slicing)]
    while at < text.len() {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
}
