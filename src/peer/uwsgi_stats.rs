//! `rs_uwsgi_stats`: what uWSGI's stats server says of the servers of an upstream. Nobody waits for it: who looks
//! gets the last answer, and the next one is asked for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::module::{Servers, Uwsgi};
use crate::nginx::fetch::{Limits, Target};
use crate::nginx::{self, Request};
use crate::pure::uwsgi_stats::{parse, Known, Stats};

/// uWSGI needs some milliseconds for an answer of some kilobytes. One with the vars of many requests in it is
/// longer; reading more would keep the worker from others.
const LIMITS: Limits = Limits { most: 1024 * 1024, time: 1000, patience: 100 };
/// How old an answer may be before it is asked for again, in milliseconds.
const FRESH: usize = 500;
/// How old an answer may be to be shown: after that it is no state of now. In milliseconds.
const OLD: usize = 10_000;

/// The last answer, in one worker.
#[derive(Default)]
pub struct LastAnswer {
    is_asked: Cell<bool>,
    /// When it came, and what it was.
    answer: RefCell<Option<(usize, Result<Stats, String>)>>,
}

/// What is known of the stats server of an upstream's servers, if one is configured. Asks again.
pub fn look(r: Request<'_>, servers: &Servers) -> Option<Known> {
    let number = servers.settings.stats.value().flatten()?;
    let target = Target::find::<Uwsgi>(r, number)?;
    let last = &servers.stats;
    let age = last.age();
    if age.is_none_or(|age| age >= FRESH) && !last.is_asked.replace(true) {
        let last = Rc::clone(last);
        target.fetch(
            LIMITS,
            Box::new(move |read| {
                let answer = read
                    .map_err(|failure| failure.to_string())
                    .and_then(|bytes| parse(&bytes).map_err(|fault| fault.to_string()));
                last.answer.replace(Some((nginx::now(), answer)));
                last.is_asked.set(false);
            }),
        );
    }
    let age = last.age().filter(|age| *age < OLD);
    let answer =
        last.answer.borrow().as_ref().filter(|_| age.is_some()).map(|(_, answer)| answer.clone());
    Some(Known { address: target.name.clone(), age: age.map(|age| age as u64), answer })
}

impl LastAnswer {
    fn age(&self) -> Option<usize> {
        self.answer.borrow().as_ref().map(|(at, _)| nginx::now().wrapping_sub(*at))
    }
}
