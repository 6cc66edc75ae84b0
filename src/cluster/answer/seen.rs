//! Tells what was written already, so that nothing is written twice.

/// Places in the table: a reply of 64 KiB has at most half as many records.
const PLACES: usize = 8_192;
/// Entries that are compared one by one, before a table is worth being cleared.
const FEW: usize = 24;

/// A set of places in a message, by the hash of what stands there. A table of 16 KiB on the stack is
/// made only when there are many.
pub(in crate::cluster) struct Seen {
    /// The first ones: where each belongs in a table, and its place.
    few: [(u16, u16); FEW],
    count: usize,
    many: Option<[u16; PLACES]>,
}

impl Seen {
    #[inline]
    pub(in crate::cluster) fn new() -> Self {
        Self { few: [(0, 0); FEW], count: 0, many: None }
    }

    /// Whether nothing equal is there. `is_same` compares with what stands at a place.
    pub(in crate::cluster) fn is_new(&self, hash: u32, is_same: impl Fn(usize) -> bool) -> bool {
        let mut at = hash as usize % PLACES;
        let Some(places) = &self.many else {
            let mut few = self.few[..self.count].iter();
            return few.all(|(home, place)| *home as usize != at || !is_same(*place as usize));
        };
        while places[at] != 0 {
            if is_same(places[at] as usize) {
                return false;
            }
            at = (at + 1) % PLACES;
        }
        true
    }

    /// Adds a place, which is not 0.
    pub(in crate::cluster) fn add(&mut self, hash: u32, place: usize) {
        let (home, place) = ((hash as usize % PLACES) as u16, place as u16);
        if let Some(few) = self.few.get_mut(self.count) {
            *few = (home, place);
            self.count += 1;
            return;
        }
        // One place stays free, so that every search ends.
        if self.count == PLACES - 1 {
            return;
        }
        self.count += 1;
        let few = self.few;
        let places = self.many.get_or_insert_with(|| {
            let mut places = [0; PLACES];
            few.iter().for_each(|(home, place)| put(&mut places, *home, *place));
            places
        });
        put(places, home, place);
    }
}

fn put(places: &mut [u16; PLACES], home: u16, place: u16) {
    let mut at = home as usize;
    while places[at] != 0 {
        at = (at + 1) % PLACES;
    }
    places[at] = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_told_apart_from_what_is_new() {
        for total in [0, 1, FEW, FEW + 1, 1_000, PLACES - 1, PLACES + 10] {
            let mut seen = Seen::new();
            // Every fourth has the same home; what is at a place is the place's number.
            let hash = |place: usize| (place / 4 * 2_654_435_761) as u32;
            for place in 1..=total {
                assert!(seen.is_new(hash(place), |at| at == place), "{place} of {total}");
                seen.add(hash(place), place);
            }
            for place in 1..=total.min(PLACES - 1) {
                assert!(!seen.is_new(hash(place), |at| at == place), "{place} of {total}");
            }
            assert!(seen.is_new(hash(60_000), |at| at == 60_000));
        }
    }
}
