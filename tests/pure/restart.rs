//! How often a request is sent again to a server that restarts.

use ngx_http_rs_uwsgi_module::pure::restart::Bridged;
use ngx_http_rs_uwsgi_module::pure::vars_limit::{Cut, BUFFER_SIZE};

/// How many of these ends a request of so many bytes, with a body or not, outlives.
fn outlived(ends: &[Cut], size: usize, has_body: bool) -> usize {
    let mut bridged = Bridged::default();
    let may_follow = |end: &&Cut| {
        let may_follow = bridged.may_follow(**end, size, has_body);
        bridged = bridged.with(**end);
        may_follow
    };
    ends.iter().take_while(may_follow).count()
}

#[test]
fn a_server_may_be_dying_of_what_it_has_read() {
    for end in [Cut::Closed, Cut::Hidden] {
        assert_eq!(outlived(&[end; 9], 100, false), 1);
        assert_eq!(outlived(&[Cut::Reset, end, Cut::Reset, end], 100, false), 3);
    }
    assert_eq!(outlived(&[Cut::Closed, Cut::Hidden], 100, false), 1);
}

#[test]
fn processes_may_end_one_after_the_other() {
    assert_eq!(outlived(&[Cut::Reset; 9], BUFFER_SIZE, false), 4);
    assert_eq!(outlived(&[Cut::Reset; 9], BUFFER_SIZE + 1, false), 1);
    assert_eq!(outlived(&[Cut::Reset; 9], 100, true), 1);
}
