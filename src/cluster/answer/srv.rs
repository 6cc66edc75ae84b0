//! SRV: the ports of services, with the addresses of what they lead to (RFC 2782).
//!
//! Priorities are 0; a weight is 100 divided by the number of pairs of address and port, as CoreDNS
//! counts them: before what is equal is written once. Where the additional section has no room for
//! all, TC is set in datagrams only: a stream has no more to offer.

use super::found::{Ends, Found};
use super::seen::Seen;
use super::servers::{endpoint_name, push_additional, service_name};
use super::{Answering, Outcome, Written};
use crate::cluster::index::hash_octets;
use crate::cluster::record::{Host, Service, Slice};
use crate::cluster::request::Scope;
use crate::wire::{Full, Name, NameBuf, Section};

/// The weight of one of so many.
pub(super) fn weight(count: usize) -> u16 {
    // As CoreDNS computes it.
    let part = 100.0 / (count as f64 * 100.0) * 100.0;
    (part as u16).max(1)
}

impl Answering<'_, '_> {
    pub(super) fn services(&mut self) -> Written {
        if self.is_default_server() {
            return Ok(Outcome::NoData);
        }
        let found = self.found();
        if !found.exists() {
            return Ok(Outcome::NxDomain);
        }
        let mut seen = Seen::new();
        match &found {
            Found::Hosts(service, scope) => self.service_ports(service, scope, &mut seen)?,
            Found::Ends(ends) => self.endpoint_ports(ends, &mut seen)?,
            Found::Pod(label, namespace, _) => {
                if let Some(name) = pod_name(label, namespace, self.apex) {
                    self.push_port(&mut seen, weight(1), 0, name.as_name())?;
                }
            }
            Found::Missing | Found::Nothing => {}
        }
        if self.reply.counts().answer == 0 {
            return Ok(Outcome::NoData);
        }
        let additional = self.targets(&found);
        if additional.is_err() && (self.fit.whole || !self.fit.is_stream) {
            return Err(Full);
        }
        Ok(Outcome::Answer)
    }

    fn service_ports(
        &mut self,
        service: &Service,
        scope: &Scope<'_>,
        seen: &mut Seen,
    ) -> Result<(), Full> {
        let Some(name) = service_name(&service.key, self.apex) else { return Ok(()) };
        let hosts = service.hosts.iter().filter(|host| host.as_host().address().is_some()).count();
        let ports = || service.ports.iter().filter(|one| one.is(scope.port, scope.protocol));
        if hosts == 0 {
            return Ok(());
        }
        let weight = weight(ports().count() * hosts);
        for port in ports() {
            self.push_port(seen, weight, port.number, name.as_name())?;
        }
        Ok(())
    }

    fn endpoint_ports(&mut self, ends: &Ends<'_, '_>, seen: &mut Seen) -> Result<(), Full> {
        let is_address = |host: Host<'_>| host.address().is_some();
        let per_slice = ends.slices().map(|slice| {
            let ends = match ends.are_all() {
                true => slice.v4.len() + slice.v6.len(),
                false => ends.of(slice).filter(|one| is_address(one.host)).count(),
            };
            (slice, ends)
        });
        let count = per_slice.map(|(slice, some)| some * ends.ports(slice).count()).sum();
        for (slice, one) in ends.all().filter(|(_, one)| is_address(one.host)) {
            let Some(name) = endpoint_name(slice, &one, self.zone.is_imported, self.apex) else {
                continue;
            };
            for port in ends.ports(slice) {
                self.push_port(seen, weight(count), port, name.as_name())?;
            }
        }
        Ok(())
    }

    /// Adds a record, unless there is one with this port and target, or there is no port.
    fn push_port(
        &mut self,
        seen: &mut Seen,
        weight: u16,
        port: i32,
        target: Name<'_>,
    ) -> Result<(), Full> {
        if port < 0 {
            return Ok(());
        }
        let port = (port as u16).to_be_bytes();
        let hash = hash_octets(target.as_bytes(), u64::from(u16::from_be_bytes(port)));
        let message = self.reply.bytes();
        // Targets of SRV are not compressed.
        let is_same = |at: usize| {
            message.get(at..at + 2) == Some(&port)
                && message.get(at + 2..at + 2 + target.len()) == Some(target.as_bytes())
        };
        if !seen.is_new(hash, is_same) {
            return Ok(());
        }
        let (owner, ttl) = (self.question.name, self.rules.ttl);
        let mark = self.reply.mark();
        let numbers = [0, weight, u16::from_be_bytes(port)];
        self.reply.push_srv(Section::Answer, owner, numbers, target, ttl)?;
        if self.reply.len() > self.fit.room {
            self.reply.rewind(mark);
            return Err(Full);
        }
        seen.add(hash, self.reply.len() - target.len() - 2);
        Ok(())
    }

    /// The addresses of the targets.
    fn targets(&mut self, found: &Found<'_, '_>) -> Result<(), Full> {
        let ttl = self.rules.ttl;
        match found {
            Found::Hosts(service, _) => {
                let Some(name) = service_name(&service.key, self.apex) else { return Ok(()) };
                let mut seen = Seen::new();
                for address in service.hosts.iter().filter_map(|host| host.as_host().address()) {
                    push_additional(self.reply, &mut seen, name.as_name(), address, ttl)?;
                }
            }
            Found::Ends(ends) => {
                let mut seen = ends.slices().any(|slice| slice.overlaps).then(Seen::new);
                let leads = |slice: &Slice| ends.ports(slice).any(|port| port >= 0);
                for (slice, one) in ends.all().filter(|(slice, _)| leads(slice)) {
                    let Some(address) = one.host.address() else { continue };
                    let is_imported = self.zone.is_imported;
                    let name = endpoint_name(slice, &one, is_imported, self.apex);
                    let Some(name) = name else { continue };
                    let (name, section) = (name.as_name(), Section::Additional);
                    match &mut seen {
                        Some(seen) => push_additional(self.reply, seen, name, address, ttl)?,
                        None => self.reply.push_address(section, name, address, ttl)?,
                    }
                    // One octet too many is as good as none.
                    if self.reply.len() > self.fit.room {
                        return Err(Full);
                    }
                }
            }
            Found::Pod(label, namespace, host) => {
                if let (Some(name), Some(address)) =
                    (pod_name(label, namespace, self.apex), host.address())
                {
                    let section = Section::Additional;
                    self.reply.push_address(section, name.as_name(), address, ttl)?;
                }
            }
            Found::Missing | Found::Nothing => {}
        }
        Ok(())
    }
}

/// The name of a pod: its label, its namespace's, `pod`.
fn pod_name(label: &[u8], namespace: &[u8], zone: Name<'_>) -> Option<NameBuf> {
    let name = NameBuf::join(b"\x03pod", zone).ok()?;
    name.prepend(namespace).ok()?.prepend(label).ok()
}
