//! NS: the servers of a zone, which is this one.
//!
//! It is called by the names of the services that have an address of this machine among their
//! endpoints, and has their addresses; without such it is `ns.dns.ZONE` and has its own.

use std::net::IpAddr;

use super::seen::Seen;
use super::{Answering, Outcome, Rules, Written, is_of};
use crate::cluster::index::{Index, hash_octets};
use crate::cluster::record::{Endpoint, Host, Nature, Slice, generated};
use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};
use crate::wire::{Full, Name, NameBuf, Reply, Section, rtype};

/// The slices that have an address of this server among their endpoints.
pub fn own_slices<'i>(index: &'i Index, own: &'i [IpAddr]) -> impl Iterator<Item = &'i Slice> {
    own.iter().flat_map(|address| index.slices_at(*address)).map(|(_, slice)| slice)
}

/// The name of a service.
pub(super) fn service_name(key: &[u8], zone: Name<'_>) -> Option<NameBuf> {
    let mut prefix = [0; NAME_BYTES_MAX];
    let end = key.len() + 4;
    prefix.get_mut(..key.len())?.copy_from_slice(key);
    prefix.get_mut(key.len()..end)?.copy_from_slice(b"\x03svc");
    NameBuf::join(&prefix[..end], zone).ok()
}

/// The name of an endpoint; with the label of its cluster if `is_imported`. None: it is too long.
pub(super) fn endpoint_name(
    slice: &Slice,
    one: &Endpoint<'_>,
    is_imported: bool,
    zone: Name<'_>,
) -> Option<NameBuf> {
    let mut room = [0; LABEL_BYTES_MAX];
    let label = match one.label {
        [] => generated(one.host, &mut room),
        label => label,
    };
    let mut prefix = [0; NAME_BYTES_MAX];
    let mut len = 0;
    let mut put = |octets: &[u8]| {
        prefix.get_mut(len..len + octets.len())?.copy_from_slice(octets);
        len += octets.len();
        Some(())
    };
    put(&[label.len() as u8])?;
    put(label)?;
    if is_imported && !slice.cluster().is_empty() {
        put(&[slice.cluster().len() as u8])?;
        put(slice.cluster())?;
    }
    put(&slice.key)?;
    put(b"\x03svc")?;
    NameBuf::join(&prefix[..len], zone).ok()
}

impl Rules {
    /// Gives the names and addresses of the servers of `zone`, as long as `take` succeeds.
    ///
    /// # Errors
    /// That of `take`.
    pub fn each_server(
        &self,
        index: &Index,
        zone: Name<'_>,
        mut take: impl FnMut(Name<'_>, Host<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut is_called = false;
        for slice in own_slices(index, &self.own) {
            is_called = true;
            let Some(named) = index.local.find(&slice.key) else { continue };
            let service = &named.service;
            if service.nature == Nature::Headless {
                for one in slice.endpoints() {
                    if let Some(name) = endpoint_name(slice, &one, false, zone) {
                        take(name.as_name(), one.host)?;
                    }
                }
                continue;
            }
            let Some(name) = service_name(&service.key, zone) else { continue };
            for host in &service.hosts {
                take(name.as_name(), host.as_host())?;
            }
        }
        if is_called {
            return Ok(());
        }
        let Ok(name) = NameBuf::join(b"\x02ns\x03dns", zone) else { return Ok(()) };
        for address in &self.own {
            take(name.as_name(), Host::from(*address))?;
        }
        Ok(())
    }
}

impl Answering<'_, '_> {
    /// NS of the zone, with the addresses.
    pub(super) fn servers(&mut self) -> Written {
        let (rules, index, apex) = (self.rules, self.index, self.apex);
        let (owner, ttl) = (self.question.name, rules.ttl);
        let reply = &mut *self.reply;
        let mut seen = Seen::new();
        rules.each_server(index, apex, |name, host| {
            let hash = hash_octets(name.as_bytes(), 0);
            let is_same = |at: usize| is_name_at(reply.bytes(), at, name);
            if host.address().is_none() || !seen.is_new(hash, is_same) {
                return Ok(());
            }
            // A record is the pointer to the question and ten octets, then the target; where the
            // question is the root, one octet less.
            let at = reply.len() + if owner.is_root() { 11 } else { 12 };
            reply.push_name(Section::Answer, owner, rtype::NS, name, ttl)?;
            seen.add(hash, at);
            Ok(())
        })?;
        if self.reply.counts().answer == 0 {
            return Ok(Outcome::NoData);
        }
        // What has no room is left out: it is optional.
        let mut seen = Seen::new();
        let reply = &mut *self.reply;
        let _ = rules.each_server(index, apex, |name, host| {
            let Some(address) = host.address() else { return Ok(()) };
            push_additional(reply, &mut seen, name, address, ttl)
        });
        Ok(Outcome::Answer)
    }

    /// The addresses at `ns.dns.ZONE`.
    pub(super) fn server_addresses(&mut self) -> Written {
        let (rules, index, apex) = (self.rules, self.index, self.apex);
        let (owner, rtype, ttl) = (self.question.name, self.question.rtype, rules.ttl);
        let reply = &mut *self.reply;
        let mut seen = Seen::new();
        rules.each_server(index, apex, |_, host| {
            let Some(address) = host.address().filter(|_| is_of(host, rtype)) else {
                return Ok(());
            };
            push_unseen(reply, &mut seen, Section::Answer, owner, address, ttl)
        })?;
        Ok(if self.reply.counts().answer == 0 { Outcome::NoData } else { Outcome::Answer })
    }
}

/// Whether a name stands in a message.
fn is_name_at(message: &[u8], at: usize, name: Name<'_>) -> bool {
    NameBuf::read(message, at).is_ok_and(|(other, _)| other.as_name().eq_fold(name))
}

/// Adds an address record to the additional section unless it is there.
pub(super) fn push_additional(
    reply: &mut Reply,
    seen: &mut Seen,
    owner: Name<'_>,
    address: IpAddr,
    ttl: u32,
) -> Result<(), Full> {
    push_unseen(reply, seen, Section::Additional, owner, address, ttl)
}

/// Adds an address record unless it is there.
pub(in crate::cluster) fn push_unseen(
    reply: &mut Reply,
    seen: &mut Seen,
    section: Section,
    owner: Name<'_>,
    address: IpAddr,
    ttl: u32,
) -> Result<(), Full> {
    let (four, six);
    let octets = match address {
        IpAddr::V4(address) => {
            four = address.octets();
            &four[..]
        }
        IpAddr::V6(address) => {
            six = address.octets();
            &six[..]
        }
    };
    let hash = hash_octets(octets, 0) ^ hash_octets(owner.as_bytes(), 1);
    let message = reply.bytes();
    let is_same = |at: usize| match NameBuf::read(message, at) {
        // Behind the owner stand type, class, TTL and length.
        Ok((other, end)) => {
            other.as_name().eq_fold(owner)
                && message.get(end + 10..end + 10 + octets.len()) == Some(octets)
        }
        Err(_) => false,
    };
    if !seen.is_new(hash, is_same) {
        return Ok(());
    }
    let at = reply.len();
    reply.push_address(section, owner, address, ttl)?;
    seen.add(hash, at);
    Ok(())
}
