//! How much of its time each worker has work: what says when there should be more replicas.
//!
//! A worker sleeps when nothing is to be done. Otherwise it runs, or wants to and is not let: its CPU is
//! somebody else's, or the cgroup's quota is used up. Both are time in which the next query waits, and
//! the CPU time of the process shows but the first, and of all workers together: by a hash of few flows
//! one of them may have all the work.
//!
//! The kernel keeps both for each thread (/proc/PID/task/TID/schedstat); they are read while a page is
//! made, two small files for each thread. Where the kernel keeps none (CONFIG_SCHED_INFO), the family is
//! empty.

use std::fs;
use std::path::Path;

use crate::data::tally::{Family, Page};

static BUSY: Family = Family::counter(
    "corelane_worker_busy_seconds_total",
    &["worker", "state"],
    "Seconds in which a worker had work: running on a CPU, or waiting for one.",
);

/// Writes the family.
pub fn write(page: &mut Page<'_>) {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut workers: Vec<_> = tasks.filter_map(|task| busy(&task.path())).collect();
    workers.sort_unstable();
    page.family(BUSY.name, BUSY.help, BUSY.kind, |page| {
        for (worker, running, waiting) in workers {
            for (state, nanos) in [("running", running), ("waiting", waiting)] {
                let labels = format!("worker=\"{worker}\",state=\"{state}\"");
                page.float("", &labels, nanos as f64 / 1e9);
            }
        }
    });
}

/// A worker's number, and the nanoseconds for which it has run and has waited; `None` of other threads.
fn busy(task: &Path) -> Option<(u16, u64, u64)> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let worker = name.trim().strip_prefix("worker-")?.parse().ok()?;
    let times = fs::read_to_string(task.join("schedstat")).ok()?;
    let mut times = times.split_ascii_whitespace().map_while(|number| number.parse().ok());
    Some((worker, times.next()?, times.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tally::Format;

    #[test]
    fn a_worker_that_runs_is_busy_and_one_that_sleeps_is_not() {
        let running = |worker: u16| {
            let mut out = String::new();
            write(&mut Page::new(&mut out, Format::Text004));
            let start = format!("{}{{worker=\"{worker}\",state=\"running\"}} ", BUSY.name);
            out.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
        };
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let asleep = std::thread::Builder::new().name("worker-901".to_owned());
        let asleep = asleep.spawn(move || is_over.recv().is_ok()).unwrap();
        let busy = std::thread::Builder::new().name("worker-902".to_owned());
        let busy = busy.spawn(move || while running(902).unwrap() < 0.02 {}).unwrap();
        busy.join().unwrap();
        assert!(running(901).unwrap() < 0.02);
        assert_eq!(running(902), None);
        drop(over);
        assert!(!asleep.join().unwrap());
    }
}
