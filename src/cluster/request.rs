//! What a name below a cluster zone asks for.
//!
//! Kubernetes DNS specification 1.1.0, sections 2.2 to 2.5, with what CoreDNS makes of the labels left
//! of a service: one is an endpoint, two are port and protocol with or without underscores (in the
//! zone of a cluster set also endpoint and cluster), more are a topology zone or nothing.
//! All of it borrows from the lower-cased name of the question.

use crate::wire::{Name, labels_of};

/// What stands left of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'n> {
    /// Name of an endpoint, empty for all.
    pub endpoint: &'n [u8],
    /// The cluster of that endpoint.
    pub cluster: &'n [u8],
    /// Name of a port, empty for all.
    pub port: &'n [u8],
    /// A protocol, empty for all.
    pub protocol: &'n [u8],
    /// Labels of a topology zone in wire form, empty for all.
    pub topology: &'n [u8],
    /// Whether all endpoints are meant where the topology zone has none.
    pub prefer: bool,
}

/// What a name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'n> {
    /// The zone itself, or `svc` or `pod` below it: there, and without data.
    Empty,
    /// Nothing that there could be.
    Invalid,
    /// A namespace below `svc` or, if the flag is set, below `pod`.
    Namespace(&'n [u8], bool),
    /// A pod by the label that stands for its address, in a namespace. What stands left of them
    /// chooses nothing.
    Pod(&'n [u8], &'n [u8], Scope<'n>),
    /// A service: its label and its namespace's, both with their lengths.
    Service(&'n [u8], Scope<'n>),
}

/// How names are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grammar {
    /// Whether the zone is that of a cluster set.
    pub multicluster: bool,
    /// Whether topology zones have names.
    pub zonal: bool,
}

/// A label without a leading underscore.
fn bare(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

/// The labels of most names that mean something: port, protocol, service, namespace, kind.
const PLAIN_LABELS: usize = 5;

impl<'n> Request<'n> {
    /// Reads `lower`, which is under `zone`; both in lower case.
    #[inline]
    pub fn read(lower: Name<'n>, zone: Name<'_>, grammar: Grammar) -> Self {
        let whole = lower.as_bytes();
        let prefix = &whole[..whole.len() - zone.len()];
        // Where the last labels start, the rightmost first.
        let mut starts = [0_u8; PLAIN_LABELS + 1];
        let (mut count, mut at) = (0, 0);
        while at < prefix.len() {
            starts.copy_within(..PLAIN_LABELS, 1);
            starts[0] = at as u8;
            count += 1;
            at += prefix[at] as usize + 1;
        }
        let label = |from_right: usize| -> &'n [u8] {
            let start = starts[from_right] as usize;
            &prefix[start + 1..=start + prefix[start] as usize]
        };
        if count == 0 {
            return Self::Empty;
        }
        let is_pod = match label(0) {
            b"svc" => false,
            b"pod" => true,
            _ => return Self::Invalid,
        };
        if count == 1 {
            return Self::Empty;
        }
        if count == 2 {
            return Self::Namespace(label(1), is_pod);
        }
        let mut scope = Scope::default();
        match count {
            3 => {}
            4 => scope.endpoint = label(3),
            5 => {
                let (left, right) = (label(4), label(3));
                let marked = left.starts_with(b"_") || right.starts_with(b"_");
                if !grammar.multicluster || marked {
                    (scope.port, scope.protocol) = (bare(left), bare(right));
                } else {
                    (scope.endpoint, scope.cluster) = (left, right);
                }
            }
            _ if grammar.zonal && !grammar.multicluster && !is_pod && label(3) == b"_zone" => {
                match label(4) {
                    b"pin" => {}
                    b"prefer" => scope.prefer = true,
                    _ => return Self::Invalid,
                }
                scope.topology = &prefix[..starts[4] as usize];
            }
            _ => return Self::Invalid,
        }
        if is_pod {
            return Self::Pod(label(2), label(1), scope);
        }
        Self::Service(&prefix[starts[2] as usize..starts[0] as usize], scope)
    }
}

/// Whether `labels`, in wire form and lower case, are the dotted text of a topology zone.
pub fn is_topology(labels: &[u8], text: &str) -> bool {
    let mut rest = text.as_bytes();
    for (number, label) in labels_of(labels).enumerate() {
        if number > 0 {
            let Some(after) = rest.strip_prefix(b".") else { return false };
            rest = after;
        }
        let Some(after) = rest.strip_prefix(label) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NameBuf;

    fn with(text: &str, zone: &str, grammar: Grammar, check: impl FnOnce(Request<'_>)) {
        let (name, zone) = (NameBuf::parse(text).unwrap(), NameBuf::parse(zone).unwrap());
        check(Request::read(name.as_name(), zone.as_name(), grammar));
    }

    fn plain(text: &str, check: impl FnOnce(Request<'_>)) {
        with(text, "cluster.local", Grammar::default(), check);
    }

    #[test]
    fn names_of_the_specification() {
        for empty in ["cluster.local", "svc.cluster.local", "pod.cluster.local"] {
            plain(empty, |request| assert_eq!(request, Request::Empty));
        }
        for invalid in ["dns.cluster.local", "a.b.c.web.ns.svc.cluster.local", "x.cluster.local"] {
            plain(invalid, |request| assert_eq!(request, Request::Invalid, "{invalid}"));
        }
        plain("a.svc.cluster.local", |r| assert_eq!(r, Request::Namespace(b"a", false)));
        plain("a.pod.cluster.local", |r| assert_eq!(r, Request::Namespace(b"a", true)));
        plain("10-0-0-1.a.pod.cluster.local", |r| {
            assert_eq!(r, Request::Pod(b"10-0-0-1", b"a", Scope::default()));
        });
        plain("x.10-0-0-1.a.pod.cluster.local", |r| {
            let scope = Scope { endpoint: b"x", ..Scope::default() };
            assert_eq!(r, Request::Pod(b"10-0-0-1", b"a", scope));
        });
        plain("web.a.svc.cluster.local", |request| {
            assert_eq!(request, Request::Service(b"\x03web\x01a", Scope::default()));
        });
        plain("e.web.a.svc.cluster.local", |request| {
            let scope = Scope { endpoint: b"e", ..Scope::default() };
            assert_eq!(request, Request::Service(b"\x03web\x01a", scope));
        });
        for port in ["_http._tcp", "http.tcp", "_http.tcp"] {
            plain(&format!("{port}.web.a.svc.cluster.local"), |request| {
                let scope = Scope { port: b"http", protocol: b"tcp", ..Scope::default() };
                assert_eq!(request, Request::Service(b"\x03web\x01a", scope));
            });
        }
        with("web.a.svc", ".", Grammar::default(), |request| {
            assert_eq!(request, Request::Service(b"\x03web\x01a", Scope::default()));
        });
    }

    #[test]
    fn names_of_a_cluster_set() {
        let grammar = Grammar { multicluster: true, zonal: true };
        with("e.c1.web.a.svc.set", "set", grammar, |request| {
            let scope = Scope { endpoint: b"e", cluster: b"c1", ..Scope::default() };
            assert_eq!(request, Request::Service(b"\x03web\x01a", scope));
        });
        with("_p.tcp.web.a.svc.set", "set", grammar, |request| {
            let scope = Scope { port: b"p", protocol: b"tcp", ..Scope::default() };
            assert_eq!(request, Request::Service(b"\x03web\x01a", scope));
        });
        with("z.pin._zone.web.a.svc.set", "set", grammar, |request| {
            assert_eq!(request, Request::Invalid);
        });
    }

    #[test]
    fn names_of_topology_zones() {
        let grammar = Grammar { zonal: true, ..Grammar::default() };
        let topology = |text: &str, prefer: bool, zone: &str| {
            let text = format!("{text}._zone.web.a.svc.cluster.local");
            with(&text, "cluster.local", grammar, |request| {
                let Request::Service(b"\x03web\x01a", scope) = request else {
                    panic!("{text}: {request:?}")
                };
                assert!(scope.prefer == prefer && is_topology(scope.topology, zone), "{text}");
                assert!(!is_topology(scope.topology, "eu") && !is_topology(scope.topology, ""));
            });
        };
        topology("eu-1.pin", false, "eu-1");
        topology("a.eu-1.prefer", true, "a.eu-1");
        for invalid in ["eu-1.other._zone", "pin._zone", "eu-1.pin.zone"] {
            with(&format!("{invalid}.web.a.svc.cluster.local"), "cluster.local", grammar, |r| {
                assert!(!matches!(r, Request::Service(_, Scope { topology: [_, ..], .. })));
            });
        }
    }
}
