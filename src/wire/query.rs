//! Reads a query in place: what the one gate needs to know of it.
//!
//! [`parse_query`] judges a message as CoreDNS's header filter does and then reads it whole:
//! nothing is copied, nothing allocated, no count is trusted. Order of judgement: not a query
//! (silence), opcode (NOTIMP), counts (FORMERR), form (FORMERR), EDNS version (BADVERS).
//! A query without records but OPT costs one pass over its octets.
//!
//! RFC 1035 section 4.1, RFC 6891 section 6, RFC 8945 section 5.1. As CoreDNS does, octets after
//! the message are ignored, records that the counts promise may be missing at the end, and a
//! message that is only a header or whose question ends after its name is let through (the gate
//! answers SERVFAIL or REFUSED to such). Unlike CoreDNS, a question with a compression pointer,
//! a second OPT and an OPT with an owner are FORMERR (RFC 6891 sections 6.1.1 and 6.1.2), and so is
//! a TSIG record that is malformed or not the last of all (RFC 8945 section 5.1).

use super::error::WireError;
use super::header::{Counts, Flags, HEADER_BYTES};
use super::name::{Name, walk_name};
use super::number::{Rclass, Rtype, edns, opcode, rtype};
use super::rdata::check_rdata;
use super::record::{Cursor, Record, Section};
use super::tsig::read_tsig;
use crate::limits::MESSAGE_BYTES_MAX;

/// A query, as offsets into its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryView {
    /// Message id.
    pub id: u16,
    /// Flags.
    pub flags: Flags,
    /// Counts as the header has them.
    pub counts: Counts,
    /// The question; none if the message is only a header.
    pub question: Option<QuestionAt>,
    /// The OPT record.
    pub opt: Option<OptView>,
    /// Where the TSIG record starts, if the last record is one (RFC 8945 section 5.1).
    pub tsig_at: Option<u16>,
    /// Where the last record ends.
    pub end: u16,
}

/// A question of a query. Its name always starts after the header and is not compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionAt {
    /// Where the name starts: 12.
    pub name_at: u16,
    /// Octets of the name.
    pub name_len: u8,
    /// The type; 0 if the message ends before it.
    pub rtype: Rtype,
    /// The class; 0 if the message ends before it.
    pub rclass: Rclass,
    /// Where the question ends.
    pub end: u16,
}

impl QuestionAt {
    /// The name, out of the very message that the question was read from: it is not read again.
    #[inline]
    pub fn name<'m>(&self, message: &'m [u8]) -> Name<'m> {
        let start = self.name_at as usize;
        message.get(start..start + self.name_len as usize).map_or(Name::ROOT, Name::trusted)
    }
}

/// An OPT record (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptView {
    /// UDP payload size in octets, as it was sent.
    pub udp_size: u16,
    /// The high eight bits of the rcode.
    pub ext_rcode: u8,
    /// EDNS version.
    pub version: u8,
    /// Flags: DO is 0x8000.
    pub flags: u16,
    /// Where the options start.
    pub options_at: u16,
    /// Octets of options.
    pub options_len: u16,
}

impl OptView {
    /// DO: the sender wants DNSSEC records (RFC 3225).
    pub const DO: u16 = 0x8000;

    /// Whether the DO bit is set.
    #[inline]
    pub const fn dnssec_ok(&self) -> bool {
        self.flags & Self::DO != 0
    }

    /// The options in wire form, out of the message that this was read from.
    #[inline]
    pub fn options<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        let start = self.options_at as usize;
        message.get(start..start + self.options_len as usize).unwrap_or_default()
    }

    /// What an OPT record says. Offsets of a record in a message of at most 65,535 octets.
    pub(super) const fn of(record: &Record) -> Self {
        Self {
            udp_size: record.rclass,
            ext_rcode: (record.ttl >> 24) as u8,
            version: (record.ttl >> 16) as u8,
            flags: record.ttl as u16,
            options_at: record.rdata_at as u16,
            options_len: record.rdata_len as u16,
        }
    }
}

/// Why a message is not served, and so what it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: it is a response, or too short to say whose answer it would be.
    Silent,
    /// FORMERR.
    FormErr,
    /// NOTIMP.
    NotImp,
    /// BADVERS (RFC 6891 section 6.1.3).
    BadVers,
}

/// Reads a query.
///
/// # Errors
/// What the message is to be answered instead.
#[inline]
pub fn parse_query(message: &[u8]) -> Result<QueryView, Refusal> {
    let counts = filter_header(message)?;
    let mut view = QueryView {
        id: u16::from_be_bytes([message[0], message[1]]),
        flags: Flags::read(message),
        counts,
        question: None,
        opt: None,
        tsig_at: None,
        end: HEADER_BYTES as u16,
    };
    if message.len() == HEADER_BYTES {
        return Ok(view);
    }
    let question = read_question(message).ok_or(Refusal::FormErr)?;
    view.question = Some(question);
    view.end = question.end;
    if counts.records() != 0 {
        read_records(message, &mut view).map_err(|_| Refusal::FormErr)?;
    }
    match view.opt {
        Some(opt) if opt.version != 0 => Err(Refusal::BadVers),
        _ => Ok(view),
    }
}

/// Where the question of a refused message ends, if the refusal echoes it: its header passed, and
/// its question could be read whole.
pub fn question_end(message: &[u8]) -> Option<usize> {
    filter_header(message).ok()?;
    let question = read_question(message)?;
    let whole = question.name_at as usize + question.name_len as usize + 4;
    (question.end as usize == whole).then_some(whole)
}

/// What the header alone decides.
#[inline]
fn filter_header(message: &[u8]) -> Result<Counts, Refusal> {
    let flags = Flags::read(message);
    if message.len() < HEADER_BYTES || flags.qr() {
        return Err(Refusal::Silent);
    }
    if !matches!(flags.opcode(), opcode::QUERY | opcode::NOTIFY) {
        return Err(Refusal::NotImp);
    }
    let counts = Counts::read(message);
    // NOTIFY may carry a SOA as its answer (RFC 1996 section 3.7), IXFR one in authority
    // (RFC 1995 section 3), everyone OPT and TSIG in additional.
    let fits = counts.question == 1
        && counts.answer <= 1
        && counts.authority <= 1
        && counts.additional <= 2
        && message.len() <= MESSAGE_BYTES_MAX;
    if fits { Ok(counts) } else { Err(Refusal::FormErr) }
}

#[inline]
fn read_question(message: &[u8]) -> Option<QuestionAt> {
    let (name, rest) = Name::from_wire(message.get(HEADER_BYTES..)?).ok()?;
    let (rtype, rclass, octets) = match *rest {
        [t1, t2, c1, c2, ..] => (u16::from_be_bytes([t1, t2]), u16::from_be_bytes([c1, c2]), 4),
        [t1, t2] => (u16::from_be_bytes([t1, t2]), 0, 2),
        [] => (0, 0, 0),
        _ => return None,
    };
    Some(QuestionAt {
        name_at: HEADER_BYTES as u16,
        name_len: name.len() as u8,
        rtype,
        rclass,
        end: (HEADER_BYTES + name.len() + octets) as u16,
    })
}

#[inline]
fn read_records(message: &[u8], view: &mut QueryView) -> Result<(), WireError> {
    let mut cursor = Cursor::after_question(view.end as usize, view.counts);
    while let Some(record) = cursor.next(message)? {
        view.end = record.end() as u16;
        if view.tsig_at.is_some() {
            // TSIG is the last record, and the only one (RFC 8945 section 5.1).
            return Err(WireError::Rdata);
        }
        let additional = record.section == Section::Additional;
        match record.rtype {
            rtype::OPT if additional => {
                if view.opt.is_some() || message[record.at] != 0 {
                    return Err(WireError::Rdata);
                }
                if !options_valid(record.rdata(message)) {
                    return Err(WireError::Rdata);
                }
                view.opt = Some(OptView::of(&record));
            }
            rtype => {
                walk_name(message, record.at, |_| Ok(()))?;
                // Records without RDATA are those of updates and of some NOTIFYs.
                if record.rdata_len != 0 {
                    check_rdata(message, rtype, record.rdata_at, record.end())?;
                }
                if rtype == rtype::TSIG {
                    if !additional {
                        return Err(WireError::Rdata);
                    }
                    read_tsig(message, record.at)?;
                    view.tsig_at = Some(record.at as u16);
                }
            }
        }
    }
    Ok(())
}

/// The EDNS options in an OPT record's RDATA: code and data; stops at what is not one.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let ([c1, c2, l1, l2], rest) = self.0.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(u16::from_be_bytes([*l1, *l2]) as usize)?;
        self.0 = rest;
        Some((u16::from_be_bytes([*c1, *c2]), data))
    }
}

/// The EDNS options in `bytes`.
#[inline]
pub fn options(bytes: &[u8]) -> Options<'_> {
    Options(bytes)
}

/// Whether `bytes` are whole options, and those with a fixed form have it.
#[inline]
pub fn options_valid(bytes: &[u8]) -> bool {
    let mut all = options(bytes);
    all.by_ref().all(|(code, data)| option_valid(code, data)) && all.0.is_empty()
}

fn option_valid(code: u16, data: &[u8]) -> bool {
    match code {
        edns::LLQ => data.len() >= 18,
        edns::UL => matches!(data.len(), 4 | 8),
        // RFC 7871 section 6; family 0 is what dig sends for a prefix of length 0.
        edns::SUBNET => match *data {
            [0, 0, source, _, ..] => source == 0,
            [0, 1, source, scope, ..] => source <= 32 && scope <= 32,
            [0, 2, source, scope, ..] => source <= 128 && scope <= 128,
            _ => false,
        },
        edns::EXPIRE => data.is_empty() || data.len() >= 4,
        edns::KEEPALIVE => matches!(data.len(), 0 | 2),
        edns::EDE | edns::ZONEVERSION => data.len() >= 2,
        edns::REPORTING => Name::from_wire(data).is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x01a\x07example\x03org\0";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        counts.iter().for_each(|count| bytes.extend(count.to_be_bytes()));
        parts.iter().for_each(|part| bytes.extend(*part));
        bytes
    }

    fn with_opt(opt: &[u8]) -> Vec<u8> {
        message(0x0100, [1, 0, 0, 1], &[NAME, b"\0\x10\0\x01", opt])
    }

    #[test]
    fn a_plain_query_is_read() {
        let bytes = message(0x0110, [1, 0, 0, 1], &[NAME, b"\0\x1c\0\x01", OPT]);
        let view = parse_query(&bytes).expect("a query");
        let question = view.question.expect("a question");
        assert_eq!((view.id, view.flags.rd(), view.flags.cd()), (0x1234, true, true));
        assert_eq!((question.rtype, question.rclass, question.end), (28, 1, 31));
        assert_eq!(question.name(&bytes).to_string(), "a.example.org.");
        let opt = view.opt.expect("an OPT");
        assert_eq!((opt.udp_size, opt.version, opt.dnssec_ok()), (1232, 0, true));
        assert_eq!(view.end as usize, bytes.len());
        assert_eq!(view.tsig_at, None);
    }

    #[test]
    fn the_header_is_judged_first() {
        let ask: &[&[u8]] = &[NAME, b"\0\x01\0\x01"];
        let one = [1, 0, 0, 0];
        assert_eq!(parse_query(&[0; 11]), Err(Refusal::Silent));
        assert_eq!(parse_query(&message(0x8000, one, ask)), Err(Refusal::Silent));
        assert_eq!(parse_query(&message(0x2800, one, ask)), Err(Refusal::NotImp));
        assert_eq!(parse_query(&message(0x2800, [0; 4], &[])), Err(Refusal::NotImp));
        assert!(parse_query(&message(0x2000, one, ask)).is_ok(), "NOTIFY");
        for counts in [[0, 0, 0, 0], [2, 0, 0, 0], [1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 3]] {
            let bytes = message(0, counts, ask);
            assert_eq!(parse_query(&bytes), Err(Refusal::FormErr), "{counts:?}");
            assert_eq!(question_end(&bytes), None);
        }
    }

    /// What a lying or cut message comes to, as CoreDNS has it.
    #[test]
    fn short_messages_are_read_as_far_as_they_go() {
        let header = message(0, [1, 0, 0, 0], &[]);
        assert_eq!(parse_query(&header).map(|view| view.question), Ok(None));
        let question = |parts: &[&[u8]]| {
            let view = parse_query(&message(0, [1, 0, 0, 0], parts))?;
            Ok(view.question.map(|question| (question.rtype, question.rclass)))
        };
        assert_eq!(question(&[NAME]), Ok(Some((0, 0))));
        assert_eq!(question(&[NAME, b"\0\x01"]), Ok(Some((1, 0))));
        assert_eq!(question(&[NAME, b"\0"]), Err(Refusal::FormErr));
        assert_eq!(question(&[NAME, b"\0\x01\0"]), Err(Refusal::FormErr));
        assert_eq!(question(&[NAME, b"\0\x01\0\x01garbage"]), Ok(Some((1, 1))));
        assert_eq!(question_end(&message(0, [1, 0, 0, 0], &[NAME])), None);
        let promised = message(0, [1, 1, 1, 2], &[NAME, b"\0\x01\0\x01"]);
        assert!(parse_query(&promised).is_ok());
        let cut = message(0, [1, 1, 0, 0], &[NAME, b"\0\x01\0\x01", &OPT[..9]]);
        assert_eq!(parse_query(&cut), Err(Refusal::FormErr));
        assert_eq!(question_end(&cut), Some(31));
    }

    #[test]
    fn opt_is_judged() {
        assert!(parse_query(&with_opt(OPT)).is_ok());
        assert_eq!(
            parse_query(&with_opt(b"\0\0\x29\x04\xd0\0\x01\0\0\0\0")),
            Err(Refusal::BadVers)
        );
        let twice = message(0, [1, 0, 0, 2], &[NAME, b"\0\x01\0\x01", OPT, OPT]);
        assert_eq!(parse_query(&twice), Err(Refusal::FormErr));
        let named = message(0, [1, 0, 0, 1], &[NAME, b"\0\x01\0\x01\x01x", OPT]);
        assert_eq!(parse_query(&named), Err(Refusal::FormErr));
        // In another section it is not what RFC 6891 is about.
        let answer = message(0, [1, 1, 0, 0], &[NAME, b"\0\x01\0\x01", OPT]);
        assert_eq!(parse_query(&answer).map(|view| view.opt), Ok(None));
        for options in [&b"\0\x03\0\xff"[..], b"\0\x03\0", b"\0\x08\0\x04\0\x09\x18\0"] {
            let mut opt = OPT.to_vec();
            opt[10] = options.len() as u8;
            opt.extend(options);
            assert_eq!(parse_query(&with_opt(&opt)), Err(Refusal::FormErr));
        }
        let mut lying = OPT.to_vec();
        lying[10] = 0xff;
        assert_eq!(parse_query(&with_opt(&lying)), Err(Refusal::FormErr));
    }

    #[test]
    fn only_a_last_tsig_is_one() {
        let tsig = b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let rdata_len = (tsig.len() - 13) as u8;
        let mut tsig = tsig.to_vec();
        tsig[12] = rdata_len;
        let last = message(0, [1, 0, 0, 2], &[NAME, b"\0\x01\0\x01", OPT, &tsig]);
        assert_eq!(parse_query(&last).map(|view| view.tsig_at), Ok(Some(42)));
        let first = message(0, [1, 0, 0, 2], &[NAME, b"\0\x01\0\x01", &tsig, OPT]);
        assert_eq!(parse_query(&first), Err(Refusal::FormErr));
        let twice = message(0, [1, 0, 0, 2], &[NAME, b"\0\x01\0\x01", &tsig, &tsig]);
        assert_eq!(parse_query(&twice), Err(Refusal::FormErr));
        let answer = message(0, [1, 1, 0, 0], &[NAME, b"\0\x01\0\x01", &tsig]);
        assert_eq!(parse_query(&answer), Err(Refusal::FormErr));
        for (at, octet) in [(6, 1), (7, 1), (12, 0), (22, 1)] {
            let mut bad = tsig.clone();
            bad[at] = octet;
            let bad = message(0, [1, 0, 0, 1], &[NAME, b"\0\x01\0\x01", &bad]);
            assert_eq!(parse_query(&bad), Err(Refusal::FormErr), "{at}");
        }
    }

    #[test]
    fn options_stop_at_garbage() {
        let bytes = b"\0\x03\0\x01x\0\x0a\0\0\0\x05\0\x09";
        let all: Vec<_> = options(bytes).collect();
        assert_eq!(all, [(3, &b"x"[..]), (10, &b""[..])]);
        assert!(!options_valid(bytes) && options_valid(&bytes[..9]) && options_valid(b""));
    }
}
