//! The worker's own counters: what happened to queries outside of any plugin.

use super::tally::{BUCKETS_TIME, Counter, Family, Histogram, Latency, Tally, families};
use crate::plugin::registry::NAMES;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident: $name:literal, $help:literal;)*) => {
        /// Cells of what every worker counts.
        #[derive(Clone, Copy)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: Counter,)*
            /// Panics in walks.
            pub panics: Counter,
            /// How long datagrams waited for a receive.
            pub receive_wait: Histogram,
            /// How long walks took, for queries answered in their turn.
            pub walk: Latency,
        }

        impl Counters {
            /// Registers the families.
            pub fn new(tally: &Tally) -> Self {
                Self {
                    $($field: {
                        static FAMILY: Family =
                            Family::counter($name, &[], $help);
                        tally.counter(&FAMILY, &[])
                    },)*
                    panics: tally.counter(&families::PANICS, &[]),
                    receive_wait: tally.histogram(&families::RECEIVE_WAIT, &[]),
                    walk: tally.latency(&families::WALK, &[]),
                }
            }
        }
    };
}

counters! {
    /// Messages received.
    queries: "corelane_queries_total", "Messages received from clients.";
    /// Messages that the gate refused.
    refused: "corelane_gate_refused_total", "Messages that are no query: an error or silence.";
    /// Queries that no block serves.
    dropped: "corelane_unserved_total", "Queries for names that no server block serves.";
    /// Queries that had to wait.
    parked: "corelane_parked_total", "Queries that had to wait for something.";
    /// Queries that would have had to wait but found no slot.
    no_slot: "corelane_parked_refused_total", "Queries that found no room to wait.";
    /// Turns that took no datagrams, since upstreams were behind.
    held: "corelane_held_turns_total", "Turns that took no queries, since upstreams were behind.";
    /// Walks that passed a bound.
    over: "corelane_walk_bounds_total", "Queries past a bound of questions, waits or frames.";
    /// Events dropped because their ring was full.
    events_dropped: "corelane_events_dropped_total", "Events for logs that found their ring full.";
    /// Batches received.
    batches: "corelane_batches_total", "Batches of datagrams received.";
    /// Replies that the kernel refused to send.
    unsent: "corelane_unsent_total", "Replies that the kernel refused to send.";
}

/// What a listener with `shed` drops.
#[derive(Clone, Copy)]
pub struct ShedCounters {
    /// Queries that came while too many were waiting.
    pub query: Counter,
    /// Replies that the kernel refused.
    pub response: Counter,
}

impl ShedCounters {
    /// Those of the listener that metrics know as `server`.
    pub fn new(tally: &Tally, server: &str) -> Self {
        static DROPPED: Family = Family::counter(
            "coredns_shed_dropped_total",
            &["server", "reason"],
            "Queries and replies dropped under overload, by server and reason.",
        )
        .from_start();
        let counter = |reason| tally.counter(&DROPPED, &[server, reason]);
        Self { query: counter("query"), response: counter("response") }
    }
}

/// Where the times of a link are counted, as samples tell them (`chain/marks.rs`).
#[derive(Clone, Copy)]
pub struct LinkTimes {
    /// What its own steps took, without what is below it and without waits.
    pub own: Latency,
    /// What it waited, for each wait.
    pub wait: Histogram,
    /// Place of the plugin's name in `registry::NAMES`.
    pub plugin: u8,
}

impl LinkTimes {
    /// Those of a plugin in the blocks that metrics know as `server`.
    pub fn new(tally: &Tally, server: &str, plugin: &str) -> Self {
        static OWN: Family = Family::summary(
            "corelane_plugin_duration_seconds",
            &["server", "plugin"],
            "Time of a query in a plugin itself, without those below and without waits (sampled).",
        );
        static WAIT: Family = Family::histogram(
            "corelane_plugin_wait_seconds",
            &BUCKETS_TIME,
            &["server", "plugin"],
            "Time that a plugin had a query wait, for an upstream or another query (sampled).",
        );
        let labels = [server, plugin];
        let place = NAMES.iter().position(|name| *name == plugin);
        Self {
            own: tally.latency(&OWN, &labels),
            wait: tally.histogram(&WAIT, &labels),
            plugin: place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tally::Format;

    #[test]
    fn nothing_dropped_is_shown_as_nothing() {
        let tally = Tally::new(1);
        ShedCounters::new(&tally, "dns://:53");
        let mut page = String::new();
        tally.scrape(&mut page, Format::Text004);
        for reason in ["query", "response"] {
            let labels = format!("{{server=\"dns://:53\",reason=\"{reason}\"}}");
            let line = format!("\ncoredns_shed_dropped_total{labels} 0\n");
            assert!(page.contains(&line), "{line} in {page}");
        }
    }
}
