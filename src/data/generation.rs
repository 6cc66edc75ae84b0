//! A snapshot as one worker has adopted it: with its own locals, and a count of parked queries.
//!
//! A worker keeps a small table of live generations. It adopts a new one between turns; an old one
//! stays until its last parked query is done, and is then reported to control, whose drop of the
//! snapshot is always the last.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::plugin::registry::Local;
use crate::snapshot::Snapshot;

/// Every link's locals on this worker: `[block][link]`. A link that is carried over from one
/// generation to the next keeps its local.
pub struct Locals(Vec<Vec<Rc<RefCell<Local>>>>);

impl Locals {
    /// Makes the locals of `snapshot` on worker `core`; those of links that `old` has, are shared.
    pub fn new(snapshot: &Snapshot, core: u16, old: Option<&Generation>) -> Self {
        let of = |link: &crate::plugin::registry::Link| {
            let carried = old.and_then(|old| {
                let blocks = old.snapshot.blocks.iter().zip(&old.locals.0);
                let mut links = blocks.flat_map(|(block, locals)| block.chain.iter().zip(locals));
                links.find(|(other, _)| other.is_same(link)).map(|(_, local)| Rc::clone(local))
            });
            carried.unwrap_or_else(|| Rc::new(RefCell::new(link.local(core))))
        };
        let blocks = snapshot.blocks.iter();
        Self(blocks.map(|block| block.chain.iter().map(of).collect()).collect())
    }

    /// The local of a link.
    pub fn of(&self, block: u16, link: u16) -> &RefCell<Local> {
        &self.0[block as usize][link as usize]
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
