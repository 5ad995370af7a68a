//! The queues before servers against a list of all that happened, and the backoff.

use ngx_http_rs_uwsgi_module::pure::queue::{Backoff, ServerQueues, Turn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::queue::{arrival, check_pause, place, Both, Step, KEYS};

fn step() -> impl Strategy<Value = Step> {
    let key = || select(KEYS.to_vec());
    prop_oneof![
        5 => key().prop_map(Step::Push),
        3 => (key(), any::<bool>()).prop_map(|(key, back)| Step::Turn(key, back)),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => key().prop_map(Step::Begin),
        2 => key().prop_map(Step::End),
        2 => (key(), 0..9_usize).prop_map(|(key, later)| Step::Refused(key, later)),
        1 => key().prop_map(Step::Reached),
    ]
}

proptest! {
    #[test]
    fn everyone_is_served_in_the_order_of_arrival(steps in vec(step(), 0..80)) {
        let mut both = Both::default();
        steps.iter().for_each(|step| both.run(step));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew(progress in vec(any::<bool>(), 0..40)) {
        let mut backoff = Backoff::default();
        let mut last = 0;
        for progress in progress {
            last = check_pause(&mut backoff, last, progress);
        }
    }
}

#[test]
fn refusals_are_remembered_while_somebody_waits() {
    let mut lines = ServerQueues::default();
    // nobody knows of it
    assert_eq!(lines.refused(b"a", 5), 5);
    lines.push(b"a", place(1), 1);
    assert_eq!(lines.refused(b"a", 7), 7);
    assert_eq!(lines.refused(b"a", 9), 7);
    let (place, first) = lines.pop(b"a", Turn::First).unwrap();
    assert_eq!(lines.refused(b"a", 10), 7, "the one whose turn it is still waits");
    lines.push(b"a", place, first);
    lines.reached(b"a");
    assert_eq!(lines.refused(b"a", 11), 11);
    assert_eq!(lines.remove(b"a", arrival(1), |_| true), Some(1));
    assert_eq!(lines.refused(b"a", 20), 20);
    assert_eq!(lines.refused(b"a", 21), 21);
}
