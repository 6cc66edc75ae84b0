//! What is left of a server that has been succeeded and may not end: the first process of a container,
//! with which the container would end, and a successor in it, or be started anew beside its successor.
//!
//! It holds nothing and serves nothing, and sleeps. It hands signals to who serves, and ends with their
//! status when they end; what others leave behind in the container it takes off the kernel's list, as a
//! first process has to, and waits for none of them. If the successor is no child, it ends when that one
//! does: then with a status which has the container started again.

use std::fs;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::offer::Successor;
use crate::sys::{self, Reaped};

/// A process that stays.
pub struct Standby {
    successor: Successor,
    /// Of the kernel's word that a child has ended; `None` where it gives none.
    ended: Option<Signal>,
    /// Children that serve, or are about to.
    serving: Vec<u32>,
    /// The status of the last of them that has ended.
    status: Option<u8>,
}

impl Standby {
    /// Whether this process has to stay: it is the first of its space of processes.
    pub fn is_needed() -> bool {
        std::process::id() == 1
    }

    /// Stays for this successor; inside a runtime.
    pub fn new(successor: Successor) -> Self {
        let ended = signal(SignalKind::child()).ok();
        Self { successor, ended, serving: serving(), status: None }
    }

    /// Hands a signal to who serves; whether there is anybody.
    pub fn hand_on(&self, signal: i32) -> bool {
        let serving = serving();
        serving.iter().for_each(|child| drop(sys::signal(*child, signal)));
        !serving.is_empty()
    }

    /// Waits until nobody serves; gives the status to end with. May be given up and begun anew.
    pub async fn over(&mut self) -> u8 {
        loop {
            self.look();
            match (self.serving.is_empty(), self.status) {
                (true, Some(status)) => return status,
                (true, None) => {
                    self.successor.link.over().await;
                    tracing::error!("Process {} has ended: nobody serves", self.successor.pid());
                    return 1;
                }
                (false, _) => match &mut self.ended {
                    Some(ended) => drop(ended.recv().await),
                    None => self.successor.link.over().await,
                },
            }
        }
    }

    /// Takes children off the kernel's list that have ended. Who was started by one of them and has lost
    /// it is a child by then.
    fn look(&mut self) {
        while let Reaped::Ended(child, status) = sys::reap() {
            if self.serving.contains(&child) {
                self.status = Some(status);
            }
        }
        self.serving = serving();
    }
}

/// The children of this process that run its command: a successor, and those that have succeeded to it.
fn serving() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let numbers = |list: String| list.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>();
    let command = |process: &str| fs::read(format!("/proc/{process}/cmdline")).ok();
    let own = command("self");
    lists.flat_map(numbers).filter(|child: &u32| command(&child.to_string()) == own).collect()
}
