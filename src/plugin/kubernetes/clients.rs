//! The pods of the cluster by their addresses: as `autopath` asks for them, and as the status page
//! names clients.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Held, Link};
use crate::cluster::index::Index;
use crate::control::status::{Census, Owner};
use crate::plugin::search::{ClientReader, Clients};
use crate::publish::Reader;
use crate::wire::{Name, labels_of};

/// One worker's view of the pods.
struct Pods {
    link: Arc<Link>,
    index: Reader<Index>,
}

/// The pods of a link's cluster.
pub struct PodsOf(pub Arc<Link>);

impl Clients for PodsOf {
    fn reader(&self) -> Box<dyn ClientReader> {
        Box::new(Pods { link: Arc::clone(&self.0), index: self.0.held.reader() })
    }
}

impl ClientReader for Pods {
    fn refresh(&mut self) {
        self.index.refresh();
    }

    fn first_element(&self, lower: Name<'_>, client: IpAddr) -> Option<usize> {
        let (zone, _) = self.link.answers.rules.zone_of(lower)?;
        let namespace = label_before_svc(lower, zone)?;
        // The client is looked up last: most names are not under any namespace.
        let found = self.index.get().namespace_of(client)?;
        (found == namespace).then(|| zone.label_count() + 2)
    }
}

impl Census for Held {
    /// The pod, where pods are watched with their names; the service whose endpoint it is.
    fn owner(&self, client: IpAddr) -> Option<Owner> {
        let index = self.index();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let mut owner = Owner::default();
        if let Some(pod) = index.pod_at(client) {
            (owner.namespace, owner.pod) = (pod.namespace.to_string(), pod.name.to_string());
        } else if let Some(namespace) = index.namespace_of(client) {
            owner.namespace = text(namespace);
        }
        let keys =
            index.slices_at(client).map(|(_, slice)| &slice.key).filter(|key| !key.is_empty());
        for key in keys {
            let mut labels = labels_of(key).map(text);
            let (service, namespace) = (labels.next(), labels.next());
            let (Some(service), Some(namespace)) = (service, namespace) else { continue };
            if owner.namespace.is_empty() || owner.namespace == namespace {
                (owner.service, owner.namespace) = (service, namespace);
                break;
            }
        }
        (!owner.namespace.is_empty()).then_some(owner)
    }
}

/// The label before `svc` in a name below `zone`: that of a namespace.
fn label_before_svc<'n>(lower: Name<'n>, zone: Name<'_>) -> Option<&'n [u8]> {
    let mut last = [&[][..]; 2];
    for label in labels_of(lower.strip(zone)?) {
        last = [last[1], label];
    }
    (last[1] == b"svc" && !last[0].is_empty()).then_some(last[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NameBuf;

    #[test]
    fn the_namespace_in_a_name() {
        let zone = NameBuf::parse("cluster.local").expect("a zone");
        let of = |name: &str, zone: &NameBuf| {
            let name = NameBuf::parse(name).expect("a name");
            label_before_svc(name.as_name(), zone.as_name()).map(<[u8]>::to_vec)
        };
        assert_eq!(of("a.b.ns.svc.cluster.local", &zone), Some(b"ns".to_vec()));
        assert_eq!(of("ns.svc.cluster.local", &zone), Some(b"ns".to_vec()));
        for none in ["svc.cluster.local", "cluster.local", "a.ns.pod.cluster.local"] {
            assert_eq!(of(none, &zone), None, "{none}");
        }
        assert_eq!(of("a.ns.svc", &NameBuf::root()), Some(b"ns".to_vec()));
    }
}
