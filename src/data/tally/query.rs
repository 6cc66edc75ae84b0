//! What is counted of every query: the `coredns_dns_*` families.
//!
//! Two count here: the `prometheus` plugin what passes its block's chain, and the worker, under the
//! zone `dropped`, what no chain saw. All cells are found when a Corefile is compiled; counting one
//! query is six to seven additions, about 20 ns.

use super::families::{
    DO_REQUESTS, REQUEST_DURATION, REQUEST_SIZE, REQUESTS, RESPONSE_SIZE, RESPONSES, rcode_index,
    type_index,
};
use super::{CellGrid, CoreTally, Counter, Histogram, Tally};

/// The cells of a (server, zone, view).
#[derive(Clone)]
pub struct QueryCells {
    requests: CellGrid,
    dnssec_ok: Counter,
    duration: Histogram,
    /// By transport: datagrams, streams.
    request_bytes: [Histogram; 2],
    response_bytes: [Histogram; 2],
    /// By writer: the server, a plugin.
    responses: [CellGrid; 2],
}

/// What is to be counted of a query.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Whether it came over a stream.
    pub stream: bool,
    /// Whether the client's address is IPv6.
    pub ipv6: bool,
    /// Its type.
    pub qtype: u16,
    /// Whether its DO bit was set.
    pub dnssec_ok: bool,
    /// Octets of the query.
    pub request_bytes: u64,
    /// Octets of the reply; 0 if none was written.
    pub response_bytes: u64,
    /// The rcode of the reply, or with which the chain gave up.
    pub rcode: u16,
    /// Whether a plugin wrote the reply.
    pub by_plugin: bool,
    /// Nanoseconds it took; `None` if that is observed later, in [`QueryCells::duration`].
    pub duration_ns: Option<u64>,
}

impl QueryCells {
    /// Finds the cells. `plugin` is the label of replies that a plugin wrote.
    pub fn new(tally: &Tally, server: &str, zone: &str, view: &str, plugin: &str) -> QueryCells {
        let place = [server, zone, view];
        let sizes = |family| {
            ["udp", "tcp"].map(|proto| tally.histogram(family, &[server, zone, view, proto]))
        };
        QueryCells {
            requests: tally.grid(&REQUESTS, &place),
            dnssec_ok: tally.counter(&DO_REQUESTS, &place),
            duration: tally.histogram(&REQUEST_DURATION, &place),
            request_bytes: sizes(&REQUEST_SIZE),
            response_bytes: sizes(&RESPONSE_SIZE),
            responses: ["", plugin].map(|by| tally.grid(&RESPONSES, &[server, zone, view, by])),
        }
    }

    /// Where durations are observed, in nanoseconds.
    pub fn duration(&self) -> Histogram {
        self.duration
    }

    /// Counts a query.
    #[inline]
    pub fn count(&self, core: &CoreTally, seen: &Seen) {
        let (proto, family) = (usize::from(seen.stream), usize::from(seen.ipv6));
        core.add(self.requests.at(&REQUESTS, [proto, family, type_index(seen.qtype)]), 1);
        if seen.dnssec_ok {
            core.add(self.dnssec_ok, 1);
        }
        if let Some(ns) = seen.duration_ns {
            core.observe(self.duration, ns);
        }
        core.observe(self.request_bytes[proto], seen.request_bytes);
        core.observe(self.response_bytes[proto], seen.response_bytes);
        let responses = self.responses[usize::from(seen.by_plugin)];
        core.add(responses.at(&RESPONSES, [rcode_index(seen.rcode)]), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn a_query_is_counted_in_every_family() {
        let tally = Tally::new(1);
        let cells = QueryCells::new(&tally, "dns://:53", "example.org.", "", "errors");
        let seen = Seen {
            stream: true,
            ipv6: true,
            qtype: 28,
            dnssec_ok: true,
            request_bytes: 40,
            response_bytes: 512,
            rcode: 3,
            by_plugin: true,
            duration_ns: Some(1_000_000),
        };
        cells.count(&tally.core(0), &seen);
        let mut shown = String::new();
        tally.scrape(&mut shown, Format::Text004);
        let place = "server=\"dns://:53\",zone=\"example.org.\",view=\"\"";
        for line in [
            format!("requests_total{{{place},proto=\"tcp\",family=\"2\",type=\"AAAA\"}} 1"),
            format!("do_requests_total{{{place}}} 1"),
            format!("request_duration_seconds_sum{{{place}}} 0.001"),
            format!("request_size_bytes_bucket{{{place},proto=\"tcp\",le=\"0\"}} 0"),
            format!("request_size_bytes_bucket{{{place},proto=\"tcp\",le=\"100\"}} 1"),
            format!("response_size_bytes_sum{{{place},proto=\"tcp\"}} 512"),
            format!("responses_total{{{place},plugin=\"errors\",rcode=\"NXDOMAIN\"}} 1"),
        ] {
            assert!(shown.contains(&format!("\ncoredns_dns_{line}\n")), "{line} in\n{shown}");
        }
        assert!(!shown.contains("proto=\"udp\""));
    }
}
