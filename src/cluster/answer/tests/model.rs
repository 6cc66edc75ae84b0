//! A cluster as lists, and answers by going through them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Said, object};
use crate::cluster::object::{Kind, Object};
use crate::wire::{Rtype, rcode, rtype};

const NAMESPACES: [&str; 3] = ["a", "b", "none"];
const SERVICES: [&str; 4] = ["web", "db", "ext", "loop"];
const ADDRESSES: [&str; 7] =
    ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.0.1", "fd00::1", "fd00:1::", "fd00::9"];
const HOSTS: [&str; 3] = ["", "web-0", "Web-1"];
const PORTS: [(&str, &str, i32); 4] =
    [("http", "TCP", 80), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("", "TCP", 8080)];
const TARGETS: [&str; 5] = [
    "www.example.net",
    "web.a.svc.cluster.local",
    "ext.b.svc.cluster.local",
    "nope.a.svc.Cluster.local",
    "x.loop.b.svc.cluster.local",
];

/// What a service is, by numbers into the lists above.
#[derive(Clone, Debug)]
enum Nature {
    Cluster(Vec<usize>),
    Headless,
    External(usize),
}

/// A slice, likewise: endpoints with address, host name, readiness.
#[derive(Clone, Debug)]
struct Slice {
    owner: (usize, usize),
    is_six: bool,
    ports: Vec<usize>,
    ends: Vec<(usize, usize, bool)>,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Given {
    services: BTreeMap<(usize, usize), (Nature, Vec<usize>)>,
    slices: Vec<Slice>,
}

impl Arbitrary for Given {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let key = || (0..NAMESPACES.len(), 0..SERVICES.len());
        let ports = || prop::sample::subsequence((0..PORTS.len()).collect::<Vec<_>>(), 0..=3);
        let nature = prop_oneof![
            // One address of each family at most, as the API has it.
            (prop::option::of(0_usize..4), prop::option::of(4_usize..7)).prop_map(|(four, six)| {
                let both: Vec<usize> = four.into_iter().chain(six).collect();
                Nature::Cluster(if both.is_empty() { vec![0] } else { both })
            }),
            Just(Nature::Headless),
            (0..TARGETS.len()).prop_map(Nature::External),
        ];
        let services = prop::collection::btree_map(key(), (nature, ports()), 0..8);
        let end = (0..ADDRESSES.len(), 0..HOSTS.len(), prop::bool::weighted(0.8));
        let ends = prop::collection::vec(end, 0..5);
        let slice =
            (key(), any::<bool>(), ports(), ends).prop_map(|(owner, is_six, ports, ends)| {
                let is_its = |one: &(usize, usize, bool)| ADDRESSES[one.0].contains(':') == is_six;
                let ends = ends.into_iter().filter(is_its).collect();
                Slice { owner, is_six, ports, ends }
            });
        let slices = prop::collection::vec(slice, 0..8);
        (services, slices).prop_map(|(services, slices)| Self { services, slices }).boxed()
    }
}

fn ports_of(ports: &[usize]) -> Value {
    let ports = ports.iter().map(|at| {
        let (name, protocol, port) = PORTS[*at];
        json!({"name": name, "protocol": protocol, "port": port})
    });
    ports.collect()
}

impl Given {
    /// Its objects; the last of the namespaces is not there.
    pub fn objects(&self) -> Vec<Object> {
        let spaces = NAMESPACES[..2].iter().map(|name| json!({"metadata": {"name": name}}));
        let mut all: Vec<Object> = spaces.map(|space| object(Kind::Namespaces, &space)).collect();
        for ((space, name), (nature, ports)) in &self.services {
            let ports = ports_of(ports);
            let spec = match nature {
                Nature::Cluster(ips) => {
                    let ips: Vec<&str> = ips.iter().map(|at| ADDRESSES[*at]).collect();
                    json!({"clusterIP": ips[0], "clusterIPs": ips, "ports": ports})
                }
                Nature::Headless => json!({"clusterIP": "None", "ports": ports}),
                Nature::External(target) => {
                    json!({"type": "ExternalName", "externalName": TARGETS[*target]})
                }
            };
            let meta = json!({"name": SERVICES[*name], "namespace": NAMESPACES[*space]});
            all.push(object(Kind::Services, &json!({"metadata": meta, "spec": spec})));
        }
        for (number, slice) in self.slices.iter().enumerate() {
            let labels = json!({"kubernetes.io/service-name": SERVICES[slice.owner.1]});
            let meta = json!({"name": format!("slice-{number}"),
                "namespace": NAMESPACES[slice.owner.0], "labels": labels});
            let ends = slice.ends.iter().map(|(address, host, ready)| {
                json!({"addresses": [ADDRESSES[*address]], "hostname": HOSTS[*host],
                    "conditions": {"ready": ready}})
            });
            let value = json!({"metadata": meta, "ports": ports_of(&slice.ports),
                "addressType": if slice.is_six { "IPv6" } else { "IPv4" },
                "endpoints": ends.collect::<Value>()});
            all.push(object(Kind::Slices, &value));
        }
        all
    }
}

/// A question: a name made of words that mean something here, and a type.
pub fn question() -> impl Strategy<Value = (String, Rtype)> {
    let space = || prop::sample::select(&NAMESPACES[..]);
    let service = || (prop::sample::select(&SERVICES[..]), space());
    let left = prop_oneof![
        5 => Just(String::new()),
        2 => prop::sample::select(vec!["web-0.", "WEB-1.", "10-0-0-1.", "10-0-0-2.", "fd00--1.",
            "fd00-1--0.", "nope.", "_tcp."]).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["_http._tcp.", "http.tcp.", "_dns._udp.", "_dns-tcp._tcp.",
            "_._tcp.", "_http._udp.", "_nope._tcp.", "a.b.c."]).prop_map(str::to_owned),
    ];
    let name = prop_oneof![
        8 => (left, service()).prop_map(|(left, (name, space))| {
            format!("{left}{name}.{space}.svc.cluster.local.")
        }),
        1 => space().prop_map(|space| format!("{space}.svc.cluster.local.")),
        1 => space().prop_map(|space| format!("10-0-0-1.{space}.pod.cluster.local.")),
        1 => prop::sample::select(vec!["", "svc.", "pod.", "x."]).prop_map(|left| {
            format!("{left}cluster.local.")
        }),
        1 => prop::sample::select(vec!["svc.in-addr.arpa.", "a.svc.in-addr.arpa."])
            .prop_map(str::to_owned),
        2 => prop::sample::select(&ADDRESSES[..]).prop_map(reverse),
    ];
    let types =
        [rtype::A, rtype::AAAA, rtype::SRV, rtype::TXT, rtype::PTR, rtype::CNAME, rtype::MX];
    (name, prop::sample::select(types.to_vec()))
}

fn reverse(address: &str) -> String {
    match address.parse().expect("an address") {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", u128::from(address));
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa."
        }
    }
}

/// An address (or a name) and a port, below a name: what CoreDNS makes answers from.
#[derive(Clone, Debug)]
struct Item {
    host: String,
    port: i32,
    key: String,
}

/// A cluster as lists.
pub struct Model<'g> {
    given: &'g Given,
}

fn generated(address: &str) -> String {
    let label = address.replace(['.', ':'], "-");
    if label.ends_with('-') { label + "0" } else { label }
}

impl<'g> Model<'g> {
    pub fn new(given: &'g Given) -> Self {
        Self { given }
    }

    fn ends(&self, owner: (usize, usize)) -> impl Iterator<Item = (&'g Slice, &'g str, String)> {
        let slices = self.given.slices.iter().filter(move |slice| slice.owner == owner);
        slices.flat_map(|slice| {
            let ready = slice.ends.iter().filter(|(.., ready)| *ready);
            ready.map(move |(address, host, _)| {
                let address = ADDRESSES[*address];
                let own = HOSTS[*host].to_owned();
                (slice, address, if own.is_empty() { generated(address) } else { own })
            })
        })
    }

    /// What stands at a lower-cased name below the cluster zone; none: there is no such name.
    fn items(&self, lower: &str) -> Option<Vec<Item>> {
        if lower.ends_with("arpa.") {
            return (lower == "svc.in-addr.arpa.").then(Vec::new);
        }
        let labels = lower.strip_suffix("cluster.local.").expect("in the zone");
        let labels: Vec<&str> = labels.split_terminator('.').collect();
        let (left, service, space) = match labels[..] {
            [] | ["svc" | "pod"] => return Some(Vec::new()),
            [space, "svc" | "pod"] => return (space != "none").then(Vec::new),
            [label, space, "pod"] if space != "none" => {
                let (key, host) = (lower.to_owned(), label.replace('-', "."));
                return Some(vec![Item { host, port: 0, key }]);
            }
            [ref left @ .., service, space, "svc"] if space != "none" => (left, service, space),
            _ => return None,
        };
        let (end, port, protocol) = match left {
            [] => ("", "", ""),
            [end] => (*end, "", ""),
            [port, protocol] => {
                ("", port.trim_start_matches('_'), protocol.trim_start_matches('_'))
            }
            _ => return None,
        };
        let at = |all: &[&str], one| all.iter().position(|other| *other == one);
        let owner = (at(&NAMESPACES, space)?, at(&SERVICES, service)?);
        let (nature, ports) = self.given.services.get(&owner)?;
        let base = format!("{service}.{space}.svc.cluster.local.");
        let fits = |list: &[usize]| -> Vec<i32> {
            let known = list.iter().map(|at| PORTS[*at]);
            let none = list.is_empty().then_some(("", "", -1));
            let any =
                |wanted: &str, one: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(one);
            let some = known
                .chain(none)
                .filter(|(name, proto, _)| any(port, name) && any(protocol, proto));
            some.map(|(.., number)| number).collect()
        };
        let mut items = Vec::new();
        match nature {
            Nature::External(target) if left.is_empty() => {
                let host = TARGETS[*target].to_owned();
                items.push(Item { host, port: 0, key: base });
            }
            Nature::External(_) => {}
            Nature::Cluster(ips) if end.is_empty() => {
                for port in fits(ports) {
                    let hosts = ips.iter().map(|at| ADDRESSES[*at].to_owned());
                    items.extend(hosts.map(|host| Item { host, port, key: base.clone() }));
                }
            }
            _ => {
                for (slice, address, label) in self.ends(owner) {
                    if end.is_empty() || label.eq_ignore_ascii_case(end) {
                        for port in fits(&slice.ports) {
                            let key = format!("{label}.{base}");
                            items.push(Item { host: address.to_owned(), port, key });
                        }
                    }
                }
            }
        }
        (!items.is_empty()).then_some(items)
    }

    fn pointers(&self, lower: &str) -> BTreeSet<String> {
        let is_it = |address: &str| reverse(address) == lower;
        let mut owned: Vec<String> = Vec::new();
        for ((space, name), (nature, _)) in &self.given.services {
            let Nature::Cluster(ips) = nature else { continue };
            if ips.iter().any(|at| is_it(ADDRESSES[*at])) {
                owned
                    .push(format!("{}.{}.svc.cluster.local.", SERVICES[*name], NAMESPACES[*space]));
            }
        }
        if !owned.is_empty() {
            // One of them, always the same.
            let key = |name: &String| {
                let (label, rest) = name.split_once('.').expect("labels");
                (label.len(), label.to_owned(), rest.to_owned())
            };
            owned.sort_by_key(key);
            owned.truncate(1);
            return owned.into_iter().collect();
        }
        let mut found = BTreeSet::new();
        for (space, name) in
            (0..NAMESPACES.len()).flat_map(|s| (0..SERVICES.len()).map(move |n| (s, n)))
        {
            for (_, address, label) in self.ends((space, name)) {
                if is_it(address) {
                    let base = format!("{}.{}", SERVICES[name], NAMESPACES[space]);
                    found.insert(format!("{label}.{base}.svc.cluster.local."));
                }
            }
        }
        found
    }

    /// The addresses at a name, behind the aliases that lead there; none if there are no addresses.
    fn chain(&self, owner: &str, wanted: Rtype, depth: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for item in self.items(&owner.to_ascii_lowercase()).unwrap_or_default() {
            match item.host.parse::<IpAddr>() {
                Ok(address) if (wanted == rtype::A) == address.is_ipv4() => {
                    lines.push(format!("{owner} 5 {wanted} {address}"));
                }
                Ok(_) => {}
                Err(_) if depth == 11 => {}
                Err(_) => {
                    let target = format!("{}.", item.host);
                    let (below, zone) = (target.to_ascii_lowercase(), "cluster.local.");
                    if below.ends_with(&owner.to_ascii_lowercase()) {
                        continue;
                    }
                    let alias = format!("{owner} 5 5 {target}");
                    let next = match below.ends_with(zone) {
                        true => self.chain(&target, wanted, depth + 1),
                        false => vec![String::new()],
                    };
                    if !next.is_empty() {
                        lines.push(alias);
                        lines.extend(next.into_iter().filter(|line| !line.is_empty()));
                    }
                }
            }
        }
        lines
    }

    /// The answer to a question.
    pub fn answer(&self, text: &str, wanted: Rtype) -> Said {
        let lower = text.to_ascii_lowercase();
        let pointers = self.pointers(&lower);
        let is_pointer = wanted == rtype::PTR && lower.ends_with("arpa.") && !lower.contains("svc");
        let items = match is_pointer {
            true => (!pointers.is_empty()).then(Vec::new),
            false => self.items(&lower),
        };
        let mut said = Said {
            rcode: if items.is_some() { rcode::NOERROR } else { rcode::NXDOMAIN },
            is_cut: false,
            answer: BTreeSet::new(),
            additional: BTreeSet::new(),
        };
        let items = items.unwrap_or_default();
        match wanted {
            rtype::PTR if is_pointer => {
                said.answer = pointers.iter().map(|name| format!("{text} 5 12 {name}")).collect();
            }
            rtype::TXT if items.is_empty() => said.rcode = rcode::NXDOMAIN,
            rtype::A | rtype::AAAA => {
                said.answer = self.chain(text, wanted, 0).into_iter().collect()
            }
            rtype::CNAME => {
                if let Some(first) = items.first().filter(|one| one.host.parse::<IpAddr>().is_err())
                {
                    said.answer.insert(format!("{text} 5 5 {}.", first.host));
                }
            }
            rtype::SRV => {
                let weight = 100 / items.len().max(1);
                for item in &items {
                    let Ok(address) = item.host.parse::<IpAddr>() else { continue };
                    if item.port >= 0 {
                        let numbers = format!("0 {weight} {}", item.port);
                        said.answer.insert(format!("{text} 5 33 {numbers} {}", item.key));
                        let kind = if address.is_ipv4() { 1 } else { 28 };
                        said.additional.insert(format!("{} 5 {kind} {address}", item.key));
                    }
                }
            }
            _ => {}
        }
        said
    }
}
