//! The one longest match of the program: which of a set of zones a name is under.
//!
//! Built once and only read after. Few zones are compared one by one, longest first; many are
//! hashed, each suffix of the name from the right on, bounded by the deepest zone: one pass over
//! the name's octets and one probe a label. A lookup allocates nothing. Zones come from
//! configuration and never from a packet, so the hash needs no secret.

use super::compress::hash_label;
use super::name::{Name, NameBuf};

/// Up to so many zones comparing is cheaper than hashing.
const COMPARED_MAX: usize = 4;

/// Zones, each with a value.
#[derive(Clone, Debug)]
pub struct Suffixes<V> {
    /// Longest zone first; zones are lower-cased and differ.
    zones: Vec<(NameBuf, V)>,
    /// Open addressing: index into `zones` plus one, 0 is empty; not used for few zones.
    table: Vec<u32>,
    /// Labels of the deepest zone.
    depth_max: usize,
}

impl<V> Suffixes<V> {
    /// Builds the set; of equal zones the first counts.
    pub fn new(zones: impl IntoIterator<Item = (NameBuf, V)>) -> Self {
        let mut kept: Vec<(NameBuf, V)> = Vec::new();
        let mut seen = foldhash::HashSet::default();
        for (zone, value) in zones {
            if seen.insert(zone) {
                kept.push((NameBuf::lowered(zone.as_name()), value));
            }
        }
        kept.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.as_name().len()));
        let depth_max = kept.iter().map(|(zone, _)| zone.as_name().label_count()).max();
        let mut all = Self { zones: kept, table: Vec::new(), depth_max: depth_max.unwrap_or(0) };
        if all.zones.len() > COMPARED_MAX {
            all.fill_table();
        }
        all
    }

    fn fill_table(&mut self) {
        self.table = vec![0; (self.zones.len() * 2).next_power_of_two()];
        let mask = self.table.len() - 1;
        for (index, (zone, _)) in self.zones.iter().enumerate() {
            let name = zone.as_name();
            let (starts, count) = name.starts();
            let hash = (0..count)
                .rev()
                .fold(0, |hash, label| hash_label(hash, label_octets(name, starts[label])));
            let mut slot = hash as usize & mask;
            while self.table[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = index as u32 + 1;
        }
    }

    /// The longest zone that `lower`, a lower-cased name, is under.
    #[inline]
    pub fn find<'n>(&self, lower: Name<'n>) -> Option<(Name<'n>, &V)> {
        let index = self.position(lower)?;
        let (zone, value) = &self.zones[index];
        let left = lower.len() - zone.as_name().len();
        Some((Name::trusted(&lower.as_bytes()[left..]), value))
    }

    /// The place of that zone among all of them.
    #[inline]
    pub fn position(&self, lower: Name<'_>) -> Option<usize> {
        match self.table.is_empty() {
            true => self.zones.iter().position(|(zone, _)| lower.ends_with(zone.as_name())),
            false => self.position_by_hash(lower),
        }
    }

    /// The zone in a place that [`position`](Self::position) gave, with its value.
    #[inline]
    pub fn entry(&self, position: usize) -> Option<(Name<'_>, &V)> {
        self.zones.get(position).map(|(zone, value)| (zone.as_name(), value))
    }

    /// The value of the zone in a place that [`position`](Self::position) gave.
    #[inline]
    pub fn at(&self, position: usize) -> Option<&V> {
        self.zones.get(position).map(|(_, value)| value)
    }

    fn position_by_hash(&self, lower: Name<'_>) -> Option<usize> {
        let (starts, count) = lower.starts();
        let mut found = self.probe(0, Name::ROOT);
        let mut hash = 0;
        for label in (count.saturating_sub(self.depth_max)..count).rev() {
            hash = hash_label(hash, label_octets(lower, starts[label]));
            let start = starts[label] as usize;
            let suffix = Name::trusted(&lower.as_bytes()[start..]);
            found = self.probe(hash, suffix).or(found);
        }
        found
    }

    /// The longest zone that `lower` is under, a zone of that very name left out: what DS queries
    /// are looked up with (RFC 4035 section 3.1.4.1).
    pub fn find_proper_parent<'n>(&self, lower: Name<'n>) -> Option<(Name<'n>, &V)> {
        self.find(lower.parent()?)
    }

    #[inline]
    fn probe(&self, hash: u32, name: Name<'_>) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let index = (self.table[slot] as usize).checked_sub(1)?;
            if self.zones[index].0.as_name().as_bytes() == name.as_bytes() {
                return Some(index);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The value of this very zone.
    pub fn get_exact(&self, lower: Name<'_>) -> Option<&V> {
        self.find(lower).filter(|(zone, _)| zone.len() == lower.len()).map(|(_, value)| value)
    }

    /// All zones and their values, longest first.
    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, &V)> {
        self.zones.iter().map(|(zone, value)| (zone.as_name(), value))
    }

    /// How many zones there are.
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }
}

/// A label with its length octet.
fn label_octets(name: Name<'_>, start: u8) -> &[u8] {
    let start = start as usize;
    &name.as_bytes()[start..=start + name.as_bytes()[start] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(zones: &[&str]) -> Suffixes<usize> {
        let zone = |text: &&str| NameBuf::parse(text).expect(text);
        Suffixes::new(zones.iter().map(zone).zip(0..))
    }

    fn find(set: &Suffixes<usize>, text: &str) -> Option<(String, usize)> {
        let name = NameBuf::parse(text).expect(text);
        set.find(name.as_name()).map(|(zone, value)| (zone.to_string(), *value))
    }

    /// Few zones and many zones take different ways: both must agree with the definition.
    #[test]
    fn the_longest_zone_is_found() {
        let few = ["org.", "a.example.org.", "Example.org."];
        let more = ["b.org.", "c.org.", "x.y.z.", "d.e.f.g.h.", "com.", "net."];
        let many: Vec<&str> = few.iter().chain(&more).copied().collect();
        for set in [set(&few), set(&many)] {
            let zone = |text: &str, value| Some((text.to_string(), value));
            assert_eq!(find(&set, "b.a.example.org"), zone("a.example.org.", 1));
            assert_eq!(find(&set, "a.example.org"), zone("a.example.org.", 1));
            assert_eq!(find(&set, "aa.example.org"), zone("example.org.", 2));
            assert_eq!(find(&set, "1.2.3.4.5.6.org"), zone("org.", 0));
            assert_eq!(find(&set, "xorg"), None);
            assert_eq!(find(&set, "."), None);
            let apex = NameBuf::parse("a.example.org").expect("a name");
            let above = set.find_proper_parent(apex.as_name()).map(|(_, value)| *value);
            assert_eq!(above, Some(2));
            assert_eq!(set.get_exact(apex.as_name()), Some(&1));
            assert_eq!(set.get_exact(apex.prepend(b"x").expect("a name").as_name()), None);
        }
    }

    #[test]
    fn the_root_is_a_zone_too() {
        let many = [".", "a.", "b.", "c.", "d.", "e.f."];
        for zones in [&many[..1], &many[..]] {
            let set = set(zones);
            assert_eq!(find(&set, "x.f").map(|(_, value)| value), Some(0));
            assert_eq!(find(&set, ".").map(|(_, value)| value), Some(0));
            assert!(set.find_proper_parent(Name::ROOT).is_none());
        }
    }

    #[test]
    fn the_first_of_equal_zones_counts() {
        let set = set(&["example.org", "EXAMPLE.org"]);
        assert_eq!((set.len(), find(&set, "example.org").map(|(_, v)| v)), (1, Some(0)));
        assert!(Suffixes::<()>::new([]).is_empty());
        assert!(Suffixes::<()>::new([]).find(Name::ROOT).is_none());
    }
}
