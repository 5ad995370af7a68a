//! Lists of numbers whose links are in a table, by number: what comes and goes does so at either end or in the
//! middle without a look at the others.
#![forbid(unsafe_code)]

use std::num::NonZeroU32;

/// A number of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(NonZeroU32);

impl Number {
    /// None for the largest there is.
    #[inline]
    pub fn new(number: u32) -> Option<Number> {
        NonZeroU32::new(number.wrapping_add(1)).map(Number)
    }

    /// The number.
    #[inline]
    pub fn get(self) -> u32 {
        self.0.get() - 1
    }

    /// Its place in the table.
    #[inline]
    pub fn place(self) -> usize {
        self.get() as usize
    }
}

/// A list: its two ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// The member that came first.
    pub oldest: Option<Number>,
    /// The member that came last.
    pub newest: Option<Number>,
}

/// The neighbours of a member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// The member that came before it.
    pub older: Option<Number>,
    newer: Option<Number>,
}

/// A list's way to the link of a member.
pub type LinkOf<T> = fn(&mut T) -> &mut Link;

/// Adds a number of the table that is in no list with these links.
#[inline(always)]
pub fn push<T>(table: &mut [T], list: &mut Ends, number: Number, link_of: LinkOf<T>) {
    let newest = list.newest;
    match newest.and_then(|newest| table.get_mut(newest.place())) {
        Some(newest) => link_of(newest).newer = Some(number),
        None => list.oldest = Some(number),
    }
    if let Some(member) = table.get_mut(number.place()) {
        *link_of(member) = Link { older: newest, newer: None };
    }
    list.newest = Some(number);
}

/// Takes out the member that had this link.
#[inline(always)]
pub fn remove<T>(table: &mut [T], list: &mut Ends, link: Link, link_of: LinkOf<T>) {
    match link.older.and_then(|older| table.get_mut(older.place())) {
        Some(older) => link_of(older).newer = link.newer,
        None => list.oldest = link.newer,
    }
    match link.newer.and_then(|newer| table.get_mut(newer.place())) {
        Some(newer) => link_of(newer).older = link.older,
        None => list.newest = link.older,
    }
}
