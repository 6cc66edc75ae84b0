//! Putting entries in and taking them out: under the table's lock, after a miss.
//!
//! The order of writes is what readers rely on: a slot changes before the words that it pointed at are
//! written again, with a release fence between; an entry that is written in place has sequence 0
//! meanwhile. Nothing here takes longer than a bounded number of entries.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

use super::queue::Writer;
use super::table::{BUCKET_WORDS, Class, HEADER_WORDS, Place, Sizes, Slot, Table, life_of};
use crate::limits::{MESSAGE_BYTES_MAX, STORE_MOVES_MAX, STORE_SEGMENT_WORDS};

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
    pub note: u32,
    /// The message.
    pub message: &'a [u8],
    /// What else is compared when it is looked for.
    pub tail: &'a [u8],
    /// Offsets of TTLs in the message.
    pub ttls: &'a [u16],
}

impl Item<'_> {
    fn bytes(&self) -> usize {
        self.message.len() + self.tail.len()
    }

    fn words(&self) -> usize {
        HEADER_WORDS + self.bytes().div_ceil(8) + self.ttls.len().div_ceil(4)
    }

    /// Its words but the first, `size` of them in the log.
    fn for_each_word(&self, hash: u64, size: usize, mut put: impl FnMut(u64)) {
        let sizes = Sizes::new(size, self.message.len(), self.tail.len(), self.ttls.len());
        put(hash);
        put(sizes.0);
        put(self.stored);
        put(u64::from(self.ttl) | u64::from(self.note) << 32);
        let (chunks, rest) = self.message.as_chunks::<8>();
        chunks.iter().for_each(|chunk| put(u64::from_ne_bytes(*chunk)));
        // The end of the message and the tail share words.
        let mut chunk = [0; 8];
        chunk[..rest.len()].copy_from_slice(rest);
        let mut filled = rest.len();
        for &octet in self.tail {
            chunk[filled] = octet;
            filled += 1;
            if filled == 8 {
                put(u64::from_ne_bytes(chunk));
                (chunk, filled) = ([0; 8], 0);
            }
        }
        if filled > 0 {
            put(u64::from_ne_bytes(chunk));
        }
        for offsets in self.ttls.chunks(4) {
            let joined = offsets.iter().rev().fold(0, |word, at| word << 16 | u64::from(*at));
            put(joined);
        }
    }
}

impl Table {
    /// Puts an entry in, in the place of one of the same key. Gives its slot; none: it is too long.
    pub fn put(&self, hash: u64, item: Item<'_>) -> Option<u32> {
        let words = item.words();
        if words > STORE_SEGMENT_WORDS || item.bytes() > MESSAGE_BYTES_MAX {
            return None;
        }
        let mut writer = self.writer();
        if self.wants_segment(&mut writer, item.class, words) {
            drop(writer);
            self.pool.make_room();
            writer = self.writer();
        }
        let writer = &mut *writer;
        let name = Slot::new(hash, item.class, item.bits);
        let put = match self.slot_of(hash, name) {
            Some(slot) => self.replace(writer, slot, hash, item),
            None => self.insert(writer, name, hash, item),
        };
        self.sweep(writer, item.class);
        self.segments.store(writer.segment_count(), Relaxed);
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
                self.take_out(&mut writer, slot, hash);
            }
        }
    }

    /// Frees a segment by evicting the oldest, for whoever needs one.
    pub(super) fn shrink(&self) {
        let mut writer = self.writer();
        let before = writer.segment_count();
        // Every step takes an entry of five words or more from its queue, or moves one that was asked
        // for; those are bounded too.
        for _ in 0..STORE_SEGMENT_WORDS {
            let [success, denial] = &writer.classes;
            let more = success.words() >= denial.words();
            let class = if more { Class::Success } else { Class::Denial };
            if !self.evict(&mut writer, class, 0) || writer.segment_count() < before {
                break;
            }
        }
        self.segments.store(writer.segment_count(), Relaxed);
    }

    fn wants_segment(&self, writer: &mut Writer, class: Class, words: usize) -> bool {
        let queues = writer.queues(class);
        let full = queues.small.needs_segment(words) || queues.main.needs_segment(words);
        full && !self.pool.has_room()
    }

    fn load(&self, slot: u32) -> Slot {
        Slot(self.slots[slot as usize].load(Relaxed))
    }

    fn words_at(&self, place: Place) -> Option<&[AtomicU64]> {
        self.pool.segment(place.segment)?.get(place.offset as usize..)
    }

    fn size_at(&self, place: Place) -> usize {
        self.words_at(place).map_or(0, |entry| Sizes(entry[2].load(Relaxed)).words())
    }

    /// The slot of the entry with this hash and name.
    fn slot_of(&self, hash: u64, name: Slot) -> Option<u32> {
        self.slot_where(hash, |slot| {
            let own = || self.words_at(slot.place()).map(|entry| entry[1].load(Relaxed));
            slot.is_same_name(name) && own() == Some(hash)
        })
    }

    fn slot_where(&self, hash: u64, is: impl Fn(Slot) -> bool) -> Option<u32> {
        self.buckets(hash).into_iter().find_map(|bucket| {
            (bucket + 1..bucket + BUCKET_WORDS)
                .map(|slot| slot as u32)
                .find(|slot| !self.load(*slot).is_empty() && is(self.load(*slot)))
        })
    }

    /// Writes over the entry of a slot, in place if there is room.
    fn replace(&self, writer: &mut Writer, slot: u32, hash: u64, item: Item<'_>) -> Option<u32> {
        let old = self.load(slot);
        let size = self.size_at(old.place());
        if item.words() <= size {
            let entry = self.words_at(old.place())?;
            entry[0].store(0, Relaxed);
            fence(Release);
            self.write(entry, hash, size, &item);
            entry[0].store(writer.next_sequence(), Release);
            return Some(slot);
        }
        let queue = writer.queues(item.class).of(old.is_main());
        let place = queue.append(&self.pool, item.words())?;
        queue.words -= size;
        self.write_new(writer, place, hash, &item)?;
        let new = old.at(place, old.is_main()).visited_as(old);
        self.slots[slot as usize].store(new.0, Release);
        Some(slot)
    }

    fn insert(&self, writer: &mut Writer, name: Slot, hash: u64, item: Item<'_>) -> Option<u32> {
        let class = item.class as usize;
        let most = self.wanted.entries_max[class];
        while self.entries[class].load(Relaxed) >= most {
            if !self.evict(writer, item.class, item.stored) {
                return None;
            }
        }
        let slot = self.free_slot(writer, hash);
        let queues = writer.queues(item.class);
        let main = queues.recall(hash);
        let place = queues.of(main).append(&self.pool, item.words())?;
        self.write_new(writer, place, hash, &item)?;
        let [first, _] = self.buckets(hash);
        if slot as usize / BUCKET_WORDS != first / BUCKET_WORDS {
            self.slots[first].fetch_add(1, Release);
        }
        for which in 0..2 {
            if let Some(mark) = self.mark(slot, which) {
                mark.store(0, Relaxed);
            }
        }
        self.slots[slot as usize].store(name.at(place, main).0, Release);
        self.entries[class].fetch_add(1, Relaxed);
        Some(slot)
    }

    /// An empty slot for this hash; where there is none somebody has to go.
    fn free_slot(&self, writer: &mut Writer, hash: u64) -> u32 {
        let buckets = self.buckets(hash);
        let slots = |bucket: usize| bucket as u32 + 1..(bucket + BUCKET_WORDS) as u32;
        let mut all = buckets.into_iter().flat_map(slots);
        if let Some(slot) = all.find(|slot| self.load(*slot).is_empty()) {
            return slot;
        }
        let mut first = slots(buckets[0]);
        let victim = first.find(|slot| !self.load(*slot).is_visited());
        let victim = victim.unwrap_or(buckets[0] as u32 + 1);
        self.drop_slot(writer, victim);
        victim
    }

    /// Evicts the entry of a slot.
    fn drop_slot(&self, writer: &mut Writer, slot: u32) {
        let word = self.load(slot);
        let hash = self.words_at(word.place()).map_or(0, |entry| entry[1].load(Relaxed));
        self.take_out(writer, slot, hash);
        self.evicted[word.class() as usize].fetch_add(1, Relaxed);
    }

    /// Empties a slot; its entry is dead where it lies.
    fn take_out(&self, writer: &mut Writer, slot: u32, hash: u64) {
        let word = self.load(slot);
        self.slots[slot as usize].store(Slot::EMPTY.0, Relaxed);
        let [first, _] = self.buckets(hash);
        if slot as usize / BUCKET_WORDS != first / BUCKET_WORDS {
            self.slots[first].fetch_sub(1, Relaxed);
        }
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
            let asked_for = self.load(slot).is_visited() && !self.is_useless(place, now);
            if asked_for && moves < STORE_MOVES_MAX {
                self.relocate(writer, slot, place, true);
                continue;
            }
            if !main {
                let most = writer.ghosts_max;
                writer.queues(class).remember(hash, most);
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

    /// The slot and hash of the entry at `place`; none: it is dead.
    fn owner_of(&self, place: Place) -> Option<(u32, u64)> {
        let hash = self.words_at(place)?.get(1)?.load(Relaxed);
        let slot = self.slot_where(hash, |slot| slot.place() == place)?;
        Some((slot, hash))
    }

    /// Appends an entry anew, to the main queue or to the one it was in; it counts as not asked for.
    fn relocate(&self, writer: &mut Writer, slot: u32, from: Place, main: bool) {
        let word = self.load(slot);
        let size = self.size_at(from);
        let sequence = writer.next_sequence();
        let queues = writer.queues(word.class());
        let moved = queues.of(main).append(&self.pool, size).and_then(|to| {
            let (source, target) = (self.words_at(from)?, self.words_at(to)?);
            fence(Release);
            target[0].store(sequence, Relaxed);
            for (target, source) in target[1..size].iter().zip(&source[1..size]) {
                target.store(source.load(Relaxed), Relaxed);
            }
            Some(to)
        });
        match moved {
            Some(to) => {
                queues.of(word.is_main()).words -= size;
                self.slots[slot as usize].store(word.at(to, main).0, Release);
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
                    self.relocate(writer, slot, place, main);
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
    ) -> Option<()> {
        let entry = self.words_at(place)?;
        fence(Release);
        entry[0].store(writer.next_sequence(), Relaxed);
        self.write(entry, hash, item.words(), item);
        Some(())
    }

    fn write(&self, entry: &[AtomicU64], hash: u64, size: usize, item: &Item<'_>) {
        let mut words = entry[1..].iter();
        item.for_each_word(hash, size, |word| {
            if let Some(cell) = words.next() {
                cell.store(word, Relaxed);
            }
        });
    }
}
