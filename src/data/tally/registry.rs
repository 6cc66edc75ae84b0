//! Which family and label values count in which cells. Control's: it takes a lock and allocates.
//!
//! A series of cells is for ever. A gauge is shown as long as somebody holds its [`Gauge`]: what a
//! generation of the configuration sets goes when the generation does, and what the next one sets
//! to the same labels is not taken away with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::buckets::{LATENCY_CELLS, latency_top};
use super::text::{Format, Page, push_labels};
use super::window::Windows;
use super::{CHUNK_CELLS, Counter, Family, Grid, Histogram, Kind, Latency, Tally};
use crate::data::clock::{self, Nanos};
use crate::limits::{TALLY_CHUNKS_MAX, TALLY_SETS_MAX};

/// Cells at the start that are never shown: what there was no room for counts there.
const SINK: u32 = 0;
const SINK_CELLS: usize = 512;
const _: () = assert!(LATENCY_CELLS <= SINK_CELLS);

/// The label value of everything over [`TALLY_SETS_MAX`].
const OVERFLOW: &str = "overflow";

type Words = &'static [(&'static str, &'static [&'static str])];
type Read = Box<dyn Fn() -> f64 + Send + Sync>;
/// Gives what cells have counted lately: the first one, and what they hold now.
type Recent<'a> = &'a mut dyn FnMut(u32, &[u64]) -> Vec<u64>;

struct Reading {
    bits: AtomicU64,
    read: Option<Read>,
}

/// A series that is set, or read when asked. Shown while a handle lives; handles may be cloned.
#[derive(Clone)]
#[must_use = "a gauge is shown as long as its handle lives"]
pub struct Gauge(Arc<Reading>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.bits.store(value.to_bits(), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        match &self.0.read {
            Some(read) => read(),
            None => f64::from_bits(self.0.bits.load(Relaxed)),
        }
    }
}

/// The cells of one set of label values of a [`Grid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellGrid {
    first: u32,
    sunk: bool,
}

impl CellGrid {
    /// The counter at these places in the words of the grid's labels, `N` of them.
    #[inline]
    pub fn at<const N: usize>(self, grid: &Grid, places: [usize; N]) -> Counter {
        debug_assert_eq!(N, grid.each.len());
        if self.sunk {
            return Counter(SINK);
        }
        let mut index = 0;
        for ((_, words), place) in grid.each.iter().zip(places) {
            index = index * words.len() + place.min(words.len() - 1);
        }
        Counter(self.first + index as u32)
    }
}

/// Series by their rendered labels, `server="dns://:53",zone="."`.
enum Series {
    Cells(BTreeMap<Box<str>, u32>),
    Readings(BTreeMap<Box<str>, Vec<Weak<Reading>>>),
}

struct Entry {
    family: &'static Family,
    each: Words,
    series: Series,
    /// The one reading of a family without labels, which is always shown.
    always: Option<Gauge>,
    full: bool,
}

/// The families and the next free cell.
pub(super) struct Registry {
    families: Vec<Entry>,
    by_name: BTreeMap<&'static str, usize>,
    windows: Windows,
    next: usize,
    full: bool,
}

impl Registry {
    pub(super) fn new() -> Registry {
        Registry {
            families: Vec::new(),
            by_name: BTreeMap::new(),
            windows: Windows::default(),
            next: SINK as usize + SINK_CELLS,
            full: false,
        }
    }

    /// The entry of a family; families of the same name are one (the first one's texts stay).
    fn entry(&mut self, family: &'static Family, each: Words) -> &mut Entry {
        let at = *self.by_name.entry(family.name).or_insert_with(|| {
            let series = match family.kind {
                Kind::Gauge => Series::Readings(BTreeMap::new()),
                _ => Series::Cells(BTreeMap::new()),
            };
            self.families.push(Entry { family, each, series, always: None, full: false });
            self.families.len() - 1
        });
        let entry = &mut self.families[at];
        debug_assert_eq!(entry.family.labels, family.labels, "{}", family.name);
        debug_assert_eq!(entry.each.len(), each.len(), "{}", family.name);
        entry
    }

    /// Room for `count` cells in one chunk, or `None` when all chunks are used up.
    fn room(&mut self, count: usize) -> Option<u32> {
        debug_assert!(count <= CHUNK_CELLS);
        let mut first = self.next;
        if first / CHUNK_CELLS != (first + count - 1) / CHUNK_CELLS {
            first = first.next_multiple_of(CHUNK_CELLS);
        }
        if first + count > TALLY_CHUNKS_MAX * CHUNK_CELLS {
            if !self.full {
                tracing::warn!("no room for more counters: further ones are not exported");
            }
            self.full = true;
            return None;
        }
        self.next = first + count;
        Some(first as u32)
    }

    /// The labels under which a series is kept: those asked for, or the overflow's.
    fn admit(&mut self, family: &'static Family, each: Words, labels: &[&str]) -> Box<str> {
        assert_eq!(family.labels.len(), labels.len(), "labels of {}", family.name);
        let rendered = render(family.labels, labels);
        let entry = self.entry(family, each);
        let (known, used) = match &entry.series {
            Series::Cells(series) => (series.contains_key(&rendered), series.len()),
            Series::Readings(series) => (series.contains_key(&rendered), series.len()),
        };
        if known || used < TALLY_SETS_MAX {
            return rendered;
        }
        if !entry.full {
            tracing::warn!("{}: over {TALLY_SETS_MAX} label sets: no more", family.name);
        }
        entry.full = true;
        render(family.labels, &vec![OVERFLOW; labels.len()])
    }
}

fn render(names: &[&str], values: &[&str]) -> Box<str> {
    let mut text = String::new();
    push_labels(&mut text, names.iter().copied().zip(values.iter().copied()));
    text.into_boxed_str()
}

impl Tally {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic inside leaves maps whole: at worst a series without its cells.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of `count` cells of a series, and whether it is one that is shown.
    fn cells(
        &self,
        family: &'static Family,
        each: Words,
        labels: &[&str],
        count: usize,
    ) -> (u32, bool) {
        let mut registry = self.registry();
        let key = registry.admit(family, each, labels);
        let Series::Cells(series) = &registry.entry(family, each).series else {
            unreachable!("{} is a gauge", family.name)
        };
        if let Some(first) = series.get(&key) {
            return (*first, true);
        }
        let Some(first) = registry.room(count) else { return (SINK, false) };
        self.grow(first as usize / CHUNK_CELLS);
        if let Series::Cells(series) = &mut registry.entry(family, each).series {
            series.insert(key, first);
        }
        (first, true)
    }

    /// A counter of the family with these label values.
    pub fn counter(&self, family: &'static Family, labels: &[&str]) -> Counter {
        debug_assert!(matches!(family.kind, Kind::Counter) && family.name.ends_with("_total"));
        Counter(self.cells(family, &[], labels, 1).0)
    }

    /// All counters of a grid with these label values.
    pub fn grid(&self, grid: &'static Grid, labels: &[&str]) -> CellGrid {
        debug_assert!(matches!(grid.family.kind, Kind::Counter));
        let (first, shown) = self.cells(&grid.family, grid.each, labels, grid.cells());
        CellGrid { first, sunk: !shown }
    }

    /// A histogram of the family with these label values.
    pub fn histogram(&self, family: &'static Family, labels: &[&str]) -> Histogram {
        let Kind::Histogram(buckets) = family.kind else {
            unreachable!("{} is no histogram", family.name)
        };
        Histogram(self.cells(family, &[], labels, buckets.cells()).0, buckets)
    }

    /// A latency of the family, which is a summary, with these label values.
    pub fn latency(&self, family: &'static Family, labels: &[&str]) -> Latency {
        debug_assert!(matches!(family.kind, Kind::Summary));
        Latency(self.cells(family, &[], labels, LATENCY_CELLS).0)
    }

    /// A gauge of the family with these label values, 0 until it is set. While one with the same
    /// labels lives this is another handle to it.
    pub fn gauge(&self, family: &'static Family, labels: &[&str]) -> Gauge {
        let mut registry = self.registry();
        let key = registry.admit(family, &[], labels);
        let entry = registry.entry(family, &[]);
        if let Some(gauge) = &entry.always {
            return gauge.clone();
        }
        let living = entry
            .readings()
            .get(&key)
            .map_or(&[][..], |held| held)
            .iter()
            .filter_map(Weak::upgrade);
        if let Some(reading) = living.rev().find(|reading| reading.read.is_none()) {
            return Gauge(reading);
        }
        entry.show(key, None)
    }

    /// A series whose value is read when the page is made: a gauge, or with a family that is a
    /// counter one that somebody else counts (the kernel). Of several with the same labels the
    /// newest living one is shown, unless it is not a number: there is nothing to show yet. `read`
    /// must not register anything.
    pub fn gauge_fn(&self, family: &'static Family, labels: &[&str], read: Read) -> Gauge {
        let mut registry = self.registry();
        let key = registry.admit(family, &[], labels);
        registry.entry(family, &[]).show(key, Some(read))
    }

    /// Shows a family without labels from now on, as 0 until it is counted in.
    pub fn enable(&self, family: &'static Family) {
        debug_assert!(family.labels.is_empty());
        match family.kind {
            Kind::Counter => drop(self.counter(family, &[])),
            Kind::Histogram(_) => drop(self.histogram(family, &[])),
            Kind::Summary => drop(self.latency(family, &[])),
            Kind::Gauge => {
                let gauge = self.gauge(family, &[]);
                self.registry().entry(family, &[]).always = Some(gauge);
            }
        }
    }

    /// Appends the whole page to `out`.
    pub fn scrape(&self, out: &mut String, format: Format) {
        let mut page = Page::new(out, format);
        self.write(&mut page);
        page.finish();
    }

    /// Writes every family that has something to show, by name.
    pub fn write(&self, page: &mut Page<'_>) {
        self.write_at(page, clock::now());
    }

    /// As `write`, at this time.
    pub(super) fn write_at(&self, page: &mut Page<'_>, now: Nanos) {
        let mut registry = self.registry();
        let Registry { families, by_name, windows, .. } = &mut *registry;
        let due = windows.is_due(now);
        for at in by_name.values() {
            families[*at]
                .write(self, page, &mut |first, counts| windows.recent(first, counts, due));
        }
    }

    /// The latencies that the series of a summary have counted on all cores together: the series'
    /// labels as they are shown, nanoseconds at most and how many. Cells that hold nothing are left
    /// out, and so are series without any.
    pub fn latencies(&self, name: &str) -> Vec<(String, Vec<(u64, u64)>)> {
        let registry = self.registry();
        let entry = registry.by_name.get(name).map(|at| &registry.families[*at]);
        let Some(Entry { family, series: Series::Cells(series), .. }) = entry else {
            return Vec::new();
        };
        debug_assert!(matches!(family.kind, Kind::Summary));
        let cells = |first: u32| {
            let counts = (0..LATENCY_CELLS - 1).map(|at| (at, self.sum(first + at as u32)));
            let counts = counts.filter(|(_, count)| *count > 0);
            counts.map(|(at, count)| (latency_top(at), count)).collect::<Vec<_>>()
        };
        let all = series.iter().map(|(labels, first)| (labels.to_string(), cells(*first)));
        all.filter(|(_, cells)| !cells.is_empty()).collect()
    }
}

impl Entry {
    fn readings(&mut self) -> &mut BTreeMap<Box<str>, Vec<Weak<Reading>>> {
        // A counter that the kernel counts has no cells: the first reading decides.
        if matches!(&self.series, Series::Cells(cells) if cells.is_empty()) {
            self.series = Series::Readings(BTreeMap::new());
        }
        match &mut self.series {
            Series::Readings(readings) => readings,
            Series::Cells(_) => unreachable!("{} has cells", self.family.name),
        }
    }

    fn show(&mut self, key: Box<str>, read: Option<Read>) -> Gauge {
        let reading = Arc::new(Reading { bits: AtomicU64::new(0), read });
        let held = self.readings().entry(key).or_default();
        // Those that are gone leave when the vector is full: each of thousands of caches shows the
        // budget of all.
        if held.len() == held.capacity() {
            held.retain(|weak| weak.strong_count() > 0);
        }
        held.push(Arc::downgrade(&reading));
        Gauge(reading)
    }

    fn write(&mut self, tally: &Tally, page: &mut Page<'_>, recent: Recent<'_>) {
        let (family, each) = (self.family, self.each);
        page.family(family.name, family.help, family.kind, |page| match &mut self.series {
            Series::Readings(readings) => {
                readings.retain(|labels, held| {
                    let Some(newest) = held.iter().rev().find_map(Weak::upgrade) else {
                        return false;
                    };
                    let value = Gauge(newest).get();
                    if !value.is_nan() {
                        page.float("", labels, value);
                    }
                    true
                });
            }
            Series::Cells(series) => {
                for (labels, first) in series.iter() {
                    write_cells(tally, page, (family, each), labels, *first, recent);
                }
            }
        });
    }
}

/// One series of cells. One with labels is shown once it has counted something, as CoreDNS does.
fn write_cells(
    tally: &Tally,
    page: &mut Page<'_>,
    (family, each): (&Family, Words),
    labels: &str,
    first: u32,
    recent: Recent<'_>,
) {
    let always = family.from_start || family.labels.is_empty() && each.is_empty();
    match family.kind {
        Kind::Histogram(buckets) => {
            let counts: Vec<u64> =
                (0..=buckets.bounds.len() as u32).map(|at| tally.sum(first + at)).collect();
            if always || counts.iter().any(|count| *count > 0) {
                let sum = tally.sum(first + counts.len() as u32);
                page.histogram(labels, buckets, &counts, sum);
            }
        }
        Kind::Summary => {
            let counts: Vec<u64> =
                (0..LATENCY_CELLS as u32 - 1).map(|at| tally.sum(first + at)).collect();
            if always || counts.iter().any(|count| *count > 0) {
                let sum = tally.sum(first + counts.len() as u32);
                page.summary(labels, &recent(first, &counts), counts.iter().sum(), sum);
            }
        }
        Kind::Counter | Kind::Gauge if each.is_empty() => {
            let value = tally.sum(first);
            if always || value > 0 {
                page.integer("", labels, value);
            }
        }
        Kind::Counter | Kind::Gauge => {
            let cells: usize = each.iter().map(|(_, words)| words.len()).product();
            for at in 0..cells {
                let value = tally.sum(first + at as u32);
                if value > 0 {
                    page.integer("", &grid_labels(labels, each, at), value);
                }
            }
        }
    }
}

/// The labels of cell `at` of a grid: the last label's words run fastest.
fn grid_labels(labels: &str, each: Words, at: usize) -> String {
    let mut text = String::from(labels);
    let mut past: usize = each.iter().map(|(_, words)| words.len()).product();
    let mut rest = at;
    for (name, words) in each {
        past /= words.len();
        push_labels(&mut text, std::iter::once((*name, words[rest / past])));
        rest %= past;
    }
    text
}
