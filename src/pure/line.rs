//! The line of those who wait for one server in one worker: by priority, and in the order of arrival or
//! with the newest first. Generic over the request, with no nginx in sight.
//!
//! Lines of several workers are one by the [ranks](Place::rank) of their firsts, which the
//! [zone](crate::pure::zone) compares.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::zone::{Rank, LOWER_TURNS};

/// What `rs_uwsgi_queue … order=` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In the order of arrival, and the newest first while clients leave because they wait too long.
    Fair,
    /// In the order of arrival.
    Arrival,
    /// The newest first.
    Newest,
}

/// Who of a class is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Who came first.
    #[default]
    Oldest,
    /// Who came last.
    Newest,
}

/// The place of a request among those who wait: its class and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    class: u8,
    arrived_at: u64,
}

/// The priority of a request of which nothing is said.
pub const DEFAULT_PRIORITY: u8 = 5;
/// The highest.
pub const MOST_PRIORITY: u8 = 9;

/// The class of those that are before all others.
pub(super) const AHEAD: u8 = 0;

/// The bits of a rank that are a time; the others are the class.
const TIME_BITS: u32 = 60;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// The class that a rank is of: the lower, the earlier it is served.
pub fn class_of(rank: Rank) -> u8 {
    (rank.get() >> TIME_BITS) as u8
}

/// When the request of a rank came, in nanoseconds of CLOCK_MONOTONIC; None where the rank is that of a turn and
/// says no time.
pub fn arrived_at(rank: Rank) -> Option<u64> {
    match rank.get() & TIME {
        0 | 1 => None,
        time if time > TIME / 2 => Some(TIME - time),
        time => Some(time),
    }
}

impl Place {
    /// Of a request of this priority, 0 to 9, that came at this moment, in nanoseconds of
    /// CLOCK_MONOTONIC.
    pub fn new(priority: u8, arrived_at: NonZeroU64) -> Place {
        let class = MOST_PRIORITY + 1 - priority.min(MOST_PRIORITY);
        Place { class, arrived_at: arrived_at.get() & TIME }
    }

    /// Of one that is before all others, whatever the order.
    pub fn ahead(arrived_at: NonZeroU64) -> Place {
        Place { class: AHEAD, arrived_at: arrived_at.get() & TIME }
    }

    /// Where it is in the line of all workers: the lowest is the first. The highest bits are the class, the
    /// others a time that rises or falls. While workers do not agree on the direction, because it has just
    /// changed, the ranks of [`Direction::Oldest`] are the lower ones: 2⁵⁹ ns are 18 years.
    pub fn rank(self, direction: Direction) -> Rank {
        let time = match direction {
            _ if self.class == 0 => self.arrived_at,
            Direction::Oldest => self.arrived_at,
            Direction::Newest => TIME - self.arrived_at,
        };
        // 0 is no rank, and 1 is [`Rank::MIN`], which the zone uses
        Rank::new(u64::from(self.class) << TIME_BITS | time.max(2)).unwrap_or(Rank::MAX)
    }

    /// The priority's class, for [`Line::served`].
    pub fn class(self) -> u8 {
        self.class
    }
}

/// Those of one worker who wait for a server.
#[derive(Debug)]
pub struct Line<W> {
    /// The classes of which somebody waits, the first to be served first.
    classes: Vec<Class<W>>,
    direction: Direction,
    turns: u64,
}

/// Those of one priority.
#[derive(Debug)]
struct Class<W> {
    class: u8,
    /// When one of them was served last, or when the first of them came.
    since: u64,
    /// With the moments of their arrival, in this order. Who has left from the middle leaves a gap, so that the others
    /// need not move; at the ends there is none.
    waiting: VecDeque<(u64, Option<W>)>,
    /// How many are no gaps.
    count: usize,
}

impl<W> Class<W> {
    /// So many gaps may there be besides as many as wait.
    const GAPS: usize = 16;

    fn is_newest_first(&self, direction: Direction) -> bool {
        direction == Direction::Newest && self.class > 0
    }

    fn end(&self, direction: Direction) -> Option<(u64, &W)> {
        let end = match self.is_newest_first(direction) {
            true => self.waiting.back(),
            false => self.waiting.front(),
        };
        end.and_then(|(arrived_at, waiting)| Some((*arrived_at, waiting.as_ref()?)))
    }

    fn take_end(&mut self, direction: Direction) -> Option<(u64, W)> {
        let (arrived_at, waiting) = match self.is_newest_first(direction) {
            true => self.waiting.pop_back(),
            false => self.waiting.pop_front(),
        }?;
        self.count -= 1;
        self.close_gaps();
        Some((arrived_at, waiting?))
    }

    fn push(&mut self, arrived_at: u64, waiting: W) {
        let at = match self.waiting.back() {
            Some((last, _)) if *last > arrived_at => {
                self.waiting.partition_point(|(other, _)| *other < arrived_at)
            }
            _ => self.waiting.len(),
        };
        self.waiting.insert(at, (arrived_at, Some(waiting)));
        self.count += 1;
    }

    fn remove(&mut self, arrived_at: u64, is: impl Fn(&W) -> bool) -> Option<W> {
        let first = self.waiting.partition_point(|(other, _)| *other < arrived_at);
        let came_then = self.waiting.range_mut(first..);
        let (_, place) = came_then
            .take_while(|(other, _)| *other == arrived_at)
            .find(|(_, waiting)| waiting.as_ref().is_some_and(&is))?;
        let removed = place.take();
        self.count -= 1;
        self.close_gaps();
        removed
    }

    /// No gap stays at an end, nor too many elsewhere.
    fn close_gaps(&mut self) {
        while self.waiting.front().is_some_and(|(_, waiting)| waiting.is_none()) {
            self.waiting.pop_front();
        }
        while self.waiting.back().is_some_and(|(_, waiting)| waiting.is_none()) {
            self.waiting.pop_back();
        }
        if self.waiting.len() > 2 * self.count + Self::GAPS {
            self.waiting.retain(|(_, waiting)| waiting.is_some());
        }
    }
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Line { classes: Vec::new(), direction: Direction::Oldest, turns: 0 }
    }
}

impl<W> Line<W> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.count).sum()
    }

    /// How many would be before one of this place, if all were served in the order of arrival.
    pub fn before(&self, place: Place) -> usize {
        let before = self.classes.iter().filter(|class| class.class <= place.class);
        before.map(|class| class.count).sum()
    }

    /// Does nobody wait?
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The direction in which it is served.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Serves it in this direction from now on. Was it another one?
    pub fn turn(&mut self, direction: Direction) -> bool {
        std::mem::replace(&mut self.direction, direction) != direction
    }

    /// A request begins to wait, or is back.
    pub fn push(&mut self, place: Place, waiting: W) {
        let Place { class, arrived_at } = place;
        let at = self.classes.partition_point(|other| other.class < class);
        if self.classes.get(at).is_none_or(|other| other.class != class) {
            let waiting = VecDeque::new();
            self.classes.insert(at, Class { class, since: arrived_at, waiting, count: 0 });
        }
        if let Some(class) = self.classes.get_mut(at) {
            class.push(arrived_at, waiting);
        }
    }

    /// The first, and its place.
    pub fn first(&self) -> Option<(Place, &W)> {
        let class = self.classes.first()?;
        let (arrived_at, waiting) = class.end(self.direction)?;
        Some((Place { class: class.class, arrived_at }, waiting))
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<(Place, W)> {
        self.take(0)
    }

    /// The class that has been served the longest time ago, for [`crate::pure::zone::Worker::set_lower`]:
    /// when that was, and the class. 0 where nobody waits.
    pub fn lower(&self) -> u64 {
        let longest = self.classes.iter().map(|class| class.since << 4 | u64::from(class.class));
        longest.min().unwrap_or(0)
    }

    /// Takes the first of that class out.
    pub fn pop_lower(&mut self) -> Option<(Place, W)> {
        let lower = self.lower() & 0xf;
        let at = self.classes.iter().position(|class| u64::from(class.class) == lower)?;
        self.take(at)
    }

    /// Does the next turn go to that class, as far as this worker's turns are all? Not before one that has its place
    /// already ([`Place::ahead`]).
    pub fn is_lower_turn(&self) -> bool {
        self.turns % LOWER_TURNS == LOWER_TURNS - 1
            && self.classes.first().is_some_and(|class| class.class != AHEAD)
    }

    /// One of this class has been served, at this moment.
    pub fn served(&mut self, class: u8, now: NonZeroU64) {
        self.turns += 1;
        if let Some(class) = self.classes.iter_mut().find(|other| other.class == class) {
            class.since = now.get() & TIME;
        }
    }

    /// Takes the one out that came at this moment, and `is` looked for: others may have come at the same.
    pub fn remove(
        &mut self,
        arrived_at: NonZeroU64,
        is: impl Fn(&W) -> bool,
    ) -> Option<(Place, W)> {
        let arrived_at = arrived_at.get() & TIME;
        let mut classes = self.classes.iter_mut().enumerate();
        let (at, removed) =
            classes.find_map(|(at, class)| Some((at, class.remove(arrived_at, &is)?)))?;
        self.taken(at, Some((arrived_at, removed)))
    }

    fn take(&mut self, at: usize) -> Option<(Place, W)> {
        let direction = self.direction;
        let taken = self.classes.get_mut(at)?.take_end(direction);
        self.taken(at, taken)
    }

    fn taken(&mut self, at: usize, taken: Option<(u64, W)>) -> Option<(Place, W)> {
        let class = self.classes.get(at)?;
        let place = |arrived_at| Place { class: class.class, arrived_at };
        let taken = taken.map(|(arrived_at, waiting)| (place(arrived_at), waiting));
        if class.count == 0 {
            self.classes.remove(at);
        }
        taken
    }
}
