//! Two upstreams, one of them in trouble, on a simulated clock: what clients wait for, and whom they
//! are spared.
//!
//! A thousand queries a second; a reply takes a millisecond or a little more. Probes are played as
//! control makes them: every half second, for who has failed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::super::parse_block;
use super::*;
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::proofs::{Bench, Ground, query, udp};
use crate::data::rng::Rng;
use crate::data::upstream::network::ChannelId;

/// Between two looks at the clock.
const TICK: Nanos = MILLISECOND / 5;
/// Between two queries.
const EVERY: Nanos = MILLISECOND;
/// Between two probes.
const PROBED: Nanos = SECOND / 2;

/// What is wrong with the first upstream.
#[derive(Clone)]
struct Trouble {
    /// Added to the time of every reply.
    delay: Nanos,
    /// Of a hundred queries so many are lost.
    loss: u32,
    /// When it is so.
    when: Range<Nanos>,
}

/// What clients saw.
struct Seen {
    /// Waits of all queries, shortest first.
    waits: Vec<Nanos>,
    /// How many were answered with an rcode other than NOERROR.
    failed: usize,
    /// Queries to each upstream.
    asked: [usize; 2],
}

impl Seen {
    fn of_a_thousand(&self, rank: usize) -> Nanos {
        self.waits[(self.waits.len() - 1) * rank / 1_000]
    }

    fn p99(&self) -> Nanos {
        self.of_a_thousand(990)
    }

    fn longer_than(&self, wait: Nanos) -> usize {
        self.waits.iter().filter(|one| **one > wait).count()
    }
}

struct World {
    bench: Bench,
    set: Arc<Published<Set>>,
    trouble: Trouble,
    rng: Rng,
    /// Replies on their way: when they come, by which channel.
    coming: BinaryHeap<Reverse<(Nanos, u64)>>,
    replies: Vec<(ChannelId, Vec<u8>)>,
    began: Vec<Nanos>,
    seen: Seen,
}

impl World {
    fn new(options: &str, trouble: Trouble) -> Self {
        let ground = Ground::new(1);
        let block = format!("forward . 127.0.0.1 {{\n{options}\n}}");
        let parsed = parse_block::<Forward>(&block).expect("a block");
        let set = Arc::new(Published::new(set::tests::set_counted(ground.tally(), 2)));
        let uses = parsed.uses.into_iter().map(|one| Use::new(one, Arc::clone(&set))).collect();
        let broken = ground.tally().counter(&FORWARD_BROKEN, &[]);
        let rejects = ground.tally().counter(&FORWARD_REJECTS, &[]);
        let link = Link { uses, sink: 1, broken, rejects };
        let bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![link.into()])]));
        Self {
            bench,
            set,
            trouble,
            rng: Rng::from_seed(7),
            coming: BinaryHeap::new(),
            replies: Vec::new(),
            began: Vec::new(),
            seen: Seen { waits: Vec::new(), failed: 0, asked: [0; 2] },
        }
    }

    fn now(&self) -> Nanos {
        self.bench.turn.core.now
    }

    fn is_ill(&self) -> bool {
        self.trouble.when.contains(&self.now())
    }

    /// So many queries, and then as long as one may wait.
    fn run(mut self, queries: u16) -> Seen {
        let (mut next, mut probe) = (self.now(), self.now());
        let end = self.now() + u64::from(queries) * EVERY + 6 * SECOND;
        while self.now() < end {
            if self.now() >= next && self.began.len() < usize::from(queries) {
                next += EVERY;
                let id = self.began.len() as u16;
                self.began.push(self.now());
                self.bench.ask(&[(udp(id), query(id, &format!("n{id}.a.")))]);
            }
            if self.now() >= probe {
                probe += PROBED;
                self.probe();
            }
            self.bench.flush_upstreams();
            self.carry();
            self.arrive();
            self.look();
            self.bench.advance(TICK);
        }
        assert_eq!(self.seen.waits.len(), usize::from(queries), "all are answered, once");
        self.seen.waits.sort_unstable();
        self.seen
    }

    /// What was sent is replied to, or lost.
    fn carry(&mut self) {
        let ill = self.is_ill();
        for (channel, sent) in std::mem::take(&mut self.bench.out.air.sent) {
            let (_, upstream, _) = self.bench.out.air.open[&channel.index];
            let set = self.set.get();
            let (index, _) = set.find(upstream).expect("an upstream of the set");
            self.seen.asked[index] += 1;
            let troubled = index == 0 && ill;
            if troubled && self.rng.below(100) < self.trouble.loss {
                continue;
            }
            let mut wait = MILLISECOND + Nanos::from(self.rng.below(500_000));
            wait += if troubled { self.trouble.delay } else { 0 };
            let mut reply = sent;
            reply[2] |= 0x80;
            reply[7] = 1;
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, index as u8]);
            self.coming.push(Reverse((self.now() + wait, self.replies.len() as u64)));
            self.replies.push((channel, reply));
        }
    }

    fn arrive(&mut self) {
        while let Some(Reverse((due, at))) = self.coming.peek().copied() {
            if due > self.now() {
                return;
            }
            self.coming.pop();
            let (channel, reply) = &mut self.replies[at as usize];
            let (channel, reply) = (*channel, std::mem::take(reply));
            self.bench.upstream_says(channel, &reply);
        }
    }

    fn look(&mut self) {
        for (client, reply, _) in std::mem::take(&mut self.bench.out.replies) {
            self.seen.waits.push(self.now() - self.began[usize::from(client.peer.port())]);
            self.seen.failed += usize::from(reply[3] & 15 != 0);
        }
    }

    /// As control does for who has failed.
    fn probe(&mut self) {
        while self.bench.turn.core.events.pop().is_some() {}
        let ill = self.is_ill();
        for (index, member) in self.set.get().members.iter().enumerate() {
            if !member.is_suspect() {
                continue;
            }
            match index == 0 && ill && self.rng.below(100) < self.trouble.loss {
                true => drop(member.upstream.cells.fails.fetch_add(1, Relaxed)),
                false => drop(member.revive(2)),
            }
        }
    }
}

fn always() -> Range<Nanos> {
    0..Nanos::MAX
}

#[test]
fn nobody_waits_long_where_all_is_well() {
    for options in ["policy random", "policy round_robin", "policy fastest\nhedge"] {
        let trouble = Trouble { delay: 0, loss: 0, when: 0..0 };
        let seen = World::new(options, trouble).run(5_000);
        assert_eq!((seen.failed, seen.longer_than(3 * MILLISECOND)), (0, 0), "{options}");
        let [first, second] = seen.asked;
        assert!(first > 1_500 && second > 1_500, "{options}: {:?}", seen.asked);
        assert!(first + second <= 5_000 + 250, "{options}: a twentieth is sent twice at most");
    }
}

#[test]
fn a_dead_upstream_costs_its_first_tenth_of_a_second() {
    let trouble = Trouble { delay: 0, loss: 100, when: 2 * SECOND..8 * SECOND };
    for options in ["policy random", "policy round_robin", "policy fastest"] {
        let seen = World::new(options, trouble.clone()).run(12_000);
        assert_eq!(seen.failed, 0, "{options}");
        // Half of what was asked in that time, and a probe's worth of luck.
        let late = seen.longer_than(10 * MILLISECOND);
        assert!((1..=70).contains(&late), "{options}: {late}");
        assert!(seen.p99() < 3 * MILLISECOND, "{options}: {}", seen.p99());
        assert!(seen.asked[0] > 1_500, "{options}: it came back");
    }
    // Kept in order until one has failed: the queries of a time-out wait.
    let seen = World::new("policy sequential", trouble).run(12_000);
    assert_eq!(seen.failed, 0);
    let late = seen.longer_than(10 * MILLISECOND);
    assert!((1_900..=2_100).contains(&late), "{late}");
}

#[test]
fn a_lossy_upstream_is_asked_last_before_many_have_waited() {
    let trouble = Trouble { delay: 0, loss: 20, when: 2 * SECOND..always().end };
    let seen = World::new("policy random", trouble).run(60_000);
    assert_eq!(seen.failed, 0);
    // Two seconds pass until the first losses are known; half of the queries go there, a fifth is lost.
    let late = seen.longer_than(10 * MILLISECOND);
    assert!((150..=590).contains(&late), "{late}");
    assert!(seen.p99() < 3 * MILLISECOND, "{}", seen.p99());
}

#[test]
fn fastest_with_hedges_spares_nearly_all_a_lossy_or_slow_upstream() {
    let lossy = Trouble { delay: 0, loss: 20, when: 2 * SECOND..always().end };
    let slow = Trouble { delay: 300 * MILLISECOND, loss: 0, when: 2 * SECOND..always().end };
    for (trouble, options) in [
        (lossy.clone(), "policy fastest\nhedge"),
        (slow.clone(), "policy fastest\nhedge"),
        (slow.clone(), "policy fastest"),
    ] {
        let seen = World::new(options, trouble).run(30_000);
        assert_eq!(seen.failed, 0, "{options}");
        assert!(seen.p99() < 5 * MILLISECOND, "{options}: {}", seen.p99());
        assert!(seen.asked.iter().sum::<usize>() <= 31_500, "{options}: {:?}", seen.asked);
    }
    // A policy that takes turns is at the mercy of the slow one.
    let seen = World::new("policy round_robin", slow).run(10_000);
    assert!(seen.p99() > 300 * MILLISECOND && seen.failed == 0);
    let seen = World::new("policy round_robin\nhedge", lossy).run(10_000);
    assert_eq!(seen.failed, 0);
    let sent = seen.asked.iter().sum::<usize>();
    // Hedges, and what was asked again after a time-out.
    assert!(sent <= 10_500 + seen.longer_than(SECOND), "{sent}");
}
