//! What is learned of a server over TCP that says nothing.

use std::sync::atomic::AtomicU64;

use ngx_http_rs_uwsgi_module::pure::silent::{Silent, WORDS};
use proptest::prelude::*;

fn words() -> [AtomicU64; WORDS] {
    [const { AtomicU64::new(0) }; WORDS]
}

/// Where connecting takes long, more time is given, and soon where it takes longer than before.
#[test]
fn patience_follows_the_time_of_connecting() {
    let words = words();
    let silent = Silent::new(&words[..]);
    assert_eq!(silent.patience(0), 2500, "nothing is known");
    silent.connected(0, 1);
    assert_eq!(silent.patience(0), 100);
    assert_eq!(silent.patience(1), 200);
    (0..40).for_each(|_| silent.connected(150, 1));
    assert!((570..=600).contains(&silent.patience(0)), "{}", silent.patience(0));
    // where all attempts would be given up too early, a request's next ones are not
    assert_eq!(silent.patience(6), silent.patience(100));
    assert!(silent.patience(6) >= 30_000);
}

#[test]
fn one_that_says_nothing_at_all_may_be_gone() {
    let words = words();
    let silent = Silent::new(&words[..]);
    assert!(!silent.is_alive(7000));
    silent.connected(0, 7000);
    assert!(silent.is_alive(9000) && !silent.is_alive(9001));
    silent.alive(9001);
    assert!(silent.is_alive(9002));
}

#[test]
fn one_may_have_been_lost() {
    let words = words();
    let silent = Silent::new(&words[..]);
    assert_eq!(silent.dropped(13, 5000), None);
    assert_eq!(silent.dropped(13, 7000), None, "nor two far apart");
    assert_eq!(silent.dropped(13, 7100), Some(12));
    assert_eq!(silent.dropped(0, 7100), Some(1));
}

/// After enough answers more are tried.
#[test]
fn more_are_tried() {
    let words = words();
    let silent = Silent::new(&words[..]);
    let tried = (0..12 * 16).map(|_| silent.answered(12)).collect::<Vec<_>>();
    assert_eq!(tried.iter().flatten().collect::<Vec<_>>(), [&13]);
    assert_eq!(tried.last(), Some(&Some(13)));
}

proptest! {
    /// Whatever was measured: no attempt is given up at once, nor is any waited for without end.
    #[test]
    fn patience_has_bounds(times in proptest::collection::vec(any::<u64>(), 0..50), before: u32) {
        let words = words();
        let silent = Silent::new(&words[..]);
        times.into_iter().for_each(|time| silent.connected(time, 1));
        let patience = silent.patience(before);
        prop_assert!((100..=(4 << 20) << 6).contains(&patience), "{patience}");
    }
}
