//! The queues of a table's writer: logs of entries in segments, and what was evicted lately.

use std::collections::VecDeque;

use super::pool::Pool;
use super::table::{Class, Place};
use crate::limits::STORE_SEGMENT_WORDS;

/// Segments beyond twice what lives in a queue, before what is dead in it is swept.
const DEAD_SEGMENTS_MAX: usize = 4;

/// One log of entries: appended at one end, taken at the other.
#[derive(Default)]
pub(super) struct Queue {
    /// Segments with the words used of each; the last is being filled.
    segments: VecDeque<(u32, u32)>,
    /// Words of the first that have been taken.
    taken: u32,
    /// Words of entries that live.
    pub(super) words: usize,
}

impl Queue {
    /// Whether `words` more need another segment.
    pub(super) fn needs_segment(&self, words: usize) -> bool {
        let room = |(_, used): &(u32, u32)| *used as usize + words <= STORE_SEGMENT_WORDS;
        !self.segments.back().is_some_and(room)
    }

    /// Room for an entry at the end.
    pub(super) fn append(&mut self, pool: &Pool, words: usize) -> Option<Place> {
        if self.needs_segment(words) {
            self.segments.push_back((pool.take()?, 0));
        }
        let (segment, used) = self.segments.back_mut()?;
        let place = Place { segment: *segment, offset: *used };
        *used += words as u32;
        self.words += words;
        Some(place)
    }

    /// The place of the oldest entry, living or dead, whose words `size` tells; it counts as taken.
    /// A segment comes free when an entry behind it is taken.
    pub(super) fn take(&mut self, pool: &Pool, size: impl Fn(Place) -> usize) -> Option<Place> {
        loop {
            let (segment, used) = *self.segments.front()?;
            if self.taken < used {
                let place = Place { segment, offset: self.taken };
                self.taken += size(place).max(1) as u32;
                return Some(place);
            }
            self.segments.pop_front();
            self.taken = 0;
            pool.give(segment);
        }
    }

    /// Whether so much of it is dead that it should be swept.
    pub(super) fn is_mostly_dead(&self) -> bool {
        let live = self.words.div_ceil(STORE_SEGMENT_WORDS);
        self.segments.len() > 2 * live + DEAD_SEGMENTS_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }
}

/// The queues of one class, and hashes of what left the small one unasked.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) small: Queue,
    pub(super) main: Queue,
    ghosts: Vec<u32>,
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

    /// Remembers what left; what has the same place among `most` is forgotten.
    pub(super) fn remember(&mut self, hash: u64, most: usize) {
        if self.ghosts.is_empty() {
            self.ghosts = vec![0; most.next_power_of_two()];
        }
        let mask = self.ghosts.len() - 1;
        self.ghosts[hash as usize & mask] = ghost(hash);
    }

    /// Whether it left lately; it is forgotten.
    pub(super) fn recall(&mut self, hash: u64) -> bool {
        let mask = self.ghosts.len().wrapping_sub(1);
        match self.ghosts.get_mut(hash as usize & mask) {
            Some(seen) if *seen == ghost(hash) => {
                *seen = 0;
                true
            }
            _ => false,
        }
    }
}

fn ghost(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// What only who holds the lock sees.
pub(super) struct Writer {
    pub(super) sequence: u64,
    pub(super) classes: [Queues; 2],
    /// Entries that the table is made for.
    pub(super) ghosts_max: usize,
}

impl Writer {
    pub(super) fn new(entries: usize) -> Self {
        Self { sequence: 0, classes: Default::default(), ghosts_max: entries }
    }

    pub(super) fn queues(&mut self, class: Class) -> &mut Queues {
        &mut self.classes[class as usize]
    }

    fn all(&self) -> impl Iterator<Item = &Queue> {
        self.classes.iter().flat_map(|class| [&class.small, &class.main])
    }

    /// The segments of all queues.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.all().flat_map(|queue| queue.segments.iter().map(|(segment, _)| *segment))
    }

    pub(super) fn segment_count(&self) -> usize {
        self.all().map(Queue::len).sum()
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
