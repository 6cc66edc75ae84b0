//! Namespaces, services and imports: put and taken away.

use std::sync::Arc;

use super::{Mark, Print, Writer, is_imported};
use crate::cluster::feed::Applied;
use crate::cluster::index::{Addressed, Label, Named, hash_address, hash_octets};
use crate::cluster::object::{self, Kind, ServiceImport};
use crate::cluster::record::{HostBuf, Nature, Service, key_of, no_port, ports_of, push_label};
use crate::cluster::table::Table;

/// A service as it was read, and whether a part of it was left out.
pub(super) struct Read {
    service: Service,
    is_whole: bool,
}

/// The hosts that texts name, and whether all of them do.
fn hosts<'t>(texts: impl IntoIterator<Item = &'t str>) -> (Box<[HostBuf]>, bool) {
    let mut is_whole = true;
    let read = |text: &str| {
        HostBuf::parse(text).or_else(|| {
            is_whole = false;
            None
        })
    };
    (texts.into_iter().filter_map(read).collect(), is_whole)
}

impl Writer {
    pub(super) fn put_namespace(&mut self, name: &str, print: Print, mark: Mark) -> Applied {
        let mut wire = Vec::new();
        let Some(()) = push_label(&mut wire, name) else { return Applied::Refused };
        self.marks.insert(print, mark);
        let shown = &self.holding.namespaces;
        let is_hidden = !shown.is_empty() && shown.iter().all(|one| **one != *name);
        if is_hidden || self.index.has_namespace(&wire[1..]) {
            return Applied::Same;
        }
        let Some(label) = Label::new(&wire[1..]) else { return Applied::Refused };
        self.index.namespaces.insert(label);
        Applied::Changed
    }

    pub(super) fn remove_namespace(&mut self, label: &[u8]) -> bool {
        let table = &mut self.index.namespaces;
        let hash = hash_octets(label, table.seed());
        table.remove(hash, |one| one.as_bytes() == label).is_some()
    }

    /// What is held of a service. None: its name is none.
    pub(super) fn read_service(&mut self, from: &object::Service) -> Option<Read> {
        let key = key_of(&from.metadata.name, &from.metadata.namespace)?;
        let spec = &from.spec;
        let of_list = spec.cluster_ips.iter().map(|text| &**text);
        let first = spec.cluster_ips.first().unwrap_or(&spec.cluster_ip);
        let (nature, (hosts, has_all)) = if &*spec.kind == "ExternalName" {
            // An address is no name that an alias could lead to.
            let (mut names, is_name) = hosts([&*spec.external_name]);
            if names.first().is_some_and(|host| host.as_host().address().is_some()) {
                names = Box::default();
            }
            (Nature::External, (names, is_name))
        } else if &**first == "None" {
            (Nature::Headless, (Box::default(), true))
        } else if spec.cluster_ips.is_empty() {
            (Nature::Cluster, hosts([&*spec.cluster_ip]))
        } else {
            (Nature::Cluster, hosts(of_list))
        };
        let ingress = from.status.load_balancer.ingress.iter();
        let ingress = ingress.map(|one| if one.ip.is_empty() { &*one.hostname } else { &*one.ip });
        let outside = spec.external_ips.iter().map(|text| &**text).chain(ingress);
        let (outside, has_outside) = hosts_outside(outside);
        let mut ports = ports_of(&spec.ports);
        if ports.is_empty() {
            ports.push(no_port());
        }
        let ports = self.ports(ports);
        let service = Service { key, nature, hosts, ports, outside, slices: Box::default() };
        Some(Read { service, is_whole: has_all && has_outside })
    }

    /// What is held of an import. None: its name is none.
    pub(super) fn read_import(&mut self, from: &ServiceImport) -> Option<Read> {
        let key = key_of(&from.metadata.name, &from.metadata.namespace)?;
        let is_headless = &*from.spec.kind == "Headless";
        let nature = if is_headless { Nature::Headless } else { Nature::Cluster };
        let (hosts, is_whole) = hosts(from.spec.ips.iter().map(|text| &**text));
        let ports = self.ports(ports_of(&from.spec.ports));
        let outside = Box::default();
        let service = Service { key, nature, hosts, ports, outside, slices: Box::default() };
        Some(Read { service, is_whole })
    }

    pub(super) fn put_service(
        &mut self,
        kind: Kind,
        read: Option<Read>,
        print: Print,
        mark: Mark,
    ) -> Applied {
        let Some(Read { mut service, is_whole }) = read else { return Applied::Refused };
        self.marks.insert(print, mark);
        let before = self.realm(kind).find(&service.key).map(|named| Arc::clone(&named.service));
        service.slices = match &before {
            Some(before) => before.slices.clone(),
            None => {
                let orphans = self.orphans.remove(&(is_imported(kind), service.key.clone()));
                orphans.unwrap_or_default().into()
            }
        };
        let applied = if is_whole { Applied::Changed } else { Applied::Refused };
        if before.as_deref() == Some(&service) {
            return if is_whole { Applied::Same } else { Applied::Refused };
        }
        self.note_service(kind, before.as_deref(), &service);
        self.place_service(kind, before, service);
        self.is_dirty = true;
        applied
    }

    /// Sets the times of change as CoreDNS does: an address of its own is not looked at.
    fn note_service(&mut self, kind: Kind, before: Option<&Service>, after: &Service) {
        let now = (self.clock)();
        let modified = &mut self.index.modified;
        match (kind, before) {
            (Kind::Imports, None) | (_, None) => modified.internal = now,
            (Kind::Imports, Some(before)) => {
                if before.ports != after.ports || before.nature != after.nature {
                    modified.imported = now;
                }
            }
            (_, Some(before)) => {
                let is_alias =
                    before.nature == Nature::External || after.nature == Nature::External;
                let other_ports = before.ports != after.ports;
                if other_ports || (is_alias && before.hosts != after.hosts) {
                    modified.internal = now;
                }
                if other_ports || before.outside != after.outside {
                    modified.external = now;
                }
            }
        }
    }

    /// Puts a service into the place of what it was before.
    pub(super) fn place_service(
        &mut self,
        kind: Kind,
        before: Option<Arc<Service>>,
        service: Service,
    ) {
        let service = Arc::new(service);
        if let Some(before) = &before {
            self.forget_addresses(kind, before);
        }
        let names = &mut self.realm_mut(kind).names;
        let hash = hash_octets(&service.key, names.seed());
        match names.get_mut(hash, |named| named.is(&service.key)) {
            Some(named) => *named = Named::new(Arc::clone(&service)),
            None => names.insert(Named::new(Arc::clone(&service))),
        }
        if kind == Kind::Services {
            for host in own_hosts(&service) {
                add_address(&mut self.index.own, host, &service);
            }
            for host in &service.outside {
                add_address(&mut self.index.outside, host, &service);
            }
        }
    }

    fn forget_addresses(&mut self, kind: Kind, service: &Service) {
        if kind == Kind::Services {
            for host in own_hosts(service) {
                remove_address(&mut self.index.own, host, &service.key);
            }
            for host in &service.outside {
                remove_address(&mut self.index.outside, host, &service.key);
            }
        }
    }

    pub(super) fn remove_service(&mut self, kind: Kind, key: &[u8]) -> bool {
        let names = &mut self.realm_mut(kind).names;
        let hash = hash_octets(key, names.seed());
        let Some(named) = names.remove(hash, |named| named.is(key)) else { return false };
        self.forget_addresses(kind, &named.service);
        if !named.service.slices.is_empty() {
            let slices = named.service.slices.to_vec();
            self.orphans.insert((is_imported(kind), key.into()), slices);
        }
        self.modified();
        true
    }
}

/// The hosts by which a service is reached from outside; what is empty is none.
fn hosts_outside<'t>(texts: impl Iterator<Item = &'t str>) -> (Box<[HostBuf]>, bool) {
    hosts(texts.filter(|text| !text.is_empty()))
}

/// The addresses that lead back to a service.
fn own_hosts(service: &Service) -> &[HostBuf] {
    if service.nature == Nature::Cluster { &service.hosts } else { &[] }
}

fn add_address(table: &mut Table<Addressed<Service>>, host: &HostBuf, service: &Arc<Service>) {
    if let Some(address) = host.as_host().address() {
        table.insert(Addressed { address, value: Arc::clone(service) });
    }
}

fn remove_address(table: &mut Table<Addressed<Service>>, host: &HostBuf, key: &[u8]) {
    if let Some(address) = host.as_host().address() {
        let hash = hash_address(address, table.seed());
        table.remove(hash, |one| one.address == address && *one.value.key == *key);
    }
}
