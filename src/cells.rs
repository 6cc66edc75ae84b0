//! Cells that workers share: flights of misses, and permits. Touched only by a query that waits.
//!
//! A flight is one piece of work that several queries want. The first leads and does it; the
//! others join and are woken by mail when it lands. The table is a `dashmap` of locked shards,
//! never touched by a query that is answered from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;

use crate::limits::{FLIGHT_WAITERS_MAX, FLIGHTS_MAX};
use crate::mail::{Mail, Mailbox};

/// One of a bounded number of queries that may wait for the same thing, on all workers together.
/// Given back when it is dropped, however the query ends.
#[derive(Debug)]
pub struct Permit(Arc<AtomicU32>);

impl Permit {
    /// Takes one of `most`; `taken` counts those that are out. None: all are.
    pub fn take(taken: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let permit = Self(Arc::clone(taken));
        (taken.fetch_add(1, Relaxed) < most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Names a flight: a keyed hash of all that makes two queries want the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightKey(pub u128);

/// A parked query: worker, slot, and the slot's use count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Index of the worker.
    pub worker: u16,
    /// Index of the slot.
    pub slot: u32,
    /// The slot's use count: a waiter whose slot has moved on is ignored.
    pub use_count: u32,
}

/// The flights of the process.
pub struct Flights {
    table: DashMap<FlightKey, Vec<Waiter>, RandomState>,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Flights {
    /// No flights; `mailboxes` are the workers', by index.
    pub fn new(mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { table: DashMap::with_hasher(RandomState::default()), mailboxes }
    }

    /// Flights that have not landed.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether all have landed.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Becomes the leader, unless there is one. Where the table is full everybody leads alone.
    pub fn lead(&self, key: FlightKey) -> bool {
        // Counting takes every shard's lock in turn: at most one shard at a time, misses only.
        let full = self.table.len() >= FLIGHTS_MAX;
        match self.table.entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(_) if full => true,
            Entry::Vacant(vacant) => {
                vacant.insert(Vec::new());
                true
            }
        }
    }

    /// Waits for a flight; `false` if it is gone, or its list of waiters is full.
    pub fn join(&self, key: FlightKey, waiter: Waiter) -> bool {
        match self.table.get_mut(&key) {
            Some(mut waiters) if waiters.len() < FLIGHT_WAITERS_MAX => {
                waiters.push(waiter);
                true
            }
            _ => false,
        }
    }

    /// Ends a flight and wakes those who joined.
    pub fn land(&self, key: FlightKey, message: Option<Arc<[u8]>>) {
        self.land_with(key, || message);
    }

    /// As `land`, with a message that is only made where somebody joined.
    pub fn land_with(&self, key: FlightKey, message: impl FnOnce() -> Option<Arc<[u8]>>) {
        let Some((_, waiters)) = self.table.remove(&key) else { return };
        if waiters.is_empty() {
            return;
        }
        let message = message();
        for waiter in waiters {
            if let Some(mailbox) = self.mailboxes.get(waiter.worker as usize) {
                // A full mailbox loses the wake-up: the waiter's deadline still ends its wait.
                mailbox.send(Mail::Landed { waiter, message: message.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let taken = Arc::new(AtomicU32::new(0));
        let one = Permit::take(&taken, 2);
        let two = Permit::take(&taken, 2);
        assert!(one.is_some() && two.is_some());
        assert!(Permit::take(&taken, 2).is_none() && Permit::take(&taken, 2).is_none());
        drop(one);
        assert!(Permit::take(&taken, 2).is_some(), "the refused were not counted");
        drop(two);
        assert_eq!(taken.load(Relaxed), 0);
    }
}
