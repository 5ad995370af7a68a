//! Hints: how often, and what they say of a socket.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ngx_http_rs_uwsgi_module::pure::hints::{self, Flood, Hint, Hints, INTERVAL};

#[test]
fn one_of_each_kind_in_a_while() {
    let hints = Hints::default();
    let (start, kinds) = (usize::MAX - 5, [Hint::ListenQueue, Hint::Permission]);
    for kind in kinds {
        assert!(hints.take_due(kind, start));
        assert!(!hints.take_due(kind, start));
        assert!(!hints.take_due(kind, start.wrapping_add(INTERVAL - 1)));
        assert!(
            hints.take_due(kind, start.wrapping_add(INTERVAL)),
            "also where the clock begins anew"
        );
        assert!(!hints.take_due(kind, start.wrapping_add(INTERVAL)));
    }
}

#[test]
fn retry_after_is_as_long_again() {
    for (waited, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60), (usize::MAX, 60)]
    {
        assert_eq!(hints::retry_after(waited), seconds, "{waited}");
    }
}

#[test]
fn a_socket_that_must_not_be_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let user = hints::user(std::fs::metadata(&path).unwrap().uid());
    let path = path.to_str().unwrap();
    assert!(!user.is_empty() && user.parse::<u32>().is_err(), "{user} has a name");
    let said = hints::permission(path.as_bytes(), "www-data");
    let begin = format!("\"{path}\" belongs to user \"{user}\" and group \"");
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.contains("\" with mode 0640, the worker is user \"www-data\": "), "{said}");
    let said = hints::permission(b"/no/such\n", "nobody");
    assert!(said.starts_with("\"/no/such\\n\" cannot be looked at by user \"nobody\" ("), "{said}");
}

#[test]
fn a_flood_has_a_line_a_second() {
    let (flood, start) = (Flood::default(), usize::MAX - 5);
    assert_eq!(flood.add(start), Some(1));
    assert_eq!(flood.add(start), None);
    assert_eq!(flood.add(start.wrapping_add(999)), None);
    assert_eq!(flood.add(start.wrapping_add(1000)), Some(3), "none is left out");
    assert_eq!(flood.take(start), 0);
    assert_eq!(flood.add(start.wrapping_add(1001)), None);
    assert_eq!((flood.take(start), flood.take(start)), (1, 0));
}

/// A worker of several has its own queue empty again and again while requests are refused.
#[test]
fn a_flood_is_over_once_a_second() {
    let (flood, start) = (Flood::default(), usize::MAX - 5);
    assert_eq!(flood.add(start), Some(1));
    let (mut lines, mut told) = (0, 0);
    for time in 0..500 {
        assert_eq!(flood.add(start.wrapping_add(time)), None);
        let refused = flood.take(start.wrapping_add(time));
        lines += usize::from(refused > 0);
        told += refused;
    }
    assert_eq!((lines, told), (1, 1));
    // the next line tells of the others
    assert_eq!(flood.add(start.wrapping_add(1000)), Some(500));
    assert_eq!(flood.add(start.wrapping_add(1001)), None);
    assert_eq!(flood.take(start.wrapping_add(1001)), 1);
}

#[test]
fn mute_is_who_has_never_answered() {
    let hints = Hints::default();
    hints.count_unanswered();
    assert!(!hints.is_mute(), "one that is slow once");
    hints.count_unanswered();
    assert!(hints.is_mute());
    hints.set_understood();
    assert!(!hints.is_mute());
}
