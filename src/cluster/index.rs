//! What a cluster's answers are made from, as workers read it.
//!
//! An [`Index`] is a handful of [`Table`]s that share what did not change with the index before
//! (see [`writer`](super::writer)). A service is found by one probe with its label and its
//! namespace's, which stand next to each other in the question; its slices by their numbers; the
//! slices of an address by the address. Reading allocates nothing and locks nothing.
//!
//! Sizes: a service about 300 octets, a slice about 150, an endpoint 4 (16 for IPv6) and its reverse
//! name 12 (28).

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::object::Kind;
use super::record::{HostBuf, Nature, Service, Slice};
use super::table::{Entry, Table};
use crate::limits::LABEL_BYTES_MAX;

/// The hash of octets.
#[inline]
pub(super) fn hash_octets(octets: &[u8], seed: u64) -> u32 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    hasher.write(octets);
    hasher.finish() as u32
}

/// The hash of a number that others may have chosen.
#[inline]
pub(super) fn hash_number(number: u64, seed: u64) -> u32 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    hasher.write_u64(number);
    hasher.finish() as u32
}

/// Octets of a key that stand in the entry itself.
const INLINE_BYTES: usize = 46;

/// A service by its key: one cache line, which answers most questions for an address.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Named {
    /// The service.
    pub service: Arc<Service>,
    /// Its only address, if it has one that is IPv4 and ports to be reached by.
    pub only_v4: Option<[u8; 4]>,
    len: u8,
    key: [u8; INLINE_BYTES],
}

const _: () = assert!(size_of::<Option<Named>>() == 64);

impl Named {
    /// The entry of a service.
    pub fn new(service: Arc<Service>) -> Self {
        let mut key = [0; INLINE_BYTES];
        let inline = service.key.len().min(INLINE_BYTES);
        key[..inline].copy_from_slice(&service.key[..inline]);
        let only_v4 = match (&*service.hosts, service.nature) {
            ([HostBuf::V4(octets)], Nature::Cluster) if !service.ports.is_empty() => Some(*octets),
            _ => None,
        };
        let len = service.key.len() as u8;
        Self { service, only_v4, len, key }
    }

    /// Whether it is the entry of this key.
    #[inline]
    pub fn is(&self, key: &[u8]) -> bool {
        let len = self.len as usize;
        len == key.len()
            && match self.key.get(..len) {
                Some(inline) => inline == key,
                None => *self.service.key == *key,
            }
    }
}

impl Entry for Named {
    const LEAF_ENTRIES: usize = 32;

    fn hash(&self, seed: u64) -> u32 {
        hash_octets(&self.service.key, seed)
    }
}

/// A slice by its number.
#[derive(Clone)]
pub struct Numbered {
    /// The number.
    pub number: u32,
    /// The slice.
    pub slice: Arc<Slice>,
}

impl Entry for Numbered {
    const LEAF_ENTRIES: usize = 64;

    fn hash(&self, seed: u64) -> u32 {
        hash_number(self.number.into(), seed)
    }
}

/// A number (of a slice, of a namespace) by an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Four {
    /// The address.
    pub address: [u8; 4],
    /// The number.
    pub number: NonZeroU32,
}

impl Entry for Four {
    const LEAF_ENTRIES: usize = 128;

    fn hash(&self, seed: u64) -> u32 {
        hash_number(u32::from_be_bytes(self.address).into(), seed)
    }
}

/// A number by an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Six {
    /// The address.
    pub address: [u8; 16],
    /// The number.
    pub number: NonZeroU32,
}

impl Entry for Six {
    const LEAF_ENTRIES: usize = 64;

    fn hash(&self, seed: u64) -> u32 {
        hash_octets(&self.address, seed)
    }
}

/// Something by an address: rarer, or larger.
pub struct Addressed<T> {
    /// The address.
    pub address: IpAddr,
    /// What is there.
    pub value: Arc<T>,
}

impl<T> Clone for Addressed<T> {
    fn clone(&self) -> Self {
        Self { address: self.address, value: Arc::clone(&self.value) }
    }
}

impl<T> Entry for Addressed<T> {
    const LEAF_ENTRIES: usize = 32;

    fn hash(&self, seed: u64) -> u32 {
        hash_address(self.address, seed)
    }
}

/// The hash of an address in a table of [`Addressed`].
#[inline]
pub(super) fn hash_address(address: IpAddr, seed: u64) -> u32 {
    match address {
        IpAddr::V4(address) => hash_octets(&address.octets(), seed),
        IpAddr::V6(address) => hash_octets(&address.octets(), seed),
    }
}

/// A namespace.
#[derive(Clone)]
#[repr(align(64))]
pub struct Label {
    len: NonZeroU8,
    octets: [u8; LABEL_BYTES_MAX],
}

impl Label {
    /// The entry of a label in lower case of 1 to 63 octets; none of another.
    pub fn new(label: &[u8]) -> Option<Self> {
        let mut octets = [0; LABEL_BYTES_MAX];
        octets.get_mut(..label.len())?.copy_from_slice(label);
        Some(Self { len: NonZeroU8::new(label.len() as u8)?, octets })
    }

    /// The label.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.len.get() as usize]
    }
}

impl Entry for Label {
    const LEAF_ENTRIES: usize = 32;

    fn hash(&self, seed: u64) -> u32 {
        hash_octets(self.as_bytes(), seed)
    }
}

/// Numbers by addresses of either family.
#[derive(Clone)]
pub struct Reverse {
    pub(super) four: Table<Four>,
    pub(super) six: Table<Six>,
}

impl Reverse {
    pub(super) fn new(seed: u64) -> Self {
        Self { four: Table::new(seed), six: Table::new(seed) }
    }

    /// The numbers of an address; one may come several times.
    pub fn of(&self, address: IpAddr) -> impl Iterator<Item = u32> {
        let (four, six) = match address.to_canonical() {
            IpAddr::V4(address) => (Some(address.octets()), None),
            IpAddr::V6(address) => (None, Some(address.octets())),
        };
        let four = four.into_iter().flat_map(|address| {
            let hash = hash_number(u32::from_be_bytes(address).into(), self.four.seed());
            let found = self.four.find(hash).filter(move |one| one.address == address);
            found.map(|one| one.number.get())
        });
        let six = six.into_iter().flat_map(|address| {
            let found = self.six.find(hash_octets(&address, self.six.seed()));
            found.filter(move |one| one.address == address).map(|one| one.number.get())
        });
        four.chain(six)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.four.len() + self.six.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.four.bytes() + self.six.bytes()
    }
}

/// Services and slices: of this cluster, or those that are imported.
#[derive(Clone)]
pub struct Realm {
    pub(super) names: Table<Named>,
    pub(super) slices: Table<Numbered>,
}

impl Realm {
    pub(super) fn new(seed: u64) -> Self {
        Self { names: Table::new(seed), slices: Table::new(seed) }
    }

    /// The service of a key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&Named> {
        self.names.find(hash_octets(key, self.names.seed())).find(|named| named.is(key))
    }

    /// Touches where a key would be; gives its hash.
    #[inline]
    pub fn hint(&self, key: &[u8]) -> u32 {
        let hash = hash_octets(key, self.names.seed());
        self.names.touch_leaf(hash);
        hash
    }

    /// Touches the entry of a key whose hash `hint` gave.
    #[inline]
    pub fn hint_next(&self, hash: u32) {
        self.names.touch_entry(hash);
    }

    /// As `find`, where `hint` gave the hash.
    #[inline]
    pub fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<&Named> {
        self.names.find(hash).find(|named| named.is(key))
    }

    /// Entries of services by the number of their leaf; none behind the last.
    pub fn leaf(&self, number: usize) -> Option<&[Option<Named>]> {
        self.names.nth_leaf(number)
    }

    /// A slice.
    #[inline]
    pub fn slice(&self, number: u32) -> Option<&Slice> {
        let mut found = self.slices.find(hash_number(number.into(), self.slices.seed()));
        found.find(|one| one.number == number).map(|one| &*one.slice)
    }

    /// The slices of a service.
    pub fn slices_of<'i>(&'i self, service: &'i Service) -> impl Iterator<Item = &'i Slice> {
        service.slices.iter().filter_map(|number| self.slice(*number))
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.names.iter().map(|named| &*named.service)
    }

    fn name_bytes(&self) -> usize {
        let services = self.services().map(|service| {
            size_of::<Service>()
                + 16
                + service.key.len()
                + service.slices.len() * 4
                + (service.hosts.len() + service.outside.len()) * size_of::<HostBuf>()
        });
        self.names.bytes() + services.sum::<usize>()
    }

    fn slice_bytes(&self) -> usize {
        let slices = self.slices.iter().map(|one| one.slice.bytes());
        self.slices.bytes() + slices.sum::<usize>()
    }
}

/// What is held of a pod for the metadata of its queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInfo {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

/// When something last changed that answers depend on, in seconds since 1970; 0: never yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modified {
    /// In this cluster.
    pub internal: u32,
    /// Of what is reached from outside.
    pub external: u32,
    /// In what is imported.
    pub imported: u32,
}

/// What is known of a cluster.
#[derive(Clone)]
pub struct Index {
    /// This cluster.
    pub local: Realm,
    /// What is imported from a cluster set.
    pub imported: Realm,
    pub(super) namespaces: Table<Label>,
    /// Slices by their endpoints' addresses.
    pub ends: Reverse,
    pub(super) own: Table<Addressed<Service>>,
    pub(super) outside: Table<Addressed<Service>>,
    /// Numbers of namespaces by the addresses of their pods.
    pub(super) pods: Reverse,
    /// The namespaces of `pods`: number one is the first.
    pub(super) pod_namespaces: Arc<Vec<Box<[u8]>>>,
    pub(super) infos: Table<Addressed<PodInfo>>,
    /// When it last changed.
    pub modified: Modified,
    /// Which kinds have not been listed whole yet, a bit each.
    pub(super) missing: u32,
    /// Which kinds are from an earlier run and have not been listed since, a bit each.
    pub(super) stale: u32,
}

impl Index {
    /// Whether all that is watched has been listed.
    #[inline]
    pub fn is_synced(&self) -> bool {
        self.missing == 0
    }

    /// Whether some of it is from an earlier run, and the API has not answered yet.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.stale != 0
    }

    /// The kinds that have not been listed yet.
    pub fn missing(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.missing & 1 << *kind as u32 != 0)
    }

    /// Whether a namespace, a label in lower case, is there and shown.
    #[inline]
    pub fn has_namespace(&self, label: &[u8]) -> bool {
        let hash = hash_octets(label, self.namespaces.seed());
        self.namespaces.find(hash).any(|one| one.as_bytes() == label)
    }

    /// The service with this address of its own; of several the one whose key is least.
    pub fn service_at(&self, address: IpAddr) -> Option<&Service> {
        least(&self.own, address, |_| true)
    }

    /// As `service_at`, of those that `is_shown` says yes to.
    pub fn shown_service_at(
        &self,
        address: IpAddr,
        is_shown: impl Fn(&Service) -> bool,
    ) -> Option<&Service> {
        least(&self.own, address, is_shown)
    }

    /// The services that are reached from outside by this address.
    pub fn services_behind(&self, address: IpAddr) -> impl Iterator<Item = &Service> {
        let found = self.outside.find(hash_address(address, self.outside.seed()));
        found.filter(move |one| one.address == address).map(|one| &*one.value)
    }

    /// The slices with an endpoint of this address.
    pub fn slices_at(&self, address: IpAddr) -> impl Iterator<Item = (u32, &Slice)> {
        let slice = |number| Some((number, self.local.slice(number)?));
        self.ends.of(address).filter_map(slice)
    }

    /// Whether a pod of this namespace, a label in lower case, has the address.
    pub fn has_pod(&self, address: IpAddr, namespace: &[u8]) -> bool {
        self.pods.of(address).any(|number| self.pod_namespace(number) == namespace)
    }

    pub(super) fn pod_namespace(&self, number: u32) -> &[u8] {
        self.pod_namespaces.get(number as usize - 1).map_or(&[], |label| label)
    }

    /// The namespace of the pod with this address: none where pods of several namespaces have it,
    /// as those on the network of a node do, and a pod that is gone and the one after it.
    pub fn namespace_of(&self, address: IpAddr) -> Option<&[u8]> {
        let mut numbers = self.pods.of(address);
        let first = numbers.next()?;
        numbers.all(|other| other == first).then(|| self.pod_namespace(first))
    }

    /// What is held of the pod with this address, where metadata is wanted.
    pub fn pod_at(&self, address: IpAddr) -> Option<&PodInfo> {
        let mut found = self.infos.find(hash_address(address, self.infos.seed()));
        found.find(|one| one.address == address).map(|one| &*one.value)
    }

    /// Objects of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Namespaces => self.namespaces.len(),
            Kind::Services => self.local.names.len(),
            Kind::Slices => self.local.slices.len(),
            Kind::Pods => self.pods.len(),
            Kind::Imports => self.imported.names.len(),
            Kind::ImportSlices => self.imported.slices.len(),
        }
    }

    /// Octets that the answers of a kind of objects take; walks them whole.
    pub fn bytes_of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Namespaces => self.namespaces.bytes(),
            Kind::Services => self.local.name_bytes() + self.own.bytes() + self.outside.bytes(),
            Kind::Slices => self.local.slice_bytes() + self.ends.bytes(),
            Kind::Pods => self.pods.bytes() + self.infos.bytes(),
            Kind::Imports => self.imported.name_bytes(),
            Kind::ImportSlices => self.imported.slice_bytes(),
        }
    }

    /// Octets that it takes, all in all; walks it whole.
    pub fn bytes(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.bytes_of(kind)).sum()
    }
}

/// The service with an address whose key is least.
fn least(
    table: &Table<Addressed<Service>>,
    address: IpAddr,
    is_shown: impl Fn(&Service) -> bool,
) -> Option<&Service> {
    let found = table.find(hash_address(address, table.seed()));
    let found = found.filter(|one| one.address == address).map(|one| &*one.value);
    found.filter(|service| is_shown(service)).min_by(|a, b| a.key.cmp(&b.key))
}
