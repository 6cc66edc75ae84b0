//! The form of RDATA: which octets of a record are names.
//!
//! One table says for each known type how its RDATA is put together; everything that reads, checks
//! or copies RDATA follows it. A type that is not listed is opaque (RFC 3597 section 3). Names may
//! be compressed on writing only in the types of RFC 1035 and are decompressed on reading in all
//! listed ones (RFC 3597 section 4). A walk costs one pass and allocates nothing.

use super::error::WireError;
use super::name::walk_name;
use super::number::{Rtype, rtype};

/// A part of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// So many octets.
    Octets(usize),
    /// A name that may be compressed.
    Name,
    /// A name that is written in full.
    PlainName,
    /// A character string: a length octet and so many octets (RFC 1035 section 3.3).
    Text,
    /// Character strings up to the end.
    Texts,
    /// Whatever is left.
    Rest,
}

/// How the RDATA of a type is put together. Only `Texts` and `Rest` may be empty, and stand last.
pub const fn rdata_names(rtype: Rtype) -> &'static [Field] {
    use Field::{Name, Octets, PlainName, Rest, Text, Texts};
    match rtype {
        rtype::A => &[Octets(4)],
        rtype::AAAA => &[Octets(16)],
        rtype::NS
        | rtype::MD
        | rtype::MF
        | rtype::CNAME
        | rtype::MB
        | rtype::MG
        | rtype::MR
        | rtype::PTR => &[Name],
        rtype::SOA => &[Name, Name, Octets(20)],
        rtype::MINFO => &[Name, Name],
        rtype::MX => &[Octets(2), Name],
        rtype::TXT | rtype::SPF | rtype::NINFO | rtype::AVC | rtype::RESINFO => &[Texts],
        rtype::HINFO => &[Text, Text],
        rtype::RP | rtype::TALINK => &[PlainName, PlainName],
        rtype::AFSDB | rtype::RT | rtype::KX | rtype::LP => &[Octets(2), PlainName],
        rtype::NSAP_PTR | rtype::DNAME => &[PlainName],
        rtype::SIG | rtype::RRSIG => &[Octets(18), PlainName, Rest],
        rtype::PX => &[Octets(2), PlainName, PlainName],
        rtype::NXT | rtype::NSEC => &[PlainName, Rest],
        rtype::SRV => &[Octets(6), PlainName],
        rtype::NAPTR => &[Octets(4), Text, Text, Text, PlainName],
        rtype::DS | rtype::CDS | rtype::DNSKEY | rtype::CDNSKEY | rtype::KEY => &[Octets(4), Rest],
        rtype::SVCB | rtype::HTTPS => &[Octets(2), PlainName, Rest],
        rtype::CAA => &[Octets(1), Text, Rest],
        rtype::TSIG => &[PlainName, Octets(10), Rest],
        rtype::EUI48 => &[Octets(6)],
        rtype::EUI64 => &[Octets(8)],
        rtype::L32 => &[Octets(6)],
        rtype::NID | rtype::L64 => &[Octets(10)],
        _ => &[Rest],
    }
}

/// Where a field of RDATA ends that starts at `at`; `end` is where the RDATA ends.
#[inline]
pub(super) fn field_end(
    message: &[u8],
    field: Field,
    at: usize,
    end: usize,
) -> Result<usize, WireError> {
    let after = match field {
        Field::Octets(count) => at + count,
        Field::Name | Field::PlainName => walk_name(message, at, |_| Ok(()))?,
        Field::Text if at < end => at + 1 + message[at] as usize,
        Field::Text => return Err(WireError::Rdata),
        Field::Texts => {
            let mut at = at;
            while at < end {
                at += 1 + message[at] as usize;
            }
            at
        }
        Field::Rest => end,
    };
    if after > end { Err(WireError::Rdata) } else { Ok(after) }
}

/// Checks that `message[at..end]` is RDATA of the form that `rtype` prescribes.
///
/// # Errors
/// It is not, or a name in it is not valid.
pub(super) fn check_rdata(
    message: &[u8],
    rtype: Rtype,
    at: usize,
    end: usize,
) -> Result<(), WireError> {
    let mut at = at;
    for &field in rdata_names(rtype) {
        at = field_end(message, field, at, end)?;
    }
    if at == end { Ok(()) } else { Err(WireError::Rdata) }
}
