//! RDATA from presentation form: one table that says of every record type which fields it has.
//!
//! Adding a type is adding a line to `LAYOUTS`. The same table checks RDATA that was given as
//! octets (RFC 3597 section 5, or records from elsewhere). Names come out in lower case where
//! CoreDNS makes them so and DNSSEC's canonical form allows it (RFC 4034 section 6.2), else as
//! written. Types without a line take only the generic form `\# LENGTH HEX`.
//! Cost: no allocation beyond the output for everything in common use.

use super::lex::{Fault, Lexer, Token, Word, escaped, unescape};
use super::rare;
use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};
use crate::wire::rtype;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One field of RDATA. "Rest" fields take all words that are left and stand last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Ip4,
    Ip6,
    U8,
    U16,
    U32,
    /// 32 bits, units allowed (`1h30m`).
    Ttl,
    /// 32 bits, seconds since 1970 or `YYYYMMDDHHmmSS` (RFC 4034 section 3.2).
    Time,
    /// A type by its mnemonic.
    Type,
    /// A DNSSEC algorithm, a number or a mnemonic.
    Algorithm,
    /// A certificate type, a number or a mnemonic (RFC 4398 section 2.1).
    CertType,
    /// A name, case as written.
    Name,
    /// A name, in lower case.
    LowerName,
    /// A <character-string>.
    Str,
    /// A <character-string> that may be missing, then empty.
    StrOrEmpty,
    /// One or more <character-string>s; what is longer than 255 octets is cut into several.
    Strs,
    /// A word without its own length (URI, CAA).
    Bytes,
    /// Hexadecimal digits with their length before them; `-` is none (NSEC3).
    Salt,
    /// Base 32 with extended hex alphabet and its length before it (NSEC3).
    Hash,
    /// Rest, hexadecimal.
    Hex,
    /// Rest, base 64.
    Base64,
    /// Rest, a type bitmap (RFC 4034 section 4.1.2).
    Types,
    /// Two-digit hexadecimal octets with dashes.
    Eui(usize),
    /// Four groups of hexadecimal digits with colons (RFC 6742).
    Locator,
    /// Rest, in a notation of its own.
    Own(rare::Notation),
}

#[derive(Debug)]
pub(super) struct Layout {
    pub rtype: u16,
    pub mnemonic: &'static str,
    pub fields: &'static [(&'static str, Field)],
}

use Field::*;

const DS: &[(&str, Field)] =
    &[("KeyTag", U16), ("Algorithm", Algorithm), ("DigestType", U8), ("Digest", Hex)];
const KEY: &[(&str, Field)] =
    &[("Flags", U16), ("Protocol", U8), ("Algorithm", Algorithm), ("PublicKey", Base64)];
const SIG: &[(&str, Field)] = &[
    ("Typecovered", Type),
    ("Algorithm", Algorithm),
    ("Labels", U8),
    ("OrigTtl", Ttl),
    ("Expiration", Time),
    ("Inception", Time),
    ("KeyTag", U16),
    ("SignerName", LowerName),
    ("Signature", Base64),
];
const TLSA: &[(&str, Field)] =
    &[("Usage", U8), ("Selector", U8), ("MatchingType", U8), ("Certificate", Hex)];
const SVCB: &[(&str, Field)] =
    &[("Priority", U16), ("Target", Name), ("Value", Own(rare::Notation::SvcParams))];
const TXT: &[(&str, Field)] = &[("Txt", Strs)];

macro_rules! layouts {
    ($($rtype:literal $mnemonic:literal $fields:expr;)*) => {
        &[$(Layout { rtype: $rtype, mnemonic: $mnemonic, fields: $fields }),*]
    };
}

/// Every type with a presentation form of its own, common ones first.
#[rustfmt::skip]
pub(super) const LAYOUTS: &[Layout] = layouts! {
    1 "A" &[("A", Ip4)];
    28 "AAAA" &[("AAAA", Ip6)];
    5 "CNAME" &[("Target", LowerName)];
    16 "TXT" TXT;
    12 "PTR" &[("Ptr", Name)];
    33 "SRV" &[("Priority", U16), ("Weight", U16), ("Port", U16), ("Target", Name)];
    15 "MX" &[("Pref", U16), ("Mx", LowerName)];
    2 "NS" &[("Ns", LowerName)];
    46 "RRSIG" SIG;
    47 "NSEC" &[("NextDomain", Name), ("TypeBitMap", Types)];
    50 "NSEC3" &[("Hash", U8), ("Flags", U8), ("Iterations", U16), ("Salt", Salt),
        ("NextDomain", Hash), ("TypeBitMap", Types)];
    43 "DS" DS;
    6 "SOA" &[("Ns", LowerName), ("Mbox", LowerName), ("zone parameter", U32),
        ("zone parameter", Ttl), ("zone parameter", Ttl), ("zone parameter", Ttl),
        ("zone parameter", Ttl)];
    65 "HTTPS" SVCB;
    64 "SVCB" SVCB;
    257 "CAA" &[("Flag", U8), ("Tag", Str), ("Value", Bytes)];
    39 "DNAME" &[("Target", Name)];
    48 "DNSKEY" KEY;
    52 "TLSA" TLSA;
    44 "SSHFP" &[("Algorithm", U8), ("Type", U8), ("Fingerprint", Hex)];
    35 "NAPTR" &[("Order", U16), ("Preference", U16), ("Flags", Str), ("Service", Str),
        ("Regexp", Str), ("Replacement", Name)];
    51 "NSEC3PARAM" &[("Hash", U8), ("Flags", U8), ("Iterations", U16), ("Salt", Salt)];
    59 "CDS" DS;
    60 "CDNSKEY" KEY;
    3 "MD" &[("Md", Name)];
    4 "MF" &[("Mf", Name)];
    7 "MB" &[("Mb", Name)];
    8 "MG" &[("Mg", Name)];
    9 "MR" &[("Mr", Name)];
    13 "HINFO" &[("Fields", Str), ("Fields", StrOrEmpty)];
    14 "MINFO" &[("Rmail", Name), ("Email", Name)];
    17 "RP" &[("Mbox", Name), ("Txt", Name)];
    18 "AFSDB" &[("Subtype", U16), ("Hostname", Name)];
    19 "X25" &[("PSDNAddress", Str)];
    20 "ISDN" &[("Fields", Str), ("Fields", StrOrEmpty)];
    21 "RT" &[("Preference", U16), ("Host", Name)];
    23 "NSAP-PTR" &[("Ptr", Name)];
    24 "SIG" SIG;
    25 "KEY" KEY;
    26 "PX" &[("Preference", U16), ("Map822", Name), ("Mapx400", Name)];
    27 "GPOS" &[("Longitude", Str), ("Latitude", Str), ("Altitude", Str)];
    29 "LOC" &[("Location", Own(rare::Notation::Location))];
    36 "KX" &[("Pref", U16), ("Exchanger", Name)];
    37 "CERT" &[("Type", CertType), ("KeyTag", U16), ("Algorithm", Algorithm),
        ("Certificate", Base64)];
    42 "APL" &[("Prefixes", Own(rare::Notation::Prefixes))];
    45 "IPSECKEY" &[("value", U8), ("gateway", Own(rare::Notation::IpsecGateway))];
    49 "DHCID" &[("Digest", Base64)];
    53 "SMIMEA" TLSA;
    55 "HIP" &[("Hit", Own(rare::Notation::HostIdentity))];
    56 "NINFO" TXT;
    57 "RKEY" KEY;
    58 "TALINK" &[("PreviousName", Name), ("NextName", Name)];
    61 "OPENPGPKEY" &[("PublicKey", Base64)];
    62 "CSYNC" &[("serial", U32), ("flags", U16), ("TypeBitMap", Types)];
    63 "ZONEMD" &[("Serial", U32), ("Scheme", U8), ("Hash Algorithm", U8), ("Digest", Hex)];
    99 "SPF" TXT;
    101 "UID" &[("Uid", U32)];
    102 "GID" &[("Gid", U32)];
    104 "NID" &[("Preference", U16), ("NodeID", Locator)];
    105 "L32" &[("Preference", U16), ("Locator", Ip4)];
    106 "L64" &[("Preference", U16), ("Locator", Locator)];
    107 "LP" &[("Preference", U16), ("Fqdn", Name)];
    108 "EUI48" &[("Address", Eui(6))];
    109 "EUI64" &[("Address", Eui(8))];
    256 "URI" &[("Priority", U16), ("Weight", U16), ("Target", Bytes)];
    258 "AVC" TXT;
    260 "AMTRELAY" &[("value", U8), ("discovery value", Own(rare::Notation::AmtRelay))];
    261 "RESINFO" TXT;
    32768 "TA" DS;
    32769 "DLV" DS;
};

/// The layout of a type, if it has one.
pub(super) fn layout(rtype: u16) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|l| l.rtype == rtype)
}

/// A type by its mnemonic or as `TYPE123`, in any case.
pub(super) fn parse_type(text: &[u8]) -> Option<u16> {
    let known = LAYOUTS.iter().find(|l| l.mnemonic.as_bytes().eq_ignore_ascii_case(text));
    known.map(|l| l.rtype).or_else(|| rtype::parse(std::str::from_utf8(text).ok()?))
}

/// What becomes of the case of names that CoreDNS makes lower case when it loads a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Kept,
    Lower,
}

/// Reads the RDATA of a record of type `rtype` up to the end of its entry, and appends it to `out`.
pub(super) fn parse(
    lexer: &mut Lexer<'_>,
    rtype: u16,
    origin: &[u8],
    case: Case,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let generic = {
        let mut ahead = lexer.clone();
        matches!(ahead.next(), Ok(Token::Word(w)) if w.text == b"\\#" && !w.quoted)
    };
    match layout(rtype) {
        Some(layout) if !generic => {
            let mut read = Fields { lexer, origin, case, out, mnemonic: layout.mnemonic };
            for &(what, field) in layout.fields {
                read.field(what, field)?;
            }
            lexer.end()
        }
        _ => parse_generic(lexer, rtype, out),
    }
}

/// `\# LENGTH HEX…` (RFC 3597 section 5).
fn parse_generic(lexer: &mut Lexer<'_>, rtype: u16, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mark = lexer.word("bad RFC3597 Rdata")?;
    if mark.text != b"\\#" {
        return Err(Fault::new("unknown RR type", &mark));
    }
    let length = lexer.word("bad RFC3597 Rdata")?;
    let start = out.len();
    let mut read = Fields { lexer, origin: &[], case: Case::Kept, out, mnemonic: "RFC3597" };
    read.field("Rdata", Hex)?;
    let octets = &out[start..];
    if number(length.text, u32::from(u16::MAX)) != Some(octets.len() as u32) {
        return Err(Fault::new("bad RFC3597 Rdata", &length));
    }
    if !is_valid(rtype, octets) {
        return Err(Fault::new("bad RFC3597 Rdata for its type", &mark));
    }
    Ok(())
}

/// A decimal number of at most `max`.
pub(super) fn number(text: &[u8], max: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &octet in text {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
        if value > u64::from(max) {
            return None;
        }
    }
    Some(value as u32)
}

/// A TTL: seconds, or numbers with the units s, m, h, d and w.
pub(super) fn ttl(text: &[u8]) -> Option<u32> {
    let (mut sum, mut value): (u64, u64) = (0, 0);
    for &octet in text {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                value = value * 10 + u64::from(digit - b'0');
                if value > u64::from(u32::MAX) {
                    return None;
                }
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        sum += value * unit;
        value = 0;
        if sum > u64::from(u32::MAX) {
            return None;
        }
    }
    u32::try_from(sum + value).ok().filter(|_| !text.is_empty())
}

/// Appends the name that `text` stands for, in wire form. `origin` is in wire form; empty is none.
pub(super) fn name(text: &[u8], origin: &[u8], lower: bool, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut absolute = false;
    if text == b"." {
        out.push(0);
        return Some(());
    }
    if text != b"@" {
        let mut label = start;
        out.push(0);
        let mut at = 0;
        while let Some(&octet) = text.get(at) {
            at += 1;
            if octet == b'.' {
                close_label(out, label)?;
                label = out.len();
                out.push(0);
                absolute = at == text.len();
                continue;
            }
            if octet == b'\\' {
                let (octet, used) = escaped(&text[at..])?;
                out.push(octet);
                at += used;
            } else {
                out.push(octet);
            }
        }
        if !absolute {
            close_label(out, label)?;
        }
    }
    if !absolute {
        // The root as an origin is one octet; no origin at all is none.
        (!origin.is_empty()).then(|| out.extend_from_slice(origin))?;
    }
    if lower {
        out[start..].make_ascii_lowercase();
    }
    (out.len() - start <= NAME_BYTES_MAX).then_some(())
}

fn close_label(out: &mut [u8], label: usize) -> Option<()> {
    let length = out.len() - label - 1;
    (1..=LABEL_BYTES_MAX).contains(&length).then(|| out[label] = length as u8)
}

/// Digits of `bits` bits each (16, 32 or 64 values), with padding taken off; None on any other.
pub(super) fn digits(text: &[u8], bits: u32, out: &mut Vec<u8>) -> Option<()> {
    let (mut held, mut have) = (0u32, 0);
    for &octet in text {
        let value = match (octet, bits) {
            (b'0'..=b'9', 4 | 5) => octet - b'0',
            (b'a'..=b'f', 4) | (b'a'..=b'v', 5) => octet - b'a' + 10,
            (b'A'..=b'F', 4) | (b'A'..=b'V', 5) => octet - b'A' + 10,
            (b'A'..=b'Z', 6) => octet - b'A',
            (b'a'..=b'z', 6) => octet - b'a' + 26,
            (b'0'..=b'9', 6) => octet - b'0' + 52,
            (b'+', 6) => 62,
            (b'/', 6) => 63,
            _ => return None,
        };
        held = (held << bits | u32::from(value)) & 0x7fff;
        have += bits;
        if have >= 8 {
            have -= 8;
            out.push((held >> have) as u8);
        }
    }
    // What is left over is padding: never a whole digit.
    (have < bits).then_some(())
}

/// Reads the fields of one record.
pub(super) struct Fields<'l, 'a, 'o> {
    pub lexer: &'l mut Lexer<'a>,
    pub origin: &'o [u8],
    pub case: Case,
    pub out: &'o mut Vec<u8>,
    pub mnemonic: &'static str,
}

impl<'a> Fields<'_, 'a, '_> {
    /// The fault of a field.
    pub fn bad(&self, what: &str, word: &Word<'_>) -> Fault {
        Fault::new(format!("bad {} {what}", self.mnemonic), word)
    }

    /// The next word, which must be there.
    pub fn word(&mut self, what: &str) -> Result<Word<'a>, Fault> {
        let here = self.lexer.here();
        match self.lexer.next()? {
            Token::Word(word) => Ok(word),
            Token::End => Err(self.bad(what, &here)),
        }
    }

    /// Reads one field.
    pub fn field(&mut self, what: &'static str, field: Field) -> Result<(), Fault> {
        match field {
            Strs => return self.strings(what),
            Hex => return self.joined(what, 4),
            Base64 => return self.joined(what, 6),
            Types => return self.types(what),
            Own(notation) => return notation.parse(self, what),
            StrOrEmpty => {
                let mut ahead = self.lexer.clone();
                if matches!(ahead.next(), Ok(Token::End)) {
                    self.out.push(0);
                    return Ok(());
                }
            }
            _ => {}
        }
        let word = self.word(what)?;
        self.single(field, word.text).ok_or_else(|| self.bad(what, &word))
    }

    /// A field of one word.
    fn single(&mut self, field: Field, text: &[u8]) -> Option<()> {
        let out = &mut *self.out;
        match field {
            Ip4 => out.extend_from_slice(&ipv4(text)?.octets()),
            Ip6 => {
                let address: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
                out.extend_from_slice(&address.octets());
            }
            U8 => out.push(number(text, 255)? as u8),
            U16 => out.extend_from_slice(&(number(text, 65_535)? as u16).to_be_bytes()),
            U32 => out.extend_from_slice(&number(text, u32::MAX)?.to_be_bytes()),
            Ttl => out.extend_from_slice(&ttl(text)?.to_be_bytes()),
            Time => out.extend_from_slice(&time(text)?.to_be_bytes()),
            Type => out.extend_from_slice(&parse_type(text)?.to_be_bytes()),
            Algorithm => out.push(coded(text, ALGORITHMS, 255)? as u8),
            CertType => out.extend_from_slice(&coded(text, CERT_TYPES, 65_535)?.to_be_bytes()),
            Name => name(text, self.origin, false, out)?,
            LowerName => name(text, self.origin, self.case == Case::Lower, out)?,
            Str | StrOrEmpty => {
                let at = out.len();
                out.push(0);
                unescape(text, out)?;
                out[at] = u8::try_from(out.len() - at - 1).ok()?;
            }
            Bytes => unescape(text, out)?,
            Salt | Hash => {
                let at = out.len();
                out.push(0);
                if text != b"-" || field == Hash {
                    digits(text, if field == Salt { 4 } else { 5 }, out)?;
                }
                out[at] = u8::try_from(out.len() - at - 1).ok()?;
            }
            Eui(octets) => eui(text, octets, out)?,
            Locator => locator(text, out)?,
            Strs | Hex | Base64 | Types | Own(_) => return None,
        }
        Some(())
    }

    fn strings(&mut self, what: &str) -> Result<(), Fault> {
        let mut word = self.word(what)?;
        let mut string = Vec::new();
        loop {
            string.clear();
            unescape(word.text, &mut string).ok_or_else(|| self.bad(what, &word))?;
            if string.is_empty() {
                self.out.push(0);
            }
            for part in string.chunks(255) {
                self.out.push(part.len() as u8);
                self.out.extend_from_slice(part);
            }
            match self.lexer.next()? {
                Token::Word(next) => word = next,
                Token::End => return Ok(()),
            }
        }
    }

    /// All words that are left, as digits of one number.
    pub fn joined(&mut self, what: &str, bits: u32) -> Result<(), Fault> {
        let here = self.lexer.here();
        let mut text = Vec::new();
        while let Token::Word(word) = self.lexer.next()? {
            text.extend_from_slice(word.text);
        }
        let padding = text.iter().rev().take_while(|&&o| o == b'=' && bits == 6).count();
        text.truncate(text.len() - padding);
        digits(&text, bits, self.out).ok_or_else(|| self.bad(what, &Word { text: &text, ..here }))
    }

    fn types(&mut self, what: &str) -> Result<(), Fault> {
        let mut types = Vec::new();
        while let Token::Word(word) = self.lexer.next()? {
            types.push(parse_type(word.text).ok_or_else(|| self.bad(what, &word))?);
        }
        types.sort_unstable();
        push_bitmap(&types, self.out);
        Ok(())
    }
}

/// Sorted types as a bitmap of windows (RFC 4034 section 4.1.2).
pub(super) fn push_bitmap(types: &[u16], out: &mut Vec<u8>) {
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        for rtype in window {
            bits[usize::from(rtype & 255) / 8] |= 0x80 >> (rtype & 7);
        }
        let used = usize::from(window[window.len() - 1] & 255) / 8 + 1;
        out.extend_from_slice(&[(window[0] >> 8) as u8, used as u8]);
        out.extend_from_slice(&bits[..used]);
    }
}

/// Four decimal numbers with dots. The standard library's parser is exact but slower.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split(|&o| o == b'.');
    for octet in &mut octets {
        let part = parts.next()?;
        // Leading zeros read as octal elsewhere: refused, as by everyone careful.
        if part.len() > 1 && part[0] == b'0' {
            return None;
        }
        *octet = number(part, 255)? as u8;
    }
    parts.next().is_none().then(|| octets.into())
}

/// `YYYYMMDDHHmmSS`, or seconds since 1970 modulo 2^32 (RFC 4034 section 3.2).
fn time(text: &[u8]) -> Option<u32> {
    if text.len() != 14 {
        return number(text, u32::MAX);
    }
    let part = |from: usize, to: usize| number(&text[from..to], 9999).map(i64::from);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let ranges = [(month, 1, 12), (day, 1, 31), (hour, 0, 23), (minute, 0, 59), (second, 0, 60)];
    if ranges.iter().any(|&(value, low, high)| value < low || value > high) {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, years counted from March.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (m * 153 + 2) / 5 + day
            - 719_469;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) as u32)
}

/// Mnemonics of RFC 4034 appendix A.1 and its successors.
const ALGORITHMS: &[(&str, u16)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

const CERT_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

fn coded(text: &[u8], codes: &[(&str, u16)], max: u32) -> Option<u16> {
    let named = codes.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text));
    named.map(|&(_, code)| code).or_else(|| number(text, max).map(|code| code as u16))
}

fn eui(text: &[u8], octets: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut count = 0;
    for part in text.split(|&o| o == b'-') {
        (part.len() == 2).then_some(())?;
        digits(part, 4, out)?;
        count += 1;
    }
    (count == octets).then_some(())
}

fn locator(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut groups = 0;
    for part in text.split(|&o| o == b':') {
        let part = std::str::from_utf8(part).ok().filter(|p| p.len() <= 4)?;
        out.extend_from_slice(&u16::from_str_radix(part, 16).ok()?.to_be_bytes());
        groups += 1;
    }
    (groups == 4).then_some(())
}

/// Whether `rdata` (uncompressed) has the shape that its type asks for. Types without a layout and
/// notations of their own are taken as they are: their octets are only ever copied.
pub(super) fn is_valid(rtype: u16, rdata: &[u8]) -> bool {
    let Some(layout) = layout(rtype) else { return rdata.len() <= usize::from(u16::MAX) };
    let mut rest = rdata;
    for (_, field) in layout.fields {
        let took = match field {
            U8 | Algorithm => Some(1),
            U16 | Type | CertType => Some(2),
            U32 | Ttl | Time | Ip4 => Some(4),
            Locator => Some(8),
            Ip6 => Some(16),
            Eui(octets) => Some(*octets),
            Name | LowerName => wire_name_len(rest),
            Str | StrOrEmpty | Salt | Hash => rest.first().map(|&len| usize::from(len) + 1),
            Strs => strings_len(rest),
            Bytes | Hex | Base64 | Types | Own(_) => Some(rest.len()),
        };
        match took.and_then(|took| rest.get(took..)) {
            Some(left) => rest = left,
            None => return false,
        }
    }
    rest.is_empty() && rdata.len() <= usize::from(u16::MAX)
}

/// Octets of the uncompressed name at the start of `octets`, if one is there.
pub(super) fn wire_name_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*octets.get(at)?);
        at += 1 + length;
        if length == 0 {
            return (at <= NAME_BYTES_MAX).then_some(at);
        }
        (length <= LABEL_BYTES_MAX).then_some(())?;
    }
}

fn strings_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < octets.len() {
        at += 1 + usize::from(octets[at]);
    }
    (at == octets.len() && at > 0).then_some(at)
}
