//! `corelane queries`: queries for a load test, made from what a cluster has: lines of `name type`, as
//! dnsperf reads them.
//!
//! Of each service its addresses (A and AAAA, as applications ask for both), SRV of its named ports, PTR
//! of its addresses; of headless sets the endpoints that have hostnames. With `--outside NAME…` instead
//! what search paths make of names outside the cluster in each of its namespaces, none of which exists.
//! Nothing that is asked leaves the cluster: services of type `ExternalName` are left out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use super::args::Queries;
use super::kube::{Connect, all};
use crate::cluster::object::{EndpointSlice, Kind, Object, SERVICE_NAME, Service};
use crate::plugin::kubernetes::manifest_objects;
use crate::wire::NameBuf;

/// The kinds that queries are made of.
const KINDS: [Kind; 3] = [Kind::Namespaces, Kind::Services, Kind::Slices];

/// Prints the queries.
///
/// # Errors
/// One line: the cluster cannot be read, it has nothing to ask for, or nobody reads what is printed.
pub async fn run(wanted: &Queries) -> Result<(), String> {
    for name in wanted.outside.iter().chain([&wanted.zone]) {
        NameBuf::parse(name).map_err(|error| format!("{name}: not a name: {error}"))?;
    }
    let objects = if wanted.manifests.is_empty() {
        all(&connect(wanted), &KINDS).await?
    } else {
        manifest_objects(&wanted.manifests, &KINDS)?
    };
    let zone = wanted.zone.trim_matches('.');
    let lines = match &wanted.outside[..] {
        [] => inside(&objects, zone),
        names => outside(&objects, zone, names),
    };
    if lines.is_empty() {
        return Err("the cluster has nothing to ask for".into());
    }
    std::io::stdout().lock().write_all(lines.as_bytes()).map_err(|error| error.to_string())
}

fn connect(wanted: &Queries) -> Connect {
    match (&wanted.endpoint, &wanted.kubeconfig) {
        (Some(url), _) => Connect::Endpoint { url: url.clone(), tls: None },
        (None, Some(file)) => Connect::Kubeconfig { file: file.clone(), context: None },
        (None, None) => Connect::InCluster,
    }
}

/// Queries that have an answer.
fn inside(objects: &[Object], zone: &str) -> String {
    let mut lines = String::new();
    for object in objects {
        match object {
            Object::Service(service) => of_service(service, zone, &mut lines),
            Object::Slice(slice) => of_slice(slice, zone, &mut lines),
            _ => {}
        }
    }
    lines
}

/// Writing to a String cannot fail.
macro_rules! line {
    ($lines:expr, $($words:tt)*) => {
        let _ = writeln!($lines, $($words)*);
    };
}

fn of_service(service: &Service, zone: &str, lines: &mut String) {
    let (meta, spec) = (&service.metadata, &service.spec);
    if &*spec.kind == "ExternalName" {
        return;
    }
    let name = format!("{}.{}.svc.{zone}", meta.name, meta.namespace);
    line!(lines, "{name} A\n{name} AAAA");
    for port in spec.ports.iter().filter(|port| !port.name.is_empty()) {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &*port.protocol };
        line!(lines, "_{}._{}.{name} SRV", port.name, protocol.to_ascii_lowercase());
    }
    let one = std::slice::from_ref(&spec.cluster_ip);
    let addresses = if spec.cluster_ips.is_empty() { one } else { &spec.cluster_ips };
    for address in addresses.iter().filter_map(|text| text.parse().ok()) {
        line!(lines, "{} PTR", reverse(address));
    }
}

fn of_slice(slice: &EndpointSlice, zone: &str, lines: &mut String) {
    let (meta, service) = (&slice.metadata, slice.metadata.label(SERVICE_NAME));
    let kind = if &*slice.address_type == "IPv6" { "AAAA" } else { "A" };
    let is_asked =
        |ready: Option<bool>, hostname: &str| ready != Some(false) && !hostname.is_empty();
    for endpoint in &slice.endpoints {
        if !service.is_empty() && is_asked(endpoint.conditions.ready, &endpoint.hostname) {
            let hostname = &endpoint.hostname;
            line!(lines, "{hostname}.{service}.{}.svc.{zone} {kind}", meta.namespace);
        }
    }
}

/// What the search path of a pod in each namespace makes of names that are not in the cluster.
fn outside(objects: &[Object], zone: &str, names: &[String]) -> String {
    let mut lines = String::new();
    for object in objects {
        let Object::Namespace(namespace) = object else { continue };
        for name in names {
            let name = name.trim_end_matches('.');
            for path in
                [&*format!("{}.svc.{zone}", namespace.metadata.name), &*format!("svc.{zone}"), zone]
            {
                line!(lines, "{name}.{path} A\n{name}.{path} AAAA");
            }
        }
    }
    lines
}

/// The name under `in-addr.arpa` (RFC 1035 section 3.5) or `ip6.arpa` (RFC 3596 section 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let mut name = String::new();
            for octet in v6.octets().into_iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 15, octet >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, json: &str) -> Object {
        Object::read(kind, &mut serde_json::Deserializer::from_str(json)).expect("an object")
    }

    fn objects() -> Vec<Object> {
        vec![
            object(Kind::Namespaces, r#"{"metadata":{"name":"shop"}}"#),
            object(
                Kind::Services,
                r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1",
                "clusterIPs":["10.0.0.1","fd00::1"],"ports":[{"name":"http","port":80},
                {"name":"","port":81},{"name":"q","port":1,"protocol":"UDP"}]}}"#,
            ),
            object(
                Kind::Services,
                r#"{"metadata":{"name":"out","namespace":"shop"},
                "spec":{"type":"ExternalName","externalName":"example.org"}}"#,
            ),
            object(
                Kind::Slices,
                r#"{"metadata":{"name":"db-1","namespace":"shop",
                "labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv4","endpoints":[
                {"addresses":["10.1.0.1"],"hostname":"db-0"},{"addresses":["10.1.0.2"]},
                {"addresses":["10.1.0.3"],"hostname":"db-2","conditions":{"ready":false}}]}"#,
            ),
        ]
    }

    #[test]
    fn what_the_cluster_has_is_asked_for_and_nothing_else() {
        let lines = inside(&objects(), "cluster.local");
        let expected = [
            "web.shop.svc.cluster.local A",
            "web.shop.svc.cluster.local AAAA",
            "_http._tcp.web.shop.svc.cluster.local SRV",
            "_q._udp.web.shop.svc.cluster.local SRV",
            "1.0.0.10.in-addr.arpa PTR",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
            "db-0.db.shop.svc.cluster.local A",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn names_outside_go_through_the_search_path_of_each_namespace() {
        let lines = outside(&objects(), "c.local", &["example.org.".to_owned()]);
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "example.org.shop.svc.c.local A");
        assert_eq!(lines[5], "example.org.c.local AAAA");
    }
}
