//! Answers are those of a naive reading of the specification and of CoreDNS, which goes through lists.

mod model;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::feed::Change;
use crate::cluster::object::{Kind, Object};
use crate::cluster::record::Reading;
use crate::cluster::writer::{Holding, Writer};
use crate::wire::{Flags, NameBuf, Reply, opcode, rcode, rdata_text};
use model::{Given, Model};

fn name(text: &str) -> NameBuf {
    NameBuf::parse(text).expect("a name")
}

fn object(kind: Kind, value: &Value) -> Object {
    Object::read(kind, value.clone()).expect("an object")
}

fn index(objects: impl IntoIterator<Item = Object>) -> Index {
    let kinds = vec![Kind::Namespaces, Kind::Services, Kind::Slices, Kind::Pods];
    let reading = Reading { zonal: true, ..Reading::default() };
    let mut writer = Writer::new(Holding { kinds, reading, ..Holding::default() }, 7, || 1_000);
    for object in objects {
        writer.apply(Change::Put(object));
    }
    writer.publish().expect("an index")
}

fn rules() -> Rules {
    let zones = ["cluster.local.", "in-addr.arpa.", "ip6.arpa."].map(name);
    Rules { pods: Pods::Insecure, zonal: true, ..Rules::new(&zones, 0, &[], 5) }
}

/// What a question is answered with: the rcode, and the records of each section as text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    rcode: u16,
    is_cut: bool,
    answer: BTreeSet<String>,
    additional: BTreeSet<String>,
}

fn ask(rules: &Rules, index: &Index, text: &str, rtype: Rtype, fit: Fit) -> Said {
    let (asked, lower) = (name(text), NameBuf::lowered(name(text).as_name()));
    let question =
        Question { name: asked.as_name(), lower: lower.as_name(), rtype, rclass: rclass::IN };
    let mut reply = Reply::new(vec![0; 65_535].into());
    reply.start(1, Flags::default().with_opcode(opcode::QUERY), question);
    let place = rules.hint(index, lower.as_name());
    assert_eq!(Place::from_bits(place.to_bits()), place);
    rules.hint_next(index, place);
    let position = place.position().expect("a name of the zones");
    let plain = rules.answer_plain(index, place, question, &mut reply);
    let first = reply.bytes().to_vec();
    if plain.is_some() {
        // It says what the long way says.
        reply.start(1, Flags::default().with_opcode(opcode::QUERY), question);
    }
    let outcome = rules.answer(index, position, question, fit, &mut reply);
    if let Some(plain) = plain {
        assert_eq!(std::mem::discriminant(&plain), std::mem::discriminant(&outcome));
        assert_eq!(reply.bytes(), first, "the short way is another");
    }
    match outcome {
        Outcome::NoData => rules.deny(index, position, question, rcode::NOERROR, &mut reply),
        Outcome::NxDomain => rules.deny(index, position, question, rcode::NXDOMAIN, &mut reply),
        Outcome::Answer | Outcome::Chase { .. } => {}
        Outcome::TooLong => panic!("no room for {text}"),
    }
    read(&reply)
}

fn read(reply: &Reply) -> Said {
    let message = reply.bytes();
    crate::wire::validate(message).expect("a valid reply");
    let mut said = Said {
        rcode: reply.rcode(),
        is_cut: reply.flags().tc(),
        answer: BTreeSet::new(),
        additional: BTreeSet::new(),
    };
    let mut denied = false;
    for record in reply.records().flatten() {
        let owner = record.owner(message).expect("a name");
        let line =
            format!("{owner} {} {} {}", record.ttl, record.rtype, rdata_text(message, &record));
        let is_new = match record.section {
            Section::Answer => said.answer.insert(line.clone()),
            Section::Additional => said.additional.insert(line.clone()),
            Section::Authority => {
                denied = line.contains(" hostmaster.");
                true
            }
        };
        assert!(is_new, "{line} stands there twice");
    }
    assert_eq!(denied, said.answer.is_empty(), "a denial has the SOA record, an answer has none");
    said
}

const WHOLE: Fit = Fit { room: 65_535, whole: true, is_stream: true, turn: 0 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn as_a_naive_server(given: Given, asked in prop::collection::vec(model::question(), 40)) {
        let model = Model::new(&given);
        let (rules, index) = (rules(), index(given.objects()));
        for (text, rtype) in asked {
            let said = ask(&rules, &index, &text, rtype, WHOLE);
            prop_assert_eq!(said, model.answer(&text, rtype), "{} {}", text, rtype);
        }
    }
}

fn headless(count: usize) -> Vec<Object> {
    let ends = |from: usize, to: usize| -> Vec<Value> {
        (from..to)
            .map(|n| json!({"addresses": [format!("10.1.{}.{}", n / 250, n % 250)]}))
            .collect()
    };
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let spec = json!({"clusterIP": "None", "ports": ports});
    let metadata = json!({"name": "web", "namespace": "a"});
    let mut objects = vec![
        object(Kind::Namespaces, &json!({"metadata": {"name": "a"}})),
        object(Kind::Services, &json!({"metadata": metadata, "spec": spec})),
    ];
    for at in (0..count).step_by(100) {
        let labels = json!({"kubernetes.io/service-name": "web"});
        let metadata = json!({"name": format!("web-{at}"), "namespace": "a", "labels": labels});
        let ends = ends(at, (at + 100).min(count));
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "ports": ports,
            "endpoints": ends});
        objects.push(object(Kind::Slices, &slice));
    }
    objects
}

/// A large set is whole on a stream; in a datagram it is cut, and every address has its turn.
#[test]
fn a_large_set_is_cut_fairly() {
    let (rules, index) = (rules(), index(headless(1_000)));
    let text = "web.a.svc.cluster.local.";
    let whole = ask(&rules, &index, text, rtype::A, WHOLE);
    assert_eq!((whole.answer.len(), whole.is_cut), (1_000, false));
    let mut shown = BTreeSet::new();
    for turn in (0..1_000).step_by(20) {
        let fit = Fit { room: 512, whole: false, is_stream: false, turn };
        let said = ask(&rules, &index, text, rtype::A, fit);
        assert_eq!((said.answer.len(), said.is_cut), (29, true));
        shown.extend(said.answer);
    }
    assert_eq!(shown, whole.answer);
}

/// What has no room at first is asked to be written into more.
#[test]
fn a_set_that_has_no_room_is_not_begun() {
    let (rules, index) = (rules(), index(headless(300)));
    let asked = name("web.a.svc.cluster.local.");
    let position = rules.position(asked.as_name()).expect("in a zone");
    for rtype in [rtype::A, rtype::SRV] {
        let (name, lower) = (asked.as_name(), asked.as_name());
        let question = Question { name, lower, rtype, rclass: rclass::IN };
        let mut reply = Reply::new(vec![0; 4_096].into());
        reply.start(1, Flags::default(), question);
        let before = reply.bytes().to_vec();
        let fit = Fit { room: 4_000, ..WHOLE };
        let outcome = rules.answer(&index, position, question, fit, &mut reply);
        assert!(matches!(outcome, Outcome::TooLong), "{outcome:?}");
        assert_eq!(reply.bytes(), before);
    }
}

/// SRV records come first: the addresses of their targets are left out where they have no room,
/// which only a datagram tells.
#[test]
fn addresses_of_targets_are_optional() {
    let (rules, index) = (rules(), index(headless(20)));
    let text = "_http._tcp.web.a.svc.cluster.local.";
    let whole = ask(&rules, &index, text, rtype::SRV, WHOLE);
    assert_eq!((whole.answer.len(), whole.additional.len(), whole.is_cut), (20, 20, false));
    for is_stream in [true, false] {
        let fit = Fit { room: 1_300, whole: false, is_stream, turn: 0 };
        let said = ask(&rules, &index, text, rtype::SRV, fit);
        assert_eq!(said.answer, whole.answer);
        assert!(said.additional.len() < 20, "{}", said.additional.len());
        assert_eq!(said.is_cut, !is_stream);
    }
}

/// Whatever the size of messages, a transfer has each record of the zone once, SOA first and last.
#[test]
fn a_transfer_is_the_same_in_pieces() {
    let mut objects = headless(130);
    for n in 0..300 {
        let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 80}]);
        let spec = json!({"clusterIP": format!("10.9.{}.{}", n / 250, n % 250), "ports": ports});
        let metadata = json!({"name": format!("s{n}"), "namespace": "a"});
        objects.push(object(Kind::Services, &json!({"metadata": metadata, "spec": spec})));
    }
    let (rules, index) = (rules(), index(objects));
    let zone = name("cluster.local.");
    let records = |some: usize| {
        let (mut at, mut all) = (At::default(), Vec::new());
        while !at.is_done() {
            let mut left = some;
            rules.each_record(&index, zone.as_name(), &mut at, &mut |owner, rtype, ttl, rdata| {
                left = left.checked_sub(1).ok_or(Full)?;
                all.push(format!("{owner} {rtype} {ttl} {rdata:?}"));
                Ok(())
            });
            at = At::from_words(at.to_words());
        }
        all
    };
    let whole = records(usize::MAX);
    // A service has its address, two ports at its name, one by its own; an endpoint two addresses
    // and one port; and two SOA records.
    assert_eq!(whole.len(), 2 + 300 * 4 + 130 * 3);
    assert!(whole[0] == whole[whole.len() - 1] && whole[0].contains(" 6 5 "));
    let distinct: BTreeSet<&String> = whole.iter().collect();
    assert_eq!(distinct.len(), whole.len() - 1);
    for some in [1, 7, 100] {
        assert!(records(some) == whole, "{some} at a time");
    }
}

/// The servers of a zone are the services that have an address of this machine, or itself.
#[test]
fn servers_of_a_zone() {
    let mut rules = rules();
    rules.own = Box::new(["10.1.0.3".parse().unwrap(), "fd00::9".parse().unwrap()]);
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let said = |rules: &Rules, index: &Index, text: &str, rtype| {
        let said = ask(rules, index, text, rtype, WHOLE);
        (said.answer, said.additional)
    };
    let none = index([]);
    let (answer, additional): (BTreeSet<String>, BTreeSet<String>) =
        said(&rules, &none, "Cluster.local.", rtype::NS);
    assert_eq!(answer, lines(&["Cluster.local. 5 2 ns.dns.Cluster.local."]));
    let own = ["ns.dns.Cluster.local. 5 1 10.1.0.3", "ns.dns.Cluster.local. 5 28 fd00::9"];
    assert_eq!(additional, lines(&own));
    let (answer, _) = said(&rules, &none, "ns.dns.cluster.local.", rtype::AAAA);
    assert_eq!(answer, lines(&["ns.dns.cluster.local. 5 28 fd00::9"]));
    let some = index(headless(5));
    let (answer, additional) = said(&rules, &some, "cluster.local.", rtype::NS);
    assert_eq!((answer.len(), additional.len()), (5, 5), "the endpoints of its slice");
    assert!(answer.contains("cluster.local. 5 2 10-1-0-3.web.a.svc.cluster.local."));
    rules.own = Box::default();
    let said = ask(&rules, &some, "cluster.local.", rtype::NS, WHOLE);
    assert!(said.answer.is_empty() && said.rcode == rcode::NOERROR, "bound to the loopback only");
}
