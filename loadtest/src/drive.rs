//! The loop that sends queries and takes answers, over all links in turn.
//!
//! Closed loop: so many queries are outstanding on every link at all times; the server is as
//! busy as it can be. Open loop: queries fall due at times fixed beforehand, whatever the server
//! does, and latencies count from those times: a stall counts for all the queries it delays (no
//! coordinated omission).
//!
//! The thread polls and never sleeps: a server pays for waking a sleeping receiver, which would
//! make its cost depend on the client's load.

use crate::carrier::{Buffers, Carrier};
use crate::outstanding::{OUTSTANDING_MAX, Outstanding, Verdict};
use crate::source::Source;
use crate::sys::own_cpu;
use crate::tally::{Counts, Latencies, Outcome};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How queries are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many queries outstanding on every link.
    Window(usize),
    /// So many queries a second over all links.
    Rate(f64),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub target: SocketAddr,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// Sockets or connections.
    pub links: usize,
    /// Most queries of one system call.
    pub batch: usize,
    /// How queries are paced.
    pub pace: Pace,
    /// How long they are sent.
    pub duration: Duration,
    /// When a query without an answer counts as lost.
    pub time_out: Duration,
}

struct Link {
    carrier: Carrier,
    outstanding: Outstanding,
}

struct Run<'a> {
    load: &'a Load,
    source: &'a mut Source,
    buffers: &'a mut Buffers,
    links: Vec<Link>,
    counts: Counts,
    rcodes: [u64; 16],
    latencies: Option<Latencies>,
    /// Ids of the queries that are staged in `buffers`.
    staged: Vec<u16>,
    start: Instant,
    last_answer_ns: u64,
}

/// Puts `load` on its target until its time is over and nothing is outstanding any more.
pub fn run(load: &Load, source: &mut Source, buffers: &mut Buffers) -> io::Result<Outcome> {
    let (window, latencies) = match load.pace {
        Pace::Window(window) => (window, None),
        Pace::Rate(_) => (OUTSTANDING_MAX, Some(Latencies::default())),
    };
    let link = |_| {
        let open = if load.tcp { Carrier::tcp } else { Carrier::udp };
        let outstanding = Outstanding::new(window, load.time_out.as_nanos() as u64);
        Ok(Link { carrier: open(load.target)?, outstanding })
    };
    let run = Run {
        load,
        source,
        buffers,
        links: (0..load.links).map(link).collect::<io::Result<_>>()?,
        counts: Counts::default(),
        rcodes: [0; 16],
        latencies,
        staged: Vec::with_capacity(load.batch),
        start: Instant::now(),
        last_answer_ns: 0,
    };
    run.finish()
}

impl Run<'_> {
    /// Sends for the load's duration, then waits for the answers still due.
    fn finish(mut self) -> io::Result<Outcome> {
        let cpu_before = own_cpu();
        let end_ns = self.load.duration.as_nanos() as u64;
        let time_out_ns = self.load.time_out.as_nanos() as u64;
        let mut schedule = match self.load.pace {
            Pace::Window(_) => None,
            Pace::Rate(rate) => Some(Schedule::new(rate, self.load.duration)),
        };
        let (mut busy_ns, mut turn_ns, mut progress) = (0, 0, false);
        self.start = Instant::now();
        loop {
            let now_ns = self.now_ns();
            if progress {
                busy_ns += now_ns - turn_ns;
            } else {
                std::thread::yield_now();
            }
            (turn_ns, progress) = (now_ns, false);
            let is_sending = match &schedule {
                None => now_ns < end_ns,
                // What fell due while this thread was off its CPU is sent late, not left out.
                Some(schedule) => schedule.left() > 0 && now_ns < end_ns + time_out_ns,
            };
            if !is_sending && self.links.iter().all(|link| link.outstanding.is_empty()) {
                break;
            }
            for index in 0..self.links.len() {
                progress |= self.receive(index, is_sending)?;
                self.links[index].outstanding.expire(now_ns);
                if is_sending && let Pace::Window(window) = self.load.pace {
                    progress |= self.fill(index, window, now_ns)?;
                }
            }
            if is_sending && let Some(schedule) = &mut schedule {
                progress |= self.send_due(schedule, now_ns)?;
            }
        }
        self.counts.lost += self.links.iter().map(|link| link.outstanding.lost()).sum::<u64>();
        self.counts.unsent = schedule.map_or(0, |schedule| schedule.left());
        Ok(Outcome {
            counts: self.counts,
            rcodes: self.rcodes,
            latencies: self.latencies,
            elapsed: Duration::from_nanos(end_ns.max(self.last_answer_ns)),
            busy: Duration::from_nanos(busy_ns),
            cpu: own_cpu() - cpu_before,
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Takes the answers that wait on a link; says whether there were any.
    fn receive(&mut self, index: usize, is_sending: bool) -> io::Result<bool> {
        let Self { links, buffers, counts, rcodes, latencies, start, .. } = self;
        let Link { carrier, outstanding } = &mut links[index];
        // One reading of the clock serves all that one system call brought.
        let mut received_ns = None;
        let received = carrier.receive(buffers, |message| {
            let now_ns = *received_ns.get_or_insert_with(|| start.elapsed().as_nanos() as u64);
            match outstanding.settle(message) {
                Verdict::Answer { due_ns, as_expected } => {
                    counts.answered += 1;
                    counts.unexpected_rcode += u64::from(!as_expected);
                    counts.truncated += u64::from(message[2] >> 1 & 1);
                    rcodes[usize::from(message[3] & 15)] += 1;
                    if let Some(latencies) = latencies {
                        latencies.record(now_ns.saturating_sub(due_ns));
                    }
                }
                Verdict::Late => counts.late += 1,
                Verdict::Mismatched => counts.mismatched += 1,
            }
        });
        self.last_answer_ns = received_ns.unwrap_or(self.last_answer_ns);
        match received {
            Ok(count) => Ok(count > 0),
            Err(_) => self.recover(index).map(|()| is_sending),
        }
    }

    /// Sends queries, at most a batch, until `window` of them are outstanding on a link.
    fn fill(&mut self, index: usize, window: usize, now_ns: u64) -> io::Result<bool> {
        let room = window.saturating_sub(self.links[index].outstanding.len());
        for _ in 0..room.min(self.load.batch) {
            if !self.stage(index, now_ns, now_ns) {
                break;
            }
        }
        self.flush(index)
    }

    /// Sends the queries that are due, at most a batch, over the link whose turn it is.
    fn send_due(&mut self, schedule: &mut Schedule, now_ns: u64) -> io::Result<bool> {
        let index = schedule.link;
        while self.staged.len() < self.load.batch
            && let Some(due_ns) = schedule.next_due(now_ns)
        {
            if !self.stage(index, due_ns, now_ns) {
                // So many are unanswered on this link that one more could not be told apart.
                self.counts.sent += 1;
                self.counts.lost += 1;
            }
        }
        if self.staged.is_empty() {
            return Ok(false);
        }
        schedule.link = (index + 1) % self.links.len();
        self.flush(index)
    }

    /// Writes the next query for a link; `false`: too many are outstanding there.
    fn stage(&mut self, index: usize, due_ns: u64, now_ns: u64) -> bool {
        let outstanding = &mut self.links[index].outstanding;
        let Some(id) = outstanding.next_id() else { return false };
        let place = self.staged.len();
        let (len, expected) = self.source.write_next(id, self.buffers.queries.buffer(place));
        self.buffers.queries.set_len(place, len);
        outstanding.insert(id, expected, due_ns, now_ns);
        self.staged.push(id);
        true
    }

    /// Sends what is staged over a link; says whether any of it went.
    fn flush(&mut self, index: usize) -> io::Result<bool> {
        if self.staged.is_empty() {
            return Ok(false);
        }
        let Link { carrier, outstanding } = &mut self.links[index];
        let outcome = carrier.send(self.buffers, self.staged.len());
        let sent = *outcome.as_ref().unwrap_or(&0);
        self.counts.sent += sent as u64;
        self.counts.refused_by_kernel += (self.staged.len() - sent) as u64;
        for id in self.staged.drain(..).skip(sent) {
            outstanding.cancel(id);
        }
        if outcome.is_err() {
            self.recover(index)?;
        }
        Ok(sent > 0)
    }

    fn recover(&mut self, index: usize) -> io::Result<()> {
        self.counts.socket_errors += 1;
        let Link { carrier, outstanding } = &mut self.links[index];
        if carrier.recover()? {
            outstanding.give_up();
        }
        Ok(())
    }
}

/// When the queries of an open loop are due: at equal distances.
struct Schedule {
    interval_ns: f64,
    passed: u64,
    total: u64,
    /// The link that carries the next ones.
    link: usize,
}

impl Schedule {
    fn new(rate: f64, duration: Duration) -> Self {
        let total = (rate * duration.as_secs_f64()).ceil() as u64;
        Self { interval_ns: 1e9 / rate, passed: 0, total, link: 0 }
    }

    /// The time of the next query, if that has come and one is left.
    fn next_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = (self.passed as f64 * self.interval_ns) as u64;
        let is_due = self.passed < self.total && due_ns <= now_ns;
        self.passed += u64::from(is_due);
        is_due.then_some(due_ns)
    }

    /// Queries that the client was too slow to send.
    fn left(&self) -> u64 {
        self.total - self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_met_in_full_and_never_early() {
        let mut schedule = Schedule::new(1000.0, Duration::from_millis(10));
        assert_eq!(schedule.next_due(0), Some(0));
        assert_eq!(schedule.next_due(999_999), None);
        let mut due = Vec::new();
        while let Some(at) = schedule.next_due(60_000_000_000) {
            due.push(at);
        }
        assert_eq!(due, (1..10).map(|n| n * 1_000_000).collect::<Vec<_>>());
        assert_eq!(schedule.left(), 0);
    }
}
