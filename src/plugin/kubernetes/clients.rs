//! The pods of the cluster as `autopath` asks for them: by their addresses.

use std::net::IpAddr;
use std::sync::Arc;

use super::Link;
use crate::cluster::index::Index;
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
