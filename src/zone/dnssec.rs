//! Which NSEC or NSEC3 records prove what an answer denies (RFC 4035 section 3.1.3, RFC 5155
//! section 7.2). Zones are signed elsewhere; here the records are only found.
//!
//! NSEC owners are kept in canonical order (RFC 4034 section 6.1), NSEC3 hashes sorted; both are
//! searched by halves. Cost with NSEC3: at most three chains of SHA-1, their iterations bounded by
//! `NSEC3_ITERATIONS_MAX` (RFC 9276 section 3.2); a zone above it gets no proofs.

use super::index::{At, Index, Node, Owner, Spelled, label_starts};
use super::rdata::digits;
use super::zone::Zone;
use crate::limits::NSEC3_ITERATIONS_MAX;
use sha1::{Digest, Sha1};
use std::cmp::Ordering;

const NSEC: u16 = 47;
pub(super) const NSEC3: u16 = 50;

/// SHA-1, the only hash that NSEC3 has (RFC 5155 section 11).
type Hash = [u8; 20];

/// How the zone denies.
#[derive(Debug)]
pub(super) enum Denial {
    /// It does not.
    None,
    /// Nodes with NSEC records in canonical order.
    Nsec(Box<[At]>),
    /// Nodes with NSEC3 records by their hash.
    Nsec3 { iterations: u16, salt: Box<[u8]>, ring: Box<[(Hash, At)]> },
}

/// What is to be proved. Names are prefixes; an encloser is the end of its name, given by length.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    /// The name does not exist, nor does a wildcard for it.
    NxDomain { name: &'a [u8], encloser: usize },
    /// The name exists, the type does not (also: no DS at a cut).
    NoData { name: &'a [u8] },
    /// The name does not exist: a wildcard may stand for it.
    Wildcard { name: &'a [u8], encloser: usize },
    /// As `Wildcard`, and the wildcard does not have the type.
    WildcardNoData { name: &'a [u8], encloser: usize },
}

/// The nodes of a proof, each once.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    nodes: [At; 4],
    count: usize,
}

impl Gathered {
    fn add(&mut self, node: Option<At>) {
        if let Some(at) = node.filter(|at| !self.nodes[..self.count].contains(at))
            && let Some(free) = self.nodes.get_mut(self.count)
        {
            *free = at;
            self.count += 1;
        }
    }

    pub fn nodes(self) -> impl Iterator<Item = At> {
        self.nodes.into_iter().take(self.count)
    }
}

impl Denial {
    /// Finds the NSEC or NSEC3 records among the nodes of a zone.
    pub fn new(index: &Index, apex: &[u8], nodes: impl Iterator<Item = At>) -> Denial {
        let (mut chain, mut ring) = (Vec::new(), Vec::new());
        let mut parameters = None;
        for at in nodes {
            let node = index.node(at);
            if node.has(super::index::HIDDEN) {
                continue;
            }
            if node.set(NSEC).is_some() {
                chain.push(at);
            }
            if let Some(hash) = node.set(NSEC3).and_then(|_| owner_hash(&node)) {
                ring.push((hash, at));
                parameters = parameters.or_else(|| read_parameters(&node, apex));
            }
        }
        if !chain.is_empty() {
            chain.sort_by(|&a, &b| canonical(index.node(a).prefix(), index.node(b).prefix()));
            return Denial::Nsec(chain.into_boxed_slice());
        }
        match parameters {
            Some((iterations, salt)) if iterations <= NSEC3_ITERATIONS_MAX => {
                ring.sort_unstable();
                Denial::Nsec3 { iterations, salt, ring: ring.into_boxed_slice() }
            }
            _ => Denial::None,
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Denial::None)
    }

    /// The type of the records that prove.
    pub fn rtype(&self) -> u16 {
        if matches!(self, Denial::Nsec3 { .. }) { NSEC3 } else { NSEC }
    }

    /// Octets held.
    pub fn bytes(&self) -> usize {
        match self {
            Denial::None => 0,
            Denial::Nsec(chain) => chain.len() * size_of::<At>(),
            Denial::Nsec3 { ring, .. } => ring.len() * size_of::<(Hash, At)>(),
        }
    }

    /// The nodes whose records are the proof.
    pub fn gather(&self, zone: &Zone, proof: Proof<'_>) -> Gathered {
        let mut gathered = Gathered::default();
        match self {
            Denial::None => {}
            Denial::Nsec(chain) => {
                let at_or_before = |name: &[u8]| at_or_before(chain, &zone.index, name);
                match proof {
                    Proof::NoData { name } | Proof::Wildcard { name, .. } => {
                        gathered.add(at_or_before(name));
                    }
                    Proof::NxDomain { name, encloser }
                    | Proof::WildcardNoData { name, encloser } => {
                        gathered.add(at_or_before(name));
                        let mut wild = Wild::below(&name[name.len() - encloser..]);
                        gathered.add(at_or_before(wild.prefix()));
                    }
                }
            }
            Denial::Nsec3 { iterations, salt, ring } => {
                let ring = Ring { iterations: *iterations, salt, ring, apex: &zone.apex };
                ring.gather(proof, &mut gathered);
            }
        }
        gathered
    }
}

/// `*.` before a prefix.
struct Wild {
    octets: [u8; 256],
    len: usize,
}

impl Wild {
    fn below(encloser: &[u8]) -> Wild {
        let mut octets = [0; 256];
        octets[..2].copy_from_slice(b"\x01*");
        octets[2..2 + encloser.len()].copy_from_slice(encloser);
        Wild { octets, len: 2 + encloser.len() }
    }

    fn prefix(&mut self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// The last NSEC owner that is not after the name. The apex is before all, if it has one.
fn at_or_before(chain: &[At], index: &Index, name: &[u8]) -> Option<At> {
    let after =
        chain.partition_point(|&at| canonical(index.node(at).prefix(), name) != Ordering::Greater);
    chain.get(after.checked_sub(1)?).copied()
}

/// Canonical order of two prefixes in lower case (RFC 4034 section 6.1).
fn canonical(a: &[u8], b: &[u8]) -> Ordering {
    let labels = |prefix: &[u8]| label_starts(prefix).rev().skip(1);
    let label = |prefix: &[u8], at: usize| at + 1..at + 1 + usize::from(prefix[at]);
    let (mut left, mut right) = (labels(a), labels(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match a[label(a, x)].cmp(&b[label(b, y)]) {
                Ordering::Equal => {}
                order => return order,
            },
        }
    }
}

/// The hash that an NSEC3 owner name spells.
fn owner_hash(node: &Node<'_>) -> Option<Hash> {
    let prefix = node.prefix();
    let length = usize::from(*prefix.first()?);
    let mut hash = Vec::new();
    digits(prefix.get(1..1 + length)?, 5, &mut hash)?;
    hash.try_into().ok()
}

/// Iterations and salt of the node's first NSEC3 record.
fn read_parameters(node: &Node<'_>, apex: &[u8]) -> Option<(u16, Box<[u8]>)> {
    let set = node.set(NSEC3)?;
    let mut room = Spelled::new();
    let owner = Owner { prefix: node.prefix(), apex };
    let rdata = set.records().next()?.rdata(&set, owner, &mut room);
    let [_, _, high, low, length, rest @ ..] = rdata else { return None };
    let salt = rest.get(..usize::from(*length))?;
    Some((u16::from_be_bytes([*high, *low]), salt.into()))
}

/// The NSEC3 records with what is needed to hash a name.
struct Ring<'d> {
    iterations: u16,
    salt: &'d [u8],
    ring: &'d [(Hash, At)],
    apex: &'d [u8],
}

impl Ring<'_> {
    fn gather(&self, proof: Proof<'_>, gathered: &mut Gathered) {
        match proof {
            Proof::NoData { name } => match self.matching(name) {
                Some(at) => gathered.add(Some(at)),
                // Opt-out (RFC 5155 section 7.2.4).
                None => {
                    self.encloser(name, name.len(), gathered);
                }
            },
            Proof::Wildcard { name, encloser } => {
                gathered.add(self.covering(next_closer(name, encloser)));
            }
            Proof::NxDomain { name, encloser } => {
                let encloser = self.encloser(name, encloser, gathered);
                let mut wild = Wild::below(&name[name.len() - encloser..]);
                gathered.add(self.covering(wild.prefix()));
            }
            Proof::WildcardNoData { name, encloser } => {
                let encloser = self.encloser(name, encloser, gathered);
                let mut wild = Wild::below(&name[name.len() - encloser..]);
                gathered.add(self.matching(wild.prefix()));
            }
        }
    }

    /// The closest encloser proof (RFC 5155 section 7.2.1), and the encloser that it proves: with
    /// opt-out one that stands only above insecure cuts has no record, and what is above it counts.
    fn encloser(&self, name: &[u8], encloser: usize, gathered: &mut Gathered) -> usize {
        for at in label_starts(name).filter(|&at| at >= name.len() - encloser) {
            if let Some(node) = self.matching(&name[at..]) {
                gathered.add(Some(node));
                if at > 0 {
                    gathered.add(self.covering(next_closer(name, name.len() - at)));
                }
                return name.len() - at;
            }
        }
        encloser
    }

    /// The record whose owner is the hash of the name.
    fn matching(&self, name: &[u8]) -> Option<At> {
        let hash = self.hash(name);
        let found = self.ring.binary_search_by(|(other, _)| other.cmp(&hash)).ok()?;
        Some(self.ring[found].1)
    }

    /// The record in whose gap the hash of the name falls; the last goes round to the first.
    fn covering(&self, name: &[u8]) -> Option<At> {
        let hash = self.hash(name);
        let after = self.ring.partition_point(|(other, _)| *other <= hash);
        let before = after.checked_sub(1).unwrap_or(self.ring.len().checked_sub(1)?);
        Some(self.ring[before].1)
    }

    /// RFC 5155 section 5.
    fn hash(&self, name: &[u8]) -> Hash {
        let once = |parts: [&[u8]; 3]| -> Hash {
            let mut sha = Sha1::new();
            parts.iter().for_each(|part| sha.update(part));
            sha.finalize().into()
        };
        let mut hash = once([name, self.apex, self.salt]);
        for _ in 0..self.iterations {
            hash = once([&hash, self.salt, &[]]);
        }
        hash
    }
}

/// The encloser with one more label of the name.
fn next_closer(name: &[u8], encloser: usize) -> &[u8] {
    let end = name.len() - encloser;
    let start = label_starts(name).take_while(|&at| at < end).last().unwrap_or(0);
    &name[start..]
}
