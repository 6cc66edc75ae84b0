//! A hash table that is cheap to publish again and again.
//!
//! Entries lie in *leaves* of a few dozen, leaves in pages of 64; a copy of the table shares all of
//! them. The writer changes its own copy: what is shared with a published one is copied first, which
//! is one leaf, one page and the list of pages, whatever the size of the table. It grows by one leaf
//! at a time (linear hashing), so that no event ever pays for all entries.
//!
//! A look-up reads a page's list of leaves, then the entry, of which few are passed on the way; both
//! can be touched ahead ([`Table::touch_leaf`], [`Table::touch_entry`]). Equal keys may stand in it
//! several times. Nothing here is secret from whoever can make entries but the seed of the hash.

use std::sync::Arc;

/// Leaves of a page.
const PAGE_LEAVES: usize = 64;

/// What a table holds.
pub trait Entry: Clone {
    /// Entries of a leaf on average: small ones stand together in larger leaves.
    const LEAF_ENTRIES: usize;

    /// The hash of its key.
    fn hash(&self, seed: u64) -> u32;
}

type Leaf<T> = Arc<[Option<T>]>;

/// Entries by the hash of their keys.
#[derive(Clone)]
pub struct Table<T> {
    pages: Vec<Arc<[Leaf<T>; PAGE_LEAVES]>>,
    /// Leaves in use: at least one.
    leaves: usize,
    len: usize,
    seed: u64,
}

/// Where in a leaf of `room` entries the search for a hash starts.
#[inline]
fn start(hash: u32, room: usize) -> usize {
    // The low bits have chosen the leaf.
    ((u64::from(hash.wrapping_mul(0x9e37_79b1)) * room as u64) >> 32) as usize
}

impl<T: Entry> Table<T> {
    /// An empty table; `seed` goes into the hash of its keys.
    pub fn new(seed: u64) -> Self {
        let mut table = Self { pages: Vec::new(), leaves: 1, len: 0, seed };
        table.pages.push(table.page());
        table
    }

    fn page(&self) -> Arc<[Leaf<T>; PAGE_LEAVES]> {
        let none: Leaf<T> = Arc::from(Vec::new());
        Arc::new(std::array::from_fn(|_| Arc::clone(&none)))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The seed for hashes of keys.
    #[inline]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Octets of its leaves and pages.
    pub fn bytes(&self) -> usize {
        let room: usize = self.leaves().map(|leaf| leaf.len() * size_of::<Option<T>>() + 16).sum();
        room + self.pages.len() * (size_of::<[Leaf<T>; PAGE_LEAVES]>() + 16)
    }

    fn leaves(&self) -> impl Iterator<Item = &Leaf<T>> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.leaves)
    }

    /// The entries of a leaf, by its number; none behind the last.
    pub fn nth_leaf(&self, number: usize) -> Option<&[Option<T>]> {
        let is_used = number < self.leaves;
        is_used.then(|| &*self.pages[number / PAGE_LEAVES][number % PAGE_LEAVES])
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.leaves().flat_map(|leaf| leaf.iter().flatten())
    }

    /// The leaf that a hash belongs to.
    #[inline]
    fn place(&self, hash: u32) -> usize {
        let mask = self.leaves.next_power_of_two() - 1;
        let at = hash as usize & mask;
        // A leaf that is not there yet is still one with that of half its number.
        if at < self.leaves { at } else { at & (mask >> 1) }
    }

    #[inline]
    fn leaf(&self, hash: u32) -> &[Option<T>] {
        let at = self.place(hash);
        &self.pages[at / PAGE_LEAVES][at % PAGE_LEAVES]
    }

    fn leaf_mut(&mut self, at: usize) -> &mut Leaf<T> {
        &mut Arc::make_mut(&mut self.pages[at / PAGE_LEAVES])[at % PAGE_LEAVES]
    }

    /// Reads where the leaf of a hash lies.
    #[inline]
    pub fn touch_leaf(&self, hash: u32) {
        std::hint::black_box(self.leaf(hash).len());
    }

    /// Reads the first entry that a search for a hash would look at.
    #[inline]
    pub fn touch_entry(&self, hash: u32) {
        let leaf = self.leaf(hash);
        if !leaf.is_empty() {
            std::hint::black_box(leaf[start(hash, leaf.len())].is_some());
        }
    }

    /// The entries with a hash that might be this one.
    #[inline]
    pub fn find(&self, hash: u32) -> impl Iterator<Item = &T> {
        let leaf = self.leaf(hash);
        let (before, from) =
            leaf.split_at(if leaf.is_empty() { 0 } else { start(hash, leaf.len()) });
        from.iter().chain(before).map_while(Option::as_ref)
    }

    /// Adds an entry, whether one with its key is there or not.
    pub fn insert(&mut self, entry: T) {
        let seed = self.seed;
        let at = self.place(entry.hash(seed));
        let leaf = self.leaf_mut(at);
        let used = leaf.iter().flatten().count();
        // One place in eight stays free, so that searches end soon.
        if (used + 1) * 8 > leaf.len() * 7 {
            let room = (used + 1).max(4) * 5 / 4 + 1;
            *leaf = filled(leaf.iter().flatten().cloned().chain([entry]), room, seed);
        } else {
            put(Arc::make_mut(leaf), entry, seed);
        }
        self.len += 1;
        if self.len > self.leaves * T::LEAF_ENTRIES {
            self.split();
        }
    }

    /// Removes one entry of those with this hash that `is_it` says yes to.
    pub fn remove(&mut self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let found = self.find(hash).find(|entry| is_it(entry))?.clone();
        let (at, seed) = (self.place(hash), self.seed);
        let leaf = self.leaf_mut(at);
        let mut removed = false;
        let kept: Vec<T> = leaf
            .iter()
            .flatten()
            .filter(|entry| {
                removed || entry.hash(seed) != hash || !is_it(entry) || {
                    removed = true;
                    false
                }
            })
            .cloned()
            .collect();
        let room = if kept.len() * 2 < leaf.len() { kept.len() * 5 / 4 + 1 } else { leaf.len() };
        *leaf = filled(kept, room, seed);
        self.len -= 1;
        Some(found)
    }

    /// The one entry with this hash that `is_it` says yes to, to be changed; its key must stay.
    pub fn get_mut(&mut self, hash: u32, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.find(hash).find(|entry| is_it(entry))?;
        let at = self.place(hash);
        let leaf = Arc::make_mut(self.leaf_mut(at));
        leaf.iter_mut().flatten().find(|entry| is_it(entry))
    }

    /// Divides the next leaf into two.
    fn split(&mut self) {
        let (new, seed) = (self.leaves, self.seed);
        if new / PAGE_LEAVES == self.pages.len() {
            let page = self.page();
            self.pages.push(page);
        }
        let half = (new + 1).next_power_of_two() / 2;
        let old = new - half;
        self.leaves += 1;
        let all: Vec<T> = self.leaf_mut(old).iter().flatten().cloned().collect();
        let (stay, go): (Vec<T>, Vec<T>) =
            all.into_iter().partition(|entry| self.place(entry.hash(seed)) == old);
        for (at, entries) in [(old, stay), (new, go)] {
            let room = entries.len() * 5 / 4 + 1;
            *self.leaf_mut(at) = filled(entries, room, seed);
        }
    }
}

/// A leaf of so much room, which is more than there are entries.
fn filled<T: Entry>(entries: impl IntoIterator<Item = T>, room: usize, seed: u64) -> Leaf<T> {
    let mut leaf: Leaf<T> = std::iter::repeat_with(|| None).take(room).collect();
    let places = Arc::make_mut(&mut leaf);
    entries.into_iter().for_each(|entry| put(places, entry, seed));
    leaf
}

/// Puts an entry into the first free place from its start on; there is one.
fn put<T: Entry>(leaf: &mut [Option<T>], entry: T, seed: u64) {
    let mut at = start(entry.hash(seed), leaf.len());
    while leaf[at].is_some() {
        at = (at + 1) % leaf.len();
    }
    leaf[at] = Some(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u32, u32);

    impl Entry for Pair {
        const LEAF_ENTRIES: usize = 8;

        fn hash(&self, _seed: u64) -> u32 {
            // Few bits: many keys share a hash.
            self.0 % 1000
        }
    }

    fn values(table: &Table<Pair>, key: u32) -> Vec<u32> {
        let found = table.find(key % 1000).filter(|pair| pair.0 == key);
        let mut values: Vec<u32> = found.map(|pair| pair.1).collect();
        values.sort_unstable();
        values
    }

    proptest! {
        /// It holds what a list holds, and a copy holds what it held when it was made.
        #[test]
        fn as_a_list(steps in prop::collection::vec((0_u32..3000, 0_u32..4, 0_u8..8), 1..1500)) {
            let mut table = Table::new(7);
            let mut list: Vec<Pair> = Vec::new();
            let mut copies = Vec::new();
            for (key, value, what) in steps {
                match what {
                    0 => copies.push((table.clone(), list.clone())),
                    1 => {
                        let at = list.iter().position(|pair| *pair == Pair(key, value));
                        let gone = table.remove(key % 1000, |pair| *pair == Pair(key, value));
                        prop_assert_eq!(gone, at.map(|at| list.swap_remove(at)));
                    }
                    _ => {
                        table.insert(Pair(key, value));
                        list.push(Pair(key, value));
                    }
                }
            }
            copies.push((table, list));
            for (table, list) in copies {
                prop_assert_eq!(table.len(), list.len());
                prop_assert_eq!(table.iter().count(), list.len());
                for Pair(key, _) in &list {
                    let held = list.iter().filter(|pair| pair.0 == *key).map(|pair| pair.1);
                    let mut held: Vec<u32> = held.collect();
                    held.sort_unstable();
                    prop_assert_eq!(values(&table, *key), held);
                }
            }
        }
    }

    #[test]
    fn an_entry_is_changed_in_its_place() {
        let mut table = Table::new(0);
        (0..500).for_each(|key| table.insert(Pair(key, 0)));
        let before = table.clone();
        table.get_mut(77, |pair| pair.0 == 77).expect("there").1 = 9;
        assert_eq!((values(&table, 77), values(&before, 77)), (vec![9], vec![0]));
        assert!(table.get_mut(77, |pair| pair.0 == 5000).is_none());
    }

    #[test]
    fn a_change_copies_one_leaf_and_one_page() {
        let mut table = Table::new(0);
        (0..100_000).for_each(|key| table.insert(Pair(key, 0)));
        let before = table.clone();
        table.get_mut(1, |pair| pair.0 == 1).expect("there").1 = 9;
        let same = |a: &Leaf<Pair>, b: &Leaf<Pair>| Arc::ptr_eq(a, b);
        let other = table.leaves().zip(before.leaves()).filter(|(a, b)| !same(a, b)).count();
        let pages = table.pages.iter().zip(&before.pages).filter(|(a, b)| !Arc::ptr_eq(a, b));
        assert_eq!((other, pages.count()), (1, 1));
    }
}
