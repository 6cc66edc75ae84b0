//! What a cache counts: CoreDNS's families.

use std::sync::Arc;

use crate::data::tally::{Counter, Family, Gauge, Kind, Tally};
use crate::snapshot::Server;
use crate::store::{Class, Pool, Table};

macro_rules! families {
    ($($static:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(static $static: Family = Family {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            labels: &[$($label),*],
            from_start: false,
        };)*
    };
}

families! {
    REQUESTS Counter "coredns_cache_requests_total" ["server" "zones" "view"]
        "Queries for names that are cached.";
    MISSES Counter "coredns_cache_misses_total" ["server" "zones" "view"]
        "Queries that found nothing in the cache.";
    PREFETCHES Counter "coredns_cache_prefetch_total" ["server" "zones" "view"]
        "Entries that were asked for again before or after their end, by the cache itself.";
    DROPS Counter "coredns_cache_drops_total" ["server" "zones" "view"]
        "Replies that were not stored since they are to another question.";
    STALE Counter "coredns_cache_served_stale_total" ["server" "zones" "view"]
        "Queries answered after the end of the entry's life.";
    HITS Counter "coredns_cache_hits_total" ["server" "type" "zones" "view"]
        "Queries answered from the cache, by the type of the entry.";
    EVICTIONS Counter "coredns_cache_evictions_total" ["server" "type" "zones" "view"]
        "Entries that had to go before others, by type.";
    ENTRIES Gauge "coredns_cache_entries" ["server" "type" "zones" "view"]
        "Entries in the cache, by type.";
    BYTES Gauge "corelane_cache_bytes" ["server" "zones" "view"]
        "Octets of memory that the cache has.";
    USED Gauge "corelane_cache_used_bytes" []
        "Octets of memory that all caches have.";
    BUDGET Gauge "corelane_cache_budget_bytes" []
        "Octets of memory that all caches together may have.";
}

/// Values of `type`, by class.
const TYPES: [&str; 2] = ["success", "denial"];

/// Cells of one zone of the block on one listener.
#[derive(Clone, Copy)]
pub struct Cells {
    /// Queries.
    pub requests: Counter,
    /// Queries without an entry.
    pub misses: Counter,
    /// Refreshes begun by the cache itself.
    pub prefetches: Counter,
    /// Replies to other questions.
    pub drops: Counter,
    /// Stale answers.
    pub stale: Counter,
    hits: [Counter; 2],
    evictions: [Counter; 2],
}

impl Cells {
    /// Registers those of `server`; `zones` is the label.
    pub fn new(tally: &Tally, server: &Server, zones: &str) -> Self {
        let (at, view) = (&*server.server_label, &*server.view_label);
        let plain = |family| tally.counter(family, &[at, zones, view]);
        let typed = |family| TYPES.map(|word| tally.counter(family, &[at, word, zones, view]));
        Self {
            requests: plain(&REQUESTS),
            misses: plain(&MISSES),
            prefetches: plain(&PREFETCHES),
            drops: plain(&DROPS),
            stale: plain(&STALE),
            hits: typed(&HITS),
            evictions: typed(&EVICTIONS),
        }
    }

    /// Hits of a class.
    pub fn hits(&self, class: Class) -> Counter {
        self.hits[class as usize]
    }

    /// Evictions of a class.
    pub fn evictions(&self, class: Class) -> Counter {
        self.evictions[class as usize]
    }
}

/// The budget, and what all caches have of it.
pub fn budget(tally: &Tally, pool: &Arc<Pool>) -> [Gauge; 2] {
    let (used, limit) = (Arc::clone(pool), Arc::clone(pool));
    [
        tally.gauge_fn(&USED, &[], Box::new(move || used.used() as f64)),
        tally.gauge_fn(&BUDGET, &[], Box::new(move || limit.limit() as f64)),
    ]
}

/// The sizes of a table; its entries are shown once something has been stored.
pub fn sizes(tally: &Tally, server: &Server, zones: &str, table: &Arc<Table>) -> [Gauge; 3] {
    let (at, view) = (&*server.server_label, &*server.view_label);
    let all = Arc::clone(table);
    let bytes = tally.gauge_fn(&BYTES, &[at, zones, view], Box::new(move || all.bytes() as f64));
    let [success, denial] = [Class::Success, Class::Denial].map(|class| {
        let table = Arc::clone(table);
        let read = move || {
            let all = table.entries(Class::Success) + table.entries(Class::Denial);
            if all == 0 { f64::NAN } else { table.entries(class) as f64 }
        };
        let labels = [at, TYPES[class as usize], zones, view];
        tally.gauge_fn(&ENTRIES, &labels, Box::new(read))
    });
    [success, denial, bytes]
}
