//! The loop that sends queries and takes answers, over all links in turn.
//!
//! Closed loop: so many queries are outstanding on every link at all times; the server is as
//! busy as it can be. Open loop: queries fall due at times fixed beforehand, whatever the server
//! does, and latencies count from those times: a stall counts for all the queries it delays (no
//! coordinated omission).
//!
//! What is paced is a query, or a whole look-up ([`crate::lookup`]), whose later queries go out when
//! the answers to its earlier ones have come.
//!
//! The thread polls and never sleeps: a server pays for waking a sleeping receiver, which would
//! make its cost depend on the client's load.

use crate::carrier::{Buffers, Carrier, Tls};
use crate::lookup::{Answer, End, Lookups, Next, TYPES};
use crate::machine;
use crate::malformed;
use crate::message::{Edns, write_query};
use crate::outstanding::{OUTSTANDING_MAX, Outstanding, Verdict};
use crate::source::{Expected, NO_LOOKUP, Random, Source};
use crate::sys::own_cpu;
use crate::tally::{Counts, Latencies, LookupCounts, Outcome};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How queries, or look-ups, are paced.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// So many outstanding on every link.
    Window(usize),
    /// So many a second over all links.
    Rate(f64),
    /// At these times, in nanoseconds from the start, in order.
    Times(Arc<[u64]>),
}

/// What is asked.
pub enum Asking {
    /// Queries, each for itself.
    Queries(Source),
    /// Look-ups through a search list.
    Lookups {
        /// The names.
        lookups: Lookups,
        /// OPT of every query.
        edns: Option<Edns>,
        /// Whether one that ends without an address counts as an unexpected rcode.
        must_find: bool,
    },
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub target: SocketAddr,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// TCP: with TLS, so.
    pub tls: Option<Tls>,
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
    /// Share of all messages that are malformed, 0 to below 1; UDP only.
    pub malformed_share: f64,
}

struct Link {
    carrier: Carrier,
    outstanding: Outstanding,
    /// Look-ups under way.
    lookups: usize,
}

/// Malformed messages beside the queries, over a socket of their own.
struct Noise {
    carrier: Carrier,
    random: Random,
    /// How many there are for each query, and how many are due.
    per_query: f64,
    due: f64,
}

struct Run<'a> {
    load: &'a Load,
    asking: &'a mut Asking,
    buffers: &'a mut Buffers,
    links: Vec<Link>,
    noise: Option<Noise>,
    counts: Counts,
    lookup_counts: Option<LookupCounts>,
    rcodes: [u64; 16],
    latencies: Option<Latencies>,
    /// Ids of the queries that are staged in `buffers`.
    staged: Vec<u16>,
    /// Answers that look-ups have not been told of yet.
    settled: Vec<(u32, Answer)>,
    start: Instant,
    last_answer_ns: u64,
    /// The longest time between two receipts of answers while queries were sent.
    silence_ns: u64,
}

/// Puts `load` on its target until its time is over and nothing is outstanding any more.
pub fn run(load: &Load, asking: &mut Asking, buffers: &mut Buffers) -> io::Result<Outcome> {
    let queries_of_one = match asking {
        Asking::Queries(_) => 1,
        Asking::Lookups { .. } => TYPES.len(),
    };
    let (window, latencies) = match load.pace {
        Pace::Window(window) => (window * queries_of_one, None),
        Pace::Rate(_) | Pace::Times(_) => (OUTSTANDING_MAX, Some(Latencies::default())),
    };
    let link = |_| {
        let carrier = match load.tcp {
            true => Carrier::tcp(load.target, load.tls.as_ref())?,
            false => Carrier::udp(load.target)?,
        };
        let outstanding = Outstanding::new(window, load.time_out.as_nanos() as u64);
        Ok(Link { carrier, outstanding, lookups: 0 })
    };
    let noise = match load.malformed_share {
        share if share > 0.0 => Some(Noise {
            carrier: Carrier::udp(load.target)?,
            random: Random::new(1),
            per_query: share / (1.0 - share),
            due: 0.0,
        }),
        _ => None,
    };
    let run = Run {
        lookup_counts: matches!(asking, Asking::Lookups { .. }).then(LookupCounts::default),
        load,
        asking,
        buffers,
        links: (0..load.links).map(link).collect::<io::Result<_>>()?,
        noise,
        counts: Counts::default(),
        rcodes: [0; 16],
        latencies,
        staged: Vec::with_capacity(load.batch),
        settled: Vec::new(),
        start: Instant::now(),
        last_answer_ns: 0,
        silence_ns: 0,
    };
    run.finish()
}

impl Run<'_> {
    /// Sends for the load's duration, then waits for the answers still due.
    fn finish(mut self) -> io::Result<Outcome> {
        let (cpu_before, waited_before) = (own_cpu(), machine::waited_for_cpu());
        let end_ns = self.load.duration.as_nanos() as u64;
        let time_out_ns = self.load.time_out.as_nanos() as u64;
        let mut schedule = Schedule::new(&self.load.pace, self.load.duration);
        let (mut busy_ns, mut turn_ns, mut progress) = (0, 0, false);
        let mut gap_ns = 0;
        self.start = Instant::now();
        loop {
            let now_ns = self.now_ns();
            if progress {
                busy_ns += now_ns - turn_ns;
            } else {
                std::thread::yield_now();
            }
            gap_ns = gap_ns.max(now_ns - turn_ns);
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
                progress |= self.settle_lookups(index)?;
                if is_sending && let Pace::Window(window) = self.load.pace {
                    progress |= self.fill(index, window, now_ns)?;
                }
            }
            if is_sending && let Some(schedule) = &mut schedule {
                progress |= self.send_due(schedule, now_ns)?;
            }
            self.hear_noise();
        }
        self.counts.lost += self.links.iter().map(|link| link.outstanding.lost()).sum::<u64>();
        self.counts.unsent = schedule.map_or(0, |schedule| schedule.left());
        let sockets: Vec<_> =
            self.links.iter().filter_map(|link| link.carrier.receives_at()).collect();
        Ok(Outcome {
            counts: self.counts,
            rcodes: self.rcodes,
            lookups: self.lookup_counts,
            latencies: self.latencies,
            elapsed: Duration::from_nanos(end_ns.max(self.last_answer_ns)),
            busy: Duration::from_nanos(busy_ns),
            cpu: own_cpu() - cpu_before,
            waited: machine::waited_for_cpu() - waited_before,
            gap: Duration::from_nanos(gap_ns),
            silence: Duration::from_nanos(self.silence_ns),
            dropped: machine::dropped(&sockets),
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Takes the answers that wait on a link; says whether there were any.
    fn receive(&mut self, index: usize, is_sending: bool) -> io::Result<bool> {
        let Self { links, buffers, counts, rcodes, latencies, settled, start, .. } = self;
        let Link { carrier, outstanding, .. } = &mut links[index];
        // One reading of the clock serves all that one system call brought.
        let mut received_ns = None;
        let received = carrier.receive(buffers, |message| {
            let now_ns = *received_ns.get_or_insert_with(|| start.elapsed().as_nanos() as u64);
            match outstanding.settle(message) {
                Verdict::Answer { due_ns, as_expected, lookup } => {
                    counts.answered += 1;
                    counts.unexpected_rcode += u64::from(!as_expected);
                    counts.truncated += u64::from(message[2] >> 1 & 1);
                    rcodes[usize::from(message[3] & 15)] += 1;
                    if lookup != NO_LOOKUP {
                        let has_records = message[6..8] != [0, 0];
                        settled.push((lookup, Answer::Came(message[3] & 15, has_records)));
                    } else if as_expected && let Some(latencies) = latencies {
                        // A refusal is quick, or slow, for reasons of its own.
                        latencies.record(now_ns.saturating_sub(due_ns));
                    }
                }
                Verdict::Late => counts.late += 1,
                Verdict::Mismatched => counts.mismatched += 1,
            }
        });
        if let Some(now_ns) = received_ns {
            let silence_ns = now_ns - self.last_answer_ns;
            if is_sending {
                self.silence_ns = self.silence_ns.max(silence_ns);
            }
            self.last_answer_ns = now_ns;
        }
        match received {
            Ok(count) => Ok(count > 0),
            Err(_) => self.recover(index).map(|()| is_sending),
        }
    }

    /// Tells look-ups of their answers and of what was lost, and sends what they ask next.
    fn settle_lookups(&mut self, index: usize) -> io::Result<bool> {
        loop {
            while let Some(lookup) = self.links[index].outstanding.take_lost_lookup() {
                self.settled.push((lookup, Answer::Lost));
            }
            let Some((lookup, answer)) = self.settled.pop() else { break };
            let Asking::Lookups { lookups, must_find, .. } = &mut *self.asking else { break };
            match lookups.settle(lookup, answer) {
                Next::Wait => {}
                Next::Ask => self.ask(index, lookup)?,
                Next::Ended(end, due_ns) => {
                    let must_find = *must_find;
                    self.end_lookup(index, end, due_ns, must_find);
                }
            }
        }
        self.flush(index)
    }

    fn end_lookup(&mut self, index: usize, end: End, due_ns: u64, must_find: bool) {
        self.links[index].lookups -= 1;
        self.counts.unexpected_rcode += u64::from(must_find && end == End::NotFound);
        let counts = self.lookup_counts.get_or_insert_default();
        *match end {
            End::Found => &mut counts.found,
            End::NotFound => &mut counts.not_found,
            End::Failed => &mut counts.failed,
        } += 1;
        let now_ns = self.now_ns();
        if let Some(latencies) = &mut self.latencies
            && end != End::Failed
        {
            latencies.record(now_ns.saturating_sub(due_ns));
        }
    }

    /// Sends queries, at most a batch, until `window` queries or look-ups are outstanding on a link.
    fn fill(&mut self, index: usize, window: usize, now_ns: u64) -> io::Result<bool> {
        let under_way = match self.asking {
            Asking::Queries(_) => self.links[index].outstanding.len(),
            Asking::Lookups { .. } => self.links[index].lookups,
        };
        for _ in 0..window.saturating_sub(under_way).min(self.load.batch) {
            if !self.begin(index, now_ns, now_ns)? {
                break;
            }
        }
        self.flush(index)
    }

    /// Sends what is due, at most a batch, over the link whose turn it is.
    fn send_due(&mut self, schedule: &mut Schedule, now_ns: u64) -> io::Result<bool> {
        let index = schedule.link;
        let mut begun = 0;
        while begun < self.load.batch
            && let Some(due_ns) = schedule.next_due(now_ns)
        {
            begun += 1;
            if !self.begin(index, due_ns, now_ns)? {
                // So many are unanswered on this link that one more could not be told apart.
                self.counts.sent += 1;
                self.counts.lost += 1;
            }
        }
        if begun > 0 {
            schedule.link = (index + 1) % self.links.len();
        }
        self.flush(index)
    }

    /// Stages the next query, or begins the next look-up; `false`: too many are outstanding there.
    fn begin(&mut self, index: usize, due_ns: u64, now_ns: u64) -> io::Result<bool> {
        match self.asking {
            Asking::Queries(source) => {
                let outstanding = &mut self.links[index].outstanding;
                let Some(id) = outstanding.next_id() else { return Ok(false) };
                let place = self.staged.len();
                let (len, expected) = source.write_next(id, self.buffers.queries.buffer(place));
                self.buffers.queries.set_len(place, len);
                outstanding.insert(id, expected, due_ns, now_ns);
                self.staged.push(id);
            }
            Asking::Lookups { lookups, .. } => {
                let lookup = lookups.begin(due_ns);
                self.links[index].lookups += 1;
                self.ask(index, lookup)?;
            }
        }
        Ok(true)
    }

    /// Stages the queries that a look-up makes now.
    fn ask(&mut self, index: usize, lookup: u32) -> io::Result<()> {
        if self.staged.len() + TYPES.len() > self.load.batch {
            self.flush(index)?;
        }
        let now_ns = self.now_ns();
        let Asking::Lookups { lookups, edns, .. } = &*self.asking else { return Ok(()) };
        let outstanding = &mut self.links[index].outstanding;
        for rtype in TYPES {
            let Some(id) = outstanding.next_id() else {
                self.settled.push((lookup, Answer::Lost));
                continue;
            };
            let mut question = [0; 260];
            let name = lookups.name(lookup);
            let end = name.len();
            question[..end].copy_from_slice(name);
            question[end..end + 2].copy_from_slice(&rtype.to_be_bytes());
            question[end + 2..end + 4].copy_from_slice(&1u16.to_be_bytes());
            let question = &question[..end + 4];
            let place = self.staged.len();
            let len = write_query(self.buffers.queries.buffer(place), id, question, *edns);
            self.buffers.queries.set_len(place, len);
            let expected = Expected { lookup, ..Expected::of(question) };
            outstanding.insert(id, expected, now_ns, now_ns);
            self.staged.push(id);
        }
        Ok(())
    }

    /// Sends what is staged over a link; says whether any of it went.
    fn flush(&mut self, index: usize) -> io::Result<bool> {
        if self.staged.is_empty() {
            return Ok(false);
        }
        let Link { carrier, outstanding, .. } = &mut self.links[index];
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
        self.make_noise(sent);
        Ok(sent > 0)
    }

    /// Sends the malformed messages that go with `sent` queries.
    fn make_noise(&mut self, sent: usize) {
        let Some(noise) = &mut self.noise else { return };
        noise.due += noise.per_query * sent as f64;
        let count = (noise.due as usize).min(self.load.batch);
        noise.due -= count as f64;
        for place in 0..count {
            let len = malformed::write(&mut noise.random, self.buffers.queries.buffer(place));
            self.buffers.queries.set_len(place, len);
        }
        if count > 0 {
            // What the kernel does not take is not missed.
            let taken = noise.carrier.send(self.buffers, count).unwrap_or(0);
            self.counts.malformed_sent += taken as u64;
        }
    }

    fn hear_noise(&mut self) {
        if let Some(noise) = &mut self.noise {
            let answered = &mut self.counts.malformed_answered;
            let _ = noise.carrier.receive(self.buffers, |_| *answered += 1);
        }
    }

    fn recover(&mut self, index: usize) -> io::Result<()> {
        self.counts.socket_errors += 1;
        let Link { carrier, outstanding, .. } = &mut self.links[index];
        if carrier.recover()? {
            outstanding.give_up();
        }
        Ok(())
    }
}

/// When what an open loop sends is due.
struct Schedule {
    times: Times,
    passed: u64,
    total: u64,
    /// The link that carries the next ones.
    link: usize,
}

enum Times {
    /// At equal distances (ns).
    Every(f64),
    Listed(Arc<[u64]>),
}

impl Schedule {
    /// `None` for a closed loop.
    fn new(pace: &Pace, duration: Duration) -> Option<Self> {
        let (times, total) = match pace {
            Pace::Window(_) => return None,
            Pace::Rate(rate) => {
                (Times::Every(1e9 / rate), (rate * duration.as_secs_f64()).ceil() as u64)
            }
            Pace::Times(listed) => {
                let end_ns = duration.as_nanos() as u64;
                let within = listed.partition_point(|due_ns| *due_ns < end_ns) as u64;
                (Times::Listed(Arc::clone(listed)), within)
            }
        };
        Some(Self { times, passed: 0, total, link: 0 })
    }

    /// The time of the next one, if that has come and one is left.
    fn next_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.passed == self.total {
            return None;
        }
        let due_ns = match &self.times {
            Times::Every(interval_ns) => (self.passed as f64 * interval_ns) as u64,
            Times::Listed(listed) => listed[self.passed as usize],
        };
        let is_due = due_ns <= now_ns;
        self.passed += u64::from(is_due);
        is_due.then_some(due_ns)
    }

    /// What the client was too slow to send.
    fn left(&self) -> u64 {
        self.total - self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_met_in_full_and_never_early() {
        let mut schedule = Schedule::new(&Pace::Rate(1000.0), Duration::from_millis(10)).unwrap();
        assert_eq!(schedule.next_due(0), Some(0));
        assert_eq!(schedule.next_due(999_999), None);
        let mut due = Vec::new();
        while let Some(at) = schedule.next_due(60_000_000_000) {
            due.push(at);
        }
        assert_eq!(due, (1..10).map(|n| n * 1_000_000).collect::<Vec<_>>());
        assert_eq!(schedule.left(), 0);
    }

    #[test]
    fn times_that_are_listed_are_kept_up_to_the_end() {
        let times = Pace::Times([0, 5, 5, 1_000_000, 9_000_000].into());
        let mut schedule = Schedule::new(&times, Duration::from_millis(5)).unwrap();
        assert_eq!(schedule.left(), 4);
        assert_eq!([0; 3].map(|_| schedule.next_due(4)), [Some(0), None, None]);
        assert_eq!([0; 3].map(|_| schedule.next_due(7)), [Some(5), Some(5), None]);
        assert_eq!(schedule.next_due(u64::MAX), Some(1_000_000));
        assert_eq!((schedule.next_due(u64::MAX), schedule.left()), (None, 0));
        assert!(Schedule::new(&Pace::Window(3), Duration::ZERO).is_none());
    }
}
