//! The cluster as a block holds it: changes come in, an index is published.
//!
//! Changes are applied on control's threads, one at a time. What changes within a few milliseconds is
//! published together; the end of a list is published before anything else happens, so that a server
//! that has waited for it answers from it. Until the block serves, nothing is published: nobody
//! reads, and copies of what is being filled would only take memory.

#[allow(clippy::disallowed_types, reason = "between control's threads only")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::counters::{Counts, Programmed};
use crate::cluster::feed::{Applied, Change, Feed};
use crate::cluster::index::Index;
use crate::cluster::object::{Kind, Object};
use crate::cluster::writer::{Holding, Writer};
use crate::data::clock;
use crate::data::rng::Rng;
use crate::data::tally::Tally;
use crate::limits::{KUBE_MEASURED_MAX, KUBE_PUBLISH_MILLIS, KUBE_PUBLISH_UNSYNCED_MILLIS};
use crate::publish::{Published, Reader, Turns};

/// What is held of a cluster, and published.
pub struct Held {
    #[allow(clippy::disallowed_types, reason = "between control's threads only")]
    filling: Mutex<Filling>,
    index: Published<Index>,
    turns: Arc<Turns>,
    /// Whether there is somebody to publish for.
    is_open: AtomicBool,
    /// Something waits to be published.
    waiting: Notify,
    changed: watch::Sender<()>,
    counts: Counts,
}

/// The writer, and what has changed since it was published last.
struct Filling {
    writer: Writer,
    changes: Changes,
}

/// What is told of the changes that are published together.
#[derive(Default)]
struct Changes {
    /// When each came in.
    arrived: Vec<Instant>,
    programmed: Vec<Programmed>,
}

/// Namespace and name.
fn names_of(object: &Object) -> [Box<str>; 2] {
    let meta = object.meta();
    [meta.namespace.clone(), meta.name.clone()]
}

fn seconds() -> u32 {
    clock::unix_seconds() as u32
}

impl Held {
    /// Nothing is known yet.
    pub fn new(holding: Holding, turns: &Arc<Turns>, tally: &Arc<Tally>) -> Arc<Self> {
        let kinds = holding.kinds.clone();
        let mut writer = Writer::new(holding, Rng::from_entropy().next_u64(), seconds);
        // The first index is the empty one, whether it is dirty or not.
        let index = writer.publish().unwrap_or_else(|| writer.index().clone());
        let held = Arc::new(Self {
            filling: Filling { writer, changes: Changes::default() }.into(),
            index: Published::new(index),
            turns: Arc::clone(turns),
            is_open: AtomicBool::new(false),
            waiting: Notify::new(),
            changed: watch::Sender::new(()),
            counts: Counts::new(tally),
        });
        held.counts.show(&kinds, &held);
        held
    }

    /// A worker's view of the index.
    pub fn reader(&self) -> Reader<Index> {
        self.index.reader()
    }

    /// The index, to keep. Control side.
    pub fn index(&self) -> Arc<Index> {
        self.index.get()
    }

    /// Told of each index that is published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes from now on, and at once what there is: the block is about to serve.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.publish();
    }

    /// Publishes what has changed. On control's runtime.
    fn publish(&self) {
        let began = Instant::now();
        let (index, changes) = {
            let mut filling = self.filling();
            (filling.writer.publish(), std::mem::take(&mut filling.changes))
        };
        let Some(index) = index else { return };
        let counts = self.counts.clone();
        self.index.set_then(&self.turns, Arc::new(index), move || {
            changes.arrived.iter().for_each(|arrived| counts.served(arrived.elapsed()));
            changes.programmed.iter().for_each(|one| counts.programmed(one));
        });
        self.changed.send_replace(());
        self.counts.published(began.elapsed());
    }

    /// Publishes what changes, a while after it has.
    pub async fn run(self: Arc<Self>) {
        let mut last = Instant::now();
        loop {
            self.waiting.notified().await;
            let millis = match self.index.load().is_synced() {
                true => KUBE_PUBLISH_MILLIS,
                false => KUBE_PUBLISH_UNSYNCED_MILLIS,
            };
            sleep_until(last + Duration::from_millis(millis)).await;
            self.publish();
            last = Instant::now();
        }
    }
}

impl Feed for Held {
    fn apply(&self, change: Change) -> Applied {
        let arrived = Instant::now();
        let ends = matches!(change, Change::End(_) | Change::Recalled(_));
        let (seen, told) = match &change {
            Change::Put(object) => {
                (Programmed::of(object), Some((object.kind(), names_of(object))))
            }
            Change::Delete(object) => (Programmed::of(object), None),
            _ => (None, None),
        };
        let mut filling = self.filling();
        let seen = seen.and_then(|seen| seen.known(filling.writer.index()));
        let applied = filling.writer.apply(change);
        let synced = filling.writer.index().is_synced();
        let changes = &mut filling.changes;
        if applied != Applied::Same {
            if let Some(seen) = seen {
                match self.is_open() && changes.programmed.len() < KUBE_MEASURED_MAX {
                    true => changes.programmed.push(seen),
                    false => self.counts.programmed(&seen),
                }
            }
            if synced && !ends && changes.arrived.len() < KUBE_MEASURED_MAX {
                changes.arrived.push(arrived);
            }
        }
        drop(filling);
        if let (Applied::Changed, Some((Kind::Namespaces, [_, name]))) = (applied, &told) {
            self.counts.appeared(name);
        }
        if applied == Applied::Refused
            && let Some((kind, [namespace, name])) = told
        {
            self.counts.refused(kind, &format!("{namespace}/{name}"));
        }
        if self.is_open() && applied != Applied::Same {
            match ends {
                true => self.publish(),
                false => self.waiting.notify_one(),
            }
        }
        applied
    }

    fn each(&self, take: &mut dyn FnMut(Object) -> bool) {
        // Not what is published: at the start that may be behind.
        let index = self.filling().writer.index().clone();
        index.each(take);
    }
}
