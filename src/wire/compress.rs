//! Which names a message already has, so that others can end in pointers to them.
//!
//! A fixed table of name suffixes: for each its hash and its offset. A hit is compared with the
//! message's own octets, so the table is only ever a hint. Names are matched with their case, so
//! that a compressed name reads exactly as it was written; miekg/dns does the same. When the table
//! is full further names are written out: correct, only longer. Looking up a name is one pass over
//! its octets and one probe a label; forgetting all costs as much as was entered.
//! RFC 1035 section 4.1.4.

use super::name::Name;
use crate::limits::{COMPRESS_LABELS_MAX, COMPRESS_NAMES_MAX};

/// Slots of the table: at most half of them are in use.
const SLOTS: usize = COMPRESS_NAMES_MAX * 2;
/// The first offset that a pointer cannot hold.
const POINTER_END: usize = 0x4000;

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= 256 && COMPRESS_NAMES_MAX < 256);

/// Mixes one label, its length octet included, into the hash of what is right of it.
#[inline]
pub(super) fn hash_label(hash: u32, label: &[u8]) -> u32 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(hash) ^ 0x5851_f42d_4c95_7f2d;
    // What is left after whole words is read as words that overlap: no loop over octets.
    let last = if let Some(last) = label.last_chunk::<8>() {
        for word in label.as_chunks::<8>().0 {
            state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER);
            state ^= state >> 29;
        }
        u64::from_le_bytes(*last)
    } else if let (Some(low), Some(high)) = (label.first_chunk::<4>(), label.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32
    } else {
        label.iter().fold(0, |last, octet| last << 8 | u64::from(*octet))
    };
    state = (state ^ last).wrapping_mul(MULTIPLIER);
    (state >> 32) as u32
}

/// The table.
pub(super) struct Compressor {
    /// High half: of the hash; low half: the offset; 0: empty. Open addressing, linear probing.
    slots: [u32; SLOTS],
    /// The slots in use, in the order of entry.
    used: [u8; COMPRESS_NAMES_MAX],
    count: u8,
}

/// How a name is to be written.
pub(super) struct Plan {
    /// Octets of the name to be written out.
    pub(super) written: usize,
    /// What the rest is a pointer to; `None`: the name was written whole.
    pub(super) target: Option<u16>,
    starts: [u8; COMPRESS_LABELS_MAX],
    hashes: [u32; COMPRESS_LABELS_MAX],
    /// Suffixes that are new, from the left.
    fresh: usize,
}

impl Compressor {
    pub(super) const fn new() -> Self {
        Self { slots: [0; SLOTS], used: [0; COMPRESS_NAMES_MAX], count: 0 }
    }

    /// How many suffixes were entered: what [`Compressor::shrink`] goes back to.
    #[inline]
    pub(super) const fn count(&self) -> u8 {
        self.count
    }

    /// Forgets all suffixes but the first `count` ones.
    #[inline]
    pub(super) fn shrink(&mut self, count: u8) {
        // The last entered is the last of its run: nothing was moved past it since.
        while self.count > count {
            self.count -= 1;
            self.slots[self.used[self.count as usize] as usize] = 0;
        }
    }

    /// Looks for the longest suffix of `name` in `message`.
    #[inline]
    pub(super) fn plan(&self, message: &[u8], name: Name<'_>) -> Plan {
        let bytes = name.as_bytes();
        let mut plan = Plan {
            written: bytes.len(),
            target: None,
            starts: [0; COMPRESS_LABELS_MAX],
            hashes: [0; COMPRESS_LABELS_MAX],
            fresh: 0,
        };
        let (mut at, mut count) = (0, 0);
        while bytes[at] != 0 {
            if count == COMPRESS_LABELS_MAX {
                return plan;
            }
            plan.starts[count] = at as u8;
            count += 1;
            at += bytes[at] as usize + 1;
        }
        let (mut hash, mut end) = (0, at);
        for label in (0..count).rev() {
            let start = plan.starts[label] as usize;
            hash = hash_label(hash, &bytes[start..end]);
            plan.hashes[label] = hash;
            end = start;
        }
        plan.fresh = count;
        for label in 0..count {
            let start = plan.starts[label] as usize;
            if let Some(target) = self.find(message, plan.hashes[label], &bytes[start..]) {
                plan.written = start;
                plan.target = Some(target);
                plan.fresh = label;
                break;
            }
        }
        plan
    }

    #[inline]
    fn find(&self, message: &[u8], hash: u32, name: &[u8]) -> Option<u16> {
        let mut slot = hash as usize % SLOTS;
        loop {
            let entry = self.slots[slot];
            if entry == 0 {
                return None;
            }
            if (entry ^ hash) >> 16 == 0 && reads_as(message, entry as u16, name) {
                return Some(entry as u16);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Enters the suffixes of a planned name that were written out at offset `at`.
    #[inline]
    pub(super) fn enter(&mut self, plan: &Plan, at: usize) {
        for label in 0..plan.fresh {
            let offset = at + plan.starts[label] as usize;
            if offset >= POINTER_END || self.count as usize == COMPRESS_NAMES_MAX {
                return;
            }
            let hash = plan.hashes[label];
            let mut slot = hash as usize % SLOTS;
            while self.slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            self.slots[slot] = hash & 0xffff_0000 | offset as u32;
            self.used[self.count as usize] = slot as u8;
            self.count += 1;
        }
    }
}

/// Whether the name at offset `at` of the message is exactly `name`, an uncompressed one.
#[inline]
fn reads_as(message: &[u8], at: u16, name: &[u8]) -> bool {
    let (mut at, mut name) = (at as usize, name);
    // Written in full: one comparison.
    if message.get(at..at + name.len()) == Some(name) {
        return true;
    }
    loop {
        let Some(&len) = message.get(at) else { return false };
        if len >= 0xc0 {
            let Some(&low) = message.get(at + 1) else { return false };
            let target = usize::from(len & 0x3f) << 8 | usize::from(low);
            if target >= at {
                return false;
            }
            at = target;
            continue;
        }
        let octets = len as usize + 1;
        let (Some(mine), Some(label)) = (name.get(..octets), message.get(at..at + octets)) else {
            return false;
        };
        if mine != label {
            return false;
        }
        if len == 0 {
            return true;
        }
        at += octets;
        name = &name[octets..];
    }
}
