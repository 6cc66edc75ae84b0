//! Families that more than one part of the program counts in, and those that are always shown.
//!
//! Names, types and labels are CoreDNS's (dashboards and alerts read them); the help texts are ours.
//! A plugin's own families stand in its own file.

use super::{BUCKETS_QUEUE, BUCKETS_SIZE, BUCKETS_SLIM, BUCKETS_TIME, Family, Grid};

/// Zone label of queries that no chain saw: no zone matched, or the message held no question.
pub const DROPPED: &str = "dropped";

/// Values of `proto`: every transport over a stream is "tcp".
pub const PROTOS: &[&str] = &["udp", "tcp"];
/// Values of `family`: "1" is IPv4, "2" IPv6.
pub const FAMILIES: &[&str] = &["1", "2"];
/// Values of `type`, in the order of `type_index`; all other types are "other".
pub const TYPES: &[&str] = &[
    "other", "A", "AAAA", "CNAME", "DNSKEY", "DS", "MX", "NSEC", "NSEC3", "NS", "PTR", "RRSIG",
    "SOA", "SRV", "TXT", "HTTPS", "SVCB", "IXFR", "AXFR", "ANY",
];

/// The place in [`TYPES`] of a type's number.
#[inline]
pub fn type_index(qtype: u16) -> usize {
    match qtype {
        1 => 1,
        28 => 2,
        5 => 3,
        48 => 4,
        43 => 5,
        15 => 6,
        47 => 7,
        50 => 8,
        2 => 9,
        12 => 10,
        46 => 11,
        6 => 12,
        33 => 13,
        16 => 14,
        65 => 15,
        64 => 16,
        251 => 17,
        252 => 18,
        255 => 19,
        _ => 0,
    }
}

/// Values of `rcode`: those that have a name here or a place among them, and one for all others.
/// 16 is BADVERS in a reply and BADSIG in TSIG (RFC 6895 section 2.3); CoreDNS shows the latter.
pub const RCODES: &[&str] = &[
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "RCODE12",
    "RCODE13",
    "RCODE14",
    "RCODE15",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
    "RCODE",
];

/// The place in [`RCODES`] of an rcode.
#[inline]
pub fn rcode_index(rcode: u16) -> usize {
    (rcode as usize).min(RCODES.len() - 1)
}

/// Queries of a (server, zone, view), by transport, family and type.
pub static REQUESTS: Grid = Grid {
    family: Family::counter(
        "coredns_dns_requests_total",
        &["server", "zone", "view"],
        "Queries received, by zone, transport, address family and type.",
    ),
    each: &[("proto", PROTOS), ("family", FAMILIES), ("type", TYPES)],
};
/// Replies of a (server, zone, view, plugin that wrote them), by rcode.
pub static RESPONSES: Grid = Grid {
    family: Family::counter(
        "coredns_dns_responses_total",
        &["server", "zone", "view", "plugin"],
        "Replies sent, by zone, rcode and the plugin that wrote them.",
    ),
    each: &[("rcode", RCODES)],
};
/// Time from the arrival of a query to its reply, in nanoseconds.
pub static REQUEST_DURATION: Family = Family::histogram(
    "coredns_dns_request_duration_seconds",
    &BUCKETS_TIME,
    &["server", "zone", "view"],
    "Time from a query to its reply.",
);
/// Octets of a query as it arrived.
pub static REQUEST_SIZE: Family = Family::histogram(
    "coredns_dns_request_size_bytes",
    &BUCKETS_SIZE,
    &["server", "zone", "view", "proto"],
    "Size of a query as it arrived.",
);
/// Octets of a reply as it leaves the chain.
pub static RESPONSE_SIZE: Family = Family::histogram(
    "coredns_dns_response_size_bytes",
    &BUCKETS_SIZE,
    &["server", "zone", "view", "proto"],
    "Size of a reply.",
);
/// Queries with the DO bit.
pub static DO_REQUESTS: Family = Family::counter(
    "coredns_dns_do_requests_total",
    &["server", "zone", "view"],
    "Queries with the DO bit set.",
);
/// 1 for each plugin in a block's chain.
pub static PLUGIN_ENABLED: Family = Family::gauge(
    "coredns_plugin_enabled",
    &["server", "zone", "view", "name"],
    "1 for every plugin in the chain of a server block.",
);
/// Which build this is.
pub static BUILD_INFO: Family = Family::gauge(
    "coredns_build_info",
    &["version", "revision", "goversion"],
    "Always 1: the labels tell the version served, the revision and the compiler.",
);
/// Walks that ended in a panic.
pub static PANICS: Family = Family::counter(
    "coredns_panics_total",
    &[],
    "Queries whose walk ended in a panic; each was answered SERVFAIL.",
);
/// Reloads that were refused.
pub static RELOAD_FAILED: Family =
    Family::counter("coredns_reload_failed_total", &[], "Reloads that failed.");
/// Polls of our own `/health`, in nanoseconds.
pub static HEALTH_DURATION: Family = Family::histogram(
    "coredns_health_request_duration_seconds",
    &BUCKETS_SLIM,
    &[],
    "Time that a request to our own health endpoint took.",
);
/// Polls of our own `/health` without an answer.
pub static HEALTH_FAILURES: Family = Family::counter(
    "coredns_health_request_failures_total",
    &[],
    "Requests to our own health endpoint that failed.",
);
/// Times that all upstreams of a `forward` were down.
pub static FORWARD_BROKEN: Family = Family::counter(
    "coredns_forward_healthcheck_broken_total",
    &[],
    "Queries that found every upstream unhealthy.",
);
/// Queries over `max_concurrent`.
pub static FORWARD_REJECTS: Family = Family::counter(
    "coredns_forward_max_concurrent_rejects_total",
    &[],
    "Queries rejected because max_concurrent of them were already waiting.",
);
/// When a hosts file was last read, in seconds since 1970.
pub static HOSTS_RELOADED: Family = Family::gauge(
    "coredns_hosts_reload_timestamp_seconds",
    &[],
    "When the hosts file was last read.",
);
/// Queries for localhost under a search domain.
pub static LOCALHOST: Family = Family::counter(
    "coredns_local_localhost_requests_total",
    &[],
    "Queries for a name whose first label is localhost.",
);
/// Time in the chain.
pub static WALK: Family = Family::summary(
    "corelane_walk_seconds",
    &[],
    "Time from taking up a query to its finished reply.",
);

/// Time in the socket's queue, as sampled.
pub static RECEIVE_WAIT: Family = Family::histogram(
    "corelane_receive_wait_seconds",
    &BUCKETS_QUEUE,
    &[],
    "Time that a datagram waited in the kernel before it was received (sampled).",
);

/// Families without labels that are shown as 0 before anything was counted, as CoreDNS shows them
/// whether or not the plugin is used.
pub static ALWAYS: &[&Family] = &[
    &PANICS,
    &RELOAD_FAILED,
    &HEALTH_DURATION,
    &HEALTH_FAILURES,
    &FORWARD_BROKEN,
    &FORWARD_REJECTS,
    &HOSTS_RELOADED,
    &LOCALHOST,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_name_what_they_count() {
        assert_eq!(TYPES[type_index(1)], "A");
        assert_eq!(TYPES[type_index(50)], "NSEC3");
        assert_eq!(TYPES[type_index(255)], "ANY");
        assert_eq!(TYPES[type_index(65000)], "other");
        assert_eq!(RCODES[rcode_index(5)], "REFUSED");
        assert_eq!(RCODES[rcode_index(11)], "DSOTYPENI");
        assert_eq!(RCODES[rcode_index(23)], "BADCOOKIE");
        assert_eq!(RCODES[rcode_index(24)], "RCODE");
        assert_eq!(RCODES[rcode_index(4095)], "RCODE");
    }
}
