//! Sets of header names against a list of them.

use ngx_http_rs_uwsgi_module::pure::uwsgi::header_set::{lowcase_var, HeaderSet};

/// ServerQueues are names: the first byte says how many of them are inserted, then all are asked for.
pub fn fuzz(input: &[u8]) {
    let Some((count, names)) = input.split_first() else { return };
    let names: Vec<&[u8]> = names.split(|byte| *byte == b'\n').collect();
    check(&names[..usize::from(*count).min(names.len())], &names);
}

/// A set of names against a list of them, both asked for others.
pub fn check(inserted: &[&[u8]], asked: &[&[u8]]) {
    let plain = |name: &[u8]| -> Vec<u8> {
        let underscored = name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
        underscored.map(|byte| byte.to_ascii_lowercase()).collect()
    };
    let mut set = HeaderSet::new();
    let mut list: Vec<Vec<u8>> = Vec::new();
    for name in inserted {
        let plain = plain(name);
        assert_eq!(lowcase_var(name), plain);
        assert_eq!(set.insert(name), !list.contains(&plain), "{}", name.escape_ascii());
        if !list.contains(&plain) {
            list.push(plain);
        }
    }
    assert_eq!((set.is_empty(), set.len()), (list.is_empty(), list.len()));
    assert!(set.iter().eq(list.iter().map(Vec::as_slice)));
    for name in inserted.iter().chain(asked) {
        assert_eq!(set.contains(name), list.contains(&plain(name)), "{}", name.escape_ascii());
    }
}
