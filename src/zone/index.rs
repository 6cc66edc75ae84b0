//! The names of a zone and their record sets, laid out to be copied.
//!
//! One arena holds a node per name, in units of 16 octets; a node of up to 64 octets never crosses a
//! cache line. A table of 8-octet buckets (32 bits of hash, 32 bits of place) finds a name: a
//! look-up reads one bucket and one node. A node:
//!
//! ```text
//! flags u8 | octets of prefix u8 | sets u16 | prefix | (rtype covers records length)* | blocks
//! ```
//!
//! The prefix is the name without the zone's, in wire form and lower case. A block is one record
//! set as it stands in a message, *as if it were the first thing behind a question for its own
//! name*: its owners are pointers to octet 12, and names in its RDATA point into the question or the
//! block. Such an answer is one copy; anywhere else the records are read back (`Set::records`).
//! Empty non-terminals (RFC 4592 section 2.2.2) are nodes without sets.
//!
//! Cost: 64 octets and a bucket of 10 for a name with one address.

use crate::limits::NAME_BYTES_MAX;
use crate::wire::{HEADER_BYTES, same_octets};
use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hasher};

/// Where a node is in the arena, in units of `UNIT` octets. 0 is none.
pub(super) type At = u32;

pub(super) const UNIT: usize = 16;
const LINE: usize = 64;
const NODE_HEAD: usize = 4;
const SET_HEAD: usize = 12;
/// Owner pointer, type, class, TTL and RDLENGTH of a record in a block.
pub(super) const RECORD_HEAD: usize = 12;
/// Longest RDATA with names that may be compressed: two names and five numbers (SOA).
const NAMED_RDATA_MAX: usize = 2 * NAME_BYTES_MAX + 20;

/// Suffixes that a block remembers for compression.
const SUFFIXES_MAX: usize = 32;

/// Set in the flags of every node: tells nodes from padding.
const NODE: u8 = 0x80;
/// Has NS records and is not the apex.
pub(super) const CUT: u8 = 0x01;
/// Has a CNAME.
pub(super) const ALIAS: u8 = 0x02;
/// Has a DNAME.
pub(super) const DNAME: u8 = 0x04;
/// Lies below a cut or a DNAME: not to be answered from.
pub(super) const HIDDEN: u8 = 0x08;

/// Names by hash, nodes by place.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: Box<[u64]>,
    arena: Vec<u8>,
    nodes: usize,
}

/// One name of the zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'z> {
    /// From the node's first octet on.
    bytes: &'z [u8],
    pub at: At,
}

/// One record set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set<'z> {
    pub rtype: u16,
    pub records: u16,
    pub block: &'z [u8],
}

/// The hash of a prefix. Its seed is fixed: only who writes the zone chooses the names in it.
pub(super) fn hash(prefix: &[u8]) -> u64 {
    const STATE: FixedState = FixedState::with_seed(0x5eed_20ad);
    let mut hasher = STATE.build_hasher();
    hasher.write(prefix);
    hasher.finish()
}

impl Index {
    /// An index whose arena can grow to `octets` without moving. Room that is never written costs
    /// no memory.
    pub fn with_capacity(octets: usize) -> Self {
        let mut arena = Vec::with_capacity(octets + LINE);
        arena.resize(UNIT, 0);
        Index { buckets: Box::default(), arena, nodes: 0 }
    }

    /// Appends a node; `sets` are (type, type covered, records, length of block), `blocks` follow
    /// each other in the same order.
    pub fn push_node(
        &mut self,
        flags: u8,
        prefix: &[u8],
        sets: &[(u16, u16, u16, usize)],
        blocks: &[u8],
    ) -> At {
        let size = NODE_HEAD + prefix.len() + sets.len() * SET_HEAD + blocks.len();
        let within = self.arena.len() % LINE;
        if within > 0 && size <= LINE && within + size > LINE {
            self.arena.resize(self.arena.len().next_multiple_of(LINE), 0);
        }
        let at = (self.arena.len() / UNIT) as At;
        self.arena.extend_from_slice(&[NODE | flags, prefix.len() as u8]);
        self.arena.extend_from_slice(&(sets.len() as u16).to_le_bytes());
        self.arena.extend_from_slice(prefix);
        for &(rtype, covers, records, length) in sets {
            self.arena.extend_from_slice(&rtype.to_le_bytes());
            self.arena.extend_from_slice(&covers.to_le_bytes());
            self.arena.extend_from_slice(&u32::from(records).to_le_bytes());
            self.arena.extend_from_slice(&(length as u32).to_le_bytes());
        }
        self.arena.extend_from_slice(blocks);
        self.arena.resize(self.arena.len().next_multiple_of(UNIT), 0);
        self.nodes += 1;
        at
    }

    /// Makes the table for the nodes given, which are all that can be found by name.
    pub fn set_buckets(&mut self, count: usize, found: impl Iterator<Item = At>) {
        let mut buckets = vec![0u64; (count * 2).max(8)].into_boxed_slice();
        for at in found {
            let hash = hash(self.node(at).prefix());
            let mut slot = slot(hash, buckets.len());
            while buckets[slot] != 0 {
                slot = if slot + 1 == buckets.len() { 0 } else { slot + 1 };
            }
            buckets[slot] = u64::from(at) << 32 | hash & 0xffff_ffff;
        }
        self.buckets = buckets;
    }

    /// The node at a place that `push_node` gave.
    pub fn node(&self, at: At) -> Node<'_> {
        Node { bytes: &self.arena[at as usize * UNIT..], at }
    }

    /// The node of a prefix in lower case.
    #[inline]
    pub fn find(&self, prefix: &[u8]) -> Option<Node<'_>> {
        let hash = hash(prefix);
        let mut slot = slot(hash, self.buckets.len());
        loop {
            let bucket = *self.buckets.get(slot)?;
            if bucket == 0 {
                return None;
            }
            if bucket as u32 == hash as u32 {
                let node = self.node((bucket >> 32) as At);
                if same_octets(node.prefix(), prefix) {
                    return Some(node);
                }
            }
            slot = if slot + 1 == self.buckets.len() { 0 } else { slot + 1 };
        }
    }

    /// As `find`, with the place that `touch` gave for the same prefix: 0 for none.
    #[inline]
    pub fn find_at(&self, at: At, prefix: &[u8]) -> Option<Node<'_>> {
        if at != 0 {
            let node = self.node(at);
            if same_octets(node.prefix(), prefix) {
                return Some(node);
            }
        }
        self.find(prefix)
    }

    /// Loads what `find` reads first, the bucket, and tells which node it points at.
    #[inline]
    pub fn touch(&self, prefix: &[u8]) -> At {
        let hash = hash(prefix);
        let bucket = self.buckets.get(slot(hash, self.buckets.len())).copied().unwrap_or(0);
        (bucket >> 32) as At
    }

    /// Loads what `find` reads next, the head of a node that `touch` gave.
    #[inline]
    pub fn touch_node(&self, at: At) -> u8 {
        self.arena.get(at as usize * UNIT).copied().unwrap_or(0)
    }

    /// The first node at `at` or behind it, in the order in which they were made.
    pub fn next_from(&self, at: At) -> Option<Node<'_>> {
        let mut at = at.max(1);
        loop {
            let first = *self.arena.get(at as usize * UNIT)?;
            if first & NODE != 0 {
                return Some(self.node(at));
            }
            at += 1;
        }
    }

    /// Octets held.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * 8 + self.arena.len()
    }

    /// Nodes held.
    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

/// The bucket in which a look-up starts.
#[inline]
fn slot(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

fn le16(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

impl<'z> Node<'z> {
    /// Flags: `CUT`, `ALIAS`, `DNAME`, `HIDDEN`.
    pub fn has(&self, flags: u8) -> bool {
        self.bytes[0] & flags != 0
    }

    /// The name without the zone's, no root label.
    pub fn prefix(&self) -> &'z [u8] {
        &self.bytes[NODE_HEAD..NODE_HEAD + usize::from(self.bytes[1])]
    }

    /// All sets, signatures among them.
    pub fn sets(&self) -> impl Iterator<Item = Set<'z>> + use<'z> {
        self.heads().map(|(rtype, _, records, block)| Set { rtype, records, block })
    }

    /// (type, type covered, records, block) of every set.
    #[inline]
    fn heads(&self) -> impl Iterator<Item = (u16, u16, u16, &'z [u8])> + use<'z> {
        let heads = NODE_HEAD + usize::from(self.bytes[1]);
        let blocks = heads + usize::from(le16(&self.bytes[2..])) * SET_HEAD;
        let mut rest = &self.bytes[blocks..];
        self.bytes[heads..blocks].chunks_exact(SET_HEAD).map(move |head| {
            let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let (block, after) = rest.split_at(length);
            rest = after;
            (le16(head), le16(&head[2..]), le16(&head[4..]), block)
        })
    }

    /// The records of a type; for RRSIG use `signatures` or `sets`.
    #[inline]
    pub fn set(&self, rtype: u16) -> Option<Set<'z>> {
        let found = self.heads().find(|head| head.0 == rtype);
        found.map(|(rtype, _, records, block)| Set { rtype, records, block })
    }

    /// The signatures over the records of a type.
    pub fn signatures(&self, covered: u16) -> Option<Set<'z>> {
        let found = self.heads().find(|head| head.0 == RRSIG && head.1 == covered);
        found.map(|(rtype, _, records, block)| Set { rtype, records, block })
    }

    /// Where the next node may begin.
    pub fn after(&self) -> At {
        let heads = NODE_HEAD + usize::from(self.bytes[1]);
        let blocks = heads + usize::from(le16(&self.bytes[2..])) * SET_HEAD;
        let octets = blocks + self.sets().map(|set| set.block.len()).sum::<usize>();
        self.at + octets.div_ceil(UNIT) as At
    }
}

pub(super) const RRSIG: u16 = 46;

/// Types whose RDATA has names that may be compressed, and what stands before and after them
/// (RFC 1035 section 3.3; RFC 3597 section 4 forbids it for all later types).
pub(super) fn compressible(rtype: u16) -> Option<(usize, usize, usize)> {
    match rtype {
        2 | 5 | 12 => Some((0, 1, 0)),
        6 => Some((0, 2, 20)),
        15 => Some((2, 1, 0)),
        _ => None,
    }
}

/// One record read back from a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'z> {
    pub ttl: u32,
    /// As in the block: names may be compressed.
    raw: &'z [u8],
    rtype: u16,
}

impl<'z> Set<'z> {
    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Stored<'z>> + use<'z> {
        let mut rest = self.block;
        std::iter::from_fn(move || {
            let head = rest.get(..RECORD_HEAD)?;
            let length = usize::from(be16(&head[10..]));
            let raw = rest.get(RECORD_HEAD..RECORD_HEAD + length)?;
            rest = &rest[RECORD_HEAD + length..];
            let ttl = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
            Some(Stored { ttl, raw, rtype: be16(&head[2..]) })
        })
    }

    /// The TTL, which all records share.
    pub fn ttl(&self) -> u32 {
        self.records().next().map_or(0, |record| record.ttl)
    }
}

/// Room for RDATA whose names are spelled out again.
pub(super) struct Spelled {
    bytes: [u8; NAMED_RDATA_MAX],
    len: usize,
}

impl Spelled {
    pub const fn new() -> Self {
        Spelled { bytes: [0; NAMED_RDATA_MAX], len: 0 }
    }

    fn push(&mut self, octets: &[u8]) {
        // What was rendered from valid RDATA always fits; should it not, it is cut, not a panic.
        if let Some(room) = self.bytes.get_mut(self.len..self.len + octets.len()) {
            room.copy_from_slice(octets);
            self.len += octets.len();
        }
    }
}

/// Where a block's pointers lead: the question it was made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'z> {
    /// The node's prefix.
    pub prefix: &'z [u8],
    /// The zone's name in wire form.
    pub apex: &'z [u8],
}

impl Owner<'_> {
    /// Octets of the whole name.
    pub fn len(&self) -> usize {
        self.prefix.len() + self.apex.len()
    }

    /// Offset in the message of the block's first octet.
    pub fn block_at(&self) -> usize {
        HEADER_BYTES + self.len() + 4
    }
}

impl<'z> Stored<'z> {
    /// Octets of the whole record in its block.
    pub fn size(&self) -> usize {
        RECORD_HEAD + self.raw.len()
    }

    /// The RDATA with all names spelled out; `room` is used only if some were not.
    pub fn rdata<'r>(&self, set: &Set<'z>, owner: Owner<'_>, room: &'r mut Spelled) -> &'r [u8]
    where
        'z: 'r,
    {
        let Some((before, names, after)) = compressible(self.rtype) else { return self.raw };
        room.len = 0;
        room.push(&self.raw[..before]);
        let mut at = before;
        for _ in 0..names {
            at = spell(self.raw, at, set.block, owner, room);
        }
        room.push(&self.raw[at..at + after]);
        &room.bytes[..room.len]
    }
}

/// Spells out the name at `raw[at..]`; gives the place behind it.
fn spell(raw: &[u8], at: usize, block: &[u8], owner: Owner<'_>, out: &mut Spelled) -> usize {
    let (mut text, mut place, mut end) = (raw, at, None);
    loop {
        let length = usize::from(text[place]);
        if length < 0xc0 {
            out.push(&text[place..=place + length]);
            place += 1 + length;
            if length == 0 {
                return end.unwrap_or(place);
            }
            continue;
        }
        // Only the first pointer stands in this RDATA.
        end = end.or(Some(place + 2));
        let target = usize::from(be16(&text[place..]) & 0x3fff);
        if target < owner.block_at() {
            let from = target - HEADER_BYTES;
            if from < owner.prefix.len() {
                out.push(&owner.prefix[from..]);
                out.push(owner.apex);
            } else {
                out.push(&owner.apex[from - owner.prefix.len()..]);
            }
            return end.unwrap_or(place);
        }
        (text, place) = (block, target - owner.block_at());
    }
}

/// Writes blocks.
#[derive(Debug, Default)]
pub(super) struct Renderer {
    /// The name the blocks are for, wire form.
    owner: Vec<u8>,
    /// The names written in this block.
    names: Vec<u8>,
    /// Their suffixes: (offset in the message, from, to in `names`).
    written: Vec<(u16, u32, u32)>,
    /// The octets.
    pub out: Vec<u8>,
    block_at: usize,
}

impl Renderer {
    /// Begins a node.
    pub fn begin(&mut self, prefix: &[u8], apex: &[u8]) {
        self.owner.clear();
        self.owner.extend_from_slice(prefix);
        self.owner.extend_from_slice(apex);
        self.out.clear();
    }

    /// Begins the block of a set.
    pub fn begin_set(&mut self) {
        self.written.clear();
        self.names.clear();
        self.block_at = self.out.len();
    }

    /// Appends one record, whose RDATA must be what its type asks for.
    pub fn push(&mut self, rtype: u16, ttl: u32, rdata: &[u8]) {
        self.out.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
        self.out.extend_from_slice(&rtype.to_be_bytes());
        self.out.extend_from_slice(&[0, 1]);
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        match compressible(rtype) {
            None => self.out.extend_from_slice(rdata),
            Some((before, names, _)) => {
                self.out.extend_from_slice(&rdata[..before]);
                let mut at = before;
                for _ in 0..names {
                    at += self.push_name(&rdata[at..]);
                }
                self.out.extend_from_slice(&rdata[at..]);
            }
        }
        let length = (self.out.len() - length_at - 2) as u16;
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes the name at the start of `name`; gives its length.
    fn push_name(&mut self, name: &[u8]) -> usize {
        let mut end = 0;
        while name[end] != 0 {
            end += 1 + usize::from(name[end]);
        }
        let name = &name[..=end];
        let base = HEADER_BYTES + self.owner.len() + 4;
        let from = self.names.len();
        let mut at = 0;
        while name[at] != 0 {
            let suffix = &name[at..];
            if let Some(target) = self.target(suffix) {
                self.out.extend_from_slice(&(0xc000 | target).to_be_bytes());
                return name.len();
            }
            let place = base + self.out.len() - self.block_at;
            if place < 0x4000 && self.written.len() < SUFFIXES_MAX {
                if at == 0 {
                    self.names.extend_from_slice(name);
                }
                let to = (from + name.len()) as u32;
                self.written.push((place as u16, (from + at) as u32, to));
            }
            let length = usize::from(name[at]);
            self.out.extend_from_slice(&name[at..=at + length]);
            at += 1 + length;
        }
        self.out.push(0);
        name.len()
    }

    /// Where a name already stands: in the question, or in this block.
    fn target(&self, suffix: &[u8]) -> Option<u16> {
        let mut at = self.owner.len().checked_sub(suffix.len());
        if let Some(want) = at.filter(|&want| self.owner[want..] == *suffix) {
            // The octets agree; they are the same labels only if a label starts there.
            let mut label = 0;
            while label < want {
                label += 1 + usize::from(self.owner[label]);
            }
            at = (label == want).then_some(want);
            if let Some(at) = at {
                return Some((HEADER_BYTES + at) as u16);
            }
        }
        let same =
            |&&(_, from, to): &&(u16, u32, u32)| self.names[from as usize..to as usize] == *suffix;
        self.written.iter().find(same).map(|&(place, ..)| place)
    }
}

/// Octets of the prefix before each of its labels, leftmost first, and its end.
pub(super) fn label_starts(prefix: &[u8]) -> impl DoubleEndedIterator<Item = usize> + use<> {
    let mut starts = [0u8; 128];
    let (mut count, mut at) = (0, 0);
    while at < prefix.len() && count < 127 {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(prefix[at]);
    }
    starts[count] = prefix.len() as u8;
    (0..=count).map(move |i| usize::from(starts[i]))
}
