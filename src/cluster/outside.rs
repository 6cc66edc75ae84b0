//! How services are reached from outside the cluster, under zones of their own:
//! `SERVICE.NAMESPACE.ZONE` has the addresses of its load balancers and its external addresses.
//!
//! [`Rules`] is how the zones are answered. An answer is written from the index straight into the
//! reply; nothing allocates or locks, and what is written is bounded by the reply. A denial is written
//! by [`Rules::deny`], since whoever asks decides what becomes of a name that is not there.
//!
//! Owners have the letters of the question, targets those of the objects and of the zones, in lower
//! case (as in CoreDNS). RFC 1034 sections 3.6.2 and 4.3.2, RFC 2782, RFC 2308.

mod found;
mod srv;
#[cfg(test)]
mod tests;
mod zone;

use std::net::IpAddr;

use super::answer::own_slices;
use super::answer::seen::Seen;
use super::answer::servers::push_unseen;
use super::index::Index;
use super::record::{Host, Nature, Service, as_name, namespace_of};
use crate::limits::NAME_BYTES_MAX;
use crate::wire::{
    Full, Name, NameBuf, Question, Rcode, Reply, Section, Soa, Suffixes, reverse_address, rtype,
};
use found::{Ends, Found};

pub use zone::Transfer;

/// Refresh, retry and expire, as CoreDNS has them.
const TIMES: [u32; 3] = [7_200, 1_800, 86_400];

/// How the zones are answered.
#[derive(Clone, Debug)]
pub struct Rules {
    zones: Suffixes<Zone>,
    /// The zone in which the targets of reverse names lie.
    first: NameBuf,
    /// Seconds that addresses, reverse names and the records of the zones themselves live.
    pub ttl: u32,
    /// Seconds that ports and aliases live.
    pub port_ttl: u32,
    /// Whether services that are their endpoints have these for addresses.
    pub headless: bool,
    /// Whether only services of namespaces that are shown have reverse names.
    pub reverse_shown: bool,
    /// Addresses of this server, as others reach it.
    pub own: Box<[IpAddr]>,
}

/// The names that a zone has of its own.
#[derive(Clone, Debug)]
struct Zone {
    /// Below it stand the servers of the zone: `dns.ZONE`.
    servers: NameBuf,
    /// The one server: `ns1.dns.ZONE`.
    server: NameBuf,
    /// The mailbox: `hostmaster.dns.ZONE`.
    mailbox: NameBuf,
}

/// What became of a question.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// Records were written.
    Answer,
    /// The name exists, and has no records of the type: nothing was written.
    NoData,
    /// The name does not exist: nothing was written.
    NxDomain,
    /// The answer is an alias to `target`, which must be asked for with the question's type.
    Chase {
        /// The name to ask for.
        target: NameBuf,
    },
}

type Written = Result<Outcome, Full>;

impl Rules {
    /// For these zones, lower-cased, whose server stands below `label` (`dns`). None: a zone is too
    /// long to have such a name.
    pub fn new(zones: &[NameBuf], label: Name<'_>, ttl: u32, port_ttl: u32) -> Option<Self> {
        let zone = |name: &NameBuf| {
            let prefix = label.as_bytes().get(..label.len() - 1)?;
            let servers = NameBuf::join(prefix, name.as_name()).ok()?;
            let below = |label: &[u8]| servers.prepend(label).ok();
            let (server, mailbox) = (below(b"ns1")?, below(b"hostmaster")?);
            Some((*name, Zone { servers, server, mailbox }))
        };
        let named: Option<Vec<_>> = zones.iter().map(zone).collect();
        Some(Self {
            zones: Suffixes::new(named?),
            first: zones.first().copied().unwrap_or_default(),
            ttl,
            port_ttl,
            headless: false,
            reverse_shown: false,
            own: Box::default(),
        })
    }

    /// Whether a lower-cased name is under one of the zones.
    pub fn is_under(&self, lower: Name<'_>) -> bool {
        self.zones.find(lower).is_some()
    }

    /// Whether a lower-cased name is one of those from `dns.ZONE` down.
    pub fn is_of_server(&self, lower: Name<'_>) -> bool {
        let zone = self.zones.find(lower).map(|(_, zone)| zone);
        zone.is_some_and(|zone| lower.is_under(zone.servers.as_name()))
    }

    /// Answers `question`, whose name is under one of the zones, into `reply`, which was started with
    /// it and is empty otherwise.
    ///
    /// # Errors
    /// There is no room for all of it: what has room was written.
    pub fn answer(&self, index: &Index, question: Question<'_>, reply: &mut Reply) -> Written {
        let Question { lower, rtype, .. } = question;
        let Some((apex, zone)) = self.zones.find(lower) else { return Ok(Outcome::NxDomain) };
        if lower.len() == apex.len() {
            return self.apex(index, question, apex, zone, reply);
        }
        if lower.is_under(zone.servers.as_name()) {
            return self.servers(index, question, zone, reply);
        }
        if rtype == rtype::PTR
            && let Some(address) = reverse_address(lower)
        {
            return self.pointers(index, question, address, reply);
        }
        let found = match self.find(index, lower, apex) {
            Found::Missing => return Ok(Outcome::NxDomain),
            Found::Nothing => return Ok(Outcome::NoData),
            found => found,
        };
        match (rtype, found) {
            (rtype::A | rtype::AAAA, Found::Hosts(service, _)) => {
                self.own_addresses(service, question, reply)
            }
            (rtype::A | rtype::AAAA, Found::Ends(ends)) => self.ends(&ends, question, reply),
            (rtype::SRV, found) => self.ports(&found, question, apex, reply),
            _ => Ok(Outcome::NoData),
        }
    }

    /// Writes a denial: the rcode, and the SOA record of the zone.
    pub fn deny(&self, index: &Index, question: Question<'_>, rcode: Rcode, reply: &mut Reply) {
        reply.set_rcode(rcode);
        if let Some((apex, zone)) = self.zones.find(question.lower) {
            // Without room for it the rcode says enough.
            let _ = self.push_soa(Section::Authority, index, apex, zone, reply);
        }
    }

    fn push_soa(
        &self,
        section: Section,
        index: &Index,
        apex: Name<'_>,
        zone: &Zone,
        reply: &mut Reply,
    ) -> Result<(), Full> {
        let [refresh, retry, expire] = TIMES;
        let numbers = [index.modified.external, refresh, retry, expire, self.ttl];
        let soa = Soa { mname: zone.server.as_name(), rname: zone.mailbox.as_name(), numbers };
        reply.push_soa(section, apex, &soa, self.ttl)
    }

    fn apex(
        &self,
        index: &Index,
        question: Question<'_>,
        apex: Name<'_>,
        zone: &Zone,
        reply: &mut Reply,
    ) -> Written {
        match question.rtype {
            rtype::SOA => self.push_soa(Section::Answer, index, apex, zone, reply)?,
            rtype::NS => {
                let server = zone.server.as_name();
                reply.push_name(Section::Answer, apex, rtype::NS, server, self.ttl)?;
                let mut seen = Seen::new();
                self.each_server(index, |address| {
                    push_unseen(reply, &mut seen, Section::Additional, server, address, self.ttl)
                })?;
            }
            _ => return Ok(Outcome::NoData),
        }
        Ok(Outcome::Answer)
    }

    /// The names from `dns.ZONE` down: two there are.
    fn servers(
        &self,
        index: &Index,
        question: Question<'_>,
        zone: &Zone,
        reply: &mut Reply,
    ) -> Written {
        let Question { name, lower, rtype, .. } = question;
        if lower == zone.servers.as_name() {
            return Ok(Outcome::NoData);
        }
        if lower != zone.server.as_name() {
            return Ok(Outcome::NxDomain);
        }
        let mut seen = Seen::new();
        self.each_server(index, |address| match is_of(address, rtype) {
            true => push_unseen(reply, &mut seen, Section::Answer, name, address, self.ttl),
            false => Ok(()),
        })?;
        Ok(if reply.counts().answer == 0 { Outcome::NoData } else { Outcome::Answer })
    }

    /// Gives the addresses of the server: those from outside of the services that it is an endpoint
    /// of, or else its own.
    fn each_server(
        &self,
        index: &Index,
        mut take: impl FnMut(IpAddr) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut is_served = false;
        for slice in own_slices(index, &self.own) {
            is_served = true;
            let Some(named) = index.local.find(&slice.key) else { continue };
            let service = &*named.service;
            if self.headless && service.nature == Nature::Headless {
                slice.endpoints().filter_map(|one| one.host.address()).try_for_each(&mut take)?;
            } else {
                addresses_of(service).try_for_each(&mut take)?;
            }
        }
        if is_served {
            return Ok(());
        }
        self.own.iter().copied().try_for_each(take)
    }

    fn own_addresses(
        &self,
        service: &Service,
        question: Question<'_>,
        reply: &mut Reply,
    ) -> Written {
        let name = question.name;
        if let Some(target) = alias_of(service) {
            if target.eq_fold(name) {
                return Ok(Outcome::NoData);
            }
            reply.push_name(Section::Answer, name, rtype::CNAME, target, self.port_ttl)?;
            return Ok(Outcome::Chase { target: NameBuf::from(target) });
        }
        for (number, address) in addresses_of(service).enumerate() {
            let is_first = !addresses_of(service).take(number).any(|other| other == address);
            if is_first && is_of(address, question.rtype) {
                reply.push_address(Section::Answer, name, address, self.ttl)?;
            }
        }
        Ok(if reply.counts().answer == 0 { Outcome::NoData } else { Outcome::Answer })
    }

    fn ends(&self, ends: &Ends<'_>, question: Question<'_>, reply: &mut Reply) -> Written {
        let mut seen = ends.overlap().then(Seen::new);
        for (_, one) in ends.all() {
            let Some(address) = one.host.address() else { continue };
            if !is_of(address, question.rtype) {
                continue;
            }
            let (name, section) = (question.name, Section::Answer);
            match &mut seen {
                Some(seen) => push_unseen(reply, seen, section, name, address, self.ttl)?,
                None => reply.push_address(section, name, address, self.ttl)?,
            }
        }
        Ok(if reply.counts().answer == 0 { Outcome::NoData } else { Outcome::Answer })
    }

    /// The services that are reached by an address.
    fn pointers(
        &self,
        index: &Index,
        question: Question<'_>,
        address: IpAddr,
        reply: &mut Reply,
    ) -> Written {
        let is_shown = |service: &&Service| {
            let namespace = namespace_of(&service.key).get(1..).unwrap_or_default();
            !self.reverse_shown || index.has_namespace(namespace)
        };
        let services = || index.services_behind(address).filter(is_shown);
        for (number, service) in services().enumerate() {
            // One that has the address twice.
            if services().take(number).any(|other| other.key == service.key) {
                continue;
            }
            let Ok(target) = NameBuf::join(&service.key, self.first.as_name()) else { continue };
            let (name, target) = (question.name, target.as_name());
            reply.push_name(Section::Answer, name, rtype::PTR, target, self.ttl)?;
        }
        Ok(if reply.counts().answer == 0 { Outcome::NxDomain } else { Outcome::Answer })
    }
}

/// The name of an endpoint, or of its service where `label` is empty. None: it is too long.
fn name_of(label: &[u8], key: &[u8], apex: Name<'_>) -> Option<NameBuf> {
    if label.is_empty() {
        return NameBuf::join(key, apex).ok();
    }
    let mut prefix = [0; NAME_BYTES_MAX];
    let middle = label.len() + 1;
    let end = middle + key.len();
    prefix[0] = u8::try_from(label.len()).ok()?;
    prefix.get_mut(1..middle)?.copy_from_slice(label);
    prefix.get_mut(middle..end)?.copy_from_slice(key);
    NameBuf::join(&prefix[..end], apex).ok()
}

fn is_of(address: IpAddr, rtype: u16) -> bool {
    rtype == if address.is_ipv4() { rtype::A } else { rtype::AAAA }
}

/// The addresses by which a service is reached; one may come twice.
fn addresses_of(service: &Service) -> impl Iterator<Item = IpAddr> {
    service.outside.iter().filter_map(|host| host.as_host().address())
}

/// The names by which a service is reached; one may come twice.
fn names_of(service: &Service) -> impl Iterator<Item = Name<'_>> {
    service.outside.iter().filter_map(|host| match host.as_host() {
        Host::Name(wire) => Some(as_name(wire)),
        Host::V4(_) | Host::V6(_) => None,
    })
}

/// The name that a service stands for: an alias has no other records (RFC 1034 section 3.6.2), so
/// only where it has no address, and only one.
fn alias_of(service: &Service) -> Option<Name<'_>> {
    if addresses_of(service).next().is_some() {
        return None;
    }
    names_of(service).next()
}
