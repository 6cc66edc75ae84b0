//! Publishing downwards: immutable values, swapped whole, freed by control.
//!
//! A [`Published`] is an arc-swap. Workers read it through a [`Reader`] of their own, which is an
//! ordinary pointer between refreshes: a swap counts up an epoch and wakes the workers, and each
//! refreshes its readers at the start of its next turn. What is replaced is not freed when the swap
//! is done: control keeps its own `Arc` until every worker has refreshed and has been between turns,
//! so that the last drop, which may free a large graph, is never a worker's.
//!
//! Costs: a read is a load; a turn reads the epoch once; a swap wakes every worker once.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::limits::SHARED_LINE_BYTES;
use crate::mail::{Mail, Mailbox};

/// Where one worker is, on a cache line of its own. Odd while it is in a turn.
#[repr(align(128))]
#[derive(Debug, Default)]
struct TurnNumber {
    turn: AtomicU64,
    /// Number of the oldest generation that the worker still holds as a whole.
    whole: AtomicU64,
    /// Number of the oldest generation of which the worker still holds anything.
    oldest: AtomicU64,
    /// The epoch in which the worker has refreshed its readers.
    refreshed: AtomicU64,
}

const _: () = assert!(align_of::<TurnNumber>() >= SHARED_LINE_BYTES);

/// The turn numbers of all workers.
pub struct Turns {
    numbers: Box<[TurnNumber]>,
    /// Counts up with each value that is replaced.
    epoch: AtomicU64,
    mailboxes: OnceLock<Vec<Arc<Mailbox>>>,
}

impl Turns {
    /// Of so many workers, none of them in a turn.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            numbers: (0..workers).map(|_| TurnNumber::default()).collect(),
            epoch: AtomicU64::new(0),
            mailboxes: OnceLock::new(),
        })
    }

    /// The mailboxes of the workers, by which they are woken to refresh their readers.
    pub fn wake_by(&self, mailboxes: Vec<Arc<Mailbox>>) {
        // Set once, before any worker starts.
        let _ = self.mailboxes.set(mailboxes);
    }

    /// The epoch: a worker whose readers are of another refreshes them.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins an epoch, and wakes the workers that sleep.
    fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for mailbox in self.mailboxes.get().into_iter().flatten() {
            mailbox.send(Mail::Refresh);
        }
    }

    /// Worker `index` begins a turn: from here it may load what is published.
    pub fn begin(&self, index: u16) {
        let turn = &self.numbers[index as usize].turn;
        turn.store(turn.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        // Pairs with the fence in `passed`: either control sees that we are in a turn, or we see
        // what it has published.
        fence(Ordering::SeqCst);
    }

    /// Worker `index` ends its turn: it holds nothing that it has loaded, but for what its readers
    /// have been refreshed to, and its generations: the oldest `whole` one, the `oldest` of all.
    pub fn end(&self, index: u16, (whole, oldest): (u64, u64), refreshed: u64) {
        let this = &self.numbers[index as usize];
        this.refreshed.store(refreshed, Ordering::Release);
        this.whole.store(whole, Ordering::Release);
        this.oldest.store(oldest, Ordering::Release);
        let turn = this.turn.load(Ordering::Relaxed);
        this.turn.store((turn | 1) + 1, Ordering::Release);
    }

    /// Waits until every worker has refreshed its readers and been between turns since the call.
    pub async fn passed(&self) {
        fence(Ordering::SeqCst);
        let epoch = self.epoch();
        let turn = |one: &TurnNumber| one.turn.load(Ordering::Acquire);
        let seen: Vec<u64> = self.numbers.iter().map(turn).collect();
        for (one, seen) in self.numbers.iter().zip(seen) {
            let stale = || one.refreshed.load(Ordering::Acquire) < epoch;
            while stale() || (seen & 1 == 1 && turn(one) == seen) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Whether no worker holds a generation below `generation` any more, but for what streams need
    /// until they end.
    pub fn is_released(&self, generation: u64) -> bool {
        self.numbers.iter().all(|one| one.whole.load(Ordering::Acquire) >= generation)
    }

    /// Whether no worker holds anything of a generation below `generation` any more.
    pub fn is_over(&self, generation: u64) -> bool {
        self.numbers.iter().all(|one| one.oldest.load(Ordering::Acquire) >= generation)
    }
}

/// A value that control replaces while workers read it.
#[derive(Debug)]
pub struct Published<T>(Arc<ArcSwap<T>>);

/// One worker's view of a published value, as of its last refresh.
#[derive(Debug)]
pub struct Reader<T> {
    value: Arc<T>,
    source: Arc<ArcSwap<T>>,
}

impl<T> Reader<T> {
    /// The value.
    #[inline]
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Takes the newest value: at the start of a turn whose epoch is another.
    pub fn refresh(&mut self) {
        let newest = self.source.load();
        if !Arc::ptr_eq(&newest, &self.value) {
            self.value = Arc::clone(&newest);
        }
    }
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes a first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// Publishes a first value that is shared already.
    pub fn from_arc(value: Arc<T>) -> Self {
        Self(Arc::new(ArcSwap::new(value)))
    }

    /// A worker's view of the value.
    pub fn reader(&self) -> Reader<T> {
        Reader { value: self.0.load_full(), source: Arc::clone(&self.0) }
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
        self.set_then(turns, value, || ());
    }

    /// As `set_arc`; `served` is called once every worker reads the new value.
    pub fn set_then(
        &self,
        turns: &Arc<Turns>,
        value: Arc<T>,
        served: impl FnOnce() + Send + 'static,
    ) {
        let old = self.0.swap(value);
        turns.next_epoch();
        let turns = Arc::clone(turns);
        tokio::spawn(async move {
            turns.passed().await;
            served();
            drop(old);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_holds_its_value_until_it_is_refreshed() {
        let turns = Turns::new(1);
        let value = Published::new(1);
        let mut reader = value.reader();
        let old = Arc::downgrade(&value.get());
        value.set(&turns, 2);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!((*reader.get(), old.strong_count()), (1, 2), "the reader's and control's");
        turns.begin(0);
        reader.refresh();
        assert_eq!((*reader.get(), old.strong_count()), (2, 1), "control drops last");
        turns.end(0, (0, 0), turns.epoch());
        while old.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn the_last_drop_is_controls() {
        struct Told(std::sync::mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }
        const VALUES: u64 = 200;
        let (drops, dropped) = std::sync::mpsc::channel();
        let turns = Turns::new(1);
        let value = Published::new(Told(drops.clone()));
        let mut reader = value.reader();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let of_worker = Arc::clone(&turns);
        let worker = std::thread::spawn(move || {
            while stopped.try_recv().is_err() {
                of_worker.begin(0);
                let epoch = of_worker.epoch();
                reader.refresh();
                of_worker.end(0, (0, 0), epoch);
            }
            reader
        });
        let mut seen = Vec::new();
        for _ in 0..VALUES {
            value.set(&turns, Told(drops.clone()));
            tokio::task::yield_now().await;
            seen.extend(dropped.try_iter());
        }
        while seen.len() < VALUES as usize {
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.extend(dropped.try_iter());
        }
        stop.send(()).unwrap();
        let reader = worker.join().unwrap();
        let own = std::thread::current().id();
        assert!(seen.iter().all(|thread| *thread == own), "a worker has freed a value");
        drop((reader, value));
    }

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
        turns.end(1, (7, 7), turns.epoch());
        turns.end(0, (0, 0), turns.epoch());
        while weak.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!turns.is_released(7), "worker 0 has not said so");
        turns.end(0, (8, 6), turns.epoch());
        assert!(turns.is_released(7) && !turns.is_released(8));
        assert!(turns.is_over(6) && !turns.is_over(7), "worker 0 holds a part of 6");
    }
}
