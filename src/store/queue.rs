//! The queues of a table's writer: logs of entries in segments, and what was evicted lately.

use std::collections::VecDeque;

use super::pool::Pool;
use super::table::{Class, Place, scaled};
use crate::limits::STORE_SEGMENT_WORDS;

/// Segments beyond twice what lives in a queue, before what is dead in it is swept.
const DEAD_SEGMENTS_MAX: usize = 4;

/// A segment of a log.
#[derive(Clone, Copy)]
struct Filled {
    id: u32,
    /// Words used, of so many.
    used: u32,
    room: u32,
}

/// One log of entries: appended at one end, taken at the other.
#[derive(Default)]
pub(super) struct Queue {
    /// The last is being filled.
    segments: VecDeque<Filled>,
    /// Words of all of them.
    held_words: usize,
    /// Words of the first that have been taken.
    taken: u32,
    /// Words of entries that live.
    pub(super) words: usize,
}

impl Queue {
    /// Whether `words` more need another segment.
    pub(super) fn needs_segment(&self, words: usize) -> bool {
        let has_room = |last: &Filled| last.used as usize + words <= last.room as usize;
        !self.segments.back().is_some_and(has_room)
    }

    /// Room for an entry at the end.
    pub(super) fn append(&mut self, pool: &Pool, words: usize) -> Option<Place> {
        if self.needs_segment(words) {
            let (id, room) = pool.take(words)?;
            self.segments.push_back(Filled { id, used: 0, room: room as u32 });
            self.held_words += room;
        }
        let last = self.segments.back_mut()?;
        let place = Place { segment: last.id, offset: last.used };
        last.used += words as u32;
        self.words += words;
        Some(place)
    }

    /// The place of the oldest entry, living or dead, whose words `size` tells; it counts as taken.
    /// A segment comes free when an entry behind it is taken.
    pub(super) fn take(&mut self, pool: &Pool, size: impl Fn(Place) -> usize) -> Option<Place> {
        loop {
            let first = *self.segments.front()?;
            if self.taken < first.used {
                let place = Place { segment: first.id, offset: self.taken };
                self.taken += size(place).max(1) as u32;
                return Some(place);
            }
            self.segments.pop_front();
            self.held_words -= first.room as usize;
            self.taken = 0;
            pool.give(first.id);
        }
    }

    /// Whether so much of it is dead that it should be swept.
    pub(super) fn is_mostly_dead(&self) -> bool {
        self.held_words > 2 * self.words + DEAD_SEGMENTS_MAX * STORE_SEGMENT_WORDS
    }
}

/// The queues of one class, and hashes of what left the small one unasked.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) small: Queue,
    pub(super) main: Queue,
    ghosts: Vec<u16>,
}

impl Queues {
    pub(super) fn of(&mut self, main: bool) -> &mut Queue {
        if main { &mut self.main } else { &mut self.small }
    }

    /// Whether the small queue has its tenth, so that it loses the next entry.
    pub(super) fn small_is_full(&self) -> bool {
        10 * self.small.words >= self.small.words + self.main.words
    }

    pub(super) fn words(&self) -> usize {
        self.small.words + self.main.words
    }

    /// Whether it left lately; it is forgotten.
    pub(super) fn recall(&mut self, hash: u32, tag: u32) -> bool {
        let at = scaled(hash, self.ghosts.len());
        match self.ghosts.get_mut(at) {
            Some(seen) if *seen == ghost(tag) => {
                *seen = 0;
                true
            }
            _ => false,
        }
    }
}

fn ghost(tag: u32) -> u16 {
    tag as u16 | 1
}

/// What only who holds the lock sees.
pub(super) struct Writer {
    sequence: u32,
    pub(super) classes: [Queues; 2],
    /// Entries that the table is made for: so many are remembered.
    ghosts_max: usize,
}

impl Writer {
    pub(super) fn new(entries: usize) -> Self {
        Self { sequence: 0, classes: Default::default(), ghosts_max: entries }
    }

    pub(super) fn queues(&mut self, class: Class) -> &mut Queues {
        &mut self.classes[class as usize]
    }

    /// Remembers what left; what has the same place is forgotten.
    pub(super) fn remember(&mut self, pool: &Pool, class: Class, hash: u32, tag: u32) {
        let ghosts = &mut self.classes[class as usize].ghosts;
        if ghosts.is_empty() {
            *ghosts = vec![0; self.ghosts_max];
            pool.charge(self.ghosts_max * size_of::<u16>());
        }
        let at = scaled(hash, ghosts.len());
        ghosts[at] = ghost(tag);
    }

    /// Octets of what is remembered.
    pub(super) fn ghost_bytes(&self) -> usize {
        self.classes.iter().map(|class| class.ghosts.len() * size_of::<u16>()).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Queue> {
        self.classes.iter().flat_map(|class| [&class.small, &class.main])
    }

    /// The segments of all queues.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.all().flat_map(|queue| queue.segments.iter().map(|segment| segment.id))
    }

    /// Words of all segments.
    pub(super) fn held_words(&self) -> usize {
        self.all().map(|queue| queue.held_words).sum()
    }

    /// The first word of an entry that is written now: a sequence of its own, and half of its hash.
    pub(super) fn next_first(&mut self, hash: u32) -> u64 {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        u64::from(self.sequence) << 32 | u64::from(hash)
    }
}
