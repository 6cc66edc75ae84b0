//! A snapshot as one worker has adopted it: with its own locals, and a count of parked queries.
//!
//! A worker keeps a small table of live generations. It adopts a new one between turns; an old one
//! stays until its last parked query is done, and is then reported to control, whose drop of the
//! snapshot is always the last.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::plugin::registry::{Link, Local};
use crate::snapshot::Snapshot;

/// A link with what it has of its own on this worker.
pub struct Post {
    /// The link.
    pub link: Link,
    /// Its local.
    pub local: Rc<RefCell<Local>>,
}

/// Every link with its local on this worker: `[block][link]`. A link that is carried over from one
/// generation to the next keeps its local.
pub struct Locals(Vec<Box<[Post]>>);

impl Locals {
    /// Makes the locals of `snapshot` on worker `core`; those of links that `old` has, are shared.
    pub fn new(snapshot: &Snapshot, core: u16, old: Option<&Generation>) -> Self {
        let of = |link: &Link| {
            let carried = old.and_then(|old| {
                let same = old.locals.0.iter().flatten().find(|old| old.link.is_same(link));
                same.map(|old| Rc::clone(&old.local))
            });
            let local = carried.unwrap_or_else(|| Rc::new(RefCell::new(link.local(core))));
            Post { link: link.clone(), local }
        };
        let blocks = snapshot.blocks.iter();
        Self(blocks.map(|block| block.chain.iter().map(of).collect()).collect())
    }

    /// The local of a link.
    pub fn of(&self, block: u16, link: u16) -> &RefCell<Local> {
        &self.0[block as usize][link as usize].local
    }

    /// A link with its local, if the block's chain has so many.
    #[inline]
    pub fn get(&self, block: u16, link: u16) -> Option<&Post> {
        self.0.get(block as usize)?.get(link as usize)
    }

    /// All links with their locals.
    pub fn all(&self) -> impl Iterator<Item = &Post> {
        self.0.iter().flatten()
    }
}

/// A live generation.
pub struct Generation {
    /// What control published.
    pub snapshot: Arc<Snapshot>,
    /// This worker's part of it.
    pub locals: Locals,
    /// Queries of this generation that are parked.
    pub parked: u32,
}

impl Generation {
    /// Adopts a snapshot on worker `core`, after `old`.
    pub fn adopt(snapshot: Arc<Snapshot>, core: u16, old: Option<&Generation>) -> Self {
        let locals = Locals::new(&snapshot, core, old);
        Self { snapshot, locals, parked: 0 }
    }
}
