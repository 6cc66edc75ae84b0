//! Tells what was written already, so that nothing is written twice.

/// Places in the table: a reply of 64 KiB has at most half as many records.
const PLACES: usize = 8_192;

/// A set of places in a message, by the hash of what stands there. 16 KiB on the stack, made only
/// where something may come twice.
pub(in crate::cluster) struct Seen {
    places: [u16; PLACES],
    left: usize,
}

impl Seen {
    pub(in crate::cluster) fn new() -> Self {
        // One place stays free, so that every search ends.
        Self { places: [0; PLACES], left: PLACES - 1 }
    }

    /// Whether nothing equal is there. `is_same` compares with what stands at a place.
    pub(in crate::cluster) fn is_new(&self, hash: u32, is_same: impl Fn(usize) -> bool) -> bool {
        let mut at = hash as usize % PLACES;
        while self.places[at] != 0 {
            if is_same(self.places[at] as usize) {
                return false;
            }
            at = (at + 1) % PLACES;
        }
        true
    }

    /// Adds a place, which is not 0.
    pub(in crate::cluster) fn add(&mut self, hash: u32, place: usize) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let mut at = hash as usize % PLACES;
        while self.places[at] != 0 {
            at = (at + 1) % PLACES;
        }
        self.places[at] = place as u16;
    }
}
