//! RDATA in presentation form, for logs, tests and people.
//!
//! Written as miekg/dns writes it. Types without a form of their own here, and RDATA that is not
//! of its type's form, are written as RFC 3597 section 5 has it: `\# LENGTH HEX`. Allocates.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::WireError;
use super::name::NameBuf;
use super::number::rtype;
use super::rdata::{Field, check_rdata, field_end, rdata_names};
use super::record::Record;

/// The RDATA of a record of `message` in presentation form.
pub fn rdata_text(message: &[u8], record: &Record) -> String {
    let (at, end) = (record.rdata_at, record.end());
    let known = check_rdata(message, record.rtype, at, end)
        .ok()
        .and_then(|()| known_text(message, record).transpose())
        .and_then(Result::ok);
    known.unwrap_or_else(|| {
        let rdata = record.rdata(message);
        let mut text = format!("\\# {} ", rdata.len());
        rdata.iter().for_each(|octet| put(&mut text, format_args!("{octet:02X}")));
        text
    })
}

/// How the octets of [`Field::Octets`] are written: the width of each number in them.
const fn widths(rtype: u16) -> Option<&'static [usize]> {
    match rtype {
        rtype::SOA => Some(&[4, 4, 4, 4, 4]),
        rtype::MX | rtype::AFSDB | rtype::RT | rtype::KX | rtype::PX => Some(&[2]),
        rtype::SRV => Some(&[2, 2, 2]),
        rtype::NAPTR => Some(&[2, 2]),
        rtype::NS
        | rtype::MD
        | rtype::MF
        | rtype::CNAME
        | rtype::MB
        | rtype::MG
        | rtype::MR
        | rtype::PTR
        | rtype::MINFO
        | rtype::RP
        | rtype::DNAME
        | rtype::TXT
        | rtype::SPF
        | rtype::HINFO => Some(&[]),
        _ => None,
    }
}

/// The text of the types that are made of names, numbers and character strings, and of addresses.
fn known_text(message: &[u8], record: &Record) -> Result<Option<String>, WireError> {
    let rdata = record.rdata(message);
    if let (rtype::A, Ok(octets)) = (record.rtype, <[u8; 4]>::try_from(rdata)) {
        return Ok(Some(Ipv4Addr::from(octets).to_string()));
    }
    if let (rtype::AAAA, Ok(octets)) = (record.rtype, <[u8; 16]>::try_from(rdata)) {
        return Ok(Some(Ipv6Addr::from(octets).to_string()));
    }
    let Some(widths) = widths(record.rtype) else { return Ok(None) };
    let mut parts: Vec<String> = Vec::new();
    let (mut at, end) = (record.rdata_at, record.end());
    for &field in rdata_names(record.rtype) {
        let after = field_end(message, field, at, end)?;
        match field {
            Field::Name | Field::PlainName => {
                parts.push(NameBuf::read(message, at)?.0.to_string());
            }
            Field::Text | Field::Texts => texts(&message[at..after], &mut parts),
            Field::Octets(_) | Field::Rest => {
                let mut octets = &message[at..after];
                for &width in widths {
                    let (number, rest) = octets.split_at_checked(width).unwrap_or((octets, &[]));
                    let value = number.iter().fold(0u64, |value, o| value << 8 | u64::from(*o));
                    parts.push(value.to_string());
                    octets = rest;
                }
            }
        }
        at = after;
    }
    Ok(Some(parts.join(" ")))
}

/// Character strings in quotes.
fn texts(mut octets: &[u8], parts: &mut Vec<String>) {
    while let Some((&len, rest)) = octets.split_first() {
        let (string, rest) = rest.split_at(rest.len().min(len as usize));
        let mut text = String::from('"');
        for &octet in string {
            match octet {
                b'"' | b'\\' => put(&mut text, format_args!("\\{}", octet as char)),
                b' '..=b'~' => text.push(octet as char),
                _ => put(&mut text, format_args!("\\{octet:03}")),
            }
        }
        text.push('"');
        parts.push(text);
        octets = rest;
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Name, Question, Rdata, Reply, Section, rclass};
    use super::*;

    /// Writes one record and gives the text of its RDATA.
    fn text(rtype: u16, rdata: &[u8]) -> String {
        let owner = NameBuf::parse("example.org").expect("a name");
        let name = owner.as_name();
        let mut reply = Reply::new(vec![0; 512].into());
        let question = Question { name, lower: name, rtype, rclass: rclass::IN };
        reply.start(1, Flags::default(), question);
        let rdata = Rdata::Wire(rdata);
        reply.push(Section::Answer, Name::ROOT, rtype, rclass::IN, 1, rdata).expect("room");
        let record = reply.records().next().expect("a record").expect("a valid one");
        rdata_text(reply.bytes(), &record)
    }

    #[test]
    fn rdata_is_written_as_miekg_writes_it() {
        let name = b"\x02ns\x07example\x03org\0";
        let with = |head: &[u8]| [head, name].concat();
        assert_eq!(text(rtype::A, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(text(rtype::AAAA, &[0; 16]), "::");
        assert_eq!(text(rtype::CNAME, name), "ns.example.org.");
        assert_eq!(text(rtype::MX, &with(&[0, 10])), "10 ns.example.org.");
        assert_eq!(text(rtype::SRV, &with(&[0, 1, 0, 2, 0, 53])), "1 2 53 ns.example.org.");
        assert_eq!(text(rtype::TXT, b"\x04a \"b\0\x02\\\xff"), r#""a \"b" "" "\\\255""#);
        let soa = [name, name, &[0, 0, 0, 1].repeat(5)[..]].concat();
        assert_eq!(text(rtype::SOA, &soa), "ns.example.org. ns.example.org. 1 1 1 1 1");
        let naptr = [&b"\0\x01\0\x02\x01u\0\x03!x!"[..], b"\0"].concat();
        assert_eq!(text(rtype::NAPTR, &naptr), r#"1 2 "u" "" "!x!" ."#);
        assert_eq!(text(rtype::DS, &[1, 2, 3, 4, 0xab]), "\\# 5 01020304AB");
        assert_eq!(text(rtype::A, &[1, 2]), "\\# 2 0102");
        assert_eq!(text(rtype::MX, &[0]), "\\# 1 00");
    }
}
