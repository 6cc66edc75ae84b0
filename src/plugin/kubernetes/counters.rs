//! What is counted of a cluster that is held.

#[allow(clippy::disallowed_types, reason = "between control's threads only")]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::held::Held;
use crate::cluster::index::Index;
use crate::cluster::object::{Kind, Object, SERVICE_NAME};
use crate::cluster::record::{Nature, key_of};
use crate::cluster::top_level::is_top_level;
use crate::control::kube::Journal;
use crate::data::tally::{BUCKETS_PROGRAMMING, Family, Gauge, Histogram, Latency, Tally};

static PROGRAMMING: Family = Family::histogram(
    "coredns_kubernetes_dns_programming_duration_seconds",
    &BUCKETS_PROGRAMMING,
    &["service_kind"],
    "Time from a change of endpoints to its being answered.",
);
static SERVED: Family = Family::summary(
    "corelane_kubernetes_event_to_served_seconds",
    &[],
    "Time from the arrival of an event of a watch to its being answered by every worker.",
);
static PUBLISHED: Family = Family::summary(
    "corelane_kubernetes_publish_seconds",
    &[],
    "Time that it took to publish what had changed.",
);
static OBJECTS: Family =
    Family::gauge("corelane_kubernetes_objects", &["kind"], "Objects held, by kind.");
static BYTES: Family = Family::gauge(
    "corelane_kubernetes_index_bytes",
    &["kind"],
    "Octets that the answers of a kind of objects take.",
);
static STALE: Family = Family::gauge(
    "corelane_kubernetes_stale",
    &[],
    "1 while answers are from an earlier run, until the API server has answered.",
);
static REFUSED: Family = Family::counter(
    "corelane_kubernetes_refused_total",
    &["kind"],
    "Objects that were left out, whole or in part, since they cannot have records.",
);
static TOP_LEVEL: Family = Family::counter(
    "corelane_kubernetes_top_level_namespaces_total",
    &[],
    "Namespaces that appeared with the name of a top-level domain (CVE-2022-2835).",
);

/// What is wrong with a namespace that is named like a top-level domain.
pub const AS_TOP_LEVEL: &str = "is named like a top-level domain: with search paths, names of that \
                                domain are taken for those of its services (CVE-2022-2835)";

/// A change of endpoints that says when it happened: by the controller that made the slice.
pub struct Programmed {
    since: Timestamp,
    key: Box<[u8]>,
    is_headless: bool,
}

impl Programmed {
    /// What a slice says; none if it says nothing that can be read.
    pub fn of(object: &Object) -> Option<Self> {
        let (Object::Slice(slice) | Object::ImportSlice(slice)) = object else { return None };
        let meta = &slice.metadata;
        let since = meta.annotations.trigger_time.parse().ok()?;
        let key = key_of(meta.label(SERVICE_NAME), &meta.namespace)?;
        Some(Self { since, key, is_headless: false })
    }

    /// The same, if the slice's service is known; that decides which series it is counted in.
    pub fn known(mut self, index: &Index) -> Option<Self> {
        let service = &index.local.find(&self.key)?.service;
        self.is_headless = service.nature == Nature::Headless;
        Some(self)
    }
}

/// Counts what happens to a cluster that is held.
#[derive(Clone)]
pub struct Counts {
    tally: Arc<Tally>,
    served: Latency,
    published: Latency,
    journal: Arc<Journal>,
    #[allow(clippy::disallowed_types, reason = "between control's threads only")]
    gauges: Arc<Mutex<Vec<Gauge>>>,
}

impl Counts {
    /// Nothing yet.
    pub fn new(tally: &Arc<Tally>) -> Self {
        Self {
            tally: Arc::clone(tally),
            served: tally.latency(&SERVED, &[]),
            published: tally.latency(&PUBLISHED, &[]),
            journal: Arc::default(),
            gauges: Arc::default(),
        }
    }

    /// Shows what `held` holds of these kinds, as long as it is there.
    pub fn show(&self, kinds: &[Kind], held: &Arc<Held>) {
        let gauge = |family, labels: &[&str], read: fn(&Index, Kind) -> f64, kind| {
            let held = Arc::downgrade(held);
            let value = move || held.upgrade().map_or(0.0, |held| read(&held.index(), kind));
            self.tally.gauge_fn(family, labels, Box::new(value))
        };
        let mut gauges = vec![gauge(&STALE, &[], |index, _| index.is_stale().into(), kinds[0])];
        for kind in kinds {
            let labels = [kind.as_str()];
            gauges.push(gauge(&OBJECTS, &labels, |index, kind| index.count(kind) as f64, *kind));
            gauges.push(gauge(&BYTES, &labels, |index, kind| index.bytes_of(kind) as f64, *kind));
        }
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    /// An event is answered by every worker.
    pub fn served(&self, took: Duration) {
        self.tally.latency_of(self.served, took.as_nanos() as u64);
    }

    /// What had changed was published.
    pub fn published(&self, took: Duration) {
        self.tally.latency_of(self.published, took.as_nanos() as u64);
    }

    /// A change of endpoints is answered.
    pub fn programmed(&self, one: &Programmed) {
        let kind = if one.is_headless { "headless_with_selector" } else { "cluster_ip" };
        let took = Timestamp::now().duration_since(one.since).as_nanos();
        let histogram: Histogram = self.tally.histogram(&PROGRAMMING, &[kind]);
        // A clock that is ahead of ours is no time at all.
        self.tally.observe(histogram, u64::try_from(took.max(0)).unwrap_or(u64::MAX));
    }

    /// A namespace is shown that was not there.
    pub fn appeared(&self, namespace: &str) {
        if is_top_level(namespace) {
            self.tally.add(self.tally.counter(&TOP_LEVEL, &[]), 1);
            let line = format!("namespace {namespace} {AS_TOP_LEVEL}");
            if let Some(line) = self.journal.admit(Instant::now(), "top level", &line) {
                tracing::warn!(target: "plugin/kubernetes", "{line}");
            }
        }
    }

    /// An object was left out, whole or in part.
    pub fn refused(&self, kind: Kind, name: &str) {
        self.tally.add(self.tally.counter(&REFUSED, &[kind.as_str()]), 1);
        let line = format!("{kind} {name}: left out what cannot have records");
        if let Some(line) = self.journal.admit(Instant::now(), kind.as_str(), &line) {
            tracing::warn!(target: "plugin/kubernetes", "{line}");
        }
    }
}
