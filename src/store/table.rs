//! One table: from the hash of a key to its entry, read without a lock.
//!
//! Slots lie in buckets of a cache line: seven slots, and a count of those that found no place here
//! and went to their second bucket. A look-up without such strays reads one line.
//!
//! A slot is one word: where the entry lies, how often it was asked for (up to three times), its
//! class, what in the key is no part of the hash, and some bits of the hash. An entry's first word
//! changes with everything else of it. Who has copied an entry and then finds slot and first word as
//! they were has copied one whole entry: its place is written again only after its slot has changed,
//! and in place only after its first word has. (That word comes back after 2³² writes of the table;
//! a reader would have to sleep for exactly so many.)
//!
//! ```text
//!  word 0  sequence, 0 while it is written (32 bits), hash (32)
//!       1  time stored in milliseconds (40), words in the log (14), octets of gaps (10)
//!       2  life in seconds (32), octets of the message (16), the caller's note (16)
//!      (3) octets of the tail (16) and of gaps (16), where word 1 tells 1,023 of those
//!  then    message, tail and gaps, without a space between them
//! ```
//!
//! Gaps lead from one TTL of the message to the next, an octet each: 255 goes on with the one behind.

#[allow(clippy::disallowed_types, reason = "taken by who puts an entry in, never by a reader")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};

use super::pool::{Pool, cells, zeros};
use super::queue::Writer;
use crate::limits::{STORE_ENTRY_BYTES_MIN, STORE_LARGE_WORDS};

/// Words of an entry before its message, one more for one with a tail or very many records.
pub(super) const HEADER_WORDS: usize = 3;
/// Words of a bucket: the count of strays, and the slots.
pub(super) const BUCKET_WORDS: usize = 8;
/// Marks that a caller may keep of a slot.
pub(super) const MARKS: usize = 2;

/// A cache line: how many strays it has, and slots.
#[repr(align(64))]
pub(super) struct Bucket(pub(super) [AtomicU64; BUCKET_WORDS]);

/// Two kinds of entries, each with its bound and its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What exists.
    Success,
    /// What does not.
    Denial,
}

/// A slot's word: 14 bits of offset, 24 of segment, 2 of visits, class, main, 4 bits of the key, 18
/// of the hash. Zero: empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u64);

impl Slot {
    pub(super) const EMPTY: Self = Self(0);
    const VISIT: u64 = 1 << 38;
    const VISITS: u64 = 3 << 38;
    const DENIAL: u64 = 1 << 40;
    const MAIN: u64 = 1 << 41;
    const KEY_AT: u32 = 42;
    const TAG_AT: u32 = 46;
    /// What tells an entry from another of the same table but its place.
    const NAMED: u64 = !0 << Self::KEY_AT | Self::DENIAL;

    pub(super) fn new(hash: u64, class: Class, bits: u8) -> Self {
        let denial = if class == Class::Denial { Self::DENIAL } else { 0 };
        let tag = hash >> Self::TAG_AT << Self::TAG_AT;
        Self(tag | u64::from(bits & 15) << Self::KEY_AT | denial)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same name, in a place where nobody has asked for it.
    pub(super) fn at(self, place: Place, main: bool) -> Self {
        let main = if main { Self::MAIN } else { 0 };
        let place = u64::from(place.segment) << 14 | u64::from(place.offset);
        Self(self.0 & Self::NAMED | place | main)
    }

    pub(super) fn place(self) -> Place {
        Place { segment: (self.0 >> 14) as u32 & 0xff_ffff, offset: self.0 as u32 & 0x3fff }
    }

    /// As often asked for as `other`.
    pub(super) fn visited_as(self, other: Self) -> Self {
        Self(self.0 | other.0 & Self::VISITS)
    }

    /// Asked for once more, or still three times.
    fn visited(self) -> Self {
        if self.0 & Self::VISITS == Self::VISITS { self } else { Self(self.0 + Self::VISIT) }
    }

    /// Asked for once less.
    pub(super) fn less_visited(self) -> Self {
        if self.is_visited() { Self(self.0 - Self::VISIT) } else { self }
    }

    pub(super) fn is_same_name(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::NAMED == 0
    }

    pub(super) fn is_visited(self) -> bool {
        self.0 & Self::VISITS != 0
    }

    pub(super) fn is_main(self) -> bool {
        self.0 & Self::MAIN != 0
    }

    pub(super) fn class(self) -> Class {
        if self.0 & Self::DENIAL != 0 { Class::Denial } else { Class::Success }
    }

    /// Bits of the hash that are none of those that an entry holds.
    pub(super) fn tag(self) -> u32 {
        (self.0 >> Self::TAG_AT) as u32
    }

    fn unvisited(self) -> u64 {
        self.0 & !Self::VISITS
    }
}

const _: () = assert!(STORE_LARGE_WORDS < 1 << 14);

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
    /// When it was stored: monotonic nanoseconds, whole milliseconds of them.
    pub stored: u64,
    /// Seconds of life from then.
    pub ttl: u32,
    /// The caller's note.
    pub note: u16,
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

/// Where a table's entries lie, and what the caller notes of them.
struct Slots {
    buckets: Box<[Bucket]>,
    marks: Box<[AtomicU64]>,
}

impl Slots {
    fn bytes(&self) -> usize {
        size_of_val(&*self.buckets) + size_of_val(&*self.marks)
    }
}

/// A table of entries.
pub struct Table {
    pub(super) pool: Arc<Pool>,
    /// Made by the first put at the latest: a Corefile may have thousands of tables that hold nothing.
    slots: OnceLock<Slots>,
    buckets_max: usize,
    pub(super) entries: [AtomicUsize; 2],
    pub(super) evicted: [AtomicU64; 2],
    held_words: AtomicUsize,
    ghost_bytes: AtomicUsize,
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
        // Full to six of seven, a bucket in three sends an entry to its second one.
        let buckets_max = entries.div_ceil(6).max(2);
        let table = Arc::new(Self {
            pool: Arc::clone(pool),
            slots: OnceLock::new(),
            buckets_max,
            entries: [AtomicUsize::new(0), AtomicUsize::new(0)],
            evicted: [AtomicU64::new(0), AtomicU64::new(0)],
            held_words: AtomicUsize::new(0),
            ghost_bytes: AtomicUsize::new(0),
            wanted,
            writer: Locked::new(Writer::new(entries)),
        });
        pool.enter(&table);
        table
    }

    /// Makes the slots, unless they are there; else the first put does.
    pub fn lay_out(&self) {
        self.slots.get_or_init(|| {
            let buckets = cells(self.buckets_max, || Bucket(Default::default()));
            let marks = if self.wanted.marks { buckets.len() * BUCKET_WORDS * MARKS } else { 0 };
            let slots = Slots { buckets, marks: zeros(marks) };
            self.pool.charge(slots.bytes());
            slots
        });
    }

    /// The buckets; none before the first put.
    #[inline]
    pub(super) fn buckets(&self) -> &[Bucket] {
        self.slots.get().map_or(&[], |slots| &slots.buckets)
    }

    fn slot_bytes(&self) -> usize {
        self.slots.get().map_or(0, Slots::bytes)
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

    /// Words of the segments that the table holds.
    pub fn held_words(&self) -> usize {
        self.held_words.load(Relaxed)
    }

    /// Octets that the table has of the budget: its segments, slots and marks, and what it remembers.
    pub fn bytes(&self) -> usize {
        self.slot_bytes() + self.held_words() * size_of::<u64>() + self.ghost_bytes.load(Relaxed)
    }

    /// Notes for others what the writer has.
    pub(super) fn note_sizes(&self, writer: &Writer) {
        self.held_words.store(writer.held_words(), Relaxed);
        self.ghost_bytes.store(writer.ghost_bytes(), Relaxed);
    }

    /// The caller's mark `which` (0 or 1) of a slot; none where no marks were wanted. Zero for an
    /// entry of another name than the slot had before.
    pub fn mark(&self, slot: u32, which: usize) -> Option<&AtomicU64> {
        self.slots.get()?.marks.get(slot as usize * MARKS + which)
    }

    /// The buckets that an entry of this hash, of which it holds the low half, may be in.
    #[inline]
    pub(super) fn buckets_of(&self, hash: u32) -> [usize; 2] {
        let count = self.buckets().len();
        let second = hash.wrapping_mul(0x9e37_79b1).rotate_left(16);
        [scaled(hash, count), scaled(second, count)]
    }

    /// Calls `each` with every slot whose entry may have this hash.
    #[inline]
    pub fn find(&self, hash: u64, mut each: impl FnMut(Candidate)) {
        let buckets = self.buckets();
        if buckets.is_empty() {
            return;
        }
        let tag = hash >> Slot::TAG_AT;
        let [first, second] = self.buckets_of(hash as u32);
        let mut look = |bucket: usize| {
            let Bucket([strays, slots @ ..]) = &buckets[bucket];
            for (n, slot) in slots.iter().enumerate() {
                let word = Slot(slot.load(Acquire));
                if word.0 >> Slot::TAG_AT == tag && !word.is_empty() {
                    each(Candidate { slot: (bucket * BUCKET_WORDS + 1 + n) as u32, word });
                }
            }
            strays.load(Relaxed) != 0
        };
        if look(first) && first != second {
            look(second);
        }
    }

    /// The word of a slot.
    #[inline]
    pub(super) fn slot(&self, slot: u32) -> &AtomicU64 {
        let slot = slot as usize;
        &self.buckets()[slot / BUCKET_WORDS].0[slot % BUCKET_WORDS]
    }

    /// The entry's words from its first, and that first; none while it is being written.
    #[inline]
    fn entry(&self, candidate: Candidate, hash: u64) -> Option<(&[AtomicU64], u64)> {
        let place = candidate.word.place();
        let entry = self.pool.segment(place.segment)?.get(place.offset as usize..)?;
        let first = entry.first()?.load(Acquire);
        let same = entry.len() > HEADER_WORDS && first as u32 == hash as u32;
        (first >> 32 != 0 && same).then_some((entry, first))
    }

    /// Whether everything that was read of an entry since its first word was, belongs together.
    #[inline]
    fn confirm(&self, candidate: Candidate, entry: &[AtomicU64], first: u64) -> bool {
        // Pairs with the writer's release fences: who has read a word that was written later sees
        // what was changed before it.
        fence(Acquire);
        let slot = Slot(self.slot(candidate.slot).load(Relaxed));
        entry[0].load(Relaxed) == first && slot.unvisited() == candidate.word.unvisited()
    }

    /// The life of a candidate's entry.
    #[inline]
    pub fn life(&self, candidate: Candidate, hash: u64) -> Option<Life> {
        let (entry, first) = self.entry(candidate, hash)?;
        let life = life_of(entry);
        self.confirm(candidate, entry, first).then_some(life)
    }

    /// Copies a candidate's message and its tail to `out`, every TTL of it as `ttl` makes it of the
    /// entry's life; up to seven octets behind them are overwritten. `is_same` decides on that copy whether it is what is looked for.
    #[inline]
    pub fn read(
        &self,
        candidate: Candidate,
        hash: u64,
        out: &mut [u8],
        ttl: impl FnOnce(Life) -> u32,
        is_same: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Read {
        let Some((entry, first)) = self.entry(candidate, hash) else { return Read::Gone };
        let sizes = Sizes::of(entry);
        let ttl = ttl(life_of(entry)).to_be_bytes();
        let octets = sizes.message + sizes.tail;
        if octets > out.len() {
            let whole = self.confirm(candidate, entry, first);
            return if whole { Read::TooLong(octets) } else { Read::Gone };
        }
        let words = &entry[sizes.header..];
        if words.len() < (octets + sizes.gaps).div_ceil(8) {
            return Read::Gone;
        }
        // Whole words where there is room for them: what lies behind is nobody's yet.
        let padded = octets.next_multiple_of(8).min(out.len());
        copy_words(&mut out[..padded], words);
        let target = &mut out[..octets];
        let mut at = 0;
        for n in octets..octets + sizes.gaps {
            let gap = (words[n / 8].load(Relaxed) >> (8 * (n % 8))) as u8;
            at += usize::from(gap);
            if gap < GAP_MORE
                && let Some(field) = target.get_mut(at..at + 4)
            {
                field.copy_from_slice(&ttl);
            }
        }
        if !self.confirm(candidate, entry, first) {
            return Read::Gone;
        }
        let (message, tail) = target.split_at(sizes.message);
        if !is_same(message, tail) {
            return Read::Gone;
        }
        self.visit(candidate);
        Read::Found(message.len(), tail.len())
    }

    /// Notes that the entry was asked for, unless three times are noted.
    #[inline]
    fn visit(&self, candidate: Candidate) {
        let (word, visited) = (candidate.word, candidate.word.visited());
        if word != visited {
            let slot = self.slot(candidate.slot);
            // Where the slot has changed meanwhile there is nothing to note.
            let _ = slot.compare_exchange(word.0, visited.0, Relaxed, Ordering::Relaxed);
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
        let ghosts = writer.ghost_bytes();
        self.pool.leave(self.slot_bytes() + ghosts);
    }
}

/// Copies words to as many octets; four at a time, since a loop of atomic loads stays as it is written.
#[inline]
fn copy_words(target: &mut [u8], words: &[AtomicU64]) {
    let (fours, rest) = target.as_chunks_mut::<32>();
    let (sources, _) = words.as_chunks::<4>();
    for (four, source) in fours.iter_mut().zip(sources) {
        let (octets, _) = four.as_chunks_mut::<8>();
        for (octets, word) in octets.iter_mut().zip(source) {
            *octets = word.load(Relaxed).to_le_bytes();
        }
    }
    let mut words = words[fours.len() * 4..].iter();
    let (octets, last) = rest.as_chunks_mut::<8>();
    for (octets, word) in octets.iter_mut().zip(&mut words) {
        *octets = word.load(Relaxed).to_le_bytes();
    }
    if let Some(word) = words.next() {
        for (octet, own) in last.iter_mut().zip(word.load(Relaxed).to_le_bytes()) {
            *octet = own;
        }
    }
}

/// The `hash`, of all that 32 bits can be, as a number below `count`.
#[inline]
pub(super) fn scaled(hash: u32, count: usize) -> usize {
    ((u64::from(hash) * count as u64) >> 32) as usize
}

#[inline]
pub(super) fn life_of(entry: &[AtomicU64]) -> Life {
    let (time, life) = (entry[1].load(Relaxed), entry[2].load(Relaxed));
    Life { stored: (time & STORED_MAX) * NANOS, ttl: life as u32, note: (life >> 48) as u16 }
}

/// Nanoseconds of a millisecond.
const NANOS: u64 = 1_000_000;
/// Milliseconds that an entry can tell: 34 years.
const STORED_MAX: u64 = (1 << 40) - 1;
/// Octets of gaps in an entry that has a word of its own for them.
const GAPS_LONG: usize = 1023;
/// A gap that goes on with the next octet.
const GAP_MORE: u8 = 255;

/// The octets that lead to the TTLs at these offsets, which ascend.
pub(super) fn gaps(ttls: &[u16]) -> impl Iterator<Item = u8> {
    let mut from = 0;
    ttls.iter().flat_map(move |&at| {
        let gap = at.saturating_sub(from);
        from = at;
        let more = std::iter::repeat_n(GAP_MORE, usize::from(gap / u16::from(GAP_MORE)));
        more.chain([(gap % u16::from(GAP_MORE)) as u8])
    })
}

/// Sizes of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Words before the message.
    pub(super) header: usize,
    /// Words in the log.
    pub(super) words: usize,
    /// Octets of the message.
    pub(super) message: usize,
    /// Octets of the tail.
    pub(super) tail: usize,
    /// Octets of gaps.
    pub(super) gaps: usize,
}

impl Sizes {
    /// Those of an entry that is to be written, in no more words than it needs.
    pub(super) fn new(message: usize, tail: usize, gaps: usize) -> Self {
        let long = tail > 0 || gaps >= GAPS_LONG;
        let header = HEADER_WORDS + usize::from(long);
        let words = header + (message + tail + gaps).div_ceil(8);
        Self { header, words, message, tail, gaps }
    }

    /// Those of an entry.
    #[inline]
    pub(super) fn of(entry: &[AtomicU64]) -> Self {
        let (time, life) = (entry[1].load(Relaxed), entry[2].load(Relaxed));
        let words = (time >> 40) as usize & 0x3fff;
        let message = usize::from((life >> 32) as u16);
        let gaps = (time >> 54) as usize;
        if gaps < GAPS_LONG {
            return Self { header: HEADER_WORDS, words, message, tail: 0, gaps };
        }
        let long = entry[HEADER_WORDS].load(Relaxed);
        let (tail, gaps) = (usize::from(long as u16), usize::from((long >> 16) as u16));
        Self { header: HEADER_WORDS + 1, words, message, tail, gaps }
    }

    /// The words of the header behind the first; the last is for those with a header that long.
    pub(super) fn header_words(self, life: Life) -> [u64; HEADER_WORDS] {
        let long = self.header > HEADER_WORDS;
        let gaps = if long { GAPS_LONG } else { self.gaps } as u64;
        let stored = (life.stored / NANOS).min(STORED_MAX);
        [
            stored | (self.words as u64) << 40 | gaps << 54,
            u64::from(life.ttl) | (self.message as u64) << 32 | u64::from(life.note) << 48,
            self.tail as u64 | (self.gaps as u64) << 16,
        ]
    }
}
