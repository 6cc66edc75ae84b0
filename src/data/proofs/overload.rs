//! Twice as many queries as a server can answer: what is still answered in time, and when.
//!
//! One CPU with a clock of its own: whatever is done costs what it costs on a real one, about. The turn
//! is the program's, in the order of `worker.rs`; sockets are queues with the bounds of receive buffers.
//! `cargo test --lib proofs::overload -- --nocapture` prints the table of perf.md.

use std::collections::VecDeque;

use super::exchanges::{reply_to, told, upstream};
use super::probe::Probe;
use super::*;
use crate::data::chain::step::Step;
use crate::data::clock::{MILLISECOND, Nanos, SECOND};
use crate::limits::{TURN_BATCHES_MAX, UPSTREAM_NAP_NANOS, UPSTREAM_SOCKET_BYTES_WANTED};
use crate::plugin::Cx;
use crate::wire::{Rdata, rclass, rcode};

/// What a small datagram takes of a receive buffer.
const DATAGRAM_BYTES: usize = 768;
/// What a client waits.
const PATIENCE: Nanos = 250 * MILLISECOND;
/// How long the load lasts.
const LOAD: Nanos = SECOND / 2;
/// For how long a program has the CPU when others want it.
const SLICE: Nanos = 3 * MILLISECOND;
/// A system call for a batch.
const CALL: Nanos = 2_000;
/// A query that is answered from memory.
const ANSWER: Nanos = 3_200;
/// A query that is forwarded, before its upstream's reply and after it; and the upstream's own part.
const FORWARD: Nanos = 2_900;
const REPLY: Nanos = 2_300;
const UPSTREAM: Nanos = 1_500;
const COST: Nanos = FORWARD + REPLY + UPSTREAM;
/// What the upstream's receive buffer holds: Linux's usual 208 KiB.
const UPSTREAM_QUEUE: usize = 212_992 / DATAGRAM_BYTES;

type Sent = (ChannelId, Vec<u8>);

/// A server, what comes to it, and perhaps an upstream on the same CPU.
struct World {
    bench: Bench,
    now: Nanos,
    /// Arrivals: when the next is, and how long after it another.
    next: Nanos,
    gap: Nanos,
    waiting: VecDeque<Nanos>,
    waiting_max: usize,
    /// When each query came that was taken: its number is its client's port and its id.
    came: Vec<Nanos>,
    questions: VecDeque<Sent>,
    replies: VecDeque<Sent>,
    paced: bool,
    took: Vec<Nanos>,
}

impl World {
    fn new(bench: Bench, capacity_gap: Nanos, buffer_bytes: usize, paced: bool) -> Self {
        Self {
            bench,
            now: SECOND,
            next: SECOND,
            gap: capacity_gap / 2,
            waiting: VecDeque::new(),
            waiting_max: buffer_bytes / DATAGRAM_BYTES,
            came: Vec::new(),
            questions: VecDeque::new(),
            replies: VecDeque::new(),
            paced,
            took: Vec::new(),
        }
    }

    fn spend(&mut self, cost: Nanos) {
        self.now += cost;
        while self.next <= self.now {
            if self.waiting.len() < self.waiting_max {
                self.waiting.push_back(self.next);
            }
            self.next += self.gap;
        }
    }

    /// One turn, in the order of the worker's; `false`: it has nothing more to do.
    fn turn(&mut self) -> bool {
        self.bench.turn.core.now = self.now;
        self.bench.advance(0);
        let mut worked = false;
        for (channel, message) in self.heard() {
            self.bench.upstream_says(channel, &message);
            self.spend(REPLY);
            worked = true;
        }
        let held = self.bench.turn.pace.holds(self.now) && self.paced;
        for _ in 0..if held { 0 } else { TURN_BATCHES_MAX } {
            if self.bench.turn.pace.is_full() && self.paced {
                break;
            }
            worked |= self.batch();
        }
        self.bench.flush_upstreams();
        for sent in std::mem::take(&mut self.bench.out.air.sent) {
            if self.questions.len() < UPSTREAM_QUEUE {
                self.questions.push_back(sent);
            }
        }
        for (client, reply, _) in std::mem::take(&mut self.bench.out.replies) {
            let number = usize::from(client.peer.port()) << 16 | usize::from(reply[0]) << 8;
            let came = self.came[number | usize::from(reply[1])];
            if rcode_of(&reply) == rcode::NOERROR {
                self.took.push(self.now - came);
            }
        }
        worked
    }

    fn heard(&mut self) -> Vec<Sent> {
        let count = self.replies.len().min(TURN_BATCHES_MAX * BATCH_DATAGRAMS);
        self.replies.drain(..count).collect()
    }

    fn batch(&mut self) -> bool {
        let count = self.waiting.len().min(BATCH_DATAGRAMS);
        let arrived: Vec<Nanos> = self.waiting.drain(..count).collect();
        let mut queries = Vec::new();
        for at in arrived {
            let number = self.came.len();
            self.came.push(at);
            queries.push((udp((number >> 16) as u16), query(number as u16, "www.a.")));
        }
        self.bench.ask(&queries);
        let cost = if self.bench.turn.parked() > 0 { FORWARD } else { ANSWER };
        self.spend(2 * CALL + cost * count as u64);
        count > 0
    }

    /// The upstream answers what it has, as long as it may.
    fn upstream(&mut self) {
        let end = self.now + SLICE;
        while self.now < end
            && let Some((channel, asked)) = self.questions.pop_front()
        {
            self.spend(UPSTREAM);
            if self.replies.len() < UPSTREAM_SOCKET_BYTES_WANTED / DATAGRAM_BYTES {
                self.replies.push_back((channel, reply_to(&asked, 1)));
            }
        }
    }

    /// The share of what it can answer at most that was answered in time, and how long that took: the
    /// median and the 99th percentile, in milliseconds.
    fn run(mut self) -> (f64, f64, f64) {
        let most = (LOAD / (2 * self.gap)) as f64;
        let end = self.now + LOAD;
        while self.now < end {
            let slice = self.now + SLICE;
            while self.now < slice {
                if !self.turn() {
                    break;
                }
            }
            match self.questions.is_empty() {
                false => self.upstream(),
                true => self.spend(UPSTREAM_NAP_NANOS),
            }
        }
        self.took.retain(|took| *took <= PATIENCE);
        self.took.sort_unstable();
        let at = |share: f64| {
            let index = (self.took.len() as f64 * share) as usize;
            self.took.get(index).map_or(0.0, |took| *took as f64 / MILLISECOND as f64)
        };
        (self.took.len() as f64 / most, at(0.5), at(0.99))
    }
}

/// Answers from memory.
fn answering() -> Bench {
    let ground = Ground::new(1);
    let probe = Probe::serving(|cx: &mut Cx<'_>| {
        let (question, reply) = cx.answer(true);
        let octets = Rdata::Raw(&[192, 0, 2, 1]);
        let owner = question.name;
        reply.push(Section::Answer, owner, rtype::A, rclass::IN, 60, octets).unwrap();
        Step::Up
    });
    ground.worker(0, ground.snapshot(1, vec![("a.", vec![probe.into()])]))
}

/// Forwards.
fn forwarding() -> Bench {
    let ground = Ground::new(1);
    let one = upstream(&ground, "one");
    let probe = Probe::serving(move |cx: &mut Cx<'_>| {
        let deadline = cx.core.now + 2 * SECOND;
        Step::Fetch([0; 4], cx.exchange(&one, false, deadline))
    });
    let chain = vec![probe.resuming(|cx, _| told(cx)).into()];
    ground.worker(0, ground.snapshot(1, vec![("a.", chain)]))
}

/// Receive buffers: the usual default of Linux, its usual maximum for containers, ours.
const BUFFERS: [usize; 3] = [212_992, 1 << 20, 4 << 20];

#[allow(clippy::disallowed_macros, reason = "the table of perf.md")]
fn tell(what: &str, bytes: usize, (share, median, p99): (f64, f64, f64)) {
    let size = bytes / 1024;
    println!("{what}, {size} KiB: {share:.2} of the most, p50 {median:.1}, p99 {p99:.1} ms");
}

#[test]
fn what_is_answered_from_memory_does_not_collapse() {
    for bytes in BUFFERS {
        let (share, median, p99) = World::new(answering(), ANSWER, bytes, true).run();
        tell("memory", bytes, (share, median, p99));
        assert!(share >= 0.9 && p99 <= 250.0);
    }
}

#[test]
fn what_is_forwarded_does_not_collapse() {
    for bytes in BUFFERS {
        let (share, median, p99) = World::new(forwarding(), COST, bytes, true).run();
        tell("upstream", bytes, (share, median, p99));
        assert!(share >= 0.9 && p99 <= 250.0);
    }
    let (without, ..) = World::new(forwarding(), COST, BUFFERS[0], false).run();
    assert!(without < 0.9, "without a pause it collapses: {without:.2}");
}
