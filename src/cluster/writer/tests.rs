//! What the index holds after changes is what it would hold had it been made from what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::record::{Service, Slice};

fn writer() -> Writer {
    let kinds = vec![Kind::Namespaces, Kind::Services, Kind::Slices, Kind::Pods];
    let holding = Holding { kinds, pod_infos: true, ..Holding::default() };
    Writer::new(holding, 42, || 1_000)
}

fn object(kind: Kind, value: &Value) -> Object {
    Object::read(kind, value.clone()).expect("an object")
}

fn service(name: &str, ip: &str) -> Object {
    let spec = json!({"clusterIP": ip, "ports": [{"port": 80, "protocol": "TCP"}]});
    let metadata = json!({"name": name, "namespace": "a"});
    object(Kind::Services, &json!({"metadata": metadata, "spec": spec}))
}

fn slice(name: &str, owner: &str, addresses: &[String]) -> Object {
    let labels = json!({"kubernetes.io/service-name": owner});
    let metadata = json!({"name": name, "namespace": "a", "labels": labels});
    let ends: Vec<Value> = addresses.iter().map(|one| json!({"addresses": [one]})).collect();
    let value = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": ends});
    object(Kind::Slices, &value)
}

fn pod(name: &str, namespace: &str, ip: &str) -> Object {
    let metadata = json!({"name": name, "namespace": namespace});
    object(Kind::Pods, &json!({"metadata": metadata, "status": {"podIP": ip}}))
}

fn namespace(name: &str) -> Object {
    object(Kind::Namespaces, &json!({"metadata": {"name": name}}))
}

fn key(name: &str) -> Box<[u8]> {
    key_of(name, "a").expect("a name")
}

/// Everything that answers are made from, in an order of its own; numbers of slices left out.
fn content(index: &Index) -> Vec<String> {
    let mut all = BTreeSet::new();
    for label in index.namespaces.iter() {
        all.insert(format!("namespace {:?}", label.as_bytes()));
    }
    let held = |slice: &Slice| format!("{:?} {:?} {:?}", slice.key, slice.v4, slice.v6);
    for service in index.local.services() {
        let slices: BTreeSet<String> = index.local.slices_of(service).map(held).collect();
        let other = Service { slices: Box::default(), ..service.clone() };
        all.insert(format!("service {other:?} {slices:?}"));
        assert_eq!(index.local.slices_of(service).count(), service.slices.len());
        for host in service.hosts.iter().filter_map(|host| host.as_host().address()) {
            assert!(index.service_at(host).is_some(), "{host} leads back");
        }
    }
    let mut addresses = BTreeMap::<IpAddr, Vec<String>>::new();
    for number in index.local.slices.iter() {
        for end in number.slice.endpoints().filter_map(|end| end.host.address()) {
            let found: Vec<u32> = index.ends.of(end).collect();
            assert!(found.contains(&number.number), "{end} leads back");
            addresses.entry(end).or_default().push(held(&number.slice));
        }
    }
    let reverse: usize = addresses.values().map(Vec::len).sum();
    assert_eq!(index.ends.len(), reverse, "and nothing else leads anywhere");
    for mut held in addresses {
        held.1.sort();
        all.insert(format!("{held:?}"));
    }
    let mut pods = Vec::new();
    for four in index.pods.four.iter() {
        let namespace = index.pod_namespaces[four.number.get() as usize - 1].clone();
        pods.push(format!("pod {:?} {namespace:?}", four.address));
    }
    pods.sort();
    all.into_iter().chain(pods).collect()
}

/// A step: an object that is there from now on, or one that is gone.
fn steps() -> impl Strategy<Value = Vec<(bool, Object)>> {
    let address = |last: u8| format!("10.0.0.{last}");
    let one = prop_oneof![
        (0..4_u8).prop_map(|n| namespace(&format!("ns{n}"))),
        (0..4_u8, 0..6_u8).prop_map(move |(n, ip)| {
            let ip = if ip == 0 { "None".to_owned() } else { format!("10.9.0.{ip}") };
            service(&format!("s{n}"), &ip)
        }),
        (0..6_u8, 0..5_u8, prop::collection::vec(0..8_u8, 0..6)).prop_map(move |(n, o, list)| {
            let list: Vec<String> = list.into_iter().map(address).collect();
            // The fourth owner is never there, the fifth is none.
            let owner = if o == 4 { String::new() } else { format!("s{o}") };
            slice(&format!("e{n}"), &owner, &list)
        }),
        (0..6_u8, 0..2_u8, 0..4_u8).prop_map(move |(n, space, ip)| {
            pod(&format!("p{n}"), &format!("ns{space}"), &format!("10.0.1.{ip}"))
        }),
    ];
    prop::collection::vec((prop::bool::weighted(0.7), one), 1..80)
}

type Id = (Kind, Box<str>, Box<str>);

fn id(object: &Object) -> Id {
    let meta = object.meta();
    (object.kind(), meta.namespace.clone(), meta.name.clone())
}

fn made_from<'o>(objects: impl IntoIterator<Item = &'o Object>) -> Vec<String> {
    let mut writer = writer();
    for object in objects {
        writer.apply(Change::Put(object.clone()));
    }
    content(writer.index())
}

proptest! {
    #[test]
    fn changes_leave_what_is_left(steps in steps()) {
        let (mut writer, mut left) = (writer(), BTreeMap::new());
        for (is_there, object) in steps {
            let change = match is_there {
                true => Change::Put(object.clone()),
                false => Change::Delete(object.clone()),
            };
            let before = content(writer.index());
            let applied = writer.apply(change);
            if is_there { left.insert(id(&object), object) } else { left.remove(&id(&object)) };
            let after = content(writer.index());
            let is_told = before == after || applied == Applied::Changed;
            prop_assert!(is_told, "told of what is different");
            prop_assert_eq!(&after, &made_from(left.values()));
        }
    }

    /// A list that is read again drops what is gone and nothing else, and what was published stays.
    #[test]
    fn a_list_is_marked_and_swept(first in steps(), again in steps()) {
        let mut writer = writer();
        for (_, object) in first {
            writer.apply(Change::Put(object));
        }
        let published = writer.publish().expect("changed");
        let before = content(&published);
        Kind::ALL.into_iter().for_each(|kind| { writer.apply(Change::Begin(kind)); });
        let mut left = BTreeMap::new();
        for (_, object) in again {
            writer.apply(Change::Put(object.clone()));
            left.insert(id(&object), object);
        }
        Kind::ALL.into_iter().for_each(|kind| { writer.apply(Change::End(kind)); });
        prop_assert_eq!(content(writer.index()), made_from(left.values()));
        prop_assert_eq!(content(&published), before);
        prop_assert!(writer.index().is_synced() && !writer.index().is_stale());
    }
}

#[test]
fn an_object_of_the_same_version_is_the_same() {
    let mut writer = writer();
    let Object::Service(mut one) = service("web", "10.9.0.1") else { unreachable!() };
    one.metadata.resource_version = "7".into();
    assert_eq!(writer.apply(Change::Put(Object::Service(one.clone()))), Applied::Changed);
    assert!(writer.publish().is_some() && writer.publish().is_none());
    assert_eq!(writer.apply(Change::Put(Object::Service(one.clone()))), Applied::Same);
    one.metadata.resource_version = "8".into();
    assert_eq!(writer.apply(Change::Put(Object::Service(one))), Applied::Same, "no answer differs");
    assert!(writer.publish().is_none());
}

#[test]
fn what_cannot_have_records_is_left_out_and_told_of() {
    let mut writer = writer();
    let long = "x".repeat(64);
    for name in ["", "a.b", "a b", "Web", long.as_str()] {
        assert_eq!(writer.apply(Change::Put(service(name, "10.9.0.1"))), Applied::Refused);
        assert_eq!(writer.apply(Change::Put(namespace(name))), Applied::Refused);
    }
    assert_eq!(writer.index().count(Kind::Services), 0);
    let bad = slice("e", "web", &["10.0.0.1".into(), "10.0.0.300".into()]);
    assert_eq!(writer.apply(Change::Put(bad)), Applied::Refused);
    assert_eq!(writer.index().ends.len(), 1, "the endpoint that can be served is");
    assert_eq!(writer.apply(Change::Put(service("web", "10.9.0.1"))), Applied::Changed);
    let named = writer.index().local.find(&key("web")).expect("there");
    assert_eq!((named.only_v4, named.service.slices.len()), (Some([10, 9, 0, 1]), 1));
}

#[test]
fn an_address_that_stands_twice_is_known_to() {
    let mut writer = writer();
    let web = |writer: &Writer, at: usize| {
        let index = writer.index();
        let service = &index.local.find(&key("web")).expect("there").service;
        index.local.slices_of(service).nth(at).expect("a slice").overlaps
    };
    writer.apply(Change::Put(service("web", "None")));
    writer.apply(Change::Put(slice("e1", "web", &["10.0.0.1".into(), "10.0.0.2".into()])));
    writer.apply(Change::Put(slice("e2", "web", &["10.0.0.3".into()])));
    writer.apply(Change::Put(slice("e3", "other", &["10.0.0.1".into()])));
    assert!(!web(&writer, 0) && !web(&writer, 1), "another service's slice is no matter");
    writer.apply(Change::Put(slice("e2", "web", &["10.0.0.3".into(), "10.0.0.2".into()])));
    assert!(!web(&writer, 0) && web(&writer, 1));
}

#[test]
fn an_address_that_pods_share_has_no_one_namespace() {
    let mut writer = writer();
    let at: IpAddr = "10.0.1.1".parse().unwrap();
    writer.apply(Change::Put(pod("old", "a", "10.0.1.1")));
    assert_eq!(writer.index().namespace_of(at), Some(&b"a"[..]));
    writer.apply(Change::Put(pod("new", "b", "10.0.1.1")));
    assert_eq!(writer.index().namespace_of(at), None);
    assert!(writer.index().has_pod(at, b"a") && writer.index().has_pod(at, b"b"));
    writer.apply(Change::Delete(pod("old", "a", "10.0.1.1")));
    assert_eq!(writer.index().namespace_of(at), Some(&b"b"[..]));
    assert_eq!(writer.index().pod_at(at).map(|info| &*info.name), Some("new"));
}

#[test]
fn what_is_recalled_is_stale_until_it_is_listed() {
    let mut writer = writer();
    for kind in [Kind::Namespaces, Kind::Services, Kind::Slices, Kind::Pods] {
        writer.apply(Change::Begin(kind));
        writer.apply(Change::Recalled(kind));
    }
    assert!(writer.index().is_stale() && !writer.index().is_synced());
    for kind in [Kind::Namespaces, Kind::Services, Kind::Slices] {
        writer.apply(Change::End(kind));
    }
    assert_eq!(writer.index().missing().collect::<Vec<_>>(), [Kind::Pods]);
    assert!(writer.index().is_stale() && !writer.index().is_synced());
    writer.apply(Change::End(Kind::Pods));
    assert!(writer.index().is_synced() && !writer.index().is_stale());
}
