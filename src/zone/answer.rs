//! Answers a question from a zone (RFC 1034 section 4.3.2, RFC 2308, RFC 4592, RFC 6672, RFC 4035
//! section 3.1, RFC 5155 section 7.2).
//!
//! The common case, a name that exists and has records of the type, is one hash look-up and two
//! copies. Nothing here allocates, locks or loops without a bound. What is in the authority and
//! additional sections is what CoreDNS's `file` puts there: the zone's NS records with every
//! positive answer, addresses of MX, SRV, SVCB and HTTPS targets that the zone has.
//!
//! Where an RFC asks for something else than CoreDNS does, it is done: negative TTLs (RFC 2308
//! section 3), no doubled records, proofs for wildcards and insecure delegations, ANY (RFC 8482).

use super::build::strip;
use super::dnssec::Proof;
use super::index::{ALIAS, At, CUT, DNAME, HIDDEN, Node, RRSIG, Set, Spelled, label_starts};
use super::tail::Tail;
use super::zone::{NS, SOA, Zone};
use crate::limits::{ZONE_ADDITIONAL_MAX, ZONE_ALIASES_MAX};
use crate::wire::{
    Full, HEADER_BYTES, Name, NameBuf, Question, Rdata, Reply, Section, rclass, rcode,
};

/// What became of a question. All but `NotInZone`, `Loop` and `TooLong` have written the reply:
/// rcode, AA and records.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// There are records (also: an alias whose target is in the zone, whatever that has).
    Answer,
    /// The name exists, or a wildcard stands for it, but it has no records of the type.
    NoData,
    /// As `NoData`: nothing stands at the name at all, only below it (RFC 8020).
    EmptyNonTerminal,
    /// The name does not exist.
    NxDomain,
    /// A referral to the zone below. AA is off unless an alias stands in the answer section.
    Delegation,
    /// The answer section ends with an alias to `target`, which must be asked from the top, its
    /// answers appended to the answer section; then `Zone::after_chase` writes the rest.
    Chase {
        /// The name to ask for, with the question's type.
        target: NameBuf,
    },
    /// The name is not in this zone. Nothing was written.
    NotInZone,
    /// A DNAME leads to itself: SERVFAIL. What was written is to be thrown away.
    Loop,
    /// The answer has no room in the reply's buffer: it was taken back, and TC is set.
    TooLong,
}

/// What the question that `Outcome::Chase` asked for was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chased {
    /// Records.
    Records,
    /// NOERROR without records.
    NoData,
    /// NXDOMAIN.
    NxDomain,
    /// Nothing, or SERVFAIL.
    Failed,
}

/// Where a name lies in the zone.
pub(super) enum Place<'z> {
    /// It exists (perhaps as an empty non-terminal).
    Exact(Node<'z>),
    /// It is at or below a zone cut.
    Cut(Node<'z>),
    /// It is below a DNAME.
    Dname(Node<'z>),
    /// It does not exist, but this wildcard does, below the closest encloser of that many octets.
    Wild(Node<'z>, usize),
    /// It does not exist; the closest encloser has a prefix of that many octets.
    Missing(usize),
}

const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const DNAME_TYPE: u16 = 39;
const DS: u16 = 43;
const NSEC: u16 = 47;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const ANY: u16 = 255;

/// Two proofs of an answer, one for a wildcard and one for where it leads, have at most this many.
const PROOF_NODES_MAX: usize = 8;

/// One answer in the making.
struct Answering<'z, 'a> {
    zone: &'z Zone,
    question: Question<'a>,
    dnssec_ok: bool,
    /// Whether the question is in lower case: then blocks can be copied as they are.
    plain: bool,
    /// Nodes whose NSEC or NSEC3 records stand in the authority section: 0 or a place.
    proved: [At; PROOF_NODES_MAX],
    /// Where an alias leads that is to be chased.
    target: Option<NameBuf>,
    reply: &'a mut Reply,
}

/// As `Outcome`, without the name: that is in `Answering::target`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answer,
    NoData,
    EmptyNonTerminal,
    NxDomain,
    Delegation,
    Chase,
    Loop,
}

type Written = Result<Kind, Full>;

impl Zone {
    /// Answers `question` into `reply`, which was started with it and is empty otherwise.
    pub fn answer(&self, question: Question<'_>, dnssec_ok: bool, reply: &mut Reply) -> Outcome {
        self.answer_at(0, question, dnssec_ok, reply)
    }

    /// As `answer`; `place` is what this zone's `hint` gave for the question, 0 if it was not asked.
    #[inline]
    pub fn answer_at(
        &self,
        place: u32,
        question: Question<'_>,
        dnssec_ok: bool,
        reply: &mut Reply,
    ) -> Outcome {
        let Some(prefix) = strip(question.lower.as_bytes(), &self.apex) else {
            return Outcome::NotInZone;
        };
        let start = reply.mark();
        let mut answering = Answering::new(self, question, dnssec_ok, reply);
        answering.reply.set_aa(true);
        let written = match self.index.find_at(place, prefix) {
            Some(node) if !node.has(CUT | ALIAS | HIDDEN) => answering.exact(&node),
            _ => answering.elsewhere(prefix),
        };
        match (written, answering.target) {
            (Ok(Kind::Answer), _) => Outcome::Answer,
            (Ok(Kind::NoData), _) => Outcome::NoData,
            (Ok(Kind::EmptyNonTerminal), _) => Outcome::EmptyNonTerminal,
            (Ok(Kind::NxDomain), _) => Outcome::NxDomain,
            (Ok(Kind::Delegation), _) => Outcome::Delegation,
            (Ok(Kind::Chase), Some(target)) => Outcome::Chase { target },
            (Ok(Kind::Chase | Kind::Loop), _) => Outcome::Loop,
            (Err(Full), _) => {
                reply.rewind(start);
                reply.set_flags(reply.flags().with_tc(true));
                Outcome::TooLong
            }
        }
    }

    /// Writes rcode and authority section behind a chased alias, as CoreDNS does: a negative answer
    /// gets the SOA record of *this* zone, any other its NS records.
    pub fn after_chase(
        &self,
        question: Question<'_>,
        dnssec_ok: bool,
        target: Name<'_>,
        chased: Chased,
        reply: &mut Reply,
    ) -> Result<(), Full> {
        let mut answering = Answering::new(self, question, dnssec_ok, reply);
        match chased {
            Chased::Records => answering.authority_ns()?,
            Chased::Failed => {
                answering.reply.set_rcode(rcode::SERVFAIL);
                answering.authority_ns()?;
            }
            Chased::NxDomain | Chased::NoData => {
                if chased == Chased::NxDomain {
                    answering.reply.set_rcode(rcode::NXDOMAIN);
                }
                answering.authority_soa()?;
                let lower = NameBuf::lowered(target);
                if let Some(prefix) = strip(lower.as_name().as_bytes(), &self.apex) {
                    answering.prove_place(prefix)?;
                }
            }
        }
        // The alias itself may have come from a wildcard.
        let Some(name) = strip(question.lower.as_bytes(), &self.apex) else { return Ok(()) };
        match self.locate(name, question.rtype) {
            Place::Wild(_, encloser) => answering.prove(Proof::Wildcard { name, encloser }),
            _ => Ok(()),
        }
    }

    /// The wildcard that an answer for `lower` would be made from (metadata `zone/wildcard`).
    pub fn wildcard(&self, lower: Name<'_>) -> Option<NameBuf> {
        let prefix = strip(lower.as_bytes(), &self.apex)?;
        match self.locate(prefix, A) {
            Place::Wild(node, _) => Some(self.name_of(&node)),
            _ => None,
        }
    }

    /// Where a name lies. Questions for DS are answered above a cut (RFC 4035 section 3.1.4.1).
    pub(super) fn locate(&self, prefix: &[u8], rtype: u16) -> Place<'_> {
        let mut encloser = None;
        match self.index.find(prefix) {
            Some(node) if !node.has(HIDDEN) => {
                let is_cut = node.has(CUT) && rtype != DS;
                return if is_cut { Place::Cut(node) } else { Place::Exact(node) };
            }
            Some(node) => encloser = Some(node),
            None => {
                // Names deeper than any in the zone need not be looked for.
                let labels = label_starts(prefix).count() - 1;
                for at in label_starts(prefix).skip((labels.saturating_sub(self.depth)).max(1)) {
                    encloser = self.index.find(&prefix[at..]);
                    if encloser.is_some() {
                        break;
                    }
                }
            }
        }
        // The apex is a node, so there is always one.
        let Some(encloser) = encloser else { return Place::Missing(0) };
        if encloser.has(CUT | DNAME | HIDDEN) {
            for at in label_starts(prefix).rev() {
                match self.index.find(&prefix[at..]) {
                    Some(node) if node.has(CUT) => return Place::Cut(node),
                    Some(node) if node.has(DNAME) && at > 0 => return Place::Dname(node),
                    _ => {}
                }
            }
        }
        let encloser = encloser.prefix();
        let mut wild = [0u8; 256];
        wild[..2].copy_from_slice(b"\x01*");
        wild[2..2 + encloser.len()].copy_from_slice(encloser);
        match self.index.find(&wild[..2 + encloser.len()]) {
            Some(node) => Place::Wild(node, encloser.len()),
            None => Place::Missing(encloser.len()),
        }
    }
}

impl<'z, 'a> Answering<'z, 'a> {
    fn new(zone: &'z Zone, question: Question<'a>, dnssec_ok: bool, reply: &'a mut Reply) -> Self {
        let plain = question.name.as_bytes() == question.lower.as_bytes();
        Self { zone, question, dnssec_ok, plain, proved: [0; PROOF_NODES_MAX], target: None, reply }
    }

    /// The name exists, nothing is special about it.
    #[inline]
    fn exact(&mut self, node: &Node<'z>) -> Written {
        let Some(set) = node.set(self.question.rtype) else { return self.not_plain(node) };
        if set.rtype == RRSIG {
            return self.not_plain(node);
        }
        if self.plain {
            self.reply.push_block(Section::Answer, set.block, set.records)?;
        } else {
            self.push(Section::Answer, self.question.lower, node, &set)?;
        }
        if self.dnssec_ok {
            self.push_signatures(Section::Answer, self.question.lower, node, set.rtype)?;
        }
        self.behind(node, &set)
    }

    /// Authority and additional section of a positive answer.
    #[inline]
    fn behind(&mut self, node: &Node<'z>, set: &Set<'z>) -> Written {
        let is_apex_ns = set.rtype == NS && node.prefix().is_empty();
        if !is_apex_ns {
            self.authority_ns()?;
        }
        if matches!(set.rtype, MX | SRV | SVCB | HTTPS) || is_apex_ns {
            self.additional(node, set, &[]);
        }
        Ok(Kind::Answer)
    }

    /// ANY, RRSIG, or a type that the name does not have.
    #[cold]
    fn not_plain(&mut self, node: &Node<'z>) -> Written {
        let owner = self.question.lower;
        match self.question.rtype {
            RRSIG if node.set(RRSIG).is_some() => {
                for set in node.sets().filter(|set| set.rtype == RRSIG) {
                    self.push(Section::Answer, owner, node, &set)?;
                }
                self.authority_ns()?;
                Ok(Kind::Answer)
            }
            // One record set is an answer (RFC 8482 section 4.1).
            ANY if node.sets().next().is_some() => {
                let set = node.sets().find(|set| set.rtype != RRSIG).or(node.set(RRSIG));
                let Some(set) = set else { return Ok(Kind::NoData) };
                self.push(Section::Answer, owner, node, &set)?;
                if self.dnssec_ok {
                    self.push_signatures(Section::Answer, owner, node, set.rtype)?;
                }
                self.behind(node, &set)
            }
            _ => {
                self.authority_soa()?;
                self.prove(Proof::NoData { name: node.prefix() })?;
                let is_empty = node.sets().next().is_none();
                Ok(if is_empty { Kind::EmptyNonTerminal } else { Kind::NoData })
            }
        }
    }

    /// Everything but a plain name that exists.
    fn elsewhere(&mut self, prefix: &[u8]) -> Written {
        let owner = NameBuf::lowered(self.question.lower);
        match self.zone.locate(prefix, self.question.rtype) {
            Place::Exact(node) if self.is_followed(&node) => {
                let target = self.push_alias(&node, owner.as_name())?;
                self.follow(target, Some(node.at))
            }
            Place::Exact(node) => self.exact(&node),
            Place::Cut(node) => self.delegation(&node),
            Place::Dname(node) => self.dname(&node, prefix),
            Place::Wild(node, encloser) => self.wild(&node, prefix, encloser),
            Place::Missing(encloser) => {
                self.reply.set_rcode(rcode::NXDOMAIN);
                self.authority_soa()?;
                self.prove(Proof::NxDomain { name: prefix, encloser })?;
                Ok(Kind::NxDomain)
            }
        }
    }

    /// Whether the node's CNAME leads on, rather than being what was asked for.
    fn is_followed(&self, node: &Node<'z>) -> bool {
        let is_own = match self.question.rtype {
            CNAME | ANY => true,
            // Beside a CNAME there may be these (RFC 4034 section 4), and here the zone's own.
            NSEC | RRSIG | SOA | NS => self.has_type(node),
            _ => false,
        };
        node.has(ALIAS) && !is_own
    }

    fn has_type(&self, node: &Node<'z>) -> bool {
        node.set(self.question.rtype).is_some()
    }

    /// Writes the node's CNAME (and signature); gives its target in lower case.
    fn push_alias(&mut self, node: &Node<'z>, owner: Name<'_>) -> Result<NameBuf, Full> {
        let mut target = NameBuf::root();
        if let Some(set) = node.set(CNAME) {
            self.push(Section::Answer, owner, node, &set)?;
            target = self.target(node, &set);
        }
        if self.dnssec_ok {
            self.push_signatures(Section::Answer, owner, node, CNAME)?;
        }
        Ok(target)
    }

    /// The alias is to be chased.
    fn chase(&mut self, target: NameBuf) -> Written {
        self.target = Some(target);
        Ok(Kind::Chase)
    }

    /// The name that the first record of a CNAME or DNAME set leads to, in lower case.
    fn target(&self, node: &Node<'z>, set: &Set<'z>) -> NameBuf {
        let mut room = Spelled::new();
        let record = set.records().next();
        let rdata = record.as_ref().map(|r| r.rdata(set, self.zone.owner(node), &mut room));
        let name = rdata.and_then(|rdata| Name::from_wire(rdata).ok());
        name.map_or(NameBuf::root(), |(name, _)| NameBuf::lowered(name))
    }

    /// An alias leads to `target`: goes on while that is a name of this zone (RFC 1034 section
    /// 3.6.2), at most `ZONE_ALIASES_MAX` aliases and no alias twice.
    fn follow(&mut self, mut target: NameBuf, first: Option<At>) -> Written {
        let mut seen = [0; ZONE_ALIASES_MAX];
        seen[0] = first.unwrap_or(0);
        for count in 1..=ZONE_ALIASES_MAX {
            let Some(prefix) = strip(target.as_name().as_bytes(), &self.zone.apex) else {
                return self.chase(target);
            };
            let node = match self.zone.locate(prefix, self.question.rtype) {
                Place::Exact(node) => node,
                Place::Cut(node) => return self.delegation(&node),
                // As in CoreDNS, whatever else may know the name has its turn first.
                _ => return self.chase(target),
            };
            if !self.is_followed(&node) {
                return self.end_of_chain(&node, &target);
            }
            if count == ZONE_ALIASES_MAX || seen[..count].contains(&node.at) {
                break;
            }
            seen[count] = node.at;
            target = self.push_alias(&node, target.as_name())?;
        }
        self.authority_ns()?;
        Ok(Kind::Answer)
    }

    fn end_of_chain(&mut self, node: &Node<'z>, name: &NameBuf) -> Written {
        let found = match self.question.rtype {
            ANY => node.sets().find(|set| set.rtype != RRSIG),
            rtype => node.set(rtype),
        };
        if let Some(set) = found {
            self.push(Section::Answer, name.as_name(), node, &set)?;
            if self.dnssec_ok {
                self.push_signatures(Section::Answer, name.as_name(), node, set.rtype)?;
            }
            self.authority_ns()?;
            self.additional(node, &set, &[]);
            return Ok(Kind::Answer);
        }
        // CoreDNS has NS records here unless nothing at all stands at the name, or it is those that
        // are asked for. A validator needs the SOA and a proof (RFC 4035 section 3.1.3.1).
        let is_empty = node.sets().next().is_none() || self.question.rtype == NS;
        if is_empty || self.dnssec_ok && self.zone.is_signed() {
            self.authority_soa()?;
            self.prove(Proof::NoData { name: node.prefix() })?;
        } else {
            self.authority_ns()?;
        }
        Ok(Kind::Answer)
    }

    /// A referral (RFC 1034 section 4.3.2 step 3b).
    fn delegation(&mut self, node: &Node<'z>) -> Written {
        if self.reply.counts().answer == 0 {
            self.reply.set_aa(false);
        }
        let Some(set) = node.set(NS) else { return Ok(Kind::Delegation) };
        let owner = self.zone.name_of(node);
        self.push(Section::Authority, owner.as_name(), node, &set)?;
        if self.dnssec_ok {
            if let Some(ds) = node.set(DS) {
                self.push(Section::Authority, owner.as_name(), node, &ds)?;
                self.push_signatures(Section::Authority, owner.as_name(), node, DS)?;
            } else {
                // RFC 4035 section 3.1.4: proof that there is no DS.
                self.prove(Proof::NoData { name: node.prefix() })?;
            }
        }
        self.additional(node, &set, node.prefix());
        Ok(Kind::Delegation)
    }

    /// Below a DNAME: the record, a CNAME made from it, and what that leads to (RFC 6672 section 3).
    fn dname(&mut self, node: &Node<'z>, prefix: &[u8]) -> Written {
        let Some(set) = node.set(DNAME_TYPE) else { return Ok(Kind::Loop) };
        let owner = self.zone.name_of(node);
        self.push(Section::Answer, owner.as_name(), node, &set)?;
        if self.dnssec_ok {
            self.push_signatures(Section::Answer, owner.as_name(), node, DNAME_TYPE)?;
        }
        let to = self.target(node, &set);
        let left = &prefix[..prefix.len() - node.prefix().len()];
        let Ok(target) = NameBuf::join(left, to.as_name()) else {
            // RFC 6672 section 2.2: the name would be too long.
            self.reply.set_rcode(rcode::YXDOMAIN);
            return Ok(Kind::Answer);
        };
        if target.as_name() == self.question.lower {
            return Ok(Kind::Loop);
        }
        let (lower, ttl) = (self.question.lower, set.ttl());
        self.reply.push_name(Section::Answer, lower, CNAME, target.as_name(), ttl)?;
        if matches!(self.question.rtype, CNAME | ANY) {
            self.authority_ns()?;
            return Ok(Kind::Answer);
        }
        self.follow(target, None)
    }

    /// A wildcard stands for the name (RFC 4592 section 3.3).
    fn wild(&mut self, node: &Node<'z>, prefix: &[u8], encloser: usize) -> Written {
        let owner = self.question.lower;
        let proof = Proof::Wildcard { name: prefix, encloser };
        if self.is_followed(node) {
            let target = self.push_alias(node, owner)?;
            let outcome = self.follow(target, Some(node.at))?;
            if outcome != Kind::Chase {
                self.prove_if_room(proof);
            }
            return Ok(outcome);
        }
        let found = match self.question.rtype {
            ANY => node.sets().find(|set| set.rtype != RRSIG),
            rtype => node.set(rtype),
        };
        let Some(set) = found else {
            self.authority_soa()?;
            self.prove(Proof::WildcardNoData { name: prefix, encloser })?;
            return Ok(Kind::NoData);
        };
        self.push(Section::Answer, owner, node, &set)?;
        if self.dnssec_ok {
            self.push_signatures(Section::Answer, owner, node, set.rtype)?;
        }
        self.authority_ns()?;
        self.prove(proof)?;
        if matches!(set.rtype, MX | SRV | SVCB | HTTPS) {
            self.additional(node, &set, &[]);
        }
        Ok(Kind::Answer)
    }

    /// Writes a set record by record under any name, in any place.
    fn push(
        &mut self,
        section: Section,
        owner: Name<'_>,
        node: &Node<'z>,
        set: &Set<'z>,
    ) -> Result<(), Full> {
        let mut room = Spelled::new();
        for record in set.records() {
            let rdata = record.rdata(set, self.zone.owner(node), &mut room);
            let rdata = Rdata::Wire(rdata);
            self.reply.push(section, owner, set.rtype, rclass::IN, record.ttl, rdata)?;
        }
        Ok(())
    }

    /// Writes the signatures over a type, if the node has them.
    fn push_signatures(
        &mut self,
        section: Section,
        owner: Name<'_>,
        node: &Node<'z>,
        covered: u16,
    ) -> Result<(), Full> {
        match node.signatures(covered) {
            Some(set) => self.push(section, owner, node, &set),
            None => Ok(()),
        }
    }

    /// The zone's NS records.
    #[inline]
    fn authority_ns(&mut self) -> Result<(), Full> {
        let zone = self.zone;
        self.push_tail(&zone.ns, NS)?;
        if self.dnssec_ok {
            self.push_tail(&zone.ns_signatures, RRSIG)?;
        }
        Ok(())
    }

    /// The SOA record with the TTL of negative answers (RFC 2308 section 3).
    fn authority_soa(&mut self) -> Result<(), Full> {
        let zone = self.zone;
        self.push_tail(&zone.negative, SOA)?;
        if self.dnssec_ok {
            self.push_tail(&zone.negative_signatures, RRSIG)?;
        }
        Ok(())
    }

    /// `rtype` is what the tail holds.
    #[inline]
    fn push_tail(&mut self, tail: &Tail, rtype: u16) -> Result<(), Full> {
        if tail.records == 0 {
            return Ok(());
        }
        if !self.plain || !tail.fits(self.reply.len()) {
            return self.push_tail_slowly(tail, rtype);
        }
        let name = self.question.lower.as_bytes().len();
        let apex_at = HEADER_BYTES + name - self.zone.apex.len();
        let bytes = tail.bytes();
        self.reply.push_block_with(Section::Authority, bytes, tail.records, |block, at| {
            tail.point(block, apex_at, at);
        })
    }

    #[cold]
    fn push_tail_slowly(&mut self, tail: &Tail, rtype: u16) -> Result<(), Full> {
        let Some(node) = self.zone.index.find(&[]) else { return Ok(()) };
        let set = match rtype {
            RRSIG => node.signatures(tail.covers),
            rtype => node.set(rtype),
        };
        let Some(set) = set else { return Ok(()) };
        let apex = self.zone.apex();
        let mut room = Spelled::new();
        for record in set.records() {
            let rdata = Rdata::Wire(record.rdata(&set, self.zone.owner(&node), &mut room));
            let ttl = tail.ttl.unwrap_or(record.ttl);
            self.reply.push(Section::Authority, apex, set.rtype, rclass::IN, ttl, rdata)?;
        }
        Ok(())
    }

    /// Addresses, if the zone has them, of the names that a set leads to and that lie under `above`.
    /// What has no room is left out: it is optional.
    fn additional(&mut self, node: &Node<'z>, set: &Set<'z>, above: &[u8]) {
        let before = match set.rtype {
            NS => 0,
            MX | SVCB | HTTPS => 2,
            SRV => 6,
            _ => return,
        };
        let mut seen = [0; ZONE_ADDITIONAL_MAX];
        let mut count = 0;
        let mut room = Spelled::new();
        for record in set.records() {
            let rdata = record.rdata(set, self.zone.owner(node), &mut room);
            let name = rdata.get(before..).and_then(|name| Name::from_wire(name).ok());
            let Some((name, _)) = name else { continue };
            let name = NameBuf::lowered(name);
            let prefix = strip(name.as_name().as_bytes(), &self.zone.apex);
            let Some(prefix) = prefix.filter(|prefix| is_below(prefix, above)) else { continue };
            let Some(target) = self.zone.index.find(prefix) else { continue };
            if seen[..count].contains(&target.at) {
                continue;
            }
            if count == seen.len() {
                return;
            }
            seen[count] = target.at;
            count += 1;
            for rtype in [A, AAAA] {
                let mark = self.reply.mark();
                if self.push_addresses(&name, &target, rtype).is_err() {
                    self.reply.rewind(mark);
                    return;
                }
            }
        }
    }

    fn push_addresses(&mut self, name: &NameBuf, node: &Node<'z>, rtype: u16) -> Result<(), Full> {
        let Some(set) = node.set(rtype) else { return Ok(()) };
        self.push(Section::Additional, name.as_name(), node, &set)?;
        if self.dnssec_ok {
            self.push_signatures(Section::Additional, name.as_name(), node, rtype)?;
        }
        Ok(())
    }

    /// Writes the NSEC or NSEC3 records that prove something, if they were asked for.
    fn prove(&mut self, proof: Proof<'_>) -> Result<(), Full> {
        if !self.dnssec_ok {
            return Ok(());
        }
        for node in self.zone.denial.gather(self.zone, proof).nodes() {
            if self.proved.contains(&node) {
                continue;
            }
            if let Some(free) = self.proved.iter_mut().find(|at| **at == 0) {
                *free = node;
            }
            let node = self.zone.index.node(node);
            let owner = self.zone.name_of(&node);
            let rtype = self.zone.denial.rtype();
            let Some(set) = node.set(rtype) else { continue };
            self.push(Section::Authority, owner.as_name(), &node, &set)?;
            self.push_signatures(Section::Authority, owner.as_name(), &node, rtype)?;
        }
        Ok(())
    }

    /// As `prove`, behind an answer that may already have an additional section.
    fn prove_if_room(&mut self, proof: Proof<'_>) {
        if self.reply.counts().additional == 0 {
            let mark = self.reply.mark();
            if self.prove(proof).is_err() {
                self.reply.rewind(mark);
            }
        }
    }

    /// Proves of a chased name in this zone that it, or its type, does not exist.
    fn prove_place(&mut self, prefix: &[u8]) -> Result<(), Full> {
        match self.zone.locate(prefix, self.question.rtype) {
            Place::Exact(node) => self.prove(Proof::NoData { name: node.prefix() }),
            Place::Wild(_, encloser) => {
                self.prove(Proof::WildcardNoData { name: prefix, encloser })
            }
            Place::Missing(encloser) => self.prove(Proof::NxDomain { name: prefix, encloser }),
            Place::Cut(_) | Place::Dname(_) => Ok(()),
        }
    }
}

/// Whether a prefix is another one or lies below it.
fn is_below(prefix: &[u8], above: &[u8]) -> bool {
    prefix.ends_with(above) && label_starts(prefix).any(|at| at == prefix.len() - above.len())
}
