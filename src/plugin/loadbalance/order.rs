//! The order of a section's records: read, shuffled, sorted, and given to [`Reply::permute`].
//!
//! Room for the records of the largest message is taken once for each worker and link; nothing is
//! allocated for a query.

use std::net::IpAddr;

use super::weights::Weights;
use crate::limits::{MESSAGE_BYTES_MAX, RECORD_BYTES_MIN};
use crate::wire::{Record, Reply, Section, rtype};

const RECORDS_MAX: usize = MESSAGE_BYTES_MAX / RECORD_BYTES_MIN;

/// Records that are ordered among each other; groups come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// CNAME: has to be before what it leads to.
    Cname,
    /// Whatever has no place of its own.
    Rest,
    /// A and AAAA.
    Address,
    /// MX.
    Mx,
}

impl Group {
    fn of(record: &Record) -> Self {
        match record.rtype {
            rtype::CNAME => Self::Cname,
            rtype::A | rtype::AAAA => Self::Address,
            rtype::MX => Self::Mx,
            _ => Self::Rest,
        }
    }

    /// Its place where networks are preferred: whatever has no place of its own comes last.
    fn place(self) -> u8 {
        match self {
            Self::Cname => 0,
            Self::Address => 1,
            Self::Mx => 2,
            Self::Rest => 3,
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    group: Group,
    /// Which record of the section it was, from 0.
    index: u16,
    /// An address's weight, or the network that it is in.
    rank: u16,
    /// Where it stands before a sort, so that equals stay in order.
    place: u16,
}

/// The order of one section.
#[derive(Debug)]
pub struct Order {
    entries: Vec<Entry>,
    indices: Vec<u16>,
}

impl Order {
    /// With room for any message.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(RECORDS_MAX), indices: Vec::with_capacity(RECORDS_MAX) }
    }

    /// Begins with a section's records in the order of their groups; `rank` gives an address's
    /// weight or network.
    pub fn read(
        &mut self,
        reply: &Reply,
        section: Section,
        mut rank: impl FnMut(&Record, &[u8]) -> u16,
    ) {
        let message = reply.bytes();
        self.entries.clear();
        let records = reply.records().flatten().filter(|record| record.section == section);
        for (index, record) in records.take(RECORDS_MAX).enumerate() {
            let (group, index) = (Group::of(&record), index as u16);
            let rank = if group == Group::Address { rank(&record, message) } else { 0 };
            self.entries.push(Entry { group, index, rank, place: index });
        }
        self.entries.sort_unstable_by_key(|entry| (entry.group, entry.index));
    }

    /// The records of one group; they stand together until networks are preferred.
    pub fn group(&mut self, group: Group) -> &mut [Entry] {
        let start = self.entries.partition_point(|entry| entry.group < group);
        let end = self.entries.partition_point(|entry| entry.group <= group);
        &mut self.entries[start..end]
    }

    /// Puts addresses of a lower rank before those of a higher one, and what has no place of its own
    /// last.
    pub fn sort_by_rank(&mut self) {
        for (place, entry) in self.entries.iter_mut().enumerate() {
            entry.place = place as u16;
        }
        self.entries.sort_unstable_by_key(|entry| (entry.group.place(), entry.rank, entry.place));
    }

    /// The ranks of all addresses together: 0 if there are none.
    pub fn sum(&mut self) -> u32 {
        self.group(Group::Address).iter().map(|entry| u32::from(entry.rank)).sum()
    }

    /// Exchanges the first address with the one that holds `ticket`, a number below the sum.
    pub fn put_first(&mut self, mut ticket: u32) {
        let addresses = self.group(Group::Address);
        let drawn = addresses.iter().position(|entry| {
            let held = ticket < u32::from(entry.rank);
            ticket = ticket.wrapping_sub(entry.rank.into());
            held
        });
        if let Some(drawn) = drawn {
            addresses.swap(0, drawn);
        }
    }

    /// For each new place which record of the section comes there.
    pub fn indices(&mut self) -> &[u16] {
        self.indices.clear();
        self.indices.extend(self.entries.iter().map(|entry| entry.index));
        &self.indices
    }
}

/// Which of the networks an A or AAAA record's address is in: their number if in none.
pub fn network_of(networks: &[(IpAddr, u8)], rdata: &[u8]) -> u16 {
    let address = address(rdata);
    let holds = |network: &(IpAddr, u8)| address.is_some_and(|address| is_in(address, *network));
    networks.iter().position(holds).unwrap_or(networks.len()) as u16
}

/// The weight of the address in an A or AAAA record.
pub fn weight_of(weights: &Weights, record: &Record, message: &[u8]) -> u16 {
    let weight = || Some(weights.of(&record.owner(message).ok()?, address(record.rdata(message))?));
    weight().unwrap_or(1).into()
}

/// The address in an A or AAAA record's RDATA.
fn address(rdata: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(rdata) {
        return Some(octets.into());
    }
    let octets = <[u8; 16]>::try_from(rdata).ok()?;
    Some(IpAddr::from(octets).to_canonical())
}

fn is_in(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Rng;
    use crate::wire::{NameBuf, Question, Rdata, rclass};

    const WWW: &str = "www.example.org.";

    /// A reply with a CNAME between addresses, a TXT and two MX records.
    fn reply(addresses: &[&str]) -> Reply {
        let name = NameBuf::parse(WWW).unwrap();
        let name = name.as_name();
        let mut reply = Reply::new(vec![0; 1024].into());
        let question = Question { name, lower: name, rtype: rtype::A, rclass: rclass::IN };
        reply.start(1, crate::wire::Flags::default(), question);
        let answer = Section::Answer;
        for address in addresses {
            reply.push_address(answer, name, address.parse().unwrap(), 60).unwrap();
        }
        reply.push_name(answer, name, rtype::CNAME, name, 60).unwrap();
        reply.push(answer, name, rtype::TXT, rclass::IN, 60, Rdata::Raw(b"\x01a")).unwrap();
        for preference in [1, 2] {
            let rdata = [0, preference, 0];
            reply.push(answer, name, rtype::MX, rclass::IN, 60, Rdata::Wire(&rdata)).unwrap();
        }
        reply
    }

    fn read(reply: &Reply) -> Order {
        let mut order = Order::new();
        order.read(reply, Section::Answer, |_, _| 1);
        order
    }

    fn weighed(reply: &Reply, weights: &Weights) -> Order {
        let mut order = Order::new();
        let rank = |record: &Record, message: &[u8]| weight_of(weights, record, message);
        order.read(reply, Section::Answer, rank);
        order
    }

    #[test]
    fn groups_come_in_order_and_only_two_are_shuffled() {
        let reply = reply(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        let mut rng = Rng::from_seed(1);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..12_000 {
            let mut order = read(&reply);
            rng.shuffle(order.group(Group::Address));
            rng.shuffle(order.group(Group::Mx));
            let indices = order.indices();
            assert_eq!(indices[..2], [3, 4], "CNAME, TXT");
            *seen.entry(indices.to_vec()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 12, "six orders of addresses, two of MX records");
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn preferred_networks_come_first_and_others_keep_their_order() {
        let reply = reply(&["192.0.2.9", "10.1.1.1", "2001:db8::1", "10.2.1.1", "198.51.100.1"]);
        let net = |text: &str, bits| (text.parse().unwrap(), bits);
        let networks = [net("2001:db8::", 32), net("10.0.0.0", 8)];
        let mut order = Order::new();
        order.read(&reply, Section::Answer, |record, message| {
            network_of(&networks, record.rdata(message))
        });
        order.sort_by_rank();
        assert_eq!(order.indices(), [5, 2, 1, 3, 0, 4, 7, 8, 6], "CNAME, addresses, MX, TXT");
    }

    #[test]
    fn networks() {
        let within = |address: &str, network: &str, bits| {
            is_in(address.parse().unwrap(), (network.parse().unwrap(), bits))
        };
        assert!(within("10.255.0.1", "10.0.0.0", 8) && !within("11.0.0.1", "10.0.0.0", 8));
        assert!(within("1.2.3.4", "9.9.9.9", 0) && within("::1", "2001::", 0));
        assert!(within("::1", "::1", 128) && !within("::2", "::1", 128));
        assert!(!within("10.0.0.1", "::", 0) && within("10.0.0.1", "10.0.0.1", 32));
    }

    #[test]
    fn each_address_is_first_as_often_as_its_weight_says() {
        let reply = reply(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let weights = Weights::parse("w", "WWW.example.ORG\n192.0.2.2 3\n192.0.2.3 2\n").unwrap();
        let sum = weighed(&reply, &weights).sum();
        assert_eq!(sum, 6);
        let first = (0..sum).map(|ticket| {
            let mut order = weighed(&reply, &weights);
            order.put_first(ticket);
            order.indices()[2]
        });
        assert_eq!(first.collect::<Vec<_>>(), [0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn the_drawn_address_changes_places_with_the_first() {
        let reply = reply(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let mut order = weighed(&reply, &Weights::default());
        assert_eq!(order.sum(), 3);
        order.put_first(2);
        assert_eq!(order.indices(), [3, 4, 2, 1, 0, 5, 6]);
    }
}
