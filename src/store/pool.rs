//! Segments of memory that all tables share, within one budget.
//!
//! A segment is made when it is first needed and lives as long as the pool, so that a reader may look
//! into one that has been given to another table meanwhile: it finds other words, and notices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
#[allow(clippy::disallowed_types, reason = "taken for segments and tables, never by a reader")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak};

use super::table::Table;
use crate::limits::{STORE_CHUNKS_MAX, STORE_LARGE_WORDS, STORE_SEGMENT_WORDS, STORE_SHRINKS_MAX};

/// Segments of one chunk of the directory.
const CHUNK_SEGMENTS: usize = 1024;
/// Words of a usual segment, and of one for an entry that is too long for it.
const SIZES: [usize; 2] = [STORE_SEGMENT_WORDS, STORE_LARGE_WORDS];

type Segment = Box<[AtomicU64]>;
type Chunk = Box<[OnceLock<Segment>]>;

/// The segments of the process.
pub struct Pool {
    chunks: Box<[OnceLock<Chunk>]>,
    free: Locked<Free>,
    tables: Locked<Vec<Weak<Table>>>,
    /// Octets in use: segments, and what tables have of their own.
    used: AtomicUsize,
    limit: AtomicUsize,
    /// How many shares wish for so many octets.
    wishes: Locked<BTreeMap<usize, usize>>,
}

#[allow(clippy::disallowed_types, reason = "see above")]
type Locked<T> = Mutex<T>;

#[derive(Default)]
struct Free {
    /// Of each size.
    ids: [Vec<u32>; 2],
    /// Segments that were ever made; the first has number 1.
    made: u32,
}

/// Makes `count` cells by `make`.
pub(super) fn cells<T>(count: usize, make: impl Fn() -> T) -> Box<[T]> {
    (0..count).map(|_| make()).collect()
}

/// A lock that a panic cannot leave in a bad state: at worst octets are lost to the budget.
fn locked<T>(lock: &Locked<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// No segments yet; at most `limit` octets.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            chunks: cells(STORE_CHUNKS_MAX, OnceLock::new),
            free: Locked::default(),
            tables: Locked::default(),
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            wishes: Locked::default(),
        })
    }

    /// Changes what is wished for: the largest wish is the budget. Memory over it is given to no table
    /// again as it comes free.
    fn wish(&self, change: impl FnOnce(&mut BTreeMap<usize, usize>)) {
        let mut wishes = locked(&self.wishes);
        change(&mut wishes);
        if let Some((largest, _)) = wishes.last_key_value() {
            self.limit.store(*largest, Relaxed);
        }
    }

    /// The budget in octets.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Octets in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Tables that live.
    pub(super) fn enter(&self, table: &Arc<Table>) {
        let mut tables = locked(&self.tables);
        // Those that are gone leave when the vector is full: a Corefile has thousands of tables.
        if tables.len() == tables.capacity() {
            tables.retain(|weak| weak.strong_count() > 0);
        }
        tables.push(Arc::downgrade(table));
    }

    /// A table takes so many octets more for its own.
    pub(super) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// A table goes: so many octets of its own come free.
    pub(super) fn leave(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// The words of a segment.
    #[inline]
    pub(super) fn segment(&self, id: u32) -> Option<&[AtomicU64]> {
        let chunk = self.chunks.get(id as usize / CHUNK_SEGMENTS)?.get()?;
        chunk[id as usize % CHUNK_SEGMENTS].get().map(|segment| &**segment)
    }

    /// Whether the budget has room for a segment more, for an entry of so many words.
    pub(super) fn has_room(&self, words: usize) -> bool {
        self.used() + SIZES[size_for(words)] * 8 <= self.limit()
    }

    /// A segment for an entry of so many words, with its own words; also over the budget: who asks has
    /// made room, or is about to.
    pub(super) fn take(&self, words: usize) -> Option<(u32, usize)> {
        let size = size_for(words);
        let mut free = locked(&self.free);
        let id = match free.ids[size].pop() {
            Some(id) => id,
            None => {
                let id = free.made + 1;
                let chunk = self.chunks.get(id as usize / CHUNK_SEGMENTS)?;
                let chunk = chunk.get_or_init(|| cells(CHUNK_SEGMENTS, OnceLock::new));
                chunk[id as usize % CHUNK_SEGMENTS].get_or_init(|| zeros(SIZES[size]));
                free.made = id;
                id
            }
        };
        self.used.fetch_add(SIZES[size] * 8, Relaxed);
        Some((id, SIZES[size]))
    }

    /// Takes a segment back.
    pub(super) fn give(&self, id: u32) {
        let words = self.segment(id).map_or(0, <[_]>::len);
        locked(&self.free).ids[size_for(words)].push(id);
        self.used.fetch_sub(words * 8, Relaxed);
    }

    /// Makes room for a segment, for an entry of so many words: the largest table loses its oldest entries. Not to be called with a
    /// table's lock held.
    pub(super) fn make_room(&self, words: usize) {
        for _ in 0..STORE_SHRINKS_MAX {
            if self.has_room(words) {
                return;
            }
            let largest = {
                let tables = locked(&self.tables);
                tables.iter().filter_map(Weak::upgrade).max_by_key(|table| table.held_words())
            };
            if let Some(table) = largest {
                table.shrink();
            }
        }
    }
}

/// A share in the pool of the process, which lives as long as somebody has one.
pub struct Share {
    pool: Arc<Pool>,
    wish: usize,
}

impl Share {
    /// A share in the one pool of the process. Its budget is the largest that anybody wishes.
    pub fn new(wish: usize) -> Self {
        static OF_PROCESS: Locked<Weak<Pool>> = Locked::new(Weak::new());
        let mut living = locked(&OF_PROCESS);
        let pool = living.upgrade().unwrap_or_else(|| {
            let pool = Pool::new(wish);
            *living = Arc::downgrade(&pool);
            pool
        });
        drop(living);
        let share = Self { pool, wish };
        share.pool.wish(|wishes| *wishes.entry(wish).or_default() += 1);
        share
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.wish(|wishes| {
            if let Entry::Occupied(mut shares) = wishes.entry(self.wish) {
                *shares.get_mut() -= 1;
                if *shares.get() == 0 {
                    shares.remove();
                }
            }
        });
    }
}

/// Which of the sizes an entry of so many words needs.
fn size_for(words: usize) -> usize {
    usize::from(words > STORE_SEGMENT_WORDS)
}

/// Cells of zero.
pub(super) fn zeros(count: usize) -> Box<[AtomicU64]> {
    cells(count, || AtomicU64::new(0))
}
