//! The SOA record of a zone, ready to be copied: every denial has it.

use super::{SOA_TIMES, SOA_TTL_MAX};
use crate::wire::{Full, HEADER_BYTES, Name, Reply, Section};

/// A rendered SOA record; where it ends in the name of the zone it points into the question.
#[derive(Clone, Debug)]
pub(super) struct SoaBlock {
    bytes: Box<[u8]>,
    /// Where the pointers to the zone stand: none for the root zone.
    pointers: Option<[usize; 3]>,
    serial: usize,
}

impl SoaBlock {
    pub(super) fn new(is_root: bool, ttl: u32) -> Self {
        let (mut bytes, mut at) = (Vec::new(), Vec::new());
        let mut zone = |bytes: &mut Vec<u8>| {
            at.push(bytes.len());
            bytes.extend(if is_root { &[0][..] } else { &[0, 0] });
        };
        zone(&mut bytes);
        bytes.extend([0, 6, 0, 1]);
        bytes.extend(ttl.min(SOA_TTL_MAX).to_be_bytes());
        let length = bytes.len();
        bytes.extend([0, 0]);
        bytes.extend(b"\x02ns\x03dns");
        zone(&mut bytes);
        bytes.extend(b"\x0ahostmaster");
        zone(&mut bytes);
        let serial = bytes.len();
        bytes.extend([0; 4]);
        SOA_TIMES.into_iter().chain([ttl]).for_each(|number| bytes.extend(number.to_be_bytes()));
        let rdata = (bytes.len() - length - 2) as u16;
        bytes[length..length + 2].copy_from_slice(&rdata.to_be_bytes());
        let pointers = if is_root { None } else { at.try_into().ok() };
        Self { bytes: bytes.into(), pointers, serial }
    }

    /// Adds the record to a reply whose question is `name`, which ends in the zone `apex`.
    pub(super) fn push(
        &self,
        section: Section,
        name: Name<'_>,
        apex: Name<'_>,
        serial: u32,
        reply: &mut Reply,
    ) -> Result<(), Full> {
        let to = (HEADER_BYTES + name.len() - apex.len()) as u16 | 0xc000;
        reply.push_block_with(section, &self.bytes, 1, |block, _| {
            for at in self.pointers.into_iter().flatten() {
                block[at..at + 2].copy_from_slice(&to.to_be_bytes());
            }
            block[self.serial..self.serial + 4].copy_from_slice(&serial.to_be_bytes());
        })
    }
}
