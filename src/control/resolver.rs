//! The resolver of a pod: which names its libraries make of a name, and whom they ask.
//!
//! The kubelet writes a pod's resolv.conf from dnsPolicy, dnsConfig and hostNetwork. What comes of a name
//! then differs by the C library: glibc tries the search path for names with fewer dots than `ndots`, and
//! the others as they are first; musl never uses the search path for these, and stops at the first name
//! that exists, be it without the type that was asked for.

use serde::Serialize;
use serde_json::Value;

/// Dots from which on glibc and musl try a name as it is first, where nothing else is said.
const NDOTS: u32 = 1;
/// What the kubelet writes for pods that ask the cluster's DNS.
const NDOTS_IN_CLUSTER: u32 = 5;

/// A resolv.conf, as far as names go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resolver {
    /// Whom it asks, in order, as far as that is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// The search path.
    pub search: Vec<String>,
    /// Dots from which on a name is tried as it is first.
    pub ndots: u32,
}

/// Where a pod's resolv.conf comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cluster's DNS.
    Cluster(Resolver),
    /// The node's resolv.conf, with what dnsConfig adds: the reason, for an operator.
    Node(Resolver, &'static str),
    /// dnsConfig alone.
    Own(Resolver),
}

impl Origin {
    /// The resolver, as far as the pod's object tells it.
    pub fn resolver(&self) -> &Resolver {
        match self {
            Self::Cluster(resolver) | Self::Node(resolver, _) | Self::Own(resolver) => resolver,
        }
    }
}

/// What the kubelet makes of a pod. `dns` are the addresses that it gives pods, `zone` the cluster's.
pub fn of_pod(pod: &Value, dns: &[String], zone: &str) -> Origin {
    let word = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let namespace = word("/metadata/namespace");
    let is_on_host = pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
    let cluster = || {
        of_policy(
            "ClusterFirst",
            if namespace.is_empty() { "default" } else { namespace },
            dns,
            zone,
        )
    };
    let none = || Resolver { ndots: NDOTS, ..Resolver::default() };
    let mut origin = match (word("/spec/dnsPolicy"), is_on_host) {
        ("None", _) => Origin::Own(none()),
        ("Default", _) => Origin::Node(none(), "its dnsPolicy is Default"),
        ("ClusterFirstWithHostNet", _) | (_, false) => Origin::Cluster(cluster()),
        (_, true) => Origin::Node(
            none(),
            "it is on the host's network, where dnsPolicy ClusterFirst means Default",
        ),
    };
    let (Origin::Cluster(resolver) | Origin::Node(resolver, _) | Origin::Own(resolver)) =
        &mut origin;
    let words = |path: &str| -> Vec<String> {
        let all = pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    // What is there already is not said again.
    for (list, more) in [(&mut resolver.servers, "nameservers"), (&mut resolver.search, "searches")]
    {
        for word in words(&format!("/spec/dnsConfig/{more}")) {
            if !list.contains(&word) {
                list.push(word);
            }
        }
    }
    let options = pod.pointer("/spec/dnsConfig/options").and_then(Value::as_array);
    for option in options.into_iter().flatten().filter(|option| option["name"] == "ndots") {
        let value = option["value"].as_str().and_then(|value| value.parse().ok());
        resolver.ndots = value.unwrap_or(resolver.ndots);
    }
    origin
}

/// The resolver of a pod in this namespace with this dnsPolicy.
pub fn of_policy(policy: &str, namespace: &str, dns: &[String], zone: &str) -> Resolver {
    let zone = zone.trim_end_matches('.');
    match policy {
        "ClusterFirst" | "ClusterFirstWithHostNet" => Resolver {
            servers: dns.to_vec(),
            search: vec![format!("{namespace}.svc.{zone}"), format!("svc.{zone}"), zone.to_owned()],
            ndots: NDOTS_IN_CLUSTER,
        },
        _ => Resolver { ndots: NDOTS, ..Resolver::default() },
    }
}

/// A C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// glibc.
    Glibc,
    /// musl, as in Alpine.
    Musl,
}

impl Libc {
    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }

    /// Whether it goes on to the next name after this end of the one before.
    pub fn goes_on(self, ended: Ended) -> bool {
        match ended {
            Ended::Answered => false,
            Ended::Missing => true,
            Ended::Empty | Ended::Failed => self == Self::Glibc,
        }
    }
}

/// How the questions about one name ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an address.
    Answered,
    /// The name exists, without an address.
    Empty,
    /// NXDOMAIN.
    Missing,
    /// With a failure, or with silence.
    Failed,
}

impl Resolver {
    /// The names that a library asks for, in order, as long as none is answered; with their last dots.
    pub fn names(&self, name: &str, libc: Libc) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let as_it_is = format!("{name}.");
        let has_enough = name.matches('.').count() >= self.ndots as usize;
        let search = self.search.iter().map(|zone| format!("{name}.{}.", zone.trim_matches('.')));
        match (has_enough, libc) {
            (true, Libc::Musl) => vec![as_it_is],
            (true, Libc::Glibc) => std::iter::once(as_it_is).chain(search).collect(),
            (false, _) => search.chain([as_it_is.clone()]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dns() -> Vec<String> {
        vec!["10.96.0.10".to_owned()]
    }

    fn pod(spec: Value) -> Origin {
        of_pod(&json!({"metadata": {"namespace": "shop"}, "spec": spec}), &dns(), "cluster.local.")
    }

    #[test]
    fn the_four_policies() {
        let Origin::Cluster(usual) = pod(json!({"dnsPolicy": "ClusterFirst"})) else { panic!() };
        assert_eq!(usual.search, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((usual.servers.as_slice(), usual.ndots), (&dns()[..], 5));
        assert_eq!(pod(json!({})), Origin::Cluster(usual.clone()), "as the API server defaults it");
        let host = json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true});
        assert_eq!(pod(host), Origin::Cluster(usual));
        for spec in [
            json!({"dnsPolicy": "Default"}),
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
        ] {
            assert!(matches!(pod(spec), Origin::Node(..)));
        }
        let more = json!({"dnsConfig": {"searches": ["svc.cluster.local", "b.test"]}});
        let expected = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "b.test"];
        assert_eq!(pod(more).resolver().search, expected);
        let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"],
            "searches": ["a.test", "a.test"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        let expected =
            Resolver { servers: vec!["192.0.2.1".into()], search: vec!["a.test".into()], ndots: 2 };
        assert_eq!(pod(own), Origin::Own(expected));
    }

    #[test]
    fn what_the_libraries_make_of_a_name() {
        let resolver = of_policy("ClusterFirst", "shop", &dns(), "c.test");
        let names = |name: &str, libc| resolver.names(name, libc);
        let searched = ["web.shop.svc.c.test.", "web.svc.c.test.", "web.c.test.", "web."];
        for libc in [Libc::Glibc, Libc::Musl] {
            assert_eq!(names("web", libc), searched);
            assert_eq!(names("a.b.c.d.e.f.", libc), ["a.b.c.d.e.f."]);
        }
        assert_eq!(names("a.b.c.d.e.f", Libc::Musl), ["a.b.c.d.e.f."]);
        assert_eq!(names("a.b.c.d.e.f", Libc::Glibc).len(), 4);
        assert_eq!(names("a.b.c.d.e.f", Libc::Glibc)[0], "a.b.c.d.e.f.");
        assert!(Libc::Glibc.goes_on(Ended::Empty) && !Libc::Musl.goes_on(Ended::Empty));
        assert!(Libc::Musl.goes_on(Ended::Missing) && !Libc::Musl.goes_on(Ended::Failed));
    }
}
