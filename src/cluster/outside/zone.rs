//! A zone as a whole, to be handed out (RFC 5936).
//!
//! The same records as single answers have, each once: SOA, NS and the addresses of the server, then
//! service by service in the order of the index.

use std::sync::Arc;

use super::found::{Ends, Scope};
use super::srv::{endpoint_name, weight};
use super::{Rules, TIMES, addresses_of, alias_of, name_of, names_of};
use crate::cluster::index::Index;
use crate::cluster::record::{Port, Service, namespace_of};
use crate::limits::NAME_BYTES_MAX;
use crate::wire::{Name, NameBuf, Rdata, Rtype, rtype};

/// Takes a record: owner, type, TTL, RDATA in uncompressed wire form. `false`: no more, and not this
/// one.
pub type Take<'t> = dyn FnMut(Name<'_>, Rtype, u32, Rdata<'_>) -> bool + 't;

/// The zone of a name as it was at a moment.
pub struct Transfer {
    rules: Arc<Rules>,
    index: Arc<Index>,
    apex: NameBuf,
}

/// Gives records to `take` but for the first few, and counts those it took.
struct Giving<'t, 'f> {
    skip: u64,
    given: u64,
    is_full: bool,
    take: &'t mut Take<'f>,
}

impl Giving<'_, '_> {
    fn push(&mut self, owner: Name<'_>, rtype: Rtype, ttl: u32, rdata: &[u8]) {
        if self.is_full {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
        } else if (self.take)(owner, rtype, ttl, Rdata::Wire(rdata)) {
            self.given += 1;
        } else {
            self.is_full = true;
        }
    }

    fn address(&mut self, owner: Name<'_>, address: std::net::IpAddr, ttl: u32) {
        match address {
            std::net::IpAddr::V4(address) => self.push(owner, rtype::A, ttl, &address.octets()),
            std::net::IpAddr::V6(address) => self.push(owner, rtype::AAAA, ttl, &address.octets()),
        }
    }

    fn port(&mut self, owner: Name<'_>, weight: u16, port: &Port, target: Name<'_>, ttl: u32) {
        let Ok(number) = u16::try_from(port.number) else { return };
        let mut rdata = [0; 6 + NAME_BYTES_MAX];
        rdata[2..4].copy_from_slice(&weight.to_be_bytes());
        rdata[4..6].copy_from_slice(&number.to_be_bytes());
        let end = 6 + target.len();
        rdata[6..end].copy_from_slice(target.as_bytes());
        self.push(owner, rtype::SRV, ttl, &rdata[..end]);
    }
}

impl Transfer {
    /// The zone `apex`, if it is one of the zones.
    pub fn new(rules: &Arc<Rules>, index: Arc<Index>, apex: Name<'_>) -> Option<Self> {
        rules.zones.get_exact(apex)?;
        Some(Self { rules: Arc::clone(rules), index, apex: NameBuf::from(apex) })
    }

    /// Whether all is known that it is made of.
    pub fn is_known(&self) -> bool {
        self.index.is_synced()
    }

    /// The serial of the SOA record.
    pub fn serial(&self) -> u32 {
        self.index.modified.external
    }

    /// Gives the SOA record.
    pub fn soa(&self, take: &mut Take<'_>) {
        let apex = self.apex.as_name();
        let Some(zone) = self.rules.zones.get_exact(apex) else { return };
        let mut rdata = [0; 2 * NAME_BYTES_MAX + 20];
        let mut end = 0;
        let mut put = |octets: &[u8]| {
            rdata[end..end + octets.len()].copy_from_slice(octets);
            end += octets.len();
        };
        put(zone.server.as_name().as_bytes());
        put(zone.mailbox.as_name().as_bytes());
        put(&self.serial().to_be_bytes());
        TIMES.into_iter().chain([self.rules.ttl]).for_each(|number| put(&number.to_be_bytes()));
        take(apex, rtype::SOA, self.rules.ttl, Rdata::Wire(&rdata[..end]));
    }

    /// Gives all other records from a place on, 0 and 0 at the start: the number of a service plus one,
    /// and of a record of it. Gives the place where it ended; none at the end of the zone.
    pub fn each_from(&self, [service, record]: [u64; 2], take: &mut Take<'_>) -> Option<[u64; 2]> {
        let mut giving = Giving { skip: record, given: 0, is_full: false, take };
        if service == 0 {
            self.own(&mut giving);
            if giving.is_full {
                return Some([0, record + giving.given]);
            }
        }
        let first = service.max(1);
        let services = (first..).zip(self.index.local.services().skip(first as usize - 1));
        for (number, one) in services {
            let before = if number == service { record } else { 0 };
            (giving.skip, giving.given) = (before, 0);
            self.service(one, &mut giving);
            if giving.is_full {
                return Some([number, before + giving.given]);
            }
        }
        None
    }

    fn own(&self, giving: &mut Giving<'_, '_>) {
        let (apex, ttl) = (self.apex.as_name(), self.rules.ttl);
        let Some(zone) = self.rules.zones.get_exact(apex) else { return };
        let server = zone.server.as_name();
        giving.push(apex, rtype::NS, ttl, server.as_bytes());
        let gone = self.rules.each_server(&self.index, |address| {
            giving.address(server, address, ttl);
            Ok(())
        });
        debug_assert!(gone.is_ok(), "nothing is full here");
    }

    fn service(&self, service: &Service, giving: &mut Giving<'_, '_>) {
        let namespace = namespace_of(&service.key).get(1..).unwrap_or_default();
        if !self.index.has_namespace(namespace) {
            return;
        }
        let Some(name) = name_of(&[], &service.key, self.apex.as_name()) else { return };
        if self.rules.stands_for_ends(service, false) {
            self.ends(service, name.as_name(), giving);
        } else if !service.outside.is_empty() {
            self.hosts(service, name.as_name(), giving);
        }
    }

    fn hosts(&self, service: &Service, name: Name<'_>, giving: &mut Giving<'_, '_>) {
        let Rules { ttl, port_ttl, .. } = *self.rules;
        let alias = alias_of(service);
        if let Some(target) = alias {
            giving.push(name, rtype::CNAME, port_ttl, target.as_bytes());
        }
        let is_new = |number: usize, address| {
            !addresses_of(service).take(number).any(|other| other == address)
        };
        for (number, address) in addresses_of(service).enumerate() {
            if is_new(number, address) {
                giving.address(name, address, ttl);
            }
        }
        let hosts = service.outside.len();
        let targets = || {
            let own = addresses_of(service).next().map(|_| name);
            own.into_iter().chain(names_of(service))
        };
        for (number, port) in service.ports.iter().enumerate() {
            let same = |other: &Port| other.number == port.number;
            // An alias has no other records (RFC 1034 section 3.6.2).
            if alias.is_none() && !service.ports[..number].iter().any(same) {
                let weight = weight(service.ports.len() * hosts);
                targets().for_each(|to| giving.port(name, weight, port, to, port_ttl));
            }
            if let Some(owner) = port_name(port, name) {
                let weight = weight(hosts);
                targets().for_each(|to| giving.port(owner.as_name(), weight, port, to, port_ttl));
            }
        }
    }

    fn ends(&self, service: &Service, name: Name<'_>, giving: &mut Giving<'_, '_>) {
        let Rules { ttl, port_ttl, .. } = *self.rules;
        let ends = Ends::new(&self.index, service, Scope::default());
        let pairs = ends.slices().map(|slice| slice.ports.len() * slice.len());
        let all = weight(pairs.sum());
        for (slice, one) in ends.all() {
            let endpoint = endpoint_name(&one, &service.key, self.apex.as_name());
            let (Some(endpoint), Some(address)) = (endpoint, one.host.address()) else { continue };
            let endpoint = endpoint.as_name();
            giving.address(name, address, ttl);
            giving.address(endpoint, address, ttl);
            for port in slice.ports.iter() {
                giving.port(name, all, port, endpoint, port_ttl);
                giving.port(endpoint, weight(slice.ports.len()), port, endpoint, port_ttl);
                if let Some(owner) = port_name(port, name) {
                    let same = |other: &&Port| {
                        (&other.name, &other.protocol) == (&port.name, &port.protocol)
                    };
                    let by_slice = ends
                        .slices()
                        .map(|slice| slice.len() * slice.ports.iter().filter(same).count());
                    let weight = weight(by_slice.sum());
                    giving.port(owner.as_name(), weight, port, endpoint, port_ttl);
                }
            }
        }
    }
}

/// The name of a port of a service: none if it has none.
fn port_name(port: &Port, service: Name<'_>) -> Option<NameBuf> {
    if port.name.is_empty() || port.number < 0 {
        return None;
    }
    let protocol = marked(&port.protocol)?;
    let name = NameBuf::from(service).prepend(protocol.0.get(..protocol.1)?).ok()?;
    let port = marked(&port.name)?;
    name.prepend(port.0.get(..port.1)?).ok()
}

/// A label in lower case with an underscore before it.
fn marked(text: &str) -> Option<([u8; 64], usize)> {
    let mut label = [b'_'; 64];
    let end = text.len() + 1;
    label.get_mut(1..end)?.copy_from_slice(text.as_bytes());
    label.make_ascii_lowercase();
    Some((label, end))
}
