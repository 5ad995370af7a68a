//! `rs_uwsgi_mount`: where a path is split.

/// Splits a path into SCRIPT_NAME and PATH_INFO (PEP 3333; RFC 3875, 4.1.5 and 4.1.13). A path that
/// is not below the mount has no script name.
pub fn split<'a>(mount: &'a [u8], path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match path.strip_prefix(mount) {
        Some(rest @ ([] | [b'/', ..])) => (mount, rest),
        _ => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_is_split_at_the_mount_and_only_there() {
        assert_eq!(split(b"/app", b"/app/x/y"), (&b"/app"[..], &b"/x/y"[..]));
        assert_eq!(split(b"/app", b"/app/"), (&b"/app"[..], &b"/"[..]));
        assert_eq!(split(b"/app", b"/app"), (&b"/app"[..], &b""[..]));
        assert_eq!(split(b"/app", b"/apple"), (&b""[..], &b"/apple"[..]));
        assert_eq!(split(b"/app", b"/"), (&b""[..], &b"/"[..]));
    }
}
