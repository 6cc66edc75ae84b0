//! The record sets that nearly every answer ends with: the zone's NS records, or its SOA record.
//!
//! They are kept as they stand in a message, with the places of their compression pointers: those
//! move with the length of the question and of what stands before. Cost: a copy and a few stores.

use super::index::{RECORD_HEAD, Set, compressible};
use crate::limits::ZONE_TAIL_BYTES_MAX;
use crate::wire::HEADER_BYTES;

/// A record set of the apex, to be put anywhere in a message whose question ends with the apex.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Box<[u8]>,
    /// Places of pointers. A pointer holds an offset in the apex, or with `IN_TAIL` in this tail.
    pointers: Box<[u16]>,
    pub records: u16,
    /// The TTL that its records have here instead of their own.
    pub ttl: Option<u32>,
    /// The type they cover, if they are signatures.
    pub covers: u16,
}

const IN_TAIL: u16 = 0x2000;
const POINTER: u16 = 0xc000;
/// The last octet of a message that a pointer can name (RFC 1035 section 4.1.4).
const OFFSET_MAX: usize = 0x3fff;

impl Tail {
    /// From the set as the index holds it, for an apex of that many octets; with another TTL.
    pub fn new(set: &Set<'_>, covers: u16, apex: usize, ttl: Option<u32>) -> Tail {
        let mut tail = Tail { records: set.records, ttl, covers, ..Tail::default() };
        let block_at = HEADER_BYTES + apex + 4;
        let mut bytes = set.block.to_vec();
        let mut pointers = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if let Some(ttl) = ttl {
                bytes[at + 6..at + 10].copy_from_slice(&ttl.to_be_bytes());
            }
            pointers.push(at as u16);
            let length = u16::from_be_bytes([bytes[at + 10], bytes[at + 11]]);
            let rdata = at + RECORD_HEAD;
            if let Some((before, names, _)) = compressible(set.rtype) {
                let mut place = rdata + before;
                for _ in 0..names {
                    place = skip_name(&bytes, place, &mut pointers);
                }
            }
            at = rdata + usize::from(length);
        }
        // Such a set is put record by record; so is one whose offsets have no room in a pointer.
        if bytes.len() > ZONE_TAIL_BYTES_MAX {
            return tail;
        }
        for &place in &pointers {
            let place = usize::from(place);
            let target = u16::from_be_bytes([bytes[place], bytes[place + 1]]) & !POINTER;
            let kept = match usize::from(target).checked_sub(block_at) {
                Some(inside) => IN_TAIL | inside as u16,
                None => target - HEADER_BYTES as u16,
            };
            bytes[place..place + 2].copy_from_slice(&kept.to_be_bytes());
        }
        tail.bytes = bytes.into_boxed_slice();
        tail.pointers = pointers.into_boxed_slice();
        tail
    }

    /// The octets, whose pointers `point` must set.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it can be copied to that place of a message; else it is written record by record.
    #[inline]
    pub fn fits(&self, at: usize) -> bool {
        !self.bytes.is_empty() && at + self.bytes.len() <= OFFSET_MAX
    }

    /// Sets the pointers of a copy that stands at `at` of a message in which the apex stands at
    /// `apex_at`.
    #[inline]
    pub fn point(&self, out: &mut [u8], apex_at: usize, at: usize) {
        for &place in &self.pointers {
            let place = usize::from(place);
            let kept = u16::from_be_bytes([out[place], out[place + 1]]);
            let target = match kept & IN_TAIL {
                0 => apex_at as u16 + kept,
                _ => at as u16 + (kept & !IN_TAIL),
            };
            out[place..place + 2].copy_from_slice(&(POINTER | target).to_be_bytes());
        }
    }
}

/// Steps over the name at `at` and notes its pointer.
fn skip_name(bytes: &[u8], mut at: usize, pointers: &mut Vec<u16>) -> usize {
    loop {
        match bytes[at] {
            0 => return at + 1,
            length if length < 0xc0 => at += 1 + usize::from(length),
            _ => {
                pointers.push(at as u16);
                return at + 2;
            }
        }
    }
}
