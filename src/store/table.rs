//! One table: from the hash of a key to its entry, read without a lock.
//!
//! Slots lie in buckets of a cache line: seven slots, and a count of those that found no place here
//! and went to their second bucket. A look-up without such strays reads one line.
//!
//! A slot is one word: where the entry lies, whether it was asked for since it was put there, its
//! class, what in the key is no part of the hash, and some bits of the hash. An entry's first word
//! changes with everything else of it. Who has copied an entry and then finds slot and first word as
//! they were has copied one whole entry: its place is written again only after its slot has changed,
//! and in place only after its first word has.

#[allow(clippy::disallowed_types, reason = "taken by who puts an entry in, never by a reader")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::pool::{Pool, zeros};
use super::queue::Writer;
use crate::limits::{STORE_ENTRY_BYTES_MIN, STORE_SEGMENT_WORDS};

/// Words of an entry before its message: sequence, hash, sizes, time stored, life and note.
pub(super) const HEADER_WORDS: usize = 5;
/// Words of a bucket: the count of strays, and the slots.
pub(super) const BUCKET_WORDS: usize = 8;
/// Marks that a caller may keep of a slot.
const MARKS: usize = 2;

/// Two kinds of entries, each with its bound and its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What exists.
    Success,
    /// What does not.
    Denial,
}

/// A slot's word: 14 bits of offset, 24 of segment, visited, class, main, 4 bits of the key, 19 of
/// the hash. Zero: empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u64);

impl Slot {
    pub(super) const EMPTY: Self = Self(0);
    const VISITED: u64 = 1 << 38;
    const DENIAL: u64 = 1 << 39;
    const MAIN: u64 = 1 << 40;
    const KEY_AT: u32 = 41;
    const TAG_AT: u32 = 45;
    /// What tells an entry from another of the same table but its place.
    const NAMED: u64 = !0 << Self::KEY_AT | Self::DENIAL;

    pub(super) fn new(hash: u64, class: Class, bits: u8) -> Self {
        let denial = if class == Class::Denial { Self::DENIAL } else { 0 };
        Self(hash >> 45 << Self::TAG_AT | u64::from(bits & 15) << Self::KEY_AT | denial)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn at(self, place: Place, main: bool) -> Self {
        let main = if main { Self::MAIN } else { 0 };
        let place = u64::from(place.segment) << 14 | u64::from(place.offset);
        Self(self.0 & Self::NAMED | place | main)
    }

    pub(super) fn place(self) -> Place {
        Place { segment: (self.0 >> 14) as u32 & 0xff_ffff, offset: self.0 as u32 & 0x3fff }
    }

    /// As it was asked for, or not, in the place of `other`.
    pub(super) fn visited_as(self, other: Self) -> Self {
        Self(self.0 | other.0 & Self::VISITED)
    }

    pub(super) fn is_same_name(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::NAMED == 0
    }

    pub(super) fn is_visited(self) -> bool {
        self.0 & Self::VISITED != 0
    }

    pub(super) fn is_main(self) -> bool {
        self.0 & Self::MAIN != 0
    }

    pub(super) fn class(self) -> Class {
        if self.0 & Self::DENIAL != 0 { Class::Denial } else { Class::Success }
    }

    fn unvisited(self) -> u64 {
        self.0 & !Self::VISITED
    }
}

const _: () = assert!(STORE_SEGMENT_WORDS <= 1 << 14);

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// What a table is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Entries of each class, success first.
    pub entries_max: [usize; 2],
    /// Nanoseconds for which an entry is still of use after its life.
    pub stale_nanos: u64,
    /// Whether the caller keeps marks of its slots.
    pub marks: bool,
}

/// The life of an entry, and what the caller noted with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was stored, monotonic nanoseconds.
    pub stored: u64,
    /// Seconds of life from then.
    pub ttl: u32,
    /// The caller's note.
    pub note: u32,
}

impl Life {
    /// Seconds left at `now`, counted as CoreDNS does: whole seconds gone. Not above 0: expired.
    pub fn left(&self, now: u64) -> i64 {
        i64::from(self.ttl) - (now.saturating_sub(self.stored) / 1_000_000_000) as i64
    }
}

/// A slot that may hold what is looked for.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// Number of the slot.
    pub slot: u32,
    word: Slot,
}

impl Candidate {
    /// The entry's class.
    pub fn class(self) -> Class {
        self.word.class()
    }

    /// The four bits of the key that are no part of the hash.
    pub fn bits(self) -> u8 {
        (self.word.0 >> Slot::KEY_AT) as u8 & 15
    }
}

/// How reading an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is another by now, or a name of the same hash: look again.
    Gone,
    /// The buffer has no room for so many octets.
    TooLong(usize),
    /// Octets of the message, and of its tail behind it.
    Found(usize, usize),
}

/// A table of entries.
pub struct Table {
    pub(super) pool: Arc<Pool>,
    pub(super) slots: Box<[AtomicU64]>,
    marks: Box<[AtomicU64]>,
    pub(super) entries: [AtomicUsize; 2],
    pub(super) evicted: [AtomicU64; 2],
    pub(super) segments: AtomicUsize,
    pub(super) wanted: Wanted,
    writer: Locked,
}

#[allow(clippy::disallowed_types, reason = "see above")]
type Locked = Mutex<Writer>;

impl Table {
    /// An empty table of the pool.
    pub fn new(pool: &Arc<Pool>, wanted: Wanted) -> Arc<Self> {
        // What the budget has no room for needs no slot either.
        let most = pool.limit() / STORE_ENTRY_BYTES_MIN;
        let entries = wanted.entries_max.iter().sum::<usize>().min(most).max(BUCKET_WORDS);
        // Buckets that are full to five of seven send few entries to their second one.
        let buckets = (entries / 5).next_power_of_two().max(2);
        let slots = zeros(buckets * BUCKET_WORDS);
        let marks = zeros(if wanted.marks { slots.len() * MARKS } else { 0 });
        let bytes = (slots.len() + marks.len()) * 8;
        let table = Arc::new(Self {
            pool: Arc::clone(pool),
            slots,
            marks,
            entries: [AtomicUsize::new(0), AtomicUsize::new(0)],
            evicted: [AtomicU64::new(0), AtomicU64::new(0)],
            segments: AtomicUsize::new(0),
            wanted,
            writer: Locked::new(Writer::new(entries)),
        });
        pool.enter(&table, bytes);
        table
    }

    /// Entries of a class, expired ones among them.
    pub fn entries(&self, class: Class) -> usize {
        self.entries[class as usize].load(Relaxed)
    }

    /// Entries that were evicted since the last call.
    pub fn take_evicted(&self, class: Class) -> u64 {
        let cell = &self.evicted[class as usize];
        if cell.load(Relaxed) == 0 { 0 } else { cell.swap(0, Relaxed) }
    }

    /// Segments that the table holds.
    pub fn segments(&self) -> usize {
        self.segments.load(Relaxed)
    }

    /// The caller's mark `which` (0 or 1) of a slot; none where no marks were wanted. Zero for an
    /// entry of another name than the slot had before.
    pub fn mark(&self, slot: u32, which: usize) -> Option<&AtomicU64> {
        self.marks.get(slot as usize * MARKS + which)
    }

    /// The buckets that an entry of this hash may be in: first words.
    #[inline]
    pub(super) fn buckets(&self, hash: u64) -> [usize; 2] {
        let mask = self.slots.len() / BUCKET_WORDS - 1;
        let first = hash as usize & mask;
        let second = (first ^ (((hash >> 45) as usize).wrapping_mul(0x5bd1_e995) | 1)) & mask;
        [first * BUCKET_WORDS, second * BUCKET_WORDS]
    }

    /// Calls `each` with every slot whose entry may have this hash.
    #[inline]
    pub fn find(&self, hash: u64, mut each: impl FnMut(Candidate)) {
        let tag = Slot::new(hash, Class::Success, 0).0 >> Slot::TAG_AT;
        let [first, second] = self.buckets(hash);
        let mut look = |bucket: usize| {
            let line = &self.slots[bucket..bucket + BUCKET_WORDS];
            for (n, slot) in line.iter().enumerate().skip(1) {
                let word = Slot(slot.load(Acquire));
                if word.0 >> Slot::TAG_AT == tag && !word.is_empty() {
                    each(Candidate { slot: (bucket + n) as u32, word });
                }
            }
            line[0].load(Relaxed) != 0
        };
        if look(first) && first != second {
            look(second);
        }
    }

    /// The entry's words from its first, and its sequence; none while it is being written.
    #[inline]
    fn entry(&self, candidate: Candidate, hash: u64) -> Option<(&[AtomicU64], u64)> {
        let place = candidate.word.place();
        let entry = self.pool.segment(place.segment)?.get(place.offset as usize..)?;
        let sequence = entry.first()?.load(Acquire);
        let same = entry.len() > HEADER_WORDS && entry[1].load(Relaxed) == hash;
        (sequence != 0 && same).then_some((entry, sequence))
    }

    /// Whether everything that was read of an entry since its sequence was, belongs together.
    #[inline]
    fn confirm(&self, candidate: Candidate, entry: &[AtomicU64], sequence: u64) -> bool {
        // Pairs with the writer's release fences: who has read a word that was written later sees
        // what was changed before it.
        fence(Acquire);
        let slot = Slot(self.slots[candidate.slot as usize].load(Relaxed));
        entry[0].load(Relaxed) == sequence && slot.unvisited() == candidate.word.unvisited()
    }

    /// The life of a candidate's entry.
    #[inline]
    pub fn life(&self, candidate: Candidate, hash: u64) -> Option<Life> {
        let (entry, sequence) = self.entry(candidate, hash)?;
        let life = life_of(entry);
        self.confirm(candidate, entry, sequence).then_some(life)
    }

    /// Copies a candidate's message and its tail to `out`, every TTL of it as `ttl` makes it of the
    /// entry's life. `is_same` decides on that copy whether it is what is looked for.
    #[inline]
    pub fn read(
        &self,
        candidate: Candidate,
        hash: u64,
        out: &mut [u8],
        ttl: impl FnOnce(Life) -> u32,
        is_same: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Read {
        let Some((entry, sequence)) = self.entry(candidate, hash) else { return Read::Gone };
        let sizes = Sizes(entry[2].load(Relaxed));
        let ttl = ttl(life_of(entry)).to_be_bytes();
        let (len, tail) = (sizes.message(), sizes.tail());
        let Some(target) = out.get_mut(..len + tail) else {
            let whole = self.confirm(candidate, entry, sequence);
            return if whole { Read::TooLong(len + tail) } else { Read::Gone };
        };
        let words = &entry[HEADER_WORDS..];
        let (chunks, rest) = target.as_chunks_mut::<8>();
        if words.len() < (len + tail).div_ceil(8) + sizes.ttls().div_ceil(4) {
            return Read::Gone;
        }
        for (chunk, word) in chunks.iter_mut().zip(words) {
            *chunk = word.load(Relaxed).to_ne_bytes();
        }
        let mut after = chunks.len();
        if !rest.is_empty() {
            rest.copy_from_slice(&words[after].load(Relaxed).to_ne_bytes()[..rest.len()]);
            after += 1;
        }
        for n in 0..sizes.ttls() {
            let at = (words[after + n / 4].load(Relaxed) >> (16 * (n % 4))) as u16 as usize;
            if let Some(field) = target.get_mut(at..at + 4) {
                field.copy_from_slice(&ttl);
            }
        }
        if !self.confirm(candidate, entry, sequence) {
            return Read::Gone;
        }
        let (message, tail) = target.split_at(len);
        if !is_same(message, tail) {
            return Read::Gone;
        }
        self.visit(candidate);
        Read::Found(len, tail.len())
    }

    /// Notes that the entry was asked for: one bit, if it is not set yet.
    #[inline]
    fn visit(&self, candidate: Candidate) {
        let Slot(word) = candidate.word;
        if word & Slot::VISITED == 0 {
            let slot = &self.slots[candidate.slot as usize];
            // Where the slot has changed meanwhile there is nothing to note.
            let _ = slot.compare_exchange(word, word | Slot::VISITED, Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        // What a panic would leave behind is an entry out of its queue: octets, not wrong answers.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        writer.segments().for_each(|segment| self.pool.give(segment));
        self.pool.leave((self.slots.len() + self.marks.len()) * 8);
    }
}

#[inline]
pub(super) fn life_of(entry: &[AtomicU64]) -> Life {
    let life = entry[4].load(Relaxed);
    Life { stored: entry[3].load(Relaxed), ttl: life as u32, note: (life >> 32) as u32 }
}

/// Sizes of an entry: its words in the log, octets of message and tail, TTLs; 16 bits each.
#[derive(Clone, Copy)]
pub(super) struct Sizes(pub(super) u64);

impl Sizes {
    pub(super) fn new(words: usize, message: usize, tail: usize, ttls: usize) -> Self {
        Self(words as u64 | (message as u64) << 16 | (tail as u64) << 32 | (ttls as u64) << 48)
    }

    pub(super) fn words(self) -> usize {
        self.0 as u16 as usize
    }

    fn message(self) -> usize {
        (self.0 >> 16) as u16 as usize
    }

    fn tail(self) -> usize {
        (self.0 >> 32) as u16 as usize
    }

    fn ttls(self) -> usize {
        (self.0 >> 48) as u16 as usize
    }
}
