//! A and AAAA: the addresses of services, of sets of endpoints, of pods.
//!
//! Records of the question's own name are written many at a time: they differ in their last octets
//! only. A set that has no room is cut: which of its addresses are left changes from reply to reply,
//! so that clients that never ask again over TCP spread all the same.

use super::found::{Ends, Found};
use super::seen::Seen;
use super::{Answering, Outcome, Written, is_of};
use crate::cluster::index::hash_octets;
use crate::cluster::record::{Host, Service, Slice};
use crate::wire::{Full, HEADER_BYTES, Name, Section, rtype};

/// Records that are put together at a time.
const TOGETHER: usize = 16;
/// Octets of a record before its address: pointer to the question, type, class, TTL, length.
const HEAD_BYTES: usize = 12;

impl Answering<'_, '_> {
    pub(super) fn addresses(&mut self) -> Written {
        if self.is_default_server() {
            return self.server_addresses();
        }
        let found = self.found();
        if let Some(target) = found.alias() {
            return self.follow(target);
        }
        if !found.exists() {
            return Ok(Outcome::NxDomain);
        }
        self.write_addresses(&found, self.question.name)?;
        Ok(match self.reply.counts().answer {
            0 => Outcome::NoData,
            _ => Outcome::Answer,
        })
    }

    /// Writes the addresses of the question's type that stand at `owner`.
    pub(super) fn write_addresses(
        &mut self,
        found: &Found<'_, '_>,
        owner: Name<'_>,
    ) -> Result<(), Full> {
        match found {
            Found::Hosts(service, _) => self.own_addresses(service, owner),
            Found::Ends(ends) if ends.are_all() => self.all_ends(ends, owner),
            Found::Ends(ends) => self.some_ends(ends, owner),
            Found::Pod(_, _, host) if self.wants(*host) => self.push_host(*host, owner),
            Found::Pod(..) | Found::Missing | Found::Nothing => Ok(()),
        }
    }

    fn own_addresses(&mut self, service: &Service, owner: Name<'_>) -> Result<(), Full> {
        for (number, host) in service.hosts.iter().enumerate() {
            if self.wants(host.as_host()) && !service.hosts[..number].contains(host) {
                self.push_host(host.as_host(), owner)?;
            }
        }
        Ok(())
    }

    /// Adds an address record, if the room that was given is enough.
    fn push_host(&mut self, host: Host<'_>, owner: Name<'_>) -> Result<(), Full> {
        let Some(address) = host.address() else { return Ok(()) };
        let mark = self.reply.mark();
        self.reply.push_address(Section::Answer, owner, address, self.rules.ttl)?;
        if self.reply.len() > self.fit.room {
            self.reply.rewind(mark);
            return Err(Full);
        }
        Ok(())
    }

    /// Some of the endpoints, one by one.
    fn some_ends(&mut self, ends: &Ends<'_, '_>, owner: Name<'_>) -> Result<(), Full> {
        let rtype = self.question.rtype;
        let mut seen = ends.slices().any(|slice| slice.overlaps).then(Seen::new);
        for (_, one) in ends.all().filter(|(_, one)| is_of(one.host, rtype)) {
            match &mut seen {
                Some(seen) => self.push_new(one.host, owner, seen)?,
                None => self.push_host(one.host, owner)?,
            }
        }
        Ok(())
    }

    /// All endpoints of the service's slices.
    fn all_ends(&mut self, ends: &Ends<'_, '_>, owner: Name<'_>) -> Result<(), Full> {
        let is_four = self.question.rtype == rtype::A;
        let count = |slice: &Slice| if is_four { slice.v4.len() } else { slice.v6.len() };
        let overlaps = ends.slices().any(|slice| slice.overlaps);
        if overlaps || owner.as_bytes() != self.question.name.as_bytes() {
            return self.some_ends(ends, owner);
        }
        let total: usize = ends.slices().map(count).sum();
        let size = HEAD_BYTES + if is_four { 4 } else { 16 };
        let room = self.fit.room.saturating_sub(self.reply.len()) / size;
        if total > room && self.fit.whole {
            return Err(Full);
        }
        let first = if total > room { self.fit.turn as usize % total } else { 0 };
        // From the first one to the end, then from the beginning on.
        let (mut left, mut skip) = (total.min(room), first);
        for slice in ends.slices().chain(ends.slices()) {
            let len = count(slice);
            let from = skip.min(len);
            skip -= from;
            let take = (len - from).min(left);
            left -= take;
            if is_four {
                self.push_many(&slice.v4[from..from + take])?;
            } else {
                self.push_many(&slice.v6[from..from + take])?;
            }
            if left == 0 {
                break;
            }
        }
        if total > room { Err(Full) } else { Ok(()) }
    }

    /// Adds records of the question's name and type with these addresses.
    fn push_many<const N: usize>(&mut self, addresses: &[[u8; N]]) -> Result<(), Full> {
        let [t0, t1] = self.question.rtype.to_be_bytes();
        let [l0, l1, l2, l3] = self.rules.ttl.to_be_bytes();
        let to = HEADER_BYTES as u8;
        let head: [u8; HEAD_BYTES] = [0xc0, to, t0, t1, 0, 1, l0, l1, l2, l3, 0, N as u8];
        let mut block = [0; TOGETHER * (HEAD_BYTES + 16)];
        for some in addresses.chunks(TOGETHER) {
            let records = block.chunks_exact_mut(HEAD_BYTES + N);
            for (record, address) in records.zip(some) {
                record[..HEAD_BYTES].copy_from_slice(&head);
                record[HEAD_BYTES..].copy_from_slice(address);
            }
            let used = &block[..some.len() * (HEAD_BYTES + N)];
            self.reply.push_block(Section::Answer, used, some.len() as u16)?;
        }
        Ok(())
    }

    /// Adds an address record, unless there is one with this address.
    fn push_new(&mut self, host: Host<'_>, owner: Name<'_>, seen: &mut Seen) -> Result<(), Full> {
        let (four, six);
        let octets = match host {
            Host::V4(octets) => {
                four = octets;
                &four[..]
            }
            Host::V6(octets) => {
                six = octets;
                &six[..]
            }
            Host::Name(_) => return Ok(()),
        };
        let hash = hash_octets(octets, 0);
        let is_same = |at: usize| self.reply.bytes().get(at..at + octets.len()) == Some(octets);
        if !seen.is_new(hash, is_same) {
            return Ok(());
        }
        self.push_host(host, owner)?;
        seen.add(hash, self.reply.len() - octets.len());
        Ok(())
    }
}
