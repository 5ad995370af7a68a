//! What is known of servers, found by their keys: the bytes that tell one server from the others
//! ([`crate::pure::pool`]). Finding one costs the same with one key and with thousands.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// Values by key. Each has a place, a small number, until it is removed.
#[derive(Debug)]
pub struct Keys<T> {
    entries: Vec<Option<(Rc<[u8]>, T)>>,
    /// Places without an entry.
    free: Vec<usize>,
    /// Places by key, where there are more than [`FEW`]. Clients may choose keys, by variables in an
    /// address or in a name for TLS: std's hash is made for that.
    places: HashMap<Rc<[u8]>, usize>,
    /// The place that was found last.
    last: Cell<usize>,
    /// How many have been removed.
    removed: u32,
}

/// Where the entry of a key is, as long as none is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: u32,
    removed: u32,
}

/// So many are looked through one by one: the hash costs more, some 150 instructions.
const FEW: usize = 8;

impl<T> Default for Keys<T> {
    fn default() -> Self {
        Keys {
            entries: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            last: Cell::default(),
            removed: 0,
        }
    }
}

impl<T> Keys<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of a key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let last = self.last.get();
        match self.is_at(last, key) {
            true => Some(last),
            false => self.look_up(key),
        }
    }

    /// The place of a key, and its value.
    #[inline(always)]
    pub fn find_mut(&mut self, key: &[u8]) -> Option<(usize, &mut T)> {
        let last = self.last.get();
        // apart, so that it is not looked at twice whether there is something
        if self.is_at(last, key) {
            return self.get_mut(last).map(|value| (last, value));
        }
        if self.entries.is_empty() {
            return None;
        }
        let place = self.look_up(key)?;
        self.get_mut(place).map(|value| (place, value))
    }

    /// What [`Self::find_placed`] finds this place again by.
    #[inline]
    pub fn place(&self, place: usize) -> Place {
        Place { at: place as u32, removed: self.removed }
    }

    /// A place that had the entry of a key, and its value, where it has them still: without a look at the key.
    #[inline(always)]
    pub fn find_placed(&mut self, place: Place) -> Option<(usize, &mut T)> {
        let (at, is_current) = (place.at as usize, place.removed == self.removed);
        is_current.then(|| self.get_mut(at)).flatten().map(|value| (at, value))
    }

    #[inline(always)]
    fn is_at(&self, place: usize, key: &[u8]) -> bool {
        matches!(self.entries.get(place), Some(Some((of, _))) if **of == *key)
    }

    /// The place of a key that was not the last to be found.
    #[inline(never)]
    fn look_up(&self, key: &[u8]) -> Option<usize> {
        let found = match self.entries.len() <= FEW {
            true => (0..self.entries.len()).find(|place| self.is_at(*place, key)),
            false => self.places.get(key).copied(),
        }?;
        self.last.set(found);
        Some(found)
    }

    /// The key of a place.
    pub fn key(&self, place: usize) -> Option<&Rc<[u8]>> {
        self.entries.get(place)?.as_ref().map(|(key, _)| key)
    }

    /// What is in a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.entries.get(place)?.as_ref().map(|(_, value)| value)
    }

    /// What is in a place.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.entries.get_mut(place)?.as_mut().map(|(_, value)| value)
    }

    /// Adds a key, which must not be there. Returns its place.
    pub fn insert(&mut self, key: &[u8], value: T) -> usize {
        let key: Rc<[u8]> = key.into();
        let place = self.free.pop().unwrap_or(self.entries.len());
        if self.entries.len() == FEW && place == FEW {
            let known = self.entries.iter().flatten().map(|(key, _)| key.clone());
            self.places = known.zip(0..).collect();
        }
        if place >= FEW || self.entries.len() > FEW {
            self.places.insert(key.clone(), place);
        }
        match self.entries.get_mut(place) {
            Some(entry) => *entry = Some((key, value)),
            None => self.entries.push(Some((key, value))),
        }
        place
    }

    /// Removes what is in a place.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let (key, value) = self.entries.get_mut(place)?.take()?;
        self.removed = self.removed.wrapping_add(1);
        self.free.push(place);
        self.places.remove(&key);
        Some(value)
    }

    /// Removes all that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for place in 0..self.entries.len() {
            if self.get(place).is_some_and(|value| !keep(value)) {
                self.remove(place);
            }
        }
    }

    /// All keys and values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Rc<[u8]>, &T)> {
        self.entries.iter().flatten().map(|(key, value)| (key, value))
    }

    /// All values, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten().map(|(_, value)| value)
    }
}
