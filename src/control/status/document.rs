//! What the status page shows, as JSON.
//!
//! Counters are given as they stand since the start, so that who asks twice can tell what happened
//! between; and so are times: by cells (`[at most so many seconds, how many]`), beside the percentiles of
//! all since the start (`null`: more than the largest bound). Names of fields are kept: scripts may read
//! them. Of zones and caches the busiest are told, of the Corefile the first server blocks
//! ([`STATUS_ROWS_MAX`] of each), beside how many there are: a server may have thousands.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::figures::{Cells, Figures};
use super::{Block, Status};
use crate::control::status::shown::log_line;
use crate::control::{logging, version};
use crate::data::clock;
use crate::data::tally::top::ALL;
use crate::limits::STATUS_ROWS_MAX;

impl Status {
    /// Everything that the page shows.
    pub(super) fn document(&self) -> Value {
        let figures = Figures::of(&self.tally);
        let running = self.running.load();
        let blocks = running.blocks.iter().take(STATUS_ROWS_MAX);
        let hash: String = running.hash.iter().map(|octet| format!("{octet:02x}")).collect();
        json!({
            "version": version::name(),
            "engine": self.engine,
            "uptime_seconds": self.started.elapsed().as_secs_f64(),
            "generation": {
                "number": running.generation,
                "age_seconds": running.since.elapsed().as_secs_f64(),
                "sha512": hash,
                "failed_reloads": figures.sum("coredns_reload_failed_total", &[]),
                "outdated": self.outdated.get() > 0.0,
            },
            "process": process(&figures),
            "cores": self.cores(),
            "all_zones": all_zones(&figures),
            "zones": zones(&figures),
            "caches": caches(&figures),
            "cache_budget": {
                "bytes": figures.sum("corelane_cache_budget_bytes", &[]),
                "used_bytes": figures.sum("corelane_cache_used_bytes", &[]),
            },
            "upstreams": upstreams(&figures),
            "kubernetes": kubernetes(&figures),
            "top": self.tops(),
            "errors": errors(),
            "server_blocks": running.blocks.len(),
            "corefile": blocks.map(|one| block(one, &figures)).collect::<Vec<_>>(),
        })
    }

    fn cores(&self) -> Vec<Value> {
        let core = |core| {
            let count = |counter| self.tally.value_on(core, counter);
            let cells = self.tally.latencies_on(core, self.counters.walk).into_iter();
            let cells = cells.map(|(ns, count)| (ns as f64 / 1e9, count as f64)).collect();
            json!({
                "core": core,
                "queries": count(self.counters.queries),
                "waited": count(self.counters.parked),
                "refused_to_wait": count(self.counters.no_slot),
                "percentiles": percentiles(&cells),
                "latency": shown(cells),
            })
        };
        (0..self.workers).map(core).collect()
    }

    fn tops(&self) -> Value {
        let ranking = |by| {
            let (rows, queries) = self.top(by);
            json!({ "rows": rows, "queries_per_second": queries })
        };
        ALL.iter().map(|(by, word)| ((*word).to_owned(), ranking(*by))).collect()
    }
}

fn process(figures: &Figures) -> Value {
    let sum = |name| figures.sum(name, &[]);
    json!({
        "cpu_seconds": sum("process_cpu_seconds_total"),
        "resident_bytes": sum("process_resident_memory_bytes"),
        "descriptors": sum("process_open_fds"),
        "receive_drops": sum("corelane_udp_receive_drops_total"),
        "shed": sum("coredns_shed_dropped_total"),
        "panics": sum("coredns_panics_total"),
        // What datagrams waited in the kernel; sampled.
        "receive_wait": times(figures.histogram("corelane_receive_wait_seconds", &[])),
    })
}

/// Times as they are shown.
fn times(cells: Cells) -> Value {
    json!({ "percentiles": percentiles(&cells), "latency": shown(cells) })
}

/// The percentiles of all that the cells hold: the bound of the cell in which each is.
fn percentiles(cells: &Cells) -> Value {
    let all: f64 = cells.iter().map(|(_, count)| count).sum();
    let at = |share: f64| {
        let mut below = 0.0;
        let cell = cells.iter().find(|(_, count)| {
            below += count;
            below >= share * all && below > 0.0
        });
        cell.map(|(bound, _)| *bound).filter(|bound| bound.is_finite())
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999) })
}

/// The cells that hold anything; an infinite bound is null.
fn shown(cells: Cells) -> Vec<Value> {
    let held = cells.into_iter().filter(|(_, count)| *count > 0.0);
    held.map(|(bound, count)| match bound.is_finite() {
        true => json!([bound, count]),
        false => json!([Value::Null, count]),
    })
    .collect()
}

/// Those places of which a counter is highest, in their order.
fn busiest(
    places: BTreeMap<[String; 3], Figures>,
    counter: &str,
) -> impl Iterator<Item = ([String; 3], Figures)> {
    let mut places: Vec<_> = places.into_iter().collect();
    let counted: Vec<f64> = places.iter().map(|(_, figures)| figures.sum(counter, &[])).collect();
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|one, two| counted[*two].total_cmp(&counted[*one]));
    let shown: HashSet<usize> = order.into_iter().take(STATUS_ROWS_MAX).collect();
    let mut place = 0..;
    places.retain(|_| place.next().is_some_and(|place| shown.contains(&place)));
    places.into_iter()
}

/// Replies by response code.
fn responses(figures: &Figures) -> Value {
    let mut sums = BTreeMap::<&str, f64>::new();
    for (labels, count) in figures.all(RESPONSES) {
        *sums.entry(labels.get("rcode").map_or("", String::as_str)).or_default() += count;
    }
    json!(sums)
}

const QUERIES: &str = "coredns_dns_requests_total";
const RESPONSES: &str = "coredns_dns_responses_total";

/// How much all zones are asked for, whether or not they are shown.
fn all_zones(figures: &Figures) -> Value {
    json!({
        "zones": figures.places(QUERIES, ["server", "zone", "view"]).len(),
        "queries": figures.sum(QUERIES, &[]),
        "responses": responses(figures),
    })
}

fn zones(figures: &Figures) -> Vec<Value> {
    const TIMES: &str = "coredns_dns_request_duration_seconds";
    let series = [QUERIES, RESPONSES, &format!("{TIMES}_bucket")];
    let places = figures.apart(&series, ["server", "zone", "view"]);
    let zone = |(place, figures): ([String; 3], Figures)| {
        let cells = figures.histogram(TIMES, &[]);
        json!({
            "server": place[0],
            "zone": place[1],
            "view": place[2],
            "queries": figures.sum(QUERIES, &[]),
            "responses": responses(&figures),
            "percentiles": percentiles(&cells),
            "latency": shown(cells),
        })
    };
    busiest(places, QUERIES).map(zone).collect()
}

fn caches(figures: &Figures) -> Vec<Value> {
    const REQUESTS: &str = "coredns_cache_requests_total";
    const HITS: &str = "coredns_cache_hits_total";
    const EVICTIONS: &str = "coredns_cache_evictions_total";
    const STALE: &str = "coredns_cache_served_stale_total";
    const ENTRIES: &str = "coredns_cache_entries";
    const BYTES: &str = "corelane_cache_bytes";
    let series = [REQUESTS, HITS, EVICTIONS, STALE, ENTRIES, BYTES];
    let mut places = figures.apart(&series, ["server", "zones", "view"]);
    places.retain(|_, figures| !figures.all(REQUESTS).is_empty());
    let cache = |(place, figures): ([String; 3], Figures)| {
        let entries = |word| figures.sum(ENTRIES, &[("type", word)]);
        json!({
            "server": place[0],
            "zones": place[1],
            "view": place[2],
            "requests": figures.sum(REQUESTS, &[]),
            "hits": figures.sum(HITS, &[]),
            "evictions": figures.sum(EVICTIONS, &[]),
            "served_stale": figures.sum(STALE, &[]),
            "entries": { "success": entries("success"), "denial": entries("denial") },
            "bytes": figures.sum(BYTES, &[]),
        })
    };
    busiest(places, REQUESTS).map(cache).collect()
}

fn upstreams(figures: &Figures) -> Vec<Value> {
    const REPLIES: &str = "coredns_proxy_request_duration_seconds_count";
    const PROBES: &str = "coredns_proxy_healthcheck_failures_total";
    const FAILED: &str = "corelane_upstream_failed_total";
    let names = ["proxy_name", "to"];
    let all = [REPLIES, PROBES, FAILED];
    let mut places: Vec<_> = all.iter().flat_map(|name| figures.places(name, names)).collect();
    places.sort();
    places.dedup();
    let upstream = |place: [String; 2]| {
        let with = [(names[0], place[0].as_str()), (names[1], place[1].as_str())];
        let servfail = [with[0], with[1], ("rcode", "SERVFAIL")];
        let cells = figures.latencies("corelane_upstream_duration_seconds", &with);
        json!({
            "plugin": place[0],
            "to": place[1],
            "queries": figures.sum(REPLIES, &with),
            "servfail": figures.sum(REPLIES, &servfail),
            "unanswered": figures.sum(FAILED, &with),
            "failed_probes": figures.sum(PROBES, &with),
            "percentiles": percentiles(&cells),
            "latency": shown(cells),
        })
    };
    places.into_iter().map(upstream).collect()
}

fn kubernetes(figures: &Figures) -> Vec<Value> {
    let kind = |[kind]: [String; 1]| {
        let sum = |name: &str| {
            let name = format!("corelane_kubernetes_{name}");
            figures.sum(&name, &[("kind", kind.as_str())])
        };
        let age = sum("last_event_age_seconds");
        json!({
            "kind": kind,
            "objects": sum("objects"),
            "index_bytes": sum("index_bytes"),
            "synced": sum("synced") > 0.0 || figures.all("corelane_kubernetes_synced").is_empty(),
            "last_event_age_seconds": age,
            "events": sum("events_total"),
            "lists": sum("lists_total"),
            "watch_restarts": sum("watch_restarts_total"),
            "trouble": sum("trouble_total"),
        })
    };
    figures.places("corelane_kubernetes_objects", ["kind"]).into_iter().map(kind).collect()
}

fn errors() -> Vec<Value> {
    let now = clock::unix_seconds();
    let error = |kept: logging::Kept| {
        let age = now.saturating_sub(kept.at);
        json!({ "age_seconds": age, "line": log_line(&kept.line) })
    };
    logging::kept().into_iter().map(error).collect()
}

fn block(block: &Block, figures: &Figures) -> Value {
    let directives = block.directives.iter().map(|shown| {
        json!({
            "directive": shown.directive,
            "lines": shown.lines,
            "cost": cost(block, &shown.directive, figures),
        })
    });
    json!({ "keys": block.keys, "directives": directives.collect::<Vec<_>>() })
}

/// What a plugin takes of a query's time by itself, and what it has queries wait, on the block's busiest
/// listener (those of other blocks there included); null: not known. Sampled.
fn cost(block: &Block, plugin: &str, figures: &Figures) -> Value {
    const TIMES: &str = "corelane_plugin_duration_seconds";
    let mut best = (0.0, Value::Null);
    for [server, ..] in &block.servers {
        let with = [("plugin", plugin), ("server", server.as_str())];
        let count = figures.sum(&format!("{TIMES}_count"), &with);
        if count > best.0 {
            let mut found = times(figures.latencies(TIMES, &with));
            found["wait"] = times(figures.histogram("corelane_plugin_wait_seconds", &with));
            best = (count, found);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tally::Tally;

    #[test]
    fn of_many_zones_the_busiest_are_shown_and_all_are_counted() {
        let mut figures = Figures::of(&Tally::new(1));
        let many = STATUS_ROWS_MAX + 50;
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for zone in 0..many {
            let labels = [label("server", "dns://:53"), label("zone", &format!("z{zone:05}."))];
            figures.add(QUERIES, labels.clone().into(), zone as f64);
            let rcode = [label("rcode", if zone % 2 == 0 { "NOERROR" } else { "SERVFAIL" })];
            figures.add(RESPONSES, labels.into_iter().chain(rcode).collect(), 1.0);
        }
        let shown = zones(&figures);
        assert_eq!(shown.len(), STATUS_ROWS_MAX);
        assert_eq!((&shown[0]["zone"], &shown[0]["queries"]), (&json!("z00050."), &json!(50.0)));
        assert_eq!(shown[1]["responses"], json!({ "SERVFAIL": 1.0 }));
        let all = all_zones(&figures);
        assert_eq!(all["zones"], json!(many));
        assert_eq!(all["responses"], json!({ "NOERROR": 125.0, "SERVFAIL": 125.0 }));
    }

    #[test]
    fn percentiles_are_the_bounds_that_so_many_keep_to() {
        let cells = vec![(0.001, 50.0), (0.002, 0.0), (0.004, 45.0), (f64::INFINITY, 5.0)];
        let told = percentiles(&cells);
        let expected = json!({ "p50": 0.001, "p90": 0.004, "p99": null, "p99.9": null });
        assert_eq!(told, expected);
        let nothing = json!({ "p50": null, "p90": null, "p99": null, "p99.9": null });
        assert_eq!(percentiles(&Vec::new()), nothing);
        assert_eq!(percentiles(&vec![(0.001, 0.0)]), nothing);
        assert_eq!(percentiles(&vec![(0.001, 0.0), (0.002, 1.0)])["p50"], 0.002);
        assert_eq!(shown(cells), [json!([0.001, 50.0]), json!([0.004, 45.0]), json!([null, 5.0])]);
    }
}
