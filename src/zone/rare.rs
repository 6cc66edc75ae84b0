//! RDATA notations that no table can say: SVCB parameters (RFC 9460), LOC (RFC 1876), APL
//! (RFC 3123), and the gateways of IPSECKEY (RFC 4025), AMTRELAY (RFC 8777) and HIP (RFC 8005).

use super::lex::{Fault, Token, Word, unescape};
use super::rdata::{Field, Fields, digits, name, number};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which notation the rest of the RDATA is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    SvcParams,
    Location,
    Prefixes,
    IpsecGateway,
    AmtRelay,
    HostIdentity,
}

impl Notation {
    pub fn parse(self, fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
        match self {
            Notation::SvcParams => svc_params(fields, what),
            Notation::Location => location(fields),
            Notation::Prefixes => prefixes(fields, what),
            Notation::IpsecGateway => ipsec_gateway(fields, what),
            Notation::AmtRelay => amt_relay(fields, what),
            Notation::HostIdentity => host_identity(fields, what),
        }
    }
}

/// Names of service parameters; the place is the key (RFC 9460 section 14.3.2, RFC 9461, RFC 9540).
const SVC_KEYS: [&str; 9] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
];

fn svc_key(text: &[u8]) -> Option<u16> {
    if let Some(key) = SVC_KEYS.iter().position(|k| k.as_bytes() == text) {
        return Some(key as u16);
    }
    number(text.strip_prefix(b"key")?, 65_534).map(|key| key as u16)
}

/// `key`, `key=value` or `key="value"`, in any order; sorted by key in the RDATA.
fn svc_params(fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
    while let Token::Word(word) = fields.lexer.next()? {
        let split = word.text.iter().position(|&o| o == b'=');
        let (key, mut value) = match split {
            Some(at) => (&word.text[..at], &word.text[at + 1..]),
            None => (word.text, &[][..]),
        };
        if split.is_some_and(|at| at + 1 == word.text.len()) && fields.lexer.at_quote() {
            value = fields.word(what)?.text;
        }
        let param = svc_key(key).and_then(|key| Some((key, svc_value(key, value)?)));
        let (key, value) = param.ok_or_else(|| fields.bad(what, &word))?;
        if params.iter().any(|(other, _)| *other == key) {
            return Err(fields.bad("Value, key given twice", &word));
        }
        params.push((key, value));
    }
    params.sort();
    for (key, value) in params {
        fields.out.extend_from_slice(&key.to_be_bytes());
        fields.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        fields.out.extend_from_slice(&value);
    }
    Ok(())
}

/// The octets of one parameter's value; None if it is not in the key's form.
fn svc_value(key: u16, text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    unescape(text, &mut plain)?;
    let items = || plain.split(|&o| o == b',');
    let mut out = Vec::new();
    match key {
        0 => {
            let mut keys = items().map(svc_key).collect::<Option<Vec<u16>>>()?;
            keys.sort_unstable();
            keys.dedup();
            keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        }
        1 => {
            for id in comma_list(&plain)? {
                out.push(u8::try_from(id.len()).ok().filter(|&len| len > 0)?);
                out.extend_from_slice(&id);
            }
        }
        2 | 8 => plain.is_empty().then_some(())?,
        3 => out.extend_from_slice(&(number(&plain, 65_535)? as u16).to_be_bytes()),
        4 => {
            for item in items() {
                let address: Ipv4Addr = std::str::from_utf8(item).ok()?.parse().ok()?;
                out.extend_from_slice(&address.octets());
            }
        }
        5 => {
            let end = plain.iter().rposition(|&o| o != b'=').map_or(0, |at| at + 1);
            digits(&plain[..end], 6, &mut out)?;
        }
        6 => {
            for item in items() {
                let address: Ipv6Addr = std::str::from_utf8(item).ok()?.parse().ok()?;
                out.extend_from_slice(&address.octets());
            }
        }
        _ => out = plain,
    }
    (out.len() <= usize::from(u16::MAX)).then_some(out)
}

/// A comma-separated list in which `\,` and `\\` stand for themselves (RFC 9460 appendix A.1).
fn comma_list(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = vec![Vec::new()];
    let mut octets = text.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b',' => list.push(Vec::new()),
            b'\\' => list.last_mut()?.push(*octets.next()?),
            octet => list.last_mut()?.push(octet),
        }
    }
    Some(list)
}

/// `d [m [s]] N|S d [m [s]] E|W altitude [size [horizontal [vertical]]]` (RFC 1876 section 3).
fn location(fields: &mut Fields<'_, '_, '_>) -> Result<(), Fault> {
    let latitude = angle(fields, 90, [b'S', b'N'])?;
    let longitude = angle(fields, 180, [b'W', b'E'])?;
    let word = fields.word("Altitude")?;
    let altitude = centimetres(word.text)
        .and_then(|cm| u32::try_from(cm + 10_000_000).ok())
        .ok_or_else(|| fields.bad("Altitude", &word))?;
    // Sizes: 1 m, 10,000 m and 10 m unless given.
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        match fields.lexer.next()? {
            Token::End => break,
            Token::Word(word) => {
                *size = centimetres(word.text)
                    .and_then(mantissa)
                    .ok_or_else(|| fields.bad("Size, HorizPre or VertPre", &word))?;
            }
        }
    }
    fields.out.extend_from_slice(&[0, sizes[0], sizes[1], sizes[2]]);
    for value in [latitude, longitude, altitude] {
        fields.out.extend_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

/// Degrees, minutes and seconds as thousandths of a second of arc around 2^31.
fn angle(f: &mut Fields<'_, '_, '_>, max: u32, signs: [u8; 2]) -> Result<u32, Fault> {
    let what = if max == 90 { "Latitude" } else { "Longitude" };
    let mut total: u64 = 0;
    for (place, (unit, limit)) in
        [(3_600_000, u64::from(max)), (60_000, 59), (1000, 59)].into_iter().enumerate()
    {
        let word = f.word(what)?;
        if let Some(sign) = sign_of(&word, signs).filter(|_| place > 0) {
            return signed(total, sign, max).ok_or_else(|| f.bad(what, &word));
        }
        let value = thousandths(word.text)
            .filter(|&v| v / 1000 <= limit && (place == 2 || v % 1000 == 0))
            .ok_or_else(|| f.bad(what, &word))?;
        total += value * unit / 1000;
    }
    let word = f.word(what)?;
    let sign = sign_of(&word, signs);
    sign.and_then(|sign| signed(total, sign, max)).ok_or_else(|| f.bad(what, &word))
}

fn sign_of(word: &Word<'_>, signs: [u8; 2]) -> Option<bool> {
    let [letter] = word.text else { return None };
    signs.iter().position(|s| *s == letter.to_ascii_uppercase()).map(|at| at == 1)
}

fn signed(total: u64, positive: bool, max: u32) -> Option<u32> {
    let total = u32::try_from(total).ok().filter(|&t| t <= max * 3_600_000)?;
    Some(if positive { (1 << 31) + total } else { (1 << 31) - total })
}

/// A decimal number with up to three places, times 1000.
fn thousandths(text: &[u8]) -> Option<u64> {
    let (whole, part) = match text.iter().position(|&o| o == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let whole = u64::from(number(whole, 1_000_000_000)?);
    let scale = [1000, 100, 10, 1].get(part.len())?;
    let part = if part.is_empty() { 0 } else { u64::from(number(part, 999)?) };
    Some(whole * 1000 + part * scale)
}

/// Metres, with or without a sign and an `m`, in centimetres.
fn centimetres(text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"m").or_else(|| text.strip_suffix(b"M")).unwrap_or(text);
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix(b"+").unwrap_or(text)),
    };
    let value = (thousandths(text)? / 10) as i64;
    Some(if negative { -value } else { value })
}

/// A size as four bits of digit and four bits of power of ten.
fn mantissa(centimetres: i64) -> Option<u8> {
    let mut value = u64::try_from(centimetres).ok()?;
    let mut power = 0u8;
    while value >= 10 {
        value /= 10;
        power += 1;
    }
    (power <= 9).then_some((value as u8) << 4 | power)
}

/// `[!]family:address/prefix …`
fn prefixes(fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
    while let Token::Word(word) = fields.lexer.next()? {
        prefix(word.text, fields.out).ok_or_else(|| fields.bad(what, &word))?;
    }
    Ok(())
}

fn prefix(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (0x80, rest),
        None => (0, text),
    };
    let (family, text) = text.split_once(':')?;
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let (octets, max, code) = match address {
        IpAddr::V4(address) => (address.octets().to_vec(), 32, 1u16),
        IpAddr::V6(address) => (address.octets().to_vec(), 128, 2),
    };
    (number(family.as_bytes(), 65_535)? == u32::from(code)).then_some(())?;
    let length = number(length.as_bytes(), max)? as u8;
    // Trailing zero octets are left out.
    let used = octets.iter().rposition(|&o| o != 0).map_or(0, |at| at + 1);
    (used <= usize::from(length).div_ceil(8)).then_some(())?;
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&[length, negated | used as u8]);
    out.extend_from_slice(&octets[..used]);
    Some(())
}

/// Appends the gateway of a type: nothing, an address or a name.
fn gateway(fields: &mut Fields<'_, '_, '_>, kind: u32, what: &'static str) -> Result<(), Fault> {
    let word = fields.word(what)?;
    match kind {
        0 if word.text == b"." => Some(()),
        1 => std::str::from_utf8(word.text)
            .ok()
            .and_then(|text| text.parse::<Ipv4Addr>().ok())
            .map(|address| fields.out.extend_from_slice(&address.octets())),
        2 => std::str::from_utf8(word.text)
            .ok()
            .and_then(|text| text.parse::<Ipv6Addr>().ok())
            .map(|address| fields.out.extend_from_slice(&address.octets())),
        3 => name(word.text, fields.origin, false, fields.out),
        _ => None,
    }
    .ok_or_else(|| fields.bad(what, &word))
}

fn small(fields: &mut Fields<'_, '_, '_>, max: u32, what: &'static str) -> Result<u8, Fault> {
    let word = fields.word(what)?;
    number(word.text, max).map(|n| n as u8).ok_or_else(|| fields.bad(what, &word))
}

/// After the precedence: gateway type, algorithm, gateway, key.
fn ipsec_gateway(fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
    let kind = small(fields, 3, what)?;
    let algorithm = small(fields, 255, what)?;
    fields.out.extend_from_slice(&[kind, algorithm]);
    gateway(fields, u32::from(kind), what)?;
    fields.joined(what, 6)
}

/// After the precedence: discovery bit, relay type, relay.
fn amt_relay(fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
    let discovery = small(fields, 1, what)?;
    let kind = small(fields, 3, what)?;
    fields.out.push(discovery << 7 | kind);
    gateway(fields, u32::from(kind), what)?;
    fields.lexer.end()
}

/// Algorithm, host identity tag (hexadecimal), public key (base 64), rendezvous servers.
fn host_identity(fields: &mut Fields<'_, '_, '_>, what: &'static str) -> Result<(), Fault> {
    let algorithm = small(fields, 255, "PublicKeyAlgorithm")?;
    let mut tag = Vec::new();
    let word = fields.word(what)?;
    digits(word.text, 4, &mut tag).ok_or_else(|| fields.bad(what, &word))?;
    let mut key = Vec::new();
    let word = fields.word("PublicKey")?;
    let end = word.text.iter().rposition(|&o| o != b'=').map_or(0, |at| at + 1);
    digits(&word.text[..end], 6, &mut key).ok_or_else(|| fields.bad("PublicKey", &word))?;
    if tag.len() > 255 || key.len() > 65_535 {
        return Err(fields.bad(what, &word));
    }
    fields.out.extend_from_slice(&[tag.len() as u8, algorithm]);
    fields.out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    fields.out.extend_from_slice(&tag);
    fields.out.extend_from_slice(&key);
    let mut ahead = fields.lexer.clone();
    while let Token::Word(_) = ahead.next()? {
        fields.field("RendezvousServers", Field::Name)?;
        ahead = fields.lexer.clone();
    }
    Ok(())
}
