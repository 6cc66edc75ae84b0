//! What is counted of the API server: CoreDNS's families, and ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::data::tally::{BUCKETS_REST, Family, Gauge, Tally};

static REQUESTS: Family = Family::counter(
    "coredns_kubernetes_rest_client_requests_total",
    &["code", "method", "host"],
    "Requests to the API server, by status, method and host.",
);
static DURATION: Family = Family::histogram(
    "coredns_kubernetes_rest_client_request_duration_seconds",
    &BUCKETS_REST,
    &["verb", "host"],
    "Time that a list took, to its last octet.",
);
static LIMITED: Family = Family::histogram(
    "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
    &BUCKETS_REST,
    &["verb", "host"],
    "Time that a list waited for its turn (apiserver_qps).",
);
static SYNCED: Family = Family::gauge(
    "corelane_kubernetes_synced",
    &["kind"],
    "1 once all objects of a kind are there.",
);
static AGE: Family = Family::gauge(
    "corelane_kubernetes_last_event_age_seconds",
    &["kind"],
    "Time since the API server last said anything about a kind: event, bookmark or list.",
);
static TROUBLE: Family = Family::counter(
    "corelane_kubernetes_trouble_total",
    &["kind", "reason"],
    "Requests to the API server and watches that failed, by kind and reason.",
);
static EVENTS: Family = Family::counter(
    "corelane_kubernetes_events_total",
    &["kind"],
    "Events of watches, bookmarks left out.",
);
static LISTS: Family = Family::counter(
    "corelane_kubernetes_lists_total",
    &["kind", "reason"],
    "Lists of all objects of a kind, by why they were wanted.",
);
static RESTARTS: Family = Family::counter(
    "corelane_kubernetes_watch_restarts_total",
    &["kind", "reason"],
    "Watches that were taken up again, by why they had ended.",
);
static MALFORMED: Family = Family::counter(
    "corelane_kubernetes_malformed_total",
    &["kind"],
    "Events and objects that could not be read and were left out.",
);
static CHECKS: Family = Family::counter(
    "corelane_kubernetes_checks_total",
    &["kind"],
    "Comparisons of what is held with what the API server holds.",
);
static REPAIRED: Family = Family::counter(
    "corelane_kubernetes_repaired_total",
    &["kind"],
    "Objects that a check found to differ, whose events had been lost.",
);

/// Counts requests.
#[derive(Clone)]
pub struct Requests {
    tally: Arc<Tally>,
}

impl Requests {
    /// Into this tally.
    pub fn new(tally: &Arc<Tally>) -> Self {
        Self { tally: Arc::clone(tally) }
    }

    /// One request, with its status; none if there was no answer.
    pub fn done(&self, status: Option<u16>, host: &str) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        self.tally.add(self.tally.counter(&REQUESTS, &[&code, "GET", host]), 1);
    }

    /// A list, and how long it took.
    pub fn listed(&self, took: Duration, host: &str) {
        self.tally.observe(self.tally.histogram(&DURATION, &["GET", host]), nanos(took));
    }

    /// A list that waited so long for its turn.
    pub fn limited(&self, took: Duration, host: &str) {
        self.tally.observe(self.tally.histogram(&LIMITED, &["GET", host]), nanos(took));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts what happens to one kind of objects.
pub struct Counts {
    tally: Arc<Tally>,
    kind: &'static str,
    synced: Gauge,
    _age: Gauge,
    /// Milliseconds from `start` to the last sign of life.
    seen: Arc<AtomicU64>,
    start: Instant,
}

impl Counts {
    /// Of the kind with this plural.
    pub fn new(tally: &Arc<Tally>, kind: &'static str) -> Self {
        let start = Instant::now();
        let seen = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&seen);
        let age = move || start.elapsed().as_secs_f64() - last.load(Relaxed) as f64 / 1e3;
        Self {
            tally: Arc::clone(tally),
            kind,
            synced: tally.gauge(&SYNCED, &[kind]),
            _age: tally.gauge_fn(&AGE, &[kind], Box::new(move || age().max(0.0))),
            seen,
            start,
        }
    }

    fn add(&self, family: &'static Family, n: u64) {
        self.tally.add(self.tally.counter(family, &[self.kind]), n);
    }

    fn why(&self, family: &'static Family, reason: &str) {
        self.tally.add(self.tally.counter(family, &[self.kind, reason]), 1);
    }

    /// The server has said something about the kind.
    pub fn alive(&self) {
        self.seen.store(self.start.elapsed().as_millis() as u64, Relaxed);
    }

    /// Events of a watch.
    pub fn events(&self, n: u64) {
        self.add(&EVENTS, n);
    }

    /// All objects are there.
    pub fn synced(&self) {
        self.synced.set(1.0);
    }

    /// Something failed.
    pub fn trouble(&self, reason: &str) {
        self.why(&TROUBLE, reason);
    }

    /// A list begins.
    pub fn list(&self, reason: &str) {
        self.why(&LISTS, reason);
    }

    /// A watch is taken up again.
    pub fn restart(&self, reason: &str) {
        self.why(&RESTARTS, reason);
    }

    /// Something could not be read.
    pub fn malformed(&self) {
        self.add(&MALFORMED, 1);
    }

    /// A check ended, and has repaired so many objects.
    pub fn checked(&self, repaired: u64) {
        self.add(&CHECKS, 1);
        self.add(&REPAIRED, repaired);
    }
}
