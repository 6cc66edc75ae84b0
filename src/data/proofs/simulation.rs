//! Two workers under thousands of random steps: the same seed gives the same run.
//!
//! A simulated network loses, doubles and reorders queries; they sleep, join flights, ask other
//! blocks, send many messages, are cancelled; clients are slow; generations come in between. At the
//! end every query that arrived was answered once or passed over once, nothing waits, every flight
//! has landed, and no old generation is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use proptest::prelude::{ProptestConfig, any, proptest};

use super::probe::{Note, Probe};
use super::*;
use crate::cells::FlightKey;
use crate::data::chain::step::{Entry, Fetch, Fetched, Step};
use crate::data::clock::{MILLISECOND, SECOND};

/// Steps of a run.
const STEPS: u32 = 3_000;

/// What the names of the simulation do; the last label is the zone.
const NAMES: [&str; 7] =
    ["now.a.", "sleep.a.", "flight.a.", "across.a.", "many.a.", "drop.a.", "cancel.a."];

/// A block of every behaviour, and one that it asks.
fn behaviours(ground: &Ground, generation: u64) -> Arc<Snapshot> {
    let serve = |cx: &mut Cx<'_>| {
        let first = cx.question().lower.as_bytes()[1];
        let wait = u64::from(cx.core.rng.below(40)) * MILLISECOND;
        match first {
            b's' => Step::Fetch([1, 0, 0, 0], Fetch::Sleep(wait)),
            b'f' => fly(cx),
            b'a' => {
                let target = NameBuf::parse("x.b.").expect("a name");
                cx.ask(target.as_name(), rtype::A, 1);
                Step::Ask([2, 0, 0, 0], Entry::Top)
            }
            b'm' => send(cx, 1),
            b'd' => {
                cx.drop_reply();
                Step::Up
            }
            b'c' => {
                cx.cancel_after(20 * MILLISECOND);
                Step::Fetch([1, 0, 0, 0], Fetch::Sleep(wait))
            }
            _ => finished(cx),
        }
    };
    let resume = |cx: &mut Cx<'_>, note: Note| match note[0] {
        3 => {
            let key = FlightKey(u128::from(note[1]));
            let message = (cx.core.rng.below(3) != 0).then(|| Arc::from(&[1][..]));
            cx.land(key, message);
            finished(cx)
        }
        4 if cx.fetched() == Fetched::Failed => fly(cx),
        5 => send(cx, note[1]),
        _ => finished(cx),
    };
    let slow = Probe::serving(|cx| {
        let wait = u64::from(cx.core.rng.below(40)) * MILLISECOND;
        Step::Fetch([1, 0, 0, 0], Fetch::Sleep(wait))
    })
    .resuming(|cx, _| finished(cx));
    let all = Probe::serving(serve).resuming(resume);
    ground.snapshot(generation, vec![("a.", vec![all.into()]), ("b.", vec![slow.into()])])
}

fn finished(cx: &mut Cx<'_>) -> Step<Note> {
    answer(cx, 1);
    Step::Up
}

fn fly(cx: &mut Cx<'_>) -> Step<Note> {
    let key = u64::from(cx.core.rng.below(4));
    let wait = u64::from(cx.core.rng.below(60)) * MILLISECOND;
    if cx.lead(FlightKey(u128::from(key))) {
        return Step::Fetch([3, key, 0, 0], Fetch::Sleep(wait));
    }
    Step::Fetch([4, key, 0, 0], Fetch::Join(FlightKey(u128::from(key)), cx.core.now + wait))
}

fn send(cx: &mut Cx<'_>, number: u64) -> Step<Note> {
    answer(cx, 1);
    if number == 5 { Step::Up } else { Step::Send([5, number + 1, 0, 0]) }
}

/// Arrivals of a worker by (port, connection), and how often each was answered or passed over.
#[derive(Default)]
struct Told(BTreeMap<(u16, u32), (u32, u32)>);

impl Told {
    fn key(client: &Client) -> (u16, u32) {
        (client.peer.port(), client.connection.0)
    }

    fn arrived(&mut self, client: &Client) {
        self.0.entry(Self::key(client)).or_default().0 += 1;
    }

    /// Takes what went out; gives the connections that have more to take.
    fn read(&mut self, out: &mut Sent) -> Vec<(u32, u32)> {
        let mut streaming = Vec::new();
        for (client, _, more) in out.replies.drain(..) {
            if more {
                streaming.push(client.connection);
            } else {
                self.0.entry(Self::key(&client)).or_default().1 += 1;
            }
        }
        for client in out.passed.drain(..) {
            self.0.entry(Self::key(&client)).or_default().1 += 1;
        }
        streaming
    }
}

/// The world of one run.
struct World {
    ground: Ground,
    rng: Rng,
    benches: Vec<Bench>,
    told: Vec<Told>,
    /// Clients that have more to take, by worker.
    streaming: Vec<Vec<(u32, u32)>>,
    /// On its way: the worker that gets it, the query.
    network: Vec<(usize, Client, Vec<u8>)>,
    generations: Vec<Weak<Snapshot>>,
    asked: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let ground = Ground::new(2);
        let first = behaviours(&ground, 1);
        let generations = vec![Arc::downgrade(&first)];
        let benches: Vec<_> =
            (0..2).map(|index| ground.worker(index, Arc::clone(&first))).collect();
        Self {
            rng: Rng::from_seed(seed),
            benches,
            told: vec![Told::default(), Told::default()],
            streaming: vec![Vec::new(), Vec::new()],
            network: Vec::new(),
            generations,
            asked: 0,
            ground,
        }
    }

    fn step(&mut self) {
        let worker = self.rng.below(2) as usize;
        match self.rng.below(10) {
            0..3 => self.send(worker),
            3..6 => self.arrive(),
            6 => {
                // Now and then a worker stands still for longer than anybody waits.
                let wait = if self.rng.below(50) == 0 { SECOND } else { 5 * MILLISECOND };
                self.benches[worker].advance(wait);
            }
            7 => self.benches[worker].read_mail(),
            8 => self.take(worker),
            _ if self.rng.below(20) == 0 => self.reload(),
            _ => {
                let wait = u64::from(self.rng.below(20)) * MILLISECOND;
                self.benches.iter_mut().for_each(|bench| bench.advance(wait));
            }
        }
        self.look();
    }

    /// A client sends: the network may lose it, or double it.
    fn send(&mut self, worker: usize) {
        self.asked += 1;
        let name = NAMES[self.rng.below(NAMES.len() as u32) as usize];
        let port = (self.asked % 60_000) as u16 + 1;
        let client = if self.rng.below(3) == 0 { tcp(self.asked) } else { udp(port) };
        let message = query(port, name);
        // A stream neither loses nor doubles.
        let copies = if client.transport.is_stream() {
            1
        } else {
            [0, 1, 1, 1, 2][self.rng.below(5) as usize]
        };
        for _ in 0..copies {
            self.network.push((worker, client, message.clone()));
        }
    }

    /// Some of what is on its way arrives, in any order.
    fn arrive(&mut self) {
        self.rng.shuffle(&mut self.network);
        let stays = self.rng.below(4) as usize;
        let arrived = self.network.split_off(stays.min(self.network.len()));
        for (worker, bench) in self.benches.iter_mut().enumerate() {
            let mine = arrived.iter().filter(|(to, ..)| *to == worker);
            let queries: Vec<_> = mine.map(|(_, client, query)| (*client, query.clone())).collect();
            queries.iter().for_each(|(client, _)| self.told[worker].arrived(client));
            bench.ask(&queries);
        }
    }

    /// A client takes what it was sent, and can take more.
    fn take(&mut self, worker: usize) {
        let waiting = &mut self.streaming[worker];
        if !waiting.is_empty() {
            let one = waiting.swap_remove(self.rng.below(waiting.len() as u32) as usize);
            self.benches[worker].writable(one);
        }
    }

    fn reload(&mut self) {
        let next = behaviours(&self.ground, self.generations.len() as u64 + 1);
        self.generations.push(Arc::downgrade(&next));
        self.benches.iter_mut().for_each(|bench| bench.turn.adopt(Arc::clone(&next)));
    }

    fn look(&mut self) {
        for worker in 0..2 {
            let more = self.told[worker].read(&mut self.benches[worker].out);
            self.streaming[worker].extend(more);
            self.benches[worker].turn.retire();
        }
    }

    /// No more queries: what waits ends.
    fn settle(&mut self) {
        self.network.clear();
        for _ in 0..1_000 {
            for worker in 0..2 {
                self.benches[worker].advance(10 * MILLISECOND);
                self.benches[worker].read_mail();
                self.take(worker);
            }
            self.look();
        }
    }

    fn check(&self) {
        for (bench, told) in self.benches.iter().zip(&self.told) {
            assert_eq!(bench.turn.parked(), 0, "something waits for ever");
            for (client, (arrived, ended)) in &told.0 {
                assert_eq!(arrived, ended, "{client:?}: arrivals, and their ends");
            }
        }
        assert!(self.asked > STEPS / 5 && self.generations.len() > 2, "something happened");
        assert!(self.ground.flights.is_empty(), "a flight that nobody lands");
        let (last, old) = self.generations.split_last().expect("a generation");
        assert!(old.iter().all(|weak| weak.strong_count() == 0), "an old generation is held");
        assert_eq!(last.strong_count(), 2, "each worker holds the last one");
    }
}

fn run(seed: u64) {
    naming(seed, || {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.settle();
        world.check();
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
