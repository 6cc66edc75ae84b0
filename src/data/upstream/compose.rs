//! The query to an upstream, and whether what comes back is its reply.
//!
//! A query is composed from the level's question and its `Asked` as it stands: RD, AD, CD and opcode,
//! and OPT where there was one, with the options that came in the request. Where the question is the
//! client's, the records of its answer and authority sections go with it: the SOA of an IXFR (RFC 1995
//! section 3) or of a NOTIFY (RFC 1996 section 3.7). Over UDP the letters of
//! the name get a random case, which a reply has to repeat: some further bits for who forges to
//! guess (draft-vixie-dnsext-dns0x20). Of the question that was sent only two keyed hashes are kept,
//! of its octets and of its lower-cased octets: 16 octets a query instead of 260. A forger who knows
//! neither the key nor a hash finds no second question with the same hash.
//!
//! Guarantees: [`judge`] takes a message for the reply only if QR and opcode are right and its one
//! question is the query's (RFC 5452 section 9.1); it reads nothing behind the question. Cost: one pass
//! over the question each way, no allocation once the buffer has its size.

use std::hash::BuildHasher;

use crate::data::chain::Level;
use crate::wire::{Counts, Flags, HEADER_BYTES, Name, Section, records, rtype, skip_name};

/// The key of fingerprints, each its own.
pub type Keys = foldhash::quality::RandomState;

/// What is remembered of a question that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    exact: u64,
    folded: u64,
    opcode: u8,
}

/// What a message with the id of a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The reply.
    Reply,
    /// The reply, but for the case of the name.
    CaseLost,
    /// A message about something else.
    Other,
    /// No message.
    Garbage,
}

/// Appends the query for the level's question; the name's letters get the case that the bits of
/// `mix` say, or keep theirs.
pub fn compose(
    level: &Level,
    request: &[u8],
    id: u16,
    mix: Option<u64>,
    keys: &Keys,
    out: &mut Vec<u8>,
) -> Fingerprint {
    let asked = &level.asked;
    let flags = Flags::default()
        .with_opcode(asked.flags.opcode())
        .with_aa(asked.flags.aa())
        .with_rd(asked.flags.rd())
        .with_ra(asked.flags.ra())
        .with_ad(asked.flags.ad())
        .with_cd(asked.flags.cd());
    let question = level.question();
    let (answer, authority, brought) = brought(question.name, request);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.0.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, answer, 0, authority, 0, u8::from(asked.edns)]);
    let start = out.len();
    out.extend_from_slice(question.name.as_bytes());
    if let Some(mix) = mix {
        mix_case(&mut out[start..], mix);
    }
    out.extend_from_slice(&question.rtype.to_be_bytes());
    out.extend_from_slice(&question.rclass.to_be_bytes());
    let print = Fingerprint {
        exact: keys.hash_one(&out[start..]),
        // Type and class are not letters: they are hashed apart from the name.
        folded: keys.hash_one((question.lower.as_bytes(), &out[out.len() - 4..])),
        opcode: asked.flags.opcode(),
    };
    out.extend_from_slice(brought);
    if asked.edns {
        let at = asked.options_at as usize;
        let options = request.get(at..at + asked.options_len as usize).unwrap_or_default();
        let [s1, s2] = asked.udp_size.to_be_bytes();
        let [l1, l2] = (options.len() as u16).to_be_bytes();
        let flags = if asked.dnssec_ok { 0x80 } else { 0 };
        out.extend_from_slice(&[0, 0, rtype::OPT as u8, s1, s2, 0, 0, flags, 0, l1, l2]);
        out.extend_from_slice(options);
    }
    print
}

/// What the client sent with its question, if that is of this name: how many records for the answer and
/// the authority section, and their octets. What their names point to stands where it stood.
fn brought<'r>(name: Name<'_>, request: &'r [u8]) -> (u8, u8, &'r [u8]) {
    const NOTHING: (u8, u8, &[u8]) = (0, 0, &[]);
    let counts = Counts::read(request);
    // The gate lets one of each through.
    if request.len() < HEADER_BYTES || counts.answer == 0 && counts.authority == 0 {
        return NOTHING;
    }
    let start = HEADER_BYTES + name.as_bytes().len() + 4;
    let asked = request.get(HEADER_BYTES..start - 4);
    if !asked.is_some_and(|asked| asked.eq_ignore_ascii_case(name.as_bytes())) {
        return NOTHING;
    }
    let (mut answer, mut authority, mut end) = (0, 0, start);
    let found = records(request).into_iter().flatten().flatten();
    for record in found.take_while(|record| record.section != Section::Additional) {
        match record.section {
            Section::Answer => answer += 1,
            _ => authority += 1,
        }
        end = record.rdata_at + record.rdata_len;
    }
    request.get(start..end).map_or(NOTHING, |octets| (answer, authority, octets))
}

/// Gives the letters of a name in wire form the case that `mix` says. A length is never a letter: it
/// is at most 63.
fn mix_case(name: &mut [u8], mut mix: u64) {
    for octet in name.iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
        *octet = *octet & !0x20 | (mix as u8 & 1) << 5;
        mix = mix.rotate_right(1);
    }
}

/// What is remembered of a question in wire form: a name, type and class.
pub fn fingerprint(question: &[u8], opcode: u8, keys: &Keys) -> Fingerprint {
    Fingerprint { exact: keys.hash_one(question), folded: folded(question, keys), opcode }
}

/// Hashes a question without regard to its letters' case.
fn folded(question: &[u8], keys: &Keys) -> u64 {
    let mut lower = [0; 260];
    let lower = &mut lower[..question.len().min(260)];
    lower.copy_from_slice(&question[..lower.len()]);
    let (name, rest) = lower.split_at_mut(lower.len().saturating_sub(4));
    name.make_ascii_lowercase();
    keys.hash_one((&*name, &*rest))
}

/// Judges a message whose id is that of the query which `print` is of.
pub fn judge(message: &[u8], print: &Fingerprint, keys: &Keys) -> Judged {
    let flags = Flags::read(message);
    if message.len() < HEADER_BYTES {
        return Judged::Garbage;
    }
    if !flags.qr() || flags.opcode() != print.opcode || Counts::read(message).question != 1 {
        return Judged::Other;
    }
    let Some(question) = question_of(message) else { return Judged::Garbage };
    if keys.hash_one(question) == print.exact {
        return Judged::Reply;
    }
    match folded(question, keys) == print.folded {
        true => Judged::CaseLost,
        false => Judged::Other,
    }
}

/// The octets of a message's first question; its name must not be compressed.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let (name, rest) = Name::from_wire(message.get(HEADER_BYTES..)?).ok()?;
    rest.get(3)?;
    message.get(HEADER_BYTES..HEADER_BYTES + name.as_bytes().len() + 4)
}

/// Leaves of a reply that was cut off only its header and question, with TC: the rest has to be asked
/// for by TCP. The message was judged to be a reply. Gives its octets.
pub fn cut_short(message: &mut [u8]) -> usize {
    let Some(end) = question_of(message).map(|question| HEADER_BYTES + question.len()) else {
        return 0;
    };
    message[2] |= 2;
    message[6..HEADER_BYTES].fill(0);
    end
}

/// Gives a reply the letter case of the question as it was asked, where names in it are the question's
/// as it was sent. The message was judged to be a reply to a question of this name.
pub fn restore_case(message: &mut [u8], name: Name<'_>) {
    let name = name.as_bytes();
    let end = HEADER_BYTES + name.len();
    let Some(question) = message.get_mut(HEADER_BYTES..end) else { return };
    if question == name {
        return;
    }
    let mut sent = [0; 255];
    let sent = &mut sent[..name.len()];
    sent.copy_from_slice(question);
    question.copy_from_slice(name);
    // Who does not compress repeats the question's name as the owner of records.
    let mut at = end + 4;
    for _ in 0..Counts::read(message).records() {
        match message.get_mut(at..at + name.len()) {
            Some(owner) if owner == sent => owner.copy_from_slice(name),
            _ => {}
        }
        let Ok(fixed) = skip_name(message, at) else { return };
        let Some(&[high, low]) = message.get(fixed + 8..fixed + 10) else { return };
        at = fixed + 10 + usize::from(u16::from_be_bytes([high, low]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chain::Asked;
    use crate::wire::NameBuf;

    fn question(name: &str) -> Vec<u8> {
        let mut octets = NameBuf::parse(name).expect("a name").as_name().as_bytes().to_vec();
        octets.extend([0, 1, 0, 1]);
        octets
    }

    fn reply(question: &[u8], flags: u16) -> Vec<u8> {
        let mut message = vec![0, 7];
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(question);
        message
    }

    #[test]
    fn only_the_question_that_was_sent_is_replied_to() {
        let keys = Keys::default();
        let sent = question("wWw.ExAmple.org.");
        let print = fingerprint(&sent, 0, &keys);
        let judged = |message: &[u8]| judge(message, &print, &keys);
        assert_eq!(judged(&reply(&sent, 0x8180)), Judged::Reply);
        assert_eq!(judged(&reply(&question("www.example.org."), 0x8180)), Judged::CaseLost);
        assert_eq!(judged(&reply(&question("www.example.com."), 0x8180)), Judged::Other);
        assert_eq!(judged(&reply(&sent, 0x0180)), Judged::Other, "no QR");
        assert_eq!(judged(&reply(&sent, 0xa180)), Judged::Other, "another opcode");
        let mut other = sent.clone();
        *other.last_mut().expect("a class") = 3;
        assert_eq!(judged(&reply(&other, 0x8180)), Judged::Other, "another class");
        let mut two = reply(&sent, 0x8180);
        two[5] = 2;
        assert_eq!(judged(&two), Judged::Other, "two questions");
        for cut in 0..reply(&sent, 0x8180).len() {
            let got = judged(&reply(&sent, 0x8180)[..cut]);
            assert_eq!(got, Judged::Garbage, "{cut} octets");
        }
    }

    #[test]
    fn the_case_is_random_and_comes_back() {
        let mut name = question("www.example.org.");
        mix_case(&mut name, 0b1010_0110);
        let text = String::from_utf8_lossy(&name).into_owned();
        assert!(text.contains("WwwExampleorg") || text.to_ascii_lowercase() != text, "{text}");
        // The owner of the first record is written out, that of the second points to the question.
        let mut message = reply(&name, 0x8180);
        message[7] = 2;
        for owner in [&name[..name.len() - 4], &[0xc0, 12]] {
            message.extend(owner);
            message.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
        let asked = NameBuf::parse("www.EXAMPLE.org.").expect("a name");
        restore_case(&mut message, asked.as_name());
        let records = crate::wire::records(&message).expect("a message");
        let owners: Vec<_> = records.map(|one| one.unwrap().owner(&message).unwrap()).collect();
        assert_eq!(owners.len(), 2);
        for owner in owners {
            assert_eq!(owner.as_name().as_bytes(), asked.as_name().as_bytes());
        }
    }

    #[test]
    fn what_is_composed_is_remembered_as_it_was_sent() {
        let keys = Keys::default();
        let mut level = Level::new(vec![0; 512].into_boxed_slice());
        let name = NameBuf::parse("wWw.Example.org.").expect("a name");
        level.open(name.as_name(), 1, 1, Default::default());
        for mix in [None, Some(0x5a5a_a5a5)] {
            let mut out = Vec::new();
            let print = compose(&level, &[], 7, mix, &keys, &mut out);
            let question = question_of(&out).expect("a question");
            assert_eq!(print, fingerprint(question, 0, &keys));
        }
    }

    #[test]
    fn flags_go_as_the_plugins_left_them() {
        let mut level = Level::new(vec![0; 512].into_boxed_slice());
        let name = NameBuf::parse("example.org.").expect("a name");
        let flags = Flags::default().with_aa(true).with_ra(true).with_cd(true);
        level.open(name.as_name(), 1, 1, Asked { flags, ..Asked::default() });
        let mut out = Vec::new();
        compose(&level, &[], 7, None, &Keys::default(), &mut out);
        assert_eq!(Flags::read(&out), flags);
    }

    #[test]
    fn what_came_with_the_question_goes_with_it() {
        let name = NameBuf::parse("Example.org.").expect("a name");
        let mut request = reply(&question("example.org."), 0);
        assert_eq!(brought(name.as_name(), &request), (0, 0, &[][..]));
        (request[9], request[11]) = (1, 1);
        let start = request.len();
        request.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 2, 7, 7]);
        let end = request.len();
        request.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert_eq!(brought(name.as_name(), &request), (0, 1, &request[start..end]));
        (request[7], request[9], request[11]) = (1, 0, 0);
        assert_eq!(brought(name.as_name(), &request).0, 1, "of a NOTIFY");
        let other = NameBuf::parse("other.org.").expect("a name");
        assert_eq!(brought(other.as_name(), &request), (0, 0, &[][..]), "another question");
        assert_eq!(brought(name.as_name(), &request[..start]), (0, 0, &[][..]), "promised only");
        assert_eq!(brought(name.as_name(), &[]), (0, 0, &[][..]));
    }

    #[test]
    fn what_was_cut_is_truncated() {
        let sent = question("a.example.");
        let mut message = reply(&sent, 0x8180);
        message[7] = 9;
        message.extend([1, 2, 3]);
        let len = cut_short(&mut message);
        assert_eq!(&message[..len], &reply(&sent, 0x8380)[..]);
    }
}
