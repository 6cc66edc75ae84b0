//! Pods: their addresses, and what metadata wants to know of them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Mark, PodPlace, Print, Writer};
use crate::cluster::feed::Applied;
use crate::cluster::index::{
    Addressed, Four, PodInfo, Six, hash_address, hash_number, hash_octets,
};
use crate::cluster::object::Pod;
use crate::cluster::record::push_label;

/// Phases of pods that will never answer again.
const ENDED: [&str; 3] = ["Succeeded", "Failed", "Unknown"];

impl Writer {
    pub(super) fn put_pod(&mut self, pod: &Pod, print: Print, mark: Mark) -> Applied {
        let known = self.pods.get(&print).map(|(place, _)| *place);
        // One that is going already when it is seen first has no records; one that is known keeps
        // what it has until it is gone.
        if !pod.metadata.deletion_timestamp.is_empty() {
            return Applied::Same;
        }
        let ended = ENDED.contains(&&*pod.status.phase);
        let address: Option<IpAddr> = pod.status.pod_ip.parse().ok().filter(|_| !ended);
        let is_bad = address.is_none() && !ended && !pod.status.pod_ip.is_empty();
        let namespace = self.pod_namespace(&pod.metadata.namespace);
        let place = match (address, namespace) {
            (Some(address), Some(namespace)) => Some(PodPlace { address, namespace }),
            _ => None,
        };
        self.pods.insert(print, (place, mark));
        let before = known.flatten();
        let is_moved = known.is_none() || before != place;
        if is_moved {
            if let Some(before) = before {
                self.take_pod(before, Some(&pod.metadata.name));
            }
            if let Some(place) = place {
                self.give_pod(place);
            }
            self.modified();
        }
        let is_told = place.is_some_and(|place| self.put_info(place.address, pod));
        self.is_dirty |= is_moved || is_told;
        match (is_bad || namespace.is_none(), is_moved || is_told) {
            (true, _) => Applied::Refused,
            (false, true) => Applied::Changed,
            (false, false) => Applied::Same,
        }
    }

    /// The number of a namespace, a new one if it has none.
    fn pod_namespace(&mut self, name: &str) -> Option<NonZeroU32> {
        let mut wire = Vec::new();
        push_label(&mut wire, name)?;
        let label: Box<[u8]> = wire[1..].into();
        if let Some(number) = self.pod_namespaces.get(&label) {
            return Some(*number);
        }
        let labels = Arc::make_mut(&mut self.index.pod_namespaces);
        labels.push(label.clone());
        let number = NonZeroU32::new(u32::try_from(labels.len()).ok()?)?;
        self.pod_namespaces.insert(label, number);
        Some(number)
    }

    fn give_pod(&mut self, place: PodPlace) {
        let number = place.namespace;
        match place.address.to_canonical() {
            IpAddr::V4(address) => {
                self.index.pods.four.insert(Four { address: address.octets(), number });
            }
            IpAddr::V6(address) => {
                self.index.pods.six.insert(Six { address: address.octets(), number });
            }
        }
    }

    fn take_pod(&mut self, place: PodPlace, name: Option<&str>) -> bool {
        let number = place.namespace;
        let taken = match place.address.to_canonical() {
            IpAddr::V4(address) => {
                let table = &mut self.index.pods.four;
                let entry = Four { address: address.octets(), number };
                let hash = hash_number(u32::from(address).into(), table.seed());
                table.remove(hash, |one| *one == entry).is_some()
            }
            IpAddr::V6(address) => {
                let table = &mut self.index.pods.six;
                let entry = Six { address: address.octets(), number };
                let hash = hash_octets(&address.octets(), table.seed());
                table.remove(hash, |one| *one == entry).is_some()
            }
        };
        // The pod that has the address now keeps its own.
        let label = &self.index.pod_namespaces[number.get() as usize - 1];
        let infos = &mut self.index.infos;
        infos.remove(hash_address(place.address, infos.seed()), |one| {
            let info = &one.value;
            one.address == place.address
                && info.namespace.as_bytes().eq_ignore_ascii_case(label)
                && name.is_none_or(|name| *info.name == *name)
        });
        taken
    }

    fn put_info(&mut self, address: IpAddr, pod: &Pod) -> bool {
        if !self.holding.pod_infos {
            return false;
        }
        let meta = &pod.metadata;
        let labels = meta.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        let info = PodInfo {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            labels: labels.collect(),
        };
        let infos = &mut self.index.infos;
        let hash = hash_address(address, infos.seed());
        let is_it = |one: &Addressed<PodInfo>| {
            let known = (&one.value.namespace, &one.value.name);
            one.address == address && known == (&info.namespace, &info.name)
        };
        if infos.find(hash).any(|one| is_it(one) && *one.value == info) {
            return false;
        }
        infos.remove(hash, is_it);
        infos.insert(Addressed { address, value: Arc::new(info) });
        true
    }

    pub(super) fn remove_pod(&mut self, place: PodPlace, name: Option<&str>) -> bool {
        let taken = self.take_pod(place, name);
        self.modified();
        taken
    }
}
