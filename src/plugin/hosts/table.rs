//! The table of a hosts file: names with their records ready to copy, addresses with their names.
//!
//! Built whole by control and only read by workers. A look-up is one probe, or two where a wildcard
//! may stand for the name; it allocates nothing. An entry takes about 150 octets.

use std::net::IpAddr;

use foldhash::HashMap;

use crate::limits::HOSTS_ENTRIES_MAX;
use crate::wire::{Name, NameBuf, Suffixes, rtype};

/// Octets of a record's head: a pointer to the question's name, type, class, TTL, length of RDATA.
const HEAD_BYTES: usize = 12;
/// Octets of an A record with its owner a pointer.
const A_BYTES: usize = HEAD_BYTES + 4;
/// Octets of an AAAA record with its owner a pointer.
const AAAA_BYTES: usize = HEAD_BYTES + 16;

/// Names and addresses of one source.
#[derive(Debug, Default)]
pub struct Table {
    names: HashMap<Box<[u8]>, Host>,
    /// Hosts whose leftmost label is an asterisk, by the rest of their name.
    wildcards: HashMap<Box<[u8]>, Host>,
    /// Names of an address in wire form, one after the other.
    addresses: HashMap<IpAddr, Vec<u8>>,
    entries: usize,
}

/// The records of a host, each with a pointer to the question's name as its owner.
#[derive(Debug, Default)]
struct Host {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Host {
    fn of(&self, rtype: u16) -> &[u8] {
        if rtype == rtype::A { &self.v4 } else { &self.v6 }
    }

    fn push(&mut self, address: IpAddr, ttl: u32) {
        let (out, rtype, len) = match address {
            IpAddr::V4(_) => (&mut self.v4, rtype::A, 4),
            IpAddr::V6(_) => (&mut self.v6, rtype::AAAA, 16),
        };
        let [t1, t2] = rtype.to_be_bytes();
        let [l1, l2, l3, l4] = ttl.to_be_bytes();
        // The question's name follows the header of twelve octets; the class is IN.
        out.extend([0xc0, 12, t1, t2, 0, 1, l1, l2, l3, l4, 0, len]);
        match address {
            IpAddr::V4(address) => out.extend(address.octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
    }
}

/// How many records [`Table::records`] gave, all of the type `rtype`.
pub fn count(records: &[u8], rtype: u16) -> u16 {
    let size = if rtype == rtype::A { A_BYTES } else { AAAA_BYTES };
    u16::try_from(records.len() / size).unwrap_or(u16::MAX)
}

/// What entries are read with.
pub struct Reading<'a> {
    /// Names outside these zones are left out.
    pub zones: &'a Suffixes<()>,
    /// TTL of the records, in seconds.
    pub ttl: u32,
    /// Whether addresses lead back to names.
    pub reverse: bool,
}

impl Table {
    /// Reads the lines of a hosts file: an address and its names, `#` begins a comment. A line that
    /// is none of that is passed over, a name that is none too.
    ///
    /// # Errors
    /// There are more than [`HOSTS_ENTRIES_MAX`] entries.
    pub fn parse(text: &str, reading: &Reading<'_>) -> Result<Self, String> {
        let mut table = Self::default();
        for line in text.lines() {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_whitespace();
            let Some(address) = words.next().and_then(address) else { continue };
            for name in words.filter_map(|word| NameBuf::parse(word).ok()) {
                table.insert(address, NameBuf::lowered(name.as_name()).as_name(), reading);
            }
            if table.entries > HOSTS_ENTRIES_MAX {
                return Err(format!("more than {HOSTS_ENTRIES_MAX} entries"));
            }
        }
        Ok(table)
    }

    fn insert(&mut self, address: IpAddr, name: Name<'_>, reading: &Reading<'_>) {
        if reading.zones.find(name).is_none() {
            return;
        }
        self.entries += 1;
        if name.is_wildcard() {
            let parent = name.parent().unwrap_or(Name::ROOT).as_bytes();
            self.wildcards.entry(parent.into()).or_default().push(address, reading.ttl);
            return;
        }
        self.names.entry(name.as_bytes().into()).or_default().push(address, reading.ttl);
        if reading.reverse {
            self.entries += 1;
            self.addresses.entry(address).or_default().extend(name.as_bytes());
        }
    }

    /// Names and addresses held: CoreDNS's count of entries.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The A or AAAA records of a name, of one of its own or of the wildcard that stands for it.
    #[inline]
    pub fn records(&self, lower: Name<'_>, rtype: u16) -> &[u8] {
        let own = self.names.get(lower.as_bytes()).map_or(&[][..], |host| host.of(rtype));
        if !own.is_empty() || self.wildcards.is_empty() {
            return own;
        }
        // An asterisk at the root stands for no name.
        let parent = lower.parent().filter(|parent| !parent.is_root());
        let wildcard = parent.and_then(|parent| self.wildcards.get(parent.as_bytes()));
        wildcard.map_or(&[], |host| host.of(rtype))
    }

    /// Whether the name has an address.
    pub fn has(&self, lower: Name<'_>) -> bool {
        [rtype::A, rtype::AAAA].iter().any(|rtype| !self.records(lower, *rtype).is_empty())
    }

    /// The names of an address, in wire form one after the other.
    pub fn names(&self, address: IpAddr) -> &[u8] {
        self.addresses.get(&address).map_or(&[], |names| names)
    }
}

/// An address as hosts files have it: the zone of a scoped one is left out, one that is mapped into
/// IPv6 is IPv4.
fn address(word: &str) -> Option<IpAddr> {
    let address = word.split_once('%').map_or(word, |(address, _)| address);
    address.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> NameBuf {
        NameBuf::parse(text).expect("a name")
    }

    fn read(zones: &[&str], reverse: bool, text: &str) -> Table {
        let zones = Suffixes::new(zones.iter().map(|zone| (name(zone), ())));
        Table::parse(text, &Reading { zones: &zones, ttl: 60, reverse }).expect("few entries")
    }

    /// How many addresses of each family a name has.
    fn counts(table: &Table, text: &str) -> (u16, u16) {
        let lower = name(text);
        let of = |rtype| count(table.records(lower.as_name(), rtype), rtype);
        (of(rtype::A), of(rtype::AAAA))
    }

    fn names(table: &Table, address: &str) -> Vec<String> {
        let mut rest = table.names(address.parse().expect("an address"));
        let mut names = Vec::new();
        while let Ok((name, after)) = Name::from_wire(rest) {
            names.push(name.to_string());
            rest = after;
        }
        names
    }

    #[test]
    fn lines_of_a_hosts_file() {
        let text = "# comment 192.0.2.9 no.test\n\
            192.0.2.1 One.Test. one.alias # 192.0.2.2 no.test\n\
            \t192.0.2.2\tone.test\n\
            2001:db8::1 one.test\n\
            fe80::1%eth0 scoped.test\n\
            ::ffff:192.0.2.3 mapped.test\n\
            192.0.2.04 octal.test\n\
            192.0.2 short.test\n\
            192.0.2.5\n\
            nonsense no.test\n\
            192.0.2.6 a..b good.test\n";
        let table = read(&["."], true, text);
        assert_eq!(counts(&table, "one.test."), (2, 1));
        assert_eq!(counts(&table, "one.alias."), (1, 0));
        assert_eq!(counts(&table, "scoped.test."), (0, 1));
        assert_eq!(counts(&table, "mapped.test."), (1, 0));
        assert_eq!(counts(&table, "good.test."), (1, 0));
        for absent in ["no.test.", "octal.test.", "short.test.", "test."] {
            assert_eq!(counts(&table, absent), (0, 0), "{absent}");
            assert!(!table.has(name(absent).as_name()), "{absent}");
        }
        assert_eq!(names(&table, "192.0.2.1"), ["one.test.", "one.alias."]);
        assert_eq!(names(&table, "192.0.2.3"), ["mapped.test."]);
        assert_eq!(names(&table, "192.0.2.9"), [""; 0]);
        assert_eq!(table.entries(), 14, "seven names, both ways");
    }

    #[test]
    fn wildcards_stand_for_one_label() {
        let text = "192.0.2.1 *.w.test\n192.0.2.2 own.w.test\n2001:db8::1 *.w.test\n192.0.2.3 *";
        let table = read(&["."], true, text);
        assert_eq!(counts(&table, "a.w.test."), (1, 1));
        assert_eq!(counts(&table, "*.w.test."), (1, 1));
        // As in CoreDNS the wildcard stands in for the family that the name has no address of.
        assert_eq!(counts(&table, "own.w.test."), (1, 1));
        for absent in ["w.test.", "b.a.w.test.", "test.", "."] {
            assert_eq!(counts(&table, absent), (0, 0), "{absent}");
        }
        assert_eq!(names(&table, "192.0.2.1"), [""; 0], "no address leads to a wildcard");
    }

    #[test]
    fn zones_and_no_reverse() {
        let text = "192.0.2.1 a.in.test b.out.test in.test win.test";
        let table = read(&["in.test."], false, text);
        assert_eq!((counts(&table, "a.in.test."), counts(&table, "in.test.")), ((1, 0), (1, 0)));
        assert_eq!((counts(&table, "b.out.test."), counts(&table, "win.test.")), ((0, 0), (0, 0)));
        assert_eq!((names(&table, "192.0.2.1").len(), table.entries()), (0, 2));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9a-f.:%#* \\t\\\\\\n]|é){0,200}") {
            let table = read(&["."], true, &text);
            let held = table.names.values().chain(table.wildcards.values());
            for host in held {
                prop_assert_eq!(host.v4.len() % A_BYTES, 0);
                prop_assert_eq!(host.v6.len() % AAAA_BYTES, 0);
            }
        }
    }
}
