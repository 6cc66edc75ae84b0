//! Putting entries in and taking them out: under the table's lock, after a miss.
//!
//! The order of writes is what readers rely on: a slot changes before the words that it pointed at are
//! written again, with a release fence between; an entry that is written in place has sequence 0
//! meanwhile. Nothing here takes longer than a bounded number of entries.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

use super::queue::Writer;
use super::table::{BUCKET_WORDS, Class, Life, MARKS, Place, Sizes, Slot, Table, gaps, life_of};
use crate::limits::{
    MESSAGE_BYTES_MAX, STORE_LARGE_WORDS, STORE_MOVES_MAX, STORE_SEGMENT_WORDS, STORE_STEPS_MAX,
};

/// What is put in.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its class.
    pub class: Class,
    /// Four bits of the key that are no part of the hash.
    pub bits: u8,
    /// Now, in monotonic nanoseconds.
    pub stored: u64,
    /// Seconds of life.
    pub ttl: u32,
    /// The caller's note.
    pub note: u16,
    /// The message.
    pub message: &'a [u8],
    /// What else is compared when it is looked for.
    pub tail: &'a [u8],
    /// Offsets of TTLs in the message, ascending.
    pub ttls: &'a [u16],
}

impl Item<'_> {
    fn bytes(&self) -> usize {
        self.message.len() + self.tail.len()
    }

    fn sizes(&self) -> Sizes {
        Sizes::new(self.message.len(), self.tail.len(), gaps(self.ttls).count())
    }

    /// Its words but the first.
    fn for_each_word(&self, sizes: Sizes, mut put: impl FnMut(u64)) {
        let life = Life { stored: self.stored, ttl: self.ttl, note: self.note };
        sizes.header_words(life)[..sizes.header - 1].iter().for_each(|word| put(*word));
        let (chunks, rest) = self.message.as_chunks::<8>();
        chunks.iter().for_each(|chunk| put(u64::from_le_bytes(*chunk)));
        // The end of the message, the tail and the gaps share words.
        let (mut word, mut filled) = (0, 0);
        for octet in rest.iter().chain(self.tail).copied().chain(gaps(self.ttls)) {
            word |= u64::from(octet) << (8 * filled);
            filled += 1;
            if filled == 8 {
                put(word);
                (word, filled) = (0, 0);
            }
        }
        if filled > 0 {
            put(word);
        }
    }
}

impl Table {
    /// Puts an entry in, in the place of one of the same key. Gives its slot; none: it is too long.
    pub fn put(&self, hash: u64, item: Item<'_>) -> Option<u32> {
        let sizes = item.sizes();
        if sizes.words > STORE_LARGE_WORDS || item.bytes() > MESSAGE_BYTES_MAX {
            return None;
        }
        self.lay_out();
        let mut writer = self.writer();
        if self.wants_segment(&mut writer, item.class, sizes.words) {
            drop(writer);
            self.pool.make_room(sizes.words);
            writer = self.writer();
        }
        let writer = &mut *writer;
        let name = Slot::new(hash, item.class, item.bits);
        let put = match self.slot_of(hash, name) {
            Some(slot) => self.replace(writer, slot, hash, item, sizes),
            None => self.insert(writer, name, hash, item, sizes),
        };
        self.sweep(writer, item.class);
        self.note_sizes(writer);
        put
    }

    /// Takes an entry out, if there is one of this key.
    pub fn remove(&self, hash: u64, class: Class, bits: u8) {
        let name = Slot::new(hash, class, bits);
        // Most have none: a look without the lock.
        let mut found = false;
        self.find(hash, |candidate| {
            found |= candidate.class() == class && candidate.bits() == bits
        });
        if found {
            let mut writer = self.writer();
            if let Some(slot) = self.slot_of(hash, name) {
                self.take_out(&mut writer, slot, hash as u32);
            }
        }
    }

    /// Frees a segment by evicting the oldest, for whoever needs one.
    pub(super) fn shrink(&self) {
        let mut writer = self.writer();
        let before = writer.held_words();
        // Every step takes an entry of four words or more from its queue, after moving a bounded
        // number of those that were asked for.
        for _ in 0..STORE_SEGMENT_WORDS {
            let [success, denial] = &writer.classes;
            let more = success.words() >= denial.words();
            let class = if more { Class::Success } else { Class::Denial };
            if !self.evict(&mut writer, class, 0) || writer.held_words() < before {
                break;
            }
        }
        self.note_sizes(&writer);
    }

    fn wants_segment(&self, writer: &mut Writer, class: Class, words: usize) -> bool {
        let queues = writer.queues(class);
        let full = queues.small.needs_segment(words) || queues.main.needs_segment(words);
        full && !self.pool.has_room(words)
    }

    /// How many entries went from this bucket to their second one.
    fn strays(&self, bucket: usize) -> &AtomicU64 {
        &self.buckets()[bucket].0[0]
    }

    fn load(&self, slot: u32) -> Slot {
        Slot(self.slot(slot).load(Relaxed))
    }

    fn words_at(&self, place: Place) -> Option<&[AtomicU64]> {
        self.pool.segment(place.segment)?.get(place.offset as usize..)
    }

    fn size_at(&self, place: Place) -> usize {
        self.words_at(place).map_or(0, |entry| Sizes::of(entry).words)
    }

    /// The half of its hash that an entry holds.
    fn hash_at(&self, place: Place) -> Option<u32> {
        Some(self.words_at(place)?.first()?.load(Relaxed) as u32)
    }

    /// The slot of the entry with this hash and name.
    fn slot_of(&self, hash: u64, name: Slot) -> Option<u32> {
        self.slot_where(hash as u32, |slot| {
            slot.is_same_name(name) && self.hash_at(slot.place()) == Some(hash as u32)
        })
    }

    fn slot_where(&self, hash: u32, is: impl Fn(Slot) -> bool) -> Option<u32> {
        let mut both = self.buckets_of(hash).into_iter().flat_map(slots_of);
        both.find(|slot| !self.load(*slot).is_empty() && is(self.load(*slot)))
    }

    /// Writes over the entry of a slot, in place if there is room.
    fn replace(
        &self,
        writer: &mut Writer,
        slot: u32,
        hash: u64,
        item: Item<'_>,
        sizes: Sizes,
    ) -> Option<u32> {
        let old = self.load(slot);
        let size = self.size_at(old.place());
        if sizes.words <= size {
            let entry = self.words_at(old.place())?;
            entry[0].store(u64::from(hash as u32), Relaxed);
            fence(Release);
            Self::write(entry, Sizes { words: size, ..sizes }, &item);
            entry[0].store(writer.next_first(hash as u32), Release);
            return Some(slot);
        }
        let queue = writer.queues(item.class).of(old.is_main());
        let place = queue.append(&self.pool, sizes.words)?;
        queue.words -= size;
        self.write_new(writer, place, hash, &item, sizes)?;
        let new = old.at(place, old.is_main()).visited_as(old);
        self.slot(slot).store(new.0, Release);
        Some(slot)
    }

    fn insert(
        &self,
        writer: &mut Writer,
        name: Slot,
        hash: u64,
        item: Item<'_>,
        sizes: Sizes,
    ) -> Option<u32> {
        let class = item.class as usize;
        let most = self.wanted.entries_max[class];
        while self.entries[class].load(Relaxed) >= most {
            if !self.evict(writer, item.class, item.stored) {
                return None;
            }
        }
        let slot = self.free_slot(writer, hash as u32);
        let queues = writer.queues(item.class);
        let main = queues.recall(hash as u32, name.tag());
        let place = queues.of(main).append(&self.pool, sizes.words)?;
        self.write_new(writer, place, hash, &item, sizes)?;
        for which in 0..MARKS {
            if let Some(mark) = self.mark(slot, which) {
                mark.store(0, Relaxed);
            }
        }
        self.fill(slot, hash as u32, name.at(place, main));
        self.entries[class].fetch_add(1, Relaxed);
        Some(slot)
    }

    /// Puts a word into an empty slot.
    fn fill(&self, slot: u32, hash: u32, word: Slot) {
        let [first, _] = self.buckets_of(hash);
        if slot as usize / BUCKET_WORDS != first {
            self.strays(first).fetch_add(1, Release);
        }
        self.slot(slot).store(word.0, Release);
    }

    /// Empties a slot.
    fn clear(&self, slot: u32, hash: u32) {
        self.slot(slot).store(Slot::EMPTY.0, Relaxed);
        let [first, _] = self.buckets_of(hash);
        if slot as usize / BUCKET_WORDS != first {
            self.strays(first).fetch_sub(1, Relaxed);
        }
    }

    /// An empty slot for this hash. Where there is none, entries move to their other buckets; where
    /// that does not help, one has to go.
    fn free_slot(&self, writer: &mut Writer, hash: u32) -> u32 {
        let buckets = self.buckets_of(hash);
        for steps in 0..=STORE_STEPS_MAX {
            if let Some(slot) = buckets.iter().find_map(|bucket| self.vacate(*bucket, steps)) {
                return slot;
            }
        }
        let mut first = slots_of(buckets[0]);
        let victim = first.find(|slot| !self.load(*slot).is_visited());
        let victim = victim.unwrap_or((buckets[0] * BUCKET_WORDS) as u32 + 1);
        self.drop_slot(writer, victim);
        victim
    }

    /// An empty slot of a bucket, made by so many moves from bucket to bucket at most.
    fn vacate(&self, bucket: usize, steps: usize) -> Option<u32> {
        if steps == 0 {
            return slots_of(bucket).find(|slot| self.load(*slot).is_empty());
        }
        slots_of(bucket).find(|slot| {
            let word = self.load(*slot);
            let Some(hash) = self.hash_at(word.place()) else { return false };
            let [first, second] = self.buckets_of(hash);
            let other = if first == bucket { second } else { first };
            let Some(to) = self.vacate(other, steps - 1) else { return false };
            for which in 0..MARKS {
                if let (Some(from), Some(to)) = (self.mark(*slot, which), self.mark(to, which)) {
                    to.store(from.load(Relaxed), Relaxed);
                }
            }
            // For a moment both slots lead to it; a reader between the two may miss it.
            self.fill(to, hash, word);
            self.clear(*slot, hash);
            true
        })
    }

    /// Evicts the entry of a slot.
    fn drop_slot(&self, writer: &mut Writer, slot: u32) {
        let word = self.load(slot);
        let hash = self.hash_at(word.place()).unwrap_or_default();
        self.take_out(writer, slot, hash);
        self.evicted[word.class() as usize].fetch_add(1, Relaxed);
    }

    /// Empties a slot; its entry is dead where it lies.
    fn take_out(&self, writer: &mut Writer, slot: u32, hash: u32) {
        let word = self.load(slot);
        self.clear(slot, hash);
        self.entries[word.class() as usize].fetch_sub(1, Relaxed);
        let size = self.size_at(word.place());
        writer.queues(word.class()).of(word.is_main()).words -= size;
    }

    /// Evicts one entry of a class by S3-FIFO; `now` tells what has expired. `false`: it is empty.
    fn evict(&self, writer: &mut Writer, class: Class, now: u64) -> bool {
        for moves in 0.. {
            let queues = writer.queues(class);
            let small = queues.small_is_full();
            let size = |place| self.size_at(place);
            let mut taken = queues.of(!small).take(&self.pool, size).map(|place| (place, !small));
            if taken.is_none() {
                taken = queues.of(small).take(&self.pool, size).map(|place| (place, small));
            }
            let Some((place, main)) = taken else { return false };
            let Some((slot, hash)) = self.owner_of(place) else { continue };
            let word = self.load(slot);
            let asked_for = word.is_visited() && !self.is_useless(place, now);
            if asked_for && moves < STORE_MOVES_MAX {
                // Who comes from the small queue begins anew, who stays pays with one visit.
                let left = if main { word.less_visited() } else { word.at(place, true) };
                self.relocate(writer, slot, place, true, left);
                continue;
            }
            if !main {
                writer.remember(&self.pool, class, hash, word.tag());
            }
            self.drop_slot(writer, slot);
            return true;
        }
        false
    }

    /// Whether an entry is of no use to anybody at `now`.
    fn is_useless(&self, place: Place, now: u64) -> bool {
        self.words_at(place).is_none_or(|entry| {
            let life = life_of(entry);
            let seconds = u64::from(life.ttl).saturating_mul(1_000_000_000);
            let end = life.stored.saturating_add(seconds);
            end.saturating_add(self.wanted.stale_nanos) < now
        })
    }

    /// The slot of the entry at `place` and the half of its hash that it holds; none: it is dead.
    fn owner_of(&self, place: Place) -> Option<(u32, u32)> {
        let hash = self.hash_at(place)?;
        let slot = self.slot_where(hash, |slot| slot.place() == place)?;
        Some((slot, hash))
    }

    /// Appends an entry anew, to the main queue or to the one it was in, as often asked for as
    /// `visits`.
    fn relocate(&self, writer: &mut Writer, slot: u32, from: Place, main: bool, visits: Slot) {
        let word = self.load(slot);
        let size = self.size_at(from);
        let first = writer.next_first(self.hash_at(from).unwrap_or_default());
        let queues = writer.queues(word.class());
        let moved = queues.of(main).append(&self.pool, size).and_then(|to| {
            let (source, target) = (self.words_at(from)?, self.words_at(to)?);
            fence(Release);
            target[0].store(first, Relaxed);
            for (target, source) in target[1..size].iter().zip(&source[1..size]) {
                target.store(source.load(Relaxed), Relaxed);
            }
            Some(to)
        });
        match moved {
            Some(to) => {
                queues.of(word.is_main()).words -= size;
                let moved = word.at(to, main).visited_as(visits);
                self.slot(slot).store(moved.0, Release);
            }
            // All segments that can be made are in use.
            None => self.drop_slot(writer, slot),
        }
    }

    /// Moves what lives at the end of a queue that is mostly dead, a few entries at a time.
    fn sweep(&self, writer: &mut Writer, class: Class) {
        for main in [false, true] {
            for _ in 0..STORE_MOVES_MAX {
                let queue = writer.queues(class).of(main);
                if !queue.is_mostly_dead() {
                    break;
                }
                let Some(place) = queue.take(&self.pool, |place| self.size_at(place)) else {
                    break;
                };
                if let Some((slot, _)) = self.owner_of(place) {
                    self.relocate(writer, slot, place, main, self.load(slot));
                }
            }
        }
    }

    /// Writes an entry where nobody points yet.
    fn write_new(
        &self,
        writer: &mut Writer,
        place: Place,
        hash: u64,
        item: &Item<'_>,
        sizes: Sizes,
    ) -> Option<()> {
        let entry = self.words_at(place)?;
        fence(Release);
        entry[0].store(writer.next_first(hash as u32), Relaxed);
        Self::write(entry, sizes, item);
        Some(())
    }

    fn write(entry: &[AtomicU64], sizes: Sizes, item: &Item<'_>) {
        let mut words = entry[1..].iter();
        item.for_each_word(sizes, |word| {
            if let Some(cell) = words.next() {
                cell.store(word, Relaxed);
            }
        });
    }
}

/// The slots of a bucket.
fn slots_of(bucket: usize) -> std::ops::Range<u32> {
    let first = (bucket * BUCKET_WORDS) as u32;
    first + 1..first + BUCKET_WORDS as u32
}
