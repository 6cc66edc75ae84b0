//! Publishing downwards: immutable values, swapped whole, freed by control.
//!
//! A [`Published`] is an arc-swap that workers load during a turn. What is replaced is not freed
//! when the swap is done: control keeps its own `Arc` until every worker has been between turns, so
//! that the last drop, which may free a large graph, is never a worker's. A guard never survives a
//! turn; a worker that sleeps is between turns.
//!
//! Costs: a load is a few nanoseconds without a shared write; a swap is one, plus the wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

/// Where one worker is, on a cache line of its own. Odd while it is in a turn.
#[repr(align(128))]
#[derive(Debug, Default)]
struct TurnNumber {
    turn: AtomicU64,
    /// Number of the oldest generation that the worker still holds.
    oldest: AtomicU64,
}

/// The turn numbers of all workers.
#[derive(Debug)]
pub struct Turns(Box<[TurnNumber]>);

impl Turns {
    /// Of so many workers, none of them in a turn.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| TurnNumber::default()).collect()))
    }

    /// Worker `index` begins a turn: from here it may load what is published.
    pub fn begin(&self, index: u16) {
        let turn = &self.0[index as usize].turn;
        turn.store(turn.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        // Pairs with the fence in `passed`: either control sees that we are in a turn, or we see
        // what it has published.
        fence(Ordering::SeqCst);
    }

    /// Worker `index` ends its turn: it holds nothing that it has loaded.
    pub fn end(&self, index: u16, oldest_generation: u64) {
        let this = &self.0[index as usize];
        this.oldest.store(oldest_generation, Ordering::Release);
        let turn = this.turn.load(Ordering::Relaxed);
        this.turn.store((turn | 1) + 1, Ordering::Release);
    }

    /// Waits until every worker has been between turns since the call.
    pub async fn passed(&self) {
        fence(Ordering::SeqCst);
        let seen: Vec<u64> = self.0.iter().map(|one| one.turn.load(Ordering::Acquire)).collect();
        for (one, seen) in self.0.iter().zip(seen) {
            while seen & 1 == 1 && one.turn.load(Ordering::Acquire) == seen {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Whether no worker holds a generation below `generation` any more.
    pub fn is_released(&self, generation: u64) -> bool {
        self.0.iter().all(|one| one.oldest.load(Ordering::Acquire) >= generation)
    }
}

/// A value that control replaces while workers read it.
#[derive(Debug)]
pub struct Published<T>(ArcSwap<T>);

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes a first value.
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// Publishes a first value that is shared already.
    pub fn from_arc(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// The value, for use within this turn.
    #[inline]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The value, to keep. Control side.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value. Control side: the old one is freed once all workers have passed, by
    /// the runtime that this is called on.
    pub fn set(&self, turns: &Arc<Turns>, value: T) {
        self.set_arc(turns, Arc::new(value));
    }

    /// As `set`, of a value that is shared already.
    pub fn set_arc(&self, turns: &Arc<Turns>, value: Arc<T>) {
        let old = self.0.swap(value);
        let turns = Arc::clone(turns);
        tokio::spawn(async move {
            turns.passed().await;
            drop(old);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn freed_only_between_turns() {
        let turns = Turns::new(2);
        let value = Published::new(String::from("old"));
        turns.begin(1);
        let held = value.load();
        let weak = Arc::downgrade(&value.get());
        value.set(&turns, "new".into());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(weak.upgrade().is_some());
        assert_eq!((held.as_str(), value.load().as_str()), ("old", "new"));
        drop(held);
        turns.end(1, 7);
        while weak.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!turns.is_released(7), "worker 0 has not said so");
        turns.end(0, 8);
        assert!(turns.is_released(7) && !turns.is_released(8));
    }
}
