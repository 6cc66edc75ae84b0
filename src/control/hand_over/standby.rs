//! What is left of a server that has been succeeded and may not end: the first process of a container,
//! with which the container would end, and a successor in it, or be started anew beside its successor.
//!
//! It holds nothing and serves nothing. It hands signals to its children, and ends when it is told to,
//! when its last child ends, or, if the successor is no child, when that one does: then with a status
//! which has the container started again.

use std::time::Duration;

use super::offer::Successor;
use crate::sys::{self, Reaped};

/// Whether this process has to stay: it is the first of its space of processes.
pub fn is_needed() -> bool {
    std::process::id() == 1
}

/// The children of this process.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let numbers = |list: String| list.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>();
    lists.flat_map(numbers).collect()
}

/// Hands a signal to all children; whether there is one.
pub fn hand_on(signal: i32) -> bool {
    let children = children();
    children.iter().for_each(|child| drop(sys::signal(*child, signal)));
    !children.is_empty()
}

/// Waits for the end of whoever serves; gives the status to end with.
pub async fn last_child(successor: &Successor) -> u8 {
    let mut last = None;
    loop {
        match sys::reap() {
            Reaped::Ended(status) => last = Some(status),
            Reaped::Alive => tokio::time::sleep(Duration::from_millis(50)).await,
            Reaped::Childless => match last {
                Some(status) => return status,
                None => {
                    successor.link.over().await;
                    tracing::error!("Process {} has ended: nobody serves", successor.pid());
                    return 1;
                }
            },
        }
    }
}
