//! A zone of the cluster record by record, for a transfer (RFC 5936): what CoreDNS hands out of it,
//! which is the servers, and the addresses and ports of services and of the endpoints of headless
//! ones. An endpoint of another cluster is called without that.

use super::servers::service_name;
use super::srv::weight;
use super::{Rules, SOA_TIMES, SOA_TTL_MAX};
use crate::cluster::index::Index;
use crate::cluster::record::{Host, HostBuf, Nature, Port, Service, Slice};
use crate::limits::NAME_BYTES_MAX;
use crate::wire::{Full, Name, NameBuf, Rtype, rtype};

/// How far a transfer has come. All zero at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// 0: the SOA record; 1: the servers; then a place in the table of services; at last the SOA
    /// record again.
    step: u64,
    /// Records of that step that have been taken.
    record: u64,
}

const SOA: u64 = 0;
const SERVERS: u64 = 1;
const SERVICES: u64 = 2;
const LAST: u64 = u64::MAX - 1;
const DONE: u64 = u64::MAX;
/// Bits of a step that say which entry of a leaf it is.
const SLOT_BITS: u32 = 24;

impl At {
    /// Whether all was taken.
    pub fn is_done(self) -> bool {
        self.step == DONE
    }

    /// As two numbers.
    pub fn to_words(self) -> [u64; 2] {
        [self.step, self.record]
    }

    /// What `to_words` gave.
    pub fn from_words([step, record]: [u64; 2]) -> Self {
        Self { step, record }
    }
}

/// Takes a record: owner, type, TTL, uncompressed RDATA.
type Take<'t> = dyn FnMut(Name<'_>, Rtype, u32, &[u8]) -> Result<(), Full> + 't;

/// Passes over the records that were taken already, and counts the others.
struct Counted<'t, 'u> {
    skip: u64,
    taken: u64,
    take: &'t mut Take<'u>,
}

impl Counted<'_, '_> {
    fn push(&mut self, owner: Name<'_>, rtype: Rtype, ttl: u32, rdata: &[u8]) -> Result<(), Full> {
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            (self.take)(owner, rtype, ttl, rdata)?;
        }
        self.taken += 1;
        Ok(())
    }

    fn address(&mut self, owner: Name<'_>, host: Host<'_>, ttl: u32) -> Result<(), Full> {
        match host {
            Host::V4(octets) => self.push(owner, rtype::A, ttl, &octets),
            Host::V6(octets) => self.push(owner, rtype::AAAA, ttl, &octets),
            Host::Name(_) => Ok(()),
        }
    }

    fn port(
        &mut self,
        owner: Name<'_>,
        weight: u16,
        port: i32,
        target: Name<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        let Ok(port) = u16::try_from(port) else { return Ok(()) };
        let mut rdata = [0; 6 + NAME_BYTES_MAX];
        rdata[2..4].copy_from_slice(&weight.to_be_bytes());
        rdata[4..6].copy_from_slice(&port.to_be_bytes());
        let end = 6 + target.len();
        rdata[6..end].copy_from_slice(target.as_bytes());
        self.push(owner, rtype::SRV, ttl, &rdata[..end])
    }
}

impl Rules {
    /// The serial of a zone, by its lower-cased name.
    pub fn serial(&self, index: &Index, zone: Name<'_>) -> u32 {
        self.zones.get_exact(zone).map_or(0, |one| one.serial(index))
    }

    /// Gives the records of a zone, by its lower-cased name, from `at` on, until `take` fails; moves
    /// `at` behind what was taken.
    pub fn each_record(&self, index: &Index, zone: Name<'_>, at: &mut At, take: &mut Take<'_>) {
        while at.step != DONE {
            let mut counted = Counted { skip: at.record, taken: 0, take: &mut *take };
            let written = self.write_step(index, zone, at.step, &mut counted);
            at.record = counted.taken;
            let Ok(next) = written else { return };
            *at = At { step: next, record: 0 };
        }
    }

    /// Gives the records of a step, and then the next step.
    fn write_step(
        &self,
        index: &Index,
        zone: Name<'_>,
        step: u64,
        out: &mut Counted<'_, '_>,
    ) -> Result<u64, Full> {
        match step {
            SOA | LAST => {
                self.write_soa(index, zone, out)?;
                Ok(if step == SOA { SERVERS } else { DONE })
            }
            SERVERS => {
                self.write_servers(index, zone, out)?;
                Ok(SERVICES)
            }
            _ => {
                let is_imported = self.zones.get_exact(zone).is_some_and(|one| one.is_imported);
                let realm = if is_imported { &index.imported } else { &index.local };
                let place = step - SERVICES;
                let (leaf, slot) = (place >> SLOT_BITS, place & ((1 << SLOT_BITS) - 1));
                let Some(entries) = realm.leaf(leaf as usize) else { return Ok(LAST) };
                let Some(entry) = entries.get(slot as usize) else {
                    return Ok(SERVICES + ((leaf + 1) << SLOT_BITS));
                };
                if let Some(named) = entry
                    && index.has_namespace(super::namespace_label(&named.service.key))
                {
                    let slices = realm.slices_of(&named.service);
                    self.write_service(&named.service, slices, zone, out)?;
                }
                Ok(step + 1)
            }
        }
    }

    fn write_soa(
        &self,
        index: &Index,
        zone: Name<'_>,
        out: &mut Counted<'_, '_>,
    ) -> Result<(), Full> {
        let mut rdata = Vec::with_capacity(2 * NAME_BYTES_MAX + 20);
        for left in [&b"\x02ns\x03dns"[..], b"\x0ahostmaster"] {
            rdata.extend(left);
            rdata.extend(zone.as_bytes());
        }
        let [refresh, retry, expire] = SOA_TIMES;
        for number in [self.serial(index, zone), refresh, retry, expire, self.ttl] {
            rdata.extend(number.to_be_bytes());
        }
        out.push(zone, rtype::SOA, self.ttl.min(SOA_TTL_MAX), &rdata)
    }

    fn write_servers(
        &self,
        index: &Index,
        zone: Name<'_>,
        out: &mut Counted<'_, '_>,
    ) -> Result<(), Full> {
        let mut before = NameBuf::root();
        self.each_server(index, zone, |name, host| {
            if before.as_name().as_bytes() != name.as_bytes() {
                before.set(name);
                out.push(zone, rtype::NS, self.ttl, name.as_bytes())?;
            }
            out.address(name, host, self.ttl)
        })
    }

    fn write_service<'i>(
        &self,
        service: &Service,
        slices: impl Iterator<Item = &'i Slice>,
        zone: Name<'_>,
        out: &mut Counted<'_, '_>,
    ) -> Result<(), Full> {
        let Some(name) = service_name(&service.key, zone) else { return Ok(()) };
        let (owner, ttl) = (name.as_name(), self.ttl);
        match (service.nature, service.hosts.first()) {
            (Nature::External, Some(HostBuf::Name(target))) => {
                out.push(owner, rtype::CNAME, ttl, target)
            }
            (Nature::External, _) => Ok(()),
            (Nature::Cluster, Some(HostBuf::V4(_) | HostBuf::V6(_))) => {
                for host in &service.hosts {
                    out.address(owner, host.as_host(), ttl)?;
                }
                for port in &*service.ports {
                    out.port(owner, weight(1), port.number, owner, ttl)?;
                    if let Some(name) = port_name(port, owner) {
                        out.port(name.as_name(), weight(1), port.number, owner, ttl)?;
                    }
                }
                Ok(())
            }
            _ => {
                for slice in slices {
                    self.write_slice(slice, owner, zone, out)?;
                }
                Ok(())
            }
        }
    }

    fn write_slice(
        &self,
        slice: &Slice,
        service: Name<'_>,
        zone: Name<'_>,
        out: &mut Counted<'_, '_>,
    ) -> Result<(), Full> {
        let weight = weight(slice.len().max(1));
        for one in slice.endpoints().filter(|one| one.host.address().is_some()) {
            let name = super::servers::endpoint_name(slice, &one, false, zone);
            let Some(name) = name else { continue };
            out.address(service, one.host, self.ttl)?;
            out.address(name.as_name(), one.host, self.ttl)?;
            for port in &*slice.ports {
                if let Some(owner) = port_name(port, service) {
                    let target = name.as_name();
                    out.port(owner.as_name(), weight, port.number, target, self.ttl)?;
                }
            }
        }
        Ok(())
    }
}

/// `_port._protocol.SERVICE`; none of a port without a name.
fn port_name(port: &Port, service: Name<'_>) -> Option<NameBuf> {
    let marked = |text: &str| {
        let text = format!("_{}", text.to_ascii_lowercase());
        (text.len() > 1).then_some(text)
    };
    let (name, protocol) = (marked(&port.name)?, marked(&port.protocol)?);
    let name = NameBuf::from(service).prepend(protocol.as_bytes()).ok()?.prepend(name.as_bytes());
    name.ok()
}
