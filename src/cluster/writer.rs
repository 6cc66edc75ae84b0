//! Applies what is seen of a cluster to the index.
//!
//! The writer has a copy of the index of its own, which shares with the published ones what has not
//! changed since. A change is applied as its difference: an endpoint that comes to a slice of a
//! hundred touches that slice's record and one reverse name. Of an object that is gone from a list,
//! what is swept is found by its mark; besides the index nothing is held of an object but its mark,
//! its version and the hash of its name.
//!
//! An object that cannot have records (a name that is no label, an address that is none) is left out,
//! whole or in part, and [`Applied::Refused`] says so; everything else is served.

mod pods;
mod services;
mod slices;

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::fast::FixedState;
use foldhash::{HashMap, HashSet};

use super::feed::{Applied, Change};
use super::index::{Index, Label, Modified, Realm, Reverse};
use super::object::{Kind, Object};
use super::record::{Port, Reading, key_of};
use super::table::Table;
use crate::wire::labels_of;

/// What is held of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// The kinds that are watched: all of them must be listed before the index is in sync.
    pub kinds: Vec<Kind>,
    /// How slices are read.
    pub reading: Reading,
    /// The namespaces that are shown; empty for all.
    pub namespaces: Vec<Box<str>>,
    /// Whether names and labels of pods are held, for metadata.
    pub pod_infos: bool,
}

/// What is held of an object besides the index.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Hash of its version; 0: it has none.
    version: u64,
    /// The list in which it was seen last, of 256.
    round: u8,
}

/// A pod: what must be taken back when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PodPlace {
    address: IpAddr,
    namespace: NonZeroU32,
}

/// A name that nobody else's hashes to: the seeds are random and two.
type Print = u128;

/// Who applies changes.
pub struct Writer {
    index: Index,
    holding: Holding,
    seeds: [u64; 2],
    /// The list that is being read, by kind.
    rounds: [u8; Kind::ALL.len()],
    /// Namespaces and services.
    marks: HashMap<Print, Mark>,
    slices: HashMap<Print, (u32, Mark)>,
    pods: HashMap<Print, (Option<PodPlace>, Mark)>,
    /// Slices of services that are not there (yet), by realm and key.
    orphans: HashMap<(bool, Box<[u8]>), Vec<u32>>,
    ports: HashSet<Arc<[Port]>>,
    pod_namespaces: HashMap<Box<[u8]>, NonZeroU32>,
    next_slice: u32,
    clock: fn() -> u32,
    is_dirty: bool,
}

/// Which realm a kind belongs to: imports or not.
fn is_imported(kind: Kind) -> bool {
    matches!(kind, Kind::Imports | Kind::ImportSlices)
}

impl Writer {
    /// With nothing seen. `seed` is for hashes and should be random; `clock` gives seconds since
    /// 1970.
    pub fn new(holding: Holding, seed: u64, clock: fn() -> u32) -> Self {
        let missing = holding.kinds.iter().fold(0, |all, kind| all | 1 << *kind as u32);
        let index = Index {
            local: Realm::new(seed),
            imported: Realm::new(seed),
            namespaces: Table::new(seed),
            ends: Reverse::new(seed),
            own: Table::new(seed),
            outside: Table::new(seed),
            pods: Reverse::new(seed),
            pod_namespaces: Arc::default(),
            infos: Table::new(seed),
            modified: Modified::default(),
            missing,
            stale: 0,
        };
        Self {
            index,
            holding,
            seeds: [seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15],
            rounds: [0; Kind::ALL.len()],
            marks: HashMap::default(),
            slices: HashMap::default(),
            pods: HashMap::default(),
            orphans: HashMap::default(),
            ports: HashSet::default(),
            pod_namespaces: HashMap::default(),
            next_slice: 1,
            clock,
            is_dirty: true,
        }
    }

    /// The index as it stands, to be published; none if it is what was given last.
    pub fn publish(&mut self) -> Option<Index> {
        std::mem::take(&mut self.is_dirty).then(|| self.index.clone())
    }

    /// The index as it stands.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Applies a change.
    pub fn apply(&mut self, change: Change) -> Applied {
        let applied = match change {
            Change::Begin(kind) => {
                let round = &mut self.rounds[kind as usize];
                *round = round.wrapping_add(1);
                Applied::Same
            }
            Change::Put(object) => self.put(object),
            Change::Delete(object) => self.delete(&object),
            Change::End(kind) => self.end(kind, false),
            Change::Recalled(kind) => self.end(kind, true),
        };
        self.is_dirty |= matches!(applied, Applied::Changed | Applied::Swept(_));
        applied
    }

    /// Ends a list: of now, or one that was `recalled` from an earlier run.
    fn end(&mut self, kind: Kind, recalled: bool) -> Applied {
        let was = (self.index.missing, self.index.stale);
        let bit = 1 << kind as u32;
        if recalled {
            self.index.stale |= bit;
        } else {
            self.index.missing &= !bit;
            self.index.stale &= !bit;
        }
        let swept = self.sweep(kind);
        let same = was == (self.index.missing, self.index.stale);
        match swept {
            0 if same => Applied::Same,
            0 => Applied::Changed,
            gone => Applied::Swept(gone),
        }
    }

    fn print(&self, kind: Kind, namespace: &str, name: &str) -> Print {
        let [one, two] = self.seeds.map(|seed| {
            let mut hasher = FixedState::with_seed(seed).build_hasher();
            hasher.write_u8(kind as u8);
            hasher.write_usize(namespace.len());
            hasher.write(namespace.as_bytes());
            hasher.write(name.as_bytes());
            hasher.finish()
        });
        u128::from(one) << 64 | u128::from(two)
    }

    fn print_of(&self, object: &Object) -> Print {
        let meta = object.meta();
        self.print(object.kind(), &meta.namespace, &meta.name)
    }

    /// The mark of an object that was seen now.
    fn mark(&self, object: &Object) -> Mark {
        let text = &object.meta().resource_version;
        let version = match text.is_empty() {
            true => 0,
            false => FixedState::with_seed(1).hash_one(text) | 1,
        };
        Mark { version, round: self.rounds[object.kind() as usize] }
    }

    fn put(&mut self, object: Object) -> Applied {
        let (print, mark) = (self.print_of(&object), self.mark(&object));
        let before = match object.kind() {
            Kind::Slices | Kind::ImportSlices => self.slices.get_mut(&print).map(|(_, mark)| mark),
            Kind::Pods => self.pods.get_mut(&print).map(|(_, mark)| mark),
            _ => self.marks.get_mut(&print),
        };
        if let Some(before) = before {
            let is_same = before.version == mark.version && mark.version != 0;
            *before = mark;
            if is_same {
                return Applied::Same;
            }
        }
        match object {
            Object::Namespace(one) => self.put_namespace(&one.metadata.name, print, mark),
            Object::Service(one) => {
                let service = self.read_service(&one);
                self.put_service(Kind::Services, service, print, mark)
            }
            Object::Import(one) => {
                let service = self.read_import(&one);
                self.put_service(Kind::Imports, service, print, mark)
            }
            Object::Slice(one) => self.put_slice(Kind::Slices, &one, print, mark),
            Object::ImportSlice(one) => self.put_slice(Kind::ImportSlices, &one, print, mark),
            Object::Pod(one) => self.put_pod(&one, print, mark),
        }
    }

    fn delete(&mut self, object: &Object) -> Applied {
        let print = self.print_of(object);
        let meta = object.meta();
        let gone = match object.kind() {
            Kind::Namespaces => {
                self.marks.remove(&print).is_some() && self.remove_namespace(meta.name.as_bytes())
            }
            kind @ (Kind::Services | Kind::Imports) => {
                let key = key_of(&meta.name, &meta.namespace);
                self.marks.remove(&print).is_some()
                    && key.is_some_and(|key| self.remove_service(kind, &key))
            }
            kind @ (Kind::Slices | Kind::ImportSlices) => {
                let number = self.slices.remove(&print).map(|(number, _)| number);
                number.is_some_and(|number| self.remove_slice(kind, number))
            }
            Kind::Pods => {
                let place = self.pods.remove(&print).and_then(|(place, _)| place);
                place.is_some_and(|place| self.remove_pod(place, Some(&meta.name)))
            }
        };
        if gone { Applied::Changed } else { Applied::Same }
    }

    /// Drops what was not seen since the list began; gives how many objects that were.
    fn sweep(&mut self, kind: Kind) -> u32 {
        let round = self.rounds[kind as usize];
        match kind {
            Kind::Namespaces => {
                let labels: Vec<Label> = self.index.namespaces.iter().cloned().collect();
                let text = |label: &Label| String::from_utf8_lossy(label.as_bytes()).into_owned();
                let gone = labels.iter().map(|label| (label, text(label)));
                let gone: Vec<(&Label, Print)> = gone
                    .map(|(label, text)| (label, self.print(kind, "", &text)))
                    .filter(|(_, print)| self.marks.get(print).is_none_or(|m| m.round != round))
                    .collect();
                gone.into_iter().fold(0, |sum, (label, print)| {
                    self.marks.remove(&print);
                    sum + u32::from(self.remove_namespace(label.as_bytes()))
                })
            }
            Kind::Services | Kind::Imports => {
                let realm = self.realm(kind);
                let prints = realm.services().map(|service| {
                    let [name, namespace] = texts_of(&service.key);
                    (self.print(kind, &namespace, &name), service.key.clone())
                });
                let is_old = |print: &Print| self.marks.get(print).is_none_or(|m| m.round != round);
                let gone: Vec<_> = prints.filter(|(print, _)| is_old(print)).collect();
                gone.into_iter().fold(0, |sum, (print, key)| {
                    self.marks.remove(&print);
                    sum + u32::from(self.remove_service(kind, &key))
                })
            }
            Kind::Slices | Kind::ImportSlices => {
                let realm = self.realm(kind);
                let here = |number: u32| realm.slice(number).is_some();
                let old = self.slices.iter().filter(|(_, (_, mark))| mark.round != round);
                let gone: Vec<(Print, u32)> = old
                    .filter(|(_, (number, _))| here(*number))
                    .map(|(print, (number, _))| (*print, *number))
                    .collect();
                gone.into_iter().fold(0, |sum, (print, number)| {
                    self.slices.remove(&print);
                    sum + u32::from(self.remove_slice(kind, number))
                })
            }
            Kind::Pods => {
                let old = self.pods.iter().filter(|(_, (_, mark))| mark.round != round);
                let gone: Vec<_> = old.map(|(print, (place, _))| (*print, *place)).collect();
                gone.into_iter().fold(0, |sum, (print, place)| {
                    self.pods.remove(&print);
                    sum + u32::from(place.is_some_and(|place| self.remove_pod(place, None)))
                })
            }
        }
    }

    fn realm(&self, kind: Kind) -> &Realm {
        if is_imported(kind) { &self.index.imported } else { &self.index.local }
    }

    fn realm_mut(&mut self, kind: Kind) -> &mut Realm {
        if is_imported(kind) { &mut self.index.imported } else { &mut self.index.local }
    }

    fn modified(&mut self) {
        self.index.modified.internal = (self.clock)();
    }

    fn ports(&mut self, ports: Vec<Port>) -> Arc<[Port]> {
        if let Some(known) = self.ports.get(&*ports) {
            return Arc::clone(known);
        }
        // Lists that nobody uses any more go when there are twice as many as there were.
        if self.ports.len() == self.ports.capacity() {
            self.ports.retain(|ports| Arc::strong_count(ports) > 1);
        }
        let ports: Arc<[Port]> = ports.into();
        self.ports.insert(Arc::clone(&ports));
        ports
    }
}

/// The labels of a service's key as text.
fn texts_of(key: &[u8]) -> [String; 2] {
    let mut labels = labels_of(key).map(|label| String::from_utf8_lossy(label).into_owned());
    [labels.next().unwrap_or_default(), labels.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests;
