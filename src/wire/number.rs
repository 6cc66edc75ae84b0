//! The numbers of DNS and their names: types, classes, rcodes, opcodes, EDNS option codes.
//!
//! All are plain integers; names are those that miekg/dns prints, since CoreDNS's logs, metrics
//! and Corefiles use them. An unknown type is written `TYPE123` and an unknown class `CLASS123`
//! (RFC 3597 section 5). Printing allocates nothing; parsing compares text and is meant for
//! configuration.

use std::fmt;

/// Type of a record or of a question (RFC 1035 section 3.2.2).
pub type Rtype = u16;
/// Class of a record or of a question (RFC 1035 section 3.2.4).
pub type Rclass = u16;
/// Response code with the extended part that OPT carries, 12 bits (RFC 6891 section 6.1.3).
pub type Rcode = u16;
/// Kind of a query, 4 bits (RFC 1035 section 4.1.1).
pub type Opcode = u8;

macro_rules! numbers {
    (
        $(#[$doc:meta])*
        $module:ident: $int:ty, $prefix:literal {
            $($name:ident = $value:literal $text:literal,)* $(; $also:item)*
        }
    ) => {
        $(#[$doc])*
        #[allow(missing_docs)] // the registry's own names say all
        pub mod $module {
            $(pub const $name: $int = $value;)*
            $($also)*

            /// The registered name of a number.
            pub const fn name(number: $int) -> Option<&'static str> {
                match number {
                    $($value => Some($text),)*
                    _ => None,
                }
            }

            /// Reads a name, whatever its case, or a number after the generic prefix.
            pub fn parse(text: &str) -> Option<$int> {
                const ALL: &[(&str, $int)] = &[$(($text, $value),)*];
                ALL.iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(text))
                    .map(|(_, number)| *number)
                    .or_else(|| super::generic($prefix, text)?.parse().ok())
            }

            /// Prints a number by name, or as the generic prefix and the number.
            pub fn text(number: $int) -> super::Text {
                super::Text { name: name(number), prefix: $prefix, number: number as u16 }
            }
        }
    };
}

numbers! {
    /// Types (IANA "Resource Record (RR) TYPEs").
    rtype: u16, "TYPE" {
        A = 1 "A", NS = 2 "NS", MD = 3 "MD", MF = 4 "MF", CNAME = 5 "CNAME", SOA = 6 "SOA",
        MB = 7 "MB", MG = 8 "MG", MR = 9 "MR", NULL = 10 "NULL", PTR = 12 "PTR",
        HINFO = 13 "HINFO", MINFO = 14 "MINFO", MX = 15 "MX", TXT = 16 "TXT", RP = 17 "RP",
        AFSDB = 18 "AFSDB", X25 = 19 "X25", ISDN = 20 "ISDN", RT = 21 "RT",
        NSAP_PTR = 23 "NSAP-PTR", SIG = 24 "SIG", KEY = 25 "KEY", PX = 26 "PX", GPOS = 27 "GPOS",
        AAAA = 28 "AAAA", LOC = 29 "LOC", NXT = 30 "NXT", EID = 31 "EID", NIMLOC = 32 "NIMLOC",
        SRV = 33 "SRV", ATMA = 34 "ATMA", NAPTR = 35 "NAPTR", KX = 36 "KX", CERT = 37 "CERT",
        DNAME = 39 "DNAME", OPT = 41 "OPT", APL = 42 "APL", DS = 43 "DS", SSHFP = 44 "SSHFP",
        IPSECKEY = 45 "IPSECKEY", RRSIG = 46 "RRSIG", NSEC = 47 "NSEC", DNSKEY = 48 "DNSKEY",
        DHCID = 49 "DHCID", NSEC3 = 50 "NSEC3", NSEC3PARAM = 51 "NSEC3PARAM", TLSA = 52 "TLSA",
        SMIMEA = 53 "SMIMEA", HIP = 55 "HIP", NINFO = 56 "NINFO", RKEY = 57 "RKEY",
        TALINK = 58 "TALINK", CDS = 59 "CDS", CDNSKEY = 60 "CDNSKEY",
        OPENPGPKEY = 61 "OPENPGPKEY", CSYNC = 62 "CSYNC", ZONEMD = 63 "ZONEMD", SVCB = 64 "SVCB",
        HTTPS = 65 "HTTPS", SPF = 99 "SPF", UINFO = 100 "UINFO", UID = 101 "UID", GID = 102 "GID",
        UNSPEC = 103 "UNSPEC", NID = 104 "NID", L32 = 105 "L32", L64 = 106 "L64", LP = 107 "LP",
        EUI48 = 108 "EUI48", EUI64 = 109 "EUI64", NXNAME = 128 "NXNAME", TKEY = 249 "TKEY",
        TSIG = 250 "TSIG", IXFR = 251 "IXFR", AXFR = 252 "AXFR", MAILB = 253 "MAILB",
        MAILA = 254 "MAILA", ANY = 255 "ANY", URI = 256 "URI", CAA = 257 "CAA", AVC = 258 "AVC",
        AMTRELAY = 260 "AMTRELAY", RESINFO = 261 "RESINFO", TA = 32768 "TA", DLV = 32769 "DLV",
        NONE = 0 "None", RESERVED = 65535 "Reserved",
    }
}

numbers! {
    /// Classes (IANA "DNS CLASSes").
    rclass: u16, "CLASS" {
        IN = 1 "IN", CS = 2 "CS", CH = 3 "CH", HS = 4 "HS", NONE = 254 "NONE", ANY = 255 "ANY",
    }
}

numbers! {
    /// Response codes (IANA "DNS RCODEs"). 16 is BADVERS in OPT and BADSIG in TSIG: the name
    /// that is printed is BADSIG, as miekg/dns has it.
    rcode: u16, "RCODE" {
        NOERROR = 0 "NOERROR", FORMERR = 1 "FORMERR", SERVFAIL = 2 "SERVFAIL",
        NXDOMAIN = 3 "NXDOMAIN", NOTIMP = 4 "NOTIMP", REFUSED = 5 "REFUSED",
        YXDOMAIN = 6 "YXDOMAIN", YXRRSET = 7 "YXRRSET", NXRRSET = 8 "NXRRSET",
        NOTAUTH = 9 "NOTAUTH", NOTZONE = 10 "NOTZONE", DSOTYPENI = 11 "DSOTYPENI",
        BADSIG = 16 "BADSIG", BADKEY = 17 "BADKEY", BADTIME = 18 "BADTIME",
        BADMODE = 19 "BADMODE", BADNAME = 20 "BADNAME", BADALG = 21 "BADALG",
        BADTRUNC = 22 "BADTRUNC", BADCOOKIE = 23 "BADCOOKIE",
        ; pub const BADVERS: u16 = 16;
    }
}

numbers! {
    /// Opcodes (IANA "DNS OpCodes").
    opcode: u8, "OPCODE" {
        QUERY = 0 "QUERY", IQUERY = 1 "IQUERY", STATUS = 2 "STATUS", NOTIFY = 4 "NOTIFY",
        UPDATE = 5 "UPDATE",
    }
}

numbers! {
    /// EDNS option codes (IANA "DNS EDNS0 Option Codes").
    edns: u16, "OPT" {
        LLQ = 1 "LLQ", UL = 2 "UL", NSID = 3 "NSID", ESU = 4 "ESU", DAU = 5 "DAU",
        DHU = 6 "DHU", N3U = 7 "N3U", SUBNET = 8 "SUBNET", EXPIRE = 9 "EXPIRE",
        COOKIE = 10 "COOKIE", KEEPALIVE = 11 "KEEPALIVE", PADDING = 12 "PADDING",
        EDE = 15 "EDE", REPORTING = 18 "REPORTING", ZONEVERSION = 19 "ZONEVERSION",
    }
}

/// The digits after a generic prefix; only digits, so that no sign is read.
fn generic<'t>(prefix: &str, text: &'t str) -> Option<&'t str> {
    let (head, digits) = text.split_at_checked(prefix.len())?;
    let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (head.eq_ignore_ascii_case(prefix) && only_digits).then_some(digits)
}

/// A number on its way to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    name: Option<&'static str>,
    prefix: &'static str,
    number: u16,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}{}", self.prefix, self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in 0..=u16::MAX {
            assert_eq!(rtype::parse(&rtype::text(number).to_string()), Some(number));
            assert_eq!(rclass::parse(&rclass::text(number).to_string()), Some(number));
            assert_eq!(rcode::parse(&rcode::text(number).to_string()), Some(number));
        }
        assert_eq!(rtype::parse("aaaa"), Some(rtype::AAAA));
        assert_eq!(rtype::parse("type65281"), Some(65281));
        assert_eq!(rtype::text(65281).to_string(), "TYPE65281");
        assert_eq!(rcode::text(rcode::FORMERR).to_string(), "FORMERR");
    }

    #[test]
    fn other_text_is_no_number() {
        for text in ["", "TYPE", "TYPE65536", "TYPE+1", "TYPE-1", "AAAAA", "é", "TYPEé"] {
            assert_eq!(rtype::parse(text), None, "{text}");
        }
    }
}
