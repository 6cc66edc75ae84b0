//! What kind of reply it is, whether it may be stored, and for how long.
//!
//! Kinds are CoreDNS's (`pkg/response`), since lives and TTLs that clients see follow from them. An
//! alias that does not lead to what was asked for is a denial if a SOA bounds it, and is not stored
//! otherwise (RFC 2308 sections 2.2 and 5). One walk of the records, and one for each alias.

use crate::data::clock;
use crate::limits::CACHE_ALIASES_MAX;
use crate::wire::{Counts, Flags, NameBuf, Question, Record, Reply, Section, rclass, rcode, rtype};

/// Life in seconds of what names no TTL of its own.
const LIFE_SECONDS: u32 = 5;
/// TTLs from here on have the sign bit, and count as zero (RFC 2181 section 8).
const TTL_SIGN: u32 = 1 << 31;

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer.
    Answer,
    /// The name exists, what was asked for does not.
    NoData,
    /// The name does not exist.
    NameError,
    /// SERVFAIL or NOTIMP.
    ServerError,
    /// A referral.
    Delegation,
    /// Anything else.
    Other,
}

/// What a look at a reply has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// Whether it holds the record that was asked for; only looked for where `deep` was said.
    pub answers: bool,
    /// Whether it may be stored at all.
    pub storable: bool,
    /// The least TTL; none: it has no records.
    ttl: Option<u32>,
    /// Whether all records have that TTL.
    level: bool,
}

impl Seen {
    /// Looks at a reply. `deep`: it may be stored, so that aliases are followed in any case.
    pub fn of(question: Question<'_>, reply: &Reply, dnssec_ok: bool, deep: bool) -> Self {
        let counts = reply.counts();
        let (mut soa, mut delegates, mut expired) = (false, false, false);
        let (mut ttl, mut level) = (None, true);
        for record in reply.records().flatten() {
            let own = if record.ttl >= TTL_SIGN { 0 } else { record.ttl };
            let least = ttl.unwrap_or(own);
            level &= own == least && own == record.ttl;
            ttl = Some(least.min(own));
            let authority = record.section == Section::Authority;
            soa |= authority && record.rtype == rtype::SOA;
            delegates |= authority && record.rtype == rtype::NS;
            expired |= dnssec_ok && record.rtype == rtype::RRSIG && is_expired(&record, reply);
        }
        let rcode = reply.rcode();
        let has_answer = counts.answer > 0;
        let answers = has_answer
            && rcode == rcode::NOERROR
            && (deep || soa)
            && answers_question(question, reply);
        let kind = match rcode {
            _ if matches!(question.rtype, rtype::AXFR | rtype::IXFR) || expired => Kind::Other,
            rcode::NOERROR if has_answer && soa && !answers => Kind::NoData,
            rcode::NOERROR if has_answer => Kind::Answer,
            rcode::NXDOMAIN if has_answer => Kind::Other,
            rcode::NOERROR if soa => Kind::NoData,
            rcode::NXDOMAIN => Kind::NameError,
            rcode::SERVFAIL | rcode::NOTIMP => Kind::ServerError,
            rcode::NOERROR if delegates => Kind::Delegation,
            rcode::NOERROR => Kind::Answer,
            _ => Kind::Other,
        };
        let bounded = match kind {
            Kind::Other => false,
            Kind::NameError => soa,
            // An answer that is none, and no SOA that says for how long.
            Kind::Answer => answers || !has_answer,
            _ => true,
        };
        Self { kind, answers, storable: bounded && !reply.flags().tc(), ttl, level }
    }

    /// Seconds that it may live, by its records: at most `most`.
    pub fn life(&self, most: u32) -> u32 {
        match (self.kind, self.ttl) {
            (Kind::Answer | Kind::NameError | Kind::NoData, Some(ttl)) => ttl.min(most),
            _ => LIFE_SECONDS,
        }
    }

    /// Whether all records have this TTL already.
    pub fn has_ttl(&self, ttl: u32) -> bool {
        self.level && self.ttl.is_none_or(|least| least == ttl)
    }

    /// Whether it says that something does not exist, or that it cannot be told.
    pub fn is_denial(&self) -> bool {
        matches!(self.kind, Kind::NameError | Kind::NoData | Kind::ServerError)
    }
}

/// Whether a signature is not valid now (RFC 4034 section 3.1.5, serial number arithmetic).
fn is_expired(record: &Record, reply: &Reply) -> bool {
    let now = clock::unix_seconds() as u32;
    let number = |at: usize| {
        let octets = record.rdata(reply.bytes()).get(at..at + 4)?;
        Some(u32::from_be_bytes(*octets.first_chunk()?))
    };
    let (Some(end), Some(start)) = (number(8), number(12)) else { return true };
    (end.wrapping_sub(now) as i32) < 0 || (now.wrapping_sub(start) as i32) < 0
}

/// Whether the answer section holds a record of the type that was asked for, at the name that the
/// aliases from the question lead to (RFC 1034 section 3.6.2).
fn answers_question(question: Question<'_>, reply: &Reply) -> bool {
    let is_class = |record: &Record| {
        matches!(question.rclass, rclass::ANY) || record.rclass == question.rclass
    };
    let answers = || {
        let records = reply.records().flatten();
        records.filter(|record| record.section == Section::Answer && is_class(record))
    };
    let at = |record: &Record, name: &NameBuf| {
        record.owner(reply.bytes()).is_ok_and(|owner| owner.as_name().eq_fold(name.as_name()))
    };
    let mut name = NameBuf::from(question.name);
    if question.rtype == rtype::ANY {
        return answers().any(|record| at(&record, &name));
    }
    // The one target of a name's alias; `Err`: it has several (RFC 2181 section 10.1).
    let target = |name: &NameBuf| {
        let mut found: Option<NameBuf> = None;
        for record in answers().filter(|record| record.rtype == rtype::CNAME && at(record, name)) {
            let next = record.rdata_name(reply.bytes(), 0).map_err(|_| ())?;
            if found.is_some_and(|found| !found.as_name().eq_fold(next.as_name())) {
                return Err(());
            }
            found = Some(next);
        }
        Ok(found)
    };
    if question.rtype == rtype::CNAME {
        return matches!(target(&name), Ok(Some(_)));
    }
    for _ in 0..CACHE_ALIASES_MAX {
        match target(&name) {
            Ok(Some(next)) => name = next,
            Ok(None) => {
                return answers()
                    .any(|record| record.rtype == question.rtype && at(&record, &name));
            }
            Err(()) => return false,
        }
    }
    false
}

/// Whether a reply is one to this question.
pub fn is_reply_to(question: Question<'_>, message: &[u8]) -> bool {
    let single = Counts::read(message).question == 1;
    Flags::read(message).qr() && single && is_question_of(question, message)
}

/// Whether a message's first question is this one.
pub fn is_question_of(question: Question<'_>, message: &[u8]) -> bool {
    let name = question.name.as_bytes();
    let at = crate::wire::HEADER_BYTES;
    let end = at + name.len();
    let [t1, t2] = question.rtype.to_be_bytes();
    let [c1, c2] = question.rclass.to_be_bytes();
    // Most ask in the letters of who asked first.
    message.get(at..end).is_some_and(|own| own == name || own.eq_ignore_ascii_case(name))
        && message.get(end..end + 4) == Some(&[t1, t2, c1, c2])
}
