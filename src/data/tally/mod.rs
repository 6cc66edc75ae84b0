//! Counters: one writer a cell, added up when somebody asks.
//!
//! Every worker has cells of its own; no other thread writes them. Counting is a load, an addition
//! and a store of a cell that is in the core's own cache: no locked instruction, no lock, no
//! allocation. A scrape reads all cores' cells and adds. A [`Counter`], [`Histogram`] or
//! [`Latency`] is an index, the same for every core and for the life of the process: a family and
//! its label values give the same cells after any number of reloads.
//!
//! Cells live in chunks that control allocates while it compiles a Corefile, before it publishes
//! what counts in them; chunks never move. What no room is left for counts in cells that are never
//! shown, after one line in the log (`TALLY_SETS_MAX`, `TALLY_CHUNKS_MAX`).
//!
//! Guarantees: sums never lose a count of a worker; a count may miss the scrape it happens in.
//! A histogram's `+Inf` and `_count` always agree, since both come from one read of its buckets.
//!
//! Sums and counts are of the life of the process; the quantiles of a summary are of the last five to
//! ten minutes (`window`).
//!
//! Cost: `add` about 1 ns; `observe` and `latency` two of those and the search for a bucket.
//! 8 bytes a cell and core: 18 cells for a histogram of durations, 450 for a latency.
//!
//! The page is written by `text`, an encoder of our own: `prometheus-client` 0.25 writes
//! OpenMetrics alone, whose counters are declared without `_total` and whose bounds are spelt
//! `100.0`. Prometheus would see other types and other `le` labels than it sees on CoreDNS.

pub mod buckets;
pub mod families;
pub mod query;
mod registry;
pub mod text;
pub mod top;
mod window;

use std::cell::Cell;
use std::marker::PhantomData;
#[allow(clippy::disallowed_types, reason = "the registry is control's: workers never lock it")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::limits::{SHARED_LINE_BYTES, TALLY_CHUNKS_MAX};
pub use buckets::{
    BUCKETS_PROGRAMMING, BUCKETS_QUEUE, BUCKETS_REST, BUCKETS_SIZE, BUCKETS_SLIM, BUCKETS_TIME,
    Buckets,
};
use buckets::{LATENCY_CELLS, latency_cell};
use foldhash::fast::RandomState;
use registry::Registry;
pub use registry::{CellGrid, Gauge};
pub use text::{Format, Page};
use top::Top;

/// A family of series: one name, one help text, one type.
pub struct Family {
    /// The whole exported name, `coredns_dns_requests_total`.
    pub name: &'static str,
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// What its series are.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// Whether its series are shown before anything was counted in them.
    pub from_start: bool,
}

impl Family {
    /// A family of counters.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Counter, labels, from_start: false }
    }

    /// A family of gauges.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, labels, from_start: false }
    }

    /// A family of summaries.
    pub const fn summary(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Summary, labels, from_start: false }
    }

    /// A family of histograms.
    pub const fn histogram(
        name: &'static str,
        buckets: &'static Buckets,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Histogram(buckets), labels, from_start: false }
    }

    /// The family with its series shown before anything was counted in them.
    pub const fn from_start(mut self) -> Self {
        self.from_start = true;
        self
    }
}

/// What the series of a family are.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Only grows. Its name ends in `_total`.
    Counter,
    /// Goes up and down; set, not counted.
    Gauge,
    /// Counts per bucket.
    Histogram(&'static Buckets),
    /// Quantiles of a [`Latency`].
    Summary,
}

/// Counters that share their label values but for some that run over fixed words. One block of
/// cells holds them all: one registration instead of one for each combination.
pub struct Grid {
    /// The family; `labels` are the given ones. Must be of counters.
    pub family: Family,
    /// The further labels, each with the words it runs over.
    pub each: &'static [(&'static str, &'static [&'static str])],
}

impl Grid {
    /// Combinations of words.
    pub const fn cells(&self) -> usize {
        let (mut all, mut at) = (1, 0);
        while at < self.each.len() {
            all *= self.each[at].1.len();
            at += 1;
        }
        all
    }
}

/// A counter: the index of its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(u32);

/// A histogram: the index of its first cell, and its bounds.
#[derive(Clone, Copy)]
pub struct Histogram(u32, &'static Buckets);

impl PartialEq for Histogram {
    /// Cells belong to one histogram only.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A distribution of latencies from 64 ns to 17 s, to a sixteenth: the index of its first cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency(u32);

/// Cells of a chunk: 32 KiB.
const CHUNK_CELLS: usize = 4096;
const _: () = assert!(CHUNK_CELLS.is_power_of_two());
const _: () = assert!(TALLY_CHUNKS_MAX.is_power_of_two());
const _: () = assert!(TALLY_CHUNKS_MAX * CHUNK_CELLS <= u32::MAX as usize);
const _: () = assert!(LATENCY_CELLS < CHUNK_CELLS);
const _: () = assert!(align_of::<Chunk>() >= SHARED_LINE_BYTES);
const _: () = assert!(align_of::<Cells>() >= SHARED_LINE_BYTES);

/// Aligned to two cache lines, since the prefetcher takes them in pairs: no other core's cells are
/// near. The cells of one family and label set are all in one chunk.
#[repr(align(128))]
struct Chunk([AtomicU64; CHUNK_CELLS]);

impl Chunk {
    /// Masks instead of checks: every index given out is in range, and the compiler sees it.
    #[inline]
    fn cell(&self, index: u32) -> &AtomicU64 {
        &self.0[index as usize & (CHUNK_CELLS - 1)]
    }

    /// Load and store are enough: a core's chunks have one writer, and a reader needs no order.
    #[inline]
    fn bump(&self, index: u32, n: u64) {
        let cell = self.cell(index);
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// All cells of one core.
#[repr(align(128))]
struct Cells {
    taken: AtomicBool,
    chunks: Box<[OnceLock<Box<Chunk>>; TALLY_CHUNKS_MAX]>,
}

impl Cells {
    fn new() -> Cells {
        let chunks = Box::new([const { OnceLock::new() }; TALLY_CHUNKS_MAX]);
        Cells { taken: AtomicBool::new(false), chunks }
    }

    /// Makes the chunk of cell `index` there. Control's, before the index is given out.
    fn grow(&self, chunk: usize) {
        self.chunks[chunk]
            .get_or_init(|| Box::new(Chunk([const { AtomicU64::new(0) }; CHUNK_CELLS])));
    }

    /// The chunk in which cell `index` is.
    #[inline]
    fn chunk(&self, index: u32) -> Option<&Chunk> {
        let chunk = &self.chunks[(index as usize / CHUNK_CELLS) & (TALLY_CHUNKS_MAX - 1)];
        chunk.get().map(|chunk| &**chunk)
    }

    fn cell(&self, index: u32) -> Option<&AtomicU64> {
        self.chunk(index).map(|chunk| chunk.cell(index))
    }

    fn read(&self, index: u32) -> u64 {
        self.cell(index).map_or(0, |cell| cell.load(Relaxed))
    }
}

#[allow(clippy::disallowed_types, reason = "see above")]
type Locked = Mutex<Registry>;

/// The registry of the process, and every core's cells.
pub struct Tally {
    registry: Locked,
    cores: Box<[Arc<Cells>]>,
    /// Who asks, by core.
    tops: Box<[Arc<Top>]>,
    /// Written by whoever is no worker, with locked additions: rare events only.
    shared: Cells,
}

impl Tally {
    /// A registry for `cores` writers: the workers, and control as the last.
    pub fn new(cores: usize) -> Arc<Tally> {
        let seed = RandomState::default();
        let tally = Arc::new(Tally {
            registry: Locked::new(Registry::new()),
            cores: (0..cores).map(|_| Arc::new(Cells::new())).collect(),
            tops: (0..cores).map(|core| Arc::new(Top::new(&seed, core))).collect(),
            shared: Cells::new(),
        });
        tally.grow(0);
        for family in families::ALWAYS {
            tally.enable(family);
        }
        tally
    }

    /// The cells of one core. There is one writer at a time: a second call for the same index
    /// panics until the first `CoreTally` is dropped.
    pub fn core(self: &Arc<Self>, index: usize) -> CoreTally {
        let cells = Arc::clone(&self.cores[index]);
        let taken = cells.taken.swap(true, std::sync::atomic::Ordering::AcqRel);
        assert!(!taken, "the counters of core {index} have a writer");
        CoreTally { cells, top: Arc::clone(&self.tops[index]), _one_thread: PhantomData }
    }

    /// Counts a rare event from a thread that has no [`CoreTally`].
    pub fn add(&self, counter: Counter, n: u64) {
        self.shared_add(counter.0, n);
    }

    /// Observes a rare event from a thread that has no [`CoreTally`].
    pub fn observe(&self, histogram: Histogram, value: u64) {
        let Histogram(first, buckets) = histogram;
        self.shared_add(first + buckets.find(value) as u32, 1);
        self.shared_add(first + buckets.bounds.len() as u32 + 1, value);
    }

    /// Counts a latency of `ns` nanoseconds from a thread that has no [`CoreTally`].
    pub fn latency_of(&self, latency: Latency, ns: u64) {
        self.shared_add(latency.0 + latency_cell(ns) as u32, 1);
        self.shared_add(latency.0 + LATENCY_CELLS as u32 - 1, ns);
    }

    fn shared_add(&self, index: u32, n: u64) {
        if let Some(cell) = self.shared.cell(index) {
            cell.fetch_add(n, Relaxed);
        }
    }

    fn grow(&self, chunk: usize) {
        self.cores.iter().for_each(|cells| cells.grow(chunk));
        self.shared.grow(chunk);
    }

    /// What a cell holds on all cores together.
    fn sum(&self, index: u32) -> u64 {
        let cores = self.cores.iter().map(|cells| cells.read(index));
        cores.fold(self.shared.read(index), u64::wrapping_add)
    }

    /// The value of a counter now, on one core.
    pub fn value_on(&self, core: usize, counter: Counter) -> u64 {
        self.cores.get(core).map_or(0, |cells| cells.read(counter.0))
    }

    /// The latencies that one core has counted: nanoseconds at most, and how many; cells that hold
    /// nothing are left out.
    pub fn latencies_on(&self, core: usize, latency: Latency) -> Vec<(u64, u64)> {
        let Some(cells) = self.cores.get(core) else { return Vec::new() };
        let counts = (0..LATENCY_CELLS - 1).map(|at| (at, cells.read(latency.0 + at as u32)));
        let counts = counts.filter(|(_, count)| *count > 0);
        counts.map(|(at, count)| (buckets::latency_top(at), count)).collect()
    }

    /// The value of a counter now, on all cores together.
    pub fn value(&self, counter: Counter) -> u64 {
        self.sum(counter.0)
    }
}

/// One core's counters: the only writer of its cells. It may move to its thread, not be shared.
pub struct CoreTally {
    cells: Arc<Cells>,
    top: Arc<Top>,
    _one_thread: PhantomData<Cell<()>>,
}

impl CoreTally {
    /// Adds `n` to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(chunk) = self.cells.chunk(counter.0) {
            chunk.bump(counter.0, n);
        }
    }

    /// Adds one to the bucket of `value`, and `value` to the sum.
    #[inline]
    pub fn observe(&self, histogram: Histogram, value: u64) {
        self.observe_times(histogram, value, 1);
    }

    /// As `observe`, of so many things with the same value.
    #[inline]
    pub fn observe_times(&self, histogram: Histogram, value: u64, times: u64) {
        let Histogram(first, buckets) = histogram;
        if let Some(chunk) = self.cells.chunk(first) {
            chunk.bump(first + buckets.find(value) as u32, times);
            chunk.bump(first + buckets.bounds.len() as u32 + 1, value * times);
        }
    }

    /// Counts a latency of `ns` nanoseconds.
    #[inline]
    pub fn latency(&self, latency: Latency, ns: u64) {
        self.latency_times(latency, ns, 1);
    }

    /// As `latency`, of so many things that took as long.
    pub fn latency_times(&self, latency: Latency, ns: u64, times: u64) {
        if let Some(chunk) = self.cells.chunk(latency.0) {
            chunk.bump(latency.0 + latency_cell(ns) as u32, times);
            chunk.bump(latency.0 + LATENCY_CELLS as u32 - 1, ns * times);
        }
    }
}

impl Drop for CoreTally {
    fn drop(&mut self) {
        self.cells.taken.store(false, std::sync::atomic::Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
