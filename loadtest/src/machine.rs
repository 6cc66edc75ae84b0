//! What the machine did to a run, as far as the run itself can see it: how late CPUs came back to
//! threads that nothing of the load may hold up, how long this process waited for its own CPU, and what
//! its sockets had no room for.
//!
//! A [`Pulse`] is a thread on each CPU that is watched. It sleeps for [`BEAT`] and looks how late it
//! wakes. Where it may (CAP_SYS_NICE) it has a real-time priority, so that no program delays it: it is
//! late only when the machine did not run, or the kernel let nobody in. A host that stops a virtual CPU
//! without counting that as stolen time is seen by nothing else.
//!
//! Costs: 200 wake-ups a second and CPU, some 3 µs each.

use crate::sys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
pub const BEAT: Duration = Duration::from_millis(5);
/// A beat that comes later than this is counted.
pub const LATE: Duration = Duration::from_millis(1);

/// The beats of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Beats {
    /// How late the latest came, in microseconds.
    pub latest_us: f64,
    /// How many came later than [`LATE`].
    pub late: u64,
    /// Whether no other program could hold them up.
    pub real_time: bool,
}

/// Threads that watch CPUs until they are asked what they saw.
pub struct Pulse {
    over: Arc<AtomicBool>,
    watchers: Vec<(usize, JoinHandle<Beats>)>,
}

impl Pulse {
    /// Watches these CPUs from now on.
    pub fn start(cpus: &[usize]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let watcher = |cpu: &usize| {
            let (cpu, over) = (*cpu, Arc::clone(&over));
            (cpu, std::thread::spawn(move || watch(cpu, &over)))
        };
        Self { watchers: cpus.iter().map(watcher).collect(), over }
    }

    /// What was seen, by CPU; those are left out that threads of this process may not run on.
    pub fn stop(self) -> BTreeMap<usize, Beats> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.watchers.into_iter();
        ended.filter_map(|(cpu, thread)| Some((cpu, thread.join().ok()?))).collect()
    }
}

/// Panics, which ends the watcher alone, where the CPU is not to be had.
fn watch(cpu: usize, over: &AtomicBool) -> Beats {
    sys::pin(cpu).expect("the CPU is one of this process's");
    let mut beats = Beats { real_time: sys::come_first().is_ok(), ..Beats::default() };
    while !over.load(Ordering::Relaxed) {
        let due = Instant::now() + BEAT;
        std::thread::sleep(BEAT);
        beats.count(due.elapsed());
    }
    beats
}

impl Beats {
    fn count(&mut self, late: Duration) {
        self.latest_us = self.latest_us.max(late.as_nanos() as f64 / 1e3);
        self.late += u64::from(late > LATE);
    }
}

/// A thread that looks how long another one waits for a CPU, at each beat.
pub struct Waits {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<Duration>,
}

impl Waits {
    /// Watches the thread whose `/proc/PID/task/TID/schedstat` this is.
    pub fn start(thread: &Path) -> io::Result<Self> {
        let file = File::open(thread)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let watcher = std::thread::spawn(move || longest_wait(&file, &until));
        Ok(Self { over, watcher })
    }

    /// The most that was added to its waiting from one beat to the next: a wait is added when it is
    /// over, so that no wait was longer.
    pub fn stop(self) -> Option<Duration> {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().ok()
    }
}

fn longest_wait(file: &File, over: &AtomicBool) -> Duration {
    // Without the right to, it looks when it is let.
    let _ = sys::come_first();
    let mut octets = [0; 96];
    let mut waited = || {
        let len = file.read_at(&mut octets, 0).unwrap_or(0);
        waited_in(str::from_utf8(&octets[..len]).unwrap_or(""))
    };
    let (mut before, mut longest) = (waited(), Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(BEAT);
        let now = waited();
        longest = longest.max(now.saturating_sub(before));
        before = now.max(before);
    }
    longest
}

/// For how long the calling thread was ready to run and did not, since its start; zero where the
/// kernel does not count it.
pub fn waited_for_cpu() -> Duration {
    waited_in(&std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
}

/// The second number of a `schedstat`.
fn waited_in(text: &str) -> Duration {
    let nanos = text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Datagrams for which these sockets of this machine had no room, in all.
pub fn dropped(sockets: &[SocketAddr]) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(std::fs::read_to_string);
    let tables = tables.map(Result::unwrap_or_default);
    let ports: Vec<u16> = sockets.iter().map(SocketAddr::port).collect();
    tables.iter().map(|table| dropped_in(table, &ports)).sum()
}

/// The sum of `drops` (the last column) over those lines whose local port (behind the address, in
/// hexadecimal) is one of `ports`.
fn dropped_in(table: &str, ports: &[u16]) -> u64 {
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let port = u16::from_str_radix(words.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        ports.contains(&port).then(|| words.last()?.parse::<u64>().ok()).flatten()
    };
    table.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_beats_on_the_cpus_that_there_are() {
        let own = sys::cpus();
        let pulse = Pulse::start(&[own[0], 100_000]);
        std::thread::sleep(4 * BEAT);
        let seen = pulse.stop();
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [own[0]]);
        assert!(seen[&own[0]].latest_us > 0.0);
    }

    #[test]
    fn late_beats_are_counted_and_the_latest_is_kept() {
        let mut beats = Beats::default();
        for micros in [30, 2500, 1000, 1001] {
            beats.count(Duration::from_micros(micros));
        }
        assert_eq!((beats.latest_us, beats.late), (2500.0, 2));
    }

    #[test]
    fn the_waits_of_a_thread_are_watched() {
        assert_eq!(waited_in("12 3456 7\n"), Duration::from_nanos(3456));
        assert_eq!(waited_in(""), Duration::ZERO);
        let before = waited_for_cpu();
        let waits = Waits::start(Path::new("/proc/thread-self/schedstat")).unwrap();
        std::thread::sleep(3 * BEAT);
        let longest = waits.stop().unwrap();
        // The file is of the thread that opened it, this one, which slept.
        assert!(longest <= waited_for_cpu() - before, "{longest:?}");
        assert!(Waits::start(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn drops_are_those_of_the_ports() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
             uid  timeout inode ref pointer drops\n\
             1: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0 \
             0 1 2 0 7\n\
             2: 0100007F:7B0C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0 \
             0 1 2 0 30\n\
             3: 00000000000000000000000001000000:0035 0:0 07 0:0 00:0 0 0 0 1 2 0 5\n";
        assert_eq!(dropped_in(table, &[53]), 12);
        assert_eq!(dropped_in(table, &[0x7B0C, 54]), 30);
        assert_eq!(dropped_in("", &[53]), 0);
    }
}
