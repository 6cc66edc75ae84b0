//! What single questions are answered with, and that a transfer holds the same.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::feed::Change;
use crate::cluster::object::{Kind, Object};
use crate::cluster::writer::{Holding, Writer};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::wire::{Flags, Rtype, rclass, rcode};
use std::sync::Arc;

fn put(writer: &mut Writer, kind: Kind, value: &Value) {
    writer.apply(Change::Put(Object::read(kind, value.clone()).expect("an object")));
}

/// Services by how they are reached; `headless` ones have two endpoints.
fn index(services: &[(&str, Value, Value)]) -> Arc<Index> {
    let kinds = vec![Kind::Namespaces, Kind::Services, Kind::Slices];
    let mut writer = Writer::new(Holding { kinds, ..Holding::default() }, 7, || 1_000);
    put(&mut writer, Kind::Namespaces, &json!({"metadata": {"name": "shop"}}));
    for (name, spec, ingress) in services {
        let metadata = json!({"name": name, "namespace": "shop"});
        let status = json!({"loadBalancer": {"ingress": ingress}});
        let value = json!({"metadata": metadata, "spec": spec, "status": status});
        put(&mut writer, Kind::Services, &value);
        let metadata = json!({"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name}});
        let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        let ends = json!([{"addresses": ["10.0.0.1"], "hostname": "web-0"},
            {"addresses": ["10.0.0.2"]}]);
        let value = json!({"metadata": metadata, "addressType": "IPv4", "ports": ports,
            "endpoints": ends});
        put(&mut writer, Kind::Slices, &value);
    }
    Arc::new(writer.publish().expect("something is there"))
}

fn rules(headless: bool) -> Arc<Rules> {
    let zones = ["example.org", "113.0.203.in-addr.arpa"].map(|zone| zone.parse().expect("a zone"));
    let label = NameBuf::parse("dns").expect("a label");
    let mut rules = Rules::new(&zones, label.as_name(), 5, 7).expect("zones that are short enough");
    rules.headless = headless;
    Arc::new(rules)
}

/// The reply in lines: the rcode or the alias, then the records of the question's type.
fn ask(rules: &Rules, index: &Index, name: &str, rtype: Rtype) -> Vec<String> {
    let name: NameBuf = name.parse().expect("a name");
    let lower = NameBuf::lowered(name.as_name());
    let question =
        Question { name: name.as_name(), lower: lower.as_name(), rtype, rclass: rclass::IN };
    let mut reply = Reply::new(vec![0; MESSAGE_BYTES_MAX].into());
    reply.start(1, Flags::default(), question);
    let mut lines = Vec::new();
    match rules.answer(index, question, &mut reply).expect("room") {
        Outcome::Answer => {}
        Outcome::NoData => lines.push("NODATA".into()),
        Outcome::NxDomain => lines.push("NXDOMAIN".into()),
        Outcome::Chase { target } => lines.push(format!("chase {target}")),
    }
    lines.extend(records_of(&reply));
    lines
}

fn records_of(reply: &Reply) -> Vec<String> {
    let from = reply.bytes();
    let text = |record: crate::wire::Record| {
        let owner = record.owner(from).expect("an owner");
        let rdata = record.rdata(from);
        let value = match record.rtype {
            rtype::A => {
                std::net::Ipv4Addr::from(<[u8; 4]>::try_from(rdata).expect("four")).to_string()
            }
            rtype::SRV => {
                let (target, _) = Name::from_wire(&rdata[6..]).expect("a target");
                let port = u16::from_be_bytes([rdata[4], rdata[5]]);
                format!("{} {port} {target}", rdata[3])
            }
            _ => format!("{} octets", rdata.len()),
        };
        format!("{owner} {} {} {value}", record.ttl, record.rtype)
    };
    reply.records().flatten().map(text).collect()
}

const WEB: &str = r#"[{"name": "http", "port": 80, "protocol": "TCP"},
    {"name": "dns", "port": 53, "protocol": "UDP"}]"#;

fn some() -> Arc<Index> {
    let ports: Value = serde_json::from_str(WEB).expect("ports");
    index(&[
        ("lb", json!({"clusterIP": "10.1.0.1", "ports": ports}), json!([{"ip": "203.0.113.5"}])),
        (
            "both",
            json!({"clusterIP": "10.1.0.2", "ports": ports, "externalIPs": ["203.0.113.6"]}),
            json!([{"ip": "203.0.113.6"}, {"hostname": "edge.test"}]),
        ),
        (
            "named",
            json!({"clusterIP": "10.1.0.3", "ports": ports}),
            json!([{"hostname": "Edge.test"}]),
        ),
        ("bare", json!({"clusterIP": "10.1.0.4", "externalIPs": ["203.0.113.7"]}), json!([])),
        ("inside", json!({"clusterIP": "10.1.0.5", "ports": ports}), json!([])),
        ("set", json!({"clusterIP": "None", "ports": ports}), json!([])),
    ])
}

#[test]
fn addresses() {
    let (rules, index) = (rules(false), some());
    let a = |name: &str| ask(&rules, &index, name, rtype::A);
    assert_eq!(a("LB.shop.example.org"), ["LB.shop.example.org. 5 1 203.0.113.5"]);
    assert_eq!(a("both.shop.example.org"), ["both.shop.example.org. 5 1 203.0.113.6"]);
    let named = ["chase Edge.test.", "named.shop.example.org. 7 5 11 octets"];
    assert_eq!(a("named.shop.example.org"), named);
    assert_eq!(a("any.lb.shop.example.org").len(), 1, "an endpoint is not looked at");
    assert_eq!(a("_dns._udp.lb.shop.example.org").len(), 1);
    for name in
        ["inside.shop", "set.shop", "no.shop", "lb.none", "_dns._tcp.lb.shop", "a.b.c.lb.shop"]
    {
        assert_eq!(a(&format!("{name}.example.org")), ["NXDOMAIN"], "{name}");
    }
    for name in ["shop.example.org", "example.org", "dns.example.org", "ns1.dns.example.org"] {
        assert_eq!(a(name), ["NODATA"], "{name}");
    }
    assert_eq!(a("x.dns.example.org"), ["NXDOMAIN"]);
    assert_eq!(ask(&rules, &index, "lb.shop.example.org", rtype::TXT), ["NODATA"]);
    assert_eq!(ask(&rules, &index, "lb.shop.example.org", rtype::AAAA), ["NODATA"]);
}

#[test]
fn headless_services() {
    let (rules, index) = (rules(true), some());
    let a = |name: &str| ask(&rules, &index, name, rtype::A);
    assert_eq!(a("set.shop.example.org").len(), 2);
    assert_eq!(a("web-0.set.shop.example.org"), ["web-0.set.shop.example.org. 5 1 10.0.0.1"]);
    assert_eq!(a("10-0-0-2.inside.shop.example.org").len(), 1);
    assert_eq!(a("10-0-0-1.set.shop.example.org"), ["NXDOMAIN"], "it is called otherwise");
    assert_eq!(a("inside.shop.example.org"), ["NXDOMAIN"]);
    let expected = [
        "_http._tcp.set.shop.example.org. 7 33 50 8080 web-0.set.shop.example.org.",
        "_http._tcp.set.shop.example.org. 7 33 50 8080 10-0-0-2.set.shop.example.org.",
        "web-0.set.shop.example.org. 5 1 10.0.0.1",
        "10-0-0-2.set.shop.example.org. 5 1 10.0.0.2",
    ];
    assert_eq!(ask(&rules, &index, "_http._tcp.set.shop.example.org", rtype::SRV), expected);
}

#[test]
fn ports() {
    let (rules, index) = (rules(false), some());
    let srv = |name: &str| ask(&rules, &index, name, rtype::SRV);
    let expected = [
        "lb.shop.example.org. 7 33 50 80 lb.shop.example.org.",
        "lb.shop.example.org. 7 33 50 53 lb.shop.example.org.",
        "lb.shop.example.org. 5 1 203.0.113.5",
    ];
    assert_eq!(srv("lb.shop.example.org"), expected);
    let expected = [
        "_dns._udp.both.shop.example.org. 7 33 33 53 both.shop.example.org.",
        "_dns._udp.both.shop.example.org. 7 33 33 53 edge.test.",
        "both.shop.example.org. 5 1 203.0.113.6",
    ];
    assert_eq!(srv("_dns._udp.both.shop.example.org"), expected);
    assert_eq!(srv("bare.shop.example.org"), ["NODATA"]);
}

#[test]
fn reverse_names() {
    let (rules, index) = (rules(false), some());
    let ptr = |name: &str| ask(&rules, &index, name, rtype::PTR);
    assert_eq!(ptr("6.113.0.203.in-addr.arpa").len(), 1, "once for a service");
    assert_eq!(ptr("9.113.0.203.in-addr.arpa"), ["NXDOMAIN"]);
    assert_eq!(ptr("113.0.203.in-addr.arpa"), ["NODATA"]);
    assert_eq!(ptr("lb.shop.example.org"), ["NODATA"]);
}

/// All records of a transfer that is taken in parts of `part` records.
fn transferred(
    rules: &Arc<Rules>,
    index: &Arc<Index>,
    part: usize,
) -> Vec<(NameBuf, Rtype, Vec<u8>)> {
    let apex: NameBuf = "example.org".parse().expect("a zone");
    let zone = Transfer::new(rules, Arc::clone(index), apex.as_name()).expect("it is one of them");
    let mut all = Vec::new();
    let mut place = Some([0, 0]);
    while let Some(from) = place {
        let most = all.len() + part;
        place = zone.each_from(from, &mut |owner, rtype, _, rdata| {
            let Rdata::Wire(rdata) = rdata else { panic!("uncompressed") };
            let has_room = all.len() < most;
            if has_room {
                all.push((NameBuf::from(owner), rtype, rdata.to_vec()));
            }
            has_room
        });
    }
    all
}

use crate::wire::Rdata;

proptest! {
    /// Parts of any length make the same whole, and hold what questions are answered with.
    #[test]
    fn a_transfer_holds_what_is_answered(part in 1_usize..20, headless: bool) {
        let (rules, index) = (rules(headless), some());
        let all = transferred(&rules, &index, part);
        prop_assert_eq!(&all, &transferred(&rules, &index, 1000));
        let key = |(name, rtype, rdata): &(NameBuf, Rtype, Vec<u8>)| {
            (name.to_string(), *rtype, rdata.clone())
        };
        let distinct: BTreeSet<_> = all.iter().map(key).collect();
        prop_assert_eq!(distinct.len(), all.len(), "each record once");
        for (owner, rtype, _) in &all {
            let lines = ask(&rules, &index, &owner.to_string(), *rtype);
            let same = all.iter().filter(|(name, other, _)| name == owner && other == rtype);
            let answers = lines.iter().filter(|line| {
                let mut words = line.split(' ');
                words.next() == Some(&owner.to_string()) && words.nth(1) == Some(&rtype.to_string())
            });
            if *rtype != rtype::CNAME {
                prop_assert_eq!(answers.count(), same.count(), "{} {} {:?}", owner, rtype, lines);
            }
        }
    }
}

#[test]
fn denials_have_the_soa_of_their_zone() {
    let (rules, index) = (rules(false), some());
    let name: NameBuf = "No.shop.example.org".parse().expect("a name");
    let lower = NameBuf::lowered(name.as_name());
    let (rtype, rclass) = (rtype::A, rclass::IN);
    let question = Question { name: name.as_name(), lower: lower.as_name(), rtype, rclass };
    let mut reply = Reply::new(vec![0; 512].into());
    reply.start(1, Flags::default(), question);
    rules.deny(&index, question, rcode::NXDOMAIN, &mut reply);
    assert_eq!((reply.rcode(), reply.counts().authority), (rcode::NXDOMAIN, 1));
    let record = reply.records().flatten().next().expect("a SOA record");
    assert_eq!(record.owner(reply.bytes()).expect("an owner").to_string(), "example.org.");
}
