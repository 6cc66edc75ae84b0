//! Mail: bounded rings of messages to each worker, and one eventfd each to wake it.
//!
//! Sending never waits: a full ring refuses, and the refusal is counted. A worker reads its mail at
//! the start of each turn. It is woken only when it sleeps.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use tokio::sync::Notify;

use crate::cells::Waiter;
use crate::data::demand::Demand;
use crate::limits::MAILBOX_LETTERS_MAX;
use crate::sys::EventFd;

/// What a worker may be told.
#[derive(Debug)]
pub enum Mail {
    /// A flight landed, with a message, or failed.
    Landed {
        /// Who joined it.
        waiter: Waiter,
        /// The message; `None` if the leader failed.
        message: Option<Arc<[u8]>>,
    },
    /// A table was replaced: readers are refreshed at the start of the turn, which this wakes for.
    Refresh,
    /// A new snapshot is published.
    Published,
    /// A question is to be walked as if a client had asked it, and all of its way told.
    Demand(Box<Demand>),
    /// Serve what has arrived and what is parked, accept no new connections, then end.
    Drain(Ending),
}

/// What becomes of a worker's sockets when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They end with it: what they hold is answered first.
    Closed,
    /// Another process goes on with them: what they hold is left to it.
    HandedOn,
}

/// One worker's ring. Its descriptor becomes readable when mail comes in for a sleeper.
pub struct Mailbox {
    ring: ArrayQueue<Mail>,
    /// Set by the worker before it sleeps.
    asleep: AtomicBool,
    dropped: AtomicU64,
    bell: EventFd,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// The kernel has no descriptor for the eventfd.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            ring: ArrayQueue::new(MAILBOX_LETTERS_MAX),
            asleep: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            bell: EventFd::new()?,
        })
    }

    /// Puts mail in, and wakes the worker if it sleeps. `false`: the ring was full.
    pub fn send(&self, mail: Mail) -> bool {
        let fits = self.ring.push(mail).is_ok();
        if !fits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // SeqCst on both sides: either the worker sees the letter before it sleeps, or we see
        // that it sleeps.
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
        fits
    }

    /// Takes one letter.
    pub fn take(&self) -> Option<Mail> {
        self.ring.pop()
    }

    /// Says that the worker is about to sleep; `false` if there is mail to read first.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.ring.is_empty() {
            return true;
        }
        self.asleep.store(false, Ordering::SeqCst);
        false
    }

    /// Makes the descriptor quiet again.
    pub fn clear(&self) {
        self.bell.clear();
    }

    /// Letters that found the ring full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl AsRawFd for Mailbox {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Wakes control when workers have told something and control waits for it.
#[derive(Default)]
pub struct Bell {
    waiting: AtomicBool,
    notify: Notify,
}

impl Bell {
    /// Called by a worker at the end of a turn in which it told something.
    pub fn ring(&self) {
        if self.waiting.swap(false, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    /// Waits until somebody rings, unless `some` says that there is something already.
    pub async fn wait_unless(&self, some: impl Fn() -> bool) {
        self.waiting.store(true, Ordering::SeqCst);
        if !some() {
            self.notify.notified().await;
        }
    }
}
