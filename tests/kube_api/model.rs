//! An index for tests: holds objects as they come, marks and sweeps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use corelane::cluster::feed::{Applied, Change, Feed};
use corelane::cluster::object::{Kind, Object};

type Key = (Kind, String, String);

#[derive(Default)]
struct Held {
    /// Objects, each with the number of the list in which it was put last.
    objects: BTreeMap<Key, (Object, u64)>,
    list: u64,
    begun: BTreeMap<Kind, u64>,
    ends: Vec<Kind>,
    recalled: Vec<Kind>,
}

#[derive(Default)]
pub struct Model(Mutex<Held>);

fn key(object: &Object) -> Key {
    let meta = object.meta();
    (object.kind(), meta.namespace.to_string(), meta.name.to_string())
}

impl Model {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// `namespace/name` of what is held of a kind.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let held = self.0.lock().unwrap();
        let of_kind = held.objects.keys().filter(|(of, ..)| *of == kind);
        of_kind.map(|(_, namespace, name)| format!("{namespace}/{name}")).collect()
    }

    pub fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        let held = self.0.lock().unwrap();
        let found = held.objects.get(&(kind, namespace.into(), name.into()));
        found.map(|(object, _)| object.clone())
    }

    /// How many lists have ended.
    pub fn lists(&self) -> usize {
        self.0.lock().unwrap().ends.len()
    }

    /// Kinds that were recalled from an earlier run.
    pub fn recalled(&self) -> Vec<Kind> {
        self.0.lock().unwrap().recalled.clone()
    }
}

impl Held {
    fn sweep(&mut self, kind: Kind) -> Applied {
        let begun = self.begun.remove(&kind).expect("a list that has begun");
        let before = self.objects.len();
        self.objects.retain(|(of, ..), (_, put)| *of != kind || *put >= begun);
        match before - self.objects.len() {
            0 => Applied::Same,
            gone => Applied::Swept(gone as u32),
        }
    }
}

impl Feed for Model {
    fn apply(&self, change: Change) -> Applied {
        let mut held = self.0.lock().unwrap();
        match change {
            Change::Begin(kind) => {
                held.list += 1;
                let list = held.list;
                held.begun.insert(kind, list);
                Applied::Same
            }
            Change::Put(object) => {
                let list = held.list;
                let plain = |object: &Object| {
                    // A version alone is no difference.
                    format!("{object:?}").replace(&*object.meta().resource_version, "")
                };
                let new = plain(&object);
                let old = held.objects.insert(key(&object), (object, list));
                let same = old.is_some_and(|(old, _)| plain(&old) == new);
                if same { Applied::Same } else { Applied::Changed }
            }
            Change::Delete(object) => match held.objects.remove(&key(&object)) {
                Some(_) => Applied::Changed,
                None => Applied::Same,
            },
            Change::End(kind) => {
                held.ends.push(kind);
                held.sweep(kind)
            }
            Change::Recalled(kind) => {
                held.recalled.push(kind);
                held.sweep(kind)
            }
        }
    }

    fn each(&self, take: &mut dyn FnMut(Object) -> bool) {
        let held = self.0.lock().unwrap();
        for (object, _) in held.objects.values() {
            if !take(object.clone()) {
                return;
            }
        }
    }
}
