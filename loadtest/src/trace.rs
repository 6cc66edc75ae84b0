//! Traces of queries, as an operator has them: a capture of tcpdump, a list of names and types with or
//! without times, or the log of a DNS server of CoreDNS's kind.
//!
//! A capture is in the classic format (`tcpdump -w`; magic a1b2c3d4 or a1b23c4d in either byte order),
//! of Ethernet (with VLAN tags), Linux cooked (1 and 2), raw IP or loopback frames. Of it are taken all
//! UDP datagrams to port 53 that hold a query with one question; everything else is left out.

use crate::message::{Edns, HEADER_LEN, question, record_type};

/// A query of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the first one; 0 without times.
    pub due_ns: u64,
    /// Name, type and class in wire form.
    pub question: Vec<u8>,
    /// Its OPT record, if it had one.
    pub edns: Option<Edns>,
}

/// The queries of a file, in order, and whether they have times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Never empty.
    pub entries: Vec<Entry>,
    /// Whether `due_ns` says anything.
    pub is_timed: bool,
}

/// Reads a trace of any of the formats.
pub fn parse(bytes: &[u8]) -> Result<Trace, String> {
    let mut trace = match bytes {
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0x4d, 0x3c, 0xb2, 0xa1, ..] => capture(bytes, false)?,
        [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => capture(bytes, true)?,
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => {
            return Err("pcapng: make it a classic capture: editcap -F pcap IN OUT".into());
        }
        _ => lines(std::str::from_utf8(bytes).map_err(|_| "neither a capture nor text")?)?,
    };
    if trace.entries.is_empty() {
        return Err("no queries".into());
    }
    trace.entries.sort_by_key(|entry| entry.due_ns);
    let first = trace.entries[0].due_ns;
    trace.entries.iter_mut().for_each(|entry| entry.due_ns -= first);
    Ok(trace)
}

/// Lines of `name type`, `seconds name type`, or of a log that quotes `"TYPE IN NAME PROTOCOL …"`.
fn lines(text: &str) -> Result<Trace, String> {
    let mut trace = Trace { entries: Vec::new(), is_timed: true };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let (seconds, name, mnemonic) = match (logged(line), &words[..]) {
            (Some((name, mnemonic)), _) => (None, name, mnemonic),
            (None, [name, mnemonic]) => (None, *name, *mnemonic),
            (None, [seconds, name, mnemonic]) => (Some(*seconds), *name, *mnemonic),
            _ => return Err(format!("line {}: not `[seconds] name type`: {line}", index + 1)),
        };
        let fail = |what: &str| format!("line {}: {what}: {line}", index + 1);
        let rtype = record_type(mnemonic).ok_or_else(|| fail("unknown type"))?;
        let due_ns = match seconds {
            None => {
                trace.is_timed = false;
                0
            }
            Some(seconds) => {
                let seconds: f64 = seconds.parse().map_err(|_| fail("not a time in seconds"))?;
                (seconds.max(0.0) * 1e9) as u64
            }
        };
        let question = question(name, rtype).map_err(|error| fail(&error))?;
        trace.entries.push(Entry { due_ns, question, edns: None });
    }
    Ok(trace)
}

/// Name and type of a log line such as `[INFO] 10.0.0.1:5353 - 7 "A IN example.org. udp 41 false 512" …`.
fn logged(line: &str) -> Option<(&str, &str)> {
    let quoted = line.split('"').nth(1)?;
    let mut words = quoted.split(' ');
    let (rtype, class, name) = (words.next()?, words.next()?, words.next()?);
    (class == "IN").then_some((name, rtype))
}

/// Fields of a capture, in its byte order.
struct Fields {
    is_big: bool,
}

impl Fields {
    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }
}

fn capture(bytes: &[u8], is_big: bool) -> Result<Trace, String> {
    let fields = Fields { is_big };
    let magic = fields.u32(bytes, 0).unwrap_or_default();
    let nanoseconds_of_a_fraction = if magic == 0xa1b2_3c4d { 1 } else { 1000 };
    let link = fields.u32(bytes, 20).ok_or("a capture that is cut off")? & 0xffff;
    let mut trace = Trace { entries: Vec::new(), is_timed: true };
    let mut at = 24;
    while let (Some(seconds), Some(fraction), Some(len)) =
        (fields.u32(bytes, at), fields.u32(bytes, at + 4), fields.u32(bytes, at + 8))
    {
        // What was not written to the end when the capture was copied is left out.
        let Some(frame) = bytes.get(at + 16..at + 16 + len as usize) else { break };
        at += 16 + len as usize;
        let due_ns =
            u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * nanoseconds_of_a_fraction;
        if let Some((question, edns)) =
            packet(frame, link).and_then(payload_to_port_53).and_then(query)
        {
            trace.entries.push(Entry { due_ns, question, edns });
        }
    }
    Ok(trace)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The IP packet of a frame (the numbers are LINKTYPE_ values).
fn packet(frame: &[u8], link: u32) -> Option<&[u8]> {
    const VLAN: [u16; 2] = [0x8100, 0x88a8];
    match link {
        0 | 108 => frame.get(4..),
        1 => {
            let mut at = 12;
            while VLAN.contains(&u16_at(frame, at)?) {
                at += 4;
            }
            frame.get(at + 2..)
        }
        12 | 14 | 101 | 228 | 229 => Some(frame),
        113 => frame.get(16..),
        276 => frame.get(20..),
        _ => None,
    }
}

/// What a whole UDP datagram to port 53 carries. Fragments and extension headers are left out.
fn payload_to_port_53(packet: &[u8]) -> Option<&[u8]> {
    const UDP: u8 = 17;
    let udp = match packet.first()? >> 4 {
        4 => {
            let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
            let header_len = usize::from(packet[0] & 15) * 4;
            (packet.get(9) == Some(&UDP) && !is_fragment).then(|| packet.get(header_len..))??
        }
        6 => (packet.get(6) == Some(&UDP)).then(|| packet.get(40..))??,
        _ => return None,
    };
    (u16_at(udp, 2)? == 53).then(|| udp.get(8..))?
}

/// The question of a query, and its OPT.
fn query(message: &[u8]) -> Option<(Vec<u8>, Option<Edns>)> {
    if message.len() < HEADER_LEN || message[2] & 0xf8 != 0 || message[4..6] != [0, 1] {
        return None;
    }
    let mut end = HEADER_LEN;
    while let len @ 1..=63 = *message.get(end)? {
        end += 1 + usize::from(len);
    }
    if message[end] != 0 {
        return None;
    }
    end += 5;
    let question = message.get(HEADER_LEN..end)?;
    // RFC 6891 section 6.1.2: root, OPT, size, extended rcode, version, flags.
    let edns = match message.get(end..end + 9) {
        Some([0, 0, 41, high, low, _, _, flags, _]) => {
            Some(Edns { udp_size: u16::from_be_bytes([*high, *low]), dnssec_ok: flags & 0x80 != 0 })
        }
        _ => None,
    };
    (question.len() <= 259 && u16_at(question, question.len() - 2)? == 1)
        .then(|| (question.to_vec(), edns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{QUERY_LEN_MAX, write_query};
    use proptest::prelude::*;

    #[test]
    fn texts_with_and_without_times_and_logs() {
        let trace = parse(b"; c\n10.5 a A\n10.25 b.c AAAA\n").unwrap();
        assert!(trace.is_timed);
        assert_eq!(trace.entries[0].question, question("b.c", 28).unwrap());
        assert_eq!(trace.entries[1].due_ns, 250_000_000);
        let log = br#"[INFO] 10.0.0.1:5 - 7 "A IN x.example. udp 41 false 512" NOERROR qr 1 0.1s"#;
        let trace = parse(log).unwrap();
        assert_eq!(trace.entries[0].question, question("x.example", 1).unwrap());
        assert!(!trace.is_timed);
        for (text, error) in [
            ("", "no queries"),
            ("a", "line 1: not `[seconds] name type`"),
            ("a NOPE", "line 1: unknown type"),
            ("x a A", "line 1: not a time in seconds"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().starts_with(error), "{text}");
        }
        assert!(parse(b"\x0a\x0d\x0d\x0a").unwrap_err().contains("editcap"));
    }

    /// A frame of Ethernet with a VLAN tag and IPv4, around a message to `port`.
    fn ethernet(message: &[u8], port: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x81, 0, 0, 5, 8, 0]);
        frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x30, 0x39]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(message);
        frame
    }

    /// A capture of little-endian microseconds.
    fn pcap(link: u32, frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 12]);
        bytes.extend(link.to_le_bytes());
        for (microseconds, frame) in frames {
            bytes.extend(7u32.to_le_bytes());
            bytes.extend(microseconds.to_le_bytes());
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend(frame);
        }
        bytes
    }

    fn message(edns: Option<Edns>) -> Vec<u8> {
        let mut buffer = [0; QUERY_LEN_MAX];
        let len = write_query(&mut buffer, 9, &question("a.example", 1).unwrap(), edns);
        buffer[..len].to_vec()
    }

    #[test]
    fn a_capture_gives_its_queries_and_nothing_else() {
        let edns = Some(Edns { udp_size: 1232, dnssec_ok: true });
        let mut response = message(None);
        response[2] |= 0x80;
        let frames = [
            (5, ethernet(&message(None), 53)),
            (6, ethernet(&message(None), 5353)),
            (7, ethernet(&response, 53)),
            (8, ethernet(&message(edns), 53)),
        ];
        let trace = parse(&pcap(1, &frames)).unwrap();
        let asked = question("a.example", 1).unwrap();
        assert_eq!(trace.entries.len(), 2);
        assert_eq!(trace.entries[0], Entry { due_ns: 0, question: asked.clone(), edns: None });
        assert_eq!(trace.entries[1], Entry { due_ns: 3000, question: asked, edns });
    }

    #[test]
    fn raw_ipv6_is_read_and_other_links_are_not() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        packet.extend([0; 32]);
        packet.extend([0x30, 0x39, 0, 53, 0, 0, 0, 0]);
        packet.extend(message(None));
        assert_eq!(parse(&pcap(101, &[(0, packet.clone())])).unwrap().entries.len(), 1);
        assert_eq!(parse(&pcap(200, &[(0, packet)])).unwrap_err(), "no queries");
    }

    proptest! {
        #[test]
        fn no_capture_ends_the_program(
            frames in prop::collection::vec(
                (0..9u32, prop::collection::vec(any::<u8>(), 0..90)), 0..9
            ),
            link in prop::sample::select(vec![0, 1, 101, 113, 276]),
            cut in 0..400usize,
        ) {
            let mut bytes = pcap(link, &frames);
            bytes.truncate(cut.max(4));
            let _ = parse(&bytes);
        }
    }
}
