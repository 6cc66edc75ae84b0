//! How whoever watches a cluster hands in what it sees.
//!
//! A [`Change`] is one event of a watch, or the begin or the end of a list. A list that is read again
//! marks and sweeps: what was not put between [`Change::Begin`] and [`Change::End`] is dropped at the
//! end, and the rest stays in its place, so that two copies of a cluster never exist.

use super::object::{Kind, Object};

/// What is seen of a cluster.
#[derive(Clone, Debug)]
pub enum Change {
    /// A list of this kind begins; what follows of it may come in any order.
    Begin(Kind),
    /// An object is there, with this content: one of a list, or one that was added or modified.
    Put(Object),
    /// An object is gone; as it was last.
    Delete(Object),
    /// The list is complete: the kind is in sync.
    End(Kind),
    /// The list is complete, but of an earlier run: its objects are served, marked as stale, until
    /// the kind's next [`Change::End`]. The kind is not in sync.
    Recalled(Kind),
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing that answers depend on is different.
    Same,
    /// Something is.
    Changed,
    /// So many objects are gone that a list did not hold.
    Swept(u32),
    /// The object, or a part of it, cannot have records and was left out: counted and told of.
    Refused,
}

/// Takes changes. Cheap to clone; used from any thread of control, one change at a time.
pub trait Feed: Send + Sync + 'static {
    /// Applies a change; it is served a few milliseconds later.
    fn apply(&self, change: Change) -> Applied;

    /// Gives everything that is held, as far as answers need it, one object after the other, until
    /// `take` says no: what puts these objects into an empty index makes the same answers. For
    /// keeping a cluster over a restart. Reads what is published, so that it may take its time on a
    /// thread of its own while changes are applied.
    fn each(&self, take: &mut dyn FnMut(Object) -> bool);
}
