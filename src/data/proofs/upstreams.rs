//! A worker and its upstreams under thousands of random steps: the same seed gives the same steps.
//!
//! Upstreams reply, lose, double, reorder and forge; connections end and sockets are refused; queries
//! are hedged, cancelled and outlive reloads. At the end every query was answered once or passed
//! over once, nothing is in flight, no id and no channel is left, and no reply went to another query.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::{ProptestConfig, any, proptest};

use super::exchanges::{reply_to, told, upstream};
use super::probe::Probe;
use super::*;
use crate::data::chain::step::Step;
use crate::data::clock::{MILLISECOND, SECOND};
use crate::wire::HEADER_BYTES;

/// Steps of a run.
const STEPS: u32 = 2_000;

/// A block that asks as the first letter of the name says.
fn block(upstreams: &[Arc<Upstream>; 2]) -> Vec<(&'static str, Vec<Link>)> {
    let [first, second] = upstreams.clone();
    let probe = Probe::serving(move |cx| {
        let (now, letter) = (cx.core.now, cx.question().lower.as_bytes()[1]);
        let deadline = now + (20 + u64::from(cx.core.rng.below(200))) * MILLISECOND;
        let after = now + u64::from(cx.core.rng.below(60)) * MILLISECOND;
        let fetch = match letter {
            b'h' => cx.exchange_hedged(&first, &second, after, false, deadline),
            b't' => cx.exchange(&first, true, deadline),
            b'b' => cx.exchange_hedged(&second, &first, after, true, deadline),
            b'c' => {
                cx.cancel_after(30 * MILLISECOND);
                cx.exchange(&second, false, deadline)
            }
            _ => cx.exchange(&first, false, deadline),
        };
        Step::Fetch([0; 4], fetch)
    });
    vec![("a.", vec![probe.resuming(|cx, _| told(cx)).into()])]
}

struct World {
    ground: Ground,
    upstreams: [Arc<Upstream>; 2],
    bench: Bench,
    rng: Rng,
    /// On its way to us.
    coming: Vec<(ChannelId, Vec<u8>)>,
    asked: u16,
    generations: u64,
    /// How often each client was answered or passed over.
    told: BTreeMap<u16, u32>,
    good: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let ground = Ground::new(1);
        let upstreams = [upstream(&ground, "first"), upstream(&ground, "second")];
        let bench = ground.worker(0, ground.snapshot(1, block(&upstreams)));
        Self {
            bench,
            rng: Rng::from_seed(seed),
            coming: Vec::new(),
            asked: 0,
            generations: 1,
            told: BTreeMap::new(),
            good: 0,
            upstreams,
            ground,
        }
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0..4 => self.ask(),
            4..8 => self.arrive(),
            8 => self.bench.advance(u64::from(self.rng.below(30)) * MILLISECOND),
            9 if self.rng.below(4) == 0 => self.end_a_channel(),
            10 if self.rng.below(20) == 0 => {
                let unreached = [Some(Unreached::NoRoute), None][self.rng.below(2) as usize];
                self.bench.out.air.broken = unreached;
            }
            11 if self.rng.below(20) == 0 => {
                self.generations += 1;
                let next = self.ground.snapshot(self.generations, block(&self.upstreams));
                self.bench.turn.adopt(next);
            }
            _ => {}
        }
        self.bench.flush_upstreams();
        self.carry();
        self.look();
    }

    /// Some clients ask, each a name of its own.
    fn ask(&mut self) {
        let count = 1 + self.rng.below(5);
        let queries: Vec<_> = (0..count)
            .map(|_| {
                self.asked += 1;
                let what = ["plain", "hedge", "tcp", "both", "cancel"][self.rng.below(5) as usize];
                (udp(self.asked), query(self.asked, &format!("{what}{}.a.", self.asked)))
            })
            .collect();
        self.bench.ask(&queries);
    }

    /// What was sent is replied to, in one way or another.
    fn carry(&mut self) {
        for (channel, sent) in std::mem::take(&mut self.bench.out.air.sent) {
            // The address tells whose reply it is.
            let name = &sent[HEADER_BYTES + 1..];
            let digits = name.iter().filter(|octet| octet.is_ascii_digit());
            let number = digits.fold(0u16, |sum, digit| {
                sum.wrapping_mul(10).wrapping_add(u16::from(digit - b'0'))
            });
            let mut reply = reply_to(&sent, number as u8);
            match self.rng.below(10) {
                0 => continue,
                1 => reply[1] ^= 1,
                2 => reply[15] ^= 1,
                3 => self.coming.push((channel, reply.clone())),
                4 => reply[2] &= 0x7f,
                5 => {
                    let end = reply.len() - 16 - 4;
                    reply[HEADER_BYTES..end].make_ascii_lowercase();
                }
                _ => {}
            }
            self.coming.push((channel, reply));
        }
    }

    /// Some of what is coming arrives, in any order.
    fn arrive(&mut self) {
        self.rng.shuffle(&mut self.coming);
        let stays = self.rng.below(6) as usize;
        for (channel, reply) in self.coming.split_off(stays.min(self.coming.len())) {
            self.bench.upstream_says(channel, &reply);
        }
    }

    fn end_a_channel(&mut self) {
        let open: Vec<_> = self.bench.out.air.open.values().map(|(channel, ..)| *channel).collect();
        if !open.is_empty() {
            let channel = open[self.rng.below(open.len() as u32) as usize];
            let causes = [Unreached::Refused, Unreached::Closed, Unreached::Malformed];
            self.bench.lost(channel, causes[self.rng.below(3) as usize]);
        }
    }

    fn look(&mut self) {
        for (client, reply, more) in self.bench.out.replies.drain(..) {
            let port = client.peer.port();
            assert!(!more && reply[..2] == port.to_be_bytes());
            let found = addresses(&reply);
            if !found.is_empty() {
                self.good += 1;
                assert_eq!(found, [address(port as u8)], "the reply to another query");
            }
            *self.told.entry(port).or_default() += 1;
        }
        for client in self.bench.out.passed.drain(..) {
            *self.told.entry(client.peer.port()).or_default() += 1;
        }
    }

    /// No more queries: what waits ends, and what is idle is closed.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.bench.advance(SECOND);
            self.step_out();
        }
        assert_eq!(self.bench.turn.parked(), 0);
        assert_eq!(self.told.len(), usize::from(self.asked));
        assert!(self.told.values().all(|count| *count == 1), "answered twice");
        assert!(self.good > u32::from(self.asked) / 4, "something happened");
        let upstreams = &self.bench.turn.core.upstreams;
        assert_eq!((upstreams.in_flight(), upstreams.channels()), (0, 0));
        assert!(self.bench.out.air.open.is_empty());
        for upstream in &self.upstreams {
            assert_eq!(upstream.cells.in_flight.load(Relaxed), 0);
        }
        assert_eq!(self.bench.turn.retire(), self.generations);
    }

    fn step_out(&mut self) {
        self.bench.flush_upstreams();
        self.bench.out.air.sent.clear();
        self.look();
    }
}

fn run(seed: u64) {
    naming(seed, || {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.settle();
    });
}

#[test]
fn fixed_seeds() {
    SEEDS.into_iter().for_each(run);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_seed(seed in any::<u64>()) {
        run(seed);
    }
}
