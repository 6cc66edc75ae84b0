//! The API's objects, as far as answers need them.
//!
//! What is not listed here is skipped while the JSON (or YAML) of an object is read, and never
//! exists. A field that is null counts as one that is missing, as the API's own clients have it.
//! These values are transient: the index keeps what it needs of them in a form of its own.
//!
//! Kubernetes API v1 (Namespace, Service, Pod), `discovery.k8s.io/v1` (EndpointSlice),
//! `multicluster.x-k8s.io/v1alpha1` (ServiceImport, KEP-1645).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Label of a slice: the service that it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of an imported slice: the service import that it belongs to.
pub const IMPORT_NAME: &str = "multicluster.kubernetes.io/service-name";
/// Label of an imported slice: the cluster that it comes from.
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Annotation of a slice: when the change happened that it tells of (RFC 3339).
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What kinds of objects are watched, one watch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` namespaces.
    Namespaces,
    /// `v1` services.
    Services,
    /// `discovery.k8s.io/v1` endpoint slices.
    Slices,
    /// `v1` pods.
    Pods,
    /// `multicluster.x-k8s.io/v1alpha1` service imports.
    Imports,
    /// Endpoint slices with the label [`IMPORT_NAME`].
    ImportSlices,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Namespaces,
        Self::Services,
        Self::Slices,
        Self::Pods,
        Self::Imports,
        Self::ImportSlices,
    ];

    /// The resource as the API and RBAC rules spell it.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::Slices | Self::ImportSlices => "endpointslices",
            Self::Pods => "pods",
            Self::Imports => "serviceimports",
        }
    }

    /// The API group, empty for the core's.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespaces | Self::Services | Self::Pods => "",
            Self::Slices | Self::ImportSlices => "discovery.k8s.io",
            Self::Imports => "multicluster.x-k8s.io",
        }
    }

    /// The version within the group.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Imports => "v1alpha1",
            _ => "v1",
        }
    }

    /// A word for metrics, different for each kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImportSlices => "importedslices",
            other => other.resource(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a value that may be null.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The namespace, empty for objects that are in none.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "str::is_empty")]
    pub namespace: Box<str>,
    /// The name.
    #[serde(deserialize_with = "or_null")]
    pub name: Box<str>,
    /// The version of the object, opaque.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "str::is_empty")]
    pub resource_version: Box<str>,
    /// Labels, all of them: selectors of `manifests` and metadata of pods read them.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// The annotations that are read.
    #[serde(deserialize_with = "or_null")]
    pub annotations: Annotations,
    /// Set once the object is being deleted.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "str::is_empty")]
    pub deletion_timestamp: Box<str>,
}

impl Meta {
    /// The value of a label, empty if there is none.
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", |value| value)
    }
}

/// The annotations that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// [`TRIGGER_TIME`].
    #[serde(
        rename = "endpoints.kubernetes.io/last-change-trigger-time",
        deserialize_with = "or_null",
        skip_serializing_if = "str::is_empty"
    )]
    pub trigger_time: Box<str>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Its name and labels.
    pub metadata: Meta,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its name and labels.
    pub metadata: Meta,
    /// What is wanted.
    #[serde(deserialize_with = "or_null")]
    pub spec: ServiceSpec,
    /// What is.
    #[serde(deserialize_with = "or_null")]
    pub status: ServiceStatus,
}

/// What a service is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`; empty counts as the first.
    #[serde(rename = "type", deserialize_with = "or_null")]
    pub kind: Box<str>,
    /// The address, `None` for a headless service.
    #[serde(rename = "clusterIP", deserialize_with = "or_null")]
    pub cluster_ip: Box<str>,
    /// The addresses of a dual-stack service; where there are any, `cluster_ip` is not read.
    #[serde(rename = "clusterIPs", deserialize_with = "or_null")]
    pub cluster_ips: Vec<Box<str>>,
    /// Addresses from outside the cluster.
    #[serde(rename = "externalIPs", deserialize_with = "or_null")]
    pub external_ips: Vec<Box<str>>,
    /// The name that a service of type `ExternalName` stands for.
    #[serde(deserialize_with = "or_null")]
    pub external_name: Box<str>,
    /// Its ports.
    #[serde(deserialize_with = "or_null")]
    pub ports: Vec<Port>,
}

/// What has become of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Its load balancer.
    #[serde(deserialize_with = "or_null")]
    pub load_balancer: LoadBalancer,
}

/// A load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// Where it takes traffic.
    #[serde(deserialize_with = "or_null")]
    pub ingress: Vec<Ingress>,
}

/// Where a load balancer takes traffic: an address or else a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// The address.
    #[serde(deserialize_with = "or_null")]
    pub ip: Box<str>,
    /// The name.
    #[serde(deserialize_with = "or_null")]
    pub hostname: Box<str>,
}

/// A port of a service, an import or a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The name, empty for the only port of a service.
    #[serde(deserialize_with = "or_null")]
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`; the API sets the first where nothing is said.
    #[serde(deserialize_with = "or_null")]
    pub protocol: Box<str>,
    /// The number; slices may leave it out.
    pub port: Option<i32>,
}

/// Some of the endpoints of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Its name, and the labels that tell whose it is.
    pub metadata: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "or_null")]
    pub address_type: Box<str>,
    /// The endpoints.
    #[serde(deserialize_with = "or_null")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that each endpoint has.
    #[serde(deserialize_with = "or_null")]
    pub ports: Vec<Port>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses, of the slice's type.
    #[serde(deserialize_with = "or_null")]
    pub addresses: Vec<Box<str>>,
    /// What it is ready for.
    #[serde(deserialize_with = "or_null")]
    pub conditions: Conditions,
    /// The label that it has below its service's name.
    #[serde(deserialize_with = "or_null")]
    pub hostname: Box<str>,
    /// What it is: a pod, in most cases.
    #[serde(deserialize_with = "or_null")]
    pub target_ref: TargetRef,
    /// The topology zone.
    #[serde(deserialize_with = "or_null")]
    pub zone: Box<str>,
}

/// What an endpoint is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Whether it takes traffic; not said counts as ready.
    pub ready: Option<bool>,
}

/// What an endpoint refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// The name of the object, of whatever kind.
    #[serde(deserialize_with = "or_null")]
    pub name: Box<str>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its name and labels.
    pub metadata: Meta,
    /// What it is.
    #[serde(deserialize_with = "or_null")]
    pub status: PodStatus,
}

/// What has become of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(deserialize_with = "or_null")]
    pub phase: Box<str>,
    /// Its first address; further ones (`podIPs`) have no records.
    #[serde(rename = "podIP", deserialize_with = "or_null")]
    pub pod_ip: Box<str>,
}

/// A service that is imported from the clusters of a cluster set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceImport {
    /// Its name and labels.
    pub metadata: Meta,
    /// What is wanted.
    #[serde(deserialize_with = "or_null")]
    pub spec: ImportSpec,
}

/// What a service import is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportSpec {
    /// `ClusterSetIP` or `Headless`.
    #[serde(rename = "type", deserialize_with = "or_null")]
    pub kind: Box<str>,
    /// Its addresses.
    #[serde(deserialize_with = "or_null")]
    pub ips: Vec<Box<str>>,
    /// Its ports.
    #[serde(deserialize_with = "or_null")]
    pub ports: Vec<Port>,
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Of [`Kind::Namespaces`].
    Namespace(Namespace),
    /// Of [`Kind::Services`].
    Service(Service),
    /// Of [`Kind::Slices`].
    Slice(EndpointSlice),
    /// Of [`Kind::Pods`].
    Pod(Pod),
    /// Of [`Kind::Imports`].
    Import(ServiceImport),
    /// Of [`Kind::ImportSlices`].
    ImportSlice(EndpointSlice),
}

impl Object {
    /// Reads an object of a kind that is known.
    ///
    /// # Errors
    /// The value has not the form of that kind.
    pub fn read<'de, D: Deserializer<'de>>(kind: Kind, from: D) -> Result<Self, D::Error> {
        Ok(match kind {
            Kind::Namespaces => Self::Namespace(Deserialize::deserialize(from)?),
            Kind::Services => Self::Service(Deserialize::deserialize(from)?),
            Kind::Slices => Self::Slice(Deserialize::deserialize(from)?),
            Kind::Pods => Self::Pod(Deserialize::deserialize(from)?),
            Kind::Imports => Self::Import(Deserialize::deserialize(from)?),
            Kind::ImportSlices => Self::ImportSlice(Deserialize::deserialize(from)?),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespaces,
            Self::Service(_) => Kind::Services,
            Self::Slice(_) => Kind::Slices,
            Self::Pod(_) => Kind::Pods,
            Self::Import(_) => Kind::Imports,
            Self::ImportSlice(_) => Kind::ImportSlices,
        }
    }

    /// Its name, namespace, version and labels.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(one) => &one.metadata,
            Self::Service(one) => &one.metadata,
            Self::Slice(one) | Self::ImportSlice(one) => &one.metadata,
            Self::Pod(one) => &one.metadata,
            Self::Import(one) => &one.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, json: &str) -> Object {
        Object::read(kind, &mut serde_json::Deserializer::from_str(json)).expect("an object")
    }

    #[test]
    fn nulls_count_as_missing_and_the_rest_is_skipped() {
        let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"a",
            "labels":null,"annotations":{"x":"y"},"managedFields":[{"manager":"m"}]},
            "spec":{"clusterIP":null,"clusterIPs":null,"ports":[{"port":80,"targetPort":"http"}],
            "type":"ClusterIP","selector":{"app":"web"}},"status":{"loadBalancer":{}}}"#;
        let Object::Service(service) = read(Kind::Services, json) else { panic!("a service") };
        assert_eq!((&*service.metadata.name, &*service.metadata.namespace), ("web", "a"));
        assert_eq!(service.spec.ports[0].port, Some(80));
        assert!(service.spec.cluster_ips.is_empty() && service.spec.cluster_ip.is_empty());
    }

    #[test]
    fn a_slice_with_all_that_is_read() {
        let json = r#"{"metadata":{"name":"web-1","namespace":"a","resourceVersion":"7",
            "labels":{"kubernetes.io/service-name":"web"},"annotations":
            {"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"}},
            "addressType":"IPv4","ports":[{"name":"http","protocol":"TCP","port":null}],
            "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":null},"hostname":null,
            "targetRef":{"kind":"Pod","name":"web-0"},"zone":"A"},{"conditions":null}]}"#;
        let Object::Slice(slice) = read(Kind::Slices, json) else { panic!("a slice") };
        assert_eq!(slice.metadata.label(SERVICE_NAME), "web");
        assert_eq!(&*slice.metadata.annotations.trigger_time, "2026-01-01T00:00:00Z");
        assert_eq!((slice.endpoints[0].conditions.ready, slice.ports[0].port), (None, None));
        assert_eq!(&*slice.endpoints[0].target_ref.name, "web-0");
        assert!(slice.endpoints[1].addresses.is_empty());
        let again = serde_json::to_string(&slice).expect("JSON");
        assert_eq!(read(Kind::Slices, &again), Object::Slice(slice), "what is written is read");
    }

    #[test]
    fn what_has_another_form_is_refused() {
        let mut json = serde_json::Deserializer::from_str(r#"{"spec":{"ports":"http"}}"#);
        assert!(Object::read(Kind::Services, &mut json).is_err());
    }
}
