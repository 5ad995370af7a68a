//! The limit of a server's vars: what teaches it, and what does not.

use ngx_http_rs_uwsgi_module::pure::vars_limit::{
    Cut, Fault, Limit, Limits, Sent, BUFFER_SIZE, MAX_VARS,
};
use proptest::prelude::*;

fn sent(size: usize) -> Sent {
    Sent { size, vars: 20, has_body: false }
}

#[test]
fn whose_fault_it_is() {
    let new = Limit::default();
    let mut used = new;
    used.took(20_000);
    let (large, body) = (sent(5_000), Sent { has_body: true, ..sent(5_000) });
    let many = Sent { vars: MAX_VARS + 1, ..sent(2_000) };
    let upload = Sent { has_body: true, ..sent(500) };
    for (limit, sent, cut, fault) in [
        (new, sent(BUFFER_SIZE), Cut::Reset, Fault::Server),
        (new, sent(BUFFER_SIZE), Cut::Closed, Fault::Server),
        (new, sent(BUFFER_SIZE), Cut::Hidden, Fault::Server),
        (new, sent(BUFFER_SIZE + 1), Cut::Reset, Fault::TooLarge),
        (new, large, Cut::Reset, Fault::TooLarge),
        (new, large, Cut::Closed, Fault::Server),
        (new, large, Cut::Hidden, Fault::Request),
        (new, body, Cut::Reset, Fault::Request),
        (new, body, Cut::Closed, Fault::Server),
        (new, many, Cut::Closed, Fault::Request),
        (new, many, Cut::Reset, Fault::Request),
        (new, Sent { vars: MAX_VARS, ..many }, Cut::Closed, Fault::Server),
        (new, upload, Cut::Reset, Fault::Unclear),
        (new, upload, Cut::Closed, Fault::Server),
        (used, large, Cut::Reset, Fault::Unclear),
        (used, large, Cut::Hidden, Fault::Unclear),
        (used, body, Cut::Reset, Fault::Unclear),
        (used, large, Cut::Closed, Fault::Server),
        (used, Sent { size: 20_001, ..large }, Cut::Reset, Fault::TooLarge),
    ] {
        assert_eq!(limit.fault(&sent, cut, 0), fault, "{limit:?} {sent:?} {cut:?}");
    }
}

#[test]
fn a_reset_teaches_and_an_answer_unteaches() {
    let mut limit = Limit::default();
    limit.ended(&sent(9_000), Cut::Reset, 7);
    assert!(limit.refuses(9_000, 7) && limit.refuses(60_000, 8) && !limit.refuses(8_999, 7));
    limit.ended(&sent(5_000), Cut::Reset, 8);
    assert!(limit.refuses(5_000, 8) && !limit.refuses(BUFFER_SIZE, 8));
    limit.took(6_000);
    assert!(!limit.refuses(60_000, 8));
}

#[test]
fn what_does_not_teach() {
    let body = Sent { has_body: true, ..sent(5_000) };
    for (sent, cut) in [
        (sent(5_000), Cut::Closed),
        (sent(5_000), Cut::Hidden),
        (body, Cut::Reset),
        (sent(BUFFER_SIZE), Cut::Reset),
    ] {
        let mut limit = Limit::default();
        limit.ended(&sent, cut, 1);
        assert_eq!(limit, Limit::default(), "{sent:?} {cut:?}");
    }
}

#[test]
fn a_server_that_resets_small_requests_too_has_no_limit() {
    let mut limit = Limit::default();
    limit.ended(&sent(5_000), Cut::Reset, 1);
    limit.ended(&sent(500), Cut::Reset, 2);
    assert!(!limit.refuses(5_000, 2));
}

/// What lay in the listen queue of a server that was started anew.
#[test]
fn many_resets_at_once_are_one_restart() {
    let (mut limit, now) = (Limit::default(), usize::MAX - 500);
    limit.took(20_000);
    for after in 0..1000 {
        let now = now.wrapping_add(after);
        assert_eq!(limit.fault(&sent(5_000), Cut::Reset, now), Fault::Unclear, "{after}");
        limit.ended(&sent(5_000), Cut::Reset, now);
        assert!(!limit.refuses(60_000, now));
    }
    // the next one, later
    limit.took(5_000);
    let now = now.wrapping_add(5000);
    assert_eq!(limit.fault(&sent(5_000), Cut::Reset, now), Fault::Unclear);
}

/// A server that was started anew with a smaller limit.
#[test]
fn what_was_taken_is_forgotten_when_it_is_refused_for_long() {
    let (mut limit, now) = (Limit::default(), usize::MAX - 500);
    limit.took(20_000);
    limit.ended(&sent(5_000), Cut::Reset, now);
    assert!(!limit.refuses(5_000, now));
    let now = now.wrapping_add(1000);
    limit.ended(&sent(5_000), Cut::Reset, now);
    assert!(limit.refuses(5_000, now));
    assert_eq!(limit.fault(&sent(5_000), Cut::Reset, now), Fault::TooLarge);
}

/// One is let through after a second, two seconds, four … a minute.
#[test]
fn one_is_let_through_now_and_then() {
    let (mut limit, mut now) = (Limit::default(), usize::MAX - 500);
    limit.ended(&sent(5_000), Cut::Reset, now);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let pause = pause * 1000;
        assert!(limit.refuses(5_000, now.wrapping_add(pause - 1)), "{pause}");
        now = now.wrapping_add(pause);
        assert!(!limit.refuses(5_000, now));
        limit.begin(5_000, now);
        assert!(limit.refuses(5_000, now), "one, not all");
        limit.ended(&sent(5_000), Cut::Reset, now);
        // those that were under way
        limit.ended(&sent(5_000), Cut::Reset, now);
    }
}

#[test]
fn servers_are_known_apart_and_not_without_end() {
    let mut limits = Limits::default();
    for number in 0..100_u8 {
        limits.change(&[number], |limit| limit.ended(&sent(5_000), Cut::Reset, 0));
        assert!(limits.of(&[number]).refuses(5_000, 0));
    }
    assert!(!limits.of(&[0]).refuses(5_000, 0));
    assert!(!limits.of(b"other").refuses(5_000, 0));
    let known = (0..100_u8).filter(|number| limits.of(&[*number]) != Limit::default()).count();
    assert_eq!(known, 64);
}

proptest! {
    /// Behind a server with a limit, whatever clients send, nothing that it takes is refused: not even
    /// where applications crash, with a body or without.
    #[test]
    fn nothing_is_refused_that_the_server_takes(
        buffer in BUFFER_SIZE..40_000,
        requests in prop::collection::vec((1..66_000_usize, any::<bool>(), any::<bool>(), 0..3_000_usize), 1..60),
    ) {
        let (mut limit, mut now) = (Limit::default(), 0_usize);
        for (size, has_body, crashes, pause) in requests {
            now += pause;
            if limit.refuses(size, now) {
                prop_assert!(size > buffer, "{size} of {buffer}");
                continue;
            }
            limit.begin(size, now);
            let sent = Sent { size, vars: 20, has_body };
            match (size > buffer, crashes) {
                (true, _) => limit.ended(&sent, Cut::Reset, now),
                (false, true) if has_body => limit.ended(&sent, Cut::Reset, now),
                (false, true) => limit.ended(&sent, Cut::Closed, now),
                (false, false) => limit.took(size),
            }
        }
    }
}
