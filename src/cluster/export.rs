//! The objects that an index could have been made from.
//!
//! What puts them into an empty index makes the same answers; that is what is kept over a restart.
//! Names of slices and pods are not held, so these are given names of their own: what a list brings
//! later takes their place when it ends. Costs: one object at a time.

use std::net::IpAddr;

use super::index::{Index, Realm};
use super::object::{
    Conditions, Endpoint, EndpointSlice, IMPORT_NAME, ImportSpec, Ingress, LoadBalancer, Meta,
    Namespace, Object, Pod, PodStatus, Port, SERVICE_NAME, SOURCE_CLUSTER, Service, ServiceImport,
    ServiceSpec, ServiceStatus,
};
use super::record::{self, Host, HostBuf, Nature, as_name, no_port};
use crate::wire::labels_of;

fn text(octets: &[u8]) -> Box<str> {
    String::from_utf8_lossy(octets).into()
}

/// Name and namespace of a key.
fn meta_of(key: &[u8]) -> Meta {
    let mut labels = labels_of(key).map(text);
    let name = labels.next().unwrap_or_default();
    Meta { name, namespace: labels.next().unwrap_or_default(), ..Meta::default() }
}

fn text_of(host: Host<'_>) -> Box<str> {
    match host {
        Host::Name(wire) => as_name(wire).to_string().into(),
        Host::V4(octets) => IpAddr::from(octets).to_string().into(),
        Host::V6(octets) => IpAddr::from(octets).to_string().into(),
    }
}

/// The addresses of a service; where all were bad, one that is bad again.
fn texts_of(hosts: &[HostBuf]) -> Vec<Box<str>> {
    match hosts {
        [] => vec!["..".into()],
        hosts => hosts.iter().map(|host| text_of(host.as_host())).collect(),
    }
}

fn ports_of(ports: &[record::Port]) -> Vec<Port> {
    if ports == [no_port()] {
        return Vec::new();
    }
    let port = |port: &record::Port| Port {
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        port: Some(port.number).filter(|number| *number >= 0),
    };
    ports.iter().map(port).collect()
}

fn service_of(service: &record::Service) -> Object {
    let mut spec = ServiceSpec { ports: ports_of(&service.ports), ..ServiceSpec::default() };
    match service.nature {
        Nature::Cluster => spec.cluster_ips = texts_of(&service.hosts),
        Nature::Headless => spec.cluster_ip = "None".into(),
        Nature::External => {
            spec.kind = "ExternalName".into();
            let name = service.hosts.first().map(|host| text_of(host.as_host()));
            // An address instead of a name leads nowhere.
            spec.external_name = name.unwrap_or_else(|| "0.0.0.0".into());
        }
    }
    let ingress = service.outside.iter().map(|host| match host {
        HostBuf::Name(_) => Ingress { hostname: text_of(host.as_host()), ip: "".into() },
        _ => Ingress { ip: text_of(host.as_host()), hostname: "".into() },
    });
    let status = ServiceStatus { load_balancer: LoadBalancer { ingress: ingress.collect() } };
    Object::Service(Service { metadata: meta_of(&service.key), spec, status })
}

fn import_of(service: &record::Service) -> Object {
    let is_headless = service.nature == Nature::Headless;
    let spec = ImportSpec {
        kind: if is_headless { "Headless" } else { "ClusterSetIP" }.into(),
        ips: service.hosts.iter().map(|host| text_of(host.as_host())).collect(),
        ports: ports_of(&service.ports),
    };
    Object::Import(ServiceImport { metadata: meta_of(&service.key), spec })
}

fn slice_of(number: u32, slice: &record::Slice, owner: &str) -> EndpointSlice {
    let mut metadata = meta_of(&slice.key);
    let service = std::mem::replace(&mut metadata.name, format!("slice-{number}").into());
    if !service.is_empty() {
        metadata.labels.insert(owner.into(), service);
    }
    if !slice.cluster().is_empty() {
        metadata.labels.insert(SOURCE_CLUSTER.into(), text(slice.cluster()));
    }
    let endpoint = |one: record::Endpoint<'_>| Endpoint {
        addresses: vec![text_of(one.host)],
        conditions: Conditions { ready: Some(true) },
        hostname: text(one.label),
        zone: one.zone.into(),
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata,
        // Of any.
        address_type: "FQDN".into(),
        endpoints: slice.endpoints().map(endpoint).collect(),
        ports: ports_of(&slice.ports),
    }
}

/// Gives what `take` wants of a realm; whether it wants more.
fn each_of(
    realm: &Realm,
    service: fn(&record::Service) -> Object,
    slice: impl Fn(u32, &record::Slice) -> Object,
    take: &mut dyn FnMut(Object) -> bool,
) -> bool {
    realm.services().all(|one| take(service(one)))
        && realm.slices.iter().all(|one| take(slice(one.number, &one.slice)))
}

impl Index {
    /// Gives one object after the other, until `take` says no.
    pub fn each(&self, take: &mut dyn FnMut(Object) -> bool) {
        let namespace = |label: &[u8]| {
            let metadata = Meta { name: text(label), ..Meta::default() };
            Object::Namespace(Namespace { metadata })
        };
        let local = |number, slice: &_| Object::Slice(slice_of(number, slice, SERVICE_NAME));
        let imported =
            |number, slice: &_| Object::ImportSlice(slice_of(number, slice, IMPORT_NAME));
        let _ = self.namespaces.iter().all(|label| take(namespace(label.as_bytes())))
            && each_of(&self.local, service_of, local, take)
            && each_of(&self.imported, import_of, imported, take)
            && self.each_pod(take);
    }

    fn each_pod(&self, take: &mut dyn FnMut(Object) -> bool) -> bool {
        let four = self.pods.four.iter().map(|one| (IpAddr::from(one.address), one.number.get()));
        let six = self.pods.six.iter().map(|one| (IpAddr::from(one.address), one.number.get()));
        four.chain(six).enumerate().all(|(at, (address, number))| {
            let namespace = self.pod_namespace(number);
            let info = self.pod_at(address);
            let info = info.filter(|info| info.namespace.as_bytes() == namespace);
            let labels = info.into_iter().flat_map(|info| info.labels.iter().cloned());
            let metadata = Meta {
                name: info.map_or_else(|| format!("pod-{at}").into(), |info| info.name.clone()),
                namespace: text(namespace),
                labels: labels.collect(),
                ..Meta::default()
            };
            let status = PodStatus { phase: "Running".into(), pod_ip: address.to_string().into() };
            take(Object::Pod(Pod { metadata, status }))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::feed::{Applied, Change};
    use super::super::object::Kind;
    use super::super::record::Reading;
    use super::super::writer::{Holding, Writer};
    use super::*;

    fn writer() -> Writer {
        let holding = Holding {
            kinds: Kind::ALL.into(),
            reading: Reading { pod_names: true, zonal: true },
            namespaces: Vec::new(),
            pod_infos: true,
        };
        Writer::new(holding, 7, || 1)
    }

    /// All objects of an index, with names that are made up taken out.
    fn objects(writer: &Writer) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        writer.index().each(&mut |object| {
            let made_up = matches!(object, Object::Slice(_) | Object::ImportSlice(_));
            let mut text = format!("{object:?}");
            if made_up {
                text = text.replace(&*object.meta().name, "");
            }
            all.insert(text)
        });
        all
    }

    const CLUSTER: &[(Kind, &str)] = &[
        (Kind::Namespaces, r#"{"metadata":{"name":"a"}}"#),
        (
            Kind::Services,
            r#"{"metadata":{"name":"web","namespace":"a"},"spec":{"clusterIPs":
            ["10.0.0.1","fd00::1"],"externalIPs":["192.0.2.1"],"ports":[{"name":"http",
            "protocol":"TCP","port":80}]},"status":{"loadBalancer":{"ingress":
            [{"hostname":"lb.example."}]}}}"#,
        ),
        (
            Kind::Services,
            r#"{"metadata":{"name":"db","namespace":"a"},
            "spec":{"clusterIP":"None"}}"#,
        ),
        (Kind::Services, r#"{"metadata":{"name":"new","namespace":"a"}}"#),
        (
            Kind::Services,
            r#"{"metadata":{"name":"bad","namespace":"a"},
            "spec":{"clusterIP":"a..b"}}"#,
        ),
        (
            Kind::Services,
            r#"{"metadata":{"name":"ext","namespace":"a"},
            "spec":{"type":"ExternalName","externalName":"Www.example"}}"#,
        ),
        (
            Kind::Services,
            r#"{"metadata":{"name":"ip","namespace":"a"},
            "spec":{"type":"ExternalName","externalName":"192.0.2.7"}}"#,
        ),
        (
            Kind::Slices,
            r#"{"metadata":{"name":"db-1","namespace":"a","labels":
            {"kubernetes.io/service-name":"db"}},"addressType":"IPv4","ports":[{"name":"p"}],
            "endpoints":[{"addresses":["10.1.0.1"],"hostname":"db-0","zone":"Z1"},
            {"addresses":["10.1.0.2"],"targetRef":{"name":"pod-2"}},{"addresses":["10.1.0.3"]}]}"#,
        ),
        (
            Kind::Slices,
            r#"{"metadata":{"name":"x","namespace":"a"},"addressType":"IPv6",
            "endpoints":[{"addresses":["fd00::7"]}]}"#,
        ),
        (
            Kind::Pods,
            r#"{"metadata":{"name":"p","namespace":"a","labels":{"app":"web"}},
            "status":{"podIP":"10.1.0.1","phase":"Running"}}"#,
        ),
        (
            Kind::Imports,
            r#"{"metadata":{"name":"far","namespace":"a"},
            "spec":{"type":"ClusterSetIP","ips":["10.2.0.1"],"ports":[{"port":1}]}}"#,
        ),
        (
            Kind::ImportSlices,
            r#"{"metadata":{"name":"far-1","namespace":"a","labels":
            {"multicluster.kubernetes.io/service-name":"far",
            "multicluster.kubernetes.io/source-cluster":"c1"}},"addressType":"FQDN",
            "endpoints":[{"addresses":["Host.example"],"hostname":"h"}]}"#,
        ),
    ];

    #[test]
    fn what_is_given_makes_the_same_index() {
        let mut first = writer();
        for (kind, json) in CLUSTER {
            let object = Object::read(*kind, &mut serde_json::Deserializer::from_str(json));
            first.apply(Change::Put(object.expect("an object")));
        }
        let mut second = writer();
        first.index().each(&mut |object| second.apply(Change::Put(object)) != Applied::Same);
        for kind in Kind::ALL {
            assert_eq!(first.index().count(kind), second.index().count(kind), "{kind}");
        }
        assert!(first.index().count(Kind::Services) == 6 && objects(&first).len() == 12);
        assert_eq!(objects(&first), objects(&second));
    }

    #[test]
    fn it_ends_when_told() {
        let mut writer = writer();
        let object =
            Object::read(CLUSTER[0].0, &mut serde_json::Deserializer::from_str(CLUSTER[0].1));
        writer.apply(Change::Put(object.expect("an object")));
        let mut taken = 0;
        writer.index().each(&mut |_| {
            taken += 1;
            false
        });
        assert_eq!(taken, 1);
    }
}
