//! The little of a DNS message (RFC 1035 section 4) that a reflector and a load generator need.
//! Nothing is decoded: an answer is recognised by its bytes.

/// Bytes of a message header (RFC 1035 section 4.1.1).
pub const HEADER_LEN: usize = 12;
/// Longest name in wire form, in bytes (RFC 1035 section 2.3.4).
pub const NAME_LEN_MAX: usize = 255;
/// Longest query that `flood` sends, in bytes: header, one question, OPT.
pub const QUERY_LEN_MAX: usize = HEADER_LEN + NAME_LEN_MAX + 4 + OPT_LEN;
const OPT_LEN: usize = 11;

/// The record of every answer of the reflector: the question's name (a pointer to offset 12),
/// A, IN, 60 s, 192.0.2.1 (RFC 5737).
const RECORD: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
/// Bytes that [`reflect`] adds to a query.
pub const REFLECTED_EXTRA: usize = RECORD.len();

/// Turns the query in `buffer[..len]` into its own answer and says how long that is. `None`: it
/// is too short, leaves no room, or is a response itself (two reflectors would never end).
#[inline]
pub fn reflect(buffer: &mut [u8], len: usize) -> Option<usize> {
    const QR_AND_AA: u8 = 0x84;
    let end = len + RECORD.len();
    if len < HEADER_LEN || end > buffer.len() || buffer[2] & 0x80 != 0 {
        return None;
    }
    buffer[2] |= QR_AND_AA;
    // Behind an OPT record there is room in the additional section only.
    let count_at = if buffer[11] == 0 { 7 } else { 11 };
    buffer[count_at] = buffer[count_at].wrapping_add(1);
    buffer[len..end].copy_from_slice(&RECORD);
    Some(end)
}

/// The OPT record (RFC 6891 section 6.1.2) that queries carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP answer that the sender takes, in bytes.
    pub udp_size: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
}

/// Writes a query with RD set: header, `question` (name, type, class), OPT if there is one.
/// Returns its length; `buffer` has at least [`QUERY_LEN_MAX`] bytes.
#[inline]
pub fn write_query(buffer: &mut [u8], id: u16, question: &[u8], edns: Option<Edns>) -> usize {
    let [id_high, id_low] = id.to_be_bytes();
    let additional = u8::from(edns.is_some());
    let header = [id_high, id_low, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    buffer[..HEADER_LEN].copy_from_slice(&header);
    let mut end = HEADER_LEN + question.len();
    buffer[HEADER_LEN..end].copy_from_slice(question);
    if let Some(Edns { udp_size, dnssec_ok }) = edns {
        let [high, low] = udp_size.to_be_bytes();
        let opt = [0, 0, 41, high, low, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0];
        buffer[end..end + OPT_LEN].copy_from_slice(&opt);
        end += OPT_LEN;
    }
    end
}

/// A question of class IN in wire form, from a name in presentation form (RFC 1035 section 5.1;
/// its last dot may be missing) and a type.
pub fn question(name: &str, record_type: u16) -> Result<Vec<u8>, String> {
    let mut wire = name_to_wire(name)?;
    wire.extend_from_slice(&record_type.to_be_bytes());
    wire.extend_from_slice(&1u16.to_be_bytes());
    Ok(wire)
}

/// A name in wire form. `\.` and `\DDD` are as in RFC 1035 section 5.1.
pub fn name_to_wire(name: &str) -> Result<Vec<u8>, String> {
    if name == "." {
        return Ok(vec![0]);
    }
    let refuse = |what: &str| Err(format!("{name:?}: {what}"));
    // The length byte of the label that is being read is at `label_at`.
    let (mut wire, mut label_at) = (vec![0], 0);
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (*first, after) {
            (b'.', _) => {
                if wire.len() == label_at + 1 {
                    return refuse("an empty label");
                }
                if rest.is_empty() {
                    break;
                }
                label_at = wire.len();
                wire.push(0);
                continue;
            }
            (b'\\', [a, b, c, after @ ..]) if a.is_ascii_digit() => {
                let digits = std::str::from_utf8(&[*a, *b, *c]).ok().and_then(|d| d.parse().ok());
                let Some(byte) = digits else { return refuse("an escape that is no byte") };
                wire.push(byte);
                rest = after;
            }
            (b'\\', [byte, after @ ..]) if !byte.is_ascii_digit() => {
                wire.push(*byte);
                rest = after;
            }
            (b'\\', _) => return refuse("an escape that is cut off"),
            (byte, _) => wire.push(byte),
        }
        if wire.len() - label_at > 64 {
            return refuse("a label of more than 63 bytes");
        }
        wire[label_at] += 1;
    }
    if wire.len() == label_at + 1 {
        return refuse("an empty label");
    }
    wire.push(0);
    if wire.len() > NAME_LEN_MAX { refuse("more than 255 bytes") } else { Ok(wire) }
}

/// The number of a type: a mnemonic in any case, or `TYPE123` (RFC 3597 section 5).
pub fn record_type(mnemonic: &str) -> Option<u16> {
    let mnemonic = mnemonic.to_ascii_uppercase();
    if let Some(digits) = mnemonic.strip_prefix("TYPE") {
        return digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    }
    TYPES.iter().find(|(name, _)| *name == mnemonic).map(|(_, number)| *number)
}

/// Types that query logs hold; others are written as `TYPE123`.
#[rustfmt::skip]
const TYPES: [(&str, u16); 25] = [
    ("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("PTR", 12), ("HINFO", 13), ("MX", 15),
    ("TXT", 16), ("AAAA", 28), ("LOC", 29), ("SRV", 33), ("NAPTR", 35), ("DNAME", 39), ("DS", 43),
    ("SSHFP", 44), ("RRSIG", 46), ("NSEC", 47), ("DNSKEY", 48), ("NSEC3PARAM", 51), ("TLSA", 52),
    ("SPF", 99), ("SVCB", 64), ("HTTPS", 65), ("ANY", 255), ("CAA", 257),
];

/// Names of response codes by their number in a header (RFC 1035, 2136); others are `RCODE12`.
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// The name of a response code of a header (its low four bits).
pub fn rcode_name(rcode: u8) -> String {
    RCODES.get(usize::from(rcode)).map_or_else(|| format!("RCODE{rcode}"), |name| (*name).into())
}

/// The number of a response code, by name in any case.
pub fn rcode(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    (0..16).find(|number| rcode_name(*number) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_their_mistakes() {
        assert_eq!(name_to_wire("a.bc").unwrap(), b"\x01a\x02bc\0");
        assert_eq!(name_to_wire("a.bc.").unwrap(), b"\x01a\x02bc\0");
        assert_eq!(name_to_wire(".").unwrap(), b"\0");
        assert_eq!(name_to_wire(r"a\.b\032c").unwrap(), b"\x05a.b c\0");
        assert_eq!(name_to_wire(r"a\.").unwrap(), b"\x02a.\0");
        assert_eq!(name_to_wire(r"a\\.").unwrap(), b"\x02a\\\0");
        assert_eq!(name_to_wire(&"a".repeat(63)).unwrap().len(), 65);
        assert_eq!(name_to_wire(&"a.".repeat(127)).unwrap().len(), NAME_LEN_MAX);
        let (long_label, long_name) = ("a".repeat(64), "a.".repeat(128));
        let bad = ["", "..", "a..b", ".a", r"a\25", r"a\256", r"a\", &long_label, &long_name];
        for name in bad {
            assert!(name_to_wire(name).is_err(), "{name}");
        }
    }

    #[test]
    fn types_and_rcodes() {
        assert_eq!(record_type("aaaa"), Some(28));
        assert_eq!(record_type("type65280"), Some(65280));
        for bad in ["", "TYPE", "TYPE65536", "TYPE+1", "NOPE"] {
            assert_eq!(record_type(bad), None, "{bad}");
        }
        assert_eq!((rcode("nxdomain"), rcode("RCODE15"), rcode("no")), (Some(3), Some(15), None));
    }

    #[test]
    fn queries_become_their_own_answers() {
        let question = question("a.", 1).unwrap();
        let mut buffer = [0; QUERY_LEN_MAX];
        let len = write_query(&mut buffer, 0x1234, &question, None);
        assert_eq!(buffer[..len], *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01");
        let end = reflect(&mut buffer, len).unwrap();
        assert_eq!(end, len + REFLECTED_EXTRA);
        assert_eq!(buffer[..8], *b"\x12\x34\x85\0\0\x01\0\x01");
        assert_eq!(buffer[len..end], RECORD);
        assert_eq!(reflect(&mut buffer, end), None, "a response is not answered");

        let edns = Edns { udp_size: 1232, dnssec_ok: true };
        let len = write_query(&mut buffer, 1, &question, Some(edns));
        assert_eq!(buffer[len - OPT_LEN..len], *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0");
        reflect(&mut buffer, len).unwrap();
        assert_eq!(buffer[6..12], [0, 0, 0, 0, 0, 2], "behind OPT: an additional record");
    }

    proptest! {
        #[test]
        fn reflect_takes_anything(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64),
            cut in 0..64usize,
        ) {
            let len = cut.min(bytes.len());
            if let Some(end) = reflect(&mut bytes, len) {
                prop_assert!(end <= bytes.len() && bytes[2] & 0x80 != 0);
            }
        }

        #[test]
        fn escaped_names_hold_their_bytes(label in prop::collection::vec(any::<u8>(), 1..=63)) {
            let text: String = label.iter().map(|byte| format!("\\{byte:03}")).collect();
            let wire = name_to_wire(&text).unwrap();
            prop_assert_eq!(&wire[1..wire.len() - 1], &label[..]);
        }
    }
}
