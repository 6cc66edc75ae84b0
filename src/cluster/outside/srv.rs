//! SRV: the ports by which services are reached (RFC 2782).
//!
//! Priorities are 0; a weight is the part of 100 that CoreDNS gives each pair of address and port
//! before what is equal is written once. A service without ports has no records.

use super::found::{Ends, Found, Scope};
use super::{Outcome, Rules, Written, addresses_of, name_of, names_of};
use crate::cluster::answer::seen::Seen;
use crate::cluster::answer::servers::push_unseen;
use crate::cluster::index::hash_octets;
use crate::cluster::record::{Endpoint, Service, generated};
use crate::limits::LABEL_BYTES_MAX;
use crate::wire::{Full, Name, NameBuf, Question, Reply, Section};

/// The weight of one of so many.
pub(super) fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}

/// The name of an endpoint. None: it is too long.
pub(super) fn endpoint_name(one: &Endpoint<'_>, key: &[u8], apex: Name<'_>) -> Option<NameBuf> {
    let mut room = [0; LABEL_BYTES_MAX];
    let label = match one.label {
        [] => generated(one.host, &mut room),
        label => label,
    };
    name_of(label, key, apex)
}

impl Rules {
    pub(super) fn ports(
        &self,
        found: &Found<'_>,
        question: Question<'_>,
        apex: Name<'_>,
        reply: &mut Reply,
    ) -> Written {
        let mut ports =
            Ports { owner: question.name, ttl: self.port_ttl, seen: Seen::new(), reply };
        match found {
            Found::Hosts(service, scope) => ports.of_service(service, scope, apex)?,
            Found::Ends(ends) => ports.of_ends(ends, apex)?,
            Found::Missing | Found::Nothing => {}
        }
        if reply.counts().answer == 0 {
            return Ok(Outcome::NoData);
        }
        let mut seen = Seen::new();
        match found {
            Found::Hosts(service, _) => {
                let Some(name) = name_of(&[], &service.key, apex) else {
                    return Ok(Outcome::Answer);
                };
                for address in addresses_of(service) {
                    let (name, section) = (name.as_name(), Section::Additional);
                    push_unseen(reply, &mut seen, section, name, address, self.ttl)?;
                }
            }
            Found::Ends(ends) => {
                for (_, one) in ends.all() {
                    let name = endpoint_name(&one, &ends.service.key, apex);
                    let (Some(name), Some(address)) = (name, one.host.address()) else { continue };
                    let (name, section) = (name.as_name(), Section::Additional);
                    push_unseen(reply, &mut seen, section, name, address, self.ttl)?;
                }
            }
            Found::Missing | Found::Nothing => {}
        }
        Ok(Outcome::Answer)
    }
}

/// The records of one answer.
struct Ports<'r, 'n> {
    owner: Name<'n>,
    ttl: u32,
    seen: Seen,
    reply: &'r mut Reply,
}

impl Ports<'_, '_> {
    fn of_service(
        &mut self,
        service: &Service,
        scope: &Scope<'_>,
        apex: Name<'_>,
    ) -> Result<(), Full> {
        let ports = || scope.ports(&service.ports);
        let weight = weight(ports().count() * service.outside.len());
        let own = addresses_of(service).next().and_then(|_| name_of(&[], &service.key, apex));
        for port in ports() {
            if let Some(own) = &own {
                self.push(weight, port.number, own.as_name())?;
            }
            for name in names_of(service) {
                self.push(weight, port.number, name)?;
            }
        }
        Ok(())
    }

    fn of_ends(&mut self, ends: &Ends<'_>, apex: Name<'_>) -> Result<(), Full> {
        let per_slice = ends.slices().map(|slice| {
            let ports = ends.scope.ports(&slice.ports).count();
            ends.of(slice).filter(|one| one.host.address().is_some()).count() * ports
        });
        let weight = weight(per_slice.sum());
        for (slice, one) in ends.all().filter(|(_, one)| one.host.address().is_some()) {
            let Some(name) = endpoint_name(&one, &ends.service.key, apex) else { continue };
            for port in ends.scope.ports(&slice.ports) {
                self.push(weight, port.number, name.as_name())?;
            }
        }
        Ok(())
    }

    /// Adds a record, unless there is one with this port and target, or there is no port.
    fn push(&mut self, weight: u16, port: i32, target: Name<'_>) -> Result<(), Full> {
        // Ports are 16 bits wide in the API too; negative stands for none.
        let Ok(port) = u16::try_from(port) else { return Ok(()) };
        let octets = port.to_be_bytes();
        let hash = hash_octets(target.as_bytes(), u64::from(port));
        let message = self.reply.bytes();
        // Targets of SRV are not compressed.
        let is_same = |at: usize| {
            message.get(at..at + 2) == Some(&octets)
                && message.get(at + 2..at + 2 + target.len()) == Some(target.as_bytes())
        };
        if !self.seen.is_new(hash, is_same) {
            return Ok(());
        }
        let (owner, numbers) = (self.owner, [0, weight, port]);
        self.reply.push_srv(Section::Answer, owner, numbers, target, self.ttl)?;
        self.seen.add(hash, self.reply.len() - target.len() - 2);
        Ok(())
    }
}
