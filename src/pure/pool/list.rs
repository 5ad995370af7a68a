//! Lists of numbers whose links are in a table, by number: what comes and goes does so at either end or in the
//! middle without a look at the others.
#![forbid(unsafe_code)]

/// A list: its two ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// The member that came first.
    pub oldest: Option<u32>,
    /// The member that came last.
    pub newest: Option<u32>,
}

/// The neighbours of members. A number may be in one list of those that share a table.
#[derive(Debug, Default)]
pub struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    older: Option<u32>,
    newer: Option<u32>,
}

impl Links {
    /// The member that came before this one.
    #[inline]
    pub fn older(&self, number: u32) -> Option<u32> {
        self.0.get(number as usize)?.older
    }

    fn get_mut(&mut self, number: Option<u32>) -> Option<&mut Link> {
        self.0.get_mut(number? as usize)
    }

    /// Adds a number that is in no list.
    #[inline]
    pub fn push(&mut self, list: &mut Ends, number: u32) {
        if number as usize >= self.0.len() {
            self.0.resize(number as usize + 1, Link::default());
        }
        match self.get_mut(list.newest) {
            Some(newest) => newest.newer = Some(number),
            None => list.oldest = Some(number),
        }
        if let Some(link) = self.get_mut(Some(number)) {
            *link = Link { older: list.newest, newer: None };
        }
        list.newest = Some(number);
    }

    /// Takes a number out of the list that it is in.
    #[inline]
    pub fn remove(&mut self, list: &mut Ends, number: u32) {
        let Some(link) = self.0.get(number as usize).copied() else { return };
        match self.get_mut(link.older) {
            Some(older) => older.newer = link.newer,
            None => list.oldest = link.newer,
        }
        match self.get_mut(link.newer) {
            Some(newer) => newer.older = link.older,
            None => list.newest = link.older,
        }
    }
}
