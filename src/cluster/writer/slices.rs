//! Slices: put, by the difference to what they were, and taken away.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Mark, Print, Writer, is_imported};
use crate::cluster::feed::Applied;
use crate::cluster::index::{Four, Numbered, Six, hash_number, hash_octets};
use crate::cluster::object::{EndpointSlice, IMPORT_NAME, Kind, SERVICE_NAME, SOURCE_CLUSTER};
use crate::cluster::record::{
    Service, Slice, key_of, no_port, ports_of, push_label, read_endpoints,
};

/// What stands in `after` and not in `before`, and the other way round; each as often as it does.
fn difference<T: Ord + Copy>(before: &[T], after: &[T]) -> (Vec<T>, Vec<T>) {
    let sorted = |list: &[T]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    let (before, after) = (sorted(before), sorted(after));
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (&before[..], &after[..]);
    loop {
        match (old, new) {
            ([a, rest @ ..], [b, more @ ..]) if a == b => (old, new) = (rest, more),
            ([a, rest @ ..], [b, ..]) if a < b => {
                gone.push(*a);
                old = rest;
            }
            (_, [b, more @ ..]) => {
                come.push(*b);
                new = more;
            }
            ([a, rest @ ..], []) => {
                gone.push(*a);
                old = rest;
            }
            ([], []) => return (come, gone),
        }
    }
}

impl Writer {
    pub(super) fn put_slice(
        &mut self,
        kind: Kind,
        from: &EndpointSlice,
        print: Print,
        mark: Mark,
    ) -> Applied {
        let (mut slice, is_whole) = self.read_slice(kind, from);
        let known = self.slices.get(&print).map(|(number, _)| *number);
        let number = known.unwrap_or_else(|| self.free_number());
        self.slices.insert(print, (number, mark));
        let before = known.and_then(|number| self.slice_arc(kind, number));
        slice.overlaps = before.as_ref().is_some_and(|before| before.overlaps);
        if before.as_deref() == Some(&slice) {
            return if is_whole { Applied::Same } else { Applied::Refused };
        }
        if kind == Kind::Slices {
            slice.overlaps = self.update_reverse(number, before.as_deref(), &slice);
        } else {
            // No table tells where else an imported address stands.
            slice.overlaps = true;
        }
        let key = slice.key.clone();
        let owner_before = before.as_ref().map(|before| before.key.clone());
        self.place_slice(kind, number, slice);
        if owner_before.as_ref() != Some(&key) {
            if let Some(owner) = &owner_before {
                self.detach_slice(kind, owner, number);
            }
            self.attach_slice(kind, &key, number);
        }
        match (kind, before) {
            (Kind::ImportSlices, Some(_)) => self.index.modified.imported = (self.clock)(),
            _ => self.modified(),
        }
        self.is_dirty = true;
        if is_whole { Applied::Changed } else { Applied::Refused }
    }

    /// What is held of a slice, and whether that is all of it.
    fn read_slice(&mut self, kind: Kind, from: &EndpointSlice) -> (Slice, bool) {
        let owner = if kind == Kind::ImportSlices { IMPORT_NAME } else { SERVICE_NAME };
        let meta = &from.metadata;
        let mut is_whole = true;
        let cluster = match kind {
            Kind::ImportSlices => meta.label(SOURCE_CLUSTER),
            _ => "",
        };
        let cluster = match push_label(&mut Vec::new(), cluster) {
            Some(()) => cluster,
            None => {
                is_whole &= cluster.is_empty();
                ""
            }
        };
        let (mut slice, bad) = read_endpoints(from, cluster, self.holding.reading);
        slice.key = match meta.label(owner) {
            // A slice may belong to nobody.
            "" => Box::default(),
            name => key_of(name, &meta.namespace).unwrap_or_else(|| {
                is_whole = false;
                Box::default()
            }),
        };
        let mut ports = ports_of(&from.ports);
        if ports.is_empty() {
            ports.push(no_port());
        }
        slice.ports = self.ports(ports);
        (slice, is_whole && bad == 0)
    }

    /// A number that no slice has.
    fn free_number(&mut self) -> u32 {
        loop {
            let number = self.next_slice;
            self.next_slice = self.next_slice.wrapping_add(1).max(1);
            let is_taken = |realm: &crate::cluster::index::Realm| realm.slice(number).is_some();
            if !is_taken(&self.index.local) && !is_taken(&self.index.imported) {
                return number;
            }
        }
    }

    fn slice_arc(&self, kind: Kind, number: u32) -> Option<Arc<Slice>> {
        let slices = &self.realm(kind).slices;
        let mut found = slices.find(hash_number(number.into(), slices.seed()));
        found.find(|one| one.number == number).map(|one| Arc::clone(&one.slice))
    }

    fn place_slice(&mut self, kind: Kind, number: u32, slice: Slice) {
        let slice = Arc::new(slice);
        let slices = &mut self.realm_mut(kind).slices;
        let hash = hash_number(number.into(), slices.seed());
        match slices.get_mut(hash, |one| one.number == number) {
            Some(one) => one.slice = slice,
            None => slices.insert(Numbered { number, slice }),
        }
    }

    /// Adds and removes reverse names; tells whether an address may stand twice in the service.
    fn update_reverse(&mut self, number: u32, before: Option<&Slice>, after: &Slice) -> bool {
        let Some(number) = NonZeroU32::new(number) else { return true };
        let none: (&[[u8; 4]], &[[u8; 16]]) = (&[], &[]);
        let (four, six) = before.map_or(none, |slice| (&*slice.v4, &*slice.v6));
        let (come, gone) = difference(four, &after.v4);
        self.change_four(number, &come, &gone);
        let mut overlaps = before.is_some_and(|before| before.overlaps);
        // A slice that has changed hands meets other slices.
        let anew = before.is_some_and(|before| before.key != after.key);
        let met = if anew { &after.v4[..] } else { &come };
        overlaps |= met.iter().any(|address| self.is_met((*address).into(), number, &after.key));
        let (come, gone) = difference(six, &after.v6);
        self.change_six(number, &come, &gone);
        let met = if anew { &after.v6[..] } else { &come };
        overlaps |= met.iter().any(|address| self.is_met((*address).into(), number, &after.key));
        // Names are in no table.
        overlaps || after.rare.as_ref().is_some_and(|rare| rare.names.len() > 1)
    }

    /// Whether an address of slice `number` stands twice in it, or in another of the service.
    fn is_met(&self, address: std::net::IpAddr, number: NonZeroU32, key: &[u8]) -> bool {
        let mut own = 0;
        self.index.ends.of(address).any(|other| {
            if other == number.get() {
                own += 1;
                return own > 1;
            }
            self.index.local.slice(other).is_some_and(|slice| *slice.key == *key)
        })
    }

    fn change_four(&mut self, number: NonZeroU32, come: &[[u8; 4]], gone: &[[u8; 4]]) {
        let table = &mut self.index.ends.four;
        for address in gone {
            let entry = Four { address: *address, number };
            let hash = hash_number(u32::from_be_bytes(*address).into(), table.seed());
            table.remove(hash, |one| *one == entry);
        }
        come.iter().for_each(|address| table.insert(Four { address: *address, number }));
    }

    fn change_six(&mut self, number: NonZeroU32, come: &[[u8; 16]], gone: &[[u8; 16]]) {
        let table = &mut self.index.ends.six;
        for address in gone {
            let entry = Six { address: *address, number };
            let hash = hash_octets(address, table.seed());
            table.remove(hash, |one| *one == entry);
        }
        come.iter().for_each(|address| table.insert(Six { address: *address, number }));
    }

    /// Replaces the list of a service's slices, or of those that wait for the service.
    fn with_slices(&mut self, kind: Kind, key: &[u8], change: impl FnOnce(&mut Vec<u32>)) {
        let before = self.realm(kind).find(key).map(|named| Arc::clone(&named.service));
        if let Some(before) = before {
            let mut slices = before.slices.to_vec();
            change(&mut slices);
            let service = Service { slices: slices.into(), ..(*before).clone() };
            self.place_service(kind, Some(before), service);
            return;
        }
        let place = (is_imported(kind), key.into());
        let mut slices = self.orphans.remove(&place).unwrap_or_default();
        change(&mut slices);
        if !slices.is_empty() {
            self.orphans.insert(place, slices);
        }
    }

    fn attach_slice(&mut self, kind: Kind, key: &[u8], number: u32) {
        if !key.is_empty() {
            self.with_slices(kind, key, |slices| slices.push(number));
        }
    }

    fn detach_slice(&mut self, kind: Kind, key: &[u8], number: u32) {
        if !key.is_empty() {
            self.with_slices(kind, key, |slices| slices.retain(|other| *other != number));
        }
    }

    pub(super) fn remove_slice(&mut self, kind: Kind, number: u32) -> bool {
        let slices = &mut self.realm_mut(kind).slices;
        let hash = hash_number(number.into(), slices.seed());
        let Some(gone) = slices.remove(hash, |one| one.number == number) else { return false };
        if let (Kind::Slices, Some(number)) = (kind, NonZeroU32::new(number)) {
            self.change_four(number, &[], &gone.slice.v4);
            self.change_six(number, &[], &gone.slice.v6);
        }
        self.detach_slice(kind, &gone.slice.key, number);
        self.modified();
        true
    }
}
