//! A synthetic cluster: objects of the Kubernetes API, written out when they are asked for.
//!
//! Nothing is stored of an object but its resource version and which endpoint of a slice is not
//! ready, so that a cluster of a million endpoints costs a few megabytes. Service `svc-I` is in
//! namespace `ns-(I mod namespaces)`; the first ones are headless, the others have the cluster
//! address `10.128.0.0 + I`; endpoints are numbered through from 11.0.0.1.

use std::fmt::Write;

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Namespaces.
    pub namespaces: u32,
    /// Services.
    pub services: u32,
    /// Of them, so many of the first ones are headless.
    pub headless: u32,
    /// Endpoints of each service.
    pub endpoints: u32,
    /// Endpoints of one slice.
    pub per_slice: u32,
}

/// The kinds that a DNS server watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Namespaces.
    Namespaces,
    /// Services.
    Services,
    /// Endpoint slices.
    Slices,
}

impl Kind {
    /// The kind of a collection's path; `None` for what is not served.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/api/v1/namespaces" => Some(Self::Namespaces),
            "/api/v1/services" => Some(Self::Services),
            "/apis/discovery.k8s.io/v1/endpointslices" => Some(Self::Slices),
            _ => None,
        }
    }

    /// `apiVersion` and `kind` of its objects.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespaces => ("v1", "Namespace"),
            Self::Services => ("v1", "Service"),
            Self::Slices => ("discovery.k8s.io/v1", "EndpointSlice"),
        }
    }
}

/// The cluster as it stands.
pub struct Cluster {
    size: Size,
    /// Resource version of the newest change.
    pub version: u64,
    /// Versions of slices that have changed; 1 for all else.
    slices: Vec<u64>,
    /// Of each slice, 1 + the index of the endpoint that is not ready; 0: all are.
    unready: Vec<u16>,
}

impl Cluster {
    /// A cluster in which all endpoints are ready.
    pub fn new(size: Size) -> Self {
        let slices = (size.services * size.endpoints.div_ceil(size.per_slice)) as usize;
        Self { size, version: 1, slices: vec![1; slices], unready: vec![0; slices] }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Namespaces => self.size.namespaces,
            Kind::Services => self.size.services,
            Kind::Slices => self.slices.len() as u32,
        }
    }

    /// Makes one endpoint of a slice ready or not, as it was not before; `random` says which of
    /// those with odd numbers: the others are always ready, so that a load may ask for them by name.
    pub fn flip(&mut self, slice: u32, random: u32) {
        self.version += 1;
        let at = slice as usize;
        let endpoints = self.size.per_slice.min(self.size.endpoints);
        let odd = (2 * (random % (endpoints / 2).max(1)) + 1).min(endpoints - 1);
        self.unready[at] = if self.unready[at] == 0 { 1 + odd as u16 } else { 0 };
        self.slices[at] = self.version;
    }

    /// Appends an object as JSON; `changed` is the time of the change that is being told, RFC 3339.
    pub fn write(&self, kind: Kind, index: u32, changed: &str, out: &mut String) {
        let (api, name) = kind.names();
        let _ = write!(out, r#"{{"apiVersion":"{api}","kind":"{name}","metadata":{{"#);
        match kind {
            Kind::Namespaces => {
                let _ = write!(
                    out,
                    "\"name\":\"ns-{index}\",\"resourceVersion\":\"1\",\"uid\":\"n-{index}\",\
                     \"labels\":{{\
                     \"kubernetes.io/metadata.name\":\"ns-{index}\"}}}},\"spec\":{{\
                     \"finalizers\":[\"kubernetes\"]}},\"status\":{{\"phase\":\"Active\"}}}}"
                );
            }
            Kind::Services => self.write_service(index, out),
            Kind::Slices => self.write_slice(index, changed, out),
        }
    }

    fn namespace(&self, service: u32) -> u32 {
        service % self.size.namespaces
    }

    fn write_service(&self, index: u32, out: &mut String) {
        let namespace = self.namespace(index);
        let address = if index < self.size.headless {
            "None".to_owned()
        } else {
            std::net::Ipv4Addr::from(0x0a80_0000 + index).to_string()
        };
        let _ = write!(
            out,
            "\"name\":\"svc-{index}\",\"namespace\":\"ns-{namespace}\",\
             \"resourceVersion\":\"1\",\
             \"uid\":\"s-{index}\",\"labels\":{{\"app\":\"svc-{index}\"}}}},\"spec\":{{\
             \"type\":\"ClusterIP\",\"clusterIP\":\"{address}\",\
             \"clusterIPs\":[\"{address}\"],\
             \"ipFamilies\":[\"IPv4\"],\"selector\":{{\"app\":\"svc-{index}\"}},\"ports\":[{{\
             \"name\":\"http\",\"port\":80,\"targetPort\":8080,\"protocol\":\"TCP\"}}]}},\
             \"status\":{{\"loadBalancer\":{{}}}}}}"
        );
    }

    fn write_slice(&self, index: u32, changed: &str, out: &mut String) {
        let Size { endpoints, per_slice, headless, .. } = self.size;
        let per_service = endpoints.div_ceil(per_slice);
        let (service, part) = (index / per_service, index % per_service);
        let namespace = self.namespace(service);
        let version = self.slices[index as usize];
        let _ = write!(
            out,
            "\"name\":\"svc-{service}-s{part}\",\"namespace\":\"ns-{namespace}\",\
             \"resourceVersion\":\"{version}\",\"uid\":\"e-{index}\",\"labels\":{{\
             \"endpointslice.kubernetes.io/managed-by\":\"endpointslice-controller.k8s.io\",\
             \"kubernetes.io/service-name\":\"svc-{service}\"}},\"annotations\":{{\
             \"endpoints.kubernetes.io/last-change-trigger-time\":\"{changed}\"}}}},\
             \"addressType\":\"IPv4\",\"ports\":[{{\"name\":\"http\",\"port\":8080,\
             \"protocol\":\"TCP\"}}],\"endpoints\":["
        );
        let unready = self.unready[index as usize];
        let first = part * per_slice;
        for at in first..(first + per_slice).min(endpoints) {
            let comma = if at > first { "," } else { "" };
            let address = std::net::Ipv4Addr::from(0x0b00_0001 + service * endpoints + at);
            let ready = u32::from(unready) != 1 + at - first;
            let _ = write!(out, r#"{comma}{{"addresses":["{address}"],"#);
            if service < headless {
                let _ = write!(out, r#""hostname":"svc-{service}-{at}","#);
            }
            let _ = write!(
                out,
                "\"conditions\":{{\"ready\":{ready},\"serving\":true,\"terminating\":false}},\
                 \"nodeName\":\"node-{}\",\"zone\":\"zone-{}\",\
                 \"targetRef\":{{\"kind\":\"Pod\",\
                 \"name\":\"svc-{service}-{at}\",\"namespace\":\"ns-{namespace}\",\
                 \"uid\":\"p-{service}-{at}\"}}}}",
                at % 50,
                ["a", "b", "c"][at as usize % 3],
            );
        }
        out.push_str("]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SIZE: Size =
        Size { namespaces: 3, services: 10, headless: 2, endpoints: 5, per_slice: 3 };

    fn object(cluster: &Cluster, kind: Kind, index: u32) -> Value {
        let mut text = String::new();
        cluster.write(kind, index, "2024-01-02T03:04:05Z", &mut text);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn objects_are_those_of_the_api() {
        let cluster = Cluster::new(SIZE);
        assert_eq!(cluster.count(Kind::Slices), 20);
        let headless = object(&cluster, Kind::Services, 1);
        assert_eq!(headless["spec"]["clusterIP"], "None");
        let service = object(&cluster, Kind::Services, 9);
        assert_eq!(service["spec"]["clusterIP"], "10.128.0.9");
        assert_eq!(service["metadata"]["namespace"], "ns-0");
        assert_eq!(object(&cluster, Kind::Namespaces, 2)["metadata"]["name"], "ns-2");
        let slice = object(&cluster, Kind::Slices, 3);
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "svc-1");
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(slice["endpoints"][1]["addresses"][0], "11.0.0.10");
        assert_eq!(slice["endpoints"][1]["hostname"], "svc-1-4");
    }

    #[test]
    fn a_flip_is_taken_back_by_the_next() {
        let mut cluster = Cluster::new(SIZE);
        cluster.flip(3, 1);
        let slice = object(&cluster, Kind::Slices, 3);
        assert_eq!(slice["endpoints"][1]["conditions"]["ready"], false);
        assert_eq!(slice["metadata"]["resourceVersion"], "2");
        cluster.flip(3, 0);
        let slice = object(&cluster, Kind::Slices, 3);
        assert_eq!(slice["endpoints"][1]["conditions"]["ready"], true);
    }

    #[test]
    fn endpoints_with_even_numbers_stay_ready() {
        let mut cluster = Cluster::new(Size { endpoints: 10, per_slice: 100, ..SIZE });
        let mut flipped = std::collections::BTreeSet::new();
        for random in 0..20 {
            cluster.flip(3, random);
            let slice = object(&cluster, Kind::Slices, 3);
            let endpoints = slice["endpoints"].as_array().unwrap().iter();
            let unready =
                endpoints.enumerate().filter(|(_, one)| one["conditions"]["ready"] == false);
            flipped.extend(unready.map(|(at, _)| at));
        }
        assert_eq!(flipped.into_iter().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    }
}
