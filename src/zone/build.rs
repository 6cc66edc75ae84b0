//! Makes a zone of records, in any order and from any source.
//!
//! Records are appended to one log and names to one list, each name once; `finish` sorts the log by
//! name, renders every record set and drops the log. Nothing is allocated for a single record or
//! name. What is outside of the zone is counted and left out, as are SOA records that are not at the
//! apex. Doubled records are one (RFC 2181 section 5), the TTL of a set is its smallest (section
//! 5.2), a name has one CNAME (section 10.1) and one DNAME (RFC 6672 section 2.4), and of several
//! SOA records the last counts.

use super::dnssec::Denial;
use super::index::{self, ALIAS, At, CUT, DNAME, HIDDEN, Index, Renderer};
use super::rdata;
use super::zone::{Zone, ZoneError};
use crate::limits::ZONE_RECORDS_MAX;
use crate::wire::{NameBuf, same_octets};
use foldhash::{HashSet, HashSetExt};

const NONE: u32 = u32::MAX;
/// Octets before the RDATA of a record in the log: owner, type, TTL, length.
const LOG_HEAD: usize = 12;
/// Above this many records of a set, doubles are looked for by hash.
const COMPARE_MAX: usize = 16;

/// A zone in the making.
#[derive(Debug)]
pub struct ZoneBuilder {
    /// The zone's name in wire form, lower case.
    apex: Vec<u8>,
    /// Prefixes, each behind its length.
    names: Vec<u8>,
    /// Where name N is in `names`; the apex is 0.
    name_at: Vec<u32>,
    /// The name above name N.
    parent: Vec<u32>,
    /// Names by hash: (32 bits of hash, number + 1), a power of two of them.
    table: Vec<u64>,
    log: Vec<u8>,
    records: usize,
    ignored: u64,
    last: u32,
    /// Serial of the SOA record met last.
    serial: Option<u32>,
    soa_elsewhere: bool,
}

/// A record in the log.
struct Logged<'l> {
    rtype: u16,
    ttl: u32,
    rdata: &'l [u8],
}

impl ZoneBuilder {
    /// An empty zone. `octets` is about how much there will be to read (the size of a file): room
    /// is reserved for it, which costs nothing until it is written.
    pub fn new(origin: &NameBuf, octets: usize) -> Self {
        let mut names = Vec::with_capacity(octets);
        names.push(0);
        let mut builder = ZoneBuilder {
            apex: origin.as_name().as_bytes().to_ascii_lowercase(),
            names,
            name_at: Vec::with_capacity(octets / 16 + 1),
            parent: Vec::with_capacity(octets / 16 + 1),
            table: vec![0; 64],
            log: Vec::with_capacity(octets),
            records: 0,
            ignored: 0,
            last: 0,
            serial: None,
            soa_elsewhere: false,
        };
        builder.name_at.push(0);
        builder.parent.push(NONE);
        builder.enter(index::hash(&[]), 0);
        builder
    }

    /// The serial of the zone's SOA record, once it was met.
    pub fn serial(&self) -> Option<u32> {
        self.serial
    }

    /// Adds a record of class IN. `owner` is in wire form and lower case, `rdata` uncompressed.
    /// The error says what is wrong with it.
    pub fn push(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<(), &'static str> {
        let Some(prefix) = strip(owner, &self.apex) else {
            self.ignored += 1;
            self.soa_elsewhere |= rtype == 6;
            return Ok(());
        };
        if rtype == 6 && !prefix.is_empty() {
            self.ignored += 1;
            self.soa_elsewhere = true;
            return Ok(());
        }
        if self.records >= ZONE_RECORDS_MAX || self.log.len() + rdata.len() > u32::MAX as usize / 2
        {
            return Err("zone has too many records");
        }
        if index::compressible(rtype).is_some() && !rdata::is_valid(rtype, rdata) {
            return Err("bad rdata for its type");
        }
        if rtype == 6 {
            let at = rdata.len() - 20;
            self.serial = rdata[at..at + 4].try_into().ok().map(u32::from_be_bytes);
        }
        let owner = self.intern(prefix);
        self.log.extend_from_slice(&owner.to_le_bytes());
        self.log.extend_from_slice(&rtype.to_le_bytes());
        self.log.extend_from_slice(&ttl.to_le_bytes());
        self.log.extend_from_slice(&(rdata.len() as u16).to_le_bytes());
        self.log.extend_from_slice(rdata);
        self.records += 1;
        Ok(())
    }

    fn prefix(&self, name: u32) -> &[u8] {
        let at = self.name_at[name as usize] as usize;
        let length = usize::from(self.names[at]);
        &self.names[at + 1..at + 1 + length]
    }

    /// The number of a name; it and all names between it and the apex are entered if they are new.
    fn intern(&mut self, prefix: &[u8]) -> u32 {
        if self.prefix(self.last) == prefix {
            return self.last;
        }
        let (mut below, mut first, mut rest) = (NONE, NONE, prefix);
        loop {
            let hash = index::hash(rest);
            let (name, is_new) = match self.lookup(hash, rest) {
                Some(name) => (name, false),
                None => (self.append(hash, rest), true),
            };
            if below != NONE {
                self.parent[below as usize] = name;
            }
            if first == NONE {
                first = name;
            }
            if !is_new || rest.is_empty() {
                self.last = first;
                return first;
            }
            below = name;
            // Siblings mostly follow each other: their parent is the last one's.
            rest = &rest[1 + usize::from(rest[0])..];
        }
    }

    fn lookup(&self, hash: u64, prefix: &[u8]) -> Option<u32> {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        while self.table[slot] != 0 {
            let entry = self.table[slot];
            let name = entry as u32 - 1;
            if entry >> 32 == hash & 0xffff_ffff && self.prefix(name) == prefix {
                return Some(name);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    fn append(&mut self, hash: u64, prefix: &[u8]) -> u32 {
        let name = self.name_at.len() as u32;
        self.name_at.push(self.names.len() as u32);
        self.parent.push(NONE);
        self.names.push(prefix.len() as u8);
        self.names.extend_from_slice(prefix);
        if self.name_at.len() * 4 > self.table.len() * 3 {
            let old = std::mem::take(&mut self.table);
            self.table = vec![0; old.len() * 2];
            for entry in old.into_iter().filter(|&entry| entry != 0) {
                self.enter(entry >> 32, entry as u32 - 1);
            }
        }
        self.enter(hash, name);
        name
    }

    fn enter(&mut self, hash: u64, name: u32) {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        while self.table[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.table[slot] = hash << 32 | u64::from(name + 1);
    }

    /// The record at an offset of the log, its owner, and where the next one is.
    fn logged(&self, at: usize) -> (u32, Logged<'_>, usize) {
        let head = &self.log[at..at + LOG_HEAD];
        let owner = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let rtype = u16::from_le_bytes([head[4], head[5]]);
        let ttl = u32::from_le_bytes([head[6], head[7], head[8], head[9]]);
        let end = at + LOG_HEAD + usize::from(u16::from_le_bytes([head[10], head[11]]));
        (owner, Logged { rtype, ttl, rdata: &self.log[at + LOG_HEAD..end] }, end)
    }

    /// Offsets of all records, those of a name together, and where name N's begin.
    fn sorted(&self) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0u32; self.name_at.len() + 1];
        let mut at = 0;
        while at < self.log.len() {
            let (owner, _, next) = self.logged(at);
            starts[owner as usize + 1] += 1;
            at = next;
        }
        for name in 1..starts.len() {
            starts[name] += starts[name - 1];
        }
        let mut fill = starts.clone();
        let mut order = vec![0u32; self.records];
        at = 0;
        while at < self.log.len() {
            let (owner, _, next) = self.logged(at);
            order[fill[owner as usize] as usize] = at as u32;
            fill[owner as usize] += 1;
            at = next;
        }
        (order, starts)
    }

    /// Renders everything. `None` in the place of a zone's SOA is an error.
    pub fn finish(mut self) -> Result<Zone, ZoneError> {
        if self.serial.is_none() {
            let elsewhere = self.soa_elsewhere;
            return Err(ZoneError::NoSoa { elsewhere });
        }
        self.table = Vec::new();
        let (order, starts) = self.sorted();
        let names = self.name_at.len();
        let room = names * 96 + self.names.len() + self.records * 24 + self.log.len();
        let mut index = Index::with_capacity(room);
        let mut nodes = Nodes { node_at: Vec::with_capacity(names), found: names, records: 0 };
        let mut types = vec![0u8; names];
        for (name, types) in types.iter_mut().enumerate() {
            let of_name = &order[starts[name] as usize..starts[name + 1] as usize];
            for &at in of_name {
                *types |= type_flag(self.logged(at as usize).1.rtype, name);
            }
        }
        let mut render = Render::default();
        for name in 0..names {
            let of_name = &order[starts[name] as usize..starts[name + 1] as usize];
            render.node(&self, name as u32, of_name, &types, &mut index, &mut nodes);
        }
        let apex = self.apex;
        drop((order, starts, types, self.names, self.name_at, self.parent, self.log));
        let found = nodes.node_at.iter().copied().filter(|&at| at & OUTSIDE == 0);
        index.set_buckets(nodes.found, found);
        let all = nodes.node_at.iter().map(|at| at & !OUTSIDE);
        let denial = Denial::new(&index, &apex, all);
        Zone::assemble(apex, index, denial, nodes.records, self.ignored)
    }

    /// Whether a name lies below a cut or a DNAME.
    fn is_hidden(&self, name: u32, types: &[u8]) -> bool {
        let mut above = self.parent[name as usize];
        while above != NONE {
            if types[above as usize] & (CUT | DNAME) != 0 {
                return true;
            }
            above = self.parent[above as usize];
        }
        false
    }
}

/// Marks a node that is not found by its name: the owner of an NSEC3 record (RFC 5155 section 7.2.8).
const OUTSIDE: At = 1 << 31;

struct Nodes {
    node_at: Vec<At>,
    found: usize,
    records: usize,
}

fn type_flag(rtype: u16, name: usize) -> u8 {
    match rtype {
        2 if name != 0 => CUT,
        5 => ALIAS,
        39 => DNAME,
        _ => 0,
    }
}

/// Working space for one node after the other.
#[derive(Default)]
struct Render {
    renderer: Renderer,
    /// (type, type covered, offset in the log)
    records: Vec<(u16, u16, u32)>,
    sets: Vec<(u16, u16, u16, usize)>,
}

impl Render {
    fn node(
        &mut self,
        from: &ZoneBuilder,
        name: u32,
        of_name: &[u32],
        types: &[u8],
        index: &mut Index,
        nodes: &mut Nodes,
    ) {
        self.records.clear();
        self.records.extend(of_name.iter().map(|&at| {
            let record = from.logged(at as usize).1;
            let covers = match (record.rtype, record.rdata) {
                (index::RRSIG, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
                _ => 0,
            };
            (record.rtype, covers, at)
        }));
        // Stable: the records of a set stay in the order of the file.
        self.records.sort_by_key(|&(rtype, covers, _)| (rtype, covers));
        self.sets.clear();
        let prefix = from.prefix(name);
        self.renderer.begin(prefix, &from.apex);
        let records = std::mem::take(&mut self.records);
        for set in records.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            self.set(from, set);
        }
        let is_denial = |&(rtype, covers, ..): &(u16, u16, u16, usize)| {
            rtype == super::dnssec::NSEC3 || covers == super::dnssec::NSEC3
        };
        let outside = !self.sets.is_empty() && self.sets.iter().all(is_denial);
        self.records = records;
        let hidden = if from.is_hidden(name, types) { HIDDEN } else { 0 };
        let flags = types[name as usize] | hidden;
        let at = index.push_node(flags, prefix, &self.sets, &self.renderer.out);
        nodes.node_at.push(if outside { at | OUTSIDE } else { at });
        nodes.found -= usize::from(outside);
        nodes.records += self.sets.iter().map(|set| usize::from(set.2)).sum::<usize>();
    }

    fn set(&mut self, from: &ZoneBuilder, set: &[(u16, u16, u32)]) {
        let (rtype, covers, _) = set[0];
        let of = |&(_, _, at): &(u16, u16, u32)| from.logged(at as usize).1;
        let set = match rtype {
            5 | 39 => &set[..1],
            6 => &set[set.len() - 1..],
            _ => set,
        };
        let ttl = set.iter().map(|r| of(r).ttl).min().unwrap_or(0);
        let start = self.renderer.out.len();
        self.renderer.begin_set();
        let mut seen = HashSet::new();
        let mut count = 0u16;
        for (place, record) in set.iter().enumerate() {
            let rdata = of(record).rdata;
            let double = if set.len() > COMPARE_MAX {
                !seen.insert(rdata)
            } else {
                set[..place].iter().any(|other| of(other).rdata == rdata)
            };
            if !double && count < u16::MAX {
                self.renderer.push(rtype, ttl, rdata);
                count += 1;
            }
        }
        self.sets.push((rtype, covers, count, self.renderer.out.len() - start));
    }
}

/// What stands left of `apex` in `name`, if `name` is at or under it. Both are lower case.
pub(super) fn strip<'n>(name: &'n [u8], apex: &[u8]) -> Option<&'n [u8]> {
    let want = name.len().checked_sub(apex.len())?;
    if !same_octets(&name[want..], apex) {
        return None;
    }
    let mut at = 0;
    while at < want {
        at += 1 + usize::from(name[at]);
    }
    (at == want).then(|| &name[..want])
}
