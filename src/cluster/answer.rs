//! Answers a question from the index (Kubernetes DNS specification 1.1.0, RFC 1034 section 4.3.2,
//! RFC 2308).
//!
//! [`Rules`] is how the zones of a cluster are answered; an answer is written from the index straight
//! into the reply. The common case, the address of a service with one, is a probe of two tables and
//! a copy of 16 octets. Nothing here allocates, locks, or loops without a bound: what is written is
//! bounded by the reply, what is read by the slices of one service.
//!
//! Owners have the letters of the question, targets those of the objects and of the zone in the
//! question, as CoreDNS has them. A denial is not written here but by [`Rules::deny`], since whoever
//! asks decides what it is: a name that is not there may be somebody else's, or not known yet.

mod alias;
mod found;
mod reverse;
pub(super) mod seen;
pub(super) mod servers;
mod sets;
mod soa;
mod srv;
#[cfg(test)]
mod tests;
mod transfer;

use std::net::IpAddr;

use super::index::{Index, Realm};
use super::record::{Host, namespace_of};
use super::request::{Grammar, Request, Scope};
use crate::wire::{
    Full, HEADER_BYTES, Name, NameBuf, Question, Rcode, Reply, Rtype, Section, Suffixes, rclass,
    rtype,
};

pub use found::{Ends, Found};
pub use servers::own_slices;
use soa::SoaBlock;
pub use transfer::At;

/// The version of the specification that is answered.
const VERSION: &[u8] = b"1.1.0";

/// Seconds that the record of that version lives.
const VERSION_TTL: u32 = 28_800;

/// Seconds of a SOA record at most.
const SOA_TTL_MAX: u32 = 300;

/// Refresh, retry and expire of SOA records, as CoreDNS has them.
const SOA_TIMES: [u32; 3] = [7_200, 1_800, 86_400];

/// What is answered for the names of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pods {
    /// No such name exists.
    #[default]
    Disabled,
    /// Each exists that is an address, in a namespace that exists.
    Insecure,
    /// Those exist that are the address of a pod of the namespace.
    Verified,
}

/// How the zones of a cluster are answered.
#[derive(Clone, Debug)]
pub struct Rules {
    zones: Suffixes<Zone>,
    /// The zone in which the targets of reverse names lie.
    primary: NameBuf,
    /// Seconds that records live, but for the version's.
    pub ttl: u32,
    /// What is answered for the names of pods.
    pub pods: Pods,
    /// Whether a service with an address but without ready endpoints does not exist.
    pub ignore_empty: bool,
    /// Whether topology zones have names.
    pub zonal: bool,
    /// Whether only services of namespaces that are shown have reverse names.
    pub reverse_shown: bool,
    /// Addresses of this server, as others reach it: none of them of the loopback.
    pub own: Box<[IpAddr]>,
}

/// One of the zones.
#[derive(Clone, Debug)]
struct Zone {
    is_imported: bool,
    soa: SoaBlock,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Records were written. TC is set if there are more.
    Answer,
    /// The name exists, and has no records of the type: nothing was written.
    NoData,
    /// The name does not exist: nothing was written.
    NxDomain,
    /// The answer section ends with an alias to `target`, which lies elsewhere and must be asked
    /// for with the question's type.
    Chase {
        /// The name to ask for, in the letters of the object.
        target: NameBuf,
    },
    /// The answer has no room: nothing was written. Only where all of it was wanted.
    TooLong,
}

/// Where a name is to be looked for: what [`Rules::hint`] gives, in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The place of the zone, or `NOWHERE`.
    position: u16,
    hash: u32,
    /// Octets of the service's key; 0: it is no service's name.
    key: u8,
    /// Whether it is the name of a service, and nothing stands left of it.
    is_plain: bool,
}

impl Place {
    const NOWHERE: u16 = u16::MAX;

    /// The place of the zone, if the name is in one.
    #[inline]
    pub fn position(self) -> Option<usize> {
        (self.position != Self::NOWHERE).then_some(self.position as usize)
    }

    /// As a number.
    #[inline]
    pub fn to_bits(self) -> u64 {
        let high = u64::from(self.position) << 16 | u64::from(self.key) << 8;
        u64::from(self.hash) | (high | u64::from(self.is_plain)) << 32
    }

    /// What `to_bits` gave.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        let high = (bits >> 32) as u32;
        Self {
            position: (high >> 16) as u16,
            hash: bits as u32,
            key: (high >> 8) as u8,
            is_plain: high & 1 != 0,
        }
    }
}

/// How an answer is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Octets of the message that records may fill.
    pub room: usize,
    /// Whether an answer that has no room is not to be begun, rather than cut with TC set.
    pub whole: bool,
    /// Whether it goes out on a stream: then TC says only that answers are missing.
    pub is_stream: bool,
    /// Any number: which addresses of a set are left when it is cut.
    pub turn: u32,
}

impl Rules {
    /// For these zones, lower-cased, the first of them that are not reverse zones the `primary`th;
    /// those of a cluster set among them in `imported`. The rest is as a Corefile without options
    /// has it.
    pub fn new(zones: &[NameBuf], primary: usize, imported: &[NameBuf], ttl: u32) -> Self {
        let zone = |name: &NameBuf| {
            let soa = SoaBlock::new(name.as_name().is_root(), ttl);
            (*name, Zone { is_imported: imported.contains(name), soa })
        };
        Self {
            zones: Suffixes::new(zones.iter().map(zone)),
            primary: zones.get(primary).copied().unwrap_or(NameBuf::root()),
            ttl,
            pods: Pods::Disabled,
            ignore_empty: false,
            zonal: false,
            reverse_shown: false,
            own: Box::default(),
        }
    }

    /// The place of the zone that a lower-cased name is under, for the other functions here.
    #[inline]
    pub fn position(&self, lower: Name<'_>) -> Option<usize> {
        self.zones.position(lower)
    }

    /// The zone that a lower-cased name is under, and how its names are read.
    pub fn zone_of<'n>(&self, lower: Name<'n>) -> Option<(Name<'n>, Grammar)> {
        let (name, zone) = self.zones.find(lower)?;
        Some((name, self.grammar(zone)))
    }

    /// Whether a lower-cased name is that of a zone that is handed out whole: not of a reverse zone.
    pub fn is_handed_out(&self, lower: Name<'_>) -> bool {
        self.zones.get_exact(lower).is_some() && !found::is_in_reverse(lower)
    }

    fn grammar(&self, zone: &Zone) -> Grammar {
        Grammar { multicluster: zone.is_imported, zonal: self.zonal }
    }

    /// The zone in a place, as part of a name: of its letters in a question.
    fn zone_in<'n>(&self, position: usize, name: Name<'n>) -> Option<(Name<'n>, &Zone)> {
        let (lower, zone) = self.zones.entry(position)?;
        let left = name.len().checked_sub(lower.len())?;
        let (name, _) = Name::from_wire(&name.as_bytes()[left..]).ok()?;
        Some((name, zone))
    }

    /// Answers `question`, whose name is under the zone in `position`, into `reply`, which was
    /// started with it and is empty otherwise.
    pub fn answer(
        &self,
        index: &Index,
        position: usize,
        question: Question<'_>,
        fit: Fit,
        reply: &mut Reply,
    ) -> Outcome {
        let Some((apex, zone)) = self.zone_in(position, question.name) else {
            return Outcome::NxDomain;
        };
        let start = reply.mark();
        let mut answering = Answering { rules: self, index, question, apex, zone, fit, reply };
        match answering.any() {
            Ok(outcome) => outcome,
            Err(Full) if fit.whole => {
                reply.rewind(start);
                Outcome::TooLong
            }
            Err(Full) => {
                reply.set_flags(reply.flags().with_tc(true));
                Outcome::Answer
            }
        }
    }

    /// Touches the leaf of what a lower-cased name means, and gives a place for the functions below.
    #[inline]
    pub fn hint(&self, index: &Index, lower: Name<'_>) -> Place {
        let none = Place { position: Place::NOWHERE, hash: 0, key: 0, is_plain: false };
        let Some(position) = self.zones.position(lower) else { return none };
        let Some((apex, zone)) = self.zones.entry(position) else { return none };
        let here = Place { position: position as u16, ..none };
        let Request::Service(key, scope) = Request::read(lower, apex, self.grammar(zone)) else {
            return here;
        };
        let hash = zone.realm(index).hint(key);
        Place { hash, key: key.len() as u8, is_plain: scope == Scope::default(), ..here }
    }

    /// Touches the entry.
    #[inline]
    pub fn hint_next(&self, index: &Index, place: Place) {
        if let Some(zone) = self.zones.at(place.position as usize)
            && place.key > 0
        {
            zone.realm(index).hint_next(place.hash);
        }
    }

    /// Answers the commonest questions: for the address of a service that has one, IPv4, and for
    /// what goes with it. None: it is another question, and nothing was written.
    #[inline]
    pub fn answer_plain(
        &self,
        index: &Index,
        place: Place,
        question: Question<'_>,
        reply: &mut Reply,
    ) -> Option<Outcome> {
        let is_common = matches!(question.rtype, rtype::A | rtype::AAAA | rtype::HTTPS);
        if !is_common || !place.is_plain || self.ignore_empty {
            return None;
        }
        let zone = self.zones.at(place.position as usize)?;
        // A plain name begins with the key.
        let key = question.lower.as_bytes().get(..place.key as usize)?;
        let named = zone.realm(index).find_hashed(place.hash, key)?;
        let [a, b, c, d] = named.only_v4?;
        if !index.has_namespace(namespace_label(key)) {
            return None;
        }
        if question.rtype != rtype::A {
            return Some(Outcome::NoData);
        }
        let [l0, l1, l2, l3] = self.ttl.to_be_bytes();
        let to = HEADER_BYTES as u8;
        let record = [0xc0, to, 0, 1, 0, 1, l0, l1, l2, l3, 0, 4, a, b, c, d];
        reply.push_block(Section::Answer, &record, 1).ok()?;
        Some(Outcome::Answer)
    }

    /// Writes a denial: the rcode, and the SOA record of the zone in `position`.
    pub fn deny(
        &self,
        index: &Index,
        position: usize,
        question: Question<'_>,
        rcode: Rcode,
        reply: &mut Reply,
    ) {
        reply.set_rcode(rcode);
        if let Some((apex, zone)) = self.zone_in(position, question.name) {
            // Without room for it the rcode says enough.
            let serial = zone.serial(index);
            let _ = zone.soa.push(Section::Authority, question.name, apex, serial, reply);
        }
    }
}

impl Zone {
    #[inline]
    fn realm<'i>(&self, index: &'i Index) -> &'i Realm {
        if self.is_imported { &index.imported } else { &index.local }
    }

    fn serial(&self, index: &Index) -> u32 {
        match self.is_imported {
            true => index.modified.imported,
            false => index.modified.internal,
        }
    }
}

/// One answer in the making.
struct Answering<'a, 'r> {
    rules: &'a Rules,
    index: &'a Index,
    question: Question<'a>,
    /// The zone in the letters of the question.
    apex: Name<'a>,
    zone: &'a Zone,
    fit: Fit,
    reply: &'r mut Reply,
}

type Written = Result<Outcome, Full>;

impl<'a> Answering<'a, '_> {
    fn any(&mut self) -> Written {
        let Question { lower, rtype, .. } = self.question;
        let is_apex = lower.len() == self.apex.len();
        match rtype {
            rtype::A | rtype::AAAA => self.addresses(),
            rtype::SRV => self.services(),
            rtype::PTR => self.pointers(),
            rtype::TXT => self.text(),
            rtype::SOA if is_apex => {
                let serial = self.zone.serial(self.index);
                let (name, soa) = (self.question.name, &self.zone.soa);
                soa.push(Section::Answer, name, self.apex, serial, self.reply)?;
                Ok(Outcome::Answer)
            }
            // As CoreDNS has it, of any name.
            rtype::SOA => Ok(Outcome::NoData),
            rtype::NS if is_apex => self.servers(),
            rtype::CNAME => self.alias(),
            _ => Ok(self.existence()),
        }
    }

    /// What the question's name means.
    #[inline]
    fn request(&self) -> Request<'a> {
        let lower = self.question.lower;
        let apex = &lower.as_bytes()[lower.len() - self.apex.len()..];
        let apex = Name::from_wire(apex).map_or(Name::ROOT, |(apex, _)| apex);
        Request::read(lower, apex, self.rules.grammar(self.zone))
    }

    /// What stands at the question's name.
    fn found(&self) -> Found<'a, 'a> {
        let is_imported = self.zone.is_imported;
        self.rules.find(self.index, self.request(), is_imported, self.question.lower)
    }

    /// Whether the question's name is that by which CoreDNS names the server of the zone.
    fn is_default_server(&self) -> bool {
        let lower = self.question.lower.as_bytes();
        lower.len() == self.apex.len() + 7 && lower.starts_with(b"\x02ns\x03dns")
    }

    /// For types that nothing here has: whether the name exists.
    fn existence(&self) -> Outcome {
        if self.is_default_server() || self.found().exists() {
            return Outcome::NoData;
        }
        Outcome::NxDomain
    }

    /// TXT: the version of the specification; other names exist without.
    fn text(&mut self) -> Written {
        let lower = self.question.lower.as_bytes();
        if lower.len() == self.apex.len() + 12 && lower.starts_with(b"\x0bdns-version") {
            let name = self.question.name;
            self.reply.push_txt(Section::Answer, name, rclass::IN, VERSION_TTL, [VERSION])?;
            return Ok(Outcome::Answer);
        }
        // As CoreDNS has it, the names that have no records of their own do not exist for TXT.
        Ok(match self.found() {
            Found::Nothing => Outcome::NxDomain,
            found if found.exists() => Outcome::NoData,
            _ => Outcome::NxDomain,
        })
    }

    /// CNAME: of what is another name.
    fn alias(&mut self) -> Written {
        let found = self.found();
        let Some(target) = found.alias() else {
            return Ok(self.existence());
        };
        let (name, ttl) = (self.question.name, self.rules.ttl);
        self.reply.push_name(Section::Answer, name, rtype::CNAME, target, ttl)?;
        Ok(Outcome::Answer)
    }

    fn wants(&self, host: Host<'_>) -> bool {
        is_of(host, self.question.rtype)
    }
}

/// The namespace of a service's key.
#[inline]
fn namespace_label(key: &[u8]) -> &[u8] {
    namespace_of(key).get(1..).unwrap_or_default()
}

/// Whether a host is an address that records of the type hold.
fn is_of(host: Host<'_>, rtype: Rtype) -> bool {
    match host {
        Host::V4(_) => rtype == rtype::A,
        Host::V6(_) => rtype == rtype::AAAA,
        Host::Name(_) => false,
    }
}
