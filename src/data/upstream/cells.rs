//! What workers and control share of an upstream: health, load, latency; and what is counted.
//!
//! Cells are atomics on cache lines of their own, touched only by a query that waits. Updates are
//! loads and stores: two workers that write at the same time lose one sample, which an estimate bears.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::Carrier;
use crate::data::clock::{MILLISECOND, Nanos};
use crate::data::tally::{Counter, Family, Latency, Tally};

/// Health, load and latency of one upstream.
#[repr(align(128))]
#[derive(Default)]
pub struct UpstreamCells {
    /// Failures since the last sign of life: whoever judges health counts and clears them.
    pub fails: AtomicU32,
    /// Queries that wait for a reply, on all workers.
    pub in_flight: AtomicU32,
    /// Peak-sensitive moving average of the time to a reply, nanoseconds; 0: none seen yet.
    ewma: AtomicU64,
    /// When the average was last moved.
    moved: AtomicU64,
    /// Estimate of the 95th percentile of the time to a reply, nanoseconds; 0: none seen yet.
    p95: AtomicU64,
    /// When the first query was sent after the last sign of life; 0: nothing has been since, or nothing
    /// waits any more.
    unheard: AtomicU64,
}

/// Time in which an old sample loses most of its weight.
const DECAY: Nanos = 10_000 * MILLISECOND;

impl UpstreamCells {
    /// Takes in that a query was sent.
    pub(super) fn sent(&self, now: Nanos) {
        self.in_flight.fetch_add(1, Relaxed);
        if self.unheard.load(Relaxed) == 0 {
            self.unheard.store(now.max(1), Relaxed);
        }
    }

    /// Takes in that a query waits no longer, replied to or not.
    pub(super) fn ended(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.unheard.store(0, Relaxed);
        }
    }

    /// For how long queries have waited without a sign of life, nanoseconds: since the first that was
    /// sent after the last reply.
    pub fn unheard_for(&self, now: Nanos) -> Nanos {
        match self.unheard.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }

    /// Takes in the time that a reply took.
    pub fn observe(&self, took: Nanos, now: Nanos) {
        let took = took.max(1);
        self.unheard.store(0, Relaxed);
        self.bear(took, now);
        let old = self.p95.load(Relaxed);
        // A stochastic estimate: up by 19 parts where a sample is above, down by one where not.
        let step = (old / 128).max(1_000);
        let next = match old {
            0 => took,
            _ if took > old => old + (19 * step).min(took - old),
            _ => old - step.min(old - took),
        };
        self.p95.store(next.max(1), Relaxed);
    }

    /// Takes in a wait that brought no reply: it counts for the average, and not among the replies.
    pub fn bear(&self, took: Nanos, now: Nanos) {
        let took = took.max(1);
        let (old, moved) = (self.ewma.load(Relaxed), self.moved.swap(now, Relaxed));
        // Up at once, down by and by: a slow reply is news, a fast one may be luck.
        let next = if old == 0 || took > old {
            took
        } else {
            let age = now.saturating_sub(moved).min(DECAY);
            // At least an eighth, whatever the age: many replies a second are many samples.
            let share = (age * 256 / DECAY).clamp(32, 256);
            old - (old - took) * share / 256
        };
        self.ewma.store(next.max(1), Relaxed);
    }

    /// Forgets how long replies take: as if none had been seen.
    pub fn forget_latency(&self) {
        self.ewma.store(0, Relaxed);
    }

    /// Moving average of the waits for a reply that goes up at once and down by and by, nanoseconds;
    /// 0: none seen yet.
    pub fn latency(&self) -> Nanos {
        self.ewma.load(Relaxed)
    }

    /// Estimate of the 95th percentile of the time to a reply, nanoseconds; 0: none seen yet.
    pub fn p95(&self) -> Nanos {
        self.p95.load(Relaxed)
    }
}

static HITS: Family = Family::counter(
    "coredns_proxy_conn_cache_hits_total",
    &["proxy_name", "to", "proto"],
    "Queries to an upstream that found an open socket.",
);
static MISSES: Family = Family::counter(
    "coredns_proxy_conn_cache_misses_total",
    &["proxy_name", "to", "proto"],
    "Queries to an upstream that found no open socket.",
);
static IGNORED: Family = Family::counter(
    "corelane_upstream_ignored_total",
    &["proxy_name", "to", "reason"],
    "Messages of an upstream that were no reply, by what was wrong with them.",
);
static REPEATED: Family = Family::counter(
    "corelane_upstream_repeated_total",
    &["proxy_name", "to", "reason"],
    "Queries sent again: a pooled connection had been closed, or the case was lost.",
);
static HEDGED: Family = Family::counter(
    "corelane_upstream_hedged_total",
    &["proxy_name", "to"],
    "Queries sent to this upstream since another was slow.",
);
static BOUNDED: Family = Family::counter(
    "corelane_upstream_bounds_total",
    &["proxy_name", "to"],
    "Queries to an upstream that met a bound: sockets, queries in flight, octets.",
);
static DURATION: Family = Family::summary(
    "corelane_upstream_duration_seconds",
    &["proxy_name", "to"],
    "Time from sending a query to an upstream to its reply: of every reply that came in time.",
);
static FAILED: Family = Family::counter(
    "corelane_upstream_failed_total",
    &["proxy_name", "to", "reason"],
    "Queries to an upstream that ended without a reply: it was late, or could not be had.",
);

/// Cells of what workers count of an upstream.
#[derive(Clone, Copy)]
pub struct UpstreamCounters {
    /// There was an open socket: of the carrier itself, and by TCP.
    pub(super) hits: [Counter; 2],
    /// There was none: likewise.
    pub(super) misses: [Counter; 2],
    /// Replies to nothing that is in flight: late, doubled or forged.
    pub(super) unasked: Counter,
    /// Replies with the id of a query and another question.
    pub(super) question: Counter,
    /// Replies whose question has lost the letter case of the query.
    pub(super) case: Counter,
    /// Messages that are no reply.
    pub(super) garbage: Counter,
    /// Queries sent again since the connection had been closed.
    pub(super) reconnected: Counter,
    /// Queries sent again without mixed case.
    pub(super) unmixed: Counter,
    /// Queries sent since another upstream was slow.
    pub(super) hedged: Counter,
    /// Queries that met a bound.
    pub(super) bounded: Counter,
    /// How long replies took.
    pub(super) duration: Latency,
    /// Queries whose replies were late.
    pub(super) late: Counter,
    /// Queries that could not be sent, or whose connection was lost.
    pub(super) unreached: Counter,
}

impl UpstreamCounters {
    /// What counts messages that were not taken for a reply.
    pub fn ignored(&self) -> [Counter; 4] {
        [self.unasked, self.question, self.case, self.garbage]
    }

    /// The cells of these labels.
    pub(super) fn new(tally: &Tally, proxy: &str, to: &str, carrier: &Carrier) -> Self {
        let proto = match carrier {
            Carrier::Dns => ["udp", "tcp"],
            Carrier::Tls(_) => ["tcp-tls"; 2],
            Carrier::Https(_) => ["https"; 2],
        };
        let ignored = |reason| tally.counter(&IGNORED, &[proxy, to, reason]);
        let repeated = |reason| tally.counter(&REPEATED, &[proxy, to, reason]);
        Self {
            hits: proto.map(|proto| tally.counter(&HITS, &[proxy, to, proto])),
            misses: proto.map(|proto| tally.counter(&MISSES, &[proxy, to, proto])),
            unasked: ignored("unasked"),
            question: ignored("question"),
            case: ignored("case"),
            garbage: ignored("garbage"),
            reconnected: repeated("closed"),
            unmixed: repeated("case"),
            hedged: tally.counter(&HEDGED, &[proxy, to]),
            bounded: tally.counter(&BOUNDED, &[proxy, to]),
            duration: tally.latency(&DURATION, &[proxy, to]),
            late: tally.counter(&FAILED, &[proxy, to, "late"]),
            unreached: tally.counter(&FAILED, &[proxy, to, "unreached"]),
        }
    }
}
