//! PTR: the services and endpoints that have an address.

use super::seen::Seen;
use super::servers::{endpoint_name, service_name};
use super::{Answering, Outcome, Written, namespace_label};
use crate::cluster::index::hash_octets;
use crate::cluster::record::Host;
use crate::wire::{Full, NameBuf, Section, reverse_address, rtype};

impl Answering<'_, '_> {
    pub(super) fn pointers(&mut self) -> Written {
        let Some(address) = reverse_address(self.question.lower) else {
            // As CoreDNS has it, the name of its server does not exist for PTR.
            return Ok(if self.found().exists() { Outcome::NoData } else { Outcome::NxDomain });
        };
        let (index, ttl) = (self.index, self.rules.ttl);
        let owner = self.question.name;
        let primary = self.rules.primary.as_name();
        let hides = self.rules.reverse_shown;
        let is_shown = |key: &[u8]| !hides || index.has_namespace(namespace_label(key));
        if let Some(service) = index.shown_service_at(address, |one| is_shown(&one.key)) {
            if let Some(name) = service_name(&service.key, primary) {
                self.reply.push_name(Section::Answer, owner, rtype::PTR, name.as_name(), ttl)?;
                return Ok(Outcome::Answer);
            }
            return Ok(Outcome::NxDomain);
        }
        let slices = index.slices_at(address).map(|(_, slice)| slice);
        // A slice that belongs to no service gives no name.
        let slices = slices.filter(|slice| !slice.key.is_empty() && is_shown(&slice.key));
        let host = Host::from(address);
        let mut first: Option<NameBuf> = None;
        let mut seen: Option<Seen> = None;
        for slice in slices {
            for one in slice.endpoints().filter(|one| one.host == host) {
                let Some(name) = endpoint_name(slice, &one, false, primary) else { continue };
                match (&first, &mut seen) {
                    (None, _) => {
                        self.push_pointer(&name)?;
                        first = Some(name);
                    }
                    (Some(first), None) if *first == name => {}
                    (Some(_), seen) => self.push_new_pointer(&name, seen)?,
                }
            }
        }
        Ok(if first.is_some() { Outcome::Answer } else { Outcome::NxDomain })
    }

    fn push_pointer(&mut self, name: &NameBuf) -> Result<(), Full> {
        let (owner, ttl) = (self.question.name, self.rules.ttl);
        let mark = self.reply.mark();
        self.reply.push_name(Section::Answer, owner, rtype::PTR, name.as_name(), ttl)?;
        if self.reply.len() > self.fit.room {
            self.reply.rewind(mark);
            return Err(Full);
        }
        Ok(())
    }

    /// Adds a record unless there is one with this target: pods on the network of their node are
    /// endpoints of many services, some of them of one service more than once.
    fn push_new_pointer(&mut self, name: &NameBuf, seen: &mut Option<Seen>) -> Result<(), Full> {
        let hash = |name: &NameBuf| hash_octets(name.as_name().as_bytes(), 0);
        let message = self.reply.bytes();
        let seen = seen.get_or_insert_with(|| {
            // The first record was written without the table.
            let mut seen = Seen::new();
            let at = self.reply.question_end() + RDATA_AT;
            if let Ok((first, _)) = NameBuf::read(message, at) {
                seen.add(hash(&first), at);
            }
            seen
        });
        let is_same = |at: usize| NameBuf::read(message, at).is_ok_and(|(other, _)| other == *name);
        if !seen.is_new(hash(name), is_same) {
            return Ok(());
        }
        let at = message.len() + RDATA_AT;
        self.push_pointer(name)?;
        seen.add(hash(name), at);
        Ok(())
    }
}

/// Octets of a record of the question's name before its RDATA.
const RDATA_AT: usize = 12;
