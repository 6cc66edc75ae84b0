//! Names of the reverse zones, and the addresses that they stand for (RFC 1035 section 3.5,
//! RFC 3596 section 2.5). Nothing is allocated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Name;

const IN_ADDR_ARPA: &[u8] = b"\x07in-addr\x04arpa\x00";
const IP6_ARPA: &[u8] = b"\x03ip6\x04arpa\x00";

/// The address that a whole name below `in-addr.arpa.` or `ip6.arpa.` stands for; one that is mapped
/// into IPv6 is given as IPv4.
pub fn reverse_address(lower: Name<'_>) -> Option<IpAddr> {
    let labels = lower.label_count();
    let is_below = |zone: &[u8]| lower.suffix(2).as_bytes() == zone;
    if labels == 6 && is_below(IN_ADDR_ARPA) {
        let mut octets = [0; 4];
        for (octet, label) in octets.iter_mut().rev().zip(lower.labels()) {
            *octet = decimal(label)?;
        }
        return Some(Ipv4Addr::from(octets).into());
    }
    if labels == 34 && is_below(IP6_ARPA) {
        let mut bits = 0_u128;
        for (place, label) in lower.labels().take(32).enumerate() {
            let &[digit] = label else { return None };
            let digit = char::from(digit).to_digit(16)?;
            bits |= u128::from(digit) << (4 * place);
        }
        return Some(IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical());
    }
    None
}

/// An octet as RFC 1035 section 3.5 writes it: without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let is_number = label.iter().all(u8::is_ascii_digit);
    if !is_number || label.len() > 3 || (label.len() > 1 && label[0] == b'0') {
        return None;
    }
    let number = label.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NameBuf;
    use proptest::prelude::*;
    use std::fmt::Write;

    fn address(text: &str) -> Option<IpAddr> {
        reverse_address(NameBuf::parse(text).expect("a name").as_name())
    }

    #[test]
    fn names_that_stand_for_no_address() {
        for text in [
            ".",
            "arpa.",
            "in-addr.arpa.",
            "2.0.192.in-addr.arpa.",
            "9.1.2.0.192.in-addr.arpa.",
            "01.2.0.192.in-addr.arpa.",
            "256.2.0.192.in-addr.arpa.",
            "+1.2.0.192.in-addr.arpa.",
            "1.2.0.192.ip6.arpa.",
            "1.2.0.192.in-addr.test.",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
        let zeros = "0.".repeat(31);
        assert!(address(&format!("f.{zeros}ip6.arpa.")).is_some());
        for first in ["g", "00", "-"] {
            assert_eq!(address(&format!("{first}.{zeros}ip6.arpa.")), None, "{first}");
        }
    }

    proptest! {
        #[test]
        fn every_address_has_a_name(v4: [u8; 4], v6: u128) {
            let [a, b, c, d] = v4;
            let found = address(&format!("{d}.{c}.{b}.{a}.in-addr.arpa."));
            prop_assert_eq!(found, Some(IpAddr::from(v4)));
            let mut text = String::new();
            for digit in format!("{v6:032x}").chars().rev() {
                let _ = write!(text, "{digit}.");
            }
            let found = address(&format!("{text}ip6.arpa."));
            prop_assert_eq!(found, Some(IpAddr::V6(v6.into()).to_canonical()));
        }
    }
}
