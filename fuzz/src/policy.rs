//! The verdict on a connection against the rules for reused connections.

use ngx_http_rs_uwsgi_module::pure::pool::policy::{
    verdict, Facts, LastUse, Limits, Refusal, Reuse, FRESH, SMALL_BODY,
};
use ngx_http_rs_uwsgi_module::pure::uwsgi::framing::{End, Said};

use super::Input;

/// The facts of one connection, then how one was left.
pub fn fuzz(input: &[u8]) {
    const REUSE: [Reuse; 4] = [Reuse::Auto, Reuse::On, Reuse::Off, Reuse::Puwsgi];
    const END: [End; 5] = [End::Clean, End::Open, End::Surplus, End::ByClose, End::Uncertain];
    let mut input = Input(input);
    let flags = input.byte();
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let facts = Facts {
        reuse: input.one_of(&REUSE),
        limits: Limits {
            idle: usize::from(!flag(7)),
            requests: input.number() as usize,
            age: input.number() as usize,
        },
        shared: flag(0),
        exiting: !flag(1),
        failed: !flag(2),
        request_written: flag(3),
        length_is_ours: flag(4),
        head: !flag(5),
        status: flag(6).then(|| input.number() as u16),
        said: input.one_of(&[Said::Nothing, Said::KeepAlive, Said::Close]),
        end: input.one_of(&END),
        requests: input.number() as usize,
        age: input.number() as usize,
    };
    let against = ORDER.into_iter().find(|refusal| holds(*refusal, &facts));
    assert_eq!(verdict(&facts).err(), against, "{facts:?}");

    let left = LastUse { started_at: input.number() as usize, body: input.number(), since: None };
    let now = input.number() as usize;
    // the clock may have gone round between the two
    let round = if now < left.started_at { 1_i128 << usize::BITS } else { 0 };
    let idle = now as i128 - left.started_at as i128 + round;
    let is_fresh = idle <= FRESH as i128 && left.body <= SMALL_BODY;
    assert_eq!(left.is_fresh(now), is_fresh, "{left:?} at {now}");
}

/// Every reason, in the order in which they are looked for: of several the first is named. What the
/// configuration and the worker say comes first, then the request, the response, and the limits.
pub const ORDER: [Refusal; 17] = [
    Refusal::Off,
    Refusal::NotShared,
    Refusal::Exiting,
    Refusal::Failed,
    Refusal::RequestNotWritten,
    Refusal::LengthNotOurs,
    Refusal::Head,
    Refusal::NoResponse,
    Refusal::NotFinal,
    Refusal::SaidClose,
    Refusal::DidNotSayKeepAlive,
    Refusal::EndsByClose,
    Refusal::UncertainEnd,
    Refusal::NotEnded,
    Refusal::Surplus,
    Refusal::TooManyRequests,
    Refusal::TooOld,
];

/// Does this reason hold? Each on its own, whatever the others say.
pub fn holds(refusal: Refusal, facts: &Facts) -> bool {
    match refusal {
        // the operator wants no reuse, or has no place for an idle connection
        Refusal::Off => matches!((facts.reuse, facts.limits.idle), (Reuse::Off, _) | (_, 0)),
        // its own address was chosen for one request: no other may have it
        Refusal::NotShared => !facts.shared,
        // the vars and exactly CONTENT_LENGTH bytes were written, the length by the module, once
        Refusal::RequestNotWritten => !facts.request_written,
        Refusal::LengthNotOurs => !facts.length_is_ours,
        // the response ended by its own framing, and not one byte came after it
        Refusal::NoResponse => facts.status.is_none(),
        Refusal::EndsByClose => matches!(facts.end, End::ByClose),
        Refusal::UncertainEnd => matches!(facts.end, End::Uncertain),
        Refusal::NotEnded => matches!(facts.end, End::Open),
        Refusal::Surplus => matches!(facts.end, End::Surplus),
        // it said keep-alive, or the operator vouches for the server; not close; it was a final one, not 101
        Refusal::DidNotSayKeepAlive => match (facts.reuse, facts.said) {
            (Reuse::On | Reuse::Puwsgi, _) | (_, Said::KeepAlive) => false,
            // what said close did not say keep-alive; what is off asks nobody
            (Reuse::Auto | Reuse::Off, Said::Nothing | Said::Close) => true,
        },
        Refusal::SaidClose => matches!(facts.said, Said::Close),
        Refusal::NotFinal => facts.status.is_some_and(|status| status < 200),
        // it was not a HEAD request
        Refusal::Head => facts.head,
        // nothing failed; not too old, not too many requests; the worker is not exiting. As in
        // nginx's upstream keepalive the last request allowed closes, and the age may be reached.
        Refusal::Failed => facts.failed,
        Refusal::Exiting => facts.exiting,
        Refusal::TooManyRequests => facts.requests >= facts.limits.requests,
        Refusal::TooOld => facts.limits.age < facts.age,
        // not of these facts: of who else waits
        Refusal::PlaceNeeded => false,
    }
}
